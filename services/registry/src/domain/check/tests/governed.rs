//! The rules of groups, boundaries, credential policies, issuers, attestation, grants, policy tests and operator bindings.

use prost_types::Struct;
use prost_types::value::Kind;
use wire::claim_rule::StandsFor;

use super::*;

/// A function that makes the sample of a kind with its spec changed.
macro_rules! with {
    ($name:ident, $arm:ident, $spec:ident) => {
        fn $name(change: impl FnOnce(&mut wire::$spec)) -> Object {
            let mut sample = samples::$name();
            change(sample.spec.as_mut().unwrap());
            Object::$arm(sample)
        }
    };
}

with!(group, Group, GroupSpec);
with!(boundary, Boundary, BoundarySpec);
with!(credential_policy, CredentialPolicy, CredentialPolicySpec);
with!(trusted_issuer, TrustedIssuer, TrustedIssuerSpec);
with!(attestation_policy, AttestationPolicy, AttestationPolicySpec);
with!(node, Node, NodeSpec);
with!(grant, DelegationGrant, DelegationGrantSpec);
with!(policy_test, PolicyTest, PolicyTestSpec);
with!(operator_binding, OperatorBinding, OperatorBindingSpec);
with!(lifecycle_policy, LifecyclePolicy, LifecyclePolicySpec);
with!(review_campaign, ReviewCampaign, ReviewCampaignSpec);
with!(binding, RoleBinding, RoleBindingSpec);

/// What deceives whoever reads it.
const HOSTILE: [&str; 5] = ["\u{0}", "a\u{202e}b", "a\u{200b}", "\u{1b}[2J", "a\r"];

fn taken(object: Object) {
    assert_eq!(check(&samples::declared(object)), []);
}

fn names(number: usize) -> Vec<String> {
    (0..number).map(|n| format!("n{n}")).collect()
}

fn span(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

#[test]
fn the_least_of_each() {
    taken(group(|spec| *spec = wire::GroupSpec { agents: vec!["a".into()], ..Default::default() }));
    taken(group(|spec| spec.agents.clear()));
    taken(boundary(|spec| *spec = Default::default()));
    taken(credential_policy(|spec| *spec = Default::default()));
    taken(trusted_issuer(|spec| (spec.jwks, spec.jwks_uri) = (String::new(), "https://a/keys?x=1".into())));
    taken(grant(|spec| {
        (spec.may_redelegate, spec.max_depth, spec.not_before, spec.consent) = (false, 0, None, None);
        spec.audiences.clear();
    }));
    taken(grant(|spec| (spec.delegator, spec.parent) = ("user:ada@example.com".into(), String::new())));
    taken(operator_binding(|spec| (spec.not_before, spec.not_after) = (None, None)));
}

#[test]
fn texts_are_seen_as_they_are() {
    for bad in HOSTILE {
        refused(group(|spec| spec.description = bad.into()), &["spec.description"]);
        refused(group(|spec| spec.selector = bad.into()), &["spec.selector"]);
        refused(boundary(|spec| spec.description = bad.into()), &["spec.description"]);
        refused(boundary(|spec| spec.regions = vec![bad.into()]), &["spec.regions[0]"]);
        refused(boundary(|spec| spec.data_classifications = vec![bad.into()]), &["spec.data_classifications[0]"]);
        refused(boundary(|spec| spec.purposes = vec![bad.into()]), &["spec.purposes[0]"]);
        refused(boundary(|spec| spec.regimes = vec![bad.into()]), &["spec.regimes[0]"]);
        refused(credential_policy(|spec| spec.description = bad.into()), &["spec.description"]);
        refused(trusted_issuer(|spec| spec.description = bad.into()), &["spec.description"]);
        refused(trusted_issuer(|spec| spec.audiences = vec![bad.into()]), &["spec.audiences[0]"]);
        refused(attestation_policy(|spec| spec.description = bad.into()), &["spec.description"]);
        refused(attestation_policy(|spec| spec.selectors[1].value = format!("/{bad}")), &["spec.selectors[1].value"]);
        refused(grant(|spec| spec.purpose = bad.into()), &["spec.purpose"]);
        refused(grant(|spec| spec.consent.as_mut().unwrap().method = bad.into()), &["spec.consent.method"]);
        refused(grant(|spec| spec.consent.as_mut().unwrap().reference = bad.into()), &["spec.consent.reference"]);
        refused(policy_test(|spec| spec.description = bad.into()), &["spec.description"]);
        refused(policy_test(|spec| spec.cases[0].resource_id = bad.into()), &["spec.cases[0].resource_id"]);
    }
}

#[test]
fn groups() {
    refused(group(|spec| (spec.agents, spec.selector) = Default::default()), &["spec.agents"]);
    refused(group(|spec| spec.agents[1] = "payments/x".into()), &["spec.agents[1]"]);
    refused(group(|spec| spec.agents[1] = "invoice-bot".into()), &["spec.agents[1]"]);
    taken(group(|spec| spec.agents = names(1_024)));
    refused(group(|spec| spec.agents = names(1_025)), &["spec.agents"]);
    refused(group(|spec| spec.selector = " ".into()), &["spec.selector"]);
    // Only what an operator declares can be selected by, and what could be true of some agent.
    for bad in
        ["team = \"pay\"", "state = \"active\"", "name = \"a\"", "create_time > \"2026-01-01T00:00:00Z\"", "(", "=cmd"]
    {
        refused(group(|spec| spec.selector = bad.into()), &["spec.selector"]);
    }
    refused(group(|spec| spec.selector = format!("model = \"{}\"", "x".repeat(2_048))), &["spec.selector"]);
}

#[test]
fn boundaries() {
    refused(boundary(|spec| spec.agents = names(257)), &["spec.agents"]);
    refused(boundary(|spec| spec.groups = names(65)), &["spec.groups"]);
    refused(boundary(|spec| spec.agent_classes = names(65)), &["spec.agent_classes"]);
    refused(boundary(|spec| spec.groups = vec!["A".into()]), &["spec.groups[0]"]);
    refused(boundary(|spec| spec.regions = names(65)), &["spec.regions"]);
    refused(boundary(|spec| spec.purposes = vec!["a".into(); 2]), &["spec.purposes[1]"]);
    refused(boundary(|spec| spec.regimes = vec![" ".into()]), &["spec.regimes[0]"]);
    for number in [0, 4, -1] {
        refused(boundary(|spec| spec.environments = vec![number]), &["spec.environments[0]"]);
    }
    refused(boundary(|spec| spec.environments = vec![1, 1]), &["spec.environments[1]"]);
    refused(boundary(|spec| spec.environments = vec![1; 1_000_000]), &["spec.environments"]);
    let hours = |days: &[i32], from_minute, until_minute| {
        let days = days.to_vec();
        boundary(|spec| spec.hours = vec![wire::Hours { days, from_minute, until_minute }])
    };
    taken(hours(&[], 0, 1_440));
    taken(hours(&[1, 2, 3, 4, 5, 6, 7], 1_439, 1_440));
    refused(hours(&[], 1_440, 1_440), &["spec.hours[0].from_minute"]);
    refused(hours(&[], 0, 1_441), &["spec.hours[0].until_minute"]);
    refused(hours(&[], 0, 0), &["spec.hours[0].until_minute"]);
    refused(hours(&[], 600, 600), &["spec.hours[0].until_minute"]);
    refused(hours(&[], 1_320, 360), &["spec.hours[0].until_minute"]);
    refused(hours(&[], u32::MAX, u32::MAX), &["spec.hours[0].from_minute"]);
    refused(hours(&[0], 0, 1), &["spec.hours[0].days[0]"]);
    refused(hours(&[8], 0, 1), &["spec.hours[0].days[0]"]);
    refused(hours(&[1, 1], 0, 1), &["spec.hours[0].days[1]"]);
    refused(boundary(|spec| spec.hours = vec![spec.hours[0].clone(); 2]), &["spec.hours[1]"]);
    let many = |n: u32| (0..n).map(|n| wire::Hours { days: Vec::new(), from_minute: n, until_minute: 1_440 }).collect();
    taken(boundary(|spec| spec.hours = many(64)));
    refused(boundary(|spec| spec.hours = many(65)), &["spec.hours"]);
}

#[test]
fn classes_name_policies_and_boundaries() {
    refused(class(|spec| spec.credential_policy = "A b".into()), &["spec.credential_policy"]);
    refused(class(|spec| spec.boundaries = names(17)), &["spec.boundaries"]);
    refused(class(|spec| spec.boundaries = vec!["a".into(); 2]), &["spec.boundaries[1]"]);
    refused(class(|spec| spec.boundaries = vec![String::new()]), &["spec.boundaries[0]"]);
}

#[test]
fn credential_policies() {
    for numbers in [&[0][..], &[7], &[-1]] {
        refused(credential_policy(|spec| spec.methods = numbers.to_vec()), &["spec.methods[0]"]);
    }
    refused(credential_policy(|spec| spec.methods = vec![1, 1]), &["spec.methods[1]"]);
    refused(credential_policy(|spec| spec.token_binding = 3), &["spec.token_binding"]);
    refused(credential_policy(|spec| spec.max_instances = 100_001), &["spec.max_instances"]);
    taken(credential_policy(|spec| spec.max_instances = 100_000));
    type Set = fn(&mut wire::CredentialPolicySpec, Option<prost_types::Duration>);
    let rows: [(&str, Set, i64, i64); 5] = [
        ("spec.max_token_ttl", |spec, d| spec.max_token_ttl = d, 30, 600),
        ("spec.max_certificate_ttl", |spec, d| spec.max_certificate_ttl = d, 300, 86_400),
        ("spec.max_secret_ttl", |spec, d| spec.max_secret_ttl = d, 3_600, 31_557_600),
        ("spec.rotation_overlap", |spec, d| spec.rotation_overlap = d, 0, 2_592_000),
        ("spec.rotate_before", |spec, d| spec.rotate_before = d, 0, 7_776_000),
    ];
    for (path, set, least, most) in rows {
        for good in [None, span(least, 0), span(most, 0)] {
            taken(credential_policy(|spec| set(spec, good)));
        }
        for bad in [span(most, 1), span(least - 1, 0), span(-1, 0), span(least, -1), span(i64::MAX, 0)] {
            refused(credential_policy(|spec| set(spec, bad)), &[path]);
        }
    }
}

#[test]
fn trusted_issuers() {
    for bad in [
        "",
        "issuer.example.com",
        "http://issuer.example.com",
        "https://issuer.example.com?x=1",
        "https://issuer.example.com#x",
        "https://u:p@issuer.example.com",
        "https://Issuer.example.com",
        "https://issuer.example.com/\u{202e}",
    ] {
        refused(trusted_issuer(|spec| spec.issuer = bad.into()), &["spec.issuer"]);
    }
    refused(trusted_issuer(|spec| spec.audiences.clear()), &["spec.audiences"]);
    refused(trusted_issuer(|spec| spec.audiences = names(17)), &["spec.audiences"]);
    refused(trusted_issuer(|spec| spec.audiences = vec!["a".into(); 2]), &["spec.audiences[1]"]);
    // Exactly one way to its keys, and no private one.
    refused(trusted_issuer(|spec| spec.jwks.clear()), &["spec.jwks_uri"]);
    refused(trusted_issuer(|spec| spec.jwks_uri = "https://a/keys".into()), &["spec.jwks"]);
    for bad in ["http://a/keys", "file:///etc/passwd", "a"] {
        refused(trusted_issuer(|spec| (spec.jwks, spec.jwks_uri) = (String::new(), bad.into())), &["spec.jwks_uri"]);
    }
    let private = |spec: &mut wire::TrustedIssuerSpec| spec.jwks = spec.jwks.replace("}]", ",\"d\":\"c2VjcmV0\"}]");
    refused(trusted_issuer(private), &["spec.jwks"]);
    assert!(!format!("{:?}", check(&samples::declared(trusted_issuer(private)))).contains("c2VjcmV0"));
    refused(trusted_issuer(|spec| spec.jwks = "{".into()), &["spec.jwks"]);
}

#[test]
fn rules_of_trusted_issuers() {
    // Its tokens stand for nobody by themselves.
    taken(trusted_issuer(|spec| spec.rules.clear()));
    let many = |n: usize| {
        let rule = |n: usize| wire::ClaimRule {
            claims: [("sub".to_owned(), n.to_string())].into(),
            stands_for: Some(StandsFor::Agent("a".into())),
            groups_claim: String::new(),
        };
        trusted_issuer(|spec| spec.rules = (0..n).map(rule).collect())
    };
    taken(many(64));
    refused(many(65), &["spec.rules"]);
    let rule = |change: fn(&mut wire::ClaimRule)| trusted_issuer(|spec| change(&mut spec.rules[0]));
    refused(rule(|rule| rule.stands_for = None), &["spec.rules[0].agent"]);
    refused(rule(|rule| rule.stands_for = Some(StandsFor::Agent("A b".into()))), &["spec.rules[0].agent"]);
    refused(rule(|rule| rule.stands_for = Some(StandsFor::UserClaim(" ".into()))), &["spec.rules[0].user_claim"]);
    refused(rule(|rule| rule.stands_for = Some(StandsFor::UserClaim(String::new()))), &["spec.rules[0].user_claim"]);
    refused(rule(|rule| rule.stands_for = Some(StandsFor::NodeClaim(" ".into()))), &["spec.rules[0].node_claim"]);
    // The first rule would match every token, so no later one ever does.
    refused(
        rule(|rule| rule.claims.clear()),
        &["spec.rules[0].claims", "spec.rules[1].claims", "spec.rules[2].claims", "spec.rules[3].claims"],
    );
    refused(trusted_issuer(|spec| spec.rules.push(spec.rules[0].clone())), &["spec.rules[4].claims"]);
    taken(trusted_issuer(|spec| spec.rules.reverse()));
    let claims = |claim: &str, value: &str| {
        let claims = [(claim.to_owned(), value.to_owned())].into();
        trusted_issuer(|spec| spec.rules[0].claims = claims)
    };
    for claim in ["", "/a", "a/", "a//b", " a", "a\u{200b}", "a\u{0}", &"x".repeat(257)] {
        refused(claims(claim, "x"), &["spec.rules[0].claims"]);
    }
    for value in ["", " ", "a\u{202e}", &"x".repeat(1_025)] {
        refused(claims("sub", value), &["spec.rules[0].claims[sub]"]);
    }
    let seventeen = |rule: &mut wire::ClaimRule| rule.claims = (0..17).map(|n| (n.to_string(), "x".into())).collect();
    refused(rule(seventeen), &["spec.rules[0].claims"]);
}

#[test]
fn what_people_may_delegate() {
    let with = |change: fn(&mut wire::PersonalDelegation)| {
        trusted_issuer(|spec| change(spec.personal_delegation.get_or_insert_default()))
    };
    taken(trusted_issuer(|spec| spec.personal_delegation = None));
    taken(with(|of| (of.max_auth_age, of.acr_values, of.max_depth) = Default::default()));
    let at = |field: &str| format!("spec.personal_delegation.{field}");
    let seconds = |seconds: i64| Some(prost_types::Duration { seconds, nanos: 0 });
    // A token that an agent was handed would make grants.
    refused(with(|of| of.audiences = vec!["grants".into(), "legate".into()]), &[&at("audiences[1]")]);
    refused(with(|of| of.audiences.clear()), &[&at("audiences")]);
    refused(with(|of| of.permissions.clear()), &[&at("permissions")]);
    refused(with(|of| of.permissions[0].action = "Invoice".into()), &[&at("permissions[0].action")]);
    refused(with(|of| of.agent_classes.clear()), &[&at("agent_classes")]);
    refused(with(|of| of.agent_classes = vec!["A".into()]), &[&at("agent_classes[0]")]);
    refused(with(|of| of.max_ttl = None), &[&at("max_ttl")]);
    for bad in [0, 59, -1, 366 * 86_400 + 1] {
        let mut spec = samples::trusted_issuer().spec.unwrap();
        spec.personal_delegation.as_mut().unwrap().max_ttl = seconds(bad);
        refused(trusted_issuer(|s| *s = spec.clone()), &[&at("max_ttl")]);
    }
    for bad in [59, 86_401] {
        let mut spec = samples::trusted_issuer().spec.unwrap();
        spec.personal_delegation.as_mut().unwrap().max_auth_age = seconds(bad);
        refused(trusted_issuer(|s| *s = spec.clone()), &[&at("max_auth_age")]);
    }
    refused(with(|of| of.max_depth = 9), &[&at("max_depth")]);
    refused(with(|of| of.acr_values = vec!["a".into(), String::new()]), &[&at("acr_values[1]")]);
    for (n, is_good) in [(0, true), (999, false), (1_000, true), (10_000_000, true), (10_000_001, false)] {
        let declared = trusted_issuer(|spec| spec.max_used_tokens = n);
        if is_good { taken(declared) } else { refused(declared, &["spec.max_used_tokens"]) }
    }
    // Agents are in no groups of people.
    let groups = |n: usize, claim: &str| trusted_issuer(|spec| spec.rules[n].groups_claim = claim.into());
    taken(groups(1, "realm/groups"));
    refused(groups(0, "groups"), &["spec.rules[0].groups_claim"]);
    refused(groups(1, "/groups"), &["spec.rules[1].groups_claim"]);
}

#[test]
fn nodes() {
    taken(node(|spec| *spec = wire::NodeSpec::default()));
    refused(node(|spec| spec.description = "\u{202e}".into()), &["spec.description"]);
    refused(node(|spec| spec.owners = vec!["ada".into()]), &["spec.owners[0]"]);
    refused(node(|spec| spec.owners = vec!["user:ada".into(); 2]), &["spec.owners[1]"]);
    refused(node(|spec| spec.owners = (0..65).map(|n| format!("user:{n}")).collect()), &["spec.owners"]);
}

#[test]
fn believed_nodes_are_named_once_and_in_one_way() {
    let with = |nodes: &[&str]| attestation_policy(|spec| spec.nodes = nodes.iter().map(ToString::to_string).collect());
    taken(with(&[]));
    taken(with(&["vm-7", "vm-8", "platform/vm-7"]));
    for bad in ["", "A", "a/b/c", "/a", "a/", "platform/A", "*", "platform/*", "a b", "spiffe://x/ns/a/node/b"] {
        refused(with(&[bad]), &["spec.nodes[0]"]);
    }
    refused(with(&["vm-7", "vm-7"]), &["spec.nodes[1]"]);
    refused(with(&["vm-7", "payments/vm-7"]), &["spec.nodes[1]"]);
    refused(attestation_policy(|spec| spec.nodes = (0..65).map(|n| format!("n{n}")).collect()), &["spec.nodes"]);
}

#[test]
fn attestation_policies() {
    use wire::AttestationSelectorType as Type;
    refused(attestation_policy(|spec| spec.agent.clear()), &["spec.agent"]);
    refused(attestation_policy(|spec| spec.selectors.clear()), &["spec.selectors"]);
    let one = |of: Type, value: &str| {
        let value = value.to_owned();
        attestation_policy(|spec| spec.selectors = vec![wire::AttestationSelector { r#type: of.into(), value }])
    };
    for (of, good, bad) in [
        (Type::UnixUid, "0", &["root", "-1", "01", "+1", "4294967296", " 1"][..]),
        (Type::UnixGid, "4294967295", &["wheel"]),
        (Type::UnixPath, "/usr/bin/a b", &["usr/bin", "./a"]),
        (Type::UnixSha256, &"0a".repeat(32), &["0A", "x"]),
        (Type::SystemdUnit, "agent.service", &[]),
        (Type::Cgroup, "/system.slice/agent.service", &[]),
        (Type::ContainerId, "c0ffee", &[]),
        (Type::BrokerAgent, "launcher", &["Launcher", "a/launcher"]),
    ] {
        taken(one(of, good));
        for bad in bad.iter().copied().chain(["", &"/".repeat(513)]) {
            refused(one(of, bad), &["spec.selectors[0].value"]);
        }
    }
    refused(one(Type::Unspecified, "x"), &["spec.selectors[0].type"]);
    refused(attestation_policy(|spec| spec.selectors[0].r#type = 99), &["spec.selectors[0].type"]);
    refused(attestation_policy(|spec| spec.selectors.push(spec.selectors[0].clone())), &["spec.selectors[2]"]);
    let many = |n: usize| {
        let selector = |n: usize| wire::AttestationSelector { r#type: 1, value: n.to_string() };
        attestation_policy(|spec| spec.selectors = (0..n).map(selector).collect())
    };
    taken(many(16));
    refused(many(17), &["spec.selectors"]);
}

#[test]
fn grants() {
    for bad in ["", "ada", "agent:", "agent:payments/a", "bot:a", "user:"] {
        let problems = check(&samples::declared(grant(|spec| spec.delegator = bad.into())));
        assert_eq!(problems[0].path, "spec.delegator", "{bad}");
    }
    refused(grant(|spec| spec.delegate.clear()), &["spec.delegate"]);
    refused(grant(|spec| spec.delegate = "invoice-bot".into()), &["spec.delegate"]);
    refused(grant(|spec| spec.permissions.clear()), &["spec.permissions"]);
    refused(grant(|spec| spec.permissions = vec![spec.permissions[0].clone(); 257]), &["spec.permissions"]);
    refused(grant(|spec| spec.permissions[1].action = "in*".into()), &["spec.permissions[1].action"]);
    refused(grant(|spec| spec.permissions[1].resource = None), &["spec.permissions[1].resource"]);
    refused(grant(|spec| spec.audiences.push("ledger".into())), &["spec.audiences[1]"]);
    refused(grant(|spec| spec.audiences = (0..17).map(|n| format!("https://a{n}")).collect()), &["spec.audiences"]);
    refused(grant(|spec| spec.purpose = " ".into()), &["spec.purpose"]);
    refused(grant(|spec| spec.not_after = None), &["spec.not_after"]);
    refused(grant(|spec| spec.not_after = spec.not_before), &["spec.not_after"]);
    refused(grant(|spec| spec.not_before = samples::at(i64::MAX)), &["spec.not_before"]);
    for (may_redelegate, depth) in [(true, 0), (true, 9), (true, u32::MAX), (false, 1)] {
        refused(grant(|spec| (spec.may_redelegate, spec.max_depth) = (may_redelegate, depth)), &["spec.max_depth"]);
    }
    refused(grant(|spec| spec.parent = "A".into()), &["spec.parent"]);
    refused(grant(|spec| spec.parent = "bot-lets-ledger".into()), &["spec.parent"]);
    refused(grant(|spec| spec.delegator = "user:ada".into()), &["spec.delegator"]);
    let consent = |change: fn(&mut wire::ConsentEvidence)| grant(|spec| change(spec.consent.as_mut().unwrap()));
    taken(consent(|consent| consent.sha256.clear()));
    taken(consent(|consent| consent.reference = "x".repeat(2_048)));
    refused(consent(|consent| consent.method.clear()), &["spec.consent.method"]);
    refused(consent(|consent| consent.method = "x".repeat(65)), &["spec.consent.method"]);
    refused(consent(|consent| consent.reference = "x".repeat(2_049)), &["spec.consent.reference"]);
    refused(consent(|consent| consent.reference.clear()), &["spec.consent.reference"]);
    refused(consent(|consent| consent.sha256 = "0A".repeat(32)), &["spec.consent.sha256"]);
    refused(consent(|consent| consent.time = None), &["spec.consent.time"]);
    refused(consent(|consent| consent.time = samples::at(i64::MIN)), &["spec.consent.time"]);
}

#[test]
fn policy_tests() {
    refused(policy_test(|spec| spec.cases.clear()), &["spec.cases"]);
    taken(policy_test(|spec| spec.cases = vec![spec.cases[0].clone(); 256]));
    refused(policy_test(|spec| spec.cases = vec![spec.cases[0].clone(); 257]), &["spec.cases"]);
    let case = |change: fn(&mut wire::PolicyTestCase)| policy_test(|spec| change(&mut spec.cases[0]));
    refused(case(|case| case.agent = "agt_x".into()), &["spec.cases[0].agent"]);
    refused(case(|case| case.action = "invoice:*".into()), &["spec.cases[0].action"]);
    refused(case(|case| case.resource_type = "In voice".into()), &["spec.cases[0].resource_type"]);
    refused(case(|case| case.resource_type = "Agent".into()), &["spec.cases[0].resource_type"]);
    refused(case(|case| case.resource_id = "*".into()), &["spec.cases[0].resource_id"]);
    for number in [0, 3] {
        refused(policy_test(|spec| spec.cases[0].expect = number), &["spec.cases[0].expect"]);
    }
    taken(case(|case| case.reason_code.clear()));
    refused(case(|case| case.reason_code = "denied".into()), &["spec.cases[0].reason_code"]);
    refused(case(|case| case.reason_code = "X".repeat(65)), &["spec.cases[0].reason_code"]);
}

#[test]
fn what_a_policy_test_states_is_what_a_decision_takes() {
    let value = |kind| prost_types::Value { kind };
    let with = |name: &str, kind: Option<Kind>| {
        let fields = [(name.to_owned(), value(kind))].into();
        policy_test(|spec| spec.cases[0].context = Some(Struct { fields }))
    };
    let list = |kind| Some(Kind::ListValue(prost_types::ListValue { values: vec![value(kind)] }));
    let within = |kind| Some(Kind::StructValue(Struct { fields: [("a".to_owned(), value(kind))].into() }));
    taken(with("a", within(list(Some(Kind::StringValue("x\ny".into()))))));
    taken(with("a", Some(Kind::NumberValue(-9_007_199_254_740_992.0))));
    for bad in [
        None,
        Some(Kind::NullValue(0)),
        Some(Kind::NumberValue(0.5)),
        Some(Kind::NumberValue(f64::NAN)),
        Some(Kind::NumberValue(f64::INFINITY)),
        Some(Kind::NumberValue(1e300)),
        Some(Kind::StringValue("a\u{202e}".into())),
        Some(Kind::StringValue("x".repeat(17 << 10))),
        list(None),
        within(Some(Kind::NullValue(0))),
        within(list(Some(Kind::StringValue("\u{0}".into())))),
    ] {
        refused(with("a", bad), &["spec.cases[0].context"]);
    }
    refused(with("a\u{200b}", Some(Kind::BoolValue(true))), &["spec.cases[0].context"]);
}

#[test]
fn operator_bindings() {
    refused(operator_binding(|spec| spec.operators.clear()), &["spec.operators"]);
    refused(operator_binding(|spec| spec.operators = names(65)), &["spec.operators"]);
    refused(operator_binding(|spec| spec.operators = vec!["ada".into(); 2]), &["spec.operators[1]"]);
    for bad in ["user:ada", "spiffe://x/legate/operator/ada", "Ada", ""] {
        refused(operator_binding(|spec| spec.operators = vec![bad.into()]), &["spec.operators[0]"]);
    }
    for number in [0, 6] {
        refused(operator_binding(|spec| spec.role = number), &["spec.role"]);
    }
    refused(operator_binding(|spec| spec.not_after = spec.not_before), &["spec.not_after"]);
    let within = |namespace: &str| {
        let mut binding = samples::operator_binding();
        binding.metadata.as_mut().unwrap().namespace = namespace.into();
        Object::OperatorBinding(binding)
    };
    taken(within(""));
    refused(within("A b"), &["metadata.namespace"]);
}

#[test]
fn what_a_lifecycle_policy_may_say() {
    let rule = |change: fn(&mut wire::AlertRule)| lifecycle_policy(|spec| change(spec.on_alert.as_mut().unwrap()));
    taken(lifecycle_policy(|_| {}));
    taken(lifecycle_policy(|spec| {
        *spec = wire::LifecyclePolicySpec {
            mode: wire::LifecycleMode::Report.into(),
            suspend_when_orphaned_for: span(0, 0),
            grace: span(0, 0),
            notify_before: span(0, 0),
            ..Default::default()
        };
    }));
    taken(rule(|rule| (rule.min_severity, rule.max_agents) = (String::new(), 1_000)));
    let nothing = wire::LifecyclePolicySpec { mode: wire::LifecycleMode::Enforce.into(), ..Default::default() };
    refused(lifecycle_policy(|spec| *spec = nothing), &["spec"]);
    refused(lifecycle_policy(|spec| spec.mode = 0), &["spec.mode"]);
    refused(lifecycle_policy(|spec| spec.mode = 9), &["spec.mode"]);
    refused(lifecycle_policy(|spec| spec.selector = "name = a".into()), &["spec.selector"]);
    refused(lifecycle_policy(|spec| spec.groups = names(65)), &["spec.groups"]);
    refused(lifecycle_policy(|spec| spec.agent_classes = vec!["A".into()]), &["spec.agent_classes[0]"]);
    for hostile in HOSTILE {
        refused(lifecycle_policy(|spec| spec.description = hostile.into()), &["spec.description"]);
        refused(lifecycle_policy(|spec| spec.selector = hostile.into()), &["spec.selector"]);
    }
    // What is shorter, longer or less than nothing.
    let day = 86_400;
    for (seconds, nanos) in [(day - 1, 0), (2 * 366 * day, 0), (-day, 0), (i64::MAX, 0), (day, -1), (0, 0)] {
        refused(lifecycle_policy(|spec| spec.attest_every = span(seconds, nanos)), &["spec.attest_every"]);
        let dormant = lifecycle_policy(|spec| spec.suspend_when_dormant_for = span(seconds, nanos));
        refused(dormant, &["spec.suspend_when_dormant_for"]);
    }
    refused(lifecycle_policy(|spec| spec.expire_after = span(3_599, 0)), &["spec.expire_after"]);
    refused(lifecycle_policy(|spec| spec.expire_after = span(3_654 * day, 0)), &["spec.expire_after"]);
    refused(
        lifecycle_policy(|spec| spec.retire_after_suspended_for = span(3_600, 0)),
        &["spec.retire_after_suspended_for"],
    );
    refused(
        lifecycle_policy(|spec| spec.suspend_when_orphaned_for = span(91 * day, 0)),
        &["spec.suspend_when_orphaned_for"],
    );
    refused(lifecycle_policy(|spec| spec.grace = span(91 * day, 0)), &["spec.grace"]);
    refused(lifecycle_policy(|spec| spec.notify_before = span(91 * day, 0)), &["spec.notify_before"]);
    for (action, fits) in [(1, true), (2, false), (3, true), (4, false), (9, false)] {
        let unattested = lifecycle_policy(|spec| spec.unattested = action);
        let alert = lifecycle_policy(|spec| spec.on_alert.as_mut().unwrap().action = action);
        if fits {
            taken(unattested);
            taken(alert);
        } else {
            refused(unattested, &["spec.unattested"]);
            refused(alert, &["spec.on_alert.action"]);
        }
    }
    refused(lifecycle_policy(|spec| spec.attest_every = None), &["spec.unattested"]);
    refused(rule(|rule| rule.alert_types.clear()), &["spec.on_alert.alert_types"]);
    for word in ["", "UNSPECIFIED", "action_despite_denial", "ALERT_TYPE_DENIAL_BURST", "NOTHING"] {
        let policy = lifecycle_policy(|spec| spec.on_alert.as_mut().unwrap().alert_types = vec![word.into()]);
        refused(policy, &["spec.on_alert.alert_types[0]"]);
    }
    refused(rule(|rule| rule.alert_types = vec!["DENIAL_BURST".into(); 2]), &["spec.on_alert.alert_types[1]"]);
    refused(rule(|rule| rule.min_severity = "high".into()), &["spec.on_alert.min_severity"]);
    refused(rule(|rule| rule.action = 0), &["spec.on_alert.action"]);
    refused(rule(|rule| rule.max_agents = 0), &["spec.on_alert.max_agents"]);
    refused(rule(|rule| rule.max_agents = 1_001), &["spec.on_alert.max_agents"]);
    refused(rule(|rule| rule.per = None), &["spec.on_alert.per"]);
    refused(rule(|rule| rule.per = span(59, 0)), &["spec.on_alert.per"]);
    refused(rule(|rule| rule.per = span(31 * 86_400, 0)), &["spec.on_alert.per"]);
}

#[test]
fn review_campaigns() {
    taken(Object::ReviewCampaign(samples::review_campaign()));
    taken(review_campaign(|spec| {
        let (reviewers, due) = (wire::ReviewerRule::Sponsors.into(), span(60, 0));
        *spec = wire::ReviewCampaignSpec { reviewers, due, ..Default::default() };
    }));
    let r =
        |path: &str, change: &dyn Fn(&mut wire::ReviewCampaignSpec)| refused(review_campaign(|s| change(s)), &[path]);
    r("spec.selector", &|spec| spec.selector = "state = active".into());
    r("spec.selector", &|spec| spec.selector = "x".repeat(2_049));
    r("spec.groups", &|spec| spec.groups = names(65));
    r("spec.agent_classes[0]", &|spec| spec.agent_classes = vec!["A".into()]);
    r("spec.reviews[1]", &|spec| spec.reviews = vec![1, 1]);
    r("spec.reviews[0]", &|spec| spec.reviews = vec![9]);
    r("spec.reviewers", &|spec| spec.reviewers = 0);
    r("spec.named_reviewers", &|spec| spec.named_reviewers.clear());
    r("spec.named_reviewers", &|spec| spec.reviewers = wire::ReviewerRule::Owners.into());
    for hostile in HOSTILE {
        r("spec.named_reviewers[0]", &|spec| spec.named_reviewers = vec![format!("user:{hostile}")]);
        r("spec.description", &|spec| spec.description = hostile.into());
    }
    r("spec.named_reviewers[0]", &|spec| spec.named_reviewers = vec!["operator:No Name".into()]);
    r("spec.escalation[0]", &|spec| spec.escalation = vec!["agent:a".into()]);
    r("spec.escalation", &|spec| spec.escalation.clear());
    r("spec.people[1].who", &|spec| spec.people[1].who = "user:grace@example.com".into());
    r("spec.people[0].who", &|spec| spec.people[0].who = "operator:ada".into());
    r("spec.people[0].operators", &|spec| spec.people[0].operators.clear());
    r("spec.people[0].operators[1]", &|spec| spec.people[0].operators = vec!["a".into(), "a".into()]);
    r("spec.every_days", &|spec| spec.every_days = 3_661);
    r("spec.every_days", &|spec| spec.every_days = 1);
    r("spec.due", &|spec| spec.due = None);
    r("spec.due", &|spec| spec.due = span(0, 1));
    r("spec.due", &|spec| spec.due = span(90 * 86_400, 1));
    r("spec.grace", &|spec| spec.grace = span(-1, 0));
    r("spec.on_silence", &|spec| spec.on_silence = 3);
}

#[test]
fn a_binding_excepts_agents_of_its_groups_alone() {
    taken(binding(|spec| spec.except_agents = names(1_024)));
    refused(binding(|spec| spec.except_agents = names(1_025)), &["spec.except_agents"]);
    refused(binding(|spec| spec.except_agents = vec!["invoice-bot".into()]), &["spec.except_agents[0]"]);
    refused(binding(|spec| spec.except_agents = vec!["A".into()]), &["spec.except_agents[0]"]);
    refused(binding(|spec| spec.groups.clear()), &["spec.except_agents"]);
}
