//! The verbs of persons who leave, and of who answers for an agent.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum PersonVerb {
    /// Let a person leave: nobody names it any more, and what it answers for passes on.
    Offboard(Offboard),
    /// List who left, the latest first.
    List {
        /// Only from this namespace.
        #[arg(long, value_name = "NAMESPACE", default_value = "", hide_default_value = true)]
        namespace: String,
        /// Only this person, user:NAME.
        #[arg(long, value_name = "PERSON", default_value = "", hide_default_value = true)]
        person: String,
        /// Also departures that were taken back.
        #[arg(long)]
        with_withdrawn: bool,
        #[command(flatten)]
        limit: super::registry::Limit,
    },
    /// Take a departure back that was a mistake: the person may be named again. What has passed on stays with whoever has it.
    Withdraw {
        /// The person, user:NAME.
        person: String,
        #[command(flatten)]
        from: From,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// From where.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct From {
    /// From this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// From everywhere.
    #[arg(long)]
    pub(crate) everywhere: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Offboard {
    /// The person, user:NAME.
    pub(crate) person: String,
    #[command(flatten)]
    pub(crate) from: From,
    /// Who takes on what it answers for, user:NAME or group:NAME; left out: each agent's own manager.
    #[arg(long, value_name = "WHO", default_value = "", hide_default_value = true)]
    pub(crate) successor: String,
    /// How long an agent that nobody answers for then goes on working, such as 14d; left out: as its namespace says.
    #[arg(long, value_name = "DURATION", value_parser = crate::manifest::duration)]
    pub(crate) grace: Option<prost_types::Duration>,
    /// An operator that the person is, by the NAME in its certificate, whose roles end with it; may be repeated.
    #[arg(long = "operator", value_name = "NAME")]
    pub(crate) operators: Vec<String>,
    /// Say what would become of the agents, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
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

/// Who answers for an agent; without a change, that is told.
#[derive(Args, Debug)]
pub(crate) struct Owner {
    /// NAMESPACE/NAME, or the id agt_...
    pub(crate) agent: String,
    /// One more who answers for it technically, user:NAME or group:NAME; may be repeated.
    #[arg(long, value_name = "WHO")]
    pub(crate) add: Vec<String>,
    /// One less of them; may be repeated.
    #[arg(long, value_name = "WHO")]
    pub(crate) remove: Vec<String>,
    /// One more who is accountable for it, user:NAME or group:NAME; may be repeated. Sponsors who have left give way.
    #[arg(long, value_name = "WHO")]
    pub(crate) add_sponsor: Vec<String>,
    /// One less of them; may be repeated.
    #[arg(long, value_name = "WHO")]
    pub(crate) remove_sponsor: Vec<String>,
    /// Whom a sponsor's duty passes to from now on, user:NAME or group:NAME; an empty text: nobody.
    #[arg(long, value_name = "WHO")]
    pub(crate) manager: Option<String>,
    /// Why, for the record; required with a change.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}

impl Owner {
    /// Whether anything is to be changed.
    pub(crate) fn changes(&self) -> bool {
        let lists = [&self.add, &self.remove, &self.add_sponsor, &self.remove_sponsor];
        self.manager.is_some() || lists.iter().any(|list| !list.is_empty())
    }
}
