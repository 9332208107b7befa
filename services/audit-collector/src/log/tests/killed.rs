//! A collector's log in a process that is killed at any moment, again and again, under load, and whose newest segment is torn in between:
//! every acknowledged event is there once, in order.
//!
//! The process is this test binary started again: [`a_process_appends`]. `LEGATE_TEST_KILLS` says how often it is killed.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use legate_merkle::{Checkpoint, Frontier, Hash, leaf_hash};

use super::scene::{ME, all, append, audit, checkpoint, open, producer, segments, until_published};
use crate::domain::producers::Producer;
use crate::log::files::{AckMark, Files};

/// Names the directory of the log that this process is to append to.
const APPEND: &str = "LEGATE_TESTS_LOG_KILLED";
const EMITTERS: u64 = 4;
const LONG: Duration = Duration::from_secs(60);

fn emitter(n: u64) -> Producer {
    producer(["registry", "credential-issuer", "policy-decision", "registry"][n as usize % 4], &format!("load-{n}"))
}

/// Not a test of its own: what a child process runs until it is killed. Each line that it writes is an acknowledgement.
#[test]
fn a_process_appends() {
    let Ok(dir) = std::env::var(APPEND) else { return };
    let dir = PathBuf::from(dir);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (log, _tasks) = open(&dir.join("log")).await;
        let emitters: Vec<tokio::task::JoinHandle<()>> = (0..EMITTERS)
            .map(|n| {
                let log = log.clone();
                let mut told = OpenOptions::new().append(true).create(true).open(dir.join("acked")).unwrap();
                tokio::spawn(async move {
                    let me = emitter(n);
                    // What the one before it offered last may be there, and its answer lost: it is offered once more, and more with it.
                    let known = log.last(me.clone()).await.unwrap();
                    let mut first = known.saturating_sub(3) + 1;
                    loop {
                        let count = rand::random_range(1..=9);
                        let acked = append(&log, &me, first, count).await.unwrap().acked_seq;
                        // One write, which a kill finds done or not begun.
                        told.write_all(format!("{n} {acked}\n").as_bytes()).unwrap();
                        first = acked + 1;
                    }
                })
            })
            .collect();
        for emitter in emitters {
            emitter.await.unwrap();
        }
    });
}

fn spawn(dir: &Path) -> Child {
    let told = File::options().create(true).append(true).open(dir.join("told")).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "log::tests::killed::a_process_appends", "--nocapture", "--test-threads=1"])
        .env(APPEND, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(told)
        .spawn()
        .unwrap()
}

/// The acknowledgements so far, in the order in which they were written.
fn acknowledged(dir: &Path) -> Vec<(u64, u64)> {
    let text = std::fs::read_to_string(dir.join("acked")).unwrap_or_default();
    let line = |line: &str| line.split_once(' ').map(|(n, seq)| (n.parse().unwrap(), seq.parse().unwrap()));
    text.lines().map(|text| line(text).unwrap()).collect()
}

/// Waits until a child acknowledged so much more than before; it goes on meanwhile.
fn until_more(dir: &Path, child: &mut Child, lines: usize) {
    let begin = Instant::now();
    while acknowledged(dir).len() < lines {
        let told = || std::fs::read_to_string(dir.join("told")).unwrap_or_default();
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself:\n{}", told());
        assert!(begin.elapsed() < LONG, "nothing is acknowledged:\n{}", told());
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// What a power cut makes of what is behind the last acknowledged event of the newest segment: nothing, a part, or something else.
fn tear(log: &Path) -> &'static str {
    let acked = AckMark::open(&Files::new(log)).unwrap().read().unwrap().unwrap_or(0);
    let Some(path) = segments(log).pop() else { return "none" };
    let bytes = std::fs::read(&path).unwrap();
    let first: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let (mut at, mut index) = (16, first);
    let length =
        |at: usize| bytes.get(at..at + 4).map_or(0, |len| u32::from_le_bytes(len.try_into().unwrap()) as usize);
    while index < acked && length(at) > 0 {
        at += 8 + length(at);
        index += 1;
    }
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(at, |last| last + 1).max(at);
    let rest = bytes.len() - at;
    // Nothing is behind a segment whose own start is not written yet, and nothing fits behind one that is full.
    if index < acked || rest < 64 || !bytes.starts_with(b"LGTJRNL1") {
        return "none";
    }
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let some = rand::random_range(1..=rest.min(2_000));
    let noise: Vec<u8> = (0..some).map(|_| rand::random_range(1..=255)).collect();
    match rand::random_range(0..5) {
        // Cut at any byte, to nothing or to a half of an event.
        0 => {
            let from = rand::random_range(at..=used);
            file.write_all_at(&vec![0; bytes.len() - from], from as u64).unwrap();
            "cut"
        }
        // The head of an event, and less of it than it says.
        1 => {
            let mut event = u32::try_from(some + 100).unwrap().to_le_bytes().to_vec();
            event.extend(&noise);
            event.truncate(rest);
            file.write_all_at(&vec![0; rest], at as u64).unwrap();
            file.write_all_at(&event, at as u64).unwrap();
            "half an event"
        }
        2 => {
            file.write_all_at(&noise, at as u64).unwrap();
            "noise"
        }
        // Of two pages the disk has the second and not the first.
        3 => {
            let hole = rand::random_range(1..=rest - some.min(rest - 1));
            file.write_all_at(&vec![0; hole], at as u64).unwrap();
            let behind = (at + hole) as u64;
            file.write_all_at(&noise[..some.min(rest - hole)], behind).unwrap();
            "a hole"
        }
        _ => "nothing",
    }
}

/// Everything that is in the log, against everything that was ever acknowledged and signed.
async fn hold_against(dir: &Path, kept: &[Checkpoint]) -> (u64, u64) {
    let (log, tasks) = open(&dir.join("log")).await;
    let there = all(&log);
    let mut last: HashMap<&Producer, u64> = HashMap::new();
    for (who, seq) in &there {
        let known = last.entry(who).or_default();
        assert_eq!(*seq, *known + 1, "{who:?} twice, or out of order");
        *known = *seq;
    }
    let mut acked: HashMap<u64, u64> = HashMap::new();
    for (n, seq) in acknowledged(dir) {
        let before = acked.insert(n, seq).unwrap_or(0);
        assert!(seq >= before, "the acknowledgements of {n} go back");
    }
    for (n, seq) in &acked {
        let known = last.get(&emitter(*n)).copied().unwrap_or(0);
        assert!(known >= *seq, "{n}: {seq} were acknowledged, and {known} are there");
    }
    // Each checkpoint that was ever seen is a beginning of it.
    let (mut tree, mut roots) = (Frontier::new(), HashMap::<u64, Hash>::new());
    while tree.size() < log.size() {
        for (_, leaf) in log.read(tree.size(), log.size(), 4 << 20).unwrap() {
            tree.push(leaf_hash(&leaf));
            roots.insert(tree.size(), tree.root());
        }
    }
    for signed in kept.iter().filter(|signed| signed.size > 0) {
        assert_eq!(
            roots.get(&signed.size),
            Some(&signed.root),
            "what was signed of {} leaves is not there",
            signed.size
        );
    }
    let mine = there.iter().filter(|(who, _)| who.spiffe_id == ME).count();
    until_published(&log).await;
    tasks.close().await;
    assert_eq!(audit(&dir.join("log"), None).unwrap().entries, log.size());
    (there.len() as u64, mine as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_once_however_often_the_process_is_killed() {
    let rounds: usize = std::env::var("LEGATE_TEST_KILLS").map_or(6, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("log")).unwrap();
    let (mut kept, mut torn) = (Vec::new(), HashMap::<&str, usize>::new());
    for round in 0..rounds {
        let before = acknowledged(dir.path()).len();
        let mut child = spawn(dir.path());
        // While it starts and reads the log, or while it appends: behind any number of acknowledgements.
        if round % 4 == 3 {
            std::thread::sleep(Duration::from_micros(rand::random_range(0..60_000)));
        } else {
            until_more(dir.path(), &mut child, before + rand::random_range(1..60));
            std::thread::sleep(Duration::from_micros(rand::random_range(0..5_000)));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let log = dir.path().join("log");
        if log.join("checkpoint").exists() {
            kept.push(checkpoint(&log));
        }
        *torn.entry(tear(&log)).or_default() += 1;
        // All of it now and then, and in the end.
        if round % 25 == 24 {
            hold_against(dir.path(), &kept).await;
        }
    }
    let (events, mine) = hold_against(dir.path(), &kept).await;
    let acked = acknowledged(dir.path()).len();
    assert!(acked > 0 && events > mine);
    let told = format!(
        "{rounds} kills, {acked} acknowledgements, {events} events of which {mine} the log's own; torn: {torn:?}"
    );
    let _closed = writeln!(std::io::stderr(), "{told}");
}
