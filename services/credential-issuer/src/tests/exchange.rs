//! A person's token exchanged: for whom and through which group, and whatever is taken back in the midst of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_token::{Claims, P256Verifier, Parsed};
use legate_wire::registry as wire;
use legate_wire::registry::AgentState;
use legate_wire::registry::claim_rule::StandsFor as Said;
use legate_wire::registry::declaration::Object;
use serde_json::{Value, json};

use super::federation::{agent, claims, issuer, rule};
use super::outside::{key, token};
use super::registry::{self, NAMESPACE};
use super::scene::{Scene, reason, wish, yes};
use crate::domain::token::Wish;
use crate::flow::exchange::{Exchange, Exchanged, SubjectToken, exchange};
use crate::schema::Migrator;
use crate::store::credential;

/// Claims of ada, with these too.
pub(super) fn ada(more: &Value) -> Value {
    let mut all = claims();
    all["sub"] = "ada".into();
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

pub(super) fn people() -> wire::TrustedIssuer {
    let of_people = wire::ClaimRule {
        groups_claim: "groups".into(),
        ..rule(&[("sub", "ada")], Some(Said::UserClaim("sub".into())))
    };
    issuer("people", &[&key(1)], vec![of_people, rule(&[("sub", "bot")], agent("bot-2"))])
}

pub(super) fn grant(name: &str, delegator: &str) -> Object {
    let resource =
        wire::ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..wire::ResourceSelector::default() };
    Object::DelegationGrant(wire::DelegationGrant {
        metadata: Some(wire::Metadata {
            name: name.into(),
            namespace: NAMESPACE.into(),
            id: format!("obj_{name}"),
            version: 1,
            ..wire::Metadata::default()
        }),
        spec: Some(wire::DelegationGrantSpec {
            delegator: delegator.into(),
            delegate: "bot-1".into(),
            permissions: vec![wire::Permission { action: "invoice:read".into(), resource: Some(resource) }],
            purpose: "a test".into(),
            not_after: Some(prost_types::Timestamp { seconds: super::scene::START + 3_600, nanos: 0 }),
            ..wire::DelegationGrantSpec::default()
        }),
    })
}

fn binding(name: &str, users: &[&str]) -> Object {
    Object::RoleBinding(wire::RoleBinding {
        metadata: Some(wire::Metadata { name: name.into(), namespace: NAMESPACE.into(), ..wire::Metadata::default() }),
        spec: Some(wire::RoleBindingSpec {
            role: "reader".into(),
            users: users.iter().map(ToString::to_string).collect(),
            ..wire::RoleBindingSpec::default()
        }),
    })
}

fn namespace() -> Object {
    let metadata = wire::Metadata { name: NAMESPACE.into(), ..wire::Metadata::default() };
    Object::Namespace(wire::Namespace { metadata: Some(metadata), spec: None, status: None })
}

pub(super) async fn scene(fixture: &legate_db::testing::Fixture) -> (Scene, credential::Model) {
    let scene = Scene::on(fixture).await;
    scene.declare(namespace()).await;
    scene.declare(Object::TrustedIssuer(people())).await;
    let (row, _) = scene.enrolled(1).await;
    (scene, row)
}

pub(super) async fn asked(
    scene: &Scene,
    row: &credential::Model,
    more: &Value,
    wish: Wish,
) -> Result<Exchanged, Fault> {
    let subject_token = SubjectToken::Identity(token(&key(1), &ada(more)));
    let ask = Exchange { subject_token, actor_token: None, wish, grant: None };
    exchange(&scene.desk, &scene.holder(row), ask).await
}

fn said(scene: &Scene, exchanged: &Exchanged) -> Claims {
    let verifier = P256Verifier::new(&scene.token_key());
    Parsed::parse(&exchanged.issued.token).unwrap().check_signature(&verifier).unwrap().claims().clone()
}

#[tokio::test]
async fn a_grant_of_a_group_lets_act_for_whom_the_token_shows_in_it() {
    on_each::<Migrator>(async |fixture| {
        let (scene, row) = scene(&fixture).await;
        scene.declare(grant("of-finance", "group:finance")).await;
        let ask = async |more: Value| asked(&scene, &row, &more, wish()).await;
        let finance = ask(json!({"groups": ["sales", "finance", "finance", 7, "a b", ""]})).await.unwrap();
        assert_eq!(said(&scene, &finance).subject.to_string(), "user:ada");
        assert_eq!(said(&scene, &finance).chain.groups, ["group:finance"]);
        assert_eq!(said(&scene, &finance).chain.grants, ["obj_of-finance"]);
        assert_eq!(said(&scene, &ask(json!({"groups": "finance"})).await.unwrap()).chain.groups, ["group:finance"]);
        let event = scene.events().await.into_iter().rfind(|event| event.r#type == "token.exchanged").unwrap();
        assert_eq!(event.details["subject_groups"], "group:finance");
        assert_eq!((event.subject.as_str(), event.grant_id.as_str()), ("user:ada", "obj_of-finance"));

        // What is not in the token, in that claim, as that very text, is not there.
        let many: Vec<String> = (0..256).map(|n| format!("g{n}")).chain(["finance".to_owned()]).collect();
        for not in [
            json!({}),
            json!({"groups": []}),
            json!({"groups": ["Finance", "finance ", "financ", "group:finance"]}),
            json!({"groups": {"finance": true}}),
            json!({"roles": ["finance"]}),
            json!({"groups": many}),
        ] {
            assert_eq!(reason(ask(not.clone()).await), "GRANT_MISSING", "{not}");
        }
        // Groups that bindings name are said too, and no others; a person's own grant is by the person.
        scene.declare(binding("sales", &["group:sales", "user:eve"])).await;
        let both = ask(json!({"groups": ["sales", "finance", "gardeners"]})).await.unwrap();
        assert_eq!(said(&scene, &both).chain.groups, ["group:finance", "group:sales"]);
        scene.take_back(grant("of-finance", "group:finance")).await;
        assert_eq!(reason(ask(json!({"groups": ["sales", "finance"]})).await), "GRANT_MISSING");
        scene.declare(grant("of-ada", "user:ada")).await;
        let own = ask(json!({"groups": ["sales", "finance"]})).await.unwrap();
        assert_eq!(said(&scene, &own).chain.groups, ["group:sales"]);
        // The token of somebody who is no person has no groups.
        let text = token(&key(1), &ada(&json!({"sub": "bot", "groups": ["finance"]})));
        let ask =
            Exchange { subject_token: SubjectToken::Identity(text), actor_token: None, wish: wish(), grant: None };
        assert_eq!(reason(exchange(&scene.desk, &scene.holder(&row), ask).await), "SUBJECT_TOKEN_INVALID");
    })
    .await;
}

#[tokio::test]
async fn a_token_names_as_many_groups_as_it_holds() {
    on_each::<Migrator>(async |fixture| {
        let (scene, row) = scene(&fixture).await;
        scene.declare(grant("of-z", "group:z")).await;
        let groups: Vec<String> = (10..40).map(|n| format!("g{n}")).chain(["z".to_owned()]).collect();
        let users: Vec<String> = groups.iter().map(|group| format!("group:{group}")).collect();
        scene.declare(binding("many", &users.iter().map(String::as_str).collect::<Vec<_>>())).await;
        let told = said(&scene, &asked(&scene, &row, &json!({ "groups": groups }), wish()).await.unwrap()).chain.groups;
        let first: Vec<String> = (10..25).map(|n| format!("group:g{n}")).chain(["group:z".to_owned()]).collect();
        assert_eq!(told, first, "the grant's own, and the first fifteen by name");
    })
    .await;
}

#[tokio::test]
async fn the_grant_is_the_one_that_gives_all_that_is_asked_for() {
    on_each::<Migrator>(async |fixture| {
        let (scene, row) = scene(&fixture).await;
        let of = |name: &str, given: &[(&str, &str)]| {
            let Object::DelegationGrant(mut made) = grant(name, "user:ada") else { unreachable!() };
            let permission = |(action, kind): &(&str, &str)| wire::Permission {
                action: (*action).into(),
                resource: Some(wire::ResourceSelector {
                    r#type: (*kind).into(),
                    id: "*".into(),
                    ..wire::ResourceSelector::default()
                }),
            };
            made.spec.as_mut().unwrap().permissions = given.iter().map(permission).collect();
            Object::DelegationGrant(made)
        };
        scene.declare(of("a", &[("invoice:read", "Invoice"), ("invoice:void", "Ledger")])).await;
        scene.declare(of("b", &[("invoice:read", "Invoice"), ("invoice:pay", "Invoice")])).await;
        scene.declare(of("c", &[("ledger:*", "*"), ("invoice:void", "Invoice")])).await;
        let by = async |named: &str| {
            let wish =
                Wish { actions: super::tokens::actions(&named.split_whitespace().collect::<Vec<_>>()), ..wish() };
            let exchanged = asked(&scene, &row, &json!({}), wish).await;
            exchanged.map(|made| said(&scene, &made).chain.grants.concat()).map_err(|fault| fault.reason())
        };
        for (named, grant) in [
            ("", Ok("obj_a")),
            ("invoice:read", Ok("obj_a")),
            ("invoice:read invoice:pay", Ok("obj_b")),
            ("invoice:pay invoice:read", Ok("obj_b")),
            ("ledger:write", Ok("obj_c")),
            // Of what is decided there, and not of what is decided elsewhere.
            ("invoice:void", Ok("obj_c")),
            // None gives all of it: the first that gives something, and policy-decision says of what.
            ("invoice:pay ledger:write", Ok("obj_b")),
            ("invoice:*", Ok("obj_a")),
            ("invoice:seal", Err("GRANT_TOO_NARROW")),
        ] {
            assert_eq!(by(named).await.as_deref().map_err(|reason| *reason), grant, "{named}");
        }
    })
    .await;
}

/// Declared, or taken back, while policy-decision says yes.
type Meanwhile = fn(&Scene) -> (Object, bool);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_taken_back_between_decision_and_signature_leaves_no_token() {
    on_each::<Migrator>(async |fixture| {
        let (scene, row) = scene(&fixture).await;
        let scene = Arc::new(scene);
        let all: [(Meanwhile, &str); 5] = [
            (|_| (grant("of-ada", "user:ada"), true), "SUBJECT_TOKEN_FALLEN"),
            (
                |_| {
                    let Object::DelegationGrant(mut grant) = grant("of-ada", "user:ada") else { unreachable!() };
                    grant.spec.as_mut().unwrap().not_after =
                        Some(prost_types::Timestamp { seconds: super::scene::START, nanos: 0 });
                    (Object::DelegationGrant(grant), false)
                },
                "SUBJECT_TOKEN_FALLEN",
            ),
            (|_| (grant("of-ada", "user:eve"), false), "SUBJECT_TOKEN_FALLEN"),
            (|_| (Object::TrustedIssuer(people()), true), "ISSUER_NOT_TRUSTED"),
            (
                |scene| {
                    use legate_clock::Clock as _;
                    (registry::agent(1, AgentState::Suspended, 2, Some(scene.clock.now()), None), false)
                },
                "HOLDER_NOT_ACTIVE",
            ),
        ];
        for (n, (meanwhile, expected)) in all.into_iter().enumerate() {
            scene.declare(Object::TrustedIssuer(people())).await;
            scene.declare(grant("of-ada", "user:ada")).await;
            let (played, view, change) = (scene.registry.clone(), scene.desk.view.clone(), meanwhile(&scene));
            *scene.says.0.lock().unwrap() = Box::new(move |ask| {
                let revision = played.declare(change.0.clone(), change.1);
                let view = view.clone();
                let wait = async move { view.wait_for(revision, Duration::from_secs(20)).await.map(|_| ()) };
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(wait)).unwrap();
                Ok(yes(ask))
            });
            assert_eq!(reason(asked(&scene, &row, &json!({}), wish()).await), expected, "{n}");
            assert_eq!(scene.tokens.signed.load(Ordering::SeqCst), 0, "{n}: signed");
        }
        // What was planned is on record, and that it was refused.
        assert_eq!((scene.count("token.exchanged").await, scene.count("exchange.refused").await), (5, 5));
    })
    .await;
}
