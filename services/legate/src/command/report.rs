//! `legate audit report`: whether every executed action has the agent, the credential and the decision that it needs.

use legate_clock::{Clock as _, SystemClock};
use legate_wire::audit::alert_service_client::AlertServiceClient;
use legate_wire::audit::{EdgeCount, IncompleteAction, ReportCompletenessRequest, ReportCompletenessResponse};

use super::Desk;
use super::query::moment as parse;
use crate::output::{Row, brief, moment};
use crate::place::Service;
use crate::{Exit, Failure, cli, proto};

pub(super) async fn report(desk: Desk, ask: cli::Report) -> Result<Exit, Failure> {
    let agent_id = match &ask.agent {
        Some(agent) => desk.agent_id(agent).await?,
        None => String::new(),
    };
    let now = SystemClock::new().now();
    let at = |flag: &str, text: &Option<String>| text.as_ref().map(|text| parse(flag, text, now)).transpose();
    let request = ReportCompletenessRequest {
        agent_id,
        from_time: at("--since", &ask.since)?.map(Into::into),
        to_time: at("--until", &ask.until)?.map(Into::into),
        namespace: ask.namespace.unwrap_or_default(),
        page_size: ask.limit,
        indexed_at_least: 0,
    };
    let audit = desk.line(Service::Audit)?;
    let told =
        audit.ask(request, |c, r| async move { AlertServiceClient::new(c).report_completeness(r).await }).await?;
    let mut out = desk.out();
    if out.is_table() {
        for line in lines(&told) {
            out.line(&line)?;
        }
    }
    let rows: Vec<Row> = told.incomplete_actions.iter().map(row).collect();
    let more = if told.is_cut { "; there are more, see --limit" } else { "" };
    let note = format!(
        "{} incomplete; the index holds {} of the log's {} leaves{more}",
        told.incomplete, told.indexed_through, told.log_size
    );
    out.rows(&proto::dynamic(&told), &rows, &note)?;
    Ok(Exit::Done)
}

fn lines(told: &ReportCompletenessResponse) -> Vec<String> {
    let edge = |name: &str, edge: Option<EdgeCount>| {
        let EdgeCount { present, missing, unknown } = edge.unwrap_or_default();
        format!("  {name:10}  {present} present, {missing} missing, {unknown} that cannot be judged")
    };
    let mut lines = vec![
        format!(
            "{} executed actions: {} complete, {} incomplete, {} not judged yet",
            told.actions, told.complete, told.incomplete, told.waiting
        ),
        edge("agent", told.agent),
        edge("credential", told.credential),
        edge("decision", told.decision),
        format!(
            "  evidence    from {} to {} by the log's own time",
            moment(told.evidence_from.as_ref()),
            moment(told.evidence_to.as_ref())
        ),
    ];
    let visible = |text: &str| crate::output::escape::visible(text).into_owned();
    lines.extend(told.emitter_alerts.iter().map(|alert| format!("  emitters    {}", visible(&alert.summary))));
    lines.push(String::new());
    lines
}

fn row(action: &IncompleteAction) -> Row {
    Row {
        cells: vec![
            ("LEAF", false, action.leaf_index.to_string()),
            ("TIME", false, moment(action.time.as_ref())),
            ("MISSING", false, action.missing.join(" ")),
            ("AGENT", false, brief(&action.agent_id)),
            ("ACTION", false, action.action.clone()),
            ("RESOURCE", false, format!("{}:{}", action.resource_type, action.resource_id)),
            ("NAMESPACE", true, action.namespace.clone()),
            ("TOLD BY", true, action.emitter.clone()),
        ],
        name: action.leaf_index.to_string(),
        message: proto::dynamic(action),
        node: None,
    }
}
