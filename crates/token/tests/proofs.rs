//! Client assertions and DPoP proofs: the ones that are believed, and all those that are not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_token::{
    Assertion, BadProof, DpopProof, EcSigner as _, ExpectProof, MAX_PROOF_AGE, P256Signer, P256Verifier, ProvenClient,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";
const CLIENT: &str = "agt_01h455vb4pex5vsknk084sn02q";
const URL: &str = "https://issuer.example/oauth2/token";

fn signer() -> P256Signer {
    P256Signer::from_scalar(&[7; 32]).unwrap()
}

fn b64(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

fn signed_by(key: &P256Signer, header: &str, payload: &str) -> String {
    let input = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
    let signature = key.sign(input.as_bytes()).unwrap();
    format!("{input}.{}", b64(&signature))
}

/// The object with some members changed; null takes one away.
fn with(mut object: Value, changes: Value) -> String {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
            value => object[name] = value.clone(),
        }
    }
    object.to_string()
}

fn assertion(header: Value, claims: Value) -> Result<ProvenClient, BadProof> {
    let kid = signer().public_key().kid().to_string();
    let header = with(json!({"alg": "ES256", "kid": kid}), header);
    let good = json!({"iss": CLIENT, "sub": CLIENT, "aud": ISSUER, "jti": "a-name", "iat": NOW, "exp": NOW + 60});
    read(&signed_by(&signer(), &header, &with(good, claims)))
}

fn read(text: &str) -> Result<ProvenClient, BadProof> {
    let key = ((), P256Verifier::new(signer().public_key()));
    Assertion::parse(text)?.signed_by_one([key]).map_err(|_| BadProof::Signature)?.1.verify(ISSUER, NOW)
}

#[test]
fn a_good_assertion_says_who_the_client_is() {
    let expected = ProvenClient { client: CLIENT.into(), token_id: "a-name".into(), expires_at: NOW + 60 };
    for header in [json!({}), json!({"kid": null}), json!({"typ": "JWT"}), json!({"typ": "client-authentication+jwt"})]
    {
        assert_eq!(assertion(header.clone(), json!({})).as_ref(), Ok(&expected), "{header}");
    }
    // What ordinary clients say beside it, and an audience in a list of one.
    for claims in [json!({"aud": [ISSUER]}), json!({"nbf": NOW, "azp": "x", "more": {"a": [1]}}), json!({"iat": null})]
    {
        assert_eq!(assertion(json!({}), claims.clone()).as_ref(), Ok(&expected), "{claims}");
    }
}

#[test]
fn assertions_that_are_not_believed() {
    for (header, why) in [
        (json!({"alg": "none"}), BadProof::Header),
        (json!({"alg": "HS256"}), BadProof::Header),
        (json!({"alg": "ES384"}), BadProof::Header),
        (json!({"typ": "at+jwt"}), BadProof::Header),
        (json!({"typ": "dpop+jwt"}), BadProof::Header),
        (json!({"crit": ["x"], "x": 1}), BadProof::Header),
        (json!({"jwk": {"kty": "EC"}}), BadProof::Header),
        (json!({"jku": "https://evil.example"}), BadProof::Header),
        (json!({"x5u": "https://evil.example"}), BadProof::Header),
        (json!({"kid": "../../etc/passwd"}), BadProof::Header),
    ] {
        assert_eq!(assertion(header.clone(), json!({})), Err(why), "{header}");
    }
    for (claims, why) in [
        (json!({"iss": "somebody"}), BadProof::Client),
        (json!({"aud": URL}), BadProof::Audience),
        (json!({"aud": "https://issuer.example/"}), BadProof::Audience),
        (json!({"aud": "https://issuer.example.evil.example"}), BadProof::Audience),
        (json!({"aud": [ISSUER, "https://other.example"]}), BadProof::Audience),
        (json!({"aud": []}), BadProof::Audience),
        (json!({"aud": null}), BadProof::Claims),
        (json!({"jti": null}), BadProof::Claims),
        (json!({"jti": ""}), BadProof::Claims),
        (json!({"jti": "x".repeat(257)}), BadProof::Claims),
        (json!({"exp": null}), BadProof::Claims),
        (json!({"exp": "1800000060"}), BadProof::Claims),
        (json!({"exp": 1_800_000_060.5}), BadProof::Claims),
        (json!({"exp": -1}), BadProof::Claims),
        (json!({"exp": NOW - 300, "iat": NOW - 600}), BadProof::Expired),
        (json!({"exp": NOW + 301 + 5}), BadProof::Lifetime),
        (json!({"exp": NOW + 31_536_000, "iat": null}), BadProof::Lifetime),
        (json!({"exp": NOW + 60, "iat": NOW - 300}), BadProof::Lifetime),
        (json!({"iat": NOW + 3_600}), BadProof::NotYet),
        (json!({"nbf": NOW + 3_600}), BadProof::NotYet),
        (json!({"exp": u64::MAX}), BadProof::Lifetime),
    ] {
        assert_eq!(assertion(json!({}), claims.clone()), Err(why), "{claims}");
    }
    let other = P256Signer::from_scalar(&[8; 32]).unwrap();
    let good =
        json!({"iss": CLIENT, "sub": CLIENT, "aud": ISSUER, "jti": "a", "iat": NOW, "exp": NOW + 60}).to_string();
    let header = json!({"alg": "ES256"}).to_string();
    assert_eq!(read(&signed_by(&other, &header, &good)), Err(BadProof::Signature));
    let twice = good.replace("\"aud\"", "\"aud\":\"https://other.example\",\"aud\"");
    assert_eq!(read(&signed_by(&signer(), &header, &twice)), Err(BadProof::Claims));
    for form in ["", "a.b", "a.b.c", &format!("{}.{}.", b64(b"{}"), b64(b"{}")), &"x".repeat(9_000)] {
        assert!(read(form).is_err(), "{form}");
    }
    assert!(read(&signed_by(&signer(), "[]", "[]")).is_err());
}

fn jwk(key: &P256Signer) -> Value {
    let public = key.public_key().as_sec1();
    json!({"kty": "EC", "crv": "P-256", "x": b64(&public[1..33]), "y": b64(&public[33..])})
}

fn proof(header: Value, claims: Value) -> Result<DpopProof, BadProof> {
    let header = with(json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk(&signer())}), header);
    let good = json!({"jti": "a-name", "htm": "POST", "htu": URL, "iat": NOW});
    judge(&signed_by(&signer(), &header, &with(good, claims)), None)
}

fn judge(text: &str, access_token: Option<&[u8; 32]>) -> Result<DpopProof, BadProof> {
    let proof = DpopProof::read(text, P256Verifier::new)?;
    proof.verify(&ExpectProof { method: "POST", url: URL, access_token }, NOW)?;
    Ok(proof)
}

#[test]
fn a_good_proof_names_its_key() {
    let good = proof(json!({}), json!({"nonce": "n"})).unwrap();
    assert_eq!((good.key(), good.token_id(), good.nonce()), (signer().public_key(), "a-name", Some("n")));
    assert_eq!(good.usable_until(), NOW + MAX_PROOF_AGE);
    for url in [
        "https://issuer.example/oauth2/token?a=1#b",
        "HTTPS://Issuer.Example:443/oauth2/token",
        "https://issuer.example:443/oauth2/token",
    ] {
        assert!(proof(json!({}), json!({"htu": url})).is_ok(), "{url}");
    }
    for iat in [NOW - MAX_PROOF_AGE, NOW + 5] {
        assert!(proof(json!({}), json!({"iat": iat})).is_ok(), "{iat}");
    }
}

#[test]
fn proofs_that_are_not_believed() {
    let mut private = jwk(&signer());
    private["d"] = json!(b64(&[7; 32]));
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}}),
        json!({"typ": "JWT"}),
        json!({"typ": null}),
        json!({"jwk": null}),
        json!({"jwk": private}),
        json!({"jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}}),
        json!({"jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}}),
        json!({"crit": ["x"]}),
        json!({"kid": "a"}),
    ] {
        assert_eq!(proof(header.clone(), json!({})), Err(BadProof::Header), "{header}");
    }
    let other = P256Signer::from_scalar(&[8; 32]).unwrap();
    assert_eq!(proof(json!({"jwk": jwk(&other)}), json!({})), Err(BadProof::Signature));
    for (claims, why) in [
        (json!({"htm": "GET"}), BadProof::Method),
        (json!({"htm": "post"}), BadProof::Method),
        (json!({"htu": "https://issuer.example/oauth2/introspect"}), BadProof::Url),
        (json!({"htu": "https://other.example/oauth2/token"}), BadProof::Url),
        (json!({"htu": "http://issuer.example/oauth2/token"}), BadProof::Url),
        (json!({"htu": "https://issuer.example:8443/oauth2/token"}), BadProof::Url),
        (json!({"htu": "https://issuer.example@evil.example/oauth2/token"}), BadProof::Url),
        (json!({"htu": ""}), BadProof::Url),
        (json!({"iat": NOW - 3_600}), BadProof::Expired),
        (json!({"iat": NOW + 3_600}), BadProof::NotYet),
        (json!({"iat": 1_800_000_000.5}), BadProof::Claims),
        (json!({"jti": null}), BadProof::Claims),
        (json!({"jti": ""}), BadProof::Claims),
        (json!({"htm": null}), BadProof::Claims),
        (json!({"htu": null}), BadProof::Claims),
        (json!({"iat": null}), BadProof::Claims),
    ] {
        assert_eq!(proof(json!({}), claims.clone()), Err(why), "{claims}");
    }
}

#[test]
fn a_proof_that_comes_with_a_token_is_for_that_token() {
    let header = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk(&signer())}).to_string();
    let shown = |ath: Value| {
        let claims = with(json!({"jti": "a", "htm": "POST", "htu": URL, "iat": NOW}), json!({"ath": ath}));
        judge(&signed_by(&signer(), &header, &claims), Some(&[3; 32])).map(drop)
    };
    assert_eq!(shown(json!(b64(&[3; 32]))), Ok(()));
    assert_eq!(shown(json!(b64(&[4; 32]))), Err(BadProof::AccessToken));
    assert_eq!(shown(Value::Null), Err(BadProof::AccessToken));
}

proptest! {
    #[test]
    fn no_text_breaks_the_readers(text in "[A-Za-z0-9_.-]{0,200}", header in "\\PC{0,60}", payload in "\\PC{0,60}") {
        let made = signed_by(&signer(), &header, &payload);
        for text in [&text, &made] {
            prop_assert!(read(text).is_err());
            prop_assert!(judge(text, None).is_err());
        }
    }
}
