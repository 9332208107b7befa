//! Chapter: what happened is in the log, and nobody can change it unseen.

use std::path::{Path, PathBuf};
use std::time::Instant;

use legate_clock::{Clock, SystemClock};
use legate_merkle::VerifierKey;
use legate_wire::audit::proof_service_client::ProofServiceClient;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{GetCheckpointRequest, IndexedEvent, QueryEventsRequest};
use legate_wire::registry::Agent;

use super::narrate::{Broken, timed};
use super::{PATIENCE, Stage, broken, refusal};
use crate::command::verify_directory;
use crate::output::{escape::visible, event_row};

/// What has to be in the log: an event of this type, from this service.
const WANTED: [(&str, &str); 6] = [
    ("agent.created", "registry"),
    ("agent.suspended", "registry"),
    ("agent.resumed", "registry"),
    ("credential.issued", "credential-issuer"),
    ("token.issued", "credential-issuer"),
    ("decision.made", "policy-decision"),
];
/// Events in one page.
const PAGE: u32 = 1_000;
/// Until the next question.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(100);

/// Keeps a copy of the log as it is now: what somebody could put back later.
pub(super) fn keep_earlier(stage: &Stage) -> Result<(), Broken> {
    copy_log(&stage.suite.layout().log(), &earlier(stage))
}

fn earlier(stage: &Stage) -> PathBuf {
    stage.suite.layout().root().join("demo/log-before")
}

/// `last` is the newest decision: once it is in the index, so is what came before it.
pub(super) async fn tell(stage: &mut Stage, agent: &Agent, last: &str) -> Result<(), Broken> {
    stage.tell.chapter("Everything above is in the log: legate audit query, legate verify");
    let id = agent.metadata.clone().unwrap_or_default().id;
    let started = Instant::now();
    let events = story(stage, &id, last).await?;
    let missing: Vec<&str> = WANTED.iter().filter(|w| !has(&events, w)).map(|w| w.0).collect();
    let told = if missing.is_empty() {
        format!("{} events about the agent, told by three services", events.len())
    } else {
        format!("missing: {}", missing.join(", "))
    };
    stage.tell.check(
        missing.is_empty(),
        "who did what, when, on whose authority, and how it ended",
        &told,
        started.elapsed(),
    );
    stage.tell.show(&lines(&events));
    let trace = legate_rpc::TraceContext::current().trace_id;
    // Calls that are refused at the door are counted together, of whatever trace they are.
    let own: Vec<_> = events.iter().filter_map(|e| e.event.as_ref()).filter(|e| e.r#type != "access.refused").collect();
    let of_trace = own.iter().filter(|e| e.trace_id == trace).count();
    let told = format!("{of_trace} of {} carry the trace {trace}", own.len());
    stage.tell.check(of_trace == own.len(), "each event names its trace", &told, std::time::Duration::ZERO);

    let mut proofs = ProofServiceClient::new(stage.audit.clone());
    let (kept, took) = timed(proofs.get_checkpoint(GetCheckpointRequest::default())).await;
    let kept = kept.map_err(|s| broken(refusal(&s)))?.into_inner();
    stage.tell.step("an auditor keeps the signed checkpoint", &format!("{} entries", kept.tree_size), took);
    Box::pin(attack(stage, &events, kept.checkpoint.as_bytes())).await
}

/// Verifies the log, then a copy with one byte changed, then a copy that was set back.
async fn attack(stage: &mut Stage, events: &[IndexedEvent], kept: &[u8]) -> Result<(), Broken> {
    let log = stage.suite.layout().log();
    let key = std::fs::read_to_string(stage.suite.layout().log_key()).map_err(broken)?;
    let key = VerifierKey::parse(key.trim()).map_err(broken)?;

    let clock = SystemClock::new();
    let whole = verify_directory(&log, &key, Some(kept));
    let (held, told) = match &whole {
        Ok(v) => (true, format!("all {} entries hold, root {}", v.size, v.root)),
        Err(found) => (false, found.what.clone()),
    };
    stage.tell.check(held, "verify the whole log offline, by nothing but its public key", &told, clock.monotonic());
    if let Ok(v) = whole {
        stage.tell.reasons(&v.story.lines());
    }

    let suspended = events.iter().find(|e| e.event.as_ref().is_some_and(|e| e.r#type == "agent.suspended"));
    let leaf = suspended.map(|e| e.leaf_index).ok_or_else(|| broken("the suspension is not in the log"))?;
    let edited = stage.suite.layout().root().join("demo/log-edited");
    copy_log(&log, &edited)?;
    edit(&edited, b"odd reads", b"odd roads")?;
    let clock = SystemClock::new();
    let found = verify_directory(&edited, &key, Some(kept));
    let (held, told) = match &found {
        Ok(_) => (false, "nobody noticed".to_owned()),
        Err(found) => (found.entry == Some(leaf), found.what.clone()),
    };
    stage.tell.check(held, "change one byte of a copy: the reason of the suspension", &told, clock.monotonic());

    let clock = SystemClock::new();
    let alone = verify_directory(&earlier(stage), &key, None);
    let (held, told) = match &alone {
        Ok(v) => (true, format!("{} entries, rightly signed; by itself it holds, of course", v.size)),
        Err(found) => (false, found.what.clone()),
    };
    stage.tell.check(held, "cut the tail: put back a copy from before the suspension", &told, clock.monotonic());
    let clock = SystemClock::new();
    let against = verify_directory(&earlier(stage), &key, Some(kept));
    let (held, told) = match &against {
        Ok(_) => (false, "nobody noticed".to_owned()),
        Err(found) => (found.what.contains("its tail was cut"), found.what.clone()),
    };
    stage.tell.check(held, "the same against the checkpoint that the auditor kept", &told, clock.monotonic());
    Ok(())
}

/// Asks until everything that is wanted is there, or patience ends; gives what is there, oldest first.
async fn story(stage: &Stage, agent_id: &str, last: &str) -> Result<Vec<IndexedEvent>, Broken> {
    let since = Instant::now();
    let of_agent = QueryEventsRequest { agent_id: agent_id.to_owned(), ..QueryEventsRequest::default() };
    let newest = QueryEventsRequest { decision_id: last.to_owned(), ..QueryEventsRequest::default() };
    loop {
        // The services ship their events in their own time; each holds them on disk until they are acknowledged.
        let arrived = !all(stage, newest.clone()).await?.is_empty();
        let mut events = all(stage, of_agent.clone()).await?;
        events.reverse();
        let complete = arrived && WANTED.iter().all(|w| has(&events, w));
        if complete || since.elapsed() > PATIENCE {
            return Ok(events);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Every page of an answer, newest first.
async fn all(stage: &Stage, mut request: QueryEventsRequest) -> Result<Vec<IndexedEvent>, Broken> {
    let mut service = QueryServiceClient::new(stage.audit.clone());
    request.page_size = PAGE;
    let mut events = Vec::new();
    loop {
        let page = service.query_events(request.clone()).await.map_err(|s| broken(refusal(&s)))?.into_inner();
        events.extend(page.events);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(events);
        }
    }
}

fn has(events: &[IndexedEvent], wanted: &(&str, &str)) -> bool {
    events.iter().filter_map(|e| e.event.as_ref()).any(|e| {
        let teller = e.emitter.as_ref().map(|m| m.spiffe_id.as_str()).unwrap_or_default();
        e.r#type == wanted.0 && teller.ends_with(wanted.1)
    })
}

/// One line for each event; what repeats is told once.
fn lines(events: &[IndexedEvent]) -> Vec<String> {
    let mut out: Vec<(String, String, u32)> = Vec::new();
    for indexed in events {
        let row = event_row(indexed);
        let cell = |head: &str| row.cells.iter().find(|c| c.0 == head).map(|c| c.2.clone()).unwrap_or_default();
        let time = cell("TIME");
        let time = time.get(11..19).unwrap_or_default();
        let text =
            format!("{:<19}{:<19}{:<34}{}", cell("EVENT"), who(&cell("WHO")), cell("WHAT"), outcome(&cell("OUTCOME")));
        match out.last_mut() {
            Some(last) if last.1 == text => last.2 += 1,
            _ => out.push((format!("{:>4}  {time}  ", indexed.leaf_index), text, 1)),
        }
    }
    let head = format!("leaf  time      {:<19}{:<19}{:<34}{}", "event", "who", "what", "outcome");
    let line = |(place, text, times): (String, String, u32)| {
        let times = if times > 1 { format!(" x{times}") } else { String::new() };
        visible(format!("{place}{text}{times}").trim_end()).into_owned()
    };
    std::iter::once(head).chain(out.into_iter().map(line)).collect()
}

/// Whoever acts in this story, by a name that is short enough.
fn who(id: &str) -> String {
    match id {
        "" => "nobody known".into(),
        id if id.contains("/agent/") => "agent invoice-bot".into(),
        id if id.contains("/enforcer/") => "backend invoices".into(),
        id => id.replace('/', " "),
    }
}

/// `ALLOWED` says that it is a success.
fn outcome(text: &str) -> &str {
    text.strip_prefix("SUCCESS ").unwrap_or(text)
}

/// Copies what a log publishes. The checkpoint first: the log goes on growing, and tiles only ever become more.
fn copy_log(from: &Path, to: &Path) -> Result<(), Broken> {
    std::fs::create_dir_all(to).map_err(broken)?;
    std::fs::copy(from.join("checkpoint"), to.join("checkpoint")).map_err(broken)?;
    copy(&from.join("tile"), &to.join("tile"))
}

/// Copies a directory and everything in it.
fn copy(from: &Path, to: &Path) -> Result<(), Broken> {
    std::fs::create_dir_all(to).map_err(broken)?;
    for entry in std::fs::read_dir(from).map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => copy(&path, &target)?,
            false => match std::fs::copy(&path, &target) {
                // A partial tile may be replaced by the full one at any moment.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                done => drop(done.map_err(broken)?),
            },
        }
    }
    Ok(())
}

/// Changes a text in every bundle of a log.
fn edit(log: &Path, from: &[u8], to: &[u8]) -> Result<(), Broken> {
    fn within(dir: &Path, from: &[u8], to: &[u8]) -> std::io::Result<u32> {
        let mut changed = 0;
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                changed += within(&path, from, to)?;
                continue;
            }
            let mut bytes = std::fs::read(&path)?;
            while let Some(at) = bytes.windows(from.len()).position(|w| w == from) {
                bytes[at..at + to.len()].copy_from_slice(to);
                changed += 1;
            }
            std::fs::write(&path, bytes)?;
        }
        Ok(changed)
    }
    match within(&log.join("tile/entries"), from, to) {
        Ok(0) => Err(broken("the text to be changed is in no entry")),
        Ok(_) => Ok(()),
        Err(e) => Err(broken(e)),
    }
}
