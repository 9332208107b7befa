//! What is kept on disk: the newest cosigned checkpoint, and how far each witness went.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use super::{file, read_kept};
use crate::log::{Log, NotProved, Published};

/// How far each witness went, by its key.
pub(super) type Sizes = BTreeMap<String, u64>;

/// Why what was kept is not taken up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    /// The policy is not for this log.
    #[error("witness.policy: {0}")]
    Policy(String),
    /// The file cannot be read.
    #[error("what witnesses cosigned cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is no checkpoint of this log.
    #[error("the file checkpoint.cosigned is refused: {0}; bring it back, or the log that it belongs to")]
    Checkpoint(String),
    /// There was more of the log.
    #[error(
        "the log is cut: it has {found} events under its newest checkpoint, and witnesses cosigned {wanted}; nothing was changed, bring back the missing segments"
    )]
    Shorter {
        /// How many there are.
        found: u64,
        /// How many there were.
        wanted: u64,
    },
    /// It was another one.
    #[error("the first {0} events are not those that witnesses cosigned: the log was rewritten")]
    Root(u64),
    /// Not to be expected.
    #[error("what witnesses cosigned cannot be held against the log: {0}")]
    Broken(String),
}

/// What was kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) newest: Option<Published>,
    pub(super) sizes: Sizes,
}

/// Reads it, and holds it against the log.
pub(super) fn open(log: &Log) -> Result<Kept, NotKept> {
    let sizes = read(&log.dir().join("witnesses"))?.map(|bytes| self::sizes(&bytes)).unwrap_or_default();
    let Some(bytes) = read(&file(log.dir()))? else { return Ok(Kept { newest: None, sizes }) };
    let newest = read_kept(&bytes, log.keys())?;
    match log.root_at(newest.size) {
        Ok(root) if root == newest.root => Ok(Kept { newest: Some(newest), sizes }),
        Ok(_) => Err(NotKept::Root(newest.size)),
        Err(NotProved::Range { size }) => Err(NotKept::Shorter { found: size, wanted: newest.size }),
        Err(NotProved::Read(e)) => Err(NotKept::Io(e)),
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// A line for each witness. Lines that are none are left out: without them a witness says itself how far it went.
pub(super) fn sizes(bytes: &[u8]) -> Sizes {
    let text = String::from_utf8_lossy(bytes);
    let line = |line: &str| line.split_once(' ').and_then(|(size, key)| Some((key.to_owned(), size.parse().ok()?)));
    text.lines().filter_map(line).collect()
}

/// Keeps how far each witness went.
pub(super) fn keep_sizes(dir: &Path, sizes: &Sizes) -> io::Result<()> {
    let text = sizes.iter().fold(String::new(), |mut text, (key, size)| {
        // Writing to a text does not fail.
        let _ok = writeln!(text, "{size} {key}");
        text
    });
    replace(&dir.join("witnesses"), &text)
}

/// Keeps the newest cosigned checkpoint.
pub(super) fn keep_newest(dir: &Path, note: &str) -> io::Result<()> {
    replace(&file(dir), note)
}

/// Replaces a file, whole or not at all.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    std::fs::rename(&new, path)
}
