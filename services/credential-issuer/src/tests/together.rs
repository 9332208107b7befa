//! Tokens that are recorded together: each that is good, and no other; as many as the audit trail takes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use legate_db::testing::on_each;
use legate_ids::{Name, SpiffeId};
use legate_outbox::Outbox;
use legate_wire::registry::RevocationReason;

use super::scene::{Scene, reason, wish};
use crate::schema::Migrator;
use crate::store::Batches;

#[tokio::test]
async fn of_tokens_that_are_recorded_together_those_that_are_good_are_signed_and_no_others() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let ((good, _), (bad, _)) = (scene.enrolled(1).await, scene.enrolled(2).await);
        scene.revoke(&bad.id, RevocationReason::Superseded).await.unwrap();
        let all = join_all([&good, &bad, &good, &bad, &bad, &good].map(|row| scene.issue(row, wish()))).await;
        let (mut signed, mut refused) = (0, 0);
        for (at, outcome) in all.into_iter().enumerate() {
            if [0, 2, 5].contains(&at) {
                signed += u64::from(outcome.is_ok());
            } else {
                assert_eq!(reason(outcome), "CREDENTIAL_NOT_GOOD");
                refused += 1;
            }
        }
        assert_eq!((signed, refused), (3, 3));
        assert_eq!(scene.tokens.signed.load(Ordering::SeqCst), 3);
        let events = scene.events().await;
        let issued: Vec<_> = events.iter().filter(|event| event.r#type == "token.issued").collect();
        assert_eq!(issued.len(), 3);
        assert!(issued.iter().all(|event| event.credential_id == good.id));
    })
    .await;
}

#[tokio::test]
async fn where_the_audit_trail_takes_some_of_a_group_the_others_are_not_signed() {
    on_each::<Migrator>(async |fixture| {
        let mut scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        let room = scene.all_events().await.len() as u64 + 2;
        let domain = scene.desk.domain.clone();
        let emitter = SpiffeId::service(&domain, &Name::parse("credential-issuer").unwrap());
        let outbox = Outbox::new(emitter, scene.clock.clone(), room);
        let desk = Arc::get_mut(&mut scene.desk).unwrap();
        desk.batches = Batches::new(&desk.db, outbox);
        let all = join_all([(); 5].map(|()| scene.issue(&row, wish()))).await;
        let (signed, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        assert_eq!((signed.len(), refused.len()), (2, 3));
        for outcome in refused {
            assert_eq!(reason(outcome), "AUDIT_UNAVAILABLE");
        }
        assert_eq!(scene.tokens.signed.load(Ordering::SeqCst), 2);
        assert_eq!(scene.count("token.issued").await, 2);
    })
    .await;
}
