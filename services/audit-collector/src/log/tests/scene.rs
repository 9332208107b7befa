//! A log in a directory of its own, emitters, and an auditor who trusts neither.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use legate_clock::{TestClock, Timestamp};
use legate_db::testing::on_each;
use legate_ids::EventId;
use legate_merkle::{Checkpoint, TileId, VerifierKey, Walk, WalkError, WalkReport, walk};
use legate_wire::audit::{AuditEvent, Emitter};
use prost::Message as _;
use sea_orm::ConnectionTrait as _;

use crate::domain::producers::Producer;
use crate::domain::retention::Retention;
use crate::ledger::{Claim, Claimed, Ledger};
use crate::log::recover::LogError;
use crate::log::{Appended, Copy, Files, Log, LogTasks, NotAppended, Offer, Setup, read_tile};
use crate::metrics::Metrics;
use crate::schema::Migrator;

pub(crate) const ORIGIN: &str = "example.org/audit-log";
pub(crate) const ME: &str = "spiffe://example.org/legate/audit-collector";
const LONG: Duration = Duration::from_secs(20);

pub(crate) fn setup(dir: &Path) -> Setup {
    Setup {
        dir: dir.to_owned(),
        origin: ORIGIN.into(),
        me: ME.into(),
        segment_bytes: 64 << 10,
        waiting_bytes: 8 << 20,
        checkpoint_every: Duration::from_millis(10),
        personal: personal(dir),
        clock: TestClock::at(Timestamp::from_secs(1_800_000_000)),
        metrics: Metrics::default(),
    }
}

/// Names in the log's own directory, where no configuration lets them be, so that a copy of it has them.
pub(crate) fn personal(dir: &Path) -> crate::personal::Setup {
    let kek = dir.join("names.kek");
    if !kek.exists() {
        legate_kek::Kek::add(&kek).unwrap();
    }
    crate::personal::Setup { dir: dir.join("names"), kek, segment_bytes: 64 << 10, retention: Retention::default() }
}

pub(crate) async fn open(dir: &Path) -> (Log, LogTasks) {
    let (log, tasks, _) = Log::open(setup(dir), None).await.unwrap();
    (log, tasks)
}

pub(crate) async fn refusal(dir: &Path) -> LogError {
    Log::open(setup(dir), None).await.unwrap_err()
}

/// Where a log's truth is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In its directory.
    Alone,
    /// In this database.
    Shared(String),
}

/// Runs a test on a log of each kind: in a directory always, in rows where `LEGATE_TEST_POSTGRES` is set.
pub(crate) async fn on_each_place(test: impl AsyncFn(Place)) {
    on_each::<Migrator>(async |fixture| {
        let shared = || Place::Shared(fixture.url.clone());
        test(if fixture.is_postgres() { shared() } else { Place::Alone }).await;
    })
    .await;
}

pub(crate) async fn open_at(place: &Place, dir: &Path) -> (Log, LogTasks) {
    try_open_at(place, dir).await.unwrap()
}

/// Opens the log where it is; whoever leads it has been silent for too long.
pub(crate) async fn try_open_at(place: &Place, dir: &Path) -> Result<(Log, LogTasks), LogError> {
    let setup = setup(dir);
    let Place::Shared(url) = place else {
        return Log::open(setup, None).await.map(|(log, tasks, _)| (log, tasks));
    };
    let ledger = Ledger::open(url, ORIGIN).await.unwrap();
    let is_new = ledger.look().await.unwrap().is_none();
    let copy = Copy::open(Files::new(dir), ledger.clone(), ORIGIN, setup.segment_bytes, is_new)?;
    let db = sea_orm::Database::connect(url).await.unwrap();
    db.execute_unprepared("UPDATE log_lease SET lease_until = 0").await.unwrap();
    db.close().await.unwrap();
    let ours = copy.verifier_keys().remove(0);
    let named = ledger.look().await.unwrap().map_or_else(|| ours.clone(), |found| found.verifier_key);
    let is_known = copy.verifier_keys().contains(&named);
    let claim = Claim {
        holder: copy.holder().to_owned(),
        address: "here".into(),
        verifier_key: if is_known { named } else { ours.clone() },
        ttl: Duration::from_secs(30),
    };
    let (held, head) = match ledger.claim(&claim).await.unwrap() {
        Claimed::Lead(held, head) => (held, head),
        Claimed::OtherKey(theirs) => return Err(LogError::OtherKey { theirs, ours }),
        Claimed::Follow(leader) => panic!("{leader:?}"),
    };
    let ground = copy.complete(held, head).await?;
    Log::open(setup, Some(ground)).await.map(|(log, tasks, _)| (log, tasks))
}

/// Gives another directory what collectors have in common that share a log: its key, and the key of names.
pub(crate) fn join(from: &Path, to: &Path) {
    for file in ["log.key", "names.kek"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

pub(crate) fn producer(name: &str, epoch: &str) -> Producer {
    Producer { spiffe_id: format!("spiffe://example.org/legate/{name}"), epoch: epoch.into() }
}

pub(crate) fn event(producer: &Producer, seq: u64) -> Bytes {
    let event = AuditEvent {
        event_id: EventId::from_parts(seq, [0; 10]).to_string(),
        emitter: Some(Emitter { spiffe_id: producer.spiffe_id.clone(), epoch: producer.epoch.clone(), seq }),
        time: Some(Timestamp::from_secs(1_800_000_000).into()),
        r#type: "test.told".into(),
        ..AuditEvent::default()
    };
    event.encode_to_vec().into()
}

pub(crate) fn offer(producer: &Producer, first_seq: u64, count: u64) -> Offer {
    let events = (first_seq..first_seq + count).map(|seq| event(producer, seq)).collect();
    Offer { producer: producer.clone(), first_seq, events, personal: BTreeMap::new(), signature: None }
}

pub(crate) async fn append(log: &Log, producer: &Producer, first: u64, count: u64) -> Result<Appended, NotAppended> {
    tokio::time::timeout(LONG, log.append(offer(producer, first, count))).await.unwrap()
}

/// Every event, as its emitter and number.
pub(crate) fn all(log: &Log) -> Vec<(Producer, u64)> {
    let mut out = Vec::new();
    while (out.len() as u64) < log.size() {
        for (index, leaf) in log.read(out.len() as u64, log.size(), 1 << 20).unwrap() {
            assert_eq!(index, out.len() as u64);
            let emitter = AuditEvent::decode(leaf.as_slice()).unwrap().emitter.unwrap();
            out.push((Producer { spiffe_id: emitter.spiffe_id, epoch: emitter.epoch }, emitter.seq));
        }
    }
    out
}

/// The types of the collector's own events, in order.
pub(crate) fn own(log: &Log) -> Vec<AuditEvent> {
    let mut leaves = Vec::new();
    while (leaves.len() as u64) < log.size() {
        leaves.extend(log.read(leaves.len() as u64, log.size(), 1 << 20).unwrap());
    }
    let events = leaves.into_iter().map(|(_, leaf)| AuditEvent::decode(leaf.as_slice()).unwrap());
    events.filter(|e| e.emitter.as_ref().unwrap().spiffe_id == ME).collect()
}

/// Waits until a checkpoint covers everything that is on disk now.
pub(crate) async fn until_published(log: &Log) -> u64 {
    let size = log.size();
    let mut published = log.published();
    let covered = published.wait_for(|p| p.size >= size);
    tokio::time::timeout(LONG, covered).await.unwrap().unwrap().size
}

/// What a process that is killed leaves behind: the files as they are.
pub(crate) fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_into(from, to.path());
    to
}

/// Checkpoint and mark first, then the segments, and the names last, so that a log that goes on meanwhile is copied as a moment of it.
fn copy_into(from: &Path, to: &Path) {
    let Ok(entries) = std::fs::read_dir(from) else { return };
    let mut entries: Vec<_> = entries.map(Result::unwrap).collect();
    entries.sort_by_key(|e| {
        let rank = ["segments", "names"].iter().position(|last| e.file_name() == *last).map_or(0, |at| at + 1);
        (e.file_type().unwrap().is_dir(), rank)
    });
    for entry in entries {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_into(&entry.path(), &target);
        } else if let Err(e) = std::fs::copy(entry.path(), &target) {
            // Partial tiles and half-written files go while the log goes on.
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(dir.join("segments")).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<PathBuf> = all.filter(|p| p.extension().is_some_and(|e| e == "seg")).collect();
    all.sort();
    all
}

/// The newest checkpoint in a directory, its signature checked with the published key.
pub(crate) fn checkpoint(dir: &Path) -> Checkpoint {
    let key = std::fs::read_to_string(dir.join("log.pub")).unwrap();
    let key = VerifierKey::parse(key.trim_end()).unwrap();
    Checkpoint::open(&std::fs::read(dir.join("checkpoint")).unwrap(), &key, ORIGIN).unwrap()
}

/// What somebody finds who has the directory, the public key and perhaps an earlier checkpoint.
pub(crate) fn audit(dir: &Path, saved: Option<&Checkpoint>) -> Result<WalkReport, WalkError<std::io::Error>> {
    let checkpoint = checkpoint(dir);
    walk(Walk { checkpoint: &checkpoint, saved: saved.as_slice() }, |tile: TileId| read_tile(dir, tile))
}
