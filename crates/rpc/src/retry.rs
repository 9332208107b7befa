//! Trying again, within a budget, after waits drawn with full jitter.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rand::RngExt;
use tonic::{Code, Status};

use crate::Told;

/// How often a client may try again in all: every success earns a tenth of a retry, every retry costs one.
#[derive(Debug)]
pub struct RetryBudget {
    tenths: AtomicU32,
    most_tenths: u32,
}

/// A call is tried so often at most.
const TRIES: u32 = 4;
/// The first wait is at most this; each later one may be twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

impl RetryBudget {
    /// A full budget of `retries`.
    #[must_use]
    pub fn new(retries: u32) -> Self {
        let most_tenths = retries.saturating_mul(10);
        Self { tenths: AtomicU32::new(most_tenths), most_tenths }
    }

    fn spend(&self) -> bool {
        self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |t| t.checked_sub(10)).is_ok()
    }

    fn earn(&self) {
        let more = |t: u32| (t < self.most_tenths).then_some(t + 1);
        let _full = self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(10)
    }
}

/// Whether the same call may go through later: the service said so, or it was not reached.
fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::ResourceExhausted => Told::from_status(status).retry_after.is_some(),
        _ => false,
    }
}

/// Calls until it goes through, the fault is not a passing one, or the tries or the budget are spent.
/// For calls that may be repeated: reads, and writes with a `request_id`.
///
/// # Errors
/// The last failure.
pub async fn with_retry<T, F>(budget: &RetryBudget, mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let mut longest = FIRST_WAIT;
    for attempt in 1.. {
        match call().await {
            Ok(value) => {
                budget.earn();
                return Ok(value);
            }
            Err(status) if attempt < TRIES && is_passing(&status) && budget.spend() => {
                let told = Told::from_status(&status).retry_after.unwrap_or_default();
                let jitter = rand::rng().random_range(0.0..1.0);
                tokio::time::sleep(told.min(LONGEST_WAIT) + longest.mul_f64(jitter)).await;
                longest = (longest * 2).min(LONGEST_WAIT);
            }
            Err(status) => return Err(status),
        }
    }
    unreachable!("the loop ends by returning")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn tries_again_only_what_may_pass() {
        let calls = Cell::new(0_u32);
        let failing = |code: Code| {
            let calls = &calls;
            move || {
                calls.set(calls.get() + 1);
                async move { Err::<(), _>(Status::new(code, "no")) }
            }
        };
        let budget = RetryBudget::new(100);
        assert!(with_retry(&budget, failing(Code::Unavailable)).await.is_err());
        assert_eq!(calls.replace(0), 4);
        assert!(with_retry(&budget, failing(Code::PermissionDenied)).await.is_err());
        assert_eq!(calls.replace(0), 1);
        let empty = RetryBudget::new(0);
        assert!(with_retry(&empty, failing(Code::Unavailable)).await.is_err());
        assert_eq!(calls.get(), 1);
    }
}
