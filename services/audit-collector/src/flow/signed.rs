//! An emitter's signature over a batch is verified before anything of the batch is written; one that does not hold is told.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use legate_batch::{Attested, NotSigned, Statement};
use legate_rpc::Fault;
use legate_wire::audit::{AuditEvent, BatchSignature, Outcome};
use parking_lot::Mutex;

use super::{Call, Desk};
use crate::error::AUDIT_SIGNATURE_INVALID;
use crate::log::Own;

/// Of one emitter one refusal is told within this; the next one says how many there were.
const WHILE: Duration = Duration::from_secs(10);

/// Emitters of whom that is kept at once; of others nothing is told but to themselves.
const EMITTERS: usize = 1_024;

/// The batch as its emitter signed it: by the key of the certificate of this connection, or of one that was renewed since.
pub(super) fn verified(
    desk: &Desk,
    call: &Call,
    statement: Statement,
    with: &BatchSignature,
) -> Result<Attested, Fault> {
    let first = statement.first_seq;
    let checked = check(desk, call, statement, with);
    desk.metrics.signed(checked.is_ok());
    checked.map_err(|bad| {
        tracing::warn!(caller = call.caller, error = %bad, "a batch is refused: its signature does not hold");
        if let Some(times) = desk.unsigned.take(&call.caller, desk.clock.monotonic()) {
            let event = AuditEvent {
                actor: call.caller.clone(),
                outcome: Outcome::Denied.into(),
                reason_code: AUDIT_SIGNATURE_INVALID.name.to_owned(),
                details: BTreeMap::from([
                    ("why".to_owned(), bad.to_string()),
                    ("first_seq".to_owned(), first.to_string()),
                    ("times".to_owned(), times.to_string()),
                ]),
                ..AuditEvent::default()
            };
            desk.log.tell(Own::from_event("batch.refused", event));
        }
        Fault::refused(&AUDIT_SIGNATURE_INVALID, format!("the batch from {first} on: {bad}"))
            .field("signature", bad.to_string())
    })
}

fn check(desk: &Desk, call: &Call, statement: Statement, with: &BatchSignature) -> Result<Attested, NotSigned> {
    let attested = Attested::of(statement, with)?;
    attested.verify()?;
    if digest(&SHA256, attested.certificate()).as_ref() == call.certificate {
        return Ok(attested);
    }
    // Its id is the caller's, as was verified: what is left to ask is whether the CA says so.
    let named = desk.trust.vouches_for(attested.chain(), desk.clock.now());
    match named {
        Ok(named) if named.as_str() == call.caller => Ok(attested),
        Ok(named) => Err(NotSigned::Another(named.to_string())),
        Err(e) => Err(NotSigned::Untrusted(e.to_string())),
    }
}

/// Refusals of signatures that were told lately.
#[derive(Debug, Default)]
pub(crate) struct Unsigned(Mutex<BTreeMap<String, (Duration, u64)>>);

impl Unsigned {
    /// Whether this one is told: how many it stands for.
    fn take(&self, caller: &str, now: Duration) -> Option<u64> {
        let mut all = self.0.lock();
        all.retain(|_, (since, _)| now.saturating_sub(*since) < 6 * WHILE);
        if all.len() >= EMITTERS && !all.contains_key(caller) {
            return None;
        }
        match all.get_mut(caller) {
            Some((since, left)) if now.saturating_sub(*since) < WHILE => {
                *left += 1;
                None
            }
            Some((since, left)) => {
                let times = *left + 1;
                (*since, *left) = (now, 0);
                Some(times)
            }
            None => {
                all.insert(caller.to_owned(), (now, 0));
                Some(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_bad_signatures_is_a_few_events_that_say_how_many() {
        let (all, at) = (Unsigned::default(), Duration::from_secs);
        assert_eq!(all.take("a", at(1)), Some(1));
        assert_eq!((2..10).filter_map(|n| all.take("a", at(n))).count(), 0);
        assert_eq!(all.take("b", at(9)), Some(1), "one emitter's flood hides no other");
        assert_eq!(all.take("a", at(11)), Some(9));
        assert_eq!(all.take("a", at(60)), Some(1));
        for n in 0..2 * EMITTERS {
            all.take(&n.to_string(), at(60));
        }
        assert!(all.0.lock().len() <= EMITTERS);
    }
}
