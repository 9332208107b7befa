//! An emitter's events become leaves.

use bytes::Bytes;
use legate_rpc::Fault;

use super::{Call, Desk, Reader};
use crate::domain::event::{Claim, check, is_epoch};
use crate::domain::producers::Producer;
use crate::domain::teller::Teller;
use crate::error::{AUDIT_QUOTA_SPENT, bad_event};
use crate::log::{Appended, Offer};

/// Events in one request.
const MOST: usize = 1_024;

/// Bytes of events in one request. The smallest bound on what waits holds two of these.
const MOST_BYTES: usize = 4 << 20;

/// What an emitter offers.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) epoch: String,
    pub(crate) first_seq: u64,
    pub(crate) events: Vec<Bytes>,
}

/// Appends events and answers when they are on disk. The emitter is the caller's certificate, and nothing else. Good
/// events before a bad one are appended; the refusal of the bad one is the answer.
#[tracing::instrument(skip_all, fields(events = ask.events.len()))]
pub(crate) async fn append(desk: &Desk, call: &Call, ask: Ask) -> Result<Appended, Fault> {
    let Ask { epoch, first_seq, mut events } = ask;
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
    if *teller != Teller::Service {
        let taken = desk.quotas.lock().take(&call.caller, &epoch, (first_seq, events.len()), desk.clock.monotonic());
        taken.map_err(|spent| {
            let text = format!("{} tells more than it may", call.caller);
            Fault::unavailable(&AUDIT_QUOTA_SPENT, text, spent.wait)
        })?;
    }
    let now = desk.clock.now();
    let claim = |seq| Claim { caller: &call.caller, epoch: &epoch, seq, teller };
    let bad = events.iter().zip(first_seq..).enumerate().find_map(|(position, (event, seq))| {
        check(event, claim(seq), now).err().map(|bad| (position, bad_event(position, &bad)))
    });
    if let Some((position, _)) = &bad {
        events.truncate(*position);
    }
    if events.iter().map(Bytes::len).sum::<usize>() > MOST_BYTES {
        return Err(Fault::invalid("events", "a request has 4 MiB of events at most"));
    }
    let done = match events.is_empty() {
        true => None,
        false => {
            let producer = Producer { spiffe_id: call.caller.clone(), epoch };
            Some(desk.log.append(Offer { producer, first_seq, events }).await?)
        }
    };
    match (bad, done) {
        (Some((_, refusal)), _) => Err(refusal),
        (None, Some(appended)) => Ok(appended),
        (None, None) => Err(Fault::broken("a request without events was let in")),
    }
}
