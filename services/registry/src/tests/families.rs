//! Lifecycle policies and the agents that agents made: what stops with its maker comes back with it, what is done below an agent is done
//! for it, and whom nobody is accountable for is stopped by the clock.

use legate_db::testing::on_each;
use legate_wire::audit::{ReadUsageResponse, UsageWay, UsedPermission};
use legate_wire::registry::preview_lifecycle_policy_request::Whose;
use legate_wire::registry::{Agent, AgentState, LifecycleAction, LifecycleRule};

use super::lifecycle::*;
use super::reviews::group;
use super::scene::*;
use super::spawning::{changed, minutes};
use super::succession::{GRACE, JOAN, agent_of, leaves};
use crate::domain::lifecycle::Transition;
use crate::flow::hear;
use crate::flow::transition::Step;
use crate::schema::Migrator;

const RESUME: Step = Step::Transition(Transition::Resume);

fn id(agent: &Agent) -> String {
    agent.metadata.as_ref().unwrap().id.clone()
}

/// A maker that is alone under the policies of `makers`, with a child and a grandchild that live for long.
async fn family(scene: &Scene) -> [Agent; 3] {
    scene.spawning(|_| ()).await;
    scene.apply(vec![group("makers", &["invoice-bot"])]).await.unwrap();
    let maker = scene.agent("invoice-bot").await;
    let long = |name: &str| changed(name, |ask| ask.ttl = minutes(200 * 24 * 60));
    let child = scene.spawn(&maker, long("child")).await.unwrap().0;
    let grandchild = scene.spawn(&child, long("grandchild")).await.unwrap().0;
    [maker, child, grandchild]
}

async fn states(scene: &Scene, family: &[Agent; 3]) -> Vec<AgentState> {
    let mut found = Vec::new();
    for one in family {
        found.push(scene.by_id(one).await.status.unwrap().state());
    }
    found
}

/// An agent was allowed something now, in some way; the log is heard up to now.
async fn uses(scene: &Scene, agent: &Agent, way: UsageWay) {
    let place = hear::place(&scene.desk).await.unwrap();
    let now = prost_types::Timestamp::from(scene.desk.clock.now());
    let used = UsedPermission {
        agent_id: id(agent),
        action: "invoice:read".into(),
        resource_type: "Invoice".into(),
        resource_id: String::new(),
        way: way.into(),
        count: 1,
        first_time: Some(now),
        last_time: Some(now),
        days: vec![now.seconds.div_euclid(86_400)],
    };
    let stretch = ReadUsageResponse {
        origin: "example.org/audit-log".into(),
        through: u64::try_from(now.seconds).unwrap(),
        root: vec![1; 32],
        is_newest: true,
        time: Some(now),
        first_time: Some(prost_types::Timestamp { seconds: NOW - 1_000, nanos: 0 }),
        permissions: vec![used],
        ..ReadUsageResponse::default()
    };
    assert!(hear::take(&scene.desk, &place, stretch).await.unwrap());
}

#[tokio::test]
async fn what_an_agent_made_stops_when_it_expires_and_comes_back_with_it() {
    use AgentState::{Active, Expired, Retired};
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let family = family(&scene).await;
        let policy = lifecycle("tidy", |spec| {
            spec.groups = vec!["makers".into()];
            spec.expire_after = days(2);
            spec.notify_before = days(1);
            spec.retire_after_suspended_for = days(3);
        });
        scene.apply(vec![policy]).await.unwrap();
        let foretold = async |action: LifecycleAction| {
            let shown = preview(&scene, OPERATOR, Whose::Name("tidy".into()), Some(NOW + 90 * 86_400)).await.unwrap();
            let [impact] = shown.as_slice() else { panic!("{shown:?}") };
            assert_eq!((impact.action(), impact.agents_below), (action, 2));
            assert_eq!(impact.below, ["child", "grandchild"]);
        };
        foretold(LifecycleAction::Expire).await;
        scene.clock.advance(DAY);
        swept(&scene).await;
        let events = scene.events().await;
        let notice = events.iter().find(|event| event.r#type == "agent.lifecycle_due").unwrap();
        assert_eq!(notice.details["below"], "2: child, grandchild");

        scene.clock.advance(DAY);
        assert_eq!(swept(&scene).await, 1);
        assert_eq!(states(&scene, &family).await, [Expired, Active, Active], "one write, which can be taken back");
        let refused = scene.spawn(&family[1], changed("more", |_| ())).await.unwrap_err();
        assert_eq!(reason(&refused), "CALLER_NOT_ACTIVE", "it is stopped all the same");
        foretold(LifecycleAction::Retire).await;
        let mut spec = agent_spec("worker");
        spec.expire_time = Some(prost_types::Timestamp { seconds: NOW + 300 * 86_400, nanos: 0 });
        scene.apply(vec![agent_with("invoice-bot", spec)]).await.unwrap();
        scene.step(OPERATOR, "invoice-bot", RESUME).await.unwrap();
        scene.clock.advance(std::time::Duration::from_secs(10));
        scene.spawn(&family[1], changed("more", |_| ())).await.unwrap();

        // For ever is only what is said to be.
        scene.clock.advance(2 * DAY);
        assert_eq!(swept(&scene).await, 2, "it expires, and so does the one that lived for a moment");
        scene.clock.advance(3 * DAY);
        assert_eq!(swept(&scene).await, 1);
        assert_eq!(states(&scene, &family).await, [Retired, Retired, Retired]);
    })
    .await;
}

#[tokio::test]
async fn whoever_is_used_through_others_is_not_dormant() {
    use AgentState::{Active, Suspended};
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let family = family(&scene).await;
        let policy = lifecycle("tidy", |spec| {
            spec.groups = vec!["makers".into()];
            spec.suspend_when_dormant_for = days(30);
        });
        scene.apply(vec![policy]).await.unwrap();
        // The grandchild works, then another for the child, and then another for the maker itself.
        let ways = [(2, UsageWay::Own), (1, UsageWay::Through), (0, UsageWay::Through)];
        for (who, way) in ways {
            scene.clock.advance(20 * DAY);
            uses(&scene, &family[who], way).await;
            assert_eq!(swept(&scene).await, 0);
        }
        let shown = preview(&scene, OPERATOR, Whose::Name("tidy".into()), Some(NOW + 100 * 86_400)).await.unwrap();
        let [impact] = shown.as_slice() else { panic!("{shown:?}") };
        assert_eq!((impact.rule(), impact.used_in_last_day, impact.agents_below), (LifecycleRule::Dormant, true, 2));
        assert_eq!(impact.last_used_time.unwrap().seconds, NOW + 60 * 86_400);
        assert_eq!(impact.due_time.unwrap().seconds, NOW + 90 * 86_400);
        scene.clock.advance(29 * DAY);
        assert_eq!(swept(&scene).await, 0);
        // Nobody below it, nor for it, did anything for as long as the policy says.
        scene.clock.advance(2 * DAY);
        assert_eq!(swept(&scene).await, 1);
        assert_eq!(states(&scene, &family).await, [Suspended, Active, Active]);
    })
    .await;
}

#[tokio::test]
async fn whom_nobody_is_accountable_for_is_stopped_when_the_policy_says() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([agent_of("helped", GRACE, ""), agent_of("stays", JOAN, "")]);
        all.push(lifecycle("tidy", |spec| {
            spec.suspend_when_orphaned_for = days(3);
            // Neither is added to what the rule says.
            spec.grace = days(30);
        }));
        scene.apply(all).await.unwrap();
        scene.offboard(leaves(GRACE)).await;
        scene.sweep().await;
        scene.clock.advance(3 * DAY - std::time::Duration::from_secs(1));
        assert_eq!(scene.sweep().await, 0);
        assert_eq!(state(&scene, "invoice-bot").await, AgentState::Active);
        scene.update("helped", |spec| spec.sponsors = vec![JOAN.into()], "spec.sponsors").await.unwrap();
        scene.clock.advance(std::time::Duration::from_secs(1));
        assert_eq!(scene.sweep().await, 1, "long before the fourteen days that the registry gives");
        let status = scene.agent("invoice-bot").await.status.unwrap();
        assert_eq!(status.state(), AgentState::Suspended);
        assert_eq!(
            status.state_reason,
            "lifecycle policy payments/tidy: nobody who is here was accountable for it for 3 days"
        );
        for name in ["helped", "stays"] {
            assert_eq!(state(&scene, name).await, AgentState::Active, "{name}");
        }
        scene.clock.advance(20 * DAY);
        assert_eq!(scene.sweep().await, 0);
        assert_eq!(told(&scene, "agent.suspended").await, 1);
    })
    .await;
}

#[tokio::test]
async fn what_a_retired_child_did_was_done_for_its_maker() {
    use AgentState::{Active, Retired, Suspended};
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let family = family(&scene).await;
        let policy = lifecycle("tidy", |spec| {
            spec.groups = vec!["makers".into()];
            spec.suspend_when_dormant_for = days(30);
        });
        scene.apply(vec![policy]).await.unwrap();
        scene.clock.advance(20 * DAY);
        uses(&scene, &family[1], UsageWay::Own).await;
        scene.step(OPERATOR, "child", Step::Transition(Transition::Retire)).await.unwrap();
        scene.clock.advance(25 * DAY);
        assert_eq!(swept(&scene).await, 0);
        assert_eq!(states(&scene, &family).await, [Active, Retired, Retired]);
        let shown = preview(&scene, OPERATOR, Whose::Name("tidy".into()), Some(NOW + 100 * 86_400)).await.unwrap();
        let [impact] = shown.as_slice() else { panic!("{shown:?}") };
        assert_eq!((impact.agents_below, impact.last_used_time.unwrap().seconds), (0, NOW + 20 * 86_400));
        // What is told of it later counts as well.
        uses(&scene, &family[2], UsageWay::Through).await;
        scene.clock.advance(29 * DAY);
        assert_eq!(swept(&scene).await, 0);
        scene.clock.advance(2 * DAY);
        assert_eq!(swept(&scene).await, 1);
        assert_eq!(states(&scene, &family).await, [Suspended, Retired, Retired]);
    })
    .await;
}
