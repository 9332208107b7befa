//! A resource server that asks nobody: it has the key set, the token, and the list that the token names.

use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use legate_client::Remote;
use legate_mtls::Identity;
use legate_token::{EcVerifier as _, P256Verifier, PublicKey};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::{AgentRef, SuspendAgentRequest};
use serde_json::Value;
use tonic::body::Body;
use tower::ServiceExt as _;

use super::{Clients, claims};
use crate::raised::{LONG, Raised};

/// What it fetched: status, media type, `Cache-Control`, text.
struct Fetched {
    status: StatusCode,
    kind: String,
    kept: String,
    text: String,
}

async fn fetch(clients: &Clients<'_>, path: &str, accept: Option<&str>) -> Fetched {
    let mut request = Request::get(path);
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    let trust = clients.raised.suite.trust().unwrap();
    let remote = Remote { endpoint: clients.url(), trust, service: "credential-issuer" };
    let channel = remote.dial(Identity::anonymous()).unwrap();
    let (parts, body) = channel.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().into_parts();
    let header = |name: &str| parts.headers.get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    let (kind, kept) = (header("content-type"), header("cache-control"));
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Fetched { status: parts.status, kind, kept, text }
}

/// Whether the token is VALID, by the steps of section 8.3 of the draft.
async fn is_valid(clients: &Clients<'_>, token: &str) -> bool {
    let at = claims(token)["status"]["status_list"].clone();
    let (uri, place) = (at["uri"].as_str().unwrap().to_owned(), usize::try_from(at["idx"].as_u64().unwrap()).unwrap());
    let path = uri.strip_prefix(&clients.url()).expect("the list is below the issuer");
    let list = fetch(clients, path, Some("application/statuslist+jwt")).await;
    assert_eq!(list.status, StatusCode::OK, "{}", list.text);
    assert_eq!((list.kind.as_str(), list.kept.as_str()), ("application/statuslist+jwt", "public, max-age=7"));
    let (input, signature) = list.text.rsplit_once('.').unwrap();
    let header: Value = {
        let header = Base64UrlUnpadded::decode_vec(input.split('.').next().unwrap()).unwrap();
        serde_json::from_slice(&header).unwrap()
    };
    assert_eq!((header["typ"].as_str(), header["alg"].as_str()), (Some("statuslist+jwt"), Some("ES256")));
    let keys = clients.get("/oauth2/jwks").await.json["keys"].as_array().unwrap().clone();
    let key = keys.into_iter().find(|key| key["kid"] == header["kid"]).expect("the key is published");
    let part = |name: &str| Base64UrlUnpadded::decode_vec(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], part("x"), part("y")].concat();
    let signature: [u8; 64] = Base64UrlUnpadded::decode_vec(signature).unwrap().try_into().unwrap();
    assert!(P256Verifier::new(&PublicKey::from_sec1(&point).unwrap()).verify(input.as_bytes(), &signature));
    let said = claims(&list.text);
    assert_eq!(said["sub"], uri.as_str());
    assert_eq!((said["ttl"].as_u64(), said["status_list"]["bits"].as_u64()), (Some(7), Some(1)));
    assert!(said["exp"].as_i64().unwrap() > legate_clock::Clock::now(&legate_clock::SystemClock::new()).secs());
    let packed = Base64UrlUnpadded::decode_vec(said["status_list"]["lst"].as_str().unwrap()).unwrap();
    let bits = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&packed, 1 << 20).unwrap();
    bits[place / 8] >> (place % 8) & 1 == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_asks_nobody_sees_what_was_taken_back() {
    let raised = Raised::with_federation("[status_list_draft_ietf_21]\nttl_seconds = 7\n").await;
    let clients = Clients::of(&raised).await;
    let mut tokens = Vec::new();
    let mut credentials = Vec::new();
    for _ in 0..2 {
        let (secret, credential) = clients.secret("with-secret").await;
        let answer = clients.by_secret("with-secret", &secret).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        tokens.push(answer.json["access_token"].as_str().unwrap().to_owned());
        credentials.push(credential);
    }
    // The other services take such a token as any other.
    let backend = clients.backend().await;
    assert_eq!(super::ask(&backend, &tokens[0], &[], &[]).await.reason_code, "ALLOWED");
    assert!(is_valid(&clients, &tokens[0]).await && is_valid(&clients, &tokens[1]).await);

    clients.revoke(&credentials[0]).await;
    assert!(!is_valid(&clients, &tokens[0]).await, "no list of before is served");
    assert!(is_valid(&clients, &tokens[1]).await);

    let agent = Some(AgentRef { namespace: "shop".into(), name: "with-secret".into(), ..AgentRef::default() });
    let request = SuspendAgentRequest { agent, reason: "a test".into(), ..SuspendAgentRequest::default() };
    AgentServiceClient::new(raised.operator("registry")).suspend_agent(request).await.unwrap();
    // The news comes by the registry's stream, within its bound.
    let told = async {
        while is_valid(&clients, &tokens[1]).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, told).await.expect("a suspended agent's token is never INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_fetched_by_its_uri_and_by_nothing_else() {
    let raised = Raised::with_federation("[status_list_draft_ietf_21]\n").await;
    let clients = Clients::of(&raised).await;
    assert_eq!(fetch(&clients, "/oauth2/status/0", None).await.status, StatusCode::NOT_FOUND, "nothing was given yet");
    let (secret, _) = clients.secret("with-secret").await;
    assert_eq!(clients.by_secret("with-secret", &secret).await.status, StatusCode::OK);
    for (path, accept, status) in [
        ("/oauth2/status/0", None, 200),
        ("/oauth2/status/0", Some("*/*"), 200),
        ("/oauth2/status/0", Some("text/html, application/*;q=0.5"), 200),
        ("/oauth2/status/0", Some("application/statuslist+cwt"), 406),
        ("/oauth2/status/0?time=1686925000", None, 501),
        ("/oauth2/status/1", None, 404),
        ("/oauth2/status/00", None, 404),
        ("/oauth2/status/+0", None, 404),
        ("/oauth2/status/-1", None, 404),
        ("/oauth2/status/4294967296", None, 404),
        ("/oauth2/status/99999999999999999999999999", None, 404),
        ("/oauth2/status/x", None, 404),
        ("/oauth2/status/", None, 404),
    ] {
        let found = fetch(&clients, path, accept).await;
        assert_eq!(found.status.as_u16(), status, "{path} {accept:?}: {}", found.text);
    }
    let found = fetch(&clients, "/oauth2/status/1", None).await;
    let told: Value = serde_json::from_str(&found.text).unwrap();
    assert_eq!((told["reason"].as_str(), found.kept.as_str()), (Some("STATUS_LIST_NOT_FOUND"), "no-store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_not_configured_there_are_no_lists() {
    let raised = Raised::new().await;
    let clients = Clients::of(&raised).await;
    let (secret, _) = clients.secret("with-secret").await;
    let answer = clients.by_secret("with-secret", &secret).await;
    assert_eq!(claims(answer.json["access_token"].as_str().unwrap()).get("status"), None);
    assert_eq!(fetch(&clients, "/oauth2/status/0", None).await.status, StatusCode::NOT_FOUND);
}
