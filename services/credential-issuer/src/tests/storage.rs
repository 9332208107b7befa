//! Storage grows with credentials and revocations, and not with tokens, however their agents prove themselves; what is shown once leaves
//! a row until nobody could show it any more: every table is counted before and after.

use std::collections::BTreeMap;
use std::time::Duration;

use legate_db::testing::on_each;
use legate_token::{Confirmation, EcSigner as _, P256Signer};
use legate_wire::registry::{CredentialMethod, TokenBinding};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use super::clients::{asker, key_is_known};
use super::federation;
use super::outside::{key, token};
use super::scene::*;
use crate::flow::assertion::believe;
use crate::schema::Migrator;

/// Events wait in the outbox until they are shipped, one for each token; then they are the log's.
const SHIPPED: [&str; 1] = ["outbox"];

impl Scene {
    /// How many rows every table has.
    pub(super) async fn rows(&self) -> BTreeMap<String, i64> {
        let read = self.desk.db.read("count_every_table", |tx| {
            Box::pin(async move {
                let of_backend = match tx.get_database_backend() {
                    DbBackend::Sqlite => {
                        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
                    }
                    _ => "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()",
                };
                let backend = tx.get_database_backend();
                let mut counts = BTreeMap::new();
                for row in tx.query_all_raw(Statement::from_string(backend, of_backend)).await? {
                    let name = row.try_get_by_index::<String>(0)?;
                    let count = format!("SELECT COUNT(*) FROM {name}");
                    let count = tx.query_one_raw(Statement::from_string(backend, count)).await?;
                    let count = count.map(|row| row.try_get_by_index::<i64>(0)).transpose()?;
                    counts.insert(name, count.unwrap_or_default());
                }
                Ok(counts)
            })
        });
        read.await.map_err(crate::error::of_tx).unwrap()
    }
}

#[tokio::test]
async fn two_hundred_tokens_leave_no_row_and_a_revoked_one_leaves_one_until_it_would_have_ended() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        key_is_known(&scene).await;
        let (row, _) = scene.enrolled(1).await;
        scene.issue(&row, wish()).await.unwrap();
        let without_outbox = async || {
            let mut rows = scene.rows().await;
            rows.retain(|table, _| !SHIPPED.contains(&table.as_str()));
            rows
        };
        let before = without_outbox().await;
        assert!(before.len() >= 10 && before["credential"] == 1, "{before:?}");
        let mut last = None;
        for _ in 0..200 {
            last = Some(scene.issue(&row, wish()).await.unwrap());
        }
        assert_eq!(without_outbox().await, before);
        let last = last.unwrap();
        crate::flow::revoke_token::revoke_token(&scene.desk, &scene.operator(), &asker(1), &last.token).await.unwrap();
        let mut expected = before.clone();
        *expected.entry("revoked_token".into()).or_default() += 1;
        assert_eq!(without_outbox().await, expected);
        scene.pass(std::time::Duration::from_secs(700)).await;
        crate::flow::forget::forget(&scene.desk).await.unwrap();
        assert_eq!(without_outbox().await, before);
    })
    .await;
}

#[tokio::test]
async fn whatever_is_shown_once_for_a_token_leaves_one_row_until_nobody_could_show_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let all: Vec<_> = super::clients::ALL.iter().copied().chain([CredentialMethod::TrustedIssuer]).collect();
        super::identity::trust(&scene, &all).await;
        scene.methods(&all, TokenBinding::Optional).await;
        let (secret, _) = scene.secret(1, false).await.unwrap();
        let signer = P256Signer::from_scalar(&[7; 32]).unwrap();
        scene.register(1, signer.public_key()).await.unwrap();
        let nonce = crate::flow::dpop::nonce(&scene.desk);
        let by_identity = async |name: &str| {
            let shown = token(&key(1), &federation::with("jti", name));
            let client = believe(&scene.desk, &scene.stranger(), super::registry::NAMESPACE, &shown).await.unwrap();
            scene.token(client, Confirmation::Bearer).await.unwrap();
        };
        // What is there once for all of a kind is there before it is counted.
        by_identity("first").await;
        scene.token_by_assertion(&scene.assertion(1, "first", &signer), wish()).await.unwrap();
        let client = scene.show_secret(1, &secret).await.unwrap();
        scene.token(client, Confirmation::Bearer).await.unwrap();
        let counted = async || {
            let mut rows = scene.rows().await;
            rows.retain(|table, _| !SHIPPED.contains(&table.as_str()));
            rows
        };
        let before = counted().await;
        for n in 0..20 {
            // A secret and a certificate leave nothing.
            let client = scene.show_secret(1, &secret).await.unwrap();
            scene.token(client, Confirmation::Bearer).await.unwrap();
            scene.token_by_assertion(&scene.assertion(1, &format!("a{n}"), &signer), wish()).await.unwrap();
            scene.token_by_proof(&secret, &scene.proof(&format!("p{n}"), &nonce, &signer)).await.unwrap();
            by_identity(&format!("i{n}")).await;
        }
        let mut expected = before.clone();
        *expected.entry("shown_once".into()).or_default() += 40;
        *expected.entry("used_identity_token".into()).or_default() += 20;
        let mut after = counted().await;
        // A share is counted in sixteen parts.
        let parts = after.insert("used_identity_share".into(), 0).unwrap();
        assert!(parts <= 16, "{parts}");
        expected.insert("used_identity_share".into(), 0);
        assert_eq!(after, expected);

        // Names of assertions and proofs are kept for minutes, tokens of issuers outside for a day after they ended.
        scene.pass(Duration::from_secs(700)).await;
        crate::flow::forget::forget(&scene.desk).await.unwrap();
        let after = counted().await;
        assert_eq!((after["shown_once"], after["used_identity_token"]), (0, 21));
        scene.pass(Duration::from_secs(25 * 3_600)).await;
        crate::flow::forget::forget(&scene.desk).await.unwrap();
        let after = counted().await;
        assert_eq!((after["shown_once"], after["used_identity_token"]), (0, 0));
    })
    .await;
}
