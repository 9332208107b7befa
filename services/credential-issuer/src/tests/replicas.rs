//! Two issuers on one database: what may be shown once is shown once to both, and each trusted issuer keeps to its share.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::{Clock as _, Timestamp};
use legate_db::Db;
use legate_db::testing::on_each;
use legate_token::EcSigner as _;
use legate_wire::registry::CredentialMethod;
use tokio::sync::Barrier;
use zeroize::Zeroizing;

use super::clients::ALL;
use super::federation::with;
use super::identity;
use super::outside::{key, token};
use super::registry::{self, AUDIENCE, NAMESPACE, agent_id};
use super::scene::{START, Scene, new_key, reason, request, wish};
use crate::flow::authenticate::{Shown, Use, authenticate};
use crate::flow::{dpop, enrol_by_identity, forget};
use crate::schema::Migrator;
use crate::store::used_token;

/// As many tries at once as matter.
const TRIES: usize = 16;

/// Another issuer on the same database: on PostgreSQL one with connections of its own.
async fn both(fixture: &legate_db::testing::Fixture) -> [Scene; 2] {
    let first = Scene::on(fixture).await;
    let db = if fixture.is_postgres() { fixture.again().await } else { fixture.db.clone() };
    let second = first.reborn(db).await;
    second.declare(registry::class(300, 3600)).await;
    second.declare(registry::enforcement_point("invoices", NAMESPACE, AUDIENCE)).await;
    second.declare(registry::agent(1, legate_wire::registry::AgentState::Active, 1, None, None)).await;
    [first, second]
}

/// How many of those who all try at one moment, half of them at each issuer, have their way.
async fn raced<F>(attempt: impl Fn(usize) -> F) -> usize
where
    F: Future<Output = bool> + Send + 'static,
{
    let start = Arc::new(Barrier::new(TRIES));
    let tries: Vec<_> = (0..TRIES)
        .map(|n| {
            let (start, attempt) = (Arc::clone(&start), attempt(n));
            tokio::spawn(async move {
                start.wait().await;
                attempt.await
            })
        })
        .collect();
    let mut won = 0;
    for one in tries {
        won += usize::from(one.await.unwrap());
    }
    won
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_shown_once_wins_once_at_two_issuers() {
    on_each::<Migrator>(async |fixture| {
        let scenes = both(&fixture).await.map(Arc::new);
        let signer = key(7);
        for scene in &scenes {
            scene.methods(ALL, legate_wire::registry::TokenBinding::Optional).await;
        }
        scenes[0].register(1, signer.public_key()).await.unwrap();
        let desks = scenes.each_ref().map(|scene| Arc::clone(&scene.desk));

        let assertion = scenes[0].assertion(1, "assertion-1", &signer);
        let won = raced(|n| {
            let (desk, call) = (Arc::clone(&desks[n % 2]), scenes[0].stranger());
            let shown = Shown::Assertion { client: None, assertion: Zeroizing::new(assertion.clone()) };
            async move { authenticate(&desk, &call, shown, Use::AtOnce).await.is_ok() }
        });
        assert_eq!(won.await, 1, "a client assertion");

        // The same where it is used together with the token that comes of it.
        let assertion = scenes[0].assertion(1, "assertion-2", &signer);
        let before = scenes[0].count("token.issued").await;
        let won = raced(|n| {
            let (scene, assertion) = (Arc::clone(&scenes[n % 2]), assertion.clone());
            async move {
                match scene.token_by_assertion(&assertion, wish()).await {
                    Ok(_) => true,
                    Err(fault) => {
                        assert_eq!(fault.reason(), "CLIENT_REFUSED");
                        false
                    }
                }
            }
        });
        assert_eq!(won.await, 1, "a client assertion, used by a token");
        assert_eq!(scenes[0].count("token.issued").await, before + 1);

        // Replicas share the pepper, and so the nonce.
        let proof = scenes[0].proof("proof-1", &dpop::nonce(&desks[0]), &signer);
        let (secret, _) = scenes[0].secret(1, false).await.unwrap();
        let before = scenes[0].count("token.issued").await;
        let won = raced(|n| {
            let (scene, proof, secret) = (Arc::clone(&scenes[n % 2]), proof.clone(), secret.clone());
            async move {
                let token = scene.token_by_proof(&secret, &proof).await;
                token.map_err(|fault| assert_eq!(fault.reason(), "DPOP_PROOF_REFUSED")).is_ok()
            }
        });
        assert_eq!(won.await, 1, "a DPoP proof");
        assert_eq!(scenes[0].count("token.issued").await, before + 1, "one token for one proof, whoever recorded it");

        for scene in &scenes {
            identity::trust(scene, &[CredentialMethod::TrustedIssuer]).await;
        }
        let shown = token(&key(1), &with("jti", "raced"));
        let won = raced(|n| {
            let (desk, call, shown) = (Arc::clone(&desks[n % 2]), scenes[0].stranger(), shown.clone());
            let csr = request(&new_key());
            async move { Box::pin(enrol_by_identity::enrol(&desk, &call, NAMESPACE, &shown, &csr)).await.is_ok() }
        });
        assert_eq!(won.await, 1, "an identity token");
        assert_eq!(scenes[0].count("credential.issued").await, 1);
    })
    .await;
}

fn used(trusted: &str, n: u8, expires: i64) -> used_token::Model {
    let mut once = [n; 32];
    // All in one part of the share.
    once[0] = 0;
    used_token::Model {
        once: once.to_vec(),
        used_at: 0,
        expires_at: Timestamp::from_secs(expires).micros(),
        request_sha256: Vec::new(),
        credential_id: String::new(),
        trusted: trusted.into(),
        bucket: used_token::bucket(&once),
    }
}

async fn spend(db: &Db, row: used_token::Model, most: u32) -> Result<bool, &'static str> {
    let spent = db.tx("spend", move |tx| Box::pin(used_token::spend(tx, row.clone(), most))).await;
    spent.map_err(|e| crate::error::of_tx(e).reason())
}

#[tokio::test]
async fn each_trusted_issuer_has_a_share_of_used_tokens_and_no_more() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let db = &scene.desk.db;
        // 48 in all: three for each part.
        let ends = START + 60;
        for n in 1..=3 {
            assert_eq!(spend(db, used("payments/ci", n, ends), 48).await, Ok(true));
        }
        assert_eq!(spend(db, used("payments/ci", 1, ends), 48).await, Ok(false), "used is used, room or not");
        assert_eq!(spend(db, used("payments/ci", 4, ends), 48).await, Err("IDENTITY_TOKENS_FULL"));
        // Also where others are in the transaction, which goes on without it.
        let goes_on = db.tx("spend", move |tx| {
            Box::pin(async move {
                let refused = used_token::spend(tx, used("payments/ci", 4, ends), 48).await.is_err();
                let other = used_token::spend(tx, used("other/ci", 11, ends), 48).await?;
                Ok((refused, other))
            })
        });
        assert_eq!(goes_on.await.map_err(crate::error::of_tx).unwrap(), (true, true));
        assert_eq!(spend(db, used("other/ci", 11, ends), 48).await, Ok(false));
        // Nothing of what was refused is kept, and nobody else's share is touched.
        assert_eq!(spend(db, used("payments/ci", 4, ends + 60), 64).await, Ok(true));
        assert_eq!(spend(db, used("sales/ci", 5, ends), 48).await, Ok(true));
        assert_eq!(spend(db, used("payments/ci", 6, ends), 64).await, Err("IDENTITY_TOKENS_FULL"));
        // A day after they ended there is room again: for three, since one ends later.
        scene.pass(Duration::from_secs(24 * 3_600 + 61)).await;
        forget::forget(&scene.desk).await.unwrap();
        let later = scene.clock.now().secs() + 60;
        for n in 7..=9 {
            assert_eq!(spend(db, used("payments/ci", n, later), 64).await, Ok(true));
        }
        assert_eq!(spend(db, used("payments/ci", 10, later), 64).await, Err("IDENTITY_TOKENS_FULL"));
    })
    .await;
}

#[tokio::test]
async fn a_full_share_is_told_and_the_token_is_not_used() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        identity::trust(&scene, &[CredentialMethod::TrustedIssuer]).await;
        let csr = request(&new_key());
        // Every part of the share is full.
        let filled = scene.desk.db.tx("fill", |tx| {
            Box::pin(async move {
                for (part, n) in (0..16u8).flat_map(|part| (0..63u8).map(move |n| (part, n))) {
                    let mut row = used("payments/ci", n, START + 3_600);
                    (row.once[0], row.once[1], row.bucket) = (part, 200, part.into());
                    used_token::spend(tx, row, 1_000_000).await?;
                }
                Ok(())
            })
        });
        filled.await.map_err(crate::error::of_tx).unwrap();
        let mut small = super::federation::issuer(
            "ci",
            &[&key(1)],
            vec![super::federation::rule(&[("sub", "repo:pay/bot")], super::federation::agent("bot-1"))],
        );
        small.spec.as_mut().unwrap().max_used_tokens = 1_000;
        scene.declare(legate_wire::registry::declaration::Object::TrustedIssuer(small.clone())).await;
        assert_eq!(reason(identity::run_one(&scene, &csr).await), "IDENTITY_TOKENS_FULL");
        small.spec.as_mut().unwrap().max_used_tokens = 1_024;
        scene.declare(legate_wire::registry::declaration::Object::TrustedIssuer(small)).await;
        assert_eq!(identity::run_one(&scene, &csr).await.unwrap().agent_id, agent_id(1).as_str());
    })
    .await;
}
