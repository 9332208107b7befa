//! A change is tried on recorded decisions: which of them would come out otherwise, a page of the audit log at a time.
//!
//! The records come from audit-collector, which is lower in the order of calls; the own spool holds only what is not there yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_rpc::Fault;
use legate_view::Snapshot;
use legate_wire::audit::{AuditEvent, QueryEventsRequest};
use legate_wire::policy as wire;
use legate_wire::registry::{Declaration, ObjectName};
use prost::Message;

use super::asker::Asker;
use super::asking::{Seat, known, seat, told};
use super::evaluate::Desk;
use super::preview::shown;
use super::{record, recorded};
use crate::convert;
use crate::domain::preview::compare::{Book, Side};
use crate::domain::preview::fitting::{TOLD as TOLD_UNFIT, unfit};
use crate::domain::preview::outlook::On;
use crate::domain::preview::touched::{Touched, touched};
use crate::domain::replayed::{Fate, Recorded, fate};
use crate::error::QUESTION_INVALID;

/// Records of one page of the log.
const OF_A_PAGE: u32 = 1_000;
/// Pages of the log that are read for one answer.
const PAGES: usize = 8;
/// Bytes of records that are held for one answer: the page of the log that reaches them is the last.
const BYTES: usize = 32 << 20;
/// Flips that are told.
const TOLD: usize = 100;
/// The longest that one page takes.
const LONGEST: Duration = Duration::from_secs(20);

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Simulate {
    pub(crate) wanted: Vec<Declaration>,
    pub(crate) gone: Vec<ObjectName>,
    pub(crate) window: Duration,
    pub(crate) page_token: String,
    pub(crate) at_least_revision: u64,
    /// Everything that was asked, for which a page token is good.
    pub(crate) said: String,
}

/// Where a page begins: in which namespace, within which time, and after what of the log.
#[derive(Clone, Debug)]
struct Place {
    namespace: usize,
    from: Timestamp,
    to: Timestamp,
    token: String,
}

impl Place {
    fn parse(text: &str) -> Result<Self, Fault> {
        let broken = || Fault::broken("an authentic page token names no place");
        let parts: Vec<&str> = text.splitn(4, ' ').collect();
        let [namespace, from, to, token] = parts[..] else { return Err(broken()) };
        let micros = |text: &str| text.parse().map(Timestamp::from_micros).map_err(|_| broken());
        let namespace = namespace.parse().map_err(|_| broken())?;
        Ok(Self { namespace, from: micros(from)?, to: micros(to)?, token: token.to_owned() })
    }

    fn text(&self) -> String {
        format!("{} {} {} {}", self.namespace, self.from.micros(), self.to.micros(), self.token)
    }
}

/// Says which recorded decisions would come out otherwise.
///
/// # Errors
/// When the caller may not, the token is not of this question, an object cannot be read, the log cannot be read, others ask
/// already, or it cannot be recorded.
#[tracing::instrument(skip_all)]
pub(crate) async fn simulate(desk: &Arc<Desk>, asker: &Asker, ask: Simulate) -> Result<wire::SimulateResponse, Fault> {
    let question = ["simulate".to_owned(), asker.spiffe_id.clone(), ask.said.clone()];
    let question: Vec<&str> = question.iter().map(String::as_str).collect();
    let from = desk.pages.read(&question, &ask.page_token)?.map(|text| Place::parse(&text)).transpose()?;
    let may = |right: &super::asker::Right| shown(right, &ask.wanted, &ask.gone, &Default::default());
    let seat = seat(desk, asker, ask.at_least_revision, LONGEST, may).await?;
    let (revision, now) = (seat.reading.snapshot.revision(), seat.now);
    let touched = touched(&ask.wanted, &ask.gone);
    let namespaces: Vec<String> =
        touched.iter().filter(|(_, one)| !one.is_nobody()).map(|(name, _)| name.clone()).collect();
    let begin = || Place { namespace: 0, from: now.minus(ask.window), to: now, token: String::new() };
    let place = from.unwrap_or_else(begin);
    let (events, next) = records(desk, &namespaces, place.clone(), &seat).await?;
    let event = {
        let of = if namespaces.len() == 1 { namespaces[0].as_str() } else { "" };
        let details = [("decisions", events.len().to_string()), ("declarations", ask.wanted.len().to_string())];
        let event = record::searched(asker, of, revision, desk.clock.now(), details);
        AuditEvent { r#type: "decisions.simulated".to_owned(), ..event }
    };
    let (working, domain) = (Arc::clone(desk), recorded::trust_domain(&asker.spiffe_id));
    let made = tokio::task::spawn_blocking(move || {
        // The turn ends with the work, also where the caller has left.
        let Seat { reading, turn, until, .. } = seat;
        let _turn = turn;
        let is_over = || tokio::time::Instant::now() >= until;
        make(&working, &reading.snapshot, &ask, &touched, events, (now, &is_over), &domain)
    });
    let mut answer = made.await.map_err(Fault::broken)??;
    told(desk, asker, event).await?;
    desk.metrics.asked("simulate");
    answer.next_page_token = next.map(|next| desk.pages.after(&question, &next.text())).unwrap_or_default();
    answer.revision = revision;
    (answer.from_time, answer.to_time) = (Some(place.from.into()), Some(place.to.into()));
    Ok(answer)
}

/// The records of one answer, and where the next goes on.
async fn records(
    desk: &Desk,
    namespaces: &[String],
    mut place: Place,
    seat: &Seat,
) -> Result<(Vec<AuditEvent>, Option<Place>), Fault> {
    let (mut all, mut bytes) = (Vec::new(), 0);
    for _ in 0..PAGES {
        if bytes >= BYTES {
            break;
        }
        let Some(namespace) = namespaces.get(place.namespace) else { return Ok((all, None)) };
        let ask = QueryEventsRequest {
            r#type: "decision.made".to_owned(),
            namespace: namespace.clone(),
            from_time: Some(place.from.into()),
            to_time: Some(place.to.into()),
            page_size: OF_A_PAGE,
            page_token: place.token.clone(),
            ..QueryEventsRequest::default()
        };
        let page = recorded::page(desk, ask, seat.until).await?;
        bytes += page.events.iter().map(Message::encoded_len).sum::<usize>();
        all.extend(page.events.into_iter().filter_map(|one| one.event));
        place.token = page.next_page_token;
        place.namespace += usize::from(place.token.is_empty());
    }
    let is_end = place.namespace >= namespaces.len();
    Ok((all, (!is_end).then_some(place)))
}

/// Equal records: how many, and the last of them.
struct Many {
    count: u64,
    namespace: String,
    decision: String,
    time: Option<prost_types::Timestamp>,
}

fn make(
    desk: &Desk,
    before: &Snapshot,
    ask: &Simulate,
    touched: &BTreeMap<String, Touched>,
    events: Vec<AuditEvent>,
    (now, is_over): (Timestamp, &dyn Fn() -> bool),
    domain: &str,
) -> Result<wire::SimulateResponse, Fault> {
    let unreadable = |e: legate_view::Unreadable| {
        let text = format!("{} {} cannot be read: {}", e.kind, e.name, e.why);
        Fault::refused(&QUESTION_INVALID, text).field("declarations", e.why)
    };
    let after = before.suppose(&ask.wanted, &ask.gone, now).map_err(unreadable)?;
    let mut answer = wire::SimulateResponse { decisions: events.len() as u64, ..Default::default() };
    answer.unfit = touched.keys().flat_map(|namespace| unfit(before, &after, namespace)).take(TOLD_UNFIT).collect();
    answer.allowed =
        events.iter().filter(|event| event.decision.as_ref().is_some_and(|made| made.allowed)).count() as u64;
    let mut many: BTreeMap<Recorded, Many> = BTreeMap::new();
    for event in events {
        let Some(recorded) = recorded::read(&event, domain) else {
            answer.not_judged += 1;
            continue;
        };
        // The newest come first.
        let decision = event.decision.map(|decision| decision.decision_id).unwrap_or_default();
        let first = || Many { count: 0, namespace: event.namespace, decision, time: event.time };
        many.entry(recorded).or_insert_with(first).count += 1;
    }
    let mut sides: BTreeMap<&str, (Side<'_>, Side<'_>)> = BTreeMap::new();
    for namespace in touched.keys() {
        let compiled = known(desk, before, namespace);
        let side = |snapshot| Side { snapshot, book: Book::open(snapshot, namespace, compiled.as_deref()) };
        sides.insert(namespace, (side(before), side(&after)));
    }
    for (recorded, many) in many {
        let Some((old, new)) = sides.get_mut(many.namespace.as_str()) else { continue };
        if is_over() {
            answer.not_judged += many.count;
            continue;
        }
        let (reasons, depends_on, is_unsure) = match fate(&desk.bench, (old, new), &recorded, now) {
            Fate::Stays => continue,
            Fate::NotJudged => {
                answer.not_judged += many.count;
                continue;
            }
            Fate::Denied(causes) => {
                answer.to_deny += many.count;
                (causes, Vec::new(), false)
            }
            Fate::Allowed(causes) => {
                answer.to_allow += many.count;
                (causes, Vec::new(), false)
            }
            Fate::Unsure(on) => {
                answer.unsure += many.count;
                (Vec::new(), on, true)
            }
        };
        let agent = legate_ids::AgentId::parse(&recorded.agent).ok().and_then(|id| before.agent(&id).cloned());
        answer.flips.push(wire::Flip {
            decision_id: many.decision,
            time: many.time,
            count: many.count,
            agent_id: recorded.agent,
            name: agent.map(|agent| agent.label.name.to_string()).unwrap_or_default(),
            namespace: many.namespace,
            action: recorded.action,
            resource_type: recorded.kind,
            resource_id: recorded.id,
            subject: recorded.subject,
            was_allowed: recorded.allowed,
            is_unsure,
            reasons: reasons.iter().map(convert::reason).collect(),
            depends_on: depends_on.iter().map(|On { cause, .. }| convert::reason(cause)).collect(),
        });
    }
    // What would surely flip comes first, and what is asked often.
    answer.flips.sort_by_key(|flip| (flip.is_unsure, std::cmp::Reverse(flip.count)));
    answer.left_out = u32::try_from(answer.flips.len().saturating_sub(TOLD)).unwrap_or(u32::MAX);
    answer.flips.truncate(TOLD);
    Ok(answer)
}
