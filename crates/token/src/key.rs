//! Public keys on P-256: SEC1 bytes, JWK (RFC 7517), thumbprint (RFC 7638).

use alloc::format;
use alloc::string::String;
use core::fmt;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::BadKey;
use crate::json::{Object, present};

/// A key id: the RFC 7638 thumbprint, 43 characters of base64url, so that it can name no file and no other key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// Reads a key id.
    ///
    /// # Errors
    /// [`BadKey::Kid`] when the text is not a SHA-256 in canonical, unpadded base64url.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let mut hash = [0u8; 32];
        // The length first: a longer text is not worth decoding.
        if text.len() != 43 || Base64UrlUnpadded::decode(text, &mut hash).is_err() {
            return Err(BadKey::Kid);
        }
        Ok(Self(text.into()))
    }

    /// The key id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", self.0)
    }
}

/// A point of P-256 other than the neutral one, uncompressed (SEC 1 section 2.3.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 65]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.kid())
    }
}

/// The members of a public JWK. `d` and everything else is refused: a private key has no business here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwk<'a> {
    kty: &'a str,
    crv: &'a str,
    x: &'a str,
    y: &'a str,
    #[serde(default, borrow, deserialize_with = "present")]
    kid: Option<&'a str>,
    #[serde(default, borrow, rename = "use", deserialize_with = "present")]
    purpose: Option<&'a str>,
    #[serde(default, borrow, deserialize_with = "present")]
    alg: Option<&'a str>,
}

impl PublicKey {
    /// Reads a point in SEC 1 form, compressed or not.
    ///
    /// # Errors
    /// [`BadKey::Point`].
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, BadKey> {
        let key = p256::PublicKey::from_sec1_bytes(bytes).map_err(|_| BadKey::Point)?;
        Ok(Self::of(&key))
    }

    pub(crate) fn of(key: &p256::PublicKey) -> Self {
        let key = p256::ecdsa::VerifyingKey::from(key);
        let point = key.to_sec1_point(false);
        let mut bytes = [0u8; 65];
        bytes.copy_from_slice(point.as_bytes());
        Self(bytes)
    }

    /// Reads a JWK.
    ///
    /// # Errors
    /// [`BadKey`] says what is wrong with it.
    pub fn from_jwk(json: &str) -> Result<Self, BadKey> {
        if json.len() > 4096 {
            return Err(BadKey::Form);
        }
        let Object::<Jwk<'_>>(jwk) = serde_json::from_str(json).map_err(|_| BadKey::Form)?;
        Self::from_members(&jwk)
    }

    pub(crate) fn from_members(jwk: &Jwk<'_>) -> Result<Self, BadKey> {
        let is_ours = jwk.kty == "EC"
            && jwk.crv == "P-256"
            && jwk.purpose.is_none_or(|p| p == "sig")
            && jwk.alg.is_none_or(|a| a == "ES256");
        if !is_ours {
            return Err(BadKey::Kind);
        }
        let mut point = [4u8; 65];
        for (text, at) in [(jwk.x, 1..33), (jwk.y, 33..65)] {
            // RFC 7518 section 6.2.1.2: the full 32 octets, leading zeros too.
            match Base64UrlUnpadded::decode(text, &mut point[at]) {
                Ok(bytes) if bytes.len() == 32 => {}
                _ => return Err(BadKey::Point),
            }
        }
        let key = Self::from_sec1(&point)?;
        match jwk.kid {
            Some(kid) if kid != key.kid().as_str() => Err(BadKey::Kid),
            _ => Ok(key),
        }
    }

    /// The point, uncompressed: 4, x, y.
    #[must_use]
    pub fn as_sec1(&self) -> &[u8; 65] {
        &self.0
    }

    fn coordinates(&self) -> (String, String) {
        (Base64UrlUnpadded::encode_string(&self.0[1..33]), Base64UrlUnpadded::encode_string(&self.0[33..]))
    }

    /// The key id: the RFC 7638 thumbprint.
    #[must_use]
    pub fn kid(&self) -> KeyId {
        let (x, y) = self.coordinates();
        // RFC 7638 section 3.2: the required members, in lexicographic order, without white space.
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        KeyId(Base64UrlUnpadded::encode_string(&Sha256::digest(text.as_bytes())))
    }

    /// The key as a JWK with `kid`, `use` and `alg`.
    #[must_use]
    pub fn to_jwk(&self) -> String {
        let (x, y) = self.coordinates();
        let kid = self.kid();
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","kid":"{kid}","use":"sig","alg":"ES256"}}"#)
    }
}

/// Keys as a JWK Set (RFC 7517 section 5).
#[must_use]
pub fn jwk_set<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> String {
    let mut text = String::from(r#"{"keys":["#);
    for (i, key) in keys.into_iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(&key.to_jwk());
    }
    text.push_str("]}");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    // RFC 9449, sections 4.1 and 6.1: an EC key and its thumbprint.
    const X: &str = "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs";
    const Y: &str = "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA";
    const THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

    fn jwk(more: &str) -> String {
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{X}","y":"{Y}"{more}}}"#)
    }

    #[test]
    fn has_the_thumbprint_of_the_rfc() {
        let key = PublicKey::from_jwk(&jwk("")).unwrap();
        assert_eq!(key.kid().as_str(), THUMBPRINT);
        assert_eq!(PublicKey::from_jwk(&key.to_jwk()).unwrap(), key);
        assert_eq!(PublicKey::from_sec1(key.as_sec1()).unwrap(), key);
        let set = jwk_set([&key, &key]);
        let set: serde_json::Value = serde_json::from_str(&set).unwrap();
        assert_eq!(set["keys"][1]["kid"], THUMBPRINT);
    }

    #[test]
    fn refuses_what_is_no_public_signing_key() {
        let with = |more: &str| PublicKey::from_jwk(&jwk(more));
        assert!(with(&format!(r#","kid":"{THUMBPRINT}","use":"sig","alg":"ES256""#)).is_ok());
        for more in [r#","d":"AA""#, r#","kid":null"#, r#","x":"AA""#, r#","x5u":"https://x""#, r#","kid":1"#] {
            assert_eq!(with(more), Err(BadKey::Form), "{more}");
        }
        for more in [r#","use":"enc""#, r#","alg":"ES384""#, r#","alg":"none""#] {
            assert_eq!(with(more), Err(BadKey::Kind), "{more}");
        }
        assert_eq!(with(r#","kid":"../../etc/passwd""#), Err(BadKey::Kid));
        for (from, to, error) in [
            ("EC", "OKP", BadKey::Kind),
            ("P-256", "P-384", BadKey::Kind),
            (X, Y, BadKey::Point),
            (X, "AA", BadKey::Point),
            (X, "", BadKey::Point),
        ] {
            assert_eq!(PublicKey::from_jwk(&jwk("").replace(from, to)), Err(error), "{to}");
        }
        for form in ["", "[]", "null", &format!(r#"["EC","P-256","{X}","{Y}"]"#), &format!("{} x", jwk(""))] {
            assert_eq!(PublicKey::from_jwk(form), Err(BadKey::Form), "{form}");
        }
        assert_eq!(PublicKey::from_sec1(&[0]), Err(BadKey::Point));
    }

    #[test]
    fn a_key_id_can_name_nothing_else() {
        assert!(KeyId::parse(THUMBPRINT).is_ok());
        let not_canonical = format!("{}J", &THUMBPRINT[..42]);
        for bad in ["", "../../key", "key-1", &THUMBPRINT[1..], &not_canonical, &format!("{THUMBPRINT}=")] {
            assert_eq!(KeyId::parse(bad), Err(BadKey::Kid), "{bad}");
        }
    }
}
