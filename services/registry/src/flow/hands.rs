//! Whose work an object is: everybody who declared it, or ever changed what is declared of it so that it may give more, in the versions
//! that are kept and in those that are not; nobody approves or certifies his own work.

use std::collections::{BTreeMap, BTreeSet};

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind};

use crate::domain::check;
use crate::domain::review::is_only_less;
use crate::store::{broken, change, declarer};

/// Versions that are read at once.
const AT_ONCE: u64 = 100;

/// Of which kinds somebody may be asked about his own work: agents, and whatever gives them something.
fn is_asked_about(kind: Option<Kind>) -> bool {
    use Kind::{Agent, AgentClass, DelegationGrant, Group, Role, RoleBinding};
    kind.is_some_and(|kind| [Agent, AgentClass, DelegationGrant, Group, Role, RoleBinding].contains(&kind))
}

/// Who wrote an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    /// Those whose work it is.
    pub(super) by: BTreeSet<String>,
    /// Those who took something away, or said it in other words.
    pub(super) less_by: BTreeSet<String>,
}

/// Everybody whose work an object is. Of an agent that an agent made, those above it are among them, by their ids.
pub(super) async fn hands(tx: &Tx, id: &str) -> TxResult<Work, Fault> {
    let mut all = declarers(tx, id, i64::MAX).await?;
    all.by.append(&mut declarer::of(tx, id).await?);
    Ok(all)
}

/// The same in the versions that are kept up to a revision. Of the first of them, where it is not the object's first, nobody can tell
/// whether it changed what is declared: that was told when those before it went.
pub(super) async fn declarers(tx: &Tx, id: &str, up_to: i64) -> TxResult<Work, Fault> {
    let (mut last, mut after, mut found): (Option<(Declaration, i32)>, _, _) = (None, None, Work::default());
    loop {
        let versions = change::of_object(tx, id, after, true, AT_ONCE).await?;
        for version in versions.iter().take_while(|version| version.revision <= up_to) {
            let mut declared = version.declaration()?;
            if !is_asked_about(declared.kind()) {
                return Ok(found);
            }
            let mut sanctioned = 0;
            if let Some(Object::Agent(agent)) = &declared.object {
                found.by.extend(agent.status.iter().flat_map(|status| status.ancestors.iter().cloned()));
                // Whoever adopts an agent declares it, also where all that he says of it was said when it was found.
                sanctioned = agent.status.as_ref().map_or(0, |status| status.sanctioned_status);
            }
            let metadata = declared.metadata().cloned().unwrap_or_default();
            // A step in its life changes nothing of what is declared, nor does it to take it back.
            check::strip_output_only(&mut declared);
            let is_known = last.is_some() || metadata.version == 1;
            // Who takes something away, or says it in other words, gives nobody anything.
            let is_less = last.as_ref().is_some_and(|(was, _)| is_only_less(was, &declared));
            let now = Some((declared, sanctioned));
            if is_known && last != now {
                let whose = if is_less { &mut found.less_by } else { &mut found.by };
                whose.insert(metadata.updated_by);
            }
            last = now;
        }
        match versions.last() {
            Some(newest) if versions.len() as u64 == AT_ONCE && newest.revision <= up_to => {
                after = Some((newest.revision, newest.place));
            }
            _ => return Ok(found),
        }
    }
}

/// Whose work several objects are, each read once.
#[derive(Debug, Default)]
pub(super) struct Hands(BTreeMap<String, Work>);

impl Hands {
    /// Everybody whose work an object is.
    pub(super) async fn of(&mut self, tx: &Tx, id: &str) -> TxResult<BTreeSet<String>, Fault> {
        Ok(self.work(tx, id).await?.by.clone())
    }

    /// Whoever is named as its last writer, unless he is known to have given nothing by that: of what is no longer kept nobody can tell.
    pub(super) async fn last(&mut self, tx: &Tx, id: &str, named: &str) -> TxResult<Option<String>, Fault> {
        let is_less = self.work(tx, id).await?.less_by.contains(named);
        Ok(Some(named.to_owned()).filter(|_| !is_less))
    }

    async fn work(&mut self, tx: &Tx, id: &str) -> TxResult<&Work, Fault> {
        if !self.0.contains_key(id) {
            self.0.insert(id.to_owned(), hands(tx, id).await?);
        }
        self.0.get(id).ok_or_else(|| broken("whose work an object is was not kept"))
    }
}
