//! Classes and namespaces that are suspended: one write, kept through every other, and no way out of it.

use std::time::Duration;

use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentState, ChangeAction, Declaration, GetDeclarationResponse, Kind, StandingStatus, SuspendDeclarationRequest,
};

use super::scene::*;
use crate::domain::kind::Key;
use crate::domain::standing::{Turn, is_suspended, status_of};
use crate::flow::{plan, read, revoke, standing, update};
use crate::schema::Migrator;

fn worker() -> Key {
    Key::new(Kind::AgentClass, "payments", "worker")
}

fn payments_itself() -> Key {
    Key::new(Kind::Namespace, "", "payments")
}

async fn turn_with(scene: &Scene, key: Key, etag: &str, turn: Turn, why: &str) -> Result<(Declaration, u64), Fault> {
    let request = SuspendDeclarationRequest { name: key.name.clone(), ..Default::default() };
    let call = scene.call(OPERATOR, why, &request, "");
    let answer = |object, revision| GetDeclarationResponse { declaration: Some(object), revision };
    let answer = standing::turn(&scene.desk, call, key, etag.to_owned(), turn, answer).await?;
    Ok((answer.declaration.unwrap(), answer.revision))
}

async fn turned(scene: &Scene, key: Key, turn: Turn) -> Result<(Declaration, u64), Fault> {
    turn_with(scene, key, "", turn, "odd calls").await
}

async fn get(scene: &Scene, key: Key) -> Declaration {
    read::object(&scene.desk, &by(OPERATOR, ""), key, None).await.unwrap().0
}

fn status(declaration: &Declaration) -> StandingStatus {
    status_of(declaration).cloned().flatten().unwrap_or_default()
}

#[tokio::test]
async fn a_suspension_is_one_write_and_says_who_when_and_why() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        for (n, key) in [worker(), payments_itself()].into_iter().enumerate() {
            let bot = scene.agent("invoice-bot").await;
            scene.clock.advance(Duration::from_secs(60));
            let now: prost_types::Timestamp = legate_clock::Clock::now(&*scene.clock).into();
            let (stopped, revision) = turned(&scene, key.clone(), Turn::Suspend).await.unwrap();
            assert_eq!(revision, 2 + 2 * n as u64);
            let told = status(&stopped);
            assert!(told.suspended);
            assert_eq!((told.authorization_cutoff, told.state_time), (Some(now), Some(now)));
            assert_eq!((told.state_actor.as_str(), told.state_reason.as_str()), (OPERATOR, "odd calls"));
            assert_eq!(get(&scene, key.clone()).await, stopped);
            let after = scene.agent("invoice-bot").await;
            assert_eq!((after.metadata, after.spec), (bot.metadata, bot.spec), "no agent is written");

            scene.clock.advance(Duration::from_secs(60));
            let (resumed, _) = turned(&scene, key, Turn::Resume).await.unwrap();
            let told = status(&resumed);
            assert!(!told.suspended);
            assert_eq!(told.authorization_cutoff.unwrap().seconds, now.seconds + 60);
        }
        let kinds = scene.kinds().await;
        let wanted = ["agent_class.suspended", "agent_class.resumed", "namespace.suspended", "namespace.resumed"];
        assert_eq!(kinds[7..], wanted);
        let events = scene.events().await;
        assert!(events[7].details.contains_key("authorization_cutoff"));
        assert_eq!((events[9].namespace.as_str(), events[7].namespace.as_str()), ("payments", "payments"));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let refused = async |key, turn| reason(&turned(&scene, key, turn).await.unwrap_err());
        assert_eq!(refused(worker(), Turn::Resume).await, "STANDING_WRONG");
        for kind in [Kind::Agent, Kind::Role, Kind::Policy, Kind::SigningKey, Kind::EnforcementPoint] {
            assert_eq!(refused(Key::new(kind, "payments", "x"), Turn::Suspend).await, "KIND_NOT_APPLICABLE");
        }
        let nobody = Key::new(Kind::AgentClass, "payments", "nobody");
        assert_eq!(refused(nobody, Turn::Suspend).await, "OBJECT_NOT_FOUND");
        let silent = turn_with(&scene, worker(), "", Turn::Suspend, " ").await.unwrap_err();
        assert_eq!(reason(&silent), "INVALID_ARGUMENT");
        let etag = get(&scene, worker()).await.metadata().unwrap().etag.clone();
        let old = turn_with(&scene, worker(), "1-99", Turn::Suspend, "x").await.unwrap_err();
        assert_eq!(reason(&old), "ETAG_MISMATCH");
        turn_with(&scene, worker(), &etag, Turn::Suspend, "x").await.unwrap();
        assert_eq!(refused(worker(), Turn::Suspend).await, "STANDING_WRONG");
    })
    .await;
}

#[tokio::test]
async fn no_other_write_lifts_a_suspension_or_sees_a_difference() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        for key in [worker(), payments_itself()] {
            turned(&scene, key, Turn::Suspend).await.unwrap();
        }
        let by = scene.call(OPERATOR, "", &(), "").by;
        let planned = plan::plan(&scene.desk, &by, payments(), Vec::new()).await.unwrap();
        assert!(planned.changes.iter().all(|c| c.action() == ChangeAction::Unchanged), "{planned:?}");
        // Nor does it lift anything to send back what was read, or a status of one's own.
        let mut read_back = vec![get(&scene, worker()).await, get(&scene, payments_itself()).await];
        for object in &mut read_back {
            if let Some(Some(status)) = crate::domain::standing::status_mut(object) {
                status.suspended = false;
            }
        }
        let applied = scene.apply(read_back.clone()).await.unwrap();
        assert_eq!(applied.revision, 3);

        // A change of what is declared leaves the standing as it is.
        let before = status(&get(&scene, worker()).await);
        let Some(Object::AgentClass(changed)) = &mut read_back[0].object else { panic!("no class") };
        changed.spec.as_mut().unwrap().description = "reads".into();
        scene.apply(vec![read_back[0].clone()]).await.unwrap();
        let after = get(&scene, worker()).await;
        assert!(is_suspended(&after));
        assert_eq!(status(&after), before);
        let Some(Object::AgentClass(changed)) = &mut read_back[0].object else { panic!("no class") };
        changed.spec.as_mut().unwrap().description = "reads more".into();
        changed.metadata.as_mut().unwrap().etag.clear();
        let call = scene.call(OPERATOR, "because", &read_back[0], "");
        let paths = vec!["spec.description".to_owned()];
        update::update(&scene.desk, call, read_back[0].clone(), paths).await.unwrap();
        assert_eq!(status(&get(&scene, worker()).await), before);
        let call = scene.call(OPERATOR, "because", &read_back[0], "");
        let forced = update::update(&scene.desk, call, read_back[0].clone(), vec!["status".into()]).await;
        assert_eq!(reason(&forced.unwrap_err()), "INVALID_ARGUMENT");
    })
    .await;
}

#[tokio::test]
async fn nobody_escapes_from_a_suspended_class_into_another() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.push(class("other", false));
        scene.apply(all).await.unwrap();
        scene.clock.advance(Duration::from_secs(60));
        turned(&scene, worker(), Turn::Suspend).await.unwrap();
        let fault = scene.apply(vec![agent("invoice-bot", "other")]).await.unwrap_err();
        assert_eq!(reason(&fault), "LEAVES_SUSPENDED_CLASS");
        let taken = revoke::revoke(&scene.desk, scene.call(OPERATOR, "x", &(), ""), worker(), String::new()).await;
        assert_eq!(reason(&taken.unwrap_err()), "OBJECT_IN_USE");
        // One that is made in it is there, and below it.
        scene.apply(vec![agent("late-bot", "worker")]).await.unwrap();
        scene.clock.advance(Duration::from_secs(60));
        turned(&scene, worker(), Turn::Resume).await.unwrap();
        scene.clock.advance(Duration::from_secs(60));
        scene.apply(vec![agent("invoice-bot", "other")]).await.unwrap();
        let moved = scene.agent("invoice-bot").await.status.unwrap();
        assert_eq!(moved.state(), AgentState::Active);
        assert_eq!(moved.authorization_cutoff.unwrap().seconds, NOW + 120, "what died in the old class stays dead");
    })
    .await;
}

#[tokio::test]
async fn a_full_outbox_does_not_keep_a_class_from_being_stopped() {
    on_each::<Migrator>(async |fixture| {
        let mut scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let full = scene.events().await.len() as u64;
        let desk = std::sync::Arc::get_mut(&mut scene.desk).unwrap();
        desk.outbox = legate_outbox::Outbox::new(desk.own.clone(), scene.clock.clone(), full);
        turned(&scene, worker(), Turn::Suspend).await.unwrap();
        let fault = turned(&scene, worker(), Turn::Resume).await.unwrap_err();
        assert_eq!(reason(&fault), "AUDIT_UNAVAILABLE");
    })
    .await;
}

/// A measure more than a test: `cargo test -p legate-registry --lib ten_thousand -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "takes a while to fill the database"]
#[allow(clippy::print_stdout, reason = "a measure is for whoever runs it")]
async fn a_class_of_ten_thousand_agents_is_stopped_by_one_write() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        for batch in 0..10 {
            let agents = (0..1_000).map(|n| agent(&format!("bot-{batch}-{n}"), "worker"));
            scene.apply(agents.collect()).await.unwrap();
        }
        let before = scene.events().await.len();
        let started = std::time::Instant::now();
        let (_, revision) = turned(&scene, worker(), Turn::Suspend).await.unwrap();
        println!("a class of 10,001 agents is suspended in {:?}, at revision {revision}", started.elapsed());
        assert_eq!((scene.events().await.len(), revision), (before + 1, 12));
    })
    .await;
}
