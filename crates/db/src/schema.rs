//! Tables for both databases out of one text, for migrations.

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr};
use sea_orm_migration::SchemaManager;

/// Runs the statements of `sql`, which end in `;`, with each database's own words for `{TEXT}` (compared byte for byte, as
/// names and ids are), `{BYTES}` and `{BY_KEY}` (the rows rest in the order of the primary key, where the database can).
///
/// # Errors
/// When the database refuses a statement.
pub async fn create_tables(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let (text, bytes, by_key) = match db.get_database_backend() {
        DbBackend::Postgres => ("TEXT COLLATE \"C\"", "BYTEA", ""),
        _ => ("TEXT", "BLOB", "WITHOUT ROWID"),
    };
    let sql = sql.replace("{TEXT}", text).replace("{BYTES}", bytes).replace("{BY_KEY}", by_key);
    for statement in sql.split(';').filter(|s| !s.trim().is_empty()) {
        db.execute_unprepared(statement).await?;
    }
    Ok(())
}
