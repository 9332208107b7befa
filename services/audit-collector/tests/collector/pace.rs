//! How fast events are taken over mutual TLS: run by hand, as the measurement inside the log is.
#![allow(clippy::print_stderr, reason = "a measurement tells what it measured")]

use std::time::Instant;

use bytes::Bytes;
use legate_audit_collector::LogConfig;
use prost::Message as _;

use crate::house::{House, send};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: only a release build on a quiet machine says anything"]
async fn events_are_taken_quickly_over_mutual_tls() {
    let house = House::build();
    let mut config = house.config();
    config.log = LogConfig::default();
    let running = house.raise_with(config).await;
    for (batch, under_way, rounds) in [(1, 256, 40), (32, 64, 40), (512, 8, 40)] {
        let started = Instant::now();
        let writers: Vec<_> = (0..under_way)
            .map(|n| {
                let mut to = house.ingest(&running, &house.service("registry"));
                let epoch = format!("{batch}-{n}");
                let mut event = house.event(0);
                event.reason = "x".repeat(470);
                tokio::spawn(async move {
                    for round in 0..rounds {
                        let first = 1 + round * batch;
                        let tell = |seq: u64| -> Bytes {
                            let emitter = event.emitter.as_mut().unwrap();
                            (emitter.epoch, emitter.seq) = (epoch.clone(), seq);
                            event.encode_to_vec().into()
                        };
                        let events = (first..first + batch).map(tell).collect();
                        send(&mut to, &epoch, first, events).await.unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let pace = (batch * under_way * rounds) as f64 / started.elapsed().as_secs_f64();
        eprintln!("batches of {batch}, {under_way} under way over mutual TLS: {pace:.0} events/s");
    }
    running.shutdown().await;
    house.audit(None).unwrap();
}
