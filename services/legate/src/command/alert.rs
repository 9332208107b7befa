//! `legate alert`: what in the log does not fit together, and what became of it.

use legate_wire::audit::alert_service_client::AlertServiceClient;
use legate_wire::audit::proof_service_client::ProofServiceClient;
use legate_wire::audit::{
    AcknowledgeAlertRequest, Alert, AuditEvent, ListAlertsRequest, ListAlertsResponse, ProveInclusionRequest,
    ResolveAlertRequest,
};

use super::Desk;
use super::agent::cut;
use crate::cli::{AlertVerb, Filter};
use crate::error::USAGE;
use crate::evidence::said;
use crate::output::{Row, brief, moment};
use crate::place::{Line, Service};
use crate::{Exit, Failure, proto};

/// Alerts at a time.
const PAGE: u32 = 500;

/// Events that are shown with one alert.
const SHOWN: usize = 5;

pub(super) async fn run(desk: Desk, verb: AlertVerb) -> Result<Exit, Failure> {
    match verb {
        AlertVerb::List { namespace, agent, kind, status, severity, limit } => {
            let request = ListAlertsRequest {
                namespace: namespace.unwrap_or_default(),
                agent_id: agent_id(&desk, agent).await?,
                r#type: kind.unwrap_or_default().into(),
                status: status.map(Into::into).unwrap_or(legate_wire::audit::AlertStatus::Unspecified).into(),
                min_severity: severity.map(Into::into).unwrap_or(legate_wire::audit::AlertSeverity::Unspecified).into(),
                page_size: if limit == 0 { PAGE } else { u32::try_from(limit).unwrap_or(PAGE).min(PAGE) },
                ..ListAlertsRequest::default()
            };
            list(desk, request, limit).await
        }
        AlertVerb::Show { id } => show(desk, id).await,
        AlertVerb::Ack(said) => {
            let audit = desk.line(Service::Audit)?;
            let request = AcknowledgeAlertRequest { alert_id: said.id, reason: said.reason };
            let answer =
                audit.ask(request, |c, r| async move { AlertServiceClient::new(c).acknowledge_alert(r).await }).await?;
            tell(&desk, &answer.alert.unwrap_or_default(), Vec::new())
        }
        AlertVerb::Resolve(said) => {
            let audit = desk.line(Service::Audit)?;
            let request = ResolveAlertRequest { alert_id: said.id, reason: said.reason };
            let answer =
                audit.ask(request, |c, r| async move { AlertServiceClient::new(c).resolve_alert(r).await }).await?;
            tell(&desk, &answer.alert.unwrap_or_default(), Vec::new())
        }
        AlertVerb::Tail { namespace, agent, resume } => {
            let filter = Filter { kind: Some("alert.*".to_owned()), namespace, agent, ..Filter::default() };
            super::tail::tail(desk, filter, resume).await
        }
    }
}

async fn agent_id(desk: &Desk, agent: Option<String>) -> Result<String, Failure> {
    match agent {
        Some(agent) => desk.agent_id(&agent).await,
        None => Ok(String::new()),
    }
}

async fn page(audit: &Line, request: &ListAlertsRequest) -> Result<ListAlertsResponse, Failure> {
    audit.ask(request.clone(), |c, r| async move { AlertServiceClient::new(c).list_alerts(r).await }).await
}

async fn list(desk: Desk, mut request: ListAlertsRequest, limit: usize) -> Result<Exit, Failure> {
    let audit = desk.line(Service::Audit)?;
    let mut whole = ListAlertsResponse::default();
    loop {
        let found = page(&audit, &request).await?;
        if request.page_token.is_empty() {
            (whole.indexed_through, whole.log_size) = (found.indexed_through, found.log_size);
        }
        whole.alerts.extend(found.alerts);
        whole.next_page_token.clone_from(&found.next_page_token);
        request.page_token = found.next_page_token;
        if request.page_token.is_empty() || (limit > 0 && whole.alerts.len() >= limit) {
            break;
        }
    }
    let more = cut(&mut whole.alerts, limit) || !whole.next_page_token.is_empty();
    let rows: Vec<Row> = whole.alerts.iter().map(row).collect();
    let plural = if rows.len() == 1 { "" } else { "s" };
    let more = if more { "; there are more, see --limit" } else { "" };
    let note = format!(
        "{} alert{plural}; the index holds {} of the log's {} leaves{more}",
        rows.len(),
        whole.indexed_through,
        whole.log_size
    );
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

async fn show(desk: Desk, id: String) -> Result<Exit, Failure> {
    let audit = desk.line(Service::Audit)?;
    let found = page(&audit, &ListAlertsRequest { alert_id: id.clone(), ..ListAlertsRequest::default() }).await?;
    let Some(alert) = found.alerts.into_iter().next() else {
        return Err(Failure::local(&USAGE, format!("there is no alert {id} that you may see: see legate alert list")));
    };
    let mut events = Vec::new();
    for leaf_index in alert.leaf_indices.iter().take(SHOWN).copied() {
        let request = ProveInclusionRequest { leaf_index, ..ProveInclusionRequest::default() };
        let shown = audit.ask(request, |c, r| async move { ProofServiceClient::new(c).prove_inclusion(r).await }).await;
        // Of what it rests on some may be another namespace's.
        let text = match shown {
            Ok(proved) => line(&said(&proved.leaf, &proved.personal).unwrap_or_default()),
            Err(_) => "not shown to you".to_owned(),
        };
        events.push(("rests on", format!("leaf {leaf_index}: {text}")));
    }
    tell(&desk, &alert, events)
}

fn line(event: &AuditEvent) -> String {
    let resource = event.resource.clone().unwrap_or_default();
    let parts = [
        moment(event.time.as_ref()),
        event.r#type.clone(),
        event.agent_id.clone(),
        event.action.clone(),
        resource.r#type,
        resource.id,
        event.reason_code.clone(),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn tell(desk: &Desk, alert: &Alert, events: Vec<(&'static str, String)>) -> Result<Exit, Failure> {
    let leaves: Vec<String> = alert.leaf_indices.iter().map(u64::to_string).collect();
    let times = if alert.count == 1 { "once".to_owned() } else { format!("{} times", alert.count) };
    let mut details = vec![
        ("alert", alert.alert_id.clone()),
        ("type", proto::word(alert.r#type().as_str_name(), "ALERT_TYPE_").to_owned()),
        ("severity", proto::word(alert.severity().as_str_name(), "ALERT_SEVERITY_").to_owned()),
        ("status", proto::word(alert.status().as_str_name(), "ALERT_STATUS_").to_owned()),
        ("what", alert.summary.clone()),
        ("namespace", alert.namespace.clone()),
        ("agent", alert.agent_id.clone()),
        ("found", format!("{times}, first at leaf {}", alert.found_leaf)),
        ("first", moment(alert.first_time.as_ref())),
        ("last", moment(alert.last_time.as_ref())),
        ("leaves", leaves.join(" ")),
        ("by", alert.changed_by.clone()),
        ("because", alert.change_reason.clone()),
        ("changed", moment(alert.change_time.as_ref())),
    ];
    details.extend(events);
    let row = row(alert);
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}

/// An alert in a list.
pub(super) fn row(alert: &Alert) -> Row {
    Row {
        cells: vec![
            ("LAST", false, moment(alert.last_time.as_ref())),
            ("SEVERITY", false, proto::word(alert.severity().as_str_name(), "ALERT_SEVERITY_").to_owned()),
            ("STATUS", false, proto::word(alert.status().as_str_name(), "ALERT_STATUS_").to_owned()),
            ("TYPE", false, proto::word(alert.r#type().as_str_name(), "ALERT_TYPE_").to_owned()),
            ("AGENT", false, brief(&alert.agent_id)),
            ("COUNT", false, alert.count.to_string()),
            ("WHAT", false, brief(&alert.summary)),
            ("NAMESPACE", true, alert.namespace.clone()),
            ("LEAVES", true, alert.leaf_indices.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")),
            ("ALERT", false, alert.alert_id.clone()),
        ],
        name: alert.alert_id.clone(),
        message: proto::dynamic(alert),
        node: None,
    }
}
