//! What a witness cosigned last of each log, on disk before anybody is told.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use legate_merkle::{Checkpoint, CosignerKey, MAX_NOTE, Note, VerifierKey};
use rustix::fs::FlockOperation;

use crate::evidence::sha256;

/// The file that says whose book it is. A book without it was lost or never made.
const OWNER: &str = "vkey";

/// Why a book is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadBook {
    /// Another process has it.
    #[error("{}: another witness has it open", .0.display())]
    Taken(PathBuf),
    /// It is not there.
    #[error(
        "{}: there is no book of a witness. Where there was one, its witness forgot what it cosigned and could cosign another history: make a new key (legate witness key)",
        .0.display()
    )]
    Gone(PathBuf),
    /// It is another witness's.
    #[error("{}: it is the book of {found}, and the key is that of {wanted}", .dir.display())]
    Owner {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose key it is.
        wanted: String,
    },
    /// A page is not one.
    #[error("{}: {why}; bring it back, or make a new key and a new directory (legate witness key)", .path.display())]
    Page {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system refused.
    #[error("{}: {why}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's words.
        why: io::Error,
    },
}

/// A directory with a page for each log.
#[derive(Debug)]
pub(crate) struct Book {
    dir: PathBuf,
    /// Keeps other processes out.
    _lock: File,
}

impl Book {
    /// Begins the book of a witness that has cosigned nothing yet, in an empty directory.
    pub(crate) fn begin(dir: &Path, owner: &CosignerKey) -> Result<(), BadBook> {
        let refused = |why| BadBook::Io { path: dir.to_owned(), why };
        fs::create_dir_all(dir).map_err(refused)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(dir.join(OWNER)).map_err(refused)?;
        writeln!(file, "{owner}").and_then(|()| file.sync_all()).map_err(refused)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(refused)
    }

    /// Whose book is in a directory, as a verifier key.
    pub(super) fn owner(dir: &Path) -> Result<String, BadBook> {
        match fs::read_to_string(dir.join(OWNER)) {
            Ok(found) => Ok(found.trim_end().to_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(BadBook::Gone(dir.to_owned())),
            Err(why) => Err(BadBook::Io { path: dir.to_owned(), why }),
        }
    }

    /// Opens the book of a witness, and keeps others out of it.
    pub(crate) fn open(dir: &Path, owner: &CosignerKey) -> Result<Self, BadBook> {
        let refused = |why| BadBook::Io { path: dir.to_owned(), why };
        let (found, wanted) = (Self::owner(dir)?, owner.to_string());
        if found != wanted {
            return Err(BadBook::Owner { dir: dir.to_owned(), found, wanted });
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join("lock"));
        let lock = lock.map_err(refused)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
            rustix::io::Errno::WOULDBLOCK => BadBook::Taken(dir.to_owned()),
            e => refused(e.into()),
        })?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// The page of a log, which is empty where nothing was cosigned yet.
    pub(super) fn page(&self, origin: &str, keys: &[VerifierKey], owner: &CosignerKey) -> Result<Page, BadBook> {
        let path = self.dir.join(format!("{}.checkpoint", sha256(origin.as_bytes())));
        let bad = |why: String| BadBook::Page { path: path.clone(), why };
        let latest = match fs::read(&path) {
            Ok(bytes) if bytes.len() > MAX_NOTE => return Err(bad("it is over 64 KiB".into())),
            Ok(bytes) => Some(read(&bytes, origin, keys, owner).map_err(bad)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(why) => return Err(BadBook::Io { path, why }),
        };
        Ok(Page { path, latest, is_stopped: false })
    }
}

/// A page that the witness and the log have signed, the log by the last of its keys that it has.
fn read(bytes: &[u8], origin: &str, keys: &[VerifierKey], owner: &CosignerKey) -> Result<Latest, String> {
    let mut opened = Err("no key of the log is known".to_owned());
    for (at, key) in keys.iter().enumerate() {
        match Checkpoint::open(bytes, key, origin) {
            Ok(tree) => opened = Ok((tree, at)),
            Err(e) if opened.is_err() => opened = Err(e.to_string()),
            Err(_) => {}
        }
    }
    let (tree, key) = opened?;
    let note = Note::parse(bytes).map_err(|e| e.to_string())?;
    let time = owner.cosigned(&note).map_err(|e| e.to_string())?;
    let time = time.ok_or_else(|| "this witness did not cosign it".to_owned())?;
    Ok(Latest { tree, note: note.to_string(), time, key })
}

/// What was cosigned last of one log.
#[derive(Debug)]
pub(super) struct Page {
    path: PathBuf,
    latest: Option<Latest>,
    is_stopped: bool,
}

#[derive(Debug)]
struct Latest {
    tree: Checkpoint,
    note: String,
    time: u64,
    /// Which of the log's keys signed it.
    key: usize,
}

impl Page {
    pub(super) fn latest(&self) -> Option<&Checkpoint> {
        self.latest.as_ref().map(|latest| &latest.tree)
    }

    pub(super) fn note(&self) -> Option<&str> {
        self.latest.as_ref().map(|latest| latest.note.as_str())
    }

    /// When it was, in seconds since 1970; 0: never.
    pub(super) fn time(&self) -> u64 {
        self.latest.as_ref().map_or(0, |latest| latest.time)
    }

    /// Which of the log's keys signed it; the first, where nothing was cosigned yet.
    pub(super) fn key(&self) -> usize {
        self.latest.as_ref().map_or(0, |latest| latest.key)
    }

    /// Turns to another checkpoint: it is on disk, and so is the name of its file, when this returns. After an error nobody
    /// knows what the disk holds, so that nothing is turned to any more.
    pub(super) fn turn(&mut self, note: &str, tree: Checkpoint, time: u64, key: usize) -> io::Result<()> {
        if self.is_stopped {
            return Err(io::Error::other("it could not be kept before"));
        }
        self.is_stopped = true;
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o644).open(&new)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        self.is_stopped = false;
        self.latest = Some(Latest { tree, note: note.to_owned(), time, key });
        Ok(())
    }
}
