//! One file of a journal.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::JournalError;
use crate::frame::{self, Found, HEAD};

/// The first bytes of a segment, then the index of its first record.
const MAGIC: &[u8; 8] = b"LGTJRNL1";
/// Magic and first index.
pub(crate) const START: u64 = 16;
/// Every so many records an offset is kept, so that reading need not begin at the start: half a byte of memory for a record.
const STRIDE: u64 = 16;

/// A segment and where its records are.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) first: u64,
    /// Records in it.
    pub(crate) count: u64,
    /// Where the next record goes.
    pub(crate) end: u64,
    /// The size that the file was made with: up to there the disk cannot be full.
    pub(crate) room: u64,
    /// The offset of every 16th record.
    marks: Vec<u64>,
}

/// What a scan cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) bytes: u64,
}

impl Segment {
    fn path_of(dir: &Path, first: u64) -> PathBuf {
        dir.join(format!("{first:020}.seg"))
    }

    /// Makes a new segment of `bytes` bytes, all zeros but its start, and syncs it into the directory.
    pub(crate) fn create(dir: &Path, first: u64, bytes: u64) -> Result<(Self, File), JournalError> {
        let path = Self::path_of(dir, first);
        let make = || -> std::io::Result<File> {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
            let mut start = MAGIC.to_vec();
            start.extend_from_slice(&first.to_le_bytes());
            file.write_all_at(&start, 0)?;
            file.sync_all()?;
            sync_directory(dir)?;
            Ok(file)
        };
        let file = make().map_err(|e| {
            // A half-made segment would be taken for a broken one at the next start.
            let _gone = std::fs::remove_file(&path);
            JournalError::io(&path, &e)
        })?;
        Ok((Self { path, first, count: 0, end: START, room: bytes, marks: Vec::new() }, file))
    }

    /// The segments of a directory in order, their records not yet counted.
    pub(crate) fn list(dir: &Path) -> Result<Vec<Self>, JournalError> {
        let fail = |e: std::io::Error| JournalError::io(dir, &e);
        let mut all = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_none_or(|e| e != "seg") {
                continue;
            }
            let first = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
            let Some(first) = first else {
                return Err(JournalError::Layout { path, why: "the file's name is not the index of a record" });
            };
            all.push(Self { path, first, count: 0, end: START, room: 0, marks: Vec::new() });
        }
        all.sort_by_key(|s| s.first);
        Ok(all)
    }

    /// Counts the records and finds the end. `whole`: the number that there has to be, for every segment but the last.
    pub(crate) fn scan(&mut self, whole: Option<u64>) -> Result<Torn, JournalError> {
        let bytes = std::fs::read(&self.path).map_err(|e| JournalError::io(&self.path, &e))?;
        let start = MAGIC.iter().copied().chain(self.first.to_le_bytes());
        if !start.eq(bytes.iter().copied().take(16)) {
            let why = "the file does not begin as a segment does";
            return Err(JournalError::Layout { path: self.path.clone(), why });
        }
        (self.count, self.marks, self.room) = (0, Vec::new(), bytes.len() as u64);
        let mut at = 16;
        let torn = loop {
            match frame::read(&bytes[at..], self.first + self.count) {
                Found::Record(payload) => {
                    self.mark(at as u64);
                    at += HEAD + payload.len();
                }
                // Behind zeros something may lie as well: of two pages the disk has the second and not the first.
                Found::End | Found::Broken => {
                    let used = bytes.iter().rposition(|b| *b != 0).map_or(at, |last| last + 1);
                    break Torn { bytes: used.saturating_sub(at) as u64 };
                }
            }
        };
        self.end = at as u64;
        match whole {
            Some(count) if count != self.count => {
                Err(JournalError::Damaged { path: self.path.clone(), index: self.first + self.count })
            }
            _ => Ok(torn),
        }
    }

    /// Whether it was being made when the process died: no record is written before the start is synced.
    pub(crate) fn is_unbegun(&self) -> Result<bool, JournalError> {
        let fail = |e: std::io::Error| JournalError::io(&self.path, &e);
        let file = File::open(&self.path).map_err(fail)?;
        let mut start = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(&file, START), &mut start).map_err(fail)?;
        if start.iter().any(|b| *b != 0) {
            return Ok(false);
        }
        Ok(std::fs::read(&self.path).map_err(fail)?.iter().all(|b| *b == 0))
    }

    fn mark(&mut self, at: u64) {
        if self.count.is_multiple_of(STRIDE) {
            self.marks.push(at);
        }
        self.count += 1;
    }

    /// Notes records that were written: the length of each payload.
    pub(crate) fn wrote(&mut self, payloads: impl Iterator<Item = usize>) {
        for length in payloads {
            let at = self.end;
            self.mark(at);
            self.end += (HEAD + length) as u64;
        }
    }

    /// Writes zeros over everything behind the last record, after keeping it in a file beside.
    pub(crate) fn cut_torn(&self, torn: Torn) -> Result<File, JournalError> {
        let work = || -> std::io::Result<File> {
            let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
            if torn.bytes > 0 {
                let mut tail = vec![0; usize::try_from(torn.bytes).unwrap_or(usize::MAX)];
                file.read_exact_at(&mut tail, self.end)?;
                let mut beside = OpenOptions::new();
                beside.write(true).create(true).truncate(true).mode(0o600);
                let beside = beside.open(self.path.with_extension("torn"))?;
                beside.write_all_at(&tail, 0)?;
                beside.sync_all()?;
                tail.fill(0);
                file.write_all_at(&tail, self.end)?;
                file.sync_all()?;
            }
            Ok(file)
        };
        work().map_err(|e| JournalError::io(&self.path, &e))
    }

    /// Where the records from `from` on are, `most` of them and none from `until` on; `None`: there is none.
    pub(crate) fn stretch(&self, from: u64, until: u64, most: usize) -> Option<Stretch> {
        let until = until.min(self.first + self.count).min(from.saturating_add(most as u64));
        let skipped = from.checked_sub(self.first)? / STRIDE;
        let mark = |n: u64| usize::try_from(n).ok().and_then(|n| self.marks.get(n)).copied();
        let at = mark(skipped).filter(|_| from < until)?;
        let behind = mark((until - self.first).div_ceil(STRIDE)).unwrap_or(self.end);
        let index = self.first + skipped * STRIDE;
        Some(Stretch { path: self.path.clone(), index, at, behind, from, until })
    }
}

/// Where some records of a segment are: what it takes to read them, so that a reader holds up no writer.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    path: PathBuf,
    /// The record at `at`, the last before `from` whose offset is kept.
    index: u64,
    at: u64,
    /// No record before `until` reaches beyond this offset.
    behind: u64,
    pub(crate) from: u64,
    until: u64,
}

impl Stretch {
    /// Reads the records in order, about `most_bytes` of them.
    pub(crate) fn read(&self, most_bytes: usize, out: &mut Vec<(u64, Vec<u8>)>) -> Result<(), JournalError> {
        let file = File::open(&self.path).map_err(|e| JournalError::io(&self.path, &e))?;
        let (mut index, mut at, mut taken) = (self.index, self.at, 0);
        let mut chunk = Vec::new();
        while index < self.until && taken < most_bytes {
            // As much as a batch is likely to need, at least one whole record.
            let want = most_bytes.clamp(64 << 10, 4 << 20) + (1 << 17);
            let want = want.min(usize::try_from(self.behind - at).unwrap_or(usize::MAX));
            chunk.resize(want, 0);
            file.read_exact_at(&mut chunk, at).map_err(|e| JournalError::io(&self.path, &e))?;
            let mut used = 0;
            while index < self.until && taken < most_bytes {
                match frame::read(&chunk[used..], index) {
                    Found::Record(payload) => {
                        used += HEAD + payload.len();
                        if index >= self.from {
                            taken += payload.len();
                            out.push((index, payload.to_vec()));
                        }
                        index += 1;
                    }
                    // The chunk ends within a record: read on from there.
                    _ if used > 0 => break,
                    _ => return Err(JournalError::Damaged { path: self.path.clone(), index }),
                }
            }
            at += used as u64;
        }
        Ok(())
    }
}

/// Makes a new or removed name in a directory outlive a power cut.
pub(crate) fn sync_directory(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
