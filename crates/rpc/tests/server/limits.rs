//! How long and how much: deadlines, messages over the limit, headers over the limit, and tries again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use legate_rpc::{Code, Limits, RetryBudget, with_retry};
use legate_wire::audit::ingest_service_client::IngestServiceClient;

use crate::house::{House, LONG, ask, reaches, told};

#[tokio::test]
async fn a_call_ends_within_its_deadline_and_its_handler_with_it() {
    let (house, serving) = House::raise().await;
    let mut agent = house.ingest(house.agent());
    agent.append_events(ask("")).await.unwrap();
    let mut hanging = ask("hang");
    hanging.set_timeout(Duration::from_millis(400));
    let began = Instant::now();
    let end = agent.append_events(hanging).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // The service answers 20 ms before the caller would give up by itself.
    assert_eq!(told(end), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into()));
    assert!(house.last_seen().left <= Duration::from_millis(380), "{:?}", house.last_seen());
    reaches(&house.played.gone, 2).await;

    let mut short = ask("");
    short.metadata_mut().insert("grpc-timeout", "49999u".parse().unwrap());
    assert_eq!(told(agent.append_events(short).await), (Code::DeadlineExceeded, "DEADLINE_TOO_SHORT".into()));
    for bad in ["5s", "-5S", "123456789S", "S", "5", "1 S"] {
        let mut odd = ask("");
        odd.metadata_mut().insert("grpc-timeout", bad.parse().unwrap());
        let end = agent.append_events(odd).await;
        assert_eq!(told(end), (Code::InvalidArgument, "INVALID_ARGUMENT".into()), "{bad}");
    }
    assert_eq!(house.calls(), 2);
    serving.shutdown(LONG).await;
}

#[tokio::test]
async fn a_call_without_a_deadline_gets_one_and_nobody_gets_an_hour() {
    let limits = Limits { default_deadline: Duration::from_millis(700), ..Limits::default() };
    let (house, serving) = House::raise_with(limits).await;
    let mut agent = house.ingest(house.agent());
    let mut long = ask("");
    long.set_timeout(Duration::from_secs(3_600));
    agent.append_events(long).await.unwrap();
    let left = house.last_seen().left;
    assert!(left < Duration::from_secs(60) && left > Duration::from_secs(30), "{left:?}");

    // The client of ours always sends one: this is a caller that does not.
    let mut bare = IngestServiceClient::new(house.bare(house.agent()));
    let end = tokio::time::timeout(LONG, bare.append_events(ask("hang"))).await.expect("the server ends it");
    assert_eq!(told(end).1, "DEADLINE_EXCEEDED");
    serving.shutdown(LONG).await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_connection_goes_on() {
    let (house, serving) = House::raise().await;
    let mut agent = house.ingest(house.agent());
    let mut fits = ask("");
    fits.get_mut().events = vec![vec![7; (4 << 20) - 64].into()];
    agent.append_events(fits).await.unwrap();
    let mut large = ask("");
    large.get_mut().events = vec![vec![7; 4 << 20].into()];
    assert_eq!(told(agent.append_events(large).await).0, Code::OutOfRange);
    let mut huge = ask("");
    huge.get_mut().events = vec![vec![7; 24 << 20].into()];
    let end = tokio::time::timeout(LONG, agent.append_events(huge)).await.expect("nothing hangs");
    end.unwrap_err();
    assert_eq!(house.calls(), 1, "no handler saw them");
    agent.append_events(ask("")).await.unwrap();
    serving.shutdown(LONG).await;
}

#[tokio::test]
async fn headers_over_the_limit_are_refused_and_others_go_on() {
    let (house, serving) = House::raise().await;
    let mut agent = house.ingest(house.agent());
    let mut stuffed = ask("");
    stuffed.metadata_mut().insert("x-stuffing", "y".repeat(17 * 1_024).parse().unwrap());
    let end = tokio::time::timeout(LONG, agent.append_events(stuffed)).await.expect("nothing hangs");
    end.unwrap_err();
    assert_eq!(house.calls(), 0);
    agent.append_events(ask("")).await.unwrap();
    serving.shutdown(LONG).await;
}

#[tokio::test]
async fn a_client_tries_again_within_its_budget() {
    let (house, serving) = House::raise().await;
    let agent = house.ingest(house.agent());
    let budget = RetryBudget::new(3);
    let call = |what: &'static str| {
        let agent = agent.clone();
        move || {
            let mut agent = agent.clone();
            async move { agent.append_events(ask(what)).await }
        }
    };
    house.played.busy.store(2, Ordering::SeqCst);
    with_retry(&budget, call("busy")).await.unwrap();
    assert_eq!(house.calls(), 3, "twice it was busy");

    // One retry is left; then every call is tried once, however often it fails.
    house.played.busy.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(told(with_retry(&budget, call("busy")).await), (Code::Unavailable, "BUSY".into()));
    assert_eq!(house.calls(), 5);
    with_retry(&budget, call("busy")).await.unwrap_err();
    assert_eq!(house.calls(), 6);
    // Ten calls that go through earn one. One was earned a tenth of before.
    for _ in 0..9 {
        with_retry(&budget, call("")).await.unwrap();
    }
    with_retry(&budget, call("busy")).await.unwrap_err();
    assert_eq!(house.calls(), 6 + 9 + 2);
    // What will not pass is not tried again.
    with_retry(&RetryBudget::new(100), call("broken")).await.unwrap_err();
    assert_eq!(house.calls(), 18);
    serving.shutdown(LONG).await;
}
