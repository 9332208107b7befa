//! What a question may hold, and what it may not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use prost_types::value::Kind;

use super::*;

fn good() -> wire::EvaluateRequest {
    wire::EvaluateRequest {
        subject: Some(wire::Subject {
            agent: Some(wire::subject::Agent::AgentId(AgentId::from_parts(1, [1; 10]).to_string())),
            presenter_x5t_s256: vec![],
            presenter_jkt: vec![],
            ..Default::default()
        }),
        action: "invoice:read".into(),
        resource: Some(wire::Resource { r#type: "Invoice".into(), id: "apollo/1".into(), attributes: None }),
        ..wire::EvaluateRequest::default()
    }
}

fn with(kind: Kind) -> wire::EvaluateRequest {
    let value = prost_types::Value { kind: Some(kind) };
    wire::EvaluateRequest { context: Some(prost_types::Struct { fields: [("k".to_owned(), value)].into() }), ..good() }
}

#[test]
fn reads_a_good_question() {
    let ask = ask(with(Kind::NumberValue(-3.0)), "").unwrap();
    assert_eq!(ask.question.context["k"], Value::Long(-3));
    assert!(matches!(ask.subject, Subject::Asserted(_)));
}

#[test]
fn refuses_what_breaks_the_grammar() {
    let mut cases: Vec<(&str, wire::EvaluateRequest)> = Vec::new();
    let mut add = |name, change: &dyn Fn(&mut wire::EvaluateRequest)| {
        let mut q = good();
        change(&mut q);
        cases.push((name, q));
    };
    add("subject", &|q| q.subject = None);
    add("subject", &|q| q.subject.as_mut().unwrap().agent = None);
    add("subject.agent_id", &|q| {
        q.subject.as_mut().unwrap().agent = Some(wire::subject::Agent::AgentId("bob".into()));
    });
    add("subject.access_token", &|q| {
        q.subject.as_mut().unwrap().agent = Some(wire::subject::Agent::AccessToken("x".repeat(9_000)));
    });
    for len in [0, (16 << 10) + 1] {
        add("subject.certificate_chain", &move |q| {
            q.subject.as_mut().unwrap().agent = Some(wire::subject::Agent::CertificateChain(vec![0x30; len]));
        });
    }
    add("subject.presenter_x5t_s256", &|q| q.subject.as_mut().unwrap().presenter_x5t_s256 = vec![1; 31]);
    add("subject.presenter_jkt", &|q| q.subject.as_mut().unwrap().presenter_jkt = vec![1; 33]);
    for action in ["", "READ", "a b", "invoice:*", "*", "a\u{0}", "a:b\u{200b}"] {
        add("action", &move |q| q.action = action.into());
    }
    add("resource", &|q| q.resource = None);
    for kind in ["", "in voice", "Invoice::", "if", "\u{0}"] {
        add("resource.type", &move |q| q.resource.as_mut().unwrap().r#type = kind.into());
    }
    // A resource of our own types could bring its own attributes for the principal.
    for kind in ["Agent", "AgentClass", "Role", "Action", "Acme::Action"] {
        add("resource.type", &move |q| q.resource.as_mut().unwrap().r#type = kind.into());
    }
    for id in ["", " x", "x\n", "x*", "a\u{202e}b", "a\u{200b}", "\u{1b}[31m"] {
        add("resource.id", &move |q| q.resource.as_mut().unwrap().id = id.into());
    }
    add("correlation_id", &|q| q.correlation_id = "x".repeat(129));
    add("correlation_id", &|q| q.correlation_id = "\u{1b}[31m".into());
    add("max_staleness", &|q| q.max_staleness = Some(prost_types::Duration { seconds: -1, nanos: 0 }));
    for (name, question) in cases {
        let fault = ask(question, "evaluations[3].").unwrap_err();
        assert_eq!(fault.reason(), "QUESTION_INVALID");
        assert!(fault.to_string().contains(&format!("evaluations[3].{name}")), "{name}: {fault}");
    }
}

#[test]
fn refuses_values_that_policies_do_not_know() {
    for kind in [
        Kind::NullValue(0),
        Kind::NumberValue(0.5),
        Kind::NumberValue(f64::NAN),
        Kind::NumberValue(f64::INFINITY),
        Kind::NumberValue(1e300),
        Kind::StringValue("x".repeat(70_000)),
        Kind::ListValue(prost_types::ListValue { values: vec![prost_types::Value { kind: None }] }),
    ] {
        assert!(ask(with(kind.clone()), "").is_err(), "{kind:?}");
    }
}

#[test]
fn a_refusal_says_little_back_of_what_was_sent() {
    let mut long_type = good();
    long_type.resource.as_mut().unwrap().r#type = format!("{}::Action", "x\n".repeat(9_000));
    let mut inner = prost_types::Value { kind: Some(Kind::NullValue(0)) };
    for _ in 0..10 {
        let fields = [("\u{200b}".repeat(1_000), inner)].into();
        inner = prost_types::Value { kind: Some(Kind::StructValue(prost_types::Struct { fields })) };
    }
    for question in [long_type, with(inner.kind.unwrap())] {
        let fault = ask(question, "").unwrap_err();
        let said = fault.to_string();
        assert!(said.len() < 2_000 && !said.contains(['\n', '\u{200b}']), "{said}");
    }
}

#[test]
fn a_token_is_never_shown() {
    let mut q = good();
    q.subject.as_mut().unwrap().agent = Some(wire::subject::Agent::AccessToken("canary".into()));
    assert!(!format!("{q:?}").contains("canary"));
    assert!(!format!("{:?}", ask(q, "").unwrap()).contains("canary"));
}
