//! Storage grows with credentials and revocations, and not with tokens: every table is counted before and after.

use std::collections::BTreeMap;

use legate_db::testing::on_each;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use super::clients::{asker, key_is_known};
use super::scene::*;
use crate::schema::Migrator;

/// Events wait in the outbox until they are shipped, one for each token; then they are the log's.
const SHIPPED: [&str; 1] = ["outbox"];

impl Scene {
    /// How many rows every table has.
    async fn rows(&self) -> BTreeMap<String, i64> {
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
