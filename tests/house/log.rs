//! The audit log as an auditor reads it: from its directory alone, verified, and every emitter's sequence looked through.

use std::collections::BTreeMap;
use std::path::Path;

use legate_merkle::{Checkpoint, TileId, TileKind, VerifierKey, Walk, WalkError, decode_bundle, walk};
use legate_wire::audit::AuditEvent;
use prost::Message as _;

/// A verified log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) events: Vec<AuditEvent>,
}

/// The newest checkpoint in a log's directory, by its public key.
pub(crate) fn checkpoint(dir: &Path) -> Checkpoint {
    let key = std::fs::read_to_string(dir.join("log.pub")).unwrap();
    let key = VerifierKey::parse(key.trim()).unwrap();
    let note = std::fs::read(dir.join("checkpoint")).unwrap();
    Checkpoint::open(&note, &key, key.name()).unwrap()
}

/// Verifies the log in a directory against its checkpoint, and one that was kept before.
pub(crate) fn verify(dir: &Path, kept: Option<&Checkpoint>) -> Result<Log, WalkError<std::io::Error>> {
    let checkpoint = checkpoint(dir);
    let mut events = Vec::new();
    let task = Walk { checkpoint: &checkpoint, saved: kept.as_slice() };
    walk(task, |tile: TileId| {
        let bytes = std::fs::read(dir.join(tile.to_string()))?;
        if tile.kind == TileKind::Entries {
            for leaf in decode_bundle(&bytes, usize::from(tile.width)).into_iter().flatten() {
                events.push(AuditEvent::decode(leaf).unwrap_or_default());
            }
        }
        Ok::<_, std::io::Error>(bytes)
    })?;
    Ok(Log { checkpoint, events })
}

impl Log {
    /// Verifies a log whose collector has stopped, and that no emitter's event is missing or there twice.
    pub(crate) fn read(dir: &Path) -> Self {
        let log = verify(dir, None).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let mut next: BTreeMap<(String, String), u64> = BTreeMap::new();
        let mut ids = std::collections::BTreeSet::new();
        for event in &log.events {
            let emitter = event.emitter.clone().unwrap();
            let expected = next.entry((emitter.spiffe_id.clone(), emitter.epoch.clone())).or_insert(1);
            assert_eq!(emitter.seq, *expected, "{emitter:?} is out of order, or events before it are missing");
            *expected += 1;
            assert!(ids.insert(event.event_id.clone()), "{} is there twice", event.event_id);
        }
        log
    }

    /// The events of a type.
    pub(crate) fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a AuditEvent> {
        self.events.iter().filter(move |e| e.r#type == kind)
    }

    /// Whether a decision was recorded.
    pub(crate) fn has_decision(&self, id: &str) -> bool {
        self.events.iter().any(|e| e.decision.as_ref().is_some_and(|d| d.decision_id == id))
    }

    /// Whether a credential's or token's issuance was recorded.
    pub(crate) fn has_issuance(&self, id: &str) -> bool {
        let issued = self.of_type("credential.issued").chain(self.of_type("token.issued"));
        issued.into_iter().any(|e| e.credential_id == id || e.resource.as_ref().is_some_and(|r| r.id == id))
    }
}
