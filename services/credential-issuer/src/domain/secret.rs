//! The one-time enrolment token: 256 bits of chance that scanners recognize and that is kept only as an HMAC.

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::token::hex;

/// What every enrolment token begins with.
const PREFIX: &str = "lgt_enr_";
/// Hexadecimal digits of the secret and of the checksum.
const SECRET: usize = 64;
const CHECKSUM: usize = 8;

/// A token's secret, in memory only as long as it is needed.
#[derive(Clone)]
pub(crate) struct EnrolmentSecret(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for EnrolmentSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EnrolmentSecret(hidden)")
    }
}

impl EnrolmentSecret {
    /// A token from 256 bits of chance.
    pub(crate) fn new(chance: Zeroizing<[u8; 32]>) -> Self {
        Self(chance)
    }

    /// The secret itself, to be fed to the HMAC.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The token as it is shown, once: `lgt_enr_`, the secret, a checksum; `[A-Za-z0-9_]` only.
    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(hex(&*self.0));
        Zeroizing::new(format!("{PREFIX}{}{}", &*secret, checksum(&secret)))
    }

    /// Reads a token; `None` for what was never one of ours, so that it need not be looked up.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        if digits.len() != SECRET + CHECKSUM
            || !digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return None;
        }
        let (secret, sum) = digits.split_at(SECRET);
        if sum != checksum(secret) {
            return None;
        }
        let mut bytes = Zeroizing::new([0u8; 32]);
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&secret[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// The first 32 bits of the SHA-256 of what is shown: a mistyped token, or one of another make, is told without a look-up.
fn checksum(secret: &str) -> String {
    let sum = digest(&SHA256, format!("{PREFIX}{secret}").as_bytes());
    hex(&sum.as_ref()[..CHECKSUM / 2])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn only_a_whole_token_is_read(secret: [u8; 32], at in any::<prop::sample::Index>(), to in "[ -~]") {
            let made = EnrolmentSecret::new(Zeroizing::new(secret));
            let text = made.to_text();
            let read = EnrolmentSecret::parse(&text).unwrap();
            prop_assert_eq!(read.bytes(), &secret);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
            prop_assert_eq!(format!("{made:?}"), "EnrolmentSecret(hidden)");
            let at = at.index(text.len());
            prop_assume!(text[at..=at] != to);
            let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
            prop_assert!(EnrolmentSecret::parse(&changed).is_none());
            prop_assert!(EnrolmentSecret::parse(&text[..at]).is_none());
        }
    }
}
