//! What waits for the same goes there together, to the database or to policy-decision: while one group is on its way, the next one gathers.
//!
//! Nobody is held back so that a group becomes larger, and whoever stopped waiting is left out.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

/// The most that go together.
const GROUP: usize = 128;

/// Who may wait; the next is told that it is not possible now.
const WAITING: usize = 4_096;

type Waiting<Q, A> = (Q, oneshot::Sender<A>);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAnswered {
    /// Too many wait already; nothing was done.
    #[error("too many wait already")]
    TooMany,
    /// The group broke; what was done is not known.
    #[error("a group was not answered")]
    Broken,
}

/// The way into a group.
#[derive(Debug)]
pub(crate) struct Together<Q, A> {
    queue: mpsc::Sender<Waiting<Q, A>>,
}

impl<Q: Send + 'static, A: Send + 'static> Together<Q, A> {
    /// `work` answers a group in its order. It goes on until this is dropped and nobody waits.
    pub(crate) fn start<F>(work: impl Fn(Vec<Q>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Vec<A>> + Send,
    {
        let (queue, mut waiting) = mpsc::channel::<Waiting<Q, A>>(WAITING);
        tokio::spawn(async move {
            let mut group = Vec::with_capacity(GROUP);
            while waiting.recv_many(&mut group, GROUP).await > 0 {
                let (asked, waiting): (Vec<_>, Vec<_>) = group.drain(..).filter(|(_, done)| !done.is_closed()).unzip();
                if asked.is_empty() {
                    continue;
                }
                // Whoever was in a group that broke is told so below, and the next group is another matter.
                let answers = AssertUnwindSafe(work(asked)).catch_unwind().await.unwrap_or_default();
                for (done, answer) in waiting.into_iter().zip(answers) {
                    // Nobody waits any more: what was done stands all the same.
                    drop(done.send(answer));
                }
            }
        });
        Self { queue }
    }

    /// Goes with the next group.
    ///
    /// # Errors
    /// Where there is no answer.
    pub(crate) async fn ask(&self, what: Q) -> Result<A, NotAnswered> {
        let (done, answer) = oneshot::channel();
        self.queue.try_send((what, done)).map_err(|_| NotAnswered::TooMany)?;
        answer.await.map_err(|_| NotAnswered::Broken)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::pin::Pin;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;

    /// Work that tells which group it begins, and ends it once it is let; 13 breaks it.
    struct Stage {
        together: Together<u32, u32>,
        begun: mpsc::UnboundedReceiver<Vec<u32>>,
        go: Arc<Semaphore>,
    }

    impl Stage {
        fn new() -> Self {
            let (begins, begun) = mpsc::unbounded_channel();
            let go = Arc::new(Semaphore::new(0));
            let gate = Arc::clone(&go);
            let together = Together::start(move |asked: Vec<u32>| {
                let gate = Arc::clone(&gate);
                begins.send(asked.clone()).unwrap();
                async move {
                    gate.acquire().await.unwrap().forget();
                    assert!(!asked.contains(&13), "planted");
                    asked
                }
            });
            Self { together, begun, go }
        }

        /// Asks, and is left waiting.
        async fn waits(&self, what: u32) -> Pin<Box<dyn Future<Output = Result<u32, NotAnswered>> + '_>> {
            let mut asking = Box::pin(self.together.ask(what));
            assert!(tokio::time::timeout(Duration::ZERO, &mut asking).await.is_err());
            asking
        }
    }

    #[tokio::test]
    async fn whoever_comes_while_a_group_is_on_its_way_goes_with_the_next_one() {
        let mut stage = Stage::new();
        let mut begun = std::mem::replace(&mut stage.begun, mpsc::unbounded_channel().1);
        let first = stage.waits(1).await;
        assert_eq!(begun.recv().await.unwrap(), [1]);
        let (second, gone, third) = (stage.waits(2).await, stage.waits(4).await, stage.waits(3).await);
        drop(gone);
        stage.go.add_permits(2);
        assert_eq!(first.await.unwrap(), 1);
        assert_eq!((second.await.unwrap(), third.await.unwrap()), (2, 3));
        assert_eq!(begun.recv().await.unwrap(), [2, 3], "who stopped waiting is left out");
    }

    #[tokio::test]
    async fn a_group_that_breaks_takes_no_other_with_it() {
        let stage = Stage::new();
        let broken = stage.waits(13).await;
        stage.go.add_permits(2);
        assert_eq!(broken.await, Err(NotAnswered::Broken));
        assert_eq!(stage.together.ask(5).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn not_more_than_the_bound_wait() {
        let mut stage = Stage::new();
        let mut begun = std::mem::replace(&mut stage.begun, mpsc::unbounded_channel().1);
        let first = stage.waits(0).await;
        begun.recv().await.unwrap();
        let mut all = Vec::new();
        for _ in 0..WAITING {
            all.push(stage.waits(1).await);
        }
        assert_eq!(stage.together.ask(2).await, Err(NotAnswered::TooMany));
        drop((first, all));
    }
}
