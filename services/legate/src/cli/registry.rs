//! The verbs of what is declared: those of agents, and those of everything else.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use legate_wire::registry::Permission;

use super::credential::InstanceStanding;
use super::search::{History, OfAgents, Search, When};

#[derive(Debug, Subcommand)]
pub(crate) enum AgentVerb {
    /// Show one agent: who answers for it, where it stands.
    Get {
        /// NAMESPACE/NAME, or the id agt_...
        agent: String,
        #[command(flatten)]
        when: When,
    },
    /// List agents.
    List {
        #[command(flatten)]
        search: Search,
        #[command(flatten)]
        which: OfAgents,
        /// Only those of this namespace.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        /// Only those in these states; left out: all but retired ones, or all that --filter means.
        #[arg(long, value_enum, value_name = "STATE")]
        state: Vec<State>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Tell what an agent used and how often, as the audit log told it, and how far that reaches back.
    Usage {
        /// NAMESPACE/NAME, or the id agt_...
        agent: String,
        /// Tell each resource by itself, as far as it is kept: of each action and type the first 64, and * for the others.
        #[arg(long)]
        resources: bool,
    },
    /// Tell every write of an agent: who made it, why, and what it changed.
    History(History),
    /// List its running copies, newest first.
    Instances {
        /// NAMESPACE/NAME, or the id agt_...
        agent: String,
        /// Only those in these states; left out: in any.
        #[arg(long, value_enum, value_name = "STATE")]
        state: Vec<InstanceStanding>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Approve an agent that waits for approval.
    Approve(Step),
    /// Switch an approved agent on.
    Activate(Step),
    /// Confirm that an agent is still to be here, as lifecycle policies ask again and again.
    Attest(Step),
    /// Stop an agent at once; nothing that it holds ever works again.
    Suspend(Step),
    /// Let a suspended or expired agent work again; it needs new credentials.
    Resume(Step),
    /// Stop an agent and keep it for forensics.
    Quarantine(Step),
    /// End a quarantine; the agent is then suspended.
    Release(Step),
    /// End an agent for ever; its record stays.
    Retire(Step),
    /// Answer for an agent that was found elsewhere; it goes on as one that is declared now.
    Adopt {
        /// Who answers for it technically, as user:NAME or group:NAME.
        #[arg(long = "owner", required = true, value_name = "WHO")]
        owners: Vec<String>,
        /// Who is accountable for it, as user:NAME or group:NAME.
        #[arg(long = "sponsor", required = true, value_name = "WHO")]
        sponsors: Vec<String>,
        /// Its agent class from now on; left out: as it is.
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        class: String,
        #[command(flatten)]
        step: Step,
    },
    /// End an agent that was found elsewhere and that nobody answers for.
    Reject(Step),
    /// Kill everything that was issued to an agent and leave it active; its runtime has to enrol again.
    RevokeCredentials(Step),
    /// Tell who answers for an agent, or change it.
    Owner(super::person::Owner),
    /// Take an agent that an agent made out of its maker's hands; it lives on.
    HandOver {
        /// NAMESPACE/NAME, or the id agt_...
        agent: String,
        /// Who answers for it technically from now on, user:NAME or group:NAME.
        #[arg(long, required = true, value_name = "WHO")]
        owner: Vec<String>,
        /// Who is accountable for it from now on, user:NAME or group:NAME.
        #[arg(long, required = true, value_name = "WHO")]
        sponsor: Vec<String>,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Only if the agent has not been written since this etag was read.
        #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// As an agent: make an agent for a part of the work, with no more than the maker has.
    Spawn {
        /// The maker's directory that credential enrol wrote.
        #[arg(long, value_name = "DIR")]
        identity: PathBuf,
        /// Its name, new in the maker's namespace.
        name: String,
        /// What it is for, in a sentence.
        #[arg(long, value_name = "TEXT")]
        purpose: String,
        /// How long it lives, such as 30m.
        #[arg(long, value_name = "DURATION", value_parser = crate::manifest::duration)]
        ttl: prost_types::Duration,
        /// The most that it may do, such as 'invoice:read on Invoice:apollo/*'; may be repeated.
        #[arg(long, required = true, value_name = "PERMISSION", value_parser = crate::manifest::permission)]
        allow: Vec<Permission>,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// As an agent: list the agents that it made.
    Spawned {
        /// The maker's directory that credential enrol wrote.
        #[arg(long, value_name = "DIR")]
        identity: PathBuf,
    },
    /// As an agent: retire an agent that it made, and all below it.
    EndSpawned {
        /// The maker's directory that credential enrol wrote.
        #[arg(long, value_name = "DIR")]
        identity: PathBuf,
        /// The id agt_...
        agent: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// A step in an agent's life.
#[derive(Args, Debug)]
pub(crate) struct Step {
    /// NAMESPACE/NAME, or the id agt_...
    pub(crate) agent: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Only if the agent has not been written since this etag was read.
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    pub(crate) etag: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum State {
    PendingApproval,
    Staged,
    Active,
    Suspended,
    Quarantined,
    Expired,
    Retired,
}

/// How much of a list.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// So many at most; 0: all of them.
    #[arg(long, default_value_t = 1_000, value_name = "NUMBER")]
    pub(crate) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeclaredVerb {
    /// Show one.
    #[command(visible_alias = "show")]
    Get {
        /// NAMESPACE/NAME; only the name of a namespace, and of an operator binding for all of them.
        name: String,
        #[command(flatten)]
        when: When,
    },
    /// Tell every write of one: who made it, why, and what it changed.
    History(History),
    /// List them.
    List {
        #[command(flatten)]
        search: Search,
        /// Only those of this namespace.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Take one back.
    Revoke {
        /// NAMESPACE/NAME; only the name of a namespace, and of an operator binding for all of them.
        name: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Only if it has not been written since this etag was read.
        #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
        etag: String,
    },
}

/// The verbs of what has agents below it: classes and namespaces.
#[derive(Debug, Subcommand)]
pub(crate) enum StandingVerb {
    #[command(flatten)]
    Declared(DeclaredVerb),
    /// Stop every agent below at once, by one write; nothing that they hold ever works again.
    Suspend(Turn),
    /// Let the agents below work again, each as far as its own state lets it; they have to enrol again.
    Resume(Turn),
}

/// A turn of a class or a namespace.
#[derive(Args, Debug)]
pub(crate) struct Turn {
    /// NAMESPACE/NAME; of a namespace only its name.
    pub(crate) name: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Only if it has not been written since this etag was read.
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    pub(crate) etag: String,
}
