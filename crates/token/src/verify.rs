//! Believing a token: well formed, then signed, then meant for the one who asks and now.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Deserialize;

use crate::json::Object;
use crate::{Claims, EcVerifier, KeyId, MAX_LEEWAY, MAX_TOKEN, TokenError};

/// A token that is well formed. Nothing in it is to be believed, so nothing but the key's name can be read.
pub struct Parsed<'a> {
    input: &'a str,
    payload: &'a str,
    signature: [u8; 64],
    kid: KeyId,
}

/// Never shows the token.
impl fmt::Debug for Parsed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parsed(by {}, hidden)", self.kid)
    }
}

/// A token that the given key signed. That stays true: it may be kept, by the token's SHA-256, until its `exp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    claims: Claims,
    kid: KeyId,
}

/// What the one who asks demands.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    /// The issuer, exactly.
    pub issuer: &'a str,
    /// The audience, exactly.
    pub audience: &'a str,
    /// How far the clocks may be apart, in seconds; cut to [`MAX_LEEWAY`].
    pub leeway: u64,
}

/// The claims of a token that is good now for the one who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified(Claims);

/// Exactly these: an unknown member, `crit`, `jwk`, `jku`, `x5u` and `x5c` among them, is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

impl<'a> Parsed<'a> {
    /// Reads a compact JWS (RFC 7515 section 7.1).
    ///
    /// # Errors
    /// [`TokenError::TooLong`], [`TokenError::Form`], [`TokenError::Header`].
    pub fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let (input, signature) = token.rsplit_once('.').ok_or(TokenError::Form)?;
        let (header, payload) = input.split_once('.').ok_or(TokenError::Form)?;
        if payload.is_empty() || payload.contains('.') {
            return Err(TokenError::Form);
        }
        let mut bytes = [0u8; 64];
        match Base64UrlUnpadded::decode(signature, &mut bytes) {
            Ok(all) if all.len() == 64 => {}
            _ => return Err(TokenError::Form),
        }
        let header = decode(header)?;
        let Object::<Header>(header) = serde_json::from_slice(&header).map_err(|_| TokenError::Header)?;
        // RFC 9068 section 4: typ. RFC 8725 section 3.1: only the algorithm that is expected.
        if header.alg != "ES256" || header.typ != "at+jwt" {
            return Err(TokenError::Header);
        }
        Ok(Self { input, payload, signature: bytes, kid: KeyId::parse(&header.kid).map_err(|_| TokenError::Header)? })
    }

    /// The name of the key that is said to have signed it. Look it up among known keys, never elsewhere.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }

    /// Checks the signature with the key that has the name [`Parsed::kid`], and reads the claims.
    ///
    /// # Errors
    /// [`TokenError::Signature`], or claims that are not those of an access token.
    pub fn check_signature<V: EcVerifier + ?Sized>(self, key: &V) -> Result<Signed, TokenError> {
        if !key.verify(self.input.as_bytes(), &self.signature) {
            return Err(TokenError::Signature);
        }
        // Only now: what a stranger wrote is not worth parsing.
        let claims = Claims::from_json(&decode(self.payload)?)?;
        Ok(Signed { claims, kid: self.kid })
    }

    /// Checks the signature and then everything else, at `now` in Unix seconds.
    ///
    /// # Errors
    /// As [`Parsed::check_signature`] and [`Signed::verify`].
    pub fn verify<V: EcVerifier + ?Sized>(
        self,
        key: &V,
        expect: &Expect<'_>,
        now: u64,
    ) -> Result<Verified, TokenError> {
        self.check_signature(key)?.verify(expect, now)
    }
}

impl Signed {
    /// The claims, as they were signed: perhaps for somebody else, perhaps long ago.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The name of the key that signed it; standing of the key is for the caller to judge, each time.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }

    /// Checks issuer, audience and times, at `now` in Unix seconds.
    ///
    /// # Errors
    /// [`TokenError::Issuer`], [`TokenError::Audience`], [`TokenError::NotYet`], [`TokenError::Expired`].
    pub fn verify(&self, expect: &Expect<'_>, now: u64) -> Result<Verified, TokenError> {
        let claims = &self.claims;
        let leeway = expect.leeway.min(MAX_LEEWAY);
        if claims.issuer != expect.issuer {
            return Err(TokenError::Issuer);
        }
        if claims.audience != expect.audience {
            return Err(TokenError::Audience);
        }
        if claims.issued_at > now.saturating_add(leeway) {
            return Err(TokenError::NotYet);
        }
        // RFC 7519 section 4.1.4: not on or after.
        if now >= claims.expires_at.saturating_add(leeway) {
            return Err(TokenError::Expired);
        }
        Ok(Verified(claims.clone()))
    }
}

impl Verified {
    /// The claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.0
    }

    /// The claims, taken out.
    #[must_use]
    pub fn into_claims(self) -> Claims {
        self.0
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    Base64UrlUnpadded::decode_vec(part).map_err(|_| TokenError::Form)
}
