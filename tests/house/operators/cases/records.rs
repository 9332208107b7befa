//! The methods of audit-collector that an operator may call.

use legate_rpc::Told;
use legate_wire::audit;

use super::{Case, told};

type Queries = audit::query_service_client::QueryServiceClient<legate_rpc::Client>;
type Custody = audit::custody_service_client::CustodyServiceClient<legate_rpc::Client>;
type Alerts = audit::alert_service_client::AlertServiceClient<legate_rpc::Client>;
type Proofs = audit::proof_service_client::ProofServiceClient<legate_rpc::Client>;

pub(super) fn add(case: &mut impl FnMut(&'static str, Case)) {
    case("/legate.audit.v1.QueryService/QueryEvents", |ask| {
        Box::pin(async move {
            let mut client = Queries::new(ask.audit.clone());
            let base = audit::QueryEventsRequest::default;
            let mut outcomes = Vec::new();
            for request in [
                audit::QueryEventsRequest { namespace: ask.namespace.clone(), ..base() },
                audit::QueryEventsRequest { agent_id: ask.agent_id.clone(), ..base() },
                audit::QueryEventsRequest {
                    via_agent_id: ask.agent_id.clone(),
                    include_descendants: true,
                    with_proofs: true,
                    ..base()
                },
                audit::QueryEventsRequest { instance_id: ask.instance_id.clone(), ..base() },
                audit::QueryEventsRequest { credential_id: ask.credential_id.clone(), ..base() },
                audit::QueryEventsRequest { resource_id: ask.role.clone(), ..base() },
                audit::QueryEventsRequest { filter: format!("namespace = {}", ask.namespace), ..base() },
                audit::QueryEventsRequest { text: ask.namespace.clone(), ..base() },
            ] {
                outcomes.push(told(client.query_events(request).await).map(without_numbers));
            }
            outcomes
        })
    });
    case("/legate.audit.v1.QueryService/TailEvents", |ask| {
        Box::pin(async move {
            let query = audit::QueryEventsRequest { namespace: ask.namespace.clone(), ..Default::default() };
            let request = audit::TailEventsRequest { query: Some(query), resume_token: String::new() };
            let line = Queries::new(ask.audit.clone()).tail_events(request).await;
            vec![line.map(|_| "a line".to_owned()).map_err(|status| Told::from_status(&status))]
        })
    });
    case("/legate.audit.v1.QueryService/ListUsage", |ask| {
        Box::pin(async move {
            let by_namespace = audit::ListUsageRequest { namespace: ask.namespace.clone(), ..Default::default() };
            let by_agent = audit::ListUsageRequest { agent_id: ask.agent_id.clone(), ..Default::default() };
            let mut outcomes = Vec::new();
            for request in [by_namespace, by_agent] {
                let answer = Queries::new(ask.audit.clone()).list_usage(request).await;
                outcomes.push(told(answer).map(without_numbers));
            }
            outcomes
        })
    });
    case("/legate.audit.v1.CustodyService/EraseSubject", |ask| {
        Box::pin(async move {
            let _nothing_of_it = &ask.namespace;
            let (subject, reason) = ("user:nobody@example.com".to_owned(), String::new());
            let request = audit::EraseSubjectRequest { subject, validate_only: true, reason };
            vec![told(Custody::new(ask.audit.clone()).erase_subject(request).await)]
        })
    });
    case("/legate.audit.v1.CustodyService/CreateHold", |ask| {
        Box::pin(async move {
            let hold = audit::Hold { namespace: ask.namespace.clone(), reason: "x".into(), ..Default::default() };
            let made = Custody::new(ask.audit.clone()).create_hold(audit::CreateHoldRequest { hold: Some(hold) }).await;
            vec![made.map(|_| "a hold".to_owned()).map_err(|status| Told::from_status(&status))]
        })
    });
    case("/legate.audit.v1.CustodyService/ListHolds", |ask| {
        Box::pin(async move {
            let _nothing_of_it = &ask.namespace;
            let all = Custody::new(ask.audit.clone()).list_holds(audit::ListHoldsRequest {}).await;
            vec![all.map(|_| "the holds".to_owned()).map_err(|status| Told::from_status(&status))]
        })
    });
    case("/legate.audit.v1.CustodyService/ReleaseHold", |ask| {
        Box::pin(async move {
            let _nothing_of_it = &ask.namespace;
            let request = audit::ReleaseHoldRequest { id: "hold_none".into(), reason: "x".into() };
            vec![told(Custody::new(ask.audit.clone()).release_hold(request).await)]
        })
    });
    case("/legate.audit.v1.AlertService/ListAlerts", |ask| {
        Box::pin(async move {
            let by_namespace = audit::ListAlertsRequest { namespace: ask.namespace.clone(), ..Default::default() };
            let by_agent = audit::ListAlertsRequest { agent_id: ask.agent_id.clone(), ..Default::default() };
            let mut outcomes = Vec::new();
            for request in [by_namespace, by_agent] {
                let answer = Alerts::new(ask.audit.clone()).list_alerts(request).await;
                outcomes.push(told(answer).map(without_numbers));
            }
            outcomes
        })
    });
    case("/legate.audit.v1.AlertService/ReportCompleteness", |ask| {
        Box::pin(async move {
            let request = audit::ReportCompletenessRequest { namespace: ask.namespace.clone(), ..Default::default() };
            let answer = Alerts::new(ask.audit.clone()).report_completeness(request).await;
            vec![told(answer).map(without_numbers)]
        })
    });
    // Of an alert that is not there: those that are have their own journey (services/audit-collector/tests).
    case("/legate.audit.v1.AlertService/AcknowledgeAlert", |ask| {
        Box::pin(async move {
            let request = audit::AcknowledgeAlertRequest { alert_id: no_alert(), reason: "a test".into() };
            vec![told(Alerts::new(ask.audit.clone()).acknowledge_alert(request).await)]
        })
    });
    case("/legate.audit.v1.AlertService/ResolveAlert", |ask| {
        Box::pin(async move {
            let request = audit::ResolveAlertRequest { alert_id: no_alert(), reason: "a test".into() };
            vec![told(Alerts::new(ask.audit.clone()).resolve_alert(request).await)]
        })
    });
    case("/legate.audit.v1.ProofService/GetCheckpoint", |ask| {
        Box::pin(async move {
            let _nothing_of_it = &ask.namespace;
            vec![told(Proofs::new(ask.audit.clone()).get_checkpoint(audit::GetCheckpointRequest::default()).await)]
        })
    });
    // The first leaf is of no namespace.
    case("/legate.audit.v1.ProofService/ProveInclusion", |ask| {
        Box::pin(async move {
            let request = audit::ProveInclusionRequest { leaf_index: 0, tree_size: 0, with_cose_receipt: false };
            vec![told(Proofs::new(ask.audit.clone()).prove_inclusion(request).await)]
        })
    });
    case("/legate.audit.v1.ProofService/ProveConsistency", |ask| {
        Box::pin(async move {
            let request = audit::ProveConsistencyRequest { first_size: 1, second_size: 0 };
            vec![told(Proofs::new(ask.audit.clone()).prove_consistency(request).await)]
        })
    });
    case("/legate.audit.v1.ProofService/RecordEvidence", |ask| {
        Box::pin(async move {
            let query = audit::QueryEventsRequest { namespace: ask.namespace.clone(), ..Default::default() };
            let request = audit::RecordEvidenceRequest {
                manifest_sha256: vec![7; 32],
                query: Some(query),
                events: 0,
                tree_size: 1,
                is_complete: true,
                cosigned: false,
                ..Default::default()
            };
            vec![told(Proofs::new(ask.audit.clone()).record_evidence(request).await).map(|_| "a record".to_owned())]
        })
    });
}

fn no_alert() -> String {
    format!("alert_{}", "0".repeat(32))
}

/// Nothing is told of what was asked for.
fn without_numbers(text: String) -> String {
    text.split(" indexed_through").next().unwrap_or_default().to_owned()
}
