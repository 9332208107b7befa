//! What a client shows wrongly: nobody else is locked out for it, and what stands beside a grant counts too.

use http::StatusCode;
use legate_mtls::Identity;
use legate_wire::audit::QueryEventsRequest;
use legate_wire::audit::query_service_client::QueryServiceClient;
use serde_json::json;

use super::{Clients, RESOURCE, basic, vouched};
use crate::outside::Outside;
use crate::raised::Raised;

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Failures in a minute from one address after which what comes from there waits for its turn; and some more.
const MANY: usize = 130;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn however_often_others_fail_from_an_address_whoever_is_right_is_let_in() {
    let raised = Raised::new().await;
    let outside = Outside::new().await;
    let clients = Clients::of(&raised).await;
    crate::delegation::apply(&raised, &vouched(&outside)).await;
    let (secret, _) = clients.secret("with-secret").await;
    let (by_secret, own) = (clients.id("with-secret").await, clients.secret("with-certificate").await.0);
    // Of one client, of many, and of a namespace's issuer: all from the loopback, as all behind one gateway are.
    for n in 0..MANY {
        let wrong = basic(&by_secret, &own);
        let answer = clients.token(Identity::anonymous(), &[("authorization", &wrong)], &[]).await;
        assert_eq!((answer.status, &answer.json["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")), "{n}");
        let form = [("grant_type", JWT_BEARER), ("resource", RESOURCE), ("namespace", "shop"), ("assertion", "a.b.c")];
        let answer = clients.post(Identity::anonymous(), "/oauth2/token", &[], &form).await;
        assert_eq!((answer.status, &answer.json["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")), "{n}");
    }
    let answer = clients.by_secret("with-secret", &secret).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    let assertion = outside.token("shop", &json!({"sub": "run:shop"}));
    let form = [("grant_type", JWT_BEARER), ("resource", RESOURCE), ("namespace", "shop"), ("assertion", &assertion)];
    let answer = clients.post(Identity::anonymous(), "/oauth2/token", &[], &form).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    // The flood is in the audit log, as a few lines that say how often.
    let mut log = QueryServiceClient::new(raised.operator("audit-collector"));
    let begin = std::time::Instant::now();
    loop {
        let request = QueryEventsRequest { r#type: "access.refused".into(), ..QueryEventsRequest::default() };
        let events = log.query_events(request).await.unwrap().into_inner().events;
        let count = |reason: &str| -> usize {
            let of = events.iter().filter_map(|entry| entry.event.as_ref()).filter(|event| event.reason_code == reason);
            of.map(|event| event.details["count"].parse::<usize>().unwrap()).sum()
        };
        if (count("CLIENT_REFUSED"), count("IDENTITY_TOKEN_REFUSED")) == (MANY, MANY) {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{events:?}");
        tokio::task::yield_now().await;
    }
    raised.suite.shutdown().await;
}

/// RFC 7523 section 3.1: credentials of a client that come with a grant are validated.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_beside_an_assertion_that_is_a_grant_have_to_be_right_and_of_the_same_agent() {
    let raised = Raised::new().await;
    let outside = Outside::new().await;
    let clients = Clients::of(&raised).await;
    crate::delegation::apply(&raised, &vouched(&outside)).await;
    // The assertion stands for the client with the key.
    let (own, other) = (clients.secret("with-key").await.0, clients.secret("with-secret").await.0);
    let (id, other_id) = (clients.id("with-key").await, clients.id("with-secret").await);
    let sent = std::sync::atomic::AtomicUsize::new(0);
    let send = async |headers: &[(&str, &str)], more: &[(&str, &str)]| {
        let run = sent.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let assertion = outside.token("shop", &json!({"sub": "run:shop", "jti": format!("run-{run}")}));
        let mut form =
            vec![("grant_type", JWT_BEARER), ("resource", RESOURCE), ("namespace", "shop"), ("assertion", &assertion)];
        form.extend_from_slice(more);
        clients.post(Identity::anonymous(), "/oauth2/token", headers, &form).await
    };
    let type_of = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let (good, of_other, wrong) = (basic(&id, &own), basic(&other_id, &other), basic(&id, &other));
    let mut fine = vec![send(&[], &[]).await, send(&[("authorization", &good)], &[]).await];
    fine.push(send(&[], &[("client_id", &id)]).await);
    fine.push(send(&[], &[("client_id", &id), ("client_secret", &own)]).await);
    for answer in fine {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    }
    for (headers, more, error) in [
        (vec![("authorization", &*wrong)], vec![], "invalid_client"),
        (vec![("authorization", "Bearer x")], vec![], "invalid_request"),
        (vec![], vec![("client_id", &*id), ("client_secret", "lgt_sec_guessed")], "invalid_client"),
        (vec![], vec![("client_secret", &*own)], "invalid_request"),
        (vec![], vec![type_of, ("client_assertion", "a.b.c")], "invalid_client"),
        (vec![("authorization", &*good)], vec![("client_secret", &*own)], "invalid_request"),
        // Right, and another's.
        (vec![("authorization", &*of_other)], vec![], "invalid_grant"),
        (vec![], vec![("client_id", &*other_id), ("client_secret", &*other)], "invalid_grant"),
        (vec![], vec![("client_id", &*other_id)], "invalid_grant"),
        (vec![], vec![("client_id", "somebody")], "invalid_grant"),
    ] {
        let answer = send(&headers, &more).await;
        assert_eq!(answer.json["error"], error, "{headers:?} {more:?}: {}", answer.json);
    }
    raised.suite.shutdown().await;
}
