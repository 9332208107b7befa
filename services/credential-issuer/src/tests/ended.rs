//! What ended is kept for as long as is configured, and then deleted: rows of credentials, running copies, enrolment tokens and keys.

use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_db::Fault::{NotPersisted, PersistedButReplyLost};
use legate_db::testing::on_each;
use legate_token::{EcSigner as _, P256Signer};
use legate_wire::registry::{RevocationReason, TokenBinding};

use super::clients::ALL;
use super::scene::{Scene, new_key, reason, request};
use crate::flow::forget::forget_ended;
use crate::schema::Migrator;
use crate::store::ended::AT_ONCE;

const DAY: Duration = Duration::from_secs(86_400);
const KEEP: Duration = Duration::from_secs(30 * 86_400);

async fn forget(scene: &Scene) {
    forget_ended(&scene.desk, KEEP).await.unwrap();
}

async fn count(scene: &Scene, table: &str) -> i64 {
    scene.rows().await[table]
}

#[tokio::test]
async fn what_ended_is_known_for_as_long_as_is_configured_and_no_longer() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Optional).await;
        let key = new_key();
        let token = scene.token_for(1).await;
        scene.enrol(&token, &request(&key)).await.unwrap();
        let (secret, _) = scene.secret(1, false).await.unwrap();
        let registered = P256Signer::from_scalar(&[9; 32]).unwrap();
        scene.register(1, registered.public_key()).await.unwrap();
        // Compromised: that is never forgotten.
        let (spoilt, spoilt_key) = scene.enrolled(2).await;
        scene.revoke(&spoilt.id, RevocationReason::KeyCompromise).await.unwrap();
        assert!(crate::flow::publish::round(&scene.desk).await);
        // Another that begins later keeps its own.
        scene.pass(10 * DAY).await;
        let (late, late_key) = scene.enrolled(1).await;
        let all = scene.rows().await;
        assert_eq!((all["credential"], all["instance"], all["enrolment"], all["certified_key"]), (5, 3, 3, 4));

        scene.pass(20 * DAY).await;
        forget(&scene).await;
        assert_eq!(scene.rows().await, all, "nothing ended thirty days ago");
        assert_eq!(reason(scene.show_secret(1, &secret).await), "CLIENT_REFUSED");
        assert_eq!(scene.count("client.retired_used").await, 1, "known for one that works no longer");

        scene.pass(2 * DAY).await;
        forget(&scene).await;
        let left = scene.rows().await;
        // The late one, and the secret that somebody still has; the late one's key, and the one that is compromised.
        assert_eq!((left["credential"], left["instance"], left["enrolment"], left["certified_key"]), (2, 1, 1, 2));
        assert_eq!(reason(scene.enrol(&token, &request(&key)).await), "ENROLMENT_TOKEN_INVALID");
        assert_eq!(reason(scene.show_secret(1, &secret).await), "CLIENT_REFUSED");
        assert_eq!(scene.count("client.retired_used").await, 2);
        // A key of which nothing is left may be anybody's; one that is known to be compromised nobody's; another's stays another's.
        let by = async |key| {
            let token = scene.token_for(2).await;
            scene.enrol(&token, &request(key)).await
        };
        assert_eq!(by(&key).await.unwrap().agent_id, super::registry::agent_id(2).to_string());
        assert_eq!(reason(by(&spoilt_key).await), "KEY_COMPROMISED");
        assert_eq!(reason(by(&late_key).await), "KEY_IN_USE");
        assert_eq!(late.agent_id, super::registry::agent_id(1).to_string());

        // In the end nothing but that.
        scene.pass(40 * DAY).await;
        forget(&scene).await;
        let left = scene.rows().await;
        assert_eq!((left["credential"], left["instance"], left["enrolment"], left["certified_key"]), (0, 0, 0, 1));
    })
    .await;
}

#[tokio::test]
async fn what_the_registry_has_not_heard_stays_and_the_rest_goes_some_at_a_time() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        scene.heard.is_deaf.store(true, Ordering::SeqCst);
        assert_eq!(reason(scene.revoke(&row.id, RevocationReason::Superseded).await), "REVOCATION_PENDING");
        for _ in 0..AT_ONCE + 20 {
            scene.token_for(1).await;
        }
        scene.pass(32 * DAY).await;
        // Whatever dies in between: the next time deletes what is left.
        for fault in [NotPersisted, PersistedButReplyLost] {
            for name in ["forget_credentials", "forget_instances", "forget_enrolments", "forget_status_lists"] {
                scene.desk.db.faults().plan(name, fault);
                assert_eq!(reason(forget_ended(&scene.desk, KEEP).await), "DATABASE_UNAVAILABLE", "{name}");
            }
        }
        forget(&scene).await;
        assert_eq!(
            (count(&scene, "credential").await, count(&scene, "instance").await),
            (1, 1),
            "it is still being told"
        );
        assert_eq!(count(&scene, "enrolment").await, 0);
        scene.heard.is_deaf.store(false, Ordering::SeqCst);
        assert!(crate::flow::publish::round(&scene.desk).await);
        forget(&scene).await;
        assert_eq!((count(&scene, "credential").await, count(&scene, "instance").await), (0, 0));
    })
    .await;
}
