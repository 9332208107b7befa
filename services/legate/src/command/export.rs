//! `legate export`: what is in force, as the manifests that would declare it again.

use std::io::Write as _;
use std::path::Path;

use legate_wire::registry::as_of::At;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{AsOf, Declaration, Kind, ListDeclarationsRequest};

use super::Desk;
use super::change::{carries, kind, list_all, selector, was_made};
use crate::cli::Export;
use crate::error::USAGE;
use crate::output::{Format, escape::visible_json};
use crate::place::{Line, Service};
use crate::{Exit, Failure, manifest};

pub(super) async fn run(desk: Desk, args: Export) -> Result<Exit, Failure> {
    let as_json = match desk.format {
        // Manifests are YAML unless somebody says otherwise.
        Format::Yaml | Format::Table | Format::Wide => false,
        Format::Json => true,
        Format::Jsonl | Format::Name => {
            return Err(Failure::local(&USAGE, "manifests are written with -o yaml or -o json"));
        }
    };
    let found = found(&desk, &args).await?;
    let text = |object: &Declaration| -> Result<String, Failure> {
        let Some(node) = manifest::node(object) else { return Ok(String::new()) };
        if as_json {
            let json = serde_json::to_string_pretty(&node.to_json()).map_err(std::io::Error::other)?;
            return Ok(format!("{}\n", visible_json(&json)));
        }
        Ok(node.to_yaml())
    };
    let mut out = desk.out();
    if let Some(dir) = &args.dir {
        for object in &found {
            write(dir, object, &text(object)?, if as_json { "json" } else { "yaml" })?;
        }
        out.line(&format!("{} objects are in {}", found.len(), dir.display()))?;
        out.flush()?;
        return Ok(Exit::Done);
    }
    for (n, object) in found.iter().enumerate() {
        if n > 0 && !as_json {
            out.line("---")?;
        }
        out.line(text(object)?.trim_end())?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// Everything that is asked for, kind by kind.
async fn found(desk: &Desk, args: &Export) -> Result<Vec<Declaration>, Failure> {
    if let Some(dir) = &args.dir
        && std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
    {
        return Err(Failure::file(dir, "the directory is not empty; nothing is overwritten"));
    }
    let labels = args.selector.as_deref().map(selector).transpose()?.unwrap_or_default();
    let named: Result<Vec<Kind>, Failure> = args.kind.iter().map(|name| kind(name)).collect();
    let named = named?;
    let registry = desk.line(Service::Registry)?;
    let Some(as_of) = newest(&registry).await? else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for name in manifest::kinds() {
        let kind = kind(name)?;
        if !named.is_empty() && !named.contains(&kind) {
            continue;
        }
        let wanted = args.namespace.as_deref().unwrap_or_default();
        // A namespace is in none.
        let within = if kind == Kind::Namespace { "" } else { wanted };
        let request = ListDeclarationsRequest {
            kind: kind.into(),
            namespace: within.to_owned(),
            as_of: Some(as_of),
            ..ListDeclarationsRequest::default()
        };
        let (objects, _) = list_all(&registry, request).await?;
        let is_named = |object: &Declaration| {
            kind != Kind::Namespace
                || wanted.is_empty()
                || object.metadata().is_some_and(|metadata| metadata.name == wanted)
        };
        all.extend(
            objects.into_iter().filter(|object| is_named(object) && carries(object, &labels) && !was_made(object)),
        );
    }
    Ok(all)
}

/// Where the registry is: all kinds and pages are read as of that, so that what one names is among the others. `None`: nothing is
/// declared at all.
async fn newest(registry: &Line) -> Result<Option<AsOf>, Failure> {
    let request = ListDeclarationsRequest { kind: Kind::Namespace.into(), page_size: 1, ..Default::default() };
    let page = registry
        .ask(request, |c, r| async move { DeclarationServiceClient::new(c).list_declarations(r).await })
        .await?;
    Ok((page.revision > 0).then_some(AsOf { at: Some(At::Revision(page.revision)) }))
}

/// Writes DIR/NAMESPACE/KIND-NAME.yaml, and what stands in no namespace to DIR/KIND-NAME.yaml; names hold nothing that a path could
/// be broken with. No file is written twice.
fn write(dir: &Path, object: &Declaration, text: &str, ending: &str) -> Result<(), Failure> {
    let metadata = object.metadata().cloned().unwrap_or_default();
    let kind = manifest::kind_name(object).to_ascii_lowercase();
    // A namespace lies beside what is in it.
    let namespace = if kind == "namespace" { &metadata.name } else { &metadata.namespace };
    for name in [namespace, &metadata.name].into_iter().filter(|name| !name.is_empty()) {
        legate_ids::Name::parse(name).map_err(|e| Failure::file(dir, e))?;
    }
    let dir = dir.join(namespace);
    std::fs::create_dir_all(&dir).map_err(|e| Failure::file(&dir, e))?;
    let file = dir.join(format!("{kind}-{}.{ending}", metadata.name));
    let refused = |e: std::io::Error| Failure::file(&file, e);
    std::fs::File::create_new(&file).map_err(refused)?.write_all(text.as_bytes()).map_err(refused)
}
