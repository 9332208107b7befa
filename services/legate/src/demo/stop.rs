//! Chapter: the operator stops the agent; nothing it held works again.

use std::time::{Duration, Instant};

use legate_wire::policy::Decision;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::{Agent, AgentRef, ResumeAgentRequest, SuspendAgentRequest};

use super::decide::{ask, question};
use super::enrol::Parties;
use super::narrate::{Broken, timed};
use super::{PATIENCE, Stage, broken, refusal};
use crate::output::{because, verdict};

/// The promise (p99); the hard bound is five seconds.
const PROMISED: Duration = Duration::from_secs(1);

/// Gives the id of the last decision.
pub(super) async fn tell(stage: &mut Stage, agent: &Agent, parties: Parties) -> Result<String, Broken> {
    stage.tell.chapter("The operator stops it: legate agent suspend payments/invoice-bot");
    let which = Some(AgentRef { id: agent.metadata.clone().unwrap_or_default().id, ..AgentRef::default() });
    let mut agents = AgentServiceClient::new(stage.registry.clone());
    let connections = stage.suite.running("credential-issuer").map(|r| r.serving().connections());
    let live = |of: &Option<legate_mtls::Connections>| of.as_ref().map_or(0, legate_mtls::Connections::len);
    let before = live(&connections);

    let request =
        SuspendAgentRequest { agent: which.clone(), reason: "odd reads".into(), ..SuspendAgentRequest::default() };
    let (suspended, took) = timed(agents.suspend_agent(request)).await;
    let suspended = suspended.map_err(|s| broken(refusal(&s)))?.into_inner();
    let acked = Instant::now();
    stage.tell.step("suspend", &format!("SUSPENDED at revision {}", suspended.revision), took);

    let code = until_denied(&parties, acked).await?;
    let took = acked.elapsed();
    stage.tell.check(
        code == "AGENT_SUSPENDED" && took <= PROMISED,
        "how long until the backend is told DENY",
        &format!("{code} after {:.1} ms; promised are 1000 ms", took.as_secs_f64() * 1_000.0),
        took,
    );

    let cut = async {
        while live(&connections) >= before && acked.elapsed() < PATIENCE {
            tokio::task::yield_now().await;
        }
        live(&connections) < before
    };
    let (cut, _) = timed(cut).await;
    stage.tell.check(cut, "its live connection to the issuer", "cut", acked.elapsed());

    let (renewed, took) = timed(parties.runtime.renew()).await;
    let told = renewed.as_ref().map_or_else(ToString::to_string, |_| "it was renewed".into());
    stage.tell.check(renewed.is_err(), "it tries to renew its certificate", &told, took);
    let (token, took) = timed(parties.runtime.token(super::AUDIENCE)).await;
    let told = token.as_ref().map_or_else(ToString::to_string, |_| "it got a token".into());
    stage.tell.check(token.is_err(), "it asks for another token", &told, took);

    let request = ResumeAgentRequest { agent: which, reason: "explained".into(), ..ResumeAgentRequest::default() };
    let (resumed, took) = timed(agents.resume_agent(request)).await;
    let resumed = resumed.map_err(|s| broken(refusal(&s)))?.into_inner();
    let version = resumed.agent.and_then(|a| a.status).map_or(0, |s| s.lifecycle_version);
    stage.tell.step("resume", &format!("ACTIVE again, lifecycle version {version}"), took);

    let mut old = question(&parties, "invoice:read", "apollo/1001", false);
    old.at_least_revision = resumed.revision;
    let (answer, took) = timed(ask(&parties, old)).await;
    let answer = answer?;
    let dead = answer.decision() != Decision::Allow && answer.reason_code == "TOKEN_OUTLIVED";
    stage.tell.check(dead, "the old token, asked at the new revision", &verdict(&answer), took);
    stage.tell.reasons(&answer.reasons.iter().map(|r| format!("because {}", because(r))).collect::<Vec<_>>());
    Ok(answer.decision_id)
}

/// Asks until the answer is a denial; gives its reason.
async fn until_denied(parties: &Parties, since: Instant) -> Result<String, Broken> {
    while since.elapsed() < PATIENCE {
        let answer = ask(parties, question(parties, "invoice:read", "apollo/1001", false)).await?;
        if answer.decision() != Decision::Allow {
            return Ok(answer.reason_code);
        }
    }
    Err(broken("still allowed after ten seconds"))
}
