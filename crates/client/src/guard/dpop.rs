//! DPoP proofs (RFC 9449 section 7): a token that is bound to a key counts only beside a proof of that key, made for this very
//! request, and each proof once.

use std::collections::HashMap;
use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use http::Uri;
use http::request::Parts;
use legate_clock::{Clock, SystemClock};
use legate_token::{BadProof, DpopProof, ExpectProof, P256Verifier};
use parking_lot::Mutex;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Refusal;

/// The header that holds the proof.
const HEADER: &str = "dpop";
/// Proofs that are remembered where nothing is said.
const USUAL: usize = 100_000;
/// One key has so many parts of the memory at most.
const SHARES: usize = 8;
/// A proof is remembered so many seconds longer than it could be shown, since clocks are set back.
const LONGER: u64 = 60;

/// What is wrong with the settings of [`Dpop`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDpop {
    /// The origin.
    #[error("{0:?} is no origin; give https://HOST or https://HOST:PORT, as callers write it, and nothing after it")]
    Origin(String),
    /// The size of the memory.
    #[error("{0} proofs cannot be remembered; give 1,000 to 10,000,000")]
    Most(usize),
}

/// Takes access tokens that are bound to a key (`Authorization: DPoP TOKEN`), each with a proof of that key in the header `DPoP`.
///
/// A proof is for a method, a URL and a token, is a minute old at most, and counts once: for every clone of this, and for no other
/// process. Of several servers behind one name each has a memory of its own, so that a proof that somebody reads on the way could be
/// shown once to each within its minute.
#[derive(Clone, Debug)]
pub struct Dpop {
    origin: Arc<str>,
    most: usize,
    clock: Arc<dyn Clock>,
    seen: Arc<Mutex<Seen>>,
}

/// The proofs that were taken and could still be shown.
#[derive(Debug, Default)]
struct Seen {
    /// By a hash of key and name: whose it is, and up to which second it is kept.
    by_name: HashMap<[u8; 32], ([u8; 32], u64)>,
    by_key: HashMap<[u8; 32], usize>,
    /// When the memory was last gone through.
    cleaned: u64,
}

/// A proof that is good for the request beside which it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proven {
    /// The thumbprint of its key (RFC 7638).
    pub(super) jkt: [u8; 32],
    name: [u8; 32],
    until: u64,
}

impl Dpop {
    /// For a server that callers reach at `origin`, `https://HOST[:PORT]`: what a request says of its host is not believed. It has to be
    /// the outermost layer, since a router that takes a prefix off a path takes it off the URL that the proof is for.
    ///
    /// # Errors
    /// When it is no such origin.
    pub fn new(origin: impl Into<String>) -> Result<Self, BadDpop> {
        let origin = origin.into();
        let authority = origin.parse::<Uri>().ok().and_then(|uri| uri.authority().cloned());
        let written = authority.filter(|authority| !authority.as_str().contains('@'));
        if written.is_none_or(|authority| format!("https://{authority}") != origin) {
            return Err(BadDpop::Origin(origin));
        }
        Ok(Self { origin: origin.into(), most: USUAL, clock: SystemClock::shared(), seen: Arc::default() })
    }

    /// Remembers so many proofs, 1,000 to 10,000,000 of about 150 bytes each; 100,000 where it is not said. When as many were taken
    /// within two minutes, the next request is told to come again; and so is each of one key beyond an eighth of them.
    ///
    /// # Errors
    /// When it is out of range.
    pub fn remembering(mut self, most: usize) -> Result<Self, BadDpop> {
        if !(1_000..=10_000_000).contains(&most) {
            return Err(BadDpop::Most(most));
        }
        self.most = most;
        Ok(self)
    }

    /// By another clock than the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn seconds(&self) -> u64 {
        u64::try_from(self.clock.now().secs()).unwrap_or(0)
    }

    /// The proof of a request with this token (RFC 9449 section 4.3), where nobody was let through by it yet.
    pub(super) fn prove(&self, head: &Parts, token: &str) -> Result<Proven, Refusal> {
        let bad = |e: BadProof| Refusal::BadProof(e.to_string());
        let mut all = head.headers.get_all(HEADER).iter();
        let (Some(text), None) = (all.next(), all.next()) else {
            return Err(Refusal::BadProof("there has to be one DPoP proof".into()));
        };
        let text = text.to_str().map_err(|_| Refusal::BadProof("the DPoP proof is not ASCII".into()))?;
        let proof = DpopProof::read(text, P256Verifier::new).map_err(bad)?;
        let url = format!("{}{}", self.origin, head.uri.path());
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let (method, access_token) = (head.method.as_str(), Some(&hash));
        proof.verify(&ExpectProof { method, url: &url, access_token }, self.seconds()).map_err(bad)?;
        let kid = proof.key().kid();
        // policy-decision believes the token, and so this; it is asked about the token with the key that is proved here.
        if bound_to(token).as_deref() != Some(kid.as_str()) {
            return Err(Refusal::BadProof("the token is not bound to the key of the DPoP proof".into()));
        }
        let mut jkt = [0; 32];
        Base64UrlUnpadded::decode(kid.as_str(), &mut jkt)
            .map_err(|_| Refusal::BadProof("its key has no name".into()))?;
        let name = Sha256::new().chain_update(jkt).chain_update(proof.token_id().as_bytes()).finalize().into();
        let proven = Proven { jkt, name, until: proof.usable_until().saturating_add(LONGER) };
        if self.seen.lock().by_name.contains_key(&proven.name) {
            return Err(Refusal::Replayed);
        }
        Ok(proven)
    }

    /// Uses a proof, of a request that is to be let through: of all who show it, one is. Only such requests take up memory, so that
    /// nobody without a token that works can fill it.
    pub(super) fn spend(&self, proven: &Proven) -> Result<(), Refusal> {
        let (now, mut seen) = (self.seconds(), self.seen.lock());
        if seen.by_name.contains_key(&proven.name) {
            return Err(Refusal::Replayed);
        }
        if !seen.has_room(self.most, &proven.jkt) && seen.cleaned != now {
            seen.forget(now);
        }
        if !seen.has_room(self.most, &proven.jkt) {
            return Err(Refusal::MemoryFull);
        }
        seen.by_name.insert(proven.name, (proven.jkt, proven.until));
        *seen.by_key.entry(proven.jkt).or_default() += 1;
        Ok(())
    }
}

impl Seen {
    fn has_room(&self, most: usize, jkt: &[u8; 32]) -> bool {
        self.by_name.len() < most && self.by_key.get(jkt).is_none_or(|own| *own < most / SHARES)
    }

    /// Forgets what nobody could show any more.
    fn forget(&mut self, now: u64) {
        let by_key = &mut self.by_key;
        self.by_name.retain(|_, (jkt, until)| {
            if *until >= now {
                return true;
            }
            if let Some(count) = by_key.get_mut(jkt) {
                *count -= 1;
                if *count == 0 {
                    by_key.remove(jkt);
                }
            }
            false
        });
        self.cleaned = now;
    }
}

/// What a token says of the key to which it is bound (RFC 9449 section 6.1); nobody has verified it here.
fn bound_to(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        cnf: Option<Cnf>,
    }
    #[derive(Deserialize)]
    struct Cnf {
        jkt: Option<String>,
    }
    let mut parts = token.split('.');
    let (_, payload) = (parts.next()?, parts.next()?);
    let payload = Base64UrlUnpadded::decode_vec(payload).ok()?;
    serde_json::from_slice::<Claims>(&payload).ok()?.cnf?.jkt
}

#[cfg(test)]
mod tests;
