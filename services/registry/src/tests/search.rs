//! Lists: they hold what their filter says of each object, in order, page by page, on every database.

use std::time::Duration;

use legate_db::testing::on_each;
use legate_filter::{Field, Filter, Scope};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{AgentState, Declaration, Environment, Kind, RiskTier};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::scene::*;
use crate::domain::lifecycle::Transition;
use crate::domain::subject::Seen;
use crate::domain::terms::{self, Fact};
use crate::error::of_tx;
use crate::flow::list::{self, List, Page, Total};
use crate::flow::transition::Step;
use crate::schema::Migrator;
use crate::store::{self, listed, term};

fn agents(filter: &str) -> List {
    List { by: by(OPERATOR, ""), kind: Kind::Agent, filter: filter.into(), ..List::default() }
}

fn name(declaration: &Declaration) -> String {
    declaration.metadata().map(|m| format!("{}/{}", m.namespace, m.name)).unwrap_or_default()
}

/// Every page of a list, and how many there were said to be.
async fn whole(scene: &Scene, ask: List) -> (Vec<Declaration>, Vec<Total>) {
    let (mut all, mut totals, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let Page { objects, next_page_token, total, .. } =
            list::list(&scene.desk, List { page_token: token, ..ask.clone() }).await.unwrap();
        all.extend(objects);
        totals.push(total);
        token = next_page_token;
        if token.is_empty() {
            return (all, totals);
        }
    }
}

async fn names(scene: &Scene, filter: &str) -> Vec<String> {
    let names: Vec<String> = whole(scene, agents(filter)).await.0.iter().map(name).collect();
    names.into_iter().map(|n| n.split_once('/').unwrap().1.to_owned()).collect()
}

async fn refused(scene: &Scene, ask: List) -> &'static str {
    reason(&list::list(&scene.desk, ask).await.unwrap_err())
}

/// The `n`-th agent of a small world in which most things are shared by some.
fn citizen(n: usize) -> Declaration {
    let mut spec = agent_spec(["worker", "clerk"][n % 2]);
    spec.environment = [Environment::Dev, Environment::Test, Environment::Prod][n % 3].into();
    spec.risk_tier = RiskTier::try_from(i32::try_from(n % 5).unwrap()).unwrap().into();
    spec.owners = (0..=n % 3).map(|o| format!("user:o{o}@example.com")).collect();
    spec.regions = (0..n % 4).map(|r| format!("eu-{r}")).collect();
    spec.model = ["", "m-1", "m-2", "other"][n % 4].into();
    spec.manager = if n.is_multiple_of(7) { "user:joan@example.com".into() } else { String::new() };
    spec.expire_time =
        n.is_multiple_of(4).then(|| prost_types::Timestamp { seconds: NOW + 1_000 + n as i64, nanos: 0 });
    let mut made = agent_with(&format!("bot-{:02}", n * 37 % 60), spec);
    let metadata = made.metadata_mut().unwrap();
    if !n.is_multiple_of(3) {
        metadata.labels.insert("team".into(), ["pay", "pray"][n % 2].into());
    }
    if n.is_multiple_of(5) {
        metadata.labels.insert("note".into(), String::new());
    }
    if n.is_multiple_of(11) {
        metadata.namespace = "travel".into();
        let Some(Object::Agent(agent)) = &mut made.object else { unreachable!() };
        agent.spec.as_mut().unwrap().agent_class = "worker".into();
    }
    made
}

/// Sixty agents, some stopped, some changed, some ended, at different times; and all of them as they are.
async fn world(scene: &Scene) -> Vec<Declaration> {
    let mut travel = class("worker", false);
    travel.metadata_mut().unwrap().namespace = "travel".into();
    scene
        .apply(vec![namespace("payments"), namespace("travel"), class("worker", false), class("clerk", false), travel])
        .await
        .unwrap();
    for some in (0..60).collect::<Vec<_>>().chunks(20) {
        scene.clock.advance(Duration::from_secs(10));
        scene.apply(some.iter().map(|n| citizen(*n)).collect()).await.unwrap();
    }
    for (n, step) in
        [(1, Transition::Suspend), (2, Transition::Quarantine), (3, Transition::Retire), (4, Transition::Retire)]
    {
        scene.clock.advance(Duration::from_secs(10));
        scene.step(OPERATOR, &format!("bot-{:02}", n * 37 % 60), Step::Transition(step)).await.unwrap();
    }
    // A name that is given again, and one that changes what it is found by.
    let mut again = citizen(3);
    again.metadata_mut().unwrap().labels.insert("team".into(), "again".into());
    let mut changed = citizen(5);
    changed.metadata_mut().unwrap().labels.clear();
    scene.apply(vec![again, changed]).await.unwrap();
    let states: Vec<AgentState> = (1..=7).map(|n| AgentState::try_from(n).unwrap()).collect();
    let all = whole(scene, List { states, ..agents("") }).await.0;
    assert_eq!(all.len(), 61);
    all
}

fn filters() -> impl proptest::strategy::Strategy<Value = String> {
    let terms = [
        "agent_class = worker",
        "environment = prod",
        "environment != dev",
        "risk_tier >= high",
        "risk_tier:*",
        "risk_tier > critical",
        "owners:user:o2@example.com",
        "owners:\"user:o*\"",
        "regions:eu-2",
        "regions:*",
        "model = m-1",
        "model = \"m-*\"",
        "NOT model:*",
        "manager:*",
        "labels.team = pay",
        "labels:team",
        "labels:note",
        "labels.note = \"\"",
        "labels.team = \"p*\"",
        "state = active",
        "state = suspended",
        "state != active",
        "state = retired",
        "state:*",
        "name = \"bot-1*\"",
        "name = bot-37",
        "name != bot-37",
        "origin = registered",
        "origin:*",
        "sanctioned_status = unsanctioned",
        "last_used_time:*",
        "expire_time:*",
        "expire_time < 2030-03-17T18:03:20Z",
        "create_time > 2030-03-17T17:46:50Z",
        "create_time = 2030-03-17T17:46:50Z",
        "update_time >= 2030-03-17T17:47:20Z",
        "framework = none",
    ];
    let term = proptest::sample::select(terms.to_vec()).prop_map(str::to_owned);
    term.prop_recursive(3, 8, 3, |inner| {
        use proptest::prelude::*;
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|all| format!("({})", all.join(" AND "))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|any| format!("({})", any.join(" OR "))),
            inner.prop_map(|not| format!("NOT ({not})")),
        ]
    })
}

/// What a list has to hold, worked out without the database.
fn expected(all: &[Declaration], ask: &List) -> Vec<String> {
    let text = ask.filter.text();
    let filter = (!text.is_empty()).then(|| Filter::parse(&text, Scope::Agents).unwrap());
    let asks_state = filter.as_ref().is_some_and(|f| f.asks_about(&Field::State));
    let fits = |declaration: &&Declaration| {
        let Some(Object::Agent(agent)) = &declaration.object else { return false };
        let state = agent.status.as_ref().unwrap().state();
        let shown = if ask.states.is_empty() {
            asks_state || state != AgentState::Retired
        } else {
            ask.states.contains(&state)
        };
        let metadata = agent.metadata.as_ref().unwrap();
        shown
            && (ask.namespace.is_empty() || ask.namespace == metadata.namespace)
            && filter.as_ref().is_none_or(|f| f.holds(&Seen::of(declaration)))
    };
    let mut found: Vec<&Declaration> = all.iter().filter(fits).collect();
    found.sort_by_key(|d| {
        let m = d.metadata().unwrap();
        let time = |t: Option<prost_types::Timestamp>| (t.unwrap_or_default().seconds, t.unwrap_or_default().nanos);
        match ask.order_by.split(' ').next() {
            Some("create_time") => (time(m.create_time), String::new(), String::new(), m.id.clone()),
            Some("update_time") => (time(m.update_time), String::new(), String::new(), m.id.clone()),
            _ => ((0, 0), m.namespace.clone(), m.name.clone(), m.id.clone()),
        }
    });
    if ask.order_by.ends_with(" desc") {
        found.reverse();
    }
    found.into_iter().map(|d| d.metadata().unwrap().id.clone()).collect()
}

/// Asks so many lists of all kinds, and holds each against what it has to be.
async fn hold(scene: &Scene, all: &[Declaration], lists: usize) -> (usize, usize) {
    let mut chance = TestRunner::deterministic();
    let orders = ["", "name", "name desc", "create_time", "create_time desc", "update_time asc", "update_time desc"];
    let (mut some, mut none) = (0, 0);
    for n in 0..lists {
        let filter = if n < 7 { String::new() } else { filters().new_tree(&mut chance).unwrap().current() };
        let ask = List {
            namespace: ["", "payments", "travel", "nowhere"][n % 4].into(),
            states: match n % 5 {
                0 => vec![AgentState::Suspended, AgentState::Retired],
                1 => vec![AgentState::Active],
                _ => Vec::new(),
            },
            order_by: orders[n % 7].into(),
            page_size: [0, 3, 7, 60][n % 4],
            ..agents(&filter)
        };
        let expected = expected(all, &ask);
        let (found, totals) = whole(scene, ask.clone()).await;
        let found: Vec<String> = found.iter().map(|d| d.metadata().unwrap().id.clone()).collect();
        assert_eq!(found, expected, "{ask:?}");
        let exact = Total { count: expected.len() as u64, is_exact: true };
        assert!(totals.iter().all(|total| *total == exact), "{ask:?}: {totals:?}");
        if expected.is_empty() { none += 1 } else { some += 1 }
    }
    (some, none)
}

#[tokio::test]
async fn lists_hold_what_their_filter_says_of_each_object() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let all = world(&scene).await;
        let (some, none) = hold(&scene, &all, 300).await;
        assert!(some > 100 && none > 20, "{some} filters found something, {none} nothing");
    })
    .await;
}

/// Runs a statement behind the registry's back.
async fn run(scene: &Scene, sql: &'static str) {
    let ran = scene.desk.db.tx("test", move |tx| {
        Box::pin(async move {
            sea_orm::ConnectionTrait::execute_unprepared(tx, sql).await?;
            Ok::<_, legate_db::TxError<legate_rpc::Fault>>(())
        })
    });
    ran.await.map_err(of_tx).unwrap();
}

/// The blocks in which there are facts.
async fn blocks(scene: &Scene) -> Vec<i64> {
    let read = scene.desk.db.read("test", |tx| {
        Box::pin(async move {
            use sea_orm::{EntityTrait as _, QueryOrder as _, QuerySelect as _};
            let find = term::Entity::find().select_only().column(term::Column::Block).distinct();
            Ok::<Vec<i64>, legate_db::TxError<legate_rpc::Fault>>(
                find.order_by_asc(term::Column::Block).into_tuple().all(tx).await?,
            )
        })
    });
    read.await.map_err(of_tx).unwrap()
}

#[tokio::test]
async fn facts_are_found_in_every_block() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        // As if very many objects had been made, of which none is left: a block ends in the middle of the world.
        run(&scene, "UPDATE head SET numbered = 3 * 4096 - 35").await;
        let all = world(&scene).await;
        assert_eq!(blocks(&scene).await, [2, 3]);
        hold(&scene, &all, 100).await;
    })
    .await;
}

#[tokio::test]
async fn whom_a_fact_is_true_of_is_told_in_the_order_of_names() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        run(&scene, "UPDATE head SET numbered = 4096 - 35").await;
        let all = world(&scene).await;
        // Nearly all agents, a third of them, a few, and none.
        let (owners, manager) = (terms::number(&Field::Owners).unwrap(), terms::number(&Field::Manager).unwrap());
        for (field, person, filter) in [
            (owners, "user:o0@example.com", "owners:user:o0@example.com"),
            (owners, "user:o2@example.com", "owners:user:o2@example.com"),
            (manager, "user:joan@example.com", "manager = \"user:joan@example.com\""),
            (manager, "user:nobody@example.com", "manager = \"user:nobody@example.com\""),
        ] {
            for namespace in ["", "payments", "travel"] {
                let ask = List { namespace: namespace.into(), ..agents(filter) };
                let expected = expected(&all, &ask);
                let (mut found, mut after) = (Vec::new(), [String::new(), String::new(), String::new()]);
                loop {
                    let fact = Fact { field, value: person.into() };
                    let read = scene.desk.db.read("test", |tx| {
                        let after = after.clone();
                        Box::pin(async move {
                            let after = after.each_ref().map(String::as_str);
                            store::search::agents_of(tx, &fact, namespace, after, 7).await
                        })
                    });
                    let some = read.await.map_err(of_tx).unwrap();
                    let Some(last) = some.last() else { break };
                    after = last.clone();
                    found.extend(some.into_iter().map(|[_, _, id]| id));
                }
                assert_eq!(found, expected, "{filter} {namespace}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn facts_follow_what_is_declared() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        assert_eq!(names(&scene, "owners:user:ada@example.com").await, ["invoice-bot"]);
        let mut spec = agent_spec("worker");
        spec.owners = vec!["user:grace@example.com".into()];
        scene.apply(vec![agent_with("invoice-bot", spec)]).await.unwrap();
        assert!(names(&scene, "owners:user:ada@example.com").await.is_empty());
        assert_eq!(names(&scene, "owners:user:grace@example.com").await, ["invoice-bot"]);
        scene.suspend("invoice-bot").await;
        assert_eq!(names(&scene, "state = suspended AND owners:user:grace@example.com").await, ["invoice-bot"]);
        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Retire)).await.unwrap();
        assert!(names(&scene, "owners:user:grace@example.com").await.is_empty());
        assert_eq!(names(&scene, "state = retired AND owners:user:grace@example.com").await, ["invoice-bot"]);
        // Nothing is left of it in the tables of facts.
        assert!(blocks(&scene).await.is_empty());
        let left = scene.desk.db.read("test", |tx| {
            Box::pin(async move {
                use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
                let agents = listed::Column::Kind.eq(Kind::Agent as i32);
                Ok(listed::Entity::find().filter(agents).all(tx).await?)
            })
        });
        let left: Result<Vec<_>, legate_db::TxError<legate_rpc::Fault>> = left.await;
        assert!(left.unwrap().is_empty());
        // Other kinds are found by their labels and names.
        let mut role = role("auditor", "invoice:read");
        role.metadata_mut().unwrap().labels.insert("team".into(), "pay".into());
        scene.apply(vec![role]).await.unwrap();
        for (filter, found) in
            [("labels.team = pay", 1), ("labels.team = x", 0), ("name = \"aud*\" OR labels:x", 1), ("", 2)]
        {
            let ask = List { kind: Kind::Role, ..agents(filter) };
            assert_eq!(whole(&scene, ask).await.0.len(), found, "{filter}");
        }
        let ask = List { kind: Kind::Role, ..agents("environment = prod") };
        assert_eq!(refused(&scene, ask).await, "FILTER_INVALID");
    })
    .await;
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        for filter in [
            "colour = red",
            "state = blue",
            "name = 'x' OR '1'='1'",
            "name = x; DROP TABLE object",
            "name = \"a\0b\"",
            "name = \"a\u{202e}b\"",
            "((((",
            &"(".repeat(3_000),
            "owners = user:a",
            "create_time > yesterday",
        ] {
            assert_eq!(refused(&scene, agents(filter)).await, "FILTER_INVALID", "{filter:?}");
        }
        // What means something to SQL is a text like any other.
        for filter in [
            "name = \"%\"",
            "name = \"%*\"",
            "name = \"invoice_bot\"",
            "labels.team = \"' OR '1'='1\"",
            "model = \"\\\\\"",
            "owners:\"user:ada@example.com' --\"",
            "display_name = \"\\\"; DROP TABLE object; --\"",
            "name = \"_nvoice*\"",
        ] {
            assert!(names(&scene, filter).await.is_empty(), "{filter:?}");
        }
        assert_eq!(names(&scene, "name = \"invoice*\"").await, ["invoice-bot"]);
        for order_by in ["id", "name  desc", "name DESC", "name desc desc", "create_time; --", "Name"] {
            let ask = List { order_by: order_by.into(), ..agents("") };
            assert_eq!(refused(&scene, ask).await, "INVALID_ARGUMENT", "{order_by}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_is_good_for_its_question_only() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        world(&scene).await;
        let ask = List { page_size: 5, namespace: "payments".into(), ..agents("environment = prod") };
        let token = list::list(&scene.desk, ask.clone()).await.unwrap().next_page_token;
        let next = List { page_token: token.clone(), ..ask.clone() };
        assert_eq!(list::list(&scene.desk, next.clone()).await.unwrap().objects.len(), 5);
        let revision = Some(legate_wire::registry::AsOf { at: Some(legate_wire::registry::as_of::At::Revision(4)) });
        for other in [
            List { by: by(OTHER, ""), ..next.clone() },
            List { filter: "environment = test".into(), ..next.clone() },
            List { filter: "".into(), ..next.clone() },
            List { order_by: "create_time".into(), ..next.clone() },
            List { order_by: "name desc".into(), ..next.clone() },
            List { namespace: "travel".into(), ..next.clone() },
            List { states: vec![AgentState::Active], ..next.clone() },
            List { as_of: revision, ..next.clone() },
            List { kind: Kind::Role, filter: "".into(), ..next.clone() },
            List { page_token: token[1..].into(), ..next.clone() },
            List { page_token: forged(&token), ..next.clone() },
        ] {
            assert_eq!(refused(&scene, other.clone()).await, "PAGE_TOKEN_INVALID", "{other:?}");
        }
    })
    .await;
}
