//! Making a token: what is to be signed, and then the signature, as two steps, since the first is recorded before the second.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_ids::SpiffeId;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::claims::{printable, word};
use crate::{BadClaims, Claims, EcSigner, KeyId, MAX_LIFETIME, MAX_TOKEN, TokenError};

/// The most audiences of one JWT-SVID.
const MAX_AUDIENCES: usize = 8;
/// The longest `iss` of one: an issuer's URL and what stands for workloads behind it.
const MAX_ISSUER: usize = 544;

/// A token without its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    kid: KeyId,
    input: String,
}

impl Unsigned {
    /// What the key named `kid` is to sign for `claims`.
    ///
    /// # Errors
    /// A claim out of its range, or a token that would be too long.
    pub fn new(claims: &Claims, kid: KeyId) -> Result<Self, TokenError> {
        claims.check()?;
        // RFC 9068 section 2.1.
        Self::of("at+jwt", &claims.to_json()?, kid)
    }

    /// What the key named `kid` is to sign for a JWT-SVID.
    ///
    /// # Errors
    /// As [`Unsigned::new`].
    pub fn svid(claims: &SvidToSign, kid: KeyId) -> Result<Self, TokenError> {
        claims.check()?;
        // JWT-SVID specification section 2: alg, kid and typ, and nothing else. The type is not that of an access token, so that
        // whoever takes those refuses it by its header.
        Self::of("JWT", &serde_json::to_vec(claims).map_err(|_| TokenError::Claims)?, kid)
    }

    fn of(typ: &str, payload: &[u8], kid: KeyId) -> Result<Self, TokenError> {
        let header = format!(r#"{{"alg":"ES256","typ":"{typ}","kid":"{kid}"}}"#);
        let input = format!(
            "{}.{}",
            Base64UrlUnpadded::encode_string(header.as_bytes()),
            Base64UrlUnpadded::encode_string(payload)
        );
        // A '.' and 64 bytes of signature are still to come.
        if input.len() + 1 + 86 > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        Ok(Self { kid, input })
    }

    /// SHA-256 of what is to be signed, for the record.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.input.as_bytes()).into()
    }

    /// What is to be signed, for a key that lives elsewhere.
    #[must_use]
    pub fn input(&self) -> &[u8] {
        self.input.as_bytes()
    }

    /// The name of the key that is to sign.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }

    /// The token, from a signature over [`Unsigned::input`] as r and s of 32 bytes each.
    #[must_use]
    pub fn with_signature(self, signature: &[u8; 64]) -> String {
        let mut token = self.input;
        token.push('.');
        token.push_str(&Base64UrlUnpadded::encode_string(signature));
        token
    }

    /// The token.
    ///
    /// # Errors
    /// [`TokenError::Key`] when `signer` holds another key than the one named, [`TokenError::Signing`] when it fails.
    pub fn sign<S: EcSigner + ?Sized>(self, signer: &S) -> Result<String, TokenError> {
        if signer.public_key().kid() != self.kid {
            return Err(TokenError::Key);
        }
        let signature = signer.sign(self.input()).map_err(|_| TokenError::Signing)?;
        Ok(self.with_signature(&signature))
    }
}

/// What a JWT-SVID says of a workload (JWT-SVID specification section 3), to be signed. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SvidToSign {
    /// `iss`: who made it; 1 to 544 printable ASCII characters.
    #[serde(rename = "iss")]
    pub issuer: String,
    /// `sub`: who the workload is.
    #[serde(rename = "sub", serialize_with = "spiffe_id")]
    pub subject: SpiffeId,
    /// `aud`: for whom it is; 1 to 8, each once, of 1 to 512 printable ASCII characters. Always written as a list.
    #[serde(rename = "aud")]
    pub audiences: Vec<String>,
    /// `iat`: when it was made.
    #[serde(rename = "iat")]
    pub issued_at: u64,
    /// `exp`: when it ends; at most [`MAX_LIFETIME`] after `iat`.
    #[serde(rename = "exp")]
    pub expires_at: u64,
    /// `jti`: its own name; 16 to 64 of `A-Z a-z 0-9 _ -`.
    #[serde(rename = "jti")]
    pub token_id: String,
}

fn spiffe_id<S: serde::Serializer>(id: &SpiffeId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(id.as_str())
}

impl SvidToSign {
    /// Whether no value is out of its range.
    ///
    /// # Errors
    /// The first bad claim.
    pub fn check(&self) -> Result<(), TokenError> {
        printable("iss", &self.issuer, MAX_ISSUER)?;
        if !(1..=MAX_AUDIENCES).contains(&self.audiences.len()) {
            return Err(BadClaims { claim: "aud", why: "names nobody, or more than 8" }.into());
        }
        for (n, audience) in self.audiences.iter().enumerate() {
            printable("aud", audience, 512)?;
            if self.audiences[..n].contains(audience) {
                return Err(BadClaims { claim: "aud", why: "names somebody twice" }.into());
            }
        }
        word("jti", &self.token_id, 16..=64)?;
        match self.expires_at.checked_sub(self.issued_at) {
            Some(1..=MAX_LIFETIME) => Ok(()),
            _ => Err(TokenError::Lifetime),
        }
    }
}

/// Makes a token in one step.
///
/// # Errors
/// As [`Unsigned::new`] and [`Unsigned::sign`].
pub fn mint<S: EcSigner + ?Sized>(claims: &Claims, signer: &S) -> Result<String, TokenError> {
    Unsigned::new(claims, signer.public_key().kid())?.sign(signer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use alloc::vec;

    use super::*;
    use crate::Parsed;

    fn svid() -> SvidToSign {
        SvidToSign {
            issuer: "https://issuer.example/workload".into(),
            subject: SpiffeId::parse("spiffe://example.org/ns/pay/agent/agt_01h455vb4pex5vsknk084sn02q").unwrap(),
            audiences: vec!["https://llm.example".into()],
            issued_at: 1_900_000_000,
            expires_at: 1_900_000_300,
            token_id: "0123456789abcdef".into(),
        }
    }

    fn unsigned(of: &SvidToSign) -> Result<Unsigned, TokenError> {
        Unsigned::svid(of, KeyId::parse("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I").unwrap())
    }

    #[test]
    fn a_jwt_svid_says_what_the_specification_asks_and_nothing_else() {
        let text = String::from_utf8(unsigned(&svid()).unwrap().input().to_vec()).unwrap();
        let (header, payload) = text.split_once('.').unwrap();
        let read = |part: &str| String::from_utf8(Base64UrlUnpadded::decode_vec(part).unwrap()).unwrap();
        assert_eq!(read(header), r#"{"alg":"ES256","typ":"JWT","kid":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}"#);
        assert_eq!(
            read(payload),
            r#"{"iss":"https://issuer.example/workload","sub":"spiffe://example.org/ns/pay/agent/agt_01h455vb4pex5vsknk084sn02q","aud":["https://llm.example"],"iat":1900000000,"exp":1900000300,"jti":"0123456789abcdef"}"#
        );
    }

    #[test]
    fn a_jwt_svid_is_no_access_token() {
        let token = unsigned(&svid()).unwrap().with_signature(&[7; 64]);
        assert_eq!(Parsed::parse(&token).map(drop), Err(TokenError::Header));
    }

    #[test]
    fn what_is_out_of_range_is_not_signed() {
        let with = |change: fn(&mut SvidToSign)| {
            let mut of = svid();
            change(&mut of);
            unsigned(&of)
        };
        with(|of| of.audiences = (0..8).map(|n| format!("a{n}")).collect()).unwrap();
        for bad in [
            (|of| of.audiences.clear()) as fn(&mut SvidToSign),
            |of| of.audiences = (0..9).map(|n| format!("a{n}")).collect(),
            |of| of.audiences = vec!["a".into(), "a".into()],
            |of| of.audiences = vec!["a b".into()],
            |of| of.audiences = vec![String::new()],
            |of| of.audiences = vec!["x".repeat(513)],
            |of| of.issuer.clear(),
            |of| of.expires_at = of.issued_at,
            |of| of.expires_at = of.issued_at + MAX_LIFETIME + 1,
            |of| of.token_id = "short".into(),
        ] {
            assert!(with(bad).is_err());
        }
    }
}
