//! The journeys, and everything that has to be denied on the way.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod approvals;
mod audit;
mod authority;
mod based;
mod boundaries;
mod caller;
mod certificates;
mod delegation;
mod drift;
mod explain;
mod extremes;
mod findings;
mod groups;
mod holder;
mod issuance;
mod laws;
mod lineage;
mod policies;
mod preview;
mod replay;
mod reviewed;
mod schema;
mod search;
mod self_check;
mod shadow;
mod shadow_change;
mod streaming;
mod tokens;
mod view;

use crate::testing::{Stage, enforcer};

#[tokio::test]
async fn an_agent_may_what_it_was_given_and_the_answer_says_why() {
    let stage = Stage::set().await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "ALLOWED", "{}", spoken.message);
    let lines: Vec<_> = spoken.answer.causes.iter().map(crate::domain::answer::Cause::line).collect();
    assert_eq!(lines, ["binding:payments/reads-apollo@1", "policy:payments/production@1"]);
    assert_eq!(spoken.revision, 1);
    assert_eq!(spoken.view_age, Some(std::time::Duration::ZERO));
    assert!(spoken.valid_until.is_some_and(|until| until > spoken.at));
}
