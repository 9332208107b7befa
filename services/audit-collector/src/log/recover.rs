//! Reads the whole log at start, verifies it against the stored checkpoint, and refuses what does not fit.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::{io, thread};

use legate_batch::rotated::{ROTATED, rotated};
use legate_journal::{Journal, JournalError, Recovery};
use legate_merkle::{
    Checkpoint, CheckpointError, Hash, Rotation, SignError, TileId, TileKind, decode_tile, encode_bundle, encode_tile,
    leaf_hash,
};
use legate_wire::audit::{AuditEvent, Emitter};
use prost::Message;

use super::files::{AckMark, Files, read_tile};
use super::key::Keys;
use super::own::CLOSED;
use super::publisher::Published;
use super::shelf::Shelf;
use super::tiler::{Tiler, fold};
use crate::domain::producers::{Producer, Producers};

/// Leaves that are read at once, in bytes.
const BATCH_BYTES: usize = 4 << 20;

/// Tiles that differ from what they have to be are kept aside up to this. A test's log is small.
const MOST_DOUBTFUL: usize = if cfg!(test) { 64 << 10 } else { 64 << 20 };

/// Why the log is not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// Another collector has it.
    #[error("{}: another audit-collector has this log open", .0.display())]
    Taken(PathBuf),
    /// The system refused.
    #[error("{}: {why}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's words.
        why: io::Error,
    },
    /// The signing key cannot be used.
    #[error("the log's key {}: {why}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The segments cannot be used.
    #[error("the log's segments are refused: {0}; bring back an undamaged copy of the directory")]
    Journal(JournalError),
    /// There were more events.
    #[error(
        "the log is cut: it has {found} events, and {wanted} were acknowledged or signed; nothing was changed, bring back the missing segments"
    )]
    Shorter {
        /// How many there are.
        found: u64,
        /// How many there were.
        wanted: u64,
    },
    /// The stored checkpoint is not one of ours.
    #[error("the stored checkpoint is refused: {0}; bring it back, or the log it belongs to")]
    Checkpoint(CheckpointError),
    /// There is none.
    #[error("the log has segments and no checkpoint to hold them against; bring the file `checkpoint` back")]
    CheckpointGone,
    /// A leaf is not what was logged.
    #[error("event {0} is not the one that was logged; bring back an undamaged copy of the directory")]
    Leaf(u64),
    /// The leaves do not make the root that was signed.
    #[error("the first {0} events do not make the root that the stored checkpoint signs: the log was rewritten")]
    Root(u64),
    /// A leaf is no event.
    #[error("event {0} cannot be decoded")]
    Event(u64),
    /// Too many tiles are wrong to be a crash.
    #[error("over 64 MiB of tiles differ from the log; move `tile` out of the log's directory to have it made again")]
    Tiles,
    /// The names of persons cannot be used.
    #[error("the names of persons: {0}")]
    Personal(#[from] crate::personal::VaultError),
    /// The rows of the commit log cannot be used.
    #[error("the commit log in PostgreSQL: {0}")]
    Rows(String),
    /// A row of the commit log is not what was committed.
    #[error(
        "the commit log in PostgreSQL is refused: the row of event {first} is not what was committed ({why}); bring back an undamaged copy of the database"
    )]
    Row {
        /// The place of its first event.
        first: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// There were more rows.
    #[error(
        "the commit log in PostgreSQL was set back: it has {found} events, and {wanted} were committed or signed; nothing was changed, bring back the newer database"
    )]
    RolledBack {
        /// How many there are.
        found: u64,
        /// How many there were.
        wanted: u64,
    },
    /// The copy cannot be used.
    #[error("the copy of the commit log is refused: {0}; move `segments` out of the directory to have it made again")]
    Copy(JournalError),
    /// The copy is other than the rows.
    #[error(
        "event {0} in PostgreSQL is not the one in this collector's copy of the log; find out which was changed, and if it is the copy, move `segments` out of the directory to have it made again"
    )]
    Differs(u64),
    /// The log's key is not here: it is another one's, or it was rotated and the key that followed is gone.
    #[error(
        "the log is signed with the key {theirs}, and this collector has {ours}; bring back the newest log.key (collectors that share a log have the same one in their directories)"
    )]
    OtherKey {
        /// That of the log.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// What the log says of its keys does not hold.
    #[error("the log's keys: {0}; bring back an undamaged copy of the directory")]
    Rotation(String),
    /// The log does not say any more that its key was rotated.
    #[error(
        "event {at} said that the log's key is followed by {to}, and is not there: the log was set back; nothing was changed, bring back the newer one"
    )]
    RotationGone {
        /// Its place.
        at: u64,
        /// The key that followed.
        to: String,
    },
    /// The key that waits could not take over.
    #[error("the log's key cannot be rotated: {0}; nothing is lost, log.key.next waits for the next start")]
    NotRotated(String),
    /// No checkpoint can be signed.
    #[error("no checkpoint can be signed: {0}")]
    Sign(#[from] SignError),
    /// The tasks of the log ended before they began.
    #[error("the log cannot be read: {0}")]
    Broken(String),
}

/// How the log was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) leaves: u64,
    /// Bytes behind the last whole event, which nobody was told to be safe, and which were cut off.
    pub(crate) torn_bytes: u64,
    /// The last run ended in peace, or there was none.
    pub(crate) is_clean: bool,
    /// Tiles that were other than the log says, and were written again.
    pub(crate) tiles_mended: usize,
}

/// A log that is good.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) shelf: Shelf,
    pub(super) mark: AckMark,
    pub(super) tiler: Tiler,
    pub(super) producers: Producers,
    pub(super) keys: Keys,
    pub(super) published: Published,
    pub(super) found: Found,
}

/// The emitter and the type of an event; everything else is skipped.
#[derive(Clone, PartialEq, Message)]
struct Told {
    #[prost(message, optional, tag = "2")]
    emitter: Option<Emitter>,
    #[prost(string, tag = "4")]
    kind: String,
}

/// What a leaf says of the log's key, where it says anything.
pub(super) fn rotation_in(leaf: &[u8], at: u64) -> Result<Option<Rotation>, LogError> {
    let is_one = Told::decode(leaf).is_ok_and(|told| told.kind == ROTATED);
    if is_one { read_rotation(leaf, at) } else { Ok(None) }
}

fn read_rotation(leaf: &[u8], at: u64) -> Result<Option<Rotation>, LogError> {
    let event = AuditEvent::decode(leaf).map_err(|_| LogError::Event(at))?;
    rotated(&event, at).map_err(|e| LogError::Rotation(e.to_string()))
}

/// A leaf as the reader hands it on.
struct Read {
    index: u64,
    leaf: Vec<u8>,
    hash: Hash,
    told: Option<Told>,
}

/// Keeps every other collector out of a log's directory, which is made where it is missing.
pub(super) fn lock(files: &Files) -> Result<File, LogError> {
    let dir = || files.dir().to_owned();
    files.lock().map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => LogError::Taken(dir()),
        _ => LogError::Io { path: dir(), why: e },
    })
}

/// Opens the log in a directory, or begins one there. Reads everything; not for the run time's own threads. With `locked` the
/// directory is a copy that is locked already, whose key and checkpoint are there.
pub(super) fn recover(
    files: Files,
    origin: &str,
    me: &Producer,
    segment_bytes: u64,
    locked: Option<File>,
) -> Result<Recovered, LogError> {
    let dir = files.dir().to_owned();
    let io = |why| LogError::Io { path: dir.clone(), why };
    let lock = locked.map_or_else(|| lock(&files), Ok)?;
    let mark = AckMark::open(&files).map_err(io)?;
    let stored = files.read_checkpoint().map_err(io)?;
    let is_new = stored.is_none() && is_empty(&files).map_err(io)?;
    let mut keys = Keys::open(&dir, origin, is_new)?;
    let published = match stored {
        Some(note) => keys.open_checkpoint(note)?,
        None if is_new => begin(&files, &keys, origin)?,
        None => return Err(LogError::CheckpointGone),
    };

    let at_least = mark.read().map_err(io)?.unwrap_or(0).max(published.size);
    let opened = Journal::open(&files.segments(), Shelf::options(segment_bytes, at_least));
    let (journal, Recovery { torn_bytes, .. }) = opened.map_err(|e| match e {
        JournalError::Short { found, wanted, .. } => LogError::Shorter { found, wanted },
        other => LogError::Journal(other),
    })?;
    let mut tiler = Tiler::new(files.clone());
    let shelf = Shelf { journal, files, segment_bytes, _lock: lock };
    let Walked { producers, last, rotations } = walk(&shelf, &mut tiler, &published)?;
    keys.hold_against(&rotations)?;
    // By all keys that the log had, as it says itself.
    let published = keys.open_checkpoint(published.note.into_bytes())?;
    tiler.trust_the_tree();
    tiler.write_full().map_err(io)?;
    for tile in tiler.take_torn() {
        let bytes = made_again(&shelf, tile)?;
        tiler.mend(tile, &bytes).map_err(io)?;
    }
    let mended = tiler.take_replaced();
    for tile in &mended {
        tracing::warn!(%tile, "a tile was not what the log says, and was written again");
    }
    let found = Found {
        leaves: tiler.size(),
        torn_bytes,
        is_clean: torn_bytes == 0 && last.is_none_or(|leaf| is_farewell(&leaf, me)),
        tiles_mended: mended.len(),
    };
    Ok(Recovered { shelf, mark, tiler, producers, keys, published, found })
}

/// Whether there is no segment yet.
fn is_empty(files: &Files) -> io::Result<bool> {
    match std::fs::read_dir(files.segments()) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e),
    }
}

/// Signs the log's beginning before there is a segment, so that later a log without a checkpoint is one that lost it.
pub(super) fn begin(files: &Files, keys: &Keys, origin: &str) -> Result<Published, LogError> {
    let io = |why| LogError::Io { path: files.dir().to_owned(), why };
    let root = legate_merkle::empty_root();
    let note = Checkpoint::new(origin, 0, root).sign(&**keys.signer())?.to_string();
    files.write_checkpoint(&note).map_err(io)?;
    File::open(files.dir()).and_then(|dir| dir.sync_all()).map_err(io)?;
    Ok(Published { size: 0, root, note })
}

struct Walked {
    producers: Producers,
    last: Option<Vec<u8>>,
    rotations: Vec<Rotation>,
}

/// Takes every leaf into the tree: one thread reads and hashes, this one builds and compares.
fn walk(shelf: &Shelf, tiler: &mut Tiler, stored: &Published) -> Result<Walked, LogError> {
    let io = |why| LogError::Io { path: shelf.files.dir().to_owned(), why };
    let (sender, batches) = sync_channel(4);
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("log-reader".into()).spawn_scoped(scope, move || {
            let mut at = 0;
            let until = shelf.journal.next_index();
            while at < until {
                let batch = shelf.read(at, until, BATCH_BYTES).map(hashed);
                at = match &batch {
                    Ok(batch) if !batch.is_empty() => at + batch.len() as u64,
                    _ => until,
                };
                if sender.send(batch).is_err() {
                    return;
                }
            }
        });
        reader.map_err(io)?;
        build(shelf, tiler, stored, &batches)
    })
}

fn hashed(leaves: Vec<(u64, Vec<u8>)>) -> Vec<Read> {
    let read = |(index, leaf): (u64, Vec<u8>)| {
        let hash = leaf_hash(&leaf);
        let told = Told::decode(leaf.as_slice()).ok();
        Read { index, leaf, hash, told }
    };
    leaves.into_iter().map(read).collect()
}

fn build(
    shelf: &Shelf,
    tiler: &mut Tiler,
    stored: &Published,
    batches: &Receiver<Result<Vec<Read>, JournalError>>,
) -> Result<Walked, LogError> {
    let io = |why| LogError::Io { path: shelf.files.dir().to_owned(), why };
    let mut producers = Producers::default();
    let (mut last, mut rotations) = (None, Vec::new());
    check_root(shelf, tiler, stored)?;
    for batch in batches {
        for Read { index, leaf, hash, told } in batch.map_err(LogError::Journal)? {
            let Some(Told { emitter: Some(emitter), kind }) = told else { return Err(LogError::Event(index)) };
            if kind == ROTATED
                && let Some(rotation) = read_rotation(&leaf, index)?
            {
                is_of_this_tree(&rotation, tiler.root())?;
                rotations.push(rotation);
            }
            producers.advance(Producer { spiffe_id: emitter.spiffe_id, epoch: emitter.epoch }, emitter.seq);
            if index + 1 == shelf.journal.next_index() {
                last = Some(leaf.clone());
            }
            tiler.push_hashed(leaf, hash).map_err(io)?;
            check_root(shelf, tiler, stored)?;
        }
        tiler.hold_against_files().map_err(io)?;
        if tiler.doubtful_bytes() > MOST_DOUBTFUL {
            first_other_leaf(shelf, stored.size)?;
            return Err(LogError::Tiles);
        }
    }
    if tiler.size() < stored.size {
        return Err(LogError::Shorter { found: tiler.size(), wanted: stored.size });
    }
    Ok(Walked { producers, last, rotations })
}

/// A rotation speaks of the tree that is before it, and of no other log's.
pub(super) fn is_of_this_tree(rotation: &Rotation, root: Hash) -> Result<(), LogError> {
    if *rotation.root() == root {
        return Ok(());
    }
    Err(LogError::Rotation(format!("the rotation at event {} is of another log than this one", rotation.size())))
}

/// A full tile or bundle, from the log and from the tiles below it.
fn made_again(shelf: &Shelf, tile: TileId) -> Result<Vec<u8>, LogError> {
    let io = |why| LogError::Io { path: shelf.files.dir().to_owned(), why };
    let first = tile.index * legate_merkle::TILE_WIDTH;
    let until = first + legate_merkle::TILE_WIDTH;
    if let TileKind::Hashes(level @ 1..) = tile.kind {
        let below = (first..until).map(|index| {
            let tile = TileId { kind: TileKind::Hashes(level - 1), index, ..tile };
            let hashes = read_tile(shelf.files.dir(), tile).map(|bytes| decode_tile(&bytes, usize::from(tile.width)));
            hashes.and_then(|hashes| hashes.ok_or_else(|| io::Error::other(format!("{tile} is damaged"))))
        });
        let row: io::Result<Vec<Hash>> = below.map(|hashes| hashes.map(|hashes| fold(&hashes))).collect();
        return row.map(|row| encode_tile(&row)).map_err(io);
    }
    let mut leaves = Vec::new();
    while first + (leaves.len() as u64) < until {
        let more = shelf.read(first + leaves.len() as u64, until, BATCH_BYTES).map_err(LogError::Journal)?;
        if more.is_empty() {
            return Err(LogError::Shorter { found: first + leaves.len() as u64, wanted: until });
        }
        leaves.extend(more.into_iter().map(|(_, leaf)| leaf));
    }
    match tile.kind {
        TileKind::Entries => encode_bundle(&leaves).map_err(|e| io(io::Error::other(e))),
        TileKind::Hashes(_) => Ok(encode_tile(&leaves.iter().map(|leaf| leaf_hash(leaf)).collect::<Vec<_>>())),
    }
}

/// Holds the tree against the stored checkpoint when it has come that far.
fn check_root(shelf: &Shelf, tiler: &Tiler, stored: &Published) -> Result<(), LogError> {
    if tiler.size() != stored.size || tiler.root() == stored.root {
        return Ok(());
    }
    first_other_leaf(shelf, stored.size)?;
    Err(LogError::Root(stored.size))
}

/// Fails with the first leaf that is other than its hash in the tiles.
fn first_other_leaf(shelf: &Shelf, size: u64) -> Result<(), LogError> {
    let bundles = legate_merkle::new_tiles(0, size).into_iter().filter(|t| t.kind == TileKind::Entries);
    for bundle in bundles {
        let row = TileId { kind: TileKind::Hashes(0), ..bundle };
        let Some(hashes) =
            read_tile(shelf.files.dir(), row).ok().and_then(|bytes| decode_tile(&bytes, usize::from(row.width)))
        else {
            continue;
        };
        let first = bundle.index * legate_merkle::TILE_WIDTH;
        let until = first + hashes.len() as u64;
        let mut at = first;
        while at < until {
            let leaves = shelf.read(at, until, BATCH_BYTES).map_err(LogError::Journal)?;
            if leaves.is_empty() {
                break;
            }
            at += leaves.len() as u64;
            for (index, leaf) in leaves {
                let wanted = usize::try_from(index - first).ok().and_then(|n| hashes.get(n));
                if wanted.is_some_and(|wanted| *wanted != leaf_hash(&leaf)) {
                    return Err(LogError::Leaf(index));
                }
            }
        }
    }
    Ok(())
}

/// Whether a leaf is our own last word of a run that ended in peace.
fn is_farewell(leaf: &[u8], me: &Producer) -> bool {
    AuditEvent::decode(leaf)
        .is_ok_and(|event| event.r#type == CLOSED && event.emitter.is_some_and(|e| e.spiffe_id == me.spiffe_id))
}
