//! How fast the log is: measurements, run by hand with `cargo test --release -p legate-audit-collector -- --ignored --nocapture`.
#![allow(clippy::print_stderr, reason = "a measurement tells what it measured")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use legate_wire::audit::AuditEvent;
use prost::Message as _;

use super::scene::{audit, event, producer, setup, until_published};
use crate::log::{Log, Offer};

/// An event of about 600 bytes, as a decision is.
fn large(seq: u64, who: &crate::domain::producers::Producer) -> Bytes {
    let mut told = AuditEvent::decode(event(who, seq)).unwrap();
    told.reason = "x".repeat(470);
    told.encode_to_vec().into()
}

/// Appends `count` events in batches, with so many requests under way; events per second.
async fn fill(log: &Log, name: &'static str, count: u64, batch: u64, under_way: u64) -> f64 {
    let each = count / under_way;
    let started = Instant::now();
    let writers: Vec<_> = (0..under_way)
        .map(|n| {
            let log = log.clone();
            tokio::spawn(async move {
                let who = producer(name, &format!("{batch}-{under_way}-{n}"));
                let mut next = 1;
                while next <= each {
                    let events: Vec<Bytes> = (next..next + batch).map(|seq| large(seq, &who)).collect();
                    log.append(Offer {
                        producer: who.clone(),
                        first_seq: next,
                        events,
                        personal: Default::default(),
                        signature: None,
                    })
                    .await
                    .unwrap();
                    next += batch;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    count as f64 / started.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: only a release build on a quiet machine says anything"]
async fn a_million_events_are_taken_quickly_and_read_again_within_five_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let mut setup = setup(dir.path());
    (setup.segment_bytes, setup.waiting_bytes) = (64 << 20, 256 << 20);
    setup.checkpoint_every = Duration::from_millis(250);
    let (log, tasks, _) = Log::open(setup.clone(), None).await.unwrap();
    for (count, batch, under_way) in [(500, 1, 1), (64_000, 1, 512), (256_000, 32, 64), (680_000, 512, 8)] {
        let pace = fill(&log, "registry", count, batch, under_way).await;
        eprintln!("batches of {batch}, {under_way} under way: {pace:.0} events/s");
    }
    let started = Instant::now();
    until_published(&log).await;
    eprintln!("the last checkpoint covered all after {:?}", started.elapsed());
    tasks.close().await;
    let size = log.size();
    drop(log);
    let started = Instant::now();
    let (log, tasks, found) = Log::open(setup, None).await.unwrap();
    let took = started.elapsed();
    eprintln!("{size} events read and verified in {took:?}");
    assert!(found.is_clean && found.leaves == size && size >= 1_000_000);
    assert!(took < Duration::from_secs(5), "{took:?}");
    tasks.close().await;
    drop(log);
    audit(dir.path(), None).unwrap();
}
