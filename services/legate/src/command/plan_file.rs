//! A plan in a file: exactly what is to be applied, at which revision, and a hash that shows an edit.
//!
//! The hash guards against mistakes: whoever can write the file can write the hash as well. Who may apply is the
//! registry's to say.

use std::io::Write as _;
use std::path::Path;

use legate_wire::registry::ApplyDeclarationsRequest;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::change::{self, Change};
use crate::error::PLAN_FILE_INVALID;
use crate::{Failure, proto};

/// What the file says it is.
const FORMAT: &str = "legate-plan/v1";
/// A plan of as many objects as are written at once fits.
const LARGEST: u64 = 128 << 20;

/// Keeps what was planned in a new file: what changes, and nothing of what is so already.
pub(super) fn keep(file: &Path, change: &Change) -> Result<(), Failure> {
    let (declarations, removals) = change.moving();
    let wanted = ApplyDeclarationsRequest {
        declarations,
        removals,
        base_revision: change.planned.revision,
        ..ApplyDeclarationsRequest::default()
    };
    let whole = json!({ "format": FORMAT, "sha256": hash(&wanted), "apply": change::value(&wanted)? });
    let refused = |e: std::io::Error| Failure::file(file, e);
    let mut new = std::fs::File::create_new(file).map_err(refused)?;
    writeln!(new, "{whole:#}").and_then(|()| new.sync_all()).map_err(refused)
}

/// Reads a plan that is as it was kept.
pub(super) fn open(file: &Path) -> Result<ApplyDeclarationsRequest, Failure> {
    let size = std::fs::metadata(file).map_err(|e| Failure::file(file, e))?.len();
    let bad = |why: String| Failure::local(&PLAN_FILE_INVALID, format!("{}: {why}", file.display()));
    if size > LARGEST {
        return Err(bad(format!("over {} MiB", LARGEST >> 20)));
    }
    let text = std::fs::read_to_string(file).map_err(|e| Failure::file(file, e))?;
    parse(&text).map_err(bad)
}

fn parse(text: &str) -> Result<ApplyDeclarationsRequest, String> {
    let whole: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if whole.get("format").and_then(Value::as_str) != Some(FORMAT) {
        return Err(format!("it is no plan: format is not {FORMAT}"));
    }
    let apply = whole.get("apply").ok_or("apply is missing")?;
    let of = proto::message("legate.registry.v1.ApplyDeclarationsRequest");
    let dynamic = DynamicMessage::deserialize(of, apply).map_err(|e| e.to_string())?;
    let wanted: ApplyDeclarationsRequest = dynamic.transcode_to().map_err(|e| e.to_string())?;
    let told = whole.get("sha256").and_then(Value::as_str).unwrap_or_default();
    if told != hash(&wanted) {
        return Err("it was changed since it was made: the hash does not fit".into());
    }
    Ok(wanted)
}

/// SHA-256 over what is applied, in its canonical bytes: maps are ordered.
fn hash(wanted: &ApplyDeclarationsRequest) -> String {
    let mut hash = Sha256::new();
    hash.update(FORMAT.as_bytes());
    hash.update([0]);
    hash.update(wanted.encode_to_vec());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_wire::registry::{Kind, ObjectName, PlanDeclarationsResponse};

    const INVOICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples/invoice.yaml");

    fn example() -> Change {
        let documents = change::read(&[INVOICE.into()]).unwrap();
        let name = ObjectName { kind: Kind::Role.into(), namespace: "payments".into(), name: "old".into() };
        Change {
            declarations: documents.into_iter().map(|d| d.declaration).collect(),
            removals: vec![name],
            planned: PlanDeclarationsResponse { changes: Vec::new(), revision: 7 },
        }
    }

    #[test]
    fn what_was_kept_is_what_is_applied() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plan.json");
        let change = example();
        keep(&file, &change).unwrap();
        let back = open(&file).unwrap();
        assert_eq!((back.declarations, back.removals), (change.declarations.clone(), change.removals.clone()));
        assert_eq!(back.base_revision, 7);
        assert_eq!(keep(&file, &change).unwrap_err().reason, "FILE_REFUSED", "a plan is never overwritten");
    }

    #[test]
    fn an_edited_plan_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plan.json");
        keep(&file, &example()).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        for (from, to) in [
            ("apollo/*", "*"),
            ("\"baseRevision\": \"7\"", "\"baseRevision\": \"8\""),
            ("invoice:read", "invoice:*"),
            ("\"name\": \"old\"", "\"name\": \"new\""),
            ("legate-plan/v1", "legate-plan/v2"),
            ("\"sha256\": \"", "\"sha256\": \"0"),
            ("\"declarations\"", "\"declaration\""),
        ] {
            let edited = text.replacen(from, to, 1);
            assert_ne!(edited, text, "{from}");
            std::fs::write(&file, edited).unwrap();
            assert_eq!(open(&file).unwrap_err().reason, "PLAN_FILE_INVALID", "{from}");
        }
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(open(&file).unwrap_err().reason, "PLAN_FILE_INVALID");
        assert_eq!(open(&dir.path().join("none")).unwrap_err().reason, "FILE_REFUSED");
    }
}
