//! Whom an order or a question is about: a class, a namespace, what an owner answers for, or who acts for a person.

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
    /// All.
    All,
    /// Of a class.
    Class(Name),
    /// Of an owner, `user:NAME` or `group:NAME`.
    Owner(String),
    /// Whom a delegation grant lets act for a person, `user:NAME`.
    Subject(String),
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
            Level::All => true,
            Level::Class(class) => agent.class == *class,
            Level::Owner(owner) => agent.people.owners.iter().any(|one| **one == **owner),
            Level::Subject(person) => {
                snapshot.delegation_grants_to(agent).iter().any(|grant| grant.delegator == *person)
            }
        }
    }

    /// Every agent that it is about and that is not retired.
    pub(crate) fn agents<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Agent> {
        let all = snapshot.agents().map(|agent| &**agent).filter(|agent| agent.state != AgentState::Retired);
        all.filter(|agent| self.has(snapshot, agent))
    }
}
