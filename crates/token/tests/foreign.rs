//! Tokens of issuers outside: those that are believed, of every kind of key, and those that must not be, each for its own reason.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING,
    ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_token::{
    Algorithm, ForeignError, ForeignExpect, ForeignKey, ForeignKeys, ForeignToken, ForeignVerified, ForeignVerifier,
    MAX_FOREIGN_TOKEN,
};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://token.actions.example";
static AUDIENCES: LazyLock<Vec<String>> = LazyLock::new(|| vec!["legate".into(), "https://legate.example".into()]);

struct AwsLc;

impl ForeignVerifier for AwsLc {
    fn verify(&self, algorithm: Algorithm, key: &ForeignKey, message: &[u8], signature: &[u8]) -> bool {
        let fixed = |algorithm, key: &[u8]| UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok();
        match (algorithm, key) {
            (Algorithm::Es256, ForeignKey::P256(point)) => fixed(&ECDSA_P256_SHA256_FIXED, point),
            (Algorithm::Es384, ForeignKey::P384(point)) => fixed(&ECDSA_P384_SHA384_FIXED, point),
            (Algorithm::EdDsa, ForeignKey::Ed25519(point)) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature).is_ok()
            }
            (Algorithm::Rs256, ForeignKey::Rsa(n, e)) => {
                PublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            (Algorithm::Ps256, ForeignKey::Rsa(n, e)) => {
                PublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature).is_ok()
            }
            // The token crate promises that the algorithm is one of the key's kind.
            (algorithm, key) => panic!("{algorithm:?} was asked of {key:?}"),
        }
    }
}

struct Issuer {
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    rsa: RsaKeyPair,
}

static KEYS: LazyLock<Issuer> = LazyLock::new(|| Issuer {
    p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
    ed25519: Ed25519KeyPair::generate().unwrap(),
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
});

fn b64(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(bytes.as_ref())
}

fn sign(alg: &str, input: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let rsa = |padding| {
        let mut signature = vec![0; KEYS.rsa.public_modulus_len()];
        KEYS.rsa.sign(padding, &random, input, &mut signature).unwrap();
        signature
    };
    match alg {
        "ES384" => KEYS.p384.sign(&random, input).unwrap().as_ref().to_vec(),
        "EdDSA" => KEYS.ed25519.sign(input).as_ref().to_vec(),
        "RS256" => rsa(&RSA_PKCS1_SHA256),
        "PS256" => rsa(&RSA_PSS_SHA256),
        _ => KEYS.p256.sign(&random, input).unwrap().as_ref().to_vec(),
    }
}

/// Any header and payload, signed as `alg` says: what is refused then is refused for its content.
fn signed(alg: &str, header: &str, payload: &str) -> String {
    let input = format!("{}.{}", b64(header), b64(payload));
    let signature = sign(alg, input.as_bytes());
    format!("{input}.{}", b64(signature))
}

fn ec(crv: &str, key: &EcdsaKeyPair, kid: &str, more: &str) -> String {
    let point = key.public_key().as_ref();
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    format!(r#"{{"kty":"EC","crv":"{crv}","x":"{}","y":"{}","kid":"{kid}"{more}}}"#, b64(x), b64(y))
}

fn rsa(kid: &str, more: &str) -> String {
    let key = KEYS.rsa.public_key();
    let (n, e) = (key.modulus().big_endian_without_leading_zero(), key.exponent().big_endian_without_leading_zero());
    format!(r#"{{"kty":"RSA","n":"{}","e":"{}","kid":"{kid}"{more}}}"#, b64(n), b64(e))
}

fn ed25519(kid: &str) -> String {
    let x = b64(KEYS.ed25519.public_key().as_ref());
    format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","kid":"{kid}"}}"#)
}

/// Every key under its kind's name, among what real sets hold too.
fn set() -> String {
    let p256 = ec("P-256", &KEYS.p256, "p256", r#","use":"sig","alg":"ES256","x5c":["AA"]"#);
    let p384 = ec("P-384", &KEYS.p384, "p384", r#","key_ops":["verify"]"#);
    let encryption = rsa("enc", r#","use":"enc","alg":"RSA-OAEP""#);
    let keys = [p256, p384, ed25519("ed"), rsa("rsa", ""), encryption, r#"{"kty":"oct","k":"AAAA","kid":"p"}"#.into()];
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

fn payload(more: &str) -> String {
    let exp = NOW + 300;
    format!(
        r#"{{"iss":"{ISSUER}","aud":"legate","sub":"repo:pay/bot:ref:refs/heads/main","iat":{NOW},"nbf":{NOW},"exp":{exp},"jti":"1-2"{more}}}"#
    )
}

fn header(alg: &str, kid: &str) -> String {
    format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"{kid}","x5t":"AA"}}"#)
}

fn good(payload: &str) -> String {
    signed("ES256", &header("ES256", "p256"), payload)
}

fn verify_with(set: &str, token: &str, now: u64) -> Result<ForeignVerified, ForeignError> {
    let expect = ForeignExpect { issuer: ISSUER, audiences: &AUDIENCES, max_age: 3_600, leeway: 60 };
    let keys = ForeignKeys::parse(set.as_bytes())?;
    ForeignToken::parse(token)?.check_signature(&keys, &AwsLc)?.verify(&expect, now)
}

fn verify(token: &str) -> Result<ForeignVerified, ForeignError> {
    verify_with(&set(), token, NOW)
}

#[test]
fn a_token_of_every_kind_of_key_is_believed() {
    for (alg, kid) in [("ES256", "p256"), ("ES384", "p384"), ("EdDSA", "ed"), ("RS256", "rsa"), ("PS256", "rsa")] {
        let verified = verify(&signed(alg, &header(alg, kid), &payload(""))).unwrap();
        assert_eq!((verified.issuer(), verified.audience()), (ISSUER, "legate"), "{alg}");
        assert_eq!((verified.issued_at(), verified.expires_at(), verified.token_id()), (NOW, NOW + 300, Some("1-2")));
        let shown = format!("{verified:?}");
        assert!(!shown.contains("repo:"), "{shown}");
    }
    // Without typ and with a list of one audience, as Kubernetes writes them; without nbf and jti.
    let plain = payload("").replace(r#""legate""#, r#"["https://legate.example"]"#).replace(r#","jti":"1-2""#, "");
    let verified = verify(&signed("RS256", r#"{"alg":"RS256","kid":"rsa"}"#, &plain)).unwrap();
    assert_eq!((verified.audience(), verified.token_id()), ("https://legate.example", None));
    // Without a kid, where the set has one key only.
    let alone = format!(r#"{{"keys":[{}]}}"#, ed25519("any"));
    let token = signed("EdDSA", r#"{"alg":"EdDSA"}"#, &payload(""));
    verify_with(&alone, &token, NOW).unwrap();
    assert_eq!(verify(&token), Err(ForeignError::UnknownKey));
}

#[test]
fn an_algorithm_is_the_keys_own() {
    // The claimed algorithm, how it was signed, the key that is named.
    for (claimed, by, kid, error) in [
        ("ES384", "ES256", "p256", ForeignError::UnknownKey),
        ("ES256", "ES384", "p384", ForeignError::UnknownKey),
        ("RS256", "ES256", "p256", ForeignError::UnknownKey),
        ("EdDSA", "ES256", "p256", ForeignError::UnknownKey),
        ("ES256", "ES256", "rsa", ForeignError::UnknownKey),
        ("ES256", "ES256", "enc", ForeignError::UnknownKey),
        ("RS256", "RS256", "enc", ForeignError::UnknownKey),
        ("ES256", "ES256", "nobody", ForeignError::UnknownKey),
        ("ES256", "ES256", "../../p256", ForeignError::UnknownKey),
        ("PS256", "RS256", "rsa", ForeignError::Signature),
        ("RS256", "PS256", "rsa", ForeignError::Signature),
        ("ES256", "EdDSA", "p256", ForeignError::Signature),
        ("none", "ES256", "p256", ForeignError::Algorithm),
        ("None", "ES256", "p256", ForeignError::Algorithm),
        ("", "ES256", "p256", ForeignError::Algorithm),
        ("HS256", "ES256", "p256", ForeignError::Algorithm),
        ("HS256", "ES256", "p", ForeignError::Algorithm),
        ("RS384", "RS256", "rsa", ForeignError::Algorithm),
        ("RSA1_5", "RS256", "rsa", ForeignError::Algorithm),
        ("es256", "ES256", "p256", ForeignError::Algorithm),
    ] {
        let token = signed(by, &header(claimed, kid), &payload(""));
        assert_eq!(verify(&token), Err(error), "{claimed} signed as {by} for {kid}");
    }
    // A set that says for which algorithm a key is.
    let only = format!(r#"{{"keys":[{}]}}"#, rsa("rsa", r#","alg":"PS256""#));
    let token = |alg: &str| signed(alg, &header(alg, "rsa"), &payload(""));
    verify_with(&only, &token("PS256"), NOW).unwrap();
    assert_eq!(verify_with(&only, &token("RS256"), NOW), Err(ForeignError::UnknownKey));
    // Two keys of one name are nobody's.
    let two = format!(r#"{{"keys":[{},{}]}}"#, rsa("rsa", ""), ed25519("rsa"));
    assert_eq!(verify_with(&two, &token("RS256"), NOW), Err(ForeignError::UnknownKey));
}

#[test]
fn a_header_brings_no_keys_and_demands_nothing() {
    let with = |more: &str| signed("ES256", &format!(r#"{{"alg":"ES256","kid":"p256"{more}}}"#), &payload(""));
    verify(&with("")).unwrap();
    verify(&with(r#","typ":"jwt""#)).unwrap();
    verify(&with(r#","unknown":{"x":[1.5,null]}"#)).unwrap();
    let jwk = format!(r#","jwk":{}"#, ec("P-256", &KEYS.p256, "p256", ""));
    for more in [
        jwk.as_str(),
        r#","crit":["exp"],"exp":1"#,
        r#","crit":[]"#,
        r#","jku":"https://evil.example/keys""#,
        r#","x5u":"https://evil.example/cert""#,
        r#","x5c":["AA"]"#,
        r#","b64":false"#,
        r#","zip":"DEF""#,
        r#","cty":"JWT""#,
        r#","typ":"at+jwt""#,
        r#","typ":"logout+jwt""#,
        r#","typ":null"#,
        r#","kid":"rsa""#,
        r#","alg":"ES256""#,
    ] {
        assert!(matches!(verify(&with(more)), Err(ForeignError::Header(_))), "{more}");
    }
    for header in ["", "[]", "null", "{", r#"["ES256"]"#] {
        let token = signed("ES256", header, &payload(""));
        assert!(matches!(verify(&token), Err(ForeignError::Header(_) | ForeignError::Form)), "{header}");
    }
    for kid in [r#""""#, "1", "null", r#"["p256"]"#] {
        let token = signed("ES256", &format!(r#"{{"alg":"ES256","kid":{kid}}}"#), &payload(""));
        assert!(matches!(verify(&token), Err(ForeignError::Header(_))), "{kid}");
    }
}

#[test]
fn issuer_and_audience_are_exact() {
    for (from, to, error) in [
        (ISSUER, "https://token.actions.example/", ForeignError::Issuer),
        (ISSUER, "https://token.actions.example.evil.example", ForeignError::Issuer),
        (ISSUER, "HTTPS://token.actions.example", ForeignError::Issuer),
        (r#""legate""#, r#""legate2""#, ForeignError::Audience),
        (r#""legate""#, r#""lega""#, ForeignError::Audience),
        (r#""legate""#, r#"["legate","other"]"#, ForeignError::Audience),
        (r#""legate""#, r#"["legate","https://legate.example"]"#, ForeignError::Audience),
        (r#""legate""#, r#"["legate","legate"]"#, ForeignError::Audience),
        (r#""legate""#, "[]", ForeignError::Audience),
        (r#""legate""#, "null", ForeignError::Audience),
        (r#""legate""#, "[1]", ForeignError::Audience),
        (r#""legate""#, r#"{"legate":1}"#, ForeignError::Audience),
        (r#""aud""#, r#""aud2""#, ForeignError::Audience),
        (r#""iss""#, r#""iss2""#, ForeignError::Claim("iss is missing")),
        (r#""sub""#, r#""sub2""#, ForeignError::Claim("sub is missing")),
    ] {
        assert_eq!(verify(&good(&payload("").replace(from, to))), Err(error), "{to}");
    }
    for (from, to) in [
        ("repo:pay/bot:ref:refs/heads/main", ""),
        ("repo:pay/bot:ref:refs/heads/main", r"a\u0000b"),
        ("repo:pay/bot:ref:refs/heads/main", r"a\u202eb"),
        ("1-2", ""),
        ("1-2", r"\n"),
    ] {
        let refused = verify(&good(&payload("").replace(from, to)));
        assert!(matches!(refused, Err(ForeignError::Claim(_))), "{to:?}");
    }
}

#[test]
fn every_token_has_its_time() {
    let token = good(&payload(""));
    let at = |now| verify_with(&set(), &token, now);
    // The leeway is five seconds at most, whatever is asked for.
    for now in [NOW - 5, NOW, NOW + 304] {
        at(now).unwrap();
    }
    assert_eq!(at(NOW - 6), Err(ForeignError::NotYet));
    assert_eq!(at(NOW + 305), Err(ForeignError::Expired));
    assert_eq!(at(u64::MAX), Err(ForeignError::Expired));
    let exp = format!(r#""exp":{}"#, NOW + 300);
    let iat = format!(r#""iat":{NOW}"#);
    let nbf = format!(r#""nbf":{NOW}"#);
    let with = |from: &str, to: &str| verify(&good(&payload("").replace(from, to)));
    assert_eq!(with(&exp, r#""exp":1800086401"#), Err(ForeignError::Lifetime));
    assert_eq!(with(&exp, &format!(r#""exp":{NOW}"#)), Err(ForeignError::Lifetime));
    assert_eq!(with(&exp, r#""exp":0"#), Err(ForeignError::Lifetime));
    assert_eq!(with(&nbf, &format!(r#""nbf":{}"#, NOW + 6)), Err(ForeignError::NotYet));
    assert_eq!(with(&exp, r#""x":1"#), Err(ForeignError::Claim("exp is missing")));
    assert_eq!(with(&iat, r#""x":1"#), Err(ForeignError::Claim("iat is missing")));
    for bad in ["\"1800000300\"", "1800000300.5", "1.8e9", "-1", "null", "99999999999999", "[1800000300]", "true"] {
        for (name, claim) in [("exp", &exp), ("iat", &iat), ("nbf", &nbf)] {
            let refused = with(claim, &format!(r#""{name}":{bad}"#));
            assert!(matches!(refused, Err(ForeignError::Claim(_))), "{name} {bad}: {refused:?}");
        }
    }
    // It lives long and is too old all the same.
    let old = good(&payload("").replace(&exp, &format!(r#""exp":{}"#, NOW + 7_200)));
    verify_with(&set(), &old, NOW + 3_605).unwrap();
    assert_eq!(verify_with(&set(), &old, NOW + 3_606), Err(ForeignError::TooOld));
    let event = payload(r#","events":{"http://schemas.openid.net/event/backchannel-logout":{}}"#);
    assert!(matches!(verify(&good(&event)), Err(ForeignError::Claim(_))));
}

#[test]
fn claims_are_read_by_path_and_only_once() {
    let more = r#","kubernetes.io":{"namespace":"pay","pod":{"name":"a"}},"email_verified":true,"n":42,"m":-1,"f":1.0,"l":["a"],"u":null"#;
    let verified = verify(&good(&payload(more))).unwrap();
    for (path, is) in [
        ("sub", Some("repo:pay/bot:ref:refs/heads/main")),
        ("kubernetes.io/namespace", Some("pay")),
        ("kubernetes.io/pod/name", Some("a")),
        ("email_verified", Some("true")),
        ("n", Some("42")),
        ("m", Some("-1")),
        ("kubernetes.io", None),
        ("kubernetes.io/", None),
        ("/kubernetes.io", None),
        ("kubernetes.io/pod/name/a", None),
        ("sub/a", None),
        ("f", None),
        ("l", None),
        ("u", None),
        ("", None),
        ("none", None),
    ] {
        assert_eq!(verified.claim(path).as_deref(), is, "{path}");
    }
    for twice in [r#","sub":"other""#, r#","kubernetes.io":{"a":1,"a":1}"#, r#","l":[{"a":1,"a":2}]"#] {
        assert_eq!(verify(&good(&payload(twice))), Err(ForeignError::Claims), "{twice}");
    }
    // An escape is the same name.
    assert_eq!(verify(&good(&payload(r#","\u0073ub":"other""#))), Err(ForeignError::Claims));
    for form in ["", "[]", "null", "1", "\"a\"", "{", "{}}", "\u{feff}{}"] {
        let token = signed("ES256", &header("ES256", "p256"), form);
        assert!(matches!(verify(&token), Err(ForeignError::Claims | ForeignError::Form)), "{form:?}");
    }
    let deep = format!("{}{}", "[".repeat(4_000), "]".repeat(4_000));
    assert_eq!(verify(&good(&payload(&format!(r#","d":{deep}"#)))), Err(ForeignError::Claims));
}

#[test]
fn what_is_used_once_is_known_by_its_content() {
    let once = |payload: &str| verify(&good(payload)).unwrap().once();
    let first = once(&payload(""));
    assert_eq!(first, once(&payload("")), "ECDSA signs anew each time, and it is the same token");
    assert_eq!(first, once(&payload(r#","more":1"#)), "the same jti of the same issuer");
    assert_ne!(first, once(&payload("").replace("1-2", "1-3")));
    let without = |more: &str| once(&payload(more).replace(r#","jti":"1-2""#, ""));
    assert_eq!(without(""), without(""));
    assert_ne!(without(""), without(r#","more":1"#));
    assert_ne!(without(""), first);
    // Whoever speaks for the same issuer under another key uses up none of its names.
    let other = signed("ES384", &header("ES384", "p384"), &payload(""));
    assert_ne!(verify(&other).unwrap().once(), first);
}

#[test]
fn a_set_without_a_key_for_us_is_none() {
    let long = format!(r#"{{"keys":[{}],"x":"{}"}}"#, ed25519("a"), "x".repeat(256 * 1024));
    let many = format!(r#"{{"keys":[{}]}}"#, vec![ed25519("a"); 129].join(","));
    let twice = format!(r#"{{"keys":[],"keys":[{}]}}"#, ed25519("a"));
    let private = format!(r#"{{"keys":[{}]}}"#, ec("P-256", &KEYS.p256, "a", r#","d":"AA""#));
    for bad in [
        "",
        "[]",
        "null",
        "{}",
        r#"{"keys":null}"#,
        r#"{"keys":{}}"#,
        r#"{"keys":[]}"#,
        r#"{"keys":[null,1,"a",[]]}"#,
        r#"{"keys":[{"kty":"oct","k":"AA"}]}"#,
        r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#,
        r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#,
        r#"{"keys":[{"kty":"OKP","crv":"X25519","x":"AAAA"}]}"#,
        &long,
        &many,
        &twice,
        &private,
    ] {
        assert_eq!(ForeignKeys::parse(bad.as_bytes()), Err(ForeignError::Keys), "{}", &bad[..bad.len().min(80)]);
    }
    // A weak or strange exponent, a short modulus.
    let set = |e: &str, n: usize| format!(r#"{{"keys":[{{"kty":"RSA","n":"{}","e":"{e}"}}]}}"#, b64(vec![0xc1; n]));
    ForeignKeys::parse(set("AQAB", 256).as_bytes()).unwrap();
    for (e, n) in [("AQ", 256), ("Ag", 256), ("AAEAAQ", 256), ("", 256), ("AQAB", 255), ("AQAB", 1025)] {
        assert_eq!(ForeignKeys::parse(set(e, n).as_bytes()), Err(ForeignError::Keys), "{e} {n}");
    }
}

#[test]
fn only_three_parts_of_canonical_base64url_are_a_token() {
    let token = good(&payload(""));
    let parts: Vec<&str> = token.split('.').collect();
    for bad in [
        String::new(),
        "..".into(),
        "a.b".into(),
        format!("{token}."),
        format!(".{token}"),
        format!("{token} "),
        format!(" {token}"),
        format!("{token}="),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}..{}", parts[0], parts[2]),
        format!(".{}.{}", parts[1], parts[2]),
        token.replace('.', ".."),
    ] {
        assert_eq!(verify(&bad), Err(ForeignError::Form), "{bad:?}");
    }
    assert_eq!(verify(&"a".repeat(MAX_FOREIGN_TOKEN + 1)), Err(ForeignError::TooLong));
    // r and s of another length, DER, and the neutral signature.
    for signature in [vec![], vec![0; 64], vec![1; 63], vec![1; 65], vec![0x30; 70]] {
        let refused = verify(&format!("{}.{}.{}", parts[0], parts[1], b64(&signature)));
        assert!(matches!(refused, Err(ForeignError::Signature | ForeignError::Form)), "{}", signature.len());
    }
}

proptest! {
    #[test]
    fn a_changed_token_is_refused_and_nothing_panics(at in any::<prop::sample::Index>(), to in "[ -~]") {
        static TOKEN: LazyLock<String> = LazyLock::new(|| good(&payload("")));
        let at = at.index(TOKEN.len());
        prop_assume!(TOKEN[at..=at] != to);
        let changed = format!("{}{to}{}", &TOKEN[..at], &TOKEN[at + 1..]);
        prop_assert!(verify(&changed).is_err());
        prop_assert!(verify(&TOKEN[..at]).is_err());
    }

    #[test]
    fn whatever_bytes_come_as_keys_nothing_panics(text in r#"[\[\]{}":,a-z0-9]{0,60}"#) {
        let _refused_or_not = ForeignKeys::parse(text.as_bytes());
        let _neither = ForeignToken::parse(&format!("{}.{}.AA", b64(&text), b64(&text)));
    }
}
