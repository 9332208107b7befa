//! Bundles of other trust domains (SPIFFE Trust Domain and Bundle section 4): read strictly, whole or not at all.

use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use legate_json::Names;
use legate_mtls::pki;
use serde_json::{Value, json};

/// The most keys of each use.
const MOST: usize = 64;
/// The longest name of a key, in bytes.
const MAX_KID: usize = 512;
/// Members that only private and secret keys have (RFC 7518 section 6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// How often a bundle is looked at again, whatever it says of it.
const REFRESH: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));

/// What verifies the SVIDs of another trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignBundle {
    /// CA certificates in DER.
    pub(crate) x509: Vec<Vec<u8>>,
    /// Keys of JWT-SVIDs, as a JWK Set in JSON.
    pub(crate) jwt: String,
    /// `spiffe_sequence`.
    pub(crate) sequence: Option<u64>,
    /// `spiffe_refresh_hint`, within bounds.
    pub(crate) refresh: Option<Duration>,
}

/// A text is no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no bundle: {0}")]
pub(crate) struct BadBundle(pub(crate) String);

impl ForeignBundle {
    /// Reads one. A key of another use is left out (section 4.2.2); one of a known use that cannot be one spoils the whole, since
    /// nobody knows what else is wrong.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, BadBundle> {
        let set = legate_json::object(text, Names::AsWritten).map_err(BadBundle)?;
        let bad = |why: &str| BadBundle(why.to_owned());
        let keys = set.get("keys").and_then(Value::as_array).ok_or_else(|| bad("there is no list `keys`"))?;
        let (mut x509, mut jwt) = (Vec::new(), Vec::new());
        for key in keys {
            let text = |name: &str| key.get(name).and_then(Value::as_str);
            if PRIVATE.iter().any(|name| key.get(name).is_some()) {
                return Err(bad("it holds a private key"));
            }
            match text("use") {
                Some("x509-svid") => x509.push(authority(key).ok_or_else(|| {
                    bad("a key for x509-svid has no x5c with one CA certificate (X509-SVID section 6)")
                })?),
                // Without a name nobody could say which is meant (JWT-SVID section 4).
                Some("jwt-svid") => match text("kid") {
                    Some(kid) if (1..=MAX_KID).contains(&kid.len()) && text("kty").is_some() => jwt.push(key.clone()),
                    _ => return Err(bad("a key for jwt-svid has no kid, or no kty")),
                },
                _ => {}
            }
        }
        if x509.len() > MOST || jwt.len() > MOST {
            return Err(bad("there are more than 64 keys of one use"));
        }
        if x509.is_empty() && jwt.is_empty() {
            return Err(bad("there is no key in it for SVIDs"));
        }
        let number = |name: &str| match set.get(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| BadBundle(format!("{name} is no whole number"))),
        };
        let refresh = number("spiffe_refresh_hint")?;
        Ok(Self {
            x509,
            jwt: json!({ "keys": jwt }).to_string(),
            sequence: number("spiffe_sequence")?,
            refresh: refresh.map(|secs| Duration::from_secs(secs).clamp(REFRESH.0, REFRESH.1)),
        })
    }

    /// Whether it says the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.x509 == other.x509 && self.jwt == other.jwt
    }

    /// How many bytes it takes to tell.
    pub(crate) fn len(&self) -> usize {
        self.jwt.len() + self.x509.iter().map(Vec::len).sum::<usize>()
    }
}

/// The one certificate of `x5c` (RFC 7517 section 4.7).
fn authority(key: &Value) -> Option<Vec<u8>> {
    let [one] = key.get("x5c")?.as_array()?.as_slice() else { return None };
    let der = Base64::decode_vec(one.as_str()?).ok()?;
    pki::is_ca(&der).then_some(der)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_clock::Timestamp;
    use legate_ids::SpiffeId;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    fn ca() -> pki::Ca {
        pki::Ca::generate("partner", now(), Duration::from_secs(3_600)).unwrap()
    }

    fn der(pem: &str) -> Vec<u8> {
        pki::certificates(pem).unwrap()[0].to_vec()
    }

    fn x509(der: &[u8]) -> Value {
        json!({ "use": "x509-svid", "kty": "EC", "x5c": [Base64::encode_string(der)] })
    }

    fn jwt() -> Value {
        json!({ "use": "jwt-svid", "kty": "EC", "crv": "P-256", "kid": "a", "x": "AA", "y": "AA" })
    }

    fn parse(keys: &[Value]) -> Result<ForeignBundle, BadBundle> {
        ForeignBundle::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn a_bundle_is_read_as_the_standard_has_it() {
        let ca = der(ca().cert_pem());
        let other = json!({ "use": "wit-svid", "kty": "EC" });
        let text = json!({ "keys": [x509(&ca), other, jwt()], "spiffe_sequence": 7, "spiffe_refresh_hint": 5 });
        let read = ForeignBundle::parse(text.to_string().as_bytes()).unwrap();
        assert_eq!((read.x509, read.sequence, read.refresh), (vec![ca], Some(7), Some(Duration::from_secs(60))));
        assert_eq!(serde_json::from_str::<Value>(&read.jwt).unwrap(), json!({ "keys": [jwt()] }));
    }

    #[test]
    fn what_is_wrong_in_it_spoils_it() {
        let ca = ca();
        let id = SpiffeId::parse("spiffe://partner.example/x").unwrap();
        let leaf = pki::Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: Duration::from_secs(60) };
        let leaf = der(&ca.issue(&leaf, now()).unwrap().cert_pem);
        let ca = der(ca.cert_pem());
        let changed = |mut key: Value, name: &str, to: Value| {
            key[name] = to;
            key
        };
        parse(&[x509(&ca)]).unwrap();
        parse(&[jwt()]).unwrap();
        for bad in [
            vec![],
            vec![json!({ "use": "wit-svid" })],
            vec![x509(&leaf)],
            vec![x509(b"x")],
            vec![changed(x509(&ca), "x5c", json!([]))],
            vec![changed(x509(&ca), "x5c", json!([Base64::encode_string(&ca), Base64::encode_string(&ca)]))],
            vec![x509(&ca), changed(jwt(), "kid", json!(""))],
            vec![x509(&ca), changed(jwt(), "kid", Value::Null)],
            vec![x509(&ca), changed(jwt(), "d", json!("AA"))],
            vec![x509(&ca), changed(json!({}), "k", json!("AA"))],
            vec![jwt(); 65],
        ] {
            parse(&bad).unwrap_err();
        }
        for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            ForeignBundle::parse(bad.as_bytes()).unwrap_err();
        }
        for bad in [json!(-1), json!("7"), json!(1.5)] {
            let text = json!({ "keys": [jwt()], "spiffe_sequence": bad });
            ForeignBundle::parse(text.to_string().as_bytes()).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_reader_panic(text in "[ -~]{0,200}") {
            let _any = ForeignBundle::parse(text.as_bytes());
        }
    }
}
