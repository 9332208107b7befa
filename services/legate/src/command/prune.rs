//! What carries a label in the registry and is in no manifest any more, wherever its namespace has gone.

use std::collections::{BTreeMap, BTreeSet};

use legate_wire::registry::{Kind, ListDeclarationsRequest, ObjectName};

use super::change::{carries, kind, list_all, was_made};
use super::search;
use crate::Failure;
use crate::cli::{OfAgents, Search, Wanted};
use crate::manifest::{self, Document};
use crate::place::Line;

/// Something that is no longer wanted, and when it was last written: it was chosen by what it was then.
#[derive(Clone, Debug)]
pub(super) struct Unwanted {
    pub(super) name: ObjectName,
    pub(super) written: u64,
}

/// What carries the labels and is in none of the manifests: in every namespace that the caller may see, for the last manifest of one
/// may be gone, or in those that were named.
pub(super) async fn unwanted(
    registry: &Line,
    documents: &[Document],
    labels: &BTreeMap<String, String>,
    wanted: &Wanted,
) -> Result<Vec<Unwanted>, Failure> {
    let kept: BTreeSet<(&str, &str, &str)> =
        documents.iter().map(|d| (d.kind, d.namespace.as_str(), d.name.as_str())).collect();
    let label = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let filter = search::filter(&Search { label, ..Search::default() }, &OfAgents::default())?;
    let everywhere = [String::new()];
    let places = if wanted.within.is_empty() { &everywhere[..] } else { &wanted.within };
    let mut out = Vec::new();
    for name in manifest::kinds() {
        let kind = kind(name)?;
        if kind == Kind::Namespace || (kind == Kind::OperatorBinding && !wanted.prune_operators) {
            continue;
        }
        for place in places {
            let request = ListDeclarationsRequest {
                kind: kind.into(),
                namespace: place.clone(),
                filter: filter.clone(),
                ..ListDeclarationsRequest::default()
            };
            let (objects, _) = list_all(registry, request).await?;
            // Agents that agents made are in no manifest: they end with whoever made them.
            for object in objects.iter().filter(|object| carries(object, labels) && !was_made(object)) {
                let Some(metadata) = object.metadata() else { continue };
                if !kept.contains(&(name, metadata.namespace.as_str(), metadata.name.as_str())) {
                    let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
                    let name = ObjectName { kind: kind.into(), namespace, name };
                    out.push(Unwanted { name, written: metadata.revision });
                }
            }
        }
    }
    Ok(out)
}
