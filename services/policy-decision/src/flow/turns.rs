//! Whose turn it is to make a preview: there are few at a time, and nobody has more than one of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Previews at once: one caller who makes one after the other keeps nobody else from it.
const AT_ONCE: usize = 2;

/// The turns that there are, and who has one or waits for it.
#[derive(Debug)]
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    of: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A turn; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _of_the_caller: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(AT_ONCE)), of: Mutex::default() }
    }

    /// The caller's turn; `None`: it did not come within `patience`.
    pub(crate) async fn take(&self, caller: &str, patience: Duration) -> Option<Turn> {
        let own = {
            let mut of = self.of.lock();
            // Whoever has none and waits for none is forgotten.
            of.retain(|_, one| Arc::strong_count(one) > 1);
            Arc::clone(of.entry(caller.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let turn = async {
            // First of his own, so that he waits among the others no more than once.
            let of_the_caller = own.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Turn { _of_the_caller: of_the_caller, _of_all: of_all })
        };
        tokio::time::timeout(patience, turn).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[tokio::test]
    async fn nobody_has_two_turns_and_who_has_none_is_forgotten() {
        let turns = Turns::new();
        let take = async |who: &str| turns.take(who, Duration::ZERO).await;
        let first = take("eve").await.unwrap();
        assert!(take("eve").await.is_none());
        let second = take("ada").await.unwrap();
        assert!(take("bob").await.is_none(), "there are two");
        drop(first);
        let third = take("eve").await.unwrap();
        drop((second, third));
        assert!(take("bob").await.is_some() && take("eve").await.is_some());
        assert!(turns.of.lock().len() <= 2, "{turns:?}");
    }
}
