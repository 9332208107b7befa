//! Revocation: recorded first, told until it is confirmed, whatever dies in between.

use std::sync::atomic::Ordering;

use legate_db::testing::on_each;
use legate_wire::registry::RevocationReason;

use super::scene::{Scene, new_key, reason, request, wish};
use crate::flow::publish;
use crate::schema::Migrator;
use crate::store::credential;

#[tokio::test]
async fn the_answer_comes_with_the_registrys_revision() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        let (revoked, revision) = scene.revoke(&row.id, RevocationReason::CessationOfOperation).await.unwrap();
        assert_eq!((revoked.state, revision), (credential::REVOKED, 701));
        let told = scene.heard.revocations.lock().unwrap().clone();
        let spec = told[0].revocation.as_ref().unwrap();
        assert_eq!(spec.credential_id, row.id);
        assert_eq!(Some(&spec.x5t_s256), row.x5t_s256.as_ref());
        assert_eq!(spec.reason(), RevocationReason::CessationOfOperation);
        assert_eq!(told[0].actor, "spiffe://example.org/legate/operator/alice");
        assert!(publish::round(&scene.desk).await);
        assert_eq!(scene.heard.revocations.lock().unwrap().len(), 1, "confirmed once, told once");

        // To repeat it changes nothing: the first reason stays.
        let (again, _) = scene.revoke(&row.id, RevocationReason::KeyCompromise).await.unwrap();
        assert_eq!(again.revocation_reason, Some(RevocationReason::CessationOfOperation.into()));
        assert_eq!(scene.count("credential.revoked").await, 1);
        let nobody = "cred_01h455vb4pex5vsknk084sn02q";
        assert_eq!(reason(scene.revoke(nobody, RevocationReason::Superseded).await), "CREDENTIAL_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_deaf_registry_is_told_until_it_hears_also_by_the_next_life() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (one, _) = scene.enrolled(1).await;
        let (two, _) = scene.enrolled(2).await;
        scene.heard.is_deaf.store(true, Ordering::SeqCst);
        for row in [&one, &two] {
            assert_eq!(reason(scene.revoke(&row.id, RevocationReason::Superseded).await), "REVOCATION_PENDING");
        }
        // Here it is dead at once.
        assert_eq!(reason(scene.issue(&one, wish()).await), "CREDENTIAL_NOT_GOOD");
        assert!(!publish::round(&scene.desk).await);
        // The process dies; nothing but the database is left.
        let next = scene.reborn(fixture.again().await).await;
        assert!(publish::round(&next.desk).await);
        let mut both = vec![one.id.clone(), two.id.clone()];
        both.sort();
        assert!(scene.told_revocations().is_empty());
        assert_eq!(next.told_revocations(), both);
        assert!(publish::round(&next.desk).await);
        assert_eq!(next.told_revocations(), both, "confirmed once, told once");
        next.desk.db.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_compromised_key_takes_everything_along_that_is_certified_for_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (first, key) = scene.enrolled(1).await;
        let second = scene.renew(&first, &request(&key)).await.unwrap();
        let other = scene.renew(&second, &request(&new_key())).await.unwrap();
        scene.revoke(&second.id, RevocationReason::KeyCompromise).await.unwrap();
        assert_eq!(reason(scene.issue(&first, wish()).await), "CREDENTIAL_NOT_GOOD");
        assert_eq!(reason(scene.renew(&first, &request(&new_key())).await), "CREDENTIAL_NOT_GOOD");
        scene.issue(&other, wish()).await.unwrap();
        assert!(publish::round(&scene.desk).await);
        let mut both = vec![first.id, second.id];
        both.sort();
        assert_eq!(scene.told_revocations(), both);
        assert_eq!(scene.count("credential.revoked").await, 2);

        // What becomes known later counts as well, though the credential itself was taken back for another reason.
        let (third, key) = scene.enrolled(2).await;
        let fourth = scene.renew(&third, &request(&key)).await.unwrap();
        scene.revoke(&third.id, RevocationReason::Superseded).await.unwrap();
        scene.issue(&fourth, wish()).await.unwrap();
        for _ in 0..2 {
            let (again, _) = scene.revoke(&third.id, RevocationReason::KeyCompromise).await.unwrap();
            assert_eq!(again.revocation_reason, Some(RevocationReason::Superseded.into()));
        }
        assert_eq!(reason(scene.issue(&fourth, wish()).await), "CREDENTIAL_NOT_GOOD");
        let token = scene.token_for(2).await;
        assert_eq!(reason(scene.enrol(&token, &request(&key)).await), "KEY_COMPROMISED");
        assert_eq!(scene.count("credential.key_compromised").await, 1);
        assert_eq!(scene.count("credential.revoked").await, 4);
    })
    .await;
}

#[tokio::test]
async fn the_key_is_told_once_it_can_be() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.heard.is_deaf.store(true, Ordering::SeqCst);
        assert!(!publish::round(&scene.desk).await);
        scene.heard.is_deaf.store(false, Ordering::SeqCst);
        assert!(publish::round(&scene.desk).await);
        assert!(publish::round(&scene.desk).await);
        let told = scene.heard.keys.lock().unwrap().clone();
        // Of tokens and of JWT-SVIDs the one that signs and the one that follows; each once. No CA.
        assert_eq!(told.len(), 4);
        let mine = told.iter().filter_map(|one| one.signing_key.as_ref());
        let spec = mine.into_iter().find(|spec| spec.kid == scene.token_key().kid().as_str()).unwrap();
        let public = legate_token::PublicKey::from_jwk(&spec.jwk).unwrap();
        assert_eq!(public, scene.token_key());
        assert_eq!((spec.not_after, spec.revoke_time), (None, None));
        assert_eq!(spec.kid, public.kid().as_str());
    })
    .await;
}
