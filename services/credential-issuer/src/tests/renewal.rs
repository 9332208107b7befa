//! Renewal: by the holder, with the same identity, in the same life, and never after a revocation.

use std::time::Duration;

use legate_clock::Clock as _;
use legate_db::testing::on_each;
use legate_ids::{Name, Principal, SpiffeId};
use legate_wire::registry::RevocationReason;

use super::registry::{self, AUDIENCE, NAMESPACE};
use super::scene::{Scene, new_key, plain, reason, request};
use crate::domain::holder::Named;
use crate::flow::renew;
use crate::schema::Migrator;

#[tokio::test]
async fn the_holder_gets_the_same_identity_with_a_new_time_and_key() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (first, key) = scene.enrolled(1).await;
        scene.pass(Duration::from_secs(1800)).await;
        let same_key = scene.renew(&first, &request(&key)).await.unwrap();
        let new_key = scene.renew(&same_key, &request(&new_key())).await.unwrap();
        for next in [&same_key, &new_key] {
            assert_eq!(next.spiffe_id, first.spiffe_id);
            assert_eq!(next.not_after, first.not_after + 1_800_000_000);
            assert_ne!(next.serial, first.serial);
            assert_eq!(next.lifecycle_version, first.lifecycle_version);
        }
        assert_eq!((same_key.origin.as_str(), new_key.origin.as_str()), (first.id.as_str(), same_key.id.as_str()));
        assert_eq!(scene.count("credential.issued").await, 3);
    })
    .await;
}

#[tokio::test]
async fn refuses_whoever_is_not_the_holder() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (one, key) = scene.enrolled(1).await;
        let (two, other) = scene.enrolled(2).await;
        // Another agent's key, another agent's name in the request.
        assert_eq!(reason(scene.renew(&one, &request(&other)).await), "KEY_IN_USE");
        let mut params = plain();
        params.subject_alt_names = vec![rcgen::SanType::URI(two.spiffe_id.as_str().try_into().unwrap())];
        let csr = params.serialize_request(&key).unwrap();
        assert_eq!(reason(scene.renew(&one, csr.der()).await), "CSR_REFUSED");

        // A certificate of our CA that is not recorded, and one that is recorded for somebody else.
        let mut call = scene.holder(&one);
        std::sync::Arc::get_mut(&mut call.peer).unwrap().x5t_s256 = [1; 32];
        assert_eq!(reason(renew::renew(&scene.desk, &call, &request(&key)).await), "CREDENTIAL_NOT_GOOD");
        std::sync::Arc::get_mut(&mut call.peer).unwrap().x5t_s256 = two.x5t_s256.clone().unwrap().try_into().unwrap();
        assert_eq!(reason(renew::renew(&scene.desk, &call, &request(&key)).await), "CREDENTIAL_NOT_GOOD");

        // Nobody, an operator, and the agent under another namespace's name.
        assert_eq!(reason(renew::renew(&scene.desk, &scene.stranger(), &request(&key)).await), "CREDENTIAL_NOT_GOOD");
        assert_eq!(reason(renew::renew(&scene.desk, &scene.operator(), &request(&key)).await), "HOLDER_NOT_ACTIVE");
        let foreign = SpiffeId::parse(&one.spiffe_id.replace("payments", "treasury")).unwrap();
        let mut call = scene.holder(&one);
        let peer = std::sync::Arc::get_mut(&mut call.peer).unwrap();
        peer.principal = Some(Principal::of(&foreign).unwrap());
        peer.spiffe_id = Some(foreign);
        assert_eq!(reason(renew::renew(&scene.desk, &call, &request(&key)).await), "CREDENTIAL_NOT_GOOD");
    })
    .await;
}

#[tokio::test]
async fn refuses_after_a_stop_and_in_the_next_life() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, key) = scene.enrolled(1).await;
        scene.pass(Duration::from_secs(10)).await;
        let cutoff = scene.clock.now();
        scene.suspend(1, 2).await;
        assert_eq!(reason(scene.renew(&row, &request(&key)).await), "HOLDER_NOT_ACTIVE");
        scene.pass(Duration::from_secs(10)).await;
        scene.resume(1, 3, cutoff).await;
        assert_eq!(reason(scene.renew(&row, &request(&key)).await), "CREDENTIAL_NOT_GOOD");
        // A new enrolment starts the new life, with the same key too.
        let token = scene.token_for(1).await;
        let row = scene.enrol(&token, &request(&key)).await.unwrap();
        scene.renew(&row, &request(&key)).await.unwrap();
        assert_eq!(scene.count("renewal.refused").await, 2);
    })
    .await;
}

#[tokio::test]
async fn refuses_a_revoked_credential_and_a_compromised_key() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, key) = scene.enrolled(1).await;
        let next = scene.renew(&row, &request(&key)).await.unwrap();
        scene.revoke(&row.id, RevocationReason::KeyCompromise).await.unwrap();
        assert_eq!(reason(scene.renew(&row, &request(&new_key())).await), "CREDENTIAL_NOT_GOOD");
        // Whoever has the key holds every certificate of it, and must not get away with a new one.
        for csr in [request(&key), request(&new_key())] {
            assert!(matches!(reason(scene.renew(&next, &csr).await), "KEY_COMPROMISED" | "CREDENTIAL_NOT_GOOD"));
        }
        let (other, _) = scene.enrolled(1).await;
        assert_eq!(reason(scene.renew(&other, &request(&key)).await), "KEY_COMPROMISED");
    })
    .await;
}

#[tokio::test]
async fn enforcement_points_renew_while_they_are_declared() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let point = Named::EnforcementPoint {
            namespace: Name::parse(NAMESPACE).unwrap(),
            name: Name::parse("invoices").unwrap(),
        };
        let created = scene.create(point).await.unwrap();
        let key = new_key();
        let row = scene.enrol(&created.token.to_text(), &request(&key)).await.unwrap();
        let row = scene.renew(&row, &request(&key)).await.unwrap();
        scene.take_back(registry::enforcement_point("invoices", NAMESPACE, AUDIENCE)).await;
        assert_eq!(reason(scene.renew(&row, &request(&key)).await), "HOLDER_NOT_ACTIVE");
    })
    .await;
}

#[tokio::test]
async fn an_enforcement_point_declared_anew_takes_nothing_over() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let point = || Named::EnforcementPoint {
            namespace: Name::parse(NAMESPACE).unwrap(),
            name: Name::parse("invoices").unwrap(),
        };
        let (spent, unused) = (scene.create(point()).await.unwrap(), scene.create(point()).await.unwrap());
        let row = scene.enrol(&spent.token.to_text(), &request(&new_key())).await.unwrap();
        scene.take_back(registry::enforcement_point("invoices", NAMESPACE, AUDIENCE)).await;
        scene.pass(Duration::from_secs(5)).await;
        scene.declare(registry::enforcement_point_since("invoices", scene.clock.now())).await;
        assert_eq!(reason(scene.enrol(&unused.token.to_text(), &request(&new_key())).await), "ENROLMENT_TOKEN_EXPIRED");
        assert_eq!(reason(scene.renew(&row, &request(&new_key())).await), "CREDENTIAL_NOT_GOOD");
        let own = scene.create(point()).await.unwrap();
        let row = scene.enrol(&own.token.to_text(), &request(&new_key())).await.unwrap();
        scene.renew(&row, &request(&new_key())).await.unwrap();
    })
    .await;
}
