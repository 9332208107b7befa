//! Tokens of issuers outside (RFC 7519, RFC 8725): read strictly, checked with a key of theirs, and believed only now and here.
//!
//! The same steps as for our own, each a type: [`ForeignToken`] is well formed, [`ForeignSigned`] was signed by one of the
//! issuer's keys, [`ForeignVerified`] is meant for us, now. What is read before the signature serves to find out whose keys
//! to ask for, and nothing else.

mod facts;
mod keys;
mod value;

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use sha2::{Digest as _, Sha256};

use crate::MAX_LEEWAY;
pub(crate) use value::{Value, object};

pub use facts::{ClaimedFacts, TokenFact};
pub use keys::{ForeignKey, ForeignKeys, MAX_KEYS_TEXT};

/// The longest token of an issuer outside, in bytes.
pub const MAX_FOREIGN_TOKEN: usize = 16 * 1024;

/// The longest time from `iat` to `exp`, in seconds: a day.
pub const MAX_FOREIGN_LIFETIME: u64 = 24 * 3600;

/// An algorithm that is spoken here (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256; the signature is r and s of 32 bytes each.
    Es256,
    /// ECDSA on P-384 with SHA-384; r and s of 48 bytes each.
    Es384,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "ES256" => Some(Self::Es256),
            "ES384" => Some(Self::Es384),
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// Checks signatures by keys of any of the kinds.
pub trait ForeignVerifier {
    /// Whether `signature` is by `key` over `message`. The algorithm is one of the key's kind. A point that is not on its
    /// curve verifies nothing.
    fn verify(&self, algorithm: Algorithm, key: &ForeignKey, message: &[u8], signature: &[u8]) -> bool;
}

/// Why a token of an issuer outside is not believed. No variant holds any part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// Longer than [`MAX_FOREIGN_TOKEN`].
    #[error("the token is longer than 16,384 bytes")]
    TooLong,
    /// Not three parts of canonical, unpadded base64url.
    #[error("the token is not three parts of base64url joined by '.'")]
    Form,
    /// The header is no object, or carries what is refused.
    #[error("the token's header {0}")]
    Header(&'static str),
    /// `alg` is none that is spoken here.
    #[error("the token is not signed with ES256, ES384, RS256, PS256 or EdDSA")]
    Algorithm,
    /// No key of the issuer has that name and is for that algorithm.
    #[error("the issuer has no one key of the token's kid for the token's alg")]
    UnknownKey,
    /// The signature is not by the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// The payload is no object with each name once, or a claim is missing or of another type.
    #[error("the token's claim {0}")]
    Claim(&'static str),
    /// The payload is not JSON, or has a name twice.
    #[error("the token's claims are not a JSON object with each name once")]
    Claims,
    /// Another issuer.
    #[error("the token is another issuer's")]
    Issuer,
    /// Another audience, or several.
    #[error("the token is not meant for exactly one audience that is expected")]
    Audience,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its `nbf` or `iat` lies in the future.
    #[error("the token's nbf or iat lies in the future")]
    NotYet,
    /// It was made too long ago.
    #[error("the token was made too long ago")]
    TooOld,
    /// Its `exp` is not after its `iat`, or more than a day after it.
    #[error("the token's exp is not within 24 h after its iat")]
    Lifetime,
    /// What should be keys is no JWK set with a key that can be used.
    #[error("the issuer's keys are no JWK set with a signing key for ES256, ES384, RS256, PS256 or EdDSA")]
    Keys,
}

/// The claims of a token.
#[derive(Clone, PartialEq)]
struct Claims(BTreeMap<String, Value>);

/// A token that is well formed. Nothing in it is to be believed.
pub struct ForeignToken<'a> {
    input: &'a str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<String>,
    claims: Claims,
}

/// Never shows the token.
impl fmt::Debug for ForeignToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignToken({:?}, hidden)", self.algorithm)
    }
}

/// A token that one of the issuer's keys signed.
pub struct ForeignSigned {
    claims: Claims,
    digest: [u8; 32],
    key: [u8; 32],
}

/// Never shows the claims: they are about people.
impl fmt::Debug for ForeignSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForeignSigned(hidden)")
    }
}

/// What the one who asks demands.
#[derive(Clone, Copy, Debug)]
pub struct ForeignExpect<'a> {
    /// The issuer, byte for byte.
    pub issuer: &'a str,
    /// The audience is one of these, and alone.
    pub audiences: &'a [String],
    /// The longest time since `iat`, in seconds.
    pub max_age: u64,
    /// How far the clocks may be apart, in seconds; cut to [`MAX_LEEWAY`].
    pub leeway: u64,
}

/// A token that is good now for the one who asked.
#[derive(Clone, PartialEq)]
pub struct ForeignVerified {
    claims: Claims,
    issuer: String,
    audience: String,
    subject: String,
    token_id: Option<String>,
    issued_at: u64,
    expires_at: u64,
    digest: [u8; 32],
    key: [u8; 32],
}

/// Never shows the claims: they are about people.
impl fmt::Debug for ForeignVerified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignVerified(of {}, hidden)", self.issuer)
    }
}

/// RFC 7515 section 4.1: what brings its own keys, or would have to be understood.
const REFUSED: [&str; 9] = ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc", "cty"];

impl<'a> ForeignToken<'a> {
    /// Reads a compact JWS (RFC 7515 section 7.1) whose payload is a JSON object.
    ///
    /// # Errors
    /// [`ForeignError`] says what is wrong with its form, header or payload.
    pub fn parse(token: &'a str) -> Result<Self, ForeignError> {
        if token.len() > MAX_FOREIGN_TOKEN {
            return Err(ForeignError::TooLong);
        }
        let (input, signature) = token.rsplit_once('.').ok_or(ForeignError::Form)?;
        let (header, payload) = input.split_once('.').ok_or(ForeignError::Form)?;
        let decode = |part: &str| Base64UrlUnpadded::decode_vec(part).map_err(|_| ForeignError::Form);
        if header.is_empty() || payload.is_empty() || signature.is_empty() || payload.contains('.') {
            return Err(ForeignError::Form);
        }
        let header =
            object(&decode(header)?).ok_or(ForeignError::Header("is not a JSON object with each name once"))?;
        if REFUSED.iter().any(|name| header.contains_key(*name)) {
            let why = "carries crit, jwk, jku, x5u, x5c, b64, zip, enc or cty, which are refused";
            return Err(ForeignError::Header(why));
        }
        let algorithm = match header.get("alg") {
            Some(Value::Text(alg)) => Algorithm::parse(alg).ok_or(ForeignError::Algorithm)?,
            _ => return Err(ForeignError::Algorithm),
        };
        // RFC 8725 section 3.11: an access token, a logout token and the like say by their type that they are no identity.
        match header.get("typ") {
            None => {}
            Some(Value::Text(typ)) if typ.eq_ignore_ascii_case("JWT") => {}
            Some(_) => return Err(ForeignError::Header("has a typ other than JWT")),
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::Text(kid)) if (1..=keys::MAX_KID).contains(&kid.len()) => Some(kid.clone()),
            Some(_) => return Err(ForeignError::Header("has a kid that is no text of 1 to 512 bytes")),
        };
        let claims = Claims(object(&decode(payload)?).ok_or(ForeignError::Claims)?);
        Ok(Self { input, signature: decode(signature)?, algorithm, kid, claims })
    }

    /// Whose the token says it is: to find the keys to ask for, and for nothing else.
    ///
    /// # Errors
    /// When there is no such claim of 1 to 512 bytes.
    pub fn claimed_issuer(&self) -> Result<&str, ForeignError> {
        self.claims.issuer()
    }

    /// For whom the token says it is: to find the issuer's declaration, and for nothing else.
    ///
    /// # Errors
    /// When it says nobody, or several.
    pub fn claimed_audience(&self) -> Result<&str, ForeignError> {
        self.claims.audience()
    }

    /// Checks the signature with the key of the set that the header names.
    ///
    /// # Errors
    /// [`ForeignError::UnknownKey`], where newer keys may help, or [`ForeignError::Signature`].
    pub fn check_signature<V: ForeignVerifier + ?Sized>(
        &self,
        keys: &ForeignKeys,
        verifier: &V,
    ) -> Result<ForeignSigned, ForeignError> {
        let key = keys.find(self.algorithm, self.kid.as_deref()).ok_or(ForeignError::UnknownKey)?;
        let input = self.input.as_bytes();
        if !verifier.verify(self.algorithm, key, input, &self.signature) {
            return Err(ForeignError::Signature);
        }
        Ok(ForeignSigned { claims: self.claims.clone(), digest: Sha256::digest(input).into(), key: key.digest() })
    }
}

impl ForeignSigned {
    /// Checks issuer, audience and times, at `now` in Unix seconds.
    ///
    /// # Errors
    /// [`ForeignError`] says which of them it is.
    pub fn verify(self, expect: &ForeignExpect<'_>, now: u64) -> Result<ForeignVerified, ForeignError> {
        let claims = &self.claims;
        let leeway = expect.leeway.min(MAX_LEEWAY);
        let issuer = claims.issuer()?;
        if issuer != expect.issuer {
            return Err(ForeignError::Issuer);
        }
        let audience = claims.audience()?;
        if !expect.audiences.iter().any(|expected| expected == audience) {
            return Err(ForeignError::Audience);
        }
        let (issued_at, expires_at) = (claims.seconds("iat")?, claims.seconds("exp")?);
        let issued_at = issued_at.ok_or(ForeignError::Claim("iat is missing"))?;
        let expires_at = expires_at.ok_or(ForeignError::Claim("exp is missing"))?;
        let not_before = claims.seconds("nbf")?.unwrap_or(issued_at);
        if !matches!(expires_at.checked_sub(issued_at), Some(1..=MAX_FOREIGN_LIFETIME)) {
            return Err(ForeignError::Lifetime);
        }
        if issued_at.max(not_before) > now.saturating_add(leeway) {
            return Err(ForeignError::NotYet);
        }
        // RFC 7519 section 4.1.4: not on or after.
        if now >= expires_at.saturating_add(leeway) {
            return Err(ForeignError::Expired);
        }
        if now > issued_at.saturating_add(expect.max_age).saturating_add(leeway) {
            return Err(ForeignError::TooOld);
        }
        // A logout token is no identity, also where it does not say so by its type (OpenID Connect Back-Channel Logout 2.4).
        if claims.0.contains_key("events") {
            return Err(ForeignError::Claim("events says that it is no identity but an event"));
        }
        let subject = claims.plain("sub", 2048)?.ok_or(ForeignError::Claim("sub is missing"))?;
        Ok(ForeignVerified {
            issuer: issuer.into(),
            audience: audience.into(),
            subject: subject.into(),
            token_id: claims.plain("jti", 512)?.map(Into::into),
            issued_at,
            expires_at,
            digest: self.digest,
            key: self.key,
            claims: self.claims,
        })
    }
}

impl ForeignVerified {
    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `aud`.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// `sub`: 1 to 2,048 bytes without control characters.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// `jti`, where it has one.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// `iat`, in Unix seconds.
    #[must_use]
    pub fn issued_at(&self) -> u64 {
        self.issued_at
    }

    /// `exp`, in Unix seconds.
    #[must_use]
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }

    /// The claim at a path, names joined by `/`, as a text: texts, truth values and whole numbers have one.
    #[must_use]
    pub fn claim(&self, path: &str) -> Option<Cow<'_, str>> {
        self.claims.at(path)?.as_text()
    }

    /// The claim at a path as a list of texts: of a list those of its elements that are texts, of a text itself. `None` where
    /// there is no such claim, or it has more than `most` elements.
    #[must_use]
    pub fn texts(&self, path: &str, most: usize) -> Option<Vec<&str>> {
        match self.claims.at(path)? {
            Value::Text(one) => Some(alloc::vec![one]),
            Value::List(all) if all.len() <= most => Some(
                all.iter()
                    .filter_map(|one| match one {
                        Value::Text(text) => Some(text.as_str()),
                        _ => None,
                    })
                    .collect(),
            ),
            _ => None,
        }
    }

    /// When its subject signed in (`auth_time`, OpenID Connect Core 1.0 section 2), in Unix seconds, where it says so.
    #[must_use]
    pub fn signed_in_at(&self) -> Option<u64> {
        match self.claims.at("auth_time")? {
            // As far as the year 9999.
            Value::Unsigned(seconds @ 0..=253_402_300_799) => Some(*seconds),
            _ => None,
        }
    }

    /// What the token is known by where it may be used only once: of two tokens of one issuer that are not the same it
    /// differs. By its `jti`, else by what was signed and not by the signature, which its maker's key is not needed to change.
    /// And by the key: each namespace says itself whose keys speak for an issuer, and whoever gives out names under keys of
    /// his own uses up nobody else's.
    #[must_use]
    pub fn once(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(self.issuer.as_bytes());
        part(&self.key);
        match &self.token_id {
            Some(id) => {
                part(b"jti");
                part(id.as_bytes());
            }
            None => {
                part(b"digest");
                part(&self.digest);
            }
        }
        hash.finalize().into()
    }
}

impl Claims {
    fn at(&self, path: &str) -> Option<&Value> {
        let mut names = path.split('/');
        let mut found = self.0.get(names.next()?)?;
        for name in names {
            let Value::Object(members) = found else {
                return None;
            };
            found = members.get(name)?;
        }
        Some(found)
    }

    fn issuer(&self) -> Result<&str, ForeignError> {
        self.plain("iss", 512)?.ok_or(ForeignError::Claim("iss is missing"))
    }

    /// RFC 7519 section 4.1.3: one text, or a list of one.
    fn audience(&self) -> Result<&str, ForeignError> {
        match self.0.get("aud") {
            Some(Value::Text(one)) => Ok(one),
            Some(Value::List(all)) => match all.as_slice() {
                [Value::Text(one)] => Ok(one),
                _ => Err(ForeignError::Audience),
            },
            _ => Err(ForeignError::Audience),
        }
    }

    /// A text of 1 to `most` bytes without control characters.
    fn plain(&self, name: &'static str, most: usize) -> Result<Option<&str>, ForeignError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Text(text))
                if (1..=most).contains(&text.len()) && !text.chars().any(legate_ids::is_deceptive) =>
            {
                Ok(Some(text))
            }
            Some(_) => Err(ForeignError::Claim(match name {
                "iss" => "iss is no text of 1 to 512 bytes without control characters",
                "sub" => "sub is no text of 1 to 2,048 bytes without control characters",
                _ => "jti is no text of 1 to 512 bytes without control characters",
            })),
        }
    }

    /// A NumericDate (RFC 7519 section 2) in whole seconds. Fractions are refused: no issuer of note writes them.
    fn seconds(&self, name: &'static str) -> Result<Option<u64>, ForeignError> {
        match self.0.get(name) {
            None => Ok(None),
            // As far as the year 9999.
            Some(Value::Unsigned(seconds @ 0..=253_402_300_799)) => Ok(Some(*seconds)),
            Some(_) => Err(ForeignError::Claim(match name {
                "iat" => "iat is no time in whole seconds",
                "exp" => "exp is no time in whole seconds",
                _ => "nbf is no time in whole seconds",
            })),
        }
    }
}
