//! Both sides of a change: the registry as it is, and as it would be.

use std::collections::HashMap;
use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::Name;
use legate_rpc::Fault;
use legate_view::Snapshot;

use super::ShadowChange;
use super::followers::Asked;
use crate::domain::authority::Bench;
use crate::domain::policies::Compiled;
use crate::domain::preview::touched::touched;
use crate::error::QUESTION_INVALID;
use crate::flow::asker::Right;
use crate::flow::asking::known;
use crate::flow::evaluate::{Desk, Judged, Policies, judge, judge_by};

/// Both sides, and what of them the caller may see.
#[derive(Debug)]
pub(super) struct Sides {
    before: Arc<Snapshot>,
    after: Snapshot,
    /// The policies of the namespaces that the change speaks of, as they would be.
    policies: HashMap<Name, Policies>,
    /// Agents as they would be are kept apart from those that there are.
    bench: Bench,
    right: Right,
}

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    /// It is of no namespace that the change speaks of, or of one that the caller may not read.
    NotOurs,
    /// Policies are being compiled.
    NotReady,
    Same,
    /// It would have been allowed to this agent.
    WouldAllow(String),
    /// It would have been denied to this agent.
    WouldDeny(String),
}

impl Sides {
    /// The registry as it is, and with the change.
    ///
    /// # Errors
    /// When an object of the change cannot be read.
    pub(super) fn of(
        desk: &Desk,
        before: Arc<Snapshot>,
        right: Right,
        ask: &ShadowChange,
        now: Timestamp,
    ) -> Result<Self, Fault> {
        let after = before.suppose(&ask.wanted, &ask.gone, now).map_err(|e| {
            let text = format!("{} {} cannot be read: {}", e.kind, e.name, e.why);
            Fault::refused(&QUESTION_INVALID, text).field("declarations", e.why)
        })?;
        let mut policies = HashMap::new();
        for namespace in touched(&ask.wanted, &ask.gone).into_keys() {
            let Ok(name) = Name::parse(&namespace) else { continue };
            let used = match after.policies(&namespace) {
                None => Policies::None,
                Some(all) => match Compiled::compile(all, known(desk, &before, &namespace).as_deref()) {
                    Ok(compiled) => Policies::Ready(Arc::new(compiled)),
                    Err(e) => Policies::unusable(&e),
                },
            };
            policies.insert(name, used);
        }
        Ok(Self { before, after, policies, bench: Bench::new(), right })
    }

    /// The registry as it is.
    pub(super) fn before(&self) -> &Snapshot {
        &self.before
    }

    /// The same, as it is shared.
    pub(super) fn shared(&self) -> &Arc<Snapshot> {
        &self.before
    }

    /// The registry as it would be.
    pub(super) fn after(&self) -> &Snapshot {
        &self.after
    }

    /// Why policies could not be used with the change.
    pub(super) fn unusable(&self) -> Option<String> {
        self.policies.values().find_map(|policies| match policies {
            Policies::Unusable(denied) => {
                Some(denied.causes.first().map_or_else(String::new, |cause| cause.text.clone()))
            }
            Policies::None | Policies::Ready(_) => None,
        })
    }

    /// What the change would have made of a question.
    pub(super) fn tried(&self, desk: &Desk, asked: &Asked) -> Tried {
        let Asked { ask, right, at, .. } = asked;
        let old = judge(desk, right, ask, &self.before, *at, |namespace| desk.policies(&self.before, namespace));
        let new =
            judge_by(&self.bench, desk, right, ask, &self.after, *at, |namespace| match self.policies.get(namespace) {
                Some(policies) => Ok(policies.clone()),
                None => desk.policies(&self.after, namespace),
            });
        let (Ok(old), Ok(new)) = (old, new) else { return Tried::NotReady };
        let Some(agent) = old.agent.as_ref().or(new.agent.as_ref()) else { return Tried::NotOurs };
        let namespace = &agent.label.namespace;
        if !self.policies.contains_key(namespace) || !self.right.shows(namespace) {
            return Tried::NotOurs;
        }
        let allows = |judged: &Judged| judged.answer.denied.is_none();
        match (allows(&old), allows(&new)) {
            (true, false) => Tried::WouldDeny(agent.id.to_string()),
            (false, true) => Tried::WouldAllow(agent.id.to_string()),
            _ => Tried::Same,
        }
    }
}
