//! The one task that gives every event its place in the log, and syncs a group of events at once.

use std::collections::{BTreeMap, HashMap};
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
use super::truth::Truth;
use super::waiting::Place;
use crate::domain::event::LARGEST;
use crate::domain::producers::{Gap, Lately, Producer, Producers, known};
use crate::ledger::NotDone;
use crate::metrics::Metrics;
use crate::personal::{Ending, Kept, Unsealed, Vault, VaultError, records};

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
    /// The names that some of them commit to, by their positions.
    pub(crate) personal: BTreeMap<usize, Unsealed>,
    /// The event that holds their emitter's signature, which is of all of them.
    pub(crate) signature: Option<Own>,
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
    /// Another event stands under a number that is offered.
    #[error("the log has another event under seq {seq}")]
    Other {
        /// The number.
        seq: u64,
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
    /// Another collector has taken the lead.
    #[error("another collector leads this log now")]
    Fenced,
    /// The commit log cannot be written now.
    #[error("the database of the commit log does not answer")]
    Away,
}

/// Something for the engine to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Append events of an emitter.
    Offer { offer: Box<Offer>, answer: oneshot::Sender<Result<Appended, NotAppended>>, _place: Place },
    /// Tell the last number of a producer.
    Last(Producer, oneshot::Sender<Result<u64, NotAppended>>),
    /// Append an event of the collector's own; tell where it went, if anybody wants to know.
    Own(Box<Own>, Option<Told>),
    /// Destroy keys of names and append the event that says so, between two groups, so that nothing is sealed meanwhile.
    End(Box<Ending>, Option<Told>),
    /// Do what is waiting, then end.
    Close,
}

/// Where an event of our own went.
type Told = oneshot::Sender<Result<u64, NotAppended>>;

/// An offer's answer, good once its group is on disk.
#[derive(Debug)]
struct Promise {
    answer: oneshot::Sender<Result<Appended, NotAppended>>,
    outcome: Result<Appended, NotAppended>,
    /// Whether it speaks of events of this very group.
    is_of_group: bool,
    _place: Place,
}

/// What is written at once.
#[derive(Debug, Default)]
struct Group {
    leaves: Vec<Vec<u8>>,
    /// The names that leaves commit to, in the order of these.
    personal: Vec<Unsealed>,
    promises: Vec<Promise>,
    /// Who wants to know where an event of our own went.
    places: Vec<(Told, u64)>,
    /// What is to be done as soon as the group is on disk.
    ending: Option<(Box<Ending>, Option<Told>)>,
    /// How far the producers in it will be.
    ahead: HashMap<Producer, u64>,
    closes: bool,
}

/// The task's own things.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) shelf: Arc<Shelf>,
    /// What makes leaves part of the log.
    pub(super) truth: Truth,
    pub(super) vault: Vault,
    pub(super) mark: AckMark,
    pub(super) producers: Producers,
    pub(super) lately: Lately,
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
            let mut group = self.plan(first, &mut jobs);
            let (closes, ending) = (group.closes, group.ending.take());
            self.commit(group).await;
            if let Some((ending, answer)) = ending {
                let told = self.end(*ending).await;
                // Who does not wait any more finds the event in the log.
                let _gone = answer.map(|answer| answer.send(told));
            }
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
    fn plan(&mut self, first: Job, jobs: &mut mpsc::Receiver<Job>) -> Group {
        let mut group = Group::default();
        let (mut next, mut bytes, mut count) = (Some(first), 0, 0);
        while let Some(job) = next {
            bytes += self.put(job, &mut group);
            count += 1;
            let is_closed = group.closes || group.ending.is_some() || bytes >= GROUP_BYTES || count >= GROUP_JOBS;
            next = if is_closed { None } else { jobs.try_recv().ok() };
        }
        group
    }

    fn last(&self, group: &Group, producer: &Producer) -> u64 {
        group.ahead.get(producer).copied().unwrap_or_else(|| self.producers.last(producer))
    }

    /// Puts one job into the group; how many bytes it adds.
    fn put(&mut self, job: Job, group: &mut Group) -> usize {
        match job {
            Job::Close => {
                group.closes = true;
                self.put_own(Own::new(CLOSED), group)
            }
            Job::Last(producer, answer) => {
                // Who does not wait any more wants nothing.
                let _gone = answer.send(Ok(self.last(group, &producer)));
                0
            }
            Job::Own(own, answer) if self.state.is_full() => {
                self.metrics.unrecorded(own.kind());
                let _gone = answer.map(|answer| answer.send(Err(NotAppended::Full)));
                0
            }
            Job::Own(own, answer) => {
                let leaf = *self.acked.borrow() + group.leaves.len() as u64;
                let bytes = self.put_own(*own, group);
                match answer {
                    Some(answer) if bytes == 0 => drop(answer.send(Err(NotAppended::Full))),
                    answer => group.places.extend(answer.map(|answer| (answer, leaf))),
                }
                bytes
            }
            Job::End(ending, answer) => {
                group.ending = Some((ending, answer));
                0
            }
            Job::Offer { offer, answer, _place } => {
                let mut bytes = 0;
                let producer = offer.producer.clone();
                let outcome = self.place(*offer, group, &mut bytes);
                let is_of_group = group.ahead.contains_key(&producer);
                group.promises.push(Promise { answer, outcome, is_of_group, _place });
                bytes
            }
        }
    }

    fn put_own(&self, own: Own, group: &mut Group) -> usize {
        let (kind, seq) = (own.kind().to_owned(), self.last(group, &self.me).saturating_add(1));
        let (leaf, personal) = own.into_leaf(&self.me, seq, self.clock.now());
        if leaf.len() > LARGEST {
            self.metrics.unrecorded(&kind);
            return 0;
        }
        let bytes = leaf.len();
        let place = *self.acked.borrow() + group.leaves.len() as u64;
        group.personal.extend(personal.map(|unsealed| Unsealed { leaf: place, ..unsealed }));
        group.leaves.push(leaf);
        group.ahead.insert(self.me.clone(), seq);
        bytes
    }

    fn place(&mut self, mut offer: Offer, group: &mut Group, bytes: &mut usize) -> Result<Appended, NotAppended> {
        let last = self.last(group, &offer.producer);
        let skip = known(last, offer.first_seq, offer.events.len())
            .map_err(|Gap { expected }| NotAppended::Gap { expected })?;
        let marks = self.lately.marks(&offer.events);
        // What is taken for known has to be what is known: or a store that was put back to an earlier copy loses what it tells now.
        if let Some(seq) = self.lately.other(&offer.producer, offer.first_seq, &marks[..skip]) {
            return Err(NotAppended::Other { seq });
        }
        let new = &offer.events[skip..];
        if new.is_empty() {
            return Ok(Appended { acked_seq: last, first_leaf: None, appended: 0 });
        }
        if self.state.is_full() {
            return Err(NotAppended::Full);
        }
        if let Some(signature) = offer.signature.take() {
            if skip > 0 {
                // The rest is not what was signed, and what is known need not be, byte for byte: the emitter goes on behind it.
                return Ok(Appended { acked_seq: last, first_leaf: None, appended: 0 });
            }
            // In front of them, so that no tree holds one of them and not this.
            *bytes += self.put_own(signature, group);
        }
        let first = *self.acked.borrow() + group.leaves.len() as u64;
        let first_leaf = Some(first);
        // What was known before has its names already.
        let personal = offer.personal.split_off(&skip).into_iter();
        group.personal.extend(personal.map(|(at, one)| Unsealed { leaf: first + (at - skip) as u64, ..one }));
        let acked_seq = last + new.len() as u64;
        *bytes += new.iter().map(Bytes::len).sum::<usize>();
        group.leaves.extend(new.iter().map(|event| event.to_vec()));
        let appended = new.len();
        self.lately.note(&offer.producer, last + 1, &marks[skip..]);
        group.ahead.insert(offer.producer, acked_seq);
        Ok(Appended { acked_seq, first_leaf, appended })
    }

    /// Writes and syncs the group, and only then answers.
    async fn commit(&mut self, mut group: Group) {
        let is_empty = group.leaves.is_empty();
        let mut written = self.write(&mut group).await;
        // A refusal rests on what is known of emitters, and whoever led before and woke up knows too little. A commit shows that it is all.
        if is_empty && group.promises.iter().any(|promise| matches!(promise.outcome, Err(NotAppended::Gap { .. }))) {
            written = match (written, self.truth.confirm().await) {
                (Ok(()), Err(e)) => Err(self.not_committed(e)),
                (written, _) => written,
            };
        }
        for (answer, leaf) in group.places {
            let _gone = answer.send(written.map(|()| leaf));
        }
        for Promise { answer, outcome, is_of_group, _place } in group.promises {
            let told = match (&written, outcome) {
                // What was known before the group is on disk whatever became of the group.
                (Err(refused), Ok(_)) if is_of_group => Err(*refused),
                (Err(ended @ (NotAppended::Stopped | NotAppended::Fenced)), _) => Err(*ended),
                (_, outcome) => outcome,
            };
            self.metrics.answered(told.as_ref());
            // A caller that no longer waits offers the same events again, and they are known then.
            let _gone = answer.send(told);
        }
        let ran_full = match written {
            Ok(()) => (self.shelf.journal.on_reserve() || self.vault.on_reserve()) && !self.state.is_full(),
            Err(NotAppended::Full) => !self.state.is_full(),
            Err(_) => false,
        };
        if ran_full {
            self.state.set_full(true);
            tracing::error!("the log's disk is full: events are refused until there is room");
            self.tell_now(Own::new("log.storage_full").failed("AUDIT_STORAGE_FULL")).await;
        }
    }

    /// Writes names, then leaves: no leaf is there whose names are not.
    async fn write(&mut self, group: &mut Group) -> Result<(), NotAppended> {
        let (leaves, ahead) = (mem::take(&mut group.leaves), mem::take(&mut group.ahead));
        let personal = mem::take(&mut group.personal);
        if self.state.why_stopped().is_some() {
            return Err(NotAppended::Stopped);
        }
        if leaves.is_empty() {
            return Ok(());
        }
        let count = leaves.len();
        let before = *self.acked.borrow();
        let started = Instant::now();
        let mut sealed = Vec::new();
        if !personal.is_empty() {
            match self.vault.seal(personal).await {
                Ok(all) => sealed = all,
                Err(e) => return Err(self.not_named(e)),
            }
        }
        let names = if self.truth.is_elsewhere() { records(&sealed) } else { Vec::new() };
        if let Err(e) = self.truth.commit(&leaves, names).await {
            return Err(self.not_committed(e));
        }
        // From here on the leaves are in the log where the truth is elsewhere, whatever becomes of the copy.
        let copied = self.copy(leaves, sealed, before).await;
        let first = match copied {
            Err(_) if self.truth.is_elsewhere() => {
                self.stop("the copy of the log cannot be written".to_owned());
                return Ok(());
            }
            copied => copied?,
        };
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

    /// Writes names, then leaves; where the first of them went.
    async fn copy(&self, leaves: Vec<Vec<u8>>, sealed: Vec<Kept>, before: u64) -> Result<u64, NotAppended> {
        if !sealed.is_empty()
            && let Err(e) = self.vault.keep(sealed).await
        {
            return Err(self.not_named(e));
        }
        match self.shelf.journal.append(leaves, Durability::Synced).await {
            Ok(first) if first == before => Ok(first),
            Ok(first) => Err(self.stop(format!("the journal gave place {first} where {before} is next"))),
            Err(JournalError::Full(_)) => Err(NotAppended::Full),
            Err(e) => Err(self.stop(e.to_string())),
        }
    }

    fn not_named(&self, e: VaultError) -> NotAppended {
        match e {
            VaultError::Full | VaultError::Journal(JournalError::Full(_)) => NotAppended::Full,
            VaultError::Rows(e) => self.not_committed(e),
            e => self.stop(format!("the names of persons: {e}")),
        }
    }

    fn not_committed(&self, e: NotDone) -> NotAppended {
        match e {
            NotDone::Fenced => {
                self.state.note_fenced();
                self.stop(e.to_string());
                NotAppended::Fenced
            }
            e => self.stop(e.to_string()),
        }
    }

    /// After a failed write or sync nobody knows what the disk holds, so a later success would prove nothing.
    fn stop(&self, why: String) -> NotAppended {
        tracing::error!(why, "the log stops; it goes on after a restart");
        self.state.stop(why);
        NotAppended::Stopped
    }

    /// Appends an event of our own at once, on a full disk too: the reserve is kept for it.
    async fn tell_now(&mut self, own: Own) {
        let kind = own.kind().to_owned();
        let mut group = Group::default();
        self.put_own(own, &mut group);
        if self.write(&mut group).await.is_err() {
            self.metrics.unrecorded(&kind);
        }
    }

    /// Destroys keys, then says so; where that is interrupted, the next start does it again.
    async fn end(&mut self, mut ending: Ending) -> Result<u64, NotAppended> {
        if self.state.why_stopped().is_some() {
            return Err(NotAppended::Stopped);
        }
        if self.state.is_full() {
            return Err(NotAppended::Full);
        }
        let vault = self.vault.clone();
        // One that is not told yet, since the disk was full, has the file that this one would take.
        let looking = vault.clone();
        let earlier = match tokio::task::spawn_blocking(move || looking.unended()).await {
            Ok(Ok(earlier)) => earlier,
            Ok(Err(e)) => return Err(self.not_named(e)),
            Err(e) => return Err(self.stop(format!("the names of persons: {e}"))),
        };
        if let Some(earlier) = earlier.filter(|earlier| *earlier != ending) {
            let mut group = Group::default();
            self.put_own(Own::again(earlier.event), &mut group);
            self.write(&mut group).await?;
        }
        let destroying = tokio::task::spawn_blocking(move || vault.end(&mut ending).map(|keys| (keys, ending.event)));
        let own = match destroying.await {
            Ok(Ok((keys, event))) => {
                tracing::info!(keys, "keys of names are destroyed");
                Own::again(event)
            }
            Ok(Err(e)) => return Err(self.not_named(e)),
            Err(e) => return Err(self.stop(format!("the names of persons: {e}"))),
        };
        let place = *self.acked.borrow();
        let mut group = Group::default();
        self.put_own(own, &mut group);
        // On a full disk it is told at the next start.
        self.write(&mut group).await?;
        if let Err(e) = self.vault.is_told().await {
            return Err(self.not_named(e));
        }
        Ok(place)
    }

    /// Goes on when there is room for a reserve and a segment.
    async fn look_for_room(&mut self) {
        let (shelf, vault) = (Arc::clone(&self.shelf), self.vault.clone());
        let looked = tokio::task::spawn_blocking(move || {
            if shelf.free_bytes()? < shelf.segment_bytes + RESERVE {
                return Ok(false);
            }
            // Nothing is below 0: this only makes the reserve again.
            shelf.journal.drop_below(0).map_err(std::io::Error::other)?;
            vault.mend_reserve().map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(!shelf.journal.on_reserve() && !vault.on_reserve())
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
