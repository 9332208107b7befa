//! How often policies in LOG_ONLY would have turned a decision round, in memory, bounded, since this process started.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use legate_clock::Timestamp;
use legate_view::Policy;
use parking_lot::Mutex;

use crate::domain::shadow::Would;

/// Policies that are counted at once.
const POLICIES: usize = 256;
/// Examples that are kept of each.
const EXAMPLES: usize = 20;

/// A decision that would have been another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) decision: String,
    pub(crate) at: Timestamp,
    pub(crate) agent: String,
    pub(crate) action: String,
    pub(crate) resource: (String, String),
    pub(crate) would: Would,
}

/// What is counted of one version of a policy.
#[derive(Clone, Debug)]
pub(crate) struct Count {
    pub(crate) decisions: u64,
    pub(crate) would_allow: u64,
    pub(crate) would_deny: u64,
    pub(crate) since: Timestamp,
    /// The newest first.
    pub(crate) examples: VecDeque<Example>,
    version: u32,
    turn: u64,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<Arc<str>, Count>,
    /// Names that a metric has; their number is bounded for as long as the process lives.
    labels: BTreeSet<String>,
    turn: u64,
}

/// All that is counted.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Inner>);

impl Tally {
    /// Counts that a decision was held against `policies`, of which some would have turned it round. `example` makes what is
    /// kept of it.
    pub(crate) fn count(
        &self,
        policies: &[Arc<Policy>],
        flips: &[(Arc<Policy>, Would)],
        now: Timestamp,
        example: impl Fn(Would) -> Example,
    ) {
        let mut inner = self.0.lock();
        for policy in policies.iter().take(POLICIES) {
            let count = inner.of(policy, now);
            count.decisions += 1;
            let Some((_, would)) = flips.iter().find(|(of, _)| Arc::ptr_eq(of, policy)) else { continue };
            match would {
                Would::Allow => count.would_allow += 1,
                Would::Deny => count.would_deny += 1,
            }
            count.examples.truncate(EXAMPLES - 1);
            count.examples.push_front(example(*would));
        }
    }

    /// What is counted of exactly this version of the policy.
    pub(crate) fn of(&self, policy: &Policy) -> Option<Count> {
        let inner = self.0.lock();
        inner.by_id.get(&policy.label.id).filter(|count| count.version == policy.label.version).cloned()
    }

    /// The name under which a metric counts the policy: its own, or `other` where there are too many.
    pub(crate) fn label(&self, policy: &Policy) -> String {
        let name = format!("{}/{}", policy.label.namespace, policy.label.name);
        let mut inner = self.0.lock();
        if inner.labels.len() < POLICIES {
            inner.labels.insert(name.clone());
        }
        if inner.labels.contains(&name) { name } else { "other".to_owned() }
    }
}

impl Inner {
    fn of(&mut self, policy: &Policy, now: Timestamp) -> &mut Count {
        self.turn += 1;
        let (id, version, turn) = (&policy.label.id, policy.label.version, self.turn);
        // What was counted of an earlier text says nothing of this one.
        if self.by_id.get(id).is_some_and(|count| count.version != version) {
            self.by_id.remove(id);
        }
        if self.by_id.len() >= POLICIES && !self.by_id.contains_key(id) {
            let oldest = self.by_id.iter().min_by_key(|(_, count)| count.turn).map(|(id, _)| Arc::clone(id));
            oldest.and_then(|id| self.by_id.remove(&id));
        }
        let count = self.by_id.entry(Arc::clone(id)).or_insert_with(|| Count {
            decisions: 0,
            would_allow: 0,
            would_deny: 0,
            since: now,
            examples: VecDeque::new(),
            version,
            turn,
        });
        count.turn = turn;
        count
    }
}
