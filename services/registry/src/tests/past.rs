//! The past: objects as they were, lists of them, and what became of each.

use std::time::Duration;

use legate_db::testing::on_each;
use legate_wire::registry::as_of::At;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentRef, AgentState, AsOf, Declaration, HistoryAction, Kind, ListHistoryRequest, ListHistoryResponse,
};
use prost::Message as _;
use sea_orm::ConnectionTrait as _;
use sea_orm_migration::{MigrationTrait, MigratorTrait};

use super::scene::*;
use crate::domain::kind::Key;
use crate::domain::lifecycle::Transition;
use crate::error::of_tx;
use crate::flow::list::{self, List};
use crate::flow::transition::Step;
use crate::flow::{history, read};
use crate::schema::{Migrator, States, Tables};
use crate::store::object;

fn at(revision: u64) -> Option<AsOf> {
    Some(AsOf { at: Some(At::Revision(revision)) })
}

fn then(seconds: i64) -> Option<AsOf> {
    Some(AsOf { at: Some(At::Time(prost_types::Timestamp { seconds, nanos: 0 })) })
}

async fn names(scene: &Scene, kind: Kind, filter: &str, as_of: Option<AsOf>, page_size: u32) -> Vec<String> {
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let ask = List {
            by: by(OPERATOR, ""),
            kind,
            filter: filter.into(),
            as_of,
            page_size,
            page_token: token,
            ..List::default()
        };
        let page = list::list(&scene.desk, ask).await.unwrap();
        names.extend(page.objects.iter().map(|o| o.metadata().unwrap().name.clone()));
        token = page.next_page_token;
        if token.is_empty() {
            return names;
        }
    }
}

async fn told(scene: &Scene, ask: ListHistoryRequest) -> ListHistoryResponse {
    history::history(&scene.desk, &by(OPERATOR, ""), ask).await.unwrap()
}

fn of_agent(name: &str) -> ListHistoryRequest {
    ListHistoryRequest {
        kind: Kind::Agent.into(),
        namespace: "payments".into(),
        name: name.into(),
        ..Default::default()
    }
}

/// Revision 1: everything; 2: another purpose; 3: suspended; 4: retired; 5: the name again. A minute between them.
async fn story(scene: &Scene) -> (String, String) {
    scene.apply(payments()).await.unwrap();
    let first = scene.agent("invoice-bot").await.metadata.unwrap().id;
    let minute = || scene.clock.advance(Duration::from_secs(60));
    minute();
    let mut spec = agent_spec("worker");
    spec.purpose = "reads more".into();
    scene.apply_as(OTHER, vec![agent_with("invoice-bot", spec)], "", 0).await.unwrap();
    minute();
    scene.suspend("invoice-bot").await;
    minute();
    scene.step(OTHER, "invoice-bot", Step::Transition(Transition::Retire)).await.unwrap();
    minute();
    scene.apply(vec![agent("invoice-bot", "worker")]).await.unwrap();
    let second = scene.agent("invoice-bot").await.metadata.unwrap().id;
    (first, second)
}

#[tokio::test]
async fn objects_are_read_as_they_were() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let (first, second) = story(&scene).await;
        let ada = by(OPERATOR, "");
        let named = |as_of| read::agent(&scene.desk, &ada, Some(by_name("invoice-bot")), as_of);
        for (as_of, revision, purpose, id, state) in [
            (at(1), 1, "reads invoices", &first, AgentState::Active),
            (then(NOW), 1, "reads invoices", &first, AgentState::Active),
            (then(NOW + 59), 1, "reads invoices", &first, AgentState::Active),
            (then(NOW + 60), 2, "reads more", &first, AgentState::Active),
            (at(3), 3, "reads more", &first, AgentState::Suspended),
            (then(NOW + 240), 5, "reads invoices", &second, AgentState::Active),
        ] {
            let (agent, told) = named(as_of).await.unwrap();
            let (spec, status) = (agent.spec.unwrap(), agent.status.unwrap());
            let seen = (told, spec.purpose.as_str(), &agent.metadata.unwrap().id, status.state());
            assert_eq!(seen, (revision, purpose, id, state), "{as_of:?}");
        }
        // In between nobody held the name; the tombstone is there by its id, and was nobody before it was declared.
        assert_eq!(reason(&named(at(4)).await.unwrap_err()), "AGENT_NOT_FOUND");
        let by_id = |id: &str| Some(AgentRef { id: id.into(), ..AgentRef::default() });
        let (tomb, _) = read::agent(&scene.desk, &by(OPERATOR, ""), by_id(&first), at(4)).await.unwrap();
        assert_eq!(tomb.status.unwrap().state(), AgentState::Retired);
        let unborn = read::agent(&scene.desk, &by(OPERATOR, ""), by_id(&second), at(4)).await.unwrap_err();
        assert_eq!(reason(&unborn), "AGENT_NOT_FOUND");
        // Its binding went with it.
        let binding = || Key::new(Kind::RoleBinding, "payments", "bot-reads");
        assert!(read::object(&scene.desk, &by(OPERATOR, ""), binding(), at(3)).await.is_ok());
        for gone in [at(4), at(5), None] {
            assert_eq!(
                reason(&read::object(&scene.desk, &by(OPERATOR, ""), binding(), gone).await.unwrap_err()),
                "OBJECT_NOT_FOUND"
            );
        }
        for (unknown, why) in [
            (at(0), "REVISION_UNKNOWN"),
            (at(6), "REVISION_UNKNOWN"),
            (at(u64::MAX), "REVISION_UNKNOWN"),
            (then(NOW - 1), "REVISION_UNKNOWN"),
            (then(NOW + 241), "REVISION_UNKNOWN"),
            (then(i64::MAX), "INVALID_ARGUMENT"),
            (Some(AsOf { at: None }), "INVALID_ARGUMENT"),
        ] {
            assert_eq!(reason(&named(unknown).await.unwrap_err()), why, "{unknown:?}");
            let ask = List { kind: Kind::Agent, as_of: unknown, ..List::default() };
            assert_eq!(reason(&list::list(&scene.desk, ask).await.unwrap_err()), why);
        }
    })
    .await;
}

#[tokio::test]
async fn lists_are_read_as_they_were() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        story(&scene).await;
        scene.apply((0..30).map(|n| agent(&format!("late-{n:02}"), "worker")).collect()).await.unwrap();
        for (revision, filter, found) in [
            (1, "", &["invoice-bot"][..]),
            (3, "", &["invoice-bot"]),
            (3, "state = suspended", &["invoice-bot"]),
            (2, "state = suspended", &[]),
            (4, "", &[]),
            (4, "state = retired", &["invoice-bot"]),
            (5, "labels:team OR owners:user:ada@example.com", &["invoice-bot"]),
        ] {
            assert_eq!(names(&scene, Kind::Agent, filter, at(revision), 0).await, found, "{revision} {filter}");
        }
        assert_eq!(names(&scene, Kind::Agent, "name = \"late*\"", at(6), 7).await.len(), 30);
        assert_eq!(names(&scene, Kind::RoleBinding, "", at(3), 0).await, ["bot-reads"]);
        assert!(names(&scene, Kind::RoleBinding, "", at(4), 0).await.is_empty());
        let ask = List { kind: Kind::Agent, as_of: at(3), order_by: "create_time".into(), ..List::default() };
        assert_eq!(reason(&list::list(&scene.desk, ask).await.unwrap_err()), "INVALID_ARGUMENT");
        let ask = List { kind: Kind::Agent, as_of: at(3), ..List::default() };
        let page = list::list(&scene.desk, ask).await.unwrap();
        assert_eq!((page.revision, page.total.count, page.total.is_exact), (3, 1, true));
    })
    .await;
}

#[tokio::test]
async fn a_history_tells_every_write() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let (first, second) = story(&scene).await;
        let told_now = told(&scene, of_agent("invoice-bot")).await;
        assert_eq!((&told_now.id, told_now.entries.len(), told_now.revision), (&second, 1, 5));
        assert_eq!(told_now.holders, [second.clone(), first.clone()]);
        let whole = told(&scene, ListHistoryRequest { id: first.clone(), ..Default::default() }).await;
        assert_eq!(
            (whole.kind(), whole.namespace.as_str(), whole.name.as_str()),
            (Kind::Agent, "payments", "invoice-bot")
        );
        let seen: Vec<_> =
            whole.entries.iter().map(|e| (e.revision, e.action(), e.actor.as_str(), e.state())).collect();
        assert_eq!(
            seen,
            [
                (4, HistoryAction::Retired, OTHER, AgentState::Retired),
                (3, HistoryAction::Suspended, OPERATOR, AgentState::Suspended),
                (2, HistoryAction::Updated, OTHER, AgentState::Active),
                (1, HistoryAction::Created, OPERATOR, AgentState::Active),
            ]
        );
        let update = &whole.entries[2];
        assert_eq!(update.time.unwrap().seconds, NOW + 60);
        assert_eq!((update.reason.as_str(), update.version, update.lifecycle_version), ("because", 2, 1));
        assert_eq!(update.fields.len(), 1, "{:?}", update.fields);
        assert_eq!(update.fields[0].path, "spec.purpose");
        assert!(whole.entries[3].fields.len() > 3 && whole.entries[1].fields.is_empty());

        // The same in either direction, in pages of any size.
        for oldest_first in [false, true] {
            for page_size in [1, 2, 3] {
                let mut ask = ListHistoryRequest { id: first.clone(), oldest_first, page_size, ..Default::default() };
                let mut entries = Vec::new();
                loop {
                    let page = told(&scene, ask.clone()).await;
                    entries.extend(page.entries);
                    ask.page_token = page.next_page_token;
                    if ask.page_token.is_empty() {
                        break;
                    }
                }
                if oldest_first {
                    entries.reverse();
                }
                assert_eq!(entries, whole.entries, "{oldest_first} {page_size}");
            }
        }

        // What is taken back has a history, too, and is found by its name.
        let ask = ListHistoryRequest {
            kind: Kind::RoleBinding.into(),
            namespace: "payments".into(),
            name: "bot-reads".into(),
            ..Default::default()
        };
        let binding = told(&scene, ask).await;
        let seen: Vec<_> = binding.entries.iter().map(|e| (e.revision, e.action())).collect();
        assert_eq!(seen, [(4, HistoryAction::Revoked), (1, HistoryAction::Created)]);

        let page = told(&scene, ListHistoryRequest { page_size: 1, id: first.clone(), ..Default::default() }).await;
        let token = page.next_page_token;
        for (ask, caller, why) in [
            (ListHistoryRequest { id: "agt_nobody".into(), ..Default::default() }, OPERATOR, "INVALID_ARGUMENT"),
            (ListHistoryRequest::default(), OPERATOR, "INVALID_ARGUMENT"),
            (of_agent("never-was"), OPERATOR, "OBJECT_NOT_FOUND"),
            (of_agent("Never' OR 1"), OPERATOR, "INVALID_ARGUMENT"),
            (
                ListHistoryRequest { page_size: 1_001, id: first.clone(), ..Default::default() },
                OPERATOR,
                "INVALID_ARGUMENT",
            ),
            (
                ListHistoryRequest { page_token: token.clone(), id: first.clone(), page_size: 1, ..Default::default() },
                OTHER,
                "PAGE_TOKEN_INVALID",
            ),
            (
                ListHistoryRequest { page_token: token.clone(), id: second.clone(), ..Default::default() },
                OPERATOR,
                "PAGE_TOKEN_INVALID",
            ),
            (
                ListHistoryRequest { page_token: token, id: first, oldest_first: true, ..Default::default() },
                OPERATOR,
                "PAGE_TOKEN_INVALID",
            ),
        ] {
            let refused = history::history(&scene.desk, &by(caller, ""), ask.clone()).await.unwrap_err();
            assert_eq!(reason(&refused), why, "{ask:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_goes_back_turns_no_order() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let before = Scene::new(&fixture);
        before.clock.jump_to(legate_clock::Timestamp::from_secs(NOW - 100));
        before.suspend("invoice-bot").await;
        scene.clock.advance(Duration::from_secs(10));
        let (agent, revision) =
            read::agent(&scene.desk, &by(OPERATOR, ""), Some(by_name("invoice-bot")), then(NOW)).await.unwrap();
        assert_eq!((agent.status.unwrap().state(), revision), (AgentState::Suspended, 2));
        let early =
            read::agent(&scene.desk, &by(OPERATOR, ""), Some(by_name("invoice-bot")), then(NOW - 1)).await.unwrap_err();
        assert_eq!(reason(&early), "REVISION_UNKNOWN");
    })
    .await;
}

/// The tables before lists were searched.
struct Before;

impl MigratorTrait for Before {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![legate_outbox::migration(), Box::new(Tables), Box::new(States)]
    }
}

/// A row of a database as it was, as statements with their bytes in hexadecimal digits.
fn old_rows(n: i64, revoked: bool, declaration: &Declaration, is_postgres: bool) -> String {
    let metadata = declaration.metadata().unwrap();
    let hex: String = declaration.encode_to_vec().iter().map(|b| format!("{b:02x}")).collect();
    let body = if is_postgres { format!("'\\x{hex}'") } else { format!("x'{hex}'") };
    let empty = if is_postgres { "'\\x'" } else { "x''" };
    let kind = declaration.kind().unwrap() as i32;
    let state = match &declaration.object {
        Some(Object::Agent(agent)) => agent.status.as_ref().unwrap().state,
        _ => 0,
    };
    let (id, namespace, name) = (&metadata.id, &metadata.namespace, &metadata.name);
    let holds = !revoked && state != AgentState::Retired as i32;
    format!(
        "INSERT INTO object (id, kind, namespace, name, holds_name, revoked, state, revision, body)
         VALUES ('{id}', {kind}, '{namespace}', '{name}', {holds}, {revoked}, {state}, {n}, {body});
         INSERT INTO change (revision, place, object_id, revoked, body) VALUES ({n}, 0, '{id}', {revoked}, {body});
         INSERT INTO revision (revision, history) VALUES ({n}, {empty});
         UPDATE head SET revision = {n};"
    )
}

fn old(mut declaration: Declaration, n: i64, state: AgentState, written: i64) -> Declaration {
    let metadata = declaration.metadata_mut().unwrap();
    metadata.labels.insert("team".into(), format!("t{}", n % 10));
    metadata.id = match state {
        AgentState::Unspecified => format!("obj_{n:026}"),
        _ => format!("agt_{n:026}"),
    };
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    (metadata.create_time, metadata.update_time) = (at(NOW - 10_000), at(written));
    if let Some(Object::Agent(agent)) = &mut declaration.object {
        agent.spec.as_mut().unwrap().expire_time = at(NOW + n);
        agent.status.get_or_insert_default().state = state.into();
    }
    declaration
}

#[tokio::test]
async fn a_database_with_data_is_searched_after_the_migration() {
    on_each::<Before>(async |fixture| {
        // More than are read at once, one of them retired, one binding taken back, and a clock that once went back.
        let postgres = fixture.is_postgres();
        let mut rows = String::new();
        for n in 1..=1_020 {
            let state = if n == 7 { AgentState::Retired } else { AgentState::Active };
            let written = if n == 500 { NOW - 9_000 } else { NOW - 2_000 + n };
            rows += &old_rows(n, false, &old(agent(&format!("bot-{n:04}"), "worker"), n, state, written), postgres);
        }
        let binding = old(binding("gone", "reader", &["bot-0001"]), 1_021, AgentState::Unspecified, NOW);
        rows += &old_rows(1_021, true, &binding, postgres);
        let before = fixture.db.tx("test", move |tx| {
            let rows = rows.clone();
            Box::pin(async move {
                tx.execute_unprepared(&rows).await?;
                Ok::<_, legate_db::TxError<legate_rpc::Fault>>(())
            })
        });
        before.await.map_err(of_tx).unwrap();
        fixture.db.migrate::<Migrator>().await.unwrap();

        let scene = Scene::new(&fixture);
        assert_eq!(names(&scene, Kind::Agent, "labels.team = t7", None, 1_000).await.len(), 101);
        assert_eq!(names(&scene, Kind::Agent, "labels.team = t7 AND state:*", None, 1_000).await.len(), 102);
        let expiring = "expire_time < 2030-03-17T17:46:44Z AND owners:user:ada@example.com";
        assert_eq!(names(&scene, Kind::Agent, expiring, None, 0).await, ["bot-0001", "bot-0002", "bot-0003"]);
        let newest = List { kind: Kind::Agent, order_by: "update_time desc".into(), page_size: 1, ..List::default() };
        let newest = list::list(&scene.desk, newest).await.unwrap();
        assert_eq!(newest.objects[0].metadata().unwrap().name, "bot-1020");
        assert_eq!((newest.total.count, newest.total.is_exact), (1_019, true));
        for (time, revision) in
            [(NOW - 2_000 + 1, 1), (NOW - 2_000 + 499, 500), (NOW - 2_000 + 501, 501), (NOW - 1, 1_020), (NOW, 1_021)]
        {
            let ask = List { kind: Kind::Agent, as_of: then(time), page_size: 1, ..List::default() };
            assert_eq!(list::list(&scene.desk, ask).await.unwrap().revision, revision, "{time}");
        }
        assert_eq!(names(&scene, Kind::Agent, "", at(500), 300).await.len(), 499);
        // And it goes on from there.
        scene.suspend("bot-0042").await;
        assert_eq!(names(&scene, Kind::Agent, "state = suspended", None, 0).await, ["bot-0042"]);
    })
    .await;
}

/// The tables before facts were kept in blocks.
struct Sorted;

impl MigratorTrait for Sorted {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        Migrator::migrations().into_iter().take_while(|one| one.name() != "registry_0008_facts").collect()
    }
}

#[tokio::test]
async fn a_database_with_facts_in_order_is_searched_after_the_migration() {
    on_each::<Sorted>(async |fixture| {
        // More than are read at once, in names of the reverse order; one retired, its name given again, and a binding taken back.
        let postgres = fixture.is_postgres();
        let mut rows = String::new();
        for n in 1..=1_020 {
            let state = if n == 7 { AgentState::Retired } else { AgentState::Active };
            let name = format!("bot-{:04}", 2_000 - if n == 1_020 { 7 } else { n });
            rows += &old_rows(n, false, &old(agent(&name, "worker"), n, state, NOW - 2_000 + n), postgres);
            rows +=
                &format!("INSERT INTO term VALUES (3, 18, 'team=t{}', 'payments', '{name}', 'agt_{n:026}');", n % 10);
        }
        let binding = old(binding("gone", "reader", &["bot-0001"]), 1_021, AgentState::Unspecified, NOW);
        rows += &old_rows(1_021, true, &binding, postgres);
        let before = fixture.db.tx("test", move |tx| {
            let rows = rows.clone();
            Box::pin(async move {
                tx.execute_unprepared(&rows).await?;
                Ok::<_, legate_db::TxError<legate_rpc::Fault>>(())
            })
        });
        before.await.map_err(of_tx).unwrap();
        fixture.db.migrate::<Migrator>().await.unwrap();

        let scene = Scene::new(&fixture);
        assert_eq!(names(&scene, Kind::Agent, "labels.team = t7", None, 1_000).await.len(), 101);
        let retired_too = names(&scene, Kind::Agent, "labels.team = t7 AND state:*", None, 1_000).await;
        assert_eq!(retired_too.len(), 102);
        assert_eq!(retired_too.iter().filter(|name| *name == "bot-1993").count(), 1);
        // In the order of names, though their ids and numbers have the other; nearly all have the owner.
        let all = names(&scene, Kind::Agent, "owners:user:ada@example.com", None, 300).await;
        assert!(all.len() == 1_019 && all.is_sorted(), "{}", all.len());
        let binding = List { kind: Kind::RoleBinding, ..List::default() };
        assert!(list::list(&scene.desk, binding).await.unwrap().objects.is_empty());
        // The name's two holders, the one of now and the one before.
        let by_then = read::agent(&scene.desk, &by(OPERATOR, ""), Some(by_name("bot-1993")), at(1_020)).await.unwrap();
        let id = |agent: &legate_wire::registry::Agent| agent.metadata.as_ref().unwrap().id.clone();
        assert_eq!(id(&by_then.0), format!("agt_{:026}", 1_020));
        assert_eq!(names(&scene, Kind::Agent, "", at(500), 300).await.len(), 499);
        // And it goes on from there: new objects get new numbers, and names are held as ever.
        scene.suspend("bot-1000").await;
        assert_eq!(names(&scene, Kind::Agent, "state = suspended", None, 0).await, ["bot-1000"]);
        let mut new = payments();
        new.extend((0..3).map(|n| agent(&format!("new-{n}"), "worker")));
        let made = new.len();
        scene.apply(new).await.unwrap();
        assert_eq!(names(&scene, Kind::Agent, "name = \"new-*\"", None, 0).await.len(), 3);
        let numbers = scene.desk.db.read("test", |tx| {
            Box::pin(async move {
                use sea_orm::{EntityTrait as _, QueryOrder as _};
                let rows = object::Entity::find().order_by_asc(object::Column::Id).all(tx).await?;
                Ok::<_, legate_db::TxError<legate_rpc::Fault>>(rows.into_iter().map(|row| row.number).collect())
            })
        });
        let mut numbers: Vec<i64> = numbers.await.map_err(of_tx).unwrap();
        assert!(numbers[..1_020].iter().zip(1..).all(|(number, n)| *number == n), "agents in the order of their ids");
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=1_021 + made as i64).collect::<Vec<_>>());
    })
    .await;
}
