//! What of OpenTelemetry's signals is an act of an agent, and the event that it becomes.

mod attributes;
mod made;
#[cfg(test)]
mod tests;

use legate_ids::EventId;
use legate_wire::audit::AuditEvent;

pub(crate) use attributes::{Attributes, Scalar};
pub(crate) use made::made;

/// The epoch of every event that comes this way: the collector numbers them itself.
pub(crate) const EPOCH: &str = "otlp";

/// The type of events that tell what an agent did within itself, for which nobody is asked: it talked to a model, or ran.
pub(crate) const ACTIVITY: &str = "activity.reported";

/// Attributes of one signal at most.
pub(crate) const MOST_ATTRIBUTES: usize = 128;

/// Which signal of OpenTelemetry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Span,
    Log,
}

impl Kind {
    /// The word for one of them.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Log => "log",
        }
    }
}

/// One span or log record, as far as it is looked at. Its name, its text, its events and its links are not.
#[derive(Clone, Debug)]
pub(crate) struct Signal {
    pub(crate) kind: Kind,
    pub(crate) trace_id: Vec<u8>,
    pub(crate) span_id: Vec<u8>,
    pub(crate) parent_span_id: Vec<u8>,
    /// When it began, in nanoseconds since 1970; 0: not said.
    pub(crate) start: u64,
    /// When it ended; of a log record the same.
    pub(crate) end: u64,
    pub(crate) is_error: bool,
    /// Of a log record, the event that it is.
    pub(crate) event_name: String,
    pub(crate) attributes: Attributes,
}

/// Why a signal is not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub(crate) enum Unfit {
    /// It tells of nothing that an agent did.
    #[error("no gen_ai.operation.name or legate.action: not an act of an agent")]
    NotAnAct,
    /// The operation or action is no word.
    #[error("gen_ai.operation.name or legate.action is not 1 to 64 of a-z A-Z 0-9 _ . : / -")]
    Operation,
    /// No place in a trace.
    #[error("trace_id is not 16 bytes or span_id is not 8, or one of them is zero")]
    Ids,
    /// No time, or one that is none.
    #[error("the time is missing, outside years 1970 to 2262, or the end is before the start")]
    Time,
    /// Ahead of our clock.
    #[error("the time is over five minutes ahead of the collector's clock")]
    Future,
    /// Told of somebody else.
    #[error("names another agent than the caller's certificate; an agent tells of itself only")]
    OtherAgent,
    /// Told of nobody.
    #[error("an enforcement point says with legate.agent.id (or gen_ai.agent.id) which agent it was, agt_...")]
    NoAgent,
    /// More attributes than are looked at.
    #[error("over 128 attributes")]
    Attributes,
    /// More acts than one request takes.
    #[error("more than 1,024 acts or 4 MiB of events in one request; export smaller batches")]
    Many,
    /// It does not keep to what an agent or an enforcement point may tell.
    #[error("too large, or not what an agent or an enforcement point may tell")]
    Event,
}

impl Unfit {
    /// As it is counted.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NotAnAct => "not_an_act",
            Self::Operation => "operation",
            Self::Ids => "ids",
            Self::Time => "time",
            Self::Future => "future",
            Self::OtherAgent => "other_agent",
            Self::NoAgent => "no_agent",
            Self::Attributes => "attributes",
            Self::Many => "too_many",
            Self::Event => "event",
        }
    }

    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::NotAnAct,
        Self::Operation,
        Self::Ids,
        Self::Time,
        Self::Future,
        Self::OtherAgent,
        Self::NoAgent,
        Self::Attributes,
        Self::Many,
        Self::Event,
    ];
}

/// The event's id, which is the same whenever the same signal comes: a span is its place in its trace, and a log record what is kept of
/// it. The event has its names cut out already, so that nothing that can be erased is in the hash.
pub(crate) fn identity(producer: &str, event: &AuditEvent) -> EventId {
    use aws_lc_rs::digest::{Context, SHA256};
    use prost::Message as _;

    let mut hash = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(b"legate-otlp-v1");
    part(producer.as_bytes());
    if is_of_span(event) {
        part(event.trace_id.as_bytes());
        part(event.span_id.as_bytes());
    } else {
        let bare = AuditEvent { personal: Vec::new(), event_id: String::new(), emitter: None, ..event.clone() };
        part(&bare.encode_to_vec());
    }
    let digest = hash.finish();
    let mut random = [0; 10];
    random.copy_from_slice(&digest.as_ref()[..10]);
    // Of a span that comes again with another time, the id is the same all the same.
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&digest.as_ref()[10..16]);
    EventId::from_parts(u64::from_be_bytes(millis), random)
}

/// Whether an event tells of a span, or of a log record that repeats one.
fn is_of_span(event: &AuditEvent) -> bool {
    event.details.get("otlp").is_some_and(|kind| kind == Kind::Span.word() || kind == made::OF_SPAN)
}
