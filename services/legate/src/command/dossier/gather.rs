//! Everything that a dossier tells, as the services tell it.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_wire::audit::alert_service_client::AlertServiceClient;
use legate_wire::audit::{Alert, ListAlertsRequest, ListUsageResponse, UsageField};
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{Credential, ListCredentialsRequest};
use legate_wire::policy::drift_service_client::DriftServiceClient;
use legate_wire::policy::{
    DriftFinding, Entitlement, ListDriftRequest, ListDriftResponse, Reason, ReasonKind, WhatCanRequest,
};
use legate_wire::policy::{WhatCanResponse, decision_service_client::DecisionServiceClient};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::departure_service_client::DepartureServiceClient;
use legate_wire::registry::review_service_client::ReviewServiceClient;
use legate_wire::registry::{
    Agent, BoundarySpec, Declaration, Departure, HistoryEntry, Kind, ListDeparturesRequest, ListReviewItemsRequest,
    ListReviewsRequest, Review, ReviewDecision, ReviewItem,
};

use super::Fixed;
use super::ask::{self, Given, PAGE, PATIENCE, Then, given};
use crate::Failure;
use crate::command::Desk;
use crate::command::agent_usage;
use crate::command::drift::stale;
use crate::place::{Line, Service};

/// Objects that authority rests on.
const OBJECTS: usize = 100;
/// Boundaries, and delegation grants, of a namespace that are looked through.
const DECLARED: usize = 10_000;
/// Rounds of reviews that are looked through, the latest first.
const ROUNDS: usize = 50;
/// Credentials, items of reviews, alerts.
pub(super) const MOST: usize = 500;
/// Credentials, and alerts, that are looked through for those of a moment.
const SEEN: usize = 20_000;
/// Writes of one object.
const WRITES: usize = 100;
/// The largest answer of policy-decision.
const MAX_MESSAGE: usize = 64 << 20;

/// What was written of one object.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) entries: Vec<HistoryEntry>,
    pub(super) is_cut: bool,
}

/// A list of which there may be more.
#[derive(Clone, Debug, Default)]
pub(super) struct Part<T> {
    pub(super) all: Vec<T>,
    pub(super) is_cut: bool,
}

impl<T> Part<T> {
    /// Whether it is all that is told: there is no more, or as much was kept, or looked at, as is ever.
    fn take_enough(&mut self, seen: usize, is_last: bool) -> bool {
        self.is_cut = self.all.len() > MOST || !is_last;
        self.all.truncate(MOST);
        is_last || self.all.len() == MOST || seen >= SEEN
    }
}

/// Everything.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) agent: Agent,
    pub(super) class: Given<Option<Declaration>>,
    pub(super) can: Given<WhatCanResponse>,
    /// The objects that the reasons of its authority name, and the roles that bindings give.
    pub(super) rests_on: Given<Part<Declaration>>,
    /// Boundaries with why they apply.
    pub(super) boundaries: Given<Part<(Declaration, String)>>,
    pub(super) grants: Given<Part<Declaration>>,
    pub(super) departures: Given<Vec<Departure>>,
    pub(super) credentials: Given<Part<Credential>>,
    pub(super) reviews: Given<Part<(Review, ReviewItem)>>,
    /// When somebody decided about it last, up to the moment.
    pub(super) reviewed: Option<Timestamp>,
    pub(super) changes: Given<Vec<Written>>,
    pub(super) usage: Given<ListUsageResponse>,
    pub(super) drift: Given<ListDriftResponse>,
    pub(super) stale: Given<Vec<DriftFinding>>,
    pub(super) alerts: Given<Part<Alert>>,
    heard: String,
    /// How far back the registry keeps its past, in words.
    pub(super) horizon: String,
}

impl Gathered {
    pub(super) fn id(&self) -> String {
        self.agent.metadata.as_ref().map(|m| m.id.clone()).unwrap_or_default()
    }

    pub(super) fn name(&self) -> String {
        self.agent.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default()
    }

    pub(super) fn heard(&self) -> String {
        self.heard.clone()
    }

    /// The objects whose writes are cited.
    pub(super) fn named(&self) -> BTreeSet<(Kind, String)> {
        let lists = [&self.rests_on, &self.grants].map(|given| given.as_ref().map(|some| some.all.as_slice()));
        let of_lists = lists.into_iter().flatten().flatten();
        let of_boundaries = self.boundaries.iter().flat_map(|some| some.all.iter().map(|(one, _)| one));
        let class = self.class.iter().flatten();
        let all = of_lists.chain(of_boundaries).chain(class);
        all.filter_map(|one| Some((one.kind()?, one.metadata()?.name.clone()))).collect()
    }
}

pub(super) async fn gather(
    desk: &Desk,
    registry: &Line,
    fixed: &Fixed,
    agent: Agent,
    at: &Then,
) -> Result<Gathered, Failure> {
    let metadata = agent.metadata.clone().unwrap_or_default();
    let spec = agent.spec.clone().unwrap_or_default();
    let (namespace, id) = (metadata.namespace.as_str(), metadata.id.as_str());
    let class = given(ask::object(registry, Kind::AgentClass, (namespace, &spec.agent_class), at).await)?;
    let policy = desk.line(Service::Policy)?;
    let can = given(what_can(&policy, id, at).await)?;
    let reasons = can.as_ref().map(|can| names(can, &metadata.name)).unwrap_or_default();
    let rests_on = given(rests_on(registry, namespace, reasons, at).await)?;
    let of_class = class.as_ref().ok().and_then(Option::as_ref);
    let boundaries = given(boundaries(registry, &agent, of_class, at).await)?;
    let grants = given(grants(registry, namespace, &metadata.name, at).await)?;
    let departures = given(departures(registry, &agent).await)?;
    let issuer = desk.line(Service::Issuer)?;
    let credentials = given(credentials(&issuer, id, at).await)?;
    let reviews = given(reviews(registry, namespace, id, at).await)?;
    let reviewed = reviews.as_ref().ok().and_then(|some| last_decision(&some.all, at));
    let usage = [UsageField::Action, UsageField::ResourceType, UsageField::Outcome];
    let usage = given(ask::usage(&fixed.audit, namespace, id, at, &usage, fixed.signed.size).await)?;
    let drift = given(drift(&policy, id).await)?;
    let stale = stale::Ask { namespace: String::new(), agent_id: id.to_owned(), unused_after: None };
    let stale = given(stale::findings(desk, stale).await)?;
    let heard = match &drift {
        Ok(drift) => agent_usage::evidence(drift.window.as_ref()),
        Err(_) => match given(agent_usage::ask(desk, Vec::new(), false).await)? {
            Ok(answer) => agent_usage::evidence(answer.window.as_ref()),
            Err(withheld) => format!("not given: {}", withheld.what),
        },
    };
    let alerts = given(alerts(&fixed.audit, id, at, fixed.signed.size).await)?;
    let horizon = ask::horizon(registry).await?;
    let horizon = match horizon.oldest_revision {
        0 | 1 => "the registry has forgotten nothing".to_owned(),
        oldest => format!(
            "the registry keeps nothing of what was taken back before revision {oldest} ({})",
            crate::output::moment(horizon.oldest_time.as_ref())
        ),
    };
    let mut gathered = Gathered {
        agent,
        class,
        can,
        rests_on,
        boundaries,
        grants,
        departures,
        credentials,
        reviews,
        reviewed,
        changes: Ok(Vec::new()),
        usage,
        drift,
        stale,
        alerts,
        heard,
        horizon,
    };
    gathered.changes = given(changes(registry, &gathered, at).await)?;
    Ok(gathered)
}

async fn what_can(policy: &Line, agent_id: &str, at: &Then) -> Result<WhatCanResponse, Failure> {
    let request = WhatCanRequest {
        agent_id: agent_id.to_owned(),
        if_active: true,
        with_never: true,
        as_of: at.as_of(),
        at_time: Some(at.time.into()),
        ..WhatCanRequest::default()
    };
    policy
        .ask(request, |c, r| async move {
            let mut request = tonic::Request::new(r);
            request.set_timeout(PATIENCE);
            DecisionServiceClient::new(c).max_decoding_message_size(MAX_MESSAGE).what_can(request).await
        })
        .await
}

/// The objects that the reasons of what an agent can name.
fn names(can: &WhatCanResponse, agent: &str) -> BTreeSet<(Kind, String)> {
    let of_one = |one: &Entitlement| -> Vec<Reason> { one.reasons.iter().chain(&one.depends_on).cloned().collect() };
    let of_reason = |reason: Reason| {
        let name = reason.name.rsplit('/').next().unwrap_or_default().to_owned();
        let kind = match reason.kind() {
            ReasonKind::ClassPermission => Kind::AgentClass,
            ReasonKind::Ceiling if name != agent => Kind::AgentClass,
            ReasonKind::RoleBinding => Kind::RoleBinding,
            ReasonKind::PermitPolicy
            | ReasonKind::ForbidPolicy
            | ReasonKind::PolicyError
            | ReasonKind::ApprovalPolicy => Kind::Policy,
            ReasonKind::Boundary => Kind::Boundary,
            _ => return None,
        };
        Some((kind, name))
    };
    can.entitlements.iter().flat_map(of_one).filter_map(of_reason).collect()
}

async fn rests_on(
    registry: &Line,
    namespace: &str,
    mut open: BTreeSet<(Kind, String)>,
    at: &Then,
) -> Result<Part<Declaration>, Failure> {
    let mut found: BTreeMap<(Kind, String), Declaration> = BTreeMap::new();
    while let Some((kind, name)) = open.pop_first() {
        if found.len() == OBJECTS {
            return Ok(Part { all: found.into_values().collect(), is_cut: true });
        }
        let Some(object) = ask::object(registry, kind, (namespace, &name), at).await? else { continue };
        let more = match &object.object {
            Some(Object::RoleBinding(binding)) => {
                let spec = binding.spec.clone().unwrap_or_default();
                let groups = spec.groups.into_iter().map(|group| (Kind::Group, group));
                groups.chain([(Kind::Role, spec.role)]).collect()
            }
            _ => Vec::new(),
        };
        found.insert((kind, name), object);
        open.extend(more.into_iter().filter(|key| !found.contains_key(key)));
    }
    Ok(Part { all: found.into_values().collect(), is_cut: false })
}

/// The boundaries that apply, and why each does.
async fn boundaries(
    registry: &Line,
    agent: &Agent,
    class: Option<&Declaration>,
    at: &Then,
) -> Result<Part<(Declaration, String)>, Failure> {
    let metadata = agent.metadata.clone().unwrap_or_default();
    let of_class = agent.spec.as_ref().map(|spec| spec.agent_class.clone()).unwrap_or_default();
    let named_by_class: Vec<String> = match class.and_then(|class| class.object.as_ref()) {
        Some(Object::AgentClass(class)) => class.spec.clone().unwrap_or_default().boundaries,
        _ => Vec::new(),
    };
    let (all, is_cut) = ask::objects(registry, Kind::Boundary, &metadata.namespace, at, DECLARED).await?;
    let mut found = Part { all: Vec::new(), is_cut };
    for one in all {
        let Some(Object::Boundary(boundary)) = &one.object else { continue };
        let spec = boundary.spec.clone().unwrap_or_default();
        let name = boundary.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
        let why = match applies(&spec, &metadata.name, &of_class) {
            Some(why) => Some(why.to_owned()),
            None if named_by_class.contains(&name) => Some("its class names it".to_owned()),
            None => by_group(registry, &spec, &metadata, at).await?,
        };
        if let Some(why) = why {
            found.all.push((one, why));
        }
    }
    Ok(found)
}

/// Why a boundary applies, as far as it says so itself.
fn applies(spec: &BoundarySpec, agent: &str, class: &str) -> Option<&'static str> {
    if spec.agents.iter().any(|name| name == agent) {
        return Some("it names the agent");
    }
    if spec.agent_classes.iter().any(|name| name == class) {
        return Some("it names the agent's class");
    }
    let names_nobody = spec.agents.is_empty() && spec.groups.is_empty() && spec.agent_classes.is_empty();
    (names_nobody && !spec.named_only).then_some("it is for every agent of the namespace")
}

/// A group that the boundary names and that the agent belongs to, by list or as the registry selects.
async fn by_group(
    registry: &Line,
    spec: &BoundarySpec,
    agent: &legate_wire::registry::Metadata,
    at: &Then,
) -> Result<Option<String>, Failure> {
    for name in &spec.groups {
        let group = ask::object(registry, Kind::Group, (&agent.namespace, name), at).await?;
        let Some(Object::Group(group)) = group.and_then(|group| group.object) else { continue };
        let spec = group.spec.unwrap_or_default();
        if spec.agents.contains(&agent.name) {
            return Ok(Some(format!("it names the group {name}, which lists the agent")));
        }
        if !spec.selector.is_empty() {
            let filter = format!("name = \"{}\" AND {}", agent.name, spec.selector);
            let (selected, _) = ask::agents(registry, &agent.namespace, &filter, at, 1).await?;
            if !selected.is_empty() {
                return Ok(Some(format!("it names the group {name}, which selects the agent")));
            }
        }
    }
    Ok(None)
}

/// The grants by which the agent acts, and those by which others act for it.
async fn grants(registry: &Line, namespace: &str, agent: &str, at: &Then) -> Result<Part<Declaration>, Failure> {
    let (mut all, is_cut) = ask::objects(registry, Kind::DelegationGrant, namespace, at, DECLARED).await?;
    let itself = format!("agent:{agent}");
    all.retain(|one| match &one.object {
        Some(Object::DelegationGrant(grant)) => {
            grant.spec.as_ref().is_some_and(|spec| spec.delegate == agent || spec.delegator == itself)
        }
        _ => false,
    });
    Ok(Part { all, is_cut })
}

/// What is known of the leaving of those who answer for it.
async fn departures(registry: &Line, agent: &Agent) -> Result<Vec<Departure>, Failure> {
    let spec = agent.spec.clone().unwrap_or_default();
    let namespace = agent.metadata.as_ref().map(|m| m.namespace.clone()).unwrap_or_default();
    let people: BTreeSet<String> = spec.owners.into_iter().chain(spec.sponsors).chain([spec.manager]).collect();
    let mut found = Vec::new();
    for person in people.into_iter().filter(|person| person.starts_with("user:")) {
        let request = ListDeparturesRequest { person, with_withdrawn: true, page_size: PAGE, ..Default::default() };
        let answer = registry
            .ask(request, |c, r| async move { DepartureServiceClient::new(c).list_departures(r).await })
            .await?;
        found
            .extend(answer.departures.into_iter().filter(|one| one.namespace.is_empty() || one.namespace == namespace));
    }
    Ok(found)
}

/// What had been issued by then. The newest are told first, so what came after is read past.
async fn credentials(issuer: &Line, agent_id: &str, at: &Then) -> Result<Part<Credential>, Failure> {
    let mut request = ListCredentialsRequest { agent_id: agent_id.to_owned(), page_size: PAGE, ..Default::default() };
    let (mut found, mut seen) = (Part::default(), 0);
    loop {
        let page = issuer
            .ask(request.clone(), |c, r| async move { CredentialAdminServiceClient::new(c).list_credentials(r).await })
            .await?;
        seen += page.credentials.len();
        found.all.extend(page.credentials.into_iter().filter(|one| at.covers(one.issue_time.as_ref())));
        request.page_token = page.next_page_token;
        if found.take_enough(seen, request.page_token.is_empty()) {
            return Ok(found);
        }
    }
}

async fn reviews(
    registry: &Line,
    namespace: &str,
    agent_id: &str,
    at: &Then,
) -> Result<Part<(Review, ReviewItem)>, Failure> {
    let request = ListReviewsRequest { namespace: namespace.to_owned(), page_size: PAGE, ..Default::default() };
    let page = registry.ask(request, |c, r| async move { ReviewServiceClient::new(c).list_reviews(r).await }).await?;
    let mut rounds: Vec<Review> =
        page.reviews.into_iter().filter(|round| at.covers(round.start_time.as_ref())).collect();
    let mut found = Part { all: Vec::new(), is_cut: rounds.len() > ROUNDS || !page.next_page_token.is_empty() };
    rounds.truncate(ROUNDS);
    for round in rounds {
        let (review_id, agent_id) = (round.id.clone(), agent_id.to_owned());
        let mut request = ListReviewItemsRequest { review_id, agent_id, page_size: PAGE, ..Default::default() };
        loop {
            let page = registry
                .ask(request.clone(), |c, r| async move { ReviewServiceClient::new(c).list_review_items(r).await })
                .await?;
            found.all.extend(page.items.into_iter().map(|item| (round.clone(), item)));
            request.page_token = page.next_page_token;
            if found.all.len() > MOST {
                found.all.truncate(MOST);
                found.is_cut = true;
                return Ok(found);
            }
            if request.page_token.is_empty() {
                break;
            }
        }
    }
    Ok(found)
}

fn last_decision(items: &[(Review, ReviewItem)], at: &Then) -> Option<Timestamp> {
    let decided = items
        .iter()
        .filter(|(_, item)| item.decision() != ReviewDecision::Unspecified && at.covers(item.decide_time.as_ref()));
    decided.filter_map(|(_, item)| Timestamp::try_from(item.decide_time?).ok()).max()
}

/// What was written since, of the agent and of what its authority rests on.
async fn changes(registry: &Line, of: &Gathered, at: &Then) -> Result<Vec<Written>, Failure> {
    let agent = (Kind::Agent, of.name(), of.id());
    let lists = [&of.rests_on, &of.grants].map(|given| given.as_ref().map(|some| some.all.as_slice()));
    let others = lists.into_iter().flatten().flatten();
    let boundaries = of.boundaries.iter().flat_map(|some| some.all.iter().map(|(one, _)| one));
    let class = of.class.iter().flatten();
    let keys = class.chain(others).chain(boundaries).filter_map(|one| {
        let metadata = one.metadata()?;
        Some((one.kind()?, metadata.name.clone(), metadata.id.clone()))
    });
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    for (kind, name, id) in std::iter::once(agent).chain(keys) {
        if seen.len() > 2 * OBJECTS || !seen.insert(id.clone()) {
            continue;
        }
        let (entries, is_cut) = ask::history(registry, &id, of.reviewed, at, WRITES).await?;
        found.push(Written { kind, name, entries, is_cut });
    }
    Ok(found)
}

async fn drift(policy: &Line, agent_id: &str) -> Result<ListDriftResponse, Failure> {
    let request = ListDriftRequest { agent_id: agent_id.to_owned(), ..Default::default() };
    policy
        .ask(request, |c, r| async move {
            let mut request = tonic::Request::new(r);
            request.set_timeout(PATIENCE);
            DriftServiceClient::new(c).max_decoding_message_size(MAX_MESSAGE).list_drift(request).await
        })
        .await
}

/// What had been found by then. The newest are told first, so what came after is read past.
async fn alerts(audit: &Line, agent_id: &str, at: &Then, tree_size: u64) -> Result<Part<Alert>, Failure> {
    let mut request = ListAlertsRequest {
        agent_id: agent_id.to_owned(),
        page_size: PAGE,
        indexed_at_least: tree_size,
        ..Default::default()
    };
    let (mut found, mut seen) = (Part::default(), 0);
    loop {
        let page =
            audit.ask(request.clone(), |c, r| async move { AlertServiceClient::new(c).list_alerts(r).await }).await?;
        seen += page.alerts.len();
        found.all.extend(page.alerts.into_iter().filter(|one| at.covers(one.first_time.as_ref())));
        request.page_token = page.next_page_token;
        if found.take_enough(seen, request.page_token.is_empty()) {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_where_it_is_whole_or_as_long_as_any_and_says_which() {
        let part = |all: usize| Part { all: vec![0; all], is_cut: false };
        for (kept, seen, is_last, ends, is_cut) in [
            (3, 1_000, false, false, true),
            (3, 1_000, true, true, false),
            (MOST, MOST, true, true, false),
            (MOST, MOST, false, true, true),
            (MOST + 1, MOST + 1, true, true, true),
            (0, SEEN, false, true, true),
        ] {
            let mut part = part(kept);
            assert_eq!((part.take_enough(seen, is_last), part.is_cut), (ends, is_cut), "{kept} of {seen}");
            assert!(part.all.len() <= MOST);
        }
    }

    #[test]
    fn a_boundary_applies_to_those_it_names_or_to_all_where_it_names_nobody() {
        let spec = BoundarySpec::default();
        assert_eq!(applies(&spec, "a", "c"), Some("it is for every agent of the namespace"));
        let named = BoundarySpec { named_only: true, ..spec.clone() };
        assert_eq!(applies(&named, "a", "c"), None);
        let grouped = BoundarySpec { groups: vec!["g".into()], ..spec.clone() };
        assert_eq!(applies(&grouped, "a", "c"), None);
        let others = BoundarySpec { agents: vec!["b".into()], agent_classes: vec!["c".into()], ..spec };
        assert_eq!(applies(&others, "a", "c"), Some("it names the agent's class"));
        assert_eq!(applies(&others, "b", "x"), Some("it names the agent"));
    }
}
