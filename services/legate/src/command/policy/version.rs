//! A policy as it is, as it was at a version or a revision, or as a file says.

use std::path::PathBuf;

use legate_wire::registry::as_of::At;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::history_service_client::HistoryServiceClient;
use legate_wire::registry::{
    AsOf, Declaration, GetDeclarationRequest, HistoryAction, Kind, ListHistoryRequest, Policy, PolicySpec,
};

use super::super::agent::PAGE;
use super::super::{change, named};
use crate::error::{MANIFEST_INVALID, USAGE};
use crate::place::Line;
use crate::{Failure, proto};

/// Which text of which policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// What is in force.
    Now(String, String),
    /// What was in force as this version.
    Version(String, String, u32),
    /// What a manifest holds.
    File(PathBuf),
}

impl Which {
    /// Reads NAMESPACE/NAME, NAMESPACE/NAME@VERSION or the name of a file: whatever is no name is a file.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        if let Ok((namespace, name)) = named(text) {
            return Ok(Self::Now(namespace, name));
        }
        if let Some((name, version)) = text.rsplit_once('@')
            && let Ok((namespace, name)) = named(name)
        {
            return match version.parse() {
                Ok(version) if version > 0 => Ok(Self::Version(namespace, name, version)),
                _ => {
                    let why =
                        format!("{text:?}: {version:?} is no version such as 3 (legate policy history tells them)");
                    Err(Failure::local(&USAGE, why))
                }
            };
        }
        Ok(Self::File(text.into()))
    }

    /// The policy that is meant, with its metadata.
    pub(super) async fn read(&self, registry: &Line) -> Result<Policy, Failure> {
        match self {
            Self::Now(namespace, name) => at(registry, namespace, name, None).await,
            Self::Version(namespace, name, version) => as_version(registry, namespace, name, *version).await,
            Self::File(path) => of_file(path),
        }
    }
}

/// The policy of this name at a revision; `None`: now.
pub(super) async fn at(registry: &Line, namespace: &str, name: &str, revision: Option<u64>) -> Result<Policy, Failure> {
    let request = GetDeclarationRequest {
        kind: Kind::Policy.into(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        as_of: revision.map(|revision| AsOf { at: Some(At::Revision(revision)) }),
    };
    let answer =
        registry.ask(request, |c, r| async move { DeclarationServiceClient::new(c).get_declaration(r).await }).await?;
    policy(answer.declaration).ok_or_else(|| {
        let what = format!("the answer holds something else than the policy {namespace}/{name}");
        registry.failure(&legate_rpc::Fault::broken(what).into())
    })
}

/// The policy as its version was; a version is looked for among the writes of whoever holds the name, the newest first.
pub(super) async fn as_version(registry: &Line, namespace: &str, name: &str, version: u32) -> Result<Policy, Failure> {
    let missing = |why: String| Failure::local(&USAGE, format!("{namespace}/{name} has no version {version}: {why}"));
    let mut request = ListHistoryRequest {
        kind: Kind::Policy.into(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        page_size: PAGE,
        ..ListHistoryRequest::default()
    };
    let mut newest = None;
    loop {
        let page = registry
            .ask(request.clone(), |c, r| async move { HistoryServiceClient::new(c).list_history(r).await })
            .await?;
        newest = newest.or(page.entries.first().map(|entry| entry.version));
        let is_it = |entry: &&legate_wire::registry::HistoryEntry| {
            entry.version == version && entry.action() != HistoryAction::Revoked
        };
        if let Some(found) = page.entries.iter().find(is_it) {
            // What was written before the past that is kept is known as it was at its beginning.
            let then = found.revision.max(page.oldest_revision);
            let policy = at(registry, namespace, name, Some(then)).await?;
            let held = policy.metadata.as_ref().map(|metadata| (metadata.version, metadata.id.as_str()));
            return match held {
                Some((held, id)) if held == version && id == page.id => Ok(policy),
                _ => Err(missing(format!("what was written before revision {} is not kept", page.oldest_revision))),
            };
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            let newest = newest.map_or_else(|| "it has none".to_owned(), |newest| format!("the newest is {newest}"));
            return Err(missing(newest));
        }
    }
}

fn of_file(path: &PathBuf) -> Result<Policy, Failure> {
    let documents = change::read(std::slice::from_ref(path))?;
    let count = documents.len();
    let mut policies = documents.into_iter().filter_map(|document| policy(Some(document.declaration)));
    match (policies.next(), policies.next(), count) {
        (Some(only), None, 1) => Ok(only),
        _ => {
            let why = format!("{}: holds {count} documents; give one policy and nothing else", path.display());
            Err(Failure::local(&MANIFEST_INVALID, why))
        }
    }
}

fn policy(of: Option<Declaration>) -> Option<Policy> {
    match of?.object {
        Some(Object::Policy(policy)) => Some(policy),
        _ => None,
    }
}

/// The policy as something that would be declared.
pub(super) fn declaration(policy: Policy) -> Declaration {
    Declaration { object: Some(Object::Policy(policy)) }
}

/// What is declared of a policy, line by line.
pub(super) fn text(spec: &PolicySpec) -> String {
    let mode = proto::word(spec.mode().as_str_name(), "POLICY_MODE_");
    let mut text = format!("// mode: {mode}\n");
    for line in spec.description.lines() {
        text += &format!("// {line}\n");
    }
    text += spec.cedar.trim_end_matches('\n');
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_policy_is_named_in_three_ways() {
        let (namespace, name) = ("payments".to_owned(), "sealed".to_owned());
        assert_eq!(Which::parse("payments/sealed").unwrap(), Which::Now(namespace.clone(), name.clone()));
        assert_eq!(Which::parse("payments/sealed@12").unwrap(), Which::Version(namespace, name, 12));
        for file in ["./payments/sealed", "sealed.yaml", "/etc/a/b", "a/b.json", "-", "p@1/x.yaml"] {
            assert_eq!(Which::parse(file).unwrap(), Which::File(file.into()), "{file}");
        }
        for bad in ["payments/sealed@0", "payments/sealed@", "payments/sealed@-1", "payments/sealed@99999999999"] {
            assert_eq!(Which::parse(bad).unwrap_err().reason, "USAGE", "{bad}");
        }
    }
}
