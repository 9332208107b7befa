//! Several copies of a service of which one falls silent, is stopped in order, or comes back.

use legate_db::testing::{Fixture, on_each};
use legate_wire::audit::{AlertSeverity, AlertType};

use super::stream::Scene;
use super::{Alert, Kept, look};
use crate::schema::Migrator;

/// The copies of policy-decision, each of which has a numbering of its own, and those of the registry, which share one.
const FIRST: (usize, &str) = (2, "one:7102");
const SECOND: (usize, &str) = (3, "two:7102");
const OLDER: (usize, &str) = (0, "one:7101");
const NEWER: (usize, &str) = (0, "two:7101");

const BEAT: &str = "emitter.heartbeat";

/// A scene in which these live, for so many minutes.
fn live(scene: &mut Scene, copies: &[(usize, &str)], minutes: i64) {
    for _ in 0..minutes {
        scene.copies(BEAT, copies);
        scene.pass(60);
    }
}

async fn found(fixture: &Fixture, scene: &Scene) -> Vec<Alert> {
    let kept: Kept = look(fixture, &scene.leaves(), || 3).await;
    assert_eq!(look(fixture, &scene.leaves(), || 1_000).await, kept, "how it is read makes no difference");
    kept.alerts()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_copy_of_several_that_falls_silent_is_found_within_minutes_and_once() {
    on_each::<Migrator>(async |fixture: Fixture| {
        for (silent, other, service) in
            [(FIRST, SECOND, "policy-decision at one:7102"), (OLDER, NEWER, "registry at one:7101")]
        {
            let mut scene = Scene::new();
            if silent.0 != other.0 {
                scene.copies("spool.opened", &[silent, other]);
            }
            live(&mut scene, &[silent, other], 20);
            let last = scene.copies(BEAT, &[silent]);
            live(&mut scene, &[other], 4);
            assert!(found(&fixture, &scene).await.is_empty(), "{service}: it is not silent yet");
            live(&mut scene, &[other], 30);
            let alerts = found(&fixture, &scene).await;
            let [alert] = alerts.as_slice() else { panic!("{service}: {alerts:#?}") };
            assert_eq!((alert.kind, alert.severity), (AlertType::EmitterSilent, AlertSeverity::High));
            assert!(alert.summary.contains(service) && alert.leaves[0] == last, "{alert:#?}");
            // It comes back, and falls silent once more: that is another alert.
            live(&mut scene, &[silent, other], 3);
            assert_eq!(found(&fixture, &scene).await.len(), 1);
            live(&mut scene, &[other], 7);
            assert_eq!(found(&fixture, &scene).await.len(), 2);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_stopped_in_order_or_started_again_is_not_missed() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let mut scene = Scene::new();
        scene.copies("spool.opened", &[FIRST, SECOND]);
        live(&mut scene, &[FIRST, SECOND, OLDER, NEWER], 10);
        scene.copies("spool.closed", &[FIRST]);
        scene.copies("emitter.left", &[OLDER]);
        live(&mut scene, &[SECOND, NEWER], 10);
        assert!(found(&fixture, &scene).await.is_empty());
        // The other one dies, and the copy that is started in its place says whose end it found.
        scene.opened_after(FIRST, "p2");
        live(&mut scene, &[FIRST, NEWER], 10);
        assert!(found(&fixture, &scene).await.is_empty());
        // One that opened and never told that it lives is missed as well.
        scene.copies("spool.opened", &[SECOND]);
        live(&mut scene, &[FIRST, NEWER], 10);
        let alerts = found(&fixture, &scene).await;
        assert!(alerts.len() == 1 && alerts[0].summary.contains("two:7102"), "{alerts:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_copies_nothing_is_said_where_all_are_silent_nobody_listened_or_older_things_are_still_told() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let mut scene = Scene::new();
        scene.copies("spool.opened", &[FIRST, SECOND]);
        live(&mut scene, &[FIRST, SECOND, OLDER, NEWER], 10);
        // The collector was away.
        scene.be_away(4_000);
        scene.pass(200);
        assert!(found(&fixture, &scene).await.is_empty());
        // What a busy copy tells says that it lives, whatever becomes of its heartbeats.
        for _ in 0..10 {
            scene.copies("decision.withdrawn", &[FIRST]);
            live(&mut scene, &[SECOND, OLDER, NEWER], 1);
        }
        assert!(found(&fixture, &scene).await.is_empty());
        // An outbox tells what is older first, and heartbeats of a copy may be behind it.
        live(&mut scene, &[FIRST, SECOND], 1);
        for _ in 0..10 {
            scene.late(BEAT, NEWER, 700);
            live(&mut scene, &[FIRST, SECOND], 1);
        }
        assert!(found(&fixture, &scene).await.is_empty());
        live(&mut scene, &[FIRST, SECOND, OLDER, NEWER], 1);
        // All copies of one service at once are one alert; one of them that does not come back is another, after as long again.
        live(&mut scene, &[FIRST, SECOND], 10);
        let alerts = found(&fixture, &scene).await;
        assert!(alerts.len() == 1 && alerts[0].summary.starts_with("registry told nothing"), "{alerts:#?}");
        live(&mut scene, &[FIRST, SECOND, NEWER], 4);
        assert_eq!(found(&fixture, &scene).await.len(), 1);
        live(&mut scene, &[FIRST, SECOND, NEWER], 4);
        let alerts = found(&fixture, &scene).await;
        assert!(
            alerts.len() == 2 && alerts.iter().any(|one| one.summary.contains("registry at one:7101")),
            "{alerts:#?}"
        );
    })
    .await;
}
