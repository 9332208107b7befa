//! A registry of many agents: loaded, read, watched, restarted and stopped, against floors measured in the same run.

mod code;
pub(crate) mod declared;
mod drifted;
mod fill;
pub(crate) mod raw;
mod search;

use std::path::Path;
use std::time::{Duration, Instant};

use legate::dev::{Options, Suite};
use legate_mtls::Identity;
use legate_wire::policy;
use legate_wire::registry as wire;
use policy::decision_service_client::DecisionServiceClient;
use policy::preview_service_client::PreviewServiceClient;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use wire::agent_service_client::AgentServiceClient;
use wire::bulk_apply_request::Part;
use wire::bulk_service_client::BulkServiceClient;
use wire::declaration::Object;
use wire::feed_service_client::FeedServiceClient;
use wire::watch_response::News;

pub(crate) use drifted::measure as drift;

use crate::Failed;
use crate::load::{Seen, count, tell};

/// Items in one message.
const IN_MESSAGE: u32 = 500;
/// How often each thing is asked for.
const ASKED: usize = 2_000;
/// How often agents are suspended.
const SUSPENDED: usize = 50;
/// How often a change is previewed.
const PREVIEWED: usize = 5;
/// Agents that are loaded where the others are written beneath the registry.
const LOADED: u32 = 2_000;
/// The promise of a restart.
const RESTART: Duration = Duration::from_secs(5);
const GIVE_UP: Duration = Duration::from_secs(120);

/// What one size showed, for the comparison of sizes.
struct Shown {
    agents: u32,
    load: f64,
    restart: f64,
    snapshot: f64,
    memory: f64,
    get: f64,
}

/// Measures each size, and prints.
pub(crate) async fn measure(sizes: &[u32], postgres: Option<&str>, filled: Option<&Path>) -> Result<(), Failed> {
    if let (Some(dir), Some(agents)) = (filled, sizes.first()) {
        return Box::pin(of_filled(dir, *agents, postgres)).await;
    }
    let mut all: Vec<Shown> = Vec::new();
    for agents in sizes {
        all.push(Box::pin(one(*agents, postgres)).await?);
    }
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return Ok(()) };
    if first.agents == last.agents {
        return Ok(());
    }
    println!(
        "\n  {} -> {} agents, {:.0} times as many:",
        first.agents,
        last.agents,
        times(last, first, |s| f64::from(s.agents))
    );
    for (what, of) in [
        ("agents/s while loading", (|s| s.load) as fn(&Shown) -> f64),
        ("restart of the registry", |s| s.restart),
        ("snapshot", |s| s.snapshot),
        ("view's memory", |s| s.memory),
        ("get, p50", |s| s.get),
    ] {
        println!("    {what:<40} {:>9.2} times", times(last, first, of));
    }
    Ok(())
}

fn times(last: &Shown, first: &Shown, of: fn(&Shown) -> f64) -> f64 {
    of(last) / of(first)
}

/// Measures what a registry costs that has its agents already: all but loading them.
async fn of_filled(dir: &Path, agents: u32, postgres: Option<&str>) -> Result<(), Failed> {
    let what = if postgres.is_some() { "PostgreSQL" } else { "SQLite, of which 2,000 at most were loaded" };
    println!("\nscale: {agents} agents in {}, {what}", dir.display());
    let mut options = Options::in_dir(&dir.join("suite"));
    options.registry_database = postgres.map(str::to_owned);
    options.port_base = free_ports()?;
    let is_new = !dir.join("suite").exists();
    let mut suite = Box::pin(Suite::start(&options)).await?;
    if postgres.is_some() {
        let last = wire::GetAgentRequest { agent: Some(declared::name_of(agents - 1)), as_of: None };
        if AgentServiceClient::new(suite.dial("registry")?).get_agent(last).await.is_err() {
            println!("  {:<58} {:>9.0} agents/s", "BulkApply, EACH, over mutual TLS", load(&suite, agents).await?);
        }
    } else if is_new {
        load(&suite, LOADED.min(agents)).await?;
        let get = wire::GetAgentRequest { agent: Some(declared::name_of(0)), as_of: None };
        let like = AgentServiceClient::new(suite.dial("registry")?).get_agent(get).await?.into_inner();
        let database = suite.layout().service("registry").join("registry.db");
        suite.shutdown().await;
        let began = Instant::now();
        fill::agents(&database, &like.agent.unwrap_or_default(), LOADED, agents).await?;
        println!("  {:<58} {:>9.1} s", "the others, written beneath the registry", began.elapsed().as_secs_f64());
        suite = Box::pin(Suite::start(&options)).await?;
    }
    settle(&suite).await?;
    reads(&suite, agents).await?;
    snapshot(&suite, agents).await?;
    search::measure(&suite, agents).await?;
    suspend(&suite, agents).await?;
    restarts(&mut suite).await?;
    suite.shutdown().await;
    Ok(())
}

async fn one(agents: u32, postgres: Option<&str>) -> Result<Shown, Failed> {
    let dir = tempfile::tempdir()?;
    let database = match postgres {
        Some(url) => Some(raw::new_database(url).await?),
        None => None,
    };
    let kind = if postgres.is_some() { "PostgreSQL" } else { "SQLite" };
    println!("\nscale: {agents} agents in {} namespaces, {kind}", declared::NAMESPACES);
    let mut options = Options::in_dir(&dir.path().join("suite"));
    options.registry_database.clone_from(&database);
    // Restarted services have to come back where the others look for them.
    options.port_base = free_ports()?;
    let mut suite = Box::pin(Suite::start(&options)).await?;

    let load = load(&suite, agents).await?;
    let floor = raw::insert(dir.path(), postgres, agents).await?;
    println!("  {:<58} {floor:>9.0} rows/s", "the same bytes as bare rows, 500 a transaction (floor)");
    println!("  {:<58} {load:>9.0} agents/s", "BulkApply, EACH, over mutual TLS");
    tell("BulkApply / floor", load / floor, None);

    settle(&suite).await?;
    let get = reads(&suite, agents).await?;
    let (snapshot, memory) = snapshot(&suite, agents).await?;
    preview(&suite).await?;
    search::measure(&suite, agents).await?;
    suspend(&suite, agents).await?;

    let restart = restarts(&mut suite).await?;
    code::measure(&suite, agents).await?;
    suite.shutdown().await;
    if let (Some(url), Some(database)) = (postgres, database) {
        raw::drop_database(url, &database).await?;
    }
    Ok(Shown { agents, load, restart, snapshot, memory, get })
}

/// Both restarts; that of the registry in seconds.
async fn restarts(suite: &mut Suite) -> Result<f64, Failed> {
    let restart = restart(suite, "registry").await?;
    let began = Instant::now();
    suite.lower("policy-decision").await;
    let lowered = began.elapsed();
    suite.raise("policy-decision").await?;
    let serving = began.elapsed() - lowered;
    first_allow(suite).await?;
    let allowed = began.elapsed() - lowered;
    println!(
        "  {:<58} {:>9.2} s   first ALLOW {:>6.2} s",
        "restart of policy-decision to SERVING",
        serving.as_secs_f64(),
        allowed.as_secs_f64()
    );
    Ok(restart)
}

/// A hundred ports that were free a moment ago.
fn free_ports() -> Result<u16, Failed> {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    Ok(if free > 65_000 { free - 1_000 } else { free })
}

/// Loads everything; agents a second.
async fn load(suite: &Suite, agents: u32) -> Result<f64, Failed> {
    load_with(suite, declared::base(), agents).await
}

/// Loads agents, and first what they need; agents a second.
async fn load_with(suite: &Suite, base: Vec<Object>, agents: u32) -> Result<f64, Failed> {
    let mut client = BulkServiceClient::new(suite.dial("registry")?);
    let (asks, outgoing) = mpsc::channel(4);
    let feeding = tokio::spawn(async move {
        let say = |part| wire::BulkApplyRequest { part: Some(part) };
        let start = wire::BulkStart {
            mode: wire::BulkMode::Each.into(),
            reason: "measured".into(),
            ..wire::BulkStart::default()
        };
        asks.send(say(Part::Start(start))).await?;
        let mut sent = base.len() as u64;
        asks.send(say(Part::Items(declared::items(base)))).await?;
        for from in (0..agents).step_by(IN_MESSAGE as usize) {
            let some: Vec<_> = (from..agents.min(from + IN_MESSAGE)).map(declared::agent).collect();
            sent += some.len() as u64;
            asks.send(say(Part::Items(declared::items(some)))).await?;
        }
        asks.send(say(Part::End(wire::BulkEnd { items: sent }))).await?;
        Ok::<_, mpsc::error::SendError<wire::BulkApplyRequest>>(())
    });
    let began = Instant::now();
    let mut answers = client.bulk_apply(ReceiverStream::new(outgoing)).await?.into_inner();
    let mut created = 0;
    // When each tenth was there. The first is not compared: what others do about what was loaded has only begun then.
    let mut tenths = Vec::new();
    while let Some(answer) = answers.message().await? {
        if created >= (tenths.len() + 1) * agents as usize / 10 {
            tenths.push(began.elapsed().as_secs_f64());
        }
        for outcome in answer.outcomes {
            if outcome.action() != wire::BulkAction::Created {
                return Err(format!("{}: {}", outcome.reason_code, outcome.refusal).into());
            }
            created += 1;
        }
    }
    let took = began.elapsed();
    feeding.await??;
    if let (&[first, second, ..], &[.., before, last]) = (&*tenths, &*tenths) {
        let (early, late) = (f64::from(agents) / 10.0 / (second - first), f64::from(agents) / 10.0 / (last - before));
        println!("  {:<58} {early:>9.0} agents/s", "the second tenth of them");
        println!("  {:<58} {late:>9.0} agents/s", "the last tenth of them");
        tell("the last / the second tenth", late / early, None);
    }
    Ok(count(created) / took.as_secs_f64())
}

/// Waits until what the load left behind (audit events on their way, views) is done, so that it is not measured with the rest.
async fn settle(suite: &Suite) -> Result<(), Failed> {
    let began = Instant::now();
    first_allow(suite).await?;
    let database = suite.layout().service("registry");
    let mut last = 0;
    while began.elapsed() < GIVE_UP {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let size = std::fs::metadata(suite.layout().log()).map(|_| raw::bytes_under(&suite.layout().log()))?;
        if size == last {
            break;
        }
        last = size;
    }
    println!(
        "  {:<58} {:>9.1} s   ({} MiB of log)",
        "until the audit log holds it all",
        began.elapsed().as_secs_f64(),
        last >> 20
    );
    if let Ok(file) = std::fs::metadata(database.join("registry.db")) {
        println!("  {:<58} {:>9} MiB", "the registry's file", file.len() >> 20);
    }
    Ok(())
}

/// One agent, and pages of a list; p50 of the first in ms.
async fn reads(suite: &Suite, agents: u32) -> Result<f64, Failed> {
    let mut client = AgentServiceClient::new(suite.dial("registry")?);
    let mut times = Vec::with_capacity(ASKED);
    let began = Instant::now();
    for n in 0..ASKED {
        let began = Instant::now();
        let request = wire::GetAgentRequest { agent: Some(declared::name_of(declared::some(n, agents))), as_of: None };
        client.get_agent(request).await?;
        times.push(began.elapsed());
    }
    let get = Seen::new(times, began.elapsed());
    line("GetAgent", &get);
    for (what, namespace, filter) in declared::lists() {
        let mut request =
            wire::ListAgentsRequest { namespace, filter, page_size: 100, ..wire::ListAgentsRequest::default() };
        let (mut times, began) = (Vec::new(), Instant::now());
        for _ in 0..ASKED / 10 {
            let began = Instant::now();
            // Page after page: the last ones lie far behind the first.
            let page = client.list_agents(request.clone()).await?.into_inner();
            request.page_token = page.next_page_token;
            times.push(began.elapsed());
        }
        line(&what, &Seen::new(times, began.elapsed()));
    }
    Ok(get.percentile(50).as_secs_f64() * 1_000.0)
}

/// What whoever comes new to the stream waits for, in seconds, and what a view of it takes, in bytes an agent.
async fn snapshot(suite: &Suite, agents: u32) -> Result<(f64, f64), Failed> {
    let files = suite.layout().tls("policy-decision");
    let identity = Identity::from_files(&files.cert, &files.key)?;
    let client = suite.remote("registry")?.dial(identity.clone())?;
    let (asks, outgoing) = mpsc::channel(1);
    let start = wire::watch_request::Ask::Start(wire::WatchStart::default());
    asks.send(wire::WatchRequest { ask: Some(start) }).await?;
    let began = Instant::now();
    let mut feed = FeedServiceClient::new(client.clone()).max_decoding_message_size(64 << 20);
    let mut news = feed.watch(ReceiverStream::new(outgoing)).await?.into_inner();
    let (mut first, mut objects, mut bytes) = (None, 0, 0);
    let took = loop {
        let word = news.message().await?.ok_or("the stream ended")?;
        let Some(News::Snapshot(part)) = word.news else { continue };
        first.get_or_insert_with(|| began.elapsed());
        objects += part.objects.len();
        bytes += part.encoded_len();
        if part.last {
            break began.elapsed();
        }
    };
    let first = first.unwrap_or_default();
    println!(
        "  {:<58} {:>9.2} s   first part {:.0} ms, {objects} objects, {} MiB",
        "Watch: a whole snapshot",
        took.as_secs_f64(),
        first.as_secs_f64() * 1_000.0,
        bytes >> 20
    );
    drop((asks, news));
    let before = raw::resident()?;
    let clock = legate_clock::SystemClock::shared();
    let view = legate_view::View::follow(client, legate_view::Options::new(clock));
    let began = Instant::now();
    while view.current().agents_len() < agents as usize {
        if began.elapsed() > GIVE_UP {
            return Err("a view did not come into place".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let memory = count(raw::resident()?.saturating_sub(before)) / f64::from(agents);
    println!("  {:<58} {memory:>9.0} bytes an agent (resident)", "a view of it, beside the others in this process");
    Ok((took.as_secs_f64(), memory))
}

/// An agent is suspended at that size: from the answer to the first denial.
async fn suspend(suite: &Suite, agents: u32) -> Result<(), Failed> {
    let mut registry = AgentServiceClient::new(suite.dial("registry")?);
    let mut decisions = DecisionServiceClient::new(suite.dial("policy-decision")?);
    let (mut acknowledged, mut denied) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for n in 0..SUSPENDED {
        let which = declared::name_of(declared::some(n, agents));
        let get = wire::GetAgentRequest { agent: Some(which.clone()), as_of: None };
        let agent = registry.get_agent(get).await?.into_inner().agent.unwrap_or_default();
        let id = agent.metadata.map(|m| m.id).unwrap_or_default();
        let asked = Instant::now();
        let ask =
            wire::SuspendAgentRequest { agent: Some(which.clone()), reason: "measured".into(), ..Default::default() };
        registry.suspend_agent(ask).await?;
        let answered = Instant::now();
        acknowledged.push(answered - asked);
        while decisions.evaluate(question(&id)).await?.into_inner().reason_code != "AGENT_SUSPENDED" {
            if answered.elapsed() > Duration::from_secs(10) {
                return Err("not denied for the suspension after ten seconds".into());
            }
        }
        denied.push(answered.elapsed());
        let ask = wire::ResumeAgentRequest { agent: Some(which), reason: "measured".into(), ..Default::default() };
        registry.resume_agent(ask).await?;
    }
    line("SuspendAgent", &Seen::new(acknowledged, began.elapsed()));
    line("SuspendAgent acknowledged -> first DENY", &Seen::new(denied, began.elapsed()));
    Ok(())
}

/// What a change of the classes of up to 10,000 agents, which is as many as one preview compares, would do to them.
async fn preview(suite: &Suite) -> Result<(), Failed> {
    let mut client = PreviewServiceClient::new(suite.dial("policy-decision")?).max_decoding_message_size(16 << 20);
    let declaration = |object| wire::Declaration { object: Some(object) };
    let wanted = declared::narrowed_classes().into_iter().map(declaration).collect();
    let ask = policy::PreviewChangeRequest { declarations: wanted, ..policy::PreviewChangeRequest::default() };
    let (mut times, mut told) = (Vec::new(), policy::PreviewChangeResponse::default());
    let all = Instant::now();
    for _ in 0..PREVIEWED {
        let began = Instant::now();
        let mut request = tonic::Request::new(ask.clone());
        request.set_timeout(GIVE_UP);
        told = client.preview_change(request).await?.into_inner();
        times.push(began.elapsed());
    }
    let (compared, missed) = (told.agents_compared, told.agents_not_compared);
    line(&format!("PreviewChange: {compared} agents compared, {missed} not"), &Seen::new(times, all.elapsed()));
    Ok(())
}

fn question(id: &str) -> policy::EvaluateRequest {
    policy::EvaluateRequest {
        subject: Some(policy::Subject {
            agent: Some(policy::subject::Agent::AgentId(id.to_owned())),
            ..policy::Subject::default()
        }),
        action: "invoice:read".into(),
        resource: Some(policy::Resource { r#type: "Invoice".into(), id: "apollo/1".into(), attributes: None }),
        ..policy::EvaluateRequest::default()
    }
}

/// Asks until policy-decision's view is in place and shows the first agent.
async fn first_allow(suite: &Suite) -> Result<(), Failed> {
    let mut registry = AgentServiceClient::new(suite.dial("registry")?);
    let get = wire::GetAgentRequest { agent: Some(declared::name_of(0)), as_of: None };
    let answer = registry.get_agent(get).await?.into_inner();
    let id = answer.agent.and_then(|a| a.metadata).map(|m| m.id).unwrap_or_default();
    let mut decisions = DecisionServiceClient::new(suite.dial("policy-decision")?);
    let began = Instant::now();
    loop {
        let answer = decisions.evaluate(question(&id)).await;
        let answer = answer.map(tonic::Response::into_inner);
        if answer.as_ref().is_ok_and(|a| a.decision() == policy::Decision::Allow) {
            return Ok(());
        }
        if began.elapsed() > GIVE_UP {
            return Err(format!("no ALLOW: {answer:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Lowers a service and raises it again; from the start to SERVING, in seconds.
async fn restart(suite: &mut Suite, service: &'static str) -> Result<f64, Failed> {
    suite.lower(service).await;
    let began = Instant::now();
    suite.raise(service).await?;
    let took = began.elapsed();
    let kept = if took <= RESTART { "kept" } else { "BROKEN" };
    let what = format!("restart of {service} to SERVING");
    println!("  {what:<58} {:>9.3} s   (promised <= 5 s: {kept})", took.as_secs_f64());
    Ok(took.as_secs_f64())
}

fn line(what: &str, seen: &Seen) {
    let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (p50, p99) = (millis(seen.percentile(50)), millis(seen.percentile(99)));
    println!("  {what:<58} p50 {p50:>8.3} ms   p99 {p99:>8.3} ms");
}
