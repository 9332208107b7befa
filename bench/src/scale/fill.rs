//! Very many agents written beneath a registry that is down, so that what they cost it is measured without loading them.

use std::path::Path;

use legate_db::{Db, Options, Tx, TxError};
use legate_ids::AgentId;
use legate_wire::registry as wire;
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement, Value};
use wire::declaration::Object;

use super::declared;
use crate::Failed;

/// Agents of one revision, and rows in one transaction.
const IN_REVISION: u32 = 500;
/// Rows in one statement.
const AT_ONCE: usize = 125;

/// One agent's row in each table, as the registry writes them; the facts that lists are searched by are left out.
struct Row {
    id: String,
    namespace: String,
    name: String,
    body: Vec<u8>,
    number: i64,
}

/// The facts of an object of which none is kept, as one row of bytes.
const NO_FACTS: [u8; 1] = [0xFF];

/// Writes the agents from `from` to `to`, as the registry would have at revisions of their own: each like `one`, which the
/// registry wrote itself, with an id, a name and a declaration of its own.
pub(crate) async fn agents(database: &Path, one: &wire::Agent, from: u32, to: u32) -> Result<(), Failed> {
    let db = Db::open(&format!("sqlite:{}", database.display()), Options::default()).await?;
    for first in (from..to).step_by(IN_REVISION as usize) {
        let one = one.clone();
        let filled = db.tx("fill", move |tx| {
            let one = one.clone();
            Box::pin(async move { revision(tx, &one, first..to.min(first + IN_REVISION)).await })
        });
        filled.await.map_err(|e| e.to_string())?;
    }
    db.close().await;
    Ok(())
}

type Ran = Result<(), TxError<std::io::Error>>;

async fn revision(tx: &Tx, one: &wire::Agent, numbers: std::ops::Range<u32>) -> Ran {
    let ask = "SELECT revision, written_at, numbered FROM head";
    let head = tx.query_one_raw(Statement::from_string(DbBackend::Sqlite, ask));
    let head = head.await?.ok_or_else(|| TxError::Flow(std::io::Error::other("the registry has no head")))?;
    let (revision, time): (i64, i64) = (head.try_get_by_index::<i64>(0)? + 1, head.try_get_by_index(1)?);
    let mut numbered: i64 = head.try_get_by_index(2)?;
    let mut rows: Vec<Row> = numbers.map(|n| row(one, n, revision)).collect();
    for row in &mut rows {
        numbered += 1;
        row.number = numbered;
    }
    for (chunk, some) in rows.chunks(AT_ONCE).enumerate() {
        let values = some.iter().flat_map(|row| {
            let text = |text: &String| Value::from(text.clone());
            let fixed = [Value::from(wire::Kind::Agent as i32), Value::from(wire::AgentState::Active as i32)];
            let [kind, state] = fixed;
            [
                text(&row.id),
                kind,
                text(&row.namespace),
                text(&row.name),
                state,
                revision.into(),
                row.body.clone().into(),
            ]
            .into_iter()
            .chain([Value::from(time), Value::from(time), row.number.into()])
        });
        let columns = "id, kind, namespace, name, state, revision, body, created_at, updated_at, number, holds_name, \
                       revoked";
        let sql = insert("object", columns, "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, TRUE, FALSE)", some.len());
        tx.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)).await?;
        let values = some.iter().flat_map(|row| {
            let (kind, facts) = (Value::from(wire::Kind::Agent as i32), Value::from(NO_FACTS.to_vec()));
            let texts = [&row.namespace, &row.name, &row.id].map(|text| Value::from(text.clone()));
            std::iter::once(kind).chain(texts).chain([row.number.into(), facts])
        });
        let sql = insert("listed", "kind, namespace, name, object_id, number, facts", "(?, ?, ?, ?, ?, ?)", some.len());
        tx.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)).await?;
        let values = some.iter().enumerate().flat_map(|(n, row)| {
            let place = i32::try_from(chunk * AT_ONCE + n).unwrap_or(0);
            [Value::from(revision), place.into(), row.id.clone().into(), row.body.clone().into()]
        });
        let sql = insert("change", "revision, place, object_id, body, revoked", "(?, ?, ?, ?, FALSE)", some.len());
        tx.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)).await?;
    }
    // Stands for these changes as well as any other 32 bytes that nothing else has.
    let history = [revision.to_be_bytes(); 4].concat();
    for (sql, values) in [
        (
            "UPDATE head SET revision = ?, history = ?, numbered = ?",
            vec![revision.into(), history.clone().into(), numbered.into()],
        ),
        (
            "INSERT INTO revision (revision, history, written_at) VALUES (?, ?, ?)",
            vec![revision.into(), history.into(), time.into()],
        ),
    ] {
        tx.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)).await?;
    }
    Ok(())
}

/// Rows of one statement.
pub(crate) fn insert(table: &str, columns: &str, place: &str, rows: usize) -> String {
    format!("INSERT INTO {table} ({columns}) VALUES {}", vec![place; rows].join(", "))
}

fn row(one: &wire::Agent, n: u32, revision: i64) -> Row {
    let mut agent = one.clone();
    if let (Object::Agent(declared), Some(metadata)) = (declared::agent(n), agent.metadata.as_mut()) {
        let given = declared.metadata.unwrap_or_default();
        let mut random = [0; 10];
        random[6..].copy_from_slice(&n.to_be_bytes());
        let made = metadata.create_time.map_or(0, |at| u64::try_from(at.seconds).unwrap_or(0) * 1_000);
        metadata.id = AgentId::from_parts(made + u64::from(n), random).to_string();
        metadata.revision = u64::try_from(revision).unwrap_or(0);
        (metadata.name, metadata.namespace, metadata.labels) = (given.name, given.namespace, given.labels);
        agent.spec = declared.spec;
        if let Some(status) = agent.status.as_mut() {
            status.spiffe_id = format!("spiffe://dev.legate.test/ns/{}/agent/{}", metadata.namespace, metadata.id);
        }
    }
    let metadata = agent.metadata.clone().unwrap_or_default();
    let body = wire::Declaration { object: Some(Object::Agent(agent)) }.encode_to_vec();
    Row { id: metadata.id, namespace: metadata.namespace, name: metadata.name, body, number: 0 }
}
