//! Rules about what an agent usually does: something for the first time, far more than usual, and many denials at once.

use aws_lc_rs::digest::{SHA256, digest};
use legate_wire::audit::{AlertSeverity, AlertType};

use super::alert::Finding;
use super::fact::{Decided, Fact};
use super::machine::{Found, finding};
use super::memory::{Denial, Habit, Hour, Memory};
use super::{HOUR, MINUTE};

/// Habits are known after so many acts, over so long.
const LEARNED: u64 = 50;
const LEARNING: i64 = 24 * HOUR;

/// Different acts that are remembered; an agent that does more has no habits that would tell anything.
const MOST_SEEN: usize = 256;

/// Hours that are looked back on: a week. Fewer than a day say nothing.
const LOOKED_BACK: i64 = 168;
const LEAST_HOURS: usize = 24;

/// So many robust deviations from the median are unusual, and so few acts never are.
const DEVIATIONS: f64 = 6.0;
const LEAST_COUNT: u64 = 30;

/// The median of deviations times this is the standard deviation of what is normally distributed.
const SIGMA: f64 = 1.4826;

/// So many denials within a minute are a burst.
const BURST: usize = 20;

/// Another version is another agent.
pub(super) fn forget(memory: &mut Memory, agent: &str) {
    memory.habits.remove(agent);
    memory.habits.insert(agent.to_owned(), Habit::default());
}

/// A decision about an agent.
pub(super) fn decided(memory: &mut Memory, fact: &Fact, decided: &Decided, found: &mut Found) {
    if fact.agent.is_empty() {
        return;
    }
    let habit = memory.habits.entry(fact.agent.clone()).or_default();
    if decided.is_allowed {
        seen(habit, fact, &decided.action, &decided.resource_type, found);
    } else {
        denied(habit, fact, found);
    }
    rate(habit, fact, found);
}

fn seen(habit: &mut Habit, fact: &Fact, action: &str, resource_type: &str, found: &mut Found) {
    if habit.acts == 0 {
        habit.since = fact.time;
    }
    habit.acts += 1;
    let pair = pair(action, resource_type);
    if habit.seen.contains(&pair) || habit.seen.len() >= MOST_SEEN {
        return;
    }
    habit.seen.push(pair);
    if habit.acts <= LEARNED || fact.time - habit.since < LEARNING {
        return;
    }
    let summary =
        format!("{action} on {resource_type} for the first time, after {} acts of this version", habit.acts - 1);
    let about = format!("{action} {resource_type}");
    found.add(finding(fact, AlertType::FirstSeen, AlertSeverity::Low, about, summary));
}

fn pair(action: &str, resource_type: &str) -> u64 {
    let hash = digest(&SHA256, format!("{}:{action}{resource_type}", action.len()).as_bytes());
    hash.as_ref().iter().take(8).fold(0, |all, byte| (all << 8) | u64::from(*byte))
}

fn denied(habit: &mut Habit, fact: &Fact, found: &mut Found) {
    habit.denials.push(Denial { time: fact.time, leaf: fact.leaf });
    if habit.denials.len() < BURST {
        return;
    }
    let times = || habit.denials.iter().map(|one| one.time);
    let over = times().max().unwrap_or(0) - times().min().unwrap_or(0);
    if over > MINUTE {
        habit.denials.remove(0);
        return;
    }
    let leaves = habit.denials.iter().map(|one| one.leaf).collect();
    habit.denials.clear();
    let summary = format!("denied {BURST} times within {} s", over / 1_000_000 + 1);
    let burst = finding(fact, AlertType::DenialBurst, AlertSeverity::Medium, String::new(), summary);
    found.add(Finding { leaves, ..burst });
}

/// Counts the hour, and says when it becomes unusual: once an hour, at the event that makes it so.
fn rate(habit: &mut Habit, fact: &Fact, found: &mut Found) {
    let hour = fact.time.div_euclid(HOUR);
    let newest = habit.hours.iter().map(|one| one.hour).max().unwrap_or(hour);
    let count = match habit.hours.iter_mut().find(|one| one.hour == hour) {
        Some(one) => {
            one.count += 1;
            one.count
        }
        None => {
            habit.hours.push(Hour { hour, count: 1 });
            1
        }
    };
    habit.hours.retain(|one| newest.max(hour) - one.hour <= LOOKED_BACK);
    // An hour that is over was judged while it ran, and one that was told of is not told of again.
    if hour < newest || count < LEAST_COUNT || habit.unusual == hour {
        return;
    }
    let Some(usual) = usual(&habit.hours, hour) else { return };
    if count <= usual.bound {
        return;
    }
    habit.unusual = hour;
    let summary = format!(
        "{count} decisions in an hour that is not over, of usually {} (median of {} hours)",
        usual.median, usual.hours
    );
    found.add(finding(fact, AlertType::UnusualRate, AlertSeverity::Medium, String::new(), summary));
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Usual {
    median: f64,
    /// More is unusual.
    bound: u64,
    hours: usize,
}

/// What is usual, by the hours before this one since the first that is known; those in which nothing was asked count as well.
fn usual(hours: &[Hour], now: i64) -> Option<Usual> {
    let first = hours.iter().map(|one| one.hour).min()?.max(now - LOOKED_BACK);
    let count = |hour| hours.iter().find(|one| one.hour == hour).map_or(0, |one| one.count);
    #[allow(clippy::cast_precision_loss, reason = "an hour has fewer than 2^52 decisions")]
    let mut counts: Vec<f64> = (first..now).map(|hour| count(hour) as f64).collect();
    if counts.len() < LEAST_HOURS {
        return None;
    }
    let median = middle(&mut counts);
    let mut deviations: Vec<f64> = counts.iter().map(|one| (one - median).abs()).collect();
    // One that always asks for the same is allowed a tenth of it all the same.
    let spread = (SIGMA * middle(&mut deviations)).max(median / 10.0).max(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bound of counts, which are counts")]
    let bound = (median + DEVIATIONS * spread).floor() as u64;
    Some(Usual { median, bound: bound.max(LEAST_COUNT - 1), hours: counts.len() })
}

fn middle(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    let half = all.len() / 2;
    match (all.get(half), half.checked_sub(1).and_then(|before| all.get(before))) {
        (Some(upper), Some(lower)) if all.len().is_multiple_of(2) => f64::midpoint(*lower, *upper),
        (Some(middle), _) => *middle,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn hours(counts: &[u64]) -> Vec<Hour> {
        (0..).zip(counts).map(|(hour, count)| Hour { hour, count: *count }).collect()
    }

    #[test]
    fn a_median_is_not_moved_by_one_wild_hour() {
        let mut counts = vec![100; 48];
        let calm = usual(&hours(&counts), 48).unwrap();
        assert_eq!((calm.median, calm.bound, calm.hours), (100.0, 160, 48));
        counts[7] = 1_000_000;
        assert_eq!(usual(&hours(&counts), 48).unwrap(), calm);
        assert_eq!(usual(&hours(&counts[..23]), 23), None, "a day has to be known");
    }

    proptest! {
        /// Nothing that was asked for in an hour before is unusual when half of the hours had as much.
        #[test]
        fn what_half_of_the_hours_had_is_usual(counts in prop::collection::vec(0u64..10_000, 24..168)) {
            let usual = usual(&hours(&counts), i64::try_from(counts.len()).unwrap()).unwrap();
            let within = counts.iter().filter(|count| **count <= usual.bound).count();
            prop_assert!(within * 2 >= counts.len());
        }
    }
}
