//! The public keys of an issuer outside (RFC 7517), each good for the algorithms of its own kind and for no other.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use sha2::{Digest as _, Sha256};

use super::value::{Value, object};
use super::{Algorithm, ForeignError};

/// The longest set of keys, in bytes.
pub const MAX_KEYS_TEXT: usize = 256 * 1024;
/// The most keys of one set.
const MAX_KEYS: usize = 128;
/// The longest name of a key, in bytes.
pub(super) const MAX_KID: usize = 512;
/// The lengths of an RSA modulus, in bytes: 2,048 to 8,192 bits.
const MODULUS: core::ops::RangeInclusive<usize> = 256..=1024;
/// RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1: what is secret of a key.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A public key as the bytes that a verifier takes.
#[derive(Clone, PartialEq, Eq)]
pub enum ForeignKey {
    /// A point of P-256, uncompressed (SEC 1 section 2.3.3). Not yet known to lie on the curve: the verifier sees to that.
    P256([u8; 65]),
    /// A point of P-384, in the same form.
    P384([u8; 97]),
    /// An RSA key of 2,048 to 8,192 bits: modulus and exponent, big-endian without leading zeros.
    Rsa(Vec<u8>, Vec<u8>),
    /// A point of Ed25519 (RFC 8037).
    Ed25519([u8; 32]),
}

impl fmt::Debug for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256(_) => "ForeignKey(P-256)",
            Self::P384(_) => "ForeignKey(P-384)",
            Self::Rsa(..) => "ForeignKey(RSA)",
            Self::Ed25519(_) => "ForeignKey(Ed25519)",
        })
    }
}

impl ForeignKey {
    /// SHA-256 of the key, of whichever kind.
    pub(super) fn digest(&self) -> [u8; 32] {
        let (kind, first, second): (u8, &[u8], &[u8]) = match self {
            Self::P256(point) => (1, point, &[]),
            Self::P384(point) => (2, point, &[]),
            Self::Rsa(n, e) => (3, n, e),
            Self::Ed25519(point) => (4, point, &[]),
        };
        let hash = Sha256::new().chain_update([kind]).chain_update((first.len() as u64).to_be_bytes());
        hash.chain_update(first).chain_update(second).finalize().into()
    }

    /// Whether the key may be asked about a signature of that algorithm.
    fn is_for(&self, algorithm: Algorithm) -> bool {
        matches!(
            (self, algorithm),
            (Self::P256(_), Algorithm::Es256)
                | (Self::P384(_), Algorithm::Es384)
                | (Self::Rsa(..), Algorithm::Rs256 | Algorithm::Ps256)
                | (Self::Ed25519(_), Algorithm::EdDsa)
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    kid: Option<String>,
    /// The one algorithm that the set allows for it, where it names one.
    only: Option<Algorithm>,
    key: ForeignKey,
}

/// The keys of a set that can be used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKeys(Vec<Named>);

impl ForeignKeys {
    /// Reads a JWK set. A key that is of another kind, for another use, or shown with its private part is left out: the set
    /// of an issuer may hold what is not for us.
    ///
    /// # Errors
    /// [`ForeignError::Keys`] when it is no JWK set, too long, or holds no key that can be used.
    pub fn parse(json: &[u8]) -> Result<Self, ForeignError> {
        if json.len() > MAX_KEYS_TEXT {
            return Err(ForeignError::Keys);
        }
        let mut set = object(json).ok_or(ForeignError::Keys)?;
        let Some(Value::List(keys)) = set.remove("keys") else {
            return Err(ForeignError::Keys);
        };
        if keys.len() > MAX_KEYS {
            return Err(ForeignError::Keys);
        }
        let usable: Vec<_> = keys.iter().filter_map(usable).collect();
        if usable.is_empty() { Err(ForeignError::Keys) } else { Ok(Self(usable)) }
    }

    /// The one key for a signature of that algorithm by the key of that name. Without a name: the only key of the set.
    pub(super) fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Option<&ForeignKey> {
        let Self(keys) = self;
        let mut named = keys.iter().filter(|named| match kid {
            Some(kid) => named.kid.as_deref() == Some(kid),
            None => keys.len() == 1,
        });
        // Two keys of one name: nobody can say which is meant, so neither.
        let (Some(one), None) = (named.next(), named.next()) else {
            return None;
        };
        let allowed = one.key.is_for(algorithm) && one.only.is_none_or(|only| only == algorithm);
        allowed.then_some(&one.key)
    }
}

fn usable(key: &Value) -> Option<Named> {
    let Value::Object(members) = key else {
        return None;
    };
    // A private key that everybody can read signs for everybody.
    if PRIVATE.iter().any(|name| members.contains_key(*name)) {
        return None;
    }
    if members.get("use").is_some_and(|purpose| *purpose != Value::Text("sig".into())) {
        return None;
    }
    if let Some(operations) = members.get("key_ops") {
        let Value::List(operations) = operations else { return None };
        if !operations.contains(&Value::Text("verify".into())) {
            return None;
        }
    }
    let only = match members.get("alg") {
        None => None,
        Some(Value::Text(alg)) => Some(Algorithm::parse(alg)?),
        Some(_) => return None,
    };
    let kid = match members.get("kid") {
        None => None,
        Some(Value::Text(kid)) if (1..=MAX_KID).contains(&kid.len()) => Some(kid.clone()),
        Some(_) => return None,
    };
    Some(Named { kid, only, key: material(members)? })
}

fn material(members: &BTreeMap<String, Value>) -> Option<ForeignKey> {
    let text = |name: &str| match members.get(name) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let bytes = |name: &str| Base64UrlUnpadded::decode_vec(text(name)?).ok();
    match (text("kty")?, text("crv")) {
        ("EC", Some("P-256")) => Some(ForeignKey::P256(point(&bytes("x")?, &bytes("y")?)?)),
        ("EC", Some("P-384")) => Some(ForeignKey::P384(point(&bytes("x")?, &bytes("y")?)?)),
        ("OKP", Some("Ed25519")) => Some(ForeignKey::Ed25519(bytes("x")?.try_into().ok()?)),
        ("RSA", _) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            // RFC 7518 section 6.3.1.1: no leading zeros; and an exponent that is odd, at least 3, and not absurdly long.
            let exponent = (1..=8).contains(&e.len()) && e[0] != 0 && e[e.len() - 1] & 1 == 1 && e != [1];
            let modulus = MODULUS.contains(&n.len()) && n[0] != 0;
            (exponent && modulus).then_some(ForeignKey::Rsa(n, e))
        }
        _ => None,
    }
}

/// 4, x, y; RFC 7518 section 6.2.1.2: both of full length.
fn point<const N: usize>(x: &[u8], y: &[u8]) -> Option<[u8; N]> {
    if x.len() != y.len() || 1 + 2 * x.len() != N {
        return None;
    }
    let mut point = [4; N];
    point[1..=x.len()].copy_from_slice(x);
    point[1 + x.len()..].copy_from_slice(y);
    Some(point)
}
