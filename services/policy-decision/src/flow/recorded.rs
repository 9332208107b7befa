//! Recorded decisions as they are judged once more, and the pages of the audit log on which they stand.

use legate_rpc::Fault;
use legate_wire::audit::{AuditEvent, QueryEventsRequest, QueryEventsResponse};
use tokio::time::Instant;

use super::asking::AGAIN;
use super::evaluate::Desk;
use crate::domain::replayed::Recorded;
use crate::error::RECORDS_UNAVAILABLE;

/// One page of the log.
///
/// # Errors
/// When audit-collector does not answer by `until`, or refuses.
pub(super) async fn page(desk: &Desk, ask: QueryEventsRequest, until: Instant) -> Result<QueryEventsResponse, Fault> {
    let late = || Fault::unavailable(&RECORDS_UNAVAILABLE, "audit-collector did not answer in time", AGAIN);
    let page = tokio::time::timeout_at(until, desk.records.page(ask)).await.map_err(|_| late())?;
    page.map_err(|status| {
        let text = format!("audit-collector did not tell what was decided: {}", status.message());
        Fault::unavailable(&RECORDS_UNAVAILABLE, text, AGAIN)
    })
}

/// `example.org` of a SPIFFE ID.
pub(super) fn trust_domain(spiffe_id: &str) -> String {
    spiffe_id.trim_start_matches("spiffe://").split('/').next().unwrap_or_default().to_owned()
}

/// A record as it is judged; `None`: it is of a form that is not known here.
pub(super) fn read(event: &AuditEvent, domain: &str) -> Option<Recorded> {
    let (decision, resource) = (event.decision.as_ref()?, event.resource.as_ref()?);
    let subject = if event.subject.starts_with("agt_") {
        format!("spiffe://{domain}/ns/{}/agent/{}", event.namespace, event.subject)
    } else {
        event.subject.clone()
    };
    let words = |detail| -> Vec<String> {
        let told = event.details.get(detail).map(String::as_str).unwrap_or_default();
        told.split_whitespace().map(str::to_owned).collect()
    };
    Some(Recorded {
        agent: event.agent_id.clone(),
        action: event.action.clone(),
        kind: resource.r#type.clone(),
        id: resource.id.clone(),
        region: resource.region.clone(),
        data: resource.data_classification.clone(),
        subject,
        chain: event.chain.clone(),
        grants: words("grants"),
        groups: words("subject_groups"),
        allowed: decision.allowed,
        word: event.reason_code.clone(),
        denial: decision.denial.clone(),
    })
}
