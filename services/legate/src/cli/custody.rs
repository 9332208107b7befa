//! The verbs of persons whose names are erased from the audit log, and of what is held.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum SubjectVerb {
    /// Erase a person's name from everything that was recorded so far. Without --yes, say what would be erased and erase nothing.
    /// Every proof still verifies; nothing brings the name back.
    Erase {
        /// The person as events name it, user:NAME.
        subject: String,
        /// Erase; it cannot be undone.
        #[arg(long, requires = "reason")]
        yes: bool,
        /// Why, for the record: a reference, and no name.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum HoldVerb {
    /// Hold what matches all that is given: names in it are neither erased nor end with their time.
    Set(HoldSet),
    /// List the holds that are in force, the oldest first.
    List,
    /// End a hold.
    Release {
        /// Its id, hold_...
        id: String,
        /// Why, for the record: a reference, and no name.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Args, Debug)]
#[group(id = "held", required = true, multiple = true, args = ["subject", "agent", "namespace", "since", "until"])]
pub(crate) struct HoldSet {
    /// Events that name this person, user:NAME.
    #[arg(long, value_name = "PERSON", default_value = "", hide_default_value = true)]
    pub(crate) subject: String,
    /// Events about this agent, NAMESPACE/NAME or agt_...
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Events of this namespace.
    #[arg(long, value_name = "NAMESPACE", default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,
    /// Events from this moment on: 2026-11-24T08:00:00Z, or so long ago: 24h, 7d.
    #[arg(long, value_name = "MOMENT")]
    pub(crate) since: Option<String>,
    /// Events before this moment, as for --since.
    #[arg(long, value_name = "MOMENT")]
    pub(crate) until: Option<String>,
    /// Why, for the record: a reference, and no name.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}
