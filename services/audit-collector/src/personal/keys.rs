//! Keys that can be destroyed: one file of slots, each a key wrapped under the key-encryption key, overwritten to be destroyed.
//!
//! A key is for one person, one class of events and one week, so that a person can be erased, and a class of events can end after
//! its time. A slot is never used again: what was sealed under a destroyed key finds nothing.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use legate_kek::{Kek, KekError};
use zeroize::Zeroizing;

use crate::ledger::{Held, NotDone};

/// The bytes of a slot: it never crosses a sector, so that it is written and destroyed whole.
const SLOT: usize = 256;
const HEAD: usize = 32;

/// Opened keys that are kept in memory.
const OPENED: usize = 8_192;

const REWRAPPED: &str = "the keys of names are wrapped under the newest key-encryption key";

/// A person as the index has it: 128 bits of an HMAC over the name.
pub(crate) type Pseudonym = [u8; 16];

/// Why names cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    /// The system refused.
    #[error("{}: {why}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its words.
        why: io::Error,
    },
    /// A file is not what it has to be.
    #[error("{}: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The key-encryption key.
    #[error("personal.kek: {0}")]
    Kek(#[from] KekError),
    /// The journal of what is sealed.
    #[error("what is sealed: {0}")]
    Journal(#[from] legate_journal::JournalError),
    /// The disk is full; nothing was sealed.
    #[error("the disk is full")]
    Full,
    /// The rows of the commit log.
    #[error(transparent)]
    Rows(#[from] NotDone),
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct For {
    pub(crate) person: Pseudonym,
    /// Which class of events, by the rule of retention.
    pub(crate) class: u32,
    /// Weeks since 1970.
    pub(crate) week: u32,
}

/// All keys.
#[derive(Debug)]
pub(crate) struct Keys {
    path: PathBuf,
    file: File,
    kek: Kek,
    slots: Vec<Option<For>>,
    by: HashMap<For, u32>,
    opened: HashMap<u32, Arc<RandomizedNonceKey>>,
}

impl Keys {
    pub(crate) fn open(dir: &Path, kek: Kek) -> Result<Self, VaultError> {
        let path = dir.join("keys");
        let io = |why| VaultError::Io { path: path.clone(), why };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io)?;
        let bytes = Zeroizing::new(std::fs::read(&path).map_err(io)?);
        let found = || bytes.chunks_exact(SLOT).map(read);
        // The end of what was being written by a process that was killed; nothing was sealed under it.
        let torn = found().rev().take_while(Result::is_err).count();
        let whole = bytes.len() / SLOT - torn;
        let (mut keys, is_old) = Self::of(path.clone(), file, kek, found().take(whole))?;
        keys.file.set_len((whole * SLOT) as u64).and_then(|()| keys.file.sync_all()).map_err(io)?;
        if is_old {
            keys.rewrap(dir)?;
        }
        Ok(keys)
    }

    /// The keys that rest in rows; here they are in memory alone, so that what is destroyed there is nowhere else. For a thread that may
    /// block.
    pub(crate) fn open_rows(held: &Held, kek: Kek) -> Result<Self, VaultError> {
        let path = PathBuf::from("log_name_key");
        let io = |why: io::Error| VaultError::Io { path: path.clone(), why };
        let mut bytes = Zeroizing::new(Vec::new());
        loop {
            let at = (bytes.len() / SLOT) as u64;
            let page = wait(held.ledger().slots(at))?;
            if page.is_empty() {
                break;
            }
            for (expected, (slot, wrapped)) in (at..).zip(page) {
                if slot != expected || wrapped.len() != SLOT {
                    let why = format!("slot {expected} is gone; bring back an undamaged copy of the database");
                    return Err(VaultError::Damaged { path, why });
                }
                bytes.extend(wrapped);
            }
        }
        let file = rustix::fs::memfd_create("legate-name-keys", rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(file.map_err(|e| io(e.into()))?);
        file.write_all_at(&bytes, 0).map_err(io)?;
        let (keys, is_old) = Self::of(path.clone(), file, kek, bytes.chunks_exact(SLOT).map(read))?;
        if is_old {
            let whole = keys.rewrapped()?;
            wait(held.put_slots((0..).zip(whole.chunks(SLOT).map(<[u8]>::to_vec)).collect()))?;
            keys.file.write_all_at(&whole, 0).map_err(io)?;
            tracing::info!(version = keys.kek.newest(), "{REWRAPPED}");
        }
        Ok(keys)
    }

    /// The keys that slots hold, and whether one of them is wrapped under an old version.
    fn of(
        path: PathBuf,
        file: File,
        kek: Kek,
        found: impl Iterator<Item = Result<Option<(For, u32)>, ()>>,
    ) -> Result<(Self, bool), VaultError> {
        let (mut slots, mut is_old) = (Vec::new(), false);
        for (at, slot) in found.enumerate() {
            let why = || format!("slot {at} is damaged; bring back an undamaged copy of the file");
            let slot = slot.map_err(|()| VaultError::Damaged { path: path.clone(), why: why() })?;
            is_old |= slot.is_some_and(|(_, version)| version != kek.newest());
            slots.push(slot.map(|(of, _)| of));
        }
        let by = (0..).zip(&slots).filter_map(|(at, of)| of.map(|of| (of, at))).collect();
        Ok((Self { path, file, kek, slots, by, opened: HashMap::new() }, is_old))
    }

    fn io(&self, why: io::Error) -> VaultError {
        VaultError::Io { path: self.path.clone(), why }
    }

    /// Every slot under the newest version of the key-encryption key.
    fn rewrapped(&self) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let mut whole = Zeroizing::new(Vec::with_capacity(self.slots.len() * SLOT));
        for (at, of) in (0..).zip(&self.slots) {
            match of {
                None => whole.extend([0; SLOT]),
                Some(of) => whole.extend(written(&self.kek, at, *of, &self.secret(at, *of)?)?.iter()),
            }
        }
        Ok(whole)
    }

    /// The same, in a new file that takes the place of the old one.
    fn rewrap(&mut self, dir: &Path) -> Result<(), VaultError> {
        let path = dir.join("keys.new");
        let whole = self.rewrapped()?;
        let io = |why| VaultError::Io { path: path.clone(), why };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(io)?;
        file.write_all_at(&whole, 0).and_then(|()| file.sync_all()).map_err(io)?;
        std::fs::rename(&path, &self.path).map_err(io)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        self.file = file;
        tracing::info!(version = self.kek.newest(), "{REWRAPPED}");
        Ok(())
    }

    fn secret(&self, at: u32, of: For) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let mut slot = Zeroizing::new([0; SLOT]);
        self.file.read_exact_at(&mut *slot, place(at)).map_err(|why| self.io(why))?;
        let text = String::from_utf8_lossy(&slot[HEAD..]);
        let opened = self.kek.unwrap(&label(at, of), text.trim_end_matches('\0'));
        opened.map_err(|why| VaultError::Damaged { path: self.path.clone(), why: format!("slot {at}: {why}") })
    }

    /// New keys for those of these that have none; nothing is written yet.
    pub(crate) fn plan(&self, all: impl Iterator<Item = For>) -> Result<NewKeys, VaultError> {
        let mut new = NewKeys { first: number(self.slots.len()), made: Vec::new(), bytes: Zeroizing::default() };
        let mut known: std::collections::HashSet<For> = std::collections::HashSet::new();
        for of in all.filter(|of| !self.by.contains_key(of)) {
            if !known.insert(of) {
                continue;
            }
            let mut secret = Zeroizing::new([0; 32]);
            rand::fill(&mut *secret).map_err(|_| VaultError::NoRandomness)?;
            let at = number(new.first as usize + new.made.len());
            new.bytes.extend(written(&self.kek, at, of, &*secret)?.iter());
            new.made.push(of);
        }
        Ok(new)
    }

    /// Takes new keys in; they are on disk when this returns. Nobody else made any meanwhile.
    pub(crate) fn add(&mut self, new: NewKeys) -> Result<(), VaultError> {
        if new.made.is_empty() {
            return Ok(());
        }
        // What was written of it is written over the next time.
        let write = self.file.write_all_at(&new.bytes, place(new.first));
        write.map_err(|why| if why.kind() == io::ErrorKind::StorageFull { VaultError::Full } else { self.io(why) })?;
        self.file.sync_data().map_err(|why| self.io(why))?;
        for of in new.made {
            self.by.insert(of, number(self.slots.len()));
            self.slots.push(Some(of));
        }
        Ok(())
    }

    /// The slot of a key that is there.
    pub(crate) fn slot(&self, of: &For) -> Option<u32> {
        self.by.get(of).copied()
    }

    /// The key in a slot; `None`: it is destroyed.
    pub(crate) fn key(&mut self, at: u32) -> Result<Option<Arc<RandomizedNonceKey>>, VaultError> {
        if let Some(key) = self.opened.get(&at) {
            return Ok(Some(Arc::clone(key)));
        }
        let Some(of) = self.slots.get(at as usize).copied().flatten() else { return Ok(None) };
        let secret = self.secret(at, of)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &secret);
        let key =
            Arc::new(key.map_err(|_| VaultError::Damaged { path: self.path.clone(), why: format!("slot {at}") })?);
        if self.opened.len() >= OPENED {
            self.opened.clear();
        }
        self.opened.insert(at, Arc::clone(&key));
        Ok(Some(key))
    }

    /// The slots whose keys are for what this says.
    pub(crate) fn which(&self, wanted: impl Fn(&For) -> bool) -> Vec<(u32, For)> {
        let all = (0..).zip(&self.slots).filter_map(|(at, of)| of.map(|of| (at, of)));
        all.filter(|(_, of)| wanted(of)).collect()
    }

    /// Overwrites these slots; how many held a key. What was synced is gone when this returns.
    pub(crate) fn destroy(&mut self, slots: &[u32]) -> Result<u64, VaultError> {
        let mut count = 0;
        for at in slots {
            let Some(slot) = self.slots.get_mut(*at as usize) else { continue };
            if let Some(of) = slot.take() {
                count += 1;
                self.by.remove(&of);
            }
            self.opened.remove(at);
            self.file.write_all_at(&[0; SLOT], place(*at)).map_err(|why| self.io(why))?;
        }
        self.file.sync_data().map_err(|why| self.io(why))?;
        Ok(count)
    }
}

/// Keys that are made and not kept yet.
#[derive(Debug)]
pub(crate) struct NewKeys {
    first: u32,
    made: Vec<For>,
    bytes: Zeroizing<Vec<u8>>,
}

impl NewKeys {
    /// The slots that they are to be in.
    pub(crate) fn slots(&self) -> Vec<(u64, Vec<u8>)> {
        (u64::from(self.first)..).zip(self.bytes.chunks(SLOT).map(<[u8]>::to_vec)).collect()
    }
}

/// What a slot is overwritten with.
pub(crate) fn destroyed(slots: &[u32]) -> Vec<(u64, Vec<u8>)> {
    slots.iter().map(|slot| (u64::from(*slot), vec![0; SLOT])).collect()
}

/// Waits for the database, on a thread that may block.
pub(super) fn wait<T>(doing: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(doing)
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn place(at: u32) -> u64 {
    u64::from(at) * SLOT as u64
}

/// What a key is bound to, so that no slot can take another's place.
fn label(at: u32, of: For) -> String {
    let person: String = of.person.iter().map(|b| format!("{b:02x}")).collect();
    format!("audit name {at} {person} {} {}", of.class, of.week)
}

fn written(kek: &Kek, at: u32, of: For, secret: &[u8]) -> Result<Zeroizing<[u8; SLOT]>, VaultError> {
    let text = kek.wrap(&label(at, of), secret)?;
    let text = text.trim_end().as_bytes();
    let mut slot = Zeroizing::new([0; SLOT]);
    slot[4..8].copy_from_slice(&of.class.to_le_bytes());
    slot[8..12].copy_from_slice(&of.week.to_le_bytes());
    slot[12..28].copy_from_slice(&of.person);
    slot[HEAD..HEAD + text.len()].copy_from_slice(text);
    let sum = sum(&*slot);
    slot[..4].copy_from_slice(&sum);
    Ok(slot)
}

fn sum(slot: &[u8]) -> [u8; 4] {
    let whole = digest(&SHA256, slot.get(4..).unwrap_or_default());
    whole.as_ref().first_chunk().copied().unwrap_or_default()
}

/// What a slot holds, and the version of the key-encryption key that wraps it; `None`: nothing, or nothing any more.
fn read(slot: &[u8]) -> Result<Option<(For, u32)>, ()> {
    if slot.iter().all(|b| *b == 0) {
        return Ok(None);
    }
    if slot.get(..4) != Some(&sum(slot)[..]) {
        return Err(());
    }
    let four = |at: usize| slot.get(at..at + 4).and_then(|b| b.first_chunk()).map(|b| u32::from_le_bytes(*b)).ok_or(());
    let person = slot.get(12..28).and_then(|b| b.first_chunk()).copied().ok_or(())?;
    let text = std::str::from_utf8(slot.get(HEAD..).unwrap_or_default()).map_err(|_| ())?;
    let version = Kek::version_of(text.trim_end_matches('\0')).ok_or(())?;
    Ok(Some((For { person, class: four(4)?, week: four(8)? }, version)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn of(person: u8, week: u32) -> For {
        For { person: [person; 16], class: 7, week }
    }

    fn ensure(keys: &mut Keys, all: &[For]) {
        let new = keys.plan(all.iter().copied()).unwrap();
        keys.add(new).unwrap();
    }

    fn kek(dir: &Path) -> Kek {
        Kek::open(&dir.join("kek")).unwrap()
    }

    #[test]
    fn keys_come_back_and_a_destroyed_one_never_does() {
        let dir = tempfile::tempdir().unwrap();
        Kek::add(&dir.path().join("kek")).unwrap();
        let mut keys = Keys::open(dir.path(), kek(dir.path())).unwrap();
        ensure(&mut keys, &[of(1, 1), of(2, 1), of(1, 1), of(1, 2)]);
        assert_eq!((keys.slot(&of(1, 1)), keys.slot(&of(2, 1)), keys.slot(&of(1, 2))), (Some(0), Some(1), Some(2)));
        let before = std::fs::read(dir.path().join("keys")).unwrap();
        let slots: Vec<u32> = keys.which(|of| of.person == [1; 16]).into_iter().map(|(at, _)| at).collect();
        assert_eq!(keys.destroy(&slots).unwrap(), 2);
        assert!(keys.key(0).unwrap().is_none() && keys.key(1).unwrap().is_some());
        let after = std::fs::read(dir.path().join("keys")).unwrap();
        assert!(after[..SLOT].iter().chain(&after[2 * SLOT..]).all(|b| *b == 0));
        assert_eq!(before[SLOT..2 * SLOT], after[SLOT..2 * SLOT]);
        drop(keys);
        let mut again = Keys::open(dir.path(), kek(dir.path())).unwrap();
        assert!(again.key(0).unwrap().is_none() && again.key(1).unwrap().is_some());
        ensure(&mut again, &[of(1, 1)]);
        assert_eq!(again.slot(&of(1, 1)), Some(3), "a slot is never used again");
    }

    #[test]
    fn a_torn_end_is_cut_a_damaged_middle_is_refused_and_a_new_version_wraps_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        Kek::add(&dir.path().join("kek")).unwrap();
        let mut keys = Keys::open(dir.path(), kek(dir.path())).unwrap();
        ensure(&mut keys, &[of(1, 1), of(2, 1), of(3, 1)]);
        keys.destroy(&[1]).unwrap();
        drop(keys);
        let good = std::fs::read(&path).unwrap();
        let mut torn = good.clone();
        torn.extend(&good[..100]);
        std::fs::write(&path, &torn).unwrap();
        assert!(Keys::open(dir.path(), kek(dir.path())).unwrap().key(2).unwrap().is_some());
        let mut half = good.clone();
        half.extend(&good[..SLOT / 2]);
        half.extend([0; SLOT / 2]);
        std::fs::write(&path, &half).unwrap();
        Keys::open(dir.path(), kek(dir.path())).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), good);
        let mut bad = good.clone();
        bad[40] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert!(Keys::open(dir.path(), kek(dir.path())).unwrap_err().to_string().contains("slot 0"));
        // One slot in another's place does not open.
        let swapped = [&good[2 * SLOT..], &good[SLOT..2 * SLOT], &good[..SLOT]].concat();
        std::fs::write(&path, &swapped).unwrap();
        Keys::open(dir.path(), kek(dir.path())).unwrap().key(0).unwrap_err();

        std::fs::write(&path, &good).unwrap();
        Kek::add(&dir.path().join("kek")).unwrap();
        drop(Keys::open(dir.path(), kek(dir.path())).unwrap());
        Kek::drop_old(&dir.path().join("kek")).unwrap();
        let mut keys = Keys::open(dir.path(), kek(dir.path())).unwrap();
        assert!(keys.key(0).unwrap().is_some() && keys.key(1).unwrap().is_none() && keys.key(2).unwrap().is_some());
    }
}
