//! Alerts and the report of completeness, in and out.

use legate_clock::Timestamp;
use legate_rpc::Fault;
use legate_wire::audit as wire;

use super::{text, window};
use crate::domain::detect::alert::Alert;
use crate::flow::{alerts, change_alert, completeness};
use crate::store::executed;

/// The longest text that people give as a reason, in bytes.
const LONGEST_REASON: usize = 1_024;

impl TryFrom<wire::ListAlertsRequest> for alerts::Ask {
    type Error = Fault;

    fn try_from(from: wire::ListAlertsRequest) -> Result<Self, Fault> {
        let unknown = |field: &'static str| move |_| Fault::invalid(field, "is not one of those there are");
        Ok(Self {
            kind: from.r#type.try_into().map_err(unknown("type"))?,
            status: from.status.try_into().map_err(unknown("status"))?,
            min_severity: from.min_severity.try_into().map_err(unknown("min_severity"))?,
            namespace: text("namespace", from.namespace)?,
            agent_id: text("agent_id", from.agent_id)?,
            alert_id: text("alert_id", from.alert_id)?,
            page_size: from.page_size,
            page_token: from.page_token,
            indexed_at_least: from.indexed_at_least,
        })
    }
}

fn reason(text: String) -> Result<String, Fault> {
    let is_plain = !text.trim().is_empty() && text.len() <= LONGEST_REASON;
    if is_plain && !text.chars().any(legate_ids::is_deceptive) {
        return Ok(text);
    }
    let why = "1 to 1,024 bytes, without control, invisible or direction-changing characters";
    Err(Fault::invalid("reason", why))
}

impl TryFrom<wire::AcknowledgeAlertRequest> for change_alert::Ask {
    type Error = Fault;

    fn try_from(from: wire::AcknowledgeAlertRequest) -> Result<Self, Fault> {
        Ok(Self { alert_id: from.alert_id, to: wire::AlertStatus::Acknowledged, reason: reason(from.reason)? })
    }
}

impl TryFrom<wire::ResolveAlertRequest> for change_alert::Ask {
    type Error = Fault;

    fn try_from(from: wire::ResolveAlertRequest) -> Result<Self, Fault> {
        Ok(Self { alert_id: from.alert_id, to: wire::AlertStatus::Resolved, reason: reason(from.reason)? })
    }
}

impl TryFrom<wire::ReportCompletenessRequest> for completeness::Ask {
    type Error = Fault;

    fn try_from(from: wire::ReportCompletenessRequest) -> Result<Self, Fault> {
        let (first, last) = window(from.from_time, from.to_time)?;
        Ok(Self {
            namespace: text("namespace", from.namespace)?,
            agent_id: text("agent_id", from.agent_id)?,
            from: first,
            to: last,
            page_size: from.page_size,
            indexed_at_least: from.indexed_at_least,
        })
    }
}

impl From<Alert> for wire::Alert {
    fn from(alert: Alert) -> Self {
        let time = |at: i64| Some(Timestamp::from_micros(at).into());
        Self {
            alert_id: alert.id,
            r#type: alert.kind.into(),
            severity: alert.severity.into(),
            status: alert.status.into(),
            namespace: alert.namespace,
            agent_id: alert.agent,
            summary: alert.summary,
            leaf_indices: alert.leaves,
            count: alert.count,
            found_leaf: alert.found,
            first_time: time(alert.first_time),
            last_time: time(alert.last_time),
            raised_leaf: alert.raised,
            changed_by: alert.by,
            change_reason: alert.why,
            change_time: alert.changed_at.and_then(time),
        }
    }
}

impl From<alerts::Page> for wire::ListAlertsResponse {
    fn from(page: alerts::Page) -> Self {
        Self {
            alerts: page.alerts.into_iter().map(Into::into).collect(),
            next_page_token: page.next,
            indexed_through: page.indexed_through,
            log_size: page.log_size,
        }
    }
}

impl From<completeness::Report> for wire::ReportCompletenessResponse {
    fn from(report: completeness::Report) -> Self {
        let edge = |[present, missing, unknown]: [u64; 3]| Some(wire::EdgeCount { present, missing, unknown });
        let [agent, credential, decision] = report.sums.edges;
        Self {
            actions: report.sums.actions,
            complete: report.sums.complete,
            incomplete: report.sums.incomplete,
            waiting: report.sums.waiting,
            agent: edge(agent),
            credential: edge(credential),
            decision: edge(decision),
            incomplete_actions: report.incomplete.into_iter().map(Into::into).collect(),
            is_cut: report.is_cut,
            emitter_alerts: report.emitters.into_iter().map(Into::into).collect(),
            evidence_from: report.evidence_from.map(Into::into),
            evidence_to: report.evidence_to.map(Into::into),
            indexed_through: report.indexed_through,
            log_size: report.log_size,
        }
    }
}

impl From<executed::Model> for wire::IncompleteAction {
    fn from(row: executed::Model) -> Self {
        let missing = row.missing().into_iter().map(str::to_owned).collect();
        Self {
            leaf_index: crate::store::event::unsigned(row.leaf),
            time: Some(Timestamp::from_micros(row.time).into()),
            namespace: row.namespace,
            agent_id: row.agent_id,
            action: row.action,
            resource_type: row.resource_type,
            resource_id: row.resource_id,
            emitter: row.emitter,
            missing,
        }
    }
}
