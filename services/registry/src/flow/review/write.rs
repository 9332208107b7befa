//! What was decided is written: the items about one thing at a time, as an apply writes, each with its audit event.
//!
//! What is written is marked in the same transaction, so whoever dies in between goes on after it.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_view::Snapshot;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentState, ChangeAction, Declaration, DeclarationChange, DelegationGrant, Kind, Remediation, RemediationState,
    Review, ReviewDecision, ReviewItem, ReviewState, ReviewedThing, Role,
};

use super::compare::{Around, group_of};
use super::givers::{Given, givers};
use crate::convert;
use crate::domain::delegation::Grant;
use crate::domain::diff;
use crate::domain::kind::{self, Key};
use crate::domain::lifecycle::{self, Transition};
use crate::domain::review::{self as domain, Cut, Done, Remedy};
use crate::flow::hands::Hands;
use crate::flow::transition::{self, Step};
use crate::flow::write::Writing;
use crate::flow::{leave, stage};
use crate::store::review::{self, Model};
use crate::store::{broken, declarer, object, reference, refuse, review_item};

/// Items in one transaction: as many as say something of one thing.
const AT_ONCE: u64 = 64;
/// Certified items in one transaction, of which nothing is written but what has become more.
const SETTLED: u64 = 500;
/// What a preview tells.
pub(super) const TOLD: usize = 1_000;
/// All that there are.
const ALL: u64 = u64::MAX >> 1;
/// The most bytes of a text in an item.
const LONGEST: usize = 1_024;

/// How a piece is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// The items about one thing together.
    Together,
    /// The next item alone, since together they were refused.
    Alone,
    /// The next item not at all, since it was refused for this.
    Failed(String),
}

/// Settles some of what was certified, and then writes some of what was decided; after the last of it the round is CLOSED.
pub(super) async fn some(writing: &mut Writing<'_>, mut round: Model, how: &How) -> TxResult<(), Fault> {
    if settle_certified(writing, &round).await? {
        return Ok(());
    }
    let limit = if *how == How::Together { AT_ONCE } else { 1 };
    let mut rows = review_item::to_write(writing.tx, &round.id, (0, "", 0), limit).await?;
    let Some(first) = rows.first().map(|row| (row.reviewed, row.granted_id.clone())) else {
        let mut body = round.review()?;
        round.state = ReviewState::Closed.into();
        (body.state, body.end_time) = (round.state, Some(writing.now.into()));
        let progress = review_item::progress(writing.tx, vec![round.id.clone()]).await?;
        let progress = progress.into_values().next().unwrap_or_default();
        round.unverified = progress.items > 0;
        let said = vec![
            ("remediated", progress.remediated.to_string()),
            ("failed", progress.failed.to_string()),
            ("outgrown", progress.outgrown.to_string()),
        ];
        writing.record(convert::review_event(writing.by, "ended", &body, said, writing.now));
        return review::update(writing.tx, &mut round, &body).await;
    };
    rows.retain(|row| (row.reviewed, &row.granted_id) == (first.0, &first.1));
    let review = round.review()?;
    let mut items = rows.iter().map(review_item::Model::item).collect::<TxResult<Vec<_>, Fault>>()?;
    for item in items.iter_mut().filter(|item| item.decision() == ReviewDecision::Unspecified) {
        // Nobody decided, and that is what it comes to.
        item.decision = ReviewDecision::Revoke.into();
        item.decide_time = review.close_time;
        item.decide_reason = "nobody decided in time".to_owned();
    }
    let done = match how {
        How::Failed(why) => items.iter().map(|_| Done::Failed(why.clone())).collect(),
        How::Together | How::Alone => Box::pin(change(writing, &items)).await?,
    };
    for ((row, mut item), done) in rows.iter_mut().zip(items).zip(done) {
        let (state, told, reduced_to) = match done {
            Done::NotNeeded(told) => (RemediationState::NotNeeded, told, String::new()),
            Done::Changed(told, reduced_to) => (RemediationState::Applied, told, reduced_to),
            Done::Failed(told) => (RemediationState::Failed, told, String::new()),
        };
        let of = Remediation { state: state.into(), told, reduced_to, ..Remediation::default() };
        record(writing, &review, row, &mut item, of)?;
    }
    review_item::update(writing.tx, rows).await
}

/// Of some of what was certified nothing has to come; whether there was any left. What the agent has become more of since is told, and
/// not taken for certified: nobody decided about that.
async fn settle_certified(writing: &mut Writing<'_>, round: &Model) -> TxResult<bool, Fault> {
    let rows = review_item::certified(writing.tx, &round.id, SETTLED).await?;
    if rows.is_empty() {
        return Ok(false);
    }
    let review = round.review()?;
    let items = rows.iter().map(review_item::Model::item).collect::<TxResult<Vec<_>, Fault>>()?;
    let around = Around::of(writing.tx, &items).await?;
    let (mut settled, mut outgrown) = (Vec::new(), Vec::new());
    for (mut row, mut item) in rows.into_iter().zip(items) {
        let changes = around.changes(&item);
        if !changes.is_more {
            settled.push(row.id);
            continue;
        }
        let told = format!("it was certified, and since then {}", changes.told.join("; "));
        let of = Remediation { state: RemediationState::Outgrown.into(), told, ..Remediation::default() };
        record(writing, &review, &mut row, &mut item, of)?;
        outgrown.push(row);
    }
    review_item::settle(writing.tx, settled).await?;
    review_item::update(writing.tx, outgrown).await?;
    Ok(true)
}

/// Notes on an item what came of it, with its event.
fn record(
    writing: &mut Writing<'_>,
    review: &Review,
    row: &mut review_item::Model,
    item: &mut ReviewItem,
    of: Remediation,
) -> TxResult<(), Fault> {
    let (state, event_id) = (of.state(), writing.desk.event_id().map_err(refuse)?.to_string());
    item.remediation = Some(Remediation {
        revision: if state == RemediationState::Applied { writing.revision() } else { 0 },
        time: Some(writing.now.into()),
        event_id: event_id.clone(),
        told: cut(of.told.clone()),
        ..of
    });
    row.take(item);
    let mut event = convert::review_item_event(writing.by, "remediated", review, item, writing.now);
    event.event_id = event_id;
    writing.record(event);
    writing.desk.metrics.review_remediated(state);
    Ok(())
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST - 3));
        text += "...";
    }
    text
}

/// Makes the change that items about one thing ask for; what comes of each, in their order.
async fn change(writing: &mut Writing<'_>, items: &[ReviewItem]) -> TxResult<Vec<Done>, Fault> {
    let Some(first) = items.first() else { return Ok(Vec::new()) };
    match first.reviewed() {
        ReviewedThing::RoleBinding => {
            let Some((current, remedy)) = binding(writing.tx, items).await? else { return Ok(gone(items)) };
            declare(writing, remedy.parts).await?;
            remember_givers(writing.tx, items, &remedy.done).await?;
            if let Some(narrowed) = remedy.narrowed {
                narrow(writing, &current, narrowed).await?;
            }
            if remedy.is_over {
                writing.take_back(current, "revoked").await?;
            }
            Ok(remedy.done)
        }
        ReviewedThing::DelegationGrant => grant(writing, items).await,
        ReviewedThing::AgentClass => {
            let mut done = Vec::with_capacity(items.len());
            for item in items {
                done.push(match suspendable(writing.tx, item).await? {
                    Ok(agent) => {
                        Box::pin(transition::take(writing, agent, Step::Transition(Transition::Suspend))).await?;
                        Done::Changed("the agent is suspended".to_owned(), String::new())
                    }
                    Err(why) => Done::NotNeeded(why),
                });
            }
            Ok(done)
        }
        ReviewedThing::Unspecified => Err(broken("an item about nothing")),
    }
}

fn gone(items: &[ReviewItem]) -> Vec<Done> {
    items.iter().map(|_| Done::NotNeeded("it is no longer in force".to_owned())).collect()
}

/// Writes an object that gives less than it did. What it names beside that, such as a person who has just left, is no reason to
/// refuse it: whoever was to lose something would keep it.
async fn narrow(writing: &mut Writing<'_>, before: &Declaration, after: Declaration) -> TxResult<(), Fault> {
    let fields = diff::diff(Some(before), &after);
    writing.put(after, Some(before), "updated", &fields).await?;
    Ok(())
}

/// Writes new objects as an apply does: read, held against what is there, put.
async fn declare(writing: &mut Writing<'_>, wanted: Vec<Declaration>) -> TxResult<(), Fault> {
    if wanted.is_empty() {
        return Ok(());
    }
    let list = stage::read(wanted).map_err(refuse)?;
    let by = writing.by;
    let staged = stage::stage(writing.tx, &list, writing.now, &by.actor, &by.reason).await?;
    stage::put(writing, &staged).await?;
    Ok(())
}

/// What stays of a binding is the work of those whose work the binding was: that the registry writes it gives them no say about it.
async fn remember_givers(tx: &Tx, items: &[ReviewItem], done: &[Done]) -> TxResult<(), Fault> {
    let mut hands = Hands::default();
    for (item, done) in items.iter().zip(done) {
        let Done::Changed(_, part) = done else { continue };
        if part.is_empty() {
            continue;
        }
        let key = |kind, name: &str| Key::new(kind, &item.namespace, name);
        let [role, group] = [key(Kind::Role, &item.role), key(Kind::Group, &item.group)];
        let role = object::by_key(tx, &role).await?;
        let group = object::by_key(tx, &group).await?.map(|row| row.declaration()).transpose()?;
        let agent = object::by_id(tx, &item.agent_id).await?.map(|row| row.declaration()).transpose()?;
        let given = Given {
            reviewed: ReviewedThing::RoleBinding,
            agent: agent.as_ref(),
            granted_id: &item.granted_id,
            role_id: role.as_ref().map(|row| row.id.as_str()),
            group: group.as_ref(),
            ..Given::default()
        };
        let mut givers = givers(tx, &mut hands, &given).await?;
        givers.extend(hands.last(tx, &item.granted_id, &item.granted_by).await?);
        for kind in [Kind::Role, Kind::RoleBinding] {
            if let Some(row) = object::by_key(tx, &key(kind, part)).await? {
                declarer::add(tx, &row.id, givers.clone()).await?;
            }
        }
    }
    Ok(())
}

/// The object that an item is about, where it is in force still.
async fn in_force(tx: &Tx, id: &str) -> TxResult<Option<Declaration>, Fault> {
    match object::by_id(tx, id).await? {
        Some(row) if row.holds_name => Ok(Some(row.declaration()?)),
        _ => Ok(None),
    }
}

/// What becomes of a binding; `None` where it is gone.
async fn binding(tx: &Tx, items: &[ReviewItem]) -> TxResult<Option<(Declaration, Remedy)>, Fault> {
    let Some(first) = items.first() else { return Ok(None) };
    let Some(current) = in_force(tx, &first.granted_id).await? else { return Ok(None) };
    let Some(Object::RoleBinding(of)) = &current.object else { return Err(broken("a binding's row holds none")) };
    let namespace = &first.namespace;
    let spec = of.spec.clone().unwrap_or_default();
    let mut keys: BTreeSet<Key> = spec.groups.iter().map(|name| Key::new(Kind::Group, namespace, name)).collect();
    keys.insert(Key::new(Kind::Role, namespace, &spec.role));
    keys.insert(Key::new(Kind::Namespace, "", namespace));
    let mut around = Vec::new();
    let mut role = Role::default();
    for row in object::by_keys(tx, keys).await?.into_values() {
        let declaration = row.declaration()?;
        if let Some(Object::Role(of)) = &declaration.object {
            role = of.clone();
        }
        around.push(declaration);
    }
    let ids = items.iter().map(|item| item.agent_id.clone()).collect();
    let mut there = BTreeSet::new();
    for row in object::by_ids(tx, ids).await?.into_iter().filter(|row| row.holds_name) {
        there.insert((row.id.clone(), row.name.clone()));
        around.push(row.declaration()?);
    }
    let seen = Snapshot::of(&around).map_err(broken)?;
    let cuts: Vec<Cut<'_>> = items
        .iter()
        .map(|item| Cut {
            item,
            is_there: there.contains(&(item.agent_id.clone(), item.agent.clone())),
            is_in_group: group_of(&seen, of, item).is_some(),
        })
        .collect();
    let remedy = domain::of_binding(of, &role, &cuts);
    Ok(Some((current, remedy)))
}

/// Takes a grant back with whatever passes on a part of it, or narrows it; what then would go beyond it is taken back.
async fn grant(writing: &mut Writing<'_>, items: &[ReviewItem]) -> TxResult<Vec<Done>, Fault> {
    let mut done = Vec::with_capacity(items.len());
    // A grant is one agent's, so there is one of them.
    for item in items {
        let Some(current) = in_force(writing.tx, &item.granted_id).await? else {
            done.extend(gone(std::slice::from_ref(item)));
            continue;
        };
        let Some(Object::DelegationGrant(of)) = &current.object else { return Err(broken("a grant's row holds none")) };
        let Some(narrowed) = domain::narrowed(of, item) else {
            Box::pin(leave::take_back(writing, current)).await?;
            done.push(Done::Changed("the grant is taken back".to_owned(), String::new()));
            continue;
        };
        // What came to it beside its permissions stays, and is told.
        let changes = Around::of(writing.tx, [item]).await?.changes(item);
        let beyond = beyond(writing.tx, &current, &narrowed).await?;
        let count = beyond.len();
        for one in beyond {
            if let Some(one) = in_force(writing.tx, &id_of(&one)).await? {
                Box::pin(leave::take_back(writing, one)).await?;
            }
        }
        narrow(writing, &current, Declaration { object: Some(Object::DelegationGrant(narrowed)) }).await?;
        let more = if count == 0 { String::new() } else { format!(", and {count} that went beyond it are taken back") };
        let since = if changes.is_more {
            format!("; since it was reviewed {}", changes.told.join("; "))
        } else {
            String::new()
        };
        done.push(Done::Changed(format!("the grant is narrowed{more}{since}"), String::new()));
    }
    Ok(done)
}

fn id_of(declaration: &Declaration) -> String {
    declaration.metadata().map(|m| m.id.clone()).unwrap_or_default()
}

/// The grants that pass on a part of one, and would go beyond it once it is narrowed.
async fn beyond(tx: &Tx, current: &Declaration, narrowed: &DelegationGrant) -> TxResult<Vec<Declaration>, Fault> {
    let Some(key) = kind::key_of(current) else { return Ok(Vec::new()) };
    let narrowed = Declaration { object: Some(Object::DelegationGrant(narrowed.clone())) };
    let Some(parent) = Grant::read(&narrowed) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for id in reference::from(tx, &key, ALL).await? {
        let Some(child) = in_force(tx, &id).await? else { continue };
        let is_within = Grant::read(&child).is_some_and(|child| child.keeps_within(&[&parent]).is_ok());
        if child.kind() == Some(Kind::DelegationGrant) && !is_within {
            found.push(child);
        }
    }
    Ok(found)
}

/// The agent whose class is taken from it, or why there is nothing to do.
async fn suspendable(tx: &Tx, item: &ReviewItem) -> TxResult<Result<Declaration, String>, Fault> {
    let Some(current) = in_force(tx, &item.agent_id).await? else {
        return Ok(Err("the agent is retired".to_owned()));
    };
    let Some(Object::Agent(agent)) = &current.object else { return Err(broken("an agent's row holds no agent")) };
    let class = agent.spec.as_ref().map(|spec| spec.agent_class.as_str()).unwrap_or_default();
    let state = lifecycle::state_of(agent);
    Ok(if class != item.granted {
        Err(format!("the agent is of the class {class} now"))
    } else if state != AgentState::Active {
        Err(format!("the agent is {}", lifecycle::state_name(state)))
    } else {
        Ok(current)
    })
}

/// What closing a round would change.
#[derive(Debug, Default)]
pub(super) struct Preview {
    pub(super) changes: Vec<DeclarationChange>,
    pub(super) suspended: Vec<String>,
    pub(super) is_cut: bool,
}

/// Says what closing a round now would change, item by item as it would be written.
pub(super) async fn preview(tx: &Tx, round: &Model, now: Timestamp, actor: &str) -> TxResult<Preview, Fault> {
    let mut told = Preview::default();
    let mut after = (0, String::new(), 0);
    loop {
        let rows = review_item::to_write(tx, &round.id, (after.0, &after.1, after.2), AT_ONCE).await?;
        let Some(last) = rows.last() else { return Ok(told) };
        after = (last.reviewed, last.granted_id.clone(), last.place);
        let mut things: BTreeMap<(i32, String), Vec<ReviewItem>> = BTreeMap::new();
        for row in &rows {
            things.entry((row.reviewed, row.granted_id.clone())).or_default().push(row.item()?);
        }
        for items in things.into_values() {
            told.add(tx, &items, now, actor).await?;
        }
        if told.changes.len() > TOLD || told.suspended.len() > TOLD {
            told.changes.truncate(TOLD);
            told.suspended.truncate(TOLD);
            told.is_cut = true;
            return Ok(told);
        }
    }
}

impl Preview {
    async fn add(&mut self, tx: &Tx, items: &[ReviewItem], now: Timestamp, actor: &str) -> TxResult<(), Fault> {
        let Some(first) = items.first() else { return Ok(()) };
        match first.reviewed() {
            ReviewedThing::RoleBinding => {
                let Some((current, remedy)) = binding(tx, items).await? else { return Ok(()) };
                if remedy.is_over {
                    self.changes.push(removed(&current));
                }
                self.changes.extend(remedy.narrowed.map(|narrowed| changed(&current, &narrowed)));
                self.staged(tx, remedy.parts, now, actor).await?;
            }
            ReviewedThing::DelegationGrant => {
                for item in items {
                    let Some(current) = in_force(tx, &item.granted_id).await? else { continue };
                    let Some(Object::DelegationGrant(of)) = &current.object else { continue };
                    let Some(of) = domain::narrowed(of, item) else {
                        self.changes.push(removed(&current));
                        continue;
                    };
                    self.changes.extend(beyond(tx, &current, &of).await?.iter().map(removed));
                    let narrowed = Declaration { object: Some(Object::DelegationGrant(of)) };
                    self.changes.push(changed(&current, &narrowed));
                }
            }
            ReviewedThing::AgentClass => {
                for item in items {
                    self.suspended.extend(suspendable(tx, item).await?.ok().map(|_| item.agent.clone()));
                }
            }
            ReviewedThing::Unspecified => {}
        }
        Ok(())
    }

    async fn staged(&mut self, tx: &Tx, wanted: Vec<Declaration>, now: Timestamp, actor: &str) -> TxResult<(), Fault> {
        if wanted.is_empty() {
            return Ok(());
        }
        let list = stage::read(wanted).map_err(refuse)?;
        let staged = stage::stage(tx, &list, now, actor, "").await;
        match staged {
            Ok(staged) => self.changes.extend(staged.iter().map(|one| one.told(None))),
            // It is told as failed once it is written; a preview is for the rest.
            Err(legate_db::TxError::Flow(Fault::Refused(_))) => self.is_cut = true,
            Err(other) => return Err(other),
        }
        Ok(())
    }
}

/// What changes, as a plan tells it.
fn changed(before: &Declaration, after: &Declaration) -> DeclarationChange {
    let fields = diff::diff(Some(before), after);
    DeclarationChange { action: ChangeAction::Updated.into(), fields, ..removed(before) }
}

/// What is taken back, as a plan tells it.
fn removed(declaration: &Declaration) -> DeclarationChange {
    let metadata = declaration.metadata().cloned().unwrap_or_default();
    DeclarationChange {
        action: ChangeAction::Removed.into(),
        kind: declaration.kind().unwrap_or_default().into(),
        namespace: metadata.namespace,
        name: metadata.name,
        id: metadata.id,
        fields: Vec::new(),
    }
}
