//! The registry's past and the audit log, played by hand: what was told is what they remember.

use std::collections::BTreeMap;

use legate_rpc::{Code, Fault, Reason};
use legate_wire::audit::{AuditEvent, IndexedEvent, QueryEventsRequest, QueryEventsResponse};
use legate_wire::registry as wire;
use legate_wire::registry::as_of::At;
use legate_wire::registry::declaration::Object;
use parking_lot::Mutex;
use tonic::Status;

use super::NOW;
use crate::store::archive::Archive;
use crate::store::records::Records;
use crate::store::reviews::Reviews;
use crate::store::uses::Uses;

static AGENT_NOT_FOUND: Reason =
    Reason { name: "AGENT_NOT_FOUND", code: Code::NotFound, meaning: "There is no such agent.", cure: "Look." };
static REVIEW_NOT_FOUND: Reason =
    Reason { name: "REVIEW_NOT_FOUND", code: Code::NotFound, meaning: "There is no such round.", cure: "Look." };
static APPROVAL_DECIDED: Reason =
    Reason { name: "APPROVAL_DECIDED", code: Code::FailedPrecondition, meaning: "It is used.", cure: "Look." };
static REVISION_UNKNOWN: Reason =
    Reason { name: "REVISION_UNKNOWN", code: Code::OutOfRange, meaning: "There is no such revision.", cure: "Look." };

/// Everything that was ever written, by revision; revision N was made at `NOW` less 1,000 s, and N s later.
#[derive(Debug, Default)]
pub(crate) struct TestRegistry {
    written: Mutex<BTreeMap<u64, Vec<(wire::Declaration, bool)>>>,
    pub(crate) is_gone: std::sync::atomic::AtomicBool,
    /// What it heard that agents used.
    pub(crate) usage: Mutex<wire::ListAgentUsageResponse>,
    /// What was approved, and what was written by hand.
    pub(crate) baselines: Mutex<wire::ListAgentBaselinesResponse>,
    /// Which decisions used up what counts once.
    pub(crate) used: Mutex<BTreeMap<String, String>>,
    /// Rounds of reviews, and their items in order.
    pub(crate) rounds: Mutex<Vec<(wire::Review, Vec<wire::ReviewItem>)>>,
}

type Key = (wire::Kind, String, String);

impl TestRegistry {
    pub(crate) fn write(&self, revision: u64, objects: Vec<(wire::Declaration, bool)>) {
        self.written.lock().insert(revision, objects);
    }

    fn made(revision: u64) -> Option<prost_types::Timestamp> {
        let seconds = NOW - 1_000 + i64::try_from(revision).unwrap();
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    /// The revision that is meant, and what was in force then.
    fn at(&self, as_of: Option<wire::AsOf>) -> Result<(u64, BTreeMap<Key, wire::Declaration>), Status> {
        if self.is_gone.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Status::unavailable("the registry is gone"));
        }
        let written = self.written.lock();
        let newest = written.last_key_value().map_or(0, |(revision, _)| *revision);
        let revision = match as_of.and_then(|as_of| as_of.at) {
            None => newest,
            Some(At::Revision(revision)) if (1..=newest).contains(&revision) => revision,
            Some(At::Revision(_)) => return Err(Fault::refused(&REVISION_UNKNOWN, "it is to come").into()),
            Some(At::Time(time)) => u64::try_from(time.seconds - (NOW - 1_000)).unwrap_or(0).min(newest),
        };
        let mut held = BTreeMap::new();
        for (object, revoked) in written.range(..=revision).flat_map(|(_, objects)| objects) {
            let (Some(kind), Some(metadata)) = (object.kind(), object.metadata()) else { continue };
            let key = (kind, metadata.namespace.clone(), metadata.name.clone());
            if *revoked {
                held.remove(&key);
            } else {
                held.insert(key, object.clone());
            }
        }
        Ok((revision, held))
    }
}

#[async_trait::async_trait]
impl Archive for TestRegistry {
    async fn agent(&self, ask: wire::GetAgentRequest) -> Result<wire::GetAgentResponse, Status> {
        let (revision, held) = self.at(ask.as_of)?;
        let wanted = ask.agent.unwrap_or_default();
        let agents = held.into_values().filter_map(|object| match object.object {
            Some(Object::Agent(agent)) => Some(agent),
            _ => None,
        });
        let is_meant = |agent: &wire::Agent| {
            agent.metadata.as_ref().is_some_and(|m| {
                m.id == wanted.id
                    || (wanted.id.is_empty() && (&m.namespace, &m.name) == (&wanted.namespace, &wanted.name))
            })
        };
        let agent = agents.into_iter().find(is_meant);
        let agent = agent.ok_or_else(|| Status::from(Fault::refused(&AGENT_NOT_FOUND, "there is none")))?;
        Ok(wire::GetAgentResponse { agent: Some(agent), revision })
    }

    async fn object(&self, ask: wire::GetDeclarationRequest) -> Result<wire::GetDeclarationResponse, Status> {
        let (revision, mut held) = self.at(ask.as_of)?;
        let declaration = held.remove(&(ask.kind(), ask.namespace.clone(), ask.name.clone()));
        Ok(wire::GetDeclarationResponse { declaration, revision })
    }

    async fn objects(&self, ask: wire::ListDeclarationsRequest) -> Result<wire::ListDeclarationsResponse, Status> {
        let (revision, held) = self.at(ask.as_of)?;
        let of_kind = |key: &Key| key.0 == ask.kind() && (ask.namespace.is_empty() || key.1 == ask.namespace);
        let declarations = held.into_iter().filter(|(key, _)| of_kind(key)).map(|(_, object)| object).collect();
        let revision_time = Self::made(revision);
        Ok(wire::ListDeclarationsResponse { declarations, revision, revision_time, ..Default::default() })
    }

    async fn history(&self, _: wire::ListHistoryRequest) -> Result<wire::ListHistoryResponse, Status> {
        let entry = |revision, action: wire::HistoryAction, actor: &str| wire::HistoryEntry {
            revision,
            action: action.into(),
            actor: actor.into(),
            reason: "it was looked at".into(),
            ..wire::HistoryEntry::default()
        };
        let approved = wire::HistoryAction::Approved;
        let entries = vec![entry(9, approved, "later"), entry(1, approved, "grace"), entry(1, approved, "before")];
        Ok(wire::ListHistoryResponse { entries, ..Default::default() })
    }

    async fn usage(&self, ask: wire::ListAgentUsageRequest) -> Result<wire::ListAgentUsageResponse, Status> {
        if self.is_gone.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Status::unavailable("the registry is gone"));
        }
        let mut told = self.usage.lock().clone();
        told.agents.retain(|one| ask.agent_ids.contains(&one.agent_id));
        told.grants.retain(|one| ask.grant_ids.contains(&one.grant_id));
        Ok(told)
    }

    async fn baselines(
        &self,
        ask: wire::ListAgentBaselinesRequest,
    ) -> Result<wire::ListAgentBaselinesResponse, Status> {
        let mut told = self.baselines.lock().clone();
        told.agents.retain(|one| ask.agent_ids.contains(&one.agent_id));
        told.objects.retain(|one| ask.object_ids.contains(&one.object_id));
        Ok(told)
    }
}

#[async_trait::async_trait]
impl Uses for TestRegistry {
    async fn use_up(&self, ask: wire::UseApprovalsRequest, _: std::time::Duration) -> Result<u64, Status> {
        if self.is_gone.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Status::unavailable("the registry is gone"));
        }
        let mut used = self.used.lock();
        if ask.approval_ids.iter().any(|id| used.contains_key(id)) {
            return Err(Fault::refused(&APPROVAL_DECIDED, "it is USED").into());
        }
        used.extend(ask.approval_ids.into_iter().map(|id| (id, ask.decision_id.clone())));
        Ok(1)
    }
}

#[async_trait::async_trait]
impl Reviews for TestRegistry {
    async fn review(&self, ask: wire::GetReviewRequest) -> Result<wire::GetReviewResponse, Status> {
        let rounds = self.rounds.lock();
        let review = rounds.iter().find(|(round, _)| round.id == ask.review_id).map(|(round, _)| round.clone());
        let review = review.ok_or_else(|| Status::from(Fault::refused(&REVIEW_NOT_FOUND, "there is none")))?;
        Ok(wire::GetReviewResponse { review: Some(review), revision: 1 })
    }

    async fn reviews(&self, _: wire::ListReviewsRequest) -> Result<wire::ListReviewsResponse, Status> {
        let rounds = self.rounds.lock();
        let unverified = rounds.iter().filter(|(_, items)| items.iter().any(|item| item.verification.is_none()));
        let reviews = unverified.map(|(round, _)| round.clone()).collect();
        Ok(wire::ListReviewsResponse { reviews, ..wire::ListReviewsResponse::default() })
    }

    /// Three items to a page.
    async fn items(&self, ask: wire::ListReviewItemsRequest) -> Result<wire::ListReviewItemsResponse, Status> {
        let from: usize = ask.page_token.parse().unwrap_or(0);
        let rounds = self.rounds.lock();
        let items = rounds.iter().find(|(round, _)| round.id == ask.review_id).map(|(_, items)| items.as_slice());
        let all = items.unwrap_or_default();
        let items = all.iter().skip(from).take(3).cloned().collect();
        let next_page_token = if from + 3 < all.len() { (from + 3).to_string() } else { String::new() };
        Ok(wire::ListReviewItemsResponse { items, next_page_token, revision: 1 })
    }

    async fn record(
        &self,
        ask: wire::RecordReviewVerificationRequest,
    ) -> Result<wire::RecordReviewVerificationResponse, Status> {
        let mut rounds = self.rounds.lock();
        let items = rounds.iter_mut().filter(|(round, _)| round.id == ask.review_id).flat_map(|(_, items)| items);
        for item in items {
            if let Some(found) = ask.items.iter().find(|found| found.item_id == item.id) {
                item.verification = Some(wire::ReviewVerification {
                    verified: found.verified,
                    difference: found.difference.clone(),
                    revision: found.revision,
                    ..wire::ReviewVerification::default()
                });
            }
        }
        Ok(wire::RecordReviewVerificationResponse::default())
    }
}

/// The log, as far as decisions are in it, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct TestLog(pub(crate) Mutex<Vec<AuditEvent>>);

#[async_trait::async_trait]
impl Records for TestLog {
    /// Two events to a page.
    async fn page(&self, ask: QueryEventsRequest) -> Result<QueryEventsResponse, Status> {
        let from: usize = ask.page_token.parse().unwrap_or(0);
        let all = self.0.lock();
        let meant: Vec<_> =
            all.iter().rev().filter(|e| e.r#type == ask.r#type && e.namespace == ask.namespace).cloned().collect();
        let indexed = |event| IndexedEvent { event: Some(event), ..IndexedEvent::default() };
        let events = meant.iter().skip(from).take(2).cloned().map(indexed).collect();
        let next_page_token = if from + 2 < meant.len() { (from + 2).to_string() } else { String::new() };
        Ok(QueryEventsResponse { events, next_page_token, ..QueryEventsResponse::default() })
    }
}
