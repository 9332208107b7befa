//! Copies of a service that tell over real mutual TLS that they live: one that is killed is missed within minutes, and one that is stopped
//! in order is not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use legate_boot::Running;
use legate_clock::TestClock;
use legate_db::Db;
use legate_ids::SpiffeId;
use legate_outbox::{Collector, DbSource, HEARTBEAT, LEFT, Metrics, Outbox, Pace, REPLICA, Shipper};
use legate_wire::audit as wire;
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use wire::AlertType;

use crate::alerts::{config, turned};
use crate::house::{House, LONG};

struct Schema;

impl MigratorTrait for Schema {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![legate_outbox::migration()]
    }
}

/// A registry of which several copies share a database.
struct Service<'a> {
    house: &'a House,
    running: &'a Running,
    clock: Arc<TestClock>,
    db: Db,
}

impl Service<'_> {
    /// One more copy.
    fn copy(&self, replica: &str) -> Shipper {
        let who = self.house.service("registry");
        let collector = Collector::new(self.house.dial(self.running, &who, Duration::from_secs(20)), who);
        let emitter = SpiffeId::parse(&self.house.service_id("registry")).unwrap();
        let outbox = Outbox::new(emitter, self.clock.clone(), 1_000);
        let source = DbSource::new(self.db.clone()).with_heartbeats(outbox, replica.into());
        legate_outbox::ship(source, collector, Pace::default(), self.clock.clone(), Metrics::default())
    }

    /// How many events of this type a copy told.
    async fn told(&self, kind: &str, replica: &str) -> usize {
        let mut alice = self.house.query(self.running, &self.house.operator("alice"));
        let ask = wire::QueryEventsRequest { r#type: kind.into(), page_size: 1_000, ..Default::default() };
        let found = alice.query_events(ask).await.unwrap().into_inner().events;
        let its = found.iter().filter(|one| one.event.as_ref().unwrap().details[REPLICA] == replica);
        its.count()
    }

    /// Lets minutes pass, in each of which these copies tell that they live.
    async fn live(&self, replicas: &[&str], minutes: usize) {
        for _ in 0..minutes {
            let mut wanted = Vec::new();
            for replica in replicas {
                wanted.push(self.told(HEARTBEAT, replica).await + 1);
            }
            self.clock.advance(Duration::from_secs(61));
            for (replica, wanted) in replicas.iter().zip(wanted) {
                let begin = Instant::now();
                while self.told(HEARTBEAT, replica).await < wanted {
                    assert!(begin.elapsed() < LONG, "{replica} never told that it lives");
                }
            }
        }
    }

    async fn silent(&self) -> Vec<String> {
        let mut alice = self.house.alerts(self.running, &self.house.operator("alice"));
        let ask = wire::ListAlertsRequest { indexed_at_least: 1, ..wire::ListAlertsRequest::default() };
        let found = alice.list_alerts(ask).await.unwrap().into_inner().alerts;
        assert!(found.iter().all(|one| one.r#type() == AlertType::EmitterSilent), "{found:#?}");
        found.into_iter().map(|one| one.summary).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_copy_that_is_killed_is_missed_and_one_that_is_stopped_is_not() {
    let (house, clock) = turned();
    let running = house.raise_with(config(&house)).await;
    let url = format!("sqlite:{}", house.file("registry.db").display());
    let db = Db::open(&url, legate_db::Options::default()).await.unwrap();
    db.migrate::<Schema>().await.unwrap();
    let service = Service { house: &house, running: &running, clock, db };
    let (one, two) = (service.copy("one:7101"), service.copy("two:7101"));
    service.live(&["one:7101", "two:7101"], 3).await;
    drop(one);
    service.live(&["two:7101"], 4).await;
    assert_eq!(service.silent().await, [""; 0], "four minutes are no silence yet");
    service.live(&["two:7101"], 3).await;
    let begin = Instant::now();
    let mut silent = service.silent().await;
    while silent.is_empty() {
        assert!(begin.elapsed() < LONG, "nobody misses the copy that was killed");
        silent = service.silent().await;
    }
    assert!(silent.len() == 1 && silent[0].contains("registry at one:7101"), "{silent:?}");
    // It comes back, and is stopped: nobody misses it.
    let one = service.copy("one:7101");
    service.live(&["one:7101", "two:7101"], 2).await;
    one.stop(LONG).await;
    let begin = Instant::now();
    while service.told(LEFT, "one:7101").await == 0 {
        assert!(begin.elapsed() < LONG, "the copy that was stopped never told that it leaves");
    }
    service.live(&["two:7101"], 8).await;
    assert_eq!(service.silent().await, silent);
    two.stop(LONG).await;
    running.shutdown().await;
}
