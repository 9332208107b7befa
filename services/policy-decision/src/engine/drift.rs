//! Drift by itself, with no server round it: what a benchmark measures.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_view::Snapshot;
use legate_wire::registry::{AgentUsage, Declaration};

use crate::domain::drift::evidence::Evidence;
use crate::domain::drift::{Known, Shared, Terms, examine};
use crate::flow::drift::known;

/// What is declared, and from when to when it was heard what was used.
#[derive(Debug)]
pub struct Organisation {
    snapshot: Snapshot,
    evidence: Evidence,
}

impl Organisation {
    /// Everything that is declared; what was used is known of `heard` before `now`.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn new<'a>(
        objects: impl IntoIterator<Item = &'a Declaration>,
        heard: Duration,
        now: Timestamp,
    ) -> Result<Self, String> {
        let snapshot = Snapshot::of(objects).map_err(|e| e.to_string())?;
        Ok(Self { snapshot, evidence: Evidence::new(Some(now.minus(heard)), Some(now), []) })
    }

    /// Looks at every agent, each of which used this; how many there are, and how many findings.
    #[must_use]
    pub fn examine(&self, usage: &AgentUsage, minimum: Duration, now: Timestamp) -> (usize, usize) {
        let (terms, shared) = (Terms { evidence: &self.evidence, minimum, now }, Shared::default());
        let (mut agents, mut findings) = (0, 0);
        for agent in self.snapshot.agents() {
            // Read anew for each, as it comes from the registry.
            let known: Known = known(usage);
            agents += 1;
            findings += examine(&self.snapshot, agent, &known, &shared, &terms).findings.len();
        }
        (agents, findings)
    }
}
