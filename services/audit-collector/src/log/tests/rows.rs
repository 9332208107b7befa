//! The log where its truth is in PostgreSQL: what another collector takes over, and what it refuses to.

use std::path::Path;

use legate_db::testing::on_each;
use legate_merkle::WalkError;
use sea_orm::{ConnectionTrait as _, Database};

use super::scene::{
    Place, all, append, audit, checkpoint, copy, join, open_at, own, producer, segments, try_open_at, until_published,
};
use crate::log::NotAppended;
use crate::log::recover::LogError;
use crate::schema::Migrator;

pub(super) async fn on_rows(test: impl AsyncFn(Place)) {
    on_each::<Migrator>(async |fixture| {
        if fixture.is_postgres() {
            test(Place::Shared(fixture.url.clone())).await;
        }
    })
    .await;
}

pub(super) async fn by_hand(place: &Place, sql: &str) {
    let Place::Shared(url) = place else { panic!("not shared") };
    let db = Database::connect(url).await.unwrap();
    assert!(db.execute_unprepared(sql).await.unwrap().rows_affected() > 0, "{sql}");
    db.close().await.unwrap();
}

/// Two directories of collectors that share a log; the first leads, and has told 40 events.
async fn two(place: &Place) -> (tempfile::TempDir, tempfile::TempDir) {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, tasks) = open_at(place, a.path()).await;
    // That it was opened is a row of its own, so that those behind it are known.
    log.published().wait_for(|published| published.size == 1).await.unwrap();
    for round in 0..8 {
        append(&log, &producer("registry", "e1"), 1 + round * 5, 5).await.unwrap();
    }
    until_published(&log).await;
    tasks.close().await;
    join(a.path(), b.path());
    (a, b)
}

async fn refusal(place: &Place, dir: &Path) -> LogError {
    try_open_at(place, dir).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_one_takes_over_with_everything_and_the_first_appends_nothing_more() {
    on_rows(async |place| {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let me = producer("registry", "e1");
        let (first, first_tasks) = open_at(&place, a.path()).await;
        append(&first, &me, 1, 300).await.unwrap();
        until_published(&first).await;
        let saved = checkpoint(a.path());
        append(&first, &me, 301, 5).await.unwrap();
        join(a.path(), b.path());

        // As if the first had been silent for a lease.
        let (second, second_tasks) = open_at(&place, b.path()).await;
        assert_eq!(all(&second).iter().filter(|(p, _)| *p == me).count(), 305);
        assert_eq!(append(&second, &me, 304, 4).await.unwrap().appended, 2, "what is known is known here too");
        // The first wakes up.
        assert_eq!(append(&first, &me, 308, 1).await, Err(NotAppended::Fenced));
        assert_eq!(append(&first, &me, 308, 1).await, Err(NotAppended::Fenced));
        assert!(first.why_stopped().unwrap().contains("another collector"));
        first_tasks.close().await;
        let size = until_published(&second).await;
        let opened = own(&second).pop().unwrap();
        assert_eq!((opened.r#type.as_str(), opened.details["ended_clean"].as_str()), ("log.recovered", "false"));
        second_tasks.close().await;
        let report = audit(b.path(), Some(&saved)).unwrap();
        assert!(report.entries >= size && report.continues == Some(saved.size));
        // What the first signed last is a beginning of it too.
        let of_first = checkpoint(a.path());
        assert_eq!(audit(b.path(), Some(&of_first)).unwrap().continues, Some(of_first.size));

        // And back again, over its own copy.
        drop((first, second));
        let (log, tasks) = open_at(&place, a.path()).await;
        append(&log, &me, 308, 1).await.unwrap();
        let kinds: Vec<String> = own(&log).into_iter().map(|event| event.r#type).collect();
        assert_eq!(kinds, ["log.opened", "log.recovered", "log.closed", "log.opened"]);
        tasks.close().await;
        audit(a.path(), Some(&saved)).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_was_changed_by_hand_is_found_and_refused() {
    let edits = [
        "UPDATE log_batch SET leaves = set_byte(leaves, 20, get_byte(leaves, 20) # 32) WHERE first_index = 1",
        "DELETE FROM log_batch WHERE first_index = 6",
        "UPDATE log_batch SET root = decode(repeat('ab', 32), 'hex') WHERE first_index = 11",
        "UPDATE log_batch SET epoch = 9 WHERE first_index = 1",
        "UPDATE log_batch SET first_index = 1000 WHERE first_index = 6",
        "UPDATE log_batch SET count = 4 WHERE first_index = 6",
    ];
    for edit in edits {
        on_rows(async |place| {
            let (a, b) = two(&place).await;
            by_hand(&place, edit).await;
            for dir in [a.path(), b.path()] {
                let refused = refusal(&place, dir).await;
                assert!(matches!(refused, LogError::Row { .. } | LogError::Rows(_)), "{edit}: {refused}");
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_rewritten_from_there_on_do_not_make_what_was_signed() {
    on_rows(async |place| {
        let (a, b) = two(&place).await;
        // What somebody does who knows the form: another log of the same length, with roots that fit.
        let forged = tempfile::tempdir().unwrap();
        by_hand(&place, "CREATE TABLE kept AS SELECT * FROM log_note WHERE name = 'checkpoint'").await;
        for table in ["log_batch", "log_note", "log_lease"] {
            by_hand(&place, &format!("DELETE FROM {table}")).await;
        }
        join(a.path(), forged.path());
        std::fs::remove_file(forged.path().join("checkpoint")).unwrap_or_default();
        let (log, tasks) = open_at(&place, forged.path()).await;
        append(&log, &producer("registry", "e2"), 1, 60).await.unwrap();
        tasks.close().await;
        drop(log);
        // Whoever has a copy finds the first event that is other, or that it was signed otherwise.
        let refused = refusal(&place, a.path()).await;
        assert!(matches!(refused, LogError::Differs(_) | LogError::Root(_)), "{refused}");
        // Whoever has none knows by the checkpoint beside the rows, where that was left.
        by_hand(&place, "UPDATE log_note SET value = kept.value FROM kept WHERE log_note.name = 'checkpoint'").await;
        let refused = refusal(&place, b.path()).await;
        assert!(matches!(refused, LogError::Root(_)), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_set_back_is_refused_by_whoever_knows_of_more() {
    on_rows(async |place| {
        let (a, b) = two(&place).await;
        for table in ["log_batch", "log_lease", "log_note"] {
            by_hand(&place, &format!("CREATE TABLE old_{table} AS SELECT * FROM {table}")).await;
        }
        let (log, tasks) = open_at(&place, a.path()).await;
        append(&log, &producer("registry", "e1"), 41, 20).await.unwrap();
        until_published(&log).await;
        tasks.close().await;
        let (size, saved) = (log.size(), checkpoint(a.path()));
        drop(log);
        for table in ["log_batch", "log_lease", "log_note"] {
            by_hand(&place, &format!("DELETE FROM {table}")).await;
            by_hand(&place, &format!("INSERT INTO {table} SELECT * FROM old_{table}")).await;
        }
        let kept = std::fs::read(segments(a.path()).pop().unwrap()).unwrap();
        let refused = refusal(&place, a.path()).await;
        assert!(matches!(refused, LogError::RolledBack { wanted, .. } if wanted == size), "{refused}");
        assert_eq!(std::fs::read(segments(a.path()).pop().unwrap()).unwrap(), kept, "nothing was changed");
        // Whoever knew nothing of it goes on; who kept a checkpoint can tell.
        let (log, tasks) = open_at(&place, b.path()).await;
        until_published(&log).await;
        tasks.close().await;
        assert!(matches!(audit(b.path(), Some(&saved)), Err(WalkError::Shorter { .. })));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_gone_is_made_again_and_one_that_differs_is_refused() {
    on_rows(async |place| {
        let (a, _) = two(&place).await;
        let gone = copy(a.path());
        for of in ["segments", "tile", "names/sealed"] {
            std::fs::remove_dir_all(gone.path().join(of)).unwrap_or_default();
        }
        let (log, tasks) = open_at(&place, gone.path()).await;
        append(&log, &producer("registry", "e1"), 41, 1).await.unwrap();
        until_published(&log).await;
        tasks.close().await;
        audit(gone.path(), Some(&checkpoint(a.path()))).unwrap();

        // Its end is torn, as a power cut leaves it: the rows have it.
        let torn = copy(a.path());
        let last = segments(torn.path()).pop().unwrap();
        let mut bytes = std::fs::read(&last).unwrap();
        let end = bytes.iter().rposition(|b| *b != 0).unwrap();
        bytes[end - 40..].fill(0);
        std::fs::write(&last, bytes).unwrap();
        let (log, tasks) = open_at(&place, torn.path()).await;
        append(&log, &producer("registry", "e1"), 42, 1).await.unwrap();
        tasks.close().await;
        audit(torn.path(), Some(&checkpoint(a.path()))).unwrap();

        // A copy of another log, though it is signed with the same key.
        let other = tempfile::tempdir().unwrap();
        join(a.path(), other.path());
        let (log, tasks) = super::scene::open(other.path()).await;
        append(&log, &producer("registry", "e9"), 1, 3).await.unwrap();
        tasks.close().await;
        drop(log);
        std::fs::remove_file(other.path().join("checkpoint")).unwrap();
        let refused = refusal(&place, other.path()).await;
        assert!(matches!(refused, LogError::Differs(0)), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_without_the_key_or_with_another_one_is_refused() {
    on_rows(async |place| {
        let (_, b) = two(&place).await;
        let bare = tempfile::tempdir().unwrap();
        let refused = refusal(&place, bare.path()).await;
        assert!(matches!(refused, LogError::Key { .. }), "{refused}");
        let text = std::fs::read_to_string(b.path().join("log.key")).unwrap();
        std::fs::remove_file(b.path().join("log.key")).unwrap();
        let flipped: String = text.trim_end().chars().rev().collect();
        legate_mtls::pki::write_private(&b.path().join("log.key"), &format!("{flipped}\n")).unwrap();
        let refused = refusal(&place, b.path()).await;
        assert!(matches!(refused, LogError::OtherKey { .. }), "{refused}");
    })
    .await;
}
