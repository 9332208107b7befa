//! Whether bytes are an event that this emitter may add here and now.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::EventId;
use legate_personal::BadPart;
use legate_wire::audit::{AuditEvent, PersonalPart};
use prost::Message as _;

use super::teller::{self, Teller};

/// The largest event.
pub(crate) use legate_personal::LARGEST;

/// An event's time may be so far ahead of our clock.
const AHEAD: Duration = Duration::from_secs(5 * 60);

/// Why an event is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadEvent {
    /// Too many bytes.
    #[error("{0} bytes are over the bound of 61440")]
    TooLarge(usize),
    /// No protobuf of the event's type.
    #[error("the bytes are not an AuditEvent")]
    Decode,
    /// No event id.
    #[error("event_id is not a TypeID that begins with evt_")]
    Id,
    /// No time, or one that is none.
    #[error("time is missing or outside years 1 to 9999")]
    Time,
    /// Told in another's name.
    #[error("the event names {named:?} as its emitter, and {caller} offers it")]
    Emitter {
        /// Whom the event names.
        named: String,
        /// Who offers it.
        caller: String,
    },
    /// Not of the epoch or not at the place that the request says.
    #[error(
        "the event says epoch {epoch:?} seq {seq}, and its place in the request is seq {expected} of another or the same epoch"
    )]
    Place {
        /// The event's epoch.
        epoch: String,
        /// The event's number.
        seq: u64,
        /// The number of its place.
        expected: u64,
    },
    /// Names that the event does not commit to, or none where it does.
    #[error("its names: {0}")]
    Personal(#[from] BadPart),
    /// An agent or an enforcement point tells what is not its own.
    #[error("{0}")]
    NotIts(&'static str),
    /// More bytes than an agent or an enforcement point tells at once.
    #[error("{0} bytes are over the bound of 8192 for agents and enforcement points")]
    TooLargeForIt(usize),
    /// Ahead of our clock.
    #[error("its time {0} is over five minutes ahead of the collector's clock")]
    Future(Timestamp),
}

/// The place that a request claims for an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) caller: &'a str,
    pub(crate) epoch: &'a str,
    pub(crate) seq: u64,
    pub(crate) teller: &'a Teller,
}

/// What of a good event is needed to keep its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Good {
    pub(crate) kind: String,
    pub(crate) time: Timestamp,
    /// Whether it says a person's name in the clear, as emitters of earlier versions do.
    pub(crate) is_in_the_clear: bool,
}

/// Checks an event and its names against who offers it, as what, and when.
pub(crate) fn check(bytes: &[u8], parts: &[PersonalPart], claim: Claim<'_>, now: Timestamp) -> Result<Good, BadEvent> {
    if bytes.len() > LARGEST {
        return Err(BadEvent::TooLarge(bytes.len()));
    }
    if *claim.teller != Teller::Service && bytes.len() > teller::LARGEST {
        return Err(BadEvent::TooLargeForIt(bytes.len()));
    }
    let event = AuditEvent::decode(bytes).map_err(|_| BadEvent::Decode)?;
    let emitter = event.emitter.as_ref();
    let named = emitter.map(|emitter| emitter.spiffe_id.as_str()).unwrap_or_default();
    if named != claim.caller {
        return Err(BadEvent::Emitter { named: named.to_owned(), caller: claim.caller.to_owned() });
    }
    let (epoch, seq) = emitter.map(|emitter| (emitter.epoch.as_str(), emitter.seq)).unwrap_or_default();
    if epoch != claim.epoch || seq != claim.seq {
        return Err(BadEvent::Place { epoch: epoch.to_owned(), seq, expected: claim.seq });
    }
    EventId::parse(&event.event_id).map_err(|_| BadEvent::Id)?;
    let time = event.time.and_then(|t| Timestamp::try_from(t).ok()).ok_or(BadEvent::Time)?;
    if time > now.plus(AHEAD) {
        return Err(BadEvent::Future(time));
    }
    claim.teller.check(&event).map_err(BadEvent::NotIts)?;
    legate_personal::check(&event, parts, false)?;
    let is_in_the_clear =
        parts.is_empty() && legate_personal::may_name(bytes) && legate_personal::is_in_the_clear(&event);
    Ok(Good { kind: event.r#type, time, is_in_the_clear })
}

/// Whether a text may be an epoch: 1 to 64 of `A-Z a-z 0-9 _ -`.
pub(crate) fn is_epoch(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_wire::audit::Emitter;
    use proptest::prelude::*;

    const CALLER: &str = "spiffe://example.org/legate/registry";

    fn claim() -> Claim<'static> {
        Claim { caller: CALLER, epoch: "e1", seq: 7, teller: &Teller::Service }
    }

    fn now() -> Timestamp {
        Timestamp::from_secs(1_790_000_000)
    }

    fn event() -> AuditEvent {
        AuditEvent {
            event_id: EventId::from_parts(1, [0; 10]).to_string(),
            emitter: Some(Emitter { spiffe_id: CALLER.into(), epoch: "e1".into(), seq: 7 }),
            time: Some(now().into()),
            ..AuditEvent::default()
        }
    }

    fn judged(event: &AuditEvent) -> Result<(), BadEvent> {
        check(&event.encode_to_vec(), &[], claim(), now()).map(drop)
    }

    #[test]
    fn names_have_to_be_those_that_the_event_commits_to() {
        let named = AuditEvent { subject: "user:ada".into(), ..event() };
        let clear = check(&named.encode_to_vec(), &[], claim(), now()).unwrap();
        assert!(clear.is_in_the_clear);
        let legate_personal::Split { event: leaf, parts } = legate_personal::split(named, || [7; 32]);
        let bytes = leaf.encode_to_vec();
        assert!(!check(&bytes, &parts, claim(), now()).unwrap().is_in_the_clear);
        let of = |parts: &[PersonalPart]| check(&bytes, parts, claim(), now()).unwrap_err();
        assert!(matches!(of(&[]), BadEvent::Personal(BadPart::Count { commitments: 1, parts: 0 })));
        let other = PersonalPart { name: "user:eve".into(), ..parts[0].clone() };
        assert_eq!(of(&[other]), BadEvent::Personal(BadPart::Other(0)));
        assert_eq!(of(&[PersonalPart::default()]), BadEvent::Personal(BadPart::Form(0)));
        let none = check(&event().encode_to_vec(), &parts, claim(), now()).unwrap_err();
        assert!(matches!(none, BadEvent::Personal(BadPart::Count { commitments: 0, parts: 1 })));
        let many = AuditEvent { personal: vec![vec![0; 32]; 300], ..event() };
        let none = check(&many.encode_to_vec(), &[], claim(), now()).unwrap_err();
        assert_eq!(none, BadEvent::Personal(BadPart::Many(300)));
    }

    #[test]
    fn each_lie_has_its_refusal() {
        assert_eq!(judged(&event()), Ok(()));
        let with = |change: fn(&mut AuditEvent)| {
            let mut e = event();
            change(&mut e);
            judged(&e).unwrap_err()
        };
        let forged =
            with(|e| e.emitter.as_mut().unwrap().spiffe_id = "spiffe://example.org/legate/policy-decision".into());
        assert!(matches!(forged, BadEvent::Emitter { .. }));
        assert!(matches!(with(|e| e.emitter = None), BadEvent::Emitter { .. }));
        assert!(matches!(with(|e| e.emitter.as_mut().unwrap().seq = 8), BadEvent::Place { .. }));
        assert!(matches!(with(|e| e.emitter.as_mut().unwrap().epoch = "e2".into()), BadEvent::Place { .. }));
        assert_eq!(with(|e| e.event_id = "agt_1".into()), BadEvent::Id);
        assert_eq!(with(|e| e.time = None), BadEvent::Time);
        assert!(matches!(with(|e| e.time.as_mut().unwrap().seconds += 301), BadEvent::Future(_)));
        assert!(matches!(with(|e| e.reason = "x".repeat(LARGEST)), BadEvent::TooLarge(_)));
        let mut late = event();
        late.time.as_mut().unwrap().seconds += 300;
        assert_eq!(judged(&late), Ok(()));
        assert_eq!(check(b"\xff\xff", &[], claim(), now()), Err(BadEvent::Decode));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _any = check(&bytes, &[], claim(), now());
        }
    }
}
