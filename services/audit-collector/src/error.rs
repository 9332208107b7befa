//! Every reason with which this service refuses a call, and its cure.

use std::time::Duration;

use legate_db::TxError;
use legate_rpc::Fault;

use crate::domain::event::BadEvent;
use crate::domain::quota::Spent;
use crate::ledger::Leader;
use crate::log::{NotAppended, NotProved};

legate_rpc::reasons! {
    /// An event is not one.
    AUDIT_EVENT_INVALID, InvalidArgument, "An event cannot be decoded, or lacks what every event has.", "Mend the emitter; the event that is named was not recorded, nor were those behind it.";
    /// An event is too large.
    AUDIT_EVENT_TOO_LARGE, InvalidArgument, "An event is over 60 KiB; over 8 KiB where an agent or an enforcement point tells it.", "Leave details out; refer to large things by their hash.";
    /// Names that an event does not commit to.
    AUDIT_PERSONAL_MISMATCH, InvalidArgument, "The names that come with an event are not those that it commits to, or are none.", "Mend the emitter; the event that is named was not recorded, nor were those behind it.";
    /// An event names another emitter than the caller.
    AUDIT_PRODUCER_MISMATCH, PermissionDenied, "An event names an emitter that is not the caller's certificate.", "Emit events in one's own name only.";
    /// A signature does not hold.
    AUDIT_SIGNATURE_INVALID, PermissionDenied, "A batch of events came with a signature that is not the caller's over these events.", "Sign with the key of the certificate that the connection shows, over what is sent (legate-batch does); or send no signature. Operators: the alert EMITTER_SIGNATURE says whose it was.";
    /// An event is out of order.
    AUDIT_SEQUENCE_GAP, FailedPrecondition, "Events before the first one offered are not in the log.", "Offer events from expected_seq on; if they are lost, begin a new epoch.";
    /// Another event stands under this number.
    AUDIT_EVENTS_DIFFER, FailedPrecondition, "The log has another event under a number that is offered: the emitter's store was put back to an earlier copy.", "Tell what waits in a new epoch, numbered from 1; the outbox and the client's reporter do so by themselves.";
    /// What was not told has no receipt.
    AUDIT_NOT_TOLD, NotFound, "The log has no such event of the caller's epoch; the refusal says the last that it has, as `last_seq`.", "Offer the event first; receipts are for whoever told it.";
    /// An event lies in the future.
    AUDIT_TIME_IN_FUTURE, FailedPrecondition, "An event's time is over five minutes ahead of the collector's clock.", "Set the clocks; the emitter offers the event again.";
    /// An agent or an enforcement point tells what is not its own.
    AUDIT_NOT_YOURS_TO_TELL, PermissionDenied, "An agent or an enforcement point offers an event that is not of what it did, or what was done there.", "Tell events of the types action.executed and activity.reported, in the own namespace; an agent of itself only.";
    /// Somebody tells too much.
    AUDIT_QUOTA_SPENT, ResourceExhausted, "The caller offers more events, or asks for more receipts, than it may: an agent or an enforcement point 200 a second, 2,000 at once, and a new epoch every 10 minutes; a service what log.service_events_per_second says; receipts 400 a second.", "Wait as long as RetryInfo says, then offer them again; restart less often. Operators: the alert EMITTER_REFUSED says whose it is.";
    /// No such alert.
    AUDIT_ALERT_NOT_FOUND, NotFound, "There is no alert of this id among those that the caller may see.", "List the alerts; where it is new, ask again.";
    /// Nothing to change.
    AUDIT_ALERT_SETTLED, FailedPrecondition, "The alert is acknowledged or resolved already.", "Read what became of it; what is found again later is another alert.";
    /// The log has no room.
    AUDIT_STORAGE_FULL, ResourceExhausted, "The log's disk is full; only that fact is still recorded.", "Make room on the disk; the collector goes on by itself.";
    /// Too much waits.
    AUDIT_BUSY, ResourceExhausted, "More events wait for the disk than the bound allows.", "Wait as long as RetryInfo says, then offer them again.";
    /// The log has stopped.
    AUDIT_LOG_STOPPED, Unavailable, "A write or sync of the log failed, so nothing more is recorded until a restart.", "Look at the disk and the collector's log, then restart the collector.";
    /// Another collector leads.
    AUDIT_STANDBY, Unavailable, "This collector stands by: another one that shares the log leads, or none does yet. The refusal says who, as `leader`.", "Ask the one that leads, or again after RetryInfo: a collector that stands by takes over once the lease is over.";
    /// The database of the commit log does not answer.
    AUDIT_COMMIT_LOG_AWAY, Unavailable, "The PostgreSQL that holds the log does not answer, so nothing is acknowledged.", "Offer the events again after RetryInfo: what was committed is known, and is not taken twice. Operators: see the database.";
    /// There is no such leaf or size.
    AUDIT_NOT_IN_TREE, OutOfRange, "The leaf or tree size is not covered by the newest checkpoint.", "Ask for a size of at most the newest checkpoint's; a new leaf is covered within a second.";
    /// Another log than was heard.
    AUDIT_NOT_THIS_LOG, FailedPrecondition, "The log does not begin with the leaves that the reader heard before: it was put back to an earlier copy, or is another one.", "Read it from the beginning; the registry does so by itself, and says since when it hears it.";
    /// No checkpoint covers it yet.
    AUDIT_CHECKPOINT_BEHIND, Unavailable, "What was recorded is not covered by a signed checkpoint within the deadline.", "Ask again with a longer deadline; operators: see why no checkpoint is published.";
    /// Nobody is asked to cosign.
    AUDIT_NO_WITNESSES, FailedPrecondition, "A cosigned checkpoint was asked for, and the collector's configuration names no witnesses.", "Ask without cosigned; operators: see witness.policy (docs/witnesses.md).";
    /// Too few witnesses have cosigned.
    AUDIT_NOT_COSIGNED, Unavailable, "No checkpoint that covers it has the quorum of witnesses within the deadline.", "Ask again with a longer deadline, or without cosigned; operators: see which witness does not answer (legate_audit_witness_answers_total, and the collector's log).";
    /// The index has not come so far.
    AUDIT_INDEX_BEHIND, Unavailable, "The index does not hold as many leaves as was asked for within the deadline.", "Ask again; the log itself has them.";
    /// The index cannot be asked.
    AUDIT_INDEX_UNAVAILABLE, Unavailable, "The database of the index does not answer; the log is not affected.", "Ask again; operators: see the database.";
    /// Nobody knows what operators may read.
    AUDIT_ROLES_UNKNOWN, Unavailable, "The collector does not know yet what operators may read: the registry's events have not told it, or what they told is not in the index for over 5 s.", "Ask again; if it stays so, start the registry and see that its events arrive. Whom the collector's configuration names as auditors may read meanwhile.";
    /// More agents than one question takes.
    AUDIT_DESCENDANTS_TOO_MANY, FailedPrecondition, "The agent, those that it made and those that they made are more than 200.", "Ask about agents further down, or without include_descendants.";
    /// More uses than one answer adds up.
    AUDIT_USAGE_TOO_BROAD, FailedPrecondition, "More than 500,000 counts of hours answer the question.", "Ask about a shorter time, one agent or one namespace.";
    /// What is to be erased is held.
    AUDIT_ON_HOLD, FailedPrecondition, "Events that name the person are under a legal hold, so nothing of it is erased.", "See legate hold list; release the holds that are named once they are no longer needed, then erase again.";
    /// There is no such hold.
    AUDIT_HOLD_UNKNOWN, NotFound, "No hold of this id is in force.", "See legate hold list.";
    /// Too many holds.
    AUDIT_HOLDS_TOO_MANY, ResourceExhausted, "As many holds are in force as there may be: 256.", "Release one that is no longer needed, or set one that covers several.";
    /// Too many follow the log.
    AUDIT_TAILS_TOO_MANY, ResourceExhausted, "As many callers follow the log as the bounds allow: 64 in all, 8 for one of them.", "End one of the others, or ask with QueryEvents.";
    /// Too many different things are asked for.
    AUDIT_READS_TOO_MANY, ResourceExhausted, "The caller asks for more different things within 10 s than the record of reads tells apart, and has to wait for longer than its deadline.", "Ask again after RetryInfo, one thing after the other; the same question over and over is not slowed down.";
    /// A follower does not read.
    AUDIT_TAIL_SLOW, ResourceExhausted, "The caller took nothing of what it follows for 10 s.", "Follow again with the resume token of the last message that was read.";
    /// The collector stops.
    AUDIT_STOPPING, Unavailable, "The collector is stopping.", "Follow again with the last resume token.";
}

/// How long a caller waits before it tries again.
pub(crate) const AGAIN: Duration = Duration::from_millis(250);

/// How long a caller waits when somebody has to do something first.
const LATER: Duration = Duration::from_secs(2);

/// The refusal of a caller whose quota is used up.
pub(crate) fn spent(caller: &str, spent: Spent) -> Fault {
    Fault::unavailable(&AUDIT_QUOTA_SPENT, format!("{caller} tells more than it may"), spent.wait)
}

/// The refusal of everything while another collector leads, or none does.
pub(crate) fn stands_by(leader: Option<&Leader>) -> Fault {
    match leader {
        None => Fault::unavailable(&AUDIT_STANDBY, "no collector leads this log yet", AGAIN),
        Some(leader) => {
            let why = format!("{} leads this log; this collector stands by", leader.address);
            Fault::unavailable(&AUDIT_STANDBY, why, AGAIN).with("leader", leader.address.clone())
        }
    }
}

/// The refusal of the event at `position` in a request.
pub(crate) fn bad_event(position: usize, bad: &BadEvent) -> Fault {
    let reason = match bad {
        BadEvent::TooLarge(_) | BadEvent::TooLargeForIt(_) => &AUDIT_EVENT_TOO_LARGE,
        BadEvent::NotIts(_) => &AUDIT_NOT_YOURS_TO_TELL,
        BadEvent::Emitter { .. } => &AUDIT_PRODUCER_MISMATCH,
        BadEvent::Future(_) => &AUDIT_TIME_IN_FUTURE,
        BadEvent::Personal(_) => &AUDIT_PERSONAL_MISMATCH,
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
            NotAppended::Other { seq } => {
                Self::refused(&AUDIT_EVENTS_DIFFER, e.to_string()).with("seq", seq.to_string())
            }
            NotAppended::Busy => Self::unavailable(&AUDIT_BUSY, e.to_string(), AGAIN),
            NotAppended::Full => Self::unavailable(&AUDIT_STORAGE_FULL, e.to_string(), LATER),
            NotAppended::Stopped => Self::unavailable(&AUDIT_LOG_STOPPED, e.to_string(), LATER),
            NotAppended::Fenced => Self::unavailable(&AUDIT_STANDBY, e.to_string(), AGAIN),
            NotAppended::Away => Self::unavailable(&AUDIT_COMMIT_LOG_AWAY, e.to_string(), LATER),
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
pub(crate) fn of_index(e: TxError<Fault>) -> Fault {
    match e {
        TxError::Flow(fault) => fault,
        TxError::Unavailable(e) => Fault::unavailable(&AUDIT_INDEX_UNAVAILABLE, e.to_string(), AGAIN),
        TxError::Broken(e) => Fault::broken(e),
    }
}
