//! Decisions a second over mutual TLS, against a handler that answers a constant over the same mutual TLS.

use legate_rpc::Client;
use legate_wire::policy as wire;
use wire::decision_service_client::DecisionServiceClient;

use crate::floor::Floor;
use crate::house::House;
use crate::load::{self, Seen};
use crate::{Failed, Plan};

/// Connections, and calls in flight on each.
const CONNECTIONS: usize = 2;
const IN_FLIGHT: usize = 32;

pub(crate) fn question(subject: wire::Subject, action: &str) -> wire::EvaluateRequest {
    wire::EvaluateRequest {
        subject: Some(subject),
        action: action.into(),
        resource: Some(wire::Resource { r#type: "Invoice".into(), id: "apollo/1001".into(), attributes: None }),
        ..wire::EvaluateRequest::default()
    }
}

pub(crate) async fn ask(
    clients: &[Client],
    plan: Plan,
    question: &wire::EvaluateRequest,
    wanted: &'static str,
) -> Result<Seen, Failed> {
    let callers: Vec<_> =
        clients.iter().flat_map(|c| (0..IN_FLIGHT).map(|_| DecisionServiceClient::new(c.clone()))).collect();
    let question = question.clone();
    load::run(callers, plan.time, move |mut client| {
        let question = question.clone();
        async move {
            let answer = client.evaluate(question).await?.into_inner();
            if answer.reason_code != wanted {
                return Err(format!("{}: {}", answer.reason_code, answer.message).into());
            }
            Ok(client)
        }
    })
    .await
}

/// Measures, and prints.
pub(crate) async fn measure(plan: Plan) -> Result<(), Failed> {
    println!(
        "\nevaluate: {} agents, {} policies, {CONNECTIONS} connections with {IN_FLIGHT} calls in flight each",
        plan.agents, plan.policies
    );
    let mut house = House::raise(plan).await?;
    let backend = house.backend(CONNECTIONS).await?;
    let (runtime, presenter) = house.runtime(0).await?;
    let agent_id = house.agent_id(0).await?;
    let token = runtime.token(crate::house::AUDIENCE).await?.access_token;
    let by_token = wire::Subject {
        agent: Some(wire::subject::Agent::AccessToken(token)),
        presenter_x5t_s256: presenter.to_vec(),
        ..wire::Subject::default()
    };
    let by_id = wire::Subject { agent: Some(wire::subject::Agent::AgentId(agent_id)), ..wire::Subject::default() };
    let proven = question(by_token, "invoice:read");
    let asserted = question(by_id.clone(), "invoice:read");
    let durable = question(by_id, "invoice:pay");

    let answer = DecisionServiceClient::new(backend[0].clone()).evaluate(proven.clone()).await?.into_inner();
    let floor = Floor::raise(&house.suite, answer, CONNECTIONS).await?;
    let (mut floors, mut tokens, mut ids, mut syncs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        floors.push(ask(floor.clients(), plan, &proven, "ALLOWED").await?);
        tokens.push(ask(&backend, plan, &proven, "ALLOWED").await?);
        ids.push(ask(&backend, plan, &asserted, "ALLOWED").await?);
        // Denied, and on disk before the answer all the same.
        syncs.push(ask(&backend, plan, &durable, "NOT_PERMITTED").await?);
    }
    // The collector shares the two cores of a small machine here; elsewhere it has its own.
    house.lower_collector().await;
    let (mut bare_floors, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        bare_floors.push(ask(floor.clients(), plan, &proven, "ALLOWED").await?);
        alone.push(ask(&backend, plan, &proven, "ALLOWED").await?);
    }
    load::line("a constant answer over the same mutual TLS (floor)", &floors);
    load::line("Evaluate, the agent proven by a token", &tokens);
    load::line("Evaluate, the agent named by its id", &ids);
    load::line("Evaluate, a durable action (fsync before the answer)", &syncs);
    load::line("Evaluate by token, the collector on another machine", &alone);
    load::ratio("Evaluate by token / floor, the collector elsewhere", &alone, &bare_floors, Some(0.6));
    load::ratio("Evaluate by token / floor, the collector on the same cores", &tokens, &floors, None);
    load::ratio("Evaluate by id / floor", &ids, &floors, None);
    load::ratio("durable / not durable", &syncs, &ids, None);
    house.lower().await;
    Ok(())
}
