//! An operator sees what was issued, newest first, a page at a time.

use legate_ids::{AgentId, Name};
use legate_rpc::Fault;

use super::{Call, Desk};
use crate::error::of_tx;
use crate::store::credential;

const USUAL: u32 = 100;
const LARGEST: u32 = 1_000;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) agent_id: String,
    pub(crate) namespace: String,
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
    let size = match ask.page_size {
        0 => USUAL,
        size @ 1..=LARGEST => size,
        _ => return Err(Fault::invalid("page_size", "1 to 1,000; 0 means 100")),
    };
    let sees = desk.mandate(call).await?.sees();
    let question = ["credentials", call.peer.id_text(), &ask.agent_id, &ask.namespace];
    let before = desk.pepper.pages().read(&question, &ask.page_token)?;
    let (agent, namespace) = (ask.agent_id.as_str(), ask.namespace.as_str());
    let mut rows = desk
        .db
        .read("list_credentials", |tx| {
            let which = credential::Which { agent_id: agent.to_owned(), namespace: namespace.to_owned(), sees };
            let before = before.clone();
            Box::pin(async move { credential::page(tx, &which, before.as_deref(), size.into()).await })
        })
        .await
        .map_err(of_tx)?;
    desk.record_emergency(call).await?;
    let is_last = u32::try_from(rows.len()).is_ok_and(|n| n <= size);
    rows.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    let next = match rows.last() {
        Some(last) if !is_last => desk.pepper.pages().after(&question, &last.id),
        _ => String::new(),
    };
    Ok((rows, next))
}
