//! Events of the collector's own: how the log began, ended and recovered, and who read it.

use std::borrow::Cow;

use legate_clock::Timestamp;
use legate_ids::EventId;
use legate_personal::Split;
use legate_wire::audit::{AuditEvent, Emitter, Outcome};
use prost::Message as _;

use crate::domain::producers::Producer;
use crate::personal::Unsealed;

/// The one epoch of the collector's own events: their store is the log itself.
pub(super) const EPOCH: &str = "log";

/// The type of the last event of a run that ended in peace.
pub(super) const CLOSED: &str = "log.closed";

/// An event that has no place yet.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    kind: Cow<'static, str>,
    event: AuditEvent,
}

impl Own {
    /// Something that went well.
    pub(crate) fn new(kind: &'static str) -> Self {
        Self::from_event(kind, AuditEvent { outcome: Outcome::Success.into(), ..AuditEvent::default() })
    }

    /// An event with more to it; type, emitter, id and time are set here.
    pub(crate) fn from_event(kind: &'static str, event: AuditEvent) -> Self {
        Self { kind: Cow::Borrowed(kind), event }
    }

    /// An event that was made before, with its type.
    pub(super) fn again(event: AuditEvent) -> Self {
        Self { kind: Cow::Owned(event.r#type.clone()), event }
    }

    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// How many bytes it has, about.
    pub(super) fn size(&self) -> usize {
        self.event.encoded_len() + 128
    }

    pub(crate) fn failed(mut self, reason: &str) -> Self {
        self.event.outcome = Outcome::Failure.into();
        self.event.reason_code = reason.to_owned();
        self
    }

    pub(crate) fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.event.details.insert(key.to_owned(), value.to_string());
        self
    }

    /// The leaf's bytes, and the names that it commits to.
    pub(super) fn into_leaf(self, me: &Producer, seq: u64, now: Timestamp) -> (Vec<u8>, Option<Unsealed>) {
        let millis = u64::try_from(now.micros() / 1_000).unwrap_or(0);
        let event = AuditEvent {
            event_id: EventId::from_parts(millis, rand::random()).to_string(),
            emitter: Some(Emitter { spiffe_id: me.spiffe_id.clone(), epoch: me.epoch.clone(), seq }),
            time: Some(now.into()),
            r#type: self.kind.into_owned(),
            ..self.event
        };
        let Split { event, parts } = legate_personal::split(event, rand::random);
        let unsealed = || Unsealed { leaf: 0, kind: event.r#type.clone(), time: now, parts };
        let personal = (!event.personal.is_empty()).then(unsealed);
        (event.encode_to_vec(), personal)
    }
}
