//! The issuer dies between plan, record, signature and reply, in each flow that gives a token or takes something once: a table.

use std::sync::atomic::Ordering;

use legate_db::Fault::{NotPersisted, PersistedButReplyLost};
use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_token::{Confirmation, EcSigner as _};
use legate_wire::registry::CredentialMethod::{ClientSecret, EnrolmentToken, PrivateKeyJwt, TrustedIssuer};
use legate_wire::registry::TokenBinding;
use serde_json::json;

use super::clients::{asker, key_is_known};
use super::exchange::{asked, grant};
use super::federation::with;
use super::outside::{key, token};
use super::registry::NAMESPACE;
use super::scene::{Scene, reason, wish};
use crate::flow::assertion::believe;
use crate::flow::revoke_token::revoke_token;
use crate::flow::{dpop, forget, publish};
use crate::schema::Migrator;

const LOST: &str = "DATABASE_UNAVAILABLE";

/// What becomes of a flow whose transaction fails in both ways.
struct Crash {
    flow: &'static str,
    transaction: &'static str,
    /// The event of what was planned; empty: it has none.
    event: &'static str,
    /// When the same is tried again after its answer was lost: it works, or it was used up and is refused so.
    after: Result<(), &'static str>,
}

const TABLE: [Crash; 6] = [
    Crash { flow: "client credentials", transaction: "issue_token", event: "token.issued", after: Ok(()) },
    Crash { flow: "exchange", transaction: "issue_token", event: "token.exchanged", after: Ok(()) },
    // What is used once was used: a token that nobody was given is no token that somebody has.
    Crash { flow: "jwt-bearer", transaction: "issue_token", event: "token.issued", after: Err("IDENTITY_TOKEN_SPENT") },
    Crash { flow: "private_key_jwt", transaction: "issue_token", event: "token.issued", after: Err("CLIENT_REFUSED") },
    Crash { flow: "client assertion", transaction: "show_once", event: "", after: Err("CLIENT_REFUSED") },
    Crash { flow: "DPoP proof", transaction: "issue_token", event: "token.issued", after: Err("DPOP_PROOF_REFUSED") },
];

#[tokio::test]
async fn nothing_is_signed_that_is_not_recorded_and_nothing_is_used_twice() {
    on_each::<Migrator>(async |fixture| {
        let (scene, row) = super::exchange::scene(&fixture).await;
        scene.declare(grant("of-ada", "user:ada")).await;
        let methods = [EnrolmentToken, ClientSecret, PrivateKeyJwt, TrustedIssuer];
        scene.methods(&methods, TokenBinding::Optional).await;
        let signer = key(7);
        scene.register(1, signer.public_key()).await.unwrap();
        let (secret, _) = scene.secret(1, false).await.unwrap();
        let bot = token(&key(1), &with("sub", "bot"));
        let assertion = scene.assertion(1, "assertion-1", &signer);
        let by_token = scene.assertion(1, "assertion-2", &signer);
        let proof = scene.proof("proof-1", &dpop::nonce(&scene.desk), &signer);
        for crash in TABLE {
            let attempt = async || -> Result<(), Fault> {
                match crash.flow {
                    "client credentials" => {
                        let client = scene.show_secret(1, &secret).await?;
                        scene.token(client, Confirmation::Bearer).await.map(drop)
                    }
                    "exchange" => asked(&scene, &row, &json!({}), wish()).await.map(drop),
                    "jwt-bearer" => {
                        let client = believe(&scene.desk, &scene.stranger(), NAMESPACE, &bot).await?;
                        scene.token(client, Confirmation::Bearer).await.map(drop)
                    }
                    "private_key_jwt" => scene.token_by_assertion(&by_token, wish()).await.map(drop),
                    "client assertion" => scene.show_assertion(&assertion).await.map(drop),
                    _ => scene.token_by_proof(&secret, &proof).await.map(drop),
                }
            };
            let flow = crash.flow;
            let signed = || scene.tokens.signed.load(Ordering::SeqCst);
            let events = async || if crash.event.is_empty() { 0 } else { scene.count(crash.event).await };
            let before = (signed(), events().await);
            for (fault, more) in [(NotPersisted, 0), (PersistedButReplyLost, 1)] {
                scene.desk.db.faults().plan(crash.transaction, fault);
                assert_eq!(reason(attempt().await), LOST, "{flow} {fault:?}");
                let expected = (before.0, before.1 + if crash.event.is_empty() { 0 } else { more });
                assert_eq!(
                    (signed(), events().await),
                    expected,
                    "{flow} {fault:?}: signed without knowing of a record"
                );
            }
            // The process that comes after knows nothing but what is on disk.
            let again = attempt().await.map_err(|fault| fault.reason());
            assert_eq!(again, crash.after, "{flow}");
            assert_eq!(scene.desk.db.faults().pending(), 0);
        }
        // A key that does not answer leaves a record and no token; what was used stays used.
        scene.tokens.fails.store(true, Ordering::SeqCst);
        assert_eq!(reason(asked(&scene, &row, &json!({}), wish()).await), "SIGNING_UNAVAILABLE");
        let bot = token(
            &key(1),
            &json!({"iss": "https://ci.example", "aud": "legate", "sub": "bot", "jti": "9",
            "iat": super::scene::START, "exp": super::scene::START + 300}),
        );
        let client = believe(&scene.desk, &scene.stranger(), NAMESPACE, &bot).await.unwrap();
        assert_eq!(reason(scene.token(client.clone(), Confirmation::Bearer).await), "SIGNING_UNAVAILABLE");
        scene.tokens.fails.store(false, Ordering::SeqCst);
        assert_eq!(reason(scene.token(client, Confirmation::Bearer).await), "IDENTITY_TOKEN_SPENT");
    })
    .await;
}

#[tokio::test]
async fn what_is_taken_back_is_taken_back_once_it_is_on_disk() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (_, issued) = scene.bearer(1).await;
        key_is_known(&scene).await;
        let take_back = async || revoke_token(&scene.desk, &scene.stranger(), &asker(1), &issued.token).await;
        scene.desk.db.faults().plan("revoke_token", NotPersisted);
        assert_eq!(reason(take_back().await), LOST);
        assert!(scene.is_active(&asker(1), &issued.token).await);
        scene.desk.db.faults().plan("revoke_token", PersistedButReplyLost);
        assert_eq!(reason(take_back().await), LOST);
        assert!(!scene.is_active(&asker(1), &issued.token).await);
        assert!(publish::round(&scene.desk).await);
        assert_eq!(scene.heard.revocations.lock().unwrap().len(), 1, "the registry hears of it, whoever died");
        take_back().await.unwrap();
        assert_eq!(scene.count("token.revoked").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_secret_whose_answer_was_lost_is_known_to_nobody_and_forgetting_is_made_again() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(&[EnrolmentToken, ClientSecret], TokenBinding::Optional).await;
        for (fault, events) in [(NotPersisted, 0), (PersistedButReplyLost, 1)] {
            scene.desk.db.faults().plan("create_client_credential", fault);
            assert_eq!(reason(scene.secret(1, false).await), LOST);
            assert_eq!(scene.count("client.created").await, events);
            scene.desk.db.faults().plan("forget", fault);
            forget::forget(&scene.desk).await.unwrap_err();
            forget::forget(&scene.desk).await.unwrap();
        }
        // It takes one of the two places until it ends or is replaced.
        scene.secret(1, true).await.unwrap();
    })
    .await;
}
