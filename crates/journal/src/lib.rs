//! Append-only segment files: checksummed records, group commit by one writer thread, recovery of a torn tail.
//!
//! A record is `length u32 | crc32c u32 | payload`, little endian; the checksum covers the record's index and the payload,
//! so a record that was moved is as wrong as one that was changed. A segment is named by the index of its first record
//! and is preallocated with zeros; a length of zero ends it.

mod error;
mod frame;
mod journal;
mod segment;
mod writer;

pub use error::JournalError;
pub use journal::{Journal, Options, Recovery};

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After `write`: outlives a kill of the process; outlives a power cut after the next grouped sync.
    Written,
    /// After `fdatasync`: outlives a power cut.
    Synced,
}
