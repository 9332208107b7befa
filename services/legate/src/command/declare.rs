//! Objects go to the registry over one stream: to be planned, or to be written all at one revision or not at all.

use std::ops::Range;
use std::sync::Arc;

use legate_rpc::Client;
use legate_wire::registry::bulk_apply_request::Part;
use legate_wire::registry::bulk_service_client::BulkServiceClient;
use legate_wire::registry::{
    BulkAction, BulkApplyRequest, BulkEnd, BulkItem, BulkItems, BulkMode, BulkOutcome, BulkStart, ChangeAction,
    Declaration, DeclarationChange, Kind, ObjectName, PlanDeclarationsResponse,
};
use prost::Message as _;
use tonic::Status;

use crate::place::{Line, request_id};
use crate::{Failure, manifest};

/// Items in one message.
const IN_MESSAGE: usize = 500;
/// Bytes in one message; it may be larger by one item.
const MESSAGE_BYTES: usize = 4 << 20;
/// The largest answer: a thousand objects of which every field differs fit.
const LARGEST: usize = 64 << 20;

/// What is said of everything, in its order: the objects that are given, then those that go.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) changes: Vec<DeclarationChange>,
    /// When each was last written; 0 where nothing of its name is in force.
    pub(super) written: Vec<u64>,
    pub(super) revision: u64,
}

impl Said {
    pub(super) fn planned(self) -> PlanDeclarationsResponse {
        PlanDeclarationsResponse { changes: self.changes, revision: self.revision }
    }
}

/// Asks the registry what it would do; refused where what this speaks of was written after `base`, unless that is 0.
pub(super) async fn plan(
    registry: &Line,
    declarations: Vec<Declaration>,
    removals: Vec<ObjectName>,
    base: u64,
) -> Result<Said, Failure> {
    let start = BulkStart { plan_only: true, base_revision: base, ..together() };
    say(registry, start, Everything { declarations, removals }).await
}

/// Writes everything, or nothing; a repetition is harmless.
pub(super) async fn write(
    registry: &Line,
    declarations: Vec<Declaration>,
    removals: Vec<ObjectName>,
    reason: String,
    base: u64,
) -> Result<Said, Failure> {
    let start = BulkStart { request_id: request_id(), reason, base_revision: base, ..together() };
    say(registry, start, Everything { declarations, removals }).await
}

fn together() -> BulkStart {
    BulkStart { mode: BulkMode::AllOrNothing.into(), ..BulkStart::default() }
}

/// What is wanted, and what is no longer wanted.
struct Everything {
    declarations: Vec<Declaration>,
    removals: Vec<ObjectName>,
}

impl Everything {
    fn len(&self) -> usize {
        self.declarations.len() + self.removals.len()
    }

    /// An item, its place as its key.
    fn item(&self, at: usize) -> BulkItem {
        let declaration = self.declarations.get(at).cloned();
        let removal = at.checked_sub(self.declarations.len()).and_then(|at| self.removals.get(at)).cloned();
        BulkItem { key: at.to_string(), declaration, removal }
    }

    fn size(&self, at: usize) -> usize {
        self.declarations.get(at).map_or(0, Declaration::encoded_len)
    }

    /// The items message by message.
    fn pieces(&self) -> Vec<Range<usize>> {
        let (mut pieces, mut from, mut bytes) = (Vec::new(), 0, 0);
        for at in 0..self.len() {
            bytes += self.size(at);
            if at + 1 - from >= IN_MESSAGE || bytes >= MESSAGE_BYTES {
                pieces.push(from..at + 1);
                (from, bytes) = (at + 1, 0);
            }
        }
        if from < self.len() {
            pieces.push(from..self.len());
        }
        pieces
    }

    fn name(&self, at: usize) -> Option<ObjectName> {
        match self.declarations.get(at) {
            Some(declaration) => {
                let metadata = declaration.metadata().cloned().unwrap_or_default();
                let kind = declaration.kind().unwrap_or(Kind::Unspecified).into();
                Some(ObjectName { kind, namespace: metadata.namespace, name: metadata.name })
            }
            None => self.removals.get(at.checked_sub(self.declarations.len())?).cloned(),
        }
    }

    /// `Agent payments/invoice-bot`.
    fn label(&self, at: usize) -> Option<String> {
        let ObjectName { namespace, name, .. } = self.name(at)?;
        let kind = self.declarations.get(at).map(manifest::kind_name).unwrap_or_default();
        Some(if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") })
    }
}

async fn say(registry: &Line, start: BulkStart, all: Everything) -> Result<Said, Failure> {
    if all.len() == 0 {
        return Ok(Said { changes: Vec::new(), written: Vec::new(), revision: start.base_revision });
    }
    registry.show(&BulkApplyRequest { part: Some(Part::Start(start.clone())) });
    let all = Arc::new(all);
    // The whole of it is said again where it may pass: a plan does nothing, and what is written carries an id.
    let said = registry.open(|client| exchange(client, start.clone(), Arc::clone(&all))).await;
    let (outcomes, revision) = said.map_err(|failure| placed(failure, &all))?;
    if outcomes.len() != all.len() {
        let what = format!("the registry answered {} of {} objects", outcomes.len(), all.len());
        return Err(std::io::Error::other(what).into());
    }
    let written = outcomes.iter().map(|outcome| outcome.revision).collect();
    let changes = outcomes.into_iter().enumerate().map(|(at, outcome)| change(&all, at, outcome)).collect();
    Ok(Said { changes, written, revision })
}

/// One stream from its beginning to its end; the outcomes in the order of the items.
async fn exchange(client: Client, start: BulkStart, all: Arc<Everything>) -> Result<(Vec<BulkOutcome>, u64), Status> {
    let (count, pieces) = (all.len(), all.pieces());
    let items = pieces.into_iter().map(move |piece| {
        let items = piece.map(|at| all.item(at)).collect();
        Part::Items(BulkItems { items })
    });
    let end = Part::End(BulkEnd { items: count as u64 });
    let parts = std::iter::once(Part::Start(start)).chain(items).chain(std::iter::once(end));
    let asks = tokio_stream::iter(parts.map(|part| BulkApplyRequest { part: Some(part) }));
    let mut client = BulkServiceClient::new(client).max_decoding_message_size(LARGEST);
    let mut answers = client.bulk_apply(asks).await?.into_inner();
    let (mut outcomes, mut revision) = (Vec::with_capacity(count), 0);
    while let Some(answer) = answers.message().await? {
        revision = answer.revision;
        outcomes.extend(answer.outcomes);
    }
    // What is already so was answered before the rest.
    outcomes.sort_by_key(|outcome| outcome.key.parse().unwrap_or(usize::MAX));
    outcomes.dedup_by(|one, before| one.key == before.key);
    Ok((outcomes, revision))
}

fn change(all: &Everything, at: usize, outcome: BulkOutcome) -> DeclarationChange {
    let action = match outcome.action() {
        BulkAction::Created => ChangeAction::Created,
        BulkAction::Updated => ChangeAction::Updated,
        BulkAction::Removed => ChangeAction::Removed,
        BulkAction::Unchanged => ChangeAction::Unchanged,
        BulkAction::Refused | BulkAction::Unspecified => ChangeAction::Unspecified,
    };
    let ObjectName { kind, namespace, name } = all.name(at).unwrap_or_default();
    DeclarationChange { action: action.into(), kind, namespace, name, id: outcome.id, fields: outcome.fields }
}

/// A refusal that names objects as people do, and not by their places.
fn placed(failure: Failure, all: &Everything) -> Failure {
    let named = |text: String| {
        let (before, rest) = text.split_once("items[")?;
        let (at, rest) = rest.split_once(']')?;
        let label = at.parse().ok().and_then(|at| all.label(at))?;
        Some(format!("{before}{label}: {}", rest.trim_start_matches('.')))
    };
    let fields = failure.fields.into_iter().map(|(path, why)| (named(path.clone()).unwrap_or(path), why)).collect();
    Failure { what: named(failure.what.clone()).unwrap_or(failure.what), fields, ..failure }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::Exit;
    use legate_wire::registry::declaration::Object;
    use legate_wire::registry::{Metadata, Role};

    fn role(name: &str, annotation: usize) -> Declaration {
        let metadata = Metadata {
            name: name.into(),
            namespace: "payments".into(),
            annotations: [("x".to_owned(), "x".repeat(annotation))].into(),
            ..Metadata::default()
        };
        Declaration { object: Some(Object::Role(Role { metadata: Some(metadata), spec: None })) }
    }

    fn of(declarations: Vec<Declaration>, removals: usize) -> Everything {
        let removal =
            |n| ObjectName { kind: Kind::Role.into(), namespace: "payments".into(), name: format!("old-{n}") };
        Everything { declarations, removals: (0..removals).map(removal).collect() }
    }

    #[test]
    fn pieces_are_bounded_and_hold_everything_once() {
        for (all, count) in [
            (of(Vec::new(), 1), 1),
            (of(vec![role("a", 1); 500], 0), 1),
            (of(vec![role("a", 1); 501], 700), 3),
            (of(vec![role("a", 3 << 20); 5], 2), 3),
        ] {
            let pieces = all.pieces();
            assert_eq!(pieces.len(), count, "{pieces:?}");
            assert_eq!(pieces.iter().cloned().flatten().collect::<Vec<_>>(), (0..all.len()).collect::<Vec<_>>());
            assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= IN_MESSAGE));
            let items: Vec<BulkItem> = (0..all.len()).map(|at| all.item(at)).collect();
            assert!(items.iter().all(|item| item.declaration.is_some() != item.removal.is_some()));
            let first = items.iter().position(|item| item.removal.is_some()).unwrap_or(items.len());
            assert_eq!(first, all.declarations.len(), "removals come last");
        }
    }

    #[test]
    fn a_refusal_names_the_object() {
        let all = of(vec![role("reader", 1), role("writer", 1)], 1);
        let failure = Failure {
            exit: Exit::Usage,
            reason: "INVALID_ARGUMENT".into(),
            what: "items[1].spec.permissions: is empty (and 1 more)".into(),
            fields: vec![("items[0].spec".into(), "is missing".into()), ("reason".into(), "is empty".into())],
            next: String::new(),
        };
        let told = placed(failure, &all);
        assert_eq!(told.what, "Role payments/writer: spec.permissions: is empty (and 1 more)");
        assert_eq!(told.fields[0].0, "Role payments/reader: spec");
        assert_eq!(told.fields[1].0, "reason");
    }
}
