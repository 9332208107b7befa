//! A change is previewed: the view as it would be, compared with the view as it is, by the same engine that decides.
//!
//! It works on a copy that shares what stays the same, on a thread of its own, few previews at a time, so that no decision
//! waits for it or sees anything of it. It is recorded as `change.previewed`, and never as a decision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_outbox::AUDIT_UNAVAILABLE;
use legate_rpc::{Fault, OPERATOR_NOT_PERMITTED};
use legate_view::{Agent, Snapshot};
use legate_wire::audit;
use legate_wire::policy as wire;
use legate_wire::registry::{Declaration, ObjectName};
use tokio::time::Instant;

use super::asker::{Asker, Right};
use super::asking::fresh;
use super::evaluate::Desk;
use crate::domain::preview::behalf;
use crate::domain::preview::cells::Named;
use crate::domain::preview::compare::{Book, Side, compare};
use crate::domain::preview::fitting::unfit;
use crate::domain::preview::touched::{Touched, touched};
use crate::error::{PREVIEW_BUSY, QUESTION_INVALID, REVISION_NOT_REACHED};

mod exam;
mod findings;
mod groups;

/// Grants of delegation that are compared in one call.
const GRANTS: usize = 2_000;
/// Agents that are compared in one call.
const AGENTS: usize = 10_000;
/// How long a caller who has to wait is told to.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest that one preview takes, whatever its caller allows: others wait for their turn.
const LONGEST: Duration = Duration::from_secs(30);
/// Kept back for the record and the way to the caller.
const TELLING: Duration = Duration::from_millis(700);

/// What is taken for so already, on both sides of a change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base {
    pub(crate) wanted: Vec<Declaration>,
    pub(crate) gone: Vec<ObjectName>,
}

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preview {
    pub(crate) wanted: Vec<Declaration>,
    pub(crate) gone: Vec<ObjectName>,
    pub(crate) at_least_revision: u64,
    /// Whose policy tests are run as well.
    pub(crate) namespaces: BTreeSet<String>,
    pub(crate) base: Base,
}

/// Says what the change would do.
///
/// # Errors
/// When the caller may not ask, the revision does not come, another preview is under way, an object cannot be read or the
/// preview cannot be recorded.
pub(crate) async fn preview(
    desk: &Arc<Desk>,
    asker: &Asker,
    ask: Preview,
) -> Result<wire::PreviewChangeResponse, Fault> {
    let patience = asker.patience(Duration::MAX);
    let _ = desk.view.wait_for(ask.at_least_revision, patience).await;
    let allowed = || -> Result<_, Fault> {
        let (reading, now) = fresh(desk)?;
        let right = asker.right(&reading.snapshot, now)?;
        shown(&right, &ask.wanted, &ask.gone, &ask.namespaces)?;
        shown(&right, &ask.base.wanted, &ask.base.gone, &BTreeSet::new())?;
        let held = reading.snapshot.revision();
        if held < ask.at_least_revision {
            let text = format!("revision {} was asked for, the view holds {held}", ask.at_least_revision);
            return Err(Fault::unavailable(&REVISION_NOT_REACHED, text, AGAIN));
        }
        Ok((reading, now))
    };
    allowed()?;
    let turn = desk.previewing.take(&asker.spiffe_id, asker.patience(Duration::MAX)).await;
    let busy = || Fault::unavailable(&PREVIEW_BUSY, "other previews are being made, or one of the caller's own", AGAIN);
    let turn = turn.ok_or_else(busy)?;
    // What he may see may be less by now.
    let (reading, now) = allowed()?;
    let until = Instant::now() + asker.patience(LONGEST).saturating_sub(TELLING);
    let (snapshot, working) = (Arc::clone(&reading.snapshot), Arc::clone(desk));
    let counted = (ask.wanted.len(), ask.gone.len(), ask.base.wanted.len() + ask.base.gone.len());
    let made = tokio::task::spawn_blocking(move || {
        // The turn ends with the work, also where the caller has left.
        let _turn = turn;
        make(&working, &snapshot, &ask, now, until)
    });
    let (answer, namespaces) = made.await.map_err(Fault::broken)??;
    let mut events = vec![event(asker, &answer, &namespaces, counted, now)];
    events.extend(super::record::broke_glass(desk, asker));
    if let Err(e) = desk.spool.write(events, false).await {
        return Err(Fault::unavailable(&AUDIT_UNAVAILABLE, e.to_string(), AGAIN));
    }
    Ok(answer)
}

/// Refuses a caller who may not read a namespace that the change speaks of.
pub(super) fn shown(
    right: &Right,
    wanted: &[Declaration],
    gone: &[ObjectName],
    namespaces: &BTreeSet<String>,
) -> Result<(), Fault> {
    let spoken_of = touched(wanted, gone).into_keys().chain(namespaces.iter().cloned());
    for namespace in spoken_of.filter(|namespace| !namespace.is_empty()) {
        let name = legate_ids::Name::parse(&namespace).map_err(|e| {
            Fault::refused(&QUESTION_INVALID, format!("namespaces: {e}")).field("namespaces", e.to_string())
        })?;
        if !right.shows(&name) {
            let text = format!("the caller may not read the namespace {namespace}");
            return Err(Fault::refused(&OPERATOR_NOT_PERMITTED, text));
        }
    }
    Ok(())
}

type Made = (wire::PreviewChangeResponse, BTreeSet<String>);

/// Compares, within the time that there is.
fn make(desk: &Desk, in_force: &Snapshot, ask: &Preview, now: Timestamp, until: Instant) -> Result<Made, Fault> {
    let unreadable = |field: &'static str| {
        move |e: legate_view::Unreadable| {
            let text = format!("{} {} cannot be read: {}", e.kind, e.name, e.why);
            Fault::refused(&QUESTION_INVALID, text).field(field, e.why)
        }
    };
    let Base { wanted, gone } = &ask.base;
    let is_based = !wanted.is_empty() || !gone.is_empty();
    let based =
        is_based.then(|| in_force.suppose(wanted, gone, now)).transpose().map_err(unreadable("base_declarations"))?;
    let before = based.as_ref().unwrap_or(in_force);
    let after = before.suppose(&ask.wanted, &ask.gone, now).map_err(unreadable("declarations"))?;
    let touched = touched(&ask.wanted, &ask.gone);
    let mut groups = groups::Groups::default();
    let mut findings = findings::of_agents(before, &after, ask);
    let (mut compared, mut missed, mut coarse) = (0_usize, 0_usize, 0_u32);
    let mut tests = Vec::new();
    let namespaces: BTreeSet<String> = touched.keys().chain(&ask.namespaces).cloned().collect();
    let nobody = Touched::default();
    let affected = affected(before, &after, &touched);
    let is_over = || Instant::now() >= until;
    // A failing test stops a change, so the tests of all come before the time is spent on comparing.
    let mut sides = Vec::with_capacity(namespaces.len());
    for namespace in &namespaces {
        let known = known(desk, in_force, namespace);
        let old = Side { snapshot: before, book: Book::open(before, namespace, known.as_deref()) };
        let new = Side { snapshot: &after, book: Book::open(&after, namespace, known.as_deref()) };
        if let Some(Err(unusable)) = new.book.compiled() {
            findings.policy(namespace, unusable);
        } else {
            findings.unfit(namespace, unfit(before, &after, namespace));
        }
        tests.extend(exam::run(desk, &new, namespace, now, &is_over));
        sides.push((namespace, old, new));
    }
    let mut granted = 0_usize;
    for (namespace, mut old, mut new) in sides {
        if !touched.get(namespace).unwrap_or(&nobody).affects_grants() {
            continue;
        }
        let named = named(&old, &new, namespace);
        for grant in grants(before, &after, namespace) {
            if granted >= GRANTS || is_over() {
                coarse = coarse.saturating_add(1);
                continue;
            }
            granted += 1;
            let sides = (&mut old, &mut new);
            let found = behalf::compare(&desk.bench, sides, (namespace, &grant), &named, now, &is_over);
            coarse = coarse.saturating_add(found.coarse);
            groups.add(namespace, (&found.agent, &found.subject), found.all);
        }
        for pair in affected.get(namespace).into_iter().flatten() {
            if compared >= AGENTS || is_over() {
                missed += 1;
                continue;
            }
            compared += 1;
            let sides = (&mut old, &mut new);
            let differences = compare(&desk.bench, sides, (pair.old, pair.new), &named, now, &is_over);
            coarse = coarse.saturating_add(differences.coarse);
            findings.cuts(namespace, pair.either(), &differences.cuts);
            // One that is new is found to wait for its approver.
            findings.unapproved(&after, pair.old.and(pair.new), &differences.all);
            let name = pair.either().map_or("", |agent| agent.label.name.as_str());
            groups.add(namespace, (name, ""), differences.all);
        }
    }
    let (changes, more) = groups.told();
    let (findings, still_more) = findings.told();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let answer = wire::PreviewChangeResponse {
        changes,
        findings,
        tests,
        revision: in_force.revision(),
        agents_compared: count(compared),
        agents_not_compared: count(missed),
        left_out: count(more).saturating_add(count(still_more)).saturating_add(coarse),
    };
    Ok((answer, namespaces))
}

/// What the library has compiled of a namespace, to spare parsing it again.
fn known(desk: &Desk, snapshot: &Snapshot, namespace: &str) -> Option<Arc<crate::domain::policies::Compiled>> {
    let declared = snapshot.policies(namespace)?;
    let name = legate_ids::Name::parse(namespace).ok()?;
    desk.library.find(&name, declared)?.ok()
}

fn named(old: &Side<'_>, new: &Side<'_>, namespace: &str) -> Named {
    let mut named = Named::default();
    for side in [old, new] {
        if let Some(Ok(compiled)) = side.book.compiled() {
            named.add(compiled);
        }
        named.add_points(side.snapshot, namespace);
    }
    named
}

/// The grants of a namespace on either side, by name.
fn grants(before: &Snapshot, after: &Snapshot, namespace: &str) -> BTreeSet<String> {
    let of = |snapshot: &Snapshot| -> Vec<String> {
        let agents = snapshot.agents().filter(|agent| agent.label.namespace.as_str() == namespace);
        let grants = agents.flat_map(|agent| snapshot.delegation_grants_to(agent));
        grants.map(|grant| grant.label.name.to_string()).collect()
    };
    of(before).into_iter().chain(of(after)).collect()
}

/// An agent on both sides.
#[derive(Clone, Copy, Debug)]
struct Pair<'a> {
    old: Option<&'a Agent>,
    new: Option<&'a Agent>,
}

impl Pair<'_> {
    /// The agent as it will be, or as it was.
    fn either(&self) -> Option<&Agent> {
        self.new.or(self.old)
    }
}

/// The agents that could be affected, by namespace and in the order of their names.
fn affected<'a>(
    before: &'a Snapshot,
    after: &'a Snapshot,
    touched: &BTreeMap<String, Touched>,
) -> BTreeMap<String, Vec<Pair<'a>>> {
    let mut all: BTreeMap<String, BTreeMap<&str, Pair<'a>>> = BTreeMap::new();
    let is_there = |agent: &Agent| agent.state != legate_view::AgentState::Retired;
    let mut take = |snapshot: &'a Snapshot, is_new: bool| {
        for agent in snapshot.agents().filter(|agent| is_there(agent)) {
            let namespace = agent.label.namespace.as_str();
            if !touched.get(namespace).is_some_and(|touched| touched.affects(snapshot, agent)) {
                continue;
            }
            let (namespace, name) = (namespace.to_owned(), agent.label.name.as_str());
            let pair = all.entry(namespace).or_default().entry(name).or_insert(Pair { old: None, new: None });
            let side = if is_new { &mut pair.new } else { &mut pair.old };
            *side = Some(agent);
        }
    };
    if touched.values().all(Touched::is_nobody) {
        return BTreeMap::new();
    }
    take(before, false);
    take(after, true);
    let whole = |(namespace, agents): (String, BTreeMap<&str, Pair<'a>>)| {
        let pairs = agents.into_iter().map(|(name, pair)| Pair {
            // Affected on one side is looked at on both.
            old: pair.old.or_else(|| before.agent_named(&namespace, name).map(|agent| &**agent)),
            new: pair.new.or_else(|| after.agent_named(&namespace, name).map(|agent| &**agent)),
        });
        let pairs = pairs.collect();
        (namespace, pairs)
    };
    all.into_iter().map(whole).collect()
}

fn event(
    asker: &Asker,
    answer: &wire::PreviewChangeResponse,
    namespaces: &BTreeSet<String>,
    (wanted, gone, supposed): (usize, usize, usize),
    now: Timestamp,
) -> audit::AuditEvent {
    let failed = answer.tests.iter().filter(|test| !test.passed).count();
    let namespace = match (namespaces.len(), namespaces.first()) {
        (1, Some(only)) => only.clone(),
        _ => String::new(),
    };
    let details = [
        ("namespaces", super::record::cut(namespaces.iter().cloned().collect::<Vec<_>>().join(" "))),
        ("declarations", wanted.to_string()),
        ("removals", gone.to_string()),
        ("supposed", supposed.to_string()),
        ("agents_compared", answer.agents_compared.to_string()),
        ("changes", answer.changes.len().to_string()),
        ("tests_failed", failed.to_string()),
    ];
    let mut details: BTreeMap<String, String> = details.map(|(name, text)| (name.to_owned(), text)).into();
    details.extend(asker.emergency.as_deref().map(|why| ("emergency".to_owned(), why.to_owned())));
    audit::AuditEvent {
        time: Some(now.into()),
        r#type: "change.previewed".to_owned(),
        namespace,
        actor: asker.spiffe_id.clone(),
        outcome: audit::Outcome::Success.into(),
        revision: answer.revision,
        trace_id: asker.trace_id.clone(),
        span_id: asker.span_id.clone(),
        details,
        ..audit::AuditEvent::default()
    }
}
