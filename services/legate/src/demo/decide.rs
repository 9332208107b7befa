//! Chapter: a backend asks whether the agent may, and is told why.

use std::collections::BTreeMap;

use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{Decision, EvaluateRequest, EvaluateResponse, Resource, Subject, subject};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::enrol::Parties;
use super::narrate::{Broken, timed};
use super::{Stage, broken, refusal};
use crate::output::{because, verdict, view_age};

/// The backend waits no longer for an answer.
const ASK_WITHIN: std::time::Duration = std::time::Duration::from_millis(500);

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
    let mut future = question(parties, "invoice:read", "apollo/1001", false);
    future.at_least_revision = u64::MAX;
    let (answer, took) = timed(ask(parties, future)).await;
    show(stage, "the first question, at a revision that nobody has seen", "REVISION_NOT_REACHED", &answer?, took);
    let mut forged = question(parties, "invoice:read", "apollo/1001", false);
    if let Some(subject) = &mut forged.subject {
        subject.agent = Some(subject::Agent::AccessToken(with_another_signature(&parties.token.access_token)));
    }
    let (answer, took) = timed(ask(parties, forged)).await;
    show(stage, "the first question, with one letter of the token changed", "TOKEN_INVALID", &answer?, took);
    let mut stolen = question(parties, "invoice:read", "apollo/1001", false);
    if let Some(subject) = &mut stolen.subject {
        subject.presenter_x5t_s256 = vec![7; 32];
    }
    let (answer, took) = timed(ask(parties, stolen)).await;
    show(stage, "the first question, over somebody else's certificate", "TOKEN_BINDING", &answer?, took);
    Ok(())
}

/// The token with one letter in the middle of its signature changed.
fn with_another_signature(token: &str) -> String {
    let at = token.len() - 40;
    let other = if token[at..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

/// Asks as the backend.
pub(super) async fn ask(parties: &Parties, request: EvaluateRequest) -> Result<EvaluateResponse, Broken> {
    let mut service = DecisionServiceClient::new(parties.backend.clone());
    let mut request = tonic::Request::new(request);
    request.set_timeout(ASK_WITHIN);
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
            ..Default::default()
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
    let told = format!("{} at revision {}, view {} ms old", verdict(answer), answer.revision, view_age(answer));
    stage.tell.check(held, asked, &told, took);
    let reasons: Vec<String> = answer.reasons.iter().map(|r| format!("because {}", because(r))).collect();
    stage.tell.reasons(&reasons);
}
