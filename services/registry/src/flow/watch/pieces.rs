//! A snapshot for one watcher: rows read page by page, and passed on in pieces as the bytes that they rest as.

use bytes::Bytes;
use legate_db::{Db, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::SnapshotPart;
use legate_wire::registry::watch_response::News;

use crate::error::of_tx;
use crate::store::{change, head, object, signed, unsigned};

/// Rows that are read at once.
const ROWS: u64 = 1_000;
/// Objects in one piece.
const PIECE: usize = 500;
/// Bytes in one piece, as soon as it has one object.
const PIECE_BYTES: usize = 4 << 20;

/// One page of rows.
pub(super) struct Page {
    /// The objects that were in force, each the bytes of a `Declaration`.
    pub(super) objects: Vec<Bytes>,
    /// The id of the last row; `None` after the last page.
    pub(super) last: Option<String>,
}

/// The page after the row `after`, as of `revision`; `None` where that revision is no longer kept. Rows that were written
/// later are read back as they were then, so that no transaction stays open while a watcher takes its time.
pub(super) async fn page(db: &Db, after: String, revision: u64) -> Result<Option<Page>, Fault> {
    let read: TxResult<_, Fault> = db
        .read("snapshot_page", move |tx| {
            Box::pin(async move {
                let head = head::read_whole(tx).await?;
                if revision < unsigned(head.oldest) && head.revision > 0 {
                    return Ok(None);
                }
                let rows = object::page_by_id(tx, &after, ROWS).await?;
                let last = (rows.len() as u64 == ROWS).then(|| rows.last().map(|row| row.id.clone())).flatten();
                let mut objects = Vec::with_capacity(rows.len());
                for row in rows {
                    if row.revision > signed(revision) {
                        objects.extend(change::body_as_of(tx, &row.id, revision).await?.map(Bytes::from));
                    } else if !row.revoked {
                        objects.push(row.body.into());
                    }
                }
                Ok(Some(Page { objects, last }))
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
