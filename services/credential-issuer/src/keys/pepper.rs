//! The pepper: a secret beside the database, without which the stored HMACs of secrets are worth nothing.

use std::path::Path;

use aws_lc_rs::hmac;
use legate_mtls::pki::{refuse_open_key, write_private};
use legate_rpc::Pages;
use zeroize::Zeroizing;

use super::{KeyError, is_missing};
use crate::domain::secret::{Secret, SecretKind};
use crate::domain::token::hex;

/// The most versions that are kept at once.
const MOST: usize = 4;

/// One version, its HMAC keys derived.
struct Version {
    number: i32,
    enrolment: hmac::Key,
    client: hmac::Key,
    nonces: hmac::Key,
    pages: Pages,
}

/// Every version of the pepper, newest first.
pub(crate) struct Pepper(Vec<Version>);

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<i32> = self.0.iter().map(|v| v.number).collect();
        write!(f, "Pepper({numbers:?}, hidden)")
    }
}

impl Pepper {
    /// Reads a file of lines `VERSION 64-HEX-DIGITS`; makes one where there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, KeyError> {
        if is_missing(path)? {
            let mut secret = Zeroizing::new([0u8; 32]);
            aws_lc_rs::rand::fill(&mut *secret).map_err(|_| KeyError::NoRandomness)?;
            let text = Zeroizing::new(hex(&*secret));
            let line = Zeroizing::new(format!("1 {}\n", &*text));
            write_private(path, &line).map_err(|e| KeyError::file(path, e))?;
        }
        refuse_open_key(path).map_err(|e| KeyError::file(path, e))?;
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| KeyError::file(path, e))?);
        let bad =
            || KeyError::file(path, "each line is a version number, a space and 64 hexadecimal digits; 1 to 4 lines");
        let mut versions = Vec::new();
        for line in text.lines() {
            versions.push(Version::parse(line).ok_or_else(bad)?);
        }
        versions.sort_by_key(|v| std::cmp::Reverse(v.number));
        versions.dedup_by_key(|v| v.number);
        if versions.is_empty() || versions.len() > MOST {
            return Err(bad());
        }
        Ok(Self(versions))
    }

    /// The newest version's number and the secret's HMAC under it.
    pub(crate) fn newest(&self, secret: &Secret) -> (i32, Vec<u8>) {
        let version = &self.0[0];
        (version.number, version.mac(secret))
    }

    /// The secret's HMACs under every version.
    pub(crate) fn all(&self, secret: &Secret) -> Vec<Vec<u8>> {
        self.0.iter().map(|version| version.mac(secret)).collect()
    }

    /// The HMAC of a nonce's time slot under the newest version: replicas with the same pepper agree on it.
    pub(crate) fn nonce(&self, slot: u64) -> [u8; 16] {
        let mac = hmac::sign(&self.0[0].nonces, &slot.to_be_bytes());
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&mac.as_ref()[..16]);
        nonce
    }

    /// What authenticates page tokens.
    pub(crate) fn pages(&self) -> &Pages {
        &self.0[0].pages
    }
}

impl Version {
    fn parse(line: &str) -> Option<Self> {
        let (number, digits) = line.split_once(' ')?;
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        let mut secret = Zeroizing::new([0u8; 32]);
        for (i, byte) in secret.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
        }
        // Each use has a key of its own, derived by its name.
        let root = hmac::Key::new(hmac::HMAC_SHA256, &*secret);
        let derive = |label: &[u8]| hmac::sign(&root, label);
        let key = |label: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, derive(label).as_ref());
        Some(Self {
            number: number.parse().ok()?,
            enrolment: key(b"legate enrolment token"),
            client: key(b"legate client secret"),
            nonces: key(b"legate dpop nonce"),
            pages: Pages::new(derive(b"legate page token").as_ref().try_into().ok()?),
        })
    }

    fn mac(&self, secret: &Secret) -> Vec<u8> {
        let key = match secret.kind() {
            SecretKind::Enrolment => &self.enrolment,
            SecretKind::Client => &self.client,
        };
        hmac::sign(key, secret.bytes()).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_new_version_leaves_old_tokens_readable_and_nothing_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pepper");
        let secret = Secret::new(SecretKind::Enrolment, Zeroizing::new([5; 32]));
        let (first, mac) = Pepper::open(&path).unwrap().newest(&secret);
        let line = std::fs::read_to_string(&path).unwrap();
        assert_eq!((first, line.len()), (1, 67));
        write_private(&path, &format!("{line}2 {}\n", "ab".repeat(32))).unwrap();
        let both = Pepper::open(&path).unwrap();
        assert_eq!(both.newest(&secret).0, 2);
        let client = Secret::new(SecretKind::Client, Zeroizing::new([5; 32]));
        assert!(both.all(&client).iter().all(|mac| !both.all(&secret).contains(mac)), "a key of its own for each use");
        assert!(both.all(&secret).contains(&mac) && both.all(&secret).len() == 2);
        assert_eq!(format!("{both:?}"), "Pepper([2, 1], hidden)");
        for bad in ["", "1", "1 ab", "x ", "1 zz"] {
            write_private(&path, bad).unwrap();
            assert!(Pepper::open(&path).is_err(), "{bad}");
        }
    }
}
