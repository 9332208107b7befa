//! Checks while the registry changes: a thousand agents a second are written anew, and every replica's view follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use legate_wire::policy as wire;
use legate_wire::registry as declared;
use legate_wire::registry::declaration::Object;
use wire::decision_service_client::DecisionServiceClient;

use crate::house::{House, agent_name, agent_of};
use crate::load::{self, Seen};
use crate::{Failed, Plan};

/// Checks in flight: few, so that what is seen is the answer's time and not a queue's.
const CALLERS: usize = 4;
/// Agents that are written with one call, and how often such a call begins.
const OF_A_CALL: u32 = 10;
const EVERY: Duration = Duration::from_millis(10);
/// Calls that write at once at most; when all are under way, a turn is left out.
const WRITERS: usize = 16;

async fn checks(house: &House, plan: Plan, agent_id: &str) -> Result<Seen, Failed> {
    let clients = house.backend(CALLERS).await?;
    let question = wire::EvaluateRequest {
        subject: Some(wire::Subject {
            agent: Some(wire::subject::Agent::AgentId(agent_id.into())),
            ..Default::default()
        }),
        action: "invoice:read".into(),
        resource: Some(wire::Resource { r#type: "Invoice".into(), id: "apollo/1001".into(), attributes: None }),
        ..wire::EvaluateRequest::default()
    };
    load::run(clients.into_iter().map(DecisionServiceClient::new).collect(), plan.time, move |mut client| {
        let question = question.clone();
        async move {
            let answer = client.evaluate(question).await?.into_inner();
            if answer.reason_code != "ALLOWED" {
                return Err(format!("{}: {}", answer.reason_code, answer.message).into());
            }
            Ok(client)
        }
    })
    .await
}

/// Writes agents until it is told to stop; how many were written.
async fn write(house: &House, plan: Plan, over: &AtomicBool) -> Result<usize, Failed> {
    let written = Arc::new(AtomicUsize::new(0));
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let (client, mut writers, mut turn) = (house.operator("registry")?, tokio::task::JoinSet::new(), 0_u32);
    while !over.load(Ordering::Relaxed) {
        turns.tick().await;
        while let Some(ended) = writers.try_join_next() {
            ended??;
        }
        if writers.len() >= WRITERS {
            continue;
        }
        turn += 1;
        // Never the agent that is asked about.
        let which = (0..OF_A_CALL).map(|n| 1 + (turn * OF_A_CALL + n) % plan.agents.saturating_sub(1).max(1));
        let declarations = which.map(|n| {
            let mut object = agent_of("worker", &agent_name(n));
            if let Object::Agent(declared::Agent { metadata: Some(metadata), .. }) = &mut object {
                metadata.labels.insert("turn".into(), format!("t-{turn}"));
            }
            declared::Declaration { object: Some(object) }
        });
        let request = declared::ApplyDeclarationsRequest { declarations: declarations.collect(), ..Default::default() };
        let mut service = declared::declaration_service_client::DeclarationServiceClient::new(client.clone());
        let written = Arc::clone(&written);
        writers.spawn(async move {
            let count = request.declarations.len();
            service.apply_declarations(request).await?;
            written.fetch_add(count, Ordering::Relaxed);
            Ok::<_, Failed>(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(written.load(Ordering::Relaxed))
}

/// Measures, and prints.
pub(crate) async fn measure(plan: Plan) -> Result<(), Failed> {
    println!("\nchanges: {} agents, {} policies, {CALLERS} checks in flight", plan.agents, plan.policies);
    let house = House::raise(plan).await?;
    let agent_id = house.agent_id(0).await?;
    let (mut quiet, mut busy, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        quiet.push(checks(&house, plan, &agent_id).await?);
        let over = AtomicBool::new(false);
        let start = Instant::now();
        let asking = async {
            let seen = checks(&house, plan, &agent_id).await;
            over.store(true, Ordering::Relaxed);
            seen
        };
        let (seen, written) = tokio::join!(asking, write(&house, plan, &over));
        busy.push(seen?);
        rates.push(load::count(written?) / start.elapsed().as_secs_f64());
    }
    load::line("Evaluate, nothing changes", &quiet);
    load::line("Evaluate, agents are written", &busy);
    println!("  {:<58} {:>9.0} /s", "agents written meanwhile (1,000 /s wanted)", load::median(rates));
    house.lower().await;
    Ok(())
}
