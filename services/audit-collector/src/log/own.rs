//! Events of the collector's own: how the log began, ended and recovered, and who read it.

use legate_clock::Timestamp;
use legate_ids::EventId;
use legate_wire::audit::{AuditEvent, Emitter, Outcome};
use prost::Message as _;

use crate::domain::producers::Producer;

/// The one epoch of the collector's own events: their store is the log itself.
pub(super) const EPOCH: &str = "log";

/// No event of the collector's own that is waited for has more bytes.
pub(super) const AT_MOST: usize = 8 << 10;

/// The type of the last event of a run that ended in peace.
pub(super) const CLOSED: &str = "log.closed";

/// An event that has no place yet.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    kind: &'static str,
    event: AuditEvent,
}

impl Own {
    /// Something that went well.
    pub(crate) fn new(kind: &'static str) -> Self {
        Self::from_event(kind, AuditEvent { outcome: Outcome::Success.into(), ..AuditEvent::default() })
    }

    /// An event with more to it; type, emitter, id and time are set here.
    pub(crate) fn from_event(kind: &'static str, event: AuditEvent) -> Self {
        Self { kind, event }
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn failed(mut self, reason: &str) -> Self {
        self.event.outcome = Outcome::Failure.into();
        self.event.reason_code = reason.to_owned();
        self
    }

    pub(super) fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.event.details.insert(key.to_owned(), value.to_string());
        self
    }

    /// The leaf's bytes.
    pub(super) fn into_leaf(self, me: &Producer, seq: u64, now: Timestamp) -> Vec<u8> {
        let millis = u64::try_from(now.micros() / 1_000).unwrap_or(0);
        let event = AuditEvent {
            event_id: EventId::from_parts(millis, rand::random()).to_string(),
            emitter: Some(Emitter { spiffe_id: me.spiffe_id.clone(), epoch: me.epoch.clone(), seq }),
            time: Some(now.into()),
            r#type: self.kind.to_owned(),
            ..self.event
        };
        event.encode_to_vec()
    }
}
