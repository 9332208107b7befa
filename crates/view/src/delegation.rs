//! Who acts for whom: the grants of delegation, and whether a chain of them holds now.

use std::collections::BTreeSet;
use std::sync::Arc;

use legate_authority::{Loose, joined};
use legate_clock::Timestamp;
use legate_ids::{AgentId, Name, Principal, ResourceType, SpiffeId};
use legate_token::Subject;

use crate::agent::Agent;
use crate::convert;
use crate::life::Stop;
use crate::record::{DelegationGrant, EnforcementPoint};
use crate::shards::Shards;
use crate::snapshot::{Snapshot, key};

/// Somebody for whom an agent acts.
#[derive(Clone, Debug)]
pub enum Delegator {
    /// A person.
    Person(Person),
    /// An agent.
    Agent(Arc<Agent>),
}

/// A person for whom an agent acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Its name, as `user:NAME`.
    pub name: String,
    /// The groups of people that it was proved to be a member of, as `group:NAME`; on somebody's word alone: none.
    pub groups: Vec<String>,
    /// The one of these by whose grant the agent acts; `None`: the grant is from the person itself.
    pub through: Option<String>,
}

impl Person {
    /// What bindings may call it: its own name, then its groups.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.groups).map(String::as_str)
    }
}

/// One link of a chain: by this grant the delegate acts for the delegator.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The grant.
    pub grant: Arc<DelegationGrant>,
    /// For whom it acts.
    pub delegator: Delegator,
    /// Who acts.
    pub delegate: Arc<Agent>,
}

/// A chain that holds now.
#[derive(Clone, Debug)]
pub struct Delegation {
    /// The links, newest first; one at least.
    pub hops: Vec<Hop>,
    /// When the first of them, or of the agents that delegate, ends by itself.
    pub ends: Option<Timestamp>,
}

/// Why a chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A grant is not in force any more, or was never there.
    #[error("the delegation grant {0} is not in force in the agent's namespace")]
    NoGrant(String),
    /// A grant does not hold now.
    #[error("the delegation grant {0} does not hold now")]
    Window(String),
    /// The links do not make one chain.
    #[error("{0}")]
    Loose(String),
    /// It is longer than a grant or the namespace allows.
    #[error("{0}")]
    TooLong(String),
    /// An agent that delegates is not known, or does not work.
    #[error("the agent {0}, for whom another acts, does not work now")]
    Stopped(String, Option<Stop>),
}

impl Delegation {
    /// For whom all of them act in the end.
    #[must_use]
    pub fn subject(&self) -> Option<&Delegator> {
        self.hops.last().map(|hop| &hop.delegator)
    }

    /// The agents that delegate, newest first: all of the chain but the one that acts.
    pub fn delegators(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.hops.iter().filter_map(|hop| match &hop.delegator {
            Delegator::Agent(agent) => Some(agent),
            Delegator::Person(_) => None,
        })
    }

    /// Whether one more agent may stand behind this chain.
    ///
    /// # Errors
    /// Why it may not.
    pub fn may_be_followed(&self, snapshot: &Snapshot, next: &Agent) -> Result<(), Broken> {
        let stands_in_it = self.hops.iter().any(|hop| hop.delegate.id == next.id)
            || matches!(self.subject(), Some(Delegator::Agent(agent)) if agent.id == next.id);
        if stands_in_it {
            return Err(Broken::Loose(format!("{} stands in the chain before; it would go round", next.label.name)));
        }
        let most = snapshot.rules_of(next.label.namespace.as_str()).max_delegation_depth as usize;
        if self.hops.len() >= most {
            let text = format!("the namespace {} lets {most} agents act one for another", next.label.namespace);
            return Err(Broken::TooLong(text));
        }
        let follows =
            |(n, hop): (usize, &Hop)| (hop.grant.max_depth as usize <= n).then(|| hop.grant.label.to_string());
        match self.hops.iter().enumerate().find_map(follows) {
            Some(grant) => Err(Broken::TooLong(format!("the delegation grant {grant} may not be passed on so far"))),
            None => Ok(()),
        }
    }

    /// Whether all grants let it be used towards that audience.
    #[must_use]
    pub fn is_towards(&self, audience: &str) -> bool {
        self.hops.iter().all(|hop| hop.grant.link().is_towards(audience))
    }
}

impl Delegator {
    /// As grants name it: `user:NAME`, `group:NAME` where the grant is from a group of his, or `agent:NAME`.
    #[must_use]
    pub fn as_text(&self) -> String {
        match self {
            Self::Person(person) => person.through.as_ref().unwrap_or(&person.name).clone(),
            Self::Agent(agent) => format!("agent:{}", agent.label.name),
        }
    }
}

/// He himself, for people.
impl std::fmt::Display for Delegator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Person(Person { name, through: Some(group), .. }) => write!(f, "{name} (one of {group})"),
            Self::Person(person) => f.write_str(&person.name),
            Self::Agent(agent) => write!(f, "agent:{}", agent.label.name),
        }
    }
}

/// All grants: by name, by id, and by whom they let act.
#[derive(Clone, Debug)]
pub(crate) struct Grants {
    by_name: Shards<Arc<DelegationGrant>>,
    by_id: Shards<Arc<DelegationGrant>>,
    /// In the order of their names.
    by_delegate: Shards<Arc<[Arc<DelegationGrant>]>>,
}

impl Grants {
    pub(crate) fn new() -> Self {
        Self { by_name: Shards::new(), by_id: Shards::new(), by_delegate: Shards::new() }
    }

    /// Takes in a grant as it is now, or takes it out. One that cannot be read lets nobody act for anybody.
    pub(crate) fn apply(&mut self, place: &str, grant: &legate_wire::registry::DelegationGrant, revoked: bool) {
        let read = (!revoked).then(|| convert::delegation_grant(grant)).and_then(|read| {
            let said = |why| tracing::error!(place, why, "a delegation grant cannot be read; it lets nobody act");
            read.map_err(said).ok()
        });
        self.set(place, read);
    }

    /// Takes in a grant that nobody made.
    pub(crate) fn suppose(&mut self, place: &str, grant: DelegationGrant) {
        self.set(place, Some(grant));
    }

    /// Puts a grant in the place of what was there; `None`: takes it out.
    fn set(&mut self, place: &str, grant: Option<DelegationGrant>) {
        if let Some(old) = self.by_name.remove(place) {
            self.by_id.remove(&old.label.id);
            self.change(&old, |all| all.retain(|one| one.label.name != old.label.name));
        }
        let Some(grant) = grant.map(Arc::new) else { return };
        self.by_name.insert(place, Arc::clone(&grant));
        self.by_id.insert(&grant.label.id, Arc::clone(&grant));
        self.change(&Arc::clone(&grant), |all| {
            let at = all.partition_point(|one| one.label.name < grant.label.name);
            all.insert(at, grant);
        });
    }

    fn change(&mut self, of: &DelegationGrant, change: impl FnOnce(&mut Vec<Arc<DelegationGrant>>)) {
        let key = key(of.label.namespace.as_str(), of.delegate.as_str());
        let mut all = self.by_delegate.get(&key).map_or_else(Vec::new, |all| all.to_vec());
        change(&mut all);
        if all.is_empty() {
            self.by_delegate.remove(&key);
        } else {
            self.by_delegate.insert(&key, all.into());
        }
    }
}

/// To whom a token may be addressed.
#[derive(Clone, Debug)]
pub enum Audience {
    /// An enforcement point, which lets its holder do something.
    Point,
    /// An agent, which may exchange it to act for its holder.
    Agent(Arc<Agent>),
}

impl Snapshot {
    /// Whose audience that is in the namespace: that of an enforcement point as declared, or that of an agent, its SPIFFE ID
    /// without instance. `None`: nobody's.
    #[must_use]
    pub fn audience(&self, namespace: &Name, audience: &str) -> Option<Audience> {
        // First, so that whatever a point declares, what is addressed to an agent is nothing but handed over.
        if let Ok(id) = SpiffeId::parse(audience)
            && let Ok(Principal::Agent { namespace: of, id, instance: None }) = Principal::of(&id)
        {
            let agent = self.agent(&id).filter(|agent| of == *namespace && agent.label.namespace == of);
            return agent.map(|agent| Audience::Agent(Arc::clone(agent)));
        }
        let is_declared =
            self.enforcement_points().any(|p| p.label.namespace == *namespace && p.audiences.contains(audience));
        is_declared.then_some(Audience::Point)
    }

    /// The types of resources about which the enforcement points with that audience ask, in the namespace.
    #[must_use]
    pub fn kinds_at(&self, namespace: &Name, audience: &str) -> BTreeSet<&ResourceType> {
        let is_theirs = |p: &&Arc<EnforcementPoint>| p.label.namespace == *namespace && p.audiences.contains(audience);
        self.enforcement_points().filter(is_theirs).flat_map(|p| &p.resource_types).collect()
    }

    /// A grant, by its id.
    #[must_use]
    pub fn delegation_grant(&self, id: &str) -> Option<&Arc<DelegationGrant>> {
        self.grants.by_id.get(id)
    }

    /// A grant, by its name.
    #[must_use]
    pub fn delegation_grant_named(&self, namespace: &str, name: &str) -> Option<&Arc<DelegationGrant>> {
        self.grants.by_name.get(&key(namespace, name))
    }

    /// The grants that let the agent act for somebody, in the order of their names; also those that do not hold now.
    #[must_use]
    pub fn delegation_grants_to(&self, agent: &Agent) -> &[Arc<DelegationGrant>] {
        let key = key(agent.label.namespace.as_str(), agent.label.name.as_str());
        self.grants.by_delegate.get(&key).map_or(&[], |all| all)
    }

    /// The chain by which `actors` (newest first) act for `subject`, each by the grant of that id at its place. A person may be
    /// one of `groups`, as a token proved: then the first grant may be from one of these.
    ///
    /// Nothing is taken from elsewhere than what is held here: each grant is in force and holds now, is from whom it has to
    /// be and to whom, and lets as many follow as do; each agent that delegates works now. What the grants allow to be done
    /// is for each use to see.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn delegation(
        &self,
        namespace: &Name,
        subject: &Subject,
        groups: &[String],
        actors: &[AgentId],
        grants: &[String],
        now: Timestamp,
    ) -> Result<Delegation, Broken> {
        if actors.len() != grants.len() || actors.is_empty() {
            return Err(Broken::Loose("each agent of a chain acts by a grant of its own".into()));
        }
        let most = self.rules_of(namespace.as_str()).max_delegation_depth;
        if u32::try_from(actors.len()).is_ok_and(|depth| depth > most) {
            return Err(Broken::TooLong(format!("the namespace {namespace} lets {most} agents act one for another")));
        }
        let agent = |id: &AgentId| {
            let agent = self.agent(id).filter(|agent| agent.label.namespace == *namespace);
            agent.cloned().ok_or_else(|| Broken::Stopped(id.to_string(), None))
        };
        let agents: Vec<Arc<Agent>> = actors.iter().map(agent).collect::<Result<_, _>>()?;
        let origin = match subject {
            Subject::Person(name) => {
                let first = grants.last().and_then(|id| self.delegation_grant(id)).map(|grant| &grant.delegator);
                let through = first.filter(|who| groups.contains(who)).cloned();
                Delegator::Person(Person { name: format!("user:{name}"), groups: groups.to_vec(), through })
            }
            Subject::Agent(id) => match Principal::of(id) {
                Ok(Principal::Agent { id, .. }) => Delegator::Agent(agent(&id)?),
                _ => return Err(Broken::Loose(format!("{id} is no agent"))),
            },
        };
        let mut hops: Vec<Hop> = Vec::with_capacity(agents.len());
        for (n, (delegate, id)) in agents.iter().zip(grants).enumerate() {
            let grant = self.delegation_grant(id).filter(|grant| grant.label.namespace == *namespace);
            let grant = grant.cloned().ok_or_else(|| Broken::NoGrant(id.clone()))?;
            let delegator =
                agents.get(n + 1).map_or_else(|| origin.clone(), |agent| Delegator::Agent(Arc::clone(agent)));
            hops.push(Hop { grant, delegator, delegate: Arc::clone(delegate) });
        }
        self.whole(hops, now)
    }

    /// The links as a chain, where they are one and everybody in it works.
    fn whole(&self, hops: Vec<Hop>, now: Timestamp) -> Result<Delegation, Broken> {
        self.hold(&hops, now)?;
        let ends = hops.iter().filter_map(|hop| hop.grant.window.not_after().map(Timestamp::from_micros)).min();
        let mut delegation = Delegation { hops, ends };
        let mut lives = Vec::new();
        for agent in delegation.delegators() {
            let life = self.life_of(agent, now);
            if life.stop.is_some() {
                return Err(Broken::Stopped(agent.id.to_string(), life.stop));
            }
            lives.extend(life.ends);
        }
        delegation.ends = delegation.ends.into_iter().chain(lives).min();
        Ok(delegation)
    }

    fn hold(&self, hops: &[Hop], now: Timestamp) -> Result<(), Broken> {
        let links: Vec<_> = hops.iter().map(|hop| hop.grant.link()).collect();
        let subject = hops.last().map(|hop| hop.delegator.as_text()).unwrap_or_default();
        let named = |n: usize| hops.get(n).map_or_else(String::new, |hop| hop.grant.label.to_string());
        joined(&subject, &links).map_err(|loose| match loose {
            Loose::Delegator(n) => {
                let from = hops.get(n).map_or_else(String::new, |hop| hop.delegator.as_text());
                Broken::Loose(format!("the delegation grant {} is not from {from}", named(n)))
            }
            Loose::Depth(n) => {
                Broken::TooLong(format!("the delegation grant {} may not be passed on so far", named(n)))
            }
            Loose::Round(n) => Broken::Loose(format!("the delegation grant {} goes round", named(n))),
        })?;
        for (n, hop) in hops.iter().enumerate() {
            let grant = &hop.grant;
            // A grant speaks of the agents that existed when it was last written, as a binding does.
            let speaks_of = |agent: &Agent| agent.label.created <= grant.label.updated;
            let of_delegator = match &hop.delegator {
                Delegator::Agent(agent) => speaks_of(agent),
                Delegator::Person(_) => true,
            };
            if grant.delegate != hop.delegate.label.name || !speaks_of(&hop.delegate) || !of_delegator {
                let text = format!("the delegation grant {} is not for the agent {}", grant.label, hop.delegate.id);
                return Err(Broken::Loose(text));
            }
            if !grant.window.holds_at(now.micros()) {
                return Err(Broken::Window(grant.label.to_string()));
            }
            // One that passes on a part of another stands behind that one and no other.
            let before = hops.get(n + 1).map(|hop| &hop.grant.label.name);
            if grant.parent.as_ref().is_some_and(|parent| Some(parent) != before) {
                let text =
                    format!("the delegation grant {} passes on a part of another than the one before it", grant.label);
                return Err(Broken::Loose(text));
            }
        }
        Ok(())
    }

    /// The whole chain for which a grant stands: it, the one that it passes on a part of, and so on.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn delegation_by(&self, grant: &Arc<DelegationGrant>, now: Timestamp) -> Result<Delegation, Broken> {
        self.chain_by(grant, now, false)
    }

    /// The same for whoever a token shows in the group of people that the first grant is from, of whom nothing else is known:
    /// for previews, and for nothing that decides.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn delegation_by_any(&self, grant: &Arc<DelegationGrant>, now: Timestamp) -> Result<Delegation, Broken> {
        self.chain_by(grant, now, true)
    }

    fn chain_by(&self, grant: &Arc<DelegationGrant>, now: Timestamp, of_groups: bool) -> Result<Delegation, Broken> {
        let namespace = &grant.label.namespace;
        let named = |name: &str| {
            let agent = self.agent_named(namespace.as_str(), name);
            agent.cloned().ok_or_else(|| Broken::Stopped(name.to_owned(), None))
        };
        let (mut hops, mut next): (Vec<Hop>, _) = (Vec::new(), Some(grant));
        while let Some(grant) = next {
            let delegator = match grant.delegator.split_once(':') {
                Some(("agent", name)) => Delegator::Agent(named(name)?),
                Some((kind, _)) if kind == "user" || (of_groups && kind == "group") => {
                    Delegator::Person(Person { name: grant.delegator.clone(), groups: Vec::new(), through: None })
                }
                _ => {
                    let (label, group) = (&grant.label, &grant.delegator);
                    let text = format!("{label} is given by {group}, and no token shows who is one of them");
                    return Err(Broken::Loose(text));
                }
            };
            hops.push(Hop { grant: Arc::clone(grant), delegator, delegate: named(grant.delegate.as_str())? });
            // The registry lets none go round; whoever does all the same finds an end here.
            if hops.len() > legate_authority::MAX_DEPTH as usize {
                return Err(Broken::TooLong(format!("{} stands for a chain that is too long", grant.label)));
            }
            let parent = grant.parent.as_ref();
            next = parent
                .map(|name| {
                    let found = self.delegation_grant_named(namespace.as_str(), name.as_str());
                    found.ok_or_else(|| Broken::NoGrant(name.to_string()))
                })
                .transpose()?;
        }
        let most = self.rules_of(namespace.as_str()).max_delegation_depth;
        if u32::try_from(hops.len()).is_ok_and(|depth| depth > most) {
            return Err(Broken::TooLong(format!("the namespace {namespace} lets {most} agents act one for another")));
        }
        self.whole(hops, now)
    }
}
