//! From the answer to a suspension until the first denial that a backend hears.

use std::time::{Duration, Instant};

use legate_wire::policy as wire;
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::{AgentRef, ResumeAgentRequest, SuspendAgentRequest};

use crate::house::House;
use crate::load::Seen;
use crate::{Failed, Plan};

const ROUNDS: usize = 200;
/// The promise, p99.
const PROMISED: Duration = Duration::from_secs(1);
const GIVE_UP: Duration = Duration::from_secs(10);

/// Measures, and prints.
pub(crate) async fn measure(plan: Plan) -> Result<(), Failed> {
    println!("\nsuspend: {ROUNDS} rounds, a backend that asks without pause");
    let house = House::raise(Plan { agents: plan.agents.min(10_000), policies: 10, ..plan }).await?;
    let backend = house.backend(1).await?;
    let mut backend = DecisionServiceClient::new(backend[0].clone());
    let mut agents = AgentServiceClient::new(house.operator("registry")?);
    let id = house.agent_id(0).await?;
    let which = || Some(AgentRef { id: id.clone(), ..AgentRef::default() });
    let question = wire::EvaluateRequest {
        subject: Some(wire::Subject {
            agent: Some(wire::subject::Agent::AgentId(id.clone())),
            ..wire::Subject::default()
        }),
        action: "invoice:read".into(),
        resource: Some(wire::Resource { r#type: "Invoice".into(), id: "apollo/1".into(), attributes: None }),
        ..wire::EvaluateRequest::default()
    };
    let start = Instant::now();
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let ask = SuspendAgentRequest { agent: which(), reason: "measured".into(), ..Default::default() };
        agents.suspend_agent(ask).await?;
        let acked = Instant::now();
        loop {
            let answer = backend.evaluate(question.clone()).await?.into_inner();
            if answer.decision() != wire::Decision::Allow {
                break;
            }
            if acked.elapsed() > GIVE_UP {
                return Err("still allowed after ten seconds".into());
            }
        }
        times.push(acked.elapsed());
        let ask = ResumeAgentRequest { agent: which(), reason: "measured".into(), ..Default::default() };
        let revision = agents.resume_agent(ask).await?.into_inner().revision;
        let resumed = wire::EvaluateRequest { at_least_revision: revision, ..question.clone() };
        let answer = backend.evaluate(resumed).await?.into_inner();
        if answer.decision() != wire::Decision::Allow {
            return Err(format!("denied after it was resumed: {}", answer.reason_code).into());
        }
    }
    let seen = Seen::new(times, start.elapsed());
    let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (p50, p99) = (millis(seen.percentile(50)), millis(seen.percentile(99)));
    let kept = if seen.percentile(99) <= PROMISED { "kept" } else { "BROKEN" };
    println!("  acknowledged -> first DENY   p50 {p50:.2} ms   p99 {p99:.2} ms   (promised p99 <= 1000 ms: {kept})");
    house.lower().await;
    Ok(())
}
