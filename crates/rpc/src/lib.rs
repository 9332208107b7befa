//! The chassis of every service: refusals, the access table, deadlines, traces, metrics, and the client's side of them.

mod access;
mod client;
mod fault;
mod health;
mod layer;
mod limits;
mod mandate;
mod metrics;
mod page;
mod permit;
mod reasons;
mod refusals;
mod retry;
mod serve;
mod told;
mod trace;

pub use access::{Caller, Rule};
pub use client::{Client, Dial, dial, dial_breaking_glass};
pub use fault::{Fault, Reason, Refusal, passed_on};
pub use health::Health;
pub use limits::Limits;
pub use mandate::{Mandate, is_for_want_of_a_role};
pub use metrics::Metrics;
pub use page::Pages;
pub use permit::{AlwaysGood, Permit, Standing};
pub use reasons::*;
pub use refusals::{Refusals, Refused};
pub use retry::{RetryBudget, with_retry};
pub use serve::{Service, Serving, serve};
pub use told::Told;
pub use tonic::Code;
pub use trace::{TraceContext, continue_trace};

/// The metadata with which an operator states an emergency, and why.
pub const BREAK_GLASS: &str = "legate-break-glass";
