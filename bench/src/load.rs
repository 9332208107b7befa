//! A closed loop of callers, and what it saw: calls a second, and how long calls took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Failed;

/// What one run saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) calls: usize,
    pub(crate) took: Duration,
    /// Sorted.
    times: Vec<Duration>,
}

impl Seen {
    /// Sorts what was measured.
    pub(crate) fn new(mut times: Vec<Duration>, took: Duration) -> Self {
        times.sort_unstable();
        Self { calls: times.len(), took, times }
    }

    /// Calls a second.
    pub(crate) fn rate(&self) -> f64 {
        count(self.calls) / self.took.as_secs_f64()
    }

    /// The time below which so much of a hundred lies.
    pub(crate) fn percentile(&self, of_hundred: usize) -> Duration {
        let at = (self.times.len() * of_hundred / 100).min(self.times.len().saturating_sub(1));
        self.times.get(at).copied().unwrap_or_default()
    }
}

/// A count as a number to divide.
pub(crate) fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

/// The middle one of several runs, by its rate.
pub(crate) fn middle(all: &[Seen]) -> Option<&Seen> {
    let mut all: Vec<&Seen> = all.iter().collect();
    all.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    all.get(all.len() / 2).copied()
}

/// The middle one of several rates.
pub(crate) fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// Calls again and again from each of `callers` until the time is over; every call has to succeed.
pub(crate) async fn run<C, F>(
    callers: Vec<C>,
    time: Duration,
    call: impl Fn(C) -> F + Send + Sync + 'static,
) -> Result<Seen, Failed>
where
    C: Clone + Send + 'static,
    F: Future<Output = Result<C, Failed>> + Send + 'static,
{
    let over = Arc::new(AtomicBool::new(false));
    let call = Arc::new(call);
    let start = Instant::now();
    let mut loops = tokio::task::JoinSet::new();
    for caller in callers {
        let over = Arc::clone(&over);
        let call = Arc::clone(&call);
        loops.spawn(async move {
            let (mut caller, mut times) = (caller, Vec::new());
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                caller = call(caller).await?;
                times.push(began.elapsed());
            }
            Ok::<_, Failed>(times)
        });
    }
    let stop = Arc::clone(&over);
    let ending = tokio::spawn(async move {
        tokio::time::sleep(time).await;
        stop.store(true, Ordering::Relaxed);
    });
    let mut all = Vec::new();
    while let Some(ended) = loops.join_next().await {
        // The first call that fails ends the measurement.
        all.extend(ended??);
    }
    let took = start.elapsed();
    ending.abort();
    Ok(Seen::new(all, took))
}

/// A line of the report: the middle one of several runs.
pub(crate) fn line(what: &str, all: &[Seen]) {
    let Some(seen) = middle(all) else { return };
    println!(
        "  {what:<58} {:>9.0} /s   p50 {:>8.3} ms   p99 {:>8.3} ms",
        seen.rate(),
        seen.percentile(50).as_secs_f64() * 1_000.0,
        seen.percentile(99).as_secs_f64() * 1_000.0,
    );
}

/// The ratio of two medians, and what was aimed at.
pub(crate) fn ratio(what: &str, subject: &[Seen], floor: &[Seen], aim: Option<f64>) {
    let rates = |all: &[Seen]| median(all.iter().map(Seen::rate).collect());
    tell(what, rates(subject) / rates(floor), aim);
}

/// Prints a ratio.
pub(crate) fn tell(what: &str, ratio: f64, aim: Option<f64>) {
    let aim = match aim {
        Some(aim) if ratio >= aim => format!("   (aim >= {aim}: reached)"),
        Some(aim) => format!("   (aim >= {aim}: MISSED)"),
        None => String::new(),
    };
    println!("  {what:<58} {ratio:>9.3}{aim}");
}

/// Prints what must not be above its bound.
pub(crate) fn at_most(what: &str, value: f64, bound: f64) {
    let kept = if value <= bound { "kept" } else { "MISSED" };
    println!("  {what:<58} {value:>9.3}   (at most {bound:.3}: {kept})");
}
