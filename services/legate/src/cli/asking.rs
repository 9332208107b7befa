//! Flags of the questions about authority: why, who can, what can.

use clap::Args;

use super::{Check, When};
use crate::place::Place;

#[derive(Args, Debug)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) question: Check,
    #[command(flatten)]
    pub(crate) when: When,
    /// Judge windows, hours and ends by this moment, with --as-of; left out: that of the revision or time.
    #[arg(long, value_name = "TIME", requires = "as_of")]
    pub(crate) at_time: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct WhoCan {
    #[command(flatten)]
    pub(crate) place: Place,
    /// What is done, such as invoice:read.
    #[arg(long)]
    pub(crate) action: String,
    /// What it is done to, TYPE:ID.
    #[arg(long, value_name = "TYPE:ID")]
    pub(crate) resource: String,
    /// Attributes of the resource, as a JSON object.
    #[arg(long, value_name = "JSON")]
    pub(crate) attributes: Option<String>,
    /// More about the request, as a JSON object: context in Cedar.
    #[arg(long, value_name = "JSON")]
    pub(crate) context: Option<String>,
    /// Only agents of this namespace; left out: of all that you may read.
    #[arg(long, value_name = "NAMESPACE", default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,
    /// Only agents that may do it for this person or agent, user:NAME or agent:NAME; left out: by themselves.
    #[arg(long, value_name = "WHO", default_value = "", hide_default_value = true)]
    pub(crate) on_behalf_of: String,
    /// So many at most; 0: all of them.
    #[arg(long, default_value_t = 1_000, value_name = "NUMBER")]
    pub(crate) limit: usize,
    /// Look at this revision of the registry or a later one.
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    pub(crate) at_least_revision: u64,
}

#[derive(Args, Debug)]
pub(crate) struct WhatCan {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The agent, NAMESPACE/NAME or agt_...
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: String,
    /// Take it for ACTIVE: what it could do if it worked.
    #[arg(long)]
    pub(crate) if_active: bool,
    /// Tell as well what it was granted and may never do.
    #[arg(long)]
    pub(crate) with_never: bool,
    #[command(flatten)]
    pub(crate) when: When,
    /// Look at this revision of the registry or a later one.
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    pub(crate) at_least_revision: u64,
}
