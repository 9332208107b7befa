//! What a proof has to be for the request beside which it comes, and that it counts once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use http::Request;
use legate_clock::{TestClock, Timestamp};
use legate_token::{EcSigner as _, P256Signer};
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_900_000_000;
const ORIGIN: &str = "https://tools.example";
const PATH: &str = "/projects/apollo/invoices/1";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(bytes.as_ref())
}

fn key(n: u8) -> P256Signer {
    P256Signer::from_scalar(&[n; 32]).unwrap()
}

/// An access token that says to which key it is bound; its signature is policy-decision's affair.
fn token(signer: &P256Signer) -> String {
    let claims = json!({ "sub": "somebody", "cnf": { "jkt": signer.public_key().kid().as_str() } });
    format!("{}.{}.{}", b64("{}"), b64(claims.to_string()), b64("signature"))
}

fn signed(signer: &P256Signer, header: &Value, claims: &Value) -> String {
    let input = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let signature = signer.sign(input.as_bytes()).unwrap();
    format!("{input}.{}", b64(signature))
}

fn header(signer: &P256Signer) -> Value {
    let public = signer.public_key().as_sec1();
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": b64(&public[1..33]), "y": b64(&public[33..65]) });
    json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": jwk })
}

fn claims(token: &str, jti: &str) -> Value {
    let ath = b64(Sha256::digest(token.as_bytes()));
    json!({ "jti": jti, "htm": "GET", "htu": format!("{ORIGIN}{PATH}"), "iat": NOW, "ath": ath })
}

fn proof(signer: &P256Signer, jti: &str) -> String {
    signed(signer, &header(signer), &claims(&token(signer), jti))
}

fn head(proofs: &[&str]) -> Parts {
    let mut request = Request::get(format!("{PATH}?page=2"));
    for proof in proofs {
        request = request.header("DPoP", *proof);
    }
    request.body(()).unwrap().into_parts().0
}

fn dpop() -> (Dpop, Arc<TestClock>) {
    let clock = TestClock::at(Timestamp::from_secs(NOW));
    (Dpop::new(ORIGIN).unwrap().with_clock(Arc::clone(&clock) as Arc<dyn Clock>), clock)
}

/// Why a proof is refused beside a token.
fn why(dpop: &Dpop, proofs: &[&str], token: &str) -> String {
    match dpop.prove(&head(proofs), token).unwrap_err() {
        Refusal::BadProof(why) => why,
        other => other.reason().to_owned(),
    }
}

#[test]
fn a_proof_is_good_for_its_request_and_nobody_else() {
    let (dpop, _) = dpop();
    let signer = key(7);
    let proven = dpop.prove(&head(&[&proof(&signer, "a")]), &token(&signer)).unwrap();
    assert_eq!(b64(proven.jkt), signer.public_key().kid().as_str());
    let good = claims(&token(&signer), "a");
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        signed(&signer, &header(&signer), &claims)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        signed(&signer, &header(&signer), &claims)
    };
    let head_with = |name: &str, value: Value| {
        let mut header = header(&signer);
        header[name] = value;
        signed(&signer, &header, &good)
    };
    let other = proof(&key(8), "a");
    let (thing, rest) = other.split_once('.').unwrap();
    let mixed = format!("{thing}.{}", proof(&signer, "a").split_once('.').unwrap().1);
    let edited = format!("{}.{rest}", proof(&signer, "a").split_once('.').unwrap().0);
    for bad in [
        // RFC 9449 section 4.3, point by point.
        with("htm", json!("POST")),
        with("htm", json!("get")),
        with("htu", json!(format!("{ORIGIN}/projects/apollo/invoices/2"))),
        with("htu", json!(format!("https://other.example{PATH}"))),
        with("htu", json!(format!("http://tools.example{PATH}"))),
        with("htu", json!(format!("{ORIGIN}:8443{PATH}"))),
        with("htu", json!(format!("{ORIGIN}{PATH}/"))),
        with("htu", json!(PATH)),
        with("iat", json!(NOW - 61)),
        with("iat", json!(NOW + 3_600)),
        with("iat", json!(NOW.to_string())),
        with("iat", json!(-1)),
        with("ath", json!(b64(Sha256::digest("another token")))),
        with("ath", json!("")),
        with("jti", json!("")),
        with("jti", json!("a b")),
        with("jti", json!("x".repeat(257))),
        without("ath"),
        without("jti"),
        without("iat"),
        without("htm"),
        without("htu"),
        head_with("typ", json!("JWT")),
        head_with("alg", json!("none")),
        head_with("alg", json!("HS256")),
        head_with("crit", json!(["b64"])),
        head_with("jwk", json!({})),
        mixed,
        edited,
        "no.proof".to_owned(),
        String::new(),
        "x".repeat(9 << 10),
    ] {
        let told = dpop.prove(&head(&[&bad]), &token(&signer)).map(drop);
        assert!(matches!(told, Err(Refusal::BadProof(_))), "{bad}: {told:?}");
    }
    // Another's key, though the proof is good: the token is bound to one key. And a token that is bound to none.
    let stranger = key(8);
    let theirs = signed(&stranger, &header(&stranger), &claims(&token(&signer), "b"));
    assert_eq!(why(&dpop, &[&theirs], &token(&signer)), "the token is not bound to the key of the DPoP proof");
    let bare = format!("{}.{}.x", b64("{}"), b64("{}"));
    let of_bare = signed(&signer, &header(&signer), &claims(&bare, "b"));
    assert_eq!(why(&dpop, &[&of_bare], &bare), "the token is not bound to the key of the DPoP proof");
    let good = proof(&signer, "c");
    assert_eq!(why(&dpop, &[], &token(&signer)), "there has to be one DPoP proof");
    assert_eq!(why(&dpop, &[&good, &good], &token(&signer)), "there has to be one DPoP proof");
    // What counts is the origin that the server knows, however the proof writes it.
    let shouted = signed(&signer, &header(&signer), &{
        let mut claims = claims(&token(&signer), "d");
        claims["htu"] = json!(format!("HTTPS://Tools.Example:443{PATH}?x=1#y"));
        claims
    });
    assert!(dpop.prove(&head(&[&shouted]), &token(&signer)).is_ok());
}

#[test]
fn a_proof_lets_one_through_also_when_many_show_it_at_once() {
    let (dpop, clock) = dpop();
    let signer = key(7);
    let (one, token) = (proof(&signer, "a"), token(&signer));
    // All of them look before one is let through.
    let all: Vec<_> = (0..16).map(|_| dpop.prove(&head(&[&one]), &token).unwrap()).collect();
    let won = std::thread::scope(|scope| {
        let tries: Vec<_> = all.iter().map(|proven| scope.spawn(|| dpop.clone().spend(proven).is_ok())).collect();
        tries.into_iter().map(|one| one.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(won, 1);
    assert_eq!(why(&dpop, &[&one], &token), "DPOP_PROOF_REPLAYED");
    // The name is the key's own, and a proof that nothing came of can be shown again.
    let other = key(8);
    let theirs = dpop.prove(&head(&[&proof(&other, "a")]), &super::tests::token(&other)).unwrap();
    dpop.spend(&theirs).unwrap();
    for _ in 0..2 {
        dpop.prove(&head(&[&proof(&signer, "b")]), &token).unwrap();
    }
    // Remembered for as long as it could be shown, and while clocks are set back a little.
    clock.advance(Duration::from_secs(60));
    assert_eq!(why(&dpop, &[&one], &token), "DPOP_PROOF_REPLAYED");
    clock.advance(Duration::from_secs(1));
    assert!(!why(&dpop, &[&one], &token).starts_with("DPOP"), "it is too old now");
}

#[test]
fn the_memory_is_bounded_as_a_whole_and_by_key_and_forgets_what_is_over() {
    let (dpop, clock) = dpop();
    let dpop = dpop.remembering(1_000).unwrap();
    let spend = |key: u8, n: usize| {
        let until = u64::try_from(NOW).unwrap() + MAX_AGE + LONGER;
        let mut name = [key; 32];
        name[..8].copy_from_slice(&n.to_be_bytes());
        dpop.spend(&Proven { jkt: [key; 32], name, until })
    };
    for n in 0..125 {
        spend(1, n).unwrap();
    }
    assert!(matches!(spend(1, 125), Err(Refusal::MemoryFull)), "no key fills the memory of others");
    for key in 2..=8 {
        for n in 0..125 {
            spend(key, n).unwrap();
        }
    }
    assert!(matches!(spend(9, 0), Err(Refusal::MemoryFull)));
    clock.advance(Duration::from_secs(MAX_AGE + LONGER));
    assert!(matches!(spend(9, 0), Err(Refusal::MemoryFull)), "they could still be shown where a clock is set back");
    clock.advance(Duration::from_secs(1));
    spend(9, 0).unwrap();
    let seen = dpop.seen.lock();
    assert_eq!((seen.by_name.len(), seen.by_key.len()), (1, 1));
}

const MAX_AGE: u64 = 60;

#[test]
fn settings_that_mean_nothing_are_refused() {
    for bad in [
        "",
        "tools.example",
        "http://tools.example",
        "https://tools.example/",
        "https://tools.example/api",
        "https://user@tools.example",
        "https://tools.example?x",
        "https://",
    ] {
        assert_eq!(Dpop::new(bad).unwrap_err(), BadDpop::Origin(bad.into()), "{bad}");
    }
    for good in ["https://tools.example", "https://tools.example:8443", "https://[::1]:8443"] {
        assert!(Dpop::new(good).is_ok(), "{good}");
    }
    for bad in [0, 999, 10_000_001] {
        assert_eq!(Dpop::new(ORIGIN).unwrap().remembering(bad).unwrap_err(), BadDpop::Most(bad));
    }
}
