//! Services have a quota too: who tells more is told to wait, and nobody else is.

use std::time::Duration;

use legate_audit_collector::LogConfig;
use legate_rpc::{Code, Told};
use legate_wire::audit::{AlertSeverity, AlertType};

use crate::alerts::{alerts, config, turned};
use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_floods_the_log_waits_and_loses_nothing() {
    let (house, clock) = turned();
    let mut config = config(&house);
    config.log = LogConfig { service_events_per_second: 100, ..config.log };
    let running = house.try_raise(config).await.unwrap();
    let mut registry = house.ingest(&running, &house.service("registry"));
    house.append(&mut registry, 1, 1_024).await.unwrap();
    house.append(&mut registry, 1_025, 1_024).await.unwrap();
    let spent = Told::from_status(&house.append(&mut registry, 2_049, 200).await.unwrap_err());
    assert_eq!((spent.code, spent.reason.as_str()), (Code::ResourceExhausted, "AUDIT_QUOTA_SPENT"));
    let wait = spent.retry_after.expect("it is told how long to wait");
    // An agent's own quota is another.
    let agent = house.agent();
    let mut line = house.ingest(&running, &agent);
    let events = vec![crate::alerts::told(&house, &agent, 1, |_| {})];
    crate::house::send(&mut line, crate::house::EPOCH, 1, events).await.unwrap();
    clock.advance(wait.max(Duration::from_secs(2)));
    let told = house.append(&mut registry, 2_049, 200).await.unwrap();
    assert_eq!((told.acked_seq, told.appended), (2_248, 200));
    let found = alerts(&house, &running, &clock, 1).await;
    let spent = found.iter().find(|one| one.r#type() == AlertType::EmitterRefused).expect("it is an alert");
    assert_eq!((spent.severity(), spent.agent_id.as_str()), (AlertSeverity::Low, ""));
    assert!(spent.summary.contains("AUDIT_QUOTA_SPENT") && spent.summary.contains("/legate/registry"));
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_none_is_refused() {
    let house = House::build();
    for service_events_per_second in [0, 99, 1_000_001] {
        let mut config = house.config();
        config.log.service_events_per_second = service_events_per_second;
        let refused = house.try_raise(config).await.unwrap_err().to_string();
        assert!(refused.contains("log.service_events_per_second"), "{refused}");
    }
}
