//! A change that is tried on decisions as they are made: what is told of it is what it does once it is in force, and it decides nothing.

use futures_util::StreamExt as _;
use legate_wire::policy::{Decision, ShadowChangeResponse};
use legate_wire::registry as wire;
use legate_wire::registry::PolicyMode::Enforce;

use super::super::{ShadowChange, Shadows, shadow_change};
use crate::convert::Ask;
use crate::flow::Asker;
use crate::testing::*;

fn wanted(wanted: Vec<wire::Declaration>) -> ShadowChange {
    ShadowChange { wanted, ..ShadowChange::default() }
}

fn gone(name: &str) -> ShadowChange {
    let kind = wire::Kind::Policy.into();
    let gone = vec![wire::ObjectName { kind, namespace: "payments".into(), name: name.into() }];
    ShadowChange { gone, ..ShadowChange::default() }
}

async fn open(stage: &Stage, asker: &Asker, ask: ShadowChange) -> (Shadows, ShadowChangeResponse) {
    let mut news = shadow_change(&stage.desk, asker, ask).await.unwrap();
    let first = next(&mut news).await.unwrap();
    (news, first)
}

async fn next(news: &mut Shadows) -> Result<ShadowChangeResponse, tonic::Status> {
    tokio::time::timeout(PATIENCE, news.next()).await.expect("it says nothing").expect("it has ended")
}

/// What is told once so many decisions were tried, with every example.
async fn told(news: &mut Shadows, decisions: u64) -> ShadowChangeResponse {
    let mut examples = Vec::new();
    loop {
        let mut said = next(news).await.unwrap();
        examples.append(&mut said.examples);
        if said.decisions + said.left_out >= decisions {
            assert_eq!((said.decisions, said.left_out), (decisions, 0));
            return ShadowChangeResponse { examples, ..said };
        }
    }
}

fn questions(stage: &Stage) -> Vec<Ask> {
    vec![
        stage.good(),
        stage.good().action("invoice:list"),
        stage.good().action("invoice:delete"),
        stage.good().resource("zeus/7"),
        stage.good().attribute("sealed", crate::domain::question::Value::Bool(true)),
    ]
}

#[tokio::test]
async fn what_is_told_of_a_change_is_what_it_does_once_it_is_in_force() {
    let changes = [
        wanted(vec![policy("closed", Enforce, "forbid(principal, action == Action::\"invoice:read\", resource);")]),
        wanted(vec![policy("open", Enforce, "permit(principal, action, resource);")]),
        wanted(vec![policy("nothing", Enforce, "permit(principal, action, resource) when { false };")]),
        gone("sealed"),
        wanted(vec![binding(|spec| spec.not_after = Some(prost_types::Timestamp { seconds: 1, nanos: 0 }))]),
        ShadowChange {
            wanted: vec![policy("open", Enforce, "permit(principal, action, resource);")],
            ..gone("sealed")
        },
    ];
    let mut flips = [0, 0];
    for change in changes {
        let mut stage = Stage::set().await;
        let (mut news, first) = open(&stage, &operator(), change.clone()).await;
        assert_eq!((first.decisions, first.revision), (0, stage.desk.view.current().revision()));
        let mut before = Vec::new();
        for ask in questions(&stage) {
            before.push(stage.ask(&enforcer("invoices"), ask).await);
        }
        let said = told(&mut news, before.len() as u64).await;
        drop(news);
        let removed = |name: &wire::ObjectName| {
            let all = everything(&stage.signer);
            let of = |one: &wire::Declaration| one.metadata().is_some_and(|m| m.name == name.name);
            (all.into_iter().find(of).unwrap(), true)
        };
        let objects = change.wanted.iter().cloned().map(|one| (one, false)).chain(change.gone.iter().map(removed));
        stage.change(objects.collect()).await;
        let mut expected = Vec::new();
        for (ask, was) in questions(&stage).into_iter().zip(&before) {
            let is = stage.ask(&enforcer("invoices"), ask).await;
            let would = match (was.answer.denied.is_none(), is.answer.denied.is_none()) {
                (true, false) => Decision::Deny,
                (false, true) => Decision::Allow,
                _ => continue,
            };
            expected.push((was.id.to_string(), would));
        }
        let mut found: Vec<_> = said.examples.iter().map(|one| (one.decision_id.clone(), one.would())).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{change:?}");
        let count = |would: Decision| expected.iter().filter(|(_, one)| *one == would).count() as u64;
        let [allow, deny] = [Decision::Allow, Decision::Deny].map(count);
        assert_eq!((said.would_allow, said.would_deny), (allow, deny));
        flips = [flips[0] + allow, flips[1] + deny];
    }
    assert!(flips[0] >= 2 && flips[1] >= 2, "{flips:?}: what changes nothing shows nothing");
}

#[tokio::test]
async fn it_decides_nothing_is_on_record_and_follows_what_is_in_force() {
    let mut stage = Stage::set().await;
    let close = policy("closed", Enforce, "forbid(principal, action, resource);");
    let (mut news, _) = open(&stage, &operator(), wanted(vec![close.clone()])).await;
    let events = stage.paper.events();
    let event = events.iter().find(|event| event.r#type == "change.shadowed").unwrap();
    assert_eq!((event.namespace.as_str(), event.details["declarations"].as_str()), ("payments", "1"));
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    assert_eq!(told(&mut news, 1).await.would_deny, 1);
    // What is in force already changes nothing any more.
    stage.change(vec![(close, false)]).await;
    let revision = stage.desk.view.current().revision();
    while next(&mut news).await.unwrap().revision < revision {}
    assert_eq!(stage.word(stage.good()).await, "FORBIDDEN_BY_POLICY");
    assert_eq!(told(&mut news, 2).await.would_deny, 1);
    // Nobody follows twice, and whoever ends makes room.
    let twice = shadow_change(&stage.desk, &operator(), gone("sealed")).await.err().unwrap();
    assert_eq!(twice.reason(), "ASKING_BUSY");
    drop(news);
    let (_again, first) = loop {
        match shadow_change(&stage.desk, &operator(), gone("sealed")).await {
            Ok(mut news) => {
                let first = next(&mut news).await.unwrap();
                break (news, first);
            }
            Err(fault) => assert_eq!(fault.reason(), "ASKING_BUSY"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(first.decisions, 0);
}

#[tokio::test]
async fn what_cannot_be_tried_is_refused_and_what_the_registry_would_refuse_is_said() {
    let stage = Stage::set().await;
    let reason = async |ask| shadow_change(&stage.desk, &operator(), ask).await.err().unwrap().reason().to_owned();
    assert_eq!(reason(wanted(vec![policy("broken", Enforce, "permit(")])).await, "QUESTION_INVALID");
    assert_eq!(reason(wanted(vec![wire::Declaration::default()])).await, "QUESTION_INVALID");
    let typo = policy("typo", Enforce, "forbid(principal, action, resource) when { principal has enviroment };");
    let (news, first) = open(&stage, &operator(), wanted(vec![typo])).await;
    assert!(first.unfit[0].contains("enviroment"), "{first:?}");
    drop(news);
}

#[tokio::test]
async fn whoever_may_not_read_a_namespace_tries_nothing_on_it_and_loses_the_stream_with_the_right() {
    let mut stage = Stage::set().await;
    let close = || wanted(vec![policy("closed", Enforce, "forbid(principal, action, resource);")]);
    let (mut news, _) = open(&stage, &operator(), close()).await;
    let role = operators("team", "payments", "alice", wire::OperatorRole::Viewer);
    stage.change(vec![(role, true)]).await;
    let status = loop {
        if let Err(status) = next(&mut news).await {
            break status;
        }
    };
    assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status:?}");
    let refused = shadow_change(&stage.desk, &operator(), close()).await.err().unwrap();
    assert_eq!(refused.reason(), "OPERATOR_NOT_PERMITTED");
}

#[tokio::test]
async fn by_an_old_view_nobody_is_told_anything_more() {
    let stage = Stage::set().await;
    let close = wanted(vec![policy("closed", Enforce, "forbid(principal, action, resource);")]);
    let (mut news, _) = open(&stage, &operator(), close).await;
    // The registry says nothing any more, and a right that it took away would not be known.
    stage.pongs.on.store(false, std::sync::atomic::Ordering::SeqCst);
    stage.clock.advance(stage.desk.view.bound() + std::time::Duration::from_secs(1));
    let status = loop {
        if let Err(status) = next(&mut news).await {
            break status;
        }
    };
    assert_eq!(legate_rpc::Told::from_status(&status).reason, "STALE");
}
