//! SIGTERM: calls under way are finished, everything is handed over, and the next start knows that the last one ended well.

use std::time::{Duration, Instant};

use legate_wire::policy::decision_service_client::DecisionServiceClient;

use crate::asking::{ask, at_least, question, word};
use crate::log::Log;
use crate::processes::Processes;

/// A service drains for ten seconds at most, and does its last things after that.
const IN_TIME: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_is_answered_and_nothing_is_left_behind() {
    let mut suite = Processes::start("info").await;
    let parties = suite.parties().await;
    let first = at_least(question(&parties.shown, "invoice:read", "apollo/1"), parties.revision);
    assert_eq!(word(&ask(&parties.backend, first).await), "ALLOWED");

    // It waits for a revision that does not come, until its deadline is over; the service is told to stop meanwhile.
    let mut request = tonic::Request::new(at_least(question(&parties.shown, "invoice:read", "apollo/2"), u64::MAX));
    request.set_timeout(Duration::from_secs(3));
    let mut backend = DecisionServiceClient::new(parties.backend.clone());
    let under_way = tokio::spawn(async move { backend.evaluate(request).await });
    // A later call that is answered shows that the one before it has been taken.
    ask(&parties.backend, question(&parties.shown, "invoice:read", "apollo/3")).await;
    suite.signal("policy-decision", "TERM");
    let answer = under_way.await.unwrap().unwrap().into_inner();
    assert_eq!(word(&answer), "REVISION_NOT_REACHED");

    let begin = Instant::now();
    let ended = suite.wait("policy-decision");
    assert!(ended.success(), "{ended}: {}", suite.told("policy-decision"));
    assert!(begin.elapsed() < IN_TIME, "policy-decision took {:?}", begin.elapsed());
    let begin = Instant::now();
    suite.stop();
    assert!(begin.elapsed() < IN_TIME, "the other three took {:?}", begin.elapsed());

    let log = Log::read(&suite.audit_log());
    assert!(log.has_decision(&answer.decision_id));
    assert_eq!(log.events.last().unwrap().r#type, "log.closed");

    for service in legate::dev::pki::SERVICES {
        suite.spawn(service);
        suite.wait_until_serving(service).await;
    }
    suite.stop();
    let log = Log::read(&suite.audit_log());
    let opened: Vec<_> = log.of_type("spool.opened").collect();
    assert_eq!(opened.len(), 2);
    assert_eq!(opened[1].details["previous_ended_clean"], "true");
    assert_eq!(log.of_type("log.recovered").count(), 0);
}
