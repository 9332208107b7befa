//! The token fails: a wrong PIN, no module, a key that is gone, sessions that are gone, a module that hangs or dies.

use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags};
use cryptoki::object::ObjectClass;
use legate_db::testing::on_each;
use legate_mtls::pki::write_private;

use super::token::{PIN, alone};
use super::{in_token, issues_each_kind};
use crate::domain::keyring::State;
use crate::flow::keyring;
use crate::keys::Pkcs11Keys;
use crate::schema::Migrator;
use crate::tests::keys::{DAY, TOKENS};
use crate::tests::scene::{files, new_key, reason, request, wish};

/// Far longer than any bound of the module.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_wrong_pin_is_tried_once_and_never_again() {
    alone("falls::a_wrong_pin_is_tried_once_and_never_again", async |token| {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let pin = token.path("pin");
        write_private(&pin, "4321").unwrap();
        let why = token.open(&files).await.unwrap_err().to_string();
        assert!(why.contains("refuses the PIN") && why.contains("keys.pkcs11.pin_file"), "{why}");
        assert!(!why.contains("4321"));
        // Whatever starts the service again does not use up the tries of the token.
        let why = token.open(&files).await.unwrap_err().to_string();
        assert!(why.contains("refused this PIN before"), "{why}");
        let remembered = std::fs::read_to_string(dir.path().join("keys/refused.pin")).unwrap();
        assert!(remembered.starts_with("legate-wrapped-1 ") && !remembered.contains("4321"));
        // It is rewrapped with the rest.
        assert_eq!(files.rewrap().unwrap().kept, 1);
        write_private(&pin, &format!("{PIN}\n")).unwrap();
        token.open(&files).await.unwrap();
        assert!(!dir.path().join("keys/refused.pin").exists());

        // A PIN is asked for before anything is loaded.
        std::fs::set_permissions(&pin, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(token.open(&files).await.unwrap_err().to_string().contains("chmod 600"));
        std::fs::remove_file(&pin).unwrap();
        assert!(token.open(&files).await.unwrap_err().to_string().contains("no such file"));
        let none = crate::config::Pkcs11Config { pin_file: None, ..token.config() };
        assert!(Pkcs11Keys::open(&none, &files).await.unwrap_err().to_string().contains("LEGATE_PKCS11_PIN"));
    });
}

#[test]
fn a_module_or_a_token_that_is_not_there_is_told() {
    alone("falls::a_module_or_a_token_that_is_not_there_is_told", async |token| {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let open = async |module: &str, label: &str| {
            let mut config = token.config();
            if !module.is_empty() {
                config.module = module.into();
            }
            config.token = label.into();
            Pkcs11Keys::open(&config, &files).await.unwrap_err().to_string()
        };
        let why = open("/nowhere/libhsm.so", "legate").await;
        assert!(why.contains("cannot be loaded") && why.contains("keys.pkcs11.module"), "{why}");
        let text = token.path("text.so");
        std::fs::write(&text, "no library").unwrap();
        assert!(open(text.to_str().unwrap(), "legate").await.contains("cannot be loaded"));
        let why = open("", "another").await;
        assert!(why.contains("no token that is called \"another\"") && why.contains("\"legate\""), "{why}");
    });
}

#[test]
fn a_key_that_is_deleted_in_the_token_is_missed_and_the_next_one_can_follow() {
    alone("falls::a_key_that_is_deleted_in_the_token_is_missed_and_the_next_one_can_follow", async |token| {
        on_each::<Migrator>(async |fixture| {
            let scene = in_token(&fixture, &token).await;
            scene.turn().await;
            let (row, _) = scene.enrolled(1).await;
            scene.issue(&row, wish()).await.unwrap();
            let kid = scene.one_in(TOKENS, State::Active).await;
            let session = token.session();
            for handle in token.objects(&session, &kid, ObjectClass::PRIVATE_KEY) {
                session.destroy_object(handle).unwrap();
            }
            assert_eq!(reason(scene.issue(&row, wish()).await), "SIGNING_UNAVAILABLE");
            assert_eq!(scene.desk.keys.store.check(), Ok(()), "the others sign");
            keyring::look(&scene.desk).await;
            assert_eq!(scene.desk.keys.place(&kid), None);
            scene.hear_back().await;
            scene.rotate(TOKENS, true).await.unwrap();
            scene.turn().await;
            issues_each_kind(&scene).await;
        })
        .await;
    });
}

#[test]
fn lost_sessions_are_opened_anew() {
    alone("falls::lost_sessions_are_opened_anew", async |token| {
        on_each::<Migrator>(async |fixture| {
            let scene = in_token(&fixture, &token).await;
            scene.turn().await;
            // Nobody is logged in any more: private keys are not seen, and are not gone.
            token.session().logout().unwrap();
            issues_each_kind(&scene).await;
            // The module knows nothing any more.
            token.beside().finalize().unwrap();
            scene.pass(Duration::from_secs(2)).await;
            issues_each_kind(&scene).await;
            // And one that began again behind our back knows no session of ours.
            token.beside().finalize().unwrap();
            token.beside().initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap_err();
            scene.pass(Duration::from_secs(2)).await;
            issues_each_kind(&scene).await;
            assert_eq!(scene.desk.keys.store.check(), Ok(()));
        })
        .await;
    });
}

#[test]
fn a_module_that_hangs_keeps_nobody_and_what_is_taken_back_is_taken_back() {
    alone("falls::a_module_that_hangs_keeps_nobody_and_what_is_taken_back_is_taken_back", async |token| {
        on_each::<Migrator>(async |fixture| {
            let (token, mut server) = token.remote();
            server.start();
            let scene = in_token(&fixture, &token).await;
            scene.turn().await;
            issues_each_kind(&scene).await;
            scene.pass(Duration::from_secs(2)).await;
            let (row, _) = scene.enrolled(2).await;
            let (enrolment, csr) = (scene.token_for(1).await, request(&new_key()));
            let taken_back = scene.one_in(TOKENS, State::Active).await;
            let old = scene.issue(&row, wish()).await.unwrap().token;

            server.signal("STOP");
            let soon = async {
                assert_eq!(reason(scene.issue(&row, wish()).await), "SIGNING_UNAVAILABLE");
                assert!(scene.desk.keys.store.check().unwrap_err().contains("not answered"));
                assert_eq!(reason(scene.enrol(&enrolment, &csr).await), "SIGNING_UNAVAILABLE");
                scene.desk.keys.store.probe().await;
                assert!(scene.desk.keys.store.check().is_err(), "it still hangs");
                assert_eq!(reason(scene.prepare(crate::tests::keys::WORKLOADS).await), "KEY_STORE_UNAVAILABLE");
                // A key is taken back without the module, whose next one nobody can use yet.
                scene.retire(&taken_back, true).await.unwrap();
            };
            tokio::time::timeout(PATIENCE, soon).await.expect("somebody waits for the module");
            scene.hear_back().await;
            assert!(!scene.works(&old).await);

            server.signal("CONT");
            scene.desk.keys.store.probe().await;
            assert_eq!(scene.desk.keys.store.check(), Ok(()));
            scene.turn().await;
            assert!(!token.has(&taken_back), "destroyed as soon as it could be");
            scene.pass(Duration::from_secs(2)).await;
            // What was recorded is signed now.
            scene.enrol(&enrolment, &csr).await.unwrap();
            issues_each_kind(&scene).await;
        })
        .await;
    });
}

#[test]
fn a_module_that_dies_and_comes_back_is_used_again() {
    alone("falls::a_module_that_dies_and_comes_back_is_used_again", async |token| {
        on_each::<Migrator>(async |fixture| {
            let (token, mut server) = token.remote();
            server.start();
            let scene = in_token(&fixture, &token).await;
            scene.turn().await;
            let kid = scene.one_in(TOKENS, State::Active).await;
            issues_each_kind(&scene).await;
            scene.pass(Duration::from_secs(2)).await;
            let (row, _) = scene.enrolled(2).await;
            server.kill();
            let soon = async {
                assert_eq!(reason(scene.issue(&row, wish()).await), "SIGNING_UNAVAILABLE");
                scene.desk.keys.store.probe().await;
                assert!(scene.desk.keys.store.check().is_err());
                keyring::look(&scene.desk).await;
            };
            tokio::time::timeout(PATIENCE, soon).await.expect("somebody waits for the module");
            server.start();
            scene.desk.keys.store.probe().await;
            assert_eq!(scene.desk.keys.store.check(), Ok(()));
            scene.turn().await;
            assert_eq!(scene.one_in(TOKENS, State::Active).await, kid);
            issues_each_kind(&scene).await;
            scene.pass(DAY).await;
        })
        .await;
    });
}
