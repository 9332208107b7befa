//! Flags of permission drift: which findings, and a smaller grant.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::registry::Limit;
use crate::place::Place;

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whose").args(["agent", "namespace"]))]
pub(crate) struct Drift {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Only this agent, NAMESPACE/NAME or agt_...
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Only agents of this namespace; left out: of all that you may read.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Only findings of these types; may be repeated.
    #[arg(long, value_enum, value_name = "TYPE", conflicts_with = "propose")]
    pub(crate) finding: Vec<Finding>,
    /// For how long something has to be silent to be unused, 7d to 400d.
    #[arg(long, value_name = "DURATION", default_value = "90d")]
    pub(crate) unused_after: String,
    /// Write a smaller grant as manifests for legate plan -f, and try it on what was decided: what is unused is taken out of bindings, roles
    /// and a class as far as they concern the agent alone; where they do not, the agent gets a ceiling of its own.
    #[arg(long, requires = "agent", requires = "file")]
    pub(crate) propose: bool,
    /// With --propose: a ceiling in any case.
    #[arg(long, requires = "propose")]
    pub(crate) ceiling: bool,
    /// The new file to write the manifests to.
    #[arg(short, long, value_name = "FILE", requires = "propose")]
    pub(crate) file: Option<PathBuf>,
    /// With --propose: a new file for the whole plan, with the bindings that are taken back, for legate apply --plan.
    #[arg(long, value_name = "FILE", requires = "propose")]
    pub(crate) out: Option<PathBuf>,
    /// Decisions of how long the proposal is tried on, 31d at most.
    #[arg(long, value_name = "DURATION", default_value = "31d", requires = "propose")]
    pub(crate) simulate: String,
    #[command(flatten)]
    pub(crate) limit: Limit,
}

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Finding {
    /// A permission that was not used for long enough.
    Unused,
    /// An agent that is active and did nothing for long enough.
    DormantAgent,
    /// A permission above a ceiling: it has no effect.
    ExceedsClass,
    /// A permission that a boundary cuts: it has no effect.
    BoundaryConflict,
    /// An agent that nobody who is here is accountable for.
    Orphaned,
    /// A sponsor has left, and others are left.
    SponsorGone,
    /// A delegation grant by which nothing was done for long enough.
    DormantGrant,
    /// A permission beyond what people last approved of the agent.
    ExceedsApproval,
    /// The agent, or what it has, was last written by somebody who is no pipeline of its namespace.
    #[value(name = "granted-outside-code")]
    OutsideCode,
    /// A credential that works and is past its rotation, or was not used for long enough.
    StaleCredential,
}
