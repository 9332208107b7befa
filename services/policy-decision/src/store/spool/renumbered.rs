//! What waits of an epoch of which the log has other events is told under another name, and nothing is dropped.
//!
//! Where a machine was set back to an earlier moment, memory and disk, the running epoch gives numbers again that it gave before. What
//! goes on in its place begins with a `spool.opened` of its own, which says behind which number of which epoch that is. That event alone
//! is kept, in a file beside the records: it is all that has to be known to number them in the same way after a restart.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use legate_wire::audit::{AuditEvent, Emitter};
use parking_lot::RwLock;
use prost::Message as _;

use super::{PREVIOUS_EPOCH, PREVIOUS_LAST};

/// How the names of its files end.
const ENDING: &str = "renumbered";

/// One epoch that goes on under another name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Renumbered {
    from: String,
    /// The last number that is still told under the old name.
    last: u64,
    to: String,
    opened: Bytes,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Renumberings {
    dir: PathBuf,
    all: RwLock<Vec<Renumbered>>,
}

impl Renumbered {
    /// What the event that is kept says.
    fn read(opened: Bytes) -> Option<Self> {
        let event = AuditEvent::decode(opened.clone()).ok()?;
        let from = event.details.get(PREVIOUS_EPOCH)?.clone();
        let last = event.details.get(PREVIOUS_LAST)?.parse().ok()?;
        let to = event.emitter?.epoch;
        (!from.is_empty() && !to.is_empty() && to != from).then_some(Self { from, last, to, opened })
    }
}

impl Renumberings {
    /// Those that are kept in `dir`.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                let one = Renumbered::read(std::fs::read(&path)?.into());
                all.push(one.ok_or_else(|| io::Error::other(format!("{} is damaged", path.display())))?);
            }
        }
        Ok(Self { dir: dir.to_owned(), all: RwLock::new(all) })
    }

    /// Forgets those of which nothing is kept any more; `epochs` are those of the records.
    pub(super) fn forget_all_but(&self, mut epochs: BTreeSet<String>) {
        let mut all = self.all.write();
        // One that was renumbered may have been so before.
        while let Some(next) = all.iter().find(|one| epochs.contains(&one.from) && !epochs.contains(&one.to)) {
            epochs.insert(next.to.clone());
        }
        all.retain(|one| {
            let is_used = epochs.contains(&one.from);
            if !is_used && let Err(error) = std::fs::remove_file(self.path(&one.to)) {
                tracing::warn!(%error, epoch = one.to, "a numbering that is over cannot be removed");
            }
            is_used
        });
    }

    fn path(&self, to: &str) -> PathBuf {
        self.dir.join(to).with_extension(ENDING)
    }

    /// Under which epoch and number a record is told.
    pub(super) fn told(&self, mut epoch: String, mut seq: u64) -> (String, u64) {
        let all = self.all.read();
        while let Some(one) = all.iter().find(|one| one.from == epoch && seq > one.last) {
            // Its own first number is that of the event by which it begins.
            seq = seq - one.last + 1;
            epoch.clone_from(&one.to);
        }
        (epoch, seq)
    }

    /// The event by which an epoch begins that goes on from another one.
    pub(super) fn opening(&self, epoch: &str) -> Option<Bytes> {
        self.all.read().iter().find(|one| one.to == epoch).map(|one| one.opened.clone())
    }

    /// From now on what comes behind the number that `opened` names is told in the epoch that it begins.
    ///
    /// # Errors
    /// When that cannot be kept.
    pub(super) fn begin(&self, opened: &AuditEvent) -> io::Result<()> {
        let bytes = Bytes::from(opened.encode_to_vec());
        let one = Renumbered::read(bytes.clone()).ok_or_else(|| io::Error::other("it says nothing of an epoch"))?;
        // Written beside, synced, and put in place: never half.
        let (path, beside) = (self.path(&one.to), self.dir.join(&one.to).with_extension("new"));
        let mut file = File::create(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        File::open(&self.dir)?.sync_all()?;
        self.all.write().push(one);
        Ok(())
    }
}

/// The record as an event of this epoch.
pub(super) fn numbered(mut event: AuditEvent, epoch: &str, seq: u64) -> Vec<u8> {
    let spiffe_id = event.emitter.take().unwrap_or_default().spiffe_id;
    event.emitter = Some(Emitter { spiffe_id, epoch: epoch.to_owned(), seq });
    event.encode_to_vec()
}
