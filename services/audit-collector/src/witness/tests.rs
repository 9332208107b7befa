//! A log and its witnesses over real connections: honest ones, slow ones, and those that lie.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use legate_clock::TestClock;
use legate_merkle::{AddCheckpoint, Checkpoint, Cosigner, Refusal, SeedSigner, Signer as _, VerifierKey, judge};

use super::*;
use crate::config::WitnessConfig;
use crate::log::LogTasks;
use crate::log::tests::scene;

const NOW: i64 = 1_800_000_000;
const LONG: Duration = Duration::from_secs(20);

/// A status, a media type and a body; `None`: never an answer.
type Said = Option<(u16, &'static str, String)>;

/// A witness that says what a test has it say, and remembers what it was asked.
struct Fake {
    url: String,
    cosigner: Cosigner,
    asked: Arc<Mutex<Vec<String>>>,
    _serving: tokio::task::JoinSet<()>,
}

impl Fake {
    async fn raise(n: u8, says: impl Fn(&Cosigner, &str) -> Said + Send + Sync + 'static) -> Self {
        let cosigner = || Cosigner::new(&format!("witness.example/w{n}"), &[n; 32]).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/prefix/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (says, seen, own) = (Arc::new(says), Arc::clone(&asked), Arc::new(cosigner()));
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (says, seen, own) = (Arc::clone(&says), Arc::clone(&seen), Arc::clone(&own));
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (says, seen, own) = (Arc::clone(&says), Arc::clone(&seen), Arc::clone(&own));
                    async move {
                        assert_eq!(request.uri().path(), "/prefix/add-checkpoint");
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let body = String::from_utf8(body.to_vec()).unwrap();
                        let said = says(&own, &body);
                        seen.lock().push(body);
                        let Some((status, kind, body)) = said else { return std::future::pending().await };
                        let answer = http::Response::builder().status(status).header("content-type", kind);
                        Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(body))).unwrap())
                    }
                });
                open.spawn(async move {
                    // Who asks may leave in the middle.
                    let http = hyper::server::conn::http1::Builder::new();
                    let _left = http.serve_connection(TokioIo::new(tcp), service).await;
                });
            }
        });
        Self { url, cosigner: cosigner(), asked, _serving: serving }
    }

    /// One that does as the standard says.
    async fn honest(n: u8, key: &str) -> Self {
        let (key, latest) = (VerifierKey::parse(key).unwrap(), Mutex::new(None));
        Self::raise(n, move |own, body| {
            let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
            let new = Checkpoint::parse_text(request.note.text()).unwrap();
            let mut latest = latest.lock();
            match judge(&request, &new, &key, latest.as_ref()) {
                Ok(()) => {
                    *latest = Some(new);
                    Some((200, "text/plain", format!("{}\n", own.cosign(request.note.text(), NOW as u64))))
                }
                Err(Refusal::Conflict(size)) => Some((409, "text/x.tlog.size", format!("{size}\n"))),
                Err(other) => Some((422, "text/plain", other.to_string())),
            }
        })
        .await
    }

    /// One that says the same to everybody.
    async fn saying(n: u8, said: Said) -> Self {
        Self::raise(n, move |_, _| said.clone()).await
    }

    fn olds(&self) -> Vec<u64> {
        let old = |body: &String| AddCheckpoint::parse(body.as_bytes()).unwrap().old;
        self.asked.lock().iter().map(old).collect()
    }
}

/// A log in a directory, with a clock that is turned.
struct Scene {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    metrics: Metrics,
}

struct Running {
    log: Log,
    tasks: LogTasks,
    cosigned: Cosigned,
    asking: tokio::task::JoinHandle<()>,
}

impl Scene {
    fn new() -> Self {
        let clock = TestClock::at(Timestamp::from_secs(NOW));
        let dir = tempfile::tempdir().unwrap();
        // The key of the names lies in it before the log does.
        std::fs::create_dir(dir.path().join("log")).unwrap();
        Self { dir, clock, metrics: Metrics::default() }
    }

    fn policy(&self, least: usize, witnesses: &[&Fake]) -> PathBuf {
        let mut text = String::new();
        for (at, fake) in witnesses.iter().enumerate() {
            text += &format!("witness w{at} {} {}\n", fake.cosigner.verifier(), fake.url);
        }
        let names: Vec<String> = (0..witnesses.len()).map(|at| format!("w{at}")).collect();
        self.policy_of(&format!("{text}group g {least} {}\nquorum g\n", names.join(" ")))
    }

    fn policy_of(&self, text: &str) -> PathBuf {
        let path = self.dir.path().join("policy");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn chosen(&self, policy: PathBuf) -> Result<Chosen, String> {
        let config = WitnessConfig { policy: Some(policy), every_s: 1, ..WitnessConfig::default() };
        let clock: Arc<dyn Clock> = self.clock.clone();
        Chosen::of(&config, clock).map(Option::unwrap).map_err(|e| e.to_string())
    }

    async fn log(&self) -> (Log, LogTasks) {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let setup = crate::log::Setup { clock, ..scene::setup(&self.dir.path().join("log")) };
        let (log, tasks, _) = Log::open(setup, None).await.unwrap();
        (log, tasks)
    }

    async fn start(&self, policy: PathBuf) -> Result<Running, NotKept> {
        let (log, tasks) = self.log().await;
        let (chosen, clock) = (self.chosen(policy).unwrap(), self.clock.clone());
        let setup = Setup { chosen, log: log.clone(), clock, metrics: self.metrics.clone() };
        match start(setup).await {
            Ok((cosigned, asking)) => Ok(Running { log, tasks, cosigned, asking }),
            Err(refused) => {
                tasks.close().await;
                Err(refused)
            }
        }
    }

    /// The log's key, as its directory tells it.
    async fn key(&self) -> String {
        let (log, tasks) = self.log().await;
        let key = log.verifier_key().to_owned();
        tasks.close().await;
        key
    }

    fn counted(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}

impl Running {
    async fn append(&self, first: u64, count: u64) -> u64 {
        scene::append(&self.log, &scene::producer("registry", "e"), first, count).await.unwrap();
        scene::until_published(&self.log).await
    }

    async fn covering(&self, size: u64) -> Option<Published> {
        self.cosigned.covering(size, Instant::now() + LONG).await
    }

    async fn close(self) {
        self.asking.abort();
        self.tasks.close().await;
    }
}

/// Waits for something that another task does, without an event of its own.
async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let looking = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, looking).await.is_ok(), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_quorum_cosigned_is_kept_beside_the_newest_and_goes_on_after_a_restart() {
    let scene = Scene::new();
    let key = scene.key().await;
    let (one, two) = (Fake::honest(1, &key).await, Fake::honest(2, &key).await);
    let away = Fake::saying(3, None).await;
    let policy = scene.policy(2, &[&one, &away, &two]);
    let running = scene.start(policy.clone()).await.unwrap();
    let size = running.append(1, 3).await;
    let cosigned = running.covering(size).await.unwrap();
    let note = Note::parse(cosigned.note.as_bytes()).unwrap();
    note.verify(&VerifierKey::parse(&key).unwrap()).unwrap();
    for fake in [&one, &two] {
        assert_eq!(fake.cosigner.verifier().cosigned(&note), Ok(Some(NOW as u64)));
    }
    assert_eq!(away.cosigner.verifier().cosigned(&note), Ok(None));
    assert_eq!(running.log.root_at(cosigned.size).unwrap(), cosigned.root);
    let file = super::file(running.log.dir());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), cosigned.note);
    // The newest is the same text without them, until it is that tree.
    let newest = running.log.published().borrow().clone();
    assert!(Note::parse(newest.note.as_bytes()).unwrap().signatures().len() == 1);
    let shown = running.cosigned.of(newest.clone());
    assert_eq!(shown.note == newest.note, newest.size != running.cosigned.newest().unwrap().size);
    assert_eq!(running.cosigned.age(scene.clock.now()), Some(0.0));
    // It grows, and each goes on from where it was.
    let size = running.append(4, 2).await;
    let next = running.covering(size).await.unwrap();
    eventually("the sizes are kept", || {
        let kept = std::fs::read_to_string(running.log.dir().join("witnesses")).unwrap_or_default();
        kept.matches(&format!("{} ", next.size)).count() == 2
    })
    .await;
    running.close().await;

    let seen = one.asked.lock().len();
    let again = scene.start(policy).await.unwrap();
    // Before anybody is asked: what was there is there.
    assert_eq!(again.cosigned.newest().unwrap().note, next.note);
    let size = again.append(6, 1).await;
    again.covering(size).await.unwrap();
    assert_eq!(one.olds()[seen], next.size, "the first question of a start begins where the last run ended");
    again.close().await;
    assert!(scene.counted().contains("witness=\"witness.example/w1\",outcome=\"cosigned\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn witnesses_that_hang_fail_or_lie_hold_up_nothing_and_count_for_nothing() {
    let scene = Scene::new();
    let key = scene.key().await;
    let cosign = |time: i64| {
        move |own: &Cosigner, body: &str| {
            let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
            Some((200, "text/plain", format!("{}\n", own.cosign(request.note.text(), u64::try_from(time).unwrap()))))
        }
    };
    let of_another_tree = |own: &Cosigner, _: &str| {
        let other = Checkpoint::new(scene::ORIGIN, 9, [7; 32]).to_string();
        Some((200, "text/plain", format!("{}\n", own.cosign(&other, NOW as u64))))
    };
    let as_somebody_else = |_: &Cosigner, body: &str| {
        let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
        let other = Cosigner::new("witness.example/other", &[77; 32]).unwrap();
        Some((200, "text/plain", format!("{}\n", other.cosign(request.note.text(), NOW as u64))))
    };
    let same_size_again = |_: &Cosigner, body: &str| {
        let old = AddCheckpoint::parse(body.as_bytes()).unwrap().old;
        Some((409, "text/x.tlog.size", format!("{old}\n")))
    };
    let fakes = [
        Fake::saying(1, None).await,
        Fake::saying(2, Some((500, "text/plain", "\u{1b}[31mdown".into()))).await,
        Fake::saying(3, Some((200, "text/plain", "thank you\n".into()))).await,
        Fake::saying(4, Some((200, "text/plain", "x".repeat(100_000)))).await,
        Fake::saying(5, Some((301, "text/plain", String::new()))).await,
        Fake::saying(6, Some((404, "text/plain", "unknown log".into()))).await,
        Fake::saying(7, Some((409, "text/x.tlog.size", "1000000\n".into()))).await,
        Fake::saying(8, Some((409, "text/plain", "1\n".into()))).await,
        Fake::saying(9, Some((422, "text/plain", "a fork".into()))).await,
        Fake::raise(10, cosign(NOW + 301)).await,
        Fake::raise(11, cosign(0)).await,
        Fake::raise(12, of_another_tree).await,
        Fake::raise(13, as_somebody_else).await,
        Fake::raise(14, same_size_again).await,
        Fake::honest(15, &key).await,
    ];
    let running = scene.start(scene.policy(2, &fakes.each_ref())).await.unwrap();
    // While all of them are asked, events are acknowledged and checkpoints signed.
    let size = running.append(1, 5).await;
    assert!(running.log.published().borrow().size >= size);
    let outcomes = [
        (2, "failed"),
        (3, "refused"),
        (4, "failed"),
        (5, "failed"),
        (6, "refused"),
        (7, "disagrees"),
        (8, "refused"),
        (9, "disagrees"),
        (10, "refused"),
        (11, "refused"),
        (12, "refused"),
        (13, "refused"),
        (14, "disagrees"),
        (15, "cosigned"),
    ];
    for (n, outcome) in outcomes {
        let line = format!("witness=\"witness.example/w{n}\",outcome=\"{outcome}\"");
        eventually(&line, || scene.counted().contains(&line)).await;
    }
    eventually("the one that hangs is given up", || scene.counted().contains("w1\",outcome=\"failed\"")).await;
    assert!(running.cosigned.newest().is_none() && !super::file(running.log.dir()).exists());
    assert_eq!(running.cosigned.covering(1, Instant::now()).await, None);
    // What says that the log was set back is on record, and so is that the quorum has been missing for long.
    eventually("it is noted that the quorum is missing", || {
        running.cosigned.0.as_ref().unwrap().standing.lock().missing_since.is_some()
    })
    .await;
    assert_eq!(running.cosigned.missing_for(scene.clock.monotonic()), Duration::ZERO);
    scene.clock.advance(Duration::from_secs(700));
    assert_eq!(running.cosigned.missing_for(scene.clock.monotonic()), Duration::from_secs(700));
    let kinds = || scene::own(&running.log).into_iter().map(|e| e.r#type).collect::<Vec<_>>();
    eventually("it is told", || kinds().contains(&"log.quorum_missing".to_owned())).await;
    assert_eq!(kinds().iter().filter(|kind| *kind == "log.witness_disagrees").count(), 3);
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_that_forgot_is_not_counted_again() {
    let scene = Scene::new();
    let key = scene.key().await;
    let keen = Fake::raise(1, move |own, body| {
        let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
        let size = Checkpoint::parse_text(request.note.text()).unwrap().size;
        assert!(request.note.verify(&VerifierKey::parse(&key).unwrap()).is_ok());
        if request.old > 0 && size > 6 {
            return Some((409, "text/x.tlog.size", "0\n".into()));
        }
        Some((200, "text/plain", format!("{}\n", own.cosign(request.note.text(), NOW as u64))))
    })
    .await;
    let running = scene.start(scene.policy(1, &[&keen])).await.unwrap();
    running.covering(1).await.unwrap();
    let size = running.append(1, 10).await;
    assert_eq!(running.cosigned.covering(size, Instant::now() + Duration::from_secs(2)).await, None);
    assert!(running.cosigned.newest().unwrap().size <= 6);
    assert!(scene.counted().contains("outcome=\"disagrees\""));
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_cannot_be_met_or_is_of_another_log_is_refused() {
    let scene = Scene::new();
    let key = scene.key().await;
    let fake = Fake::saying(1, None).await;
    let vkey = fake.cosigner.verifier();
    let refused = |text: &str| scene.chosen(scene.policy_of(text)).unwrap_err();
    assert!(refused(&format!("witness a {vkey}\nquorum a\n")).contains("not enough"));
    assert!(refused("quorum none\n").contains("nobody to ask"));
    assert!(refused("quorum x\n").contains("line 1"));
    for url in ["http://witness.example/", "ftp://a.example/", "https://u@a.example/", "https://a.example/?x"] {
        assert!(refused(&format!("witness a {vkey} {url}\nquorum a\n")).contains("witness.example/w1: url"), "{url}");
    }
    assert!(scene.chosen(scene.dir.path().join("nothing")).unwrap_err().contains("No such file"));

    let other = SeedSigner::new("example.org/other", &[5; 32]).unwrap();
    let of_another = format!("log {}\nwitness a {vkey} {}\nquorum a\n", other.verifier(), fake.url);
    assert!(matches!(scene.start(scene.policy_of(&of_another)).await, Err(NotKept::Policy(_))));
    let good = format!("log {key}\nwitness a {vkey} {}\nquorum a\n", fake.url);
    scene.start(scene.policy_of(&good)).await.unwrap().close().await;
    let public = VerifierKey::parse(&key).unwrap();
    let own = legate_merkle::CosignerKey::new("witness.example/own", public.public()).unwrap();
    let by_itself = format!("witness a {own} {}\nquorum a\n", fake.url);
    assert!(matches!(scene.start(scene.policy_of(&by_itself)).await, Err(NotKept::Policy(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_witnesses_know_otherwise_is_not_taken_up() {
    let scene = Scene::new();
    let key = scene.key().await;
    let one = Fake::honest(1, &key).await;
    let policy = scene.policy(1, &[&one]);
    let running = scene.start(policy.clone()).await.unwrap();
    let size = running.append(1, 3).await;
    running.covering(size).await.unwrap();
    let file = super::file(running.log.dir());
    let early = scene::copy(running.log.dir());
    let size = running.append(4, 3).await;
    let kept = running.covering(size).await.unwrap().note;
    running.close().await;

    // The log is set back to an older copy of its directory, and what was cosigned is not.
    let log = scene.dir.path().join("log");
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::rename(early.keep(), &log).unwrap();
    std::fs::write(&file, &kept).unwrap();
    let refused = scene.start(policy.clone()).await.map(drop).unwrap_err();
    assert!(matches!(refused, NotKept::Shorter { .. }), "{refused}");
    // Without the file the witness says it; the old copy has grown since by what a start tells.
    std::fs::remove_file(&file).unwrap();
    drop(std::fs::remove_file(log.join("witnesses")));
    let running = scene.start(policy.clone()).await.unwrap();
    eventually("the witness disagrees", || scene.counted().contains("outcome=\"disagrees\"")).await;
    running.close().await;
    for damaged in ["", "x", &kept.replacen("example.org", "example.com", 1)] {
        std::fs::write(&file, damaged).unwrap();
        assert!(matches!(scene.start(policy.clone()).await, Err(NotKept::Checkpoint(_))), "{damaged:?}");
    }
}

#[test]
fn what_is_kept_of_sizes_comes_back_and_odd_lines_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = BTreeMap::from([("a+1+x".to_owned(), 7), ("b+2+y".to_owned(), 0)]);
    keep::keep_sizes(dir.path(), &sizes).unwrap();
    let bytes = std::fs::read(dir.path().join("witnesses")).unwrap();
    assert_eq!(keep::sizes(&bytes), sizes);
    assert_eq!(keep::sizes(b"x a\n\n3\n-1 a\n4 c\n\xff 1\n"), BTreeMap::from([("c".to_owned(), 4)]));
}
