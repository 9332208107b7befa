//! The index: follows the newest checkpoint by itself, and begins again when it is not the log's.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use legate_boot::Context;
use legate_db::{Db, OpenError, Options, TxError};
use legate_rpc::Fault;
use legate_wire::audit::AuditEvent;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::watch;

use crate::domain::attested::{self, Open};
use crate::log::{Log, NotProved};
use crate::schema::Migrator;
use crate::store::batch::{self, Batch, Voices};
use crate::store::detect::Looked;
use crate::store::head::{self, Moved};
use crate::store::posting::together;

/// Leaves in one transaction: enough to be quick, few enough that none takes long.
const BATCH: u64 = 4_096;

/// Leaves that are read at once, in bytes.
const BATCH_BYTES: usize = 8 << 20;

/// The wait after a failure doubles from the first to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Opening a database takes no longer, or it is tried again.
const OPENING: Duration = Duration::from_secs(30);

/// The index as readers see it. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Index(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: String,
    origin: String,
    voices: Voices,
    ctx: Context,
    /// The database, while it answers.
    db: Mutex<Option<Db>>,
    is_registered: Mutex<bool>,
    through: watch::Sender<u64>,
    roles: watch::Sender<bool>,
    /// What the rules came to at the last step, and how often they found something since the start.
    looked: watch::Sender<(Looked, u64)>,
    trouble: Mutex<Option<String>>,
}

/// Why the index makes no step; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotIndexed {
    #[error("the database cannot be opened: {0}")]
    Open(#[from] OpenError),
    #[error("the database does not open in time")]
    Slow,
    #[error("the database cannot be brought up to date: {0}")]
    Migrate(sea_orm::DbErr),
    #[error(transparent)]
    Index(#[from] TxError<Moved>),
    #[error("leaves cannot be read: {0}")]
    Leaves(#[from] legate_journal::JournalError),
    #[error("the log's tiles: {0}")]
    Tiles(#[from] NotProved),
    #[error("a reading task has broken off")]
    Broken(#[from] tokio::task::JoinError),
}

impl Index {
    /// The index of the log called `origin` in a database, which is not opened yet.
    pub(crate) fn new(url: String, origin: String, voices: Voices, ctx: Context) -> Self {
        Self(Arc::new(Inner {
            url,
            origin,
            voices,
            ctx,
            db: Mutex::default(),
            is_registered: Mutex::default(),
            through: watch::Sender::new(0),
            roles: watch::Sender::new(false),
            looked: watch::Sender::new(Default::default()),
            trouble: Mutex::new(Some("the index is being opened".to_owned())),
        }))
    }

    /// The SPIFFE ID of the collector itself.
    pub(crate) fn me(&self) -> &str {
        &self.0.voices.me
    }

    /// The SPIFFE ID of the registry beside it.
    pub(crate) fn registry(&self) -> &str {
        &self.0.voices.registry
    }

    /// The log's name.
    pub(crate) fn origin(&self) -> &str {
        &self.0.origin
    }

    /// The database, while it answers.
    pub(crate) fn db(&self) -> Option<Db> {
        self.0.db.lock().clone()
    }

    /// Over how many leaves it is, now and later.
    pub(crate) fn through(&self) -> watch::Receiver<u64> {
        self.0.through.subscribe()
    }

    /// Whether it knows what operators may do, now and later.
    pub(crate) fn knows_roles(&self) -> watch::Receiver<bool> {
        self.0.roles.subscribe()
    }

    /// What the rules came to, now and later.
    pub(crate) fn looked(&self) -> watch::Receiver<(Looked, u64)> {
        self.0.looked.subscribe()
    }

    /// Why it makes no step, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.0.trouble.lock().clone()
    }

    /// Follows the log until it has ended. What fails is tried again; nothing else waits for it.
    pub(crate) async fn follow(self, log: Log) {
        let mut wait = WAITS.0;
        loop {
            let before = *self.0.through.borrow();
            let Err(error) = self.follow_once(&log).await else { return };
            if matches!(error, NotIndexed::Index(TxError::Broken(_))) {
                // A database that hangs is not waited for.
                drop(tokio::time::timeout(WAITS.1, self.close()).await);
            }
            tracing::warn!(%error, "the index makes no step; it is tried again");
            *self.0.trouble.lock() = Some(error.to_string());
            if *self.0.through.borrow() > before {
                wait = WAITS.0;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    async fn follow_once(&self, log: &Log) -> Result<(), NotIndexed> {
        let db = match self.db() {
            Some(db) => db,
            None => self.open().await?,
        };
        let mut published = log.published();
        let mut at = self.take_stock(&db, log, &mut published).await?;
        *self.0.db.lock() = Some(db.clone());
        *self.0.trouble.lock() = None;
        self.0.through.send_replace(at);
        let (me, end) = (self.0.voices.me.clone(), at);
        let mut open = log.reading(move |log| open_before(log, &me, end)).await??;
        loop {
            let end = published.borrow_and_update().size;
            while at < end {
                (at, open) = self.step(&db, log, at..end, open).await?;
                self.0.through.send_replace(at);
                self.put_together(&db).await?;
            }
            if published.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    async fn open(&self) -> Result<Db, NotIndexed> {
        let opening = async {
            let db = Db::open(&self.0.url, Options::default()).await?;
            db.migrate::<Migrator>().await.map_err(NotIndexed::Migrate)?;
            Ok::<_, NotIndexed>(db)
        };
        let db = tokio::time::timeout(OPENING, opening).await.map_err(|_| NotIndexed::Slow)??;
        let mut is_registered = self.0.is_registered.lock();
        if !*is_registered {
            self.0.ctx.metrics.register(|registry| db.register(registry));
            *is_registered = true;
        }
        Ok(db)
    }

    /// How far the index is. One that is not a beginning of this log is forgotten.
    async fn take_stock(
        &self,
        db: &Db,
        log: &Log,
        published: &mut watch::Receiver<crate::log::Published>,
    ) -> Result<u64, NotIndexed> {
        let found = db.read("index_head", |tx| Box::pin(async move { head::get(tx).await })).await?;
        if let Some(found) = &found
            && found.origin == self.0.origin
            && found.size() <= log.size()
        {
            let (size, stated) = (found.size(), found.roles_stated);
            // The index never is ahead of a checkpoint, but the file of the newest one may be older than it.
            if published.wait_for(|p| p.size >= size).await.is_err() {
                return Ok(size);
            }
            let root = log.reading(move |log| log.root_at(size)).await??;
            if root.as_slice() == found.root {
                self.0.roles.send_replace(stated);
                return Ok(size);
            }
        }
        if found.is_some() {
            tracing::warn!("the index is not one of this log, and is made again");
        }
        let origin = self.0.origin.clone();
        db.tx("index_begin", move |tx| {
            let origin = origin.clone();
            Box::pin(async move {
                batch::clear(tx).await?;
                head::begin(tx, &origin).await
            })
        })
        .await?;
        self.0.roles.send_replace(false);
        Ok(0)
    }

    /// Indexes the next leaves; how far it is then, and which signature is of leaves behind them.
    async fn step(&self, db: &Db, log: &Log, next: Range<u64>, open: Open) -> Result<(u64, Open), NotIndexed> {
        let Range { start: at, end } = next;
        let until = end.min(at + BATCH);
        let inner = Arc::clone(&self.0);
        let read = log.reading(move |log| {
            let leaves = log.read(at, until, BATCH_BYTES)?;
            let batch = Batch::of(&leaves, &inner.voices, log.vault(), open);
            let to = at + batch.leaves();
            let root = log.root_at(to)?;
            Ok::<_, NotIndexed>((batch, to, root))
        });
        let (batch, to, root) = read.await??;
        let (stated, open) = (batch.roles.is_anew, batch.open.clone());
        let (batch, vault) = (Arc::new(batch), log.vault().clone());
        let indexing = db.tx("index_events", move |tx| {
            let (batch, vault) = (Arc::clone(&batch), vault.clone());
            Box::pin(async move {
                let looked = batch.insert(tx, &vault).await?;
                head::advance(tx, at, to, root, stated).await?;
                Ok(looked)
            })
        });
        let looked = indexing.await?;
        self.0.looked.send_modify(|(last, findings)| {
            *last = looked;
            *findings += looked.findings as u64;
        });
        if stated {
            self.0.roles.send_replace(true);
        }
        Ok((to, open))
    }

    /// Puts together what lies in too many pieces. Nothing hangs on it, so what does not come about is left for the next step.
    async fn put_together(&self, db: &Db) -> Result<(), NotIndexed> {
        while let Some(some) = db.read("index_pieces", |tx| Box::pin(together::next(tx))).await? {
            let some = Arc::new(some);
            let putting = db.tx("index_together", move |tx| {
                let some = Arc::clone(&some);
                Box::pin(async move { together::put::<Moved>(tx, &some).await })
            });
            if let Err(error) = putting.await {
                tracing::warn!(%error, "pieces of the index are not put together");
                return Ok(());
            }
        }
        Ok(())
    }

    /// Closes the database.
    pub(crate) async fn close(&self) {
        let db = self.0.db.lock().take();
        if let Some(db) = db {
            db.close().await;
        }
    }
}

/// The signature that is of leaves from `at` on: in the log itself, since a step may end between a signature and what it is of.
fn open_before(log: &Log, me: &str, at: u64) -> Result<Open, NotIndexed> {
    let (mut open, mut from) = (None, at.saturating_sub(attested::LONGEST + 1));
    while from < at {
        let leaves = log.read(from, at, BATCH_BYTES)?;
        let Some((last, _)) = leaves.last() else { return Ok(None) };
        from = last + 1;
        for (leaf, bytes) in leaves {
            let event = AuditEvent::decode(bytes.as_slice()).unwrap_or_default();
            attested::next(&mut open, leaf, &event, me);
        }
    }
    Ok(open)
}

/// What a reader of the index can fail with; a fault is the journey's own.
pub(crate) type NotRead = TxError<Fault>;

#[cfg(test)]
mod tests;
