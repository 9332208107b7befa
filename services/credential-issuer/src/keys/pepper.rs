//! The pepper: a secret beside the database, without which the stored HMACs of secrets are worth nothing.

use aws_lc_rs::hmac;
use legate_mtls::pki::refuse_open_key;
use legate_rpc::Pages;
use zeroize::Zeroizing;

use super::{FileKeys, Kek, KeyError, is_missing};
use crate::domain::secret::{Secret, SecretKind};
use crate::domain::token::hex;

/// What the wrapped file is bound to.
const LABEL: &str = "pepper";
/// How the file reads.
const FORM: &str = "each line is a version number, a space and 64 hexadecimal digits; 1 to 4 lines";
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
    /// Reads lines `VERSION 64-HEX-DIGITS` from a wrapped file beside the keys; makes one where there is none, and wraps one
    /// in plain text: that of an earlier version, or one to which somebody added a line.
    pub(crate) fn open(keys: &FileKeys) -> Result<Self, KeyError> {
        let path = &keys.pepper();
        let keep = |text: &str| keys.write(path, LABEL, text.as_bytes());
        if is_missing(path)? {
            let mut secret = Zeroizing::new([0u8; 32]);
            aws_lc_rs::rand::fill(&mut *secret).map_err(|_| KeyError::NoRandomness)?;
            let text = Zeroizing::new(hex(&*secret));
            keep(&Zeroizing::new(format!("1 {}\n", &*text)))?;
        }
        refuse_open_key(path).map_err(|e| KeyError::file(path, e))?;
        let plain = Zeroizing::new(std::fs::read(path).map_err(|e| KeyError::file(path, e))?);
        if !Kek::is_wrapped(&plain) {
            let plain = Zeroizing::new(String::from_utf8_lossy(&plain).into_owned());
            Self::parse(&plain).ok_or_else(|| KeyError::file(path, FORM))?;
            keep(&plain)?;
            tracing::info!(path = %path.display(), "a pepper in plain text is wrapped now");
        }
        let text = keys.read_secret(path, LABEL)?;
        Self::parse(&String::from_utf8_lossy(&text)).ok_or_else(|| KeyError::file(path, FORM))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut versions = text.lines().map(Version::parse).collect::<Option<Vec<_>>>()?;
        versions.sort_by_key(|v| std::cmp::Reverse(v.number));
        versions.dedup_by_key(|v| v.number);
        (1..=MOST).contains(&versions.len()).then_some(Self(versions))
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
    use legate_mtls::pki::write_private;

    #[test]
    fn a_new_version_leaves_old_tokens_readable_and_nothing_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        Kek::add(&dir.path().join("kek")).unwrap();
        let keys = FileKeys::new(dir.path(), Kek::open(&dir.path().join("kek")).unwrap()).unwrap();
        let secret = Secret::new(SecretKind::Enrolment, Zeroizing::new([5; 32]));
        // That of an earlier version, in plain text.
        let line = format!("1 {}\n", "cd".repeat(32));
        write_private(&keys.pepper(), &line).unwrap();
        let (first, mac) = Pepper::open(&keys).unwrap().newest(&secret);
        assert_eq!(first, 1);
        let kept = std::fs::read_to_string(keys.pepper()).unwrap();
        assert!(Kek::is_wrapped(kept.as_bytes()) && !kept.contains("cdcd"));
        assert_eq!(Pepper::open(&keys).unwrap().newest(&secret), (1, mac.clone()));
        write_private(&keys.pepper(), &format!("{line}2 {}\n", "ab".repeat(32))).unwrap();
        let both = Pepper::open(&keys).unwrap();
        assert_eq!(both.newest(&secret).0, 2);
        let client = Secret::new(SecretKind::Client, Zeroizing::new([5; 32]));
        assert!(both.all(&client).iter().all(|mac| !both.all(&secret).contains(mac)), "a key of its own for each use");
        assert!(both.all(&secret).contains(&mac) && both.all(&secret).len() == 2);
        assert_eq!(format!("{both:?}"), "Pepper([2, 1], hidden)");
        for bad in ["", "1", "1 ab", "x ", "1 zz"] {
            write_private(&keys.pepper(), bad).unwrap();
            assert!(Pepper::open(&keys).is_err(), "{bad}");
        }
        std::fs::remove_file(keys.pepper()).unwrap();
        assert_eq!(Pepper::open(&keys).unwrap().newest(&secret).0, 1, "one is made");
    }
}
