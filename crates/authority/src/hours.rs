//! Hours of a week, in UTC: when something may be done, and when that changes next.

use alloc::vec::Vec;

use crate::Micros;

/// Minutes of a day.
const DAY: u32 = 24 * 60;
/// Minutes of a week.
const WEEK: u32 = 7 * DAY;
const MINUTE: i64 = 60_000_000;
/// The Unix epoch was a Thursday; weeks start on Monday.
const EPOCH: i64 = 3 * DAY as i64;

/// Hours of some days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    days: [bool; 7],
    from: u32,
    until: u32,
}

/// Hours that could never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hours run from a minute of the day until a later one, 0 to 1440")]
pub struct BadHours;

impl Hours {
    /// On `days` (from Monday on) from minute `from` of the day (inclusive) until minute `until` (exclusive).
    ///
    /// # Errors
    /// [`BadHours`] when they are empty or reach past the day.
    pub fn new(days: [bool; 7], from: u32, until: u32) -> Result<Self, BadHours> {
        if from < until && until <= DAY { Ok(Self { days, from, until }) } else { Err(BadHours) }
    }

    /// The spans of minutes of the week.
    fn spans(self) -> impl Iterator<Item = (u32, u32)> {
        let days = (0u32..).zip(self.days).filter(|(_, on)| *on);
        days.map(move |(day, _)| (day * DAY + self.from, day * DAY + self.until))
    }
}

/// The hours of a week in which something may be done: any of some [`Hours`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Week {
    /// Spans of minutes, in order, none of which meets the next.
    spans: Vec<(u32, u32)>,
}

impl Week {
    /// The union of `hours`; of none: no minute.
    pub fn new(hours: impl IntoIterator<Item = Hours>) -> Self {
        let mut all: Vec<_> = hours.into_iter().flat_map(Hours::spans).collect();
        all.sort_unstable();
        let mut spans: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (from, until) in all {
            match spans.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(until),
                _ => spans.push((from, until)),
            }
        }
        Self { spans }
    }

    /// Whether `now` is within them.
    #[must_use]
    pub fn holds_at(&self, now: Micros) -> bool {
        self.holds(minute_of_week(now))
    }

    /// The first moment after `now` at which the answer of [`Week::holds_at`] changes; `None`: never.
    #[must_use]
    pub fn next_change(&self, now: Micros) -> Option<Micros> {
        let minute = minute_of_week(now);
        let holds = self.holds(minute);
        let edges = self.spans.iter().flat_map(|(from, until)| [*from, *until % WEEK]);
        // At an edge where nothing changes, a week's last span meets the first of the next.
        let ahead = edges.filter(|at| self.holds(*at) != holds).map(|at| (at + WEEK - minute) % WEEK).min()?;
        let start_of_minute = now - now.rem_euclid(MINUTE);
        Some(start_of_minute.saturating_add(i64::from(ahead) * MINUTE))
    }

    fn holds(&self, minute: u32) -> bool {
        let after = self.spans.partition_point(|(from, _)| *from <= minute);
        self.spans[..after].last().is_some_and(|(_, until)| minute < *until)
    }
}

/// The minute of the week, from Monday's first, in which `now` is.
fn minute_of_week(now: Micros) -> u32 {
    let minute = (now.div_euclid(MINUTE) + EPOCH).rem_euclid(i64::from(WEEK));
    // Below WEEK, so the conversion cannot fail.
    u32::try_from(minute).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    /// 2030-03-17 17:46:40 UTC, a Sunday.
    const SUNDAY: Micros = 1_900_000_000 * 1_000_000;

    fn week(days: &str, from: u32, until: u32) -> Week {
        let on: Vec<bool> = days.chars().map(|d| d != '.').collect();
        Week::new([Hours::new(on.try_into().unwrap(), from, until).unwrap()])
    }

    #[test]
    fn days_are_counted_from_monday() {
        for (days, holds) in [("mtwtfss", true), ("......s", true), ("mtwtfs.", false)] {
            assert_eq!(week(days, 0, DAY).holds_at(SUNDAY), holds, "{days}");
        }
        let (hour, minute) = (60, 46);
        assert!(week("......s", 17 * hour + minute, 17 * hour + minute + 1).holds_at(SUNDAY));
        assert!(!week("......s", 17 * hour + minute + 1, DAY).holds_at(SUNDAY));
        assert!(!week("......s", 0, 17 * hour + minute).holds_at(SUNDAY));
    }

    #[test]
    fn the_next_change_is_the_next_edge_also_over_the_end_of_the_week() {
        let at = |day: i64, minute: i64| {
            SUNDAY - SUNDAY.rem_euclid(i64::from(DAY) * MINUTE) + (day * i64::from(DAY) + minute) * MINUTE
        };
        assert_eq!(week("mtwtf..", 480, 1_080).next_change(SUNDAY), Some(at(1, 480)));
        assert_eq!(week("mtwtfss", 0, 1_080).next_change(SUNDAY), Some(at(0, 1_080)));
        assert_eq!(week("mtwtfss", 0, DAY).next_change(SUNDAY), None, "always");
        assert_eq!(Week::new([]).next_change(SUNDAY), None, "never");
        // Sunday's end is Monday's start, and nothing changes there.
        assert_eq!(week("m.....s", 0, DAY).next_change(SUNDAY), Some(at(2, 0)));
    }

    #[test]
    fn hours_that_could_never_be_are_refused() {
        for (from, until) in [(5, 5), (6, 5), (0, DAY + 1), (DAY, DAY)] {
            assert_eq!(Hours::new([true; 7], from, until), Err(BadHours));
        }
    }

    fn hours() -> impl Strategy<Value = Hours> {
        (any::<[bool; 7]>(), 0..DAY, 1..=DAY)
            .prop_filter_map("empty", |(days, from, until)| Hours::new(days, from, until).ok())
    }

    proptest! {
        #[test]
        fn any_of_the_hours_is_enough_and_every_change_is_foretold(
            all in proptest::collection::vec(hours(), 0..5), now in any::<i32>(), micros in 0..MINUTE,
        ) {
            let now = i64::from(now) * MINUTE + micros;
            let week = Week::new(all.iter().copied());
            let one_by_one = all.iter().any(|h| Week::new([*h]).holds_at(now));
            prop_assert_eq!(week.holds_at(now), one_by_one);
            match week.next_change(now) {
                Some(next) => {
                    prop_assert!(next > now);
                    prop_assert_ne!(week.holds_at(next), week.holds_at(now));
                    prop_assert_eq!(week.holds_at(next - 1), week.holds_at(now));
                    let between = now + (next - now) / 2;
                    prop_assert_eq!(week.holds_at(between), week.holds_at(now));
                }
                None => for minute in 0..i64::from(WEEK) {
                    prop_assert_eq!(week.holds_at(now + minute * MINUTE), week.holds_at(now));
                },
            }
        }
    }
}
