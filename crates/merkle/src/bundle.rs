//! Entry bundles (C2SP tlog-tiles): entries one after the other, each with its length in two bytes, big endian.

use alloc::vec::Vec;

/// The longest entry.
pub const MAX_ENTRY: usize = 65_535;

/// Why bytes are not an entry bundle, or entries do not fit into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// An entry is longer than two bytes can say.
    #[error("entry {0} of the bundle is over 65,535 bytes")]
    TooLong(usize),
    /// The bytes end within an entry.
    #[error("the bundle ends within entry {0}")]
    Cut(usize),
    /// There are more bytes than entries.
    #[error("bytes follow the last of {0} entries")]
    Trailing(usize),
}

/// Puts entries into a bundle.
///
/// # Errors
/// [`BundleError::TooLong`].
pub fn encode_bundle<T: AsRef<[u8]>>(entries: &[T]) -> Result<Vec<u8>, BundleError> {
    let mut out = Vec::with_capacity(entries.iter().map(|e| e.as_ref().len() + 2).sum());
    for (i, entry) in entries.iter().enumerate() {
        let entry = entry.as_ref();
        let len = u16::try_from(entry.len()).map_err(|_| BundleError::TooLong(i))?;
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(entry);
    }
    Ok(out)
}

/// Takes exactly `width` entries out of a bundle.
///
/// # Errors
/// [`BundleError`].
pub fn decode_bundle(mut bytes: &[u8], width: usize) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::with_capacity(width.min(256));
    for i in 0..width {
        let (len, rest) = bytes.split_first_chunk::<2>().ok_or(BundleError::Cut(i))?;
        let len = usize::from(u16::from_be_bytes(*len));
        let (entry, rest) = rest.split_at_checked(len).ok_or(BundleError::Cut(i))?;
        entries.push(entry);
        bytes = rest;
    }
    if bytes.is_empty() { Ok(entries) } else { Err(BundleError::Trailing(width)) }
}
