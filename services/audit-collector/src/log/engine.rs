//! The one task that gives every event its place in the log, and syncs a group of events at once.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use legate_clock::Clock;
use legate_journal::{Durability, JournalError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::files::AckMark;
use super::own::{CLOSED, Own};
use super::shelf::{RESERVE, Shelf, State};
use super::waiting::Place;
use crate::domain::event::LARGEST;
use crate::domain::producers::{Gap, Producer, Producers, known};
use crate::metrics::Metrics;

/// A group is closed when it has so many bytes. With the largest request on top, the reserve has to hold it.
const GROUP_BYTES: usize = 2 << 20;

/// A group is closed when it has so many requests.
const GROUP_JOBS: usize = 1_024;

/// How often a full disk is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Events that are to be appended.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) producer: Producer,
    pub(crate) first_seq: u64,
    /// Each one checked, in order.
    pub(crate) events: Vec<Bytes>,
}

/// What became of an offer: all of it is in the log, and on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Everything of the producer up to this number is in the log.
    pub(crate) acked_seq: u64,
    /// Where the first event that was new went; `None` when none was.
    pub(crate) first_leaf: Option<u64>,
    /// How many were new.
    pub(crate) appended: usize,
}

/// Why an offer was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAppended {
    /// Events before it are missing.
    #[error("events before the first one offered are not in the log: seq {expected} is next")]
    Gap {
        /// The number that is next.
        expected: u64,
    },
    /// The bound on what waits is reached.
    #[error("more events wait for the disk than the bound allows")]
    Busy,
    /// The disk is full.
    #[error("the log's disk is full")]
    Full,
    /// The log takes nothing more.
    #[error("the log has stopped")]
    Stopped,
}

/// Something for the engine to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Append events of an emitter.
    Offer { offer: Offer, answer: oneshot::Sender<Result<Appended, NotAppended>>, _place: Place },
    /// Append an event of the collector's own; whoever waits for its place is told.
    Own { own: Box<Own>, answer: Option<oneshot::Sender<Result<Appended, NotAppended>>> },
    /// Do what is waiting, then end.
    Close,
}

/// An offer's answer, good once its group is on disk.
type Promise = (oneshot::Sender<Result<Appended, NotAppended>>, Result<Appended, NotAppended>, Option<Place>);

/// What is written at once.
#[derive(Debug, Default)]
struct Group {
    leaves: Vec<Vec<u8>>,
    promises: Vec<Promise>,
    /// How far the producers in it will be.
    ahead: HashMap<Producer, u64>,
    closes: bool,
}

/// The task's own things.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) shelf: Arc<Shelf>,
    pub(super) mark: AckMark,
    pub(super) producers: Producers,
    /// The collector itself.
    pub(super) me: Producer,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) state: Arc<State>,
    /// How many leaves are on disk; the publisher ends when it goes.
    pub(super) acked: watch::Sender<u64>,
    pub(super) metrics: Metrics,
}

impl Engine {
    /// Works until it is told to close, or nobody is left who could tell it anything.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut look = Instant::now() + LOOK;
        loop {
            let first = tokio::select! {
                job = jobs.recv() => job,
                () = tokio::time::sleep_until(look), if self.state.is_full() => {
                    self.look_for_room().await;
                    look = Instant::now() + LOOK;
                    continue;
                }
            };
            let Some(first) = first else { return };
            let group = self.plan(first, &mut jobs);
            let closes = group.closes;
            self.commit(group).await;
            if closes {
                return;
            }
            // Checked here too: a stream of requests would never let the timer fire.
            if self.state.is_full() && Instant::now() >= look {
                self.look_for_room().await;
                look = Instant::now() + LOOK;
            }
        }
    }

    /// Takes what is waiting, as much as a group holds, and gives each event its place.
    fn plan(&self, first: Job, jobs: &mut mpsc::Receiver<Job>) -> Group {
        let mut group = Group::default();
        let (mut next, mut bytes, mut count) = (Some(first), 0, 0);
        while let Some(job) = next {
            bytes += self.put(job, &mut group);
            count += 1;
            let is_closed = group.closes || bytes >= GROUP_BYTES || count >= GROUP_JOBS;
            next = if is_closed { None } else { jobs.try_recv().ok() };
        }
        group
    }

    fn last(&self, group: &Group, producer: &Producer) -> u64 {
        group.ahead.get(producer).copied().unwrap_or_else(|| self.producers.last(producer))
    }

    /// Puts one job into the group; how many bytes it adds.
    fn put(&self, job: Job, group: &mut Group) -> usize {
        match job {
            Job::Close => {
                group.closes = true;
                self.put_own(Own::new(CLOSED), group)
            }
            Job::Own { own, answer } => {
                let (at, is_full) = (*self.acked.borrow() + group.leaves.len() as u64, self.state.is_full());
                if is_full {
                    self.metrics.unrecorded(own.kind());
                }
                let bytes = if is_full { 0 } else { self.put_own(*own, group) };
                if let Some(answer) = answer {
                    let done = Appended { acked_seq: self.last(group, &self.me), first_leaf: Some(at), appended: 1 };
                    group.promises.push((answer, if bytes == 0 { Err(NotAppended::Full) } else { Ok(done) }, None));
                }
                bytes
            }
            Job::Offer { offer, answer, _place } => {
                let mut bytes = 0;
                let outcome = self.place(offer, group, &mut bytes);
                group.promises.push((answer, outcome, Some(_place)));
                bytes
            }
        }
    }

    fn put_own(&self, own: Own, group: &mut Group) -> usize {
        let (kind, seq) = (own.kind(), self.last(group, &self.me).saturating_add(1));
        let leaf = own.into_leaf(&self.me, seq, self.clock.now());
        if leaf.len() > LARGEST {
            self.metrics.unrecorded(kind);
            return 0;
        }
        let bytes = leaf.len();
        group.leaves.push(leaf);
        group.ahead.insert(self.me.clone(), seq);
        bytes
    }

    fn place(&self, offer: Offer, group: &mut Group, bytes: &mut usize) -> Result<Appended, NotAppended> {
        let last = self.last(group, &offer.producer);
        let skip = known(last, offer.first_seq, offer.events.len())
            .map_err(|Gap { expected }| NotAppended::Gap { expected })?;
        let new = &offer.events[skip..];
        if new.is_empty() {
            return Ok(Appended { acked_seq: last, first_leaf: None, appended: 0 });
        }
        if self.state.is_full() {
            return Err(NotAppended::Full);
        }
        let first_leaf = Some(*self.acked.borrow() + group.leaves.len() as u64);
        let acked_seq = last + new.len() as u64;
        *bytes = new.iter().map(Bytes::len).sum();
        group.leaves.extend(new.iter().map(|event| event.to_vec()));
        let appended = new.len();
        group.ahead.insert(offer.producer, acked_seq);
        Ok(Appended { acked_seq, first_leaf, appended })
    }

    /// Writes and syncs the group, and only then answers.
    async fn commit(&mut self, mut group: Group) {
        let written = self.write(mem::take(&mut group.leaves), mem::take(&mut group.ahead)).await;
        for (answer, outcome, _place) in group.promises {
            let told = match (&written, outcome) {
                // What was known before the group is on disk whatever became of the group.
                (Err(refused), Ok(new)) if new.first_leaf.is_some() => Err(*refused),
                (Err(NotAppended::Stopped), _) => Err(NotAppended::Stopped),
                (_, outcome) => outcome,
            };
            self.metrics.answered(told.as_ref());
            // A caller that no longer waits offers the same events again, and they are known then.
            let _gone = answer.send(told);
        }
        let ran_full = match written {
            Ok(()) => self.shelf.journal.on_reserve() && !self.state.is_full(),
            Err(NotAppended::Full) => !self.state.is_full(),
            Err(_) => false,
        };
        if ran_full {
            self.state.set_full(true);
            tracing::error!("the log's disk is full: events are refused until there is room");
            self.tell_now(Own::new("log.storage_full").failed("AUDIT_STORAGE_FULL")).await;
        }
    }

    async fn write(&mut self, leaves: Vec<Vec<u8>>, ahead: HashMap<Producer, u64>) -> Result<(), NotAppended> {
        if self.state.why_stopped().is_some() {
            return Err(NotAppended::Stopped);
        }
        if leaves.is_empty() {
            return Ok(());
        }
        let count = leaves.len();
        let before = *self.acked.borrow();
        let started = Instant::now();
        let first = match self.shelf.journal.append(leaves, Durability::Synced).await {
            Ok(first) => first,
            Err(JournalError::Full(_)) => return Err(NotAppended::Full),
            Err(e) => return Err(self.stop(e.to_string())),
        };
        if first != before {
            return Err(self.stop(format!("the journal gave place {first} where {before} is next")));
        }
        let size = first + count as u64;
        if let Err(e) = self.mark.write(size) {
            return Err(self.stop(format!("the mark of what is acknowledged: {e}")));
        }
        for (producer, seq) in ahead {
            self.producers.advance(producer, seq);
        }
        self.metrics.group(count, started.elapsed());
        self.acked.send_replace(size);
        Ok(())
    }

    /// After a failed write or sync nobody knows what the disk holds, so a later success would prove nothing.
    fn stop(&self, why: String) -> NotAppended {
        tracing::error!(why, "the log stops; it goes on after a restart");
        self.state.stop(why);
        NotAppended::Stopped
    }

    /// Appends an event of our own at once, on a full disk too: the reserve is kept for it.
    async fn tell_now(&mut self, own: Own) {
        let kind = own.kind();
        let mut group = Group::default();
        self.put_own(own, &mut group);
        if self.write(group.leaves, group.ahead).await.is_err() {
            self.metrics.unrecorded(kind);
        }
    }

    /// Goes on when there is room for a reserve and a segment.
    async fn look_for_room(&mut self) {
        let shelf = Arc::clone(&self.shelf);
        let looked = tokio::task::spawn_blocking(move || {
            if shelf.free_bytes()? < shelf.segment_bytes + RESERVE {
                return Ok(false);
            }
            // Nothing is below 0: this only makes the reserve again.
            shelf.journal.drop_below(0).map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(!shelf.journal.on_reserve())
        })
        .await;
        match looked {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => return,
            Ok(Err(error)) => return tracing::warn!(%error, "the log's disk cannot be looked at"),
        }
        self.state.set_full(false);
        tracing::info!("the log's disk has room again");
        self.tell_now(Own::new("log.storage_recovered")).await;
    }
}
