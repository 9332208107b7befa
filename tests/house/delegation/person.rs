//! An agent acts for a person who is logged in elsewhere, by her identity token.

use legate_client::Runtime;
use legate_rpc::Told;
use legate_wire::credential::agent_credential_service_client::AgentCredentialServiceClient;
use legate_wire::credential::{ExchangeTokenRequest, TokenType};

use super::{MORE, Scene, apply, directory, shown};
use crate::asking::{ask, at_least, question, word};
use crate::outside::Outside;
use crate::raised::AUDIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_acts_for_a_person_who_is_logged_in() {
    let scene = Scene::new().await;
    let outside = Outside::new().await;
    apply(&scene.raised, &directory(&outside)).await;
    let exchange = |who: &Runtime, token: String, audience: String| {
        let mut issuer =
            AgentCredentialServiceClient::new(scene.raised.dial("credential-issuer", who.identity().clone()));
        let request = ExchangeTokenRequest {
            subject_token: token,
            subject_token_type: TokenType::IdToken.into(),
            audience,
            ..ExchangeTokenRequest::default()
        };
        async move {
            let made = issuer.exchange_token(request).await;
            made.map(tonic::Response::into_inner).map_err(|status| Told::from_status(&status).reason)
        }
    };
    let ada = || {
        outside.token(
            "assistant",
            &serde_json::json!({"sub": "1", "hd": "example.com", "email": "ada@example.com", "email_verified": true}),
        )
    };
    let acts = exchange(&scene.clerk, ada(), AUDIENCE.into()).await.unwrap();
    assert_eq!((acts.subject.as_str(), acts.chain.len()), ("user:ada@example.com", 1));
    let by_clerk = shown(&scene.clerk, &acts.access_token);
    for (id, expected) in [("apollo/1", "ALLOWED"), ("zeus/1", "GRANT_NOT_PERMITTED")] {
        let answer = ask(&scene.backend(), at_least(question(&by_clerk, "invoice:read", id), acts.revision)).await;
        assert_eq!(word(&answer), expected, "{id}: {}", answer.message);
        assert_eq!(answer.subject, "user:ada@example.com");
    }

    // Nobody whom she did not let act, nobody whom it does not name so, and nothing that is not hers.
    let eve = outside.token(
        "assistant",
        &serde_json::json!({"sub": "2", "hd": "example.com", "email": "eve@example.com", "email_verified": true}),
    );
    let scanner = outside.token("assistant", &serde_json::json!({"sub": "scanner"}));
    let other = outside.token(
        "other",
        &serde_json::json!({"sub": "1", "hd": "example.com", "email": "ada@example.com", "email_verified": true}),
    );
    let own = scene.handed().await;
    for (who, token, expected) in [
        (&scene.scan, ada(), "GRANT_MISSING"),
        (&scene.clerk, eve, "GRANT_MISSING"),
        (&scene.clerk, scanner, "SUBJECT_TOKEN_INVALID"),
        (&scene.clerk, other, "ISSUER_NOT_TRUSTED"),
        (&scene.clerk, own, "IDENTITY_TOKEN_REFUSED"),
    ] {
        assert_eq!(exchange(who, token, AUDIENCE.into()).await.unwrap_err(), expected);
    }
    // Her grant is not to be passed on.
    let scan = scene.address("scan-bot").await;
    assert_eq!(exchange(&scene.clerk, ada(), scan).await.unwrap_err(), "CHAIN_ENDS_HERE");

    // She may it no more: what acts for her may it no more.
    let without = MORE.replace("  users: [\"user:ada@example.com\"]\n", "");
    assert_ne!(without, MORE);
    let revision = apply(&scene.raised, &without).await;
    let answer = ask(&scene.backend(), at_least(question(&by_clerk, "invoice:read", "apollo/1"), revision)).await;
    assert_eq!(word(&answer), "DELEGATOR_NOT_PERMITTED");
    scene.raised.suite.shutdown().await;
}
