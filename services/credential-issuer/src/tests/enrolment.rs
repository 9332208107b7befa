//! Enrolment: one token, one certificate, of the form that was promised.

use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_clock::{Clock as _, Timestamp};
use legate_db::testing::on_each;
use legate_ids::Name;
use legate_wire::audit::Outcome;
use legate_wire::registry::{AgentState, RevocationReason};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use super::registry::{self, NAMESPACE, agent_id};
use super::scene::{START, Scene, new_key, plain, reason, request};
use crate::domain::holder::Named;
use crate::domain::keyring::KeyUse;
use crate::domain::secret::{Secret, SecretKind};
use crate::flow::{create_enrolment, list};
use crate::keys::Kek;
use crate::schema::Migrator;
use crate::store::credential::{self, sha256};

#[tokio::test]
async fn a_certificate_says_what_we_say() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let token = scene.token_for(1).await;
        let key = new_key();
        let mut params = plain();
        params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
        let csr = params.serialize_request(&key).unwrap();
        let row = scene.enrol(&token, csr.der()).await.unwrap();
        let der = row.certificate.clone().unwrap();
        let (rest, cert) = X509Certificate::from_der(&der).unwrap();
        assert!(rest.is_empty());

        let roots = scene.desk.keys.authority(KeyUse::WorkloadsCa).unwrap().roots();
        let (_, ca) = X509Certificate::from_der(&roots[0]).unwrap();
        cert.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(cert.issuer(), ca.subject());
        assert_eq!(cert.subject().iter_attributes().count(), 0);
        assert_eq!(cert.public_key().subject_public_key.data.as_ref(), key.public_key_raw());
        assert_eq!(cert.tbs_certificate.as_ref(), row.to_be_signed);
        assert_eq!(row.to_be_signed_sha256, sha256(&row.to_be_signed));
        assert_eq!(row.x5t_s256.as_deref(), Some(&sha256(&der)[..]));

        let names = cert.subject_alternative_name().unwrap().unwrap();
        assert!(names.critical, "without a subject the name is critical (RFC 5280 section 4.1.2.6)");
        let id = format!("spiffe://example.org/ns/payments/agent/{}/instance/{}", agent_id(1), row.instance_id);
        assert_eq!(names.value.general_names, [GeneralName::URI(&id)]);
        let basic = cert.basic_constraints().unwrap().unwrap();
        assert!(!basic.value.ca);
        assert_eq!(cert.key_usage().unwrap().unwrap().value.flags, 1);
        let extended = cert.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.client_auth && extended.server_auth && !extended.any && extended.other.is_empty());
        let authority = |e: &ParsedExtension<'_>| matches!(e, ParsedExtension::AuthorityKeyIdentifier(_));
        assert!(cert.extensions().iter().any(|e| authority(e.parsed_extension())));

        assert_eq!(cert.validity().not_before.timestamp(), START - 60);
        assert_eq!(cert.validity().not_after.timestamp(), START + 3600);
        assert_eq!(cert.raw_serial().len(), 16);
        let (other, _) = scene.enrolled(1).await;
        assert_ne!(other.serial, row.serial);

        let events = scene.events().await;
        let issued = events.iter().find(|e| e.r#type == "credential.issued").unwrap();
        assert_eq!(issued.agent_id, agent_id(1).as_str());
        assert_eq!(issued.credential_id, row.id);
        assert_eq!(issued.details["serial"], row.serial);
        assert_eq!(issued.actor, id);
        let text = format!("{events:?}");
        assert!(!text.contains("lgt_enr_") && !text.contains(&token[8..40]), "a secret in the audit trail");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_uses_at_once_one_wins() {
    on_each::<Migrator>(async |fixture| {
        let scene = std::sync::Arc::new(Scene::on(&fixture).await);
        // Fifty thieves with a key each, and fifty copies of one request.
        for is_same in [false, true] {
            let token = scene.token_for(1).await;
            let same = request(&new_key());
            let before = scene.count("credential.issued").await;
            let uses: Vec<_> = (0..50)
                .map(|_| {
                    let csr = if is_same { same.clone() } else { request(&new_key()) };
                    let (scene, token) = (scene.clone(), token.clone());
                    tokio::spawn(async move { scene.enrol(&token, &csr).await })
                })
                .collect();
            let mut won = 0;
            for one in uses {
                match one.await.unwrap() {
                    Ok(_) => won += 1,
                    Err(fault) => assert_eq!(fault.reason(), "ENROLMENT_TOKEN_SPENT"),
                }
            }
            assert_eq!(won, 1);
            assert_eq!(scene.count("credential.issued").await - before, 1);
        }
        assert_eq!(scene.ca.signed.load(Ordering::SeqCst), 2);
        let refused = scene.events().await;
        let refused = refused.iter().filter(|e| e.r#type == "enrolment.refused");
        assert_eq!(refused.clone().count(), 98);
        assert!(
            refused
                .clone()
                .all(|e| e.outcome == i32::from(Outcome::Denied) && e.reason_code == "ENROLMENT_TOKEN_SPENT")
        );
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again_for_a_while() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let token = scene.token_for(1).await;
        let csr = request(&new_key());
        let first = scene.enrol(&token, &csr).await.unwrap();
        assert_eq!(reason(scene.enrol(&token, &csr).await), "ENROLMENT_TOKEN_SPENT");
        scene.pass(Duration::from_secs(2)).await;
        let again = scene.enrol(&token, &csr).await.unwrap();
        assert_eq!(again, first);
        assert_eq!(scene.ca.signed.load(Ordering::SeqCst), 1);
        assert_eq!(reason(scene.enrol(&token, &request(&new_key())).await), "ENROLMENT_TOKEN_SPENT");
        scene.pass(Duration::from_secs(299)).await;
        assert_eq!(reason(scene.enrol(&token, &csr).await), "ENROLMENT_TOKEN_SPENT");
        assert_eq!(scene.count("enrolment.repeated").await, 1);

        // Not after the credential was revoked, nor after the agent was stopped.
        for stop in [true, false] {
            let token = scene.token_for(2).await;
            let csr = request(&new_key());
            let row = scene.enrol(&token, &csr).await.unwrap();
            scene.pass(Duration::from_secs(3)).await;
            if stop {
                scene.revoke(&row.id, RevocationReason::Superseded).await.unwrap();
                assert_eq!(reason(scene.enrol(&token, &csr).await), "CREDENTIAL_NOT_GOOD");
            } else {
                scene.suspend(2, 2).await;
                assert_eq!(reason(scene.enrol(&token, &csr).await), "HOLDER_NOT_ACTIVE");
                scene.resume(2, 3, scene.clock.now()).await;
                scene.pass(Duration::from_secs(2)).await;
                assert_eq!(reason(scene.enrol(&token, &csr).await), "CREDENTIAL_NOT_GOOD");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn refuses_tokens_that_are_not_good() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let csr = request(&new_key());
        let foreign = Secret::new(SecretKind::Enrolment, zeroize::Zeroizing::new([1; 32]));
        let foreign = foreign.to_text();
        for token in ["", "lgt_enr_", "x", "' OR 1=1 --", &foreign, &"a".repeat(60_000)] {
            assert_eq!(reason(scene.enrol(token, &csr).await), "ENROLMENT_TOKEN_INVALID");
        }
        // A stranger's noise does not fill the audit trail.
        assert!(scene.events().await.is_empty());

        let token = scene.token_for(1).await;
        scene.pass(Duration::from_secs(3600)).await;
        assert_eq!(reason(scene.enrol(&token, &csr).await), "ENROLMENT_TOKEN_EXPIRED");
        let token = scene.token_for(1).await;
        scene.pass(Duration::from_secs(3599)).await;
        scene.enrol(&token, &csr).await.unwrap();

        // A token of an earlier life is dead, as everything of it is.
        let token = scene.token_for(2).await;
        scene.pass(Duration::from_secs(1)).await;
        scene.suspend(2, 2).await;
        assert_eq!(reason(scene.enrol(&token, &request(&new_key())).await), "HOLDER_NOT_ACTIVE");
        let cutoff = scene.clock.now();
        scene.pass(Duration::from_secs(5)).await;
        scene.resume(2, 3, cutoff).await;
        assert_eq!(reason(scene.enrol(&token, &request(&new_key())).await), "ENROLMENT_TOKEN_EXPIRED");
        let token = scene.token_for(2).await;
        let row = scene.enrol(&token, &request(&new_key())).await.unwrap();
        assert_eq!(row.lifecycle_version, 3);
    })
    .await;
}

#[tokio::test]
async fn a_bad_request_does_not_spend_the_token() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let token = scene.token_for(1).await;
        let mut params = plain();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.serialize_request(&new_key()).unwrap();
        assert_eq!(reason(scene.enrol(&token, ca.der()).await), "CSR_REFUSED");
        assert_eq!(scene.count("enrolment.refused").await, 1);
        scene.enrol(&token, &request(&new_key())).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_key_belongs_to_one_holder() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, key) = scene.enrolled(1).await;
        let token = scene.token_for(2).await;
        assert_eq!(reason(scene.enrol(&token, &request(&key)).await), "KEY_IN_USE");
        // The same agent may enrol the same key again.
        let again = scene.token_for(1).await;
        scene.enrol(&again, &request(&key)).await.unwrap();
        scene.revoke(&row.id, RevocationReason::KeyCompromise).await.unwrap();
        let again = scene.token_for(1).await;
        assert_eq!(reason(scene.enrol(&again, &request(&key)).await), "KEY_COMPROMISED");
        // None of it spent a token.
        scene.enrol(&token, &request(&new_key())).await.unwrap();
        scene.enrol(&again, &request(&new_key())).await.unwrap();

        for purpose in KeyUse::ALL {
            let kid = scene.desk.keys.active(purpose).unwrap().public.kid();
            let file = scene.dir.path().join(format!("keys/{}.{kid}.key", purpose.word()));
            let kek = Kek::open(&scene.dir.path().join("kek")).unwrap();
            let label = format!("{} {kid}", purpose.word());
            let pem = kek.unwrap(&label, &std::fs::read_to_string(file).unwrap()).unwrap();
            let own = rcgen::KeyPair::from_pem(std::str::from_utf8(&pem).unwrap()).unwrap();
            let token = scene.token_for(1).await;
            assert_eq!(reason(scene.enrol(&token, &request(&own)).await), "KEY_IN_USE");
        }
    })
    .await;
}

#[tokio::test]
async fn only_active_agents_and_declared_enforcement_points_enrol() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let nobody = Named::Agent(agent_id(9));
        assert_eq!(reason(scene.create(nobody).await), "HOLDER_NOT_ACTIVE");
        let point = |name: &str| Named::EnforcementPoint {
            namespace: Name::parse(NAMESPACE).unwrap(),
            name: Name::parse(name).unwrap(),
        };
        assert_eq!(reason(scene.create(point("nobody")).await), "HOLDER_NOT_ACTIVE");
        for state in [AgentState::PendingApproval, AgentState::Staged, AgentState::Quarantined] {
            scene.declare(registry::agent(3, state, 1, None, None)).await;
            let token = scene.token_for(3).await;
            assert_eq!(reason(scene.enrol(&token, &request(&new_key())).await), "HOLDER_NOT_ACTIVE");
        }
        for state in [AgentState::Retired, AgentState::Expired] {
            scene.declare(registry::agent(3, state, 1, None, None)).await;
            assert_eq!(reason(scene.create(Named::Agent(agent_id(3))).await), "HOLDER_NOT_ACTIVE");
        }

        let created = scene.create(point("invoices")).await.unwrap();
        assert_eq!(created.spiffe_id, "spiffe://example.org/ns/payments/enforcer/invoices");
        let row = scene.enrol(&created.token.to_text(), &request(&new_key())).await.unwrap();
        assert_eq!((row.spiffe_id.as_str(), row.agent_id.as_str()), (created.spiffe_id.as_str(), ""));

        let created = scene.create(point("invoices")).await.unwrap();
        scene.take_back(registry::enforcement_point("invoices", NAMESPACE, "https://x.example")).await;
        assert_eq!(reason(scene.enrol(&created.token.to_text(), &request(&new_key())).await), "HOLDER_NOT_ACTIVE");
    })
    .await;
}

#[tokio::test]
async fn nothing_is_issued_by_an_old_view_nor_to_an_agent_that_ends() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let token = scene.token_for(1).await;
        let csr = request(&new_key());
        scene.registry.answers.store(false, Ordering::SeqCst);
        scene.clock.advance(Duration::from_secs(6));
        assert_eq!(reason(scene.enrol(&token, &csr).await), "VIEW_STALE");
        scene.registry.answers.store(true, Ordering::SeqCst);
        scene.settle().await;

        let ends = Timestamp::from_secs(scene.clock.now().secs() + 600);
        scene.declare(registry::agent(1, AgentState::Active, 1, None, Some(ends))).await;
        let row = scene.enrol(&token, &csr).await.unwrap();
        assert_eq!(row.not_after, ends.micros());
        scene.pass(Duration::from_secs(550)).await;
        let token = scene.token_for(1).await;
        assert_eq!(reason(scene.enrol(&token, &request(&new_key())).await), "HOLDER_ENDS");
        scene.pass(Duration::from_secs(50)).await;
        assert_eq!(reason(scene.enrol(&token, &request(&new_key())).await), "HOLDER_NOT_ACTIVE");
    })
    .await;
}

#[tokio::test]
async fn the_class_bounds_the_certificate() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        for (declared, given) in [(300, 300), (7200, 7200), (86_400, 86_400), (1_000_000, 86_400)] {
            scene.declare(registry::class(300, declared)).await;
            let (row, _) = scene.enrolled(1).await;
            assert_eq!(row.not_after, (START + given) * 1_000_000, "{declared}");
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_issued_in_the_second_of_a_cut_off_leaves() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let cutoff = Timestamp::from_micros(START * 1_000_000 + 200_000);
        scene.clock.jump_to(Timestamp::from_micros(START * 1_000_000 + 400_000));
        scene.resume(1, 3, cutoff).await;
        let token = scene.token_for(1).await;
        // The clock of the test stands still, so the second does not end while the flow waits.
        assert_eq!(reason(scene.enrol(&token, &request(&new_key())).await), "CUT_OFF_TOO_RECENT");
        scene.pass(Duration::from_millis(600)).await;
        let row = scene.enrol(&token, &request(&new_key())).await.unwrap();
        let issued = Timestamp::from_micros(row.not_before).plus(legate_view::CERTIFICATE_BACKDATE);
        assert!(issued > cutoff);
    })
    .await;
}

#[tokio::test]
async fn tokens_live_as_long_as_is_sane() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        for (secs, good) in [(0, false), (59, false), (60, true), (86_400, true), (86_401, false)] {
            let ttl = Some(Duration::from_secs(secs));
            let call = scene.operator();
            let named = Named::Agent(agent_id(1));
            let made = create_enrolment::create_enrolment(&scene.desk, &call, named, ttl, String::new()).await;
            assert_eq!(made.is_ok(), good, "{secs}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_is_read_in_pages_by_the_one_who_asked() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let mut made: Vec<String> = Vec::new();
        for n in [1, 2, 1, 1, 2] {
            scene.pass(Duration::from_millis(5)).await;
            made.insert(0, scene.enrolled(n).await.0.id);
        }
        let ask = |page_size, page_token: &str, agent: &str| list::Ask {
            agent_id: agent.into(),
            namespace: String::new(),
            instance_id: String::new(),
            page_size,
            page_token: page_token.into(),
        };
        let call = scene.operator();
        let ids = |rows: Vec<credential::Model>| rows.into_iter().map(|r| r.id).collect::<Vec<_>>();
        let (all, end) = list::list(&scene.desk, &call, ask(0, "", "")).await.unwrap();
        assert_eq!((ids(all), end.as_str()), (made.clone(), ""));
        let (first, next) = list::list(&scene.desk, &call, ask(3, "", "")).await.unwrap();
        let (second, end) = list::list(&scene.desk, &call, ask(3, &next, "")).await.unwrap();
        assert_eq!(([ids(first), ids(second)].concat(), end.as_str()), (made, ""));
        let of_two = list::list(&scene.desk, &call, ask(10, "", agent_id(2).as_str())).await.unwrap();
        assert_eq!(of_two.0.len(), 2);

        let other = list::list(&scene.desk, &call, ask(3, &next, agent_id(1).as_str())).await;
        assert_eq!(reason(other), "PAGE_TOKEN_INVALID");
        let stranger = list::list(&scene.desk, &scene.stranger(), ask(3, &next, "")).await;
        assert_eq!(reason(stranger), "PAGE_TOKEN_INVALID");
        assert_eq!(reason(list::list(&scene.desk, &call, ask(1_001, "", "")).await), "INVALID_ARGUMENT");
        assert_eq!(reason(list::list(&scene.desk, &call, ask(1, "", "x' OR 1=1")).await), "INVALID_ARGUMENT");
    })
    .await;
}
