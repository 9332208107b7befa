//! What was done at a backend, told by the backend itself, is held against what the services of a raised suite told of it.

use std::time::{Duration, Instant};

use legate_client::reporter::{Done, NotTold, Reporter, State};
use legate_clock::SystemClock;
use legate_wire::audit::alert_service_client::AlertServiceClient;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{AlertType, ListAlertsRequest, QueryEventsRequest, ReportCompletenessRequest};

use crate::asking::{Shown, ask, at_least, question};
use crate::raised::{AUDIENCE, LONG, Payments, Raised, id_of};

/// What is there is judged 15 s after it came.
pub(crate) const JUDGED: Duration = Duration::from_secs(60);

async fn reporter(raised: &Raised, payments: &Payments) -> Reporter {
    let backend = payments.backend.clone();
    let audit = raised.dial("audit-collector", backend.clone());
    let dir = raised.dir.path().join("spool");
    Reporter::open(&dir, 1 << 20, &backend, audit, SystemClock::shared()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backend_did_is_complete_where_it_was_allowed_and_an_alert_where_it_was_denied() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let issued = payments.runtime.token(AUDIENCE).await.unwrap();
    let presenter = payments.runtime.identity().x5t_s256().unwrap();
    let shown = Shown { token: issued.access_token, presenter };
    let backend = raised.dial("policy-decision", payments.backend.clone());
    let allowed = ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1001"), issued.revision)).await;
    let denied = ask(&backend, question(&shown, "invoice:pay", "apollo/1001")).await;
    assert!(allowed.reason_code == "ALLOWED" && denied.reason_code != "ALLOWED", "{denied:?}");

    // The id of the token is what the issuer told of it.
    let mut records = QueryServiceClient::new(raised.operator("audit-collector"));
    let begin = Instant::now();
    let token_id = loop {
        let issued = QueryEventsRequest { r#type: "token.issued".into(), ..QueryEventsRequest::default() };
        let found = records.query_events(issued).await.unwrap().into_inner().events;
        if let Some(event) = found.into_iter().next().and_then(|one| one.event) {
            break event.resource.unwrap().id;
        }
        assert!(begin.elapsed() < LONG, "the token is not on record");
    };

    let agent = id_of(&payments.agent);
    let told = reporter(&raised, &payments).await;
    let done = |action: &str| Done::new(&agent, action, "Invoice", "apollo/1001");
    told.tell(done("invoice:read").by_decision(&allowed.decision_id).with_token(&token_id)).await.unwrap();
    told.tell(done("invoice:pay").by_decision(&denied.decision_id).with_token(&token_id)).await.unwrap();
    // What the log would refuse is not kept.
    assert!(matches!(told.tell(Done::new("nobody", "invoice:read", "Invoice", "1")).await, Err(NotTold::Invalid(_))));
    assert!(told.flush(LONG).await);
    drop(told);
    // The same directory goes on, under another name.
    let told = reporter(&raised, &payments).await;
    told.tell(done("invoice:read").failed()).await.unwrap();
    assert!(told.flush(LONG).await);
    assert_eq!(*told.state().borrow(), State::default());
    drop(told);
    let size = records.query_events(QueryEventsRequest::default()).await.unwrap().into_inner().log_size;
    let kind = "action.executed".to_owned();
    let executed = QueryEventsRequest { r#type: kind, indexed_at_least: size, ..QueryEventsRequest::default() };
    let events = records.query_events(executed).await.unwrap().into_inner().events;
    let mut places: Vec<_> = events.into_iter().map(|one| one.event.unwrap().emitter.unwrap()).collect();
    places.reverse();
    assert_eq!(places.iter().map(|place| place.seq).collect::<Vec<_>>(), [1, 2, 1], "oldest first");
    assert!(places[0].epoch == places[1].epoch && places[1].epoch != places[2].epoch);

    // The service goes on deciding, so that what is missing would be known to be missing.
    let mut auditor = AlertServiceClient::new(raised.operator("audit-collector"));
    let (begin, mut known) = (Instant::now(), 0);
    let report = loop {
        ask(&backend, question(&shown, "invoice:read", "apollo/1001")).await;
        let next = ReportCompletenessRequest { indexed_at_least: known + 1, ..ReportCompletenessRequest::default() };
        let report = auditor.report_completeness(next).await.unwrap().into_inner();
        known = report.indexed_through;
        if report.actions == 3 && report.waiting == 0 {
            break report;
        }
        assert!(begin.elapsed() < JUDGED, "{report:?}");
    };
    assert_eq!((report.complete, report.incomplete), (2, 1), "{report:?}");
    assert_eq!(report.credential.unwrap().present, 3, "{report:?}");
    assert_eq!(report.incomplete_actions[0].missing, ["decision"]);
    assert!(report.emitter_alerts.is_empty(), "{report:?}");
    let alerts = auditor.list_alerts(ListAlertsRequest::default()).await.unwrap().into_inner().alerts;
    let kinds: Vec<AlertType> = alerts.iter().map(|alert| alert.r#type()).collect();
    assert_eq!(kinds, [AlertType::ActionDespiteDenial], "{alerts:?}");
    assert_eq!((alerts[0].namespace.as_str(), &alerts[0].agent_id), ("payments", &agent));
    raised.suite.shutdown().await;
}
