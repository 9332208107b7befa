//! Events of some types, each as one emitter tells it, in the order of the log: what others are told of as it comes.

use std::convert::Infallible;

use legate_db::TxError;
use legate_wire::audit::AuditEvent;
use prost::Message as _;

use super::Desk;
use crate::store::event::{self, Voice};
use crate::store::head;

/// Some of them.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Each with its leaf.
    pub(crate) events: Vec<(u64, AuditEvent)>,
    /// All of them before this leaf are here, or came before.
    pub(crate) through: u64,
}

/// What is told from a leaf on, `most` at most, as far as the index holds it; `None`: that cannot be said now.
pub(crate) async fn told(
    desk: &Desk,
    name: &'static str,
    voices: Vec<(String, &'static [&'static str])>,
    from: u64,
    most: u64,
) -> Option<Told> {
    let db = desk.index.db()?;
    let reading = db.read(name, move |tx| {
        Box::pin(async move {
            let voices: Vec<Voice<'_>> =
                voices.iter().map(|(emitter, types)| Voice { emitter: emitter.as_str(), types }).collect();
            let size = head::get(tx).await?.map_or(0, |head| head.size());
            Ok::<_, TxError<Infallible>>((event::told(tx, &voices, from, most).await?, size))
        })
    });
    let (leaves, size) = match reading.await {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!(%error, name, "events that others are told of cannot be looked up");
            return None;
        }
    };
    let is_all = (leaves.len() as u64) < most;
    let expected = leaves.len();
    let reading = desk.log.reading(move |log| {
        let read = |leaf: u64| log.read(leaf, leaf + 1, 1 << 20).ok()?.into_iter().next();
        let events = leaves.into_iter().map_while(|leaf| {
            let (_, bytes) = read(leaf)?;
            Some((leaf, AuditEvent::decode(bytes.as_slice()).ok()?))
        });
        events.collect::<Vec<_>>()
    });
    let events = reading.await.unwrap_or_default();
    let last = events.last().map_or(from, |(leaf, _)| leaf + 1);
    // Where a leaf cannot be read now, nothing behind it is told before it.
    let through = if is_all && events.len() == expected { size.max(from) } else { last };
    Some(Told { events, through })
}
