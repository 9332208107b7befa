//! The log's keys: the one that signs, made at the first start, the one that is to follow, and what is known of those before.
//!
//! Private ones are in files that only the collector can read. `log.key` signs; `log.key.next`, where somebody put it there, takes its place
//! at the next start. `log.rotations` holds what both keys of each rotation signed, and is made again from the log where it is lost.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::{hmac, rand};
use legate_merkle::{CheckpointError, KeyChain, Rotation, SeedSigner, SignError, Signer as _, VerifierKey};
use legate_mtls::pki;
use legate_rpc::Pages;
use zeroize::Zeroizing;

use super::publisher::Published;
use super::recover::LogError;

const KEY: &str = "log.key";
const NEXT: &str = "log.key.next";
const PUBLIC: &str = "log.pub";
const ROTATIONS: &str = "log.rotations";

/// The longest reason.
const LONGEST_REASON: usize = 512;

/// A private key, and what else its secret makes.
#[derive(Debug)]
struct Secret {
    signer: Arc<SeedSigner>,
    /// Authenticates page tokens.
    pages: Pages,
    /// Why it was made.
    reason: String,
}

/// The keys of a log whose directory this is.
#[derive(Debug)]
pub(super) struct Keys {
    dir: PathBuf,
    signing: Secret,
    next: Option<Secret>,
    /// Those that sign and signed, as far as is known: the last one is one of the two.
    chain: KeyChain,
}

impl Keys {
    /// Reads the keys of the log called `origin`, or makes the first when `may_make`; writes its public half to `log.pub`.
    pub(super) fn open(dir: &Path, origin: &str, may_make: bool) -> Result<Self, LogError> {
        let signing = match Secret::read(dir, KEY, origin)? {
            Some(secret) => secret,
            None if may_make => {
                Secret::make(dir, KEY, "")?;
                Secret::read(dir, KEY, origin)?.ok_or_else(|| refused(dir, KEY, "it came and went"))?
            }
            None => {
                let why = "it is not there, and the log is signed with it; bring it back (collectors that share a log have the same one)";
                return Err(refused(dir, KEY, why));
            }
        };
        let next = Secret::read(dir, NEXT, origin)?;
        if next.as_ref().is_some_and(|next| next.key() == signing.key()) {
            return Err(refused(dir, NEXT, "it is the key that signs already; remove it"));
        }
        let chain = match std::fs::read(dir.join(ROTATIONS)) {
            Ok(bytes) => KeyChain::parse(&bytes).map_err(|e| refused(dir, ROTATIONS, e.to_string()))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => KeyChain::new(signing.key().clone()),
            Err(e) => return Err(refused(dir, ROTATIONS, e.to_string())),
        };
        let keys = Self { dir: dir.to_owned(), signing, next, chain };
        keys.is_ours()?;
        keys.write_public()?;
        Ok(keys)
    }

    /// The log's newest key is one of those that are here.
    fn is_ours(&self) -> Result<(), LogError> {
        let newest = self.chain.newest();
        if self.secrets().any(|secret| secret.key() == newest) {
            return Ok(());
        }
        Err(LogError::OtherKey { theirs: newest.to_string(), ours: self.names().join(" and ") })
    }

    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.signing).chain(&self.next)
    }

    /// The public keys whose private ones are here, the one that signs first.
    pub(super) fn names(&self) -> Vec<String> {
        self.secrets().map(|secret| secret.key().to_string()).collect()
    }

    /// Signs for the log now.
    pub(super) fn signer(&self) -> &Arc<SeedSigner> {
        let newest = self.secrets().find(|secret| secret.key() == self.chain.newest());
        &newest.unwrap_or(&self.signing).signer
    }

    /// All keys of the log, as far as is known.
    pub(super) fn chain(&self) -> &KeyChain {
        &self.chain
    }

    /// What the log needs of them once it is settled which key signs.
    pub(super) fn into_parts(self) -> (Arc<SeedSigner>, KeyChain, Pages) {
        (self.signing.signer, self.chain, self.signing.pages)
    }

    /// Reads a checkpoint that a key of this log signed while it was the one to sign.
    pub(super) fn open_checkpoint(&self, note: Vec<u8>) -> Result<Published, LogError> {
        let checkpoint = self.chain.open(&note).map_err(LogError::Checkpoint)?;
        let form = |_| LogError::Checkpoint(CheckpointError::Form("it is not UTF-8"));
        let note = String::from_utf8(note).map_err(form)?;
        Ok(Published { size: checkpoint.size, root: checkpoint.root, note })
    }

    /// Holds what is known against the rotations that the log has, all of them in order. Whether the newest key is one of those that
    /// are here as well.
    pub(super) fn hold_against(&mut self, found: &[Rotation]) -> Result<(), LogError> {
        let known = self.chain.rotations();
        if let Some(gone) = known.iter().enumerate().find(|(at, rotation)| found.get(*at) != Some(*rotation)) {
            return Err(LogError::RotationGone { at: gone.1.size(), to: gone.1.to().to_string() });
        }
        let is_news = found.len() > known.len();
        if let Some(chain) = KeyChain::of(found.iter().cloned()).map_err(|e| LogError::Rotation(e.to_string()))? {
            self.chain = chain;
        }
        self.is_ours()?;
        // It was lost, or the process ended before it was written.
        if is_news { self.keep_chain() } else { Ok(()) }
    }

    /// What both keys say where the one that waits is to follow, in the log whose first `size` leaves have this root.
    pub(super) fn announcement(&self, size: u64, root: [u8; 32]) -> Result<Option<(Rotation, String)>, SignError> {
        let Some(next) = self.next.as_ref().filter(|next| next.key() != self.chain.newest()) else { return Ok(None) };
        let rotation = Rotation::sign(size, root, &*self.signing.signer, &*next.signer)?;
        Ok(Some((rotation, next.reason.clone())))
    }

    /// Takes up a rotation that is in the log now.
    pub(super) fn announced(&mut self, rotation: Rotation) -> Result<(), LogError> {
        self.chain.push(rotation).map_err(|e| LogError::Rotation(e.to_string()))
    }

    /// Whether the log says that the key that waits signs, and the one before is still here.
    pub(super) fn is_to_take_over(&self) -> bool {
        self.next.as_ref().is_some_and(|next| next.key() == self.chain.newest())
    }

    /// Writes down which keys the log had.
    pub(super) fn keep_chain(&self) -> Result<(), LogError> {
        let text = self.chain.to_string();
        pki::write_public(&self.dir.join(ROTATIONS), &text).map_err(|e| refused(&self.dir, ROTATIONS, e.to_string()))
    }

    /// Lets the key that waits take the place of the one before, which is destroyed: what it signed is verified by its public half.
    pub(super) fn take_over(&mut self) -> Result<(), LogError> {
        let Some(next) = self.next.take_if(|next| next.key() == self.chain.newest()) else { return Ok(()) };
        let failed = |e: io::Error| refused(&self.dir, KEY, e.to_string());
        let before = OpenOptions::new().write(true).open(self.dir.join(KEY)).map_err(failed)?;
        std::fs::rename(self.dir.join(NEXT), self.dir.join(KEY)).map_err(failed)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        // Nothing names it any more; its bytes need not wait for another file to take their place.
        if let Err(error) = overwrite(before) {
            tracing::warn!(%error, "the bytes of the log's old key may be left on the disk until they are written over");
        }
        self.signing = next;
        self.write_public()
    }

    fn write_public(&self) -> Result<(), LogError> {
        let text = format!("{}\n", self.signing.key());
        pki::write_public(&self.dir.join(PUBLIC), &text).map_err(|e| refused(&self.dir, PUBLIC, e.to_string()))
    }
}

/// Makes the key that is to follow on that of the log in a directory, at the collector's next start; its public half.
pub(crate) fn prepare(dir: &Path, reason: &str) -> Result<VerifierKey, LogError> {
    if reason.len() > LONGEST_REASON || reason.chars().any(char::is_control) {
        return Err(refused(dir, NEXT, "the reason for it is a line of 512 bytes at most"));
    }
    let public = std::fs::read_to_string(dir.join(PUBLIC)).map_err(|e| refused(dir, PUBLIC, e.to_string()))?;
    let public = VerifierKey::parse(public.trim()).map_err(|e| refused(dir, PUBLIC, e.to_string()))?;
    if dir.join(NEXT).exists() {
        return Err(refused(dir, NEXT, "a key waits there already, for the next start of the collector"));
    }
    Secret::make(dir, NEXT, reason)?;
    let made = Secret::read(dir, NEXT, public.name())?;
    Ok(made.ok_or_else(|| refused(dir, NEXT, "it came and went"))?.key().clone())
}

fn overwrite(mut file: File) -> io::Result<()> {
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    file.write_all(&vec![b'0'; len])?;
    file.sync_all()
}

fn refused(dir: &Path, file: &str, why: impl Into<String>) -> LogError {
    LogError::Key { path: dir.join(file), why: why.into() }
}

impl Secret {
    fn key(&self) -> &VerifierKey {
        self.signer.verifier()
    }

    /// Writes a new one: its seed, and why it was made.
    fn make(dir: &Path, file: &str, reason: &str) -> Result<(), LogError> {
        let mut seed = Zeroizing::new([0; 32]);
        rand::fill(&mut *seed).map_err(|_| refused(dir, file, "the system gives no randomness"))?;
        let text: Zeroizing<String> = Zeroizing::new(seed.iter().map(|b| format!("{b:02x}")).collect());
        let reason = if reason.is_empty() { String::new() } else { format!("{reason}\n") };
        let text = Zeroizing::new(format!("{}\n{reason}", *text));
        pki::write_private(&dir.join(file), &text).map_err(|e| refused(dir, file, e.to_string()))
    }

    /// Reads one; `None`: there is none.
    fn read(dir: &Path, file: &str, origin: &str) -> Result<Option<Self>, LogError> {
        let (path, bad) = (dir.join(file), |why: String| refused(dir, file, why));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(bad(e.to_string())),
        };
        pki::refuse_open_key(&path).map_err(|e| bad(e.to_string()))?;
        let (digits, reason) = text.split_once('\n').unwrap_or((text.as_str(), ""));
        let seed = unhex(digits.trim_end()).ok_or_else(|| bad("it is not 64 hexadecimal digits".to_owned()))?;
        let signer = SeedSigner::new(origin, &seed).map_err(|e| bad(e.to_string()))?;
        // Each use has a key of its own, derived by its name.
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*seed), b"legate audit page token");
        let page_key = derived.as_ref().try_into().map_err(|_| bad("no page key can be derived".to_owned()))?;
        let reason = reason.trim_end().chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect();
        Ok(Some(Self { signer: Arc::new(signer), pages: Pages::new(page_key), reason }))
    }
}

fn unhex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(seed)
}
