//! How long questions over the audit log take, at several sizes of it, against a call that answers what it holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use legate::dev::{Options, Suite};
use legate_clock::{Clock, SystemClock, Timestamp};
use legate_ids::{AgentId, EventId};
use legate_mtls::Identity;
use legate_rpc::Client;
use legate_wire::audit as wire;
use prost::Message;
use wire::ingest_service_client::IngestServiceClient;
use wire::proof_service_client::ProofServiceClient;
use wire::query_service_client::QueryServiceClient;

use crate::load::{self, Seen};
use crate::{Failed, stored};

/// Events in one request.
const BATCH: u64 = 512;
/// Agents that events are of; the first made the next twenty.
const AGENTS: u64 = 1_000;
const FAMILY: u64 = 21;
/// People for whom they act, in two events of three.
const PEOPLE: u64 = 200;
/// Over so long the events are spread.
const SPAN: Duration = Duration::from_secs(60 * 86_400);
/// Calls of one kind.
const CALLS: usize = 300;
/// Different questions of one kind: whoever asks more than 64 within 10 s is slowed down.
const DIFFERENT: u64 = 8;
/// Events of one request while a tail follows, and the time between two looks at how far the index is.
const AT_ONCE: u64 = 32;
const BETWEEN: Duration = Duration::from_millis(50);

fn agent(n: u64) -> String {
    let mut tail = [0; 10];
    tail[2..].copy_from_slice(&n.to_be_bytes());
    AgentId::from_parts(1, tail).to_string()
}

fn person(n: u64) -> String {
    format!("user:person-{n}@example.com")
}

/// Steps that look like chance and are the same in every run.
fn scattered(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) >> 7
}

/// What a decision leaves, told as the registry's.
fn event(emitter: &str, seq: u64, time: Timestamp) -> Bytes {
    let chance = scattered(seq);
    let (who, whom) = (agent(chance % AGENTS), person(chance / AGENTS % PEOPLE));
    let acts_for = !chance.is_multiple_of(3);
    let kind = if seq < FAMILY { "agent.created" } else { "decision.made" };
    let created = seq < FAMILY;
    let details = if created { vec![("made_by".to_owned(), agent(0))] } else { Vec::new() };
    let spiffe_id = format!("spiffe://dev.legate/ns/payments/agent/{who}");
    let event = wire::AuditEvent {
        event_id: EventId::from_parts(seq, [1; 10]).to_string(),
        emitter: Some(wire::Emitter { spiffe_id: emitter.into(), epoch: "bench".into(), seq }),
        time: Some(time.into()),
        r#type: kind.into(),
        namespace: format!("team-{}", chance % 20),
        actor: "spiffe://dev.legate/ns/payments/enforcer/invoices".into(),
        agent_id: if created { agent(seq) } else { who },
        subject: if acts_for { whom } else { String::new() },
        chain: if acts_for { vec![spiffe_id] } else { Vec::new() },
        acting_mode: wire::ActingMode::Autonomous.into(),
        action: ["invoice:read", "invoice:list", "invoice:pay"][usize::try_from(chance % 3).unwrap_or(0)].into(),
        resource: Some(wire::EventResource {
            r#type: "Invoice".into(),
            id: format!("apollo/{}", chance % 50_000),
            ..wire::EventResource::default()
        }),
        outcome: if chance.is_multiple_of(10) { wire::Outcome::Denied } else { wire::Outcome::Success }.into(),
        reason_code: "ALLOWED".into(),
        reason: "allowed: payments/invoice-bot-reads-apollo@1: gives invoice:read on Invoice apollo/*".into(),
        decision: Some(wire::EventDecision {
            decision_id: format!("dec_{seq:026}"),
            allowed: true,
            determining: vec!["binding:payments/reads@1".into()],
            ..wire::EventDecision::default()
        }),
        revision: 7,
        trace_id: format!("{:032x}", scattered(seq / 3)),
        details: details.into_iter().collect(),
        ..wire::AuditEvent::default()
    };
    event.encode_to_vec().into()
}

struct Bench {
    suite: Suite,
    registry: IngestServiceClient<Client>,
    emitter: String,
    begin: Timestamp,
    next: u64,
}

impl Bench {
    /// Appends events up to so many, and waits until the index holds them: how long each took.
    async fn fill(&mut self, until: u64, of: u64) -> Result<(Duration, Duration), Failed> {
        let started = Instant::now();
        let mut last = 0;
        while self.next < until {
            let to = (self.next + BATCH).min(until);
            let at = |seq: u64| self.begin.plus(SPAN.mul_f64(seq as f64 / of as f64));
            let events = (self.next..to).map(|seq| event(&self.emitter, seq + 1, at(seq))).collect();
            let request = wire::AppendEventsRequest {
                epoch: "bench".to_owned(),
                first_seq: self.next + 1,
                events,
                ..Default::default()
            };
            let told = self.registry.append_events(request).await?.into_inner();
            last = told.first_leaf_index.ok_or("events that were there already")? + (to - self.next);
            self.next = to;
        }
        let appended = started.elapsed();
        let mut through = 0;
        while through < last {
            let ask = wire::QueryEventsRequest { page_size: 1, ..wire::QueryEventsRequest::default() };
            match self.queries()?.query_events(ask).await {
                Ok(answer) => through = answer.into_inner().indexed_through,
                // Who may read what is in the index too, so nobody is answered while that is far behind.
                Err(status) if status.code() == tonic::Code::Unavailable => {}
                Err(status) => return Err(status.into()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok((appended, started.elapsed()))
    }

    fn queries(&self) -> Result<QueryServiceClient<Client>, Failed> {
        Ok(QueryServiceClient::new(self.suite.dial("audit-collector")?).max_decoding_message_size(8 << 20))
    }

    /// Asks one after the other, and sees how long each took and how many events came.
    async fn ask(&self, question: impl Fn(u64) -> wire::QueryEventsRequest) -> Result<(Seen, usize, usize), Failed> {
        let mut client = self.queries()?;
        let (mut times, mut events, mut partial) = (Vec::new(), 0, 0);
        let began = Instant::now();
        for n in 0..CALLS as u64 {
            let request = question(n);
            let start = Instant::now();
            let page = client.query_events(request).await?.into_inner();
            times.push(start.elapsed());
            events += page.events.len();
            partial += usize::from(page.is_partial);
        }
        Ok((Seen::new(times, began.elapsed()), events / CALLS, partial))
    }

    /// What `of` takes.
    async fn usage(&self) -> Result<Seen, Failed> {
        let mut client = self.queries()?;
        let mut times = Vec::new();
        let began = Instant::now();
        for n in 0..CALLS as u64 / 10 {
            let request = wire::ListUsageRequest {
                agent_id: agent(n % DIFFERENT * 7),
                period: wire::UsagePeriod::Day.into(),
                ..wire::ListUsageRequest::default()
            };
            let start = Instant::now();
            client.list_usage(request).await?;
            times.push(start.elapsed());
        }
        Ok(Seen::new(times, began.elapsed()))
    }

    async fn floor(&self) -> Result<Seen, Failed> {
        let mut client = ProofServiceClient::new(self.suite.dial("audit-collector")?);
        let mut times = Vec::new();
        let began = Instant::now();
        for _ in 0..CALLS {
            let start = Instant::now();
            client.get_checkpoint(wire::GetCheckpointRequest::default()).await?;
            times.push(start.elapsed());
        }
        Ok(Seen::new(times, began.elapsed()))
    }

    /// From the answer to an append until the index has the event.
    async fn lag(&mut self) -> Result<Seen, Failed> {
        let mut client = self.queries()?;
        let mut times = Vec::new();
        let began = Instant::now();
        for _ in 0..20 {
            let (seq, at) = (self.next, self.begin.plus(SPAN));
            let events = vec![event(&self.emitter, seq + 1, at)];
            let request = wire::AppendEventsRequest {
                epoch: "bench".to_owned(),
                first_seq: seq + 1,
                events,
                ..Default::default()
            };
            let told = self.registry.append_events(request).await?.into_inner();
            self.next += 1;
            let start = Instant::now();
            let leaf = told.first_leaf_index.unwrap_or_default();
            let ask = wire::QueryEventsRequest { indexed_at_least: leaf + 1, page_size: 1, ..Default::default() };
            client.query_events(ask).await?;
            times.push(start.elapsed());
        }
        Ok(Seen::new(times, began.elapsed()))
    }
}

/// What is seen while events come in as fast as one emitter tells them.
struct Loaded {
    /// From an append's acknowledgement to the line of a tail.
    tailed: Seen,
    /// Leaves that the index was behind, sorted.
    behind: Vec<u64>,
    rate: f64,
}

impl Bench {
    /// Tells for so long, while somebody follows the log and somebody looks how far the index is.
    async fn under_load(&mut self, time: Duration) -> Result<Loaded, Failed> {
        let ask = wire::TailEventsRequest { query: Some(Default::default()), ..Default::default() };
        let mut line = self.queries()?.tail_events(ask).await?.into_inner();
        let (acked, mut asked) = tokio::sync::mpsc::unbounded_channel::<(u64, Instant)>();
        let following = tokio::spawn(async move {
            let (mut times, mut seen) = (Vec::new(), BTreeMap::new());
            while let Some((leaf, at)) = asked.recv().await {
                while seen.last_key_value().is_none_or(|(last, _)| *last < leaf) {
                    let Some(news) = line.message().await? else { return Err("the tail ended".into()) };
                    let now = Instant::now();
                    seen.extend(news.events.into_iter().map(|one| (one.leaf_index, now)));
                }
                times.extend(seen.get(&leaf).map(|shown: &Instant| shown.saturating_duration_since(at)));
                seen = seen.split_off(&leaf);
            }
            Ok::<_, Failed>(times)
        });
        let mut client = self.queries()?;
        let (look, mut looks) = tokio::sync::mpsc::unbounded_channel();
        let looking = tokio::spawn(async move {
            loop {
                tokio::time::sleep(BETWEEN).await;
                let ask = wire::QueryEventsRequest { page_size: 1, ..Default::default() };
                // Nobody is answered while the index is far behind, which the next look that is answered shows.
                let Ok(answer) = client.query_events(ask).await else { continue };
                let answer = answer.into_inner();
                if look.send(answer.log_size.saturating_sub(answer.indexed_through)).is_err() {
                    return;
                }
            }
        });
        let (began, first) = (Instant::now(), self.next);
        while began.elapsed() < time {
            let to = self.next + AT_ONCE;
            let events = (self.next..to).map(|seq| event(&self.emitter, seq + 1, self.begin.plus(SPAN))).collect();
            let (epoch, first_seq) = ("bench".to_owned(), self.next + 1);
            let request = wire::AppendEventsRequest { epoch, first_seq, events, ..Default::default() };
            let told = self.registry.append_events(request).await?.into_inner();
            acked.send((told.first_leaf_index.unwrap_or_default(), Instant::now()))?;
            self.next = to;
        }
        let took = began.elapsed();
        drop(acked);
        let times = following.await??;
        looking.abort();
        let mut behind: Vec<u64> = std::iter::from_fn(|| looks.try_recv().ok()).collect();
        behind.sort_unstable();
        let rate = (self.next - first) as f64 / took.as_secs_f64();
        Ok(Loaded { tailed: Seen::new(times, took), behind, rate })
    }
}

fn say(what: &str, seen: &Seen, events: usize, partial: usize) {
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let cut = if partial > 0 { format!(", {partial} of {CALLS} pages partial") } else { String::new() };
    println!(
        "  {what:<58} p50 {:>8.2} ms, p99 {:>8.2} ms, {events} events{cut}",
        ms(seen.percentile(50)),
        ms(seen.percentile(99))
    );
}

/// Measures, and prints.
pub(crate) async fn measure(sizes: &[u64]) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let suite = Box::pin(Suite::start(&Options::in_dir(&dir.path().join("suite")))).await?;
    // The registry's own certificate: only services may emit.
    let files = suite.layout().tls("registry");
    let identity = Identity::from_files(&files.cert, &files.key)?;
    let emitter = format!("spiffe://{}/legate/registry", suite.domain());
    let registry = suite.remote("audit-collector")?.dial(identity)?;
    let registry = IngestServiceClient::new(registry).max_encoding_message_size(4 << 20);
    let log = suite.layout().log();
    let begin = SystemClock::new().now().minus(SPAN);
    let mut bench = Bench { suite, registry, emitter, begin, next: 0 };
    let largest = sizes.iter().copied().max().unwrap_or_default();
    for &size in sizes {
        let before = bench.next;
        let (appended, indexed) = bench.fill(size, largest).await?;
        let new = (size - before) as f64;
        println!("\nquery: {size} events of {AGENTS} agents and {PEOPLE} people, SQLite");
        println!(
            "  appended at {:.0} events/s, indexed at {:.0} events/s",
            new / appended.as_secs_f64(),
            new / indexed.as_secs_f64()
        );
        let is_index = |path: &Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("index.db"));
        let each = |of| Ok::<_, Failed>(stored::bytes(&log, of)? as f64 / size as f64);
        println!(
            "  {:.0} bytes an event in segments, {:.0} in tiles, {:.0} in the index; an event itself has {}",
            each(|path| path.extension().is_some_and(|e| e == "seg"))?,
            each(|path| path.components().any(|c| c.as_os_str() == "tile"))?,
            each(is_index)?,
            event(&bench.emitter, size, begin).len()
        );
        let floor = bench.floor().await?;
        say("a checkpoint over the same mutual TLS (floor)", &floor, 0, 0);
        let since = Some(bench.begin.plus(SPAN).minus(Duration::from_secs(31 * 86_400)).into());
        let (one, n, cut) = bench
            .ask(|n| wire::QueryEventsRequest {
                agent_id: agent(n % DIFFERENT * 7),
                page_size: 100,
                ..Default::default()
            })
            .await?;
        say("one agent's last 100", &one, n, cut);
        load::at_most("its p99, in ms", one.percentile(99).as_secs_f64() * 1e3, 5.0);
        let (whole, n, cut) = bench
            .ask(|n| wire::QueryEventsRequest {
                subject: person(n % DIFFERENT),
                via_agent_id: agent(0),
                include_descendants: true,
                from_time: since,
                page_size: 100,
                ..Default::default()
            })
            .await?;
        say("for somebody through an agent and its own, last month", &whole, n, cut);
        load::at_most("its p99, in ms", whole.percentile(99).as_secs_f64() * 1e3, 50.0);
        let (family, n, cut) = bench
            .ask(|_| wire::QueryEventsRequest {
                via_agent_id: agent(0),
                include_descendants: true,
                from_time: since,
                ..Default::default()
            })
            .await?;
        say("through an agent and its own, last month", &family, n, cut);
        let (filtered, n, cut) = bench
            .ask(|n| wire::QueryEventsRequest {
                filter: format!("outcome = denied AND action != \"invoice:pay\" AND namespace = team-{}", n % 20),
                ..Default::default()
            })
            .await?;
        say("a filter within a namespace", &filtered, n, cut);
        let (rare, n, cut) = bench
            .ask(|_| wire::QueryEventsRequest { filter: "outcome = failure".into(), ..Default::default() })
            .await?;
        say("a filter that nothing fits, one page", &rare, n, cut);
        let (proved, n, cut) = bench
            .ask(|n| wire::QueryEventsRequest {
                agent_id: agent(n % DIFFERENT * 7),
                with_proofs: true,
                page_size: 100,
                ..Default::default()
            })
            .await?;
        say("one agent's last 100 with proofs", &proved, n, cut);
        let usage = bench.usage().await?;
        say("usage of one agent by the day", &usage, 0, 0);
        let lag = bench.lag().await?;
        say("from an append to the index", &lag, 1, 0);
        let Loaded { tailed, behind, rate } = bench.under_load(Duration::from_secs(5)).await?;
        println!("  under load, {rate:.0} events/s by one emitter, {AT_ONCE} at once");
        say("  from an acknowledged append to a tail's line", &tailed, 1, 0);
        let at = |of: usize| behind.get(behind.len() * of / 100).copied().unwrap_or_default();
        println!("  {:<58} p50 {:>8} leaves, p99 {:>5} leaves", "  the index behind the log", at(50), at(99));
    }
    bench.suite.shutdown().await;
    Ok(())
}
