//! An operator sees what was issued, newest first, a page at a time.

use legate_ids::{AgentId, Name};
use legate_rpc::Fault;

use super::{Call, Desk};
use crate::convert;
use crate::error::of_tx;
use crate::store::credential;

const USUAL: u32 = 100;
const LARGEST: u32 = 1_000;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) agent_id: String,
    pub(crate) namespace: String,
    pub(crate) instance_id: String,
    pub(crate) page_size: u32,
    pub(crate) page_token: String,
}

/// One page, and the token for the next one; empty when it was the last.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(desk: &Desk, call: &Call, ask: Ask) -> Result<(Vec<credential::Model>, String), Fault> {
    if !ask.agent_id.is_empty() {
        AgentId::parse(&ask.agent_id).map_err(|e| Fault::invalid("agent_id", e.to_string()))?;
    }
    if !ask.namespace.is_empty() {
        Name::parse(&ask.namespace).map_err(|e| Fault::invalid("namespace", e.to_string()))?;
    }
    if !ask.instance_id.is_empty() {
        convert::instance_id(&ask.instance_id)?;
    }
    let size = page_size(ask.page_size)?;
    let sees = desk.mandate(call).await?.sees();
    let question = ["credentials", call.peer.id_text(), &ask.agent_id, &ask.namespace, &ask.instance_id];
    let before = desk.pepper.pages().read(&question, &ask.page_token)?;
    let which = credential::Which {
        agent_id: ask.agent_id.clone(),
        namespace: ask.namespace.clone(),
        instance_id: ask.instance_id.clone(),
        sees,
    };
    let mut rows = desk
        .db
        .read("list_credentials", |tx| {
            let (which, before) = (which.clone(), before.clone());
            Box::pin(async move { credential::page(tx, &which, before.as_deref(), size as u64).await })
        })
        .await
        .map_err(of_tx)?;
    desk.record_emergency(call).await?;
    let is_last = rows.len() <= size;
    rows.truncate(size);
    let next = match rows.last() {
        Some(last) if !is_last => desk.pepper.pages().after(&question, &last.id),
        _ => String::new(),
    };
    Ok((rows, next))
}

/// How many a page is to have.
pub(super) fn page_size(asked: u32) -> Result<usize, Fault> {
    match asked {
        0 => Ok(USUAL as usize),
        size @ 1..=LARGEST => Ok(size as usize),
        _ => Err(Fault::invalid("page_size", "1 to 1,000; 0 means 100")),
    }
}
