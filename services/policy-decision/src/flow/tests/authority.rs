//! Classes, roles, bindings, ceilings and the agent's state.

use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;

use crate::domain::answer::{CauseKind, Denial};
use crate::testing::*;

#[tokio::test]
async fn nothing_that_was_not_given_is_permitted() {
    let stage = Stage::set().await;
    for (word, ask) in [
        ("ALLOWED", stage.good().action("invoice:list")),
        ("NOT_PERMITTED", stage.good().action("invoice:delete")),
        ("NOT_PERMITTED", stage.good().action("never-heard-of")),
        ("NOT_PERMITTED", stage.good().action("invoice:read:all")),
        ("BINDING_NARROWED", stage.good().resource("zeus/7")),
        ("BINDING_NARROWED", stage.good().resource("apollo")),
        ("BINDING_NARROWED", stage.good().resource("apollo2/1")),
        ("BINDING_NARROWED", stage.good().resource("x:apollo/1")),
        // Another spelling of the same letters is another resource.
        ("BINDING_NARROWED", stage.good().resource("apoll\u{f6}/1")),
        ("ABOVE_CEILING", stage.good().action("ledger:write")),
    ] {
        let question = format!("{} {}", ask.question.action, ask.question.resource_id);
        let spoken = stage.ask(&enforcer("invoices"), ask).await;
        assert_eq!(spoken.answer.word(), word, "{question}");
        assert!(spoken.answer.denied.is_none_or(|why| why.kind() == Denial::NotPermitted));
    }
}

#[tokio::test]
async fn what_was_cut_says_by_which_ceiling() {
    let stage = Stage::set().await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good().action("ledger:write")).await;
    let kinds: Vec<_> = spoken.answer.causes.iter().map(|c| (c.kind, c.name.as_str())).collect();
    assert_eq!(
        kinds,
        [(CauseKind::Binding, "payments/reads-apollo"), (CauseKind::Ceiling, "payments/invoice-worker"),]
    );
}

#[tokio::test]
async fn only_an_active_agent_may_do_anything() {
    let mut stage = Stage::set().await;
    for (state, word) in [
        (wire::AgentState::PendingApproval, "AGENT_NOT_ACTIVE"),
        (wire::AgentState::Staged, "AGENT_NOT_ACTIVE"),
        (wire::AgentState::Suspended, "AGENT_SUSPENDED"),
        (wire::AgentState::Quarantined, "AGENT_QUARANTINED"),
        (wire::AgentState::Expired, "AGENT_EXPIRED"),
        (wire::AgentState::Unspecified, "AGENT_NOT_ACTIVE"),
        (wire::AgentState::Retired, "AGENT_RETIRED"),
    ] {
        let changed = agent(1, |a| a.status.as_mut().unwrap().state = state.into());
        stage.change(vec![(changed, false)]).await;
        let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
        assert_eq!(spoken.answer.word(), word, "{state:?} by token");
        assert_eq!(spoken.answer.denied.unwrap().kind(), Denial::Forbidden);
        let spoken = stage.ask(&operator(), stage.asserted(agent_id(1))).await;
        assert_eq!(spoken.answer.word(), word, "{state:?} asserted");
    }
}

#[tokio::test]
async fn what_is_above_an_agent_stops_it_and_kills_what_was_issued() {
    let mut stage = Stage::set().await;
    let namespace = wire::Namespace { metadata: meta("payments"), spec: None, status: None };
    let namespace = |status| declared(Object::Namespace(wire::Namespace { status, ..namespace.clone() }));
    let class = everything(&stage.signer).into_iter().find_map(|d| match d.object {
        Some(Object::AgentClass(class)) => Some(class),
        _ => None,
    });
    let class = class.unwrap();
    let class = |status| declared(Object::AgentClass(wire::AgentClass { status, ..class.clone() }));
    let standing = |suspended, cutoff: i64| {
        let authorization_cutoff = Some(prost_types::Timestamp { seconds: cutoff, nanos: 0 });
        Some(wire::StandingStatus { suspended, authorization_cutoff, ..wire::StandingStatus::default() })
    };
    let order = |status| {
        let metadata = Some(wire::Metadata { name: "everywhere".into(), ..wire::Metadata::default() });
        let spec = wire::StopOrderSpec { level: Some(wire::stop_order_spec::Level::Everywhere(true)) };
        declared(Object::StopOrder(wire::StopOrder { metadata, spec: Some(spec), status }))
    };
    for (word, of) in [
        ("CLASS_SUSPENDED", &class as &dyn Fn(Option<wire::StandingStatus>) -> wire::Declaration),
        ("NAMESPACE_SUSPENDED", &namespace),
        ("AGENT_STOPPED", &order),
    ] {
        let now = legate_clock::Clock::now(&*stage.clock).secs();
        let old = stage.good();
        assert_eq!(stage.word(stage.good()).await, "ALLOWED");
        stage.change(vec![(of(standing(true, now)), false)]).await;
        let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
        assert_eq!((spoken.answer.word(), spoken.answer.denied.unwrap().kind()), (word, Denial::Forbidden));
        let spoken = stage.ask(&operator(), stage.asserted(agent_id(1))).await;
        assert_eq!(spoken.answer.word(), word, "asserted");
        // Not even with a token that was minted in the race.
        stage.pass(std::time::Duration::from_secs(10)).await;
        assert_eq!(stage.word(stage.good()).await, word);
        let raced = stage.good();
        stage.change(vec![(of(standing(false, now + 10)), false)]).await;
        for dead in [old, raced] {
            assert_eq!(stage.word(dead).await, "TOKEN_OUTLIVED");
        }
        stage.pass(std::time::Duration::from_secs(1)).await;
        assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    }
}

#[tokio::test]
async fn an_agent_ends_at_its_time_before_the_registry_says_so() {
    let mut stage = Stage::set().await;
    let end = Some(prost_types::Timestamp { seconds: NOW + 10, nanos: 0 });
    stage.change(vec![(agent(1, |a| a.spec.as_mut().unwrap().expire_time = end), false)]).await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "ALLOWED");
    stage.pass(std::time::Duration::from_secs(10)).await;
    assert_eq!(stage.word(stage.good()).await, "AGENT_EXPIRED");
}

#[tokio::test]
async fn a_binding_holds_in_its_window_only_and_no_answer_outlives_it() {
    let mut stage = Stage::set().await;
    let at = |secs| Some(prost_types::Timestamp { seconds: secs, nanos: 500_000_000 });
    stage.change(vec![(binding(|b| (b.not_before, b.not_after) = (at(NOW + 4), at(NOW + 8))), false)]).await;
    assert_eq!(stage.word(stage.good()).await, "BINDING_OUTSIDE_WINDOW");
    stage.pass(std::time::Duration::from_secs(8)).await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "ALLOWED");
    let until = spoken.valid_until.unwrap();
    assert_eq!(until.micros(), (NOW + 8) * 1_000_000 + 500_000, "half a second, though a whole one is configured");
    stage.pass(std::time::Duration::from_millis(500)).await;
    assert_eq!(stage.word(stage.good()).await, "BINDING_OUTSIDE_WINDOW");
}

#[tokio::test]
async fn a_new_agent_of_the_same_name_inherits_nothing() {
    let mut stage = Stage::set().await;
    let retired = agent(1, |a| a.status.as_mut().unwrap().state = wire::AgentState::Retired.into());
    let heir = agent(2, |a| {
        let metadata = a.metadata.as_mut().unwrap();
        metadata.name = "invoice-bot-1".into();
        metadata.create_time = Some(prost_types::Timestamp { seconds: NOW, nanos: 0 });
    });
    stage.change(vec![(retired, false), (heir, false)]).await;
    assert_eq!(stage.word(stage.good()).await, "AGENT_RETIRED", "the old token names the old id");
    let spoken = stage.ask(&operator(), stage.asserted(agent_id(2))).await;
    assert_eq!(spoken.answer.word(), "NOT_PERMITTED", "the binding speaks of the agent before");
}

#[tokio::test]
async fn a_role_or_class_that_is_gone_grants_nothing() {
    let mut stage = Stage::set().await;
    let role = declared(Object::Role(wire::Role { metadata: meta("invoice-reader"), spec: None }));
    stage.change(vec![(role, true)]).await;
    assert_eq!(stage.word(stage.good()).await, "NOT_PERMITTED");
    let class =
        declared(Object::AgentClass(wire::AgentClass { metadata: meta("invoice-worker"), spec: None, status: None }));
    stage.change(vec![(class, true)]).await;
    assert_eq!(stage.word(stage.good().action("invoice:list")).await, "NOT_PERMITTED");
}

#[tokio::test]
async fn an_agent_that_never_was_is_not_known() {
    let stage = Stage::set().await;
    let spoken = stage.ask(&operator(), stage.asserted(agent_id(99))).await;
    assert_eq!(spoken.answer.word(), "AGENT_UNKNOWN");
}
