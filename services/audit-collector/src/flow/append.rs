//! An emitter's events become leaves.

use std::collections::BTreeMap;

use bytes::Bytes;
use legate_batch::{EVENTS_BEFORE, KIND, Statement};
use legate_rpc::Fault;
use legate_wire::audit::{BatchSignature, PersonalPart};
use prost::Message as _;

use super::{Call, Desk, Reader, signed};
use crate::domain::entry;
use crate::domain::event::{Claim, check, is_epoch};
use crate::domain::otlp;
use crate::domain::producers::Producer;
use crate::domain::teller::Teller;
use crate::error::{bad_event, spent};
use crate::log::{Appended, Offer, Own};
use crate::personal::Unsealed;

/// Events in one request.
pub(super) const MOST: usize = 1_024;

/// Bytes of events in one request. The smallest bound on what waits holds two of these.
pub(super) const MOST_BYTES: usize = 4 << 20;

/// What an emitter offers.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) epoch: String,
    pub(crate) first_seq: u64,
    pub(crate) events: Vec<Bytes>,
    /// The names that some of them commit to, by their positions.
    pub(crate) personal: BTreeMap<usize, Vec<PersonalPart>>,
    /// Its signature over all of them.
    pub(crate) signature: Option<BatchSignature>,
}

/// Appends events and answers when they are on disk. The emitter is the caller's certificate, and nothing else. Good
/// events before a bad one are appended; the refusal of the bad one is the answer. Where the batch is signed nothing of it is
/// appended then, since the signature is of all of it, and the refusal says how many are good.
#[tracing::instrument(skip_all, fields(events = ask.events.len()))]
pub(crate) async fn append(desk: &Desk, call: &Call, ask: Ask) -> Result<Appended, Fault> {
    let Ask { epoch, first_seq, mut events, personal, signature } = ask;
    if !is_epoch(&epoch) {
        return Err(Fault::invalid("epoch", "is 1 to 64 of A-Z a-z 0-9 _ -"));
    }
    if !(1..=MOST).contains(&events.len()) {
        return Err(Fault::invalid("events", "a request has 1 to 1,024 events"));
    }
    if first_seq == 0 || first_seq.checked_add(events.len() as u64).is_none() {
        return Err(Fault::invalid("first_seq", "events are counted from 1"));
    }
    let Reader::Emitter(teller) = &call.reader else {
        return Err(Fault::broken("a caller was let in who emits nothing"));
    };
    if *teller != Teller::Service && epoch == otlp::EPOCH {
        return Err(Fault::invalid("epoch", "otlp is kept for what comes by OTLP; take another name"));
    }
    let quotas = if *teller == Teller::Service { &desk.service_quotas } else { &desk.quotas };
    let taken = quotas.lock().take(&call.caller, &epoch, (first_seq, events.len()), desk.clock.monotonic());
    taken.map_err(|wait| spent(&call.caller, wait))?;
    let now = desk.clock.now();
    let claim = |seq| Claim { caller: &call.caller, epoch: &epoch, seq, teller };
    if personal.last_key_value().is_some_and(|(position, _)| *position >= events.len()) {
        return Err(Fault::invalid("personal", "names an event that is not in the request"));
    }
    if personal.values().flatten().map(PersonalPart::encoded_len).sum::<usize>() > MOST_BYTES {
        return Err(Fault::invalid("personal", "a request has 4 MiB of names at most"));
    }
    let attested = match &signature {
        None => None,
        Some(with) => {
            Some(signed::verified(desk, call, Statement::of(&call.caller, &epoch, first_seq, &events), with)?)
        }
    };
    let mut kept = BTreeMap::new();
    let (is_registry, mut of_roles) = (call.caller == desk.index.registry(), false);
    let bad = events.iter().zip(first_seq..).enumerate().find_map(|(position, (event, seq))| {
        let parts = personal.get(&position).map(Vec::as_slice).unwrap_or_default();
        match check(event, parts, claim(seq), now) {
            Err(bad) => Some((position, bad_event(position, &bad))),
            Ok(good) => {
                of_roles |= is_registry && entry::is_of_roles(&good.kind);
                if good.is_in_the_clear {
                    desk.metrics.in_the_clear();
                }
                if !parts.is_empty() {
                    let unsealed = Unsealed { leaf: 0, kind: good.kind, time: good.time, parts: parts.to_vec() };
                    kept.insert(position, unsealed);
                }
                None
            }
        }
    });
    if let Some((position, _)) = &bad {
        events.truncate(if attested.is_some() { 0 } else { *position });
    }
    if events.iter().map(Bytes::len).sum::<usize>() > MOST_BYTES {
        return Err(Fault::invalid("events", "a request has 4 MiB of events at most"));
    }
    let done = match events.is_empty() {
        true => None,
        false => {
            let producer = Producer { spiffe_id: call.caller.clone(), epoch };
            let signature = attested.as_ref().map(|attested| Own::from_event(KIND, attested.into()));
            let saying = of_roles.then(|| desk.fresh.saying());
            let appended = desk.log.append(Offer { producer, first_seq, events, personal: kept, signature }).await?;
            if let Some(saying) = saying {
                saying.said(appended.first_leaf.map(|first| first + appended.appended as u64));
            }
            Some(appended)
        }
    };
    match (bad, done) {
        (Some((position, refusal)), _) if attested.is_some() => Err(refusal.with(EVENTS_BEFORE, position.to_string())),
        (Some((_, refusal)), _) => Err(refusal),
        (None, Some(appended)) => Ok(appended),
        (None, None) => Err(Fault::broken("a request without events was let in")),
    }
}
