//! The rotations of a log's key as a file carries them to whoever has an earlier key: one a line, each with its leaf and its proof.

use legate_wire::audit::KeyRotation;

use crate::proto;

/// A pack's file of them; there is none where the log had one key.
pub(crate) const ROTATIONS: &str = "rotations.jsonl";

/// No log has more.
const MOST: usize = 4_096;

/// The text of them.
pub(crate) fn rotations(all: &[KeyRotation]) -> std::io::Result<Vec<u8>> {
    let mut text = String::new();
    for one in all {
        text += &proto::json(&proto::dynamic(one), false).map_err(std::io::Error::other)?;
        text.push('\n');
    }
    Ok(text.into_bytes())
}

/// Reads it; `None`: it is something else. Nothing of it is verified.
pub(crate) fn read_rotations(bytes: &[u8]) -> Option<Vec<KeyRotation>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let lines: Vec<&str> = text.strip_suffix('\n')?.split('\n').collect();
    if lines.len() > MOST {
        return None;
    }
    lines.into_iter().map(read).collect()
}

fn read(line: &str) -> Option<KeyRotation> {
    let mut json = serde_json::Deserializer::from_str(line);
    let of = proto::message("legate.audit.v1.KeyRotation");
    let read = prost_reflect::DynamicMessage::deserialize(of, &mut json).ok()?;
    json.end().ok()?;
    read.transcode_to().ok()
}
