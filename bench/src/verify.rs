//! How fast one core verifies a log in a directory, against the hashing alone that cannot be left out.

use std::path::Path;
use std::time::{Duration, Instant};

use legate_ids::EventId;
use legate_merkle::{
    Checkpoint, Frontier, Hash, SeedSigner, Signer as _, TileKind, encode_bundle, encode_tile, leaf_hash, new_tiles,
};
use legate_wire::audit::{AuditEvent, Emitter, EventResource};
use prost::Message as _;

use crate::{Failed, Plan};

const ORIGIN: &str = "dev.legate/audit-log";

/// A decision as it is told, about 600 bytes.
fn event(n: u64) -> Vec<u8> {
    let event = AuditEvent {
        event_id: EventId::from_parts(n, [1; 10]).to_string(),
        emitter: Some(Emitter {
            spiffe_id: "spiffe://dev.legate/legate/policy-decision".into(),
            epoch: "bench".into(),
            seq: n + 1,
        }),
        time: Some(prost_types::Timestamp { seconds: 1_790_000_000 + n.cast_signed() / 1_000, nanos: 0 }),
        r#type: "decision.made".into(),
        namespace: "payments".into(),
        actor: format!("spiffe://dev.legate/ns/payments/agent/{}", n % 1_000),
        action: "invoice:read".into(),
        resource: Some(EventResource { r#type: "Invoice".into(), id: n.to_string(), ..EventResource::default() }),
        reason: "x".repeat(300),
        ..AuditEvent::default()
    };
    event.encode_to_vec()
}

/// The hash over a full tile.
fn over(row: &[Hash]) -> Hash {
    let mut tree = Frontier::new();
    row.iter().for_each(|hash| tree.push(*hash));
    tree.root()
}

/// Writes a log as the collector does; how many bytes its entries have.
fn write(dir: &Path, events: u64) -> Result<usize, Failed> {
    let signer = SeedSigner::new(ORIGIN, &[7; 32])?;
    let (mut tree, mut rows, mut bytes) = (Frontier::new(), vec![Vec::new()], 0);
    for tile in new_tiles(0, events) {
        let first = usize::try_from(tile.index * 256)?;
        let content = match tile.kind {
            TileKind::Entries => {
                let entries: Vec<Vec<u8>> = (tile.index * 256..).take(usize::from(tile.width)).map(event).collect();
                for entry in &entries {
                    bytes += entry.len();
                    rows[0].push(leaf_hash(entry));
                    tree.push(leaf_hash(entry));
                }
                encode_bundle(&entries)?
            }
            TileKind::Hashes(level) => {
                let level = usize::from(level);
                if rows.len() == level {
                    let row = rows[level - 1].as_chunks::<256>().0.iter().map(|row| over(row)).collect();
                    rows.push(row);
                }
                encode_tile(&rows[level][first..first + usize::from(tile.width)])
            }
        };
        let path = dir.join(tile.to_string());
        std::fs::create_dir_all(path.parent().ok_or("a tile has a directory")?)?;
        std::fs::write(path, content)?;
    }
    let note = Checkpoint::new(ORIGIN, events, tree.root()).sign(&signer)?;
    std::fs::write(dir.join("checkpoint"), note.to_string())?;
    std::fs::write(dir.join("log.pub"), format!("{}\n", signer.verifier()))?;
    Ok(bytes)
}

fn rate(events: u64, took: Duration) -> f64 {
    f64::from(u32::try_from(events).unwrap_or(u32::MAX)) / took.as_secs_f64()
}

/// Measures, and prints.
pub(crate) fn measure(plan: Plan, sizes: &[u64]) -> Result<(), Failed> {
    for events in sizes {
        let dir = tempfile::tempdir()?;
        let bytes = write(dir.path(), *events)?;
        let entries: Vec<Vec<u8>> = (0..*events).map(event).collect();
        println!("\nverify: a log of {events} events, {} bytes each", bytes as u64 / events);
        for _ in 0..plan.rounds {
            let started = Instant::now();
            let mut tree = Frontier::new();
            entries.iter().for_each(|entry| tree.push(leaf_hash(entry)));
            let (root, floor) = (tree.root(), rate(*events, started.elapsed()));
            let started = Instant::now();
            let held = legate::verify(dir.path(), &dir.path().join("log.pub"))?;
            let whole = rate(*events, started.elapsed());
            println!(
                "  SHA-256 of leaves and nodes alone {floor:>10.0} events/s; legate verify {whole:>10.0} events/s on one core, {:.2} of it ({held} entries, root {:02x}{:02x})",
                whole / floor,
                root[0],
                root[1]
            );
        }
    }
    Ok(())
}
