//! What is tried with exchanges, assertions and proofs, over gRPC and over HTTPS; depth and the actor token over gRPC are in `delegation.rs`.

use std::time::Instant;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use http::StatusCode;
use legate_mtls::Identity;
use legate_token::{EcSigner as _, P256Signer};
use legate_wire::audit::QueryEventsRequest;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::credential::RegisterClientKeyRequest;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::{AgentRef, SuspendAgentRequest};
use serde_json::json;

use super::{Parts, Shop, reason, runtime, signed};
use crate::log::Log;
use crate::oauth::{Answer, RESOURCE, ask, claims};
use crate::raised::{LONG, Raised};

fn refused(answer: &Answer, error: &str, what: &str) {
    assert_eq!((answer.status, &answer.json["error"]), (StatusCode::BAD_REQUEST, &json!(error)), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_widens_nothing() {
    let raised = Raised::new().await;
    let shop = Shop::of(&raised).await;
    let address = shop.address("with-key").await;
    let narrow = shop.held(&address, "order:read").await;
    let thief = runtime(&raised, &shop.clients, "with-certificate").await;
    let for_thief = shop.held(&shop.address("with-certificate").await, "order:read").await;
    let own = shop.actor.token(&address).await.unwrap().access_token;
    let (actor, back) = ((&shop.actor, "with-key"), shop.address("with-secret").await);
    let rows = [
        ("a wider scope", actor, &narrow, RESOURCE, "order:read order:pay", "INVALID_SCOPE", "invalid_scope"),
        ("another audience", actor, &narrow, "https://other.example.com", "", "INVALID_TARGET", "invalid_target"),
        (
            "an actor whom nobody lets act",
            (&thief, "with-certificate"),
            &for_thief,
            RESOURCE,
            "",
            "GRANT_MISSING",
            "invalid_grant",
        ),
        (
            "a thief of what was handed to another",
            (&thief, "with-certificate"),
            &narrow,
            RESOURCE,
            "",
            "SUBJECT_TOKEN_NOT_ADDRESSED",
            "invalid_grant",
        ),
        ("a cycle", actor, &own, RESOURCE, "", "EXCHANGE_CYCLE", "invalid_grant"),
        ("one more than the grant lets follow", actor, &narrow, &back, "", "GRANT_MISSING", "invalid_grant"),
    ];
    let mut expected = std::collections::BTreeMap::<&str, usize>::new();
    for (what, who, token, target, scope, named, error) in rows {
        let scopes: Vec<String> = scope.split(' ').skip(1).map(Into::into).collect();
        assert_eq!(reason(who.0.exchange(token, target, &scopes).await), named, "{what}");
        let mut form = vec![("resource", target)];
        if !scope.is_empty() {
            form.push(("scope", scope));
        }
        refused(&shop.exchange_as(who, token, &form).await, error, what);
        *expected.entry(named).or_default() += 2;
    }

    // Nothing lives longer than what it is exchanged for, and is shown over another agent's certificate.
    let ends = claims(&narrow)["exp"].as_u64().unwrap();
    let by_https = shop.exchange(&narrow, &[("resource", RESOURCE)]).await;
    let by_https = by_https.json["access_token"].as_str().unwrap().to_owned();
    let by_grpc = shop.actor.exchange(&narrow, RESOURCE, &[]).await.unwrap().access_token;
    for exchanged in [by_https, by_grpc] {
        assert!(claims(&exchanged)["exp"].as_u64().unwrap() <= ends);
        let mine = shop.actor.identity().x5t_s256().unwrap();
        assert_eq!(ask(&shop.decisions(), &exchanged, &mine, &[]).await.reason_code, "ALLOWED");
        for other in [&thief.identity().x5t_s256().unwrap()[..], &[]] {
            assert_eq!(ask(&shop.decisions(), &exchanged, other, &[]).await.reason_code, "TOKEN_BINDING");
        }
    }

    // Who was stopped gives nothing, and then who acts gets nothing.
    suspend(&shop, "with-secret").await;
    until_refused(&shop, &narrow, "SUBJECT_TOKEN_FALLEN").await;
    refused(&shop.exchange(&narrow, &[("resource", RESOURCE)]).await, "invalid_grant", "a suspended subject");
    suspend(&shop, "with-key").await;
    let began = Instant::now();
    loop {
        let answer = shop.exchange(&narrow, &[("resource", RESOURCE)]).await;
        if answer.status == StatusCode::UNAUTHORIZED {
            assert_eq!(answer.json["error"], "invalid_client", "a suspended actor");
            break;
        }
        assert!(began.elapsed() < LONG, "{}", answer.json);
    }
    let stopped = reason(shop.actor.exchange(&narrow, RESOURCE, &[]).await);
    assert!(stopped == "HOLDER_NOT_ACTIVE" || stopped.starts_with("CALLER_"), "a suspended actor: {stopped}");
    // Who is turned away at the door is on record within a second or two.
    let kind = if stopped.starts_with("CALLER_") { "access.refused" } else { "exchange.refused" };
    let mut events = QueryServiceClient::new(raised.operator("audit-collector"));
    let began = Instant::now();
    let is_it = |event: &legate_wire::audit::IndexedEvent| {
        event.event.as_ref().is_some_and(|event| event.reason_code == stopped)
    };
    loop {
        let request = QueryEventsRequest { r#type: kind.into(), ..QueryEventsRequest::default() };
        if events.query_events(request).await.unwrap().into_inner().events.iter().any(is_it) {
            break;
        }
        assert!(began.elapsed() < LONG, "{stopped} is not on record");
        tokio::task::yield_now().await;
    }

    let dir = raised.suite.layout().log();
    raised.suite.shutdown().await;
    let log = Log::read(&dir);
    for (named, count) in expected {
        let recorded = log.of_type("exchange.refused").filter(|event| event.reason_code == named).count();
        assert_eq!(recorded, count, "{named}");
    }
    assert!(log.of_type("exchange.refused").filter(|event| event.reason_code == "SUBJECT_TOKEN_FALLEN").count() >= 2);
}

async fn suspend(shop: &Shop<'_>, name: &str) {
    let which = AgentRef { namespace: "shop".into(), name: name.into(), ..AgentRef::default() };
    let request = SuspendAgentRequest { agent: Some(which), reason: "odd".into(), ..Default::default() };
    AgentServiceClient::new(shop.raised().operator("registry")).suspend_agent(request).await.unwrap();
}

/// The news comes by the registry's stream, within its bound.
async fn until_refused(shop: &Shop<'_>, token: &str, named: &str) {
    let began = Instant::now();
    while shop.actor.exchange(token, RESOURCE, &[]).await.is_ok() {
        assert!(began.elapsed() < LONG, "never {named}");
    }
    assert_eq!(reason(shop.actor.exchange(token, RESOURCE, &[]).await), named);
}

/// An assertion of a client, for once.
fn assertion(shop: &Shop<'_>, id: &str, key: &P256Signer, name: &str) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = json!({"iss": id, "sub": id, "aud": shop.clients.url(), "jti": name.replace(' ', "-"), "iat": now, "exp": now + 60});
    signed(key, r#"{"alg":"ES256"}"#, &claims.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_gives_one_token_whoever_shows_it_again_and_none_after_a_refusal() {
    let raised = Raised::new().await;
    let shop = Shop::of(&raised).await;
    let key = P256Signer::from_scalar(&[5; 32]).unwrap();
    let id = shop.clients.id("with-key").await;
    let jwk = key.public_key().to_jwk();
    let request = RegisterClientKeyRequest { agent_id: id.clone(), jwk, reason: "a test".into(), ..Default::default() };
    shop.clients.admin().register_client_key(request).await.unwrap();
    let show = async |assertion: &str, more: &[(&str, &str)]| {
        let mut form = vec![
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ];
        form.extend_from_slice(more);
        shop.clients.token(Identity::anonymous(), &[], &form).await
    };
    let is_refused = |answer: &Answer, what: &str| {
        assert_eq!(
            (answer.status, &answer.json["error"]),
            (StatusCode::UNAUTHORIZED, &json!("invalid_client")),
            "{what}"
        );
    };

    let once = assertion(&shop, &id, &key, "once");
    assert_eq!(show(&once, &[]).await.status, StatusCode::OK);
    is_refused(&show(&once, &[]).await, "shown again");

    // It is used up by a request of which nothing comes, whatever that was refused for.
    let ciba = "urn:openid:params:grant-type:ciba";
    let rows = [
        ("an audience of nobody", ["client_credentials", "https://nobody.example.com", "", ""], "invalid_target"),
        ("an action of nobody", ["client_credentials", RESOURCE, "order:pay", ""], "invalid_scope"),
        ("no audience", ["client_credentials", "", "", ""], "invalid_target"),
        ("a request that nobody made", [ciba, "", "", "x"], "invalid_grant"),
    ];
    for (what, values, error) in rows {
        let used = assertion(&shop, &id, &key, what);
        let names = ["grant_type", "resource", "scope", "auth_req_id"];
        let mut form: Vec<_> = names.into_iter().zip(values).filter(|(_, value)| !value.is_empty()).collect();
        form.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
        form.push(("client_assertion", &used));
        refused(&shop.clients.post(Identity::anonymous(), "/oauth2/token", &[], &form).await, error, what);
        is_refused(&show(&used, &[]).await, what);
    }

    // Of many at once one has a token.
    let raced = assertion(&shop, &id, &key, "raced");
    let all = (0..20).map(|_| show(&raced, &[]));
    let mut won = 0;
    for answer in futures_util::future::join_all(all).await {
        if answer.status == StatusCode::OK {
            won += 1;
        } else {
            is_refused(&answer, "raced");
        }
    }
    assert_eq!(won, 1);

    let dir = raised.suite.layout().log();
    raised.suite.shutdown().await;
    let log = Log::read(&dir);
    let issued = log.of_type("token.issued").filter(|event| event.agent_id == id).count();
    assert_eq!(issued, 2, "one for each assertion of which something came");
    assert!(log.events.iter().any(|event| event.reason_code == "CLIENT_REFUSED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_of_possession_is_for_one_request() {
    let raised = Raised::new().await;
    let shop = Shop::of(&raised).await;
    let key = P256Signer::from_scalar(&[6; 32]).unwrap();
    let id = shop.clients.id("with-secret").await;
    let secret = shop.secret.clone();
    let point = key.public_key().as_sec1();
    let coordinate = |at: std::ops::Range<usize>| Base64UrlUnpadded::encode_string(&point[at]);
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": coordinate(1..33), "y": coordinate(33..65)});
    let proof = |name: &str, nonce: Option<&str>, url: &str| {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let header = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk});
        let mut claims = json!({"jti": name, "htm": "POST", "htu": url, "iat": now});
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        signed(&key, &header.to_string(), &claims.to_string())
    };
    let show = async |proof: &str| {
        let form = [("client_id", id.as_str()), ("client_secret", secret.as_str())];
        shop.clients.token(Identity::anonymous(), &[("dpop", proof)], &form).await
    };
    let url = format!("{}/oauth2/token", shop.clients.url());
    let first = show(&proof("a", None, &url)).await;
    refused(&first, "use_dpop_nonce", "no nonce");
    let nonce = first.headers["dpop-nonce"].to_str().unwrap().to_owned();
    let good = proof("b", Some(&nonce), &url);
    let answer = show(&good).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    let said = Parts::of(answer.json["access_token"].as_str().unwrap());
    assert_eq!(claims(answer.json["access_token"].as_str().unwrap())["cnf"]["jkt"], key.public_key().kid().as_str());
    assert!(!said.signature.is_empty());
    refused(&show(&good).await, "invalid_dpop_proof", "shown again");
    refused(
        &show(&proof("c", Some(&nonce), "https://elsewhere.example/oauth2/token")).await,
        "invalid_dpop_proof",
        "of another URL",
    );
    raised.suite.shutdown().await;
}
