//! The methods of policy-decision that an operator may call.

use legate_rpc::Told;
use legate_wire::policy;
use policy::evaluate_stream_response::Outcome as Said;
use prost::Message as _;

use super::{Ask, Case, Decisions, Drifts, Outcome, Previews, ReviewChecks, question, told};

/// One question over a stream; an error of its own stands for that of a call.
async fn streamed(ask: &Ask) -> Outcome {
    let item = policy::EvaluateStreamRequest { question: Some(question(ask)), ..Default::default() };
    let opened = Decisions::new(ask.policy.clone()).evaluate_stream(tokio_stream::iter([item])).await;
    let mut answers = opened.map_err(|status| Told::from_status(&status))?.into_inner();
    let said = answers.message().await.map_err(|status| Told::from_status(&status))?;
    match said.and_then(|said| said.outcome) {
        Some(Said::Error(error)) => Err(Told::from_item(error.code, &error.message, error.encode_to_vec())),
        answer => Ok(format!("{answer:?}")),
    }
}

pub(super) fn add(case: &mut impl FnMut(&'static str, Case)) {
    case("/legate.policy.v1.DecisionService/Evaluate", call!(policy, Decisions, evaluate, |ask| question(&ask)));
    case(
        "/legate.policy.v1.DecisionService/EvaluateBatch",
        call!(policy, Decisions, evaluate_batch, |ask| policy::EvaluateBatchRequest {
            evaluations: vec![question(&ask), question(&ask)],
        }),
    );
    case("/legate.policy.v1.DecisionService/EvaluateStream", |ask| Box::pin(async move { vec![streamed(&ask).await] }));
    case(
        "/legate.policy.v1.DecisionService/Explain",
        call!(policy, Decisions, explain, |ask| policy::ExplainRequest {
            question: Some(question(&ask)),
            ..policy::ExplainRequest::default()
        }),
    );
    case(
        "/legate.policy.v1.DecisionService/WhoCan",
        call!(policy, Decisions, who_can, |ask| policy::WhoCanRequest {
            action: "invoice:read".into(),
            resource: question(&ask).resource,
            namespace: ask.namespace.clone(),
            ..policy::WhoCanRequest::default()
        }),
    );
    case(
        "/legate.policy.v1.DecisionService/WhatCan",
        call!(policy, Decisions, what_can, |ask| policy::WhatCanRequest {
            agent_id: ask.agent_id.clone(),
            with_never: true,
            ..policy::WhatCanRequest::default()
        }),
    );
    case(
        "/legate.policy.v1.DecisionService/Simulate",
        call!(policy, Decisions, simulate, |ask| policy::SimulateRequest {
            declarations: vec![ask.another_role()],
            window: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
            ..policy::SimulateRequest::default()
        }),
    );
    case(
        "/legate.policy.v1.DecisionService/Replay",
        call!(policy, Decisions, replay, |ask| policy::ReplayRequest {
            namespace: ask.namespace.clone(),
            from_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            to_time: Some(prost_types::Timestamp { seconds: 1_700_086_400, nanos: 0 }),
            ..policy::ReplayRequest::default()
        }),
    );
    case(
        "/legate.policy.v1.DriftService/ListDrift",
        call!(policy, Drifts, list_drift, |ask| policy::ListDriftRequest {
            namespace: ask.namespace.clone(),
            ..policy::ListDriftRequest::default()
        }),
    );
    case(
        "/legate.policy.v1.DriftService/ProposeCeiling",
        call!(policy, Drifts, propose_ceiling, |ask| policy::ProposeCeilingRequest {
            agent_id: ask.agent_id.clone(),
            ..policy::ProposeCeilingRequest::default()
        }),
    );
    case(
        "/legate.policy.v1.ReviewCheckService/CheckReview",
        call!(policy, ReviewChecks, check_review, |ask| policy::CheckReviewRequest {
            review_id: ask.review_id.clone(),
            ..policy::CheckReviewRequest::default()
        }),
    );
    case(
        "/legate.policy.v1.PreviewService/GetShadow",
        call!(policy, Previews, get_shadow, |ask| policy::GetShadowRequest {
            namespace: ask.namespace.clone(),
            ..policy::GetShadowRequest::default()
        }),
    );
    case("/legate.policy.v1.PreviewService/ShadowChange", |ask| {
        Box::pin(async move {
            let request = policy::ShadowChangeRequest { declarations: vec![ask.another_role()], ..Default::default() };
            let line = Previews::new(ask.policy.clone()).shadow_change(request).await;
            vec![line.map(|_| "a line".to_owned()).map_err(|status| Told::from_status(&status))]
        })
    });
    case(
        "/legate.policy.v1.PreviewService/PreviewChange",
        call!(policy, Previews, preview_change, |ask| policy::PreviewChangeRequest {
            declarations: vec![ask.another_role()],
            ..policy::PreviewChangeRequest::default()
        }),
    );
}
