//! The key-encryption key of a directory as it is now, and who else is at work there: wrapped anew beside a running service, no key is lost.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::RwLock;

use super::{Kek, KeyError};

/// Held by all who make or destroy files, and by the one alone who wraps them anew: what was destroyed must not be written again.
const WORK: &str = "work.lock";
/// So often, and so long apart, it is tried to be let in: what keeps others out takes milliseconds.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// The key-encryption key of a directory.
#[derive(Debug)]
pub(super) struct Wrapping {
    dir: PathBuf,
    held: RwLock<Held>,
}

#[derive(Debug)]
struct Held {
    kek: Kek,
    /// The file as it was when it was read.
    seen: Option<Stamp>,
    /// Says to whoever would drop old versions that this process knows none newer than its own.
    _known: File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    node: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(kek: &Kek) -> Option<Self> {
        let found = std::fs::metadata(kek.from()?).ok()?;
        Some(Self { node: found.ino(), length: found.len(), changed: (found.mtime(), found.mtime_nsec()) })
    }
}

impl Wrapping {
    pub(super) fn new(dir: &Path, kek: Kek) -> Result<Self, KeyError> {
        let known = known(dir, kek.newest())?;
        let held = Held { seen: Stamp::of(&kek), kek, _known: known };
        Ok(Self { dir: dir.to_owned(), held: RwLock::new(held) })
    }

    /// Does something with the key as it is; it stays so meanwhile.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Kek) -> T) -> T {
        work(&self.held.read().kek)
    }

    /// Reads the key again where its file has changed. Where that fails, the one that is known stays.
    pub(super) fn refresh(&self) {
        let now = {
            let held = self.held.read();
            let now = Stamp::of(&held.kek);
            if now.is_none() || now == held.seen {
                return;
            }
            now
        };
        let Some(from) = self.with(|kek| kek.from().map(Path::to_owned)) else { return };
        let again = Kek::open(&from).map_err(KeyError::from).and_then(|kek| Ok((known(&self.dir, kek.newest())?, kek)));
        match again {
            Ok((known, kek)) => {
                tracing::info!(newest = kek.newest(), "the key-encryption key was read again");
                *self.held.write() = Held { kek, seen: now, _known: known };
            }
            Err(error) => {
                tracing::error!(%error, "the key-encryption key has changed and cannot be read; the one that is known stays");
            }
        }
    }

    /// Lets a file be made or destroyed, for as long as the answer lives.
    pub(super) async fn at_work(&self) -> Result<File, KeyError> {
        let file = lock_file(&self.dir.join(WORK))?;
        for _ in 0..TRIES {
            if locked(&file, false, &self.dir)? {
                return Ok(file);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(busy(&self.dir))
    }

    /// Keeps everybody else from making and destroying files, for as long as the answer lives.
    pub(super) fn alone(&self) -> Result<File, KeyError> {
        let file = lock_file(&self.dir.join(WORK))?;
        for _ in 0..TRIES {
            if locked(&file, true, &self.dir)? {
                return Ok(file);
            }
            std::thread::sleep(PAUSE);
        }
        Err(busy(&self.dir))
    }

    /// Keeps everybody from beginning with an older version than the newest, for as long as the answer lives.
    pub(super) fn without_older(&self) -> Result<Vec<(PathBuf, File)>, KeyError> {
        let newest = self.with(Kek::newest);
        let mut older = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(|e| KeyError::file(&self.dir, e))? {
            let path = entry.map_err(|e| KeyError::file(&self.dir, e))?.path();
            let Some(version) = path.file_name().and_then(|name| name.to_str()).and_then(version_of) else { continue };
            if version == newest {
                continue;
            }
            let file = lock_file(&path)?;
            if !locked(&file, true, &path)? {
                let why = format!(
                    "a credential-issuer that runs knows no version of the key-encryption key newer than {version}: what it wraps would \
                     be lost with it"
                );
                return Err(KeyError::InUse { what: self.dir.display().to_string(), why });
            }
            older.push((path, file));
        }
        Ok(older)
    }
}

fn name_of(version: u32) -> String {
    format!("kek-{version}.lock")
}

fn version_of(name: &str) -> Option<u32> {
    name.strip_prefix("kek-")?.strip_suffix(".lock")?.parse().ok()
}

fn known(dir: &Path, version: u32) -> Result<File, KeyError> {
    let path = dir.join(name_of(version));
    let file = lock_file(&path)?;
    if locked(&file, false, &path)? {
        return Ok(file);
    }
    let why =
        format!("version {version} of the key-encryption key is being dropped right now; begin again with the newest");
    Err(KeyError::InUse { what: dir.display().to_string(), why })
}

fn lock_file(path: &Path) -> Result<File, KeyError> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    open.map_err(|e| KeyError::file(path, e))
}

fn locked(file: &File, alone: bool, path: &Path) -> Result<bool, KeyError> {
    let tried = if alone { file.try_lock() } else { file.try_lock_shared() };
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(KeyError::file(path, e)),
    }
}

fn busy(dir: &Path) -> KeyError {
    let why = "somebody else has been at work on the keys in it for over 2 s".to_owned();
    KeyError::InUse { what: dir.display().to_string(), why }
}
