//! Nodes, and the attestation policies that name them: their own namespace's, and another's.

use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::registry::OperatorRole::{Editor, Viewer};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::*;

use super::operators::given;
use super::scene::*;
use crate::domain::kind::Key;
use crate::flow::{apply, plan, read, update};
use crate::schema::Migrator;

const BOB: &str = "spiffe://example.org/legate/operator/bob";

fn node(namespace: &str, name: &str) -> Declaration {
    let metadata = Metadata { namespace: namespace.into(), name: name.into(), ..Metadata::default() };
    of(Object::Node(Node { metadata: Some(metadata), spec: Some(NodeSpec::default()), spiffe_id: String::new() }))
}

fn believes(name: &str, agent: &str, nodes: &[&str]) -> Declaration {
    let selector = AttestationSelector { r#type: AttestationSelectorType::UnixUid.into(), value: "1000".into() };
    let spec = AttestationPolicySpec {
        agent: agent.into(),
        selectors: vec![selector],
        nodes: nodes.iter().map(ToString::to_string).collect(),
        ..AttestationPolicySpec::default()
    };
    of(Object::AttestationPolicy(AttestationPolicy { metadata: metadata(name), spec: Some(spec) }))
}

fn named(kind: Kind, namespace: &str, name: &str) -> ObjectName {
    ObjectName { kind: kind.into(), namespace: namespace.into(), name: name.into() }
}

fn why<T>(told: Result<T, Fault>) -> &'static str {
    told.map(|_| "done").unwrap_or_else(|fault| reason(&fault))
}

async fn begin(scene: &Scene) {
    scene.apply(payments()).await.unwrap();
    scene.apply(vec![agent("other", "worker"), namespace("platform"), node("platform", "vm-1")]).await.unwrap();
}

#[tokio::test]
async fn a_node_has_an_identity_and_stays_while_a_policy_of_its_namespace_names_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        begin(&scene).await;
        assert_eq!(why(scene.apply(vec![node("nowhere", "vm-1")]).await), "REFERENCE_MISSING");
        assert_eq!(why(scene.apply(vec![believes("p", "invoice-bot", &["vm-1"])]).await), "REFERENCE_MISSING");
        // Both in one apply, in any order.
        scene.apply(vec![believes("p", "invoice-bot", &["vm-1"]), node("payments", "vm-1")]).await.unwrap();
        let key = Key::new(Kind::Node, "payments", "vm-1");
        let found = read::object(&scene.desk, &by(OPERATOR, ""), key, None).await.unwrap().0;
        let Some(Object::Node(found)) = found.object else { panic!("no node") };
        assert_eq!(found.spiffe_id, "spiffe://example.org/ns/payments/node/vm-1");
        // To declare it again as it is changes nothing, whatever is said of its id.
        let mut again = node("payments", "vm-1");
        if let Some(Object::Node(again)) = &mut again.object {
            again.spiffe_id = "spiffe://example.org/legate/registry".into();
        }
        let told = scene.apply(vec![again]).await.unwrap();
        assert_eq!(told.changes[0].action(), ChangeAction::Unchanged);

        let gone = || vec![named(Kind::Node, "payments", "vm-1")];
        assert_eq!(why(scene.exchange("over", vec![], gone()).await), "OBJECT_IN_USE");
        // Written with its namespace it is the same node.
        scene.apply(vec![believes("p", "invoice-bot", &["payments/vm-1"])]).await.unwrap();
        assert_eq!(why(scene.exchange("over", vec![], gone()).await), "OBJECT_IN_USE");
        scene.exchange("over", vec![believes("p", "invoice-bot", &[])], gone()).await.unwrap();
        let kinds = scene.kinds().await;
        for kind in ["node.created", "node.revoked", "attestation_policy.updated"] {
            assert!(kinds.iter().any(|told| told == kind), "{kind} is not among {kinds:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_rule_of_a_trusted_issuer_can_stand_for_a_node() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        begin(&scene).await;
        let rule = ClaimRule {
            claims: [("sub".to_owned(), "machine-1".to_owned())].into(),
            stands_for: Some(claim_rule::StandsFor::Node("vm-1".into())),
            groups_claim: String::new(),
        };
        let spec = TrustedIssuerSpec {
            issuer: "https://cloud.example".into(),
            audiences: vec!["legate".into()],
            jwks_uri: "https://cloud.example/keys".into(),
            rules: vec![rule],
            ..TrustedIssuerSpec::default()
        };
        let issuer = of(Object::TrustedIssuer(TrustedIssuer { metadata: metadata("cloud"), spec: Some(spec) }));
        assert_eq!(why(scene.apply(vec![issuer.clone()]).await), "REFERENCE_MISSING");
        scene.apply(vec![issuer, node("payments", "vm-1")]).await.unwrap();
        let gone = |kind, name| vec![named(kind, "payments", name)];
        assert_eq!(why(scene.exchange("over", vec![], gone(Kind::Node, "vm-1")).await), "OBJECT_IN_USE");
        scene.exchange("over", vec![], gone(Kind::TrustedIssuer, "cloud")).await.unwrap();
        scene.exchange("over", vec![], gone(Kind::Node, "vm-1")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn who_names_a_foreign_node_sees_it_and_does_not_hold_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        assert!(scene.appoint(&["ada"]).await.unwrap());
        begin(&scene).await;
        scene.apply(vec![given("bobs", "payments", &["bob"], Editor)]).await.unwrap();
        // Whether it is there or not, who may not read there is told the same.
        for node in ["platform/vm-1", "platform/vm-9", "nowhere/vm-1"] {
            let wanted = vec![believes("p", "invoice-bot", &[node])];
            let told = scene.apply_as(BOB, wanted.clone(), "", 0).await.unwrap_err();
            assert_eq!(reason(&told), "OPERATOR_NOT_PERMITTED", "{node}");
            assert!(!told.to_string().contains("vm-"), "{told}");
            assert_eq!(why(plan::plan(&scene.desk, &by(BOB, ""), wanted, Vec::new()).await), "OPERATOR_NOT_PERMITTED");
        }
        scene.apply_as(BOB, vec![believes("p", "invoice-bot", &[])], "", 0).await.unwrap();
        let paths = vec!["spec.nodes".to_owned()];
        let by_mask = async |actor: &str, node: &str| {
            let wanted = believes("p", "invoice-bot", &[node]);
            let call = scene.call(actor, "because", &wanted, "");
            update::update(&scene.desk, call, wanted, paths.clone()).await
        };
        assert_eq!(why(by_mask(BOB, "platform/vm-1").await), "OPERATOR_NOT_PERMITTED");

        scene.apply(vec![given("bobs-elsewhere", "platform", &["bob"], Viewer)]).await.unwrap();
        assert_eq!(why(by_mask(BOB, "platform/vm-9").await), "REFERENCE_MISSING");
        by_mask(BOB, "platform/vm-1").await.unwrap();
        // To read there is not to write there.
        assert_eq!(why(scene.apply_as(BOB, vec![node("platform", "vm-2")], "", 0).await), "OPERATOR_NOT_PERMITTED");
        // That others name it keeps nobody from taking it back.
        let call = scene.call(OPERATOR, "sold", &(), "");
        let removals = vec![named(Kind::Node, "platform", "vm-1")];
        apply::apply(&scene.desk, call, Vec::new(), removals, 0).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn one_process_of_a_node_is_one_agent() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        begin(&scene).await;
        scene.apply(vec![node("payments", "vm-1"), node("payments", "vm-2")]).await.unwrap();
        scene.apply(vec![believes("one", "invoice-bot", &["vm-1"])]).await.unwrap();
        // The same user of another machine is somebody else.
        scene.apply(vec![believes("two", "other", &["vm-2", "platform/vm-1"])]).await.unwrap();
        for (what, nodes) in [("any", &[][..]), ("the same", &["vm-1"]), ("the same, in full", &["payments/vm-1"])] {
            assert_eq!(
                why(scene.apply(vec![believes("two", "other", nodes)]).await),
                "ATTESTATION_AMBIGUOUS",
                "{what}"
            );
        }
        assert_eq!(why(scene.apply(vec![believes("one", "invoice-bot", &[])]).await), "ATTESTATION_AMBIGUOUS");
        // What changes places in one apply is held against what it will be.
        let swapped = vec![believes("one", "invoice-bot", &["vm-2"]), believes("two", "other", &["vm-1"])];
        scene.apply(swapped).await.unwrap();
    })
    .await;
}
