//! Recorded decisions are made once more, each by the state of the registry and at the moment of its record: a page of the log at a
//! time, and revision by revision.
//!
//! What was decided, and by what, is kept in two places that do not know each other: the log and the registry's history. Where they
//! do not agree, one of them is wrong, or the engine was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{AgentId, Name};
use legate_rpc::{Fault, OPERATOR_NOT_PERMITTED};
use legate_wire::audit::{AuditEvent, QueryEventsRequest};
use legate_wire::policy as wire;
use legate_wire::registry::AsOf;
use legate_wire::registry::as_of::At;

use super::asker::{Asker, Right};
use super::asking::{AGAIN, Seat, seat, told};
use super::evaluate::{Desk, Policies};
use super::past::{self, Past, Whom};
use super::{record, recorded};
use crate::convert;
use crate::domain::answer::{Cause, CauseKind};
use crate::domain::preview::compare::{Book, Side};
use crate::domain::preview::outlook::On;
use crate::domain::replayed::{Again, Recorded, again};
use crate::error::{PAST_UNAVAILABLE, REVISION_COMPACTED, REVISION_UNKNOWN};

/// Records of one answer: each may be of a revision of its own.
const OF_A_PAGE: u32 = 200;
/// The longest that one answer takes.
const LONGEST: Duration = Duration::from_secs(20);
/// What unsure ones hang on is told so often.
const HANGING: usize = 50;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    pub(crate) namespace: Name,
    pub(crate) agent: Option<AgentId>,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) page_token: String,
    /// Everything that was asked, for which a page token is good.
    pub(crate) said: String,
}

/// A record, and where it stands in the log.
type Placed = (u64, AuditEvent);

/// Says which recorded decisions are not what the registry's history makes of them.
///
/// # Errors
/// When the caller may not, the token is not of this question, the log or the past cannot be read, others ask already, or it cannot
/// be recorded.
#[tracing::instrument(skip_all, fields(legate.namespace = %ask.namespace))]
pub(crate) async fn replay(desk: &Arc<Desk>, asker: &Asker, ask: Replay) -> Result<wire::ReplayResponse, Fault> {
    let question = ["replay".to_owned(), asker.spiffe_id.clone(), ask.said.clone()];
    let question: Vec<&str> = question.iter().map(String::as_str).collect();
    let place = desk.pages.read(&question, &ask.page_token)?.unwrap_or_default();
    let Seat { right, turn, until, .. } = seat(desk, asker, 0, LONGEST, |right| may(right, &ask.namespace)).await?;
    // The turn ends with the work, also where the caller has left.
    let turn = Arc::new(turn);
    let records = QueryEventsRequest {
        r#type: "decision.made".to_owned(),
        namespace: ask.namespace.to_string(),
        agent_id: ask.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        from_time: Some(ask.from.into()),
        to_time: Some(ask.to.into()),
        page_size: OF_A_PAGE,
        page_token: place,
        ..QueryEventsRequest::default()
    };
    let page = recorded::page(desk, records, until).await?;
    let next = page.next_page_token;
    let mut by_revision: BTreeMap<u64, Vec<Placed>> = BTreeMap::new();
    for one in page.events {
        let Some(event) = one.event else { continue };
        by_revision.entry(event.revision).or_default().push((one.leaf_index, event));
    }
    let mut answer = wire::ReplayResponse::default();
    let domain = recorded::trust_domain(&asker.spiffe_id);
    for (revision, events) in by_revision {
        answer.decisions += events.len() as u64;
        let as_of = AsOf { at: Some(At::Revision(revision)) };
        let patience = until.saturating_duration_since(tokio::time::Instant::now());
        let past = match past::read(&desk.archive, &right, &whom(&events), as_of, patience).await {
            Ok(past) => Some(past),
            Err(fault) if fault.reason() == REVISION_COMPACTED.name => {
                answer.not_kept += events.len() as u64;
                continue;
            }
            // An answer by a view that was not in place names revision 0; others name one that the history has.
            Err(fault) if revision == 0 || fault.reason() == REVISION_UNKNOWN.name => None,
            Err(fault) => return Err(fault),
        };
        answer.revisions += 1;
        let (working, domain, turn) = (Arc::clone(desk), domain.clone(), Arc::clone(&turn));
        let made = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let is_over = || tokio::time::Instant::now() >= until;
            each(&working, past.as_ref(), &events, &domain, &is_over)
        });
        add(&mut answer, made.await.map_err(Fault::broken)??);
    }
    let details = [("decisions", answer.decisions.to_string()), ("differ", answer.differ.to_string())];
    let revision = desk.view.current().revision();
    let event = record::searched(asker, ask.namespace.as_str(), revision, desk.clock.now(), details);
    told(desk, asker, AuditEvent { r#type: "decisions.replayed".to_owned(), ..event }).await?;
    desk.metrics.asked("replay");
    answer.next_page_token = if next.is_empty() { next } else { desk.pages.after(&question, &next) };
    Ok(answer)
}

fn may(right: &Right, namespace: &Name) -> Result<(), Fault> {
    if right.shows(namespace) {
        return Ok(());
    }
    let text = format!("the caller may not read the namespace {namespace}");
    Err(Fault::refused(&OPERATOR_NOT_PERMITTED, text))
}

/// Whose state the records rest on.
fn whom(events: &[Placed]) -> Whom {
    let agents: BTreeSet<AgentId> = events.iter().filter_map(|(_, e)| AgentId::parse(&e.agent_id).ok()).collect();
    Whom { agents, is_on_behalf: events.iter().any(|(_, event)| !event.chain.is_empty()), with_points: false }
}

/// Makes each decision of one revision once more; `past` is `None` where the history has no such revision.
fn each(
    desk: &Desk,
    past: Option<&Past>,
    events: &[Placed],
    domain: &str,
    is_over: &dyn Fn() -> bool,
) -> Result<wire::ReplayResponse, Fault> {
    let namespace = events.first().map(|(_, event)| event.namespace.as_str()).unwrap_or_default();
    let mut side = past.map(|past| {
        let compiled = match &past.policies {
            Policies::Ready(compiled) => Some(&**compiled),
            Policies::None | Policies::Unusable(_) => None,
        };
        Side { snapshot: &past.snapshot, book: Book::open(&past.snapshot, namespace, compiled) }
    });
    let mut answer = wire::ReplayResponse::default();
    for (leaf_index, event) in events {
        if is_over() {
            let late = "there was no time to replay this page; ask with a longer deadline";
            return Err(Fault::unavailable(&PAST_UNAVAILABLE, late, AGAIN));
        }
        let time = event.time.and_then(|time| Timestamp::try_from(time).ok());
        let (Some(recorded), Some(time)) = (recorded::read(event, domain), time) else {
            answer.not_judged += 1;
            continue;
        };
        let outcome = match &mut side {
            Some(side) => again(&desk.bench, side, &recorded, time),
            None if recorded.denial == "UNDECIDED" => Again::NotJudged,
            None => Again::Differs(vec![Cause::plain(CauseKind::View, "the registry's history has no such revision")]),
        };
        match outcome {
            Again::Same => answer.same += 1,
            Again::NotJudged => answer.not_judged += 1,
            Again::Unsure(on) => {
                answer.unsure += 1;
                hang(&mut answer.unsure_on, on.iter().map(|On { cause, .. }| convert::reason(cause)));
            }
            Again::Differs(causes) => {
                answer.differ += 1;
                answer.differing.push(differing(past, (*leaf_index, event), recorded, &causes));
            }
        }
    }
    Ok(answer)
}

fn differing(
    past: Option<&Past>,
    (leaf_index, event): (u64, &AuditEvent),
    recorded: Recorded,
    causes: &[Cause],
) -> wire::ReplayedDecision {
    let agent = AgentId::parse(&recorded.agent).ok().and_then(|id| past?.snapshot.agent(&id).cloned());
    let said = |allowed| if allowed { wire::Decision::Allow } else { wire::Decision::Deny };
    wire::ReplayedDecision {
        decision_id: event.decision.as_ref().map(|decision| decision.decision_id.clone()).unwrap_or_default(),
        leaf_index,
        time: event.time,
        revision: event.revision,
        agent_id: recorded.agent,
        namespace: event.namespace.clone(),
        name: agent.map(|agent| agent.label.name.to_string()).unwrap_or_default(),
        action: recorded.action,
        resource_type: recorded.kind,
        resource_id: recorded.id,
        subject: recorded.subject,
        recorded: said(recorded.allowed).into(),
        recorded_reason_code: recorded.word,
        replayed: said(!recorded.allowed).into(),
        reasons: causes.iter().map(convert::reason).collect(),
    }
}

/// Adds to what unsure ones hang on, each once.
fn hang(all: &mut Vec<wire::Reason>, more: impl IntoIterator<Item = wire::Reason>) {
    for one in more {
        if all.len() < HANGING && !all.contains(&one) {
            all.push(one);
        }
    }
}

fn add(whole: &mut wire::ReplayResponse, part: wire::ReplayResponse) {
    whole.same += part.same;
    whole.differ += part.differ;
    whole.unsure += part.unsure;
    whole.not_judged += part.not_judged;
    whole.differing.extend(part.differing);
    hang(&mut whole.unsure_on, part.unsure_on);
}
