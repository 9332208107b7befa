//! The log's key is rotated before anything else is done with a log that was read: the leaf that says so, a checkpoint by the key
//! that follows, then that key in the place of the old one; killed anywhere between, the next start goes on where this one was.

use std::fs::File;

use legate_batch::rotated::{ROTATED, event};
use legate_clock::Timestamp;
use legate_journal::Durability;
use legate_merkle::Checkpoint;

use super::copy::CHECKPOINT;
use super::own::Own;
use super::publisher::Published;
use super::recover::{LogError, Recovered};
use super::truth::Truth;
use crate::domain::producers::Producer;
use crate::ledger::{Held, NotDone};

/// Lets the key that waits follow, where one does; the log is signed by its newest key when this returns.
pub(super) async fn settle(
    mut log: Recovered,
    truth: &mut Truth,
    lease: Option<&Held>,
    me: &Producer,
    now: Timestamp,
) -> Result<Recovered, LogError> {
    announce(&mut log, truth, me, now).await?;
    if log.keys.is_to_take_over() {
        log = on_a_thread(log, sign).await?;
        // Whoever leads next begins with it, whichever of the keys is on its disk.
        if let Some(held) = lease {
            let note = log.published.note.clone().into_bytes();
            held.put_note(CHECKPOINT, Some(note)).await.map_err(not_done)?;
        }
        log = on_a_thread(log, |log| log.keys.take_over()).await?;
        tracing::warn!(key = %log.keys.chain().newest(), "the log's key was rotated: whoever verifies the log has to learn of it");
    }
    if let Some(held) = lease {
        let key = log.keys.chain().newest().to_string();
        held.sign_with(key).await.map_err(not_done)?;
    }
    Ok(log)
}

/// Appends the leaf that both keys signed. It is in the log from then on that the next one signs, whatever becomes of the process.
async fn announce(log: &mut Recovered, truth: &mut Truth, me: &Producer, now: Timestamp) -> Result<(), LogError> {
    let failed = |why: String| LogError::NotRotated(why);
    let Some((rotation, reason)) = log.keys.announcement(log.tiler.size(), log.tiler.root())? else { return Ok(()) };
    let seq = log.producers.last(me).saturating_add(1);
    let (leaf, _) = Own::from_event(ROTATED, event(&rotation, &reason)).into_leaf(me, seq, now);
    truth.commit(std::slice::from_ref(&leaf), Vec::new()).await.map_err(not_done)?;
    let appended = log.shelf.journal.append(vec![leaf.clone()], Durability::Synced).await;
    let at = appended.map_err(|e| failed(e.to_string()))?;
    if at != rotation.size() {
        return Err(failed(format!("the journal gave place {at} where {} is next", rotation.size())));
    }
    log.tiler.push(leaf).map_err(|e| failed(e.to_string()))?;
    log.producers.advance(me.clone(), seq);
    log.mark.write(log.tiler.size()).map_err(|e| failed(e.to_string()))?;
    log.found.leaves = log.tiler.size();
    log.keys.announced(rotation)
}

/// The new key's first checkpoint, over everything that there is.
fn sign(log: &mut Recovered) -> Result<(), LogError> {
    let failed = |e: std::io::Error| LogError::NotRotated(e.to_string());
    log.keys.keep_chain()?;
    log.tiler.write_all().map_err(failed)?;
    let (size, root) = (log.tiler.size(), log.tiler.root());
    let note = Checkpoint::new(log.keys.chain().name(), size, root).sign(&**log.keys.signer())?.to_string();
    log.shelf.files.write_checkpoint(&note).map_err(failed)?;
    File::open(log.shelf.files.dir()).and_then(|dir| dir.sync_all()).map_err(failed)?;
    log.published = Published { size, root, note };
    Ok(())
}

/// It writes and syncs files.
async fn on_a_thread(
    mut log: Recovered,
    work: impl FnOnce(&mut Recovered) -> Result<(), LogError> + Send + 'static,
) -> Result<Recovered, LogError> {
    let done = tokio::task::spawn_blocking(move || work(&mut log).map(|()| log)).await;
    done.map_err(|e| LogError::Broken(e.to_string()))?
}

fn not_done(e: NotDone) -> LogError {
    LogError::NotRotated(e.to_string())
}
