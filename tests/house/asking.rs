//! Questions of the example's backend about the example's agent.

use std::collections::BTreeMap;

use legate_rpc::Client;
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{Decision, EvaluateRequest, EvaluateResponse, Resource, Subject, subject};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// A token and the certificate that it is bound to.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) token: String,
    pub(crate) presenter: [u8; 32],
}

/// May the holder do this to that invoice?
pub(crate) fn question(shown: &Shown, action: &str, id: &str) -> EvaluateRequest {
    EvaluateRequest {
        subject: Some(Subject {
            agent: Some(subject::Agent::AccessToken(shown.token.clone())),
            presenter_x5t_s256: shown.presenter.to_vec(),
            ..Default::default()
        }),
        action: action.into(),
        resource: Some(Resource { r#type: "Invoice".into(), id: id.into(), attributes: None }),
        ..EvaluateRequest::default()
    }
}

/// The same about one that is sealed.
pub(crate) fn sealed(mut request: EvaluateRequest) -> EvaluateRequest {
    let fields = BTreeMap::from([("sealed".to_owned(), Value { kind: Some(Kind::BoolValue(true)) })]);
    if let Some(resource) = &mut request.resource {
        resource.attributes = Some(Struct { fields });
    }
    request
}

/// The same at a revision or later.
pub(crate) fn at_least(mut request: EvaluateRequest, revision: u64) -> EvaluateRequest {
    request.at_least_revision = revision;
    request
}

/// Asks, and takes a refused call for a failure of the test.
pub(crate) async fn ask(backend: &Client, request: EvaluateRequest) -> EvaluateResponse {
    let answer = DecisionServiceClient::new(backend.clone()).evaluate(request).await;
    answer.unwrap_or_else(|status| panic!("{:?}", legate_rpc::Told::from_status(&status))).into_inner()
}

/// The reason of an answer, and that it fits the decision.
pub(crate) fn word(answer: &EvaluateResponse) -> &str {
    assert_eq!(answer.decision() == Decision::Allow, answer.reason_code == "ALLOWED", "{answer:?}");
    assert!(answer.revision > 0 && answer.view_age.is_some() && !answer.decision_id.is_empty(), "{answer:?}");
    &answer.reason_code
}
