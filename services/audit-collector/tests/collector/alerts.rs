//! Who tells what was done, what of it is found not to fit, and what operators say of that: over real mutual TLS.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use legate_audit_collector::Config;
use legate_boot::Running;
use legate_clock::{Clock as _, SystemClock, TestClock};
use legate_ids::{AgentId, EventId};
use legate_mtls::Identity;
use legate_rpc::{Code, Told};
use legate_wire::audit as wire;
use prost::Message as _;
use wire::{AlertSeverity, AlertStatus, AlertType};

use crate::house::{EPOCH, House, LONG, copy_log, send};
use crate::roles::said;

/// A house whose time is turned by hand, and starts now.
pub(crate) fn turned() -> (House, Arc<TestClock>) {
    let clock = TestClock::at(SystemClock::new().now());
    (House::at(clock.clone()), clock)
}

fn agent() -> String {
    AgentId::from_parts(1, [1; 10]).to_string()
}

/// What somebody tells of the example's agent.
pub(crate) fn told(house: &House, who: &Identity, seq: u64, bend: impl FnOnce(&mut wire::AuditEvent)) -> Bytes {
    let mut event = wire::AuditEvent {
        event_id: EventId::from_parts(seq, [9; 10]).to_string(),
        emitter: Some(wire::Emitter { spiffe_id: who.spiffe_id().unwrap().to_string(), epoch: EPOCH.into(), seq }),
        time: Some(house.clock.now().into()),
        r#type: "action.executed".into(),
        namespace: "payments".into(),
        agent_id: agent(),
        action: "invoice:pay".into(),
        resource: Some(wire::EventResource { r#type: "Invoice".into(), id: "1".into(), ..Default::default() }),
        outcome: wire::Outcome::Success.into(),
        ..wire::AuditEvent::default()
    };
    bend(&mut event);
    event.encode_to_vec().into()
}

/// The registry tells of the agent, and of two operators of its namespace.
pub(crate) async fn declare(house: &House, running: &Running) {
    let mut registry = house.ingest(running, &house.service("registry"));
    let role = |operators: &'static str, role: &'static str| [("operators", operators), ("role", role)];
    let created = told(house, &house.service("registry"), 5, |e| {
        e.r#type = "agent.created".into();
        e.details = [("state".to_owned(), "ACTIVE".to_owned())].into();
    });
    let events = vec![
        said(house, "registry", 1, "operators.stated", ("", ""), &[("bindings", "3")]),
        said(house, "registry", 2, "operator_binding.stated", ("payments", "viewers"), &role("vera", "VIEWER")),
        said(house, "registry", 3, "operator_binding.stated", ("payments", "editors"), &role("ed", "EDITOR")),
        said(house, "registry", 4, "operator_binding.stated", ("sales", "editors"), &role("sam", "EDITOR")),
        created,
    ];
    send(&mut registry, EPOCH, 1, events).await.unwrap();
}

pub(crate) fn config(house: &House) -> Config {
    Config { auditors: vec!["alice".into()], ..house.config() }
}

/// Lets time pass until there are so many alerts.
pub(crate) async fn alerts(house: &House, running: &Running, clock: &TestClock, many: usize) -> Vec<wire::Alert> {
    let mut alice = house.alerts(running, &house.operator("alice"));
    // The index may be opened at this moment.
    let ask = || wire::ListAlertsRequest { indexed_at_least: 1, ..wire::ListAlertsRequest::default() };
    let begin = Instant::now();
    loop {
        let found = alice.list_alerts(ask()).await.unwrap().into_inner().alerts;
        if found.len() >= many && found.iter().all(|alert| alert.raised_leaf.is_some()) {
            return found;
        }
        assert!(begin.elapsed() < LONG, "there never were {many} alerts: {found:#?}");
        clock.advance(Duration::from_secs(6));
    }
}

fn of(found: &[wire::Alert], kind: AlertType) -> wire::Alert {
    let found = found.iter().find(|alert| alert.r#type() == kind);
    found.unwrap_or_else(|| panic!("there is no {kind:?}")).clone()
}

async fn raised(house: &House, running: &Running) -> Vec<wire::IndexedEvent> {
    let mut alice = house.query(running, &house.operator("alice"));
    let ask = wire::QueryEventsRequest { r#type: "alert.raised".into(), ..wire::QueryEventsRequest::default() };
    alice.query_events(ask).await.unwrap().into_inner().events
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_nothing_allowed_is_an_alert_once_and_people_say_what_became_of_it() {
    let (house, clock) = turned();
    let running = house.raise_with(config(&house)).await;
    declare(&house, &running).await;
    let enforcer = house.enforcer();
    let mut ingest = house.ingest(&running, &enforcer);
    let told_of = send(&mut ingest, EPOCH, 1, vec![told(&house, &enforcer, 1, |_| {})]).await.unwrap();
    let leaf = told_of.first_leaf_index.unwrap();

    // Neither a decision nor a credential was ever told of: each is waited for, and then missed.
    let found = alerts(&house, &running, &clock, 2).await;
    let (alert, other) = (of(&found, AlertType::ActionWithoutDecision), of(&found, AlertType::ActionWithoutCredential));
    assert_eq!((alert.agent_id.as_str(), alert.namespace.as_str(), alert.count), (&*agent(), "payments", 1));
    assert_eq!(alert.leaf_indices, [leaf]);
    assert_eq!((alert.severity(), alert.status()), (AlertSeverity::Medium, AlertStatus::Open));
    assert!(alert.summary.contains("invoice:pay"), "{}", alert.summary);
    let events = raised(&house, &running).await;
    assert_eq!(events.len(), 2);
    let event = events.iter().find(|e| Some(e.leaf_index) == alert.raised_leaf).unwrap().event.clone().unwrap();
    assert_eq!(
        (event.details["alert_id"].as_str(), event.details["leaves"].as_str()),
        (&*alert.alert_id, &*leaf.to_string())
    );

    let ask = || wire::ReportCompletenessRequest::default();
    let mut vera = house.alerts(&running, &house.operator("vera"));
    let report = vera.report_completeness(ask()).await.unwrap().into_inner();
    assert_eq!((report.actions, report.incomplete, report.complete, report.waiting), (1, 1, 0, 0));
    assert_eq!(report.agent.unwrap().present, 1);
    assert_eq!((report.decision.unwrap().unknown, report.credential.unwrap().unknown), (1, 1));
    let missing = &report.incomplete_actions[0];
    assert_eq!(
        (missing.leaf_index, missing.missing.as_slice()),
        (leaf, &["credential".to_owned(), "decision".to_owned()][..])
    );
    assert!(report.evidence_to.is_some() && report.emitter_alerts.is_empty());

    // Others see nothing of it; who reads changes nothing; who may stop the agent does.
    let acknowledge =
        |id: &str, reason: &str| wire::AcknowledgeAlertRequest { alert_id: id.into(), reason: reason.into() };
    let resolve = |id: &str| wire::ResolveAlertRequest { alert_id: id.into(), reason: "a drill".into() };
    let reason = |refused: tonic::Status| Told::from_status(&refused).reason;
    let mut sam = house.alerts(&running, &house.operator("sam"));
    assert!(sam.list_alerts(wire::ListAlertsRequest::default()).await.unwrap().into_inner().alerts.is_empty());
    assert_eq!(sam.report_completeness(ask()).await.unwrap().into_inner().actions, 0);
    assert_eq!(
        reason(sam.acknowledge_alert(acknowledge(&alert.alert_id, "mine")).await.unwrap_err()),
        "AUDIT_ALERT_NOT_FOUND"
    );
    assert_eq!(vera.list_alerts(wire::ListAlertsRequest::default()).await.unwrap().into_inner().alerts.len(), 2);
    assert_eq!(reason(vera.resolve_alert(resolve(&alert.alert_id)).await.unwrap_err()), "OPERATOR_NOT_PERMITTED");
    // An auditor of the configuration reads, and no more.
    let mut alice = house.alerts(&running, &house.operator("alice"));
    assert_eq!(reason(alice.resolve_alert(resolve(&alert.alert_id)).await.unwrap_err()), "OPERATOR_NOT_PERMITTED");
    let mut ed = house.alerts(&running, &house.operator("ed"));
    for (id, why, wanted) in [
        ("alert_1", "why", "INVALID_ARGUMENT"),
        (&*alert.alert_id, " ", "INVALID_ARGUMENT"),
        (&*alert.alert_id, "bid\u{202e}i", "INVALID_ARGUMENT"),
        (&*format!("alert_{}", "0".repeat(32)), "why", "AUDIT_ALERT_NOT_FOUND"),
    ] {
        assert_eq!(reason(ed.acknowledge_alert(acknowledge(id, why)).await.unwrap_err()), wanted, "{id}");
    }
    let changed =
        ed.acknowledge_alert(acknowledge(&alert.alert_id, "looking")).await.unwrap().into_inner().alert.unwrap();
    assert_eq!((changed.status(), changed.change_reason.as_str()), (AlertStatus::Acknowledged, "looking"));
    assert!(changed.changed_by.ends_with("/legate/operator/ed"));
    let again = ed.acknowledge_alert(acknowledge(&alert.alert_id, "again")).await.unwrap_err();
    assert_eq!(reason(again), "AUDIT_ALERT_SETTLED");
    ed.resolve_alert(resolve(&alert.alert_id)).await.unwrap();
    let again = ed.resolve_alert(resolve(&alert.alert_id)).await.unwrap_err();
    assert_eq!((again.code(), reason(again)), (Code::FailedPrecondition, "AUDIT_ALERT_SETTLED".to_owned()));
    let open = wire::ListAlertsRequest { status: AlertStatus::Open.into(), ..wire::ListAlertsRequest::default() };
    let open = ed.list_alerts(open).await.unwrap().into_inner().alerts;
    assert_eq!(open, std::slice::from_ref(&other));
    running.shutdown().await;

    // Another collector over the same log, whose index is made again: the same alerts, and none is told twice.
    let before = house.log_dir();
    let moved = before.with_extension("moved");
    copy_log(&before, &moved);
    let anew = Config { dir: moved, ..config(&house) };
    let running = house.raise_with(anew).await;
    let found = alerts(&house, &running, &clock, 2).await;
    assert_eq!(of(&found, AlertType::ActionWithoutCredential), other);
    let settled = of(&found, AlertType::ActionWithoutDecision);
    assert_eq!((settled.alert_id.as_str(), settled.status()), (&*alert.alert_id, AlertStatus::Resolved));
    assert_eq!(raised(&house, &running).await.len(), 2);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_with_all_that_it_needs_is_complete() {
    let (house, clock) = turned();
    let running = house.raise_with(config(&house)).await;
    declare(&house, &running).await;
    let (agents, issuer, policy) =
        (house.agent(), house.service("credential-issuer"), house.service("policy-decision"));
    // The agent is quickest: what it did is in the log before what it needs.
    let mut own = house.ingest(&running, &agents);
    let by = |e: &mut wire::AuditEvent| {
        e.decision = Some(wire::EventDecision { decision_id: "dec_1".into(), allowed: true, ..Default::default() });
    };
    send(&mut own, EPOCH, 1, vec![told(&house, &agents, 1, by)]).await.unwrap();
    let issued = told(&house, &issuer, 1, |e| {
        e.r#type = "credential.issued".into();
        e.credential_id = "cred_1".into();
        let until = house.clock.now().plus(Duration::from_secs(3_600)).to_string();
        e.details = [("not_after".to_owned(), until)].into();
    });
    send(&mut house.ingest(&running, &issuer), EPOCH, 1, vec![issued]).await.unwrap();
    let decided = told(&house, &policy, 1, |e| {
        e.r#type = "decision.made".into();
        by(e);
    });
    let told_of = send(&mut house.ingest(&running, &policy), EPOCH, 1, vec![decided]).await.unwrap();
    let indexed_at_least = told_of.first_leaf_index.unwrap() + 1;
    let ask = || wire::ReportCompletenessRequest { indexed_at_least, ..wire::ReportCompletenessRequest::default() };
    let mut alice = house.alerts(&running, &house.operator("alice"));
    let begin = Instant::now();
    loop {
        let report = alice.report_completeness(ask()).await.unwrap().into_inner();
        assert_eq!((report.actions, report.incomplete), (1, 0));
        if report.complete == 1 {
            break;
        }
        assert!(begin.elapsed() < LONG, "it is never complete: {report:?}");
        clock.advance(Duration::from_secs(6));
    }
    assert!(alice.list_alerts(wire::ListAlertsRequest::default()).await.unwrap().into_inner().alerts.is_empty());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tells_what_is_not_its_own_is_refused_and_one_who_tells_too_much_waits() {
    let (house, clock) = turned();
    let running = house.raise_with(config(&house)).await;
    type Bend = fn(&mut wire::AuditEvent);
    let cases: [(&str, Bend, &str); 9] = [
        ("a decision", |e| e.r#type = "decision.made".into(), "AUDIT_NOT_YOURS_TO_TELL"),
        ("the life of an alert", |e| e.r#type = "alert.resolved".into(), "AUDIT_NOT_YOURS_TO_TELL"),
        ("another namespace", |e| e.namespace = "sales".into(), "AUDIT_NOT_YOURS_TO_TELL"),
        ("no namespace", |e| e.namespace.clear(), "AUDIT_NOT_YOURS_TO_TELL"),
        (
            "an operator's act",
            |e| e.actor = "spiffe://example.org/legate/operator/ed".into(),
            "AUDIT_NOT_YOURS_TO_TELL",
        ),
        ("a revision", |e| e.revision = 7, "AUDIT_NOT_YOURS_TO_TELL"),
        ("nobody's act", |e| e.agent_id = "agt_x' OR 1=1".into(), "AUDIT_NOT_YOURS_TO_TELL"),
        ("9 KiB", |e| e.reason = "x".repeat(9 << 10), "AUDIT_EVENT_TOO_LARGE"),
        (
            "another's name",
            |e| e.emitter.as_mut().unwrap().spiffe_id = "spiffe://example.org/legate/policy-decision".into(),
            "AUDIT_PRODUCER_MISMATCH",
        ),
    ];
    for who in [house.enforcer(), house.agent()] {
        let mut to = house.ingest(&running, &who);
        for (what, bend, wanted) in cases {
            let refused = send(&mut to, EPOCH, 1, vec![told(&house, &who, 1, bend)]).await.unwrap_err();
            assert_eq!(Told::from_status(&refused).reason, wanted, "{what}");
        }
        send(&mut to, EPOCH, 1, vec![told(&house, &who, 1, |_| {})]).await.unwrap();
    }
    let (enforcer, agents) = (house.enforcer(), house.agent());
    let of_another = |e: &mut wire::AuditEvent| e.agent_id = AgentId::from_parts(2, [2; 10]).to_string();
    let mut own = house.ingest(&running, &agents);
    let refused = send(&mut own, EPOCH, 2, vec![told(&house, &agents, 2, of_another)]).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "AUDIT_NOT_YOURS_TO_TELL");
    let mut to = house.ingest(&running, &enforcer);
    send(&mut to, EPOCH, 2, vec![told(&house, &enforcer, 2, of_another)]).await.unwrap();

    // A flood of one is that one's own trouble.
    let flood = |from: u64| (from..from + 500).map(|seq| told(&house, &enforcer, seq, |_| {})).collect::<Vec<_>>();
    let mut next = 3;
    let refused = loop {
        match send(&mut to, EPOCH, next, flood(next)).await {
            Ok(_) => next += 500,
            Err(refused) => break Told::from_status(&refused),
        }
        assert!(next < 3_000, "nobody is told to wait");
    };
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "AUDIT_QUOTA_SPENT"));
    let wait = refused.retry_after.unwrap();
    send(&mut own, EPOCH, 2, vec![told(&house, &agents, 2, |_| {})]).await.unwrap();
    clock.advance(wait);
    send(&mut to, EPOCH, next, flood(next)).await.unwrap();
    running.shutdown().await;
    house.audit(None).unwrap();
}
