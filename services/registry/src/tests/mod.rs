//! Journeys on real databases, with a clock that the test turns.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::large_futures, reason = "a test has the stack to itself")]

mod agents;
mod alert_feed;
mod amend;
mod apply;
mod approvals;
mod baselines;
mod bulk;
mod compact;
mod delegating;
mod delegation;
mod departures;
mod families;
mod faults;
mod fitting;
mod followers;
mod givers;
mod governed;
mod interleaved;
mod lifecycle;
mod looked_again;
mod many;
mod nodes;
mod operators;
mod past;
mod personal;
mod planned;
mod publish;
mod removal;
mod reviewed;
mod reviews;
mod revoke_issued;
mod scene;
mod search;
mod spawning;
mod standing;
mod stop;
mod stream;
mod succession;
mod sweep;
mod tried;
mod usage;
