//! PostgreSQL is kept on the way that the tables are laid out for, whatever it believes of them.
//!
//! It chooses by statistics, which are missing until somebody gathers them (autovacuum, or `ANALYZE`), and are old after a
//! large load. Taking a filter for one that nearly nothing fits, it compares each row of one table with each of another.
//! SQLite, which has no statistics here either, keeps the order of tables that are joined across.

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use sea_orm::sea_query::{Asterisk, IntoCondition, Query, SelectStatement};
use sea_orm::{Condition, ConnectionTrait as _, DbBackend, EntityTrait, JoinType};

/// Until the transaction ends, rows come out of an index, in its order where that is asked for. What costs so much by this
/// measure is not worth compiling for it.
const BY_INDEX: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; \
                        SET LOCAL enable_incremental_sort = off; SET LOCAL jit = off";

/// Has the rest of a transaction read by the indexes of its tables.
pub(crate) async fn by_index(tx: &Tx) -> TxResult<(), Fault> {
    if tx.get_database_backend() == DbBackend::Postgres {
        tx.execute_unprepared(BY_INDEX).await?;
    }
    Ok(())
}

/// Joins to each row that was found the one row of another table that belongs to it: it is looked up for each, one by one.
pub(crate) fn look_up<E: EntityTrait>(select: &mut SelectStatement, table: E, own: Condition, backend: DbBackend) {
    if backend == DbBackend::Postgres {
        let mut one = Query::select();
        // A table with a limit is not taken apart, nor read before what it belongs to.
        one.column(Asterisk).from(table).cond_where(own).limit(1);
        select.join_lateral(JoinType::InnerJoin, one, table, Condition::all().into_condition());
    } else {
        select.cross_join(table).cond_where(own);
    }
}
