//! What the caller may do, by the operator bindings in force at the transaction's own revision.

use std::sync::Arc;

use legate_authority::{Place, Reach, Right, Rights};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::Name;
use legate_rpc::{BREAK_GLASS_REFUSED, Fault, OPERATOR_NOT_PERMITTED};
use legate_wire::registry::Kind;
use legate_wire::registry::declaration::Object;

use super::By;
use crate::domain::operators::Operators;
use crate::store::{head, object, refuse};

/// Operator bindings in force at once: all of them are read whenever one changes.
pub(super) const MOST: u64 = 10_000;

/// The bindings as they were last read, under what stands for every change up to the last of theirs.
#[derive(Debug, Default)]
pub(crate) struct Known(parking_lot::Mutex<Option<(Option<Vec<u8>>, Arc<Operators>)>>);

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
}

/// What a caller may do at one revision.
#[derive(Clone, Debug)]
pub(crate) struct Mandate {
    actor: String,
    /// `None`: no operator, but a service that the access table let in, or the registry itself.
    rights: Option<Rights>,
}

impl Mandate {
    /// What `by` may do at `now`.
    ///
    /// # Errors
    /// `BREAK_GLASS_REFUSED` when an emergency is stated by one who may not.
    pub(crate) fn of(by: &By, operators: &Operators, now: Timestamp) -> Result<Self, Fault> {
        let rights = match &by.operator {
            None => None,
            Some(Operator { name, emergency: None }) => Some(operators.rights(name, now)),
            Some(Operator { name, emergency: Some(_) }) => {
                let broken = operators.rights(name, now).in_emergency();
                let text = || format!("{} states an emergency, and was not given BREAK_GLASS", by.actor);
                Some(broken.ok_or_else(|| Fault::refused(&BREAK_GLASS_REFUSED, text()))?)
            }
        };
        Ok(Self { actor: by.actor.clone(), rights })
    }

    /// Whether it suffices.
    pub(crate) fn may(&self, right: Right, place: Place<'_>) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.may(right, place))
    }

    /// Refuses what it does not suffice for, and names what is missing.
    ///
    /// # Errors
    /// `OPERATOR_NOT_PERMITTED`.
    pub(crate) fn demand(&self, right: Right, place: Place<'_>) -> Result<(), Fault> {
        if self.may(right, place) {
            return Ok(());
        }
        let namespace = match place {
            Place::Everywhere => "",
            Place::In(namespace) => namespace,
        };
        let text = format!("{} needs the right {} {place}", self.actor, right.word());
        Err(Fault::refused(&OPERATOR_NOT_PERMITTED, text).with("right", right.word()).with("namespace", namespace))
    }

    /// What it lets the caller see.
    pub(crate) fn sees(&self) -> Reach {
        self.rights.as_ref().map_or(Reach::Everywhere, |rights| rights.reach(Right::Read))
    }
}

/// The mandate of `by` where the transaction looks.
pub(crate) async fn mandate(
    known: &Known,
    tx: &Tx,
    head: &head::Model,
    by: &By,
    now: Timestamp,
) -> TxResult<Mandate, Fault> {
    let operators = match by.operator {
        Some(_) => known.at(tx, head).await?,
        None => Arc::default(),
    };
    Mandate::of(by, &operators, now).map_err(refuse)
}
