//! What the record of a decision costs its check: a record written to the journal before the answer, synced or not.

use legate_journal::{Durability, Journal, Options};

use crate::load::{self, Seen};
use crate::{Failed, Plan};

/// A record as a decision leaves it, in bytes.
const RECORD: usize = 600;
/// Checks that are answered at once.
const AT_ONCE: usize = 64;

async fn append(plan: Plan, durability: Durability, at_once: usize) -> Result<Seen, Failed> {
    let dir = tempfile::tempdir()?;
    let (journal, _) = Journal::open(&dir.path().join("spool"), Options::default())?;
    load::run(vec![journal; at_once], plan.time, move |journal| async move {
        journal.append(vec![vec![7; RECORD]], durability).await?;
        Ok(journal)
    })
    .await
}

/// Measures, and prints.
pub(crate) async fn measure(plan: Plan) -> Result<(), Failed> {
    println!("\nspool: records of {RECORD} bytes, one at a time and {AT_ONCE} at once");
    for (what, durability) in
        [("written before the answer", Durability::Written), ("synced before the answer", Durability::Synced)]
    {
        for at_once in [1, AT_ONCE] {
            load::line(&format!("{what}, {at_once} at once"), &[append(plan, durability, at_once).await?]);
        }
    }
    Ok(())
}
