//! Evidence packs: events with their proofs in one file, which anybody verifies who has the log's public key.
//!
//! A pack's manifest says what was asked and what is there, with the hash of every file. Taking a pack out is an event of the
//! log that names the manifest's hash; the pack holds that event too, with its proof. So the log's own key signs the manifest.

pub(crate) mod archive;
mod attested;
mod check;
mod keys;
mod said;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::dossier::{About, Form, LARGEST};

pub(crate) use attested::{Signatures, each_in_full, verified};
pub(crate) use check::{BadPack, Checked, check};
pub(crate) use keys::{ROTATIONS, read_rotations, rotations};
pub(crate) use said::said;

/// The form of a pack.
pub(crate) const FORMAT: &str = "legate-evidence/1";

/// What this program calls itself.
pub(crate) const MADE_WITH: &str = concat!("legate ", env!("CARGO_PKG_VERSION"));

/// The files of a pack, in their order.
pub(crate) const README: &str = "README.txt";
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const KEY: &str = "log.pub";
pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const EVENTS: &str = "events.jsonl";
/// `continues-SIZE`, one for each checkpoint that an auditor had kept.
pub(crate) const CONTINUES: &str = "continues-";
pub(crate) const SEAL_LEAF: &str = "seal.leaf";
pub(crate) const SEAL_PROOF: &str = "seal.tlog-proof";
pub(crate) const SEAL_CONTINUES: &str = "seal.continues";

/// The type of the event that seals a pack.
pub(crate) const SEALED: &str = "log.evidence_made";

/// What a pack is, by the word of whoever made it. The log's record of it names the hash of this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Manifest {
    /// `legate-evidence/1`, or that of a dossier or a report.
    pub(crate) format: String,
    /// The program that made it.
    pub(crate) made_with: String,
    /// What the dossier or report in it is about; absent: it holds events alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) about: Option<About>,
    /// The SPIFFE ID of whoever asked.
    pub(crate) asked_by: String,
    /// What was asked: a legate.audit.v1.QueryEventsRequest as JSON.
    pub(crate) asked: serde_json::Value,
    /// The log's name.
    pub(crate) log: String,
    /// The answer is of this tree: that of the checkpoint in the pack.
    pub(crate) tree_size: u64,
    /// So many leaves the index held at least when it answered.
    pub(crate) indexed_through: u64,
    /// How many events are in the pack.
    pub(crate) events: u64,
    /// Whether that is everything that answers in that tree and that whoever asked may see; of a dossier or a report, whether
    /// nothing of it was cut or withheld.
    pub(crate) is_complete: bool,
    /// Every file but this one and the seal.
    pub(crate) files: Vec<Listed>,
}

/// A file of a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) size: u64,
    /// In lower-case hexadecimal.
    pub(crate) sha256: String,
}

impl Manifest {
    /// The document that the pack holds beside its events.
    pub(crate) fn form(&self) -> Option<Form> {
        Form::of_format(&self.format)
    }
}

/// The most that a file of a pack has which is not the events.
pub(crate) fn most_bytes(name: &str) -> u64 {
    let is_document = [Form::Dossier, Form::Report].iter().any(|form| [form.files().0, form.files().1].contains(&name));
    if is_document { 2 * LARGEST as u64 } else { 1 << 20 }
}

impl Listed {
    pub(crate) fn of(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.to_owned(), size: bytes.len() as u64, sha256: sha256(bytes) }
    }
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a text does not fail.
        let _ok = write!(out, "{byte:02x}");
        out
    })
}

/// What the pack says to whoever opens it.
pub(crate) fn readme(log: &str, form: Option<Form>) -> String {
    let document = form.map(|form| {
        let ((page, json), word) = (form.files(), form.word());
        format!(
            "{page}   the {word} for people: open it in a browser; it runs nothing and fetches nothing\n\
            {json}   the same for machines; each entry names the leaves that made it so, which are in events.jsonl\n\
            \n\
            What the {word} says is the word of the services of whoever made it, as he was let read them. What is proved of it\n\
            are the events that it cites. Each section says as of when it is told, and what was cut or not given.\n\
            \n"
        )
    });
    let document = document.unwrap_or_default();
    format!(
        "Evidence from the audit log {log}\n\
        \n\
        {document}\
        manifest.json   what was asked, by whom, how much was found, and the SHA-256 of each file\n\
        events.jsonl    one event a line: its place, the log's own bytes of it (leaf, base64), the way from their hash to the\n\
        \x20               root of the tree (proof, base64), and the same event spelled out for reading; where its emitter signed\n\
        \x20               it (attestation), the log's record of that signature and the way to what was signed\n\
        checkpoint      name, size and root of the tree, signed by the log's key (C2SP tlog-checkpoint), and by witnesses where the\n\
        \x20               pack was made so (C2SP tlog-cosignature)\n\
        log.pub         that key, as whoever made this pack had it\n\
        rotations.jsonl where there is one: the log's own record of each time that another key took over, signed by both, with its\n\
        \x20               proof, so that whoever has an earlier key comes by them to this one\n\
        continues-N     the way from the tree of N leaves, of which somebody had kept the checkpoint, to this tree\n\
        seal.*          the log's own record that this pack was made, with its proof: it names the hash of manifest.json\n\
        \n\
        To verify:      legate verify THIS-FILE --key LOG-KEY-FILE [--checkpoint A-CHECKPOINT-THAT-YOU-KEPT]\n\
        \x20               [--witness-policy YOUR-POLICY]     the witnesses that you believe have to have cosigned both trees\n\
        \x20               [--services-ca A-CA] [--workloads-ca A-CA]     the CAs that have to vouch for who signed events\n\
        \n\
        Take the key from somewhere else than from this pack: from the operator's publication, or from a contract. Nothing\n\
        is asked of any service.\n\
        \n\
        Without the program: SHA-256 over a zero byte and the leaf's bytes is the leaf's hash. Two hashes are joined by\n\
        SHA-256 over a byte of value one, the left and the right hash. The proof gives the other hash of each step, from the\n\
        leaf upwards (RFC 9162, section 2.1.3.2). The last one is the root in checkpoint, under which stands an Ed25519\n\
        signature of its text (C2SP signed-note).\n\
        \n\
        What this proves: each event stood in the log, at its place and with these bytes, when the checkpoint was signed,\n\
        and this pack is the one whose making the log recorded.\n\
        What it does not prove: that an event is true, which is its emitter's word; that nothing else in the log answers the\n\
        question, which is the word of the index and of the rights of whoever asked; that the log shows the same to\n\
        everybody, for which you compare checkpoints with others, keep one, or ask for the signatures of witnesses.\n"
    )
}

/// A proof of consistency as a file: the two sizes, and a hash a line.
pub(crate) fn continues(first: u64, second: u64, proof: &[legate_merkle::Hash]) -> String {
    use base64ct::{Base64, Encoding as _};
    proof.iter().fold(format!("consistency {first} {second}\n"), |out, hash| out + &Base64::encode_string(hash) + "\n")
}

/// Reads such a file; there is one text for each proof.
pub(crate) fn read_continues(text: &[u8]) -> Option<(u64, u64, Vec<legate_merkle::Hash>)> {
    use base64ct::{Base64, Encoding as _};
    let whole = std::str::from_utf8(text).ok()?;
    let mut lines = whole.strip_suffix('\n')?.split('\n');
    let (first, second) = lines.next()?.strip_prefix("consistency ")?.split_once(' ')?;
    let (first, second) = (first.parse().ok()?, second.parse().ok()?);
    let proof: Option<Vec<_>> = lines.map(|line| Base64::decode_vec(line).ok()?.try_into().ok()).collect();
    let proof = proof?;
    (proof.len() <= 128 && continues(first, second, &proof) == whole).then_some((first, second, proof))
}
