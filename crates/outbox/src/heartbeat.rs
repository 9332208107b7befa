//! That an emitter lives, as an event: told where nothing else is, so that its silence says something.

use std::time::Duration;

use legate_wire::audit::{AuditEvent, Outcome};

/// The type of such events.
pub const HEARTBEAT: &str = "emitter.heartbeat";

/// It is told where nothing else was for so long.
const QUIET: Duration = Duration::from_secs(60);

/// And so often where always something else is, so that it is known that silence would say something.
const BUSY: Duration = Duration::from_secs(600);

/// The event that says that its emitter lives. Emitter, id and time are put in where it is recorded.
#[must_use]
pub fn heartbeat() -> AuditEvent {
    AuditEvent { r#type: HEARTBEAT.to_owned(), outcome: Outcome::Success.into(), ..AuditEvent::default() }
}

/// When it is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulse {
    /// When something was told last, by a clock that only goes forward.
    told: Duration,
    /// When this was.
    beaten: Duration,
}

impl Pulse {
    pub(crate) fn begun(now: Duration) -> Self {
        Self { told: now, beaten: now }
    }

    /// Something reached the log.
    pub(crate) fn told(&mut self, now: Duration) {
        self.told = now;
    }

    /// Whether it is to be told now; the next one is due later then.
    pub(crate) fn is_due(&mut self, now: Duration) -> bool {
        let is_due = now.saturating_sub(self.told) >= QUIET || now.saturating_sub(self.beaten) >= BUSY;
        if is_due {
            (self.told, self.beaten) = (now, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_each_minute_where_nothing_else_is_and_seldom_else() {
        let at = Duration::from_secs;
        let mut pulse = Pulse::begun(at(100));
        assert!(!pulse.is_due(at(159)));
        assert!(pulse.is_due(at(160)) && !pulse.is_due(at(161)));
        pulse.told(at(200));
        assert!(!pulse.is_due(at(220)), "something was told");
        assert!(pulse.is_due(at(260)));
        let beats = (261..1_461).filter(|now| {
            pulse.told(at(*now));
            pulse.is_due(at(*now))
        });
        assert_eq!(beats.count(), 2, "of a busy hour a few");
    }
}
