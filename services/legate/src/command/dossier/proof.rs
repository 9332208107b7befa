//! The events that made things so: looked up in one tree with their proofs, and cited by what rests on them.

use std::collections::{BTreeMap, BTreeSet};

use legate_merkle::Checkpoint;
use legate_wire::audit::{IndexedEvent, QueryEventsRequest};
use legate_wire::registry::Kind;

use super::ask::Then;
use crate::Failure;
use crate::command::audit::{PROVED_PAGE, each_page, verify_events};
use crate::command::evidence::Body;
use crate::dossier::Cite;
use crate::evidence::each_in_full;
use crate::place::Line;
use crate::proto;

/// The newest events that one question looks at.
pub(super) const LOOKED_AT: usize = 2_000;
/// Names in one filter, which has 2,048 bytes at most.
const NAMES: usize = 20;

/// Events by their leaves.
#[derive(Debug, Default)]
pub(super) struct Book {
    events: BTreeMap<u64, IndexedEvent>,
}

impl Book {
    /// Takes in the newest events that answer a question in this tree, each verified.
    async fn take(&mut self, audit: &Line, signed: &Checkpoint, ask: QueryEventsRequest) -> Result<(), Failure> {
        if signed.size == 0 {
            return Ok(());
        }
        let request = QueryEventsRequest {
            with_proofs: true,
            proof_tree_size: signed.size,
            indexed_at_least: signed.size,
            page_size: PROVED_PAGE,
            ..ask
        };
        let mut looked_at = 0;
        each_page(audit, request, |page| {
            verify_events(signed, &page.events)?;
            looked_at += page.events.len();
            let mut events = page.events.clone();
            each_in_full(&mut events);
            self.events.extend(events.into_iter().map(|event| (event.leaf_index, event)));
            Ok(looked_at < LOOKED_AT)
        })
        .await
    }

    /// What became of the agent, its credentials and what was decided about it in reviews.
    pub(super) async fn of_agent(
        &mut self,
        audit: &Line,
        signed: &Checkpoint,
        agent_id: &str,
        at: &Then,
    ) -> Result<(), Failure> {
        for kinds in [&["agent.*", "review_item.*", "approval.*"][..], &["credential.*"]] {
            let filter = kinds.iter().map(|kind| format!("type = \"{kind}\"")).collect::<Vec<_>>().join(" OR ");
            let agent_id = agent_id.to_owned();
            let ask = QueryEventsRequest { agent_id, filter, to_time: at.until(), ..Default::default() };
            self.take(audit, signed, ask).await?;
        }
        Ok(())
    }

    /// How these objects of a namespace were written.
    pub(super) async fn of_objects(
        &mut self,
        audit: &Line,
        signed: &Checkpoint,
        namespace: &str,
        objects: &BTreeSet<(Kind, String)>,
        at: &Then,
    ) -> Result<(), Failure> {
        let mut by_kind: BTreeMap<Kind, Vec<&str>> = BTreeMap::new();
        for (kind, name) in objects {
            by_kind.entry(*kind).or_default().push(name);
        }
        for (kind, names) in by_kind {
            for names in names.chunks(NAMES) {
                let named = names.iter().map(|name| format!("resource_id = \"{name}\"")).collect::<Vec<_>>();
                let filter = format!(
                    "type = \"{}.*\" AND resource_type = \"{}\" AND {}",
                    noun(kind),
                    name_of(kind),
                    named.join(" OR ")
                );
                let namespace = namespace.to_owned();
                let ask = QueryEventsRequest { namespace, filter, to_time: at.until(), ..Default::default() };
                self.take(audit, signed, ask).await?;
            }
        }
        Ok(())
    }

    fn cites(&self, is_it: impl Fn(&legate_wire::audit::AuditEvent) -> bool) -> Vec<Cite> {
        let events = self.events.iter().filter_map(|(leaf, one)| Some((leaf, one.event.as_ref()?)));
        let cite = |(leaf, event): (&u64, &legate_wire::audit::AuditEvent)| Cite {
            leaf: *leaf,
            event_id: event.event_id.clone(),
            r#type: event.r#type.clone(),
        };
        events.filter(|(_, event)| is_it(event)).map(cite).collect()
    }

    /// The write of an object at a revision.
    pub(super) fn written(&self, kind: Kind, name: &str, revision: u64) -> Vec<Cite> {
        let of = name_of(kind);
        self.cites(|event| {
            event.revision == revision
                && event.resource.as_ref().is_some_and(|resource| resource.r#type == of && resource.id == name)
        })
    }

    /// What was told of an item of a review.
    pub(super) fn review_item(&self, id: &str) -> Vec<Cite> {
        self.cites(|event| {
            event.r#type.starts_with("review_item.")
                && event.resource.as_ref().is_some_and(|resource| resource.id == id)
        })
    }

    /// How a credential came and went.
    pub(super) fn credential(&self, id: &str) -> Vec<Cite> {
        self.cites(|event| event.credential_id == id && event.r#type.starts_with("credential."))
    }

    /// Writes those that are cited, in the order of the log.
    pub(super) fn write(&self, cited: &BTreeSet<u64>, into: &mut Body) -> Result<(), Failure> {
        self.events.iter().filter(|(leaf, _)| cited.contains(leaf)).try_for_each(|(_, event)| into.write(event))
    }
}

/// The noun of a kind's events, such as `role_binding`.
fn noun(kind: Kind) -> String {
    proto::word(kind.as_str_name(), "KIND_").to_ascii_lowercase()
}

/// The kind as events name it, such as `RoleBinding`.
pub(super) fn name_of(kind: Kind) -> String {
    let words = proto::word(kind.as_str_name(), "KIND_").split('_');
    words.map(|word| word[..1].to_owned() + &word[1..].to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    #[test]
    fn kinds_have_the_names_that_manifests_and_events_give_them() {
        for kind in manifest::kinds() {
            let found = (1..=40).filter_map(|number| Kind::try_from(number).ok()).find(|one| name_of(*one) == *kind);
            assert!(found.is_some(), "{kind}");
        }
        assert_eq!(
            (noun(Kind::RoleBinding).as_str(), name_of(Kind::RoleBinding).as_str()),
            ("role_binding", "RoleBinding")
        );
    }
}
