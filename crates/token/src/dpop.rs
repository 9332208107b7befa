//! DPoP proofs (RFC 9449 section 4): a client proves with each request that it holds the key its token is bound to.

use alloc::string::String;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Deserialize;

use crate::json::{Object, present};
use crate::jws::Compact;
use crate::key::Jwk;
use crate::{BadProof, EcVerifier, MAX_LEEWAY, MAX_TOKEN, PublicKey};

/// How old a proof may be, in seconds; as long, and a little longer, its `jti` is kept.
pub const MAX_PROOF_AGE: u64 = 60;

/// A proof whose signature is by the key that it carries. It counts once, for one request: see that nobody has shown its
/// name with this key before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpopProof {
    key: PublicKey,
    claims: In,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    #[serde(borrow)]
    alg: &'a str,
    #[serde(borrow)]
    typ: &'a str,
    #[serde(borrow)]
    jwk: Object<Jwk<'a>>,
}

/// What is known is there once and of its type; more may be there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct In {
    jti: String,
    htm: String,
    htu: String,
    iat: u64,
    #[serde(default, deserialize_with = "present")]
    ath: Option<String>,
    #[serde(default, deserialize_with = "present")]
    nonce: Option<String>,
}

/// What the request is for which the proof is to hold.
#[derive(Clone, Copy, Debug)]
pub struct ExpectProof<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its URL, without query and fragment.
    pub url: &'a str,
    /// SHA-256 of the access token that comes with it, where one does.
    pub access_token: Option<&'a [u8; 32]>,
}

impl DpopProof {
    /// Reads a proof and checks its signature by its own key, for which `verifier` makes a verifier.
    ///
    /// # Errors
    /// [`BadProof`] says what is wrong.
    pub fn read<V: EcVerifier>(text: &str, verifier: impl FnOnce(&PublicKey) -> V) -> Result<Self, BadProof> {
        if text.len() > MAX_TOKEN {
            return Err(BadProof::TooLong);
        }
        let jws = Compact::split(text).ok_or(BadProof::Form)?;
        let Object::<Header<'_>>(header) = serde_json::from_slice(&jws.header).map_err(|_| BadProof::Header)?;
        if header.alg != "ES256" || header.typ != "dpop+jwt" {
            return Err(BadProof::Header);
        }
        let key = PublicKey::from_members(&header.jwk.0).map_err(|_| BadProof::Header)?;
        if !verifier(&key).verify(jws.input.as_bytes(), &jws.signature) {
            return Err(BadProof::Signature);
        }
        let payload = jws.payload().ok_or(BadProof::Form)?;
        let Object::<In>(claims) = serde_json::from_slice(&payload).map_err(|_| BadProof::Claims)?;
        let is_word = |text: &str| (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_word(&claims.jti) {
            return Err(BadProof::Claims);
        }
        Ok(Self { key, claims })
    }

    /// Checks that it is for this request and fresh, at `now` in Unix seconds.
    ///
    /// # Errors
    /// [`BadProof`] says what is wrong.
    pub fn verify(&self, expect: &ExpectProof<'_>, now: u64) -> Result<(), BadProof> {
        let claims = &self.claims;
        if claims.htm != expect.method {
            return Err(BadProof::Method);
        }
        if !is_same_url(&claims.htu, expect.url) {
            return Err(BadProof::Url);
        }
        if claims.iat > now.saturating_add(MAX_LEEWAY) {
            return Err(BadProof::NotYet);
        }
        if now > claims.iat.saturating_add(MAX_PROOF_AGE) {
            return Err(BadProof::Expired);
        }
        if let Some(hash) = expect.access_token
            && claims.ath.as_deref() != Some(Base64UrlUnpadded::encode_string(hash).as_str())
        {
            return Err(BadProof::AccessToken);
        }
        Ok(())
    }

    /// The key that signed it.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// `jti`.
    #[must_use]
    pub fn token_id(&self) -> &str {
        &self.claims.jti
    }

    /// `nonce`, where it has one.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.claims.nonce.as_deref()
    }

    /// The last second in which it could still be shown.
    #[must_use]
    pub fn usable_until(&self) -> u64 {
        self.claims.iat.saturating_add(MAX_PROOF_AGE)
    }
}

/// RFC 9449 section 4.3: query and fragment do not count, nor how scheme and host are written (RFC 3986 section 6.2.2).
fn is_same_url(shown: &str, ours: &str) -> bool {
    let parts = |url| {
        let (scheme, rest) = str::split_once(url, "://")?;
        let rest = rest.split(['?', '#']).next().unwrap_or(rest);
        let at = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(at);
        Some((scheme, host.strip_suffix(":443").unwrap_or(host), if path.is_empty() { "/" } else { path }))
    };
    match (parts(shown), parts(ours)) {
        (Some(a), Some(b)) => a.0.eq_ignore_ascii_case(b.0) && a.1.eq_ignore_ascii_case(b.1) && a.2 == b.2,
        _ => false,
    }
}
