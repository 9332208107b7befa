//! A snapshot for one watcher: rows read page by page, and passed on in pieces as the bytes that they rest as.

use std::collections::VecDeque;

use bytes::Bytes;
use legate_db::{Db, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::SnapshotPart;
use legate_wire::registry::watch_response::News;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::error::of_tx;
use crate::store::{change, head, object, signed, unsigned};

/// Rows that are read at once.
const ROWS: i64 = 1_000;
/// Pages that are read at once for one watcher, each on a connection of its own: of those there are few.
const AT_ONCE: usize = 2;
/// Objects in one piece.
const PIECE: usize = 500;
/// Bytes in one piece, as soon as it has one object.
const PIECE_BYTES: usize = 4 << 20;

/// What a page holds.
pub(super) enum Page {
    /// The objects that were in force, each the bytes of a `Declaration`; perhaps none.
    Objects(Vec<Bytes>),
    /// There are no more.
    End,
    /// The revision is no longer kept.
    Forgotten,
}

/// All pages of a snapshot, read ahead.
pub(super) struct Pages<'d> {
    db: &'d Db,
    revision: u64,
    /// Objects up to this number are in a page that was read or is being read.
    begun: i64,
    reading: VecDeque<AbortOnDropHandle<Result<Page, Fault>>>,
}

impl<'d> Pages<'d> {
    /// Those of a revision.
    pub(super) fn of(db: &'d Db, revision: u64) -> Self {
        Self { db, revision, begun: 0, reading: VecDeque::new() }
    }

    /// The next page.
    pub(super) async fn next(&mut self) -> Result<Page, Fault> {
        while self.reading.len() < AT_ONCE {
            let read = page(self.db.clone(), self.begun, self.revision).in_current_span();
            self.reading.push_back(AbortOnDropHandle::new(tokio::spawn(read)));
            self.begun = self.begun.saturating_add(ROWS);
        }
        match self.reading.pop_front() {
            Some(next) => next.await.map_err(Fault::broken)?,
            None => Ok(Page::End),
        }
    }
}

/// The objects after a number, as of `revision`. Rows that were written later are read back as they were then, so that no
/// transaction stays open while a watcher takes its time.
async fn page(db: Db, after: i64, revision: u64) -> Result<Page, Fault> {
    let read: TxResult<_, Fault> = db
        .read("snapshot_page", move |tx| {
            Box::pin(async move {
                let head = head::read_whole(tx).await?;
                if revision < unsigned(head.oldest) && head.revision > 0 {
                    return Ok(Page::Forgotten);
                }
                // What was made since has higher numbers, and was not there then.
                if after >= head.numbered {
                    return Ok(Page::End);
                }
                let up_to = after.saturating_add(ROWS);
                let bodies = object::bodies(tx, after, up_to, revision).await?;
                let mut objects: Vec<Bytes> = bodies.into_iter().map(Bytes::from).collect();
                if head.revision > signed(revision) {
                    for id in object::written_after(tx, after, up_to, revision).await? {
                        objects.extend(change::body_as_of(tx, &id, revision).await?.map(Bytes::from));
                    }
                }
                Ok(Page::Objects(objects))
            })
        })
        .await;
    read.map_err(of_tx)
}

/// A piece of a snapshot in the making.
pub(super) struct Piece {
    revision: u64,
    first: bool,
    objects: Vec<Bytes>,
    bytes: usize,
}

impl Piece {
    /// The first piece of a snapshot, which says that all before it is void.
    pub(super) fn first_of(revision: u64) -> Self {
        Self { revision, first: true, objects: Vec::new(), bytes: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.objects.len() >= PIECE || self.bytes >= PIECE_BYTES
    }

    pub(super) fn push(&mut self, object: Bytes) {
        self.bytes += object.len();
        self.objects.push(object);
    }

    /// What was put in, to be sent; what is put in from now on is of the next piece.
    pub(super) fn cut(&mut self) -> News {
        News::Snapshot(self.part())
    }

    pub(super) fn last(mut self, history: Vec<u8>) -> News {
        News::Snapshot(SnapshotPart { last: true, history, ..self.part() })
    }

    fn part(&mut self) -> SnapshotPart {
        self.bytes = 0;
        SnapshotPart {
            revision: self.revision,
            objects: std::mem::take(&mut self.objects),
            first: std::mem::replace(&mut self.first, false),
            ..SnapshotPart::default()
        }
    }
}
