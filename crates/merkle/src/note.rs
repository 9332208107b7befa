//! Signed notes (C2SP signed-note): a text, an empty line, and signature lines.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64, Encoding};

use crate::key::is_name;
use crate::{SignError, Signer, VerifierKey};

/// The longest note that is read.
pub const MAX_NOTE: usize = 64 << 10;
/// The most signatures that are read.
const MAX_SIGNATURES: usize = 100;
/// What a signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// Why a note is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note at all.
    #[error("not a signed note: {0}")]
    Form(&'static str),
    /// No signature is by the key that is asked for.
    #[error("no signature by {0}")]
    Unsigned(String),
    /// A signature that names the key is not the key's.
    #[error("the signature by {0} is wrong")]
    Wrong(String),
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: [u8; 4],
    /// The signature's bytes; 64 for Ed25519.
    pub signature: Vec<u8>,
}

impl NoteSignature {
    /// Reads signature lines, one at least, each with its newline.
    ///
    /// # Errors
    /// [`NoteError::Form`].
    pub fn parse_lines(lines: &str) -> Result<Vec<Self>, NoteError> {
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Form("it does not end with a newline"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::Form("it has over 100 signatures"));
            }
            signatures.push(signature(line)?);
        }
        Ok(signatures)
    }
}

/// The signature line, without its newline.
impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.id.to_vec();
        bytes.extend_from_slice(&self.signature);
        write!(f, "{DASH}{} {}", self.name, Base64::encode_string(&bytes))
    }
}

/// A text and signatures, none of them checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Signs a text, which ends with a newline.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(text: &str, signers: &[&dyn Signer]) -> Result<Self, SignError> {
        if !is_text(text) {
            return Err(SignError("a note's text ends with a newline and has no control characters".to_string()));
        }
        let mut signatures = Vec::new();
        for signer in signers {
            let key = signer.verifier();
            let signature = signer.sign(text.as_bytes())?.to_vec();
            signatures.push(NoteSignature { name: key.name().to_string(), id: key.id(), signature });
        }
        Ok(Self { text: text.to_string(), signatures })
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::Form("it is over 64 KiB"));
        }
        let whole = core::str::from_utf8(bytes).map_err(|_| NoteError::Form("it is not UTF-8"))?;
        let at = whole.rfind("\n\n").ok_or(NoteError::Form("no empty line before the signatures"))?;
        let (text, lines) = (&whole[..=at], &whole[at + 2..]);
        if !is_text(text) {
            return Err(NoteError::Form("its text has control characters"));
        }
        Ok(Self { text: text.to_string(), signatures: NoteSignature::parse_lines(lines)? })
    }

    /// The text, with its last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, none of them checked.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// The same text with those of its signatures that `keep` picks.
    #[must_use]
    pub fn only(mut self, keep: impl FnMut(&NoteSignature) -> bool) -> Self {
        self.signatures.retain(keep);
        self
    }

    /// The same text with more signatures below the others.
    #[must_use]
    pub fn with(mut self, more: impl IntoIterator<Item = NoteSignature>) -> Self {
        self.signatures.extend(more);
        self
    }

    /// Checks that `key` signed the text. Signatures by other keys do not matter.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let mut by_key = self.signatures.iter().filter(|s| s.name == key.name() && s.id == key.id()).peekable();
        if by_key.peek().is_none() {
            return Err(NoteError::Unsigned(key.name().to_string()));
        }
        // C2SP signed-note: a signature that names a known key and does not verify spoils the note.
        let all_good = by_key.all(|s| {
            let signature: Option<&[u8; 64]> = s.signature.as_slice().try_into().ok();
            signature.is_some_and(|signature| key.verifies(self.text.as_bytes(), signature))
        });
        if all_good { Ok(()) } else { Err(NoteError::Wrong(key.name().to_string())) }
    }
}

fn is_text(text: &str) -> bool {
    text.len() > 1 && text.ends_with('\n') && !text.bytes().any(|b| (b < 0x20 && b != b'\n') || b == 0x7f)
}

fn signature(line: &str) -> Result<NoteSignature, NoteError> {
    let bad = NoteError::Form("a signature line is an em dash, a name and base64");
    let rest = line.strip_prefix(DASH).ok_or_else(|| bad.clone())?;
    let (name, encoded) = rest.split_once(' ').ok_or_else(|| bad.clone())?;
    let bytes = Base64::decode_vec(encoded).map_err(|_| bad.clone())?;
    let (id, signature) = bytes.split_first_chunk::<4>().ok_or_else(|| bad.clone())?;
    if !is_name(name) || signature.is_empty() {
        return Err(bad);
    }
    Ok(NoteSignature { name: name.to_string(), id: *id, signature: signature.to_vec() })
}

/// The whole note.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
