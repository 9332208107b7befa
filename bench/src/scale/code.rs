//! Agents as code at this size: a plan of every agent of which few differ, one of many that are new, and both written at one revision.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use legate::dev::Suite;
use legate_wire::policy;
use legate_wire::registry as wire;
use policy::preview_service_client::PreviewServiceClient;
use wire::bulk_apply_request::Part;
use wire::bulk_service_client::BulkServiceClient;
use wire::declaration::Object;

use super::{IN_MESSAGE, declared};
use crate::Failed;

/// Agents that differ from what is declared.
const CHANGED: usize = 500;
/// Agents that come anew, at once.
const NEW: u32 = 20_000;

/// Measures it, and prints.
pub(super) async fn measure(suite: &Suite, agents: u32) -> Result<(), Failed> {
    let mut all = declared::base();
    all.extend((0..agents).map(declared::agent));
    let mut changed = Vec::new();
    for object in all.iter_mut().rev().take(CHANGED) {
        if let Object::Agent(agent) = object {
            agent.spec.get_or_insert_default().version = "1.2.4".into();
        }
        changed.push(object.clone());
    }
    let new: Vec<Object> = (agents..agents + NEW).map(declared::agent).collect();
    let (count, differ) = (all.len(), changed.len());
    line(&format!("a plan of {count} manifests, of which {differ} differ"), &said(suite, true, all).await?);
    preview(suite, &changed).await?;
    line(&format!("{differ} of them written"), &said(suite, false, changed).await?);
    line(&format!("a plan of {NEW} agents that are new"), &said(suite, true, new.clone()).await?);
    preview(suite, &new).await?;
    line(&format!("{NEW} of them written, at one revision"), &said(suite, false, new).await?);
    Ok(())
}

/// How long it took, and what became of the items.
struct Said {
    took: Duration,
    of: BTreeMap<&'static str, usize>,
}

fn line(what: &str, said: &Said) {
    let of: Vec<String> = said.of.iter().map(|(word, count)| format!("{count} {word}")).collect();
    println!("  {what:<58} {:>9.2} s   {}", said.took.as_secs_f64(), of.join(", "));
}

async fn said(suite: &Suite, plan_only: bool, objects: Vec<Object>) -> Result<Said, Failed> {
    let start = wire::BulkStart {
        mode: wire::BulkMode::AllOrNothing.into(),
        reason: "measured".into(),
        plan_only,
        ..wire::BulkStart::default()
    };
    let end = wire::BulkEnd { items: objects.len() as u64 };
    let pieces: Vec<_> = objects.chunks(IN_MESSAGE as usize).map(|some| declared::items(some.to_vec())).collect();
    drop(objects);
    let parts = std::iter::once(Part::Start(start)).chain(pieces.into_iter().map(Part::Items));
    let parts = parts.chain(std::iter::once(Part::End(end)));
    let asks = tokio_stream::iter(parts.map(|part| wire::BulkApplyRequest { part: Some(part) }));
    let client = BulkServiceClient::new(suite.dial("registry")?);
    let began = Instant::now();
    let mut answers = client.max_decoding_message_size(64 << 20).bulk_apply(asks).await?.into_inner();
    let mut of = BTreeMap::new();
    while let Some(answer) = answers.message().await? {
        for outcome in answer.outcomes {
            *of.entry(outcome.action().as_str_name().trim_start_matches("BULK_ACTION_")).or_default() += 1;
        }
    }
    Ok(Said { took: began.elapsed(), of })
}

async fn preview(suite: &Suite, objects: &[Object]) -> Result<(), Failed> {
    let declaration = |object: &Object| wire::Declaration { object: Some(object.clone()) };
    let ask = policy::PreviewChangeRequest {
        declarations: objects.iter().map(declaration).collect(),
        ..policy::PreviewChangeRequest::default()
    };
    let mut request = tonic::Request::new(ask);
    request.set_timeout(Duration::from_secs(55));
    let began = Instant::now();
    let client = PreviewServiceClient::new(suite.dial("policy-decision")?);
    let answer = client.max_decoding_message_size(20 << 20).preview_change(request).await?.into_inner();
    println!(
        "  {:<58} {:>9.2} s   {} agents compared, {} not, {} details left out",
        format!("PreviewChange of {} objects", objects.len()),
        began.elapsed().as_secs_f64(),
        answer.agents_compared,
        answer.agents_not_compared,
        answer.left_out
    );
    Ok(())
}
