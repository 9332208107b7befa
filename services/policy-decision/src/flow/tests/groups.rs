//! Groups: who belongs to them now, and what is given, forbidden or limited through them.

use legate_wire::registry as wire;
use legate_wire::registry::PolicyMode::Enforce;

use crate::domain::answer::Denial;
use crate::testing::*;

fn team(label: &str) -> wire::Declaration {
    agent(1, |a| {
        let metadata = a.metadata.as_mut().unwrap();
        metadata.labels.insert("team".into(), label.into());
    })
}

fn by_group() -> wire::Declaration {
    binding(|b| (b.agents, b.groups) = (Vec::new(), vec!["clerks".into(), "all".into()]))
}

#[tokio::test]
async fn a_binding_speaks_of_the_agents_that_its_groups_have_now() {
    let mut stage = Stage::set().await;
    let clerks = group("clerks", |g| g.selector = "labels.team = clerks".into());
    stage.change(vec![(clerks, false), (by_group(), false)]).await;
    assert_eq!(stage.word(stage.good()).await, "NOT_PERMITTED");

    stage.change(vec![(team("clerks"), false)]).await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "ALLOWED");
    let through = "gives it (role payments/invoice-reader@1, through group payments/clerks@1)";
    assert_eq!(spoken.answer.causes[0].text, through);

    // Of a new selector at once, too.
    let clerks = group("clerks", |g| g.selector = "labels.team = others".into());
    stage.change(vec![(clerks, false)]).await;
    assert_eq!(stage.word(stage.good()).await, "NOT_PERMITTED");
    // By a list, beside the selector.
    let clerks = group("clerks", |g| {
        (g.agents, g.selector) = (vec!["invoice-bot-1".into()], "labels.team = others".into());
    });
    stage.change(vec![(clerks, false)]).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    stage.change(vec![(team("others"), false), (group("clerks", |_| ()), true)]).await;
    assert_eq!(stage.word(stage.good()).await, "NOT_PERMITTED");
}

#[tokio::test]
async fn a_binding_counts_once_however_often_it_speaks_of_an_agent() {
    let mut stage = Stage::set().await;
    let both = |g: &mut wire::GroupSpec| g.agents = vec!["invoice-bot-1".into()];
    stage.change(vec![(group("clerks", both), false), (group("all", both), false), (by_group(), false)]).await;
    let lines = |spoken: &crate::flow::Spoken| spoken.answer.causes.iter().map(|c| c.text.clone()).collect::<Vec<_>>();
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(lines(&spoken).len(), 2, "{:?}", lines(&spoken));
    assert!(lines(&spoken)[0].ends_with("through group payments/all@1)"), "{:?}", lines(&spoken));
    // Where it is named itself, no group is told.
    stage.change(vec![(binding(|b| b.groups = vec!["clerks".into()]), false)]).await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(lines(&spoken)[0], "gives it (role payments/invoice-reader@1)");
    assert_eq!(spoken.answer.causes.len(), 2);
}

#[tokio::test]
async fn an_heir_of_a_name_is_in_no_list_that_was_written_before_it() {
    let mut stage = Stage::set().await;
    let listed = group("clerks", |g| g.agents = vec!["invoice-bot-1".into()]);
    let retired = agent(1, |a| a.status.as_mut().unwrap().state = wire::AgentState::Retired.into());
    let heir = agent(2, |a| {
        let metadata = a.metadata.as_mut().unwrap();
        metadata.name = "invoice-bot-1".into();
        metadata.create_time = Some(prost_types::Timestamp { seconds: NOW, nanos: 0 });
    });
    stage.change(vec![(listed, false), (by_group(), false), (retired, false), (heir, false)]).await;
    let spoken = stage.ask(&operator(), stage.asserted(agent_id(2))).await;
    assert_eq!(spoken.answer.word(), "NOT_PERMITTED");
}

#[tokio::test]
async fn policies_see_the_groups_that_they_name() {
    let mut stage = Stage::set().await;
    let clerks = group("clerks", |g| g.selector = "environment = prod".into());
    let others = group("others", |g| g.selector = "environment = dev".into());
    stage.change(vec![(clerks, false), (others, false)]).await;
    for (cedar, word) in [
        ("permit(principal in Group::\"clerks\", action, resource);", "ALLOWED"),
        ("permit(principal in Group::\"others\", action, resource);", "NO_POLICY_PERMITS"),
        ("permit(principal in Group::\"nobody\", action, resource);", "NO_POLICY_PERMITS"),
        ("permit(principal is Agent in Group::\"clerks\", action, resource);", "ALLOWED"),
        ("permit(principal, action, resource) when { principal in Group::\"clerks\" };", "ALLOWED"),
        (
            "permit(principal, action, resource) when { principal in [Group::\"others\", Group::\"clerks\"] };",
            "ALLOWED",
        ),
        ("permit(principal, action, resource) unless { principal in Group::\"clerks\" };", "NO_POLICY_PERMITS"),
        (
            "permit(principal, action, resource); forbid(principal in Group::\"clerks\", action, resource);",
            "FORBIDDEN_BY_POLICY",
        ),
        (
            "permit(principal, action, resource); forbid(principal, action, resource) when { principal in Group::\"clerks\" };",
            "FORBIDDEN_BY_POLICY",
        ),
    ] {
        stage.change(vec![(policy("production", Enforce, cedar), false)]).await;
        assert_eq!(stage.word(stage.good()).await, word, "{cedar}");
    }
}

#[tokio::test]
async fn a_group_of_another_namespace_has_nobody_of_this_one() {
    let mut stage = Stage::set().await;
    let mut foreign = group("clerks", |g| g.selector = "environment = prod".into());
    if let Some(wire::declaration::Object::Group(g)) = &mut foreign.object {
        g.metadata.as_mut().unwrap().namespace = "sales".into();
    }
    stage.change(vec![(foreign, false), (by_group(), false)]).await;
    assert_eq!(stage.word(stage.good()).await, "NOT_PERMITTED");
}

#[tokio::test]
async fn a_group_that_cannot_be_read_stops_the_view() {
    let mut stage = Stage::set().await;
    stage.tell(vec![(group("clerks", |g| g.selector = "nonsense = 1".into()), false)]);
    // The stream is given up, and there is no other: soon nothing is answered.
    while stage.desk.view.counts().refused == 0 {
        tokio::task::yield_now().await;
    }
    stage.clock.advance(std::time::Duration::from_secs(6));
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!((spoken.answer.word(), spoken.answer.denied.unwrap().kind()), ("STALE", Denial::Undecided));
}
