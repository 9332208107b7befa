//! What one agent may do, and could before and after each write of a round, held against what was decided about it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::AgentId;
use legate_rpc::Fault;
use legate_view::{Agent, Reading};
use legate_wire::policy::{EvaluateRequest, OnBehalfOf, Resource, Subject, subject};
use legate_wire::registry as wire;
use prost_types::value::Kind as Value;
use tokio::time::Instant;
use wire::as_of::At;
use wire::declaration::Object;
use wire::{AsOf, GetDeclarationRequest, Kind, Review, ReviewItem, ReviewedThing, VerifiedItem};

use super::{Which, end, unavailable};
use crate::convert;
use crate::domain::reviewed::{self, Able, Written};
use crate::error::{REVISION_NOT_REACHED, STALE};
use crate::flow::asker::Right;
use crate::flow::asking::{AGAIN, fresh};
use crate::flow::evaluate::{Desk, judge};
use crate::flow::what_can::{Ground, WhatCan, see};
use crate::store::archive::reason;

/// The longest that is said of an item.
const LONGEST: usize = 1_024;
/// The longest that one look, or one reading of the past, takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// What stands for one of those that a pattern stands for, in a question.
const ANY: &str = "legate-review";

/// What was found so far of a round.
pub(super) struct Look<'a> {
    desk: &'a Arc<Desk>,
    right: &'a Right,
    review: &'a Review,
    until: Instant,
    pub(super) found: Vec<VerifiedItem>,
    pub(super) notes: Vec<String>,
    /// The latest revision that was looked at.
    pub(super) revision: u64,
}

/// An agent that is there, and all of its items.
struct Whom<'a> {
    agent: Arc<Agent>,
    items: &'a [ReviewItem],
    reading: Reading,
    now: Timestamp,
}

impl<'a> Look<'a> {
    pub(super) fn new(desk: &'a Arc<Desk>, right: &'a Right, review: &'a Review, until: Instant) -> Self {
        Self { desk, right, review, until, found: Vec::new(), notes: Vec::new(), revision: 0 }
    }

    /// Looks at all items of one agent; whose they are.
    pub(super) async fn at_agent(&mut self, items: Vec<ReviewItem>, which: Which) -> Result<String, Fault> {
        let Some(id) = items.first().map(|item| item.agent_id.clone()) else { return Ok(String::new()) };
        if which == Which::New && items.iter().all(|item| item.verification.is_some()) {
            return Ok(id);
        }
        let changed = items.iter().filter_map(|item| item.remediation.as_ref()).map(|of| of.revision).max();
        let reading = self.reading(changed.unwrap_or_default()).await?;
        let (revision, now) = (reading.snapshot.revision(), self.desk.clock.now());
        self.revision = self.revision.max(revision);
        let agent = AgentId::parse(&id).ok().and_then(|id| reading.snapshot.agent(&id).cloned());
        let Some(agent) = agent else {
            // It is no more, and may do nothing.
            self.found.extend(items.iter().map(|item| found(item, None, revision)));
            return Ok(id);
        };
        let whom = Whom { agent, items: &items, reading, now };
        let able = self.able(&whom.agent, Ground::present(self.desk, &whom.reading, &whom.agent.id, now)).await?;
        let written = self.written(&whom).await?;
        for item in &items {
            let difference = self.difference(item, &whom, &able, &written).await?;
            self.found.push(found(item, difference, revision));
        }
        Ok(id)
    }

    /// The view, once it has the revision.
    async fn reading(&self, at_least: u64) -> Result<Reading, Fault> {
        // What comes of it shows in the reading.
        let _ = self.desk.view.wait_for(at_least, PATIENCE).await;
        let (reading, _) = fresh(self.desk)?;
        let held = reading.snapshot.revision();
        if held < at_least {
            let text = format!("revision {at_least} was written by the round, the view holds {held}");
            return Err(Fault::unavailable(&REVISION_NOT_REACHED, text, AGAIN));
        }
        Ok(reading)
    }

    /// What an agent may do there, taken for ACTIVE, so that a suspension hides nothing.
    async fn able(&self, agent: &Arc<Agent>, ground: Ground) -> Result<Able, Fault> {
        let ask = WhatCan { if_active: true, ..WhatCan::about(agent.id.clone()) };
        let until = self.until.max(Instant::now() + PATIENCE);
        let (stopped, all, left_out) = see(self.desk, self.right, ground, agent, ask, until, ()).await?;
        Ok(Able { all, is_stopped: stopped.is_some(), left_out })
    }

    /// The same at a moment of the past; the reason where that is not known.
    async fn then(&self, agent: &Agent, at: At) -> Result<Result<Able, String>, Fault> {
        let as_of = AsOf { at: Some(at) };
        let ground = match Ground::past(self.desk, self.right, &agent.id, as_of, PATIENCE).await {
            Ok(ground) => ground,
            Err(fault @ Fault::Unavailable(_)) => return Err(fault),
            Err(fault) => return Ok(Err(fault.to_string())),
        };
        match ground.snapshot.agent(&agent.id).cloned() {
            Some(then) => self.able(&then, ground).await.map(Ok),
            None => Ok(Err("it was not there".to_owned())),
        }
    }

    /// What the round wrote of an agent, write by write; none where it wrote nothing, or the past is no longer kept. What others wrote
    /// between is in none of them, and is noted.
    async fn written(&mut self, whom: &Whom<'_>) -> Result<Vec<Written>, Fault> {
        let revisions = whom.items.iter().filter_map(|item| item.remediation.as_ref()).map(|of| of.revision);
        let revisions: BTreeSet<u64> = revisions.filter(|revision| *revision > 0).collect();
        let mut all: Vec<Written> = Vec::new();
        for revision in revisions {
            let earlier = all.last().filter(|last| last.revision + 1 == revision).map(|last| Arc::clone(&last.after));
            let before = match earlier {
                Some(before) => Ok(before),
                None => self.then(&whom.agent, At::Revision(revision.saturating_sub(1))).await?.map(Arc::new),
            };
            let both = match before {
                Ok(before) => {
                    self.then(&whom.agent, At::Revision(revision)).await?.map(|after| (before, Arc::new(after)))
                }
                Err(why) => Err(why),
            };
            match both {
                Ok((before, after)) => all.push(Written { revision, before, after }),
                Err(why) => {
                    let name = &whom.agent.label.name;
                    self.notes.push(format!("what {name} could do before the round wrote is not known: {why}"));
                    return Ok(Vec::new());
                }
            }
        }
        for (one, next) in all.iter().zip(all.iter().skip(1)) {
            if let Some(what) = reviewed::new_in(&one.after, &next.before) {
                let (name, from, to) = (&whom.agent.label.name, one.revision, next.revision);
                self.notes.push(format!(
                    "{name} may {what} by what somebody else wrote between the revisions {from} and {to}, and not by this round"
                ));
            }
        }
        Ok(all)
    }

    /// What is otherwise than was decided about an item.
    async fn difference(
        &self,
        item: &ReviewItem,
        whom: &Whom<'_>,
        now: &Able,
        written: &[Written],
    ) -> Result<Option<String>, Fault> {
        if now.left_out > 0 {
            return Ok(Some(format!("{} of what the agent may do was not looked at", now.left_out)));
        }
        if let Some(text) = reviewed::failed(item) {
            return Ok(Some(text));
        }
        if item.reviewed() == ReviewedThing::DelegationGrant {
            return self.of_grant(item, whom).await;
        }
        let Some(text) = reviewed::as_decided(item, now) else {
            return Ok(reviewed::by_the_round(item, whom.items, written));
        };
        let is_later = self.is_later(item, &whom.agent).await?;
        let by_others =
            if is_later { "; when the round ended it was as decided, and somebody else wrote that since" } else { "" };
        Ok(Some(format!("{text}{by_others}")))
    }

    /// Whether it was as decided when the round ended: then what is otherwise now somebody else wrote.
    async fn is_later(&self, item: &ReviewItem, agent: &Agent) -> Result<bool, Fault> {
        let Some(end) = end(self.review) else { return Ok(false) };
        let then = self.then(agent, At::Time(end.into())).await?;
        Ok(then.is_ok_and(|then| then.left_out == 0 && reviewed::as_decided(item, &then).is_none()))
    }

    /// What is otherwise than was decided about a grant: as the registry has it, and as an agent that would act by it is answered.
    async fn of_grant(&self, item: &ReviewItem, whom: &Whom<'_>) -> Result<Option<String>, Fault> {
        if let Some(text) = reviewed::left_beyond(item, &self.left(item).await?) {
            return Ok(Some(text));
        }
        for gone in reviewed::gone(item) {
            if self.is_allowed(item, gone, whom)? {
                let text = reviewed::text_of(gone);
                return Ok(Some(format!("policy-decision lets the agent {text} for {} by the grant", item.role)));
            }
        }
        Ok(None)
    }

    /// What the registry has of the grant.
    async fn left(&self, item: &ReviewItem) -> Result<Vec<wire::Permission>, Fault> {
        let ask = GetDeclarationRequest {
            kind: Kind::DelegationGrant.into(),
            namespace: item.namespace.clone(),
            name: item.granted.clone(),
            as_of: None,
        };
        let found = match self.desk.archive.object(ask).await {
            Ok(found) => found.declaration.unwrap_or_default(),
            Err(status) if reason(&status) == "OBJECT_NOT_FOUND" => return Ok(Vec::new()),
            Err(status) => return Err(unavailable(&status)),
        };
        let Some(Object::DelegationGrant(grant)) = found.object else { return Ok(Vec::new()) };
        // Another one may have the name since.
        if grant.metadata.as_ref().is_none_or(|metadata| metadata.id != item.granted_id) {
            return Ok(Vec::new());
        }
        Ok(grant.spec.map(|spec| spec.permissions).unwrap_or_default())
    }

    /// Whether the agent may do one of what a permission stands for, by this very grant.
    fn is_allowed(&self, item: &ReviewItem, permission: &wire::Permission, whom: &Whom<'_>) -> Result<bool, Fault> {
        let Some((action, resource)) = one_of(permission) else { return Ok(false) };
        let by = OnBehalfOf { subject: item.role.clone(), grant: item.granted.clone() };
        let agent = Some(subject::Agent::AgentId(item.agent_id.clone()));
        let question = EvaluateRequest {
            subject: Some(Subject { agent, on_behalf_of: Some(by), ..Subject::default() }),
            action,
            resource: Some(resource),
            ..EvaluateRequest::default()
        };
        // What cannot be asked, such as for somebody of whom nobody knows any more, is not allowed either.
        let Ok(ask) = convert::ask(question, "") else { return Ok(false) };
        let (snapshot, desk) = (&whom.reading.snapshot, self.desk);
        let judged = judge(desk, self.right, &ask, snapshot, whom.now, |name| desk.policies(snapshot, name));
        let judged = judged.map_err(|_| Fault::unavailable(&STALE, "the policies are still being compiled", AGAIN))?;
        Ok(judged.answer.denied.is_none())
    }
}

/// What was found of an item.
fn found(item: &ReviewItem, difference: Option<String>, revision: u64) -> VerifiedItem {
    let verified = difference.is_none();
    let mut difference = difference.unwrap_or_default();
    difference.truncate(difference.floor_char_boundary(LONGEST));
    VerifiedItem { item_id: item.id.clone(), verified, difference, revision }
}

/// An action on a resource that a permission stands for; none where it names no type.
fn one_of(permission: &wire::Permission) -> Option<(String, Resource)> {
    let of = permission.resource.as_ref()?;
    if of.r#type == "*" {
        return None;
    }
    let some = |pattern: &str| match pattern.strip_suffix('*') {
        Some(rest) => format!("{rest}{ANY}"),
        None if pattern.is_empty() => ANY.to_owned(),
        None => pattern.to_owned(),
    };
    let text = |text: &String| prost_types::Value { kind: Some(Value::StringValue(text.clone())) };
    let fields = of.attributes.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let attributes = (!of.attributes.is_empty()).then_some(prost_types::Struct { fields });
    Some((some(&permission.action), Resource { r#type: of.r#type.clone(), id: some(&of.id), attributes }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::domain::preview::cells;
    use crate::testing::permission;

    #[test]
    fn a_question_is_about_one_of_what_a_permission_stands_for() {
        for (asked, action, id) in [
            (permission("invoice:read", "Invoice", "apollo/1"), "invoice:read", "apollo/1"),
            (permission("invoice:*", "Invoice", "apollo/*"), "invoice:legate-review", "apollo/legate-review"),
            (permission("*", "Invoice", ""), "legate-review", "legate-review"),
        ] {
            let (what, on) = one_of(&asked).unwrap();
            assert_eq!((what.as_str(), on.id.as_str()), (action, id));
            let one = permission(&what, "Invoice", &on.id);
            assert!(reviewed::is_within(&one, &[cells::permission(&asked).unwrap()]), "{what} on {}", on.id);
        }
        assert!(one_of(&permission("invoice:read", "*", "*")).is_none());
    }
}
