//! What time does by lifecycle policies: agents that nobody confirmed or used are stopped, those that were stopped for long are
//! retired, and people are told beforehand.
//!
//! Beside every agent rests when it has to be looked at next, so that a sweep looks at those alone. Where a policy or a group changes, the
//! agents of the namespace are reckoned anew, some in each transaction, and that goes on where the last commit was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, Declaration, Group, Kind, LifecycleAction, LifecyclePolicy};

use super::family::{self, Family};
use super::heard::beyond;
use super::transition::{self, Step};
use super::write::Writing;
use super::{Call, Desk};
use crate::convert;
use crate::domain::kind::Key;
use crate::domain::lifecycle_policy::{self, Due, Heard, MOST, Policies};
use crate::error::of_tx;
use crate::store::lifecycle::Model as Told;
use crate::store::{lifecycle, object, usage};

/// Agents in one transaction.
const AT_ONCE: u64 = 200;
/// What cannot be done to an agent is tried again after so long, and holds up nobody else meanwhile.
const AGAIN: Duration = Duration::from_secs(600);

/// The lifecycle policies of a namespace, with the groups that they name.
pub(super) async fn policies(tx: &Tx, namespace: &str) -> TxResult<Policies, Fault> {
    let mut policies = Vec::new();
    for row in object::in_namespace(tx, Kind::LifecyclePolicy, namespace, MOST as u64).await? {
        if let Some(Object::LifecyclePolicy(policy)) = row.declaration()?.object {
            policies.push(policy);
        }
    }
    with_groups(tx, namespace, policies).await
}

/// These policies of a namespace, with the groups that they name.
pub(super) async fn with_groups(tx: &Tx, namespace: &str, policies: Vec<LifecyclePolicy>) -> TxResult<Policies, Fault> {
    let named = policies.iter().filter_map(|policy| policy.spec.as_ref()).flat_map(|spec| &spec.groups);
    let keys: BTreeSet<Key> = named.map(|name| Key::new(Kind::Group, namespace, name)).collect();
    let mut groups: Vec<Group> = Vec::new();
    if !keys.is_empty() {
        for row in object::by_keys(tx, keys).await?.into_values() {
            if let Some(Object::Group(group)) = row.declaration()?.object {
                groups.push(group);
            }
        }
    }
    Ok(Policies::of(&policies, &groups))
}

/// From when to when the audit log was heard; `to`: up to when this process heard it, which may be later than is written down.
pub(super) async fn heard(tx: &Tx, to: Option<Timestamp>) -> TxResult<Heard, Fault> {
    let head = usage::head::read(tx).await?;
    // Of a time of which records may be missing nobody knows who was silent in it.
    let gap = usage::gap::newest(tx, 1).await?.pop().map(|gap| gap.to_time);
    Ok(Heard { since: head.from_time.max(gap).map(Timestamp::from_micros), to: beyond(to, head.to_time) })
}

/// What is known beside the agents: the policies of the namespaces that were asked about, read once each, and who was heard.
#[derive(Debug)]
struct Known {
    policies: BTreeMap<String, Policies>,
    /// Of the agents that are looked at in namespaces with policies.
    families: BTreeMap<String, Family>,
    heard: Heard,
    now: Timestamp,
}

impl Known {
    async fn begin(tx: &Tx, to: Option<Timestamp>, now: Timestamp) -> TxResult<Self, Fault> {
        Ok(Self { policies: BTreeMap::new(), families: BTreeMap::new(), heard: heard(tx, to).await?, now })
    }

    /// Reads what is known of the families of these agents, all at once.
    async fn read(&mut self, tx: &Tx, rows: &[object::Model]) -> TxResult<(), Fault> {
        let mut policed = Vec::new();
        for row in rows {
            if !self.policies.contains_key(&row.namespace) {
                self.policies.insert(row.namespace.clone(), policies(tx, &row.namespace).await?);
            }
            if self.policies.get(&row.namespace).is_some_and(|policies| !policies.is_empty()) {
                policed.push(row);
            }
        }
        self.families.extend(family::of(tx, &policed).await?);
        Ok(())
    }

    fn family(&self, id: &str) -> Family {
        self.families.get(id).cloned().unwrap_or_default()
    }

    /// Everything that becomes of the agent of a row that was read.
    fn dues(&self, row: &object::Model, agent: &Declaration) -> Vec<Due> {
        let Some(policies) = self.policies.get(&row.namespace) else { return Vec::new() };
        let used = self.family(&row.id).used.max(row.last_used());
        let mut dues = policies.dues(agent, self.heard.silent_since(used));
        self.heard.hold_back(&mut dues, self.now);
        dues
    }
}

/// What is to be done to an agent now, where something is.
fn now_due(dues: &[Due], now: Timestamp) -> Option<&Due> {
    dues.iter().find(|due| !due.report).filter(|due| due.act_at <= now)
}

/// Reckons some agents of a namespace anew whose policies changed; how many. `None`: there are no more.
pub(super) async fn replan_some(desk: &Arc<Desk>) -> Result<Option<u64>, Fault> {
    let next = desk.db.read("lifecycle_to_replan", |tx| Box::pin(lifecycle::next(tx)));
    if next.await.map_err(of_tx)?.is_none() {
        return Ok(None);
    }
    let (call, to) = (Call::own(desk, "a lifecycle policy changed"), desk.heard.to());
    let planned = desk.write("lifecycle_replan", Standard::Ordinary, call, move |writing| {
        Box::pin(async move {
            let Some(at) = lifecycle::next(writing.tx).await? else { return Ok(0) };
            let after = [at.namespace.as_str(), &at.at_name, &at.at_object];
            let rows = object::after(writing.tx, Kind::Agent, &at.namespace, after, AT_ONCE).await?;
            let mut known = Known::begin(writing.tx, to, writing.now).await?;
            known.read(writing.tx, &rows).await?;
            for row in &rows {
                let dues = known.dues(row, &row.declaration()?);
                // What was told before is seen when it is looked at.
                let plan = lifecycle_policy::plan(&dues, writing.now, |_, _| false);
                lifecycle::set_plan(writing.tx, &row.id, plan).await?;
            }
            let is_last = (rows.len() as u64) < AT_ONCE;
            let behind = rows.last().filter(|_| !is_last).map(|row| (row.name.clone(), row.id.clone()));
            lifecycle::went_on(writing.tx, &at.namespace, behind).await?;
            Ok(rows.len() as u64)
        })
    });
    planned.await.map(Some)
}

/// Of how many agents it was looked what is due, and to how many something was done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looked {
    pub(super) at: usize,
    pub(super) done: usize,
}

/// Agents to which the same is done for the same reason.
type Acts = BTreeMap<(String, i32), Vec<String>>;

/// Looks at some agents whose time has come, and does what is due.
pub(super) async fn look_some(desk: &Arc<Desk>) -> Result<Looked, Fault> {
    let (now, to) = (desk.clock.now(), desk.heard.to());
    let read = desk.db.read("lifecycle_due", move |tx| {
        Box::pin(async move {
            let (mut acts, mut rest) = (Acts::new(), Vec::new());
            let mut known = Known::begin(tx, to, now).await?;
            let rows = lifecycle::to_look_at(tx, now.micros(), AT_ONCE).await?;
            known.read(tx, &rows).await?;
            for row in rows {
                let dues = known.dues(&row, &row.declaration()?);
                match now_due(&dues, now) {
                    Some(due) => {
                        let key = (due.reason(&row.namespace), due.action as i32);
                        acts.entry(key).or_default().push(row.id);
                    }
                    None => rest.push(row.id),
                }
            }
            Ok((acts, rest))
        })
    });
    let (acts, rest) = read.await.map_err(of_tx)?;
    let mut looked = Looked { at: rest.len(), done: 0 };
    for ((reason, action), ids) in acts {
        let action = LifecycleAction::try_from(action).unwrap_or_default();
        looked.at += ids.len();
        let done = act(desk, &reason, &ids).await?;
        desk.metrics.lifecycle_done(action, done);
        looked.done += usize::try_from(done).unwrap_or(0);
    }
    if !rest.is_empty() {
        note(desk, rest).await?;
    }
    Ok(looked)
}

/// Does what is due for this reason. Where it cannot be done to all, it is tried with each, and with whom it cannot be done, later.
async fn act(desk: &Arc<Desk>, reason: &str, ids: &[String]) -> Result<u64, Fault> {
    let failed = match act_together(desk, reason, ids.to_vec()).await {
        Err(fault @ (Fault::Refused(_) | Fault::Broken(_))) => fault,
        done => return done,
    };
    if let [id] = ids {
        tracing::error!(fault = %failed, agent = id, reason, "what a lifecycle policy says cannot be done; it is tried again");
        postpone(desk, id).await?;
        return Ok(0);
    }
    let mut done = 0;
    for id in ids {
        done += Box::pin(act(desk, reason, std::slice::from_ref(id))).await?;
    }
    Ok(done)
}

async fn act_together(desk: &Arc<Desk>, reason: &str, ids: Vec<String>) -> Result<u64, Fault> {
    let (call, ids, to) = (Call::own(desk, reason), Arc::new(ids), desk.heard.to());
    desk.write("lifecycle_act", Standard::Stopping, call, move |writing| {
        let ids = Arc::clone(&ids);
        Box::pin(async move {
            let (mut done, mut known) = (0, Known::begin(writing.tx, to, writing.now).await?);
            let rows = object::by_ids(writing.tx, ids.iter().cloned().collect()).await?;
            known.read(writing.tx, &rows).await?;
            for id in ids.iter() {
                // What was done to one above it was done to it.
                let Some(row) = object::by_id(writing.tx, id).await? else { continue };
                let current = row.declaration()?;
                // Somebody may have used, confirmed or stopped it, or changed the policy, since it was seen.
                let dues = known.dues(&row, &current);
                let due = now_due(&dues, writing.now).filter(|due| due.reason(&row.namespace) == writing.by.reason);
                let Some(step) = due.and_then(Due::transition) else { continue };
                Box::pin(transition::take(writing, current, Step::Transition(step))).await?;
                done += 1;
            }
            Ok(done)
        })
    })
    .await
}

async fn postpone(desk: &Arc<Desk>, id: &str) -> Result<(), Fault> {
    let id = id.to_owned();
    desk.write("lifecycle_postpone", Standard::Ordinary, Call::own(desk, "tried again later"), move |writing| {
        let id = id.clone();
        Box::pin(async move { look_later(writing, &id).await })
    })
    .await
}

async fn look_later(writing: &Writing<'_>, id: &str) -> TxResult<(), Fault> {
    let Some(row) = object::by_id(writing.tx, id).await? else { return Ok(()) };
    let at = |micros: i64| Timestamp::from_micros(micros);
    let plan = lifecycle_policy::Plan {
        look_at: Some(writing.now.plus(AGAIN)),
        due_at: row.due_at.map(at),
        attest_at: row.attest_at.map(at),
    };
    lifecycle::set_plan(writing.tx, id, plan).await
}

/// Tells what will be done, and what would have been, each once; and sets when the agents are looked at next.
async fn note(desk: &Arc<Desk>, ids: Vec<String>) -> Result<(), Fault> {
    let (call, ids, to) = (Call::own(desk, "lifecycle policies"), Arc::new(ids), desk.heard.to());
    let noted: u64 = desk
        .write("lifecycle_note", Standard::Ordinary, call, move |writing| {
            let ids = Arc::clone(&ids);
            Box::pin(async move {
                let mut told = lifecycle::told(writing.tx, ids.iter().cloned().collect()).await?;
                let (mut known, mut new) = (Known::begin(writing.tx, to, writing.now).await?, Vec::new());
                let rows = object::by_ids(writing.tx, ids.iter().cloned().collect()).await?;
                known.read(writing.tx, &rows).await?;
                for row in rows {
                    let id = &row.id;
                    let current = row.declaration()?;
                    let dues = known.dues(&row, &current);
                    if now_due(&dues, writing.now).is_some() {
                        // It became due meanwhile, and is done the next time.
                        continue;
                    }
                    if let Some(Object::Agent(agent)) = &current.object {
                        tell(writing, agent, &known.family(id), &dues, &mut told, &mut new);
                    }
                    let was_told = |due: &Due, beforehand| told.contains(&Told::of(id, due, beforehand));
                    let plan = lifecycle_policy::plan(&dues, writing.now, was_told);
                    if plan.look_at.is_some_and(|at| at <= writing.now) {
                        tracing::error!(agent = id, "an agent was looked at, and would be looked at again at once");
                        look_later(writing, id).await?;
                        continue;
                    }
                    lifecycle::set_plan(writing.tx, id, plan).await?;
                }
                let count = new.len() as u64;
                lifecycle::remember(writing.tx, new).await?;
                Ok(count)
            })
        })
        .await?;
    desk.metrics.lifecycle_told(noted);
    Ok(())
}

/// Records what is to be told of an agent and was not.
fn tell(
    writing: &mut Writing<'_>,
    agent: &Agent,
    family: &Family,
    dues: &[Due],
    told: &mut BTreeSet<Told>,
    new: &mut Vec<Told>,
) {
    let id = agent.metadata.as_ref().map(|m| m.id.clone()).unwrap_or_default();
    let now = writing.now;
    for due in dues {
        let (verb, one) = match due.notify_at {
            _ if due.report && due.act_at <= now => ("lifecycle_reported", Told::of(&id, due, false)),
            Some(at) if at <= now => ("lifecycle_due", Told::of(&id, due, true)),
            _ => continue,
        };
        if told.insert(one.clone()) {
            writing.record(convert::lifecycle_event(writing.by, verb, agent, &family.told(), due, now));
            new.push(one);
        }
    }
}
