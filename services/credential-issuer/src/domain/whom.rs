//! Whom an order or a question is about: an agent, a class, a group, a namespace, what an owner answers for, or who acts for a person.

use legate_ids::Name;
use legate_view::{Agent, AgentState, Snapshot};

/// How many of a namespace, or of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whom {
    /// `None`: in every namespace.
    pub(crate) namespace: Option<Name>,
    pub(crate) level: Level,
}

/// Which agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// All of a namespace.
    All,
    /// All there are.
    Everywhere,
    /// One, by its name or, where it begins with `agt_`, its id.
    Agent(String),
    /// Of a class.
    Class(Name),
    /// Of a group.
    Group(Name),
    /// Of an owner, `user:NAME` or `group:NAME`.
    Owner(String),
    /// Whom a delegation grant lets act for a person, `user:NAME`.
    Subject(String),
}

/// How an agent is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// It is named itself.
    Named,
    /// Whoever made it, or is further above it, is.
    Below,
}

impl Whom {
    /// Whether it leaves nobody of its namespace out.
    pub(crate) fn is_all(&self) -> bool {
        self.level == Level::All
    }

    /// Whether it is about this agent.
    pub(crate) fn has(&self, snapshot: &Snapshot, agent: &Agent) -> bool {
        if self.namespace.as_ref().is_some_and(|name| *name != agent.label.namespace) {
            return false;
        }
        match &self.level {
            Level::All | Level::Everywhere => true,
            Level::Agent(name) => agent.label.name.as_str() == name || agent.id.as_str() == name,
            Level::Class(class) => agent.class == *class,
            Level::Group(name) => {
                snapshot.group(agent.label.namespace.as_str(), name).is_some_and(|group| group.has(agent))
            }
            Level::Owner(owner) => agent.people.owners.iter().any(|one| **one == **owner),
            Level::Subject(person) => {
                snapshot.delegation_grants_to(agent).iter().any(|grant| grant.delegator == *person)
            }
        }
    }

    /// Every agent that it is about and that is not retired, and, as others than these, whoever is below one of them.
    pub(crate) fn agents<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = (&'a Agent, Reached)> {
        let all = snapshot.agents().map(|agent| &**agent).filter(|agent| agent.state != AgentState::Retired);
        all.filter_map(|agent| {
            if self.has(snapshot, agent) {
                return Some((agent, Reached::Named));
            }
            let is_below = || snapshot.ancestors_of(agent).flatten().any(|above| self.has(snapshot, above));
            (!matches!(self.level, Level::Subject(_)) && is_below()).then_some((agent, Reached::Below))
        })
    }
}
