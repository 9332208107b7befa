//! Names that have had their time are erased, but for those that are held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use legate_rpc::Fault;
use legate_wire::audit::{AuditEvent, Outcome};
use tokio::time::{Instant, timeout_at};

use super::{Desk, database};
use crate::domain::entry::NAMES_ENDED;
use crate::error::of_index;
use crate::index::NotRead;
use crate::personal::Ending;
use crate::store::hold;

/// How often it is looked, by the collector's clock.
const EVERY: Duration = Duration::from_secs(24 * 3_600);

/// How often it is seen whether it is time, and how long the index may take to be where the log is.
const LOOK: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Keys that were destroyed, and keys whose time is over and that are held.
    pub(crate) ended: u64,
    pub(crate) held: u64,
}

/// Ends what has had its time, for as long as the process lives.
pub(crate) async fn retain_forever(desk: Arc<Desk>) {
    let mut next = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = desk.clock.now();
        if next.is_some_and(|next| now < next) {
            continue;
        }
        match retain(&desk).await {
            Ok(_) => next = Some(now.plus(EVERY)),
            Err(error) => {
                tracing::warn!(%error, "names that have had their time are not erased yet; it is tried again")
            }
        }
    }
}

/// Ends what has had its time now. A run that finds nothing says nothing.
#[tracing::instrument(skip_all)]
pub(crate) async fn retain(desk: &Desk) -> Result<Ran, Fault> {
    let _alone = desk.custody.lock().await;
    let over = desk.log.vault().ended(desk.clock.now());
    if over.is_empty() {
        return Ok(Ran::default());
    }
    // Holds and what they hold are looked up, so the index has to know all of both.
    let (size, mut through) = (desk.log.size(), desk.index.through());
    let is_there = timeout_at(Instant::now() + PATIENCE, through.wait_for(|through| *through >= size))
        .await
        .is_ok_and(|reached| reached.is_ok());
    if !is_there {
        return Err(Fault::broken("the index is behind the log"));
    }
    let persons: BTreeSet<String> = over.iter().map(|(_, person)| person.clone()).collect();
    let asked = Arc::new(persons);
    let db = database(desk)?;
    let reading = db.read("retention_holds", move |tx| {
        let persons = Arc::clone(&asked);
        Box::pin(async move {
            let mut held = BTreeSet::new();
            if hold::count(tx).await? > 0 {
                for person in persons.iter() {
                    if !hold::on(tx, person).await?.is_empty() {
                        held.insert(person.clone());
                    }
                }
            }
            Ok::<_, NotRead>(held)
        })
    });
    let held = reading.await.map_err(of_index)?;
    let all = over.len() as u64;
    let slots: Vec<u32> = over.into_iter().filter(|(_, person)| !held.contains(person)).map(|(slot, _)| slot).collect();
    let ran = Ran { ended: slots.len() as u64, held: all - slots.len() as u64 };
    let details = BTreeMap::from([("held".to_owned(), ran.held.to_string())]);
    let event = AuditEvent {
        r#type: NAMES_ENDED.to_owned(),
        outcome: Outcome::Success.into(),
        details,
        ..AuditEvent::default()
    };
    desk.log.end(Ending { person: None, slots, event }).await?;
    Ok(ran)
}
