//! Opens the log and starts its tasks; what the rest of the service holds of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use legate_journal::JournalError;
use legate_merkle::{KeyChain, SeedSigner, SignError, Signer as _};
use legate_rpc::Pages;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::copy::Ground;
use super::engine::{Appended, Engine, Job, NotAppended, Offer};
use super::files::Files;
use super::own::{EPOCH, Own};
use super::publisher::{Published, Publisher};
use super::recover::{Found, LogError, Recovered, recover};
use super::rotate::settle;
use super::shelf::{Leaves, Shelf, State};
use super::truth::{Rows, Truth};
use super::waiting::Waiting;
use crate::domain::producers::{Lately, Producer};
use crate::metrics::Metrics;
use crate::personal::{self, Ending, Seen, Vault};

/// Requests that wait for the engine, whatever their size.
const QUEUE: usize = 16_384;

/// Readers of leaves and tiles at once; each takes a thread.
const READERS: usize = 32;

/// What a log is opened with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) dir: PathBuf,
    pub(crate) origin: String,
    /// Our own SPIFFE ID.
    pub(crate) me: String,
    pub(crate) segment_bytes: u64,
    pub(crate) waiting_bytes: usize,
    pub(crate) checkpoint_every: Duration,
    /// Where the names of persons are.
    pub(crate) personal: personal::Setup,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
}

/// The log. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shelf: Arc<Shelf>,
    vault: Vault,
    state: Arc<State>,
    jobs: mpsc::Sender<Job>,
    waiting: Arc<Waiting>,
    acked: watch::Receiver<u64>,
    published: watch::Receiver<Published>,
    signer: Arc<SeedSigner>,
    keys: KeyChain,
    verifier_key: String,
    pages: Pages,
    readers: Arc<Semaphore>,
    metrics: Metrics,
    /// Goes last, with the locks on the files.
    _held: watch::Sender<()>,
}

/// The log's running tasks.
#[derive(Debug)]
pub(crate) struct LogTasks {
    jobs: mpsc::Sender<Job>,
    engine: JoinHandle<()>,
    publisher: JoinHandle<()>,
    held: watch::Receiver<()>,
}

impl LogTasks {
    /// Ends once nobody holds the log any more: its directory is free for the next start from then on.
    pub(crate) fn free(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut held = self.held.clone();
        async move { while held.changed().await.is_ok() {} }
    }

    /// Appends what waits and a last word, signs a last checkpoint, and ends.
    pub(crate) async fn close(self) {
        // A full queue empties; a log that has ended needs no closing.
        let _ended = self.jobs.send(Job::Close).await;
        for task in [self.engine, self.publisher] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the log has broken off");
            }
        }
    }
}

impl Log {
    /// Opens the log, or begins one: reads and verifies everything, then starts. With `ground` its truth is in rows, which the directory
    /// has a copy of.
    ///
    /// # Errors
    /// [`LogError`] says what does not fit, and what to do.
    pub(crate) async fn open(setup: Setup, ground: Option<Ground>) -> Result<(Self, LogTasks, Found), LogError> {
        // What it takes is on the heap, and not a part of all that awaits it.
        Box::pin(Self::begin(setup, ground)).await
    }

    async fn begin(setup: Setup, ground: Option<Ground>) -> Result<(Self, LogTasks, Found), LogError> {
        let me = Producer { spiffe_id: setup.me.clone(), epoch: EPOCH.to_owned() };
        let (files, origin, reader) = (Files::new(&setup.dir), setup.origin.clone(), me.clone());
        let segment_bytes = setup.segment_bytes;
        let personal = setup.personal;
        let (lease, locked, tree) = match ground {
            None => (None, None, None),
            Some(Ground { held, lock, tree }) => (Some(held), Some(lock), Some(tree)),
        };
        let rows = lease.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let recovered = recover(files, &origin, &reader, segment_bytes, locked)?;
            let vault = Vault::open(personal, rows)?;
            Ok::<_, LogError>((recovered, vault.unended()?, vault))
        });
        let (recovered, unended, vault) = reading.await.map_err(|e| LogError::Broken(e.to_string()))??;
        let state = Arc::new(State::default());
        let mut truth = match lease.clone().zip(tree) {
            None => Truth::Segments,
            Some((held, tree)) => Truth::Rows(Box::new(Rows { held, tree, state: Arc::clone(&state) })),
        };
        let recovered = settle(recovered, &mut truth, lease.as_ref(), &me, setup.clock.now()).await?;
        let Recovered { shelf, mark, tiler, producers, keys, published, found } = recovered;
        let (signer, keys, pages) = keys.into_parts();

        setup.metrics.keys.set(i64::try_from(keys.keys().count()).unwrap_or(i64::MAX));
        let shelf = Arc::new(shelf);
        let (jobs, waiting_jobs) = mpsc::channel(QUEUE);
        let (acked, acked_seen) = watch::channel(found.leaves);
        let (holding, held) = watch::channel(());
        let (out, published) = watch::channel(published);
        let engine = Engine {
            shelf: Arc::clone(&shelf),
            truth,
            vault: vault.clone(),
            mark,
            producers,
            lately: Lately::default(),
            me,
            clock: setup.clock,
            state: Arc::clone(&state),
            acked,
            metrics: setup.metrics.clone(),
        };
        let log = Self(Arc::new(Inner {
            shelf: Arc::clone(&shelf),
            vault,
            state: Arc::clone(&state),
            jobs: jobs.clone(),
            waiting: Waiting::new(setup.waiting_bytes),
            acked: acked_seen.clone(),
            published,
            signer: Arc::clone(&signer),
            verifier_key: keys.newest().to_string(),
            keys,
            pages,
            readers: Arc::new(Semaphore::new(READERS)),
            metrics: setup.metrics.clone(),
            _held: holding,
        }));
        let publisher = Publisher {
            shelf,
            tiler,
            signer,
            origin: setup.origin,
            every: setup.checkpoint_every,
            out,
            state,
            metrics: setup.metrics,
            beside: lease,
        };
        log.tell(opening(&found));
        if let Some(unended) = unended {
            tracing::warn!("an erasure was interrupted, and is done again");
            // The queue is empty but for the line before.
            let _queued = log.0.jobs.try_send(Job::End(Box::new(unended), None));
        }
        let engine = tokio::spawn(engine.run(waiting_jobs));
        let publisher = tokio::spawn(publisher.run(acked_seen));
        Ok((log, LogTasks { jobs, engine, publisher, held }, found))
    }

    /// Appends events; the answer comes when they are on disk. When the caller stops waiting, they are appended all the same.
    pub(crate) async fn append(&self, offer: Offer) -> Result<Appended, NotAppended> {
        let answered = self.enqueue(offer);
        let told = match answered {
            Ok(answered) => return answered.await.unwrap_or(Err(NotAppended::Stopped)),
            Err(refused) => Err(refused),
        };
        self.0.metrics.answered(told.as_ref());
        told
    }

    fn enqueue(&self, offer: Offer) -> Result<oneshot::Receiver<Result<Appended, NotAppended>>, NotAppended> {
        self.takes()?;
        let names = offer.personal.values().flat_map(|one| &one.parts).map(|part| part.name.len() + 64).sum::<usize>();
        let bytes = offer.events.iter().map(bytes::Bytes::len).sum::<usize>() + names;
        let bytes = bytes + offer.signature.as_ref().map_or(0, Own::size);
        let place = self.0.waiting.enter(share(&offer.producer.spiffe_id), bytes).ok_or(NotAppended::Busy)?;
        let (answer, answered) = oneshot::channel();
        self.0.jobs.try_send(Job::Offer { offer: Box::new(offer), answer, _place: place }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => NotAppended::Busy,
            mpsc::error::TrySendError::Closed(_) => NotAppended::Stopped,
        })?;
        Ok(answered)
    }

    /// Whether something new can be appended now.
    fn takes(&self) -> Result<(), NotAppended> {
        match &self.0.state {
            state if state.is_fenced() => Err(NotAppended::Fenced),
            state if state.why_stopped().is_some() => Err(NotAppended::Stopped),
            // What waits already is answered once it is known; nothing more comes to wait.
            state if state.why_away().is_some() => Err(NotAppended::Away),
            _ => Ok(()),
        }
    }

    /// Whether what happens now can be put on record.
    pub(crate) fn recording(&self) -> Result<(), NotAppended> {
        self.takes()?;
        if self.is_full() { Err(NotAppended::Full) } else { Ok(()) }
    }

    /// Appends an event of our own soon. Nobody waits for it.
    pub(crate) fn tell(&self, own: Own) {
        let kind = own.kind().to_owned();
        let queued = if self.why_stopped().is_some() {
            Err(())
        } else {
            self.0.jobs.try_send(Job::Own(Box::new(own), None)).map_err(|_| ())
        };
        if queued.is_err() {
            tracing::warn!(kind, "an event of the collector's own cannot be recorded");
            self.0.metrics.unrecorded(&kind);
        }
    }

    /// Appends an event of our own; the answer is its leaf, when that is on disk.
    pub(crate) async fn record(&self, own: Own) -> Result<u64, NotAppended> {
        let (answer, answered) = oneshot::channel();
        self.command(Job::Own(Box::new(own), Some(answer)), answered).await
    }

    /// The last number of a producer; 0 for one that is not known. What others append of it meanwhile is not in it.
    pub(crate) async fn last(&self, producer: Producer) -> Result<u64, NotAppended> {
        let (answer, answered) = oneshot::channel();
        self.command(Job::Last(producer, answer), answered).await
    }

    /// Destroys keys of names; the answer is the leaf that says so, when that is on disk.
    pub(crate) async fn end(&self, ending: Ending) -> Result<u64, NotAppended> {
        let (answer, answered) = oneshot::channel();
        self.command(Job::End(Box::new(ending), Some(answer)), answered).await
    }

    async fn command(
        &self,
        job: Job,
        answered: oneshot::Receiver<Result<u64, NotAppended>>,
    ) -> Result<u64, NotAppended> {
        self.takes()?;
        self.0.jobs.try_send(job).map_err(|_| NotAppended::Busy)?;
        answered.await.unwrap_or(Err(NotAppended::Stopped))
    }

    /// The names of persons.
    pub(crate) fn vault(&self) -> &Vault {
        &self.0.vault
    }

    /// Events as they are shown to who may read them: leaves, with the names that are not erased.
    pub(crate) fn seen(&self, leaves: Vec<(u64, Vec<u8>)>) -> Vec<Seen> {
        self.0.vault.seen(leaves)
    }

    /// Signs with the log's key. The message is no note: its own form says what it is.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        self.0.signer.sign(message)
    }

    /// How many leaves are on disk.
    pub(crate) fn size(&self) -> u64 {
        *self.0.acked.borrow()
    }

    /// The newest checkpoint, and those to come.
    pub(crate) fn published(&self) -> watch::Receiver<Published> {
        self.0.published.clone()
    }

    /// Why nothing more is appended, if so.
    pub(crate) fn why_stopped(&self) -> Option<&str> {
        self.0.state.why_stopped()
    }

    /// Why the commit log does not answer, if so.
    pub(crate) fn why_away(&self) -> Option<String> {
        self.0.state.why_away()
    }

    /// Whether the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        self.0.state.is_full()
    }

    /// Why no new checkpoint comes, if so.
    pub(crate) fn why_unpublished(&self) -> Option<String> {
        self.0.state.why_unpublished()
    }

    /// How many bytes wait for the disk.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.0.waiting.bytes()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.0.shelf.files.dir()
    }

    /// The public key that signs, in C2SP verifier-key form.
    pub(crate) fn verifier_key(&self) -> &str {
        &self.0.verifier_key
    }

    /// All keys of the log, in their order, the one that signs last.
    pub(crate) fn keys(&self) -> &KeyChain {
        &self.0.keys
    }

    /// What authenticates page tokens.
    pub(crate) fn pages(&self) -> &Pages {
        &self.0.pages
    }

    /// Leaves from `from` on that are on disk, `until` not included: some of them, at least one if there is any.
    pub(crate) fn read(&self, from: u64, until: u64, most_bytes: usize) -> Result<Leaves, JournalError> {
        self.0.shelf.read(from, until.min(self.size()), most_bytes)
    }

    /// Does something that reads files, on a thread for that; waits for its turn.
    pub(crate) async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        // The semaphore is never closed.
        let turn = Arc::clone(&self.0.readers).acquire_owned().await.ok();
        let log = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let done = work(&log);
            drop(turn);
            done
        });
        reading.await
    }
}

#[cfg(test)]
impl Log {
    /// Appends behind the engine's back.
    pub(crate) async fn meddle(&self) {
        let appended = self.0.shelf.journal.append(vec![vec![1]], legate_journal::Durability::Synced).await;
        assert!(appended.is_ok());
    }
}

/// Whose share of what waits an emitter's events count in: agents and enforcement points, of which there may be any number, have one
/// together.
fn share(spiffe_id: &str) -> &str {
    if spiffe_id.contains("/ns/") { "workloads" } else { spiffe_id }
}

/// How a run begins, as an event: recovery is on record too.
fn opening(found: &Found) -> Own {
    let kind = if found.is_clean && found.tiles_mended == 0 { "log.opened" } else { "log.recovered" };
    Own::new(kind)
        .with("leaves", found.leaves)
        .with("ended_clean", found.is_clean)
        .with("torn_bytes", found.torn_bytes)
        .with("tiles_mended", found.tiles_mended)
}
