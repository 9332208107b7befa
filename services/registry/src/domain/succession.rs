//! Who answers for an agent when somebody who did has left.
//!
//! Every sponsor, owner and manager is looked at at once, whoever left first: in the place of one who left stands its successor,
//! or the successor of that one. A sponsor's duty that nobody follows in is the manager's; an owner's falls to the other
//! owners, to the manager, to a sponsor. Where no sponsor is left, those that were stay named, so that it can be seen who
//! answered last, and the agent is flagged. To look twice changes nothing more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use legate_clock::Timestamp;
use legate_wire::registry as wire;
use wire::declaration::Object;
use wire::{Agent, AgentSpec, AgentStatus, NamespaceSpec};

use super::lifecycle;

/// How long an agent without a sponsor goes on working where nothing is declared.
const USUAL_GRACE: Duration = Duration::from_secs(14 * 86_400);
/// How long it may, whatever is declared.
pub(crate) const LONGEST_GRACE: Duration = Duration::from_secs(90 * 86_400);
/// So many successors are followed, one after the other.
pub(crate) const LONGEST_LINE: usize = 16;

/// Somebody left, as far as one namespace is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Empty: all of them.
    pub(crate) namespace: String,
    /// Who takes on what it answered for; empty: nobody was named.
    pub(crate) successor: String,
    pub(crate) time: Timestamp,
}

/// Those who left, by what they are named by: `user:NAME`, and operators by `operator:NAME`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Departed(BTreeMap<String, Vec<Gone>>);

impl Departed {
    pub(crate) fn add(&mut self, who: &str, gone: Gone) {
        self.0.entry(who.to_owned()).or_default().push(gone);
    }

    /// The departure of `who` that counts in a namespace: the one from there, before the one from everywhere.
    pub(crate) fn of(&self, who: &str, namespace: &str) -> Option<&Gone> {
        let all = self.0.get(who)?;
        let from = |namespace: &str| all.iter().find(|gone| gone.namespace == namespace);
        from(namespace).or_else(|| from(""))
    }

    /// Whoever stands in the place of `who`: itself, or who followed it and is here; `None` where nobody is.
    fn follow<'a>(&'a self, who: &'a str, namespace: &str) -> Option<&'a str> {
        let mut at = who;
        for _ in 0..=LONGEST_LINE {
            match self.of(at, namespace) {
                None => return Some(at),
                Some(gone) if gone.successor.is_empty() => return None,
                Some(gone) => at = &gone.successor,
            }
        }
        None
    }

    /// The successors that were named and are not known of yet.
    pub(crate) fn successors(&self) -> BTreeSet<String> {
        let all = self.0.values().flatten().map(|gone| &gone.successor);
        all.filter(|who| !who.is_empty() && !self.0.contains_key(*who)).cloned().collect()
    }
}

/// The name under which an operator is among those who left.
pub(crate) fn operator(name: &str) -> String {
    format!("operator:{name}")
}

/// Whom an object names that must not have left, each with the path of the field.
pub(crate) fn named(declaration: &wire::Declaration) -> Vec<(String, String)> {
    let list = |path: &str, names: &[String], who: fn(&str) -> String| {
        names.iter().enumerate().map(|(n, name)| (format!("{path}[{n}]"), who(name))).collect::<Vec<_>>()
    };
    match &declaration.object {
        Some(Object::Agent(Agent { spec: Some(spec), .. })) => {
            let mut all = list("spec.owners", &spec.owners, str::to_owned);
            all.extend(list("spec.sponsors", &spec.sponsors, str::to_owned));
            if !spec.manager.is_empty() {
                all.push(("spec.manager".to_owned(), spec.manager.clone()));
            }
            all
        }
        Some(Object::DelegationGrant(grant)) => {
            delegator(grant).map(|who| ("spec.delegator".to_owned(), who.to_owned())).into_iter().collect()
        }
        Some(Object::RoleBinding(wire::RoleBinding { spec: Some(spec), .. })) => {
            list("spec.users", &spec.users, str::to_owned)
        }
        Some(Object::OperatorBinding(wire::OperatorBinding { spec: Some(spec), .. })) => {
            list("spec.operators", &spec.operators, operator)
        }
        _ => Vec::new(),
    }
}

/// The person for whom a grant lets an agent act; none where that is a group or an agent.
pub(crate) fn delegator(grant: &wire::DelegationGrant) -> Option<&str> {
    grant.spec.as_ref().map(|spec| spec.delegator.as_str()).filter(|who| who.starts_with("user:"))
}

/// What became of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Nothing: it names nobody who left, or is flagged already.
    Same,
    /// What somebody answered for is another's now.
    PassedOn,
    /// Nobody who is here is accountable for it: it is flagged from now on.
    Orphaned,
    /// Somebody is accountable for it again.
    AnsweredFor,
}

impl Settled {
    /// The verb of its audit event; `None` where nothing is to be written.
    pub(crate) fn verb(self) -> Option<&'static str> {
        match self {
            Self::Same => None,
            Self::PassedOn => Some("passed_on"),
            Self::Orphaned => Some("orphaned"),
            Self::AnsweredFor => Some("answered_for"),
        }
    }
}

/// Passes on what those who left answer for in an agent, and flags it where no sponsor is left.
pub(crate) fn settle(
    agent: &mut Agent,
    departed: &Departed,
    grace: Duration,
    now: Timestamp,
    by: (&str, &str),
) -> Settled {
    let namespace = agent.metadata.as_ref().map(|m| m.namespace.clone()).unwrap_or_default();
    let Pass { changed, orphan } = pass_on(agent.spec.get_or_insert_default(), &namespace, departed);
    if changed {
        lifecycle::changed(agent, now, by.0, by.1);
    }
    let status = agent.status.get_or_insert_default();
    match (orphan, status.orphaned_time.is_some()) {
        (true, false) => {
            status.orphaned_time = Some(now.into());
            status.suspend_after = Some(now.plus(grace).into());
            Settled::Orphaned
        }
        (false, true) => {
            answered_for(status);
            Settled::AnsweredFor
        }
        _ if changed => Settled::PassedOn,
        _ => Settled::Same,
    }
}

/// Somebody is accountable for the agent.
pub(crate) fn answered_for(status: &mut AgentStatus) {
    (status.orphaned_time, status.suspend_after) = (None, None);
}

/// What passing on came to.
struct Pass {
    changed: bool,
    orphan: bool,
}

fn pass_on(spec: &mut AgentSpec, namespace: &str, departed: &Departed) -> Pass {
    let before = (spec.owners.clone(), spec.sponsors.clone(), spec.manager.clone());
    let follow = |who: &str| departed.follow(who, namespace).map(str::to_owned);
    if !spec.manager.is_empty() {
        spec.manager = follow(&spec.manager).unwrap_or_default();
    }
    let manager = Some(spec.manager.clone()).filter(|manager| !manager.is_empty());
    let sponsors = each_once(spec.sponsors.iter().filter_map(|who| follow(who).or_else(|| manager.clone())));
    // Of one that was found elsewhere nobody has to be accountable yet.
    let orphan = sponsors.is_empty() && !spec.sponsors.is_empty();
    if !orphan {
        spec.sponsors = sponsors;
    }
    let owners = each_once(spec.owners.iter().filter_map(|who| follow(who)));
    if !owners.is_empty() {
        spec.owners = owners;
    } else if let Some(heir) = manager.or_else(|| spec.sponsors.first().filter(|_| !orphan).cloned())
        && !spec.owners.is_empty()
    {
        spec.owners = vec![heir];
    }
    Pass { changed: before != (spec.owners.clone(), spec.sponsors.clone(), spec.manager.clone()), orphan }
}

fn each_once(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// How long an agent without a sponsor goes on working: as the departure says, else as its namespace does.
pub(crate) fn grace(said: Option<Duration>, namespace: Option<&NamespaceSpec>) -> Duration {
    let of_namespace = || namespace?.orphan_grace.and_then(|grace| Duration::try_from(grace).ok());
    said.or_else(of_namespace).unwrap_or(USUAL_GRACE).min(LONGEST_GRACE)
}

#[cfg(test)]
mod tests;
