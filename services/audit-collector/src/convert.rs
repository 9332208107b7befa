//! Wire messages in and out: decoding may fail, encoding may not.

mod alerts;
pub(crate) mod otlp;
mod usage_feed;

use std::collections::BTreeMap;

use legate_clock::Timestamp;
use legate_filter::{Filter, Scope};
use legate_merkle::{Hash, leaf_hash};
use legate_rpc::Fault;
use legate_wire::audit as wire;

use crate::domain::attested::trust_of;
use crate::domain::question::{LONGEST, Order, Question, TypeFilter};
use crate::flow::prove::Proved;
use crate::flow::query::{Ask, Page, Proofs};
use crate::flow::{append, custody, evidence, receipts, tail, usage};
use crate::log::{Consistency, Rotated, Signed};
use crate::personal::Seen;
use crate::store::usage::{By, Sum};

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

fn outcome(number: i32) -> Result<i32, Fault> {
    let known = wire::Outcome::try_from(number).map(Into::into);
    known.map_err(|_| Fault::invalid("outcome", "is not one of the outcomes there are"))
}

fn trust(number: i32) -> Result<i32, Fault> {
    let known = wire::TrustClass::try_from(number).map(Into::into);
    known.map_err(|_| Fault::invalid("trust", "is not one of the classes there are"))
}

/// A stretch of time that is one.
fn window(
    from: Option<prost_types::Timestamp>,
    to: Option<prost_types::Timestamp>,
) -> Result<(Option<Timestamp>, Option<Timestamp>), Fault> {
    match (time("from_time", from)?, time("to_time", to)?) {
        (Some(from), Some(to)) if from >= to => Err(Fault::invalid("to_time", "is not after from_time")),
        window => Ok(window),
    }
}

fn searched(text: String) -> Result<String, Fault> {
    match text.len() {
        0 | 3..=128 => Ok(text),
        _ => Err(Fault::invalid("text", "is 3 to 128 bytes")),
    }
}

fn filter(text: &str) -> Result<Option<Filter>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    Filter::parse(text, Scope::Events).map(Some).map_err(|bad| Fault::invalid("filter", bad.to_string()))
}

impl From<receipts::Receipts> for wire::GetReceiptsResponse {
    fn from(from: receipts::Receipts) -> Self {
        let receipt = |one: receipts::Receipt| wire::EventReceipt {
            leaf_index: one.leaf_index,
            leaf: one.leaf,
            proof: one.proof.iter().map(|hash| hash.to_vec()).collect(),
        };
        Self {
            receipts: from.all.into_iter().map(receipt).collect(),
            tree_size: from.published.size,
            checkpoint: from.published.note,
            key_rotations: from.rotations.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::QueryEventsRequest> for Question {
    type Error = Fault;

    fn try_from(from: wire::QueryEventsRequest) -> Result<Self, Fault> {
        let kind = text("type", from.r#type)?;
        let (first, last) = window(from.from_time, from.to_time)?;
        if from.include_descendants && from.agent_id.is_empty() && from.via_agent_id.is_empty() {
            return Err(Fault::invalid("include_descendants", "says whose: give agent_id or via_agent_id with it"));
        }
        Ok(Self {
            agent_id: text("agent_id", from.agent_id)?,
            via_agent_id: text("via_agent_id", from.via_agent_id)?,
            descendants: from.include_descendants,
            actor: text("actor", from.actor)?,
            kind: TypeFilter::parse(&kind).ok_or_else(|| {
                Fault::invalid("type", "is a type such as agent.suspended, or agent.* for all of a noun")
            })?,
            namespace: text("namespace", from.namespace)?,
            action: text("action", from.action)?,
            resource_type: text("resource_type", from.resource_type)?,
            resource_id: text("resource_id", from.resource_id)?,
            outcome: outcome(from.outcome)?,
            trace_id: text("trace_id", from.trace_id)?,
            credential_id: text("credential_id", from.credential_id)?,
            decision_id: text("decision_id", from.decision_id)?,
            emitter: text("emitter", from.emitter)?,
            instance_id: text("instance_id", from.instance_id)?,
            subject: text("subject", from.subject)?,
            chain: text("chain", from.chain)?,
            grant_id: text("grant_id", from.grant_id)?,
            filter: filter(&from.filter)?,
            text: searched(from.text)?,
            trust: trust(from.trust)?,
            from: first,
            to: last,
        })
    }
}

impl TryFrom<wire::AppendEventsRequest> for append::Ask {
    type Error = Fault;

    fn try_from(from: wire::AppendEventsRequest) -> Result<Self, Fault> {
        let mut personal = BTreeMap::new();
        let mut last = None;
        for wire::EventPersonal { event, parts } in from.personal {
            if last.replace(event).is_some_and(|last| last >= event) || parts.is_empty() {
                return Err(Fault::invalid(
                    "personal",
                    "is in the order of the events, once for each that names persons",
                ));
            }
            personal.insert(event as usize, parts);
        }
        Ok(Self {
            epoch: from.epoch,
            first_seq: from.first_seq,
            events: from.events,
            personal,
            signature: from.signature,
        })
    }
}

impl TryFrom<wire::QueryEventsRequest> for Ask {
    type Error = Fault;

    fn try_from(mut from: wire::QueryEventsRequest) -> Result<Self, Fault> {
        let order = match wire::EventOrder::try_from(from.order) {
            Ok(wire::EventOrder::Unspecified | wire::EventOrder::NewestFirst) => Order::NewestFirst,
            Ok(wire::EventOrder::OldestFirst) => Order::OldestFirst,
            Err(_) => return Err(Fault::invalid("order", "is not one of the orders there are")),
        };
        Ok(Self {
            order,
            with_proofs: from.with_proofs,
            page_size: from.page_size,
            page_token: std::mem::take(&mut from.page_token),
            indexed_at_least: from.indexed_at_least,
            proof_tree_size: match from.proof_tree_size {
                0 => 0,
                size if from.with_proofs => size,
                _ => return Err(Fault::invalid("proof_tree_size", "is for a question with_proofs")),
            },
            question: from.try_into()?,
        })
    }
}

impl TryFrom<wire::TailEventsRequest> for tail::Ask {
    type Error = Fault;

    fn try_from(from: wire::TailEventsRequest) -> Result<Self, Fault> {
        let question = bare(from.query.unwrap_or_default(), "is not set by who follows the log")?;
        Ok(Self { question, resume_token: from.resume_token })
    }
}

/// A question without what only a page of answers has.
fn bare(query: wire::QueryEventsRequest, why: &str) -> Result<Question, Fault> {
    for (field, is_set) in [
        ("query.page_size", query.page_size != 0),
        ("query.page_token", !query.page_token.is_empty()),
        ("query.order", query.order != 0),
        ("query.with_proofs", query.with_proofs),
        ("query.proof_tree_size", query.proof_tree_size != 0),
        ("query.indexed_at_least", query.indexed_at_least != 0),
    ] {
        if is_set {
            return Err(Fault::invalid(field, why.to_owned()));
        }
    }
    query.try_into()
}

impl TryFrom<wire::RecordEvidenceRequest> for evidence::Ask {
    type Error = Fault;

    fn try_from(from: wire::RecordEvidenceRequest) -> Result<Self, Fault> {
        let kind = match wire::PackKind::try_from(from.kind) {
            Ok(wire::PackKind::Unspecified) => "",
            Ok(wire::PackKind::Dossier) => "dossier",
            Ok(wire::PackKind::Report) => "report",
            Err(_) => return Err(Fault::invalid("kind", "is not one of the kinds there are")),
        };
        let manifest = from.manifest_sha256.as_slice().try_into();
        Ok(Self {
            manifest: manifest.map_err(|_| Fault::invalid("manifest_sha256", "is 32 bytes"))?,
            question: bare(from.query.unwrap_or_default(), "is not set by who records evidence")?,
            events: from.events,
            tree_size: from.tree_size,
            is_complete: from.is_complete,
            cosigned: from.cosigned,
            kind,
        })
    }
}

impl From<evidence::Recorded> for wire::RecordEvidenceResponse {
    fn from(from: evidence::Recorded) -> Self {
        let evidence::Recorded { leaf_index, proved } = from;
        Self {
            leaf_index,
            leaf: proved.leaf,
            proof: hashes(proved.proof),
            tree_size: proved.size,
            checkpoint: proved.checkpoint,
        }
    }
}

impl TryFrom<wire::ListUsageRequest> for usage::Ask {
    type Error = Fault;

    fn try_from(from: wire::ListUsageRequest) -> Result<Self, Fault> {
        let (first, last) = window(from.from_time, from.to_time)?;
        let period = match wire::UsagePeriod::try_from(from.period) {
            Ok(wire::UsagePeriod::Unspecified | wire::UsagePeriod::Total) => 0,
            Ok(wire::UsagePeriod::Day) => 24,
            Ok(wire::UsagePeriod::Hour) => 1,
            Err(_) => return Err(Fault::invalid("period", "is not one of the periods there are")),
        };
        let mut by = Vec::new();
        for field in from.group_by {
            let field = match wire::UsageField::try_from(field) {
                Ok(wire::UsageField::Agent) => By::Agent,
                Ok(wire::UsageField::Action) => By::Action,
                Ok(wire::UsageField::ResourceType) => By::ResourceType,
                Ok(wire::UsageField::Outcome) => By::Outcome,
                Ok(wire::UsageField::Subject) => By::Subject,
                Ok(wire::UsageField::Namespace) => By::Namespace,
                Ok(wire::UsageField::Unspecified) | Err(_) => {
                    return Err(Fault::invalid("group_by", "names what is not one of the fields there are"));
                }
            };
            if by.contains(&field) {
                return Err(Fault::invalid("group_by", "names a field twice"));
            }
            by.push(field);
        }
        if by.is_empty() {
            by = vec![By::Agent, By::Action, By::ResourceType, By::Outcome, By::Subject];
        }
        if from.include_descendants && from.agent_id.is_empty() {
            return Err(Fault::invalid("include_descendants", "says whose: give agent_id with it"));
        }
        Ok(Self {
            agent_id: text("agent_id", from.agent_id)?,
            descendants: from.include_descendants,
            namespace: text("namespace", from.namespace)?,
            subject: text("subject", from.subject)?,
            action: text("action", from.action)?,
            resource_type: text("resource_type", from.resource_type)?,
            outcome: outcome(from.outcome)?,
            from: first,
            to: last,
            period,
            by,
            page_size: from.page_size,
            indexed_at_least: from.indexed_at_least,
        })
    }
}

impl From<Page> for wire::QueryEventsResponse {
    fn from(page: Page) -> Self {
        let say = if page.proofs.is_some() { whole } else { event };
        let leaves = page.leaves.into_iter().map(|seen| (page.attested.get(&seen.at).copied(), seen));
        let mut events: Vec<wire::IndexedEvent> = leaves.map(|(by, seen)| say(seen, by)).collect();
        let (mut checkpoint, mut tree_size) = (String::new(), 0);
        if let Some(Proofs { paths, signatures, published }) = page.proofs {
            for ((event, path), signed) in events.iter_mut().zip(paths).zip(signatures) {
                event.proof = hashes(path);
                event.attestation = signed.map(Into::into);
                if event.attestation.is_none() && event.trust() == wire::TrustClass::Attested {
                    // Its batch broke off, which the index has not come to yet.
                    event.set_trust(wire::TrustClass::Authenticated);
                }
            }
            (checkpoint, tree_size) = (published.note, published.size);
        }
        Self {
            events,
            next_page_token: page.next,
            indexed_through: page.indexed_through,
            log_size: page.log_size,
            is_partial: page.is_partial,
            checkpoint,
            tree_size,
        }
    }
}

impl From<tail::News> for wire::TailEventsResponse {
    fn from(news: tail::News) -> Self {
        Self {
            events: news
                .leaves
                .into_iter()
                .map(|seen| (news.attested.get(&seen.at).copied(), seen))
                .map(|(by, seen)| event(seen, by))
                .collect(),
            indexed_through: news.through,
            resume_token: news.resume_token,
        }
    }
}

impl From<usage::Told> for wire::ListUsageResponse {
    fn from(told: usage::Told) -> Self {
        let row = |sum: Sum| wire::Usage {
            start_time: sum.hour.map(|hour| Timestamp::from_secs(hour.saturating_mul(3_600)).into()),
            agent_id: sum.agent_id,
            namespace: sum.namespace,
            action: sum.action,
            resource_type: sum.resource_type,
            outcome: sum.outcome,
            subject: sum.subject,
            count: sum.count,
            first_time: Some(sum.first.into()),
            last_time: Some(sum.last.into()),
        };
        Self {
            usage: told.sums.into_iter().map(row).collect(),
            is_cut: told.is_cut,
            indexed_through: told.indexed_through,
            log_size: told.log_size,
        }
    }
}

/// An event, and the leaf with its emitter's signature where there is one.
fn event(seen: Seen, attested_by: Option<u64>) -> wire::IndexedEvent {
    wire::IndexedEvent {
        leaf_index: seen.at,
        trust: trust_of(&seen.event, attested_by.is_some()).into(),
        attestation: attested_by.map(|leaf_index| wire::Attestation { leaf_index, ..Default::default() }),
        event: Some(seen.event),
        leaf_hash: leaf_hash(&seen.leaf).to_vec(),
        personal: seen.parts,
        ..wire::IndexedEvent::default()
    }
}

/// With the leaf's own bytes, for whoever verifies a proof.
fn whole(seen: Seen, attested_by: Option<u64>) -> wire::IndexedEvent {
    wire::IndexedEvent { leaf: seen.leaf.clone(), ..event(seen, attested_by) }
}

impl From<Signed> for wire::Attestation {
    fn from(from: Signed) -> Self {
        Self {
            leaf_index: from.at,
            leaf: from.leaf,
            proof: hashes(from.proof),
            position: from.position,
            path: hashes(from.path),
        }
    }
}

fn hashes(all: Vec<Hash>) -> Vec<Vec<u8>> {
    all.into_iter().map(|h| h.to_vec()).collect()
}

impl From<Proved> for wire::ProveInclusionResponse {
    fn from(Proved { inclusion: proved, seen, receipt }: Proved) -> Self {
        Self {
            leaf: proved.leaf,
            proof: hashes(proved.proof),
            tree_size: proved.size,
            root_hash: proved.root.to_vec(),
            checkpoint: proved.checkpoint,
            personal: seen.parts,
            cose_receipt: receipt,
        }
    }
}

impl From<Rotated> for wire::KeyRotation {
    fn from(Rotated { leaf_index, leaf, proof }: Rotated) -> Self {
        Self { leaf_index, leaf, proof: hashes(proof) }
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

impl From<wire::EraseSubjectRequest> for custody::Erase {
    fn from(from: wire::EraseSubjectRequest) -> Self {
        Self { subject: from.subject, validate_only: from.validate_only, reason: from.reason }
    }
}

impl From<custody::Erased> for wire::EraseSubjectResponse {
    fn from(done: custody::Erased) -> Self {
        Self {
            events: done.named.events,
            keys: done.keys,
            first_time: done.named.first.map(Into::into),
            last_time: done.named.last.map(Into::into),
            leaf_index: done.leaf,
            holds: done.holds,
        }
    }
}

impl TryFrom<wire::Hold> for custody::Hold {
    type Error = Fault;

    fn try_from(from: wire::Hold) -> Result<Self, Fault> {
        if !from.id.is_empty() || !from.actor.is_empty() || from.create_time.is_some() {
            return Err(Fault::invalid("hold", "has id, actor and create_time, which the service sets"));
        }
        let (first, last) = window(from.from_time, from.to_time)?;
        Ok(Self {
            subject: from.subject,
            agent_id: from.agent_id,
            namespace: from.namespace,
            from: first,
            to: last,
            reason: from.reason,
            ..Self::default()
        })
    }
}

impl From<custody::Hold> for wire::Hold {
    fn from(hold: custody::Hold) -> Self {
        Self {
            id: hold.id,
            subject: hold.subject,
            agent_id: hold.agent_id,
            namespace: hold.namespace,
            from_time: hold.from.map(Into::into),
            to_time: hold.to.map(Into::into),
            reason: hold.reason,
            actor: hold.actor,
            create_time: hold.at.map(Into::into),
        }
    }
}
