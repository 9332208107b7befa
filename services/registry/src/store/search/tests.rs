//! The statements of lists: what they find, and which way a database goes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::domain::kind::Key;
use crate::error::of_tx;
use crate::schema::Migrator;
use crate::store::change;
use legate_db::testing::{Fixture, on_each};
use legate_filter::Scope;
use sea_orm::{DbBackend, QueryTrait as _, Statement};
use std::time::Instant;

fn which(filter: &str, by: OrderedBy, namespace: &str) -> Which {
    Which {
        kind: Kind::Agent,
        namespace: namespace.to_owned(),
        sees: Reach::Everywhere,
        states: Vec::new(),
        filter: (!filter.is_empty()).then(|| Filter::parse(filter, Scope::Agents).unwrap()),
        by,
        descending: false,
        numbered: 5_000,
    }
}

/// How the database answers; nobody has gathered statistics of it.
async fn plan(fixture: &Fixture, select: SelectStatement) -> String {
    explained(fixture, select, true).await
}

async fn explained(fixture: &Fixture, select: SelectStatement, is_by_index: bool) -> String {
    let is_postgres = fixture.is_postgres();
    let read = fixture.db.read("test", move |tx| {
        Box::pin(async move {
            if is_by_index {
                way::by_index(tx).await?;
            }
            let built = tx.get_database_backend().build(&select);
            let explain = if is_postgres { "EXPLAIN" } else { "EXPLAIN QUERY PLAN" };
            let ask = Statement { sql: format!("{explain} {}", built.sql), ..built };
            let rows = tx.query_all_raw(ask).await?;
            let line = |row: &QueryResult| row.try_get_by_index::<String>(if is_postgres { 0 } else { 3 });
            Ok(rows.iter().map(line).collect::<Result<Vec<_>, _>>()?.join("\n"))
        })
    });
    read.await.map_err(of_tx).unwrap()
}

fn search<'w>(fixture: &Fixture, which: &'w Which) -> Search<'w> {
    let backend = if fixture.is_postgres() { DbBackend::Postgres } else { DbBackend::Sqlite };
    Search::walk(which, Ground { backend, in_force: true })
}

#[tokio::test]
async fn lists_come_out_of_an_index_in_their_order() {
    on_each::<Migrator>(async |fixture| {
        let names = ("listed USING PRIMARY KEY", "listed_pkey");
        for (filter, by, index) in [
            ("", OrderedBy::Name, names),
            ("", OrderedBy::Created, ("INDEX object_by_creation", "object_by_creation")),
            ("", OrderedBy::Updated, ("INDEX object_by_update", "object_by_update")),
            ("labels.team = pay", OrderedBy::Name, names),
            ("NOT owners:\"user:a*\"", OrderedBy::Name, names),
            ("environment = prod AND state = active", OrderedBy::Name, names),
            ("environment = prod", OrderedBy::Created, ("INDEX object_by_creation", "object_by_creation")),
        ] {
            for namespace in ["", "payments"] {
                let which = which(filter, by, namespace);
                let search = search(&fixture, &which);
                let id = "agt_1".to_owned();
                let place = match by {
                    OrderedBy::Name => Place::Name { namespace: "payments".into(), name: "a".into(), id },
                    _ => Place::Time { at: 7, id },
                };
                for after in [None, Some(&place)] {
                    let told = plan(&fixture, search.select(search.sources()[0], after, 101)).await;
                    let index = if fixture.is_postgres() { index.1 } else { index.0 };
                    let sorts = told.contains("TEMP B-TREE") || told.contains("Sort");
                    assert!(told.contains(index) && !sorts, "{filter} {by:?} {namespace} {after:?}:\n{told}");
                }
            }
        }
    })
    .await;
}

#[test]
fn what_the_database_tells_of_a_filter() {
    for (filter, whole) in [
        ("environment = prod", true),
        ("NOT environment = prod", true),
        ("NOT (labels.team = \"p*\" OR owners:*) AND risk_tier > low", true),
        ("name = \"a*\" AND state = active AND expire_time:*", true),
        ("origin = registered", false),
        ("NOT (origin = registered)", false),
    ] {
        let which = which(filter, OrderedBy::Name, "");
        let root = which.filter.as_ref().map(Filter::root);
        let of = |in_force| Conditions::of(root, Ground { backend: DbBackend::Sqlite, in_force }).is_whole();
        assert_eq!(of(true), whole, "{filter}: {root:?}");
        // Facts are kept of what is in force.
        let columns = filter.starts_with("name");
        assert_eq!(of(false), columns, "{filter}");
    }
}

#[tokio::test]
async fn the_few_are_looked_up_by_an_index() {
    on_each::<Migrator>(async |fixture| {
        for (filter, index) in [
            ("labels.team = \"p*\"", "term USING PRIMARY KEY"),
            ("manager:*", "term USING PRIMARY KEY"),
            ("labels.team = pay OR owners:user:ada", "term USING PRIMARY KEY"),
            ("state = suspended", "INDEX object_by_state"),
            ("expire_time < 2026-01-01T00:00:00Z", "INDEX object_by_expiry"),
            ("orphaned_time:*", "INDEX object_orphaned"),
            ("lifecycle_due_time < 2026-01-01T00:00:00Z", "INDEX object_due"),
        ] {
            let which = which(filter, OrderedBy::Created, "");
            let mut search = search(&fixture, &which);
            let root = which.filter.as_ref().unwrap().root();
            search.drive = Drive::Few(Box::new(condition::drive(root, &which, true).unwrap()));
            let told = plan(&fixture, search.select(Source::Objects, None, 101)).await;
            // With no rows at all, PostgreSQL may take any of several indexes.
            let good = if fixture.is_postgres() { told.contains("Index") } else { told.contains(index) };
            assert!(good && !told.contains("SCAN object") && !told.contains("Seq Scan"), "{filter}:\n{told}");
        }
    })
    .await;
}

/// Agents of which the tables tell and nothing else does, so many, in PostgreSQL's words: numbered on from `$1` to `$2`.
const AGENTS: [&str; 3] = [
    "INSERT INTO object (id, kind, namespace, name, holds_name, revoked, state, revision, body, created_at, updated_at, \
     number) SELECT 'agt_' || lpad(n::text, 22, '0'), 3, 'team-' || lpad((n % 20)::text, 2, '0'), 'bot-' || \
     md5(n::text), TRUE, FALSE, 3 + (n % 1000 = 0)::int, 1, convert_to(repeat(md5(n::text), 25), 'UTF8'), n, n, n \
     FROM generate_series($1::bigint, $2::bigint) AS n",
    "INSERT INTO term (block, kind, field, value, namespace, number) SELECT n >> 12, 3, field, value, 'team-' || \
     lpad((n % 20)::text, 2, '0'), n FROM generate_series($1::bigint, $2::bigint) AS n, \
     LATERAL (SELECT abs(hashint8(n)::bigint) AS chance) AS chance, LATERAL (VALUES (1, 'class-' || n / 20 % 5), \
     (2, '3'), (4, 'user:owner-' || chance % 2000 || '@example.com'), (5, 'user:sponsor-' || chance % 300), \
     (8, 'langgraph'), (9, 'm-1'), (10, '1.2.3'), (18, 'region=v' || chance % 7), (18, 'tier=v' || chance % 3), \
     (18, 'cost-centre=v' || chance % 500)) AS fact(field, value)",
    "INSERT INTO listed (kind, namespace, name, object_id, number, facts) SELECT kind, namespace, 'bot-' || \
     md5(number::text), 'agt_' || lpad(number::text, 22, '0'), number, string_agg('\\xff'::bytea || \
     convert_to(field || '=' || value, 'UTF8'), ''::bytea ORDER BY field, value) || '\\xff'::bytea \
     FROM term WHERE number BETWEEN $1::bigint AND $2::bigint GROUP BY kind, namespace, number",
];

async fn fill(fixture: &Fixture, agents: i64) {
    for first in (1..=agents).step_by(10_000) {
        let filled = fixture.db.tx("test", move |tx| {
            Box::pin(async move {
                for sql in AGENTS {
                    let values = [first.into(), Ord::min(first + 9_999, agents).into()];
                    tx.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
                }
                Ok(())
            })
        });
        filled.await.map_err(of_tx).unwrap();
    }
}

/// Filters of which many, some, few and no agents of [`AGENTS`] are.
const ASKED: [&str; 10] = [
    "",
    "owners:\"user:owner-7@example.com\"",
    "labels.cost-centre = v7",
    "labels.cost-centre = \"v7*\"",
    "labels.region = v2",
    "labels.region = v2 AND labels.tier = v1 AND framework = langgraph",
    "owners:\"user:owner-7@example.com\" OR labels.cost-centre = v7",
    "environment = prod",
    "NOT environment = prod",
    "environment = prod AND state = suspended",
];

/// Each of them in all namespaces and in one, by name and by time.
fn asked() -> impl Iterator<Item = (&'static str, &'static str, OrderedBy)> {
    let placed = |filter| ["", "team-03"].into_iter().map(move |namespace| (filter, namespace));
    let ordered = |(filter, namespace)| [OrderedBy::Name, OrderedBy::Created].map(|by| (filter, namespace, by));
    ASKED.into_iter().flat_map(placed).flat_map(ordered)
}

/// Neither reads a table whole, nor compares each row of one with each of another.
#[tokio::test]
async fn a_search_needs_no_statistics() {
    on_each::<Migrator>(async |fixture| {
        if !fixture.is_postgres() {
            return;
        }
        fill(&fixture, 2_000).await;
        for (filter, namespace, by) in asked() {
            let which = which(filter, by, namespace);
            let mut search = search(&fixture, &which);
            let walk = plan(&fixture, search.select(search.sources()[0], None, 101)).await;
            assert!(!walk.contains("Sort"), "{filter} {namespace} {by:?}:\n{walk}");
            let mut plans = vec![walk, plan(&fixture, search.candidates(search.sources()[0], true)).await];
            for part in condition::parts(which.filter.as_ref().map(Filter::root)) {
                let Some(few) = condition::drive(part, &which, true) else { continue };
                plans.push(plan(&fixture, few.clone()).await);
                search.drive = Drive::Few(Box::new(few));
                plans.push(plan(&fixture, search.select(Source::Objects, None, 101)).await);
            }
            for plan in plans {
                let bad = ["Seq Scan", "Join Filter", "Hash Join", "Merge Join", "Materialize"];
                let bad = bad.into_iter().find(|bad| plan.contains(bad));
                assert!(bad.is_none(), "{filter} {namespace} {by:?}: {bad:?} in\n{plan}");
            }
        }
    })
    .await;
}

/// Of the past of one object the database reads that object's changes alone.
#[tokio::test]
async fn the_past_needs_no_statistics() {
    on_each::<Migrator>(async |fixture| {
        if !fixture.is_postgres() {
            return;
        }
        let filled = fixture.db.tx("test", |tx| {
            Box::pin(async move {
                let sql = "INSERT INTO change (revision, place, object_id, revoked, body) SELECT n, 0, 'agt_' || n % 5000, \
                    FALSE, convert_to(repeat(md5(n::text), 10), 'UTF8') FROM generate_series(1, 50000) AS n";
                Ok(tx.execute_unprepared(sql).await.map(drop)?)
            })
        });
        filled.await.map_err(of_tx).unwrap();
        let key = Key::new(Kind::Agent, "payments", "invoice-bot");
        let one = change::last_of("agt_7", 40_000).into_query();
        let any = change::last_of_any(change::holders(&key), 40_000).into_query();
        for select in [one, any] {
            let told = explained(&fixture, select, false).await;
            assert!(told.contains("change_in_order") && !told.contains("change_pkey"), "{told}");
        }
    })
    .await;
}

/// What no index leads to is read as it lies where few fit, and walked to where many do; both find the same.
#[tokio::test]
async fn the_few_of_a_negation_are_found_without_a_walk() {
    on_each::<Migrator>(async |fixture| {
        if !fixture.is_postgres() {
            return;
        }
        fill(&fixture, 2_000).await;
        for (filter, fit, are_few) in [
            ("NOT environment = prod", 0, true),
            ("environment = prod AND NOT labels.cost-centre = \"v*\"", 0, true),
            ("framework = langgraph AND NOT labels.region = v2", 0, false),
            ("NOT labels.tier = v1", 0, false),
        ] {
            for by in [OrderedBy::Name, OrderedBy::Created] {
                let which = Which { numbered: 2_000, ..which(filter, by, "") };
                let walk = search(&fixture, &which);
                let select = walk.select(walk.sources()[0], None, 101);
                let read = fixture.db.read("test", |tx| {
                    let which = which.clone();
                    let select = select.clone();
                    Box::pin(async move {
                        let search = Search::plan(tx, &which).await?;
                        let lies = matches!(search.drive, Drive::Few(_));
                        let found = search.page(tx, None, 101).await?;
                        let walked = tx.query_all(&select).await?;
                        let id = |row: &QueryResult| row.try_get::<String>("", "id");
                        let walked = walked.iter().map(id).collect::<Result<Vec<_>, _>>()?;
                        Ok((
                            lies,
                            search.count(tx).await?,
                            found.into_iter().map(|row| row.id).collect::<Vec<_>>(),
                            walked,
                        ))
                    })
                });
                let (lies, count, found, walked) = read.await.map_err(of_tx).unwrap();
                assert_eq!(found, walked, "{filter} {by:?}");
                // By time, what an index leads to is looked up sooner.
                assert!(lies == are_few || by != OrderedBy::Name, "{filter} {by:?}");
                let counts = |count| if are_few { count == fit } else { count > 200 };
                assert!(count.is_some_and(counts), "{filter} {by:?}: {count:?}");
            }
        }
    })
    .await;
}

/// Prints how long lists of 100,000 agents take on PostgreSQL, before and after statistics are gathered: of five the
/// median and the longest, planned, counted and read each time.
#[tokio::test]
#[ignore = "takes a while; prints figures"]
#[allow(clippy::print_stdout, reason = "figures are for people")]
async fn lists_of_a_hundred_thousand() {
    on_each::<Migrator>(async |fixture| {
        if !fixture.is_postgres() {
            return;
        }
        fill(&fixture, 100_000).await;
        for statistics in [false, true] {
            if statistics {
                let gather = fixture
                    .db
                    .tx("test", |tx| Box::pin(async move { Ok(tx.execute_unprepared("ANALYZE").await.map(drop)?) }));
                gather.await.map_err(of_tx).unwrap();
            }
            println!("with statistics: {statistics}");
            for (filter, namespace, by) in asked() {
                let which = Which { numbered: 100_000, ..which(filter, by, namespace) };
                let (mut times, mut found) = (Vec::new(), None);
                for _ in 0..5 {
                    let which = which.clone();
                    let began = Instant::now();
                    let read = fixture.db.read("test", |tx| {
                        Box::pin(async move {
                            let search = Search::plan(tx, &which).await?;
                            let count = search.count(tx).await?;
                            Ok((search.page(tx, None, 101).await?.len(), count))
                        })
                    });
                    found = Some(read.await.map_err(of_tx).unwrap());
                    times.push(began.elapsed());
                }
                times.sort();
                println!("{:>8.1?} {:>8.1?} {found:?} {namespace:<8} {by:?} {filter}", times[2], times[4]);
            }
        }
    })
    .await;
}
