//! Every reason with which this service refuses a call, and its cure.

use std::time::Duration;

use legate_db::TxError;
use legate_rpc::Fault;

use crate::domain::event::BadEvent;
use crate::log::{NotAppended, NotProved};

legate_rpc::reasons! {
    /// An event is not one.
    AUDIT_EVENT_INVALID, InvalidArgument, "An event cannot be decoded, or lacks what every event has.", "Mend the emitter; the event that is named was not recorded, nor were those behind it.";
    /// An event is too large.
    AUDIT_EVENT_TOO_LARGE, InvalidArgument, "An event is over 60 KiB.", "Leave details out; refer to large things by their hash.";
    /// An event names another emitter than the caller.
    AUDIT_PRODUCER_MISMATCH, PermissionDenied, "An event names an emitter that is not the caller's certificate.", "Emit events in one's own name only.";
    /// An event is out of order.
    AUDIT_SEQUENCE_GAP, FailedPrecondition, "Events before the first one offered are not in the log.", "Offer events from expected_seq on; if they are lost, begin a new epoch.";
    /// An event lies in the future.
    AUDIT_TIME_IN_FUTURE, FailedPrecondition, "An event's time is over five minutes ahead of the collector's clock.", "Set the clocks; the emitter offers the event again.";
    /// The log has no room.
    AUDIT_STORAGE_FULL, ResourceExhausted, "The log's disk is full; only that fact is still recorded.", "Make room on the disk; the collector goes on by itself.";
    /// Too much waits.
    AUDIT_BUSY, ResourceExhausted, "More events wait for the disk than the bound allows.", "Wait as long as RetryInfo says, then offer them again.";
    /// The log has stopped.
    AUDIT_LOG_STOPPED, Unavailable, "A write or sync of the log failed, so nothing more is recorded until a restart.", "Look at the disk and the collector's log, then restart the collector.";
    /// There is no such leaf or size.
    AUDIT_NOT_IN_TREE, OutOfRange, "The leaf or tree size is not covered by the newest checkpoint.", "Ask for a size of at most the newest checkpoint's; a new leaf is covered within a second.";
    /// The index has not come so far.
    AUDIT_INDEX_BEHIND, Unavailable, "The index does not hold as many leaves as was asked for within the deadline.", "Ask again; the log itself has them.";
    /// The index cannot be asked.
    AUDIT_INDEX_UNAVAILABLE, Unavailable, "The database of the index does not answer; the log is not affected.", "Ask again; operators: see the database.";
}

/// How long a caller waits before it tries again.
pub(crate) const AGAIN: Duration = Duration::from_millis(250);

/// How long a caller waits when somebody has to do something first.
const LATER: Duration = Duration::from_secs(2);

/// The refusal of the event at `position` in a request.
pub(crate) fn bad_event(position: usize, bad: &BadEvent) -> Fault {
    let reason = match bad {
        BadEvent::TooLarge(_) => &AUDIT_EVENT_TOO_LARGE,
        BadEvent::Emitter { .. } => &AUDIT_PRODUCER_MISMATCH,
        BadEvent::Future(_) => &AUDIT_TIME_IN_FUTURE,
        BadEvent::Decode | BadEvent::Id | BadEvent::Time | BadEvent::Place { .. } => &AUDIT_EVENT_INVALID,
    };
    let field = format!("events[{position}]");
    Fault::refused(reason, format!("{field}: {bad}")).field(field, bad.to_string())
}

impl From<NotAppended> for Fault {
    fn from(e: NotAppended) -> Self {
        match e {
            NotAppended::Gap { expected } => {
                Self::refused(&AUDIT_SEQUENCE_GAP, e.to_string()).with("expected_seq", expected.to_string())
            }
            NotAppended::Busy => Self::unavailable(&AUDIT_BUSY, e.to_string(), AGAIN),
            NotAppended::Full => Self::unavailable(&AUDIT_STORAGE_FULL, e.to_string(), LATER),
            NotAppended::Stopped => Self::unavailable(&AUDIT_LOG_STOPPED, e.to_string(), LATER),
        }
    }
}

impl From<NotProved> for Fault {
    fn from(e: NotProved) -> Self {
        match e {
            NotProved::Range { size } => {
                Self::refused(&AUDIT_NOT_IN_TREE, e.to_string()).with("checkpoint_size", size.to_string())
            }
            NotProved::Read(e) => Self::broken(e),
        }
    }
}

/// The door behind which the index's failure goes.
pub(crate) fn of_index(e: TxError<std::convert::Infallible>) -> Fault {
    match e {
        TxError::Flow(never) => match never {},
        TxError::Unavailable(e) => Fault::unavailable(&AUDIT_INDEX_UNAVAILABLE, e.to_string(), AGAIN),
        TxError::Broken(e) => Fault::broken(e),
    }
}
