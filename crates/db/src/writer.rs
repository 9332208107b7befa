//! The SQLite writer: queued transactions, committed together by one fsync, each in a savepoint where there are several.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sea_orm::{DatabaseConnection, DbErr, SqliteTransactionMode, TransactionOptions, TransactionTrait as _};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tracing::Instrument as _;

use crate::error::is_disk_failure;
use crate::metrics::Metrics;
use crate::sqlite::Opener;
use crate::{Fault, Options, Tx, TxError, TxResult, guarded};

/// Hands transactions to the one task that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: std::sync::Mutex<Option<mpsc::Sender<Box<dyn Work>>>>,
    conn: Arc<Mutex<DatabaseConnection>>,
    poisoned: Arc<OnceLock<String>>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// One queued transaction, its types hidden.
trait Work: Send {
    /// Whether somebody still waits for it.
    fn is_wanted(&self) -> bool;
    /// Runs the body; whether its writes are to be kept.
    fn run<'a>(&'a mut self, tx: &'a Tx, limit: Duration) -> BoxFuture<'a, bool>;
    /// Answers, after the group's commit ended so.
    fn settle(self: Box<Self>, commit: &Result<(), DbErr>);
}

impl std::fmt::Debug for dyn Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

struct Job<T, E, F> {
    body: F,
    fault: Option<Fault>,
    span: tracing::Span,
    result: Option<TxResult<T, E>>,
    reply: oneshot::Sender<TxResult<T, E>>,
}

impl<T, E, F> Work for Job<T, E, F>
where
    T: Send,
    E: Send,
    F: for<'a> Fn(&'a Tx) -> BoxFuture<'a, TxResult<T, E>> + Send + Sync,
{
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run<'a>(&'a mut self, tx: &'a Tx, limit: Duration) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let body = &self.body;
            let mut result = guarded(limit, async { body(tx).await }).instrument(self.span.clone()).await;
            if result.is_ok() && self.fault == Some(Fault::NotPersisted) {
                result = Err(TxError::unavailable("a planned fault: not persisted"));
            }
            let keep = result.is_ok();
            self.result = Some(result);
            keep
        })
    }

    fn settle(self: Box<Self>, commit: &Result<(), DbErr>) {
        let answer = match (self.result, commit) {
            (Some(Err(e)), _) => Err(e),
            (_, Err(e)) => Err(e.clone().into()),
            (None, Ok(())) => Err(TxError::broken("the transaction was not run")),
            (Some(Ok(_)), Ok(())) if self.fault == Some(Fault::PersistedButReplyLost) => {
                Err(TxError::unavailable("a planned fault: the reply was lost"))
            }
            (Some(Ok(value)), Ok(())) => Ok(value),
        };
        // Nobody waits any more: the commit stands all the same.
        drop(self.reply.send(answer));
    }
}

impl Writer {
    pub(crate) async fn start(
        opener: Opener,
        options: &Options,
        metrics: Metrics,
        commits: watch::Sender<u64>,
    ) -> Result<Self, DbErr> {
        let conn = Arc::new(Mutex::new(opener.connect().await?));
        let poisoned = Arc::new(OnceLock::new());
        let (jobs, queue) = mpsc::channel(options.queue.max(1));
        let group = Group {
            opener,
            conn: Arc::clone(&conn),
            poisoned: Arc::clone(&poisoned),
            options: options.clone(),
            metrics,
            commits,
        };
        let task = tokio::spawn(group.serve(queue));
        Ok(Self { jobs: std::sync::Mutex::new(Some(jobs)), conn, poisoned, task: Mutex::new(Some(task)) })
    }

    /// The writing connection, for migrations; the writer waits meanwhile.
    pub(crate) async fn connection(&self) -> tokio::sync::MutexGuard<'_, DatabaseConnection> {
        self.conn.lock().await
    }

    /// # Errors
    /// Broken for ever after a failed sync.
    pub(crate) fn check<E>(&self) -> Result<(), TxError<E>> {
        match self.poisoned.get() {
            Some(why) => Err(TxError::broken(why)),
            None => Ok(()),
        }
    }

    pub(crate) async fn run<T, E, F>(&self, body: F, fault: Option<Fault>, wait: Duration) -> TxResult<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: for<'a> Fn(&'a Tx) -> BoxFuture<'a, TxResult<T, E>> + Send + Sync + 'static,
    {
        self.check()?;
        let closed = || TxError::unavailable("the database is closed");
        let jobs = self.jobs.lock().ok().and_then(|jobs| jobs.clone());
        let jobs = jobs.ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        let job = Job { body, fault, span: tracing::Span::current(), result: None, reply };
        jobs.send_timeout(Box::new(job), wait)
            .await
            .map_err(|_| TxError::unavailable("too many writes are waiting"))?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    pub(crate) async fn close(&self) {
        if let Ok(mut jobs) = self.jobs.lock() {
            jobs.take();
        }
        let task = self.task.lock().await.take();
        if let Some(task) = task {
            drop(task.await);
        }
    }
}

/// What the writing task holds.
struct Group {
    opener: Opener,
    conn: Arc<Mutex<DatabaseConnection>>,
    poisoned: Arc<OnceLock<String>>,
    options: Options,
    metrics: Metrics,
    commits: watch::Sender<u64>,
}

impl Group {
    async fn serve(self, mut queue: mpsc::Receiver<Box<dyn Work>>) {
        while let Some(first) = queue.recv().await {
            let mut conn = self.conn.lock().await;
            let mut works = Vec::new();
            let (end, lost) = self.commit_together(&conn, first, &mut queue, &mut works).await;
            if lost {
                // SQLite may have ended the transaction by itself, and the driver does not know: start afresh.
                tracing::warn!("the writing connection is opened again");
                drop(conn.close_by_ref().await);
                if let Ok(new) = self.opener.connect().await {
                    *conn = new;
                }
            }
            if end.is_ok() {
                self.metrics.group(u32::try_from(works.len()).unwrap_or(u32::MAX));
                self.commits.send_modify(|n| *n += 1);
            }
            for work in works {
                work.settle(&end);
            }
        }
        drop(self.conn.lock().await.close_by_ref().await);
    }

    /// Runs `first` and what is queued behind it, and commits. Whether the connection is lost.
    async fn commit_together(
        &self,
        conn: &DatabaseConnection,
        first: Box<dyn Work>,
        queue: &mut mpsc::Receiver<Box<dyn Work>>,
        works: &mut Vec<Box<dyn Work>>,
    ) -> (Result<(), DbErr>, bool) {
        works.push(first);
        if let Some(why) = self.poisoned.get() {
            return (Err(DbErr::Custom(why.clone())), false);
        }
        let immediate = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let outer = match conn.begin_with_options(immediate).await {
            Ok(outer) => outer,
            Err(e) => return (Err(e), true),
        };
        let started = Instant::now();
        let mut kept = 0;
        let mut at = 0;
        while at < works.len() {
            // What comes first needs no savepoint as long as nobody waits behind it: if it fails, all there is is taken back.
            let is_alone = at == 0 && queue.is_empty();
            if works[at].is_wanted() {
                let work = works[at].as_mut();
                if is_alone {
                    kept += usize::from(work.run(&outer, self.options.tx_timeout).await);
                    if kept == 0 {
                        break;
                    }
                } else {
                    match self.run_in_savepoint(&outer, work).await {
                        Ok(keep) => kept += usize::from(keep),
                        Err(e) => return (Err(e), outer.rollback().await.is_err()),
                    }
                }
            }
            at += 1;
            if at < self.options.group
                && started.elapsed() < self.options.group_time
                && let Ok(next) = queue.try_recv()
            {
                works.push(next);
            }
        }
        if kept == 0 {
            let end = outer.rollback().await;
            let lost = end.is_err();
            return (end, lost);
        }
        match outer.commit().await {
            Ok(()) => (Ok(()), false),
            Err(e) => {
                if is_disk_failure(&e) {
                    // After a failed fsync the kernel may drop what it could not write: never retry.
                    let why = format!("the disk failed while a commit was synced ({e}); restart after checking it");
                    tracing::error!("{why}");
                    drop(self.poisoned.set(why));
                }
                (Err(e), true)
            }
        }
    }

    /// An error here, unlike one of the body, spoils the whole group.
    async fn run_in_savepoint(&self, outer: &Tx, work: &mut dyn Work) -> Result<bool, DbErr> {
        let savepoint = outer.begin().await?;
        let keep = work.run(&savepoint, self.options.tx_timeout).await;
        if keep {
            savepoint.commit().await?;
        } else {
            savepoint.rollback().await?;
        }
        Ok(keep)
    }
}
