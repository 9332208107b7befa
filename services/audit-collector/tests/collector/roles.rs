//! What operators may read: what the registry's own events say, and nothing before they have.

use crate::house::{EPOCH, House, send};
use bytes::Bytes;
use legate_audit_collector::Config;
use legate_rpc::{Code, Told};
use legate_wire::audit as wire;
use prost::Message as _;

/// An event of somebody's about a binding, or the statement that all of them follow.
pub(crate) fn said(house: &House, by: &str, seq: u64, kind: &str, of: (&str, &str), details: &[(&str, &str)]) -> Bytes {
    let mut event = house.event(seq);
    event.emitter.as_mut().unwrap().spiffe_id = house.service_id(by);
    let resource = wire::EventResource { r#type: "OperatorBinding".into(), id: of.1.into(), ..Default::default() };
    let details = details.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let event = wire::AuditEvent {
        r#type: kind.into(),
        agent_id: String::new(),
        namespace: of.0.into(),
        resource: Some(resource),
        details,
        ..event
    };
    event.encode_to_vec().into()
}

fn config(house: &House) -> Config {
    Config { auditors: vec!["alice".into()], ..house.config() }
}

fn ask() -> wire::QueryEventsRequest {
    wire::QueryEventsRequest { r#type: "agent.suspended".into(), ..wire::QueryEventsRequest::default() }
}

fn of(namespace: &str, house: &House, seq: u64) -> Bytes {
    wire::AuditEvent { namespace: namespace.into(), ..house.event(seq) }.encode_to_vec().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_reads_what_his_roles_say_from_when_they_are_known_to_when_they_are_gone() {
    let house = House::build();
    let running = house.raise_with(config(&house)).await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    let namespaces = ["payments", "sales", "", "pay"];
    let events = (1..=8).zip(namespaces.iter().cycle()).map(|(seq, ns)| of(ns, &house, seq)).collect();
    send(&mut registry, EPOCH, 1, events).await.unwrap();

    // Nobody has said anything yet: only whom the configuration names reads.
    let mut hurried = house.hurried_query(&running, &house.operator("vera"));
    let told = Told::from_status(&hurried.query_events(ask()).await.unwrap_err());
    assert_eq!((told.code, told.reason.as_str()), (Code::Unavailable, "AUDIT_ROLES_UNKNOWN"));
    let mut alice = house.query(&running, &house.operator("alice"));
    let all = alice.query_events(wire::QueryEventsRequest { indexed_at_least: 9, ..ask() }).await.unwrap();
    assert_eq!(all.into_inner().events.len(), 8);

    // Another service's word about roles is none.
    let mut policy = house.ingest(&running, &house.service("policy-decision"));
    let mallory = [("operators", "mallory"), ("role", "ADMIN")];
    let forged = vec![
        said(&house, "policy-decision", 1, "operators.stated", ("", ""), &[]),
        said(&house, "policy-decision", 2, "operator_binding.stated", ("", "all"), &mallory),
    ];
    send(&mut policy, EPOCH, 1, forged).await.unwrap();
    let told = Told::from_status(&hurried.query_events(ask()).await.unwrap_err());
    assert_eq!(told.reason, "AUDIT_ROLES_UNKNOWN");

    let vera = [("operators", "vera otto"), ("role", "VIEWER")];
    let past = [("operators", "late"), ("role", "VIEWER"), ("not_after", "2020-01-01T00:00:00Z")];
    let glass = [("operators", "gus"), ("role", "BREAK_GLASS")];
    let stated = vec![
        said(&house, "registry", 9, "operators.stated", ("", ""), &[("bindings", "3")]),
        said(&house, "registry", 10, "operator_binding.stated", ("payments", "viewers"), &vera),
        said(&house, "registry", 11, "operator_binding.stated", ("", "late"), &past),
        said(&house, "registry", 12, "operator_binding.stated", ("", "glass"), &glass),
    ];
    let told = send(&mut registry, EPOCH, 9, stated).await.unwrap();
    let through = told.first_leaf_index.unwrap() + 4;
    let known = || wire::QueryEventsRequest { indexed_at_least: through, ..ask() };
    let mut vera = house.query(&running, &house.operator("vera"));
    let page = vera.query_events(known()).await.unwrap().into_inner();
    let namespaces: Vec<String> = page.events.into_iter().map(|e| e.event.unwrap().namespace).collect();
    assert_eq!(namespaces, ["payments", "payments"]);
    // Of what is another's there is nothing, by whatever it is asked for.
    let base = || wire::QueryEventsRequest { indexed_at_least: through, ..wire::QueryEventsRequest::default() };
    for foreign in [
        wire::QueryEventsRequest { namespace: "sales".into(), ..base() },
        wire::QueryEventsRequest { filter: "namespace = sales OR namespace = pay".into(), ..base() },
        wire::QueryEventsRequest { filter: "NOT namespace = payments".into(), ..base() },
        wire::QueryEventsRequest { r#type: "log.*".into(), ..base() },
        wire::QueryEventsRequest { text: "operators".into(), ..base() },
    ] {
        assert!(vera.query_events(foreign.clone()).await.unwrap().into_inner().events.is_empty(), "{foreign:?}");
    }
    let usage = wire::ListUsageRequest { namespace: "sales".into(), ..wire::ListUsageRequest::default() };
    assert!(vera.list_usage(usage).await.unwrap().into_inner().usage.is_empty());
    let mut prover = house.proof(&running, &house.operator("vera"));
    let mut reasons = Vec::new();
    for leaf_index in 1..9 {
        let ask = wire::ProveInclusionRequest { leaf_index, tree_size: 0, with_cose_receipt: false };
        reasons.push(prover.prove_inclusion(ask).await.map_or_else(|s| Told::from_status(&s).reason, |_| "".into()));
    }
    assert_eq!(reasons.iter().filter(|r| r.is_empty()).count(), 2, "{reasons:?}");
    assert!(reasons.iter().all(|r| r.is_empty() || r == "OPERATOR_NOT_PERMITTED"));
    prover.get_checkpoint(wire::GetCheckpointRequest::default()).await.unwrap();
    let evidence = |namespace: &str| wire::RecordEvidenceRequest {
        manifest_sha256: vec![7; 32],
        query: Some(wire::QueryEventsRequest { namespace: namespace.into(), ..wire::QueryEventsRequest::default() }),
        tree_size: 1,
        ..wire::RecordEvidenceRequest::default()
    };
    for own in ["payments", ""] {
        prover.record_evidence(evidence(own)).await.unwrap();
    }
    for foreign in ["sales", "no-such"] {
        let told = Told::from_status(&prover.record_evidence(evidence(foreign)).await.unwrap_err());
        assert_eq!(told.reason, "OPERATOR_NOT_PERMITTED", "{foreign}");
    }

    for nobody in ["late", "gus", "mallory"] {
        let mut line = house.query(&running, &house.operator(nobody));
        let told = Told::from_status(&line.query_events(known()).await.unwrap_err());
        assert_eq!(told.reason, "OPERATOR_NOT_PERMITTED", "{nobody}");
        let told = Told::from_status(&line.tail_events(wire::TailEventsRequest::default()).await.unwrap_err());
        assert_eq!(told.reason, "OPERATOR_NOT_PERMITTED", "{nobody}");
        let told = Told::from_status(&line.list_usage(wire::ListUsageRequest::default()).await.unwrap_err());
        assert_eq!(told.reason, "OPERATOR_NOT_PERMITTED", "{nobody}");
        let mut line = house.proof(&running, &house.operator(nobody));
        let told = Told::from_status(&line.record_evidence(evidence("")).await.unwrap_err());
        assert_eq!(told.reason, "OPERATOR_NOT_PERMITTED", "{nobody}");
    }
    // In a stated emergency there is more, and that is on record.
    let emergency = |who: &str| {
        let mut line = house.query(&running, &house.operator(who));
        let mut request = tonic::Request::new(known());
        request.metadata_mut().insert("legate-break-glass", "INC-1".parse().unwrap());
        async move { line.query_events(request).await }
    };
    assert_eq!(emergency("gus").await.unwrap().into_inner().events.len(), 8);
    assert_eq!(Told::from_status(&emergency("vera").await.unwrap_err()).reason, "BREAK_GLASS_REFUSED");

    // Vera follows the log, until her role is gone.
    let ask_tail = wire::TailEventsRequest { query: Some(ask()), resume_token: String::new() };
    let mut news = vera.tail_events(ask_tail).await.unwrap().into_inner();
    let gone = vec![
        of("payments", &house, 13),
        said(&house, "registry", 14, "operator_binding.revoked", ("payments", "viewers"), &[]),
        of("payments", &house, 15),
    ];
    let told = send(&mut registry, EPOCH, 13, gone).await.unwrap();
    let ended = loop {
        match tokio::time::timeout(std::time::Duration::from_secs(20), news.message()).await.unwrap() {
            Ok(said) => assert!(said.unwrap().events.len() <= 1, "what came after her role was gone is not hers"),
            Err(status) => break Told::from_status(&status),
        }
    };
    assert_eq!(ended.reason, "OPERATOR_NOT_PERMITTED");
    let after = wire::QueryEventsRequest { indexed_at_least: told.first_leaf_index.unwrap() + 3, ..ask() };
    let told = Told::from_status(&vera.query_events(after).await.unwrap_err());
    assert_eq!(told.reason, "OPERATOR_NOT_PERMITTED");

    // The next run knows it at once: it is in the index.
    running.shutdown().await;
    let running = house.raise_with(config(&house)).await;
    let mut vera = house.query(&running, &house.operator("vera"));
    assert_eq!(Told::from_status(&vera.query_events(ask()).await.unwrap_err()).reason, "OPERATOR_NOT_PERMITTED");
    let mut alice = house.query(&running, &house.operator("alice"));
    let broken = wire::QueryEventsRequest { r#type: "operator.broke_glass".into(), ..known() };
    let broken = alice.query_events(broken).await.unwrap().into_inner().events;
    assert!(broken.len() == 1 && broken[0].event.as_ref().unwrap().actor.ends_with("/operator/gus"));
    let refused = wire::QueryEventsRequest { r#type: "log.read_refused".into(), ..known() };
    let refused = alice.query_events(refused).await.unwrap().into_inner().events;
    assert!(refused.iter().any(|e| e.event.as_ref().unwrap().actor.ends_with("/operator/mallory")));
    assert!(!broken.is_empty() && broken.iter().all(|e| e.event.as_ref().unwrap().details["emergency"] == "INC-1"));
    running.shutdown().await;
    house.audit(None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_auditors_are_names() {
    let house = House::build();
    for bad in [vec!["Alice A.".into()], vec!["a".into(); 65], vec![String::new()]] {
        let refused = house.try_raise(Config { auditors: bad, ..house.config() }).await.unwrap_err().to_string();
        assert!(refused.contains("auditors"), "{refused}");
    }
}
