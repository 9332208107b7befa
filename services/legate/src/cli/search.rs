//! Flags of lists: which objects, in which order, and as of when.

use clap::Args;

/// Which objects of any kind.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Search {
    /// Only those that fit this filter, such as 'labels.team = pay AND environment = prod' (docs/filters.md).
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Only those with this label; several times: with all of them.
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// name, create_time or update_time, with " desc" after it for the reverse.
    #[arg(long, value_name = "FIELD", default_value = "", hide_default_value = true)]
    pub(crate) order_by: String,
    #[command(flatten)]
    pub(crate) when: When,
}

/// As of when.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct When {
    /// As it was then: a revision, a moment such as 2026-11-24T08:00:00Z, or how long ago, such as 7d.
    #[arg(long, value_name = "REVISION|TIME")]
    pub(crate) as_of: Option<String>,
}

/// Which agents, beside what can be asked of everything.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct OfAgents {
    /// Only those with this owner, user:NAME or group:NAME.
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) owner: Option<String>,
    /// Only those with this sponsor, user:NAME or group:NAME.
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) sponsor: Option<String>,
    /// Only those of this class.
    #[arg(long, value_name = "NAME")]
    pub(crate) class: Option<String>,
    /// Only active ones that have not obtained or used anything for so long, such as 90d.
    #[arg(long, value_name = "DURATION")]
    pub(crate) dormant: Option<String>,
    /// Only active ones that end by themselves within so long, such as 7d.
    #[arg(long, value_name = "DURATION")]
    pub(crate) expiring: Option<String>,
    /// Only those to which a lifecycle policy does something within so long, such as 14d.
    #[arg(long, value_name = "DURATION")]
    pub(crate) due: Option<String>,
    /// Only those that nobody who is here is accountable for: every sponsor has left.
    #[arg(long)]
    pub(crate) orphaned: bool,
}

/// Whose history, and how much of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct History {
    /// NAMESPACE/NAME, of a namespace only its name, or the id agt_... or obj_...
    pub(crate) name: String,
    /// Begin with the first write rather than with the last.
    #[arg(long)]
    pub(crate) oldest_first: bool,
    #[command(flatten)]
    pub(crate) limit: super::registry::Limit,
}
