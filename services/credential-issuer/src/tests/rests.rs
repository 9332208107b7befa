//! What a token rests on beside its own times: the certificate that obtained it, the policy that lets it be bound to nothing.

use legate_clock::Clock as _;
use legate_db::testing::on_each;
use legate_token::Confirmation;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Revocation, RevocationReason, TokenBinding};
use zeroize::Zeroizing;

use super::clients::{ALL, asker, key_is_known};
use super::registry::agent_id;
use super::scene::{Scene, reason, wish};
use crate::flow::authenticate::{Shown, Use, authenticate};
use crate::flow::issue_token::{Asking, issue};
use crate::flow::revoke_token::revoke_token;
use crate::schema::Migrator;
use crate::store::credential;

#[tokio::test]
async fn a_token_for_a_key_of_its_own_dies_with_the_certificate_that_obtained_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Required).await;
        key_is_known(&scene).await;
        let (row, _) = scene.enrolled(1).await;
        let call = scene.holder(&row);
        let obtain = async |confirmation| {
            let shown = Shown::Certificate { client: agent_id(1).to_string() };
            let client = authenticate(&scene.desk, &call, shown, Use::AtOnce).await.unwrap();
            let asking = Asking::of(client, confirmation);
            issue(&scene.desk, &call, asking, wish()).await.unwrap().token
        };
        let tokens = [
            obtain(Confirmation::Key([5; 32])).await,
            obtain(Confirmation::Certificate(row.x5t_s256.clone().unwrap().try_into().unwrap())).await,
        ];
        for token in &tokens {
            assert!(scene.is_active(&asker(1), token).await);
        }
        scene.revoke(&row.id, RevocationReason::KeyCompromise).await.unwrap();
        let told = scene.heard.revocations.lock().unwrap().last().cloned().unwrap();
        scene.declare(Object::Revocation(Revocation { metadata: None, spec: told.revocation })).await;
        for token in &tokens {
            assert!(!scene.is_active(&asker(1), token).await);
        }
    })
    .await;
}

#[tokio::test]
async fn what_does_not_work_at_the_moment_is_taken_back_all_the_same() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (secret, token) = scene.bearer(1).await;
        assert!(scene.is_active(&asker(1), &token.token).await);
        // A policy that demands a binding counts for what was issued before, too.
        scene.methods(ALL, TokenBinding::Required).await;
        assert!(!scene.is_active(&asker(1), &token.token).await);
        // Whoever is told that it was taken back can rely on that, whatever becomes of the policy.
        revoke_token(&scene.desk, &scene.stranger(), &asker(1), &token.token).await.unwrap();
        assert_eq!(scene.heard.revocations.lock().unwrap().len(), 1);
        scene.methods(ALL, TokenBinding::Optional).await;
        assert!(!scene.is_active(&asker(1), &token.token).await);
        // Of one that has ended nothing is kept.
        let client = scene.show_secret(1, &secret).await.unwrap();
        let token = scene.token(client, Confirmation::Bearer).await.unwrap();
        scene.pass(std::time::Duration::from_secs(400)).await;
        assert!(scene.clock.now() > token.expires);
        revoke_token(&scene.desk, &scene.stranger(), &asker(1), &token.token).await.unwrap();
        assert_eq!(scene.heard.revocations.lock().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_secret_over_a_connection_with_a_certificate_gives_a_token_that_is_bound_to_both() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Required).await;
        key_is_known(&scene).await;
        let (row, _) = scene.enrolled(1).await;
        let (other, _) = scene.enrolled(2).await;
        let (secret, _) = scene.secret(1, false).await.unwrap();
        let obtain = async |row: &credential::Model| {
            let call = scene.holder(row);
            let secret = Zeroizing::new(secret.clone());
            let shown = Shown::Secret { client: agent_id(1).to_string(), secret };
            let client = authenticate(&scene.desk, &call, shown, Use::AtOnce).await.unwrap();
            let confirmation = Confirmation::Certificate(call.peer.x5t_s256);
            let asking = Asking::of(client, confirmation);
            issue(&scene.desk, &call, asking, wish()).await
        };
        let token = obtain(&row).await.unwrap().token;
        assert!(scene.is_active(&asker(1), &token).await);
        assert_eq!(reason(obtain(&other).await), "CREDENTIAL_NOT_GOOD", "somebody else's certificate");
    })
    .await;
}
