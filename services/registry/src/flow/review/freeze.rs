//! The items of a round are made, of some agents at a time: each as it stands then, with who may decide about it.

use std::collections::{BTreeMap, BTreeSet};

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_filter::{Filter, Scope};
use legate_ids::{AgentId, Name};
use legate_rpc::Fault;
use legate_view::{Snapshot, Source};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Agent, AgentState, ApprovedThing, Declaration, DelegationGrant, EarlierDecision, Kind, Metadata, Permission,
    ResourceSelector, Review, ReviewCampaignSpec, ReviewItem, ReviewState, ReviewedThing,
};

use super::givers::{Given, givers};
use crate::convert;
use crate::domain::kind::{self, Key};
use crate::domain::review::{permissions_of, resources_of, window_of};
use crate::domain::subject::Seen;
use crate::domain::{lifecycle, review as domain};
use crate::flow::hands::Hands;
use crate::flow::write::Writing;
use crate::store::review::{self, Model};
use crate::store::{broken, object, reference, refuse, review_item};

/// Agents in one transaction.
const AT_ONCE: u64 = 100;
/// All that there are.
const ALL: u64 = u64::MAX >> 1;
/// Comes after every id.
const AFTER_IDS: &str = "~";

/// Makes the items of the agents that come next; after the last of them the round is open.
pub(super) async fn some(writing: &mut Writing<'_>, mut row: Model) -> TxResult<(), Fault> {
    let mut body = row.review()?;
    let spec = body.spec.clone().unwrap_or_default();
    let after = [row.namespace.as_str(), row.at_name.as_str(), AFTER_IDS];
    let rows = object::after(writing.tx, Kind::Agent, &row.namespace, after, AT_ONCE).await?;
    let last = rows.last().filter(|_| rows.len() as u64 == AT_ONCE).map(|last| last.name.clone());
    let agents = rows.iter().map(|row| row.declaration()).collect::<TxResult<Vec<_>, Fault>>()?;
    let known = Known::of(writing.tx, &row.namespace, agents).await?;
    let (mut items, mut hands) = (Vec::new(), Hands::default());
    for agent in known.in_scope(&spec)? {
        items.extend(known.items(writing, &mut hands, &body, &spec, agent).await?);
    }
    with_earlier(writing.tx, &mut items).await?;
    let mut made = Vec::with_capacity(items.len());
    for item in items {
        row.made += 1;
        made.push(review_item::Model::of(&item, row.made));
    }
    review_item::insert(writing.tx, made).await?;
    match last {
        Some(name) => row.at_name = name,
        None => {
            body.state = ReviewState::Open.into();
            row.state = body.state;
            let unasked = review_item::progress(writing.tx, vec![row.id.clone()]).await?;
            let unasked = unasked.get(&row.id).map_or(0, |progress| progress.unasked);
            let said = vec![("items", row.made.to_string()), ("unasked", unasked.to_string())];
            writing.record(convert::review_event(writing.by, "opened", &body, said, writing.now));
        }
    }
    review::update(writing.tx, &mut row, &body).await
}

/// What was decided about the same things before.
async fn with_earlier(tx: &Tx, items: &mut [ReviewItem]) -> TxResult<(), Fault> {
    let agents: BTreeSet<String> = items.iter().map(|item| item.agent_id.clone()).collect();
    let earlier = review_item::earlier(tx, agents.into_iter().collect()).await?;
    for item in items {
        let found = earlier.get(&(item.agent_id.clone(), item.granted_id.clone()));
        item.earlier = found.filter(|found| found.reviewed == item.reviewed).map(|found| EarlierDecision {
            review_id: found.review_id.clone(),
            decision: found.decision,
            decided_by: found.decided_by.clone(),
            decide_time: found.decide_time,
            decide_reason: found.decide_reason.clone(),
        });
    }
    Ok(())
}

/// Some agents, and everything that gives them something.
struct Known {
    agents: Vec<Declaration>,
    by_key: BTreeMap<Key, Declaration>,
    seen: Snapshot,
    grants: Vec<DelegationGrant>,
}

impl Known {
    async fn of(tx: &Tx, namespace: &str, agents: Vec<Declaration>) -> TxResult<Self, Fault> {
        let mut by_key = BTreeMap::new();
        let groups = object::in_namespace(tx, Kind::Group, namespace, ALL).await?;
        let mut named: BTreeSet<Key> = agents.iter().filter_map(kind::key_of).collect();
        let mut needed = BTreeSet::from([Key::new(Kind::Namespace, "", namespace)]);
        for row in groups {
            let key = Key::new(Kind::Group, namespace, &row.name);
            named.insert(key.clone());
            by_key.insert(key, row.declaration()?);
        }
        for agent in &agents {
            needed.extend(kind::references(agent).into_iter().map(|(_, to)| to));
        }
        let mut grants = Vec::new();
        let ids = reference::of_all(tx, named, ALL).await?;
        for row in object::by_ids(tx, ids).await?.into_iter().filter(|row| row.holds_name) {
            let declaration = row.declaration()?;
            match &declaration.object {
                Some(Object::RoleBinding(binding)) => {
                    let role = binding.spec.as_ref().map(|spec| spec.role.as_str()).unwrap_or_default();
                    needed.insert(Key::new(Kind::Role, namespace, role));
                    by_key.insert(Key::new(Kind::RoleBinding, namespace, &row.name), declaration);
                }
                Some(Object::DelegationGrant(grant)) => grants.push(grant.clone()),
                _ => {}
            }
        }
        for (key, row) in object::by_keys(tx, needed).await? {
            by_key.insert(key, row.declaration()?);
        }
        let seen = Snapshot::of(by_key.values().chain(&agents)).map_err(broken)?;
        Ok(Self { agents, by_key, seen, grants })
    }

    /// The agents that a round is about: selected, in one of its groups, or of one of its classes; all where it names none of these.
    fn in_scope(&self, spec: &ReviewCampaignSpec) -> TxResult<Vec<&Declaration>, Fault> {
        let is_selective = !spec.selector.is_empty() || !spec.groups.is_empty() || !spec.agent_classes.is_empty();
        let selector = (!spec.selector.is_empty()).then(|| Filter::parse(&spec.selector, Scope::Selector));
        let selector = selector.transpose().map_err(broken)?;
        let is_meant = |declaration: &&Declaration| {
            let Some(Object::Agent(agent)) = &declaration.object else { return false };
            let class = agent.spec.as_ref().map(|spec| spec.agent_class.as_str()).unwrap_or_default();
            !is_selective
                || spec.agent_classes.iter().any(|name| name == class)
                || selector.as_ref().is_some_and(|selector| selector.holds(&Seen::of(declaration)))
                || self.is_in_one_of(agent, &spec.groups)
        };
        Ok(self.agents.iter().filter(is_meant).collect())
    }

    fn is_in_one_of(&self, agent: &Agent, groups: &[String]) -> bool {
        let metadata = agent.metadata.clone().unwrap_or_default();
        let agent = AgentId::parse(&metadata.id).ok().and_then(|id| self.seen.agent(&id));
        let is_in = |name: &String| {
            let group = Name::parse(name).ok().and_then(|name| self.seen.group(&metadata.namespace, &name));
            agent.zip(group).is_some_and(|(agent, group)| group.has(agent))
        };
        groups.iter().any(is_in)
    }

    /// What one agent has, an item each. One that an agent made has what the one at the top has, and is asked about there; where its
    /// namespace gives it only what is bound to itself, that is asked about.
    async fn items(
        &self,
        writing: &Writing<'_>,
        hands: &mut Hands,
        review: &Review,
        spec: &ReviewCampaignSpec,
        declaration: &Declaration,
    ) -> TxResult<Vec<ReviewItem>, Fault> {
        let Some(Object::Agent(agent)) = &declaration.object else { return Ok(Vec::new()) };
        let metadata = agent.metadata.clone().unwrap_or_default();
        let id = AgentId::parse(&metadata.id).map_err(broken)?;
        let Some(seen) = self.seen.agent(&id) else { return Err(broken("an agent cannot be read")) };
        let mut items = Vec::new();
        let agent_spec = agent.spec.clone().unwrap_or_default();
        let now = writing.now.micros();
        let is_over = |at: Option<legate_authority::Micros>| at.is_some_and(|at| at <= now);
        let mut one = |what: What, givers: BTreeSet<String>| -> TxResult<(), Fault> {
            let barred = domain::barred(spec, &agent_spec, givers.iter().map(String::as_str));
            let of = what.metadata;
            items.push(ReviewItem {
                id: writing.desk.review_item_id().map_err(refuse)?.to_string(),
                review_id: review.id.clone(),
                namespace: review.namespace.clone(),
                agent_id: metadata.id.clone(),
                agent: metadata.name.clone(),
                reviewed: what.reviewed.into(),
                granted: of.name.clone(),
                granted_id: of.id.clone(),
                granted_revision: of.revision,
                group: what.group,
                role: what.role,
                permissions: what.permissions,
                resources: what.resources,
                not_before: what.window.0,
                not_after: what.window.1,
                grant_time: what.time,
                granted_by: what.by,
                grant_reason: of.reason.clone(),
                reviewers: domain::reviewers(spec, &agent_spec, &barred),
                ..ReviewItem::default()
            });
            Ok(())
        };
        let mut found: Vec<_> = if self.seen.inherits(seen) { Vec::new() } else { self.seen.grants_of(seen).collect() };
        found.sort_by_key(|grant| match &grant.source {
            Source::Class(_) => String::new(),
            Source::Binding(binding, ..) => binding.label.name.to_string(),
        });
        for grant in found {
            match &grant.source {
                Source::Class(class) => {
                    if !domain::asks_about(spec, ReviewedThing::AgentClass)
                        || lifecycle::state_of(agent) != AgentState::Active
                    {
                        continue;
                    }
                    let key = Key::new(Kind::AgentClass, &metadata.namespace, class.label.name.as_str());
                    let of = metadata_of(self.by_key.get(&key))?;
                    let what = What {
                        reviewed: ReviewedThing::AgentClass,
                        permissions: permissions_of(self.by_key.get(&key)),
                        time: metadata.create_time,
                        by: metadata.created_by.clone(),
                        metadata: of,
                        ..What::default()
                    };
                    let given = Given {
                        reviewed: what.reviewed,
                        agent: Some(declaration),
                        granted_id: &what.metadata.id,
                        ..Given::default()
                    };
                    let givers = givers(writing.tx, hands, &given).await?;
                    one(what, givers)?;
                }
                Source::Binding(binding, role, group) => {
                    if !domain::asks_about(spec, ReviewedThing::RoleBinding) || is_over(binding.window.not_after()) {
                        continue;
                    }
                    let key = |kind, name: &Name| Key::new(kind, &metadata.namespace, name.as_str());
                    let bound = self.by_key.get(&key(Kind::RoleBinding, &binding.label.name));
                    let gives = self.by_key.get(&key(Kind::Role, &role.label.name));
                    let of = metadata_of(bound)?;
                    let group = group.as_ref().map(|group| &group.label.name);
                    let given = Given {
                        reviewed: ReviewedThing::RoleBinding,
                        agent: Some(declaration),
                        granted_id: &of.id,
                        role_id: gives.and_then(Declaration::metadata).map(|metadata| metadata.id.as_str()),
                        group: group.and_then(|group| self.by_key.get(&key(Kind::Group, group))),
                        ..Given::default()
                    };
                    let givers = givers(writing.tx, hands, &given).await?;
                    let what = What {
                        reviewed: ReviewedThing::RoleBinding,
                        group: group.map(ToString::to_string).unwrap_or_default(),
                        role: role.label.name.to_string(),
                        permissions: permissions_of(gives),
                        resources: resources_of(bound),
                        window: window_of(bound),
                        time: of.create_time,
                        by: of.updated_by.clone(),
                        metadata: of,
                    };
                    one(what, givers)?;
                }
            }
        }
        let is_asked = domain::asks_about(spec, ReviewedThing::DelegationGrant);
        for grant in self.grants.iter().filter(|_| is_asked) {
            let (of, grant) = (grant.metadata.clone().unwrap_or_default(), grant.spec.clone().unwrap_or_default());
            let ends = grant.not_after.and_then(|at| Timestamp::try_from(at).ok()).map(Timestamp::micros);
            if grant.delegate != metadata.name || is_over(ends) {
                continue;
            }
            let given = Given {
                reviewed: ReviewedThing::DelegationGrant,
                agent: Some(declaration),
                granted_id: &of.id,
                delegator: &grant.delegator,
                ..Given::default()
            };
            let givers = givers(writing.tx, hands, &given).await?;
            let what = What {
                reviewed: ReviewedThing::DelegationGrant,
                role: grant.delegator,
                permissions: grant.permissions,
                time: of.create_time,
                by: of.updated_by.clone(),
                metadata: of,
                ..What::default()
            };
            one(what, givers)?;
        }
        Ok(items)
    }
}

/// What an agent has.
#[derive(Default)]
struct What {
    reviewed: ReviewedThing,
    metadata: Metadata,
    group: String,
    role: String,
    permissions: Vec<Permission>,
    resources: Vec<ResourceSelector>,
    /// From when on, and until when, a binding gives it.
    window: domain::Span,
    time: Option<prost_types::Timestamp>,
    by: String,
}

/// Everything that an agent has at this moment by its class and by bindings, as it is approved with it; for each kind of which it has nothing, that.
pub(in crate::flow) async fn things(tx: &Tx, agent: &Declaration) -> TxResult<Vec<ApprovedThing>, Fault> {
    let metadata = agent.metadata().cloned().unwrap_or_default();
    let id = AgentId::parse(&metadata.id).map_err(broken)?;
    let known = Known::of(tx, &metadata.namespace, vec![agent.clone()]).await?;
    let Some(seen) = known.seen.agent(&id) else { return Err(broken("an agent cannot be read")) };
    let mut things = Vec::new();
    for reviewed in [ReviewedThing::RoleBinding, ReviewedThing::AgentClass] {
        let nothing = things.len();
        for grant in known.seen.grants_of(seen) {
            let (kind, label, gives) = match (&grant.source, reviewed) {
                (Source::Class(class), ReviewedThing::AgentClass) => (Kind::AgentClass, &class.label, None),
                (Source::Binding(binding, role, _), ReviewedThing::RoleBinding) => {
                    (Kind::RoleBinding, &binding.label, Some(&role.label.name))
                }
                _ => continue,
            };
            let key = |kind, name: &Name| Key::new(kind, &metadata.namespace, name.as_str());
            let of = known.by_key.get(&key(kind, &label.name));
            let gives = gives.map_or(of, |role| known.by_key.get(&key(Kind::Role, role)));
            things.push(ApprovedThing {
                reviewed: reviewed.into(),
                granted_id: label.id.to_string(),
                granted: label.name.to_string(),
                permissions: permissions_of(gives),
                resources: resources_of(of),
                ..ApprovedThing::default()
            });
        }
        if things.len() == nothing {
            things.push(ApprovedThing { reviewed: reviewed.into(), ..ApprovedThing::default() });
        }
    }
    Ok(things)
}

fn metadata_of(declaration: Option<&Declaration>) -> TxResult<Metadata, Fault> {
    declaration.and_then(Declaration::metadata).cloned().ok_or_else(|| broken("what an agent has is not there"))
}
