//! Checks over a stream beside single ones, and what each costs policy-decision, which has a process of its own here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use legate_client::{Decided, Decision, Question};
use legate_rpc::Client;
use legate_wire::policy as wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use wire::decision_service_client::DecisionServiceClient;
use wire::evaluate_stream_response::Outcome;

use crate::apart::{self, Apart};
use crate::evaluate::{ask, question};
use crate::floor::Floor;
use crate::house::House;
use crate::load::{self, Seen};
use crate::{Failed, Plan};

/// Connections, each with one stream.
const CONNECTIONS: usize = 2;
/// Questions in flight on each: as many as single calls have, and as many as suit a busy backend.
const FEW: usize = 32;
const MANY: usize = 256;
/// Where policy-decision stands among the services.
const POLICY: usize = 2;

/// What one way of asking saw, and what it cost.
#[derive(Default)]
struct Way {
    seen: Vec<Seen>,
    cpu: Vec<f64>,
}

/// Keeps `window` questions in flight on a stream until the time is over.
async fn one(
    client: Client,
    time: Duration,
    window: usize,
    question: wire::EvaluateRequest,
) -> Result<Vec<Duration>, Failed> {
    let (asks, items) = mpsc::channel(window);
    let mut answers =
        DecisionServiceClient::new(client).evaluate_stream(ReceiverStream::new(items)).await?.into_inner();
    let (mut times, mut begun, mut next) = (Vec::new(), HashMap::new(), 0_u64);
    let start = Instant::now();
    let item = |item_id| wire::EvaluateStreamRequest { item_id, question: Some(question.clone()), timeout: None };
    for _ in 0..window {
        begun.insert(next, Instant::now());
        asks.send(item(next)).await?;
        next += 1;
    }
    while !begun.is_empty() {
        let said = answers.message().await?.ok_or("the stream ended")?;
        let Some(Outcome::Answer(answer)) = said.outcome else { return Err("a question was not taken".into()) };
        if answer.reason_code != "ALLOWED" {
            return Err(format!("{}: {}", answer.reason_code, answer.message).into());
        }
        let began = begun.remove(&said.item_id).ok_or("an answer to nothing")?;
        times.push(began.elapsed());
        if start.elapsed() < time {
            begun.insert(next, Instant::now());
            asks.send(item(next)).await?;
            next += 1;
        }
    }
    Ok(times)
}

async fn stream(
    clients: &[Client],
    plan: Plan,
    window: usize,
    question: &wire::EvaluateRequest,
) -> Result<Seen, Failed> {
    let start = Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for client in clients {
        all.spawn(one(client.clone(), plan.time, window, question.clone()));
    }
    let mut times = Vec::new();
    while let Some(done) = all.join_next().await {
        times.extend(done??);
    }
    Ok(Seen::new(times, start.elapsed()))
}

async fn by_client(decision: &Decision, plan: Plan, callers: usize, question: &Question) -> Result<Seen, Failed> {
    let question = question.clone();
    load::run(vec![decision.clone(); callers], plan.time, move |decision| {
        let question = question.clone();
        async move {
            match decision.ask(question).await {
                Decided::Allowed(_) => Ok(decision),
                other => Err(format!("{other:?}").into()),
            }
        }
    })
    .await
}

/// Measures one way once, with the CPU time that policy-decision took for it.
async fn measured(way: &mut Way, apart: &Apart, run: impl Future<Output = Result<Seen, Failed>>) -> Result<(), Failed> {
    let before = apart.cpu()?[POLICY];
    let seen = run.await?;
    let spent = apart.cpu()?[POLICY].saturating_sub(before);
    way.cpu.push(spent.as_secs_f64() * 1e6 / load::count(seen.calls.max(1)));
    way.seen.push(seen);
    Ok(())
}

/// Measures, and prints.
pub(crate) async fn measure(plan: Plan) -> Result<(), Failed> {
    println!(
        "\nevaluate over streams: {} agents, {} policies, {CONNECTIONS} connections; policy-decision is a process of its own",
        plan.agents, plan.policies
    );
    let mut house = House::raise_at(plan, apart::free_ports()?).await?;
    let (backend, identity) = house.backend_as("invoices", CONNECTIONS).await?;
    let (runtime, presenter) = house.runtime(0).await?;
    let token = runtime.token(crate::house::AUDIENCE).await?.access_token;
    let subject = wire::Subject {
        agent: Some(wire::subject::Agent::AccessToken(token.clone())),
        presenter_x5t_s256: presenter.to_vec(),
        ..wire::Subject::default()
    };
    let proven = question(subject, "invoice:read");
    let answer = DecisionServiceClient::new(backend[0].clone()).evaluate(proven.clone()).await?.into_inner();
    let floor = Floor::raise(&house.suite, answer, CONNECTIONS).await?;
    let apart = house.part().await?;
    // The connections are to the suite that was; the first call finds the new one.
    while DecisionServiceClient::new(backend[0].clone())
        .evaluate(proven.clone())
        .await
        .map_or(true, |answer| answer.into_inner().reason_code != "ALLOWED")
    {}
    let remote = house.remote("policy-decision")?;
    let decision = Decision::builder([remote.endpoint], identity, remote.trust).streams(2);
    let decision = decision.deadline(Duration::from_secs(5)).build()?;
    let asked = Question::by_token(token, "invoice:read", "Invoice", "apollo/1001").presented_certificate(presenter);

    let (mut floors, mut floor_streams) = (Vec::new(), Vec::new());
    let (mut single, mut few, mut many, mut clients) = (Way::default(), Way::default(), Way::default(), Way::default());
    for _ in 0..plan.rounds {
        floors.push(ask(floor.clients(), plan, &proven, "ALLOWED").await?);
        floor_streams.push(stream(floor.clients(), plan, MANY, &proven).await?);
        measured(&mut single, &apart, ask(&backend, plan, &proven, "ALLOWED")).await?;
        measured(&mut few, &apart, stream(&backend, plan, FEW, &proven)).await?;
        measured(&mut many, &apart, stream(&backend, plan, MANY, &proven)).await?;
        measured(&mut clients, &apart, by_client(&decision, plan, CONNECTIONS * MANY, &asked)).await?;
    }
    load::line("a constant answer, single calls (floor)", &floors);
    load::line("a constant answer over a stream, 256 in flight", &floor_streams);
    load::line("Evaluate by token, 32 calls in flight a connection", &single.seen);
    load::line("EvaluateStream by token, 32 in flight a stream", &few.seen);
    load::line("EvaluateStream by token, 256 in flight a stream", &many.seen);
    load::line("legate_client::Decision, 512 callers", &clients.seen);
    load::ratio("Evaluate / floor", &single.seen, &floors, None);
    load::ratio("EvaluateStream with 256 in flight / floor", &many.seen, &floors, None);
    load::ratio("EvaluateStream with 32 in flight / Evaluate", &few.seen, &single.seen, None);
    load::ratio("EvaluateStream with 256 in flight / Evaluate", &many.seen, &single.seen, Some(4.0));
    load::ratio("legate_client::Decision / Evaluate", &clients.seen, &single.seen, None);
    load::tell("CPU of policy-decision for a single check, us", load::median(single.cpu), None);
    load::tell("CPU of policy-decision for a check of a stream of 32, us", load::median(few.cpu), None);
    load::tell("CPU of policy-decision for a check of a stream of 256, us", load::median(many.cpu), None);
    drop(apart);
    house.lower().await;
    Ok(())
}
