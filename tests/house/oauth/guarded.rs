//! A token that is bound to a key, shown to a guarded backend: only with a proof of that key for the very request, and each once.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use http::{Method, Request, Response, StatusCode};
use legate_client::guard::{Dpop, Guard, Routes};
use legate_client::{Decision, Permit};
use legate_mtls::Identity;
use legate_token::{EcSigner as _, P256Signer};
use legate_wire::credential::EnforcementPointRef;
use legate_wire::credential::create_enrolment_token_request::Holder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::{Clients, basic};
use crate::raised::{LONG, Raised};

const ORIGIN: &str = "https://orders.example.com";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(bytes.as_ref())
}

/// A proof of `key`, of these claims beside the time and the name.
fn proof(key: &P256Signer, jti: &str, more: &Value) -> String {
    let point = key.public_key().as_sec1();
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..65])});
    let header = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk});
    let mut claims = json!({"jti": jti, "iat": std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let input = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let signature = key.sign(input.as_bytes()).unwrap();
    format!("{input}.{}", b64(signature))
}

fn ath(token: &str) -> String {
    b64(Sha256::digest(token.as_bytes()))
}

/// An access token for orders that is bound to `key`.
async fn token(clients: &Clients<'_>, id: &str, secret: &str, key: &P256Signer) -> String {
    let url = format!("{}/oauth2/token", clients.url());
    let basic = basic(id, secret);
    let mut nonce = None;
    for n in 0..2 {
        let mut more = json!({"htm": "POST", "htu": url});
        if let Some(nonce) = &nonce {
            more["nonce"] = json!(nonce);
        }
        let proof = proof(key, &format!("token-{n}"), &more);
        let answer = clients.token(Identity::anonymous(), &[("authorization", &basic), ("dpop", &proof)], &[]).await;
        if answer.status == StatusCode::OK {
            assert_eq!(answer.json["token_type"], "DPoP");
            return answer.json["access_token"].as_str().unwrap().to_owned();
        }
        nonce = answer.headers.get("dpop-nonce").map(|nonce| nonce.to_str().unwrap().to_owned());
    }
    panic!("no token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_key_passes_with_a_proof_of_it_for_this_request_once() {
    let raised = Raised::new().await;
    let clients = Clients::of(&raised).await;
    let (id, (secret, _)) = (clients.id("with-secret").await, clients.secret("with-secret").await);
    let key = P256Signer::from_scalar(&[6; 32]).unwrap();
    let access = token(&clients, &id, &secret, &key).await;
    let point = EnforcementPointRef { namespace: "shop".into(), name: "orders".into() };
    let enrolment = raised.enrolment_token(Holder::EnforcementPoint(point)).await;
    let identity = legate_client::enrol(&raised.remote("credential-issuer"), &enrolment).await.unwrap().identity();
    let remote = raised.remote("policy-decision");
    let decision = Decision::builder([remote.endpoint], identity.unwrap(), remote.trust).build().unwrap();
    assert!(decision.ready(LONG).await);
    let routes = Routes::new().route(Method::GET, "/orders/{id}", "order:read", "Order", "{id}").unwrap();
    let reached = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&reached);
    let orders = service_fn(move |request: Request<()>| {
        counting.fetch_add(1, Ordering::SeqCst);
        let permit = request.extensions().get::<Permit>().unwrap().agent_id().to_owned();
        async move { Ok::<_, Infallible>(Response::new(permit)) }
    });
    let guarded = Guard::new(decision, routes).with_dpop(Dpop::new(ORIGIN).unwrap()).layer(orders);
    let show = async |authorization: &str, proofs: &[&str]| {
        let mut request = Request::get("/orders/17").header("authorization", authorization);
        for proof in proofs {
            request = request.header("dpop", *proof);
        }
        let answer = guarded.clone().oneshot(request.body(()).unwrap()).await.unwrap();
        let header = |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        (answer.status(), header("legate-reason"), header("www-authenticate"), answer.into_body())
    };
    let of = |jti: &str, change: &Value| {
        let mut claims = json!({"htm": "GET", "htu": format!("{ORIGIN}/orders/17"), "ath": ath(&access)});
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        proof(&key, jti, &claims)
    };
    let by_key = format!("DPoP {access}");
    let good = of("a", &json!({}));
    let (status, reason, _, body) = show(&by_key, &[&good]).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, id.as_str()), "{reason}");
    let invalid = "DPoP error=\"invalid_dpop_proof\", algs=\"ES256\"";
    let (status, reason, challenge, _) = show(&by_key, &[&good]).await;
    assert_eq!(
        (status, reason.as_str(), challenge.as_str()),
        (StatusCode::UNAUTHORIZED, "DPOP_PROOF_REPLAYED", invalid)
    );

    let thief = P256Signer::from_scalar(&[7; 32]).unwrap();
    let theirs = json!({"htm": "GET", "htu": format!("{ORIGIN}/orders/17"), "ath": ath(&access)});
    for bad in [
        of("b", &json!({"htm": "POST"})),
        of("c", &json!({"htu": format!("{ORIGIN}/orders/18")})),
        of("d", &json!({"htu": "https://elsewhere.example/orders/17"})),
        of("e", &json!({"ath": ath("another")})),
        of("f", &json!({"iat": 1})),
        proof(&thief, "g", &theirs),
        "x.y.z".to_owned(),
    ] {
        let (status, reason, challenge, _) = show(&by_key, &[&bad]).await;
        assert_eq!(
            (status, reason.as_str(), challenge.as_str()),
            (StatusCode::UNAUTHORIZED, "DPOP_PROOF_INVALID", invalid)
        );
    }
    let next = of("h", &json!({}));
    assert_eq!(show(&by_key, &[]).await.1, "DPOP_PROOF_INVALID");
    assert_eq!(show(&by_key, &[&next, &next]).await.1, "DPOP_PROOF_INVALID");
    // As a bearer token it is nobody's, with a proof or without; and what nobody signed is not believed for its proof.
    assert_eq!(show(&format!("Bearer {access}"), &[&next]).await.1, "TOKEN_BINDING");
    let forged = format!("{}.{}", access.rsplit_once('.').unwrap().0, b64([1; 64]));
    let its = proof(&key, "i", &json!({"htm": "GET", "htu": format!("{ORIGIN}/orders/17"), "ath": ath(&forged)}));
    let (_, reason, challenge, _) = show(&format!("DPoP {forged}"), &[&its]).await;
    assert_eq!(
        (reason.as_str(), challenge.as_str()),
        ("TOKEN_INVALID", "DPoP error=\"invalid_token\", algs=\"ES256\"")
    );
    let bare = guarded.clone().oneshot(Request::get("/orders/17").body(()).unwrap()).await.unwrap();
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(bare.headers()["www-authenticate"], "Bearer, DPoP algs=\"ES256\"");

    // Many at once by one proof: one is let through.
    let before = reached.load(Ordering::SeqCst);
    let raced = of("raced", &json!({}));
    let proofs = [raced.as_str()];
    let all = (0..32).map(|_| show(&by_key, &proofs));
    let won = futures_util::future::join_all(all).await.into_iter().filter(|answer| answer.0 == StatusCode::OK).count();
    assert_eq!((won, reached.load(Ordering::SeqCst) - before), (1, 1));
    // What was refused has used nothing up.
    assert_eq!(show(&by_key, &[&next]).await.0, StatusCode::OK);
    raised.suite.shutdown().await;
}
