//! `legate agent usage`: what an agent used, as the registry heard it of the audit log, and how far that reaches.

use std::time::Duration;

use legate_clock::{Clock as _, SystemClock, Timestamp};
use legate_wire::registry::usage_service_client::UsageServiceClient;
use legate_wire::registry::{ListAgentUsageRequest, ListAgentUsageResponse, PermissionUsage, UsageWindow};

use super::Desk;
use crate::error::USAGE;
use crate::output::{Row, moment, say};
use crate::place::Service;
use crate::{Exit, Failure, proto};

/// A thousand agents with all that they used.
const MAX_MESSAGE: usize = 64 << 20;

pub(super) async fn run(desk: Desk, agent: &str, by_resource: bool) -> Result<Exit, Failure> {
    let id = desk.agent_id(agent).await?;
    let answer = ask(&desk, vec![id], by_resource).await?;
    let Some(of) = answer.agents.first() else {
        return Err(Failure::local(&USAGE, format!("there is no agent {agent}")));
    };
    let rows: Vec<Row> = of.permissions.iter().map(row).collect();
    let last = match moment(of.last_used_time.as_ref()) {
        none if none.is_empty() => "it used and obtained nothing".to_owned(),
        last => format!("it last used or obtained something {last}"),
    };
    let note = format!("{last}; denied {} times; {}", of.denied, evidence(answer.window.as_ref()));
    desk.out().rows(&proto::dynamic(&answer), &rows, &note)?;
    Ok(Exit::Done)
}

pub(super) async fn ask(
    desk: &Desk,
    agent_ids: Vec<String>,
    by_resource: bool,
) -> Result<ListAgentUsageResponse, Failure> {
    let request = ListAgentUsageRequest { agent_ids, grant_ids: Vec::new(), by_resource };
    let registry = desk.line(Service::Registry)?;
    registry
        .ask(request, |c, r| async move {
            UsageServiceClient::new(c).max_decoding_message_size(MAX_MESSAGE).list_agent_usage(r).await
        })
        .await
}

/// From when to when the log was heard, in words.
pub(super) fn evidence(window: Option<&UsageWindow>) -> String {
    let Some((window, from, to)) = window.and_then(|w| Some((w, w.from_time?, w.to_time?))) else {
        return "the audit log was not heard yet, so nothing can be said to be unused".to_owned();
    };
    let gaps: Vec<String> = window
        .gaps
        .iter()
        .map(|gap| format!("{} to {} ({})", moment(gap.from_time.as_ref()), moment(gap.to_time.as_ref()), gap.cause))
        .collect();
    let gaps = if gaps.is_empty() { "no gaps are known".to_owned() } else { format!("gaps: {}", gaps.join(", ")) };
    format!("evidence from {} to {}, {gaps}", moment(Some(&from)), moment(Some(&to)))
}

/// Says on standard error where the evidence does not reach as far back as agents are asked to have been silent: of whom nothing
/// was heard that may be all there is.
pub(super) async fn warn_of_silence(desk: &Desk, silent: Duration) -> Result<(), Failure> {
    let window = ask(desk, Vec::new(), false).await?.window.unwrap_or_default();
    let since = SystemClock::new().now().minus(silent);
    let from = window.from_time.filter(|_| window.to_time.is_some()).and_then(|at| Timestamp::try_from(at).ok());
    if from.is_none_or(|from| from > since) {
        say(&format!("warning: the record of use does not reach back to {since}: {}", evidence(Some(&window))));
    }
    Ok(())
}

fn row(of: &PermissionUsage) -> Row {
    let way = proto::word(of.way().as_str_name(), "PERMISSION_USAGE_WAY_");
    let resource = match of.resource_id.as_str() {
        "" => of.resource_type.clone(),
        id => format!("{}:{id}", of.resource_type),
    };
    let name = format!("{} on {resource}", of.action);
    Row {
        cells: vec![
            ("COUNT", false, of.count.to_string()),
            ("ACTION", false, of.action.clone()),
            (if of.resource_id.is_empty() { "RESOURCE TYPE" } else { "RESOURCE" }, false, resource),
            ("WAY", false, way.to_owned()),
            ("LAST", false, moment(of.last_time.as_ref())),
            ("FIRST", true, moment(of.first_time.as_ref())),
            ("DAYS", true, of.days.to_string()),
            ("LONGEST INTERVAL", true, format!("{}d", of.longest_interval_days)),
        ],
        name,
        message: proto::dynamic(of),
        node: None,
    }
}
