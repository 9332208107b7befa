//! Client assertions (RFC 7523 section 2.2): a client proves at the token endpoint that it holds a registered key.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;

use crate::json::{Object, present};
use crate::jws::Compact;
use crate::{BadProof, EcVerifier, KeyId, MAX_LEEWAY, MAX_TOKEN};

/// The longest life of an assertion, in seconds: as long its `jti` is kept.
pub const MAX_ASSERTION_LIFETIME: u64 = 300;

/// An assertion that is well formed. Nothing in it is to be believed; the client's name is read so that its keys can be
/// looked up.
pub struct Assertion<'a> {
    jws: Compact<'a>,
    kid: Option<KeyId>,
    claims: In,
}

/// Never shows the assertion.
impl fmt::Debug for Assertion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assertion(of {:?}, hidden)", self.claims.sub)
    }
}

/// An assertion that a key of the client signed. What it says is still to be checked.
pub struct SignedAssertion(In);

/// Never shows the assertion.
impl fmt::Debug for SignedAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedAssertion(of {:?}, hidden)", self.0.sub)
    }
}

/// Who the client is, by an assertion that holds. It counts only once: see that nobody has shown the name before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenClient {
    /// `sub`, and `iss`: the client.
    pub client: String,
    /// `jti`.
    pub token_id: String,
    /// `exp` in Unix seconds.
    pub expires_at: u64,
}

/// `crit`, `jwk`, `jku`, `x5u` and `x5c` are among what is unknown, and so refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
}

/// Ordinary clients say more than is asked for; what is known is there once and of its type.
#[derive(Deserialize)]
struct In {
    iss: String,
    sub: String,
    aud: Audience,
    jti: String,
    exp: u64,
    #[serde(default, deserialize_with = "present")]
    iat: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl<'a> Assertion<'a> {
    /// Reads an assertion.
    ///
    /// # Errors
    /// [`BadProof`] for what has not the form of one.
    pub fn parse(text: &'a str) -> Result<Self, BadProof> {
        if text.len() > MAX_TOKEN {
            return Err(BadProof::TooLong);
        }
        let jws = Compact::split(text).ok_or(BadProof::Form)?;
        let Object::<Header>(header) = serde_json::from_slice(&jws.header).map_err(|_| BadProof::Header)?;
        // RFC 8725 section 3.11: nothing that is typed as another kind of token.
        let is_typed = |typ: &str| typ.eq_ignore_ascii_case("JWT") || typ == "client-authentication+jwt";
        if header.alg != "ES256" || !header.typ.as_deref().is_none_or(is_typed) {
            return Err(BadProof::Header);
        }
        let kid = header.kid.map(|kid| KeyId::parse(&kid)).transpose().map_err(|_| BadProof::Header)?;
        let payload = jws.payload().ok_or(BadProof::Form)?;
        let Object::<In>(claims) = serde_json::from_slice(&payload).map_err(|_| BadProof::Claims)?;
        let is_word = |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_word(&claims.sub, 128) || !is_word(&claims.jti, 256) {
            return Err(BadProof::Claims);
        }
        Ok(Self { jws, kid, claims })
    }

    /// The client that it is said to be of.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.claims.sub
    }

    /// The key that is said to have signed it, where it says so.
    #[must_use]
    pub fn kid(&self) -> Option<&KeyId> {
        self.kid.as_ref()
    }

    /// How its name is known where it is noted that it was shown: see [`ProvenClient::token_id`].
    #[must_use]
    pub fn token_id(&self) -> &str {
        &self.claims.jti
    }

    /// The first of some keys that signed it, and what it says, which is one of the client's words from here on.
    ///
    /// # Errors
    /// The assertion as it is where none of them did, for others to be tried.
    pub fn signed_by_one<K, V: EcVerifier>(
        self,
        keys: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(K, SignedAssertion), Box<Self>> {
        let is_by = |key: &V| key.verify(self.jws.input.as_bytes(), &self.jws.signature);
        match keys.into_iter().find(|(_, key)| is_by(key)) {
            Some((key, _)) => Ok((key, SignedAssertion(self.claims))),
            None => Err(Box::new(self)),
        }
    }
}

impl SignedAssertion {
    /// Checks everything that it says, at `now` in Unix seconds; `issuer` is ours.
    ///
    /// # Errors
    /// [`BadProof`] says what is wrong.
    pub fn verify(self, issuer: &str, now: u64) -> Result<ProvenClient, BadProof> {
        let claims = self.0;
        if claims.iss != claims.sub {
            return Err(BadProof::Client);
        }
        // draft-ietf-oauth-rfc7523bis: the issuer is the only audience, and the URL of the token endpoint is none.
        let is_ours = match &claims.aud {
            Audience::One(one) => one == issuer,
            Audience::Several(all) => matches!(all.as_slice(), [one] if one == issuer),
        };
        if !is_ours {
            return Err(BadProof::Audience);
        }
        if now >= claims.exp.saturating_add(MAX_LEEWAY) {
            return Err(BadProof::Expired);
        }
        if [claims.iat, claims.nbf].into_iter().flatten().any(|from| from > now.saturating_add(MAX_LEEWAY)) {
            return Err(BadProof::NotYet);
        }
        let begins = claims.iat.unwrap_or(now).min(now);
        if claims.exp > begins.saturating_add(MAX_ASSERTION_LIFETIME + MAX_LEEWAY) {
            return Err(BadProof::Lifetime);
        }
        Ok(ProvenClient { client: claims.sub, token_id: claims.jti, expires_at: claims.exp })
    }
}
