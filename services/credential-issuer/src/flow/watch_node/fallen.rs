//! Which instances of a node fell before their last certificate ends: looked for as soon as the life of one of its agents is another, soon
//! after anything else was taken away, and from time to time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_rpc::Fault;
use legate_view::{Node, Snapshot};
use legate_wire::credential as wire;
use tokio::time::Instant;

use super::super::{Desk, attest, instances};
use crate::domain::instance::State;
use crate::error::of_tx;
use crate::store::instance::{Living, OfNode};

/// How often it is looked where nothing says that one of them fell.
const LOOK: Duration = Duration::from_secs(5);
/// How soon after the last look where something was taken away somewhere, and nobody knows whose it was. Processes end all the time; a thousand
/// nodes need not ask at each of these.
const SOMEWHERE: Duration = Duration::from_millis(500);
/// The most that a node is told of, newest first: its own end of an instance is not among it, so this is what it serves many times over.
const MOST: usize = 50_000;
/// The instances of so many agents are looked for at once.
const AGENTS: usize = 100;
/// So many instances are judged at once.
const AT_ONCE: usize = 500;

/// What there is to know of a node at one moment.
pub(super) struct About<'a> {
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) node: &'a Node,
    pub(super) entitlements: &'a [wire::Entitlement],
    pub(super) now: Timestamp,
}

/// What fell, as last seen.
pub(super) struct Fallen {
    cut_off: Vec<String>,
    revoked: Vec<String>,
    /// Of the agents that have instances there, or may have: how each lived when it was looked.
    lives: BTreeMap<String, Living>,
    seen: Instant,
}

impl About<'_> {
    fn lives_of<'a>(&self, agents: impl Iterator<Item = &'a String>) -> BTreeMap<String, Living> {
        let live = |agent: &String| (agent.clone(), living(self.snapshot, agent, self.now));
        let mut all: BTreeMap<String, Living> = agents.map(live).collect();
        all.extend(self.entitlements.iter().map(|by| live(&by.agent_id)));
        all
    }

    /// The agents that ask for others here. What is a broker's is believed by its certificate, also after its process ended.
    fn brokers(&self) -> BTreeSet<String> {
        let named = self.entitlements.iter().filter_map(|by| by.broker_spiffe_id.rsplit_once('/'));
        named.map(|(_, agent)| agent.to_owned()).collect()
    }
}

fn living(snapshot: &Snapshot, agent: &str, now: Timestamp) -> Living {
    let (version, cutoff) = instances::life(snapshot, agent, now)?;
    Some((i64::try_from(version).ok()?, cutoff))
}

impl Fallen {
    /// Whether it is to be looked again; `is_taken`: something was taken away, of anybody.
    pub(super) fn is_due(&self, about: &About<'_>, is_taken: bool) -> bool {
        let ago = self.seen.elapsed();
        ago >= LOOK || is_taken && ago >= SOMEWHERE || about.lives_of(self.lives.keys()) != self.lives
    }

    /// Everything that fell, and of this what was cut off and not revoked.
    pub(super) fn told(&self) -> (Vec<String>, Vec<String>) {
        let mut all = [self.revoked.as_slice(), &self.cut_off].concat();
        all.sort_unstable();
        (all, self.cut_off.clone())
    }
}

/// Looks at the instances that the node attested. Where the database does not answer, what was seen before counts: what else there is
/// to tell does not wait for it.
pub(super) async fn look(desk: &Desk, about: &About<'_>, before: Option<Fallen>) -> Result<Fallen, Fault> {
    match read(desk, about).await {
        Ok(fallen) => Ok(fallen),
        Err(fault) => {
            tracing::warn!(%fault, "the instances of a node cannot be looked at; it is tried again");
            before.map(|before| Fallen { seen: Instant::now(), ..before }).ok_or(fault)
        }
    }
}

async fn read(desk: &Desk, about: &About<'_>) -> Result<Fallen, Fault> {
    let seen = Instant::now();
    let (node, now) = (attest::named(about.node), about.now);
    let of = OfNode {
        node: node.clone(),
        since: about.node.label.created,
        brokers: about.brokers().into_iter().collect(),
        now,
    };
    let snapshot = Arc::clone(about.snapshot);
    let read = desk.db.read("instances_of_node", move |tx| {
        let (of, snapshot) = (of.clone(), Arc::clone(&snapshot));
        Box::pin(async move {
            let agents = of.agents(tx).await?;
            let lives: Vec<(String, Living)> =
                agents.into_iter().map(|agent| (agent.clone(), living(&snapshot, &agent, now))).collect();
            let mut rows = Vec::new();
            for some in lives.chunks(AGENTS) {
                rows.extend(of.fallen(tx, some, (MOST + 1) as u64).await?);
            }
            Ok((lives, rows))
        })
    });
    let (agents, mut rows) = read.await.map_err(of_tx)?;
    if rows.len() > MOST {
        tracing::warn!(node, MOST, "more instances of a node fell than it is told of");
        rows.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        rows.truncate(MOST);
    }
    let (mut cut_off, mut revoked) = (Vec::new(), Vec::new());
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(AT_ONCE));
        for (row, state) in instances::judged(desk, rows).await? {
            match state {
                State::CutOff => cut_off.push(row.id),
                State::Revoked => revoked.push(row.id),
                State::Live | State::Ended => {}
            }
        }
        rows = rest;
    }
    cut_off.sort_unstable();
    // As it was looked at: what changed since is another life, and looked at once more.
    let mut lives = about.lives_of(std::iter::empty());
    lives.extend(agents);
    Ok(Fallen { cut_off, revoked, lives, seen })
}
