//! What the caller may do, by the operator bindings in force at the transaction's own revision.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::Name;
use legate_rpc::{Fault, Mandate};
use legate_view::CALLER_REVOKED;
use legate_wire::registry::Kind;
use legate_wire::registry::declaration::Object;

use super::By;
use crate::domain::lineage;
use crate::domain::operators::Operators;
use crate::store::{head, object, reference, refuse};

/// Operator bindings in force at once: all of them are read whenever one changes.
pub(super) const MOST: u64 = 10_000;

/// The bindings as they were last read, under what stands for every change up to the last of theirs.
#[derive(Debug, Default)]
pub(crate) struct Known(parking_lot::Mutex<Option<Last>>);

/// What stood for the bindings when they were read, and what they gave.
type Last = (Option<Vec<u8>>, Arc<Operators>);

impl Known {
    /// The bindings in force where the transaction looks.
    pub(crate) async fn at(&self, tx: &Tx, head: &head::Model) -> TxResult<Arc<Operators>, Fault> {
        if let Some((history, operators)) = &*self.0.lock()
            && *history == head.operators
        {
            return Ok(Arc::clone(operators));
        }
        let operators = Arc::new(read(tx).await?.0);
        // Where nothing stands for them they are read each time.
        if head.operators.is_some() {
            *self.0.lock() = Some((head.operators.clone(), Arc::clone(&operators)));
        }
        Ok(operators)
    }

    /// Takes these for the bindings of a registry in which none was ever written.
    #[cfg(test)]
    pub(crate) fn from_the_start(operators: Operators) -> Self {
        Self(parking_lot::Mutex::new(Some((None, Arc::new(operators)))))
    }
}

/// The bindings in force, from the database; and how many there are.
pub(super) async fn read(tx: &Tx) -> TxResult<(Operators, u64), Fault> {
    let rows = object::in_force(tx, Kind::OperatorBinding, MOST + 1).await?;
    let mut bindings = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(Object::OperatorBinding(binding)) = row.declaration()?.object {
            bindings.push(binding);
        }
    }
    Ok((Operators::of(&bindings), bindings.len() as u64))
}

/// An operator who calls.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) name: Name,
    /// The emergency that he states.
    pub(crate) emergency: Option<String>,
    /// SHA-256 of the certificate that he shows.
    pub(crate) certificate: [u8; 32],
}

/// The mandate of `by` where the transaction looks.
pub(crate) async fn mandate(
    known: &Known,
    tx: &Tx,
    head: &head::Model,
    by: &By,
    now: Timestamp,
) -> TxResult<Mandate, Fault> {
    let Some(operator) = &by.operator else {
        return Ok(Mandate::of_service(&by.actor));
    };
    // Only those of operators who logged in are ever taken back, and these only here: what they may do is judged nowhere before.
    if !reference::from(tx, &lineage::certificate(&operator.certificate), 1).await?.is_empty() {
        return Err(refuse(Fault::refused(&CALLER_REVOKED, format!("the certificate of {} was revoked", by.actor))));
    }
    let rights = known.at(tx, head).await?.rights(&operator.name, now);
    Mandate::of_operator(&by.actor, rights, operator.emergency.as_deref()).map_err(refuse)
}
