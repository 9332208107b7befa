//! Each rule with what it takes and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use prost::Message as _;
use wire::{AgentClassSpec, AgentSpec, EnforcementPointSpec, Metadata, RoleBindingSpec};

use prost_reflect::{DynamicMessage, ReflectMessage as _};

use super::super::{diff, kind, mask, reflect, samples};
use super::*;

mod governed;
mod hostile;
mod vouched;

/// `REASON path` of each problem.
fn said(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|p| format!("{} {}", p.reason.name, p.path)).collect()
}

fn refused(object: Object, expected: &[&str]) {
    let problems = check(&samples::declared(object));
    let expected: Vec<_> = expected.iter().map(|path| format!("INVALID_ARGUMENT {path}")).collect();
    assert_eq!(said(&problems), expected, "{problems:?}");
}

fn agent(change: impl FnOnce(&mut AgentSpec)) -> Object {
    let mut agent = samples::agent();
    change(agent.spec.as_mut().unwrap());
    Object::Agent(agent)
}

fn metadata(change: impl FnOnce(&mut Metadata)) -> Object {
    let mut agent = samples::agent();
    change(agent.metadata.as_mut().unwrap());
    Object::Agent(agent)
}

fn class(change: impl FnOnce(&mut AgentClassSpec)) -> Object {
    let mut class = samples::class();
    change(class.spec.as_mut().unwrap());
    Object::AgentClass(class)
}

fn binding(change: impl FnOnce(&mut RoleBindingSpec)) -> Object {
    let mut binding = samples::binding();
    change(binding.spec.as_mut().unwrap());
    Object::RoleBinding(binding)
}

fn point(change: impl FnOnce(&mut EnforcementPointSpec)) -> Object {
    let mut point = samples::enforcement_point();
    change(point.spec.as_mut().unwrap());
    Object::EnforcementPoint(point)
}

/// Whether it comes from credential-issuer or from agents.
fn is_published(sample: &wire::Declaration) -> bool {
    matches!(
        sample.object,
        Some(Object::SigningKey(_) | Object::Revocation(_) | Object::Approval(_) | Object::StopOrder(_))
    )
}

#[test]
fn what_is_right_is_taken() {
    for sample in samples::one_of_each().iter().filter(|sample| !is_published(sample)) {
        assert_eq!(check(sample), [], "{sample:?}");
    }
    // The least of each.
    let bare = wire::Namespace {
        metadata: Some(Metadata { name: "a".into(), ..Metadata::default() }),
        spec: None,
        status: None,
    };
    assert_eq!(check(&samples::declared(Object::Namespace(bare))), []);
    let least = agent(|spec| {
        *spec = AgentSpec {
            agent_class: "a".into(),
            purpose: "b".into(),
            environment: 1,
            owners: vec!["user:a".into()],
            sponsors: vec!["user:a".into()],
            ..AgentSpec::default()
        };
    });
    assert_eq!(check(&samples::declared(least)), []);
    assert_eq!(check(&samples::declared(class(|spec| *spec = AgentClassSpec::default()))), []);
    assert_eq!(check(&samples::declared(point(|spec| *spec = EnforcementPointSpec::default()))), []);
}

#[test]
fn nothing_and_what_is_not_for_operators() {
    assert_eq!(said(&check(&wire::Declaration::default())), ["INVALID_ARGUMENT object"]);
    for sample in samples::one_of_each().iter().filter(|sample| is_published(sample)) {
        assert_eq!(said(&check(sample)), ["KIND_NOT_APPLICABLE object"]);
    }
    for (object, expected) in [
        (Object::Namespace(wire::Namespace::default()), &["metadata"][..]),
        (Object::AgentClass(wire::AgentClass::default()), &["metadata", "spec"]),
        (Object::Agent(wire::Agent::default()), &["metadata", "spec"]),
        (Object::Role(wire::Role::default()), &["metadata", "spec"]),
        (Object::RoleBinding(wire::RoleBinding::default()), &["metadata", "spec"]),
        (Object::Policy(wire::Policy::default()), &["metadata", "spec"]),
        (Object::EnforcementPoint(wire::EnforcementPoint::default()), &["metadata", "spec"]),
        (Object::Group(wire::Group::default()), &["metadata", "spec"]),
        (Object::Boundary(wire::Boundary::default()), &["metadata", "spec"]),
        (Object::CredentialPolicy(wire::CredentialPolicy::default()), &["metadata", "spec"]),
        (Object::TrustedIssuer(wire::TrustedIssuer::default()), &["metadata", "spec"]),
        (Object::AttestationPolicy(wire::AttestationPolicy::default()), &["metadata", "spec"]),
        (Object::DelegationGrant(wire::DelegationGrant::default()), &["metadata", "spec"]),
        (Object::PolicyTest(wire::PolicyTest::default()), &["metadata", "spec"]),
        (Object::OperatorBinding(wire::OperatorBinding::default()), &["metadata", "spec"]),
        (Object::Node(wire::Node::default()), &["metadata", "spec"]),
        (Object::FederatedTrustDomain(wire::FederatedTrustDomain::default()), &["metadata", "spec"]),
        (Object::ReviewCampaign(wire::ReviewCampaign::default()), &["metadata", "spec"]),
    ] {
        refused(object, expected);
    }
}

#[test]
fn metadata_names_and_labels() {
    for bad in ["", "A", "a_b", "-a", "a\u{200b}", "../x", "a'--", &"x".repeat(64)] {
        refused(metadata(|m| m.name = bad.into()), &["metadata.name"]);
        refused(metadata(|m| m.namespace = bad.into()), &["metadata.namespace"]);
    }
    let nested = wire::Namespace {
        metadata: Some(Metadata { name: "a".into(), namespace: "b".into(), ..Metadata::default() }),
        spec: None,
        status: None,
    };
    refused(Object::Namespace(nested), &["metadata.namespace"]);

    let label = |key: &str, value: &str| {
        let (key, value) = (key.to_owned(), value.to_owned());
        metadata(|m| m.labels = [(key, value)].into())
    };
    let longest = "x".repeat(63);
    for (key, value) in [("a.B_c/d-9", ""), (&longest, &longest)] {
        assert_eq!(check(&samples::declared(label(key, value))), []);
    }
    let longer = "x".repeat(64);
    for key in ["", "a b", "é", "a]", "a\n", "=cmd", &longer] {
        refused(label(key, "x"), &["metadata.labels"]);
    }
    for value in ["a b", "é", "=cmd", "\u{202e}", "\u{1b}[0m", &longer] {
        refused(label("team", value), &["metadata.labels[team]"]);
    }
    let many = |n: usize| (0..n).map(|n| (format!("k{n}"), "v".to_owned())).collect();
    refused(metadata(|m| m.labels = many(65)), &["metadata.labels"]);
    refused(metadata(|m| m.annotations = many(65)), &["metadata.annotations"]);
    assert_eq!(check(&samples::declared(metadata(|m| (m.labels, m.annotations) = (many(64), many(64))))), []);
    let annotation = |value: String| metadata(|m| m.annotations = [("a".to_owned(), value)].into());
    assert_eq!(check(&samples::declared(annotation("x".repeat(4096)))), []);
    refused(annotation("x".repeat(4097)), &["metadata.annotations[a]"]);
    refused(annotation("\u{0}".into()), &["metadata.annotations[a]"]);
}

#[test]
fn an_agent_has_somebody_who_answers_for_it() {
    let reasons = |object| said(&check(&samples::declared(object)));
    assert_eq!(reasons(agent(|spec| spec.sponsors.clear())), ["AGENT_SPONSOR_MISSING spec.sponsors"]);
    assert_eq!(reasons(agent(|spec| spec.owners.clear())), ["AGENT_OWNER_MISSING spec.owners"]);
    refused(agent(|spec| spec.sponsors = vec![String::new()]), &["spec.sponsors[0]"]);
    refused(agent(|spec| spec.owners = vec!["ada".into()]), &["spec.owners[0]"]);
    refused(agent(|spec| spec.manager = "agent:x".into()), &["spec.manager"]);
    refused(
        agent(|spec| spec.sponsors = vec!["user:a".into(), "user:b".into(), "user:a".into()]),
        &["spec.sponsors[2]"],
    );
    refused(agent(|spec| spec.owners = (0..65).map(|n| format!("user:{n}")).collect()), &["spec.owners"]);
}

#[test]
fn an_agents_fields() {
    refused(agent(|spec| spec.agent_class.clear()), &["spec.agent_class"]);
    refused(agent(|spec| spec.purpose = " \n".into()), &["spec.purpose"]);
    refused(agent(|spec| spec.purpose = "x".repeat(1025)), &["spec.purpose"]);
    for number in [0, 4, -1] {
        refused(agent(|spec| spec.environment = number), &["spec.environment"]);
    }
    refused(agent(|spec| spec.risk_tier = 5), &["spec.risk_tier"]);
    for bad in ["\u{0}", "a\nb", "\u{202e}", "\u{200b}", "\u{1b}[2J"] {
        refused(agent(|spec| spec.display_name = bad.into()), &["spec.display_name"]);
        refused(agent(|spec| spec.external_id = bad.into()), &["spec.external_id"]);
        refused(agent(|spec| spec.framework = bad.into()), &["spec.framework"]);
        refused(agent(|spec| spec.model = bad.into()), &["spec.model"]);
        refused(agent(|spec| spec.version = bad.into()), &["spec.version"]);
        refused(agent(|spec| spec.regions = vec![bad.into()]), &["spec.regions[0]"]);
    }
    refused(agent(|spec| spec.parent = "invoice-bot".into()), &["spec.parent"]);
    refused(agent(|spec| spec.protocols = vec!["MCP".into(), " ".into()]), &["spec.protocols[1]"]);
    refused(agent(|spec| spec.data_classifications = vec!["pii".into(); 2]), &["spec.data_classifications[1]"]);
    let sha = |sha256: String| agent(|spec| spec.charter.as_mut().unwrap().sha256 = sha256);
    for bad in [String::new(), "0a".repeat(31), "0A".repeat(32), "0g".repeat(32), "é".repeat(32)] {
        refused(sha(bad), &["spec.charter.sha256"]);
    }
    refused(agent(|spec| spec.charter.as_mut().unwrap().uri.clear()), &["spec.charter.uri"]);
    for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (253_402_300_800, 0), (0, -1), (0, 1_000_000_000)] {
        let odd = Some(prost_types::Timestamp { seconds, nanos });
        refused(agent(|spec| spec.expire_time = odd), &["spec.expire_time"]);
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let object = agent(|spec| {
        spec.purpose.clear();
        spec.environment = 0;
        spec.regions = vec![String::new()];
    });
    refused(object, &["spec.purpose", "spec.environment", "spec.regions[0]"]);
}

#[test]
fn permissions_and_selectors() {
    // A class enumerates; a ceiling and a role may use patterns.
    for action in ["invoice:*", "*", "", "Invoice", "a b"] {
        let expected = &["spec.permissions[0].action"];
        refused(class(|spec| spec.permissions[0].action = action.into()), expected);
    }
    refused(class(|spec| spec.ceiling[1].action = "in*".into()), &["spec.ceiling[1].action"]);
    refused(class(|spec| spec.permissions[0].resource = None), &["spec.permissions[0].resource"]);
    let selector = |change: fn(&mut wire::ResourceSelector)| binding(|spec| change(&mut spec.resources[0]));
    for good in [
        selector(|s| s.id.clear()),
        selector(|s| s.id = "*".into()),
        selector(|s| s.r#type = "*".into()),
        selector(|s| s.attributes.clear()),
    ] {
        assert_eq!(check(&samples::declared(good)), []);
    }
    refused(selector(|s| s.r#type.clear()), &["spec.resources[0].type"]);
    refused(selector(|s| s.r#type = "In voice".into()), &["spec.resources[0].type"]);
    refused(selector(|s| s.id = "apollo*".into()), &["spec.resources[0].id"]);
    refused(selector(|s| s.id = "a\u{202e}".into()), &["spec.resources[0].id"]);
    refused(
        selector(|s| (s.r#type, s.id) = ("1".into(), "**".into())),
        &["spec.resources[0].type", "spec.resources[0].id"],
    );
    refused(selector(|s| s.attributes = [("a".into(), String::new())].into()), &["spec.resources[0].attributes"]);
    refused(selector(|s| s.attributes = [("a".into(), "\u{200b}".into())].into()), &["spec.resources[0].attributes"]);
    let many = |s: &mut wire::ResourceSelector| s.attributes = (0..17).map(|n| (n.to_string(), "x".into())).collect();
    refused(selector(many), &["spec.resources[0].attributes"]);

    let permission = samples::class().spec.unwrap().permissions[0].clone();
    assert_eq!(check(&samples::declared(class(|spec| spec.permissions = vec![permission.clone(); 256]))), []);
    refused(class(|spec| spec.permissions = vec![permission.clone(); 257]), &["spec.permissions"]);
    refused(class(|spec| spec.ceiling = vec![permission.clone(); 257]), &["spec.ceiling"]);
    let role = |permissions| wire::Role {
        metadata: samples::class().metadata,
        spec: Some(wire::RoleSpec { description: String::new(), permissions }),
    };
    refused(Object::Role(role(Vec::new())), &["spec.permissions"]);
    refused(Object::Role(role(vec![permission; 257])), &["spec.permissions"]);
}

#[test]
fn lengths_of_time() {
    type Set = fn(&mut AgentClassSpec, prost_types::Duration);
    let rows: [(&str, Set, i64, i64); 3] = [
        ("spec.default_expiry", |spec, d| spec.default_expiry = Some(d), 60, 315_576_000),
        ("spec.max_token_ttl", |spec, d| spec.max_token_ttl = Some(d), 30, 600),
        ("spec.max_certificate_ttl", |spec, d| spec.max_certificate_ttl = Some(d), 300, 86_400),
    ];
    for (path, set, least, most) in rows {
        let span = |seconds, nanos| class(|spec| set(spec, prost_types::Duration { seconds, nanos }));
        for (seconds, nanos) in [(least, 0), (least, 1), (most - 1, 999_999_999), (most, 0)] {
            assert_eq!(check(&samples::declared(span(seconds, nanos))), []);
        }
        for (seconds, nanos) in [
            (least - 1, 999_999_999),
            (most, 1),
            (0, 0),
            (-least, 0),
            (least, -1),
            (least, 1_000_000_000),
            (i64::MAX, i32::MAX),
            (i64::MIN, i32::MIN),
        ] {
            refused(span(seconds, nanos), &[path]);
        }
    }
}

#[test]
fn bindings() {
    refused(binding(|spec| spec.role = "Invoice Reader".into()), &["spec.role"]);
    let none = |spec: &mut wire::RoleBindingSpec| {
        (spec.agents, spec.groups, spec.users, spec.except_agents) = Default::default();
    };
    refused(binding(none), &["spec.agents"]);
    for alone in [
        binding(|spec| (spec.agents, spec.groups, spec.except_agents) = Default::default()),
        binding(|spec| (spec.agents, spec.users) = Default::default()),
        binding(|spec| (spec.groups, spec.users, spec.except_agents) = Default::default()),
    ] {
        assert_eq!(check(&samples::declared(alone)), []);
    }
    refused(binding(|spec| spec.groups = (0..65).map(|n| format!("g{n}")).collect()), &["spec.groups"]);
    refused(binding(|spec| spec.groups.push("A".into())), &["spec.groups[1]"]);
    for bad in ["ada", "agent:clerks", "user:", "user:a b", "user:\u{202e}"] {
        refused(binding(|spec| spec.users.push(bad.into())), &["spec.users[1]"]);
    }
    refused(binding(|spec| spec.users = (0..257).map(|n| format!("user:{n}")).collect()), &["spec.users"]);
    refused(binding(|spec| spec.agents[1] = "payments/x".into()), &["spec.agents[1]"]);
    refused(binding(|spec| spec.agents[1] = "invoice-bot".into()), &["spec.agents[1]"]);
    refused(binding(|spec| spec.agents = (0..257).map(|n| format!("a{n}")).collect()), &["spec.agents"]);
    refused(binding(|spec| spec.resources = vec![spec.resources[0].clone(); 65]), &["spec.resources"]);
    refused(binding(|spec| spec.not_after = spec.not_before), &["spec.not_after"]);
    refused(binding(|spec| std::mem::swap(&mut spec.not_before, &mut spec.not_after)), &["spec.not_after"]);
    refused(binding(|spec| spec.not_before = samples::at(i64::MAX)), &["spec.not_before"]);
    for good in [binding(|spec| spec.not_before = None), binding(|spec| spec.not_after = None)] {
        assert_eq!(check(&samples::declared(good)), []);
    }
}

#[test]
fn enforcement_points() {
    for bad in ["", "in voice", "Agent", "AgentClass", "Role", "Action", "Acme::Action", "*"] {
        refused(point(|spec| spec.resource_types = vec![bad.into()]), &["spec.resource_types[0]"]);
    }
    refused(point(|spec| spec.resource_types = (0..65).map(|n| format!("T{n}")).collect()), &["spec.resource_types"]);
    for bad in ["ledger", "https://a#b", "https://u@a", "ftp://a"] {
        refused(point(|spec| spec.audiences.push(bad.into())), &["spec.audiences[1]"]);
    }
    refused(point(|spec| spec.audiences.push(spec.audiences[0].clone())), &["spec.audiences[1]"]);
    refused(point(|spec| spec.audiences = (0..17).map(|n| format!("https://a{n}")).collect()), &["spec.audiences"]);
    refused(point(|spec| spec.durable_actions = vec!["pay*".into()]), &["spec.durable_actions[0]"]);
}

#[test]
fn namespaces() {
    let namespace = |change: fn(&mut wire::NamespaceSpec)| {
        let Some(Object::Namespace(mut namespace)) = samples::one_of_each().remove(0).object else { unreachable!() };
        change(namespace.spec.as_mut().unwrap());
        Object::Namespace(namespace)
    };
    refused(namespace(|spec| spec.display_name = "a\nb".into()), &["spec.display_name"]);
    refused(namespace(|spec| spec.description = "\u{2066}".into()), &["spec.description"]);
    refused(namespace(|spec| spec.owners = vec!["payments".into()]), &["spec.owners[0]"]);
    refused(namespace(|spec| spec.max_delegation_depth = 9), &["spec.max_delegation_depth"]);
    refused(namespace(|spec| spec.personal_authority = 3), &["spec.personal_authority"]);
}

#[test]
fn signing_keys() {
    let key = |change: fn(&mut wire::SigningKeySpec)| {
        let mut spec = samples::signing_key();
        change(&mut spec);
        said(&check_signing_key(&spec))
    };
    assert_eq!(key(|_| {}), Vec::<String>::new());
    let unending = |k: &mut wire::SigningKeySpec| (k.not_before, k.not_after, k.revoke_time) = (None, None, None);
    assert_eq!(key(unending), Vec::<String>::new());
    assert_eq!(key(|k| (k.not_before, k.not_after) = (None, None)), ["INVALID_ARGUMENT not_after"]);
    // Another good thumbprint under which somebody's key could hide.
    assert_eq!(key(|k| k.kid = "A".repeat(43)), ["INVALID_ARGUMENT kid"]);
    assert_eq!(key(|k| k.kid = "../../key".into()), ["INVALID_ARGUMENT kid", "INVALID_ARGUMENT kid"]);
    assert_eq!(key(|k| k.jwk = k.jwk.replace("P-256", "P-384")), ["INVALID_ARGUMENT jwk"]);
    assert_eq!(key(|k| k.jwk = k.jwk.replace('}', ",\"d\":\"AA\"}")), ["INVALID_ARGUMENT jwk"]);
    assert_eq!(key(|k| k.issuer.clear()), ["INVALID_ARGUMENT issuer"]);
    assert_eq!(key(|k| k.issuer = "a b".into()), ["INVALID_ARGUMENT issuer"]);
    assert_eq!(key(|k| k.r#use = 0), ["INVALID_ARGUMENT use"]);
    assert_eq!(key(|k| k.r#use = 3), ["INVALID_ARGUMENT use"]);
    assert_eq!(key(|k| k.not_after = k.not_before), ["INVALID_ARGUMENT not_after"]);
}

#[test]
fn revocations() {
    let revocation = |change: fn(&mut wire::RevocationSpec)| {
        let mut spec = samples::revocation();
        change(&mut spec);
        said(&check_revocation(&spec))
    };
    assert_eq!(revocation(|_| {}), Vec::<String>::new());
    assert_eq!(revocation(|r| (r.x5t_s256, r.reason, r.expire_time) = (Vec::new(), 0, None)), Vec::<String>::new());
    let enforcer = |r: &mut wire::RevocationSpec| r.spiffe_id = "spiffe://legate.test/ns/payments/enforcer/a".into();
    assert_eq!(revocation(enforcer), Vec::<String>::new());
    assert_eq!(revocation(|r| r.credential_id = "agt_x".into()), ["INVALID_ARGUMENT credential_id"]);
    for bad in ["", "spiffe://legate.test/legate/registry", "spiffe://legate.test/legate/operator", "https://a/b"] {
        let spec = wire::RevocationSpec { spiffe_id: bad.into(), ..samples::revocation() };
        assert_eq!(said(&check_revocation(&spec)), ["INVALID_ARGUMENT spiffe_id"], "{bad}");
    }
    assert_eq!(revocation(|r| r.x5t_s256 = vec![0; 31]), ["INVALID_ARGUMENT x5t_s256"]);
    assert_eq!(revocation(|r| r.reason = 2), ["INVALID_ARGUMENT reason"]);
    assert_eq!(revocation(|r| r.cut_off = Some(wire::CutOff::default())), ["INVALID_ARGUMENT cut_off"]);
    assert_eq!(revocation(|r| r.expire_time = samples::at(i64::MIN)), ["INVALID_ARGUMENT expire_time"]);
    assert_eq!(revocation(|r| r.revoke_time = samples::at(i64::MIN)), ["INVALID_ARGUMENT revoke_time"]);
}

#[test]
fn reasons_are_given_and_harmless() {
    for (reason, required, is_good) in [
        ("", false, true),
        ("", true, false),
        (" \n", true, false),
        ("ticket 7:\n\todd calls", true, true),
        ("a\u{202e}b", false, false),
        ("\u{1b}[31mred", false, false),
        ("a\u{200b}", false, false),
        ("a\u{0}", false, false),
        ("a\r\n", false, false),
        (&"x".repeat(1024), true, true),
        (&"x".repeat(1025), true, false),
    ] {
        let problems = check_reason(reason, required);
        assert_eq!(problems.is_empty(), is_good, "{reason:?}");
        assert!(problems.iter().all(|p| p.path == "reason" && p.reason.name == "INVALID_ARGUMENT"));
    }
}

/// Whatever is in it: nothing of it panics.
fn survives(declaration: &wire::Declaration) {
    let _problems = check(declaration);
    let _key = (kind::key_of(declaration), kind::references(declaration));
    let _changes = (diff::diff(None, declaration), diff::diff(Some(declaration), declaration));
    let _merged = mask::merge(declaration, declaration, &["spec".to_owned(), "metadata.labels".to_owned()]);
    match &declaration.object {
        Some(Object::SigningKey(key)) => {
            let _problems = key.spec.as_ref().map(check_signing_key);
        }
        Some(Object::Revocation(revocation)) => {
            let _problems = revocation.spec.as_ref().map(check_revocation);
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn arbitrary_objects_are_survived(declaration in samples::arbitrary()) {
        survives(&declaration);
    }

    /// Good bytes with some of them changed, cut or repeated, as far as they still are a message.
    #[test]
    fn arbitrary_bytes_are_survived(
        which in 0..samples::KINDS,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = samples::one_of_each()[which].encode_to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        for bytes in [bytes, noise] {
            if let Ok(declaration) = wire::Declaration::decode(bytes.as_slice()) {
                survives(&declaration);
            }
        }
    }

    /// What only the registry sets is gone, what was declared is not, and to do it twice is to do it once.
    #[test]
    fn stripping_takes_what_is_output_only(declaration in samples::arbitrary()) {
        let mut stripped = declaration.clone();
        strip_output_only(&mut stripped);
        let (field, mut expected) = reflect::object(&declaration).unwrap();
        clear_output_only(&mut expected);
        prop_assert_eq!(&stripped, &reflect::declaration(&field, expected));
        prop_assert_eq!(diff::diff(Some(&declaration), &stripped), []);
        prop_assert_eq!(kind::key_of(&declaration), kind::key_of(&stripped));
        let once = stripped.clone();
        strip_output_only(&mut stripped);
        prop_assert_eq!(stripped, once);
    }
}

fn clear_output_only(message: &mut DynamicMessage) {
    for field in message.descriptor().fields() {
        if reflect::is_output_only(&field) {
            message.clear_field(&field);
        } else if reflect::inner(&field).is_some() && message.has_field(&field) {
            clear_output_only(message.get_field_mut(&field).as_message_mut().unwrap());
        }
    }
}
