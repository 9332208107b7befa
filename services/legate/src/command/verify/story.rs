//! What the events of a log tell: who told them, when, and whether a number is missing in between.

use std::collections::BTreeMap;

use legate_batch::rotated::rotated;
use legate_batch::{Attested, KIND};
use legate_clock::Timestamp;
use legate_merkle::{Frontier, Rotation, decode_bundle, leaf_hash};
use legate_mtls::Trust;
use legate_wire::audit::AuditEvent;
use prost::Message;
use serde_json::{Value, json};

use super::Found;
use crate::evidence::verified;

/// What the events tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    /// The time of the earliest event.
    pub(crate) first: Option<Timestamp>,
    /// The time of the latest event.
    pub(crate) last: Option<Timestamp>,
    /// The CAs that have to vouch for who signed, where somebody says which.
    trust: Option<Trust>,
    /// The signature of entries to come.
    open: Option<Signature>,
    /// How many events each emitter signed.
    pub(crate) signed_by: BTreeMap<String, u64>,
    /// What it says of the log's own key.
    pub(super) rotations: Vec<Rotation>,
    /// Next number by emitter and epoch.
    next: BTreeMap<(String, String), u64>,
    /// The first thing that is wrong.
    wrong: Option<Found>,
}

/// A signature, and the entries behind it so far.
#[derive(Clone, Debug)]
struct Signature {
    at: u64,
    attested: Attested,
    tree: Frontier,
}

impl Story {
    /// Nothing is told yet; these CAs have to vouch for who signs.
    pub(super) fn by(trust: Option<Trust>) -> Self {
        Self { trust, ..Self::default() }
    }

    /// Takes the entries of a bundle whose first is entry `first`. The walk says what is wrong with the bundle itself.
    pub(super) fn bundle(&mut self, first: u64, bytes: &[u8]) {
        let mut rest = bytes;
        let mut index = first;
        while let Some((len, tail)) = rest.split_first_chunk::<2>() {
            let end = 2 + usize::from(u16::from_be_bytes(*len));
            if tail.len() + 2 < end {
                return;
            }
            let (one, more) = rest.split_at(end);
            if let Ok([entry]) = decode_bundle(one, 1).as_deref() {
                self.entry(index, entry);
            }
            (rest, index) = (more, index + 1);
        }
    }

    fn entry(&mut self, index: u64, entry: &[u8]) {
        let Ok(event) = AuditEvent::decode(entry) else {
            self.note(index, None, format!("entry {index} is in the log and is no event"));
            return;
        };
        if let Some(time) = event.time.and_then(|t| Timestamp::try_from(t).ok()) {
            self.first = Some(self.first.map_or(time, |f| f.min(time)));
            self.last = Some(self.last.map_or(time, |l| l.max(time)));
        }
        self.signatures(index, entry, &event);
        match rotated(&event, index) {
            Ok(rotation) => self.rotations.extend(rotation),
            Err(e) => self.note(index, Some(event.event_id.clone()), e.to_string()),
        }
        let emitter = event.emitter.unwrap_or_default();
        let who = (emitter.spiffe_id, emitter.epoch);
        let expected = self.next.get(&who).copied().unwrap_or(1);
        if emitter.seq != expected {
            let what = format!(
                "entry {index} ({}) is number {} of {} in epoch {}, where number {expected} was due: events are missing, repeated or out of order",
                event.event_id, emitter.seq, who.0, who.1
            );
            self.note(index, Some(event.event_id), what);
        }
        self.next.insert(who, emitter.seq.saturating_add(1));
    }

    /// Verifies each signature, and that the entries behind it are what it is of. Where the process ended while a batch was written, entries of
    /// it may be missing: what is there is then signed by nobody.
    fn signatures(&mut self, index: u64, entry: &[u8], event: &AuditEvent) {
        let emitter = event.emitter.clone().unwrap_or_default();
        if let Some(mut open) = self.open.take() {
            let statement = &open.attested.statement;
            let seq = statement.first_seq.checked_add(open.tree.size());
            let place = (statement.emitter.as_str(), statement.epoch.as_str(), seq);
            if place == (emitter.spiffe_id.as_str(), emitter.epoch.as_str(), Some(emitter.seq)) {
                open.tree.push(leaf_hash(entry));
                if open.tree.size() < u64::from(statement.count) {
                    self.open = Some(open);
                } else if open.tree.root() == statement.root {
                    *self.signed_by.entry(statement.emitter.clone()).or_default() += u64::from(statement.count);
                } else {
                    let what =
                        format!("the entries behind entry {} are not those that {} signed there", open.at, place.0);
                    self.note(open.at, None, what);
                }
                return;
            }
        }
        if event.r#type != KIND || !emitter.spiffe_id.ends_with("/legate/audit-collector") {
            return;
        }
        match verified(event, self.trust.as_ref()) {
            Ok(attested) => self.open = Some(Signature { at: index, attested, tree: Frontier::default() }),
            Err(what) => {
                let what = format!("entry {index} ({}) holds a signature that does not hold: {what}", event.event_id);
                self.note(index, Some(event.event_id.clone()), what);
            }
        }
    }

    fn note(&mut self, index: u64, event_id: Option<String>, what: String) {
        if self.wrong.is_none() {
            self.wrong = Some(Found { what, entry: Some(index), event_id });
        }
    }

    /// Whether every emitter's numbers are whole.
    pub(super) fn check(&self) -> Result<(), Found> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    /// Events and epochs by emitter.
    fn by_emitter(&self) -> BTreeMap<&str, (u64, u64)> {
        let mut out: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for ((who, _), next) in &self.next {
            let entry = out.entry(who).or_default();
            entry.0 += next.saturating_sub(1);
            entry.1 += 1;
        }
        out
    }

    /// One line for each emitter.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |(who, (events, epochs)): (&str, (u64, u64))| {
            let epochs = if epochs == 1 { "1 epoch".to_owned() } else { format!("{epochs} epochs") };
            format!("{who}: {events} events in {epochs}, no number missing")
        };
        self.by_emitter().into_iter().map(line).collect()
    }

    pub(super) fn emitters(&self) -> Value {
        let one = |(who, (events, epochs)): (&str, (u64, u64))| json!({ "spiffeId": who, "events": events, "epochs": epochs });
        self.by_emitter().into_iter().map(one).collect()
    }
}
