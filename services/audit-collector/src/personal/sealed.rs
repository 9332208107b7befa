//! What is sealed, in the order of the leaves: a journal whose records say which leaf they are of.
//!
//! A record is written before its leaf. One that was written before a kill, and whose leaf was not, is followed by another of the
//! same leaf or of an earlier one, which counts.

use std::collections::BTreeMap;
use std::path::Path;

use legate_journal::{Durability, Journal, JournalError, Options};
use parking_lot::RwLock;

/// So many records behind a mark are looked through at most.
const STRIDE: u64 = 64;

/// Records that are read at once, in bytes.
const CHUNK: usize = 256 << 10;

/// A leaf's sealed names: the slot of the key, and what is sealed under it.
pub(crate) type Sealed = Vec<(u32, Vec<u8>)>;

/// The journal, and where leaves are in it.
#[derive(Debug)]
pub(super) struct Shelf {
    journal: Journal,
    marks: RwLock<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    /// Leaves and the records that they begin at, both growing.
    all: Vec<(u64, u64)>,
    /// The leaf of the last record.
    last: u64,
}

impl Shelf {
    pub(super) fn open(dir: &Path, segment_bytes: u64) -> Result<Self, JournalError> {
        let (journal, _) = Journal::open(dir, Options { segment_bytes, ..Options::default() })?;
        let mut marks = Marks::default();
        let mut at = journal.first_index();
        while at < journal.next_index() {
            let records = journal.read(at, 8_192, 4 << 20)?;
            let Some((end, _)) = records.last() else { break };
            let next = end + 1;
            for (index, record) in &records {
                marks.note(leaf_of(record), *index);
            }
            at = next;
        }
        Ok(Self { journal, marks: RwLock::new(marks) })
    }

    /// Appends the names of leaves, in their order; they are on disk when this returns.
    pub(super) async fn append(&self, all: Vec<Vec<u8>>) -> Result<(), JournalError> {
        let leaves: Vec<u64> = all.iter().map(|record| leaf_of(record)).collect();
        let first = self.journal.append(all, Durability::Synced).await?;
        let mut marks = self.marks.write();
        for (at, leaf) in (first..).zip(leaves) {
            marks.note(leaf, at);
        }
        Ok(())
    }

    /// The leaf of the last record; 0 where there is none.
    pub(super) fn last(&self) -> u64 {
        self.marks.read().last
    }

    /// The sealed names of the leaves from `first` to `last`.
    pub(super) fn find(&self, first: u64, last: u64) -> Result<BTreeMap<u64, Sealed>, JournalError> {
        let (mut at, end) = {
            let marks = &self.marks.read().all;
            let before = marks.partition_point(|(leaf, _)| *leaf <= first).saturating_sub(1);
            let behind = marks.partition_point(|(leaf, _)| *leaf <= last);
            let end = marks.get(behind).map_or(u64::MAX, |(_, at)| *at);
            (marks.get(before).map_or(end, |(_, at)| *at), end)
        };
        let mut found = BTreeMap::new();
        while at < end.min(self.journal.next_index()) {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(8_192);
            let records = self.journal.read(at, most, CHUNK)?;
            let Some((newest, _)) = records.last() else { break };
            at = newest + 1;
            for (_, record) in &records {
                let leaf = leaf_of(record);
                // Whatever was written before for this leaf and those behind it was for leaves that are not there.
                found.split_off(&leaf);
                if (first..=last).contains(&leaf) {
                    found.extend(decode(record).map(|sealed| (leaf, sealed)));
                }
            }
        }
        Ok(found)
    }

    /// Whether the disk was full, and the reserve is in use.
    pub(super) fn on_reserve(&self) -> bool {
        self.journal.on_reserve()
    }

    /// Makes the reserve again that a full disk used.
    pub(super) fn mend_reserve(&self) -> Result<(), JournalError> {
        self.journal.drop_below(0)
    }
}

impl Marks {
    /// Marks a record where one is due. Of leaves that come again the earlier records do not count.
    fn note(&mut self, leaf: u64, at: u64) {
        let is_again = leaf <= self.last;
        let is_due = self.all.last().is_none_or(|(_, marked)| at - marked >= STRIDE);
        if is_again {
            while self.all.last().is_some_and(|(marked, _)| *marked >= leaf) {
                self.all.pop();
            }
        }
        if is_again || is_due {
            self.all.push((leaf, at));
        }
        self.last = leaf;
    }
}

fn leaf_of(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |leaf| u64::from_le_bytes(*leaf))
}

/// The record of a leaf's names.
pub(super) fn encode(leaf: u64, sealed: &Sealed) -> Vec<u8> {
    let mut record = leaf.to_le_bytes().to_vec();
    for (slot, bytes) in sealed {
        record.extend(slot.to_le_bytes());
        record.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes());
        record.extend(bytes);
    }
    record
}

fn decode(record: &[u8]) -> Option<Sealed> {
    let mut rest = record.get(8..)?;
    let mut sealed = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<6>() {
        let [a, b, c, d, e, f] = *head;
        let length = usize::from(u16::from_le_bytes([e, f]));
        sealed.push((u32::from_le_bytes([a, b, c, d]), tail.get(..length)?.to_vec()));
        rest = &tail[length..];
    }
    rest.is_empty().then_some(sealed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn of(leaf: u64, what: u32) -> (u64, Sealed) {
        (leaf, vec![(what, vec![1, 2, 3]), (what + 1, Vec::new())])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// However often a process is killed between names and leaves, the last that was written for a leaf is found.
        #[test]
        fn the_last_names_of_a_leaf_are_found(runs in prop::collection::vec((0u64..400, 1u64..300, 1u64..4), 1..6)) {
            let dir = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut wanted = std::collections::BTreeMap::new();
            let mut shelf = Shelf::open(dir.path(), 1 << 20).unwrap();
            let mut size = 0;
            for (n, (back, count, step)) in (0u32..).zip(runs) {
                // As many leaves were written as there were before `back` of them.
                size = u64::saturating_sub(size, back);
                wanted.split_off(&size);
                let all: Vec<(u64, Sealed)> = (0..count).map(|i| of(size + i * step, n)).collect();
                wanted.extend(all.iter().cloned());
                size += count * step;
                runtime.block_on(shelf.append(all.iter().map(|(leaf, sealed)| encode(*leaf, sealed)).collect())).unwrap();
                if n % 2 == 0 {
                    drop(shelf);
                    shelf = Shelf::open(dir.path(), 1 << 20).unwrap();
                }
            }
            for (leaf, sealed) in &wanted {
                let found = shelf.find(*leaf, *leaf).unwrap();
                prop_assert_eq!(found.get(leaf), Some(sealed));
            }
            prop_assert_eq!(shelf.find(0, u64::MAX).unwrap(), wanted);
        }
    }
}
