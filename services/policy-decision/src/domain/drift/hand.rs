//! What an agent has that was last written by hand, in a namespace whose declarations are written by pipelines.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_view::{Agent, Snapshot, Source};

use super::{Finding, words};
use crate::domain::answer::{Cause, CauseKind};

/// Who wrote something last, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hand {
    pub(crate) revision: u64,
    pub(crate) time: Option<Timestamp>,
    pub(crate) actor: String,
    pub(crate) reason: String,
}

/// The agent itself and everything that gives it something, each once, with a word for what it is. One that an agent made is in no code, and has what
/// the one at the top has.
fn objects(snapshot: &Snapshot, agent: &Agent) -> Vec<(&'static str, Cause)> {
    if snapshot.inherits(agent) {
        return Vec::new();
    }
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    let mut add = |what, cause: Cause| {
        if seen.insert(cause.id.clone()) {
            all.push((what, cause));
        }
    };
    if agent.ancestors.is_empty() {
        add("the agent", Cause::of_agent(CauseKind::Object, agent, "is the agent"));
    }
    for grant in snapshot.grants_of(agent) {
        match &grant.source {
            Source::Class(class) => add("the class", Cause::of(CauseKind::Class, &class.label, "is its class")),
            Source::Binding(binding, role, group) => {
                let text = format!("gives it the role {}", role.label);
                add("the binding", Cause::of(CauseKind::Binding, &binding.label, text));
                add("the role", Cause::of(CauseKind::Object, &role.label, "is a role of it"));
                if let Some(group) = group {
                    add("the group", Cause::of(CauseKind::Object, &group.label, "is a group of it"));
                }
            }
        }
    }
    for grant in snapshot.delegation_grants_to(agent) {
        let text = format!("lets it act for {}", grant.delegator);
        add("the delegation grant", Cause::of(CauseKind::Grant, &grant.label, text));
    }
    all
}

/// The ids of what may have been written by hand; none where nobody says what is code.
pub(crate) fn ids(snapshot: &Snapshot, agent: &Agent) -> Vec<String> {
    if !snapshot.rules_of(agent.label.namespace.as_str()).has_pipelines {
        return Vec::new();
    }
    objects(snapshot, agent).into_iter().map(|(_, cause)| cause.id).collect()
}

/// What of it was.
pub(super) fn findings(snapshot: &Snapshot, agent: &Agent, hands: &BTreeMap<String, Hand>) -> Vec<Finding> {
    if hands.is_empty() {
        return Vec::new();
    }
    let found = objects(snapshot, agent).into_iter();
    found
        .filter_map(|(what, cause)| Some((what, hands.get(&cause.id)?, cause)))
        .map(|(what, hand, cause)| words::by_hand(agent, what, cause, hand))
        .collect()
}
