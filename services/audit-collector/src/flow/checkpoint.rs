//! The newest checkpoint, which tells nothing of what is in the log, so that reading it is not recorded.

use legate_rpc::Fault;
use tokio::time::timeout_at;

use super::{Call, Desk, MARGIN};
use crate::error::{AGAIN, AUDIT_CHECKPOINT_BEHIND, AUDIT_NO_WITNESSES, AUDIT_NOT_COSIGNED};
use crate::log::{Published, Rotated};

/// Which one is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// The witnesses' quorum has to have cosigned it.
    pub(crate) cosigned: bool,
    /// It covers so many leaves.
    pub(crate) at_least: u64,
}

/// The newest checkpoint, once it is what is asked for, and the rotations of the log's key that its tree holds.
pub(crate) async fn newest(desk: &Desk, call: &Call, ask: Ask) -> Result<(Published, Vec<Rotated>), Fault> {
    can_be(desk, ask.cosigned)?;
    let newest = covering(desk, call, ask.cosigned, ask.at_least).await?;
    let size = newest.size;
    let rotations = desk.log.reading(move |log| log.prove_rotations(size)).await.map_err(Fault::broken)??;
    Ok((newest, rotations))
}

/// Refuses cosigned checkpoints where nobody is asked to cosign.
pub(super) fn can_be(desk: &Desk, cosigned: bool) -> Result<(), Fault> {
    if cosigned && !desk.cosigned.is_asked_for() {
        return Err(Fault::refused(&AUDIT_NO_WITNESSES, "no witnesses are configured".to_owned()));
    }
    Ok(())
}

/// Waits, within the deadline, until the newest checkpoint covers so many leaves; for a cosigned one the witnesses are asked soon.
pub(super) async fn covering(desk: &Desk, call: &Call, cosigned: bool, size: u64) -> Result<Published, Fault> {
    let until = call.deadline.checked_sub(MARGIN).unwrap_or(call.deadline);
    if cosigned {
        if let Some(found) = desk.cosigned.covering(size, until).await {
            return Ok(found);
        }
        let has = desk.cosigned.newest().map_or(0, |newest| newest.size);
        let text =
            format!("the newest checkpoint that the quorum cosigned covers {has} leaves, and {size} were asked for");
        return Err(Fault::unavailable(&AUDIT_NOT_COSIGNED, text, AGAIN).with("cosigned_size", has.to_string()));
    }
    let mut published = desk.log.published();
    let waiting = async { published.wait_for(|newest| newest.size >= size).await.ok().map(|newest| newest.clone()) };
    match timeout_at(until, waiting).await {
        Ok(Some(newest)) => Ok(desk.cosigned.of(newest)),
        _ => {
            let text = format!("no checkpoint covers {size} leaves yet");
            Err(Fault::unavailable(&AUDIT_CHECKPOINT_BEHIND, text, AGAIN))
        }
    }
}
