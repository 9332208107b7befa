//! `legate plan` and `legate apply`: manifests against what the registry holds.

use std::path::PathBuf;

use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    ApplyDeclarationsRequest, ChangeAction, Declaration, DeclarationChange, PlanDeclarationsRequest,
};

use super::Desk;
use crate::error::MANIFEST_INVALID;
use crate::output::{Out, Row, escape::visible};
use crate::place::{Service, request_id};
use crate::{Exit, Failure, manifest, proto};

fn read(files: &[PathBuf]) -> Result<Vec<Declaration>, Failure> {
    let documents = manifest::load(files).map_err(|e| Failure::local(&MANIFEST_INVALID, e.to_string()))?;
    Ok(documents.into_iter().map(|d| d.declaration).collect())
}

pub(super) async fn plan(desk: Desk, files: Vec<PathBuf>, detailed: bool) -> Result<Exit, Failure> {
    let request = PlanDeclarationsRequest { declarations: read(&files)? };
    let registry = desk.line(Service::Registry)?;
    let answer = registry
        .ask(request, |c, r| async move { DeclarationServiceClient::new(c).plan_declarations(r).await })
        .await?;
    let mut out = desk.out();
    if out.is_table() {
        diff(&mut out, &answer.changes, ["will be created", "will change", "stays"])?;
        out.line(&format!(
            "Planned at revision {}; legate apply --base-revision {0} refuses a moved base.",
            answer.revision
        ))?;
        out.flush()?;
    } else {
        out.rows(&proto::dynamic(&answer), &rows(&answer.changes), "")?;
    }
    let changes = answer.changes.iter().any(|c| c.action() != ChangeAction::Unchanged);
    Ok(if changes && detailed { Exit::Changes } else { Exit::Done })
}

pub(super) async fn apply(
    desk: Desk,
    files: Vec<PathBuf>,
    reason: String,
    base_revision: Option<u64>,
) -> Result<Exit, Failure> {
    let request = ApplyDeclarationsRequest {
        declarations: read(&files)?,
        request_id: request_id(),
        reason,
        base_revision: base_revision.unwrap_or(0),
    };
    let registry = desk.line(Service::Registry)?;
    let answer = registry
        .ask(request, |c, r| async move { DeclarationServiceClient::new(c).apply_declarations(r).await })
        .await?;
    let mut out = desk.out();
    if out.is_table() {
        diff(&mut out, &answer.changes, ["created", "changed", "unchanged"])?;
        out.line(&format!("Applied; the registry is at revision {}.", answer.revision))?;
        out.flush()?;
    } else {
        out.rows(&proto::dynamic(&answer), &rows(&answer.changes), "")?;
    }
    Ok(Exit::Done)
}

fn label(change: &DeclarationChange) -> String {
    let kind = proto::pool()
        .get_enum_by_name("legate.registry.v1.Kind")
        .map(|kinds| proto::short(&kinds, change.kind))
        .unwrap_or_default();
    // As manifests write kinds: AgentClass.
    let mut words = String::new();
    for word in kind.split('_') {
        let (first, rest) = word.split_at(word.len().min(1));
        words += &format!("{first}{}", rest.to_ascii_lowercase());
    }
    match change.namespace.as_str() {
        "" => format!("{words} {}", change.name),
        namespace => format!("{words} {namespace}/{}", change.name),
    }
}

/// Each object with what happens to it, and the fields that differ.
fn diff<W: std::io::Write>(out: &mut Out<W>, changes: &[DeclarationChange], words: [&str; 3]) -> Result<(), Failure> {
    let [create, update, keep] = words;
    let mut count = [0_usize; 3];
    for change in changes {
        let (mark, word, index) = match change.action() {
            ChangeAction::Created => ("+", create, 0),
            ChangeAction::Updated => ("~", update, 1),
            _ => ("=", keep, 2),
        };
        count[index] += 1;
        out.line(&format!("{mark} {} {word}", visible(&label(change))))?;
        if change.action() == ChangeAction::Updated {
            for field in &change.fields {
                let shown = |text: &str| if text.is_empty() { "(unset)".into() } else { visible(text).into_owned() };
                out.line(&format!(
                    "    {}: {} -> {}",
                    visible(&field.path),
                    shown(&field.before),
                    shown(&field.after)
                ))?;
            }
        }
    }
    out.line("")?;
    out.line(&format!("{} {create}, {} {update}, {} {keep}.", count[0], count[1], count[2]))
}

fn rows(changes: &[DeclarationChange]) -> Vec<Row> {
    let row = |change: &DeclarationChange| Row {
        cells: Vec::new(),
        name: label(change),
        message: proto::dynamic(change),
        node: None,
    };
    changes.iter().map(row).collect()
}
