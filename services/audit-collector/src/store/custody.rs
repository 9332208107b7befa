//! What of a person is in the index, what is held, and how a person is forgotten.
//!
//! A person is what the vault calls it: `user:~` and hexadecimal digits, so that it can stand in a statement as it is.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_personal::ERASED;
use sea_orm::ConnectionTrait as _;

use super::event::{signed, unsigned};
use super::posting;
use crate::domain::entry::Link;
use crate::domain::posting::Field;
use crate::domain::retention::WEEK;

/// What the index knows of a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) events: u64,
    pub(crate) first: Option<Timestamp>,
    pub(crate) last: Option<Timestamp>,
}

/// How many events name a person, and between which times they are.
pub(crate) async fn named<E>(tx: &Tx, person: &str) -> TxResult<Named, E> {
    let of = of_person(person);
    let sql = format!("SELECT COUNT(*), MIN(e.time), MAX(e.time) FROM {of}");
    let Some(row) = tx.query_one_raw(statement(tx, sql)).await? else { return Ok(Named::default()) };
    let time = |at| row.try_get_by_index::<Option<i64>>(at).map(|time| time.map(Timestamp::from_micros));
    Ok(Named { events: unsigned(row.try_get_by_index(0)?), first: time(1)?, last: time(2)? })
}

/// For each of these persons one event that names it.
pub(crate) async fn examples<E>(tx: &Tx, persons: &[String]) -> TxResult<Vec<(String, u64)>, E> {
    let mut all = Vec::new();
    for some in persons.chunks(500) {
        let list: Vec<String> = some.iter().map(|person| format!("'{}'", literal(person))).collect();
        let (link, list) = (Link::Person.number(), list.join(", "));
        let sql =
            format!("SELECT value, MIN(leaf) FROM event_link WHERE link = {link} AND value IN ({list}) GROUP BY value");
        for row in tx.query_all_raw(statement(tx, sql)).await? {
            all.push((row.try_get_by_index(0)?, unsigned(row.try_get_by_index(1)?)));
        }
    }
    Ok(all)
}

/// Persons and weeks of events before a moment, as far as the index still knows them.
pub(crate) async fn known_weeks<E>(tx: &Tx, before: Timestamp) -> TxResult<Vec<(String, u32)>, E> {
    let (link, time) = (Link::Person.number(), before.micros());
    let sql = format!(
        "SELECT DISTINCT l.value, e.time / {WEEK} FROM event_link l JOIN indexed_event e ON e.leaf = l.leaf \
         WHERE l.link = {link} AND e.time < {time}"
    );
    let rows = tx.query_all_raw(statement(tx, sql)).await?;
    let read = |row: &sea_orm::QueryResult| -> Result<(String, u32), sea_orm::DbErr> {
        Ok((row.try_get_by_index(0)?, u32::try_from(row.try_get_by_index::<i64>(1)?).unwrap_or(0)))
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Puts `erased` in the place of a person in every row of leaves before `leaf`; with a week, in rows of that week.
pub(crate) async fn forget<E>(tx: &Tx, person: &str, leaf: u64, week: Option<u32>) -> TxResult<(), E> {
    let (person, link, leaf) = (literal(person), Link::Person.number(), signed(leaf));
    let (mut leaves, mut hours) = (format!("SELECT l.leaf FROM {}", of_person(person)), String::new());
    leaves += &format!(" AND l.leaf < {leaf}");
    if let Some(week) = week {
        let (from, to) = (i64::from(week) * WEEK, (i64::from(week) + 1) * WEEK);
        leaves += &format!(" AND e.time >= {from} AND e.time < {to}");
        hours = format!(" AND hour >= {} AND hour < {}", from / HOUR, to / HOUR);
    }
    let replaced = |column: &str| format!("{column} = replace({column}, '{person}', '{ERASED}')");
    let columns: Vec<String> = ["subject", "actor", "resource_id", "action"].into_iter().map(replaced).collect();
    let others: Vec<String> =
        [Link::Chain, Link::Grant, Link::Credential].iter().map(|l| l.number().to_string()).collect();
    let others = others.join(", ");
    let moved = moved(tx, person, &leaves, &others).await?;
    for ((field, old, new), leaves) in moved {
        posting::rename(tx, field, (&old, &new), &leaves).await?;
    }
    let all = [
        format!("UPDATE indexed_event SET {} WHERE leaf IN ({leaves})", columns.join(", ")),
        format!(
            "INSERT INTO event_link (leaf, link, value) SELECT leaf, link, '{ERASED}' FROM event_link \
             WHERE link IN ({others}) AND value = '{person}' AND leaf IN ({leaves}) ON CONFLICT DO NOTHING"
        ),
        format!("DELETE FROM event_link WHERE link IN ({others}) AND value = '{person}' AND leaf IN ({leaves})"),
        format!(
            "INSERT INTO usage_hour (hour, agent_id, namespace, action, resource_type, outcome, subject, count, first_time, \
             last_time) SELECT hour, agent_id, namespace, action, resource_type, outcome, '{ERASED}', count, first_time, \
             last_time FROM usage_hour WHERE subject = '{person}'{hours} \
             ON CONFLICT (hour, agent_id, namespace, action, resource_type, outcome, subject) DO UPDATE SET \
             count = usage_hour.count + excluded.count, \
             first_time = CASE WHEN excluded.first_time < usage_hour.first_time THEN excluded.first_time \
             ELSE usage_hour.first_time END, \
             last_time = CASE WHEN excluded.last_time > usage_hour.last_time THEN excluded.last_time \
             ELSE usage_hour.last_time END"
        ),
        format!("DELETE FROM usage_hour WHERE subject = '{person}'{hours}"),
        // Last: it is what the others are found by.
        format!("DELETE FROM event_link WHERE link = {link} AND value = '{person}' AND leaf IN ({leaves})"),
    ];
    for sql in all {
        tx.execute_unprepared(&sql).await?;
    }
    Ok(())
}

const HOUR: i64 = 3_600_000_000;

/// A text of a field, and what stands in its place.
type Renamed = (Field, String, String);

/// What events of these leaves are found by that names the person, each with the leaves.
async fn moved<E>(tx: &Tx, person: &str, leaves: &str, others: &str) -> TxResult<BTreeMap<Renamed, BTreeSet<u64>>, E> {
    let mut moved: BTreeMap<Renamed, BTreeSet<u64>> = BTreeMap::new();
    let sql = format!("SELECT leaf, subject, actor, resource_id, action FROM indexed_event WHERE leaf IN ({leaves})");
    for row in tx.query_all_raw(statement(tx, sql)).await? {
        let leaf = unsigned(row.try_get_by_index(0)?);
        for (at, field) in (1..).zip([Field::Subject, Field::Actor, Field::ResourceId, Field::Action]) {
            let Some(old) = row.try_get_by_index::<Option<String>>(at)? else { continue };
            let new = old.replace(person, ERASED);
            if new != old {
                moved.entry((field, old, new)).or_default().insert(leaf);
            }
        }
    }
    let sql = format!(
        "SELECT link, leaf FROM event_link WHERE link IN ({others}) AND value = '{person}' AND leaf IN ({leaves})"
    );
    for row in tx.query_all_raw(statement(tx, sql)).await? {
        if let Some(field) = Link::of(row.try_get_by_index(0)?).and_then(Field::of) {
            let name = (field, person.to_owned(), ERASED.to_owned());
            moved.entry(name).or_default().insert(unsigned(row.try_get_by_index(1)?));
        }
    }
    Ok(moved)
}

/// The links of a person, `l`, and their events, `e`.
fn of_person(person: &str) -> String {
    let (link, person) = (Link::Person.number(), literal(person));
    format!("event_link l JOIN indexed_event e ON e.leaf = l.leaf WHERE l.link = {link} AND l.value = '{person}'")
}

/// What the vault calls a person; anything else finds nobody.
pub(super) fn literal(person: &str) -> &str {
    let is_one = person.bytes().all(|b| b.is_ascii_alphanumeric() || b == b':' || b == b'~');
    if is_one { person } else { "" }
}

pub(super) fn statement(tx: &Tx, sql: String) -> sea_orm::Statement {
    sea_orm::Statement::from_string(tx.get_database_backend(), sql)
}
