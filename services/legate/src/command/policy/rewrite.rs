//! What a policy says is written anew: told first, tested, and on the way of every other write.

use legate_wire::policy::{PreviewChangeRequest, PreviewChangeResponse};
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    ChangeAction, Metadata, Policy, PolicySpec, UpdateDeclarationRequest, UpdateDeclarationResponse,
};
use prost_types::FieldMask;
use serde_json::{Value, json};

use super::super::Desk;
use super::super::change::{self, Change};
use super::diff::lines;
use super::version::declaration;
use crate::cli::Rewrite;
use crate::output::{Format, declared_row, escape::visible, preview_lines};
use crate::place::{Line, request_id};
use crate::yaml::Node;
use crate::{Exit, Failure};

/// What the record says where a test that failed did not stop it.
const NOT_TESTED: &str = "policy tests were skipped";

/// Writes `spec` in place of what the policy `now` says. `told` is what it would say then, in words: `what version 3 said`.
pub(super) async fn rewrite(
    desk: &Desk,
    registry: &Line,
    now: &Policy,
    (spec, label): (Option<PolicySpec>, &str),
    words: &str,
    how: Rewrite,
) -> Result<Exit, Failure> {
    let metadata = meta(now);
    let name = format!("{}/{}", metadata.namespace, metadata.name);
    let from = format!("{name}@{}", metadata.version);
    let namespace = metadata.namespace.clone();
    // Labels and annotations stay as they are now; its etag shows whether somebody else wrote it since.
    let then = Policy { metadata: Some(metadata), spec };
    let wanted = declaration(then.clone());
    let planned = change::plan(registry, vec![wanted.clone()], Vec::new()).await?;
    let change = Change { declarations: vec![wanted], removals: Vec::new(), planned };
    let mut told = Told {
        name,
        words: words.to_owned(),
        lines: lines(now, &then, (&from, label)),
        preview: change.preview(desk, [namespace].into()).await?,
        differs: change.planned.changes.iter().any(|one| one.action() != ChangeAction::Unchanged),
        written: None,
    };
    let passed = change::passed(&told.preview.tests);
    if how.dry_run || !told.differs {
        told.tell(desk)?;
        return passed.map(|()| Exit::Done);
    }
    let reason = match (passed, how.skip_tests) {
        (Ok(()), _) => how.reason,
        (Err(_), true) => format!("{} ({NOT_TESTED})", how.reason),
        (Err(failed), false) => {
            // What it would have done is told with the refusal, so that one sees why.
            told.tell(desk)?;
            return Err(failed);
        }
    };
    let written = write(registry, change, reason).await?;
    if how.wait {
        let at_least_revision = written.revision;
        change::preview(desk, PreviewChangeRequest { at_least_revision, ..Default::default() }).await?;
    }
    told.written = Some(written);
    told.tell(desk)?;
    Ok(Exit::Done)
}

pub(super) fn meta(policy: &Policy) -> Metadata {
    policy.metadata.clone().unwrap_or_default()
}

/// Writes it, unless somebody else wrote the policy since it was read.
async fn write(registry: &Line, change: Change, reason: String) -> Result<UpdateDeclarationResponse, Failure> {
    let request = UpdateDeclarationRequest {
        declaration: change.declarations.into_iter().next(),
        update_mask: Some(FieldMask { paths: vec!["spec".to_owned()] }),
        request_id: request_id(),
        reason,
    };
    registry.ask(request, |c, r| async move { DeclarationServiceClient::new(c).update_declaration(r).await }).await
}

/// What is told of it.
#[derive(Debug)]
struct Told {
    name: String,
    words: String,
    lines: String,
    preview: PreviewChangeResponse,
    differs: bool,
    written: Option<UpdateDeclarationResponse>,
}

impl Told {
    fn tell(&self, desk: &Desk) -> Result<(), Failure> {
        let mut out = desk.out();
        match out.format {
            Format::Table | Format::Wide => {
                self.lines.lines().try_for_each(|line| out.line(&visible(line)))?;
                preview_lines(&self.preview).iter().try_for_each(|line| out.line(line))?;
                out.line(&visible(&self.summary()))?;
            }
            Format::Json => out.value(&self.whole()?)?,
            Format::Yaml => out.document(&Node::of(&self.whole()?))?,
            Format::Jsonl | Format::Name => {
                let object = self.written.as_ref().and_then(|written| written.declaration.as_ref());
                let rows: Vec<_> = object.map(declared_row).into_iter().collect();
                return out.items(&rows);
            }
        }
        out.flush()
    }

    fn summary(&self) -> String {
        let (name, words) = (&self.name, &self.words);
        match &self.written {
            Some(written) => {
                let version = written.declaration.as_ref().and_then(|d| d.metadata()).map_or(0, |m| m.version);
                let revision = written.revision;
                format!("{name}: version {version} says {words}; the registry is at revision {revision}.")
            }
            None if self.differs => format!("{name} would say {words}. Nothing was written."),
            None => format!("{name} says {words} already. Nothing was written."),
        }
    }

    fn whole(&self) -> Result<Value, Failure> {
        let mut whole = json!({ "diff": self.lines, "preview": change::value(&self.preview)? });
        if let Some(written) = &self.written {
            whole["written"] = change::value(written)?;
        }
        Ok(whole)
    }
}
