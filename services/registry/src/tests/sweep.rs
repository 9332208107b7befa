//! What time does to agents.

use std::time::Duration;

use legate_db::testing::on_each;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{AgentState, Declaration};

use super::scene::*;
use crate::domain::lifecycle::Transition;
use crate::flow::sweep;
use crate::flow::transition::Step;
use crate::schema::Migrator;

fn short_lived() -> Declaration {
    let mut class = class("short", false);
    if let Some(Object::AgentClass(class)) = &mut class.object {
        class.spec.as_mut().unwrap().default_expiry = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    }
    class
}

#[tokio::test]
async fn an_agent_expires_once_and_comes_back_only_with_more_time() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([short_lived(), agent("night-bot", "short")]);
        scene.apply(all).await.unwrap();
        let ends = scene.agent("night-bot").await.spec.unwrap().expire_time.unwrap();
        assert_eq!(ends.seconds, NOW + 3_600);
        // A later apply of the same manifest does not move it.
        scene.clock.advance(Duration::from_secs(1_800));
        scene.apply(vec![agent("night-bot", "short")]).await.unwrap();
        assert_eq!(scene.agent("night-bot").await.spec.unwrap().expire_time, Some(ends));
        assert_eq!(sweep::sweep(&scene.desk).await.unwrap(), 0);
        scene.clock.advance(Duration::from_secs(1_800));
        assert_eq!(sweep::sweep(&scene.desk).await.unwrap(), 1);
        let status = scene.agent("night-bot").await.status.unwrap();
        assert_eq!((status.state(), status.lifecycle_version), (AgentState::Expired, 2));
        assert_eq!(status.state_actor, "spiffe://example.org/legate/registry");
        assert!(status.authorization_cutoff.is_some());
        assert_eq!(sweep::sweep(&scene.desk).await.unwrap(), 0, "once");
        let resume = Step::Transition(Transition::Resume);
        assert_eq!(reason(&scene.step(OPERATOR, "night-bot", resume).await.unwrap_err()), "AGENT_STATE_WRONG");
        let mut more = agent_spec("short");
        more.expire_time = Some(prost_types::Timestamp { seconds: NOW + 7_200, nanos: 0 });
        scene.apply(vec![agent_with("night-bot", more)]).await.unwrap();
        let back = scene.step(OPERATOR, "night-bot", resume).await.unwrap().0;
        assert_eq!(back.status.unwrap().state(), AgentState::Active);
        scene.clock.advance(Duration::from_secs(3_600));
        assert_eq!(sweep::sweep(&scene.desk).await.unwrap(), 1, "and again when that time is over");
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_goes_back_brings_nothing_to_life() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let (first, _) = scene.suspend("invoice-bot").await;
        scene.clock.jump_to(legate_clock::Timestamp::from_secs(NOW - 86_400));
        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Resume)).await.unwrap();
        let (second, _) = scene.suspend("invoice-bot").await;
        let cutoff = |agent: &legate_wire::registry::Agent| agent.status.as_ref().unwrap().authorization_cutoff;
        assert_eq!(cutoff(&second), cutoff(&first));
    })
    .await;
}
