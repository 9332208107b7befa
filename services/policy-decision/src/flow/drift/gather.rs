//! What the registry knows of some agents, those below them, and what they have: how it was used, approved and written.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use legate_authority::ResourceSelector;
use legate_clock::Timestamp;
use legate_ids::AgentId;
use legate_rpc::Fault;
use legate_view::{Agent, Snapshot};
use legate_wire::registry::{
    AgentUsage, ApprovedThing, ListAgentBaselinesRequest, ListAgentUsageRequest, PermissionUsage, ReviewedThing,
    UsageWindow,
};
use tokio::time::{Instant, timeout_at};

use crate::domain::answer::CauseKind;
use crate::domain::drift::baseline::{Approval, Baseline};
use crate::domain::drift::evidence::{Evidence, Uses};
use crate::domain::drift::hand::{self, Hand};
use crate::domain::drift::{Known, Shared, Used, granted};
use crate::domain::preview::cells::{Cell, permission, selector};
use crate::error::USAGE_UNAVAILABLE;
use crate::flow::asking::AGAIN;
use crate::flow::evaluate::Desk;
use crate::flow::roster::Roster;

/// Ids of one question to the registry.
const AT_ONCE: usize = 1_000;
/// Agents below one that are looked at; of more, nobody says what they use.
const BELOW: usize = 200;

/// What is known of some agents beside what is declared.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) known: HashMap<AgentId, Known>,
    pub(super) shared: Shared,
    pub(super) evidence: Evidence,
    pub(super) window: UsageWindow,
}

/// Asks the registry what these agents used, those below them, and the grants to them.
pub(super) async fn gather(
    desk: &Desk,
    snapshot: &Snapshot,
    roster: &Roster,
    agents: &[Arc<Agent>],
    until: Instant,
) -> Result<Gathered, Fault> {
    let (mut ids, mut narrowed): (BTreeSet<&AgentId>, BTreeSet<&AgentId>) = Default::default();
    for agent in agents {
        let below = roster.below(&agent.id);
        let all = || std::iter::once(&agent.id).chain(below.iter().filter(|_| below.len() <= BELOW));
        ids.extend(all());
        // Which resources it was says something only where some are given and others are not.
        if granted::is_of_some(snapshot, agent) {
            narrowed.extend(all());
        }
    }
    let texts = |ids: BTreeSet<&AgentId>| ids.into_iter().map(ToString::to_string).collect::<Vec<_>>();
    let (ids, narrowed) = (texts(ids), texts(narrowed));
    let grants: Vec<String> = agents
        .iter()
        .flat_map(|agent| snapshot.delegation_grants_to(agent))
        .map(|grant| grant.label.id.to_string())
        .collect();
    let mut gathered = Gathered::default();
    let (mut usage, mut apart): (HashMap<String, AgentUsage>, HashMap<String, AgentUsage>) = Default::default();
    let of = |by_resource| move |some: &[String]| (some.to_vec(), Vec::new(), by_resource);
    let asks = ids.chunks(AT_ONCE).map(of(false)).chain(narrowed.chunks(AT_ONCE).map(of(true)));
    let mut asks: Vec<_> = asks.chain(grants.chunks(AT_ONCE).map(|some| (Vec::new(), some.to_vec(), false))).collect();
    if asks.is_empty() {
        // The evidence is told all the same.
        asks.push(Default::default());
    }
    for (n, (agent_ids, grant_ids, by_resource)) in asks.into_iter().enumerate() {
        let ask = ListAgentUsageRequest { agent_ids, grant_ids, by_resource };
        let answered = timeout_at(until, desk.archive.usage(ask)).await;
        let late = || Fault::unavailable(&USAGE_UNAVAILABLE, "the registry did not tell in time what was used", AGAIN);
        let answer = answered.map_err(|_| late())?.map_err(|status| {
            let text = format!("the registry did not tell what was used: {}", status.message());
            Fault::unavailable(&USAGE_UNAVAILABLE, text, AGAIN)
        })?;
        let told = if by_resource { &mut apart } else { &mut usage };
        told.extend(answer.agents.into_iter().map(|one| (one.agent_id.clone(), one)));
        gathered.shared.grants.extend(
            answer
                .grants
                .into_iter()
                .map(|one| (one.grant_id, Uses { count: one.count, last: at(one.last_time), interval_days: 0 })),
        );
        if n == 0 {
            gathered.window = answer.window.unwrap_or_default();
        }
    }
    gathered.evidence = evidence(&gathered.window);
    let mut baselines = held_against(desk, snapshot, agents, until, &mut gathered.shared).await?;
    for agent in agents {
        let below = roster.below(&agent.id);
        let mut known = usage.get(agent.id.as_str()).map(known).unwrap_or_default();
        known.is_open = below.len() > BELOW;
        for one in below.iter().filter(|_| !known.is_open) {
            known.used.extend(usage.get(one.as_str()).map(used).unwrap_or_default());
        }
        known.apart = apart.get(agent.id.as_str()).map(|own| {
            let below = below.iter().filter(|_| !known.is_open).filter_map(|one| apart.get(one.as_str()));
            std::iter::once(own).chain(below).flat_map(used).collect()
        });
        known.baseline = baselines.remove(agent.id.as_str()).unwrap_or_default();
        gathered.known.insert(agent.id.clone(), known);
    }
    Ok(gathered)
}

/// Asks the registry what people approved of the agents, and what of all that they have was written by hand.
async fn held_against(
    desk: &Desk,
    snapshot: &Snapshot,
    agents: &[Arc<Agent>],
    until: Instant,
    shared: &mut Shared,
) -> Result<HashMap<String, Baseline>, Fault> {
    let ids: Vec<String> = agents.iter().map(|agent| agent.id.to_string()).collect();
    let objects: BTreeSet<String> = agents.iter().flat_map(|agent| hand::ids(snapshot, agent)).collect();
    let objects: Vec<String> = objects.into_iter().collect();
    let asks = ids.chunks(AT_ONCE).map(|some| (some.to_vec(), Vec::new()));
    let asks = asks.chain(objects.chunks(AT_ONCE).map(|some| (Vec::new(), some.to_vec())));
    let mut baselines = HashMap::new();
    for (agent_ids, object_ids) in asks {
        let ask = ListAgentBaselinesRequest { agent_ids, object_ids };
        let answered = timeout_at(until, desk.archive.baselines(ask)).await;
        let late =
            || Fault::unavailable(&USAGE_UNAVAILABLE, "the registry did not tell in time what was approved", AGAIN);
        let answer = answered.map_err(|_| late())?.map_err(|status| {
            let text = format!("the registry did not tell what was approved: {}", status.message());
            Fault::unavailable(&USAGE_UNAVAILABLE, text, AGAIN)
        })?;
        baselines.extend(answer.agents.into_iter().map(|one| (one.agent_id, baseline(&one.things))));
        shared.hands.extend(answer.objects.into_iter().map(|one| {
            let hand = Hand { revision: one.revision, time: at(one.time), actor: one.actor, reason: one.reason };
            (one.object_id, hand)
        }));
    }
    Ok(baselines)
}

/// What was approved. What cannot be read was not approved.
pub(crate) fn baseline(things: &[ApprovedThing]) -> Baseline {
    let mut baseline = Baseline::default();
    for thing in things {
        let kind = match thing.reviewed() {
            ReviewedThing::RoleBinding => CauseKind::Binding,
            ReviewedThing::AgentClass => CauseKind::Class,
            ReviewedThing::DelegationGrant | ReviewedThing::Unspecified => continue,
        };
        let selectors: Vec<ResourceSelector> = thing.resources.iter().filter_map(selector).collect();
        let whole = thing.permissions.iter().filter_map(|one| permission(one).map(|one| Cell::of(&one)));
        let cells: Vec<Cell> = match thing.resources.is_empty() {
            true => whole.collect(),
            false => whole
                .flat_map(|cell| selectors.iter().filter_map(move |one| cell.meet(one)).collect::<Vec<_>>())
                .collect(),
        };
        let approval =
            Approval { time: at(thing.time), by: thing.approved_by.clone(), review: thing.review_id.clone() };
        baseline.add(kind, cells, approval);
    }
    baseline
}

fn at(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::try_from(time).ok())
}

/// What the registry tells of one agent.
pub(crate) fn known(usage: &AgentUsage) -> Known {
    Known {
        used: used(usage),
        apart: None,
        last: at(usage.last_used_time),
        is_open: false,
        state_since: at(usage.state_time),
        orphaned: at(usage.orphaned_time),
        departed: usage.departed_sponsors.clone(),
        baseline: Baseline::default(),
    }
}

fn used(usage: &AgentUsage) -> Vec<Used> {
    let of = |one: &PermissionUsage| Used {
        action: one.action.clone(),
        kind: one.resource_type.clone(),
        // Where it was not asked by resource, or the registry does not know of that, it may have been any.
        id: if one.resource_id.is_empty() { "*".to_owned() } else { one.resource_id.clone() },
        uses: Uses { count: one.count, last: at(one.last_time), interval_days: one.longest_interval_days },
    };
    usage.permissions.iter().map(of).collect()
}

fn evidence(window: &UsageWindow) -> Evidence {
    let gaps = window.gaps.iter().filter_map(|gap| at(gap.from_time).zip(at(gap.to_time)));
    Evidence::new(at(window.from_time), at(window.to_time), gaps)
}
