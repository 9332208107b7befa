//! Decision records on their way to the log: written here before the answer is given, shipped later.
//!
//! One writer numbers the records of this start (the *epoch*) from 1 without gaps and hands them to the disk in
//! groups: the next group gathers while one is written. A caller waits until its record is written (`write()`), or,
//! for durable actions, until it is on disk (`fdatasync`); 500 ms at most, then the answer is a denial. What is written
//! reaches the disk within 50 ms anyhow.
//!
//! Each epoch begins with `spool.opened`, which states the previous epoch, its last number and whether it ended clean,
//! and ends, when the service stops in peace, with `spool.closed`. Where the log has other events under its numbers, what waits goes on
//! in another epoch ([`renumbered`]).

mod disk;
mod renumbered;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use legate_clock::{Clock, Timestamp};
use legate_ids::EventId;
use legate_wire::audit::{AuditEvent, Emitter, Outcome};
use parking_lot::RwLock;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

pub(crate) use disk::Disk;
pub(crate) use source::SpoolSource;

/// The longest that a call waits for its record.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Calls that wait for the writer at most; the next is denied at once.
const QUEUE: usize = 8_192;

/// Events of all of them together: a batch is one call and up to 256 events.
const QUEUED_EVENTS: usize = 65_536;

/// The first event of an epoch, and what it says of the one before.
const OPENED: &str = "spool.opened";
const PREVIOUS_EPOCH: &str = "previous_epoch";
const PREVIOUS_LAST: &str = "previous_last_seq";

/// Calls whose records are written as one group at most.
const GROUP: usize = 1_024;

/// Where records are kept: the journal on disk, or a stand-in that fails when it is told to.
#[async_trait::async_trait]
pub(crate) trait Paper: Send + Sync + fmt::Debug + 'static {
    /// Writes records in order, all or none; returns when they are written, though perhaps not on disk yet.
    async fn write(&self, records: Vec<Vec<u8>>) -> Result<(), Refused>;

    /// Returns when everything written before is on disk.
    async fn sync(&self) -> Result<(), Refused>;

    /// Bytes that are kept and not yet acknowledged by the collector.
    fn waiting_bytes(&self) -> u64;
}

/// Why the paper does not take records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No room; nothing was written.
    Full,
    /// It has failed for good; how much was written is not known.
    Broken,
}

/// The end of the epoch before, as the disk tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    /// Its name; empty when there was none.
    pub(crate) epoch: String,
    /// The last number found of it.
    pub(crate) last_seq: u64,
    /// Whether it was closed in peace.
    pub(crate) is_clean: bool,
    /// Bytes of a torn end that were cut away.
    pub(crate) torn_bytes: u64,
    /// When the last record found of it was made: what was cut away came after it.
    pub(crate) last_time: Option<Timestamp>,
}

/// Why a record was not written in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRecorded {
    #[error("the spool is full: its disk is, or audit-collector has not taken the records for too long")]
    Full,
    #[error("more calls wait for the spool than it takes")]
    Crowded,
    #[error("the spool's disk did not take the record within 500 ms")]
    Slow,
    #[error("the spool's disk has failed; the service has to be restarted")]
    Broken,
    #[error("the service stops, and its spool is closed")]
    Closed,
}

/// How the spool is run.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// The emitter's SPIFFE ID.
    pub(crate) emitter: String,
    /// What this copy of the service is called.
    pub(crate) replica: String,
    /// More waiting bytes than this and every record is refused.
    pub(crate) max_bytes: u64,
    pub(crate) clock: Arc<dyn Clock>,
}

struct Job {
    events: Vec<AuditEvent>,
    durable: bool,
    done: oneshot::Sender<Result<(), NotRecorded>>,
    /// Its share of the bound on events; given back when they are numbered.
    _places: OwnedSemaphorePermit,
}

/// The way to the spool.
#[derive(Debug)]
pub(crate) struct Spool {
    jobs: mpsc::Sender<Job>,
    places: Arc<Semaphore>,
    state: Arc<State>,
    terms: Terms,
    /// Held while a job is queued: none gets behind the last one.
    is_closed: RwLock<bool>,
}

#[derive(Debug)]
struct State {
    paper: Arc<dyn Paper>,
    epoch: String,
    is_broken: AtomicBool,
    last_seq: AtomicU64,
}

/// A random name for this start.
fn new_epoch(now: Timestamp) -> String {
    format!("{:x}-{:016x}", now.micros(), rand::random::<u64>())
}

/// A new event's id.
fn new_id(now: Timestamp) -> String {
    EventId::from_parts(u64::try_from(now.micros() / 1_000).unwrap_or(0), rand::random()).to_string()
}

impl Spool {
    /// Opens a new epoch on `paper` with its first record, which is on disk when this returns.
    ///
    /// # Errors
    /// When the disk does not take that record.
    pub(crate) async fn open(paper: Arc<dyn Paper>, before: &Before, terms: Terms) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let epoch = new_epoch(terms.clock.now());
        let state = Arc::new(State { paper, epoch, is_broken: AtomicBool::new(false), last_seq: AtomicU64::new(0) });
        let pen =
            Pen { state: Arc::clone(&state), emitter: terms.emitter.clone(), clock: Arc::clone(&terms.clock), queue };
        tokio::spawn(pen.run());
        let spool =
            Self { jobs, places: Arc::new(Semaphore::new(QUEUED_EVENTS)), state, terms, is_closed: RwLock::new(false) };
        let opened = spool.note(
            OPENED,
            [
                (PREVIOUS_EPOCH, before.epoch.clone()),
                (PREVIOUS_LAST, before.last_seq.to_string()),
                ("previous_ended_clean", before.is_clean.to_string()),
                ("torn_bytes", before.torn_bytes.to_string()),
                ("previous_last_time", before.last_time.map(|time| time.to_string()).unwrap_or_default()),
            ],
        );
        // A spool that waits for the collector opens as well: the service comes up and says why it denies.
        spool.enqueue(vec![opened], true, false).await.map_err(io::Error::other)?;
        Ok(spool)
    }

    /// An event of the spool about itself.
    fn note<const N: usize>(&self, kind: &str, details: [(&str, String); N]) -> AuditEvent {
        let own = (legate_outbox::REPLICA, self.terms.replica.clone());
        let details: BTreeMap<_, _> = details.into_iter().chain([own]).map(|(k, v)| (k.to_owned(), v)).collect();
        AuditEvent {
            r#type: kind.to_owned(),
            time: Some(self.terms.clock.now().into()),
            actor: self.terms.emitter.clone(),
            details,
            outcome: Outcome::Success.into(),
            ..AuditEvent::default()
        }
    }

    /// The event by which a new epoch goes on with what comes behind `last` of another one, of which the log has other events.
    fn goes_on(&self, previous: &str, last: u64) -> AuditEvent {
        let details = [(PREVIOUS_EPOCH, previous.to_owned()), (PREVIOUS_LAST, last.to_string())];
        let now = self.terms.clock.now();
        let emitter = Emitter { spiffe_id: self.terms.emitter.clone(), epoch: new_epoch(now), seq: 1 };
        AuditEvent { event_id: new_id(now), emitter: Some(emitter), ..self.note(OPENED, details) }
    }

    /// Returns when the events are written, or on disk where they have to be `durable`.
    ///
    /// # Errors
    /// [`NotRecorded`], after 500 ms at the latest. With `Slow` the events may be written later nevertheless: then the
    /// log holds an ALLOW that was not said, never the reverse.
    pub(crate) async fn write(&self, events: Vec<AuditEvent>, durable: bool) -> Result<(), NotRecorded> {
        if self.is_full() {
            return Err(NotRecorded::Full);
        }
        self.enqueue(events, durable, false).await
    }

    /// Records that we live, unless the epoch has ended.
    ///
    /// # Errors
    /// As [`Spool::write`].
    pub(crate) async fn beat(&self) -> Result<(), NotRecorded> {
        let time = Some(self.terms.clock.now().into());
        let heartbeat = AuditEvent { time, ..legate_outbox::heartbeat(&self.terms.replica) };
        match self.write(vec![heartbeat], false).await {
            Err(NotRecorded::Closed) => Ok(()),
            written => written,
        }
    }

    /// Queues events, the last ones of the spool where they are told to be, and waits for them.
    async fn enqueue(&self, events: Vec<AuditEvent>, durable: bool, is_end: bool) -> Result<(), NotRecorded> {
        if self.is_broken() {
            return Err(NotRecorded::Broken);
        }
        let count = u32::try_from(events.len()).map_err(|_| NotRecorded::Crowded)?;
        let places = Arc::clone(&self.places).try_acquire_many_owned(count).map_err(|_| NotRecorded::Crowded)?;
        let (done, answer) = oneshot::channel();
        self.queue(Job { events, durable, done, _places: places }, is_end)?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(NotRecorded::Broken),
            Err(_) => Err(NotRecorded::Slow),
        }
    }

    fn queue(&self, job: Job, is_end: bool) -> Result<(), NotRecorded> {
        let send = || self.jobs.try_send(job).map_err(|_| NotRecorded::Crowded);
        if is_end {
            let mut is_closed = self.is_closed.write();
            return if std::mem::replace(&mut *is_closed, true) { Err(NotRecorded::Closed) } else { send() };
        }
        let is_closed = self.is_closed.read();
        if *is_closed { Err(NotRecorded::Closed) } else { send() }
    }

    /// The epoch of this start, and the last number that was written in it.
    fn last(&self) -> (String, u64) {
        (self.state.epoch.clone(), self.state.last_seq.load(Ordering::Acquire))
    }

    /// Whether the disk has failed. That never heals by itself: after a failed fsync nobody knows what is on the disk.
    pub(crate) fn is_broken(&self) -> bool {
        self.state.is_broken.load(Ordering::Acquire)
    }

    /// Whether so much waits for the collector that records are refused.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting_bytes() >= self.terms.max_bytes
    }

    /// Bytes that wait for the collector.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.state.paper.waiting_bytes()
    }

    /// Ends the epoch in peace, once: its last record, on disk. Nothing is written after it.
    pub(crate) async fn close(&self) {
        let closed = self.note("spool.closed", []);
        match self.enqueue(vec![closed], true, true).await {
            Ok(()) | Err(NotRecorded::Closed) => {}
            Err(e) => tracing::error!(error = %e, "the spool could not be closed; the next start will report it"),
        }
    }
}

/// Whoever waits for a part of a group: whether it has to be on disk, and whom to tell.
type Waiting = Vec<(bool, oneshot::Sender<Result<(), NotRecorded>>)>;

struct Pen {
    state: Arc<State>,
    emitter: String,
    clock: Arc<dyn Clock>,
    queue: mpsc::Receiver<Job>,
}

impl Pen {
    async fn run(mut self) {
        let mut jobs = Vec::with_capacity(GROUP);
        while self.queue.recv_many(&mut jobs, GROUP).await > 0 {
            let (records, waiting, last) = self.number(&mut jobs);
            if records.is_empty() {
                continue;
            }
            if self.state.is_broken.load(Ordering::Acquire) {
                answer(waiting, Err(NotRecorded::Broken));
                continue;
            }
            match self.state.paper.write(records).await {
                Ok(()) => {
                    self.state.last_seq.store(last, Ordering::Release);
                    self.finish(waiting);
                }
                // Nothing was written, so the numbers are free again.
                Err(Refused::Full) => answer(waiting, Err(NotRecorded::Full)),
                Err(Refused::Broken) => {
                    self.state.broke();
                    answer(waiting, Err(NotRecorded::Broken));
                }
            }
        }
    }

    /// Numbers and serializes the events of callers that still wait: those who left have denied.
    fn number(&self, jobs: &mut Vec<Job>) -> (Vec<Vec<u8>>, Waiting, u64) {
        let mut last = self.state.last_seq.load(Ordering::Acquire);
        let (mut records, mut waiting) = (Vec::with_capacity(jobs.len()), Vec::with_capacity(jobs.len()));
        let now = self.clock.now();
        for job in jobs.drain(..).filter(|job| !job.done.is_closed()) {
            for mut event in job.events {
                last += 1;
                event.event_id = new_id(now);
                let (spiffe_id, epoch) = (self.emitter.clone(), self.state.epoch.clone());
                event.emitter = Some(Emitter { spiffe_id, epoch, seq: last });
                records.push(event.encode_to_vec());
            }
            waiting.push((job.durable, job.done));
        }
        (records, waiting, last)
    }

    /// Tells those who wait for the writing at once, and those who wait for the disk when it is there.
    fn finish(&self, waiting: Waiting) {
        let (durable, written): (Waiting, Waiting) = waiting.into_iter().partition(|(durable, _)| *durable);
        answer(written, Ok(()));
        if durable.is_empty() {
            return;
        }
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            let synced = state.paper.sync().await.map_err(|_| {
                state.broke();
                NotRecorded::Broken
            });
            answer(durable, synced);
        });
    }
}

impl State {
    /// How much is on the disk is not known any more, so the numbers cannot go on.
    fn broke(&self) {
        if !self.is_broken.swap(true, Ordering::AcqRel) {
            tracing::error!(
                "the spool's disk has failed; every check is denied with AUDIT_UNAVAILABLE until a restart"
            );
        }
    }
}

fn answer(waiting: Waiting, result: Result<(), NotRecorded>) {
    for (_, done) in waiting {
        // Whoever does not wait any more has denied already.
        let _ = done.send(result);
    }
}

#[cfg(test)]
mod tests;
