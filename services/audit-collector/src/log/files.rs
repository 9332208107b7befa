//! The files of a log's directory, in the layout of C2SP tlog-tiles.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use legate_merkle::{Hash, TileId, TileKind, leaf_hash};
use rustix::fs::FlockOperation;

/// The directory of a log.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    dir: PathBuf,
}

/// What putting a tile found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It was not there.
    New,
    /// It was there, the same.
    Same,
    /// It was there and different, and is now what it has to be.
    Replaced,
}

/// What looking for a tile found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Missing,
    Same,
    /// A part of it was never written: it has another length, or zeros where it differs. A power cut leaves files so, since they are not
    /// synced; the log, from which they are made, is.
    Torn,
    Different,
}

impl Files {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn segments(&self) -> PathBuf {
        self.dir.join("segments")
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    /// Makes the directory and keeps every other collector out of it for as long as the file lives.
    pub(crate) fn lock(&self) -> io::Result<File> {
        // What is in the log is for whoever it is served to, not for everybody on the machine.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.dir.join("lock"))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }

    /// What the directory is called among those that share a log: a name by chance, made once.
    pub(crate) fn holder(&self) -> io::Result<String> {
        let path = self.dir.join("collector");
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => {
                let name = format!("{:032x}", rand::random::<u128>());
                let new = self.dir.join("collector.new");
                let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
                file.write_all(name.as_bytes())?;
                file.sync_all()?;
                fs::rename(&new, &path)?;
                Ok(name)
            }
        }
    }

    pub(crate) fn read_checkpoint(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.checkpoint()) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Replaces the checkpoint, whole or not at all.
    pub(crate) fn write_checkpoint(&self, text: &str) -> io::Result<()> {
        let new = self.dir.join("checkpoint.new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o644).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(&new, self.checkpoint())
    }

    /// What is where a tile belongs, compared with its bytes; nothing is written.
    pub(crate) fn look(&self, tile: TileId, bytes: &[u8]) -> io::Result<Found> {
        match fs::read(self.dir.join(tile.to_string())) {
            Ok(found) if found == bytes => Ok(Found::Same),
            Ok(found) if is_torn(&found, bytes) => Ok(Found::Torn),
            Ok(_) => Ok(Found::Different),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
            Err(e) => Err(e),
        }
    }

    /// Puts a tile where it belongs.
    pub(crate) fn put(&self, tile: TileId, bytes: &[u8]) -> io::Result<Put> {
        let path = self.dir.join(tile.to_string());
        match OpenOptions::new().create_new(true).write(true).open(&path) {
            Ok(mut file) => {
                file.write_all(bytes)?;
                Ok(Put::New)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
                fs::write(&path, bytes)?;
                Ok(Put::New)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read(&path)? == bytes {
                    return Ok(Put::Same);
                }
                let new = path.with_extension("new");
                fs::write(&new, bytes)?;
                fs::rename(&new, &path)?;
                Ok(Put::Replaced)
            }
            Err(e) => Err(e),
        }
    }

    /// Removes the partial forms of a tile that is full now.
    pub(crate) fn drop_partials(&self, full: TileId) -> io::Result<()> {
        match fs::remove_dir_all(self.dir.join(format!("{full}.p"))) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// Whether what is there is what is wanted with a part of it unwritten.
fn is_torn(found: &[u8], wanted: &[u8]) -> bool {
    found.len() != wanted.len() || found.iter().zip(wanted).all(|(found, wanted)| found == wanted || *found == 0)
}

/// How far the log was acknowledged, kept beside it. It is written after every group and not synced: what survives the
/// end of the process is exact, what survives the end of the machine is a lower bound.
#[derive(Debug)]
pub(crate) struct AckMark(File);

impl AckMark {
    pub(crate) fn open(files: &Files) -> io::Result<Self> {
        let path = files.dir.join("acked");
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
        Ok(Self(file))
    }

    /// The size that was marked last; `None` when there is no mark.
    pub(crate) fn read(&self) -> io::Result<Option<u64>> {
        let mut bytes = [0; 40];
        match self.0.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        }
        let (size, sum) = bytes.split_at(8);
        let whole = leaf_hash(size) == *sum;
        Ok(whole.then(|| size.try_into().map(u64::from_le_bytes).unwrap_or(0)))
    }

    pub(crate) fn write(&self, size: u64) -> io::Result<()> {
        let size = size.to_le_bytes();
        let sum: Hash = leaf_hash(&size);
        let mut bytes = [0; 40];
        bytes[..8].copy_from_slice(&size);
        bytes[8..].copy_from_slice(&sum);
        self.0.write_all_at(&bytes, 0)
    }
}

/// Reads a tile or bundle of the log in `dir`. A partial one that was dropped is cut out of the full one (C2SP
/// tlog-tiles, "Partial Tiles").
///
/// # Errors
/// When neither is there.
pub(crate) fn read_tile(dir: &Path, tile: TileId) -> io::Result<Vec<u8>> {
    match fs::read(dir.join(tile.to_string())) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !tile.is_full() => {
            let full = fs::read(dir.join(TileId { width: 256, ..tile }.to_string())).map_err(|_| e)?;
            Ok(cut(full, tile))
        }
        other => other,
    }
}

/// The beginning of a full tile.
fn cut(mut full: Vec<u8>, tile: TileId) -> Vec<u8> {
    let width = usize::from(tile.width);
    let end = match tile.kind {
        TileKind::Hashes(_) => width * 32,
        TileKind::Entries => {
            let mut at = 0;
            for _ in 0..width {
                let Some([a, b]) = full.get(at..at + 2).and_then(|b| b.first_chunk::<2>()) else { break };
                at += 2 + usize::from(u16::from_be_bytes([*a, *b]));
            }
            at
        }
    };
    full.truncate(end);
    full
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_dropped_partial_is_cut_out_of_the_full_one() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path());
        let entries: Vec<Vec<u8>> = (0..=255u8).map(|i| vec![i; usize::from(i)]).collect();
        let full = TileId { kind: TileKind::Entries, index: 3, width: 256 };
        let bundle = legate_merkle::encode_bundle(&entries).unwrap();
        assert_eq!(files.put(full, &bundle).unwrap(), Put::New);
        assert_eq!(files.put(full, &bundle).unwrap(), Put::Same);
        let partial = TileId { width: 17, ..full };
        let wanted = legate_merkle::encode_bundle(&entries[..17]).unwrap();
        assert_eq!(read_tile(dir.path(), partial).unwrap(), wanted);
        assert_eq!(files.put(partial, &wanted).unwrap(), Put::New);
        files.drop_partials(full).unwrap();
        assert!(!dir.path().join(partial.to_string()).exists());
        assert_eq!(files.put(full, b"other").unwrap(), Put::Replaced);
        assert!(read_tile(dir.path(), TileId { index: 4, ..partial }).is_err());
    }

    #[test]
    fn a_mark_comes_back_and_a_damaged_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path());
        let mark = AckMark::open(&files).unwrap();
        assert_eq!(mark.read().unwrap(), None);
        mark.write(77).unwrap();
        assert_eq!(AckMark::open(&files).unwrap().read().unwrap(), Some(77));
        mark.0.write_all_at(&[1], 3).unwrap();
        assert_eq!(mark.read().unwrap(), None);
    }
}
