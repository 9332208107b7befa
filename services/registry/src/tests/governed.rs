//! Groups, boundaries, credential policies, issuers, attestation, policy tests, operator bindings: what they name, who
//! leaves them, and how they are taken back.

use legate_db::testing::on_each;
use legate_wire::registry::claim_rule::StandsFor;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::*;

use super::scene::*;
use crate::domain::kind::Key;
use crate::domain::lifecycle::Transition;
use crate::flow::transition::Step;
use crate::flow::{read, revoke, update};
use crate::schema::Migrator;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn group(name: &str, agents: &[&str], selector: &str) -> Declaration {
    let spec = GroupSpec { agents: texts(agents), selector: selector.into(), ..GroupSpec::default() };
    of(Object::Group(Group { metadata: metadata(name), spec: Some(spec) }))
}

fn boundary(name: &str, change: impl FnOnce(&mut BoundarySpec)) -> Declaration {
    let mut spec = BoundarySpec { regions: texts(&["eu"]), ..BoundarySpec::default() };
    change(&mut spec);
    of(Object::Boundary(Boundary { metadata: metadata(name), spec: Some(spec) }))
}

fn credential_policy(name: &str) -> Declaration {
    let spec = CredentialPolicySpec::default();
    of(Object::CredentialPolicy(CredentialPolicy { metadata: metadata(name), spec: Some(spec) }))
}

fn issuer(name: &str, rules: &[(&str, &str)]) -> Declaration {
    let rule = |(sub, agent): &(&str, &str)| ClaimRule {
        claims: [("sub".to_owned(), (*sub).to_owned())].into(),
        stands_for: Some(StandsFor::Agent((*agent).to_owned())),
        groups_claim: String::new(),
    };
    let spec = TrustedIssuerSpec {
        issuer: "https://issuer.example.com".into(),
        audiences: texts(&["legate"]),
        jwks_uri: "https://issuer.example.com/keys".into(),
        rules: rules.iter().map(rule).collect(),
        ..TrustedIssuerSpec::default()
    };
    of(Object::TrustedIssuer(TrustedIssuer { metadata: metadata(name), spec: Some(spec) }))
}

fn attestation(name: &str, agent: &str, selectors: &[(AttestationSelectorType, &str)]) -> Declaration {
    let selector = |(of, value): &(AttestationSelectorType, &str)| AttestationSelector {
        r#type: (*of).into(),
        value: (*value).into(),
    };
    let spec = AttestationPolicySpec {
        agent: agent.into(),
        selectors: selectors.iter().map(selector).collect(),
        ..AttestationPolicySpec::default()
    };
    of(Object::AttestationPolicy(AttestationPolicy { metadata: metadata(name), spec: Some(spec) }))
}

fn policy_test(name: &str, agents: &[&str]) -> Declaration {
    let case = |agent: &&str| PolicyTestCase {
        agent: (*agent).to_owned(),
        action: "invoice:read".into(),
        resource_type: "Invoice".into(),
        resource_id: "1".into(),
        expect: ExpectedDecision::Allow.into(),
        ..PolicyTestCase::default()
    };
    let spec = PolicyTestSpec { cases: agents.iter().map(case).collect(), ..PolicyTestSpec::default() };
    of(Object::PolicyTest(PolicyTest { metadata: metadata(name), spec: Some(spec) }))
}

fn operators(namespace: &str, name: &str) -> Declaration {
    let metadata = Some(Metadata { name: name.into(), namespace: namespace.into(), ..Metadata::default() });
    let spec =
        OperatorBindingSpec { operators: texts(&["ada"]), role: OperatorRole::Viewer.into(), ..Default::default() };
    of(Object::OperatorBinding(OperatorBinding { metadata, spec: Some(spec) }))
}

async fn get(scene: &Scene, kind: Kind, name: &str) -> Option<Object> {
    let found = read::object(&scene.desk, &by(OPERATOR, ""), Key::new(kind, "payments", name), None).await;
    found.ok().and_then(|(declaration, _)| declaration.object)
}

async fn take_back(scene: &Scene, kind: Kind, namespace: &str, name: &str) -> Result<(), legate_rpc::Fault> {
    let call = scene.call(OPERATOR, "over", &(), "");
    revoke::revoke(&scene.desk, call, Key::new(kind, namespace, name), String::new()).await.map(drop)
}

#[tokio::test]
async fn what_is_named_has_to_be_there_and_stays() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let mut speaks_of = binding("group-reads", "reader", &[]);
        if let Some(Object::RoleBinding(binding)) = &mut speaks_of.object {
            binding.spec.as_mut().unwrap().groups = texts(&["clerks"]);
        }
        let mut named = class("named", false);
        if let Some(Object::AgentClass(class)) = &mut named.object {
            let spec = class.spec.as_mut().unwrap();
            (spec.credential_policy, spec.boundaries) = ("short".into(), texts(&["eu"]));
        }
        let bounds = boundary("eu", |spec| {
            (spec.groups, spec.agent_classes, spec.agents) =
                (texts(&["clerks"]), texts(&["named"]), texts(&["invoice-bot"]));
        });
        let clerks = group("clerks", &["invoice-bot"], "");
        for alone in [&speaks_of, &named, &bounds, &group("x", &["nobody"], ""), &issuer("x", &[("a", "nobody")])] {
            assert_eq!(reason(&scene.apply(vec![alone.clone()]).await.unwrap_err()), "REFERENCE_MISSING");
        }
        for alone in [attestation("x", "nobody", &[(AttestationSelectorType::UnixUid, "1")]), policy_test("x", &["no"])]
        {
            assert_eq!(reason(&scene.apply(vec![alone]).await.unwrap_err()), "REFERENCE_MISSING");
        }
        // A class and a boundary name each other, and come in one apply.
        let all = vec![speaks_of, named.clone(), bounds, clerks, credential_policy("short")];
        scene.apply(all).await.unwrap();
        for (kind, name) in [
            (Kind::Group, "clerks"),
            (Kind::Boundary, "eu"),
            (Kind::AgentClass, "named"),
            (Kind::CredentialPolicy, "short"),
            (Kind::Namespace, "payments"),
        ] {
            let namespace = if kind == Kind::Namespace { "" } else { "payments" };
            let fault = take_back(&scene, kind, namespace, name).await.unwrap_err();
            assert_eq!(reason(&fault), "OBJECT_IN_USE", "{name}");
        }
        // One of the two lets go first.
        let call = scene.call(OPERATOR, "", &named, "");
        let paths = texts(&["spec.boundaries"]);
        update::update(&scene.desk, call, class("named", false), paths).await.unwrap();
        for (kind, name) in [
            (Kind::Boundary, "eu"),
            (Kind::AgentClass, "named"),
            (Kind::CredentialPolicy, "short"),
            (Kind::RoleBinding, "group-reads"),
            (Kind::Group, "clerks"),
        ] {
            take_back(&scene, kind, "payments", name).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_retired_agent_leaves_everything_that_names_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut speaks_of = binding("group-reads", "reader", &["invoice-bot"]);
        if let Some(Object::RoleBinding(binding)) = &mut speaks_of.object {
            binding.spec.as_mut().unwrap().groups = texts(&["named"]);
        }
        let mut all = payments();
        all.extend([
            agent("other", "worker"),
            speaks_of,
            group("alone", &["invoice-bot"], ""),
            group("named", &["invoice-bot"], ""),
            group("both", &["invoice-bot", "other"], ""),
            group("selected", &["invoice-bot"], "environment = \"prod\""),
            boundary("eu", |spec| spec.agents = texts(&["invoice-bot"])),
            boundary("eu-both", |spec| spec.agents = texts(&["other", "invoice-bot"])),
            issuer("alone", &[("a", "invoice-bot")]),
            issuer("both", &[("a", "invoice-bot"), ("b", "other")]),
            attestation("vm", "invoice-bot", &[(AttestationSelectorType::UnixUid, "1")]),
            policy_test("alone", &["invoice-bot"]),
            policy_test("both", &["invoice-bot", "other"]),
        ]);
        scene.apply(all).await.unwrap();
        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Retire)).await.unwrap();

        for (kind, gone) in [
            (Kind::RoleBinding, "bot-reads"),
            (Kind::Group, "alone"),
            (Kind::TrustedIssuer, "alone"),
            (Kind::AttestationPolicy, "vm"),
            (Kind::PolicyTest, "alone"),
        ] {
            assert_eq!(get(&scene, kind, gone).await, None, "{gone}");
        }
        let agents = async |name: &str| match get(&scene, Kind::Group, name).await {
            Some(Object::Group(group)) => group.spec.unwrap().agents,
            other => panic!("{other:?}"),
        };
        assert_eq!(agents("both").await, ["other"]);
        // Whoever names a group keeps it, and it is of nobody; one that selects lives on.
        assert!(agents("named").await.is_empty() && agents("selected").await.is_empty());
        let Some(Object::RoleBinding(binding)) = get(&scene, Kind::RoleBinding, "group-reads").await else {
            panic!("no binding")
        };
        assert_eq!(binding.spec.map(|spec| (spec.agents, spec.groups)), Some((Vec::new(), texts(&["named"]))));
        // A limit on one agent does not become one on all.
        for (name, left, named_only) in [("eu", &[][..], true), ("eu-both", &["other"], false)] {
            let Some(Object::Boundary(boundary)) = get(&scene, Kind::Boundary, name).await else { panic!("{name}") };
            let spec = boundary.spec.unwrap();
            assert_eq!((spec.agents, spec.named_only), (texts(left), named_only));
        }
        let Some(Object::TrustedIssuer(issuer)) = get(&scene, Kind::TrustedIssuer, "both").await else {
            panic!("no issuer")
        };
        assert_eq!(issuer.spec.unwrap().rules.len(), 1);
        let Some(Object::PolicyTest(test)) = get(&scene, Kind::PolicyTest, "both").await else { panic!("no test") };
        assert_eq!(test.spec.unwrap().cases.len(), 1);
        // Nothing is left that names it: another of its name comes into nothing.
        scene.apply(vec![agent("invoice-bot", "worker")]).await.unwrap();
        assert_eq!(agents("both").await, ["other"]);
        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Retire)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn one_process_is_never_two_agents() {
    use AttestationSelectorType::{BrokerAgent, UnixGid, UnixPath, UnixSha256, UnixUid};
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([agent("other", "worker"), attestation("one", "invoice-bot", &[(UnixUid, "1"), (UnixPath, "/a")])]);
        scene.apply(all).await.unwrap();
        for (what, bad) in [
            ("the same", attestation("x", "other", &[(UnixPath, "/a"), (UnixUid, "1")])),
            ("a part", attestation("x", "other", &[(UnixUid, "1")])),
            ("more", attestation("x", "other", &[(UnixUid, "1"), (UnixPath, "/a"), (UnixGid, "2")])),
            ("something else", attestation("x", "other", &[(UnixGid, "2")])),
            (
                "what runs as the user as well",
                attestation("x", "other", &[(UnixUid, "1"), (UnixSha256, &"0".repeat(64))]),
            ),
        ] {
            let fault = scene.apply(vec![bad]).await.unwrap_err();
            assert_eq!(reason(&fault), "ATTESTATION_AMBIGUOUS", "{what}");
            assert!(fault.to_string().contains("AttestationPolicy payments/one"), "{fault}");
        }
        // Two in one apply are held against each other as well.
        let pair =
            ["x", "y"].map(|n| attestation(n, if n == "x" { "other" } else { "invoice-bot" }, &[(UnixUid, "7")]));
        assert_eq!(reason(&scene.apply(pair.to_vec()).await.unwrap_err()), "ATTESTATION_AMBIGUOUS");
        scene
            .apply(vec![
                attestation("same-agent", "invoice-bot", &[(UnixUid, "1")]),
                attestation("apart", "other", &[(UnixUid, "2"), (UnixPath, "/a")]),
                attestation("started", "other", &[(UnixUid, "1"), (UnixPath, "/a"), (BrokerAgent, "invoice-bot")]),
            ])
            .await
            .unwrap();
        // What one of them was is free when it changes in the same apply; as it was, it is not.
        let swapped = vec![
            attestation("one", "other", &[(UnixUid, "1"), (UnixPath, "/a")]),
            attestation("same-agent", "other", &[(UnixUid, "1")]),
        ];
        assert_eq!(reason(&scene.apply(swapped[..1].to_vec()).await.unwrap_err()), "ATTESTATION_AMBIGUOUS");
        scene.apply(swapped).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn operators_are_bound_in_a_namespace_or_everywhere() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.appoint(&["ada"]).await.unwrap();
        scene.apply(vec![operators("", "viewers")]).await.unwrap();
        assert_eq!(
            reason(&scene.apply(vec![operators("payments", "viewers")]).await.unwrap_err()),
            "REFERENCE_MISSING"
        );
        scene.apply(vec![namespace("payments"), operators("payments", "viewers")]).await.unwrap();
        let kind = Kind::OperatorBinding;
        // The two are different objects.
        let key = revoke::key(kind.into(), "", "viewers").unwrap();
        let everywhere = read::object(&scene.desk, &by(OPERATOR, ""), key, None).await.unwrap().0;
        let own =
            read::object(&scene.desk, &by(OPERATOR, ""), Key::new(kind, "payments", "viewers"), None).await.unwrap().0;
        assert_ne!(everywhere.metadata(), own.metadata());
        assert_eq!(reason(&take_back(&scene, Kind::Namespace, "", "payments").await.unwrap_err()), "OBJECT_IN_USE");
        take_back(&scene, kind, "", "viewers").await.unwrap();
        take_back(&scene, kind, "payments", "viewers").await.unwrap();
        take_back(&scene, Kind::Namespace, "", "payments").await.unwrap();
        let last = scene.events().await.pop().unwrap();
        assert_eq!(last.r#type, "namespace.revoked");
        let kinds = scene.kinds().await;
        assert_eq!(kinds.iter().filter(|k| *k == "operator_binding.revoked").count(), 2);
        for (kind, namespace) in [(Kind::Group, ""), (Kind::OperatorBinding, "A b"), (Kind::Namespace, "payments")] {
            assert_eq!(reason(&revoke::key(kind.into(), namespace, "x").unwrap_err()), "INVALID_ARGUMENT");
        }
    })
    .await;
}
