//! That an emitter lives, as an event told each minute, so that its silence says something; and that it leaves, so that it says nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use legate_wire::audit::{AuditEvent, Outcome};

/// The type of events that say that an emitter lives.
pub const HEARTBEAT: &str = "emitter.heartbeat";

/// The type of events that say that one of the emitters that share a numbering was stopped in order.
pub const LEFT: &str = "emitter.left";

/// The detail that names the running copy that tells something of itself.
pub const REPLICA: &str = "replica";

/// How often it is told.
const EVERY: Duration = Duration::from_secs(60);

/// The event that says that the copy called `replica` lives. Emitter, id and time are put in where it is recorded.
#[must_use]
pub fn heartbeat(replica: &str) -> AuditEvent {
    of_itself(HEARTBEAT, replica)
}

/// The event that says that the copy called `replica` was stopped in order.
pub(crate) fn left(replica: &str) -> AuditEvent {
    of_itself(LEFT, replica)
}

fn of_itself(kind: &str, replica: &str) -> AuditEvent {
    AuditEvent {
        r#type: kind.to_owned(),
        outcome: Outcome::Success.into(),
        details: BTreeMap::from([(REPLICA.to_owned(), replica.to_owned())]),
        ..AuditEvent::default()
    }
}

/// When it is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulse {
    /// When it was told last, by a clock that only goes forward.
    beaten: Duration,
}

impl Pulse {
    pub(crate) fn begun(now: Duration) -> Self {
        Self { beaten: now }
    }

    /// Whether it is to be told now; the next one is due later then.
    pub(crate) fn is_due(&mut self, now: Duration) -> bool {
        let is_due = now.saturating_sub(self.beaten) >= EVERY;
        if is_due {
            self.beaten = now;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_each_minute() {
        let at = Duration::from_secs;
        let mut pulse = Pulse::begun(at(100));
        assert!(!pulse.is_due(at(159)));
        assert!(pulse.is_due(at(160)) && !pulse.is_due(at(161)));
        // A minute that was missed is not caught up with.
        assert!(pulse.is_due(at(400)) && !pulse.is_due(at(459)) && pulse.is_due(at(460)));
    }
}
