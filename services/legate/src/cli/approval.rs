//! The verbs of approvals: for agents that ask, and for operators who decide.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use legate_wire::registry::{ApprovalState, Permission};

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalVerb {
    /// List what agents ask for, the latest first.
    List {
        /// Only from this namespace.
        #[arg(long, value_name = "NAMESPACE", default_value = "", hide_default_value = true)]
        namespace: String,
        /// Only of this agent, NAMESPACE/NAME or its id.
        #[arg(long, value_name = "AGENT")]
        agent: Option<String>,
        /// Only those in this state; may be repeated; left out: those that are pending.
        #[arg(long = "state", value_name = "STATE", conflicts_with = "all")]
        states: Vec<Word>,
        /// In whatever state.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        limit: super::registry::Limit,
    },
    /// Show one: what is asked for, by whom, which policies hold it back, and what became of it.
    Show {
        /// Its id, apr_...
        id: String,
    },
    /// Approve a request: from now on, for as long as was asked or shorter; where several people have to agree, from the last one on.
    Approve {
        #[command(flatten)]
        decision: Decision,
        /// For a shorter time than was asked for, such as 10m.
        #[arg(long = "for", value_name = "DURATION", value_parser = crate::manifest::duration)]
        span: Option<prost_types::Duration>,
    },
    /// Deny a request.
    Deny(Decision),
    /// Take an approval back.
    Revoke(Decision),
    /// As an agent: ask a person for what a policy holds back.
    Request(Box<Ask>),
    /// As an agent: list what it asked for and what is still pending or approved.
    Own {
        /// The agent's directory that credential enrol wrote.
        #[arg(long, value_name = "DIR")]
        identity: PathBuf,
    },
    /// As an agent: wait until somebody has decided. Exit code 0: approved, 3: denied, expired or taken back, 5: not decided in time.
    Wait {
        /// The agent's directory that credential enrol wrote.
        #[arg(long, value_name = "DIR")]
        identity: PathBuf,
        /// The request's id, apr_...
        id: String,
        /// No longer than this, such as 10m; left out: as long as the request waits.
        #[arg(long, value_name = "DURATION", value_parser = crate::manifest::duration)]
        timeout: Option<prost_types::Duration>,
    },
    /// As an agent: take back a request, or give up an approval.
    Cancel {
        /// The agent's directory that credential enrol wrote.
        #[arg(long, value_name = "DIR")]
        identity: PathBuf,
        /// The request's id, apr_...
        id: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// What is decided about.
#[derive(Args, Debug)]
pub(crate) struct Decision {
    /// The request's id, apr_...
    pub(crate) id: String,
    /// Only where it is still as it was read: its etag.
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    pub(crate) etag: String,
    /// Why, for the record and for the agent.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// What an agent asks for.
#[derive(Args, Debug)]
pub(crate) struct Ask {
    /// The agent's directory that credential enrol wrote.
    #[arg(long, value_name = "DIR")]
    pub(crate) identity: PathBuf,
    /// What it wants to do, such as 'invoice:pay on Invoice:apollo/7'; may be repeated.
    #[arg(long, required = true, value_name = "PERMISSION", value_parser = crate::manifest::permission)]
    pub(crate) allow: Vec<Permission>,
    /// Only towards this audience; left out: any.
    #[arg(long, value_name = "URI", default_value = "", hide_default_value = true)]
    pub(crate) audience: String,
    /// What for, in a sentence.
    #[arg(long, value_name = "TEXT")]
    pub(crate) purpose: String,
    /// Shown to the approver, to tell this request from others.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) message: String,
    /// For so long, from the approval on, such as 30m; left out: as long as the namespace allows.
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::manifest::duration)]
    pub(crate) span: Option<prost_types::Duration>,
    /// How long the request waits for an approver, 30s to 24h; left out: 15 minutes.
    #[arg(long, value_name = "DURATION", value_parser = crate::manifest::duration)]
    pub(crate) patience: Option<prost_types::Duration>,
    /// Wait until somebody has decided, as approval wait does.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Why, for the approver and for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// The state of a request, as people say it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Word {
    /// It waits for an approver.
    Pending,
    /// It holds within its window.
    Approved,
    /// An approver denied it.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// The agent took it back.
    Cancelled,
    /// It was taken back.
    Revoked,
    /// Its time is over.
    Ended,
    /// It counted once, and was used.
    Used,
}

impl Word {
    /// As the registry knows it.
    pub(crate) fn state(self) -> ApprovalState {
        match self {
            Self::Pending => ApprovalState::Pending,
            Self::Approved => ApprovalState::Approved,
            Self::Denied => ApprovalState::Denied,
            Self::Expired => ApprovalState::Expired,
            Self::Cancelled => ApprovalState::Cancelled,
            Self::Revoked => ApprovalState::Revoked,
            Self::Ended => ApprovalState::Ended,
            Self::Used => ApprovalState::Used,
        }
    }
}
