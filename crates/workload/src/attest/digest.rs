//! The SHA-256 of programs, each computed once while its file stays as it is.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

/// Programs that are remembered; with more, all are forgotten and computed anew.
const REMEMBERED: usize = 1_024;
/// Files that are read at once.
const AT_ONCE: usize = 2;
/// A larger program's hash is not attested, in bytes.
const LARGEST: u64 = 1 << 30;

/// A file as it is: its change time as well, which no program sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stamp([i128; 5]);

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        let at = |secs: i64, nanos: i64| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
        let (modified, changed) = (at(meta.mtime(), meta.mtime_nsec()), at(meta.ctime(), meta.ctime_nsec()));
        Self([meta.dev().into(), meta.ino().into(), meta.size().into(), modified, changed])
    }
}

type Place = Arc<OnceCell<Option<String>>>;

/// What was computed.
#[derive(Debug)]
pub(super) struct Digests {
    known: Mutex<HashMap<Stamp, Place>>,
    turns: Arc<Semaphore>,
}

impl Default for Digests {
    fn default() -> Self {
        Self { known: Mutex::default(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Digests {
    /// The SHA-256 of an open file in lower-case hexadecimal; `None` when it is too large, cannot be read, or changes.
    pub(super) async fn of(&self, file: File) -> Option<String> {
        let meta = file.metadata().ok()?;
        if !meta.is_file() || meta.size() > LARGEST {
            return None;
        }
        let stamp = Stamp::of(&meta);
        let place = self.place(stamp);
        // Of those who come at once for one file, one reads it.
        let work = || async move {
            let _turn = self.turns.acquire().await.ok()?;
            tokio::task::spawn_blocking(move || compute(file, stamp)).await.ok()?
        };
        let digest = place.get_or_init(work).await.clone();
        if digest.is_none() {
            // The next one tries again.
            self.known.lock().remove(&stamp);
        }
        digest
    }

    fn place(&self, stamp: Stamp) -> Place {
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED && !known.contains_key(&stamp) {
            known.clear();
        }
        Arc::clone(known.entry(stamp).or_default())
    }
}

fn compute(mut file: File, stamp: Stamp) -> Option<String> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 << 10];
    let mut left = LARGEST;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                left = left.checked_sub(u64::try_from(read).ok()?)?;
                context.update(&buffer[..read]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    // Written while it was read: whatever that is the hash of, nobody runs it.
    if Stamp::of(&file.metadata().ok()?) != stamp {
        return None;
    }
    Some(context.finish().as_ref().iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_once_while_it_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, "abc").unwrap();
        let digests = Digests::default();
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for _ in 0..3 {
            assert_eq!(digests.of(File::open(&path).unwrap()).await.as_deref(), Some(abc));
        }
        assert_eq!(digests.known.lock().len(), 1);
        // Of the same length, and with the old modification time: the change time tells.
        let meta = std::fs::metadata(&path).unwrap();
        std::fs::write(&path, "abd").unwrap();
        File::open(&path).unwrap().set_modified(meta.modified().unwrap()).unwrap();
        let other = digests.of(File::open(&path).unwrap()).await.unwrap();
        assert_ne!(other, abc);
        assert_eq!(digests.of(File::open(dir.path()).unwrap()).await, None);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let digests = Digests::default();
        for n in 0..3_000 {
            drop(digests.place(Stamp([n; 5])));
            assert!(digests.known.lock().len() <= REMEMBERED);
        }
    }
}
