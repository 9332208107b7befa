//! Many rows of one table: written, found and removed by as few statements as each database is quickest with.
//!
//! SQLite lies in this process, so a statement costs little, and takes so many rows at a time that the values of all of them
//! fit. PostgreSQL is a journey away, and plans a statement by its text: there the rows are one array for each column
//! (`SELECT UNNEST($1), UNNEST($2), ...`), so that one short text, which is planned once, is for any number of rows.

use sea_orm::sea_query::{
    ArrayType, Expr, ExprTrait as _, Func, OnConflict, Query, SelectStatement, SimpleExpr, Value,
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ColumnType, ConnectionTrait, DbBackend, DbErr, EntityTrait, IntoActiveModel,
    Iterable as _, PrimaryKeyToColumn as _,
};

/// Rows of one statement: enough that the way to the database is short, few enough that the values of every table fit, and
/// always the same number, so that the statement is prepared once.
const AT_ONCE: usize = 128;
/// Rows of one statement on PostgreSQL: so many bytes are in memory twice.
const IN_ARRAYS: usize = 2_048;
/// Stands for "none" in an array of numbers, which sea-query takes without gaps.
const NONE: i64 = i64::MIN;

/// Many things, in pieces of which each fits into one statement.
pub fn pieces<T>(all: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    of_size(all, AT_ONCE)
}

fn of_size<T>(all: Vec<T>, size: usize) -> impl Iterator<Item = Vec<T>> {
    let mut rest = all.into_iter();
    std::iter::from_fn(move || {
        let some: Vec<T> = rest.by_ref().take(size).collect();
        (!some.is_empty()).then_some(some)
    })
}

/// Writes rows; `conflict` says what becomes of those whose key is there.
///
/// # Errors
/// The database's; without `conflict`, also a key that is there.
pub async fn insert<E>(
    tx: &impl ConnectionTrait,
    rows: Vec<E::Model>,
    conflict: Option<&OnConflict>,
) -> Result<(), DbErr>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
{
    let columns: Vec<E::Column> = E::Column::iter().collect();
    let size = if tx.get_database_backend() == DbBackend::Postgres { IN_ARRAYS } else { AT_ONCE };
    for some in of_size(rows, size) {
        let mut insert = Query::insert();
        insert.into_table(E::default()).columns(columns.iter().copied());
        let rows = some.into_iter().map(|row| values::<E>(row.into_active_model(), &columns)).collect();
        match tx.get_database_backend() {
            DbBackend::Postgres => {
                let select = arrays::<E>(&columns, rows)?;
                insert.select_from(select).map_err(|e| DbErr::Custom(e.to_string()))?;
            }
            _ => {
                for row in rows {
                    let row = row.into_iter().map(Expr::val);
                    insert.values(row).map_err(|e| DbErr::Custom(e.to_string()))?;
                }
            }
        }
        if let Some(conflict) = conflict {
            insert.on_conflict(conflict.clone());
        }
        tx.execute(&insert).await?;
    }
    Ok(())
}

/// Removes the rows that have the primary keys of these.
///
/// # Errors
/// The database's.
pub async fn remove<E>(tx: &impl ConnectionTrait, rows: Vec<E::Model>) -> Result<(), DbErr>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
{
    let keys: Vec<E::Column> = E::PrimaryKey::iter().map(|key| key.into_column()).collect();
    let tuple = || Expr::tuple(keys.iter().map(|key| Expr::col(*key)));
    let keys_of = |row: E::Model| values::<E>(row.into_active_model(), &keys);
    if tx.get_database_backend() == DbBackend::Postgres {
        for some in of_size(rows, IN_ARRAYS) {
            let select = arrays::<E>(&keys, some.into_iter().map(keys_of).collect())?;
            let mut delete = Query::delete();
            delete.from_table(E::default()).cond_where(tuple().in_subquery(select));
            tx.execute(&delete).await?;
        }
        return Ok(());
    }
    for row in rows {
        let mut delete = Query::delete();
        delete.from_table(E::default());
        for (key, value) in keys.iter().zip(keys_of(row)) {
            delete.and_where(Expr::col(*key).eq(value));
        }
        tx.execute(&delete).await?;
    }
    Ok(())
}

/// That a column is one of these.
pub fn among<C: ColumnTrait>(tx: &impl ConnectionTrait, column: C, texts: Vec<String>) -> SimpleExpr {
    match tx.get_database_backend() {
        DbBackend::Postgres => column.eq_any(texts),
        _ => column.is_in(texts),
    }
}

/// The values of a row, in the order of the columns.
fn values<E: EntityTrait>(mut row: E::ActiveModel, columns: &[E::Column]) -> Vec<Value> {
    let missing = || Value::BigInt(None);
    columns.iter().map(|column| row.take(*column).into_value().unwrap_or_else(missing)).collect()
}

/// The rows, as arrays side by side.
fn arrays<E: EntityTrait>(columns: &[E::Column], rows: Vec<Vec<Value>>) -> Result<SelectStatement, DbErr> {
    let mut select = Query::select();
    let mut rows: Vec<_> = rows.into_iter().map(Vec::into_iter).collect();
    for column in columns {
        let def = column.def();
        let unfit = |what: &str| DbErr::Type(format!("{}: {what} in an array", sea_orm::IdenStatic::as_str(column)));
        let kind = array_of(def.get_column_type()).ok_or_else(|| unfit("a column of this kind"))?;
        let mut all: Vec<Value> = rows.iter_mut().filter_map(Iterator::next).collect();
        let gaps = def.is_null();
        if gaps && kind != ArrayType::BigInt {
            return Err(unfit("a column that may be empty, and is no number of 64 bits"));
        }
        if gaps {
            if all.contains(&Value::BigInt(Some(NONE))) {
                return Err(unfit("the lowest number, which stands for none"));
            }
            let filled = |value: &mut Value| *value = Value::BigInt(Some(NONE));
            all.iter_mut().filter(|value| **value == Value::BigInt(None)).for_each(filled);
        }
        let mut values: SimpleExpr = Func::cust("UNNEST").arg(Value::Array(kind, Some(Box::new(all)))).into();
        if gaps {
            values = Func::cust("NULLIF").args([values, Expr::val(NONE)]).into();
        }
        select.expr(values);
    }
    Ok(select)
}

fn array_of(column: &ColumnType) -> Option<ArrayType> {
    Some(match column {
        ColumnType::Boolean => ArrayType::Bool,
        ColumnType::SmallInteger => ArrayType::SmallInt,
        ColumnType::Integer => ArrayType::Int,
        ColumnType::BigInteger => ArrayType::BigInt,
        ColumnType::String(_) | ColumnType::Text => ArrayType::String,
        ColumnType::Blob | ColumnType::VarBinary(_) => ArrayType::Bytes,
        _ => return None,
    })
}
