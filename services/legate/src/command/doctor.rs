//! `legate doctor`: looks at what Legate needs, and says what is not as it should be.

use std::path::Path;

use http_body_util::{BodyExt as _, Limited};
use legate_clock::{Clock, SystemClock};
use legate_mtls::Identity;
use legate_rpc::OPERATOR_NOT_PERMITTED;
use legate_wire::audit::GetCheckpointRequest;
use legate_wire::audit::proof_service_client::ProofServiceClient;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::history_service_client::HistoryServiceClient;
use legate_wire::registry::{GetHistoryHorizonRequest, ListAgentsRequest};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt as _;

use super::Desk;
use crate::error::{DOCTOR_FOUND, FILE_REFUSED};
use crate::output::escape::{visible, visible_json};
use crate::output::{moment, span};
use crate::place::Service;
use crate::{Exit, Failure};

/// A certificate that ends sooner is worth a word.
const SOON: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);

/// What is asked over HTTPS may take so long.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// The most bytes of what AuthZEN says of itself.
const MOST: usize = 64 << 10;

/// One thing that was looked at.
struct Line {
    ok: bool,
    what: String,
    found: String,
    exit: Exit,
}

pub(super) async fn run(desk: Desk) -> Result<Exit, Failure> {
    let mut lines = Vec::new();
    let us = desk.place.operator();
    lines.push(line("your certificate and key", us.as_ref().map_err(Clone::clone).and_then(who)));
    if let Ok(us) = us {
        lines.push(line("whom you believe", desk.place.trust(&us).map(|t| format!("the trust domain {}", t.domain()))));
        for service in Service::ALL {
            lines.push(line(service.name(), serving(&desk, service, us.clone()).await));
        }
        if let Some(url) = std::env::var_os("LEGATE_AUTHZEN") {
            lines.push(line("AuthZEN", authzen(&desk, &url.to_string_lossy(), us.clone()).await));
        }
        lines.push(line("what you may read of the registry", reading(&desk).await));
        lines.push(line("the past that is kept", horizon(&desk).await));
        lines.push(line("what you may do", roles(&desk).await));
        lines.push(line("the log's newest checkpoint", checkpoint(&desk).await));
    }
    let mut out = desk.out();
    if out.is_table() {
        let width = lines.iter().map(|l| l.what.len()).max().unwrap_or(0);
        for l in &lines {
            let mark = if l.ok { "ok    " } else { "not ok" };
            out.line(&format!("{mark}  {:<width$}  {}", l.what, visible(&l.found)))?;
        }
    } else {
        let all = lines.iter().map(|l| serde_json::json!({ "ok": l.ok, "what": l.what, "found": l.found }));
        let whole = serde_json::Value::from_iter(all);
        // JSON is YAML as well.
        out.line(&visible_json(&format!("{whole:#}")))?;
    }
    out.flush()?;
    let bad: Vec<&Line> = lines.iter().filter(|l| !l.ok).collect();
    let Some(first) = bad.first() else {
        return Ok(Exit::Done);
    };
    let mut failure =
        Failure::local(&DOCTOR_FOUND, format!("{} of {} things are not as they should be", bad.len(), lines.len()));
    failure.exit = first.exit;
    Err(failure)
}

fn line(what: &str, found: Result<String, Failure>) -> Line {
    match found {
        Ok(found) => Line { ok: true, what: what.into(), found, exit: Exit::Done },
        Err(f) => Line { ok: false, what: what.into(), found: f.to_string(), exit: f.exit },
    }
}

/// Whom a certificate names, and whether it still holds.
fn who(us: &Identity) -> Result<String, Failure> {
    let id = us.spiffe_id().map_or_else(|| "a certificate without a SPIFFE ID".to_owned(), |id| id.to_string());
    let now = SystemClock::new().now();
    match us.not_after() {
        Some(end) if end <= now => Err(Failure::local(&FILE_REFUSED, format!("{id}: the certificate ended at {end}"))),
        Some(end) if end.since(now) < SOON => Ok(format!("{id}, only for {} more", span(end.since(now)))),
        Some(end) => Ok(format!("{id}, for {} more", span(end.since(now)))),
        None => Ok(id),
    }
}

async fn serving(desk: &Desk, service: Service, us: Identity) -> Result<String, Failure> {
    let remote = desk.place.remote(service, &us)?;
    let client =
        remote.dial(us).map_err(|f| Failure::status(service.name(), &remote.endpoint, &tonic::Status::from(f)))?;
    let started = SystemClock::new();
    let answer = HealthClient::new(client)
        .check(HealthCheckRequest::default())
        .await
        .map_err(|s| Failure::status(service.name(), &remote.endpoint, &s))?;
    let took = started.monotonic();
    match answer.into_inner().status() {
        ServingStatus::Serving => {
            Ok(format!("serves at {} ({:.1} ms with the handshake)", remote.endpoint, took.as_secs_f64() * 1_000.0))
        }
        other => {
            let why = format!("it says {}", other.as_str_name());
            Err(Failure::unreachable(service.name(), &remote.endpoint, &why))
        }
    }
}

/// Whether AuthZEN says of itself that it is where it was asked.
async fn authzen(desk: &Desk, url: &str, us: Identity) -> Result<String, Failure> {
    let remote = desk.place.remote(Service::Policy, &us)?;
    let bad = |why: String| Failure::unreachable("AuthZEN", url, &why);
    let line = legate_client::Remote { endpoint: url.to_owned(), ..remote };
    let client = line.dial(us).map_err(|f| Failure::status("AuthZEN", url, &tonic::Status::from(f)))?;
    let request = http::Request::get("/.well-known/authzen-configuration").body(tonic::body::Body::empty());
    let request = request.map_err(|e| bad(e.to_string()))?;
    let answer = tokio::time::timeout(PATIENCE, client.oneshot(request)).await;
    let answer = answer.map_err(|_| bad(format!("no answer within {PATIENCE:?}")))?.map_err(|e| bad(e.to_string()))?;
    if answer.status() != http::StatusCode::OK {
        return Err(bad(format!("it answers {}", answer.status())));
    }
    let body = Limited::new(answer.into_body(), MOST).collect();
    let body = tokio::time::timeout(PATIENCE, body).await.map_err(|_| bad("the answer did not end".into()))?;
    let body = body.map_err(|e| bad(e.to_string()))?.to_bytes();
    let told: serde_json::Value = serde_json::from_slice(&body).map_err(|e| bad(e.to_string()))?;
    match told["policy_decision_point"].as_str() {
        Some(own) if own == url.trim_end_matches('/') => Ok(format!("serves at {own}")),
        own => Err(bad(format!("it says that it is {own:?}; callers refuse that (AuthZEN section 9.2.3)"))),
    }
}

async fn reading(desk: &Desk) -> Result<String, Failure> {
    let registry = desk.line(Service::Registry)?;
    let request = ListAgentsRequest { page_size: 1, ..ListAgentsRequest::default() };
    let answer = registry.ask(request, |c, r| async move { AgentServiceClient::new(c).list_agents(r).await }).await?;
    Ok(format!("the registry is at revision {}", answer.revision))
}

/// From where on the past can be asked for.
async fn horizon(desk: &Desk) -> Result<String, Failure> {
    let registry = desk.line(Service::Registry)?;
    let kept = registry
        .ask(
            GetHistoryHorizonRequest {},
            |c, r| async move { HistoryServiceClient::new(c).get_history_horizon(r).await },
        )
        .await?;
    let since = match kept.oldest_time.as_ref() {
        Some(time) => format!("from revision {} of {} on", kept.oldest_revision, moment(Some(time))),
        None => "all of it, and nothing was declared yet".to_owned(),
    };
    Ok(match kept.history_days {
        0 => format!("{since}, for ever"),
        days => format!("{since}, for {days} days"),
    })
}

/// The roles that hold now; without one the registry shows and does nothing.
async fn roles(desk: &Desk) -> Result<String, Failure> {
    let answer = super::whoami::own_roles(desk).await?;
    let held: Vec<String> = answer
        .roles
        .iter()
        .filter(|own| own.holds)
        .map(super::whoami::role)
        .map(|(word, place)| format!("{word} {}{place}", if place == "everywhere" { "" } else { "in " }))
        .collect();
    if held.is_empty() {
        let why = format!("{} has no role now, so nothing is shown to you and you may do nothing", answer.spiffe_id);
        return Err(Failure::local(&OPERATOR_NOT_PERMITTED, why));
    }
    Ok(held.join(", "))
}

async fn checkpoint(desk: &Desk) -> Result<String, Failure> {
    let audit = desk.line(Service::Audit)?;
    let answer = audit
        .ask(GetCheckpointRequest::default(), |c, r| async move { ProofServiceClient::new(c).get_checkpoint(r).await })
        .await?;
    let Some(dir) = std::env::var_os("LEGATE_DIR") else {
        return Ok(format!("size {}; set LEGATE_DIR to have its signature checked by log.pub there", answer.tree_size));
    };
    let key = super::audit::read_key(&Path::new(&dir).join("log.pub"))?;
    let (signed, keys) = legate_batch::rotated::follow(&key, answer.checkpoint.as_bytes(), &answer.key_rotations)
        .map_err(|e| super::audit::unverified(e.to_string()))?;
    let which = if *keys.newest() == key { "" } else { ", by a key that followed on that of log.pub there" };
    Ok(format!("size {}, signed by {}{which}", signed.size, key.name()))
}
