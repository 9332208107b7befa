//! The policies of namespaces and what these declare of what callers state: as they are in force, or as manifests say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use legate_cedar::Declared;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{Declaration, GetDeclarationRequest, Kind, PolicySpec};

use super::super::{Desk, change};
use crate::Failure;
use crate::error::{POLICY_SCHEMA_INVALID, USAGE};
use crate::place::{Line, Service};

/// What is written of one namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// The schema, where something says what it is; empty: it declares nothing.
    pub(super) schema: Option<String>,
    /// The policies, by name.
    pub(super) policies: BTreeMap<String, PolicySpec>,
}

/// All namespaces that something is written of, by name.
pub(super) type All = BTreeMap<String, Written>;

impl Written {
    /// What is declared of what callers state.
    pub(super) fn declared(&self, namespace: &str) -> Result<Option<Declared>, Failure> {
        match self.schema.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => Declared::parse(text)
                .map(Some)
                .map_err(|e| Failure::local(&POLICY_SCHEMA_INVALID, format!("policySchema of {namespace}: {e}"))),
        }
    }
}

/// Where policies are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    Active,
    Files(Vec<PathBuf>),
}

impl From {
    /// Reads it. Of what is in force only `namespaces` are read; none given: all.
    pub(super) async fn read(&self, desk: &Desk, namespaces: &[String]) -> Result<All, Failure> {
        match self {
            Self::Active => active(&desk.line(Service::Registry)?, namespaces).await,
            Self::Files(files) => Ok(of(change::read(files)?.into_iter().map(|document| document.declaration))),
        }
    }
}

fn of(declarations: impl IntoIterator<Item = Declaration>) -> All {
    let mut all = All::new();
    for declaration in declarations {
        let Some(metadata) = declaration.metadata().cloned() else { continue };
        match declaration.object {
            Some(Object::Namespace(namespace)) => {
                let schema = namespace.spec.unwrap_or_default().policy_schema;
                all.entry(metadata.name).or_default().schema = Some(schema);
            }
            Some(Object::Policy(policy)) => {
                let here = all.entry(metadata.namespace).or_default();
                here.policies.insert(metadata.name, policy.spec.unwrap_or_default());
            }
            _ => {}
        }
    }
    all
}

async fn active(registry: &Line, namespaces: &[String]) -> Result<All, Failure> {
    if namespaces.is_empty() {
        let (spaces, _) = change::list(registry, Kind::Namespace, "").await?;
        let (policies, _) = change::list(registry, Kind::Policy, "").await?;
        return Ok(of(spaces.into_iter().chain(policies)));
    }
    let mut all = All::new();
    for name in namespaces {
        if let Err(e) = legate_ids::Name::parse(name) {
            return Err(Failure::local(&USAGE, format!("{name:?} is no namespace: {e}")));
        }
        let request = GetDeclarationRequest { kind: Kind::Namespace.into(), name: name.clone(), ..Default::default() };
        let found = registry
            .ask(request, |c, r| async move { DeclarationServiceClient::new(c).get_declaration(r).await })
            .await?;
        let (policies, _) = change::list(registry, Kind::Policy, name).await?;
        all.extend(of(found.declaration.into_iter().chain(policies)));
    }
    Ok(all)
}
