//! Drift as it is asked for: by whom, page by page, with its evidence, and what is refused.

use std::time::Duration;

use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;

use crate::domain::drift::Kind;
use crate::flow::drift::{Drift, Drifted, Propose, USUAL, Which, count, drift, propose_ceiling};
use crate::testing::*;

const DAY: i64 = 86_400;

fn at(days_ago: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: NOW - days_ago * DAY, nanos: 0 })
}

fn ask(which: Which) -> Drift {
    Drift {
        which,
        kinds: Vec::new(),
        unused_after: USUAL,
        page_size: 500,
        page_token: String::new(),
        at_least_revision: 0,
        said: "this".into(),
    }
}

fn window(days: i64) -> wire::UsageWindow {
    wire::UsageWindow { from_time: at(days), to_time: at(0), heard_through: 7, ..wire::UsageWindow::default() }
}

fn used(n: u8, action: &str, days_ago: i64) -> wire::AgentUsage {
    wire::AgentUsage {
        agent_id: agent_id(n).to_string(),
        last_used_time: at(days_ago),
        permissions: vec![wire::PermissionUsage {
            action: action.into(),
            resource_type: "Invoice".into(),
            count: 4,
            last_time: at(days_ago),
            ..wire::PermissionUsage::default()
        }],
        ..wire::AgentUsage::default()
    }
}

/// Everything was written long ago.
fn aged(mut all: Vec<wire::Declaration>) -> Vec<wire::Declaration> {
    for object in &mut all {
        if let Some(metadata) = object.metadata_mut() {
            (metadata.create_time, metadata.update_time) = (at(700), at(700));
        }
    }
    all
}

fn lines(drifted: &Drifted) -> Vec<String> {
    let each = drifted.found.iter().flat_map(|one| one.findings.iter().map(move |found| (&one.agent, found)));
    each.map(|(agent, found)| {
        let action = found.cell.as_ref().map_or("", |cell| cell.action.as_str());
        format!("{} {} {action}", agent.label.name, found.kind.word())
    })
    .collect()
}

#[tokio::test]
async fn what_is_unused_is_found_with_its_evidence_and_put_on_record() {
    let stage = Stage::set_with(aged).await;
    *stage.registry.usage.lock() = wire::ListAgentUsageResponse {
        agents: vec![used(1, "invoice:read", 2)],
        window: Some(window(100)),
        ..Default::default()
    };
    let told = drift(&stage.desk, &operator(), ask(Which::All)).await.unwrap();
    // The role's ledger:write is above the ceiling of the class.
    assert_eq!(lines(&told), ["invoice-bot-1 UNUSED invoice:list", "invoice-bot-1 EXCEEDS_CLASS ledger:write"]);
    let finding = &told.found[0].findings[0];
    assert!(finding.text.contains("invoice:list on Invoice:*"), "{}", finding.text);
    assert_eq!(finding.objects[0].name, "payments/invoice-worker");
    assert_eq!((told.agents, told.not_judged, told.left_out), (1, 0, 0));
    assert_eq!(told.window, window(100));
    let event = stage.paper.events().pop().unwrap();
    assert_eq!((event.r#type.as_str(), event.details["question"].as_str()), ("authority.searched", "drift"));
    // Some types, one agent, and what silence does not prove.
    let some = Drift { kinds: vec![Kind::Unused], which: Which::Agent(agent_id(1)), ..ask(Which::All) };
    assert_eq!(lines(&drift(&stage.desk, &operator(), some).await.unwrap()).len(), 1);
    stage.registry.usage.lock().window = Some(window(30));
    let told = drift(&stage.desk, &operator(), ask(Which::All)).await.unwrap();
    assert_eq!((lines(&told).len(), told.not_judged), (1, 1));
    stage.registry.usage.lock().window = None;
    let told = drift(&stage.desk, &operator(), ask(Which::All)).await.unwrap();
    assert!(lines(&told).len() == 1 && told.not_judged > 0);
}

#[tokio::test]
async fn pages_are_in_order_and_each_agent_is_on_one() {
    let stage = Stage::set_with(|mut all| {
        all.extend((2..7).map(|n| agent(n, |_| ())));
        aged(all)
    })
    .await;
    stage.registry.usage.lock().window = Some(window(100));
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = Drift { page_size: 2, page_token: token, ..ask(Which::All) };
        let told = drift(&stage.desk, &operator(), page).await.unwrap();
        assert!(told.agents <= 2);
        seen.extend(told.found.iter().map(|one| one.agent.label.name.to_string()));
        token = told.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (1..7).map(|n| format!("invoice-bot-{n}")).collect::<Vec<_>>());
    let edited = Drift { page_token: "00.00".into(), ..ask(Which::All) };
    assert_eq!(drift(&stage.desk, &operator(), edited).await.unwrap_err().reason(), "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn what_an_agent_below_uses_is_needed_by_its_maker() {
    let stage = Stage::set_with(|mut all| {
        all.push(agent(2, |agent| {
            agent.status.as_mut().unwrap().ancestors = vec![agent_id(1).to_string()];
        }));
        aged(all)
    })
    .await;
    let agents = vec![used(1, "invoice:read", 2), used(2, "invoice:list", 3)];
    *stage.registry.usage.lock() =
        wire::ListAgentUsageResponse { agents, window: Some(window(100)), ..Default::default() };
    let told = drift(&stage.desk, &operator(), ask(Which::Agent(agent_id(1)))).await.unwrap();
    assert_eq!(lines(&told), ["invoice-bot-1 EXCEEDS_CLASS ledger:write"]);
}

#[tokio::test]
async fn a_ceiling_is_proposed_of_what_was_used() {
    let stage = Stage::set_with(aged).await;
    let propose = |unused_after| Propose { agent: agent_id(1), unused_after, at_least_revision: 0 };
    *stage.registry.usage.lock() = wire::ListAgentUsageResponse {
        agents: vec![used(1, "invoice:read", 2)],
        window: Some(window(100)),
        ..Default::default()
    };
    let told = propose_ceiling(&stage.desk, &operator(), propose(USUAL)).await.unwrap();
    let kept: Vec<_> = told.proposal.keep.iter().map(|cell| (cell.action.as_str(), cell.id.as_str())).collect();
    assert_eq!(kept, [("invoice:read", "apollo/*")]);
    assert_eq!(told.proposal.lose.len(), 1);
    // For as long as the evidence does not reach, everything is kept.
    let told = propose_ceiling(&stage.desk, &operator(), propose(Duration::from_secs(200 * 86_400))).await.unwrap();
    assert!(told.proposal.lose.is_empty() && told.proposal.keep.is_empty());
    // Where nothing was used no ceiling would do, and it is taken away where it is given.
    stage.registry.usage.lock().agents.clear();
    let told = propose_ceiling(&stage.desk, &operator(), propose(USUAL)).await.unwrap();
    assert!(told.proposal.keep.is_empty() && told.proposal.lose.len() == 2, "{:?}", told.proposal);
    assert!(!told.patch.changes.is_empty() && told.patch.why_not.is_empty(), "{:?}", told.patch);
}

#[tokio::test]
async fn where_nothing_is_used_and_others_have_it_too_there_is_no_smaller_grant() {
    let stage = Stage::set_with(|mut all| {
        all.push(agent(2, |_| ()));
        all.push(binding(|b| b.agents.push("invoice-bot-2".into())));
        aged(all)
    })
    .await;
    stage.registry.usage.lock().window = Some(window(100));
    let propose = Propose { agent: agent_id(1), unused_after: USUAL, at_least_revision: 0 };
    let refused = propose_ceiling(&stage.desk, &operator(), propose).await.unwrap_err();
    assert_eq!(refused.reason(), "DRIFT_NOTHING_LEFT");
    assert!(refused.to_string().contains("to others too"), "{refused}");
}

#[tokio::test]
async fn pages_go_on_in_the_order_in_which_they_began_and_tell_each_agent_once() {
    let stage = Stage::set_with(|mut all| {
        all.extend((2..9).map(|n| agent(n, |_| ())));
        aged(all)
    })
    .await;
    stage.registry.usage.lock().window = Some(window(100));
    let mut seen = Vec::new();
    let mut next = Drift { page_size: 3, ..ask(Which::All) };
    let mut pages = 0;
    loop {
        let page = drift(&stage.desk, &operator(), next.clone()).await.unwrap();
        pages += 1;
        seen.extend(page.found.iter().map(|one| one.agent.label.name.to_string()));
        if page.next_page_token.is_empty() {
            break;
        }
        next.page_token = page.next_page_token;
    }
    let expected: Vec<String> = (1..9).map(|n| format!("invoice-bot-{n}")).collect();
    assert_eq!((seen, pages), (expected, 3));
}

#[tokio::test]
async fn findings_are_counted_once_something_was_heard() {
    let stage = Stage::set_with(aged).await;
    assert_eq!(count(&stage.desk).await.unwrap_err().reason(), "USAGE_UNAVAILABLE");
    *stage.registry.usage.lock() = wire::ListAgentUsageResponse {
        agents: vec![used(1, "invoice:read", 2)],
        window: Some(window(100)),
        ..Default::default()
    };
    let counts = count(&stage.desk).await.unwrap();
    let some: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| (*kind, *count)).collect();
    assert_eq!(some, [(Kind::Unused, 1), (Kind::ExceedsClass, 1)]);
    assert_eq!(counts.len(), Kind::ALL.len());
}

#[tokio::test]
async fn who_may_not_is_told_nothing() {
    let stage = Stage::set_with(|mut all| {
        let mut foreign = agent(9, |_| ());
        if let Some(Object::Agent(agent)) = &mut foreign.object {
            agent.metadata.as_mut().unwrap().namespace = "sales".into();
        }
        all.push(foreign);
        aged(all)
    })
    .await;
    stage.registry.usage.lock().window = Some(window(100));
    let told = drift(&stage.desk, &operator(), ask(Which::All)).await.unwrap();
    assert_eq!(told.agents, 1, "alice has a role in payments only");
    let refused = async |which| drift(&stage.desk, &operator(), ask(which)).await.unwrap_err().reason();
    let sales = legate_ids::Name::parse("sales").unwrap();
    assert_eq!(refused(Which::Namespace(sales)).await, "OPERATOR_NOT_PERMITTED");
    assert_eq!(refused(Which::Agent(agent_id(9))).await, "AGENT_UNKNOWN");
    let foreign = Propose { agent: agent_id(9), unused_after: USUAL, at_least_revision: 0 };
    assert_eq!(propose_ceiling(&stage.desk, &operator(), foreign).await.unwrap_err().reason(), "AGENT_UNKNOWN");
    stage.registry.is_gone.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(refused(Which::All).await, "USAGE_UNAVAILABLE");
}

#[tokio::test]
async fn what_goes_beyond_an_approval_and_what_was_written_by_hand_is_found_with_who_and_when() {
    let stage = Stage::set_with(|mut all| {
        let spec = wire::NamespaceSpec { pipelines: vec!["ci".into()], ..wire::NamespaceSpec::default() };
        let metadata = Some(wire::Metadata { name: "payments".into(), ..wire::Metadata::default() });
        let namespace = wire::Namespace { metadata, spec: Some(spec), status: None };
        all.retain(|one| !matches!(one.object, Some(Object::Namespace(_))));
        all.push(wire::Declaration { object: Some(Object::Namespace(namespace)) });
        aged(all)
    })
    .await;
    *stage.registry.usage.lock() = wire::ListAgentUsageResponse {
        agents: vec![used(1, "invoice:read", 2)],
        window: Some(window(100)),
        ..Default::default()
    };
    let some = || Drift { kinds: vec![Kind::ExceedsApproval, Kind::OutsideCode], ..ask(Which::All) };
    assert!(lines(&drift(&stage.desk, &operator(), some()).await.unwrap()).is_empty(), "nobody approved anything");
    let resource = wire::ResourceSelector { r#type: "Invoice".into(), id: "apollo/*".into(), ..Default::default() };
    let thing = wire::ApprovedThing {
        reviewed: wire::ReviewedThing::AgentClass.into(),
        permissions: vec![wire::Permission { action: "invoice:read".into(), resource: Some(resource) }],
        time: at(50),
        approved_by: "grace".into(),
        ..wire::ApprovedThing::default()
    };
    *stage.registry.baselines.lock() = wire::ListAgentBaselinesResponse {
        agents: vec![wire::AgentBaseline { agent_id: agent_id(1).to_string(), things: vec![thing] }],
        objects: vec![wire::WrittenByHand {
            object_id: agent_id(1).to_string(),
            time: at(9),
            actor: "mallory".into(),
            reason: "in a hurry".into(),
            ..wire::WrittenByHand::default()
        }],
        revision: 1,
    };
    let told = drift(&stage.desk, &operator(), some()).await.unwrap();
    assert_eq!(lines(&told), ["invoice-bot-1 GRANTED_OUTSIDE_CODE ", "invoice-bot-1 EXCEEDS_APPROVAL invoice:list"]);
    let [hand, beyond] = &told.found[0].findings[..] else { panic!("{told:?}") };
    assert!(hand.text.contains("mallory") && hand.text.contains("in a hurry"), "{}", hand.text);
    assert!(beyond.text.contains("grace approved"), "{}", beyond.text);
    assert_eq!(hand.objects[0].name, "payments/invoice-bot-1");
}
