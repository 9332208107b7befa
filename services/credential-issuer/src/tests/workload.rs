//! What nodes vouch for: certificates and JWT-SVIDs for processes, and the end of an instance.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_clock::{Clock as _, Timestamp};
use legate_db::Fault::{NotPersisted, PersistedButReplyLost};
use legate_db::testing::on_each;
use legate_ids::Name;
use legate_rpc::Fault;
use legate_token::Parsed;
use legate_wire::credential as wire;
use legate_wire::registry::CredentialMethod::{Attestation, EnrolmentToken};
use legate_wire::registry::{AgentState, AttestationSelector, AttestationSelectorType, RevocationReason};

use super::registry::{self, NAMESPACE, agent_id};
use super::scene::{START, Scene, new_key, plain, reason, request, wish};
use crate::convert;
use crate::domain::holder::Named;
use crate::domain::keyring::KeyUse;
use crate::flow::issue_jwt_svid::IssuedSvid;
use crate::flow::{Call, attest, end_instance, instances, issue_jwt_svid, live};
use crate::keys::Verifier;
use crate::schema::Migrator;
use crate::store::{credential, instance};

/// The user as which agent 1 runs, and agent 2.
pub(super) const UIDS: [&str; 2] = ["1001", "1002"];

fn started() -> Timestamp {
    Timestamp::from_secs(START)
}

/// Nodes `payments/vm-1`, `payments/vm-2` and `platform/vm-1`; each agent attested by its user on any node of the namespace.
pub(super) async fn ready(scene: &Scene) {
    scene.declare(registry::credential_policy((300, 3_600), &[EnrolmentToken, Attestation])).await;
    scene.declare(registry::class_under((300, 3_600), "strict")).await;
    for (namespace, name) in [(NAMESPACE, "vm-1"), (NAMESPACE, "vm-2"), ("platform", "vm-1")] {
        scene.declare(registry::node(namespace, name, started())).await;
    }
    for n in [1, 2] {
        let uid = UIDS[usize::from(n) - 1];
        scene.declare(registry::attestation(&format!("bot-{n}-on-vm"), n, uid, &[], started())).await;
    }
}

/// A node, enrolled.
pub(super) async fn node(scene: &Scene, namespace: &str, name: &str) -> credential::Model {
    let named = Named::Node { namespace: Name::parse(namespace).unwrap(), name: Name::parse(name).unwrap() };
    let token = scene.create(named).await.unwrap().token.to_text().to_string();
    scene.enrol(&token, &request(&new_key())).await.unwrap()
}

fn selectors(uid: &str) -> Vec<AttestationSelector> {
    let selector =
        |of: AttestationSelectorType, value: &str| AttestationSelector { r#type: of.into(), value: value.into() };
    vec![selector(AttestationSelectorType::UnixUid, uid), selector(AttestationSelectorType::UnixPath, "/usr/bin/bot")]
}

/// A new process of agent `n`.
pub(super) fn process(n: u8, request_id: &str) -> wire::IssueX509SvidRequest {
    wire::IssueX509SvidRequest {
        namespace: NAMESPACE.into(),
        policy: format!("bot-{n}-on-vm"),
        selectors: selectors(UIDS[usize::from(n) - 1]),
        csr: request(&new_key()),
        instance_id: String::new(),
        request_id: request_id.into(),
        ..wire::IssueX509SvidRequest::default()
    }
}

pub(super) async fn issue(
    scene: &Scene,
    call: &Call,
    ask: &wire::IssueX509SvidRequest,
) -> Result<credential::Model, Fault> {
    attest::issue(&scene.desk, call, convert::attest(ask.clone())?).await
}

pub(super) async fn jwt(scene: &Scene, call: &Call, id: &str, n: u8) -> Result<IssuedSvid, Fault> {
    let ask = wire::IssueJwtSvidRequest {
        instance_id: id.into(),
        selectors: selectors(UIDS[usize::from(n) - 1]),
        audiences: vec!["https://llm.example".into(), "other".into()],
        ..wire::IssueJwtSvidRequest::default()
    };
    issue_jwt_svid::issue(&scene.desk, call, convert::jwt_svid(ask)?).await
}

pub(super) async fn end(scene: &Scene, call: &Call, id: &str) -> Result<u64, Fault> {
    end_instance::end(&scene.desk, call, id.parse().unwrap()).await
}

/// Every transaction of nodes once, for the list of their names.
pub(super) async fn through_all(scene: &Scene) {
    ready(scene).await;
    let vm = node(scene, NAMESPACE, "vm-1").await;
    let call = scene.holder(&vm);
    let row = issue(scene, &call, &process(1, "a")).await.unwrap();
    jwt(scene, &call, &row.instance_id, 1).await.unwrap();
    let mut news = crate::flow::watch_node::watch(&scene.desk, call.clone()).unwrap();
    futures_util::StreamExt::next(&mut news).await.unwrap().unwrap();
    end(scene, &call, &row.instance_id).await.unwrap();
}

#[tokio::test]
async fn a_node_enrols_renews_and_is_another_one_when_it_is_declared_anew() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let vm = node(&scene, NAMESPACE, "vm-1").await;
        assert_eq!(vm.spiffe_id, "spiffe://example.org/ns/payments/node/vm-1");
        assert_eq!((vm.agent_id.as_str(), vm.instance_id.as_str(), vm.lifecycle_version), ("", "", 0));
        let next = scene.renew(&vm, &request(&new_key())).await.unwrap();
        assert_eq!(next.spiffe_id, vm.spiffe_id);
        assert_eq!(reason(scene.issue(&vm, wish()).await), "HOLDER_NOT_ACTIVE", "nodes get no access tokens");
        scene.revoke(&next.id, RevocationReason::KeyCompromise).await.unwrap();
        assert_eq!(reason(scene.renew(&next, &request(&new_key())).await), "CREDENTIAL_NOT_GOOD");

        // A token that was made for the node before is none for the one that comes after.
        let named = Named::Node { namespace: Name::parse(NAMESPACE).unwrap(), name: Name::parse("vm-1").unwrap() };
        let early = scene.create(named.clone()).await.unwrap().token.to_text().to_string();
        scene.take_back(registry::node(NAMESPACE, "vm-1", started())).await;
        assert_eq!(reason(scene.create(named).await), "HOLDER_NOT_ACTIVE");
        assert_eq!(reason(scene.renew(&vm, &request(&new_key())).await), "HOLDER_NOT_ACTIVE");
        scene.pass(Duration::from_secs(2)).await;
        scene.declare(registry::node(NAMESPACE, "vm-1", scene.clock.now())).await;
        assert_eq!(reason(scene.enrol(&early, &request(&new_key())).await), "ENROLMENT_TOKEN_EXPIRED");
        assert_eq!(reason(scene.renew(&vm, &request(&new_key())).await), "CREDENTIAL_NOT_GOOD");
        node(&scene, NAMESPACE, "vm-1").await;
    })
    .await;
}

#[tokio::test]
async fn an_attested_process_is_an_instance_of_its_agent_and_its_node_renews_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let vm = node(&scene, NAMESPACE, "vm-1").await;
        let call = scene.holder(&vm);
        let ask = process(1, "one");
        let row = issue(&scene, &call, &ask).await.unwrap();
        let agent = agent_id(1);
        let expected = format!("spiffe://example.org/ns/payments/agent/{agent}/instance/{}", row.instance_id);
        assert_eq!((&row.spiffe_id, row.not_after - row.issued_at), (&expected, 3_600_000_000));
        let (copy, state) =
            instances::get(&scene.desk, &scene.operator(), row.instance_id.parse().unwrap()).await.unwrap();
        assert_eq!((copy.method, state), (instance::BY_ATTESTATION, crate::domain::instance::State::Live));
        assert_eq!((copy.node.as_str(), copy.attestation_policy.as_str()), ("payments/vm-1", "payments/bot-1-on-vm"));
        assert_eq!(copy.proof, "payments/vm-1 by payments/bot-1-on-vm");

        let events = scene.events().await;
        let event =
            events.iter().find(|e| e.r#type == "credential.issued" && e.instance_id == row.instance_id).unwrap();
        assert_eq!((event.actor.as_str(), event.agent_id.as_str()), (vm.spiffe_id.as_str(), agent.as_str()));
        assert_eq!((event.details["node"].as_str(), event.details["request_id"].as_str()), ("payments/vm-1", "one"));
        assert!(event.details["attestation_policy"].starts_with("payments/bot-1-on-vm@"), "{event:?}");
        assert_eq!(event.details["attested"], r#"["UNIX_UID:1001","UNIX_PATH:/usr/bin/bot"]"#);

        // What it has is an agent's certificate like any other, but for its renewal.
        scene.issue(&row, wish()).await.unwrap();
        assert_eq!(reason(scene.renew(&row, &request(&new_key())).await), "RENEWED_BY_NODE");
        let again = wire::IssueX509SvidRequest { instance_id: row.instance_id.clone(), ..process(1, "two") };
        scene.pass(Duration::from_secs(1_800)).await;
        let next = issue(&scene, &call, &again).await.unwrap();
        assert_eq!((&next.instance_id, &next.spiffe_id, &next.origin), (&row.instance_id, &row.spiffe_id, &row.id));
        assert!(next.not_after > row.not_after && next.id != row.id);

        // By nobody else, and by no other policy; and whose it is shows to nobody.
        let other = scene.holder(&node(&scene, NAMESPACE, "vm-2").await);
        let stolen =
            wire::IssueX509SvidRequest { request_id: "three".into(), csr: request(&new_key()), ..again.clone() };
        assert_eq!(reason(issue(&scene, &other, &stolen).await), "INSTANCE_NOT_FOUND");
        let twice = registry::attestation("bot-1-again", 1, "1001", &[], started());
        scene.declare(twice).await;
        let by_another =
            wire::IssueX509SvidRequest { policy: "bot-1-again".into(), request_id: "four".into(), ..again.clone() };
        assert_eq!(reason(issue(&scene, &call, &by_another).await), "INSTANCE_NOT_FOUND");
        let of_another = wire::IssueX509SvidRequest { instance_id: row.instance_id.clone(), ..process(2, "five") };
        assert_eq!(reason(issue(&scene, &call, &of_another).await), "INSTANCE_NOT_FOUND");
        let (enrolled, _) = scene.enrolled(1).await;
        let not_attested = wire::IssueX509SvidRequest { instance_id: enrolled.instance_id, ..process(1, "six") };
        assert_eq!(reason(issue(&scene, &call, &not_attested).await), "INSTANCE_NOT_FOUND");

        // Once it is over, only a new process is one.
        scene.pass(Duration::from_secs(3_601)).await;
        let late = wire::IssueX509SvidRequest { instance_id: row.instance_id.clone(), ..process(1, "seven") };
        let vm = scene.renew(&node(&scene, NAMESPACE, "vm-1").await, &request(&new_key())).await.unwrap();
        assert_eq!(reason(issue(&scene, &scene.holder(&vm), &late).await), "CREDENTIAL_NOT_GOOD");
        issue(&scene, &scene.holder(&vm), &process(1, "eight")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_is_not_to_be_issued_is_not_issued() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let (own, foreign) = (node(&scene, NAMESPACE, "vm-1").await, node(&scene, "platform", "vm-1").await);
        let (call, stranger) = (scene.holder(&own), scene.holder(&foreign));
        let with = |change: fn(&mut wire::IssueX509SvidRequest)| {
            let mut ask = process(1, "a");
            change(&mut ask);
            ask
        };
        let csr = |change: fn(&mut rcgen::CertificateParams)| {
            let mut params = plain();
            change(&mut params);
            let csr = params.serialize_request(&new_key()).unwrap().der().to_vec();
            wire::IssueX509SvidRequest { csr, ..process(1, "a") }
        };
        for (what, ask, expected) in [
            ("a policy that is not there", with(|ask| ask.policy = "nobody".into()), "NODE_NOT_BELIEVED"),
            ("another namespace", with(|ask| ask.namespace = "platform".into()), "NODE_NOT_BELIEVED"),
            ("another user", with(|ask| ask.selectors[0].value = "1002".into()), "ATTESTATION_INSUFFICIENT"),
            ("another type", with(|ask| ask.selectors[0].r#type = 2), "ATTESTATION_INSUFFICIENT"),
            ("too little", with(|ask| drop(ask.selectors.remove(0))), "ATTESTATION_INSUFFICIENT"),
            ("nothing", with(|ask| ask.selectors.clear()), "INVALID_ARGUMENT"),
            ("twice", with(|ask| ask.selectors.push(ask.selectors[0].clone())), "INVALID_ARGUMENT"),
            ("too much", with(|ask| ask.selectors = vec![ask.selectors[0].clone(); 65]), "INVALID_ARGUMENT"),
            ("an unknown type", with(|ask| ask.selectors[1].r#type = 99), "INVALID_ARGUMENT"),
            ("what tokens say", with(|ask| ask.selectors[1].r#type = 12), "INVALID_ARGUMENT"),
            ("a broker without one", with(|ask| ask.selectors[1].r#type = 15), "INVALID_ARGUMENT"),
            ("who a broker is", with(|ask| ask.selectors[1].r#type = 14), "INVALID_ARGUMENT"),
            ("an empty value", with(|ask| ask.selectors[1].value.clear()), "INVALID_ARGUMENT"),
            ("a long value", with(|ask| ask.selectors[1].value = "/".repeat(513)), "INVALID_ARGUMENT"),
            ("what deceives", with(|ask| ask.selectors[1].value = "/a\u{202e}".into()), "INVALID_ARGUMENT"),
            ("no request id", with(|ask| ask.request_id.clear()), "INVALID_ARGUMENT"),
            ("a bad request id", with(|ask| ask.request_id = "a b".into()), "INVALID_ARGUMENT"),
            ("a bad instance", with(|ask| ask.instance_id = "inst_x".into()), "INVALID_ARGUMENT"),
            ("no CSR", with(|ask| ask.csr.clear()), "CSR_REFUSED"),
            ("a large CSR", with(|ask| ask.csr = vec![0x30; 16 * 1024 + 1]), "CSR_REFUSED"),
            ("more behind it", with(|ask| ask.csr.push(0)), "CSR_REFUSED"),
            ("a bad signature", with(|ask| *ask.csr.last_mut().unwrap() ^= 1), "CSR_REFUSED"),
            ("a CA", csr(|of| of.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)), "CSR_REFUSED"),
            (
                "another's name",
                csr(|of| {
                    let name = "spiffe://example.org/ns/payments/agent/other".try_into().unwrap();
                    of.subject_alt_names = vec![rcgen::SanType::URI(name)];
                }),
                "CSR_REFUSED",
            ),
        ] {
            assert_eq!(reason(issue(&scene, &call, &ask).await), expected, "{what}");
        }
        assert_eq!(reason(issue(&scene, &stranger, &process(1, "a")).await), "NODE_NOT_BELIEVED");
        let (agent, key) = scene.enrolled(2).await;
        assert_eq!(reason(issue(&scene, &scene.holder(&agent), &process(2, "a")).await), "NODE_NOT_BELIEVED");
        let taken = wire::IssueX509SvidRequest { csr: request(&key), ..process(1, "a") };
        assert_eq!(reason(issue(&scene, &call, &taken).await), "KEY_IN_USE");
        assert_eq!(scene.ca.signed.load(Ordering::SeqCst), 3, "the two nodes and the agent");

        // A foreign node is believed where it is named.
        scene.declare(registry::attestation("bot-1-on-vm", 1, "1001", &["platform/vm-1"], started())).await;
        assert_eq!(reason(issue(&scene, &call, &process(1, "a")).await), "NODE_NOT_BELIEVED");
        issue(&scene, &stranger, &process(1, "a")).await.unwrap();

        scene.suspend(2, 2).await;
        assert_eq!(reason(issue(&scene, &call, &process(2, "b")).await), "HOLDER_NOT_ACTIVE");
        scene.declare(registry::agent(2, AgentState::Active, 3, None, None)).await;
        scene.declare(registry::credential_policy((300, 3_600), &[EnrolmentToken])).await;
        assert_eq!(reason(issue(&scene, &call, &process(2, "b")).await), "CREDENTIAL_METHOD_REFUSED");
        scene.declare(registry::class(300, 3_600)).await;
        assert_eq!(reason(issue(&scene, &call, &process(2, "b")).await), "CREDENTIAL_METHOD_REFUSED");
        scene.registry.answers.store(false, Ordering::SeqCst);
        scene.clock.advance(Duration::from_secs(6));
        assert_eq!(reason(issue(&scene, &call, &process(2, "b")).await), "VIEW_STALE");
    })
    .await;
}

#[tokio::test]
async fn an_agent_has_no_more_instances_than_its_policy_says() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        scene.declare(registry::few_attested(2)).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let first = issue(&scene, &call, &process(1, "a")).await.unwrap();
        issue(&scene, &call, &process(1, "b")).await.unwrap();
        let third = process(1, "c");
        assert_eq!(reason(issue(&scene, &call, &third).await), "INSTANCES_FULL");
        end(&scene, &call, &first.instance_id).await.unwrap();
        // What was refused was not begun: the same request is good once there is room.
        issue(&scene, &call, &third).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_same_request_gives_the_same_certificate_and_no_other_gives_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::on(&fixture).await);
        ready(&scene).await;
        let vm = node(&scene, NAMESPACE, "vm-1").await;
        let call = scene.holder(&vm);
        let first = process(1, "a");
        let ask = first.clone();
        let row = issue(&scene, &call, &ask).await.unwrap();
        assert_eq!(issue(&scene, &call, &ask).await.unwrap(), row);
        assert_eq!(scene.count("credential.repeated").await, 1);
        for other in [
            wire::IssueX509SvidRequest { csr: request(&new_key()), ..ask.clone() },
            wire::IssueX509SvidRequest { instance_id: row.instance_id.clone(), ..ask.clone() },
            wire::IssueX509SvidRequest { selectors: ask.selectors[..1].to_vec(), ..ask.clone() },
            process(2, "a"),
        ] {
            assert_eq!(reason(issue(&scene, &call, &other).await), "SVID_REQUEST_REUSED");
        }
        // Another node has names of its own.
        let other = scene.holder(&node(&scene, NAMESPACE, "vm-2").await);
        let of_other = issue(&scene, &other, &process(1, "a")).await.unwrap();
        assert_ne!(of_other.instance_id, row.instance_id);

        // Of many that come at once, one is issued.
        let ask = process(1, "b");
        let all: Vec<_> = (0..8)
            .map(|_| {
                let (scene, call, ask) = (Arc::clone(&scene), call.clone(), ask.clone());
                tokio::spawn(async move { issue(&scene, &call, &ask).await.unwrap() })
            })
            .collect();
        let mut ids = std::collections::BTreeSet::new();
        for one in all {
            let row = one.await.unwrap();
            ids.insert((row.id, row.certificate));
        }
        assert_eq!(ids.len(), 1, "{ids:?}");

        // What fell in the meantime is not given again; nor what is long ago.
        scene.revoke(&row.id, RevocationReason::Superseded).await.unwrap();
        assert_eq!(reason(issue(&scene, &call, &first).await), "CREDENTIAL_NOT_GOOD");
        let late = process(2, "c");
        issue(&scene, &call, &late).await.unwrap();
        scene.pass(Duration::from_secs(301)).await;
        assert_eq!(reason(issue(&scene, &call, &late).await), "SVID_REQUEST_REUSED");
        crate::flow::forget::forget(&scene.desk).await.unwrap();
        issue(&scene, &call, &late).await.unwrap();
    })
    .await;
}

fn process_again(row: &credential::Model, request_id: &str) -> wire::IssueX509SvidRequest {
    wire::IssueX509SvidRequest { instance_id: row.instance_id.clone(), ..process(1, request_id) }
}

#[tokio::test]
async fn a_stop_ends_what_was_attested_and_a_resumption_brings_nothing_back() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let ask = process(1, "a");
        let row = issue(&scene, &call, &ask).await.unwrap();
        scene.pass(Duration::from_secs(5)).await;
        let cutoff = scene.clock.now();
        scene.suspend(1, 2).await;
        for refused in
            [issue(&scene, &call, &ask).await.map(drop), jwt(&scene, &call, &row.instance_id, 1).await.map(drop)]
        {
            assert_eq!(reason(refused), "HOLDER_NOT_ACTIVE");
        }
        scene.pass(Duration::from_secs(2)).await;
        scene.resume(1, 3, cutoff).await;
        for (what, refused) in [
            ("the lost answer", issue(&scene, &call, &ask).await.map(drop)),
            ("the renewal", issue(&scene, &call, &process_again(&row, "b")).await.map(drop)),
            ("the JWT-SVID", jwt(&scene, &call, &row.instance_id, 1).await.map(drop)),
        ] {
            assert_eq!(reason(refused), "CREDENTIAL_NOT_GOOD", "{what}");
        }
        issue(&scene, &call, &process(1, "c")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_node_ends_what_it_attested_and_nothing_else() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let other = scene.holder(&node(&scene, NAMESPACE, "vm-2").await);
        let row = issue(&scene, &call, &process(1, "a")).await.unwrap();
        let next = issue(&scene, &call, &process_again(&row, "b")).await.unwrap();
        let beside = issue(&scene, &call, &process(1, "c")).await.unwrap();
        let (enrolled, _) = scene.enrolled(1).await;
        for (by, id) in [(&other, &row.instance_id), (&call, &enrolled.instance_id)] {
            assert_eq!(reason(end(&scene, by, id).await), "INSTANCE_NOT_FOUND");
        }
        assert_eq!(end(&scene, &call, &row.instance_id).await.unwrap(), 701);
        let mut both = vec![row.id.clone(), next.id.clone()];
        both.sort();
        assert_eq!(scene.told_revocations(), both);
        for dead in [&row, &next] {
            assert_eq!(reason(scene.issue(dead, wish()).await), "CREDENTIAL_NOT_GOOD");
        }
        assert_eq!(reason(issue(&scene, &call, &process_again(&row, "d")).await), "CREDENTIAL_NOT_GOOD");
        assert_eq!(reason(jwt(&scene, &call, &row.instance_id, 1).await), "CREDENTIAL_NOT_GOOD");
        scene.issue(&beside, wish()).await.unwrap();
        // To say it again is harmless, and is told once.
        end(&scene, &call, &row.instance_id).await.unwrap();
        assert_eq!((scene.count("instance.revoked").await, scene.count("credential.revoked").await), (1, 2));
        let event = scene.events().await.into_iter().find(|e| e.r#type == "instance.revoked").unwrap();
        assert_eq!(event.actor, call.peer.id_text());
        // Once the last certificate has ended there is nothing to revoke.
        scene.pass(Duration::from_secs(3_601)).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        assert_eq!(end(&scene, &call, &beside.instance_id).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_gone_vouches_for_nothing_and_its_successor_has_none_of_its_instances() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let row = issue(&scene, &call, &process(1, "a")).await.unwrap();
        // Its certificate is revoked, and the registry has told nobody yet.
        let vm = node(&scene, NAMESPACE, "vm-1").await;
        scene.revoke(&vm.id, RevocationReason::KeyCompromise).await.unwrap();
        assert_eq!(reason(issue(&scene, &scene.holder(&vm), &process(1, "x")).await), "CREDENTIAL_NOT_GOOD");
        assert_eq!(reason(jwt(&scene, &scene.holder(&vm), &row.instance_id, 1).await), "CREDENTIAL_NOT_GOOD");
        scene.take_back(registry::node(NAMESPACE, "vm-1", started())).await;
        assert_eq!(reason(issue(&scene, &call, &process(1, "b")).await), "CALLER_UNKNOWN");
        assert_eq!(reason(jwt(&scene, &call, &row.instance_id, 1).await), "CALLER_UNKNOWN");
        assert_eq!(reason(end(&scene, &call, &row.instance_id).await), "CALLER_UNKNOWN");
        scene.pass(Duration::from_secs(2)).await;
        scene.declare(registry::node(NAMESPACE, "vm-1", scene.clock.now())).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        assert_eq!(reason(issue(&scene, &call, &process_again(&row, "c")).await), "INSTANCE_NOT_FOUND");
        assert_eq!(reason(jwt(&scene, &call, &row.instance_id, 1).await), "INSTANCE_NOT_FOUND");
        // Policies that name it were written before: it is not the node that they mean.
        scene.declare(registry::attestation("bot-1-on-vm", 1, "1001", &["vm-1"], started())).await;
        assert_eq!(reason(issue(&scene, &call, &process(1, "d")).await), "NODE_NOT_BELIEVED");
        let now = scene.clock.now();
        scene.declare(registry::attestation("bot-1-on-vm", 1, "1001", &["vm-1"], now)).await;
        issue(&scene, &call, &process(1, "e")).await.unwrap();
        // Who is operator sees by node what was vouched for, and takes it back.
        let ask = instances::Ask { node: "payments/vm-1".into(), ..instances::Ask::default() };
        let (all, _) = instances::list(&scene.desk, &scene.operator(), ask).await.unwrap();
        assert_eq!(all.len(), 2);
        let bad = instances::Ask { node: "vm-1".into(), ..instances::Ask::default() };
        assert_eq!(reason(instances::list(&scene.desk, &scene.operator(), bad).await), "INVALID_ARGUMENT");
    })
    .await;
}

#[tokio::test]
async fn a_jwt_svid_says_who_it_is_to_whom_it_is_for_and_is_no_access_token() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let row = issue(&scene, &call, &process(1, "a")).await.unwrap();
        let issued = jwt(&scene, &call, &row.instance_id, 1).await.unwrap();
        assert!(!format!("{issued:?}").contains(&issued.svid));
        let parts: Vec<&str> = issued.svid.split('.').collect();
        let read = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&Base64UrlUnpadded::decode_vec(part).unwrap()).unwrap()
        };
        let key = scene.desk.keys.active(KeyUse::JwtSvids).unwrap().public;
        assert_eq!(read(parts[0]), serde_json::json!({"alg": "ES256", "typ": "JWT", "kid": key.kid().as_str()}));
        let claims = read(parts[1]);
        let now = scene.clock.now().secs();
        assert_eq!(claims["iss"], "https://issuer.example/workload");
        assert_eq!(claims["sub"], row.spiffe_id.as_str());
        assert_eq!(claims["aud"], serde_json::json!(["https://llm.example", "other"]));
        assert_eq!((claims["iat"].as_i64(), claims["exp"].as_i64()), (Some(now), Some(now + 300)));
        let mut signature = [0; 64];
        Base64UrlUnpadded::decode(parts[2], &mut signature).unwrap();
        let input = issued.svid.rsplit_once('.').unwrap().0;
        assert!(legate_token::EcVerifier::verify(&Verifier::new(&key), input.as_bytes(), &signature));
        assert!(!scene.desk.keys.published(KeyUse::AccessTokens).contains(&key), "keys of one use have no other");

        // Nobody here takes it for an access token, whatever key is said to have signed it.
        assert!(Parsed::parse(&issued.svid).is_err());
        assert!(live::live(&scene.desk, &issued.svid).await.unwrap().is_none());
        // Nor an access token for it: another issuer, another key, another type.
        let access = scene.issue(&row, wish()).await.unwrap().token;
        let header = read(access.split('.').next().unwrap());
        assert_eq!(header["typ"], "at+jwt");
        assert_ne!(header["kid"], key.kid().as_str());

        let event = scene.events().await.into_iter().find(|e| e.r#type == "svid.issued").unwrap();
        assert_eq!((event.actor.as_str(), event.instance_id.as_str()), (call.peer.id_text(), row.instance_id.as_str()));
        assert_eq!(event.resource.unwrap().id, claims["jti"].as_str().unwrap());
        assert_eq!(event.details["attested"], r#"["UNIX_UID:1001","UNIX_PATH:/usr/bin/bot"]"#);
        assert!(!event.details.values().any(|text| text.contains(parts[2])));

        let other = scene.holder(&node(&scene, NAMESPACE, "vm-2").await);
        assert_eq!(reason(jwt(&scene, &other, &row.instance_id, 1).await), "INSTANCE_NOT_FOUND");
        assert_eq!(reason(jwt(&scene, &call, &row.instance_id, 2).await), "ATTESTATION_INSUFFICIENT");
        let (enrolled, _) = scene.enrolled(1).await;
        assert_eq!(reason(jwt(&scene, &call, &enrolled.instance_id, 1).await), "INSTANCE_NOT_FOUND");
        let with = |change: fn(&mut wire::IssueJwtSvidRequest)| {
            let mut ask = wire::IssueJwtSvidRequest {
                instance_id: row.instance_id.clone(),
                selectors: selectors("1001"),
                audiences: vec!["a".into()],
                ..wire::IssueJwtSvidRequest::default()
            };
            change(&mut ask);
            convert::jwt_svid(ask).map(drop)
        };
        with(|_| {}).unwrap();
        for bad in [
            with(|ask| ask.audiences.clear()),
            with(|ask| ask.audiences = vec![String::new()]),
            with(|ask| ask.audiences = vec!["a b".into()]),
            with(|ask| ask.audiences = vec!["a".into(), "a".into()]),
            with(|ask| ask.audiences = (0..9).map(|n| n.to_string()).collect()),
            with(|ask| ask.audiences = vec!["x".repeat(513)]),
            with(|ask| ask.ttl = Some(prost_types::Duration { seconds: 29, nanos: 0 })),
            with(|ask| ask.ttl = Some(prost_types::Duration { seconds: 601, nanos: 0 })),
            with(|ask| ask.instance_id.clear()),
        ] {
            assert_eq!(reason(bad), "INVALID_ARGUMENT");
        }
        // The policy is for another agent now, and then for nobody.
        scene.declare(registry::attestation("bot-1-on-vm", 2, "1001", &[], started())).await;
        assert_eq!(reason(jwt(&scene, &call, &row.instance_id, 1).await), "CREDENTIAL_NOT_GOOD");
        scene.take_back(registry::attestation("bot-1-on-vm", 2, "1001", &[], started())).await;
        assert_eq!(reason(jwt(&scene, &call, &row.instance_id, 1).await), "NODE_NOT_BELIEVED");
    })
    .await;
}

#[tokio::test]
async fn nothing_is_signed_for_a_process_before_it_is_recorded() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let (ask, before) = (process(1, "a"), scene.count("credential.issued").await);
        let signed = scene.ca.signed.load(Ordering::SeqCst);
        for (fault, events) in [(NotPersisted, 0), (PersistedButReplyLost, 1)] {
            scene.desk.db.faults().plan("issue_svid", fault);
            assert_eq!(reason(issue(&scene, &call, &ask).await), "DATABASE_UNAVAILABLE");
            assert_eq!(scene.count("credential.issued").await, before + events);
            assert_eq!(scene.ca.signed.load(Ordering::SeqCst), signed, "signed without knowing of a record");
        }
        // What was recorded and never signed is signed now, once.
        let row = issue(&scene, &call, &ask).await.unwrap();
        assert_eq!((row.state, scene.ca.signed.load(Ordering::SeqCst)), (credential::ISSUED, signed + 1));
        assert_eq!(scene.count("credential.issued").await, before + 1);
        let signed = scene.tokens.signed.load(Ordering::SeqCst);
        for (fault, events) in [(NotPersisted, 0), (PersistedButReplyLost, 1)] {
            scene.desk.db.faults().plan("issue_jwt_svid", fault);
            assert_eq!(reason(jwt(&scene, &call, &row.instance_id, 1).await), "DATABASE_UNAVAILABLE");
            assert_eq!(scene.count("svid.issued").await, events);
            assert_eq!(scene.tokens.signed.load(Ordering::SeqCst), signed, "signed without knowing of a record");
        }
        jwt(&scene, &call, &row.instance_id, 1).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_renewal_that_races_an_end_leaves_nothing() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::on(&fixture).await);
        ready(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        for round in 0..8 {
            let row = issue(&scene, &call, &process(1, &format!("new-{round}"))).await.unwrap();
            let renewals: Vec<_> = (0..3)
                .map(|n| {
                    let (scene, call) = (Arc::clone(&scene), call.clone());
                    let ask = process_again(&row, &format!("again-{round}-{n}"));
                    tokio::spawn(async move { issue(&scene, &call, &ask).await.ok() })
                })
                .collect();
            end(&scene, &call, &row.instance_id).await.unwrap();
            for renewal in renewals {
                let renewed = renewal.await.unwrap();
                if let Some(row) = renewed {
                    assert_eq!(
                        reason(scene.issue(&row, wish()).await),
                        "CREDENTIAL_NOT_GOOD",
                        "one slipped past its end"
                    );
                }
            }
        }
    })
    .await;
}
