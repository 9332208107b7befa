//! Who is answerable for what a decision rests on: asked of the registry, at the revision that was decided at.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use legate_wire::policy as wire;
use legate_wire::registry::as_of::At;
use legate_wire::registry::{
    AgentRef, AsOf, Declaration, GetAgentRequest, GetDeclarationRequest, HistoryAction, HistoryEntry,
    ListHistoryRequest,
};
use tonic::Status;

use crate::convert::derivation::{kind, object_ref};
use crate::domain::derivation::{Kind, Object, Step};
use crate::store::archive::Archive;

/// Objects whose origins are told.
const MOST: usize = 64;
/// Calls to the registry at once.
const AT_ONCE: usize = 8;
/// Writes of an agent among which its approval is looked for.
const WRITES: u32 = 1_000;

/// The objects that the steps name, in their order, each once.
pub(super) fn objects(steps: &[Step]) -> Vec<Object> {
    let (mut seen, mut all) = (HashSet::new(), Vec::new());
    for step in steps {
        step.walk(&mut |step| {
            if let Some(object) = &step.object
                && seen.insert((object.kind, object.id.clone()))
            {
                all.push(object.clone());
            }
        });
    }
    all
}

/// Their origins at `revision`, and why some are missing.
pub(super) async fn of(
    archive: &Arc<dyn Archive>,
    mut objects: Vec<Object>,
    revision: u64,
    patience: Duration,
) -> (Vec<wire::ObjectOrigin>, String) {
    let left_out = objects.len().saturating_sub(MOST);
    objects.truncate(MOST);
    let wanted = objects.len();
    let until = tokio::time::Instant::now() + patience;
    let mut asked =
        futures_util::stream::iter(objects.into_iter().map(|object| one(archive, object, revision))).buffered(AT_ONCE);
    let (mut found, mut failed) = (Vec::with_capacity(wanted), None);
    loop {
        match tokio::time::timeout_at(until, asked.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(origin))) => found.push(origin),
            Ok(Some(Err(why))) => drop(failed.get_or_insert(why)),
            Err(_) => {
                failed.get_or_insert_with(|| "the registry did not answer in time".to_owned());
                break;
            }
        }
    }
    let more = (left_out > 0).then(|| format!("{left_out} objects more"));
    let note: Vec<String> = failed.into_iter().chain(more).collect();
    (found, note.join("; "))
}

async fn one(archive: &Arc<dyn Archive>, object: Object, revision: u64) -> Result<wire::ObjectOrigin, String> {
    let told = |status: Status| format!("{} {}: {}", kind(object.kind).as_str_name(), object.name, status.message());
    let as_of = Some(AsOf { at: Some(At::Revision(revision)) });
    let (metadata, approval) = if object.kind == Kind::Agent {
        let agent = Some(AgentRef { id: object.id.clone(), ..AgentRef::default() });
        let found = archive.agent(GetAgentRequest { agent, as_of }).await.map_err(told)?;
        let metadata = found.agent.and_then(|agent| agent.metadata);
        (metadata, approval(archive, &object.id, revision).await.map_err(told)?)
    } else {
        let (namespace, name) = (object.namespace.clone(), object.name.clone());
        let ask = GetDeclarationRequest { kind: kind(object.kind).into(), namespace, name, as_of };
        let found = archive.object(ask).await.map_err(told)?;
        (found.declaration.as_ref().and_then(Declaration::metadata).cloned(), None)
    };
    let metadata = metadata.ok_or_else(|| format!("the registry told nothing of {}", object.name))?;
    let approval = approval.unwrap_or_default();
    Ok(wire::ObjectOrigin {
        object: Some(object_ref(&object)),
        created_by: metadata.created_by,
        create_time: metadata.create_time,
        updated_by: metadata.updated_by,
        update_time: metadata.update_time,
        reason: metadata.reason,
        approved_by: approval.actor,
        approve_time: approval.time,
        approve_reason: approval.reason,
    })
}

/// The last approval of an agent that the revision knows of.
async fn approval(archive: &Arc<dyn Archive>, id: &str, revision: u64) -> Result<Option<HistoryEntry>, Status> {
    let ask = ListHistoryRequest { id: id.to_owned(), page_size: WRITES, ..ListHistoryRequest::default() };
    let written = archive.history(ask).await?.entries.into_iter();
    let mut approvals = written.filter(|entry| entry.action() == HistoryAction::Approved && entry.revision <= revision);
    Ok(approvals.next())
}
