//! The registry follows the alerts as they are raised: all of them, in order, from where it was; and nobody else does.

use legate_boot::Running;
use legate_mtls::Identity;
use legate_rpc::Told;
use legate_wire::audit::alert_feed_service_client::AlertFeedServiceClient;
use legate_wire::audit::{RaisedAlert, TailEventsRequest, WatchRaisedAlertsRequest, WatchRaisedAlertsResponse};

use crate::alerts::{alerts, config, declare, told, turned};
use crate::house::{EPOCH, House, LONG, send};

type News = tonic::Streaming<WatchRaisedAlertsResponse>;

async fn watch(house: &House, running: &Running, who: &Identity, from_leaf: u64) -> Result<News, Told> {
    let mut feed = AlertFeedServiceClient::new(house.dial_at(running.addr(), who, LONG));
    let opened = feed.watch_raised_alerts(WatchRaisedAlertsRequest { from_leaf }).await;
    opened.map(tonic::Response::into_inner).map_err(|status| Told::from_status(&status))
}

async fn next(news: &mut News) -> WatchRaisedAlertsResponse {
    tokio::time::timeout(LONG, news.message()).await.unwrap().unwrap().unwrap()
}

/// Reads until so many alerts came; how far they reach.
async fn read(news: &mut News, many: usize) -> (Vec<RaisedAlert>, u64) {
    let (mut all, mut through) = (Vec::new(), 0);
    while all.len() < many {
        let told = next(news).await;
        assert!(told.through_leaf >= through && !told.set_back);
        assert!(told.alerts.iter().all(|alert| (through..told.through_leaf).contains(&alert.leaf_index)), "{told:?}");
        through = told.through_leaf;
        all.extend(told.alerts);
    }
    (all, through)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_is_told_once_in_order_and_from_where_it_was() {
    let (house, clock) = turned();
    let running = house.raise_with(config(&house)).await;
    declare(&house, &running).await;
    let registry = house.service("registry");
    let mut live = watch(&house, &running, &registry, 0).await.unwrap();
    let enforcer = house.enforcer();
    let mut ingest = house.ingest(&running, &enforcer);
    send(&mut ingest, EPOCH, 1, vec![told(&house, &enforcer, 1, |_| {})]).await.unwrap();
    let found = alerts(&house, &running, &clock, 2).await;
    let (seen, through) = read(&mut live, 2).await;
    let mut expected: Vec<_> = found.iter().map(|a| (a.raised_leaf.unwrap(), a.alert_id.clone())).collect();
    expected.sort();
    assert_eq!(seen.iter().map(|a| (a.leaf_index, a.alert_id.clone())).collect::<Vec<_>>(), expected);
    for alert in &seen {
        let of = found.iter().find(|a| a.alert_id == alert.alert_id).unwrap();
        assert_eq!((alert.r#type, alert.severity, &alert.agent_id), (of.r#type, of.severity, &of.agent_id));
        assert!(alert.namespace == "payments" && alert.raise_time.is_some());
    }

    // From the start all of them again, from behind the first the second, and from behind both none.
    assert_eq!(read(&mut watch(&house, &running, &registry, 0).await.unwrap(), 2).await.0, seen);
    let mut rest = watch(&house, &running, &registry, seen[0].leaf_index + 1).await.unwrap();
    assert_eq!(read(&mut rest, 1).await.0, seen[1..]);
    let quiet = next(&mut watch(&house, &running, &registry, through).await.unwrap()).await;
    assert!(quiet.alerts.is_empty() && quiet.through_leaf >= through && !quiet.set_back);

    // Who was further than this log is told that it was set back.
    let mut ahead = watch(&house, &running, &registry, 1_000_000).await.unwrap();
    let told = next(&mut ahead).await;
    assert!(told.set_back && told.alerts.is_empty() && told.through_leaf < 1_000_000);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_leaves_room_for_what_acts_on_alerts() {
    let (house, _) = turned();
    let mut config = config(&house);
    config.auditors = (0..9).map(|n| format!("auditor-{n}")).collect();
    let running = house.raise_with(config).await;
    // As many lines as there may be.
    let mut lines = Vec::new();
    for n in 0..8 {
        let mut query = house.query(&running, &house.operator(&format!("auditor-{n}")));
        for _ in 0..8 {
            let line = query.tail_events(TailEventsRequest::default()).await;
            lines.push(line.unwrap().into_inner());
        }
    }
    let mut query = house.query(&running, &house.operator("auditor-8"));
    let full = Told::from_status(&query.tail_events(TailEventsRequest::default()).await.unwrap_err());
    assert_eq!(full.reason, "AUDIT_TAILS_TOO_MANY");
    let mut news = watch(&house, &running, &house.service("registry"), 0).await.unwrap();
    next(&mut news).await;
    drop(lines);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_follows_them() {
    let (house, _) = turned();
    let running = house.raise_with(config(&house)).await;
    let others = [
        house.operator("alice"),
        house.enforcer(),
        house.agent(),
        house.service("credential-issuer"),
        house.service("policy-decision"),
    ];
    for other in others {
        let refused = watch(&house, &running, &other, 0).await.unwrap_err();
        assert_eq!(refused.reason, "ACCESS_DENIED");
    }
    running.shutdown().await;
}
