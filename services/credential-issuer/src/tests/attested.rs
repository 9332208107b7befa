//! What rests on more than a node's own eyes: tokens that a platform gave a process, and brokers that ask for others.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_db::Fault::{NotPersisted, PersistedButReplyLost};
use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::credential as wire;
use legate_wire::registry::AttestationSelectorType as Type;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{AgentState, AttestationSelector, RevocationReason};
use serde_json::{Value, json};

use super::federation::{declare, issuer};
use super::outside::{ISSUER, key, token};
use super::registry::{self, NAMESPACE, agent_id};
use super::scene::{START, Scene, new_key, reason, request};
use super::workload::{issue, node, process, ready};
use crate::convert;
use crate::flow::issue_jwt_svid::IssuedSvid;
use crate::flow::{Call, enrol_by_identity, issue_jwt_svid};
use crate::schema::Migrator;

const POD: &str = "123e4567-e89b-42d3-a456-426614174000";

fn started() -> Timestamp {
    Timestamp::from_secs(START)
}

/// As a cluster projects it into a pod of the service account `pay/bot` (Kubernetes documentation, "Managing Service Accounts").
fn projected(scene: &Scene, id: &str) -> Value {
    let now = legate_clock::Clock::now(&*scene.clock).secs();
    json!({
        "iss": ISSUER, "aud": ["legate"], "sub": "system:serviceaccount:pay:bot", "jti": id,
        "iat": now, "nbf": now, "exp": now + 600,
        "kubernetes.io": {
            "namespace": "pay",
            "node": {"name": "worker-1", "uid": "5f1"},
            "pod": {"name": "bot-0", "uid": POD},
            "serviceaccount": {"name": "bot", "uid": "6f1"},
        },
    })
}

/// A cluster that is trusted, and a policy by which its pods of a service account, run by a user, are agent 1.
async fn clustered(scene: &Scene) {
    ready(scene).await;
    declare(scene, issuer("cluster", &[&key(1)], vec![])).await;
    let selectors = [
        (Type::UnixUid, "1001"),
        (Type::OidcIssuer, ISSUER),
        (Type::KubernetesServiceAccount, "pay/bot"),
        (Type::OidcClaim, "kubernetes.io/node/name=worker-1"),
    ];
    scene.declare(registry::attestation_by("bot-1-in-pods", 1, &selectors, started())).await;
}

fn pod(request_id: &str, token: &str) -> wire::IssueX509SvidRequest {
    let policy = "bot-1-in-pods".into();
    wire::IssueX509SvidRequest { policy, identity_token: token.into(), ..process(1, request_id) }
}

async fn jwt(scene: &Scene, call: &Call, id: &str, token: &str, broker: &str) -> Result<IssuedSvid, Fault> {
    let ask = wire::IssueJwtSvidRequest {
        instance_id: id.into(),
        selectors: process(1, "x").selectors,
        audiences: vec!["https://llm.example".into()],
        identity_token: token.into(),
        broker_instance_id: broker.into(),
        ttl: None,
    };
    issue_jwt_svid::issue(&scene.desk, call, convert::jwt_svid(ask)?).await
}

/// The transaction of tokens once, for the list of names.
pub(super) async fn through_all(scene: &Scene) {
    // Of two that speak of the same tokens nobody is believed.
    scene.take_back(Object::TrustedIssuer(issuer("ci", &[&key(1)], vec![]))).await;
    clustered(scene).await;
    let call = scene.holder(&node(scene, NAMESPACE, "vm-2").await);
    let shown = token(&key(1), &projected(scene, "through all"));
    issue(scene, &call, &pod("through-all", &shown)).await.unwrap();
}

#[tokio::test]
async fn a_pod_is_an_agent_by_the_token_that_its_cluster_projected() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        clustered(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let first = token(&key(1), &projected(&scene, "1"));
        let row = issue(&scene, &call, &pod("a", &first)).await.unwrap();
        assert_eq!(row.agent_id, agent_id(1).to_string());

        // The record names what it rests on and by whose word, and nothing of the token.
        let events = scene.events().await;
        let event = events.iter().find(|e| e.r#type == "credential.issued" && e.credential_id == row.id).unwrap();
        let listed = |name: &str| serde_json::from_str::<Vec<String>>(&event.details[name]).unwrap();
        assert_eq!(
            listed("rests_on"),
            [
                "UNIX_UID:1001",
                "KUBERNETES_SERVICE_ACCOUNT:pay/bot",
                "OIDC_ISSUER:https://ci.example",
                "OIDC_CLAIM:kubernetes.io/node/name=worker-1"
            ]
        );
        let attested = listed("attested");
        assert!(attested.contains(&"OIDC_SUBJECT:system:serviceaccount:pay:bot".to_owned()), "{attested:?}");
        assert_eq!(
            (event.details["trusted_issuer"].as_str(), event.details["token_id"].as_str()),
            ("payments/cluster@1", "1")
        );
        assert!(!format!("{event:?}").contains(first.rsplit('.').next().unwrap()), "the token is on record");

        // The platform makes a new one only now and then: the same is good for the node until it ends.
        jwt(&scene, &call, &row.instance_id, &first, "").await.unwrap();
        let again = wire::IssueX509SvidRequest { instance_id: row.instance_id.clone(), ..pod("b", &first) };
        issue(&scene, &call, &again).await.unwrap();
        issue(&scene, &call, &pod("c", &first)).await.unwrap();
        scene.pass(Duration::from_secs(606)).await;
        for refused in [
            issue(&scene, &call, &wire::IssueX509SvidRequest { request_id: "d".into(), ..again.clone() })
                .await
                .map(drop),
            jwt(&scene, &call, &row.instance_id, &first, "").await.map(drop),
        ] {
            assert_eq!(reason(refused), "IDENTITY_TOKEN_REFUSED", "it has expired");
        }
        let next = token(&key(1), &projected(&scene, "2"));
        let renewed = wire::IssueX509SvidRequest { identity_token: next.clone(), request_id: "e".into(), ..again };
        assert_eq!(issue(&scene, &call, &renewed).await.unwrap().instance_id, row.instance_id);
        jwt(&scene, &call, &row.instance_id, &next, "").await.unwrap();
        assert_eq!(reason(jwt(&scene, &call, &row.instance_id, "", "").await), "ATTESTATION_INSUFFICIENT");
    })
    .await;
}

#[tokio::test]
async fn no_node_invents_what_a_token_says() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        clustered(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let with = |path: &[&str], value: Value| {
            let mut claims = projected(&scene, "1");
            let mut at = &mut claims;
            for name in path {
                at = &mut at[*name];
            }
            *at = value;
            token(&key(1), &claims)
        };
        let now = START;
        for (what, shown, expected) in [
            ("no token", String::new(), "ATTESTATION_INSUFFICIENT"),
            ("no token at all", "a.b.c".into(), "IDENTITY_TOKEN_REFUSED"),
            ("another's key", token(&key(2), &projected(&scene, "1")), "IDENTITY_TOKEN_REFUSED"),
            ("another issuer", with(&["iss"], "https://other.example".into()), "ISSUER_NOT_TRUSTED"),
            ("another audience", with(&["aud"], json!(["vault"])), "ISSUER_NOT_TRUSTED"),
            ("two audiences", with(&["aud"], json!(["legate", "vault"])), "IDENTITY_TOKEN_REFUSED"),
            ("an old one", with(&["exp"], json!(now - 6)), "IDENTITY_TOKEN_REFUSED"),
            ("one of tomorrow", with(&["nbf"], json!(now + 60)), "IDENTITY_TOKEN_REFUSED"),
            (
                "another account",
                with(&["kubernetes.io", "serviceaccount", "name"], "x".into()),
                "ATTESTATION_INSUFFICIENT",
            ),
            ("another subject", with(&["sub"], "system:serviceaccount:pay:x".into()), "ATTESTATION_INSUFFICIENT"),
            (
                "another machine",
                with(&["kubernetes.io", "node", "name"], "worker-2".into()),
                "ATTESTATION_INSUFFICIENT",
            ),
            ("too long", "x".repeat(16 * 1024 + 1), "IDENTITY_TOKEN_REFUSED"),
        ] {
            assert_eq!(reason(issue(&scene, &call, &pod("a", &shown)).await), expected, "{what}");
        }
        // What the node says itself counts for nothing: it cannot even be said.
        for of in [Type::KubernetesServiceAccount, Type::OidcIssuer, Type::OidcClaim] {
            let mut ask = pod("a", "");
            ask.selectors.push(AttestationSelector { r#type: of.into(), value: "pay/bot".into() });
            assert_eq!(reason(issue(&scene, &call, &ask).await), "INVALID_ARGUMENT");
        }
        // Nor what it saw, where that is not enough.
        let mut ask = pod("a", &token(&key(1), &projected(&scene, "1")));
        ask.selectors[0].value = "1002".into();
        assert_eq!(reason(issue(&scene, &call, &ask).await), "ATTESTATION_INSUFFICIENT");
        assert_eq!(scene.ca.signed.load(std::sync::atomic::Ordering::SeqCst), 1, "the node alone");
        // A token that is refused is not used up.
        issue(&scene, &call, &pod("b", &token(&key(1), &projected(&scene, "1")))).await.unwrap();
        // A policy that asks for no token does not look at one.
        let idle = wire::IssueX509SvidRequest { identity_token: "x".into(), ..process(1, "c") };
        issue(&scene, &call, &idle).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_token_is_of_the_node_that_showed_it_first() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        clustered(&scene).await;
        let rules = vec![super::federation::rule(
            &[("sub", "system:serviceaccount:pay:bot")],
            super::federation::agent("bot-1"),
        )];
        declare(&scene, issuer("cluster", &[&key(1)], rules)).await;
        scene.declare(registry::credential_policy((300, 3_600), &METHODS)).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let other = scene.holder(&node(&scene, NAMESPACE, "vm-2").await);
        let shown = token(&key(1), &projected(&scene, "1"));
        // Neither fault lets another have it, nor the node lose it.
        scene.desk.db.faults().plan("hold_identity_token", NotPersisted);
        assert_eq!(reason(issue(&scene, &call, &pod("a", &shown)).await), "DATABASE_UNAVAILABLE");
        scene.desk.db.faults().plan("hold_identity_token", PersistedButReplyLost);
        assert_eq!(reason(issue(&scene, &call, &pod("a", &shown)).await), "DATABASE_UNAVAILABLE");
        assert_eq!(reason(issue(&scene, &other, &pod("a", &shown)).await), "IDENTITY_TOKEN_SPENT");
        let row = issue(&scene, &call, &pod("a", &shown)).await.unwrap();
        assert_eq!(reason(issue(&scene, &other, &pod("a", &shown)).await), "IDENTITY_TOKEN_SPENT");
        // Nor does whoever found it enrol by it; and what enrolled attests nothing.
        let enrol = async |token: &str| {
            let csr = request(&new_key());
            enrol_by_identity::enrol(&scene.desk, &scene.stranger(), NAMESPACE, token, &csr).await
        };
        assert_eq!(reason(enrol(&shown).await), "IDENTITY_TOKEN_SPENT");
        let second = token(&key(1), &projected(&scene, "2"));
        enrol(&second).await.unwrap();
        assert_eq!(reason(issue(&scene, &call, &pod("b", &second)).await), "IDENTITY_TOKEN_SPENT");
        // The node that comes after under its name is another.
        scene.take_back(registry::node(NAMESPACE, "vm-1", started())).await;
        scene.pass(Duration::from_secs(2)).await;
        scene.declare(registry::node(NAMESPACE, "vm-1", legate_clock::Clock::now(&*scene.clock))).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        assert_eq!(reason(issue(&scene, &call, &pod("c", &shown)).await), "IDENTITY_TOKEN_SPENT");
        assert_eq!(reason(jwt(&scene, &call, &row.instance_id, &shown, "").await), "INSTANCE_NOT_FOUND");
    })
    .await;
}

const METHODS: [legate_wire::registry::CredentialMethod; 3] = [
    legate_wire::registry::CredentialMethod::EnrolmentToken,
    legate_wire::registry::CredentialMethod::Attestation,
    legate_wire::registry::CredentialMethod::TrustedIssuer,
];

#[tokio::test]
async fn a_stop_and_a_withdrawal_reach_what_a_token_made() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        clustered(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let before = token(&key(1), &projected(&scene, "1"));
        issue(&scene, &call, &pod("a", &before)).await.unwrap();
        scene.pass(Duration::from_secs(10)).await;
        let cutoff = legate_clock::Clock::now(&*scene.clock);
        scene.suspend(1, 2).await;
        scene.pass(Duration::from_secs(2)).await;
        scene.resume(1, 3, cutoff).await;
        assert_eq!(reason(issue(&scene, &call, &pod("b", &before)).await), "IDENTITY_TOKEN_REFUSED");
        scene.pass(Duration::from_secs(10)).await;
        let after = token(&key(1), &projected(&scene, "2"));
        issue(&scene, &call, &pod("c", &after)).await.unwrap();
        scene.take_back(Object::TrustedIssuer(issuer("cluster", &[&key(1)], vec![]))).await;
        assert_eq!(reason(issue(&scene, &call, &pod("d", &after)).await), "ISSUER_NOT_TRUSTED");
    })
    .await;
}

/// Agent 2 starts processes that are agent 1.
async fn brokered(scene: &Scene) {
    ready(scene).await;
    let selectors = [(Type::UnixUid, "1001"), (Type::BrokerAgent, "bot-2"), (Type::BrokerSandbox, "run-1")];
    scene.declare(registry::attestation_by("bot-1-in-sandboxes", 1, &selectors, started())).await;
}

fn sandbox(request_id: &str, broker: &str) -> wire::IssueX509SvidRequest {
    let mut ask = wire::IssueX509SvidRequest {
        policy: "bot-1-in-sandboxes".into(),
        broker_instance_id: broker.into(),
        ..process(1, request_id)
    };
    ask.selectors.push(AttestationSelector { r#type: Type::BrokerSandbox.into(), value: "run-1".into() });
    ask
}

#[tokio::test]
async fn a_broker_obtains_what_policies_let_it_and_nothing_else() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        brokered(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let launcher = issue(&scene, &call, &process(2, "launcher")).await.unwrap();
        let row = issue(&scene, &call, &sandbox("a", &launcher.instance_id)).await.unwrap();
        assert_eq!(row.agent_id, agent_id(1).to_string());
        let events = scene.events().await;
        let event = events.iter().find(|e| e.r#type == "credential.issued" && e.credential_id == row.id).unwrap();
        assert_eq!(event.details["broker"], launcher.spiffe_id, "who asked is on record");
        assert!(event.details["rests_on"].contains("BROKER_AGENT:bot-2"), "{event:?}");
        assert!(event.details["attested"].contains("BROKER_SANDBOX:run-1"), "{event:?}");

        // What it rests on is asked for again with everything that follows.
        let tokens = async |broker: &str| {
            let mut ask = wire::IssueJwtSvidRequest {
                instance_id: row.instance_id.clone(),
                selectors: sandbox("x", "").selectors,
                audiences: vec!["https://llm.example".into()],
                broker_instance_id: broker.into(),
                ..wire::IssueJwtSvidRequest::default()
            };
            if broker.is_empty() {
                ask.selectors.pop();
            }
            issue_jwt_svid::issue(&scene.desk, &call, convert::jwt_svid(ask)?).await
        };
        tokens(&launcher.instance_id).await.unwrap();
        assert_eq!(reason(tokens("").await), "ATTESTATION_INSUFFICIENT");

        // The process itself, whatever it runs, has no broker; and no other agent is one for it.
        let mut own = sandbox("b", "");
        own.selectors.pop();
        assert_eq!(reason(issue(&scene, &call, &own).await), "ATTESTATION_INSUFFICIENT");
        assert_eq!(reason(issue(&scene, &call, &sandbox("b", &row.instance_id)).await), "BROKER_NOT_GOOD");
        let other = issue(&scene, &call, &process(1, "other")).await.unwrap();
        for (what, broker) in
            [("another agent", other.instance_id.as_str()), ("nobody", "inst_01jzzzzzzzfzz8zzzzzzzzzzzz")]
        {
            assert_eq!(reason(issue(&scene, &call, &sandbox("b", broker)).await), "BROKER_NOT_GOOD", "{what}");
        }
        assert_eq!(reason(issue(&scene, &call, &sandbox("b", "inst_x")).await), "INVALID_ARGUMENT");
        let mut unnamed = sandbox("b", &launcher.instance_id);
        unnamed.selectors.last_mut().unwrap().value = "run-2".into();
        assert_eq!(reason(issue(&scene, &call, &unnamed).await), "ATTESTATION_INSUFFICIENT");
        // Another node's broker is none here.
        let elsewhere = scene.holder(&node(&scene, NAMESPACE, "vm-2").await);
        assert_eq!(reason(issue(&scene, &elsewhere, &sandbox("b", &launcher.instance_id)).await), "BROKER_NOT_GOOD");

        // A broker that fell asks for nobody any more.
        scene.revoke(&launcher.id, RevocationReason::KeyCompromise).await.unwrap();
        for refused in [
            issue(&scene, &call, &sandbox("c", &launcher.instance_id)).await.map(drop),
            tokens(&launcher.instance_id).await.map(drop),
        ] {
            assert_eq!(reason(refused), "BROKER_NOT_GOOD");
        }
        let again = issue(&scene, &call, &process(2, "again")).await.unwrap();
        issue(&scene, &call, &sandbox("d", &again.instance_id)).await.unwrap();
        scene.suspend(2, 2).await;
        assert_eq!(reason(issue(&scene, &call, &sandbox("e", &again.instance_id)).await), "BROKER_NOT_GOOD");
    })
    .await;
}

#[tokio::test]
async fn a_broker_of_the_name_that_came_later_is_another() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        brokered(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        scene.pass(Duration::from_secs(5)).await;
        let Object::Agent(mut later) = registry::agent(2, AgentState::Active, 1, None, None) else { unreachable!() };
        let created = legate_clock::Clock::now(&*scene.clock);
        later.metadata.as_mut().unwrap().create_time = Some(created.into());
        scene.declare(Object::Agent(later)).await;
        scene.declare(registry::attestation("bot-2-on-vm", 2, "1002", &[], created)).await;
        let launcher = issue(&scene, &call, &process(2, "launcher")).await.unwrap();
        assert_eq!(reason(issue(&scene, &call, &sandbox("a", &launcher.instance_id)).await), "BROKER_NOT_GOOD");
    })
    .await;
}
