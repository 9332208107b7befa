//! `legate plan --shadow`: a change that is tried on decisions as they are made.

use std::time::Duration;

use legate_wire::policy::preview_service_client::PreviewServiceClient;
use legate_wire::policy::{Decision, ShadowChangeRequest, ShadowChangeResponse, ShadowExample};
use tokio::time::{Instant, timeout_at};

use super::Desk;
use super::change::Change;
use crate::error::USAGE;
use crate::output::escape::visible;
use crate::output::{Format, Out, Row, moment};
use crate::place::Service;
use crate::{Failure, proto};

/// As long as a stream lives.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Tries the change for so long, and tells what comes of it: line by line for people, one message a line for programs.
pub(super) async fn follow(desk: &Desk, change: &Change, time: Duration) -> Result<(), Failure> {
    if time > LONGEST {
        return Err(Failure::local(&USAGE, "--shadow takes 1h at most"));
    }
    let (declarations, removals) = change.few("--shadow")?;
    let format = if desk.format == Format::Json { Format::Jsonl } else { desk.format };
    if declarations.is_empty() && removals.is_empty() {
        return say(format, "Nothing changes, so that no decision would be another.");
    }
    let request = ShadowChangeRequest { declarations, removals, at_least_revision: change.planned.revision };
    let policy = desk.line(Service::Policy)?;
    policy.show(&request);
    let until = Instant::now() + time;
    let opening = policy.open(|client| {
        let request = request.clone();
        async move { PreviewServiceClient::new(client).shadow_change(request).await }
    });
    let mut news = opening.await?.into_inner();
    let mut last = ShadowChangeResponse::default();
    // What is told behind the end of the time is of decisions that were made in it, or a moment later.
    while let Ok(message) = timeout_at(until, news.message()).await {
        match message {
            Ok(Some(told)) => {
                show(format, &told)?;
                last = told;
            }
            Ok(None) => break,
            Err(status) => return Err(policy.failure(&status)),
        }
    }
    say(format, &sum(&last))
}

fn say(format: Format, text: &str) -> Result<(), Failure> {
    let mut out = Out::stdout(format);
    if out.is_table() {
        out.line(text)?;
    }
    out.flush()
}

fn show(format: Format, told: &ShadowChangeResponse) -> Result<(), Failure> {
    let mut out = Out::stdout(format);
    if out.is_table() {
        told.unfit.iter().try_for_each(|one| out.line(&visible(one)))?;
        told.examples.iter().try_for_each(|one| out.line(&visible(&example(one))))?;
    } else {
        let name = format!("would_allow={} would_deny={}", told.would_allow, told.would_deny);
        out.items(&[Row { cells: Vec::new(), name, message: proto::dynamic(told), node: None }])?;
    }
    out.flush()
}

fn sum(last: &ShadowChangeResponse) -> String {
    let ShadowChangeResponse { decisions, would_allow, would_deny, left_out, .. } = last;
    let mut text = format!(
        "Tried on {decisions} decisions since {}: {would_deny} that were allowed would be denied, and {would_allow} that were denied would be allowed.",
        moment(last.since.as_ref())
    );
    if *left_out > 0 {
        text += &format!(" {left_out} more were made than there was time for.");
    }
    text + " By one policy-decision alone; others try their own decisions."
}

/// A decision that would be another, in a line.
pub(super) fn example(one: &ShadowExample) -> String {
    let would = if one.would() == Decision::Allow { "would allow" } else { "would deny" };
    let ShadowExample { decision_id, agent_id, action, resource_type, resource_id, .. } = one;
    format!("  {would} {agent_id} {action} {resource_type}:{resource_id} {} {decision_id}", moment(one.time.as_ref()))
}
