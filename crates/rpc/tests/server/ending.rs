//! How a server ends: calls under way get their time, and then everything is cut.

use std::time::{Duration, Instant};

use legate_rpc::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::house::{House, LONG, ask, reaches};

#[tokio::test]
async fn a_call_under_way_is_finished_and_a_new_one_not_begun() {
    let (house, serving) = House::raise().await;
    let mut agent = house.ingest(house.agent());
    let under_way = tokio::spawn({
        let mut agent = agent.clone();
        async move { agent.append_events(ask("wait")).await }
    });
    reaches(&house.played.begun, 1).await;
    let stopping = serving.stopping();
    let ended = tokio::spawn(serving.shutdown(LONG));
    tokio::time::timeout(LONG, stopping.cancelled()).await.unwrap();
    // The connection says that it goes away; a new one is not accepted.
    let late = tokio::time::timeout(LONG, house.ingest(house.service("registry")).append_events(ask(""))).await;
    assert_eq!(late.expect("nothing hangs").unwrap_err().code(), Code::Unavailable);
    assert!(!ended.is_finished(), "a call is under way");
    house.played.gate.add_permits(1);
    assert_eq!(under_way.await.unwrap().unwrap().into_inner().acked_seq, 7);
    tokio::time::timeout(LONG, ended).await.unwrap().unwrap();
    agent.append_events(ask("")).await.unwrap_err();
    assert_eq!(house.calls(), 1);
}

#[tokio::test]
async fn a_hanging_call_is_cut_when_the_grace_is_over() {
    let (house, serving) = House::raise().await;
    let connections = serving.connections();
    let agent = house.ingest(house.agent());
    let hanging = tokio::spawn({
        let mut agent = agent.clone();
        async move {
            let mut request = ask("hang");
            request.set_timeout(Duration::from_secs(50));
            agent.append_events(request).await
        }
    });
    reaches(&house.played.begun, 1).await;
    // One that does nothing at all, and one that watches for ever.
    let mut watcher = HealthClient::new(house.dial(house.operator()));
    let mut news = watcher.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(news.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let began = Instant::now();
    let grace = Duration::from_millis(300);
    tokio::time::timeout(LONG, serving.shutdown(grace)).await.expect("nobody holds it up");
    assert!(began.elapsed() >= grace, "the call had its grace");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    tokio::time::timeout(LONG, hanging).await.unwrap().unwrap().unwrap_err();
    reaches(&house.played.gone, 1).await;
    // The watcher was told before it was cut.
    let told = tokio::time::timeout(LONG, news.message()).await.unwrap();
    assert_eq!(told.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(!matches!(tokio::time::timeout(LONG, news.message()).await.unwrap(), Ok(Some(_))));
    let gone = async {
        while !connections.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, gone).await.expect("no connection is left");
}
