//! Many objects at once: written in pieces, all at one revision, as if one by one.

use legate_db::testing::on_each;
use legate_wire::registry::{ChangeAction, Kind};
use sea_orm::ConnectionTrait as _;
use sea_orm_migration::{MigrationTrait, MigratorTrait};

use super::scene::*;
use crate::domain::kind::Key;
use crate::error::of_tx;
use crate::schema::{Migrator, Tables};
use crate::store::{object, reference};

#[tokio::test]
async fn objects_of_several_pieces_are_new_changed_or_as_they_were() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let name = |n: usize| format!("bot-{n:03}");
        let mut all = payments();
        all.extend((0..300).map(|n| agent(&name(n), "worker")));
        let first = scene.apply(all.clone()).await.unwrap();
        assert_eq!((first.revision, first.changes.len()), (1, 307));
        let ids: std::collections::BTreeSet<&str> = first.changes.iter().map(|c| c.id.as_str()).collect();
        assert!(ids.len() == 307 && !ids.contains(""), "every object has an id of its own");

        // Every third agent changes its class, and so whom it names.
        let mut again = vec![class("other", false)];
        again.extend((0..310).map(|n| agent(&name(n), if n % 3 == 0 { "other" } else { "worker" })));
        let second = scene.apply(again).await.unwrap();
        assert_eq!(second.revision, 2);
        let count = |action: ChangeAction| second.changes.iter().filter(|c| c.action() == action).count();
        assert_eq!((count(ChangeAction::Created), count(ChangeAction::Updated)), (1 + 10, 100));
        for change in &second.changes {
            let before = first.changes.iter().find(|c| c.kind == change.kind && c.name == change.name);
            assert!(before.is_none_or(|before| before.id == change.id), "{change:?}");
        }
        let (worker, other) = (Key::new(Kind::AgentClass, "payments", "worker"), "other");
        let named = |key: Key| {
            scene.desk.db.read("test", move |tx| Box::pin(async move { reference::from(tx, &key, 1_000).await }))
        };
        assert_eq!(named(worker).await.map_err(of_tx).unwrap().len(), 310 - 104 + 1);
        assert_eq!(named(Key::new(Kind::AgentClass, "payments", other)).await.map_err(of_tx).unwrap().len(), 104);
        assert_eq!(agent_as_declared(&scene, "bot-003").await.metadata().unwrap().version, 2);

        let events = scene.events().await;
        assert_eq!(events.len(), 307 + 111);
        let numbers: Vec<u64> = events.iter().filter_map(|e| e.emitter.as_ref()).map(|e| e.seq).collect();
        assert_eq!(numbers, (1..=418).collect::<Vec<u64>>());
        scene.desk.tail.refresh(&scene.desk.db).await.unwrap();
        assert_eq!(scene.desk.tail.revision(), 2);
    })
    .await;
}

async fn agent_as_declared(scene: &Scene, name: &str) -> legate_wire::registry::Declaration {
    let agent = scene.agent(name).await;
    legate_wire::registry::Declaration { object: Some(legate_wire::registry::declaration::Object::Agent(agent)) }
}

/// The tables as they were first.
struct First;

impl MigratorTrait for First {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![legate_outbox::migration(), Box::new(Tables)]
    }
}

#[tokio::test]
async fn a_database_with_data_comes_through_every_migration() {
    on_each::<First>(async |fixture| {
        let insert = "INSERT INTO object (id, kind, namespace, name, holds_name, revoked, state, revision, body) VALUES \
                      ('agt_1', 3, 'payments', 'a', TRUE, FALSE, 3, 1, ''), ('agt_2', 3, 'payments', 'b', TRUE, FALSE, 4, 1, '')";
        let old = fixture.db.tx("test", move |tx| {
            Box::pin(async move {
                tx.execute_unprepared(insert).await?;
                Ok::<_, legate_db::TxError<legate_rpc::Fault>>(())
            })
        });
        old.await.map_err(of_tx).unwrap();
        fixture.db.migrate::<Migrator>().await.unwrap();
        let mut census = fixture.db.read("test", |tx| Box::pin(object::census(tx))).await.map_err(of_tx).unwrap();
        census.sort_unstable();
        assert_eq!(census, [(3, 1), (4, 1)]);
    })
    .await;
}
