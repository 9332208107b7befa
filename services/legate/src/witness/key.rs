//! The key of a witness: made once, together with the book that it must never be without.

use std::path::{Path, PathBuf};

use legate_merkle::Cosigner;
use legate_mtls::pki;
use zeroize::Zeroizing;

use super::{BadBook, Book};

/// Why a key is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadKey {
    /// The file.
    #[error("{}: {why}", .path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The book that belongs to it.
    #[error(transparent)]
    Book(#[from] BadBook),
}

/// Makes a key, and the book of its witness in an empty directory.
pub(crate) fn make(path: &Path, dir: &Path, name: &str) -> Result<Cosigner, BadKey> {
    let refused = |why: &dyn std::fmt::Display| BadKey::File { path: path.to_owned(), why: why.to_string() };
    if path.symlink_metadata().is_ok() {
        return Err(refused(&"it is there already; nothing is overwritten"));
    }
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
    let cosigner = Cosigner::new(name, &seed).map_err(|e| refused(&e))?;
    // The book first: a key without a book cosigns nothing, and a book without a key harms nobody.
    Book::begin(dir, cosigner.verifier())?;
    let text: Zeroizing<String> = Zeroizing::new(seed.iter().map(|b| format!("{b:02x}")).collect());
    pki::write_private(path, &format!("{}\n", *text)).map_err(|e| refused(&e))?;
    Ok(cosigner)
}

/// Reads the key of the witness whose book is in a directory: the book knows its name.
pub(crate) fn open(path: &Path, dir: &Path) -> Result<Cosigner, BadKey> {
    let refused = |why: &dyn std::fmt::Display| BadKey::File { path: path.to_owned(), why: why.to_string() };
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| refused(&e))?);
    pki::refuse_open_key(path).map_err(|e| refused(&e))?;
    let seed = unhex(text.trim_end()).ok_or_else(|| refused(&"it is not 64 hexadecimal digits"))?;
    let name = Book::owner(dir)?;
    Cosigner::new(name.split('+').next().unwrap_or_default(), &seed).map_err(|e| refused(&e))
}

fn unhex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in seed.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(seed)
}
