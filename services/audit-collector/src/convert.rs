//! Wire messages in and out: decoding may fail, encoding may not.

use legate_clock::Timestamp;
use legate_merkle::{Hash, leaf_hash};
use legate_rpc::Fault;
use legate_wire::audit as wire;
use prost::Message as _;

use crate::domain::question::{LONGEST, Question, TypeFilter};
use crate::flow::query::{Ask, Page};
use crate::log::{Consistency, Inclusion};

fn text(field: &str, value: String) -> Result<String, Fault> {
    if value.len() > LONGEST {
        return Err(Fault::invalid(field, "is 2,048 bytes at most"));
    }
    Ok(value)
}

fn time(field: &str, value: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Fault> {
    let read = |t: prost_types::Timestamp| Timestamp::try_from(t).map_err(|e| Fault::invalid(field, e.to_string()));
    value.map(read).transpose()
}

impl TryFrom<wire::QueryEventsRequest> for Ask {
    type Error = Fault;

    fn try_from(from: wire::QueryEventsRequest) -> Result<Self, Fault> {
        let outcome = wire::Outcome::try_from(from.outcome)
            .map_err(|_| Fault::invalid("outcome", "is not one of the outcomes there are"))?;
        let kind = text("type", from.r#type)?;
        let question = Question {
            agent_id: text("agent_id", from.agent_id)?,
            actor: text("actor", from.actor)?,
            kind: TypeFilter::parse(&kind).ok_or_else(|| {
                Fault::invalid("type", "is a type such as agent.suspended, or agent.* for all of a noun")
            })?,
            namespace: text("namespace", from.namespace)?,
            action: text("action", from.action)?,
            resource_type: text("resource_type", from.resource_type)?,
            resource_id: text("resource_id", from.resource_id)?,
            outcome: outcome.into(),
            trace_id: text("trace_id", from.trace_id)?,
            credential_id: text("credential_id", from.credential_id)?,
            decision_id: text("decision_id", from.decision_id)?,
            emitter: text("emitter", from.emitter)?,
            from: time("from_time", from.from_time)?,
            to: time("to_time", from.to_time)?,
        };
        if let (Some(from), Some(to)) = (question.from, question.to)
            && from >= to
        {
            return Err(Fault::invalid("to_time", "is not after from_time"));
        }
        Ok(Self {
            question,
            page_size: from.page_size,
            page_token: from.page_token,
            indexed_at_least: from.indexed_at_least,
        })
    }
}

impl From<Page> for wire::QueryEventsResponse {
    fn from(page: Page) -> Self {
        Self {
            events: page.leaves.into_iter().map(event).collect(),
            next_page_token: page.next,
            indexed_through: page.indexed_through,
            log_size: page.log_size,
        }
    }
}

fn event((leaf_index, leaf): (u64, Vec<u8>)) -> wire::IndexedEvent {
    wire::IndexedEvent {
        leaf_index,
        // Every leaf was decoded before it became one.
        event: wire::AuditEvent::decode(leaf.as_slice()).ok(),
        // Its emitter sent it over mutual TLS, and did not sign it.
        trust: wire::TrustClass::Authenticated.into(),
        leaf_hash: leaf_hash(&leaf).to_vec(),
    }
}

fn hashes(all: Vec<Hash>) -> Vec<Vec<u8>> {
    all.into_iter().map(|h| h.to_vec()).collect()
}

impl From<Inclusion> for wire::ProveInclusionResponse {
    fn from(proved: Inclusion) -> Self {
        Self {
            leaf: proved.leaf,
            proof: hashes(proved.proof),
            tree_size: proved.size,
            root_hash: proved.root.to_vec(),
            checkpoint: proved.checkpoint,
        }
    }
}

impl From<Consistency> for wire::ProveConsistencyResponse {
    fn from(proved: Consistency) -> Self {
        Self {
            proof: hashes(proved.proof),
            first_root_hash: proved.first_root.to_vec(),
            second_root_hash: proved.second_root.to_vec(),
            second_size: proved.second_size,
        }
    }
}
