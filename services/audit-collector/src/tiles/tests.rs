//! A log that is stored: complete at every moment, behind when the store is away, and taken up where it was left.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use legate_clock::SystemClock;
use legate_merkle::{Checkpoint, TileId, VerifierKey, Walk, walk};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::{CHECKPOINT, Depot, new_tiles, sigv4::sha256_hex};
use crate::config::TilesConfig;
use crate::log::tests::scene::{ORIGIN, append, checkpoint, open, producer, until_published};
use crate::log::{Log, read_tile};
use crate::metrics::Metrics;

const PREFIX: &str = "/audit-log/of/one/";
const LONG: Duration = Duration::from_secs(20);

/// What a store has, and what it answers with if not with that.
#[derive(Debug, Default)]
struct Store {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// How often an object was put, whatever came of it.
    puts: Mutex<BTreeMap<String, usize>>,
    fails_with: AtomicU16,
    /// What was found wrong.
    wrong: Mutex<Vec<String>>,
    key: Mutex<Option<VerifierKey>>,
}

impl Store {
    fn tile(&self, tile: TileId) -> Option<Bytes> {
        self.objects.lock().get(&tile.to_string()).cloned()
    }

    /// Whether the tile is there, itself or in the full one.
    fn holds(&self, tile: TileId) -> bool {
        self.tile(tile).is_some() || self.tile(TileId { width: 256, ..tile }).is_some()
    }

    fn answer(&self, method: &Method, key: &str, headers: &http::HeaderMap, body: Bytes) -> (u16, Bytes) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let signed = text("authorization");
        if !signed.starts_with("AWS4-HMAC-SHA256 Credential=AKIA1/")
            || text("x-amz-content-sha256") != sha256_hex(&body)
        {
            self.wrong.lock().push(format!("not signed: {signed}"));
        }
        match self.fails_with.load(Ordering::SeqCst) {
            0 => {}
            code => return (code, Bytes::from_static(b"<Error><Code>SlowDown</Code><Key>secret</Key></Error>")),
        }
        let mut objects = self.objects.lock();
        let there = objects.get(key).cloned();
        if method == Method::PUT {
            *self.puts.lock().entry(key.to_owned()).or_default() += 1;
            let (none, this) = (text("if-none-match"), text("if-match"));
            let fits = (none.is_empty() || there.is_none())
                && (this.is_empty() || there.as_ref().is_some_and(|there| this == sha256_hex(there)));
            if !fits {
                return (412, Bytes::new());
            }
            objects.insert(key.to_owned(), body.clone());
            drop(objects);
            if key == CHECKPOINT
                && let Some(key) = &*self.key.lock()
            {
                let size = Checkpoint::open(&body, key, ORIGIN).unwrap().size;
                let missing = new_tiles(0, size).into_iter().find(|tile| !self.holds(*tile));
                self.wrong.lock().extend(missing.map(|tile| format!("{tile} is missing under a checkpoint of {size}")));
            }
            return (200, Bytes::new());
        }
        if method == Method::DELETE {
            objects.remove(key);
            return (204, Bytes::new());
        }
        there.map_or((404, Bytes::new()), |there| (200, there))
    }
}

/// Serves it on this machine; where.
async fn serve(store: Arc<Store>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let store = Arc::clone(&store);
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let key = parts.uri.path().strip_prefix(PREFIX).unwrap().to_owned();
                        let (code, body) = store.answer(&parts.method, &key, &parts.headers, body);
                        let mut answer = Response::new(Full::new(body.clone()));
                        *answer.status_mut() = StatusCode::from_u16(code).unwrap();
                        let tag = store.objects.lock().get(&key).map(|object| sha256_hex(object));
                        if let Some(tag) = tag {
                            answer.headers_mut().insert(http::header::ETAG, tag.parse().unwrap());
                        }
                        Ok::<_, Infallible>(answer)
                    }
                });
                let stream = TokioIo::new(stream);
                let _left = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
            });
        }
    });
    at
}

fn depot(dir: &Path, endpoint: &str) -> Depot {
    let file = dir.join("credentials");
    if !file.exists() {
        let text = "aws_access_key_id = AKIA1\naws_secret_access_key = never-told\n";
        legate_mtls::pki::write_private(&file, text).unwrap();
    }
    let config = TilesConfig {
        store: Some(format!("s3:/{}", PREFIX.trim_end_matches('/'))),
        endpoint: Some(endpoint.to_owned()),
        credentials: Some(file),
        ..TilesConfig::default()
    };
    let mut depot = Depot::of(&config, SystemClock::shared()).unwrap().unwrap();
    depot.every = Duration::from_millis(5);
    depot
}

/// The tasks that keep a store up; they end with this.
struct Keeping(tokio::task::JoinHandle<()>);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn keep(log: &Log, dir: &Path, endpoint: &str, metrics: &Metrics) -> Keeping {
    Keeping(tokio::spawn(depot(dir, endpoint).keep_up_forever(log.clone(), metrics.clone(), SystemClock::shared())))
}

fn told(metrics: &Metrics, line: &str) -> bool {
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text.lines().any(|found| found.starts_with(line))
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

/// What an auditor reads from the store, who has the public key alone.
fn size_in(store: &Store, log: &Log) -> u64 {
    let Some(note) = store.objects.lock().get(CHECKPOINT).cloned() else { return 0 };
    let key = VerifierKey::parse(log.verifier_key()).unwrap();
    let checkpoint = Checkpoint::open(&note, &key, ORIGIN).unwrap();
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let read = |tile: TileId| store.tile(tile).map(|bytes| bytes.to_vec()).ok_or_else(missing);
    // A partial tile may have gone in between: then there is a newer checkpoint.
    walk(Walk { checkpoint: &checkpoint, saved: &[] }, read).map_or(0, |report| report.entries)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_complete_at_every_moment_and_catches_up_when_it_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let (store, metrics) = (Arc::new(Store::default()), Metrics::default());
    let at = serve(Arc::clone(&store)).await;
    let (log, tasks) = open(dir.path()).await;
    *store.key.lock() = Some(VerifierKey::parse(log.verifier_key()).unwrap());
    let keeping = keep(&log, dir.path(), &at, &metrics);
    let me = producer("registry", "e1");
    for round in 0..30 {
        append(&log, &me, 1 + round * 20, 20).await.unwrap();
    }
    let size = until_published(&log).await;
    until("it is stored", || size_in(&store, &log) >= size).await;
    assert!(told(&metrics, &format!("audit_stored_leaves {size}")));

    // The store is away: nothing of the log waits, and it is told.
    store.fails_with.store(503, Ordering::SeqCst);
    for round in 30..45 {
        append(&log, &me, 1 + round * 20, 20).await.unwrap();
    }
    until("that it is behind is told", || !told(&metrics, "audit_store_behind_seconds 0.0")).await;
    assert!(size_in(&store, &log) == size && !told(&metrics, "audit_store_puts_total{outcome=\"failed\"} 0"));
    store.fails_with.store(0, Ordering::SeqCst);
    let size = until_published(&log).await;
    until("it has caught up", || size_in(&store, &log) >= size).await;
    until("that is told", || told(&metrics, "audit_store_behind_seconds 0.0")).await;

    // Another start goes on where this one ended.
    drop(keeping);
    let before = store.puts.lock().clone();
    let keeping = keep(&log, dir.path(), &at, &metrics);
    append(&log, &me, 901, 300).await.unwrap();
    let size = until_published(&log).await;
    until("it goes on", || size_in(&store, &log) >= size).await;
    drop(keeping);
    let is_full = |key: &str| TileId::parse(key).is_ok_and(|tile| tile.is_full());
    for (key, count) in store.puts.lock().iter().filter(|(key, _)| is_full(key)) {
        assert!(*count == 1 || before.get(key) != Some(count), "{key} was put {count} times");
    }
    let partial = |tile: &TileId| !tile.is_full();
    let keys: Vec<TileId> = store.objects.lock().keys().filter_map(|key| TileId::parse(key).ok()).collect();
    for tile in keys.iter().filter(|tile| !partial(tile)) {
        assert_eq!(store.tile(*tile).unwrap(), read_tile(dir.path(), *tile).unwrap());
    }
    assert_eq!(*store.wrong.lock(), Vec::<String>::new());
    tasks.close().await;
    assert!(checkpoint(dir.path()).size >= size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_of_this_log_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, metrics) = (Arc::new(Store::default()), Metrics::default());
    let at = serve(Arc::clone(&store)).await;
    let (log, tasks) = open(dir.path()).await;
    append(&log, &producer("registry", "e1"), 1, 300).await.unwrap();
    until_published(&log).await;

    // Another log's checkpoint, one of a log that is longer, and none at all.
    let other = tempfile::tempdir().unwrap();
    let (longer, longer_tasks) = open(other.path()).await;
    let foreign = std::fs::read(other.path().join("checkpoint")).unwrap();
    for found in [foreign, b"no checkpoint".to_vec()] {
        store.objects.lock().insert(CHECKPOINT.into(), found.clone().into());
        let (depot, newest) = (depot(dir.path(), &at), log.published().borrow().clone());
        let refused = depot.round(&log, &metrics, &mut None, &newest).await.unwrap_err();
        assert!(refused.to_string().contains("not of this log"), "{refused}");
        assert_eq!(store.objects.lock().len(), 1);
    }
    longer_tasks.close().await;
    drop(longer);

    // A full tile that somebody changed, and a checkpoint that somebody else wrote meanwhile.
    store.objects.lock().clear();
    let (depot, newest) = (depot(dir.path(), &at), log.published().borrow().clone());
    let mut stored = None;
    depot.round(&log, &metrics, &mut stored, &newest).await.unwrap();
    let whole = store.objects.lock().clone();
    store.objects.lock().remove(CHECKPOINT);
    store.objects.lock().insert("tile/0/000".into(), Bytes::from_static(b"changed"));
    let refused = depot.round(&log, &metrics, &mut None, &newest).await.unwrap_err();
    assert!(refused.to_string().contains("tile/0/000"), "{refused}");
    *store.objects.lock() = whole;
    append(&log, &producer("registry", "e1"), 301, 1).await.unwrap();
    until_published(&log).await;
    let newest = log.published().borrow().clone();
    store.objects.lock().insert(CHECKPOINT.into(), Bytes::from_static(b"of another writer"));
    let refused = depot.round(&log, &metrics, &mut stored, &newest).await.unwrap_err();
    assert_eq!(refused.to_string(), "another object is there");
    assert_eq!(store.objects.lock()[CHECKPOINT], "of another writer");
    tasks.close().await;
}
