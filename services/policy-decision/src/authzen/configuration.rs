//! Where everything is (AuthZEN section 9), for whoever asks.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::{ACTIONS, EVALUATION, EVALUATIONS, Facade, RESOURCES, SUBJECTS};

pub(super) async fn configuration(State(facade): State<Facade>) -> Response {
    let url = &*facade.url;
    let at = |path: &str| format!("{url}{path}");
    let told = json!({
        "policy_decision_point": url,
        "access_evaluation_endpoint": at(EVALUATION),
        "access_evaluations_endpoint": at(EVALUATIONS),
        "search_subject_endpoint": at(SUBJECTS),
        "search_resource_endpoint": at(RESOURCES),
        "search_action_endpoint": at(ACTIONS),
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, told.to_string()).into_response()
}
