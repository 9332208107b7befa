//! The keys of a log that `legate verify` reads: from the one that was given, by the rotations that stand in it, to the one that signed.

use std::io;

use legate_merkle::{
    Checkpoint, CheckpointError, Hash, KeyChain, Note, NoteError, Rotation, TileId, VerifierKey, decode_tile,
    node_in_tile, root_of,
};
use serde_json::{Value, json};

use super::{Found, Source, read};

/// A checkpoint that the key signed, or perhaps another one of the same log: which key it had to be is known once the log was read.
pub(super) fn claimed(note: &[u8], key: &VerifierKey) -> Result<Checkpoint, CheckpointError> {
    let unsigned = match Checkpoint::open(note, key, key.name()) {
        Err(unsigned @ CheckpointError::Note(NoteError::Unsigned(_))) => unsigned,
        opened => return opened,
    };
    let note = Note::parse(note)?;
    if !note.signatures().iter().any(|line| line.name == key.name()) {
        return Err(unsigned);
    }
    let checkpoint = Checkpoint::parse_text(note.text())?;
    if checkpoint.origin != key.name() {
        return Err(CheckpointError::Origin { wanted: key.name().to_owned(), found: checkpoint.origin });
    }
    Ok(checkpoint)
}

/// The keys of a log of so many entries, all of them verified, by the rotations that stand in it. The key that was given is one of them.
pub(super) fn of_log(
    source: &mut dyn Source,
    given: &VerifierKey,
    rotations: &[Rotation],
    entries: u64,
) -> Result<KeyChain, Found> {
    let at = |entry: u64, what: String| Found { what, entry: Some(entry), event_id: None };
    let mut keys: Option<KeyChain> = None;
    for rotation in rotations {
        let place = rotation.size();
        let root = root_at(source, entries, place);
        let root = root.map_err(|e| at(place, format!("the tree before entry {place} cannot be read: {e}")))?;
        if root != *rotation.root() {
            let what =
                format!("entry {place} says that the log's key is followed by another, in another log than this one");
            return Err(at(place, what));
        }
        let keys = keys.get_or_insert_with(|| KeyChain::new(rotation.from().clone()));
        keys.push(rotation.clone()).map_err(|e| at(place, format!("entry {place}: {e}")))?;
    }
    let keys = keys.unwrap_or_else(|| KeyChain::new(given.clone()));
    if keys.has(given) {
        return Ok(keys);
    }
    let (newest, count) = (keys.newest(), keys.rotations().len());
    let what = format!(
        "the key that you gave, {given}, is none of this log's: its {count} rotations lead to {newest} from others"
    );
    Err(Found::plain(what))
}

/// The root over the first entries of a log whose tiles are verified.
fn root_at(source: &mut dyn Source, entries: u64, size: u64) -> io::Result<Hash> {
    let damaged = |tile: TileId| io::Error::new(io::ErrorKind::InvalidData, format!("{tile} is damaged"));
    let mut tile = |id: TileId| -> io::Result<Vec<Hash>> {
        let bytes = read(source, id)?;
        decode_tile(&bytes, usize::from(id.width)).ok_or_else(|| damaged(id))
    };
    root_of(size, |level, index| node_in_tile(entries, level, index, &mut tile, damaged))
}

/// For people; empty where the log had one key.
pub(super) fn lines(keys: &KeyChain) -> String {
    let line = |rotation: &Rotation| format!("entry {}: {} took over", rotation.size(), rotation.to());
    let lines: Vec<String> = keys.rotations().iter().map(line).collect();
    if lines.is_empty() { String::new() } else { format!("signed by both keys each time\n{}", lines.join("\n")) }
}

/// For programs.
pub(super) fn value(rotation: &Rotation) -> Value {
    json!({ "entry": rotation.size(), "from": rotation.from().to_string(), "to": rotation.to().to_string() })
}
