//! Very many agents are over at one moment: they end in pieces, and nothing stands in the way.

use std::collections::BTreeSet;

use legate_db::Fault as Planned;
use legate_wire::registry::Change;
use sea_orm::ConnectionTrait as _;

use super::*;
use crate::error::of_tx;
use crate::store::change::{self, Since};

/// What every revision after this one changed of agents.
async fn since(scene: &Scene, revision: u64) -> Vec<(u64, Vec<Agent>)> {
    let told = scene.desk.db.read("test", move |tx| Box::pin(change::since(tx, revision))).await;
    let Since::Whole(told) = told.map_err(of_tx).unwrap() else { panic!("all of it is kept") };
    let agent = |change: Change| match change.object?.object {
        Some(Object::Agent(agent)) => Some(agent),
        _ => None,
    };
    told.into_iter().map(|one| (one.revision, one.changes.into_iter().filter_map(agent).collect())).collect()
}

impl Scene {
    /// An agent that is over in two minutes, with so many below it that have longer.
    async fn brief(&self, name: &str, children: usize) -> Agent {
        let reads = binding(&format!("{name}-reads"), "reader", &[name]);
        self.apply(vec![agent(name, "worker"), reads]).await.unwrap();
        let top = self.agent(name).await;
        for n in 0..children {
            self.child(&top, &format!("{name}-{n}")).await;
        }
        self.shorten(name).await;
        top
    }

    async fn shorten(&self, name: &str) {
        let mut spec = agent_spec("worker");
        spec.expire_time = Some(prost_types::Timestamp { seconds: NOW + 120, nanos: 0 });
        self.apply(vec![agent_with(name, spec)]).await.unwrap();
    }

    async fn head(&self) -> u64 {
        self.desk.tail.refresh(&self.desk.db).await.unwrap();
        self.desk.tail.revision()
    }

    async fn sql(&self, sql: String) {
        let done = self.desk.db.tx("test", move |tx| {
            let sql = sql.clone();
            Box::pin(async move {
                tx.execute_unprepared(&sql).await?;
                Ok::<_, legate_db::TxError<Fault>>(())
            })
        });
        done.await.map_err(of_tx).unwrap();
    }
}

#[tokio::test]
async fn many_that_are_over_at_once_end_in_pieces_and_whoever_is_below_stops_with_them() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let top = scene.brief("brief", 3).await;
        let children: Vec<String> = (0..3).map(|n| format!("brief-{n}")).collect();
        let mut spec = agent_spec("worker");
        spec.expire_time = Some(prost_types::Timestamp { seconds: NOW + 120, nanos: 0 });
        scene.apply((0..40).map(|n| agent_with(&format!("bot-{n}"), spec.clone())).collect()).await.unwrap();
        scene.clock.advance(Duration::from_secs(121));
        // As where a transaction takes too long.
        for _ in 0..2 {
            scene.desk.db.faults().plan("sweep", Planned::NotPersisted);
            assert_eq!(reason(&sweep::sweep(&scene.desk).await.unwrap_err()), "DATABASE_UNAVAILABLE");
        }
        let room = scene.desk.overdue.lock().room();
        assert!(room < 41, "less is tried");
        let before = scene.head().await;
        assert_eq!(sweep::sweep(&scene.desk).await.unwrap(), 41);
        let pieces = since(&scene, before).await;
        let sizes: Vec<usize> = pieces.iter().map(|(_, agents)| agents.len()).collect();
        assert_eq!((sizes[0], sizes.iter().sum::<usize>()), (room, 41), "{sizes:?}");
        let mut ended = BTreeSet::new();
        for agent in pieces.into_iter().flat_map(|(_, agents)| agents) {
            assert_eq!(state(&agent), AgentState::Expired);
            assert!(ended.insert(id(&agent)), "each once");
        }
        // Nothing is written of what it made; it comes back with its maker.
        for child in &children {
            assert_eq!(state(&scene.agent(child).await), AgentState::Active);
        }
        assert!(ended.contains(&id(&top)));
        assert_eq!(sweep::sweep(&scene.desk).await.unwrap(), 0);
        assert_eq!(scene.desk.overdue.lock().aside(), 0);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_ended_keeps_nothing_behind_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        scene.apply(vec![class("odd", false), agent("dead-bot", "worker"), agent("left-bot", "worker")]).await.unwrap();
        scene.brief("brief", 2).await;
        scene.step(OPERATOR, "dead-bot", Step::Transition(Transition::Retire)).await.unwrap();
        scene.offboard(super::super::succession::leaves("user:grace@example.com")).await;
        scene.sweep().await;
        // One that is retired and due all the same, and one that nobody can read: both are first, for ever.
        let garbage = if fixture.is_postgres() { "'\\xff'::bytea" } else { "X'ff'" };
        scene.sql("UPDATE object SET ends_at = 1 WHERE name = 'dead-bot'".to_owned()).await;
        scene.sql(format!("UPDATE object SET ends_at = 2, body = {garbage} WHERE name = 'odd'")).await;
        // Beyond the grace of those whose sponsor left, too.
        scene.clock.advance(Duration::from_secs(400 * 86_400));
        let mut failures = 0;
        while sweep::sweep(&scene.desk).await.is_err() {
            failures += 1;
            assert!(failures < 20, "what cannot be ended is tried on and on");
        }
        assert_eq!(state(&scene.agent("left-bot").await), AgentState::Suspended);
        assert_eq!(state(&scene.agent("brief").await), AgentState::Expired);
        assert_eq!(scene.desk.overdue.lock().aside(), 2);
        assert_eq!(scene.sweep().await, 0, "they are left aside");

        // Tried again, they fail by themselves; what is due now does not wait for them.
        let mut spec = agent_spec("worker");
        spec.sponsors = vec!["user:joan@example.com".into()];
        spec.expire_time = Some(scene.clock.now().plus(Duration::from_secs(60)).into());
        scene.apply(vec![agent_with("late-bot", spec)]).await.unwrap();
        let room = scene.desk.overdue.lock().room();
        scene.clock.advance(Duration::from_secs(61));
        assert_eq!(scene.sweep().await, 1);
        assert_eq!(state(&scene.agent("late-bot").await), AgentState::Expired);
        assert!(scene.desk.overdue.lock().room() >= room, "others are not slowed down by them");

        // Mended, it ends.
        scene.sql("UPDATE object SET ends_at = NULL WHERE name = 'dead-bot'".to_owned()).await;
        scene.sql("DELETE FROM object WHERE name = 'odd'".to_owned()).await;
        scene.clock.advance(Duration::from_secs(2 * 3_600));
        assert_eq!(scene.sweep().await, 0);
        assert_eq!(scene.desk.overdue.lock().aside(), 0);
    })
    .await;
}
