//! A change is planned at one revision and made at a later one: it is refused where what it speaks of was written in between.
//!
//! It speaks of what it gives, of what it takes away, and of what the objects that it gives name. Whatever else was written since
//! concerns other changes: a registry is written all the time.

use std::collections::{BTreeMap, BTreeSet};

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::Declaration;

use super::stage::{Known, Wanted};
use crate::domain::kind::{self, Key};
use crate::error::BASE_MOVED;
use crate::store::{object, refuse, unsigned};

/// Objects that are named in a refusal.
const NAMED: usize = 5;

/// When a change was planned, and where the registry is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// 0: nobody says.
    pub(super) at: u64,
    pub(super) newest: u64,
}

impl Planned {
    /// Refuses a change of what was written since.
    pub(super) async fn check(self, tx: &Tx, list: &[&Wanted], going: &[Key], known: &Known) -> TxResult<(), Fault> {
        if self.at == 0 {
            return Ok(());
        }
        if self.at > self.newest {
            // Of another registry, or of one that was set back to an earlier copy.
            let text = format!("planned at revision {}, and the registry is only at {}", self.at, self.newest);
            return Err(refuse(self.moved(text)));
        }
        let written = self.written(tx, list, going, known).await?;
        let mut named: Vec<String> = written
            .iter()
            .take(NAMED)
            .map(|(key, at)| format!("{} {key} at revision {at}", kind::kind_name(key.kind)))
            .collect();
        if written.len() > NAMED {
            named.push(format!("{} more", written.len() - NAMED));
        }
        if named.is_empty() {
            return Ok(());
        }
        let text = format!("planned at revision {}, and written since: {}", self.at, named.join(", "));
        Err(refuse(self.moved(text)))
    }

    fn moved(self, text: String) -> Fault {
        Fault::refused(&BASE_MOVED, text).with("revision", self.newest.to_string())
    }

    /// What of it was written since, also where it is no longer there.
    async fn written(
        self,
        tx: &Tx,
        list: &[&Wanted],
        going: &[Key],
        known: &Known,
    ) -> TxResult<BTreeMap<Key, u64>, Fault> {
        let going: BTreeSet<Key> = going.iter().cloned().collect();
        let leaving = object::by_keys(tx, going.clone()).await?;
        let mut spoken_of = going;
        for one in list {
            spoken_of.insert(one.key.clone());
            let named = kind::references(&one.declaration).into_iter().chain(kind::elsewhere(&one.declaration));
            spoken_of.extend(named.map(|(_, to)| to));
        }
        let at = |declaration: &Declaration| declaration.metadata().map_or(0, |metadata| metadata.revision);
        let (mut written, mut missing) = (BTreeMap::new(), BTreeSet::new());
        for key in spoken_of {
            let held = known.get(&key).map(at).or_else(|| leaving.get(&key).map(|row| unsigned(row.revision)));
            match held {
                Some(at) if at > self.at => drop(written.insert(key, at)),
                Some(_) => {}
                None => drop(missing.insert(key)),
            }
        }
        written.extend(object::given_up_since(tx, missing, self.at).await?);
        Ok(written)
    }
}
