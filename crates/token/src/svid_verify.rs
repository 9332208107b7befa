//! JWT-SVIDs that somebody shows (JWT-SVID specification): read strictly, checked with a key of the trust domain, and believed only
//! now and by one audience.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_ids::{SpiffeId, TrustDomain};
use serde::Deserialize;

use crate::foreign::{Value, object};
use crate::json::{Object, present};
use crate::jws::Compact;
use crate::{EcVerifier, MAX_KEYS_TEXT, MAX_LEEWAY, MAX_TOKEN, PublicKey};

/// The most keys of one trust domain.
const MAX_KEYS: usize = 128;
/// The longest name of a key, in bytes.
const MAX_KID: usize = 512;
/// The most audiences of one token.
const MAX_AUDIENCES: usize = 64;
/// As far as the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// Why a JWT-SVID is not believed. No variant holds any part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSvid {
    /// Longer than [`MAX_TOKEN`].
    #[error("the JWT-SVID is longer than 8,192 bytes")]
    TooLong,
    /// Not three parts of canonical, unpadded base64url.
    #[error("the JWT-SVID is not three parts of base64url joined by '.'")]
    Form,
    /// The header is anything but `alg` ES256, `kid`, and perhaps `typ` JWT or JOSE.
    #[error("the JWT-SVID's header is not exactly alg ES256, a kid, and perhaps typ JWT or JOSE")]
    Header,
    /// The payload is no object, has a name twice, or a claim is missing or of another type.
    #[error("the JWT-SVID's claims are no object with sub, aud, iat and exp, each once and of its type")]
    Claims,
    /// The trust domain has no key of that name.
    #[error("the trust domain has no one key of the JWT-SVID's kid")]
    UnknownKey,
    /// The signature is not by the key.
    #[error("the JWT-SVID's signature is wrong")]
    Signature,
    /// `sub` is no SPIFFE ID of the trust domain.
    #[error("the JWT-SVID's sub is no SPIFFE ID of the trust domain")]
    Subject,
    /// The audience is not among those of the token.
    #[error("the JWT-SVID is not meant for the audience")]
    Audience,
    /// Its time is over.
    #[error("the JWT-SVID has expired")]
    Expired,
    /// Its `nbf` or `iat` lies in the future.
    #[error("the JWT-SVID's nbf or iat lies in the future")]
    NotYet,
}

/// The keys that verify JWT-SVIDs of one trust domain, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SvidKeys(Vec<(String, PublicKey)>);

impl SvidKeys {
    /// Reads a JWK set (SPIFFE Trust Domain and Bundle specification section 4). A key that is of another kind or for another use is
    /// left out.
    ///
    /// # Errors
    /// [`BadKeys`] when it is no JWK set, or too long.
    pub fn parse(json: &str) -> Result<Self, BadKeys> {
        if json.len() > MAX_KEYS_TEXT {
            return Err(BadKeys);
        }
        let mut set = object(json.as_bytes()).ok_or(BadKeys)?;
        match set.remove("keys") {
            Some(Value::List(keys)) if keys.len() <= MAX_KEYS => Ok(Self(keys.iter().filter_map(usable).collect())),
            _ => Err(BadKeys),
        }
    }

    /// The one key of that name. Two keys of one name: nobody can say which is meant, so neither.
    fn find(&self, kid: &str) -> Option<&PublicKey> {
        let mut named = self.0.iter().filter(|(name, _)| name == kid);
        match (named.next(), named.next()) {
            (Some((_, key)), None) => Some(key),
            _ => None,
        }
    }
}

/// What should be keys is no JWK set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the keys of the trust domain are no JWK set of 256 KiB and 128 keys at most")]
pub struct BadKeys;

fn usable(key: &Value) -> Option<(String, PublicKey)> {
    let Value::Object(members) = key else { return None };
    let text = |name: &str| match members.get(name) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let absent_or =
        |name: &str, these: &[&str]| !members.contains_key(name) || text(name).is_some_and(|t| these.contains(&t));
    // A private key that everybody can read signs for everybody.
    if members.contains_key("d") || !absent_or("use", &["sig", "jwt-svid"]) || !absent_or("alg", &["ES256"]) {
        return None;
    }
    let kid = text("kid").filter(|kid| (1..=MAX_KID).contains(&kid.len()))?;
    if text("kty") != Some("EC") || text("crv") != Some("P-256") {
        return None;
    }
    let mut point = [4u8; 65];
    for (name, at) in [("x", 1..33), ("y", 33..65)] {
        // RFC 7518 section 6.2.1.2: the full 32 octets, leading zeros too.
        if Base64UrlUnpadded::decode(text(name)?, &mut point[at]).ok()?.len() != 32 {
            return None;
        }
    }
    Some((kid.into(), PublicKey::from_sec1(&point).ok()?))
}

/// JWT-SVID specification section 2: no other member of the header. `crit`, `jwk`, `jku`, `x5u` and `x5c` are among what is unknown,
/// and so refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default, deserialize_with = "present")]
    typ: Option<String>,
}

/// A JWT-SVID that is well formed. Nothing in it is to be believed.
pub struct ReceivedSvid<'a> {
    jws: Compact<'a>,
    kid: String,
}

/// Never shows the token.
impl fmt::Debug for ReceivedSvid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceivedSvid(hidden)")
    }
}

/// A JWT-SVID that is good now for the one who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSvid {
    /// `sub`.
    pub spiffe_id: SpiffeId,
    /// `exp`, in Unix seconds.
    pub expires_at: u64,
    /// All of its claims: a JSON object with each name once.
    pub claims: Vec<u8>,
}

impl<'a> ReceivedSvid<'a> {
    /// Reads a JWT-SVID.
    ///
    /// # Errors
    /// [`BadSvid::TooLong`], [`BadSvid::Form`], [`BadSvid::Header`].
    pub fn parse(token: &'a str) -> Result<Self, BadSvid> {
        if token.len() > MAX_TOKEN {
            return Err(BadSvid::TooLong);
        }
        let jws = Compact::split(token).ok_or(BadSvid::Form)?;
        let Object::<Header>(header) = serde_json::from_slice(&jws.header).map_err(|_| BadSvid::Header)?;
        // RFC 8725 section 3.11: an access token says by its type that it is none of these.
        let typ = header.typ.as_deref().is_none_or(|typ| typ == "JWT" || typ == "JOSE");
        if header.alg != "ES256" || !typ || !(1..=MAX_KID).contains(&header.kid.len()) {
            return Err(BadSvid::Header);
        }
        Ok(Self { jws, kid: header.kid })
    }

    /// The trust domain of which its subject says that it is: to find the keys to ask for, and for nothing else.
    #[must_use]
    pub fn claimed_trust_domain(&self) -> Option<TrustDomain> {
        match object(&self.jws.payload()?)?.remove("sub")? {
            Value::Text(subject) => TrustDomain::parse(SpiffeId::parse(&subject).ok()?.trust_domain()).ok(),
            _ => None,
        }
    }

    /// Checks the signature with a key of the trust domain, and then everything else, at `now` in Unix seconds. `verifier` makes what
    /// checks with a key.
    ///
    /// # Errors
    /// [`BadSvid`] says what is wrong.
    pub fn verify<V: EcVerifier>(
        self,
        domain: &TrustDomain,
        keys: &SvidKeys,
        verifier: impl FnOnce(&PublicKey) -> V,
        audience: &str,
        now: u64,
    ) -> Result<VerifiedSvid, BadSvid> {
        let key = keys.find(&self.kid).ok_or(BadSvid::UnknownKey)?;
        if !verifier(key).verify(self.jws.input.as_bytes(), &self.jws.signature) {
            return Err(BadSvid::Signature);
        }
        // Only now: what a stranger wrote is not worth parsing.
        let payload = self.jws.payload().ok_or(BadSvid::Form)?;
        let claims = object(&payload).ok_or(BadSvid::Claims)?;
        let seconds = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(Value::Unsigned(seconds @ 0..=LAST_SECOND)) => Ok(Some(*seconds)),
            Some(_) => Err(BadSvid::Claims),
        };
        // JWT-SVID specification sections 3.1 to 3.3: sub, aud and exp are there; ours have iat too.
        let issued_at = seconds("iat")?.ok_or(BadSvid::Claims)?;
        let expires_at = seconds("exp")?.ok_or(BadSvid::Claims)?;
        let not_before = seconds("nbf")?.unwrap_or(issued_at);
        let Some(Value::Text(subject)) = claims.get("sub") else { return Err(BadSvid::Claims) };
        let spiffe_id = SpiffeId::parse(subject).map_err(|_| BadSvid::Subject)?;
        if spiffe_id.trust_domain() != domain.as_str() {
            return Err(BadSvid::Subject);
        }
        let is_meant = match claims.get("aud") {
            Some(Value::Text(one)) => one == audience,
            Some(Value::List(all)) if all.len() <= MAX_AUDIENCES => {
                if !all.iter().all(|one| matches!(one, Value::Text(_))) {
                    return Err(BadSvid::Claims);
                }
                all.iter().any(|one| matches!(one, Value::Text(one) if one == audience))
            }
            _ => return Err(BadSvid::Claims),
        };
        if !is_meant || audience.is_empty() {
            return Err(BadSvid::Audience);
        }
        if issued_at.max(not_before) > now.saturating_add(MAX_LEEWAY) {
            return Err(BadSvid::NotYet);
        }
        // RFC 7519 section 4.1.4: not on or after.
        if now >= expires_at.saturating_add(MAX_LEEWAY) {
            return Err(BadSvid::Expired);
        }
        Ok(VerifiedSvid { spiffe_id, expires_at, claims: payload })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{EcSigner as _, P256Signer, P256Verifier, jwk_set};
    use alloc::format;

    const NOW: u64 = 1_800_000_000;
    const GOOD: &str = r#"{"sub":"spiffe://dev.legate/ns/a/agent/x","aud":["b","a"],"iat":1799999990,"exp":1800000300,"iss":"https://i"}"#;

    fn signer(n: u8) -> P256Signer {
        P256Signer::from_scalar(&[n; 32]).unwrap()
    }

    fn signed(by: &P256Signer, header: &str, claims: &str) -> String {
        let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let input = format!("{}.{}", part(header), part(claims));
        let signature = by.sign(input.as_bytes()).unwrap();
        format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature))
    }

    fn header(by: &P256Signer) -> String {
        format!(r#"{{"alg":"ES256","kid":"{}","typ":"JWT"}}"#, by.public_key().kid())
    }

    fn check(token: &str, keys: &SvidKeys, audience: &str, now: u64) -> Result<VerifiedSvid, BadSvid> {
        let domain = TrustDomain::parse("dev.legate").unwrap();
        ReceivedSvid::parse(token)?.verify(&domain, keys, P256Verifier::new, audience, now)
    }

    fn keys(of: &[&P256Signer]) -> SvidKeys {
        SvidKeys::parse(&jwk_set(of.iter().map(|s| s.public_key()))).unwrap()
    }

    #[test]
    fn a_good_one_is_believed_by_each_of_its_audiences_while_it_lasts() {
        let by = signer(7);
        let (keys, token) = (keys(&[&signer(9), &by]), signed(&by, &header(&by), GOOD));
        for audience in ["a", "b"] {
            let verified = check(&token, &keys, audience, NOW).unwrap();
            assert_eq!(verified.spiffe_id.as_str(), "spiffe://dev.legate/ns/a/agent/x");
            assert_eq!((verified.expires_at, verified.claims), (NOW + 300, GOOD.as_bytes().to_vec()));
        }
        assert_eq!(check(&token, &keys, "c", NOW), Err(BadSvid::Audience));
        assert_eq!(check(&token, &keys, "", NOW), Err(BadSvid::Audience));
        assert_eq!(check(&token, &keys, "a", NOW + 305), Err(BadSvid::Expired));
        assert_eq!(check(&token, &keys, "a", NOW - 20), Err(BadSvid::NotYet));
        let other = self::keys(&[&signer(9)]);
        assert_eq!(check(&token, &other, "a", NOW), Err(BadSvid::UnknownKey));
        // The name of one key, the signature of another.
        let forged = signed(&signer(9), &header(&by), GOOD);
        assert_eq!(check(&forged, &keys, "a", NOW), Err(BadSvid::Signature));
    }

    #[test]
    fn what_is_no_svid_is_refused() {
        let by = signer(7);
        let keys = keys(&[&by]);
        let kid = by.public_key().kid();
        for bad in [
            format!(r#"{{"alg":"none","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"at+jwt"}}"#),
            format!(r#"{{"alg":"ES256","kid":"{kid}","crit":["exp"]}}"#),
            format!(r#"{{"alg":"ES256","kid":"{kid}","jku":"https://x"}}"#),
            format!(r#"{{"alg":"ES256","kid":"{kid}","kid":"{kid}"}}"#),
            format!(r#"["ES256","{kid}","JWT"]"#),
            r#"{"alg":"ES256"}"#.into(),
            r#"{"alg":"ES256","kid":""}"#.into(),
        ] {
            assert_eq!(check(&signed(&by, &bad, GOOD), &keys, "a", NOW), Err(BadSvid::Header), "{bad}");
        }
        for (from, to, error) in [
            ("spiffe://dev.legate", "spiffe://other", BadSvid::Subject),
            ("spiffe://dev.legate", "spiffe://DEV.legate", BadSvid::Subject),
            ("spiffe://dev.legate/ns/a/agent/x", "", BadSvid::Subject),
            (r#""sub":"spiffe://dev.legate/ns/a/agent/x","#, "", BadSvid::Claims),
            (r#""aud":["b","a"],"#, "", BadSvid::Claims),
            (r#"["b","a"]"#, r#"["a",1]"#, BadSvid::Claims),
            (r#"["b","a"]"#, r#"[]"#, BadSvid::Audience),
            (r#""iat":1799999990,"#, "", BadSvid::Claims),
            ("1800000300", r#""1800000300""#, BadSvid::Claims),
            ("1800000300", "1800000300.5", BadSvid::Claims),
            (r#""iss":"https://i""#, r#""sub":"spiffe://dev.legate/x""#, BadSvid::Claims),
            (r#""iss""#, r#""nbf":1800000100,"iss""#, BadSvid::NotYet),
        ] {
            let token = signed(&by, &header(&by), &GOOD.replace(from, to));
            assert_eq!(check(&token, &keys, "a", NOW), Err(error), "{from} -> {to}");
        }
        let token = signed(&by, &header(&by), GOOD);
        for bad in ["", "a.b", "a.b.c.d", &format!("{token}="), &token[..token.len() - 4]] {
            assert_eq!(check(bad, &keys, "a", NOW), Err(BadSvid::Form), "{bad}");
        }
        assert_eq!(check(&"a".repeat(MAX_TOKEN + 1), &keys, "a", NOW), Err(BadSvid::TooLong));
    }

    #[test]
    fn keys_for_something_else_are_left_out() {
        let by = signer(7);
        let jwk = by.public_key().to_jwk();
        let one = |jwk: &str| SvidKeys::parse(&format!(r#"{{"keys":[{jwk}]}}"#)).map(|keys| keys.0.len());
        assert_eq!(one(&jwk), Ok(1));
        assert_eq!(one(&jwk.replace(r#""sig""#, r#""jwt-svid""#)), Ok(1));
        for (from, to) in [
            (r#""sig""#, r#""x509-svid""#),
            ("ES256", "ES384"),
            ("P-256", "P-384"),
            (r#""use":"sig""#, r#""d":"AA""#),
            (r#""kid""#, r#""kit""#),
        ] {
            assert_eq!(one(&jwk.replace(from, to)), Ok(0), "{to}");
        }
        assert_eq!(SvidKeys::parse("{}"), Err(BadKeys));
        assert_eq!(SvidKeys::parse("[]"), Err(BadKeys));
        // Two keys of one name.
        let twice = SvidKeys::parse(&format!(r#"{{"keys":[{jwk},{jwk}]}}"#)).unwrap();
        assert_eq!(check(&signed(&by, &header(&by), GOOD), &twice, "a", NOW), Err(BadSvid::UnknownKey));
    }
}
