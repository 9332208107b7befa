//! Whether a credential is rotated in time: how far its end is by its policy, and whether what is dead is still shown.

use std::time::Duration;

use legate_clock::Timestamp;

/// The longest that a policy may let a credential count as due.
pub(crate) const LONGEST_BEFORE: Duration = Duration::from_secs(90 * 24 * 3_600);
/// For so long what is dead counts as in use after somebody last showed it.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Health {
    /// Its end is far, or another one has taken its place.
    Ok,
    /// It is time to rotate it.
    Due,
    /// Half of that time is over.
    Overdue,
    /// Three quarters of that time are over, and nothing has taken its place.
    Expiring,
    /// It ended by itself, and somebody shows it still.
    ExpiredInUse,
    /// It was revoked or replaced, and somebody shows it still.
    RetiredInUse,
}

impl Health {
    pub(crate) const ALL: [Self; 6] =
        [Self::Ok, Self::Due, Self::Overdue, Self::Expiring, Self::ExpiredInUse, Self::RetiredInUse];

    /// As metrics call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Due => "DUE",
            Self::Overdue => "OVERDUE",
            Self::Expiring => "EXPIRING",
            Self::ExpiredInUse => "EXPIRED_IN_USE",
            Self::RetiredInUse => "RETIRED_IN_USE",
        }
    }
}

/// What is known of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) issued: Timestamp,
    pub(crate) ends: Timestamp,
    /// Whether it was revoked, or its holder was stopped or cut off after it was issued.
    pub(crate) is_dead: bool,
    /// Whether a newer one of the same holder and type works.
    pub(crate) is_succeeded: bool,
    /// When somebody last showed it after it had ended or had been revoked.
    pub(crate) misused: Option<Timestamp>,
    /// How long before its end it counts as due; `None`: a third of its life.
    pub(crate) rotate_before: Option<Duration>,
}

/// How long before its end it counts as due: at most as long as it lives.
pub(crate) fn window(facts: &Facts) -> Duration {
    let life = facts.ends.since(facts.issued);
    facts.rotate_before.map_or(life / 3, |before| before.min(LONGEST_BEFORE).min(life))
}

/// How it is at `now`; `None`: it is dead, and nobody shows it.
pub(crate) fn judge(facts: &Facts, now: Timestamp) -> Option<Health> {
    if facts.is_dead || facts.ends <= now {
        let is_shown = facts.misused.is_some_and(|at| now.since(at) < REMEMBERED);
        let retired = facts.is_dead || facts.is_succeeded;
        return is_shown.then_some(if retired { Health::RetiredInUse } else { Health::ExpiredInUse });
    }
    if facts.is_succeeded {
        return Some(Health::Ok);
    }
    let (left, window) = (facts.ends.since(now), window(facts));
    Some(match () {
        () if left > window => Health::Ok,
        () if left > window / 2 => Health::Due,
        () if left > window / 4 => Health::Overdue,
        () => Health::Expiring,
    })
}

/// Why a credential that works is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stale {
    /// It is past its time of rotation.
    PastRotation,
    /// No token was obtained by it for long.
    Unused,
    Both,
}

impl Stale {
    pub(crate) const ALL: [Self; 3] = [Self::PastRotation, Self::Unused, Self::Both];

    /// As metrics call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::PastRotation => "PAST_ROTATION",
            Self::Unused => "UNUSED",
            Self::Both => "BOTH",
        }
    }
}

/// How it was used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    /// `None`: never.
    pub(crate) last: Option<Timestamp>,
    /// For how long it has to be silent.
    pub(crate) minimum: Duration,
}

/// Whether one that is judged so has no business to work any more, and since when.
pub(crate) fn stale(facts: &Facts, health: Health, used: Use, now: Timestamp) -> Option<(Stale, Timestamp)> {
    let due = match health {
        Health::Due | Health::Overdue | Health::Expiring => Some(facts.ends.minus(window(facts))),
        Health::Ok => None,
        // It works no longer.
        Health::ExpiredInUse | Health::RetiredInUse => return None,
    };
    let since = used.last.map_or(facts.issued, |last| last.max(facts.issued));
    let silent = (now >= since && now.since(since) >= used.minimum).then_some(since);
    match (due, silent) {
        (Some(due), Some(silent)) => Some((Stale::Both, due.min(silent))),
        (Some(due), None) => Some((Stale::PastRotation, due)),
        (None, Some(silent)) => Some((Stale::Unused, silent)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_works_and_is_due_or_unused_is_stale() {
        let used = |last: Option<i64>| Use { last: last.map(at), minimum: Duration::from_secs(600) };
        let of = |now: i64, used: Use| {
            stale(&facts(), judge(&facts(), at(now)).unwrap_or(Health::RetiredInUse), used, at(now))
        };
        // It lives 1,200 s, of which the last 400 are the time to rotate it.
        assert_eq!(of(599, used(None)), None);
        assert_eq!(of(600, used(None)), Some((Stale::Unused, at(0))));
        assert_eq!(of(799, used(Some(200))), None);
        assert_eq!(of(800, used(Some(700))), Some((Stale::PastRotation, at(800))));
        assert_eq!(of(900, used(Some(200))), Some((Stale::Both, at(200))));
        assert_eq!(of(1_200, used(None)), None, "it works no longer");
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn facts() -> Facts {
        Facts {
            issued: at(0),
            ends: at(1_200),
            is_dead: false,
            is_succeeded: false,
            misused: None,
            rotate_before: Some(Duration::from_secs(400)),
        }
    }

    #[test]
    fn it_comes_due_by_its_policy() {
        for (now, expected) in [
            (0, Health::Ok),
            (799, Health::Ok),
            (800, Health::Due),
            (999, Health::Due),
            (1_000, Health::Overdue),
            (1_099, Health::Overdue),
            (1_100, Health::Expiring),
            (1_199, Health::Expiring),
        ] {
            assert_eq!(judge(&facts(), at(now)), Some(expected), "{now}");
            // A third of its life is what it is without.
            assert_eq!(judge(&Facts { rotate_before: None, ..facts() }, at(now)), Some(expected), "{now}");
            let succeeded = Facts { is_succeeded: true, ..facts() };
            assert_eq!(judge(&succeeded, at(now)), Some(Health::Ok), "{now}");
        }
        assert_eq!(judge(&facts(), at(1_200)), None);
        let long = Facts { rotate_before: Some(Duration::from_secs(u64::MAX)), ..facts() };
        assert_eq!(judge(&long, at(1)), Some(Health::Due), "no longer than it lives");
    }

    #[test]
    fn what_is_dead_counts_as_long_as_it_is_shown() {
        let shown = Facts { misused: Some(at(1_300)), ..facts() };
        assert_eq!(judge(&shown, at(1_301)), Some(Health::ExpiredInUse));
        assert_eq!(judge(&Facts { is_succeeded: true, ..shown }, at(1_301)), Some(Health::RetiredInUse));
        assert_eq!(judge(&Facts { is_dead: true, ..shown }, at(1_301)), Some(Health::RetiredInUse));
        let week = 7 * 24 * 3_600;
        assert_eq!(judge(&shown, at(1_300 + week)), None);
        assert_eq!(judge(&Facts { is_dead: true, ..facts() }, at(10)), None);
    }

    proptest! {
        /// While nothing is done, time only makes it worse.
        #[test]
        fn it_only_gets_worse(life in 1i64..100_000, before in prop::option::of(0u64..200_000), steps in prop::collection::vec(0i64..100_000, 2..8)) {
            let facts = Facts { ends: at(life), rotate_before: before.map(Duration::from_secs), ..facts() };
            let mut steps = steps;
            steps.sort_unstable();
            let told: Vec<_> = steps.into_iter().filter(|now| *now < life).map(|now| judge(&facts, at(now))).collect();
            prop_assert!(told.iter().all(Option::is_some));
            prop_assert!(told.is_sorted());
        }
    }
}
