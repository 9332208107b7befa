//! The switch that stops agents, the way back, and what shows that everybody has heard of it.

use clap::Args;

use crate::place::Place;

/// Whom it is about.
#[derive(Args, Clone, Debug)]
pub(crate) struct Whom {
    /// This agent, NAMESPACE/NAME or agt_..., and whoever it made.
    #[arg(long, group = "whom", value_name = "AGENT", conflicts_with_all = ["class", "group", "owner", "namespace", "all"])]
    pub(crate) agent: Option<String>,
    /// Every agent of this class, NAMESPACE/NAME.
    #[arg(long, group = "whom", value_name = "CLASS", conflicts_with_all = ["group", "owner", "namespace", "all"])]
    pub(crate) class: Option<String>,
    /// Every agent of this group, NAMESPACE/NAME, as it is declared now.
    #[arg(long, group = "whom", value_name = "GROUP", conflicts_with_all = ["owner", "namespace", "all"])]
    pub(crate) group: Option<String>,
    /// Every agent of this owner, user:NAME or group:NAME; without --namespace in all of them.
    #[arg(long, group = "whom", value_name = "OWNER", conflicts_with = "all")]
    pub(crate) owner: Option<String>,
    /// Every agent of this namespace; with --owner, his in this namespace only.
    #[arg(long, group = "whom", value_name = "NAMESPACE", conflicts_with = "all")]
    pub(crate) namespace: Option<String>,
    /// Every agent there is.
    #[arg(long, group = "whom")]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true).multiple(true))]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// Why, for the record.
    #[arg(
        long,
        value_name = "TEXT",
        required_unless_present = "dry_run",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) reason: String,
    /// Only say whom it would stop.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Stop first and count then. Left out: it is counted, and has to be confirmed at the terminal.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Wait for so long until every service has heard of it.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) wait: String,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true).multiple(true))]
pub(crate) struct Resume {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(Args, Debug)]
pub(crate) struct Stops {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Only those in this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Also those that were taken back.
    #[arg(long)]
    pub(crate) with_resumed: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Containment {
    #[command(flatten)]
    pub(crate) place: Place,
    /// How far this revision has come; left out: the newest.
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    pub(crate) revision: u64,
    /// Wait for so long until every service has heard of it.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) wait: String,
}
