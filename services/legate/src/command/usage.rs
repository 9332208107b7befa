//! `legate audit usage`: how often what was decided.

use legate_clock::{Clock as _, SystemClock, Timestamp};
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{ListUsageRequest, Outcome, Usage, UsageField, UsagePeriod};

use super::Desk;
use super::query::{ended, moment};
use crate::cli::{Per, UsedBy};
use crate::output::Row;
use crate::place::Service;
use crate::{Exit, Failure, cli, proto};

pub(super) async fn usage(desk: Desk, ask: cli::Usage) -> Result<Exit, Failure> {
    let agent_id = match &ask.agent {
        Some(agent) => desk.agent_id(agent).await?,
        None => String::new(),
    };
    let now = SystemClock::new().now();
    let at = |flag: &str, text: &Option<String>| text.as_ref().map(|text| moment(flag, text, now)).transpose();
    let field = |by: &UsedBy| match by {
        UsedBy::Agent => UsageField::Agent.into(),
        UsedBy::Action => UsageField::Action.into(),
        UsedBy::ResourceType => UsageField::ResourceType.into(),
        UsedBy::Outcome => UsageField::Outcome.into(),
        UsedBy::Subject => UsageField::Subject.into(),
        UsedBy::Namespace => UsageField::Namespace.into(),
    };
    let request = ListUsageRequest {
        agent_id,
        include_descendants: ask.with_descendants,
        from_time: at("--since", &ask.since)?.map(Into::into),
        to_time: at("--until", &ask.until)?.map(Into::into),
        namespace: ask.namespace.unwrap_or_default(),
        subject: ask.on_behalf_of.unwrap_or_default(),
        action: ask.action.unwrap_or_default(),
        resource_type: ask.resource_type.unwrap_or_default(),
        outcome: ended(ask.outcome).into(),
        period: match ask.per {
            Per::Total => UsagePeriod::Total,
            Per::Day => UsagePeriod::Day,
            Per::Hour => UsagePeriod::Hour,
        }
        .into(),
        group_by: ask.by.iter().map(field).collect(),
        page_size: ask.limit,
        indexed_at_least: 0,
    };
    let audit = desk.line(Service::Audit)?;
    let told = audit.ask(request, |c, r| async move { QueryServiceClient::new(c).list_usage(r).await }).await?;
    let rows: Vec<Row> = told.usage.iter().map(row).collect();
    let plural = if rows.len() == 1 { "" } else { "s" };
    let more = if told.is_cut { "; there are more, see --limit and --by" } else { "" };
    let note = format!(
        "{} row{plural}; the index holds {} of the log's {} leaves{more}",
        rows.len(),
        told.indexed_through,
        told.log_size
    );
    desk.out().rows(&proto::dynamic(&told), &rows, &note)?;
    Ok(Exit::Done)
}

fn row(usage: &Usage) -> Row {
    let time = |at: Option<prost_types::Timestamp>| {
        at.and_then(|at| Timestamp::try_from(at).ok()).map(|at| at.to_string()).unwrap_or_default()
    };
    let outcome = match usage.outcome() {
        Outcome::Unspecified => "",
        Outcome::Success => "ALLOWED",
        Outcome::Denied => "DENIED",
        Outcome::Failure => "FAILED",
    };
    Row {
        cells: vec![
            ("COUNT", false, usage.count.to_string()),
            ("FROM", false, time(usage.start_time)),
            ("AGENT", false, usage.agent_id.clone()),
            ("NAMESPACE", false, usage.namespace.clone()),
            ("ACTION", false, usage.action.clone()),
            ("RESOURCE TYPE", false, usage.resource_type.clone()),
            ("OUTCOME", false, outcome.to_owned()),
            ("ON BEHALF OF", false, usage.subject.clone()),
            ("FIRST", true, time(usage.first_time)),
            ("LAST", false, time(usage.last_time)),
        ],
        name: usage.agent_id.clone(),
        message: proto::dynamic(usage),
        node: None,
    }
}
