//! Chapter: a backend asks whether the agent may, and is told why.

use std::collections::BTreeMap;

use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{Decision, EvaluateRequest, EvaluateResponse, Resource, Subject, subject};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::enrol::Parties;
use super::narrate::{Broken, timed};
use super::{Stage, broken, refusal};

pub(super) async fn tell(stage: &mut Stage, parties: &Parties) -> Result<(), Broken> {
    stage.tell.chapter("A backend asks policy-decision before it answers the agent");
    let cases = [
        ("read an invoice of its project", "invoice:read", "apollo/1001", false, "ALLOWED"),
        ("read an invoice of another project", "invoice:read", "zeus/7", false, "BINDING_NARROWED"),
        ("read an invoice that is sealed", "invoice:read", "apollo/1002", true, "FORBIDDEN_BY_POLICY"),
        ("pay an invoice", "invoice:pay", "apollo/1001", false, "NOT_PERMITTED"),
    ];
    for (asked, action, id, sealed, wanted) in cases {
        let (answer, took) = timed(ask(parties, question(parties, action, id, sealed))).await;
        show(stage, asked, wanted, &answer?, took);
    }
    let mut unknown = question(parties, "invoice:read", "apollo/1001", false);
    if let Some(subject) = &mut unknown.subject {
        subject.agent = Some(subject::Agent::AccessToken(format!("{}x", parties.token.access_token)));
    }
    let (answer, took) = timed(ask(parties, unknown)).await;
    show(stage, "the same with a token that nobody signed", "TOKEN_INVALID", &answer?, took);
    let mut stolen = question(parties, "invoice:read", "apollo/1001", false);
    if let Some(subject) = &mut stolen.subject {
        subject.presenter_x5t_s256 = vec![7; 32];
    }
    let (answer, took) = timed(ask(parties, stolen)).await;
    show(stage, "the same token over somebody else's certificate", "TOKEN_BINDING", &answer?, took);
    Ok(())
}

/// Asks as the backend.
pub(super) async fn ask(parties: &Parties, request: EvaluateRequest) -> Result<EvaluateResponse, Broken> {
    let mut service = DecisionServiceClient::new(parties.backend.clone());
    let answer = service.evaluate(request).await;
    Ok(answer.map_err(|s| broken(refusal(&s)))?.into_inner())
}

/// May the holder of this token do this to that invoice?
pub(super) fn question(parties: &Parties, action: &str, id: &str, sealed: bool) -> EvaluateRequest {
    let sealed = Value { kind: Some(Kind::BoolValue(sealed)) };
    EvaluateRequest {
        subject: Some(Subject {
            agent: Some(subject::Agent::AccessToken(parties.token.access_token.clone())),
            presenter_x5t_s256: parties.presenter.to_vec(),
        }),
        action: action.into(),
        resource: Some(Resource {
            r#type: "Invoice".into(),
            id: id.into(),
            attributes: Some(Struct { fields: BTreeMap::from([("sealed".to_owned(), sealed)]) }),
        }),
        ..EvaluateRequest::default()
    }
}

fn show(stage: &mut Stage, asked: &str, wanted: &str, answer: &EvaluateResponse, took: std::time::Duration) {
    let allowed = answer.decision() == Decision::Allow;
    let held = answer.reason_code == wanted && allowed == (wanted == "ALLOWED");
    let age = answer.view_age.unwrap_or_default();
    let millis = age.seconds * 1_000 + i64::from(age.nanos) / 1_000_000;
    let word = if allowed {
        "ALLOW".to_owned()
    } else {
        format!("DENY ({})", answer.denial().as_str_name().trim_start_matches("DENIAL_"))
    };
    let told = format!("{word} {} at revision {}, view {millis} ms old", answer.reason_code, answer.revision);
    stage.tell.check(held, asked, &told, took);
    let reasons: Vec<String> = answer.reasons.iter().map(|r| format!("because {}", r.text)).collect();
    stage.tell.show(&reasons);
}
