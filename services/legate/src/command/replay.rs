//! `legate audit replay`: whether recorded decisions are what the registry's history makes of them.

use std::time::Duration;

use legate_clock::{Clock as _, SystemClock};
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{ReplayRequest, ReplayResponse};

use super::Desk;
use super::query::moment;
use crate::error::USAGE;
use crate::output::{Format, replay_lines};
use crate::place::Service;
use crate::{Exit, Failure, proto};

/// The longest that one page takes: up to 200 revisions of the registry are read for it.
const PATIENCE: Duration = Duration::from_secs(55);
/// What differs is shown so often; it is counted in any case.
const SHOWN: usize = 1_000;

pub(super) async fn replay(
    desk: Desk,
    namespace: Option<String>,
    agent: Option<String>,
    since: &str,
    until: Option<&str>,
) -> Result<Exit, Failure> {
    let now = SystemClock::new().now();
    let of_agent = agent.as_deref().and_then(|agent| agent.split_once('/')).map(|(namespace, _)| namespace.to_owned());
    let namespace = namespace.or(of_agent).ok_or_else(|| {
        Failure::local(
            &USAGE,
            "of an agent that is named by its id the namespace has to be said: --namespace is missing",
        )
    })?;
    let agent_id = match &agent {
        Some(agent) => desk.agent_id(agent).await?,
        None => String::new(),
    };
    let mut request = ReplayRequest {
        namespace,
        agent_id,
        from_time: Some(moment("--since", since, now)?.into()),
        to_time: Some(until.map(|text| moment("--until", text, now)).transpose()?.unwrap_or(now).into()),
        page_token: String::new(),
    };
    let policy = desk.line(Service::Policy)?;
    let mut whole = ReplayResponse::default();
    loop {
        let page = policy
            .ask(request.clone(), |c, r| async move {
                let mut request = tonic::Request::new(r);
                request.set_timeout(PATIENCE);
                DecisionServiceClient::new(c).max_decoding_message_size(16 << 20).replay(request).await
            })
            .await?;
        request.page_token.clone_from(&page.next_page_token);
        add(&mut whole, page);
        if request.page_token.is_empty() {
            break;
        }
    }
    let mut out = desk.out();
    match out.format {
        Format::Json | Format::Jsonl => out.json(&proto::dynamic(&whole), desk.format == Format::Json)?,
        _ => replay_lines(&whole).iter().try_for_each(|line| out.line(line))?,
    }
    out.flush()?;
    Ok(if whole.differ > 0 { Exit::Unverified } else { Exit::Done })
}

fn add(whole: &mut ReplayResponse, page: ReplayResponse) {
    whole.decisions += page.decisions;
    whole.same += page.same;
    whole.differ += page.differ;
    whole.unsure += page.unsure;
    whole.not_judged += page.not_judged;
    whole.not_kept += page.not_kept;
    whole.revisions += page.revisions;
    let room = SHOWN.saturating_sub(whole.differing.len());
    whole.differing.extend(page.differing.into_iter().take(room));
    for one in page.unsure_on {
        if !whole.unsure_on.contains(&one) && whole.unsure_on.len() < SHOWN {
            whole.unsure_on.push(one);
        }
    }
}
