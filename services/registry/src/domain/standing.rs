//! How a class, a namespace or a stop order stands: suspended, everything below it is stopped; and the cut-off that a resumption leaves.

use std::fmt;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_wire::registry as wire;
use wire::StandingStatus;
use wire::declaration::Object;

/// Within this every service has heard of a suspension, or answers and issues nothing (`legate_view::HARD_BOUND`).
pub(crate) const HEARD_BY_ALL: Duration = Duration::from_secs(5);

/// What is done to a class or a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Every agent below is stopped.
    Suspend,
    /// Every agent below works again, as far as its own state lets it.
    Resume,
}

/// It stands so already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AlreadySo(Turn);

impl fmt::Display for AlreadySo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Turn::Suspend => "is suspended already",
            Turn::Resume => "is not suspended",
        })
    }
}

/// The standing of a class or a namespace; `None` for what has none.
pub(crate) fn status_of(declaration: &wire::Declaration) -> Option<&Option<StandingStatus>> {
    match declaration.object.as_ref()? {
        Object::Namespace(o) => Some(&o.status),
        Object::AgentClass(o) => Some(&o.status),
        Object::StopOrder(o) => Some(&o.status),
        _ => None,
    }
}

/// The same, to be written.
pub(crate) fn status_mut(declaration: &mut wire::Declaration) -> Option<&mut Option<StandingStatus>> {
    match declaration.object.as_mut()? {
        Object::Namespace(o) => Some(&mut o.status),
        Object::AgentClass(o) => Some(&mut o.status),
        Object::StopOrder(o) => Some(&mut o.status),
        _ => None,
    }
}

/// Whether a class or a namespace is suspended.
pub(crate) fn is_suspended(declaration: &wire::Declaration) -> bool {
    status_of(declaration).and_then(Option::as_ref).is_some_and(|status| status.suspended)
}

/// The cut-off that a class or a namespace has.
pub(crate) fn cutoff_of(declaration: &wire::Declaration) -> Option<Timestamp> {
    read(status_of(declaration)?.as_ref()?.authorization_cutoff)
}

/// Suspends or resumes; who, when and why, and the cut-off, which only rises.
///
/// # Errors
/// When it stands so already; it is as it was.
pub(crate) fn turn(
    status: &mut Option<StandingStatus>,
    turn: Turn,
    now: Timestamp,
    actor: &str,
    reason: &str,
) -> Result<(), AlreadySo> {
    let before = status.clone().unwrap_or_default();
    if before.suspended == (turn == Turn::Suspend) {
        return Err(AlreadySo(turn));
    }
    // No agent's lifecycle version changes, so the cut-off alone has to cover what was issued meanwhile by a service that
    // had not heard of the suspension yet.
    let heard = match turn {
        Turn::Suspend => None,
        Turn::Resume => read(before.state_time).map(|suspended| suspended.plus(HEARD_BY_ALL)),
    };
    let cutoff = read(before.authorization_cutoff).max(heard).max(Some(now));
    *status = Some(StandingStatus {
        suspended: turn == Turn::Suspend,
        authorization_cutoff: cutoff.map(Into::into),
        state_time: Some(now.into()),
        state_reason: reason.to_owned(),
        state_actor: actor.to_owned(),
    });
    Ok(())
}

/// The later of two cut-offs, as an agent carries it that leaves a class.
pub(crate) fn later(one: Option<prost_types::Timestamp>, other: Option<Timestamp>) -> Option<prost_types::Timestamp> {
    read(one).max(other).map(Into::into)
}

fn read(at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(|at| Timestamp::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_turn_says_who_when_and_why() {
        let mut status = None;
        turn(&mut status, Turn::Suspend, at(7), "ada", "odd calls").unwrap();
        let stopped = status.clone().unwrap();
        assert!(stopped.suspended);
        assert_eq!(stopped.authorization_cutoff, Some(at(7).into()));
        assert_eq!(stopped.state_time, Some(at(7).into()));
        assert_eq!((stopped.state_actor.as_str(), stopped.state_reason.as_str()), ("ada", "odd calls"));
        let again = turn(&mut status, Turn::Suspend, at(8), "x", "y").unwrap_err();
        assert_eq!(again.to_string(), "is suspended already");
        assert_eq!(status, Some(stopped), "a refused turn leaves no trace");
        turn(&mut status, Turn::Resume, at(60), "grace", "explained").unwrap();
        let resumed = status.clone().unwrap();
        assert!(!resumed.suspended);
        assert_eq!(resumed.authorization_cutoff, Some(at(60).into()));
        let again = turn(&mut status, Turn::Resume, at(61), "x", "y").unwrap_err();
        assert_eq!(again.to_string(), "is not suspended");
        assert!(turn(&mut None, Turn::Resume, at(61), "x", "y").is_err());
    }

    #[test]
    fn a_hasty_resumption_covers_whoever_had_not_heard() {
        let mut status = None;
        turn(&mut status, Turn::Suspend, at(7), "a", "r").unwrap();
        turn(&mut status, Turn::Resume, at(8), "a", "r").unwrap();
        assert_eq!(status.unwrap().authorization_cutoff, Some(at(12).into()));
    }

    proptest! {
        /// Whatever is done, by a clock that also goes back: a cut-off only rises, and covers every suspension by what
        /// it takes to be heard.
        #[test]
        fn nothing_of_before_comes_back(steps in prop::collection::vec((any::<bool>(), 0i64..100), 0..40)) {
            let (mut status, mut suspended, mut covered) = (None, false, None::<i64>);
            for (suspend, now) in steps {
                let kind = if suspend { Turn::Suspend } else { Turn::Resume };
                let before = status.clone();
                let done = turn(&mut status, kind, at(now), "a", "r");
                prop_assert_eq!(done.is_ok(), suspend != suspended);
                if done.is_err() {
                    prop_assert_eq!(&status, &before);
                    continue;
                }
                let since = before.and_then(|b: StandingStatus| read(b.state_time)).map_or(i64::MIN, |at| at.secs());
                let least = if suspend { now } else { now.max(since + 5) };
                (suspended, covered) = (suspend, covered.max(Some(least)));
                let cutoff = status.as_ref().and_then(|s| read(s.authorization_cutoff)).map(|at| at.secs());
                prop_assert_eq!(cutoff, covered);
            }
        }
    }
}
