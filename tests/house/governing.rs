//! Groups, boundaries and credential policies over real mutual TLS: what changes with a label, and what is cut.

use std::collections::BTreeMap;

use legate_client::enrol;
use legate_clock::{Clock, SystemClock};
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::policy::{EvaluateRequest, ReasonKind};
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use prost_types::value::Kind;

use crate::asking::{Shown, ask, at_least, question, word};
use crate::raised::{AUDIENCE, Raised, id_of};

fn meta(name: &str) -> Option<wire::Metadata> {
    Some(wire::Metadata { name: name.into(), namespace: "payments".into(), ..wire::Metadata::default() })
}

/// Declares it; the revision.
async fn apply(raised: &Raised, object: Object) -> u64 {
    let declarations = vec![wire::Declaration { object: Some(object) }];
    let request = wire::ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    let applied = DeclarationServiceClient::new(raised.operator("registry")).apply_declarations(request).await;
    applied.unwrap_or_else(|status| panic!("{:?}", legate_rpc::Told::from_status(&status))).into_inner().revision
}

fn group(selector: &str) -> Object {
    let spec = wire::GroupSpec { selector: selector.into(), ..wire::GroupSpec::default() };
    Object::Group(wire::Group { metadata: meta("clerks"), spec: Some(spec) })
}

/// The role of the example's binding, for the group instead of the agent.
fn for_clerks() -> Object {
    let spec = wire::RoleBindingSpec {
        role: "invoice-reader".into(),
        groups: vec!["clerks".into()],
        ..wire::RoleBindingSpec::default()
    };
    Object::RoleBinding(wire::RoleBinding { metadata: meta("invoice-bot-reads-apollo"), spec: Some(spec) })
}

/// The example's agent, of another team.
fn of_team(agent: &wire::Agent, team: &str) -> Object {
    let labels = BTreeMap::from([("team".to_owned(), team.to_owned())]);
    let metadata = wire::Metadata { labels, ..meta("invoice-bot").unwrap_or_default() };
    Object::Agent(wire::Agent { metadata: Some(metadata), spec: agent.spec.clone(), status: None })
}

fn in_region(mut request: EvaluateRequest, region: &str) -> EvaluateRequest {
    let value = prost_types::Value { kind: Some(Kind::StringValue(region.into())) };
    if let Some(resource) = &mut request.resource {
        resource.attributes = Some(prost_types::Struct { fields: [("region".to_owned(), value)].into() });
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_makes_a_member_and_a_boundary_cuts_by_region() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let issued = payments.runtime.token(AUDIENCE).await.unwrap();
    let shown = Shown { token: issued.access_token, presenter: payments.runtime.identity().x5t_s256().unwrap() };
    let backend = raised.dial("policy-decision", payments.backend.clone());
    let read = |revision| at_least(question(&shown, "invoice:read", "apollo/1001"), revision);

    apply(&raised, group("labels.team = clerks")).await;
    let revision = apply(&raised, for_clerks()).await;
    assert_eq!(word(&ask(&backend, read(revision)).await), "NOT_PERMITTED");
    let revision = apply(&raised, of_team(&payments.agent, "clerks")).await;
    let answer = ask(&backend, read(revision)).await;
    assert_eq!(word(&answer), "ALLOWED");
    assert!(answer.reasons[0].text.contains("through group payments/clerks@1"), "{:?}", answer.reasons);

    let spec = wire::BoundarySpec {
        regions: vec!["eu-central-1".into()],
        groups: vec!["clerks".into()],
        ..wire::BoundarySpec::default()
    };
    let limit = Object::Boundary(wire::Boundary { metadata: meta("eu-only"), spec: Some(spec) });
    let revision = apply(&raised, limit).await;
    assert_eq!(word(&ask(&backend, in_region(read(revision), "eu-central-1")).await), "ALLOWED");
    for request in [in_region(read(revision), "us-east-1"), read(revision)] {
        let answer = ask(&backend, request).await;
        assert_eq!(word(&answer), "BOUNDARY_REGION");
        let cut = answer.reasons.iter().find(|r| r.kind() == ReasonKind::Boundary).unwrap();
        assert_eq!((cut.name.as_str(), cut.version), ("payments/eu-only", 1));
    }
    // Whoever leaves the group is not limited any more, and has nothing to be limited.
    let revision = apply(&raised, of_team(&payments.agent, "payments")).await;
    assert_eq!(word(&ask(&backend, in_region(read(revision), "eu-central-1")).await), "NOT_PERMITTED");
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_policy_shortens_tokens_and_refuses_enrolment_tokens() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let policy = |methods: &[wire::CredentialMethod]| {
        let spec = wire::CredentialPolicySpec {
            methods: methods.iter().map(|m| (*m).into()).collect(),
            max_token_ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..wire::CredentialPolicySpec::default()
        };
        Object::CredentialPolicy(wire::CredentialPolicy { metadata: meta("strict"), spec: Some(spec) })
    };
    let early = raised.enrolment_token(Holder::AgentId(id_of(&payments.agent))).await;
    apply(&raised, policy(&[wire::CredentialMethod::Attestation])).await;
    let spec = wire::AgentClassSpec {
        ceiling: vec![wire::Permission {
            action: "invoice:*".into(),
            resource: Some(wire::ResourceSelector { r#type: "Invoice".into(), ..Default::default() }),
        }],
        credential_policy: "strict".into(),
        ..wire::AgentClassSpec::default()
    };
    let class = wire::AgentClass { metadata: meta("invoice-worker"), spec: Some(spec), ..Default::default() };
    apply(&raised, Object::AgentClass(class)).await;

    // The issuer holds the change once it gives a token by it.
    let lives = loop {
        let before = SystemClock::new().now().secs();
        let issued = payments.runtime.token(AUDIENCE).await.unwrap();
        let lives = issued.expire_time.unwrap().seconds - before;
        if lives < 200 {
            break lives;
        }
    };
    assert!((30..=61).contains(&lives), "{lives} seconds");
    payments.runtime.renew().await.unwrap();
    let refused = enrol(&raised.remote("credential-issuer"), &early).await.unwrap_err();
    assert_eq!(refused.reason(), "CREDENTIAL_METHOD_REFUSED", "{refused}");
    raised.suite.shutdown().await;
}
