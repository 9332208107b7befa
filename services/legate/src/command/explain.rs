//! `legate explain`, `legate who-can`, `legate what-can`: why something is decided as it is, who may do it, and what somebody may do.

use std::time::Duration;

use legate_clock::{Clock, SystemClock};
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{
    Decision, ExplainRequest, ExplainResponse, WhatCanRequest, WhatCanResponse, WhoCanRequest, WhoCanResponse,
};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::{AsOf, GetAgentRequest};

use super::check::{object, question, resource};
use super::{Desk, agent_ref, query, search};
use crate::cli::{Explain, WhatCan, WhoCan};
use crate::output::{Ink, Row, can_row, explain_lines, holder_row};
use crate::place::Service;
use crate::{Exit, Failure, identity, proto};

/// The largest answer.
const MAX_MESSAGE: usize = 16 << 20;
/// Agents of one page.
const PAGE: u32 = 1_000;
/// How long a search or an explanation of the past may take.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn run(desk: Desk, args: Explain) -> Result<Exit, Failure> {
    let as_of = search::as_of(&args.when)?;
    let at_time = match &args.at_time {
        Some(text) => Some(query::moment("--at-time", text, SystemClock::new().now())?.into()),
        None => None,
    };
    let mut asked = args.question;
    if let (Some(_), Some(agent)) = (as_of, &asked.agent) {
        asked.agent = Some(agent_then(&desk, agent, as_of).await?);
    }
    let request = ExplainRequest { question: Some(question(&desk, &asked).await?), as_of, at_time };
    let policy = match &asked.identity {
        Some(dir) => desk.line_as(Service::Policy, identity::open(dir)?)?,
        None => desk.line(Service::Policy)?,
    };
    let answer = policy
        .ask(request, |c, r| async move {
            let mut request = tonic::Request::new(r);
            request.set_timeout(PATIENCE);
            DecisionServiceClient::new(c).max_decoding_message_size(MAX_MESSAGE).explain(request).await
        })
        .await?;
    tell(&desk, &answer)?;
    let decided = answer.answer.unwrap_or_default();
    Ok(if decided.decision() == Decision::Allow { Exit::Done } else { Exit::Denied })
}

/// The id of whoever held the name then.
async fn agent_then(desk: &Desk, agent: &str, as_of: Option<AsOf>) -> Result<String, Failure> {
    let wanted = agent_ref(agent)?;
    if as_of.is_none() || !wanted.id.is_empty() {
        return desk.agent_id(agent).await;
    }
    let request = GetAgentRequest { agent: Some(wanted), as_of };
    let registry = desk.line(Service::Registry)?;
    let found =
        registry.ask(request, |client, r| async move { AgentServiceClient::new(client).get_agent(r).await }).await?;
    Ok(found.agent.and_then(|agent| agent.metadata).map(|m| m.id).unwrap_or_default())
}

fn tell(desk: &Desk, answer: &ExplainResponse) -> Result<(), Failure> {
    let mut out = desk.out();
    if out.is_table() {
        let wide = out.format == crate::output::Format::Wide;
        explain_lines(answer, Ink::of_stdout(), wide).iter().try_for_each(|line| out.line(line))?;
        return out.flush();
    }
    let message = proto::dynamic(answer);
    let name = answer.answer.as_ref().map(|answer| answer.reason_code.clone()).unwrap_or_default();
    out.rows(&message, &[Row { cells: Vec::new(), name, message: message.clone(), node: None }], "")
}

pub(super) async fn who_can(desk: Desk, args: WhoCan) -> Result<Exit, Failure> {
    let policy = desk.line(Service::Policy)?;
    let mut request = WhoCanRequest {
        action: args.action.clone(),
        resource: Some(resource(&args.resource, args.attributes.as_deref())?),
        context: args.context.as_deref().map(|text| object("--context", text)).transpose()?,
        namespace: args.namespace.clone(),
        on_behalf_of: args.on_behalf_of.clone(),
        page_size: PAGE,
        page_token: String::new(),
        at_least_revision: args.at_least_revision,
    };
    let mut whole = WhoCanResponse::default();
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    loop {
        let page = policy
            .ask(request.clone(), |c, r| async move {
                let mut request = tonic::Request::new(r);
                request.set_timeout(PATIENCE);
                DecisionServiceClient::new(c).max_decoding_message_size(MAX_MESSAGE).who_can(request).await
            })
            .await?;
        whole.holders.extend(page.holders);
        whole.agents_decided = whole.agents_decided.saturating_add(page.agents_decided);
        (whole.revision, whole.view_age) = (page.revision, page.view_age);
        whole.revision_moved |= page.revision_moved;
        if page.next_page_token.is_empty() {
            break;
        }
        if whole.holders.len() >= limit {
            whole.next_page_token = page.next_page_token;
            break;
        }
        request.page_token = page.next_page_token;
    }
    whole.holders.truncate(limit);
    let rows: Vec<Row> = whole.holders.iter().map(holder_row).collect();
    let more = if whole.next_page_token.is_empty() { "" } else { "; there are more (--limit)" };
    let moved = if whole.revision_moved { "; the registry moved on meanwhile" } else { "" };
    let many = whole.holders.len();
    let note =
        format!("{many} agents at revision {}, of {} that could{more}{moved}", whole.revision, whole.agents_decided);
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

pub(super) async fn what_can(desk: Desk, args: WhatCan) -> Result<Exit, Failure> {
    let as_of = search::as_of(&args.when)?;
    let request = WhatCanRequest {
        agent_id: agent_then(&desk, &args.agent, as_of).await?,
        as_of,
        at_least_revision: args.at_least_revision,
        if_active: args.if_active,
        with_never: args.with_never,
        ..WhatCanRequest::default()
    };
    let answer = ask_what_can(&desk, request).await?;
    let rows: Vec<Row> = answer.entitlements.iter().map(can_row).collect();
    desk.out().rows(&proto::dynamic(&answer), &rows, &what_note(&answer))?;
    Ok(Exit::Done)
}

pub(super) async fn ask_what_can(desk: &Desk, request: WhatCanRequest) -> Result<WhatCanResponse, Failure> {
    let policy = desk.line(Service::Policy)?;
    policy
        .ask(request, |c, r| async move {
            let mut request = tonic::Request::new(r);
            request.set_timeout(PATIENCE);
            DecisionServiceClient::new(c).max_decoding_message_size(MAX_MESSAGE).what_can(request).await
        })
        .await
}

fn what_note(answer: &WhatCanResponse) -> String {
    let mut said = vec![format!("{}/{} at revision {}", answer.namespace, answer.name, answer.revision)];
    if !answer.reason_code.is_empty() {
        let then = if answer.view_age.is_some() { "it does not work now" } else { "it did not work then" };
        said.push(format!("{then}: {} ({})", answer.message, answer.reason_code));
    }
    if answer.left_out > 0 {
        said.push(format!("this is not all: {} more", answer.left_out));
    }
    said.push("what it may do for others is asked with legate explain --on-behalf-of".to_owned());
    said.join("; ")
}
