//! What is handed on is narrowed by authorization details (RFC 9396), and falls with whatever was issued on somebody's behalf.

use legate_rpc::Told;
use legate_wire::credential::agent_credential_service_client::AgentCredentialServiceClient;
use legate_wire::credential::{ExchangeTokenRequest, IssueTokenRequest, TokenType};
use legate_wire::registry::revocation_service_client::RevocationServiceClient;
use legate_wire::registry::revoke_issued_request::Level;
use legate_wire::registry::{RevocationReason, RevokeIssuedRequest};

use super::{Scene, apply, directory, shown};
use crate::asking::{ask, at_least, question, word};
use crate::outside::Outside;
use crate::raised::AUDIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn details_of_a_token_bound_whatever_is_exchanged_for_it() {
    let scene = Scene::new().await;
    let clerk = scene.address("clerk-bot").await;
    let of =
        |identifier: &str| format!(r#"[{{"type":"legate","actions":["invoice:read"],"identifier":"{identifier}"}}]"#);
    let narrow = IssueTokenRequest { audience: clerk, authorization_details: of("apollo/1/*"), ..Default::default() };
    let mut issuer =
        AgentCredentialServiceClient::new(scene.raised.dial("credential-issuer", scene.bot().identity().clone()));
    let narrow = issuer.issue_token(narrow).await.unwrap().into_inner();
    assert_eq!(narrow.authorization_details, of("apollo/1/*"));
    let mut as_clerk =
        AgentCredentialServiceClient::new(scene.raised.dial("credential-issuer", scene.clerk.identity().clone()));
    for (asked, expected) in [
        ("", Ok(of("apollo/1/*"))),
        (&*of("apollo/1/7"), Ok(of("apollo/1/7"))),
        (&*of("apollo/*"), Err("AUTHORIZATION_DETAILS_REFUSED")),
        (r#"[{"type":"payment"}]"#, Err("AUTHORIZATION_DETAILS_REFUSED")),
        (
            r#"[{"type":"legate","identifier":"apollo/1/7","locations":["https://elsewhere.example"]}]"#,
            Err("AUTHORIZATION_DETAILS_REFUSED"),
        ),
    ] {
        let request = ExchangeTokenRequest {
            subject_token: narrow.access_token.clone(),
            subject_token_type: TokenType::AccessToken.into(),
            audience: AUDIENCE.into(),
            authorization_details: asked.into(),
            ..Default::default()
        };
        let made = match (as_clerk.exchange_token(request).await, expected) {
            (Ok(made), Ok(expected)) => {
                let made = made.into_inner();
                assert_eq!(made.authorization_details, expected, "{asked}");
                made
            }
            (Err(status), Err(expected)) => {
                assert_eq!(Told::from_status(&status).reason, expected, "{asked}");
                continue;
            }
            (made, _) => panic!("{asked}: {made:?}"),
        };
        let told = scene.introspect(scene.payments.backend.clone(), &made.access_token).await;
        assert_eq!(told.authorization_details, made.authorization_details);
        let by_clerk = shown(&scene.clerk, &made.access_token);
        for (id, expected) in [("apollo/1/7", "ALLOWED"), ("apollo/2", "TOKEN_SCOPE")] {
            let answer = ask(&scene.backend(), at_least(question(&by_clerk, "invoice:read", id), made.revision)).await;
            assert_eq!(word(&answer), expected, "{asked} {id}: {}", answer.message);
        }
    }
    scene.raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_issued_on_behalf_of_a_person_is_taken_back_at_once() {
    let scene = Scene::new().await;
    let outside = Outside::new().await;
    apply(&scene.raised, &directory(&outside)).await;
    let claims =
        serde_json::json!({"sub": "1", "hd": "example.com", "email": "ada@example.com", "email_verified": true});
    let (first, second) = (outside.token("assistant", &claims), outside.token("assistant", &claims));
    let mut as_clerk =
        AgentCredentialServiceClient::new(scene.raised.dial("credential-issuer", scene.clerk.identity().clone()));
    let mut exchange = async |subject_token: String| {
        let request = ExchangeTokenRequest {
            subject_token,
            subject_token_type: TokenType::IdToken.into(),
            audience: AUDIENCE.into(),
            ..Default::default()
        };
        let made = as_clerk.exchange_token(request).await;
        made.map(tonic::Response::into_inner).map_err(|status| Told::from_status(&status).reason)
    };
    let acts = exchange(first).await.unwrap();
    let by_clerk = shown(&scene.clerk, &acts.access_token);
    let asks = async |revision| {
        ask(&scene.backend(), at_least(question(&by_clerk, "invoice:read", "apollo/1"), revision)).await
    };
    assert_eq!(word(&asks(acts.revision).await), "ALLOWED");
    let order = RevokeIssuedRequest {
        namespace: "payments".into(),
        level: Some(Level::Subject("user:ada@example.com".into())),
        reason: RevocationReason::AffiliationChanged.into(),
        comment: "her laptop was stolen".into(),
        request_id: String::new(),
    };
    let mut revocations = RevocationServiceClient::new(scene.raised.operator("registry"));
    let revoked = revocations.revoke_issued(order).await.unwrap().into_inner().revision;
    // What the clerk has, and what she was logged in with.
    assert_eq!(word(&asks(revoked).await), "CREDENTIAL_REVOKED");
    assert_eq!(exchange(second).await.unwrap_err(), "SUBJECT_TOKEN_FALLEN");
    scene.raised.suite.shutdown().await;
}
