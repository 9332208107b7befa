//! What the record of use can prove: for how long nothing was missed of it, and when silence is long enough.

use std::time::Duration;

use legate_clock::Timestamp;

const DAY: Duration = Duration::from_secs(86_400);

/// From when to when the log was heard, and where records may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    window: Option<(Timestamp, Timestamp)>,
    /// In order, none touching another.
    gaps: Vec<(Timestamp, Timestamp)>,
}

impl Evidence {
    /// Without a beginning and an end nothing was heard.
    pub(crate) fn new(
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        gaps: impl IntoIterator<Item = (Timestamp, Timestamp)>,
    ) -> Self {
        let mut all: Vec<_> = gaps.into_iter().filter(|(from, to)| from < to).collect();
        all.sort_unstable();
        let mut gaps: Vec<(Timestamp, Timestamp)> = Vec::with_capacity(all.len());
        for (from, to) in all {
            match gaps.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => gaps.push((from, to)),
            }
        }
        Self { window: from.zip(to).filter(|(from, to)| from <= to), gaps }
    }

    /// Its end.
    pub(crate) fn to(&self) -> Option<Timestamp> {
        self.window.map(|(_, to)| to)
    }

    /// The later of a moment and its beginning.
    pub(crate) fn from(&self, since: Timestamp) -> Timestamp {
        self.window.map_or(since, |(from, _)| from.max(since))
    }

    /// For how long it reaches from a moment to its end, without what may be missing.
    pub(crate) fn covered(&self, since: Timestamp) -> Duration {
        let Some((from, to)) = self.window else { return Duration::ZERO };
        let from = from.max(since);
        if from >= to {
            return Duration::ZERO;
        }
        let missing = self.gaps.iter().map(|(begin, end)| {
            let (begin, end) = ((*begin).max(from), (*end).min(to));
            if begin < end { end.since(begin) } else { Duration::ZERO }
        });
        to.since(from).saturating_sub(missing.sum())
    }
}

/// How something was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    pub(crate) count: u64,
    pub(crate) last: Option<Timestamp>,
    /// The longest time between two days of use that follow one another; 0 where there are no two.
    pub(crate) interval_days: u32,
}

impl Uses {
    /// Both together. What one of them did at intervals, both together may do at the same.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            last: self.last.max(other.last),
            interval_days: self.interval_days.max(other.interval_days),
        }
    }
}

/// What the evidence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It was used lately enough.
    Used,
    /// It was not, for longer than this, from that moment on.
    Long { since: Timestamp, threshold: Duration },
    /// It is younger than that, or the evidence does not reach so far.
    Unknown,
}

/// Judges what could be used from `available` on. What comes at intervals may be silent for twice the longest of them: a monthly
/// job is not unused after two weeks.
pub(crate) fn judge(uses: &Uses, available: Timestamp, minimum: Duration, evidence: &Evidence) -> Silence {
    let threshold = minimum.max(DAY.saturating_mul(uses.interval_days).saturating_mul(2));
    let since = uses.last.map_or(available, |last| last.max(available));
    if evidence.covered(since) >= threshold {
        return Silence::Long { since: evidence.from(since), threshold };
    }
    let is_lately = uses.last.zip(evidence.to()).is_some_and(|(last, to)| last >= to || to.since(last) < threshold);
    if is_lately { Silence::Used } else { Silence::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_secs(day * 86_400)
    }

    fn days(n: u32) -> Duration {
        DAY * n
    }

    fn uses(last: i64, interval_days: u32) -> Uses {
        Uses { count: 1, last: Some(at(last)), interval_days }
    }

    #[test]
    fn silence_counts_only_as_far_as_the_log_was_heard() {
        let whole = Evidence::new(Some(at(0)), Some(at(100)), []);
        let never = Uses::default();
        let long = |since| Silence::Long { since: at(since), threshold: days(90) };
        assert_eq!(judge(&never, at(-50), days(90), &whole), long(0));
        assert_eq!(judge(&never, at(10), days(90), &whole), long(10));
        assert_eq!(judge(&never, at(11), days(90), &whole), Silence::Unknown);
        let short = Evidence::new(Some(at(11)), Some(at(100)), []);
        assert_eq!(judge(&never, at(-50), days(90), &short), Silence::Unknown);
        let gap = Evidence::new(Some(at(0)), Some(at(100)), [(at(40), at(60)), (at(50), at(51))]);
        assert_eq!(gap.covered(at(0)), days(80));
        assert_eq!(judge(&never, at(-50), days(90), &gap), Silence::Unknown);
        for nothing in [Evidence::default(), Evidence::new(Some(at(0)), None, []), Evidence::new(None, Some(at(9)), [])]
        {
            assert_eq!(judge(&never, at(-50), days(7), &nothing), Silence::Unknown);
        }
    }

    #[test]
    fn a_monthly_job_is_not_unused_after_two_weeks() {
        let whole = Evidence::new(Some(at(0)), Some(at(400)), []);
        let monthly = |last| judge(&uses(last, 31), at(0), days(14), &whole);
        assert_eq!(monthly(385), Silence::Used);
        assert_eq!(monthly(339), Silence::Used);
        assert_eq!(monthly(338), Silence::Long { since: at(338), threshold: days(62) });
        // What is used every day is missed after the minimum.
        assert_eq!(
            judge(&uses(386, 1), at(0), days(14), &whole),
            Silence::Long { since: at(386), threshold: days(14) }
        );
        // Given anew since, it had no time to be used.
        assert_eq!(judge(&uses(10, 0), at(395), days(14), &whole), Silence::Unknown);
    }

    proptest! {
        /// A later use never makes anything unused that was not.
        #[test]
        fn a_later_use_never_makes_anything_unused(
            days_of_use in prop::collection::btree_set(0i64..300, 0..8),
            later in 1i64..100,
            (from, to, available, minimum) in (-10i64..50, 250i64..400, -20i64..200, 7u32..120),
            gap in prop::option::of((0i64..300, 0i64..50)),
        ) {
            let gaps = gap.map(|(begin, long)| (at(begin), at(begin + long)));
            let evidence = Evidence::new(Some(at(from)), Some(at(to)), gaps);
            let of = |days: &[i64]| Uses {
                count: days.len() as u64,
                last: days.last().map(|day| at(*day)),
                interval_days: days.windows(2).map(|two| u32::try_from(two[1] - two[0]).unwrap_or(0)).max().unwrap_or(0),
            };
            let mut all: Vec<i64> = days_of_use.into_iter().collect();
            let before = judge(&of(&all), at(available), days(minimum), &evidence);
            all.push(all.last().map_or(later, |last| last + later));
            let after = judge(&of(&all), at(available), days(minimum), &evidence);
            let is_long = |silence| matches!(silence, Silence::Long { .. });
            prop_assert!(!is_long(after) || is_long(before), "{before:?} {after:?}");
        }
    }
}
