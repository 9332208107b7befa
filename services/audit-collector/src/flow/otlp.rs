//! What is told by OpenTelemetry becomes leaves: each act once, numbered here, and on disk before the answer.

mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use legate_personal::Split;
use legate_rpc::Fault;
use legate_wire::audit::{AuditEvent, Emitter, PersonalPart};
use prost::Message as _;
use tokio::time::timeout_at;

use super::append::{MOST, MOST_BYTES};
use super::{Call, Desk, Reader, not_taken};
use crate::domain::event::{BadEvent, Claim, check};
use crate::domain::otlp::{EPOCH, Signal, Unfit, identity, made};
use crate::domain::producers::Producer;
use crate::domain::teller::Teller;
use crate::error::{
    AGAIN, AUDIT_BUSY, AUDIT_EVENT_INVALID, AUDIT_INDEX_BEHIND, AUDIT_NOT_YOURS_TO_TELL, AUDIT_TIME_IN_FUTURE,
    of_index, spent,
};
use crate::log::Offer;
use crate::personal::Unsealed;
use crate::store::{head, told};

use line::Line;
pub(crate) use line::Lines;

/// What came in one request: each signal, or why it cannot be looked at.
pub(crate) type Ask = Vec<Result<Signal, Unfit>>;

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Acts that are in the log now, whether they came now or before.
    pub(crate) recorded: usize,
    /// How many are not, and why.
    pub(crate) rejected: BTreeMap<Unfit, usize>,
}

/// An act that is to be appended.
#[derive(Clone, Debug)]
struct Act {
    event: AuditEvent,
    parts: Vec<PersonalPart>,
    /// The event's, and those of its names.
    bytes: usize,
}

/// Records the acts among the signals and answers when they are on disk. Whose they are is the caller's certificate, and nothing
/// else; what has come before is not appended again.
#[tracing::instrument(skip_all, fields(signals = ask.len()))]
pub(crate) async fn tell(desk: &Arc<Desk>, call: &Call, ask: Ask) -> Result<Told, Fault> {
    let Reader::Emitter(teller @ (Teller::Agent { .. } | Teller::Enforcer { .. })) = &call.reader else {
        return Err(Fault::refused(&AUDIT_NOT_YOURS_TO_TELL, "agents and enforcement points tell of acts by OTLP"));
    };
    let (acts, rejected) = sorted(desk, call, teller, ask);
    for (unfit, count) in &rejected {
        desk.metrics.unfit(*unfit, *count);
        // The others are how programs are instrumented, and say nothing of who tells it.
        let told = match unfit {
            Unfit::OtherAgent => &AUDIT_NOT_YOURS_TO_TELL,
            Unfit::Future => &AUDIT_TIME_IN_FUTURE,
            Unfit::Event => &AUDIT_EVENT_INVALID,
            _ => continue,
        };
        not_taken::tell(desk, call, told, &format!("{count} signals of OTLP: {unfit}"));
    }
    let recorded = acts.len();
    if acts.is_empty() {
        return Ok(Told { recorded, rejected });
    }
    // Not the first event of an epoch: there is one epoch of these for ever.
    let taken = desk.quotas.lock().take(&call.caller, EPOCH, (2, recorded), desk.clock.monotonic());
    taken.map_err(|wait| spent(&call.caller, wait)).inspect_err(|fault| not_taken::note(desk, call, fault))?;
    let line = desk.lines.of(&call.caller, desk.log.size(), *desk.index.through().borrow()).ok_or_else(busy)?;
    // One request of a caller after the other: the next has to know what this one appends.
    let until = call.deadline.checked_sub(super::MARGIN).unwrap_or(call.deadline);
    let line = timeout_at(until, line.lock_owned()).await.map_err(|_| busy())?;
    let (mut line, acts) = unknown(desk, call, line, acts).await?;
    if acts.is_empty() {
        return Ok(Told { recorded, rejected });
    }
    let (desk, caller) = (Arc::clone(desk), call.caller.clone());
    // To the end, also when the caller no longer waits: or what it sends again would not be known.
    let appending = tokio::spawn(async move { append(&desk, caller, &mut line, acts).await });
    appending.await.map_err(Fault::broken)??;
    Ok(Told { recorded, rejected })
}

fn busy() -> Fault {
    Fault::unavailable(&AUDIT_BUSY, "requests of this caller by OTLP wait for one another", AGAIN)
}

/// Tells acts from what is none, and checks them as events are checked that come ready made.
fn sorted(desk: &Desk, call: &Call, teller: &Teller, ask: Ask) -> (Vec<Act>, BTreeMap<Unfit, usize>) {
    let mut rejected = BTreeMap::new();
    let mut acts: Vec<Act> = Vec::new();
    let (mut ids, mut bytes) = (BTreeSet::new(), 0);
    for signal in ask {
        let fit = signal.and_then(|signal| {
            desk.metrics.otlp_dropped(signal.attributes.dropped());
            prepare(made(&signal, teller)?, call, teller, desk.clock.now())
        });
        match fit {
            Ok(act) if ids.contains(&act.event.event_id) => {}
            Ok(act) if acts.len() >= MOST || bytes + act.bytes > MOST_BYTES => {
                *rejected.entry(Unfit::Many).or_default() += 1
            }
            Ok(act) => {
                ids.insert(act.event.event_id.clone());
                bytes += act.bytes;
                acts.push(act);
            }
            Err(unfit) => *rejected.entry(unfit).or_default() += 1,
        }
    }
    (acts, rejected)
}

/// The event as it will be, with the largest number that it can get.
fn prepare(event: AuditEvent, call: &Call, teller: &Teller, now: legate_clock::Timestamp) -> Result<Act, Unfit> {
    let Split { mut event, parts } = legate_personal::split(event, rand::random);
    event.event_id = identity(&call.caller, &event).to_string();
    event.emitter = Some(Emitter { spiffe_id: call.caller.clone(), epoch: EPOCH.to_owned(), seq: u64::MAX });
    let claim = Claim { caller: &call.caller, epoch: EPOCH, seq: u64::MAX, teller };
    let encoded = event.encode_to_vec();
    let bytes = encoded.len() + parts.iter().map(|part| part.name.len() + 64).sum::<usize>();
    match check(&encoded, &parts, claim, now) {
        Ok(_) => Ok(Act { event, parts, bytes }),
        Err(BadEvent::Future(_)) => Err(Unfit::Future),
        Err(BadEvent::Time) => Err(Unfit::Time),
        Err(_) => Err(Unfit::Event),
    }
}

type Guard = tokio::sync::OwnedMutexGuard<Line>;

/// Leaves those that the log does not hold yet. What is older than the line remembers is asked of the index, which has to be as far.
async fn unknown(desk: &Desk, call: &Call, mut line: Guard, acts: Vec<Act>) -> Result<(Guard, Vec<Act>), Fault> {
    line.forget_below(*desk.index.through().borrow());
    super::wait_for_index(desk, call, line.needs()).await?;
    if line.is_full() {
        super::wait_for_index(desk, call, line.newest()).await?;
        line.forget_below(*desk.index.through().borrow());
    }
    let asked: Vec<String> = acts.iter().map(|act| act.event.event_id.clone()).filter(|id| !line.knows(id)).collect();
    let db = super::database(desk)?;
    let reading = db.read("told_by_otlp", move |tx| {
        Box::pin(async move {
            let size = head::get(tx).await?.map_or(0, |head| head.size());
            Ok((told::known(tx, &asked).await?, size))
        })
    });
    let (known, size) = reading.await.map_err(of_index)?;
    if size < line.needs() {
        // It is being made again since it was waited for.
        return Err(Fault::unavailable(&AUDIT_INDEX_BEHIND, "the index is made again", AGAIN));
    }
    let is_new = |act: &Act| !line.knows(&act.event.event_id) && !known.contains(&act.event.event_id);
    let acts = acts.into_iter().filter(is_new).collect();
    Ok((line, acts))
}

/// Numbers the acts and appends them.
async fn append(desk: &Desk, caller: String, line: &mut Line, acts: Vec<Act>) -> Result<(), Fault> {
    let producer = Producer { spiffe_id: caller, epoch: EPOCH.to_owned() };
    let last = match line.last {
        Some(last) => last,
        None => desk.log.last(producer.clone()).await?,
    };
    line.last = None;
    let (mut events, mut personal, mut ids) = (Vec::new(), BTreeMap::new(), Vec::new());
    for ((position, Act { mut event, parts, .. }), seq) in acts.into_iter().enumerate().zip(last + 1..) {
        if let Some(emitter) = &mut event.emitter {
            emitter.seq = seq;
        }
        if !parts.is_empty() {
            let time = event.time.and_then(|t| legate_clock::Timestamp::try_from(t).ok()).unwrap_or_default();
            let unsealed = Unsealed { leaf: 0, kind: event.r#type.clone(), time, parts };
            personal.insert(position, unsealed);
        }
        events.push(event.encode_to_vec().into());
        ids.push(event.event_id);
    }
    let count = ids.len();
    let appended = desk.log.append(Offer { producer, first_seq: last + 1, events, personal, signature: None }).await?;
    // Nobody else numbers this epoch, so that all of them were new.
    let first = appended
        .first_leaf
        .filter(|_| appended.appended == count)
        .ok_or_else(|| Fault::broken(format!("{} of {count} acts were appended after {last}", appended.appended)))?;
    line.last = Some(appended.acked_seq);
    line.remember(ids, first);
    Ok(())
}
