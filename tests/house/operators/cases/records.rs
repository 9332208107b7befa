//! The methods of audit-collector that an operator may call.

use legate_rpc::Told;
use legate_wire::audit;

use super::{Case, told};

type Queries = audit::query_service_client::QueryServiceClient<legate_rpc::Client>;
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
    case("/legate.audit.v1.ProofService/GetCheckpoint", |ask| {
        Box::pin(async move {
            let _nothing_of_it = &ask.namespace;
            vec![told(Proofs::new(ask.audit.clone()).get_checkpoint(audit::GetCheckpointRequest {}).await)]
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
            };
            vec![told(Proofs::new(ask.audit.clone()).record_evidence(request).await).map(|_| "a record".to_owned())]
        })
    });
}

/// Nothing is told of what was asked for.
fn without_numbers(text: String) -> String {
    text.split(" indexed_through").next().unwrap_or_default().to_owned()
}
