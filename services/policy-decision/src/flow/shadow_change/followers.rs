//! Who follows decisions as they are made, and the questions on their way there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use legate_clock::Timestamp;
use legate_ids::DecisionId;
use legate_rpc::Fault;
use parking_lot::RwLock;
use tokio::sync::mpsc;

use crate::convert::Ask;
use crate::error::ASKING_BUSY;
use crate::flow::asker::Right;
use crate::flow::asking::AGAIN;

/// Those who follow at once.
const MOST: usize = 4;
/// Questions that wait for one of them.
const QUEUE: usize = 1_024;

/// A question as it was asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) ask: Ask,
    pub(super) right: Right,
    pub(super) id: DecisionId,
    pub(super) at: Timestamp,
}

/// All of them. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Followers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// How many there are: all that a check reads while nobody follows.
    count: AtomicUsize,
    all: RwLock<Vec<Arc<Way>>>,
}

/// The way to one of them.
#[derive(Debug)]
struct Way {
    caller: String,
    queue: mpsc::Sender<Arc<Asked>>,
    left_out: AtomicU64,
}

/// One of them; he is forgotten when this is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    followers: Followers,
    way: Arc<Way>,
    queue: mpsc::Receiver<Arc<Asked>>,
}

impl Followers {
    /// One more.
    ///
    /// # Errors
    /// `ASKING_BUSY` when there are four, or he is one of them.
    pub(super) fn open(&self, caller: &str) -> Result<Follower, Fault> {
        let mut all = self.0.all.write();
        let busy = |text: &str| Err(Fault::unavailable(&ASKING_BUSY, text, AGAIN));
        if all.iter().any(|way| way.caller == caller) {
            return busy("the caller tries a change already; end that first");
        }
        if all.len() >= MOST {
            return busy("four changes are tried already");
        }
        let (sender, queue) = mpsc::channel(QUEUE);
        let way = Arc::new(Way { caller: caller.to_owned(), queue: sender, left_out: AtomicU64::default() });
        all.push(Arc::clone(&way));
        self.0.count.store(all.len(), Ordering::Relaxed);
        Ok(Follower { followers: self.clone(), way, queue })
    }

    /// Passes on a question that was decided, where anybody follows; where he does not keep up, it is left out.
    pub(crate) fn pass_on(&self, asked: impl FnOnce() -> Asked) {
        if self.0.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let asked = Arc::new(asked());
        for way in self.0.all.read().iter() {
            if way.queue.try_send(Arc::clone(&asked)).is_err() {
                way.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Asked {
    pub(crate) fn new(ask: &Ask, right: &Right, id: &DecisionId, at: Timestamp) -> Self {
        Self { ask: ask.clone(), right: right.clone(), id: id.clone(), at }
    }
}

impl Follower {
    /// The next that were asked, one at least; 0: there will be no more.
    pub(super) async fn asked(&mut self, into: &mut Vec<Arc<Asked>>, most: usize) -> usize {
        self.queue.recv_many(into, most).await
    }

    /// One is left out.
    pub(super) fn leave_out(&self) {
        self.way.left_out.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were left out.
    pub(super) fn left_out(&self) -> u64 {
        self.way.left_out.load(Ordering::Relaxed)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let inner = &self.followers.0;
        let mut all = inner.all.write();
        all.retain(|way| !Arc::ptr_eq(way, &self.way));
        inner.count.store(all.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn four_follow_at_once_and_nobody_twice() {
        let followers = Followers::default();
        let mut held: Vec<_> = ["a", "b", "c", "d"].iter().map(|who| followers.open(who).unwrap()).collect();
        for who in ["e", "a"] {
            assert_eq!(followers.open(who).unwrap_err().reason(), "ASKING_BUSY");
        }
        held.remove(0);
        let again = followers.open("a").unwrap();
        assert_eq!(followers.open("a").unwrap_err().reason(), "ASKING_BUSY");
        drop((held, again));
        followers.pass_on(|| unreachable!("nobody follows"));
    }
}
