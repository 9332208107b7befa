//! What manifests may say, and what is refused where.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_wire::registry::{
    Agent, AgentClass, AgentClassSpec, AgentSpec, Charter, EnforcementPoint, EnforcementPointSpec, Environment,
    Metadata, Namespace, NamespaceSpec, Permission, Policy, PolicyMode, PolicySpec, ResourceSelector, RiskTier, Role,
    RoleBinding, RoleBindingSpec, RoleSpec, declaration,
};
use proptest::prelude::*;

use super::*;

mod governed;

const INVOICE: &str = include_str!("../../../../deploy/examples/invoice.yaml");

fn yaml(text: &str) -> Result<Vec<Document>, ManifestError> {
    parse(Path::new("a.yaml"), text, &mut Seen::new())
}

fn refused(text: &str) -> String {
    yaml(text).map(|d| format!("accepted: {d:?}")).unwrap_err().to_string()
}

/// A document with this spec.
fn agent(spec: &str) -> String {
    let head = "apiVersion: legate/v1\nkind: Agent\nmetadata:\n  name: a\n  namespace: n\nspec:\n";
    let body: String = spec.lines().map(|l| format!("  {l}\n")).collect();
    head.to_owned() + &body
}

#[test]
fn the_example_is_read() {
    let all = yaml(INVOICE).unwrap();
    let kinds: Vec<&str> = all.iter().map(|d| d.kind).collect();
    let wanted = ["Namespace", "AgentClass", "Agent", "Role", "RoleBinding", "Policy", "Policy", "EnforcementPoint"];
    assert_eq!(kinds, wanted);
    let Some(declaration::Object::Agent(agent)) = &all[2].declaration.object else { panic!("{all:?}") };
    let spec = agent.spec.as_ref().unwrap();
    assert_eq!((spec.environment(), spec.risk_tier()), (Environment::Prod, RiskTier::Medium));
    assert_eq!(agent.metadata.as_ref().unwrap().labels["team"], "payments");
    let Some(declaration::Object::AgentClass(class)) = &all[1].declaration.object else { panic!("{all:?}") };
    let spec = class.spec.as_ref().unwrap();
    assert_eq!(spec.ceiling[0].action, "invoice:*");
    assert_eq!(spec.max_token_ttl.as_ref().unwrap().seconds, 300);
}

#[test]
fn json_is_read_as_well_with_several_objects_and_the_kind_last() {
    let text = r#"{"spec": {"displayName": "\ud83d\ude00"}, "metadata": {"name": "n"}, "apiVersion": "legate/v1", "kind": "Namespace"}
        {"apiVersion": "legate/v1", "kind": "Role", "metadata": {"name": "r", "namespace": "n"},
         "spec": {"permissions": [{"action": "a:b", "resource": {"type": "T"}}]}}"#;
    let all = parse(Path::new("a.json"), text, &mut Seen::new()).unwrap();
    assert_eq!(all.len(), 2);
    let bad = text.replace("displayName", "display_name");
    let why = parse(Path::new("a.json"), &bad, &mut Seen::new()).unwrap_err();
    assert_eq!(why.at.unwrap().0, 1);
    assert!(why.to_string().contains("a.json:1:") && why.why.contains("display_name"), "{why}");
}

#[test]
fn what_is_unknown_is_refused_at_its_place() {
    let why = refused(&agent("purpose: x\nowner: user:a"));
    assert!(why.starts_with("a.yaml:8:3: ") && why.contains("\"owner\"") && why.contains("owners"), "{why}");
    let why = refused(&agent("environment: PRODUCTION"));
    assert!(why.starts_with("a.yaml:7:16: ") && why.contains("PROD"), "{why}");
    let why = refused(&agent("purpose: 3"));
    assert!(why.starts_with("a.yaml:7:12: ") && why.contains("quotes"), "{why}");
    let why = refused(&agent("expireTime: tomorrow"));
    assert!(why.starts_with("a.yaml:7:15: ") && why.contains("RFC 3339"), "{why}");
    let why = refused(&agent("owners: user:a"));
    assert!(why.starts_with("a.yaml:7:11: ") && why.contains("a list"), "{why}");
    let why = refused("apiVersion: legate/v2\nkind: Agent\nmetadata: {name: a, namespace: n}\nspec: {}\n");
    assert!(why.starts_with("a.yaml:1:13: "), "{why}");
    let why = refused("apiVersion: legate/v1\nkind: SigningKey\nmetadata: {name: a}\nspec: {}\n");
    assert!(why.starts_with("a.yaml:2:7: ") && why.contains("EnforcementPoint"), "{why}");
    let why = refused("apiVersion: legate/v1\nkind: Agent\nmetadata: {name: a, namespace: n, id: agt_1}\nspec: {}\n");
    assert!(why.starts_with("a.yaml:3:") && why.contains("\"id\""), "{why}");
    let why = refused("apiVersion: legate/v1\nkind: Agent\nspec: {}\n");
    assert!(why.contains("no metadata"), "{why}");
    let why = refused("apiVersion: legate/v1\nkind: Agent\nmetadata: {name: A, namespace: n}\nspec: {}\n");
    assert!(why.contains("a.yaml:3:") && why.contains("metadata.name"), "{why}");
    let why = refused("apiVersion: legate/v1\nkind: Namespace\nmetadata: {name: a, namespace: n}\nspec: {}\n");
    assert!(why.contains("metadata.namespace"), "{why}");
    let why = refused("just text");
    assert!(why.contains("apiVersion"), "{why}");
}

#[test]
fn what_is_given_twice_is_refused() {
    let why = refused(&agent("purpose: x\npurpose: y"));
    assert!(why.starts_with("a.yaml:8:3: ") && why.contains("twice"), "{why}");
    let one = agent("purpose: x");
    let why = refused(&format!("{one}---\n{one}"));
    assert!(why.starts_with("a.yaml:9:1: ") && why.contains("declared twice"), "{why}");
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("1.yaml"), dir.path().join("2.yaml")];
    paths.iter().for_each(|p| std::fs::write(p, &one).unwrap());
    let why = load(&paths).unwrap_err().to_string();
    assert!(why.contains("2.yaml") && why.contains("1.yaml"), "{why}");
}

#[test]
fn secrets_are_refused() {
    let why = refused(&agent("purpose: \"use lgt_enr_0123456789abcdef\""));
    assert!(why.starts_with("a.yaml:7:12: ") && why.contains("secret"), "{why}");
    assert!(!why.contains("0123456789abcdef"), "{why}");
}

#[test]
fn bombs_are_cut_short() {
    let mut bomb = String::from("a: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for i in 1..9 {
        bomb += &format!("b{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(","));
    }
    let started = std::time::Instant::now();
    assert!(yaml(&agent(&format!("owners: &o [\"user:a\"]\n{bomb}"))).is_err());
    let wide =
        format!("owners: &o [{}]\nsponsors: [{}]\n", vec!["\"u\""; 1_000].join(","), vec!["*o"; 1_000].join(","));
    assert!(yaml(&agent(&wide)).is_err());
    let why = refused(&"[".repeat(1_000_000));
    assert!(why.starts_with("a.yaml:1:") && why.contains("nested"), "{why}");
    assert!(yaml(&"{a: ".repeat(200_000)).is_err());
    assert!(yaml(&"- ".repeat(200_000)).is_err());
    assert!(parse(Path::new("a.json"), &"{\"a\":".repeat(200_000), &mut Seen::new()).is_err());
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.yaml");
    std::fs::write(&path, "#".repeat(5 << 20)).unwrap();
    assert!(load(&[path]).unwrap_err().to_string().contains("4 MiB"));
}

#[test]
fn tags_merges_and_empty_values_are_refused() {
    for spec in ["purpose: !secret x", "purpose:", "<<: {purpose: x}", "owners: [~]", "charter: {uri: [x]}"] {
        assert!(yaml(&agent(spec)).is_err(), "{spec}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.yaml");
    std::fs::write(&path, "# nothing\n").unwrap();
    assert!(load(std::slice::from_ref(&path)).unwrap_err().to_string().contains("no document"));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(load(&[path]).is_err());
    assert!(load(&[dir.path().join("missing.yaml")]).is_err());
}

#[test]
fn the_published_schema_is_this_one_and_knows_the_example() {
    let published = include_str!("../../../../deploy/manifest.schema.json");
    let published: serde_json::Value = serde_json::from_str(published).unwrap();
    assert!(published == schema(), "write it anew: legate schema > deploy/manifest.schema.json");
    let agent = &schema()["$defs"]["Agent"]["properties"]["spec"]["properties"];
    assert_eq!(agent["environment"]["enum"], serde_json::json!(["DEV", "TEST", "PROD"]));
    assert!(agent["sponsors"]["description"].as_str().unwrap().contains("accountable"));
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{1,20}", "\\PC{1,10}", "[a-z]{1,5}\n[a-z ]{1,5}"]
}

fn permission() -> impl Strategy<Value = Permission> {
    let id = prop_oneof![Just(String::new()), Just("*".into()), "[a-z]{1,4}/\\*", "[a-z:]{1,6}"];
    ("[a-z]{1,5}(:[a-z]{1,4})?", "[A-Z][a-z]{0,4}(::[A-Z][a-z]{0,3})?", id, attributes()).prop_map(
        |(action, kind, id, attributes)| Permission {
            action,
            resource: Some(ResourceSelector { r#type: kind, id, attributes }),
        },
    )
}

fn attributes() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    prop::collection::btree_map("[a-z]{1,4}", text(), 0..3)
}

fn metadata(namespaced: bool) -> impl Strategy<Value = Metadata> {
    ("[a-z][a-z0-9]{0,8}", "[a-z]{1,8}", attributes(), attributes()).prop_map(
        move |(name, namespace, labels, annotations)| Metadata {
            name,
            namespace: if namespaced { namespace } else { String::new() },
            labels,
            annotations,
            ..Metadata::default()
        },
    )
}

fn moment() -> impl Strategy<Value = Option<prost_types::Timestamp>> {
    prop::option::of((0_i64..4_000_000_000, 0_i32..1_000_000))
        .prop_map(|m| m.map(|(seconds, micros)| prost_types::Timestamp { seconds, nanos: micros * 1_000 }))
}

fn span() -> impl Strategy<Value = Option<prost_types::Duration>> {
    prop::option::of((1_i64..1_000_000, 0_i32..1_000_000_000))
        .prop_map(|d| d.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos }))
}

fn object() -> impl Strategy<Value = declaration::Object> {
    let list = || prop::collection::vec(text(), 0..3);
    let permissions = || prop::collection::vec(permission(), 0..4);
    prop_oneof![
        (metadata(false), text(), list()).prop_map(|(m, display_name, owners)| {
            let spec = NamespaceSpec { display_name, owners, ..Default::default() };
            declaration::Object::Namespace(Namespace { metadata: Some(m), spec: Some(spec), status: None })
        }),
        (metadata(true), text(), permissions(), permissions(), any::<bool>(), span()).prop_map(
            |(m, description, permissions, ceiling, requires_approval, default_expiry)| {
                let spec = AgentClassSpec {
                    description,
                    permissions,
                    ceiling,
                    requires_approval,
                    default_expiry,
                    ..Default::default()
                };
                declaration::Object::AgentClass(AgentClass { metadata: Some(m), spec: Some(spec), status: None })
            }
        ),
        (metadata(true), text(), list(), 0_i32..4, 0_i32..5, moment(), prop::option::of((text(), text()))).prop_map(
            |(m, purpose, sponsors, environment, risk_tier, expire_time, charter)| {
                let charter = charter.map(|(uri, sha256)| Charter { uri, sha256 });
                let spec =
                    AgentSpec { purpose, sponsors, environment, risk_tier, expire_time, charter, ..Default::default() };
                declaration::Object::Agent(Agent { metadata: Some(m), spec: Some(spec), status: None })
            }
        ),
        (metadata(true), permissions()).prop_map(|(m, permissions)| {
            let spec = RoleSpec { permissions, ..Default::default() };
            declaration::Object::Role(Role { metadata: Some(m), spec: Some(spec) })
        }),
        (metadata(true), text(), permissions(), moment()).prop_map(|(m, role, some, not_after)| {
            let resources = some.into_iter().filter_map(|p| p.resource).collect();
            let spec = RoleBindingSpec { role, resources, not_after, ..Default::default() };
            declaration::Object::RoleBinding(RoleBinding { metadata: Some(m), spec: Some(spec) })
        }),
        (metadata(true), text()).prop_map(|(m, cedar)| {
            let spec = PolicySpec { cedar, mode: PolicyMode::LogOnly.into(), ..Default::default() };
            declaration::Object::Policy(Policy { metadata: Some(m), spec: Some(spec) })
        }),
        (metadata(true), list(), any::<bool>()).prop_map(|(m, audiences, may_assert_subject)| {
            let spec = EnforcementPointSpec { audiences, may_assert_subject, ..Default::default() };
            let point = EnforcementPoint { metadata: Some(m), spec: Some(spec), ..Default::default() };
            declaration::Object::EnforcementPoint(point)
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_the_same(object in object()) {
        let wanted = Declaration { object: Some(object) };
        let text = write(&wanted);
        let read = yaml(&text);
        prop_assert_eq!(read.map(|d| d[0].declaration.clone()), Ok(wanted), "{}", text);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", spec in "[ -~\n]{0,80}") {
        let _any = yaml(&text);
        let _any = yaml(&agent(&spec));
    }
}
