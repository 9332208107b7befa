//! Seals the names of persons before their leaf is written, opens them for who may read, and destroys the keys of some.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{Aad, Nonce};
use aws_lc_rs::{hmac, rand};
use legate_clock::Timestamp;
use legate_kek::{Kek, kek_path};
use legate_mtls::pki;
use legate_personal::commitment;
use legate_wire::audit::{AuditEvent, PersonalPart};
use parking_lot::Mutex;
use prost::Message as _;
use zeroize::Zeroizing;

use super::keys::{For, Keys, Pseudonym, VaultError, destroyed, wait};
use super::sealed::{Sealed, Shelf, encode};
use crate::domain::retention::{Retention, week};
use crate::ledger::Held;

/// AES-GCM (NIST SP 800-38D section 8.2): a nonce of 96 random bits.
const NONCE: usize = 12;

/// What the secret of pseudonyms is wrapped for.
const PSEUDONYMS: &str = "audit pseudonyms";

/// How a person's name in the index begins; hexadecimal digits follow.
const ALIAS: &str = "user:~";

/// Leaves so near to each other have their names read together.
const TOGETHER: u64 = 4_096;

/// What is being destroyed, until it is on record.
const ENDING: &str = "ending";

/// Where it is, and under what.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// A directory of its own, neither in the log's nor around it.
    pub(crate) dir: PathBuf,
    pub(crate) kek: PathBuf,
    pub(crate) segment_bytes: u64,
    pub(crate) retention: Retention,
}

/// The names of a leaf before they are sealed.
#[derive(Clone, Debug)]
pub(crate) struct Unsealed {
    pub(crate) leaf: u64,
    /// The event's type, and its time.
    pub(crate) kind: String,
    pub(crate) time: Timestamp,
    pub(crate) parts: Vec<PersonalPart>,
}

/// A leaf, decoded, and the names that it commits to; the parts of those that are erased are empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Opened {
    pub(crate) event: AuditEvent,
    pub(crate) parts: Vec<PersonalPart>,
}

/// An event as it is shown: the leaf, what it says with its names put back, and by which parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) at: u64,
    pub(crate) leaf: Vec<u8>,
    pub(crate) event: AuditEvent,
    pub(crate) parts: Vec<PersonalPart>,
}

/// A leaf, and its names once they are sealed.
pub(crate) type Kept = (u64, Sealed);

/// What is kept of names that are sealed.
pub(crate) fn records(all: &[Kept]) -> Vec<Vec<u8>> {
    all.iter().map(|(leaf, sealed)| encode(*leaf, sealed)).collect()
}

/// What is to be destroyed, and the event that says so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ending {
    /// Whose keys, where it is all of a person's.
    pub(crate) person: Option<Pseudonym>,
    /// Else these.
    pub(crate) slots: Vec<u32>,
    pub(crate) event: AuditEvent,
}

/// The names. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Vault(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Where keys rest and what is being destroyed is noted, when not in the directory.
    rows: Option<Held>,
    keys: Mutex<Keys>,
    shelf: Shelf,
    pseudonyms: hmac::Key,
    retention: Retention,
    /// Keeps other collectors out; goes last.
    _lock: File,
}

impl Vault {
    /// Opens the names in a directory, or begins it; with `rows` they rest there. Reads files; not for the run time's own threads.
    pub(crate) fn open(setup: Setup, rows: Option<Held>) -> Result<Self, VaultError> {
        let Setup { dir, kek, segment_bytes, retention } = setup;
        let io = |why| VaultError::Io { path: dir.clone(), why };
        let kek = Kek::open(&kek_path(&kek)?)?;
        let mut make = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(make.recursive(true), 0o700).create(&dir).map_err(io)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join("lock"));
        let lock = lock.map_err(io)?;
        if lock.try_lock().is_err() {
            let why = "another audit-collector has the names open".to_owned();
            return Err(VaultError::Damaged { path: dir, why });
        }
        let pseudonyms = match &rows {
            None => pseudonyms(&dir, &kek)?,
            Some(held) => pseudonyms_of(held, &kek)?,
        };
        let shelf = Shelf::open(&dir.join("sealed"), segment_bytes)?;
        let keys = match &rows {
            None => Keys::open(&dir, kek)?,
            Some(held) => {
                catch_up(&shelf, held)?;
                Keys::open_rows(held, kek)?
            }
        };
        Ok(Self(Arc::new(Inner { dir, rows, keys: Mutex::new(keys), shelf, pseudonyms, retention, _lock: lock })))
    }

    /// A person as the index has it.
    pub(crate) fn pseudonym(&self, name: &str) -> Pseudonym {
        let tag = hmac::sign(&self.0.pseudonyms, name.as_bytes());
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }

    /// Seals names, under keys that rest safely when this returns.
    pub(crate) async fn seal(&self, all: Vec<Unsealed>) -> Result<Vec<Kept>, VaultError> {
        let vault = self.clone();
        let sealing = tokio::task::spawn_blocking(move || vault.seal_now(&all));
        sealing.await.map_err(|e| VaultError::Io { path: self.0.dir.clone(), why: io::Error::other(e) })?
    }

    /// Keeps names that are sealed; they are on disk when this returns.
    pub(crate) async fn keep(&self, all: Vec<Kept>) -> Result<(), VaultError> {
        Ok(self.0.shelf.append(records(&all)).await?)
    }

    fn seal_now(&self, all: &[Unsealed]) -> Result<Vec<Kept>, VaultError> {
        let of = |one: &Unsealed, part: &PersonalPart| For {
            person: self.pseudonym(&part.name),
            class: self.0.retention.class(&one.kind),
            week: week(one.time),
        };
        let new = self.0.keys.lock().plan(all.iter().flat_map(|one| one.parts.iter().map(|part| of(one, part))))?;
        if let Some(held) = &self.0.rows {
            // Nobody who reads waits for the database meanwhile.
            wait(held.put_slots(new.slots()))?;
        }
        let mut keys = self.0.keys.lock();
        keys.add(new)?;
        let mut sealed = Vec::with_capacity(all.len());
        for one in all {
            let mut parts = Vec::with_capacity(one.parts.len());
            for part in &one.parts {
                // It was made just now, and nobody but the one task that seals destroys any.
                let slot = keys.slot(&of(one, part)).ok_or(VaultError::NoRandomness)?;
                let key = keys.key(slot)?.ok_or(VaultError::NoRandomness)?;
                let mut bytes = Zeroizing::new([part.salt.as_slice(), part.name.as_bytes()].concat());
                let bound = Aad::from(commitment(&part.salt, &part.name));
                let nonce = key.seal_in_place_append_tag(bound, &mut *bytes).map_err(|_| VaultError::NoRandomness)?;
                parts.push((slot, [&nonce.as_ref()[..], &bytes].concat()));
            }
            sealed.push((one.leaf, parts));
        }
        Ok(sealed)
    }

    /// Events as they are shown: leaves with the names that are not erased. This is the one way from a leaf to what anybody sees.
    pub(crate) fn seen(&self, leaves: Vec<(u64, Vec<u8>)>) -> Vec<Seen> {
        let opened = self.opened(&leaves);
        let seen = leaves.into_iter().zip(opened).map(|((at, leaf), of)| Seen {
            at,
            leaf,
            event: legate_personal::shown(of.event, &of.parts),
            parts: of.parts,
        });
        seen.collect()
    }

    /// Leaves, decoded, and the names that they commit to.
    pub(crate) fn opened(&self, leaves: &[(u64, Vec<u8>)]) -> Vec<Opened> {
        // Every leaf was decoded before it became one.
        let of = |(at, leaf): &(u64, Vec<u8>)| (*at, AuditEvent::decode(leaf.as_slice()).unwrap_or_default());
        let events: Vec<(u64, AuditEvent)> = leaves.iter().map(of).collect();
        let mut named: Vec<u64> = events.iter().filter(|(_, e)| !e.personal.is_empty()).map(|(at, _)| *at).collect();
        named.sort_unstable();
        let mut sealed = BTreeMap::new();
        for near in named.chunk_by(|a, b| b - a < TOGETHER) {
            let (Some(first), Some(last)) = (near.first(), near.last()) else { continue };
            match self.0.shelf.find(*first, *last) {
                Ok(found) => sealed.extend(found),
                Err(error) => tracing::error!(first, last, %error, "the names of events cannot be read"),
            }
        }
        let none = Sealed::new();
        let open = |(at, event): (u64, AuditEvent)| {
            let parts = self.open_parts(&event, sealed.get(&at).unwrap_or(&none));
            Opened { event, parts }
        };
        events.into_iter().map(open).collect()
    }

    fn open_parts(&self, event: &AuditEvent, sealed: &Sealed) -> Vec<PersonalPart> {
        let part = |(at, wanted): (usize, &Vec<u8>)| {
            let (slot, bytes) = sealed.get(at)?;
            let key = self.0.keys.lock().key(*slot);
            let key = key.inspect_err(|error| tracing::error!(%error, "a key of names cannot be used")).ok()??;
            open(&key, bytes, wanted)
        };
        event.personal.iter().enumerate().map(|one| part(one).unwrap_or_default()).collect()
    }

    /// A text as the index has it where it names persons.
    pub(crate) fn indexed(&self, text: &str) -> Option<String> {
        legate_personal::renamed(text, true, |name| self.alias(name))
    }

    /// A person as the index has it.
    pub(crate) fn alias(&self, name: &str) -> String {
        alias_of(self.pseudonym(name))
    }

    /// The keys of a person.
    pub(crate) fn keys_of(&self, person: Pseudonym) -> Vec<u32> {
        self.0.keys.lock().which(|of| of.person == person).into_iter().map(|(slot, _)| slot).collect()
    }

    /// Whether a person's name is kept in anything.
    pub(crate) fn knows(&self, name: &str) -> bool {
        !self.keys_of(self.pseudonym(name)).is_empty()
    }

    /// The keys whose time is over at `now`, and whose they are, as the index has them.
    pub(crate) fn ended(&self, now: Timestamp) -> Vec<(u32, String)> {
        let this = week(now);
        let is_over = |of: &For| self.0.retention.is_over(of.class, of.week, this);
        self.0.keys.lock().which(is_over).into_iter().map(|(slot, of)| (slot, alias_of(of.person))).collect()
    }

    /// The persons, as the index has them, and the weeks that there are keys for.
    pub(crate) fn weeks(&self) -> HashSet<(String, u32)> {
        let all = self.0.keys.lock().which(|_| true);
        all.into_iter().map(|(_, of)| (alias_of(of.person), of.week)).collect()
    }

    /// Notes what is about to be destroyed, and destroys it. Until [`Vault::is_told`] it is told again at each start.
    pub(crate) fn end(&self, ending: &mut Ending) -> Result<u64, VaultError> {
        if let Some(person) = ending.person {
            ending.slots = self.keys_of(person);
        }
        ending.event.details.insert("keys".to_owned(), ending.slots.len().to_string());
        let mut bytes = u32::try_from(ending.slots.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        bytes.extend(ending.slots.iter().flat_map(|slot| slot.to_le_bytes()));
        bytes.extend(ending.event.encode_to_vec());
        match &self.0.rows {
            None => self.write_ending(&bytes)?,
            Some(held) => {
                wait(held.put_note(ENDING, Some(bytes)))?;
                wait(held.put_slots(destroyed(&ending.slots)))?;
            }
        }
        self.0.keys.lock().destroy(&ending.slots)
    }

    fn write_ending(&self, bytes: &[u8]) -> Result<(), VaultError> {
        let path = self.0.dir.join(ENDING);
        let new = self.0.dir.join("ending.new");
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            self.sync()
        };
        write().map_err(|why| VaultError::Io { path: path.clone(), why })
    }

    /// What a start before this one was about to destroy, or destroyed and did not tell.
    pub(crate) fn unended(&self) -> Result<Option<Ending>, VaultError> {
        let path = self.0.dir.join(ENDING);
        let found = match &self.0.rows {
            Some(held) => wait(held.ledger().note(ENDING))?,
            None => match std::fs::read(&path) {
                Ok(bytes) => Some(bytes),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(why) => return Err(VaultError::Io { path, why }),
            },
        };
        let Some(bytes) = found else { return Ok(None) };
        let read = || -> Option<Ending> {
            let (count, rest) = bytes.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(4)?;
            let slots = rest.get(..length)?.as_chunks().0.iter().map(|slot| u32::from_le_bytes(*slot)).collect();
            Some(Ending { person: None, slots, event: AuditEvent::decode(rest.get(length..)?).ok()? })
        };
        let why = "it is not what was written; bring it back, or remove it and erase again".to_owned();
        read().map(Some).ok_or(VaultError::Damaged { path, why })
    }

    /// What was destroyed is on record.
    pub(crate) async fn is_told(&self) -> Result<(), VaultError> {
        if let Some(held) = &self.0.rows {
            return Ok(held.put_note(ENDING, None).await?);
        }
        let path = self.0.dir.join(ENDING);
        let gone = std::fs::remove_file(&path).and_then(|()| self.sync());
        gone.map_err(|why| VaultError::Io { path, why })
    }

    /// Whether the disk was full, and the reserve is in use.
    pub(crate) fn on_reserve(&self) -> bool {
        self.0.shelf.on_reserve()
    }

    /// Makes the reserve again that a full disk used.
    pub(crate) fn mend_reserve(&self) -> Result<(), VaultError> {
        Ok(self.0.shelf.mend_reserve()?)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0.dir)?.sync_all()
    }
}

fn alias_of(person: Pseudonym) -> String {
    let hex: String = person.iter().map(|b| format!("{b:02x}")).collect();
    format!("{ALIAS}{hex}")
}

fn open(key: &aws_lc_rs::aead::RandomizedNonceKey, bytes: &[u8], wanted: &[u8]) -> Option<PersonalPart> {
    let (nonce, sealed) = bytes.split_at_checked(NONCE)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let plain = key.open_in_place(nonce, Aad::from(wanted), &mut sealed).ok()?;
    let (salt, name) = plain.split_at_checked(32)?;
    Some(PersonalPart { salt: salt.to_vec(), name: std::str::from_utf8(name).ok()?.to_owned() })
}

/// Takes over what was sealed by whoever led before.
fn catch_up(shelf: &Shelf, held: &Held) -> Result<(), VaultError> {
    let mut from = shelf.last();
    loop {
        let page = wait(held.ledger().names(from))?;
        let Some((_, end, _)) = page.last() else { return Ok(()) };
        from = *end;
        wait(shelf.append(page.into_iter().flat_map(|(_, _, records)| records).collect()))?;
    }
}

/// The secret of pseudonyms, where it rests beside rows.
fn pseudonyms_of(held: &Held, kek: &Kek) -> Result<hmac::Key, VaultError> {
    let path = || PathBuf::from("log_note");
    let secret = match wait(held.ledger().note("pseudonyms"))? {
        Some(text) => {
            let text = String::from_utf8_lossy(&text);
            let opened = kek.unwrap(PSEUDONYMS, &text);
            let secret = opened.map_err(|why| VaultError::Damaged { path: path(), why: why.to_owned() })?;
            if Kek::version_of(&text) != Some(kek.newest()) {
                wait(held.put_note("pseudonyms", Some(kek.wrap(PSEUDONYMS, &secret)?.into_bytes())))?;
            }
            secret
        }
        None if !wait(held.ledger().slots(0))?.is_empty() => {
            let why = "the secret of pseudonyms is gone, and the index is made with it; bring it back".to_owned();
            return Err(VaultError::Damaged { path: path(), why });
        }
        None => {
            let mut secret = Zeroizing::new(vec![0; 32]);
            rand::fill(&mut secret).map_err(|_| VaultError::NoRandomness)?;
            wait(held.put_note("pseudonyms", Some(kek.wrap(PSEUDONYMS, &secret)?.into_bytes())))?;
            secret
        }
    };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
}

/// The secret of pseudonyms: made once, and then it stays, as the index is made with it.
fn pseudonyms(dir: &Path, kek: &Kek) -> Result<hmac::Key, VaultError> {
    let path = dir.join("pseudonyms");
    let io = |why| VaultError::Io { path: path.clone(), why };
    let write = |secret: &[u8]| -> Result<(), VaultError> {
        let text = kek.wrap(PSEUDONYMS, secret)?;
        pki::write_private(&path, &text).map_err(|e| VaultError::Damaged { path: path.clone(), why: e.to_string() })
    };
    let secret = match std::fs::read_to_string(&path) {
        Ok(text) => {
            let opened = kek.unwrap(PSEUDONYMS, &text);
            let secret = opened.map_err(|why| VaultError::Damaged { path: path.clone(), why: why.to_owned() })?;
            if Kek::version_of(&text) != Some(kek.newest()) {
                write(&secret)?;
            }
            secret
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if dir.join("keys").exists() {
                let why = "it is gone, and the index is made with it; bring it back".to_owned();
                return Err(VaultError::Damaged { path, why });
            }
            let mut secret = Zeroizing::new(vec![0; 32]);
            rand::fill(&mut secret).map_err(|_| VaultError::NoRandomness)?;
            write(&secret)?;
            secret
        }
        Err(e) => return Err(io(e)),
    };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
}
