//! Keys in a PKCS #11 token, SoftHSM 2: what they sign, how they follow one another, and what the service does when the token fails.

mod falls;
mod token;

use std::sync::Arc;
use std::time::Duration;

use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use legate_db::testing::on_each;
use legate_token::{EcVerifier as _, P256Verifier, Parsed};
use x509_parser::parse_x509_certificate;

use self::token::{PIN, Token, alone};
use super::keys::{DAY, TOKENS, WORKLOADS};
use super::login::{ada_now, admitting};
use super::scene::{Scene, files, new_key, request, wish};
use crate::domain::keyring::{KeyUse, State};
use crate::keys::{KeyPlace, KeyStore as _};
use crate::schema::Migrator;
use crate::store::credential;

/// Keys in the token, on a new database.
async fn in_token(fixture: &legate_db::testing::Fixture, token: &Token) -> Scene {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let keys = token.keys(files(dir.path())).await;
    admitting(Scene::with_keys(fixture, dir, keys).await)
}

/// The registry of another life of the process was told what that of the one before it was.
fn hear_the_same(scene: &Scene, before: &Scene) {
    let told = before.heard.keys.lock().unwrap().clone();
    scene.heard.keys.lock().unwrap().extend(told);
}

/// Whether a certificate is signed by the active one of a CA, as any TLS library sees it.
fn is_certified(scene: &Scene, purpose: KeyUse, row: &credential::Model) -> bool {
    let root = scene.desk.keys.authority(purpose).unwrap().roots().remove(0);
    let (_, ca) = parse_x509_certificate(&root).unwrap();
    ca.verify_signature(None).unwrap();
    let der = row.certificate.clone().unwrap();
    let (_, cert) = parse_x509_certificate(&der).unwrap();
    cert.verify_signature(Some(ca.public_key())).is_ok()
}

/// Issues one of each kind, and has the ordinary verifiers take it.
async fn issues_each_kind(scene: &Scene) {
    let (row, _) = scene.enrolled(1).await;
    assert!(is_certified(scene, WORKLOADS, &row));
    let token = scene.issue(&row, wish()).await.unwrap().token;
    assert!(scene.works(&token).await);
    assert!(Parsed::parse(&token).unwrap().check_signature(&P256Verifier::new(&scene.token_key())).is_ok());
    let operator = ada_now(scene, &request(&new_key())).await.unwrap();
    assert!(is_certified(scene, KeyUse::OperatorsCa, &operator));
    let svids = scene.desk.keys.active(KeyUse::JwtSvids).unwrap();
    let signature = scene.desk.keys.sign(KeyUse::JwtSvids, &svids.public.kid(), b"an SVID").await.unwrap();
    assert!(P256Verifier::new(&svids.public).verify(b"an SVID", &signature));
}

#[test]
fn every_kind_is_signed_by_keys_that_cannot_leave_the_token() {
    alone("every_kind_is_signed_by_keys_that_cannot_leave_the_token", async |token| {
        on_each::<Migrator>(async |fixture| {
            let scene = in_token(&fixture, &token).await;
            scene.turn().await;
            issues_each_kind(&scene).await;
            let session = token.session();
            for purpose in KeyUse::ALL {
                let kid = scene.one_in(purpose, State::Active).await;
                assert_eq!(scene.desk.keys.place(&kid), Some(KeyPlace::Token("legate".into())));
                assert!(!scene.has_file(purpose, &kid));
                let [key] = token.objects(&session, &kid, ObjectClass::PRIVATE_KEY)[..] else { panic!("no {kid}") };
                let asked = [
                    AttributeType::Sensitive,
                    AttributeType::AlwaysSensitive,
                    AttributeType::Extractable,
                    AttributeType::NeverExtractable,
                ];
                let said = session.get_attributes(key, &asked).unwrap();
                let stays = [
                    Attribute::Sensitive(true),
                    Attribute::AlwaysSensitive(true),
                    Attribute::Extractable(false),
                    Attribute::NeverExtractable(true),
                ];
                assert_eq!(said, stays);
                assert!(session.get_attributes(key, &[AttributeType::Value]).unwrap().is_empty(), "the key itself");
            }
        })
        .await;
    });
}

#[test]
fn keys_follow_one_another_and_are_destroyed_in_the_token() {
    alone("keys_follow_one_another_and_are_destroyed_in_the_token", async |token| {
        on_each::<Migrator>(async |fixture| {
            let scene = in_token(&fixture, &token).await;
            scene.turn().await;
            let (first, second) =
                (scene.one_in(TOKENS, State::Active).await, scene.one_in(TOKENS, State::Prepared).await);
            scene.pass(30 * DAY).await;
            scene.turn().await;
            assert_eq!(scene.one_in(TOKENS, State::Active).await, second);
            let (row, _) = scene.enrolled(1).await;
            assert_eq!(Parsed::parse(&scene.issue(&row, wish()).await.unwrap().token).unwrap().kid().as_str(), second);
            assert!(token.has(&first));
            scene.pass(DAY + Duration::from_secs(600)).await;
            scene.turn().await;
            assert_eq!(scene.one_in(TOKENS, State::Retired).await, first);
            assert!(!token.has(&first) && token.objects(&token.session(), &first, ObjectClass::PUBLIC_KEY).is_empty());

            // In an emergency.
            let third = scene.one_in(TOKENS, State::Prepared).await;
            let gone = scene.retire(&second, true).await.unwrap();
            assert_eq!(gone.active.unwrap().kid, third);
            assert!(!token.has(&second) && token.has(&third));
            scene.hear_back().await;
            let old = scene.one_in(WORKLOADS, State::Active).await;
            let new = scene.replace(WORKLOADS).await.unwrap().key.kid;
            assert!(!token.has(&old) && token.has(&new));
            scene.pass(Duration::from_secs(2)).await;
            issues_each_kind(&scene).await;
        })
        .await;
    });
}

#[test]
fn another_life_of_the_process_signs_by_the_same_keys() {
    alone("another_life_of_the_process_signs_by_the_same_keys", async |token| {
        on_each::<Migrator>(async |fixture| {
            let scene = in_token(&fixture, &token).await;
            scene.turn().await;
            let kid = scene.one_in(TOKENS, State::Active).await;
            let root = scene.desk.keys.authority(WORKLOADS).unwrap().roots();
            let keys = token.keys(files(scene.dir.path())).await;
            let again = Scene::with_keys(&fixture, Arc::clone(&scene.dir), keys).await;
            let again = admitting(again);
            hear_the_same(&again, &scene);
            assert_eq!(again.one_in(TOKENS, State::Active).await, kid);
            assert_eq!(again.desk.keys.authority(WORKLOADS).unwrap().roots(), root);
            again.turn().await;
            issues_each_kind(&again).await;
        })
        .await;
    });
}

#[test]
fn keys_in_files_sign_on_until_those_in_the_token_follow_and_the_same_verifiers_take_both() {
    let name = "keys_in_files_sign_on_until_those_in_the_token_follow_and_the_same_verifiers_take_both";
    alone(name, async |token| {
        on_each::<Migrator>(async |fixture| {
            let dir = Arc::new(tempfile::tempdir().unwrap());
            let before = admitting(Scene::with_keys(&fixture, Arc::clone(&dir), Arc::new(files(dir.path()))).await);
            before.turn().await;
            issues_each_kind(&before).await;
            let kid = before.one_in(TOKENS, State::Active).await;

            let keys = token.keys(files(dir.path())).await;
            let scene = admitting(Scene::with_keys(&fixture, Arc::clone(&dir), keys).await);
            hear_the_same(&scene, &before);
            assert_eq!(scene.desk.keys.place(&kid), Some(KeyPlace::File));
            scene.turn().await;
            issues_each_kind(&scene).await;
            let (row, _) = scene.enrolled(1).await;
            let of_file = scene.issue(&row, wish()).await.unwrap().token;
            // The one that was prepared is a file's too; the one after it is the token's.
            for _ in 0..2 {
                scene.rotate(TOKENS, true).await.unwrap();
                scene.turn().await;
            }
            let now = scene.one_in(TOKENS, State::Active).await;
            assert_eq!(scene.desk.keys.place(&now), Some(KeyPlace::Token("legate".into())));
            scene.prepare(WORKLOADS).await.unwrap();
            scene.rotate(WORKLOADS, true).await.unwrap();
            scene.pass(Duration::from_secs(2)).await;
            issues_each_kind(&scene).await;
            let (row, _) = scene.enrolled(1).await;
            let of_token = scene.issue(&row, wish()).await.unwrap().token;
            assert_ne!(Parsed::parse(&of_file).unwrap().kid(), Parsed::parse(&of_token).unwrap().kid());
            assert!(scene.works(&of_file).await && scene.works(&of_token).await);
            // A file that signs no more goes as before.
            scene.retire(&kid, true).await.unwrap();
            assert!(!scene.has_file(TOKENS, &kid));
        })
        .await;
    });
}

#[test]
fn a_key_is_found_for_its_own_use_alone_and_destroying_it_again_is_harmless() {
    alone("a_key_is_found_for_its_own_use_alone_and_destroying_it_again_is_harmless", async |token| {
        let dir = tempfile::tempdir().unwrap();
        let keys = token.open(&files(dir.path())).await.unwrap();
        let key = keys.create(TOKENS).await.unwrap();
        let kid = key.public_key().kid();
        assert!(keys.open(WORKLOADS, &kid).await.unwrap().is_none());
        let again = keys.open(TOKENS, &kid).await.unwrap().unwrap();
        assert_eq!(again.public_key(), key.public_key());
        let signature = again.sign(b"message").await.unwrap();
        assert!(P256Verifier::new(key.public_key()).verify(b"message", &signature));
        assert!(!format!("{keys:?} {key:?}").contains(PIN));
        keys.destroy(TOKENS, &kid).await.unwrap();
        keys.destroy(TOKENS, &kid).await.unwrap();
        assert!(keys.open(TOKENS, &kid).await.unwrap().is_none());
        again.sign(b"message").await.unwrap_err();
        assert!(!again.is_there().await);
        assert_eq!(keys.check(), Ok(()), "one key is gone, and the token does its work");
    });
}
