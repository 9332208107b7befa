//! The SHA-256 of programs, each computed once while its file stays as it is.
//!
//! Whoever runs a program says how large it is, how often its file changes, and whether the disk that it is on answers at all. So each user has one
//! that is read at a time, a few that wait, and a memory of its own; and whoever asks does not wait for ever.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::Unseen;
use crate::turns::Turns;

/// Programs of one user that are remembered; of more, the one that was not asked for the longest is forgotten.
const REMEMBERED: usize = 128;
/// Users of whom some are remembered.
const USERS: usize = 1_024;
/// Files that are read at once.
const AT_ONCE: usize = 4;
/// Of these, of one user.
const OF_ONE_USER: usize = 1;
/// Programs of one user that are read or wait for that.
const WAITING: usize = 8;
/// For so long a call waits; the reading goes on, and the next one may find it done.
const PATIENCE: Duration = Duration::from_secs(8);
/// A program that is read for longer has no hash.
const LONGEST: Duration = Duration::from_secs(60);
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

/// What comes of reading a file: those who ask for it at once share it, and it goes on where nobody waits any more.
type Reading = Shared<BoxFuture<'static, Option<String>>>;

/// What is remembered of one user's programs.
#[derive(Debug, Default)]
struct Known {
    /// With the moment at which it was last asked for.
    programs: HashMap<Stamp, (Reading, Instant)>,
}

impl Known {
    fn waiting(&self) -> usize {
        self.programs.values().filter(|(reading, _)| reading.peek().is_none()).count()
    }

    fn last(&self) -> Option<Instant> {
        self.programs.values().map(|(_, at)| *at).max()
    }

    /// Forgets what was not asked for the longest, where there are too many. What is being read is awaited by somebody.
    fn make_room(&mut self) {
        while self.programs.len() >= REMEMBERED {
            let read = self.programs.iter().filter(|(_, (reading, _))| reading.peek().is_some());
            let Some(oldest) = read.min_by_key(|(_, (_, at))| *at).map(|(stamp, _)| *stamp) else { return };
            self.programs.remove(&oldest);
        }
    }
}

/// What was computed.
#[derive(Debug)]
pub(super) struct Digests {
    /// By user.
    known: Mutex<HashMap<u32, Known>>,
    turns: Turns<u32>,
}

impl Default for Digests {
    fn default() -> Self {
        Self { known: Mutex::default(), turns: Turns::new(AT_ONCE, OF_ONE_USER) }
    }
}

impl Digests {
    /// The SHA-256 of an open file that a user runs, in lower-case hexadecimal; `None` when it is too large, cannot be read, or changes.
    ///
    /// # Errors
    /// [`Unseen::NotRead`] when it is not known in time, or too many of this user's wait.
    pub(super) async fn of(&self, uid: u32, file: File, meta: &Metadata) -> Result<Option<String>, Unseen> {
        if !meta.is_file() || meta.size() > LARGEST {
            return Ok(None);
        }
        let stamp = Stamp::of(meta);
        let reading = self.reading(uid, stamp, file)?;
        let digest = tokio::time::timeout(PATIENCE, reading).await.map_err(|_| Unseen::NotRead)?;
        if digest.is_none()
            && let Some(known) = self.known.lock().get_mut(&uid)
        {
            // The next one tries again.
            known.programs.remove(&stamp);
        }
        Ok(digest)
    }

    fn reading(&self, uid: u32, stamp: Stamp, file: File) -> Result<Reading, Unseen> {
        let mut all = self.known.lock();
        if all.len() >= USERS && !all.contains_key(&uid) {
            let idle = all.iter().filter(|(_, known)| known.waiting() == 0);
            let oldest = idle.min_by_key(|(_, known)| known.last()).map(|(uid, _)| *uid);
            all.remove(&oldest.ok_or(Unseen::NotRead)?);
        }
        let known = all.entry(uid).or_default();
        if let Some((reading, at)) = known.programs.get_mut(&stamp) {
            *at = Instant::now();
            return Ok(reading.clone());
        }
        if known.waiting() >= WAITING {
            return Err(Unseen::NotRead);
        }
        known.make_room();
        let turns = self.turns.clone();
        let work = tokio::spawn(async move {
            let turn = turns.next(uid).await;
            // Where it never comes back, its thread stays, and its turn with it.
            let computed = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                compute(file, stamp)
            });
            computed.await.ok().flatten()
        });
        let reading = async move { work.await.ok().flatten() }.boxed().shared();
        known.programs.insert(stamp, (reading.clone(), Instant::now()));
        Ok(reading)
    }
}

fn compute(mut file: File, stamp: Stamp) -> Option<String> {
    let begun = Instant::now();
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 << 10];
    let mut left = LARGEST;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) if begun.elapsed() > LONGEST => return None,
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
    use std::path::Path;

    use super::*;

    async fn digest(digests: &Digests, uid: u32, path: &Path) -> Result<Option<String>, Unseen> {
        let file = File::open(path).unwrap();
        let meta = file.metadata().unwrap();
        digests.of(uid, file, &meta).await
    }

    fn program(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[tokio::test]
    async fn a_file_is_read_once_while_it_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = program(dir.path(), "program", "abc");
        let digests = Digests::default();
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for _ in 0..3 {
            assert_eq!(digest(&digests, 1, &path).await.unwrap().as_deref(), Some(abc));
        }
        assert_eq!(digests.known.lock()[&1].programs.len(), 1);
        // Of the same length, and with the old modification time: the change time tells.
        let meta = std::fs::metadata(&path).unwrap();
        std::fs::write(&path, "abd").unwrap();
        File::open(&path).unwrap().set_modified(meta.modified().unwrap()).unwrap();
        let other = digest(&digests, 1, &path).await.unwrap().unwrap();
        assert_ne!(other, abc);
        assert_eq!(digest(&digests, 1, dir.path()).await, Ok(None));
    }

    #[tokio::test]
    async fn what_one_user_runs_pushes_nothing_of_another_out() {
        let (dir, digests) = (tempfile::tempdir().unwrap(), Digests::default());
        let mine = program(dir.path(), "mine", "abc");
        digest(&digests, 1, &mine).await.unwrap().unwrap();
        for n in 0..REMEMBERED + 10 {
            let theirs = program(dir.path(), &format!("theirs-{n}"), "x");
            digest(&digests, 2, &theirs).await.unwrap().unwrap();
            assert!(digests.known.lock()[&2].programs.len() <= REMEMBERED);
        }
        assert!(digests.known.lock()[&1].programs.values().all(|(reading, _)| reading.peek().is_some()));
        // The one that was asked for last is there.
        let known = digests.known.lock();
        let last = Stamp::of(&std::fs::metadata(dir.path().join(format!("theirs-{}", REMEMBERED + 9))).unwrap());
        assert!(known[&2].programs.contains_key(&last));
    }

    #[tokio::test]
    async fn a_user_whose_programs_take_for_ever_keeps_only_itself_waiting() {
        let (dir, digests) = (tempfile::tempdir().unwrap(), Digests::default());
        // As if what it is reading never ended.
        let _turn = digests.turns.next(2).await;
        for n in 0..WAITING {
            let theirs = program(dir.path(), &format!("theirs-{n}"), "x");
            let file = File::open(&theirs).unwrap();
            let stamp = Stamp::of(&file.metadata().unwrap());
            assert!(digests.reading(2, stamp, file).unwrap().now_or_never().is_none());
        }
        let more = program(dir.path(), "more", "x");
        assert_eq!(digest(&digests, 2, &more).await, Err(Unseen::NotRead), "so many wait, and no more");
        // Nobody else waits for it.
        assert!(digest(&digests, 1, &more).await.unwrap().is_some());
    }
}
