//! Classes and namespaces that are suspended: nothing new, nothing of before, and a fresh start after the resumption.

use std::time::Duration;

use legate_clock::Clock as _;
use legate_db::testing::on_each;

use super::registry::{self, agent_id};
use super::scene::*;
use crate::domain::holder::Named;
use crate::schema::Migrator;

#[tokio::test]
async fn whoever_is_below_what_is_suspended_gets_nothing_and_begins_anew() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        for of_class in [true, false] {
            let (row, key) = scene.enrolled(1).await;
            scene.issue(&row, wish()).await.unwrap();
            let unused = scene.token_for(1).await;
            scene.pass(Duration::from_secs(10)).await;
            let stopped = scene.clock.now();
            scene.declare(registry::standing(of_class, true, stopped)).await;
            assert_eq!(reason(scene.issue(&row, wish()).await), "HOLDER_NOT_ACTIVE");
            assert_eq!(reason(scene.renew(&row, &request(&key)).await), "HOLDER_NOT_ACTIVE");
            assert_eq!(reason(scene.enrol(&unused, &request(&new_key())).await), "HOLDER_NOT_ACTIVE");
            // What would be made now would be dead by the time it can be used.
            assert_eq!(reason(scene.create(Named::Agent(agent_id(1))).await), "HOLDER_NOT_ACTIVE");

            // Resumed at once: dead is also what is made within the time that it takes for all to hear.
            let cutoff = stopped.plus(Duration::from_secs(5));
            scene.declare(registry::standing(of_class, false, cutoff)).await;
            assert_eq!(reason(scene.create(Named::Agent(agent_id(1))).await), "CUT_OFF_TOO_RECENT");
            scene.pass(Duration::from_secs(6)).await;
            assert_eq!(reason(scene.issue(&row, wish()).await), "CREDENTIAL_NOT_GOOD");
            assert_eq!(reason(scene.renew(&row, &request(&key)).await), "CREDENTIAL_NOT_GOOD");
            assert_eq!(reason(scene.enrol(&unused, &request(&new_key())).await), "ENROLMENT_TOKEN_EXPIRED");
            let (row, key) = scene.enrolled(1).await;
            scene.issue(&row, wish()).await.unwrap();
            scene.renew(&row, &request(&key)).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_is_not_given_again_past_a_suspension() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (token, csr) = (scene.token_for(1).await, request(&new_key()));
        scene.enrol(&token, &csr).await.unwrap();
        scene.pass(Duration::from_secs(3)).await;
        scene.declare(registry::standing(true, false, scene.clock.now())).await;
        scene.pass(Duration::from_secs(3)).await;
        assert_eq!(reason(scene.enrol(&token, &csr).await), "CREDENTIAL_NOT_GOOD");
    })
    .await;
}
