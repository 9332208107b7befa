//! A proposal is told only when the engine, deciding the question with it supposed, allows it.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::asker::Right;
use super::super::evaluate::{Desk, Policies, judge};
use super::Ground;
use crate::convert::Ask;
use crate::domain::answer::Why;
use crate::domain::near::{Change, Proposal, Proposals};
use crate::domain::policies::Compiled;

/// Proposals that are tried.
const TRIED: usize = 128;
/// Those among them for which the policies of the namespace are compiled anew.
const COMPILED: usize = 8;
/// Near misses that are told.
const TOLD: usize = 16;

/// What came of trying.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    pub(super) near: Vec<Proposal>,
    pub(super) tried: u32,
    /// Whether some were not tried.
    pub(super) is_cut: bool,
}

/// Tries the proposals in their order, until there are enough of them or `until`.
pub(super) fn all(
    desk: &Desk,
    right: &Right,
    ask: &Ask,
    ground: &Ground,
    proposals: Proposals,
    until: Instant,
) -> Confirmed {
    let mut found = Confirmed { is_cut: proposals.is_cut, ..Confirmed::default() };
    let mut compiled = 0;
    for proposal in proposals.all {
        compiled += usize::from(matches!(proposal.change, Change::Policies(_)));
        let is_too_dear = matches!(proposal.change, Change::Policies(_)) && compiled > COMPILED;
        if is_too_dear || found.tried as usize >= TRIED || Instant::now() >= until {
            found.is_cut = true;
            continue;
        }
        found.tried += 1;
        if found.near.len() < TOLD && would_allow(desk, right, ask, ground, &proposal.change) {
            found.near.push(proposal);
        }
    }
    found
}

/// Whether it would be allowed if that were otherwise: by what is shown for the agent, or by a token that says it.
pub(super) fn would_allow(desk: &Desk, right: &Right, ask: &Ask, ground: &Ground, change: &Change) -> bool {
    let mut supposed = ground.clone();
    let mut ask = ask.clone();
    match change {
        Change::Registry(otherwise) => {
            supposed.snapshot = Arc::new(ground.snapshot.otherwise(otherwise.as_ref().clone()));
        }
        Change::Context(name, value) => drop(ask.question.context.insert(name.clone(), value.clone())),
        Change::Attribute(name, value) => drop(ask.question.attributes.0.insert(name.clone(), value.clone())),
        Change::At(at) => supposed.now = *at,
        Change::Policies(policies) => {
            let before = match &ground.policies {
                Policies::Ready(compiled) => Some(&**compiled),
                _ => None,
            };
            supposed.policies = match Compiled::compile(policies, before) {
                Ok(compiled) => Policies::Ready(Arc::new(compiled)),
                Err(e) => Policies::unusable(&e),
            };
        }
    }
    let policies = |_: &legate_ids::Name| Ok(supposed.policies.clone());
    let judged = judge(desk, right, &ask, &supposed.snapshot, supposed.now, policies);
    judged.is_ok_and(|judged| matches!(judged.answer.denied, None | Some(Why::TokenScope)))
}
