//! How many bytes the view holds for an agent, how fast it takes a snapshot in, and what groups cost a question.
//!
//! `FIGURES_AGENTS=10000,100000,1000000 cargo test --release -p legate-view --test figures -- --ignored --nocapture --test-threads 1`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and this one prints figures")]

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek as _, Write as _};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use legate_clock::SystemClock;
use legate_view::{Feed, News, Options, View};
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::watch_response::News as Told;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::Status;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// So many objects are in a piece of a snapshot.
const PART: u64 = 500;

/// A registry that sends a snapshot out of a file, so that making the objects costs neither time nor memory while it is
/// measured what taking them in does.
#[derive(Debug)]
struct Registry {
    /// The pieces, each after its length.
    pieces: std::fs::File,
}

/// A number below `most`, as if by chance, that the same agent gets every time.
fn one_of(agent: u64, what: u64, most: u64) -> u64 {
    // SplitMix64.
    let mut x = (agent * 16 + what).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) % most
}

/// 20 namespaces, 10 classes in each, 1 of 2,000 owners, 2 of 300 sponsors, 2 labels with 200 and 500 texts; all of them
/// chosen one by one, so that few agents are alike.
fn agent(n: u64) -> wire::Declaration {
    let by = |what, most| one_of(n, what, most);
    let namespace = format!("team-{}", by(0, 20));
    let mut random = [0; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    let moment = Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 0 });
    let metadata = wire::Metadata {
        id: legate_ids::AgentId::from_parts(1_900_000_000_000 + n, random).to_string(),
        name: format!("{}-bot-{n}", ["invoice", "ledger", "refund", "support"][usize::try_from(by(1, 4)).unwrap()]),
        namespace,
        version: 1,
        revision: 1 + n,
        create_time: moment,
        update_time: moment,
        labels: BTreeMap::from([
            ("team".to_owned(), format!("team-{}", by(2, 200))),
            ("cost-center".to_owned(), format!("{}", 4_000 + by(3, 500))),
        ]),
        ..wire::Metadata::default()
    };
    let spec = wire::AgentSpec {
        agent_class: format!("class-{}", by(4, 10)),
        purpose: "Answers questions about invoices.".into(),
        environment: wire::Environment::Prod.into(),
        owners: vec![format!("user:owner-{}@example.com", by(5, 2_000))],
        sponsors: vec![
            format!("user:sponsor-{}@example.com", by(6, 300)),
            format!("user:sponsor-{}@example.com", by(7, 300)),
        ],
        framework: ["langgraph", "crewai", "autogen"][usize::try_from(by(8, 3)).unwrap()].into(),
        model: format!("model-{}", by(9, 10)),
        regions: vec![["eu-central-1", "us-east-1"][usize::try_from(by(10, 2)).unwrap()].into()],
        data_classifications: vec!["financial".into()],
        protocols: vec!["MCP".into()],
        risk_tier: wire::RiskTier::Medium.into(),
        ..wire::AgentSpec::default()
    };
    let status = wire::AgentStatus {
        state: wire::AgentState::Active.into(),
        lifecycle_version: 1,
        ..wire::AgentStatus::default()
    };
    let agent = wire::Agent { metadata: Some(metadata), spec: Some(spec), status: Some(status) };
    wire::Declaration { object: Some(Object::Agent(agent)) }
}

impl Registry {
    /// One of so many agents, and of other objects.
    fn of(agents: u64, others: &[wire::Declaration]) -> Self {
        let mut pieces = tempfile::tempfile().unwrap();
        for part in 0..agents.div_ceil(PART) {
            let mut objects: Vec<_> = (part * PART..agents.min((part + 1) * PART)).map(agent).collect();
            if part == 0 {
                objects.extend_from_slice(others);
            }
            let (first, last) = (part == 0, (part + 1) * PART >= agents);
            let part = wire::SnapshotPart { revision: agents, first, last, ..wire::SnapshotPart::default() };
            let told = wire::WatchResponse { news: Some(Told::Snapshot(part.with_objects(&objects))) };
            let bytes = told.encode_to_vec();
            pieces.write_all(&u64::try_from(bytes.len()).unwrap().to_be_bytes()).unwrap();
            pieces.write_all(&bytes).unwrap();
        }
        pieces.rewind().unwrap();
        Self { pieces }
    }
}

/// The next piece; `None` at the end.
fn next(pieces: &mut impl Read) -> Option<wire::WatchResponse> {
    let mut length = [0; 8];
    pieces.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; usize::try_from(u64::from_be_bytes(length)).unwrap()];
    pieces.read_exact(&mut bytes).unwrap();
    // The objects stay slices of these bytes, as they do of what the network brings.
    Some(wire::WatchResponse::decode(Bytes::from(bytes)).unwrap())
}

#[async_trait::async_trait]
impl Feed for Registry {
    async fn watch(&self, asks: mpsc::Receiver<wire::WatchRequest>) -> Result<News, Status> {
        let mut pieces = BufReader::with_capacity(1 << 20, self.pieces.try_clone().unwrap());
        let parts = futures_util::stream::iter(std::iter::from_fn(move || next(&mut pieces).map(Ok)));
        // The stream stays open, as a registry's does.
        let open = futures_util::stream::once(async move {
            let _asks = asks;
            std::future::pending().await
        });
        Ok(parts.chain(open).boxed())
    }
}

fn follow(registry: Registry) -> legate_view::ViewHandle {
    let mut options = Options::new(SystemClock::shared());
    options.silent_after = Duration::from_secs(3_600);
    View::follow(registry, options)
}

/// What this process has in memory, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

/// The same once the allocator has given back what was needed only on the way, which it does after a while.
fn settled() -> u64 {
    let mut last = resident();
    loop {
        std::thread::sleep(Duration::from_millis(1_500));
        match resident() {
            now if now < last => last = now,
            _ => return last,
        }
    }
}

#[test]
#[ignore = "prints figures, which mean something in a release build only"]
fn bytes_for_an_agent() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut kept = Vec::new();
    println!("agents   bytes/agent   taken in after   agents/s");
    let sizes = std::env::var("FIGURES_AGENTS").unwrap_or_else(|_| "10000,100000,1000000".into());
    for agents in sizes.split(',').map(|size| size.parse().unwrap()) {
        let registry = Registry::of(agents, &[]);
        let before = resident();
        let begin = Instant::now();
        let view = runtime.block_on(async {
            let view = follow(registry);
            view.wait_for(agents, Duration::from_secs(600)).await.unwrap();
            view
        });
        let took = begin.elapsed();
        let each = settled().saturating_sub(before) as f64 / agents as f64;
        println!("{agents:>9} {each:>10.0} {took:>14.2?} {:>12.0}", agents as f64 / took.as_secs_f64());
        assert_eq!(view.current().agents_len() as u64, agents);
        assert!(agents < 1_000_000 || each <= 400.0, "{each} bytes for an agent");
        // What was held before stays, so that the next measurement does not live in its place.
        kept.push(view);
    }
}

fn meta(name: String) -> Option<wire::Metadata> {
    let namespace = "team-0".to_owned();
    Some(wire::Metadata { name: name.clone(), namespace, id: format!("obj_{name}"), ..wire::Metadata::default() })
}

/// 200 groups of one namespace that select by two comparisons; and, where they are bound, a binding of each.
fn groups(are_bound: bool) -> Vec<wire::Declaration> {
    let mut all = Vec::new();
    for n in 0..200 {
        let selector = format!("labels.team = team-{n} AND environment = prod");
        let spec = Some(wire::GroupSpec { selector, ..wire::GroupSpec::default() });
        all.push(Object::Group(wire::Group { metadata: meta(format!("group-{n}")), spec }));
        if are_bound {
            let (role, groups) = ("reader".to_owned(), vec![format!("group-{n}")]);
            let spec = Some(wire::RoleBindingSpec { role, groups, ..wire::RoleBindingSpec::default() });
            all.push(Object::RoleBinding(wire::RoleBinding { metadata: meta(format!("binding-{n}")), spec }));
        }
    }
    all.into_iter().map(|object| wire::Declaration { object: Some(object) }).collect()
}

#[test]
#[ignore = "prints figures, which mean something in a release build only"]
fn what_groups_cost_a_question() {
    const ROUNDS: u32 = 100_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("bindings and boundaries of an agent");
    for (what, others) in
        [("no groups", vec![]), ("200 that nothing names", groups(false)), ("200, bound", groups(true))]
    {
        let view = runtime.block_on(async {
            let view = follow(Registry::of(1_000, &others));
            view.wait_for(1_000, Duration::from_secs(60)).await.unwrap();
            view
        });
        let snapshot = view.current();
        let agents: Vec<_> = (0..1_000)
            .map(agent)
            .filter_map(|declared| match declared.object {
                Some(Object::Agent(a)) => a.metadata.filter(|m| m.namespace == "team-0"),
                _ => None,
            })
            .collect();
        let agents: Vec<_> = agents.iter().filter_map(|m| snapshot.agent_named(&m.namespace, &m.name)).collect();
        let begin = Instant::now();
        let mut found = 0;
        for n in 0..ROUNDS {
            let agent = agents[n as usize % agents.len()];
            found += snapshot.bindings_of(agent).count() + snapshot.boundaries_of(agent).count();
        }
        println!("{what:>24}: {:>10.0?} ({} found)", begin.elapsed() / ROUNDS, found);
        assert_eq!(found > 0, what == "200, bound");
    }
}
