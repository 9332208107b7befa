//! Named transactions on both databases: atomic, grouped, retried, and failing in the two planned ways.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::join_all;
use legate_db::testing::{Fixture, on_each};
use legate_db::{Backend, Db, Fault, OpenError, Options, Tx, TxError};
use sea_orm::{ConnectionTrait, DbErr, Statement};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

struct Schema;
struct First;

impl MigratorTrait for Schema {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(First)]
    }
}

impl MigrationName for First {
    fn name(&self) -> &str {
        "0001_tally"
    }
}

#[sea_orm_migration::async_trait::async_trait]
impl MigrationTrait for First {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared("CREATE TABLE tally (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)").await?;
        db.execute_unprepared("INSERT INTO tally VALUES (1, 0), (2, 0)").await?;
        Ok(())
    }
}

async fn value(tx: &Tx, id: i64) -> Result<i64, DbErr> {
    let sql = format!("SELECT n FROM tally WHERE id = {id}");
    let row = tx.query_one_raw(Statement::from_string(tx.get_database_backend(), sql)).await?;
    row.unwrap().try_get_by_index(0)
}

async fn add(tx: &Tx, id: i64) -> Result<i64, DbErr> {
    let sql = format!("UPDATE tally SET n = n + 1 WHERE id = {id}");
    tx.execute_unprepared(&sql).await?;
    value(tx, id).await
}

async fn count(db: &Db) -> i64 {
    let read = db.read::<_, (), _>("count", |tx| Box::pin(async move { Ok(value(tx, 1).await?) }));
    read.await.unwrap()
}

async fn increment(db: &Db) -> Result<i64, TxError<&'static str>> {
    db.tx("increment", |tx| Box::pin(async move { Ok(add(tx, 1).await?) })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_leaves_nothing_and_spoils_no_neighbour() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let calls = (0..60).map(|i| {
            let db = db.clone();
            async move {
                db.tx("sometimes", move |tx| {
                    Box::pin(async move {
                        add(tx, 1).await?;
                        match i % 3 {
                            0 => Err(TxError::Flow("no")),
                            1 => panic!("a planned panic"),
                            _ => Ok(()),
                        }
                    })
                })
                .await
            }
        });
        let ends = join_all(calls).await;
        assert_eq!(ends.iter().filter(|e| matches!(e, Err(TxError::Flow("no")))).count(), 20);
        assert_eq!(ends.iter().filter(|e| matches!(e, Err(TxError::Broken(_)))).count(), 20);
        assert_eq!(count(&db).await, 20);
    })
    .await;
}

/// Alone it has no savepoint of its own.
#[tokio::test]
async fn what_fails_alone_leaves_nothing_either_and_what_comes_after_it_is_kept() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        for how in 0..3 {
            let failed = db.tx::<u64, _, _>("fails", move |tx| {
                Box::pin(async move {
                    add(tx, 1).await?;
                    match how {
                        0 => Err(TxError::Flow("no")),
                        1 => panic!("a planned panic"),
                        _ => Ok(tx.execute_unprepared("INSERT INTO tally VALUES (1, 7)").await?.rows_affected()),
                    }
                })
            });
            failed.await.unwrap_err();
            assert_eq!(count(&db).await, how, "{how}");
            assert_eq!(increment(&db).await.unwrap(), how + 1);
        }
    })
    .await;
}

/// Those that wait behind the first join its commit, and are in savepoints, whatever the first one had.
#[tokio::test]
async fn who_comes_while_the_first_is_at_it_goes_with_it_and_fails_for_himself() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        if db.backend() == Backend::Postgres {
            return;
        }
        let (begun, go) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
        let first = db.tx::<_, &str, _>("first", {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            move |tx| {
                let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
                Box::pin(async move {
                    begun.notify_one();
                    go.notified().await;
                    Ok(add(tx, 1).await?)
                })
            }
        });
        let others = async {
            begun.notified().await;
            let commits = *db.commits().borrow();
            let fails = db.tx::<(), _, _>("fails", |tx| {
                Box::pin(async move {
                    add(tx, 1).await?;
                    Err(TxError::Flow("no"))
                })
            });
            let (refused, second, ()) = tokio::join!(fails, increment(&db), async { go.notify_one() });
            assert!(matches!(refused, Err(TxError::Flow("no"))));
            assert_eq!(second.unwrap(), 2);
            commits
        };
        let (first, commits) = tokio::join!(first, others);
        assert_eq!(first.unwrap(), 1);
        assert_eq!(count(&db).await, 2);
        assert_eq!(*db.commits().borrow(), commits + 1, "one commit for both");
    })
    .await;
}

#[tokio::test]
async fn a_peek_sees_what_is_committed_and_has_its_planned_fault() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let peek = async || {
            let look = db.peek::<_, (), _>("peek", |connections| {
                Box::pin(async move {
                    let sql = "SELECT n FROM tally WHERE id = 1";
                    let found = Statement::from_string(connections.get_database_backend(), sql);
                    Ok(connections.query_one_raw(found).await?.unwrap().try_get_by_index::<i64>(0)?)
                })
            });
            look.await
        };
        assert_eq!(peek().await.unwrap(), 0);
        increment(&db).await.unwrap();
        assert_eq!(peek().await.unwrap(), 1);
        db.faults().plan("peek", Fault::NotPersisted);
        assert!(matches!(peek().await, Err(TxError::Unavailable(_))));
        if db.backend() == Backend::Sqlite {
            let write = db.peek::<_, (), _>("write", |connections| {
                Box::pin(async move { Ok(connections.execute_unprepared("UPDATE tally SET n = 9").await?) })
            });
            assert!(write.await.is_err(), "connections that read do not write");
        }
        assert_eq!(count(&db).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_lose_nothing_and_see_each_other_in_order() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let mut seen: Vec<i64> =
            join_all((0..200).map(|_| increment(&db))).await.into_iter().map(Result::unwrap).collect();
        seen.sort_unstable();
        assert_eq!(seen, (1..=200).collect::<Vec<_>>());
        if db.backend() == Backend::Sqlite {
            // 200 transactions in far fewer commits: they were grouped.
            assert!(*db.commits().borrow() < 100, "{}", *db.commits().borrow());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_faults_happen_once_and_mean_what_they_say() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        for (fault, after) in [(Fault::NotPersisted, 0), (Fault::PersistedButReplyLost, 1)] {
            db.faults().plan("increment", fault);
            assert!(matches!(increment(&db).await, Err(TxError::Unavailable(_))));
            assert_eq!(count(&db).await, after);
            assert_eq!(db.faults().pending(), 0);
        }
        assert_eq!(increment(&db).await.unwrap(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_resolved_and_both_succeed() {
    on_each::<Schema>(async |fixture: Fixture| {
        // On SQLite the writer takes one after the other, so there both must not wait for each other.
        let meet = fixture.is_postgres().then(|| Arc::new(tokio::sync::Barrier::new(2)));
        let runs = Arc::new(AtomicU32::new(0));
        let crosswise = |first: i64, second: i64| {
            let (meet, runs) = (meet.clone(), Arc::clone(&runs));
            fixture.db.tx::<_, (), _>("crosswise", move |tx| {
                let first_runs = runs.fetch_add(1, Ordering::SeqCst) < 2;
                let meet = meet.clone().filter(|_| first_runs);
                Box::pin(async move {
                    add(tx, first).await?;
                    if let Some(meet) = meet {
                        meet.wait().await;
                    }
                    add(tx, second).await?;
                    Ok(())
                })
            })
        };
        let (one, other) = tokio::join!(crosswise(1, 2), crosswise(2, 1));
        one.unwrap();
        other.unwrap();
        assert_eq!(count(&fixture.db).await, 2);
        let expected = if fixture.is_postgres() { 3 } else { 2 };
        assert_eq!(runs.load(Ordering::SeqCst), expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_is_one_snapshot_and_cannot_write() {
    on_each::<Schema>(async |Fixture { db, .. }: Fixture| {
        let writer = db.clone();
        db.read::<_, (), _>("snapshot", |tx| {
            Box::pin(async move {
                assert_eq!(value(tx, 1).await?, 0);
                increment(&writer).await.unwrap();
                assert_eq!(value(tx, 1).await?, 0);
                Ok(())
            })
        })
        .await
        .unwrap();
        let write = db.read::<_, (), _>("sly", |tx| Box::pin(async move { Ok(add(tx, 1).await?) }));
        assert!(write.await.is_err());
        assert_eq!(count(&db).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acked_is_there_after_opening_again() {
    on_each::<Schema>(async |fixture: Fixture| {
        increment(&fixture.db).await.unwrap();
        fixture.db.check().await.unwrap();
        fixture.db.close().await;
        assert!(matches!(increment(&fixture.db).await, Err(TxError::Unavailable(_))));
        let db = fixture.again().await;
        db.migrate::<Schema>().await.unwrap();
        assert_eq!(count(&db).await, 1);
        db.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_takes_too_long_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { tx_timeout: std::time::Duration::from_millis(50), ..Options::default() };
    let url = format!("sqlite:{}", dir.path().join("deep/slow.db").display());
    let db = Db::open(&url, options).await.unwrap();
    db.migrate::<Schema>().await.unwrap();
    let slow = db.tx::<(), (), _>("slow", |tx| {
        Box::pin(async move {
            add(tx, 1).await?;
            std::future::pending().await
        })
    });
    assert!(matches!(slow.await, Err(TxError::Unavailable(_))));
    assert_eq!(increment(&db).await.unwrap(), 1);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(dir.path().join("deep/slow.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn other_urls_are_refused() {
    for url in ["mysql://x/y", "", "sqlite::memory:", "sqlite:x?mode=memory"] {
        let opened = Db::open(url, Options::default()).await;
        assert!(matches!(opened, Err(OpenError::Url)), "{url}");
    }
}
