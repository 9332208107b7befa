//! Every named transaction, twice: the process dies before the commit, and the answer is lost after it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_db::Fault::{NotPersisted, PersistedButReplyLost};
use legate_db::testing::on_each;
use legate_ids::InstanceId;
use legate_wire::registry::{CredentialMethod, RevocationReason};

use super::registry::agent_id;
use super::scene::{Scene, new_key, reason, request, wish};
use crate::domain::holder::Named;
use crate::flow::{instances, publish, revoke_instance};
use crate::schema::Migrator;
use crate::store::credential;

const LOST: &str = "DATABASE_UNAVAILABLE";
/// Transactions that write and that a journey waits for, each with its two faults below.
const NAMED: [&str; 24] = [
    "create_enrolment",
    "enrol",
    "enrol_by_identity",
    // That of tokens of processes has its faults in attested.rs.
    "hold_identity_token",
    // Those of nodes have their faults in workload.rs.
    "issue_jwt_svid",
    "issue_svid",
    "issue_token",
    // Those of keys have their faults in keys.rs.
    "key_destroyed",
    "key_published",
    "login",
    "mark_signed",
    "prepare_key",
    "record_refusal",
    "renew",
    "repeat_enrolment",
    "repeat_login",
    "replace_keys",
    "retire_key",
    "revocation_published",
    "revoke_credential",
    "revoke_instance",
    "rotate_key",
    "taint_key",
    "turn_keys",
];
/// Transactions that only read.
const READS: [&str; 17] = [
    "credentials_of_instances",
    "enrolled_credential",
    "find_certificate",
    "find_enrolment",
    "find_instance",
    "find_key",
    "find_used_token",
    "get_instance",
    "instances_of_node",
    "keys_of_use",
    "list_credentials",
    "list_instances",
    "list_keys",
    "outbox_batch",
    "past_cas",
    "pending_revocations",
    "signing_keys",
];

#[tokio::test]
async fn create_enrolment() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        for (fault, events) in [(NotPersisted, 0), (PersistedButReplyLost, 1)] {
            scene.desk.db.faults().plan("create_enrolment", fault);
            assert_eq!(reason(scene.create(Named::Agent(agent_id(1))).await), LOST);
            // The token was never shown, so what was kept of it is of no use to anybody.
            assert_eq!(scene.count("enrolment.created").await, events);
        }
    })
    .await;
}

#[tokio::test]
async fn enrol_is_not_signed_before_it_is_recorded() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let token = scene.token_for(1).await;
        let csr = request(&new_key());
        scene.desk.db.faults().plan("enrol", NotPersisted);
        assert_eq!(reason(scene.enrol(&token, &csr).await), LOST);
        assert_eq!(scene.count("credential.issued").await, 0);
        assert_eq!(scene.ca.signed.load(Ordering::SeqCst), 0, "signed without a record");

        // The token was not spent; now the record is there and its answer is lost: still nothing is signed.
        scene.desk.db.faults().plan("enrol", PersistedButReplyLost);
        assert_eq!(reason(scene.enrol(&token, &csr).await), LOST);
        assert_eq!(scene.count("credential.issued").await, 1);
        assert_eq!(scene.ca.signed.load(Ordering::SeqCst), 0, "signed without knowing of a record");
        assert_eq!(reason(scene.enrol(&token, &csr).await), "ENROLMENT_TOKEN_SPENT");

        scene.pass(Duration::from_secs(2)).await;
        let row = scene.enrol(&token, &csr).await.unwrap();
        assert_eq!(row.state, credential::ISSUED);
        assert_eq!(scene.count("credential.issued").await, 1);
        assert_eq!(scene.ca.signed.load(Ordering::SeqCst), 1);
        scene.issue(&row, wish()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn mark_signed() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        for fault in [NotPersisted, PersistedButReplyLost] {
            let token = scene.token_for(1).await;
            let csr = request(&new_key());
            scene.desk.db.faults().plan("mark_signed", fault);
            assert_eq!(reason(scene.enrol(&token, &csr).await), LOST);
            let signed = scene.ca.signed.load(Ordering::SeqCst);
            scene.pass(Duration::from_secs(2)).await;
            let row = scene.enrol(&token, &csr).await.unwrap();
            scene.issue(&row, wish()).await.unwrap();
            // What was kept is given again; what was not kept is signed once more, the same bytes.
            let more = u64::from(fault == NotPersisted);
            assert_eq!(scene.ca.signed.load(Ordering::SeqCst), signed + more);
        }
        assert_eq!(scene.count("credential.issued").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_credential_revoked_before_it_was_signed_is_never_signed() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let token = scene.token_for(1).await;
        let csr = request(&new_key());
        scene.desk.db.faults().plan("enrol", PersistedButReplyLost);
        assert_eq!(reason(scene.enrol(&token, &csr).await), LOST);
        let events = scene.events().await;
        let id = &events.iter().find(|e| e.r#type == "credential.issued").unwrap().credential_id;
        let (row, _) = scene.revoke(id, RevocationReason::Superseded).await.unwrap();
        assert_eq!(row.x5t_s256, None);
        assert!(scene.heard.revocations.lock().unwrap().is_empty(), "there is no certificate to tell of");
        scene.pass(Duration::from_secs(2)).await;
        assert_eq!(reason(scene.enrol(&token, &csr).await), "CREDENTIAL_NOT_GOOD");
        assert_eq!(scene.ca.signed.load(Ordering::SeqCst), 0);
    })
    .await;
}

#[tokio::test]
async fn repeat_enrolment() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let token = scene.token_for(1).await;
        let csr = request(&new_key());
        let first = scene.enrol(&token, &csr).await.unwrap();
        scene.pass(Duration::from_secs(2)).await;
        for (fault, events) in [(NotPersisted, 0), (PersistedButReplyLost, 1)] {
            scene.desk.db.faults().plan("repeat_enrolment", fault);
            assert_eq!(reason(scene.enrol(&token, &csr).await), LOST);
            assert_eq!(scene.count("enrolment.repeated").await, events);
        }
        assert_eq!(scene.enrol(&token, &csr).await.unwrap(), first);
    })
    .await;
}

#[tokio::test]
async fn renew() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, key) = scene.enrolled(1).await;
        for (fault, events) in [(NotPersisted, 1), (PersistedButReplyLost, 2)] {
            scene.desk.db.faults().plan("renew", fault);
            assert_eq!(reason(scene.renew(&row, &request(&key)).await), LOST);
            assert_eq!(scene.count("credential.issued").await, events);
            assert_eq!(scene.ca.signed.load(Ordering::SeqCst), 1, "signed without knowing of a record");
        }
        scene.renew(&row, &request(&key)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn issue_token() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        for (fault, events) in [(NotPersisted, 0), (PersistedButReplyLost, 1)] {
            scene.desk.db.faults().plan("issue_token", fault);
            assert_eq!(reason(scene.issue(&row, wish()).await), LOST);
            assert_eq!(scene.count("token.issued").await, events);
            assert_eq!(scene.tokens.signed.load(Ordering::SeqCst), 0, "signed without knowing of a record");
        }
        scene.issue(&row, wish()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn revoke_credential() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        scene.desk.db.faults().plan("revoke_credential", NotPersisted);
        assert_eq!(reason(scene.revoke(&row.id, RevocationReason::Superseded).await), LOST);
        assert!(publish::round(&scene.desk).await);
        assert!(scene.told_revocations().is_empty());
        scene.issue(&row, wish()).await.unwrap();

        // Once it is on disk, the registry hears of it, whoever dies.
        scene.desk.db.faults().plan("revoke_credential", PersistedButReplyLost);
        assert_eq!(reason(scene.revoke(&row.id, RevocationReason::Superseded).await), LOST);
        assert_eq!(reason(scene.issue(&row, wish()).await), "CREDENTIAL_NOT_GOOD");
        assert!(publish::round(&scene.desk).await);
        assert_eq!(scene.told_revocations(), std::slice::from_ref(&row.id));
        assert_eq!(scene.count("credential.revoked").await, 1);
    })
    .await;
}

async fn revoke_copy(scene: &Scene, id: InstanceId) -> Result<u64, legate_rpc::Fault> {
    let (alice, why) = (scene.operator(), RevocationReason::Superseded);
    let revoked = revoke_instance::revoke_instance(&scene.desk, &alice, id, why, "a test".into());
    revoked.await.map(|(_, revision)| revision)
}

#[tokio::test]
async fn revoke_instance() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        let next = scene.renew(&row, &request(&new_key())).await.unwrap();
        let id = || row.instance_id.parse::<InstanceId>().unwrap();
        scene.desk.db.faults().plan("revoke_instance", NotPersisted);
        assert_eq!(reason(revoke_copy(&scene, id()).await), LOST);
        assert!(publish::round(&scene.desk).await);
        assert!(scene.told_revocations().is_empty());
        scene.issue(&next, wish()).await.unwrap();

        // Once it is on disk, the registry hears of all of it, whoever dies.
        scene.desk.db.faults().plan("revoke_instance", PersistedButReplyLost);
        assert_eq!(reason(revoke_copy(&scene, id()).await), LOST);
        assert_eq!(reason(scene.issue(&next, wish()).await), "CREDENTIAL_NOT_GOOD");
        assert!(publish::round(&scene.desk).await);
        assert_eq!(scene.told_revocations().len(), 2);
        revoke_copy(&scene, id()).await.unwrap();
        assert_eq!((scene.count("instance.revoked").await, scene.count("credential.revoked").await), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn revocation_published() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        for (fault, tells) in [(NotPersisted, 2), (PersistedButReplyLost, 1)] {
            let (row, _) = scene.enrolled(1).await;
            scene.heard.revocations.lock().unwrap().clear();
            scene.desk.db.faults().plan("revocation_published", fault);
            assert_eq!(reason(scene.revoke(&row.id, RevocationReason::Superseded).await), LOST);
            assert!(publish::round(&scene.desk).await);
            // Told twice is harmless, not told is not.
            assert_eq!(scene.told_revocations().len(), tells);
        }
    })
    .await;
}

#[tokio::test]
async fn record_refusal() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        scene.suspend(1, 2).await;
        for (fault, events) in [(NotPersisted, 0), (PersistedButReplyLost, 1)] {
            scene.desk.db.faults().plan("record_refusal", fault);
            // Refused it is, recorded or not.
            assert_eq!(reason(scene.issue(&row, wish()).await), "HOLDER_NOT_ACTIVE");
            assert_eq!(scene.count("token.refused").await, events);
        }
    })
    .await;
}

#[tokio::test]
async fn a_login_and_an_enrolment_by_identity_are_not_signed_before_they_are_recorded() {
    on_each::<Migrator>(async |fixture| {
        let scene = super::login::scene(&fixture).await;
        super::identity::trust(&scene, &[CredentialMethod::TrustedIssuer]).await;
        for name in ["enrol_by_identity", "login"] {
            let csr = request(&new_key());
            let before = scene.count("credential.issued").await;
            let attempt = async || match name {
                "login" => super::login::ada(&scene, &csr).await,
                _ => super::identity::run_one(&scene, &csr).await,
            };
            scene.desk.db.faults().plan(name, NotPersisted);
            assert_eq!(reason(attempt().await), LOST);
            assert_eq!(scene.count("credential.issued").await, before);
            // The token was not used; now its use is recorded, and the answer lost: still nothing is signed.
            scene.desk.db.faults().plan(name, PersistedButReplyLost);
            assert_eq!(reason(attempt().await), LOST);
            assert_eq!(scene.count("credential.issued").await, before + 1);
            assert_eq!(scene.ca.signed.load(Ordering::SeqCst), 0, "signed without knowing of a record");
            assert_eq!(reason(attempt().await), "IDENTITY_TOKEN_SPENT");
            scene.pass(Duration::from_secs(2)).await;
            let row = attempt().await.unwrap();
            assert_eq!(row.state, credential::ISSUED);
            assert_eq!(scene.count("credential.issued").await, before + 1);
            scene.ca.signed.store(0, Ordering::SeqCst);
        }
        let csr = request(&new_key());
        scene.pass(Duration::from_secs(1)).await;
        let first = super::login::ada(&scene, &csr).await.unwrap();
        scene.pass(Duration::from_secs(2)).await;
        let repeated = scene.count("enrolment.repeated").await;
        for (fault, more) in [(NotPersisted, 0), (PersistedButReplyLost, 1)] {
            scene.desk.db.faults().plan("repeat_login", fault);
            assert_eq!(reason(super::login::ada(&scene, &csr).await), LOST);
            assert_eq!(scene.count("enrolment.repeated").await, repeated + more);
        }
        assert_eq!(super::login::ada(&scene, &csr).await.unwrap(), first);
    })
    .await;
}

/// A new transaction has to come here and bring its two faults.
#[tokio::test]
async fn every_transaction_is_named_here() {
    on_each::<Migrator>(async |fixture| {
        let scene = super::login::scene(&fixture).await;
        super::identity::trust(&scene, &[CredentialMethod::EnrolmentToken, CredentialMethod::TrustedIssuer]).await;
        scene.desk.db.faults().record_names();
        let token = scene.token_for(1).await;
        let csr = request(&new_key());
        let row = scene.enrol(&token, &csr).await.unwrap();
        scene.pass(Duration::from_secs(2)).await;
        scene.enrol(&token, &csr).await.unwrap();
        let csr = request(&new_key());
        super::login::ada(&scene, &csr).await.unwrap();
        super::identity::run_one(&scene, &request(&new_key())).await.unwrap();
        scene.pass(Duration::from_secs(2)).await;
        super::login::ada(&scene, &csr).await.unwrap();
        scene.renew(&row, &request(&new_key())).await.unwrap();
        scene.issue(&row, wish()).await.unwrap();
        scene.revoke(&row.id, RevocationReason::Superseded).await.unwrap();
        scene.issue(&row, wish()).await.unwrap_err();
        let (alice, copy) = (scene.operator(), row.instance_id.parse::<InstanceId>().unwrap());
        instances::get(&scene.desk, &alice, copy.clone()).await.unwrap();
        instances::list(&scene.desk, &alice, instances::Ask::default()).await.unwrap();
        revoke_copy(&scene, copy).await.unwrap();
        publish::round(&scene.desk).await;
        scene.events().await;
        let ask = crate::flow::list::Ask::default();
        crate::flow::list::list(&scene.desk, &scene.operator(), ask).await.unwrap();
        super::workload::through_all(&scene).await;
        super::attested::through_all(&scene).await;
        super::keys::through_all(&scene).await;
        let seen: BTreeSet<&str> = scene.desk.db.faults().names().into_iter().collect();
        let known: BTreeSet<&str> = NAMED.into_iter().chain(READS).collect();
        assert_eq!(seen, known);
    })
    .await;
}
