//! A CA follows another: known before it signs, believed while its certificates last, and gone from one moment to the next.

use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_db::testing::on_each;
use legate_token::{EcVerifier as _, P256Verifier};

use super::keys::{DAY, TOKENS, WORKLOADS};
use super::scene::{Scene, new_key, reason, request};
use crate::domain::keyring::State;
use crate::flow::keys;
use crate::schema::Migrator;

#[tokio::test]
async fn a_ca_is_prepared_takes_over_is_tainted_and_is_revoked() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let bundle = || crate::keys::bundle::read(&scene.dir.path().join("workloads-ca.pem")).unwrap();
        let ca = || scene.desk.keys.authority(WORKLOADS).unwrap();
        let old = scene.one_in(WORKLOADS, State::Active).await;
        let (before, key) = scene.enrolled(1).await;
        let old_root = ca().roots().remove(0);
        assert_eq!(reason(scene.rotate(WORKLOADS, true).await), "KEY_NOT_READY");
        let new = scene.prepare(WORKLOADS).await.unwrap();
        assert_eq!(scene.prepare(WORKLOADS).await.unwrap().kid, new.kid, "one waits");
        // Everybody can know it before it signs, by the file and by the answer.
        assert_eq!(ca().roots(), [old_root.clone(), new.certificate.clone().unwrap()]);
        assert_eq!(bundle().len(), 2);
        assert_eq!(reason(scene.rotate(WORKLOADS, false).await), "KEY_NOT_READY");
        scene.pass(DAY).await;
        let changed = scene.rotate(WORKLOADS, false).await.unwrap();
        assert_eq!((&changed.key.kid, &changed.replaced[0].kid), (&new.kid, &old));
        let (after, _) = scene.enrolled(2).await;
        let issuer_of = |row: &crate::store::credential::Model| {
            let der = row.certificate.clone().unwrap();
            let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();
            let roots = ca().roots();
            let by = |root: &Vec<u8>| {
                let (_, root) = x509_parser::parse_x509_certificate(root).unwrap();
                let key = legate_token::PublicKey::from_sec1(&root.public_key().subject_public_key.data).unwrap();
                let signature = der_signature(&cert.signature_value.data);
                P256Verifier::new(&key).verify(cert.tbs_certificate.as_ref(), &signature)
            };
            roots.iter().position(by).map(|at| roots[at].clone())
        };
        assert_eq!(issuer_of(&after), new.certificate);
        assert_eq!(issuer_of(&before), Some(old_root.clone()));
        assert!(scene.taint(&new.kid).await.is_err(), "the one that signs");
        assert_eq!(reason(scene.taint(&scene.one_in(TOKENS, State::Active).await).await), "KEY_IN_SERVICE");
        let der = before.certificate.clone().unwrap();
        assert!(!ca().is_of_tainted(&der));
        assert_eq!(scene.taint(&old).await.unwrap().state().unwrap(), State::Tainted);
        assert_eq!(ca().tainted_roots(), std::slice::from_ref(&old_root));
        assert!(keys::should_renew(&scene.desk, &scene.holder(&before)).await);
        assert!(!keys::should_renew(&scene.desk, &scene.holder(&after)).await);
        assert!(ca().is_of_tainted(&der) && !ca().is_of_tainted(&after.certificate.clone().unwrap()));
        // Its holders renew, and are of the new one.
        scene.pass(Duration::ZERO).await;
        let (row, _) = scene.enrolled(1).await;
        let renewed = scene.renew(&row, &request(&key)).await.unwrap();
        assert_eq!(issuer_of(&renewed), new.certificate);
        let gone = scene.retire(&old, true).await.unwrap();
        assert_eq!((gone.key.state().unwrap(), gone.active.unwrap().kid), (State::Revoked, new.kid.clone()));
        assert_eq!(bundle(), [new.certificate.clone().unwrap().into()]);
        assert!(!scene.has_file(WORKLOADS, &old) && scene.has_file(WORKLOADS, &new.kid));
        let all = ["key.activated", "key.prepared", "key.activated", "key.tainted", "key.revoked"];
        assert_eq!(scene.changes(WORKLOADS).await, all);
        // In an emergency one that nobody knew before.
        let changed = scene.replace(WORKLOADS).await.unwrap();
        assert_eq!(changed.replaced[0].kid, new.kid);
        assert_eq!(bundle(), [changed.key.certificate.unwrap().into()]);
    })
    .await;
}

/// r and s of a DER signature, 32 bytes each.
fn der_signature(der: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    let mut at = 2;
    for half in 0..2 {
        let length = usize::from(der[at + 1]);
        let number = &der[at + 2..at + 2 + length];
        let number = &number[number.iter().take_while(|b| **b == 0).count()..];
        out[32 * (half + 1) - number.len()..32 * (half + 1)].copy_from_slice(number);
        at += 2 + length;
    }
    out
}

#[tokio::test]
async fn what_was_recorded_under_a_ca_is_signed_by_it_also_after_the_next_took_over() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (token, csr) = (scene.token_for(1).await, request(&new_key()));
        scene.ca.fails.store(true, Ordering::SeqCst);
        assert_eq!(reason(scene.enrol(&token, &csr).await), "SIGNING_UNAVAILABLE");
        scene.ca.fails.store(false, Ordering::SeqCst);
        scene.prepare(WORKLOADS).await.unwrap();
        let old = scene.rotate(WORKLOADS, true).await.unwrap().replaced.remove(0);
        scene.pass(Duration::from_secs(2)).await;
        let row = scene.enrol(&token, &csr).await.unwrap();
        let der = row.certificate.unwrap();
        let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();
        let signature = der_signature(&cert.signature_value.data);
        assert!(P256Verifier::new(&old.public().unwrap()).verify(cert.tbs_certificate.as_ref(), &signature));
    })
    .await;
}
