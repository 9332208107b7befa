//! How what is reviewed was used, by the counts of audit-collector: the one place that fills `evidence` of an item.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_ids::{Action, ActionPattern};
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{ListUsageRequest, ListUsageResponse, Outcome, Usage, UsageField, UsagePeriod};
use legate_wire::registry::{Permission, ReviewEvidence, ReviewItem, ReviewedThing};

use crate::Failure;
use crate::command::Desk;
use crate::output::say;
use crate::place::{Line, Service};

/// Rows of one agent; an agent that does more kinds of things has no evidence rather than a part of it.
const ROWS: u32 = 10_000;

/// Fills in how each item was used since a moment. Where audit-collector cannot be asked that is said, and refused where it is
/// `needed`.
pub(super) async fn fill(desk: &Desk, items: &mut [ReviewItem], since: Timestamp, needed: bool) -> Result<(), Failure> {
    if items.is_empty() {
        return Ok(());
    }
    match usage(desk, items, since).await {
        Ok(by_agent) => {
            for item in items {
                item.evidence = by_agent.get(&item.agent_id).map(|rows| of(item, rows, since));
            }
            Ok(())
        }
        Err(failure) if needed => Err(failure),
        Err(failure) => {
            say(&format!("how they were used is not known: {failure}"));
            Ok(())
        }
    }
}

/// Whether an item gives something and nothing of that was used, as far as that is known. A class that gives nothing itself says
/// nothing about whether the agent works.
pub(super) fn is_unused(item: &ReviewItem) -> bool {
    !item.permissions.is_empty() && item.evidence.as_ref().is_some_and(|evidence| evidence.uses == 0)
}

/// What each agent was allowed, by action, type and subject; of one with more than fits nothing.
async fn usage(desk: &Desk, items: &[ReviewItem], since: Timestamp) -> Result<BTreeMap<String, Vec<Usage>>, Failure> {
    let audit = desk.line(Service::Audit)?;
    let agents: BTreeSet<&str> = items.iter().map(|item| item.agent_id.as_str()).collect();
    // What was logged until now is counted, or "unused" would only mean "not counted yet".
    let mut up_to = None;
    let mut found = BTreeMap::new();
    for agent in agents {
        let logged = match up_to {
            Some(logged) => logged,
            None => ask(&audit, agent, since, 0).await?.log_size,
        };
        up_to = Some(logged);
        let told = ask(&audit, agent, since, logged).await?;
        if !told.is_cut {
            found.insert(agent.to_owned(), told.usage);
        }
    }
    Ok(found)
}

async fn ask(audit: &Line, agent: &str, since: Timestamp, indexed_at_least: u64) -> Result<ListUsageResponse, Failure> {
    let request = ListUsageRequest {
        agent_id: agent.to_owned(),
        from_time: Some(since.into()),
        outcome: Outcome::Success.into(),
        period: UsagePeriod::Total.into(),
        group_by: vec![
            UsageField::Action.into(),
            UsageField::ResourceType.into(),
            UsageField::Outcome.into(),
            UsageField::Subject.into(),
        ],
        page_size: ROWS,
        indexed_at_least,
        ..ListUsageRequest::default()
    };
    audit.ask(request, |c, r| async move { QueryServiceClient::new(c).list_usage(r).await }).await
}

/// How an item was used: each decision that allowed something that it gives, whatever else gives it too; of a delegation grant those
/// on behalf of whoever gave it, of everything else the agent's own.
fn of(item: &ReviewItem, rows: &[Usage], since: Timestamp) -> ReviewEvidence {
    let is_grant = item.reviewed() == ReviewedThing::DelegationGrant;
    let mut evidence = ReviewEvidence { from_time: Some(since.into()), ..ReviewEvidence::default() };
    let mut used = BTreeSet::new();
    let mut idle: BTreeSet<&str> = item.permissions.iter().map(|one| one.action.as_str()).collect();
    let whose = |row: &&Usage| if is_grant { row.subject == item.role } else { row.subject.is_empty() };
    for row in rows.iter().filter(|row| row.outcome() == Outcome::Success).filter(whose) {
        let given = item.permissions.iter().filter(|one| gives(one, row));
        let mut is_given = false;
        for one in given {
            is_given = true;
            idle.remove(one.action.as_str());
        }
        if is_given {
            evidence.uses += row.count;
            used.insert(row.action.clone());
            let last = evidence.last_use_time.into_iter().chain(row.last_time);
            evidence.last_use_time = last.max_by_key(|at| (at.seconds, at.nanos));
        }
    }
    evidence.used_actions = used.into_iter().collect();
    evidence.unused_actions = idle.into_iter().map(str::to_owned).collect();
    evidence
}

/// Whether a permission gives what was done; of resources their types are counted, and no ids.
fn gives(one: &Permission, row: &Usage) -> bool {
    let of_type = one.resource.as_ref().map(|of| of.r#type.as_str()).unwrap_or_default();
    let action = Action::parse(&row.action).ok();
    let pattern = ActionPattern::parse(&one.action).ok();
    (of_type == "*" || of_type == row.resource_type)
        && action.zip(pattern).is_some_and(|(action, pattern)| pattern.covers(&action))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::manifest::permission;

    fn row(action: &str, of_type: &str, subject: &str, count: u64, last: i64) -> Usage {
        Usage {
            action: action.into(),
            resource_type: of_type.into(),
            subject: subject.into(),
            count,
            outcome: Outcome::Success.into(),
            last_time: Some(prost_types::Timestamp { seconds: last, nanos: 0 }),
            ..Usage::default()
        }
    }

    #[test]
    fn what_an_item_gives_is_what_was_used_of_it() {
        let since = Timestamp::from_secs(1);
        let rows = [
            row("invoice:read", "Invoice", "", 3, 20),
            row("invoice:pay", "Invoice", "", 2, 30),
            row("invoice:read", "Ledger", "", 9, 40),
            row("invoice:read", "Invoice", "user:ada", 5, 50),
            Usage { outcome: Outcome::Denied.into(), ..row("invoice:list", "Invoice", "", 7, 60) },
        ];
        let permissions = ["invoice:read on Invoice:*", "invoice:list on Invoice:*"];
        let permissions = permissions.map(|text| permission(text).unwrap()).to_vec();
        let mut item = ReviewItem {
            reviewed: ReviewedThing::RoleBinding.into(),
            permissions,
            role: "user:ada".into(),
            ..ReviewItem::default()
        };
        let told = of(&item, &rows, since);
        assert_eq!((told.uses, told.last_use_time.unwrap().seconds), (3, 20));
        assert_eq!(
            (told.used_actions, told.unused_actions),
            (vec!["invoice:read".into()], vec!["invoice:list".into()])
        );
        item.reviewed = ReviewedThing::DelegationGrant.into();
        assert_eq!(of(&item, &rows, since).uses, 5);
        item.permissions = vec![permission("ledger:* on Ledger:*").unwrap()];
        item.evidence = Some(of(&item, &rows, since));
        assert!(is_unused(&item));
        item.evidence = None;
        assert!(!is_unused(&item), "what is not known is not unused");
    }
}
