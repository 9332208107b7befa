//! What a reviewer should know of a change, beside what agents gain and lose.

use std::collections::{BTreeMap, BTreeSet};

use legate_view::{Agent, AgentState, Snapshot};
use legate_wire::policy as wire;
use legate_wire::registry::Kind;
use legate_wire::registry::declaration::Object;

use super::Preview;
use super::groups::{MOST, NAMES};
use crate::domain::policies::Unusable;
use crate::domain::preview::cells::{Cell, Cut};
use crate::domain::preview::compare::{Difference, Effect};

/// The findings so far: equal ones of several agents are one.
#[derive(Debug, Default)]
pub(super) struct Findings {
    all: BTreeMap<(i32, String, String), (u32, Vec<String>)>,
    more: usize,
}

/// What the agents that are named themselves go through.
pub(super) fn of_agents(before: &Snapshot, after: &Snapshot, ask: &Preview) -> Findings {
    let mut findings = Findings::default();
    for declaration in &ask.wanted {
        let Some(Object::Agent(agent)) = &declaration.object else { continue };
        let metadata = agent.metadata.clone().unwrap_or_default();
        let (namespace, name) = (metadata.namespace.as_str(), metadata.name.as_str());
        let Some(new) = after.agent_named(namespace, name) else { continue };
        let class = &new.class;
        let asks = after.class(namespace, class.as_str()).is_some_and(|class| class.requires_approval);
        let mut tell = |kind, text: String| findings.agent(kind, namespace, name, text);
        match before.agent_named(namespace, name) {
            None => {
                tell(wire::FindingKind::NewAgent, format!("new, of class {class}"));
                if asks {
                    let text =
                        format!("class {class} asks for an approver before the agent can work; {}", accountable(new));
                    tell(wire::FindingKind::NeedsApproval, text);
                }
            }
            Some(old) => {
                if old.class != *class {
                    tell(wire::FindingKind::MovesClass, format!("moves from class {} to {class}", old.class));
                }
                if matches!(old.state, AgentState::Staged | AgentState::PendingApproval) {
                    let text = format!(
                        "what is approved is what is switched on: it has to be approved as it is now; {}",
                        accountable(new)
                    );
                    tell(wire::FindingKind::NeedsApproval, text);
                }
            }
        }
    }
    for gone in ask.gone.iter().filter(|gone| gone.kind() == Kind::Agent) {
        if before.agent_named(&gone.namespace, &gone.name).is_some() {
            let text = "retired; that is final".to_owned();
            findings.agent(wire::FindingKind::RetiredAgent, &gone.namespace, &gone.name, text);
        }
    }
    findings
}

impl Findings {
    fn agent(&mut self, kind: wire::FindingKind, namespace: &str, name: &str, text: String) {
        let key = (kind.into(), namespace.to_owned(), text);
        if !self.all.contains_key(&key) && self.all.len() >= MOST {
            self.more += 1;
            return;
        }
        let (count, names) = self.all.entry(key).or_default();
        *count += 1;
        if names.len() < NAMES {
            names.push(name.to_owned());
        }
    }

    /// The policies of a namespace cannot be used.
    pub(super) fn policy(&mut self, namespace: &str, unusable: &Unusable) {
        let text = format!("{unusable}; every check in the namespace would be denied with POLICY_ERROR");
        self.all.insert((wire::FindingKind::PolicyUnusable.into(), namespace.to_owned(), text), (0, Vec::new()));
    }

    /// Policies of a namespace that the registry would refuse.
    pub(super) fn unfit(&mut self, namespace: &str, told: Vec<String>) {
        for text in told {
            self.all.insert((wire::FindingKind::PolicyUnfit.into(), namespace.to_owned(), text), (0, Vec::new()));
        }
    }

    /// What an agent gains that was approved as it was, and whom nobody asks again.
    pub(super) fn unapproved(&mut self, after: &Snapshot, agent: Option<&Agent>, differences: &[Difference]) {
        let Some(agent) = agent else { return };
        let namespace = agent.label.namespace.as_str();
        let waits = matches!(agent.state, AgentState::Staged | AgentState::PendingApproval);
        let asks = after.class(namespace, agent.class.as_str()).is_some_and(|class| class.requires_approval);
        let gains = differences.iter().any(|one| matches!(one.effect, Effect::Gains | Effect::Widens));
        if waits || !asks || !gains {
            return;
        }
        let text = format!(
            "gains what it did not have when it was approved, in class {}, which asks for an approver; {}",
            agent.class,
            accountable(agent)
        );
        self.agent(wire::FindingKind::GainsUnapproved, namespace, agent.label.name.as_str(), text);
    }

    /// What an agent is given and cannot use.
    pub(super) fn cuts(&mut self, namespace: &str, agent: Option<&Agent>, cuts: &BTreeSet<Cut>) {
        let Some(agent) = agent else { return };
        for cut in cuts {
            let ceiling = match (&agent.ceiling, agent.ancestors.is_empty()) {
                (None, true) => format!("the ceiling of class {}", agent.class),
                _ => "the ceilings of the agent".to_owned(),
            };
            let granted = said(&cut.granted);
            let text = if cut.left.is_empty() {
                format!("{granted} is granted and above {ceiling}: it has no effect")
            } else {
                let left: Vec<String> = cut.left.iter().map(said).collect();
                let more = if cut.more == 0 { String::new() } else { format!(" and {} parts more", cut.more) };
                format!("{granted} is granted, and only {}{more} of it is below {ceiling}", left.join(", "))
            };
            self.agent(wire::FindingKind::AboveCeiling, namespace, agent.label.name.as_str(), text);
        }
    }

    /// The findings, and how many there were beyond the bound.
    pub(super) fn told(self) -> (Vec<wire::Finding>, usize) {
        let told = self.all.into_iter().map(|((kind, namespace, text), (agent_count, agents))| wire::Finding {
            kind,
            namespace,
            text,
            agent_count,
            agents,
        });
        (told.collect(), self.more)
    }
}

/// Who is accountable for an agent, and so is to be asked.
fn accountable(agent: &Agent) -> String {
    let sponsors = &agent.people.sponsors;
    let named = sponsors.iter().take(NAMES).map(|one| &**one).collect::<Vec<&str>>().join(", ");
    match sponsors.len() {
        0 => "nobody sponsors it".to_owned(),
        1 => format!("its sponsor is {named}"),
        count if count > NAMES => format!("its sponsors are {named} and {} more", count - NAMES),
        _ => format!("its sponsors are {named}"),
    }
}

/// A permission for people.
fn said(cell: &Cell) -> String {
    let mut text = format!("{} on {}:{}", cell.action, cell.kind, cell.id);
    if !cell.attributes.is_empty() {
        let equal: Vec<String> = cell.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        text += &format!(" where {}", equal.join(", "));
    }
    text
}
