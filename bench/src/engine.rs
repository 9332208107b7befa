//! The decision in process, without server and network: our index against Cedar's own authorizer, on the same entities.

mod company;

use std::time::{Duration, Instant};

use legate_clock::SystemClock;
use legate_policy_decision::engine::{Engine, Prepared, Words};
use legate_wire::policy as wire;
use wire::decision_service_client::DecisionServiceClient;

use self::company::{Company, NAMESPACE};
use crate::house::House;
use crate::load::{self, Seen};
use crate::{Failed, Plan};

/// Sizes of policy sets.
const SIZES: [u32; 4] = [10, 100, 1_000, 10_000];
/// Agents that are declared.
const AGENTS: u32 = 10_000;
/// Questions that are asked again and again.
const QUESTIONS: usize = 4_096;
/// Explanations that are asked for.
const EXPLANATIONS: usize = 200;
/// How often one policy is changed.
const CHANGES: usize = 50;
/// No size is measured longer than this in one way.
const LONGEST: Duration = Duration::from_secs(3);

/// How long one call takes; over and over until the time is over, ten times at least.
fn timed<R>(time: Duration, mut call: impl FnMut(usize) -> R) -> Seen {
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < time || times.len() < 10 {
        let began = Instant::now();
        std::hint::black_box(call(times.len()));
        times.push(began.elapsed());
    }
    Seen::new(times, start.elapsed())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn row(what: &str, seen: &Seen) {
    println!(
        "  {what:<58} p50 {:>10.2} us   p99 {:>10.2} us   ({} calls)",
        micros(seen.percentile(50)),
        micros(seen.percentile(99)),
        seen.calls
    );
}

fn p50_ratio(subject: &Seen, floor: &Seen) -> f64 {
    micros(subject.percentile(50)) / micros(floor.percentile(50)).max(0.001)
}

/// Measures, and prints.
pub(crate) async fn measure(plan: Plan) -> Result<(), Failed> {
    let time = plan.time.min(LONGEST);
    println!("\nengine: {AGENTS} agents, in process, one thread; seed {:#x}", company::SEED);
    for policies in SIZES {
        one_size(policies, time)?;
    }
    explained(plan).await
}

fn one_size(policies: u32, time: Duration) -> Result<(), Failed> {
    let now = SystemClock::shared().now();
    let company = Company::new(AGENTS, policies, now);
    let engine = Engine::new(&company.objects, NAMESPACE)?;
    let prepare = |of: &[wire::EvaluateRequest]| -> Result<Vec<Prepared>, Failed> {
        Ok(of.iter().map(|request| engine.prepare(request.clone(), now)).collect::<Result<_, _>>()?)
    };
    let questions = prepare(&company.questions(QUESTIONS, 0))?;
    let words: Vec<Words> = questions.iter().map(|one| engine.words(one, now)).collect::<Result<_, _>>()?;

    println!(" {policies} policies");
    let allowed = agree(&engine, &words, time)?;
    let indexed = timed(time, |n| engine.indexed(&words[n % words.len()]));
    let plain = timed(time, |n| engine.plain(&words[n % words.len()]));
    row("policies by our index", &indexed);
    row("policies by Cedar's Authorizer", &plain);
    load::tell("Authorizer / index, p50", 1.0 / p50_ratio(&indexed, &plain), Some(1.0));
    println!("  {:<58} {allowed:>9.2} of them allowed by policies", "the same answers and reasons;");

    let whole = timed(time, |n| engine.decide(&questions[n % questions.len()], now));
    row("the whole decision (grants, ceiling, boundary, policies)", &whole);
    if policies == 10_000 {
        load::at_most("the whole decision, p50 in us", micros(whole.percentile(50)), 15.0);
    }
    // Of one agent again and again: what it is in Cedar's words is remembered.
    let again = timed(time, |_| engine.decide(&questions[0], now));
    row("the same of one agent", &again);
    for depth in [1, 4] {
        let chains = prepare(&company.questions(64, depth))?;
        if let Some(word) = chains.iter().map(|one| engine.decide(one, now)).find(|word| *word != "ALLOWED") {
            return Err(format!("a chain of {depth} is {word}").into());
        }
        let seen = timed(time, |n| engine.decide(&chains[n % chains.len()], now));
        row(&format!("the same through a chain of {depth}"), &seen);
    }
    if policies >= 1_000 {
        changed(&engine, policies)?;
    }
    Ok(())
}

/// Asks both ways for as long as `time` allows; which part is allowed.
fn agree(engine: &Engine, words: &[Words], time: Duration) -> Result<f64, Failed> {
    let (start, mut asked, mut allowed) = (Instant::now(), 0, 0);
    for one in words {
        let (indexed, plain) = (engine.indexed(one), engine.plain(one));
        if indexed != plain {
            return Err(format!("the index says {indexed:?}, Cedar's authorizer {plain:?}").into());
        }
        (asked, allowed) = (asked + 1, allowed + usize::from(plain.allowed));
        if start.elapsed() > time {
            break;
        }
    }
    Ok(load::count(allowed) / load::count(asked))
}

/// What one changed policy costs.
fn changed(engine: &Engine, policies: u32) -> Result<(), Failed> {
    let (mut changed, mut anew) = (Vec::new(), Vec::new());
    let start = Instant::now();
    for n in 0..CHANGES {
        let at = n * usize::try_from(policies)? / CHANGES;
        let cedar = format!("permit (principal, action == Action::\"invoice:changed-{n}\", resource);");
        let next = engine.with_policy(at, &cedar);
        let began = Instant::now();
        engine.compile(&next, true)?;
        changed.push(began.elapsed());
        if n < 10 {
            let began = Instant::now();
            engine.compile(&next, false)?;
            anew.push(began.elapsed());
        }
    }
    let (changed, anew) = (Seen::new(changed, start.elapsed()), Seen::new(anew, start.elapsed()));
    row("one policy is changed", &changed);
    row("all are compiled anew", &anew);
    load::tell("anew / changed, p50", 1.0 / p50_ratio(&changed, &anew), None);
    Ok(())
}

/// How long explanations take, over mutual TLS, with as many policies as there may be.
async fn explained(plan: Plan) -> Result<(), Failed> {
    let most = SIZES[SIZES.len() - 1];
    let house = House::raise(Plan { agents: 100, policies: most, ..plan }).await?;
    let client = house.operator("policy-decision")?;
    let agent_id = house.agent_id(0).await?;
    let question = |action: &str| wire::EvaluateRequest {
        subject: Some(wire::Subject {
            agent: Some(wire::subject::Agent::AgentId(agent_id.clone())),
            ..Default::default()
        }),
        action: action.into(),
        resource: Some(wire::Resource { r#type: "Invoice".into(), id: "apollo/1001".into(), attributes: None }),
        ..wire::EvaluateRequest::default()
    };
    println!(" Explain with {most} policies, over mutual TLS, one at a time");
    for (what, action, wanted) in [
        ("an ALLOW explained", "invoice:read", "ALLOWED"),
        ("a denial, with near misses", "invoice:pay", "NOT_PERMITTED"),
    ] {
        let mut client = DecisionServiceClient::new(client.clone());
        let (start, mut times, mut tried) = (Instant::now(), Vec::new(), 0);
        for _ in 0..EXPLANATIONS {
            let request = wire::ExplainRequest { question: Some(question(action)), ..wire::ExplainRequest::default() };
            let began = Instant::now();
            let said = client.explain(request).await?.into_inner();
            times.push(began.elapsed());
            tried = said.changes_tried;
            let reason = said.answer.map(|answer| answer.reason_code).unwrap_or_default();
            if reason != wanted {
                return Err(format!("{reason} where {wanted} was to be explained").into());
            }
        }
        row(&format!("{what} ({tried} changes tried)"), &Seen::new(times, start.elapsed()));
    }
    house.lower().await;
    Ok(())
}
