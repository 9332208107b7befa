//! The verbs of access reviews.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use legate_wire::registry::{Permission, ReviewDecision, ReviewedThing};

use super::registry::{DeclaredVerb, Limit};

#[derive(Debug, Subcommand)]
pub(crate) enum ReviewVerb {
    /// Review campaigns as they are declared: who is asked about whom, and when.
    #[command(subcommand)]
    Campaign(DeclaredVerb),
    /// Start a round of a campaign now.
    Start {
        /// The campaign, NAMESPACE/NAME.
        campaign: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List rounds and how far they are, the latest first.
    List {
        /// Only of this namespace.
        #[arg(long, value_name = "NAMESPACE", default_value = "", hide_default_value = true)]
        namespace: String,
        /// Only of this campaign, by name.
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        campaign: String,
        /// Only those that are not closed and written.
        #[arg(long)]
        open: bool,
        /// Only those that are closed and written, and at which policy-decision has not looked yet.
        #[arg(long, conflicts_with = "open")]
        unverified: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a round: what each agent has, who gave it and why, how it was used, and what was decided.
    Show {
        /// The round, rvw_...
        review: String,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        evidence: Evidence,
        #[command(flatten)]
        limit: Limit,
    },
    /// Decide about items: those that are named, or many at once after they were shown.
    Decide(Box<Decide>),
    /// Close a round: what was decided is written, what nobody decided about is revoked, and policy-decision is asked whether it
    /// does as was decided. Exit code 0: it does, 6: it does not, 5: the round is closed, and whether it does is not known.
    Close {
        /// The round, rvw_...
        review: String,
        /// Only say what it would change.
        #[arg(long)]
        dry_run: bool,
        /// Why, for the record.
        #[arg(
            long,
            value_name = "TEXT",
            required_unless_present = "dry_run",
            default_value = "",
            hide_default_value = true
        )]
        reason: String,
        /// Only if the round is as it was read: its etag.
        #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
        etag: String,
        /// Wait for so long until everything is written and policy-decision has heard of it.
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = crate::manifest::duration)]
        wait: prost_types::Duration,
    },
    /// Have policy-decision look once more whether the agents of a closed round may do what was decided, and record it on the items. It looks
    /// by itself once a round is closed. Exit code 0: they do, 6: something differs.
    Verify {
        /// The round, rvw_...
        review: String,
    },
    /// Write the items of a round to a file or to standard output, with how they were used.
    Export {
        /// The round, rvw_...
        review: String,
        /// How they are written.
        #[arg(long = "as", value_enum, default_value_t = Shape::Jsonl)]
        shape: Shape,
        /// The file, which must not be there yet; left out: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        evidence: Evidence,
    },
}

/// Which items of a round.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Which {
    /// Only those about which nobody has decided.
    #[arg(long)]
    pub(crate) pending: bool,
    /// Only those about which you may decide.
    #[arg(long)]
    pub(crate) own: bool,
    /// Only of this agent, NAMESPACE/NAME or its id.
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Only about this binding, class or grant, by name.
    #[arg(long, value_name = "NAME")]
    pub(crate) granted: Option<String>,
    /// Only about things of this kind.
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) thing: Option<Thing>,
    /// Only those by which nothing was used since --since, where the record of use reaches as far.
    #[arg(long)]
    pub(crate) unused: bool,
}

/// How far back is looked for uses.
#[derive(Args, Clone, Debug)]
pub(crate) struct Evidence {
    /// Since when something has to be silent to be unused: 7d to 400d, or a moment so long ago.
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub(crate) since: String,
    /// Leave out how things were used, and what policy-decision finds about them.
    #[arg(long)]
    pub(crate) without_evidence: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Decide {
    /// The round, rvw_...
    pub(crate) review: String,
    /// The items, rvi_...; left out: those that the flags below mean.
    pub(crate) items: Vec<String>,
    /// What is decided.
    #[arg(long, value_enum, value_name = "DECISION")]
    pub(crate) decision: Verdict,
    /// With reduce: what stays, such as 'invoice:read on Invoice:apollo/*'; may be repeated.
    #[arg(long, value_name = "PERMISSION", value_parser = crate::manifest::permission)]
    pub(crate) keep: Vec<Permission>,
    /// With reassign: who decides, operator:NAME, user:NAME or group:NAME.
    #[arg(long, value_name = "WHO", default_value = "", hide_default_value = true)]
    pub(crate) to: String,
    /// All that nobody has decided about and by which nothing was used; as --pending --own --unused.
    #[arg(long, conflicts_with = "items")]
    pub(crate) all_unused: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) evidence: Evidence,
    /// Only say what would be decided about which.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Decide about many without being asked at the terminal.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Only if the one item is as it was read: its etag.
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    pub(crate) etag: String,
    /// With certify and reduce of items that have changed since they were made: the revision at which you saw what they are now, as
    /// legate review show tells it.
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    pub(crate) seen: u64,
    /// Why, for the record.
    #[arg(
        long,
        value_name = "TEXT",
        required_unless_present = "dry_run",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) reason: String,
}

/// What is decided.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Verdict {
    /// The agent keeps it.
    Certify,
    /// The agent keeps a part of it.
    Reduce,
    /// The agent loses it; of a class, it is suspended.
    Revoke,
    /// Somebody else decides.
    Reassign,
}

impl Verdict {
    /// As the registry knows it.
    pub(crate) fn decision(self) -> ReviewDecision {
        match self {
            Self::Certify => ReviewDecision::Certify,
            Self::Reduce => ReviewDecision::Reduce,
            Self::Revoke => ReviewDecision::Revoke,
            Self::Reassign => ReviewDecision::Reassign,
        }
    }
}

/// What an item is about.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Thing {
    /// A role binding.
    Binding,
    /// An agent class.
    Class,
    /// A delegation grant.
    Grant,
}

impl Thing {
    /// As the registry knows it.
    pub(crate) fn reviewed(self) -> ReviewedThing {
        match self {
            Self::Binding => ReviewedThing::RoleBinding,
            Self::Class => ReviewedThing::AgentClass,
            Self::Grant => ReviewedThing::DelegationGrant,
        }
    }
}

/// How items are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shape {
    /// One item a line, as JSON.
    Jsonl,
    /// A table for spreadsheets (RFC 4180); nothing in it is taken for a formula.
    Csv,
}
