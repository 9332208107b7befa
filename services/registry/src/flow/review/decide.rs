//! Reviewers decide about items, all that were asked for or none, and nobody about what he gave himself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::Name;
use legate_outbox::Standard;
use legate_rpc::{Fault, Mandate};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentSpec, DecideReviewItemsRequest, DecideReviewItemsResponse, ItemDecision, Kind, Review, ReviewCampaignSpec,
    ReviewDecision, ReviewItem, ReviewState, ReviewedThing,
};

use super::compare::Around;
use super::givers::{Given, givers};
use super::{check_etag, evidence, find, item_id, item_not_found, not_in_state, review_id, seen};
use crate::convert;
use crate::domain::kind::Key;
use crate::domain::review::evidence::USUAL;
use crate::domain::{check, review as domain};
use crate::error::{NOT_ITS_REVIEWER, REVIEW_DECISION_UNFIT, REVIEW_ITEM_CHANGED, SELF_REVIEW};
use crate::flow::hands::Hands;
use crate::flow::{By, Call, Desk};
use crate::store::review::Model;
use crate::store::{object, refuse, review_item};

/// Items of one request.
const MOST: usize = 500;
/// Bytes of what has changed that a refusal tells.
const LONGEST: usize = 512;

/// Decides, or says what would come of it.
#[tracing::instrument(skip_all, fields(legate.items = ask.decisions.len()))]
pub(crate) async fn decide(
    desk: &Arc<Desk>,
    call: Call,
    ask: DecideReviewItemsRequest,
) -> Result<DecideReviewItemsResponse, Fault> {
    let id = review_id(&ask.review_id)?;
    crate::flow::refusal(check::check_reason(&call.by.reason, !ask.validate_only))?;
    crate::flow::refusal(check::check_item_decisions(&ask.decisions, MOST))?;
    for (n, one) in ask.decisions.iter().enumerate() {
        item_id(format!("decisions[{n}].item_id"), &one.item_id)?;
    }
    if ask.validate_only {
        let now = desk.clock.now();
        return desk
            .look("decide_review_items", &call.by, move |look| {
                Box::pin(async move {
                    let round = find(look.tx, &look.mandate, &id).await?;
                    look.mandate.demand(Right::Approve, Place::of(&round.namespace)).map_err(refuse)?;
                    let judge =
                        Judge { tx: look.tx, mandate: &look.mandate, by: look.by, now, revision: look.revision };
                    let decided = judge.all(&round, &ask.decisions).await?;
                    let mut items: Vec<ReviewItem> = decided.into_iter().map(|(_, item)| item).collect();
                    evidence::fill(look.tx, look.desk, &mut items, USUAL).await?;
                    let review = Some(seen::one(look.tx, &round, now).await?);
                    Ok(DecideReviewItemsResponse { items, review, revision: look.revision })
                })
            })
            .await;
    }
    let ask = Arc::new((id, ask));
    desk.write("decide_review_items", Standard::Ordinary, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (id, ask) = &*ask;
            let round = find(writing.tx, &writing.mandate, id).await?;
            writing.demand(Right::Approve, Place::of(&round.namespace)).map_err(refuse)?;
            let review = round.review()?;
            let (now, revision) = (writing.now, writing.base());
            let judge = Judge { tx: writing.tx, mandate: &writing.mandate, by: writing.by, now, revision };
            let decided = judge.all(&round, &ask.decisions).await?;
            let (mut rows, mut items) = (Vec::new(), Vec::new());
            let (known, mut decided): (Vec<_>, Vec<_>) = decided.into_iter().unzip();
            // On what it was decided rests with the item.
            evidence::fill(writing.tx, writing.desk, &mut decided, USUAL).await?;
            for ((mut row, mut item), asked) in known.into_iter().zip(decided).zip(&ask.decisions) {
                if asked.decision() == ReviewDecision::Reassign {
                    item.evidence = None;
                }
                row.take(&item);
                item.etag = row.etag();
                let verb = if asked.decision() == ReviewDecision::Reassign { "reassigned" } else { "decided" };
                writing.record(convert::review_item_event(writing.by, verb, &review, &item, writing.now));
                writing.desk.metrics.review_decided(asked.decision());
                rows.push(row);
                items.push(item);
            }
            review_item::update(writing.tx, rows).await?;
            let review = Some(seen::one(writing.tx, &round, writing.now).await?);
            Ok(DecideReviewItemsResponse { items, review, revision: writing.revision() })
        })
    })
    .await
}

/// What is looked at to judge a decision, within one transaction.
struct Judge<'t> {
    tx: &'t Tx,
    mandate: &'t Mandate,
    by: &'t By,
    now: Timestamp,
    revision: u64,
}

/// What an item is about, as it is now.
#[derive(Default)]
struct Now {
    agent: AgentSpec,
    /// Whoever had a hand in what the agent has.
    givers: BTreeSet<String>,
}

impl Judge<'_> {
    /// Each item as it was and as it would be.
    async fn all(
        &self,
        round: &Model,
        asked: &[ItemDecision],
    ) -> TxResult<Vec<(review_item::Model, ReviewItem)>, Fault> {
        if round.state() != ReviewState::Open {
            return Err(refuse(not_in_state(round, "OPEN")));
        }
        let review = round.review()?;
        let ids = asked.iter().map(|one| one.item_id.clone()).collect();
        let mut rows = review_item::by_ids(self.tx, &round.id, ids).await?;
        let mut found = Vec::with_capacity(asked.len());
        for one in asked {
            let row = rows.remove(&one.item_id).ok_or_else(|| refuse(item_not_found(round, &one.item_id)))?;
            let item = row.item()?;
            check_etag(&format!("the item {}", item.id), &row.etag(), &one.etag).map_err(refuse)?;
            found.push((row, item, one));
        }
        let around = Around::of(self.tx, found.iter().map(|(_, item, _)| item)).await?;
        for (_, item, asked) in &mut found {
            self.look_again(&around, item, asked).map_err(refuse)?;
        }
        let mut known = self.known(found.iter().map(|(_, item, _)| item)).await?;
        let mut decided = Vec::with_capacity(found.len());
        for (row, item, asked) in found {
            let now = known.remove(&item.id).unwrap_or_default();
            let item = self.one(&review, item, asked, &now).map_err(refuse)?;
            decided.push((row, item));
        }
        Ok(decided)
    }

    /// What is kept, or kept in part, is what is there now: an item that has changed is made anew for whoever has seen that, and refused to
    /// everybody else. What is to be taken away may be whatever it is.
    fn look_again(&self, around: &Around, item: &mut ReviewItem, asked: &ItemDecision) -> Result<(), Fault> {
        if !matches!(asked.decision(), ReviewDecision::Certify | ReviewDecision::Reduce) {
            return Ok(());
        }
        let changes = around.changes(item);
        if changes.told.is_empty() {
            return Ok(());
        }
        let told = bounded(changes.told.join("; "));
        if changes.is_gone {
            let text = format!("of the item {} nothing can be kept: {told}; revoke it, or leave it", item.id);
            return Err(Fault::refused(&REVIEW_ITEM_CHANGED, text));
        }
        if asked.seen_revision > self.revision {
            let why = format!("is {}, and the registry is at {}", asked.seen_revision, self.revision);
            return Err(Fault::invalid("decisions.seen_revision", why));
        }
        let written = around.written(item);
        if asked.seen_revision < written {
            let text = format!("the item {} has changed since it was made: {told}", item.id);
            let fault = Fault::refused(&REVIEW_ITEM_CHANGED, text);
            return Err(fault.with("changed_revision", written.to_string()));
        }
        around.renew(item);
        Ok(())
    }

    /// What the items are about, read at once however many they are.
    async fn known<'i>(&self, items: impl Iterator<Item = &'i ReviewItem>) -> TxResult<BTreeMap<String, Now>, Fault> {
        let items: Vec<&ReviewItem> = items.collect();
        let mut agents = BTreeMap::new();
        for row in object::by_ids(self.tx, items.iter().map(|item| item.agent_id.clone()).collect()).await? {
            agents.insert(row.id.clone(), row.declaration()?);
        }
        let of_binding = items.iter().filter(|item| item.reviewed() == ReviewedThing::RoleBinding);
        let keys = of_binding.flat_map(|item| [role_of(item), group_of(item)]).filter(|key| !key.name.is_empty());
        let mut around = BTreeMap::new();
        for (key, row) in object::by_keys(self.tx, keys.collect()).await? {
            around.insert(key, (row.id.clone(), row.declaration()?));
        }
        let (mut known, mut hands) = (BTreeMap::new(), Hands::default());
        for item in items {
            let agent = agents.get(&item.agent_id);
            let given = Given {
                reviewed: item.reviewed(),
                agent,
                granted_id: &item.granted_id,
                role_id: around.get(&role_of(item)).map(|(id, _)| id.as_str()),
                group: around.get(&group_of(item)).map(|(_, group)| group),
                delegator: if item.reviewed() == ReviewedThing::DelegationGrant { &item.role } else { "" },
            };
            let mut givers = givers(self.tx, &mut hands, &given).await?;
            // What is no longer kept was written by whom the item names.
            givers.extend(hands.last(self.tx, &item.granted_id, &item.granted_by).await?);
            let agent = match agent.and_then(|declaration| declaration.object.as_ref()) {
                Some(Object::Agent(agent)) => agent.spec.clone().unwrap_or_default(),
                _ => AgentSpec::default(),
            };
            known.insert(item.id.clone(), Now { agent, givers });
        }
        Ok(known)
    }

    /// The item as it would be.
    fn one(&self, review: &Review, mut item: ReviewItem, asked: &ItemDecision, now: &Now) -> Result<ReviewItem, Fault> {
        let spec = review.spec.clone().unwrap_or_default();
        item.evidence = None;
        let barred = domain::barred(&spec, &now.agent, now.givers.iter().map(String::as_str));
        let decision = asked.decision();
        self.check_reviewer(review, &spec, &item, decision, &barred)?;
        let unfit = |why: String| Fault::refused(&REVIEW_DECISION_UNFIT, format!("the item {}: {why}", item.id));
        match decision {
            ReviewDecision::Reassign => {
                let to: BTreeSet<String> = domain::operators_of(&asked.reassign_to, &spec.people).into_iter().collect();
                if to.is_empty() {
                    let why = format!("nobody decides for {}; name an operator, or one in people", asked.reassign_to);
                    return Err(unfit(why));
                }
                let may = &to - &barred;
                if may.is_empty() {
                    let text = format!(
                        "{} gave what the item {} is about, or owns the agent; name somebody else",
                        asked.reassign_to, item.id
                    );
                    return Err(Fault::refused(&SELF_REVIEW, text));
                }
                item.reviewers = may.into_iter().map(|name| format!("operator:{name}")).collect();
                item.decision = ReviewDecision::Unspecified.into();
                (item.keep, item.decided_by, item.decide_time) = (Vec::new(), String::new(), None);
                item.decide_reason.clone_from(&self.by.reason);
                return Ok(item);
            }
            ReviewDecision::Reduce if item.reviewed() == ReviewedThing::AgentClass => {
                let why = "a class is kept or revoked; what an agent is to have of it is its ceiling".to_owned();
                return Err(unfit(why));
            }
            ReviewDecision::Reduce => {
                if let Some(why) = domain::why_no_part(&asked.keep, &item.permissions) {
                    return Err(unfit(format!("keep {why}")));
                }
            }
            ReviewDecision::Certify | ReviewDecision::Revoke | ReviewDecision::Unspecified => {}
        }
        item.decision = decision.into();
        item.keep.clone_from(&asked.keep);
        item.decided_by.clone_from(&self.by.actor);
        item.decide_time = Some(self.now.into());
        item.decide_reason.clone_from(&self.by.reason);
        Ok(item)
    }

    /// Whether the caller may decide about it: he is asked, or it was escalated to him, or he decided before; or he is an
    /// administrator who has somebody else decide. And in no case did he give it, nor own the agent where others are asked.
    fn check_reviewer(
        &self,
        review: &Review,
        spec: &ReviewCampaignSpec,
        item: &ReviewItem,
        decision: ReviewDecision,
        barred: &BTreeSet<String>,
    ) -> Result<(), Fault> {
        let own = own_name(self.by).map(Name::as_str).unwrap_or_default();
        let administers = self.mandate.may(Right::Administer, Place::of(&item.namespace));
        if decision == ReviewDecision::Reassign && administers {
            return Ok(());
        }
        if barred.contains(own) {
            let text = format!("{} gave what the item {} is about, or owns its agent", self.by.actor, item.id);
            return Err(Fault::refused(&SELF_REVIEW, text));
        }
        if may_decide(review, spec, item, own) || item.decided_by == self.by.actor {
            return Ok(());
        }
        let text = format!("{} is no reviewer of the item {}", self.by.actor, item.id);
        let fault = Fault::refused(&NOT_ITS_REVIEWER, text);
        Err(fault.with("reviewers", item.reviewers.join(" ")))
    }
}

/// What is told of changes in a refusal; the item tells all of them.
fn bounded(mut told: String) -> String {
    if told.len() > LONGEST {
        told.truncate(told.floor_char_boundary(LONGEST));
        told.push_str("\u{2026} (legate review show tells the whole)");
    }
    told
}

/// Whether an operator is asked about an item, or it was escalated to him.
pub(super) fn may_decide(review: &Review, spec: &ReviewCampaignSpec, item: &ReviewItem, operator: &str) -> bool {
    let is_asked = |one: &String| one.strip_prefix("operator:") == Some(operator);
    let is_escalated = review.escalate_time.is_some() && item.decision() == ReviewDecision::Unspecified;
    item.reviewers.iter().any(is_asked) || (is_escalated && domain::escalation(spec).contains(operator))
}

fn role_of(item: &ReviewItem) -> Key {
    Key::new(Kind::Role, &item.namespace, &item.role)
}

fn group_of(item: &ReviewItem) -> Key {
    Key::new(Kind::Group, &item.namespace, &item.group)
}

/// The name of an operator who calls.
pub(super) fn own_name(by: &By) -> Option<&Name> {
    by.operator.as_ref().map(|operator| &operator.name)
}
