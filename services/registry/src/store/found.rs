//! What a write does to how objects are found: names that are taken and given up, facts that hold and no longer do.

use std::collections::BTreeSet;

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;

use super::{listed, term};
use crate::domain::kind::Key;
use crate::domain::terms::Fact;

/// All of one write.
#[derive(Debug, Default)]
pub(crate) struct Found {
    taken: Vec<listed::Model>,
    other: Vec<listed::Model>,
    given_up: Vec<listed::Model>,
    facts: Vec<term::Model>,
    gone: Vec<term::Model>,
}

impl Found {
    /// One object: the facts that it had and has; none where it did not or does not hold its name.
    pub(crate) fn add(
        &mut self,
        key: &Key,
        id: &str,
        number: i64,
        was: Option<BTreeSet<Fact>>,
        is: Option<BTreeSet<Fact>>,
    ) {
        match (&was, &is) {
            (None, Some(is)) => self.taken.push(listed::Model::of(key, id, number, is)),
            (Some(was), Some(is)) if was != is => self.other.push(listed::Model::of(key, id, number, is)),
            (Some(was), None) => self.given_up.push(listed::Model::of(key, id, number, was)),
            _ => {}
        }
        let (was, is) = (was.unwrap_or_default(), is.unwrap_or_default());
        self.gone.extend(was.difference(&is).map(|fact| term::Model::of(key, number, fact.clone())));
        self.facts.extend(is.difference(&was).map(|fact| term::Model::of(key, number, fact.clone())));
    }

    /// Writes it.
    pub(crate) async fn write(self, tx: &Tx) -> TxResult<(), Fault> {
        listed::remove(tx, self.given_up).await?;
        listed::change(tx, self.other).await?;
        listed::insert(tx, self.taken).await?;
        term::remove(tx, self.gone).await?;
        term::insert(tx, self.facts).await?;
        Ok(())
    }
}
