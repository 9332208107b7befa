//! The end of the stream in memory: read once from the database after each commit, for all who watch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use legate_db::{Db, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::RevisionChanges;
use tokio::sync::watch;

use super::Desk;
use crate::error::of_tx;
use crate::store::change::{self, Since};
use crate::store::head;

/// Revisions that are kept.
const KEPT: usize = 4_096;
/// Objects that are kept; one revision can have ten thousand.
const KEPT_OBJECTS: usize = 32_768;
/// Another replica's commits are seen after so long.
const LOOK: Duration = Duration::from_millis(250);

/// The newest revisions, and the newest revision's number.
#[derive(Debug)]
pub(crate) struct Tail {
    ring: parking_lot::Mutex<Ring>,
    seen: watch::Sender<u64>,
    /// Numbers those who want to know how far the registry is.
    tickets: AtomicU64,
    /// The highest ticket that a finished read covers: it was drawn before that read began.
    covered: tokio::sync::Mutex<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    revisions: VecDeque<Arc<RevisionChanges>>,
    objects: usize,
}

/// What comes after a revision.
#[derive(Debug)]
pub(crate) enum Later {
    /// These; none when it is the newest.
    Here(Vec<Arc<RevisionChanges>>),
    /// More than is kept here.
    InTheDatabase,
}

impl Tail {
    /// The tail of a registry that is at `revision`.
    pub(crate) fn at(revision: u64) -> Self {
        Self {
            ring: parking_lot::Mutex::default(),
            seen: watch::Sender::new(revision),
            tickets: AtomicU64::new(0),
            covered: tokio::sync::Mutex::new(0),
        }
    }

    /// The newest revision that was seen.
    pub(crate) fn revision(&self) -> u64 {
        *self.seen.borrow()
    }

    /// Told of every new revision.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.seen.subscribe()
    }

    /// What comes after `revision`, as far as it was seen.
    pub(crate) fn after(&self, revision: u64) -> Later {
        if revision >= self.revision() {
            return Later::Here(Vec::new());
        }
        let ring = self.ring.lock();
        match ring.revisions.front() {
            Some(first) if first.revision <= revision + 1 => {
                let at = usize::try_from(revision + 1 - first.revision).unwrap_or(usize::MAX);
                Later::Here(ring.revisions.iter().skip(at).cloned().collect())
            }
            _ => Later::InTheDatabase,
        }
    }

    /// Reads what was committed before this call began. Many who ask at once share one read.
    pub(crate) async fn refresh(&self, db: &Db) -> Result<(), Fault> {
        let ticket = self.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        let mut covered = self.covered.lock().await;
        if *covered >= ticket {
            return Ok(());
        }
        let covers = self.tickets.load(Ordering::SeqCst);
        loop {
            let after = self.revision();
            let read: TxResult<_, Fault> = db
                .read("tail", move |tx| {
                    Box::pin(async move {
                        // Cheap, and most often enough.
                        let head = head::read(tx).await?;
                        if head == after {
                            return Ok((head, Since::Whole(Vec::new())));
                        }
                        Ok((head, change::since(tx, after).await?))
                    })
                })
                .await;
            let (head, since) = read.map_err(of_tx)?;
            let Since::Whole(news) = since else {
                // It slept for longer than the past is kept: whoever follows is sent everything.
                *self.ring.lock() = Ring::default();
                self.seen.send_replace(head);
                break;
            };
            let Some(last) = news.last().map(|last| last.revision) else { break };
            self.take(news);
            self.seen.send_replace(last);
        }
        *covered = covers;
        Ok(())
    }

    fn take(&self, news: Vec<RevisionChanges>) {
        let mut ring = self.ring.lock();
        for revision in news {
            ring.objects += revision.changes.len();
            ring.revisions.push_back(Arc::new(revision));
        }
        while ring.revisions.len() > KEPT || (ring.objects > KEPT_OBJECTS && ring.revisions.len() > 1) {
            let gone = ring.revisions.pop_front().map_or(0, |first| first.changes.len());
            ring.objects = ring.objects.saturating_sub(gone);
        }
    }
}

/// Keeps the tail in step with the database for as long as the process lives.
pub(crate) async fn follow_forever(desk: Arc<Desk>) {
    let mut commits = desk.db.commits();
    loop {
        commits.mark_unchanged();
        if let Err(fault) = desk.tail.refresh(&desk.db).await {
            tracing::warn!(%fault, "the newest changes cannot be read; it is tried again");
        }
        desk.metrics.revision(desk.tail.revision());
        // The bound catches what another replica wrote, and paces what fails.
        drop(tokio::time::timeout(LOOK, commits.changed()).await);
    }
}
