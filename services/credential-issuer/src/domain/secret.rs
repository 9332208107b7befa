//! Secrets that are shown once: 256 bits of chance that scanners recognize and that are kept only as an HMAC.

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::token::hex;

/// What a secret is for; each kind has a prefix and an HMAC key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretKind {
    /// A one-time enrolment token.
    Enrolment,
    /// A client secret (RFC 6749 section 2.3.1).
    Client,
}

impl SecretKind {
    /// What every secret of the kind begins with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Enrolment => "lgt_enr_",
            Self::Client => "lgt_sec_",
        }
    }
}

/// Hexadecimal digits of the secret and of the checksum.
const SECRET: usize = 64;
const CHECKSUM: usize = 8;

/// A secret, in memory only as long as it is needed.
#[derive(Clone)]
pub(crate) struct Secret {
    kind: SecretKind,
    bytes: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({:?}, hidden)", self.kind)
    }
}

impl Secret {
    /// A secret from 256 bits of chance.
    pub(crate) fn new(kind: SecretKind, chance: Zeroizing<[u8; 32]>) -> Self {
        Self { kind, bytes: chance }
    }

    /// What it is for.
    pub(crate) fn kind(&self) -> SecretKind {
        self.kind
    }

    /// The secret itself, to be fed to the HMAC.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The secret as it is shown, once: its prefix, 64 digits, a checksum; `[A-Za-z0-9_]` only.
    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(hex(&*self.bytes));
        Zeroizing::new(format!("{}{}{}", self.kind.prefix(), &*secret, checksum(self.kind, &secret)))
    }

    /// Reads a secret; `None` for what was never one of ours, so that it need not be looked up.
    pub(crate) fn parse(kind: SecretKind, text: &str) -> Option<Self> {
        let digits = text.strip_prefix(kind.prefix())?;
        if digits.len() != SECRET + CHECKSUM
            || !digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return None;
        }
        let (secret, sum) = digits.split_at(SECRET);
        if sum != checksum(kind, secret) {
            return None;
        }
        let mut bytes = Zeroizing::new([0u8; 32]);
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&secret[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Self { kind, bytes })
    }
}

/// The first 32 bits of the SHA-256 of what is shown: a mistyped secret, or one of another make, is told without a look-up.
fn checksum(kind: SecretKind, secret: &str) -> String {
    let shown = Zeroizing::new(format!("{}{secret}", kind.prefix()));
    let sum = digest(&SHA256, shown.as_bytes());
    hex(&sum.as_ref()[..CHECKSUM / 2])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn only_a_whole_secret_of_its_kind_is_read(secret: [u8; 32], is_client: bool, at in any::<prop::sample::Index>(), to in "[ -~]") {
            let (kind, other) = (SecretKind::Client, SecretKind::Enrolment);
            let (kind, other) = if is_client { (kind, other) } else { (other, kind) };
            let made = Secret::new(kind, Zeroizing::new(secret));
            let text = made.to_text();
            let read = Secret::parse(kind, &text).unwrap();
            prop_assert!(Secret::parse(other, &text).is_none());
            prop_assert_eq!(read.bytes(), &secret);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
            prop_assert_eq!(format!("{made:?}"), format!("Secret({kind:?}, hidden)"));
            let at = at.index(text.len());
            prop_assume!(text[at..=at] != to);
            let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
            prop_assert!(Secret::parse(kind, &changed).is_none());
            prop_assert!(Secret::parse(kind, &text[..at]).is_none());
        }
    }
}
