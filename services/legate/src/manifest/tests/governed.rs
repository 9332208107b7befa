//! Manifests of what governs a namespace: numbers, maps of any shape, one of several fields, no private key.

use legate_wire::registry::{
    AttestationPolicy, AttestationPolicySpec, AttestationSelector, Boundary, BoundarySpec, BundleEndpoint, ClaimRule,
    CredentialPolicy, CredentialPolicySpec, DelegationGrant, DelegationGrantSpec, FederatedTrustDomain,
    FederatedTrustDomainSpec, Group, GroupSpec, Hours, Node, NodeSpec, OperatorBinding, OperatorBindingSpec,
    PolicyTest, PolicyTestCase, PolicyTestSpec, TrustedIssuer, TrustedIssuerSpec, claim_rule,
};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use super::*;

const GOVERNED: &str = include_str!("../../../../../deploy/examples/governed.yaml");

/// A document of this kind with this spec.
fn document(kind: &str, spec: &str) -> String {
    let head = format!("apiVersion: legate/v1\nkind: {kind}\nmetadata:\n  name: a\n  namespace: n\nspec:\n");
    let body: String = spec.lines().map(|l| format!("  {l}\n")).collect();
    head + &body
}

#[test]
fn the_example_has_every_kind() {
    let all = yaml(GOVERNED).unwrap();
    for kind in document::KINDS {
        assert!(all.iter().any(|d| d.kind == kind), "{kind}");
    }
    let everywhere = all.iter().find(|d| d.name == "auditors").unwrap();
    assert_eq!(everywhere.namespace, "");
    let case = all.iter().find_map(|d| match &d.declaration.object {
        Some(declaration::Object::PolicyTest(test)) => test.spec.clone()?.cases.pop(),
        _ => None,
    });
    let attributes = case.unwrap().attributes.unwrap().fields;
    assert_eq!(attributes["lines"].kind, Some(Kind::NumberValue(12.0)));
    assert_eq!(attributes["closed"].kind, Some(Kind::BoolValue(true)));
    assert!(matches!(&attributes["tags"].kind, Some(Kind::ListValue(tags)) if tags.values.len() == 2));
}

#[test]
fn numbers_are_whole_and_fit() {
    let hours = |from: &str| document("Boundary", &format!("hours: [{{fromMinute: {from}, untilMinute: 60}}]"));
    assert!(yaml(&hours("0")).is_ok());
    for bad in ["-1", "4294967296", "1.5", "\"1\"", "true", "[1]"] {
        let why = refused(&hours(bad));
        assert!(why.starts_with("a.yaml:7:") && why.contains("whole number"), "{bad}: {why}");
    }
    let why = refused(&agent("purpose: 3"));
    assert!(why.contains("quotes"), "{why}");
}

#[test]
fn a_rule_stands_for_one() {
    let both = "rules:\n- claims: {sub: x}\n  agent: a\n  userClaim: email";
    let why = refused(&document("TrustedIssuer", both));
    assert!(why.starts_with("a.yaml:") && why.contains("userClaim") && why.contains("agent"), "{why}");
    assert!(yaml(&document("TrustedIssuer", "rules: [{claims: {sub: x}, userClaim: email}]")).is_ok());
}

#[test]
fn attributes_hold_what_policies_know() {
    let with = |value: &str| document("PolicyTest", &format!("cases:\n- attributes: {value}"));
    for good in ["{}", "{a: -9007199254740992, b: [x, {c: true}], \"d e\": \"\"}"] {
        assert!(yaml(&with(good)).is_ok(), "{good}");
    }
    let deep = format!("{{a: {}x{}}}", "[".repeat(17), "]".repeat(17));
    for bad in ["x", "[a]", "3", "{a: ~}", "{a: 1.5}", "{a: .nan}", "{a: 9007199254740993}", "{a: 1, a: 2}", &deep] {
        assert!(yaml(&with(bad)).is_err(), "{bad}");
    }
    for secret in ["{a: lgt_enr_0123456789abcdef}", "{a: [ghp_0123456789abcdef0123]}", "{lgt_enr_0123456789abcdef: 1}"]
    {
        let why = refused(&with(secret));
        assert!(why.contains("secret") && !why.contains("0123456789abcdef"), "{why}");
    }
    let why = refused(&with("{key: {kty: EC, x: AA, d: c2VjcmV0}}"));
    assert!(why.contains("private key") && !why.contains("c2VjcmV0"), "{why}");
}

#[test]
fn a_private_key_is_no_public_key_set() {
    let jwks = |more: &str| document("TrustedIssuer", &format!("jwks: '{{\"keys\":[{{\"kty\":\"EC\"{more}}}]}}'"));
    assert!(yaml(&jwks(",\"x\":\"AA\"")).is_ok());
    let why = refused(&jwks(",\"d\": \"c2VjcmV0\""));
    assert!(why.contains("private key") && !why.contains("c2VjcmV0"), "{why}");
}

#[test]
fn only_an_operator_binding_may_be_in_no_namespace() {
    let bare = |kind: &str| format!("apiVersion: legate/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{}}\n");
    for kind in document::KINDS {
        let may = ["Namespace", "OperatorBinding"].contains(&kind);
        assert_eq!(yaml(&bare(kind)).is_ok(), may, "{kind}");
        let required = &schema()["$defs"][kind]["properties"]["metadata"]["required"];
        assert_eq!(required.as_array().unwrap().len() == 1, may, "{kind}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        text().prop_map(Kind::StringValue),
        any::<bool>().prop_map(Kind::BoolValue),
        any::<i32>().prop_map(|n| Kind::NumberValue(n.into())),
    ];
    let leaf = leaf.prop_map(|kind| Value { kind: Some(kind) });
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|values| Kind::ListValue(ListValue { values })),
            prop::collection::btree_map(text(), inner, 0..3).prop_map(|fields| Kind::StructValue(Struct { fields })),
        ]
        .prop_map(|kind| Value { kind: Some(kind) })
    })
}

fn record() -> impl Strategy<Value = Option<Struct>> {
    prop::option::of(prop::collection::btree_map(text(), value(), 0..3).prop_map(|fields| Struct { fields }))
}

fn rule() -> impl Strategy<Value = ClaimRule> {
    let stands_for = prop_oneof![
        text().prop_map(claim_rule::StandsFor::Agent),
        text().prop_map(claim_rule::StandsFor::UserClaim),
        text().prop_map(claim_rule::StandsFor::Node),
        text().prop_map(claim_rule::StandsFor::NodeClaim),
    ];
    let rule = (attributes(), prop::option::of(stands_for), "[a-z]{0,3}");
    rule.prop_map(|(claims, stands_for, groups_claim)| ClaimRule { claims, stands_for, groups_claim })
}

fn hours() -> impl Strategy<Value = Hours> {
    (prop::collection::vec(1_i32..8, 0..3), any::<u32>(), any::<u32>())
        .prop_map(|(days, from_minute, until_minute)| Hours { days, from_minute, until_minute })
}

fn governed() -> impl Strategy<Value = declaration::Object> {
    let list = || prop::collection::vec(text(), 0..3);
    prop_oneof![
        (metadata(true), list(), text()).prop_map(|(m, agents, selector)| {
            let spec = GroupSpec { agents, selector, ..Default::default() };
            declaration::Object::Group(Group { metadata: Some(m), spec: Some(spec) })
        }),
        (metadata(true), list(), any::<bool>(), prop::collection::vec(hours(), 0..3)).prop_map(
            |(m, regions, named_only, hours)| {
                let spec = BoundarySpec { regions, named_only, hours, environments: vec![1, 3], ..Default::default() };
                declaration::Object::Boundary(Boundary { metadata: Some(m), spec: Some(spec) })
            }
        ),
        (metadata(true), prop::collection::vec(1_i32..7, 0..3), span()).prop_map(|(m, methods, max_secret_ttl)| {
            let spec = CredentialPolicySpec { methods, max_secret_ttl, token_binding: 2, ..Default::default() };
            declaration::Object::CredentialPolicy(CredentialPolicy { metadata: Some(m), spec: Some(spec) })
        }),
        (metadata(true), text(), prop::collection::vec(rule(), 0..3)).prop_map(|(m, jwks, rules)| {
            let spec = TrustedIssuerSpec { jwks, rules, ..Default::default() };
            declaration::Object::TrustedIssuer(TrustedIssuer { metadata: Some(m), spec: Some(spec) })
        }),
        (metadata(true), prop::collection::vec((1_i32..16, text()), 0..3), list()).prop_map(|(m, selectors, nodes)| {
            let selector = |(r#type, value)| AttestationSelector { r#type, value };
            let spec = AttestationPolicySpec {
                selectors: selectors.into_iter().map(selector).collect(),
                nodes,
                ..Default::default()
            };
            declaration::Object::AttestationPolicy(AttestationPolicy { metadata: Some(m), spec: Some(spec) })
        }),
        (metadata(true), text(), list()).prop_map(|(m, description, owners)| {
            let spec = NodeSpec { description, owners };
            declaration::Object::Node(Node { metadata: Some(m), spec: Some(spec), spiffe_id: String::new() })
        }),
        (metadata(true), text(), span(), list()).prop_map(|(m, bundle, refresh, namespaces)| {
            let endpoint = Some(BundleEndpoint { url: "https://a".into(), spiffe_id: String::new() });
            let spec = FederatedTrustDomainSpec { bundle, endpoint, refresh, namespaces, ..Default::default() };
            declaration::Object::FederatedTrustDomain(FederatedTrustDomain { metadata: Some(m), spec: Some(spec) })
        }),
        (metadata(true), prop::collection::vec(permission(), 0..3), any::<u32>(), moment()).prop_map(
            |(m, permissions, max_depth, not_after)| {
                let spec = DelegationGrantSpec { permissions, max_depth, not_after, ..Default::default() };
                declaration::Object::DelegationGrant(DelegationGrant { metadata: Some(m), spec: Some(spec) })
            }
        ),
        (metadata(true), record(), record(), 0_i32..3).prop_map(|(m, attributes, context, expect)| {
            let cases = vec![PolicyTestCase { attributes, context, expect, ..Default::default() }];
            let spec = PolicyTestSpec { cases, ..Default::default() };
            declaration::Object::PolicyTest(PolicyTest { metadata: Some(m), spec: Some(spec) })
        }),
        (any::<bool>().prop_flat_map(metadata), list(), 0_i32..6).prop_map(|(m, operators, role)| {
            let spec = OperatorBindingSpec { operators, role, ..Default::default() };
            declaration::Object::OperatorBinding(OperatorBinding { metadata: Some(m), spec: Some(spec) })
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_the_same(object in governed()) {
        let wanted = Declaration { object: Some(object) };
        let text = write(&wanted);
        let read = yaml(&text);
        prop_assert_eq!(read.map(|d| d[0].declaration.clone()), Ok(wanted), "{}", text);
    }

    #[test]
    fn no_spec_makes_the_reader_panic(kind in prop::sample::select(document::KINDS.to_vec()), spec in "[ -~\n]{0,80}") {
        let _any = yaml(&document(kind, &spec));
    }
}
