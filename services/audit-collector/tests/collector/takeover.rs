//! Two audit-collectors that share a log in PostgreSQL, as processes that are killed, stopped and cut off under load: nothing that was
//! acknowledged is lost or there twice, and whatever was signed stays the beginning of the log.
//!
//! Each is this test binary started again: [`a_process_serves`] is what `legate serve audit-collector` does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{SocketAddr, TcpListener as Port};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use legate_ids::EventId;
use legate_merkle::{Checkpoint, TileId, TileKind, VerifierKey, Walk, decode_bundle, walk};
use legate_rpc::{Client, Code, Told};
use legate_wire::audit::ingest_service_client::IngestServiceClient;
use legate_wire::audit::{AppendEventsRequest, AuditEvent, Emitter};
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::house::{House, LONG, ORIGIN};

const LEASE: Duration = Duration::from_secs(4);

/// Names the configuration that this process is to serve by.
const SERVE: &str = "LEGATE_TESTS_COLLECTOR";

/// Not a test of its own: what a child process runs.
#[test]
fn a_process_serves() {
    let Ok(config) = std::env::var(SERVE) else { return };
    if let Err(refused) = legate_boot::run("audit-collector", Path::new(&config), legate_audit_collector::start) {
        panic!("{refused}");
    }
}

/// A port that was free a moment ago. Restarts need it to stay the same, so it is none of those that the kernel gives to whoever asks for
/// any (32,768 and up, where nothing else is set).
fn port(n: u32) -> u16 {
    (0..)
        .map(|turn| 20_000 + (std::process::id() * 61 + n * 31 + turn) % 12_000)
        .find_map(|port| {
            let port = u16::try_from(port).unwrap();
            Port::bind(("127.0.0.1", port)).is_ok().then_some(port)
        })
        .unwrap()
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A way to a server that can be closed and opened again.
struct Way {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Way {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_open, open) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut open, server) = (open.clone(), server.clone());
                tokio::spawn(async move {
                    if !*open.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(&server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, is_open }
    }
}

/// The newest checkpoint in a log's directory, by its public key.
fn checkpoint(dir: &Path) -> Checkpoint {
    let key = std::fs::read_to_string(dir.join("log.pub")).unwrap();
    let key = VerifierKey::parse(key.trim()).unwrap();
    Checkpoint::open(&std::fs::read(dir.join("checkpoint")).unwrap(), &key, ORIGIN).unwrap()
}

/// The events of a log that is verified from its directory, and that continues what was kept of it before.
fn events(dir: &Path, kept: &Checkpoint) -> Vec<AuditEvent> {
    let (newest, mut events) = (checkpoint(dir), Vec::new());
    let walked = walk(Walk { checkpoint: &newest, saved: &[kept] }, |tile: TileId| {
        let bytes = std::fs::read(dir.join(tile.to_string()))?;
        if tile.kind == TileKind::Entries {
            let leaves = decode_bundle(&bytes, usize::from(tile.width)).into_iter().flatten();
            events.extend(leaves.map(|leaf| AuditEvent::decode(leaf).unwrap()));
        }
        Ok::<_, std::io::Error>(bytes)
    });
    assert_eq!(walked.unwrap().continues, Some(kept.size));
    events
}

/// Two collectors.
struct Pair {
    house: House,
    dir: tempfile::TempDir,
    ports: [u16; 2],
    children: [Option<Child>; 2],
}

impl Pair {
    fn new(database: &str) -> Self {
        let (house, dir) = (House::build(), tempfile::tempdir().unwrap());
        let pair = Self { house, dir, ports: [port(0), port(1)], children: [None, None] };
        let common = pair.house.config();
        for which in 0..2 {
            let text = format!(
                "listen = \"127.0.0.1:{}\"\ndir = {:?}\ndatabase = {database:?}\n[personal]\ndir = {:?}\nkek = {:?}\n\
                [log]\ncommit_log = \"postgres\"\nlease_s = {}\n[telemetry]\nlog = \"info\"\n\
                [tls]\ntrust_domain = \"example.org\"\ncert = {:?}\nkey = {:?}\nservices_ca = {:?}\n",
                pair.ports[which],
                pair.log(which),
                pair.dir.path().join(format!("names-{which}")),
                common.personal.kek,
                LEASE.as_secs(),
                common.tls.cert,
                common.tls.key,
                common.tls.services_ca,
            );
            std::fs::write(pair.config(which), text).unwrap();
        }
        pair
    }

    fn config(&self, which: usize) -> PathBuf {
        self.dir.path().join(format!("{which}.toml"))
    }

    fn log(&self, which: usize) -> PathBuf {
        self.dir.path().join(format!("log-{which}"))
    }

    fn spawn(&mut self, which: usize) {
        let told = self.dir.path().join(format!("{which}.log"));
        let told = File::options().create(true).append(true).open(told).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "takeover::a_process_serves", "--nocapture", "--test-threads=1"])
            .env(SERVE, self.config(which))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(told)
            .spawn();
        self.children[which] = Some(child.unwrap());
    }

    fn signal(&self, which: usize, name: &str) {
        signal(self.children[which].as_ref().unwrap(), name);
    }

    fn kill(&mut self, which: usize) {
        let mut child = self.children[which].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn told(&self) -> String {
        let read = |which| std::fs::read_to_string(self.dir.path().join(format!("{which}.log"))).unwrap_or_default();
        format!("{}\n--\n{}", read(0), read(1))
    }

    /// A way to one of them, or to whichever answers.
    fn dial(&self, which: &[usize], who: &str) -> Client {
        let endpoints: Vec<String> = which.iter().map(|at| format!("https://127.0.0.1:{}", self.ports[*at])).collect();
        self.house.dial_to(endpoints.join(","), &self.house.service(who), LONG)
    }

    /// Offers nothing that is new, to see who answers how.
    async fn ask(&self, which: usize) -> Result<u64, Told> {
        let mut to = IngestServiceClient::new(self.dial(&[which], "registry"));
        offer(&mut to, "registry", "asks", 1, 1).await
    }

    async fn until_it_leads(&self, which: usize) {
        let begin = Instant::now();
        while let Err(told) = self.ask(which).await {
            assert!(begin.elapsed() < LONG, "{which} does not lead: {told:?}\n{}", self.told());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// It says that it stands by, and who leads.
    async fn until_it_stands_by(&self, which: usize, leader: usize) {
        let begin = Instant::now();
        loop {
            let told = self.ask(which).await;
            let names = |told: &Told| told.metadata.get("leader").cloned();
            let leader = format!("127.0.0.1:{}", self.ports[leader]);
            match &told {
                Err(told) if told.reason == "AUDIT_STANDBY" && names(told) == Some(leader) => {
                    assert_eq!(told.code, Code::Unavailable);
                    assert!(told.retry_after.is_some());
                    return;
                }
                _ => assert!(begin.elapsed() < LONG, "{which} does not stand by: {told:?}\n{}", self.told()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

fn event(who: &str, epoch: &str, seq: u64) -> AuditEvent {
    let spiffe_id = format!("spiffe://example.org/legate/{who}");
    AuditEvent {
        // The same however often it is offered, and nobody else's.
        event_id: EventId::from_parts(seq, [epoch.as_bytes()[epoch.len() - 1]; 10]).to_string(),
        emitter: Some(Emitter { spiffe_id, epoch: epoch.into(), seq }),
        time: Some(legate_clock::Clock::now(&legate_clock::SystemClock::new()).into()),
        r#type: "agent.suspended".into(),
        ..AuditEvent::default()
    }
}

async fn offer(
    to: &mut IngestServiceClient<Client>,
    who: &str,
    epoch: &str,
    first_seq: u64,
    count: u64,
) -> Result<u64, Told> {
    let events = (first_seq..first_seq + count).map(|seq| event(who, epoch, seq).encode_to_vec().into()).collect();
    let request = AppendEventsRequest { epoch: epoch.into(), first_seq, events, ..AppendEventsRequest::default() };
    let mut request = tonic::Request::new(request);
    request.set_timeout(Duration::from_secs(4));
    let answer = to.append_events(request).await;
    answer.map(|answer| answer.into_inner().acked_seq).map_err(|status| Told::from_status(&status))
}

/// Emitters that offer what comes next, again and again, to whoever answers.
struct Load {
    over: Arc<AtomicBool>,
    acked: Arc<[AtomicU64; 4]>,
    emitters: Vec<tokio::task::JoinHandle<()>>,
}

const WHO: [&str; 4] = ["registry", "credential-issuer", "policy-decision", "registry"];

impl Load {
    fn on(pair: &Pair) -> Self {
        let (over, acked) = (Arc::new(AtomicBool::new(false)), Arc::new([const { AtomicU64::new(0) }; 4]));
        let emitters = (0..WHO.len()).map(|n| {
            let mut to = IngestServiceClient::new(pair.dial(&[n % 2, 1 - n % 2], WHO[n]));
            let (over, acked) = (Arc::clone(&over), Arc::clone(&acked));
            tokio::spawn(async move {
                let epoch = format!("load-{n}");
                while !over.load(Ordering::SeqCst) {
                    let next = acked[n].load(Ordering::SeqCst) + 1;
                    match offer(&mut to, WHO[n], &epoch, next, 1 + next % 7).await {
                        Ok(seq) => acked[n].store(seq, Ordering::SeqCst),
                        // What was acknowledged is not there any more, if this comes.
                        Err(told) if told.reason == "AUDIT_SEQUENCE_GAP" => panic!("{epoch}: {told:?}"),
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            })
        });
        Self { emitters: emitters.collect(), over: Arc::clone(&over), acked: Arc::clone(&acked) }
    }

    fn acked(&self) -> Vec<u64> {
        self.acked.iter().map(|acked| acked.load(Ordering::SeqCst)).collect()
    }

    /// Every emitter is acknowledged more than it was.
    async fn goes_on(&self, pair: &Pair) {
        let (before, begin) = (self.acked(), Instant::now());
        while self.acked().iter().zip(&before).any(|(now, before)| *now < before + 20) {
            assert!(!self.emitters.iter().any(tokio::task::JoinHandle::is_finished), "events are lost");
            assert!(begin.elapsed() < LONG * 2, "nothing is acknowledged: {:?}\n{}", self.acked(), pair.told());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn terminate(admin: &DatabaseConnection, database: &str) {
    let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
    admin.execute_unprepared(&sql).await.unwrap();
}

/// The epoch of the lease, and until when it goes; zero: it was given back.
async fn lease(rows: &DatabaseConnection) -> (i64, i64) {
    let row =
        rows.query_one_raw(Statement::from_string(DbBackend::Postgres, "SELECT epoch, lease_until FROM log_lease"));
    let row = row.await.unwrap().unwrap();
    (row.try_get("", "epoch").unwrap(), row.try_get("", "lease_until").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_collectors_never_fork_the_log_and_lose_nothing_whoever_is_killed_stopped_or_cut_off() {
    let Ok(base) = std::env::var("LEGATE_TEST_POSTGRES") else { return };
    let admin = Database::connect(&base).await.unwrap();
    let (user, server) = base.strip_prefix("postgres://").unwrap().rsplit_once('@').unwrap();
    let way = Way::to(server.split_once('/').map_or(server, |(server, _)| server).to_owned()).await;
    let name = format!("legate_shared_log_{}_{}", std::process::id(), way.address.port());
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();

    let mut pair = Pair::new(&format!("postgres://{user}@{}/{name}", way.address));
    pair.spawn(0);
    pair.until_it_leads(0).await;
    std::fs::create_dir_all(pair.log(1)).unwrap();
    std::fs::copy(pair.log(0).join("log.key"), pair.log(1).join("log.key")).unwrap();
    pair.spawn(1);
    pair.until_it_stands_by(1, 0).await;
    let load = Load::on(&pair);
    load.goes_on(&pair).await;
    let mut kept: Vec<Checkpoint> = vec![checkpoint(&pair.log(0))];

    // The one that leads is killed; the other one takes over once the lease is over, and the first comes back behind it.
    pair.kill(0);
    pair.until_it_leads(1).await;
    pair.spawn(0);
    load.goes_on(&pair).await;
    pair.until_it_stands_by(0, 1).await;
    kept.extend([checkpoint(&pair.log(0)), checkpoint(&pair.log(1))]);

    // The one that leads is stopped for longer than its lease, with an offer on its way in, and goes on as if nothing had been.
    let mut late = IngestServiceClient::new(pair.dial(&[1], "registry"));
    offer(&mut late, "registry", "late", 1, 1).await.unwrap();
    pair.signal(1, "STOP");
    let offering = tokio::spawn(async move { offer(&mut late, "registry", "late", 2, 1).await });
    pair.until_it_leads(0).await;
    load.goes_on(&pair).await;
    pair.signal(1, "CONT");
    let told = offering.await.unwrap();
    assert!(told.is_err(), "who was stopped has acknowledged something: {told:?}");
    pair.until_it_stands_by(1, 0).await;
    load.goes_on(&pair).await;
    kept.extend([checkpoint(&pair.log(0)), checkpoint(&pair.log(1))]);

    // Connections are cut in the midst of commits: by the server, as often as it takes to meet one, and on the way.
    let begin = Instant::now();
    while !pair.told().contains("what became of it is found out") {
        assert!(begin.elapsed() < LONG * 2, "no commit was cut off: {}", pair.told());
        terminate(&admin, &name).await;
        load.goes_on(&pair).await;
    }
    for closed in [Duration::from_millis(50), Duration::from_millis(300), LEASE * 2] {
        way.is_open.send_replace(false);
        tokio::time::sleep(closed).await;
        way.is_open.send_replace(true);
        load.goes_on(&pair).await;
    }

    // Whoever leads is asked to end, and gives its lease back: nobody waits for it.
    let leads = if pair.ask(0).await.is_ok() { 0 } else { 1 };
    let url = base.replace(server, &format!("{}/{name}", server.split('/').next().unwrap()));
    let rows = Database::connect(&url).await.unwrap();
    let (epoch, until) = lease(&rows).await;
    assert!(until > 0);
    pair.signal(leads, "TERM");
    assert!(pair.children[leads].take().unwrap().wait().unwrap().success(), "{}", pair.told());
    let (now, until) = lease(&rows).await;
    assert!(now > epoch || until == 0, "{}", pair.told());
    rows.close().await.unwrap();
    pair.until_it_leads(1 - leads).await;
    load.goes_on(&pair).await;
    load.over.store(true, Ordering::SeqCst);
    for emitter in load.emitters {
        emitter.await.unwrap();
    }
    let acked: Vec<u64> = load.acked.iter().map(|acked| acked.load(Ordering::SeqCst)).collect();
    kept.extend([checkpoint(&pair.log(0)), checkpoint(&pair.log(1))]);
    pair.signal(1 - leads, "TERM");
    assert!(pair.children[1 - leads].take().unwrap().wait().unwrap().success(), "{}", pair.told());

    // In order, none missing, none twice; what was acknowledged is there, and what whoever was stopped did not is not.
    let dir = pair.log(1 - leads);
    let (mut next, mut ids) = (BTreeMap::new(), BTreeSet::new());
    for event in events(&dir, &kept[0]) {
        let emitter = event.emitter.unwrap();
        let expected = next.entry((emitter.spiffe_id.clone(), emitter.epoch.clone())).or_insert(1);
        assert_eq!(emitter.seq, *expected, "{emitter:?} is out of order, or events before it are missing");
        *expected += 1;
        assert!(
            ids.insert(event.event_id.clone()),
            "{emitter:?} is there twice: {} {:?}",
            event.r#type,
            event.event_id
        );
    }
    let there = |who: &str, epoch: &str| {
        let emitter = (format!("spiffe://example.org/legate/{who}"), epoch.to_owned());
        next.get(&emitter).map_or(0, |next| next - 1)
    };
    for (n, acked) in acked.iter().enumerate() {
        let there = there(WHO[n], &format!("load-{n}"));
        assert!(there >= *acked && *acked > 100, "{n}: {there} of {acked}");
    }
    assert_eq!(there("registry", "late"), 1);
    for kept in &kept {
        events(&dir, kept);
    }
    assert!(pair.told().contains("leads the log no more"), "{}", pair.told());
    admin.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}
