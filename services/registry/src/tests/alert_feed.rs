//! Alerts stop agents where a lifecycle policy says so: each once, and never more than the cap.

use std::time::Duration;

use legate_clock::Clock as _;
use legate_db::testing::on_each;
use legate_wire::audit::{AlertSeverity, AlertType, RaisedAlert};
use legate_wire::registry::stop_scope::Level;
use legate_wire::registry::*;

use super::faults::BOTH;
use super::lifecycle::{DAY, lifecycle};
use super::scene::*;
use crate::domain::lifecycle::Transition;
use crate::flow::alert_feed::{Outcome, heed};
use crate::flow::stop;
use crate::flow::transition::Step;
use crate::schema::Migrator;

const HOUR: Duration = Duration::from_secs(3_600);

fn alarm(name: &str, action: LifecycleAction, max_agents: u32, change: fn(&mut LifecyclePolicySpec)) -> Declaration {
    lifecycle(name, |spec| {
        spec.on_alert = Some(AlertRule {
            alert_types: vec!["ACTION_DESPITE_DENIAL".into()],
            min_severity: "HIGH".into(),
            action: action.into(),
            max_agents,
            per: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        });
        change(spec);
    })
}

/// The agents `bot-0` and on, under these policies.
async fn scene_of(scene: &Scene, agents: usize, policies: Vec<Declaration>) {
    let mut all = vec![namespace("payments"), class("worker", false)];
    all.extend((0..agents).map(|n| agent(&format!("bot-{n}"), "worker")));
    all.extend(policies);
    scene.apply(all).await.unwrap();
}

/// What the collector tells of a critical alert at a leaf, about an agent.
async fn raised(scene: &Scene, leaf: u64, name: &str) -> RaisedAlert {
    RaisedAlert {
        leaf_index: leaf,
        alert_id: format!("alert_{leaf:032x}"),
        r#type: AlertType::ActionDespiteDenial.into(),
        severity: AlertSeverity::Critical.into(),
        namespace: "payments".into(),
        agent_id: scene.agent(name).await.metadata.unwrap().id,
        raise_time: Some(scene.clock.now().into()),
    }
}

async fn heeded(scene: &Scene, leaf: u64, name: &str) -> Outcome {
    heed(&scene.desk, &raised(scene, leaf, name).await).await.unwrap()
}

async fn told(scene: &Scene, kind: &str) -> usize {
    scene.kinds().await.iter().filter(|told| *told == kind).count()
}

const SUSPENDED: Outcome = Outcome::Done(LifecycleAction::Suspend);

#[tokio::test]
async fn a_false_alarm_cannot_stop_a_fleet() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene_of(&scene, 100, vec![alarm("alarm", LifecycleAction::Suspend, 3, |_| {})]).await;
        let mut outcomes = Vec::new();
        for n in 0..100 {
            outcomes.push(heeded(&scene, 10 + n, &format!("bot-{n}")).await);
        }
        assert_eq!(outcomes[..3], [SUSPENDED; 3]);
        assert!(outcomes[3..].iter().all(|outcome| *outcome == Outcome::Capped));
        assert_eq!((told(&scene, "agent.suspended").await, told(&scene, "agent.lifecycle_capped").await), (3, 97));
        let events = scene.events().await;
        let capped = events.iter().find(|event| event.r#type == "agent.lifecycle_capped").unwrap();
        assert_eq!(capped.details["max_agents"], "3");
        assert_eq!((capped.details["capped_by"].as_str(), capped.details["per"].as_str()), ("alarm", "3600 s"));

        // The cap is about a time that goes on, and a restart does not begin it anew.
        let again = Scene::on(fixture.db.clone());
        again.clock.jump_to(scene.clock.now());
        again.clock.advance(HOUR / 2);
        assert_eq!(heeded(&again, 200, "bot-50").await, Outcome::Capped);
        again.clock.advance(HOUR / 2);
        assert_eq!(heeded(&again, 201, "bot-51").await, SUSPENDED);
    })
    .await;
}

#[tokio::test]
async fn an_alert_counts_once_whatever_breaks_off() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene_of(&scene, 3, vec![alarm("alarm", LifecycleAction::Suspend, 9, |_| {})]).await;
        for (n, fault) in BOTH.into_iter().enumerate() {
            let alert = raised(&scene, 10 + n as u64, &format!("bot-{n}")).await;
            scene.desk.db.faults().plan("lifecycle_alert", fault);
            heed(&scene.desk, &alert).await.unwrap_err();
            heed(&scene.desk, &alert).await.unwrap();
            assert_eq!(told(&scene, "agent.suspended").await, n + 1, "{fault:?}");
            // Somebody resumes it; the same alert, told again, does nothing.
            scene.step(OTHER, &format!("bot-{n}"), Step::Transition(Transition::Resume)).await.unwrap();
            assert_eq!(heed(&scene.desk, &alert).await.unwrap(), Outcome::Nothing);
        }
        assert_eq!(heeded(&scene, 12, "bot-0").await, SUSPENDED, "another alert does");
    })
    .await;
}

#[tokio::test]
async fn only_what_the_policy_is_about_counts() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let before = raised_before(&scene).await;
        assert_eq!(heed(&scene.desk, &before).await.unwrap(), Outcome::Nothing, "it was raised before the policy");
        let good = raised(&scene, 20, "bot-0").await;
        let others: [fn(&mut RaisedAlert); 6] = [
            |alert| alert.r#type = AlertType::DenialBurst.into(),
            |alert| alert.severity = AlertSeverity::Medium.into(),
            |alert| alert.namespace = "sales".into(),
            |alert| alert.agent_id = "agt_01h455vb4pex5vsknk084sn02q".into(),
            |alert| alert.agent_id.clear(),
            |alert| alert.raise_time = None,
        ];
        for (n, change) in others.into_iter().enumerate() {
            let mut alert = good.clone();
            change(&mut alert);
            assert_eq!(heed(&scene.desk, &alert).await.unwrap(), Outcome::Nothing, "{n}");
        }
        assert_eq!(heed(&scene.desk, &good).await.unwrap(), SUSPENDED);
        let status = scene.agent("bot-0").await.status.unwrap();
        let why = format!("lifecycle policy payments/alarm: alert ACTION_DESPITE_DENIAL {}", good.alert_id);
        assert_eq!(status.state_reason, why);
    })
    .await;
}

/// An alert of a day before the policy was declared.
async fn raised_before(scene: &Scene) -> RaisedAlert {
    scene_of(scene, 2, Vec::new()).await;
    let alert = raised(scene, 5, "bot-0").await;
    scene.clock.advance(DAY);
    scene.apply(vec![alarm("alarm", LifecycleAction::Suspend, 3, |_| {})]).await.unwrap();
    alert
}

#[tokio::test]
async fn who_is_stopped_already_is_left_alone_and_uses_up_no_cap() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene_of(&scene, 4, vec![alarm("alarm", LifecycleAction::Quarantine, 1, |_| {})]).await;
        scene.suspend("bot-0").await;
        assert_eq!(heeded(&scene, 1, "bot-0").await, Outcome::StoppedAlready);
        let scope = StopScope { namespace: "payments".into(), level: Some(Level::Agent("bot-1".into())) };
        let ask = StopAgentsRequest { scope: Some(scope), reason: "odd".into(), ..StopAgentsRequest::default() };
        let call = scene.call(OPERATOR, "odd", &ask, "");
        stop::stop(&scene.desk, call, ask).await.unwrap();
        assert_eq!(heeded(&scene, 2, "bot-1").await, Outcome::StoppedAlready);
        let events = scene.events().await;
        let told = events.iter().filter(|event| event.r#type == "agent.lifecycle_stopped_already");
        let told: Vec<_> =
            told.map(|event| (event.details["state"].as_str(), event.details.get("stop_orders"))).collect();
        assert!(
            matches!(told[..], [("SUSPENDED", None), ("ACTIVE", Some(order))] if order.starts_with("payments/agent-"))
        );
        assert_eq!(heeded(&scene, 3, "bot-2").await, Outcome::Done(LifecycleAction::Quarantine));
        assert_eq!(scene.agent("bot-2").await.status.unwrap().state(), AgentState::Quarantined);
        assert_eq!(heeded(&scene, 4, "bot-3").await, Outcome::Capped);
    })
    .await;
}

#[tokio::test]
async fn of_several_policies_the_strictest_acts_and_the_narrowest_cap_counts() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let policies = vec![
            alarm("wide", LifecycleAction::Suspend, 100, |_| {}),
            alarm("narrow", LifecycleAction::Quarantine, 1, |_| {}),
            alarm("told", LifecycleAction::Quarantine, 1, |spec| spec.mode = LifecycleMode::Report.into()),
        ];
        scene_of(&scene, 3, policies).await;
        assert_eq!(heeded(&scene, 1, "bot-0").await, Outcome::Done(LifecycleAction::Quarantine));
        assert_eq!(heeded(&scene, 2, "bot-1").await, Outcome::Capped, "though the wide one has room");
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_reports_stops_nobody() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let told_only = alarm("told", LifecycleAction::Suspend, 1, |spec| spec.mode = LifecycleMode::Report.into());
        scene_of(&scene, 2, vec![told_only]).await;
        assert_eq!(heeded(&scene, 1, "bot-0").await, Outcome::Reported);
        assert_eq!(heeded(&scene, 2, "bot-1").await, Outcome::Reported);
        assert_eq!((told(&scene, "agent.suspended").await, told(&scene, "agent.lifecycle_reported").await), (0, 2));
    })
    .await;
}
