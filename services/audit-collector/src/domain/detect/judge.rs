//! An executed action is held against the agent, the credential and the decision that it needs, once they had time to be told.

use legate_wire::audit::{AlertSeverity, AlertType};

use super::alert::Finding;
use super::evidence::{Decision, Evidence};
use super::fact::{Action, DECISION, Fact, ISSUER, REGISTRY};
use super::machine::{ACTIVE, Found};
use super::memory::{Agent, Memory};
use super::{GRACE, PATIENCE, SKEW, TOLERANCE, WINDOW};

/// Whether something that an action needs is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edge {
    /// It may still come.
    Waiting,
    /// It is there.
    Present,
    /// It is not.
    Missing,
    /// It is not, and who would tell has told nothing of that time.
    Unknown,
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) leaf: u64,
    /// The agent's, where it is known.
    pub(crate) namespace: String,
    pub(crate) agent: Edge,
    pub(crate) credential: Edge,
    pub(crate) decision: Edge,
}

/// How one edge was judged, and what is to be said of it.
struct Judged {
    edge: Edge,
    found: Option<Finding>,
}

/// Judges every action whose time has come, at an event of the log's own clock.
pub(super) fn due(memory: &mut Memory, fact: &Fact, evidence: &Evidence, found: &mut Found) {
    let now = memory.clock.time;
    memory.credentials.retain(|_, one| one.forgotten() > now);
    let waiting: Vec<u64> = memory.actions.iter().filter(|(_, one)| one.due <= now).map(|(leaf, _)| *leaf).collect();
    for leaf in waiting {
        let Some(mut action) = memory.actions.remove(&leaf) else { continue };
        if action.since == 0 {
            (action.since, action.due) = (now, now + GRACE);
            memory.actions.insert(leaf, action);
            continue;
        }
        match judge(memory, &action, fact.leaf, evidence) {
            None => {
                action.due = now + GRACE;
                memory.actions.insert(leaf, action);
            }
            Some((verdict, findings)) => {
                findings.into_iter().for_each(|one| found.add(one));
                if verdict.credential == Edge::Present {
                    used(memory, &action, fact.leaf, found);
                }
                found.judged.push(verdict);
            }
        }
    }
}

/// Where a credential is used: from two places at about the same time is once too often.
fn used(memory: &mut Memory, action: &Action, at: u64, found: &mut Found) {
    let name = action.credentials.first().filter(|_| !action.workload.is_empty());
    let Some((name, one)) = name.and_then(|name| Some((name, memory.credentials.get_mut(name)?))) else { return };
    let is_elsewhere = !one.workload.is_empty() && one.workload != action.workload;
    if is_elsewhere && (action.time - one.used).abs() <= WINDOW {
        let summary =
            format!("credential {name} was used from {} and from {} within ten minutes", one.workload, action.workload);
        found.add(Finding {
            kind: AlertType::CredentialShared,
            severity: AlertSeverity::High,
            namespace: memory.agents.get(&action.agent).map(|agent| agent.namespace.clone()).unwrap_or_default(),
            agent: action.agent.clone(),
            about: name.clone(),
            summary,
            leaves: vec![one.used_leaf, action.leaf],
            time: action.time,
            leaf: at,
        });
    }
    if action.time + TOLERANCE >= one.used {
        one.workload.clone_from(&action.workload);
        (one.used, one.used_leaf) = (action.time, action.leaf);
    }
}

/// `None`: something may still come.
fn judge(memory: &Memory, action: &Action, at: u64, evidence: &Evidence) -> Option<(Verdict, Vec<Finding>)> {
    let agent = memory.agents.get(&action.agent).filter(|agent| agent.is_registered);
    let case = Case { memory, action, at, agent };
    let judged = [case.agent(), case.credential(), case.decision(evidence)];
    if judged.iter().any(|one| one.edge == Edge::Waiting) {
        return None;
    }
    let verdict = Verdict {
        leaf: action.leaf,
        namespace: case.namespace(),
        agent: judged[0].edge,
        credential: judged[1].edge,
        decision: judged[2].edge,
    };
    let mut findings: Vec<Finding> = judged.into_iter().filter_map(|one| one.found).collect();
    findings.extend(case.skew(evidence));
    if verdict.decision == Edge::Present {
        findings.extend(case.chain(evidence));
    }
    Some((verdict, findings))
}

/// One action, and what is known about it.
struct Case<'a> {
    memory: &'a Memory,
    action: &'a Action,
    /// The leaf at which it is judged: what comes later is not looked at.
    at: u64,
    agent: Option<&'a Agent>,
}

impl Case<'_> {
    /// The agent's namespace; where it is not known, that of who told it.
    fn namespace(&self) -> String {
        let known = self.agent.map(|agent| agent.namespace.clone()).filter(|namespace| !namespace.is_empty());
        known.unwrap_or_else(|| self.action.namespace.clone())
    }

    fn found(
        &self,
        kind: AlertType,
        severity: AlertSeverity,
        about: &str,
        summary: String,
        rests_on: &[u64],
    ) -> Finding {
        Finding {
            kind,
            severity,
            namespace: self.namespace(),
            // Whoever makes names up makes one alert of them, and not as many as names.
            agent: self.agent.map(|_| self.action.agent.clone()).unwrap_or_default(),
            about: about.to_owned(),
            summary,
            leaves: rests_on.iter().copied().chain([self.action.leaf]).collect(),
            time: self.action.time,
            leaf: self.at,
        }
    }

    fn what(&self) -> String {
        let one = self.action;
        match one.resource_type.as_str() {
            "" => one.action.clone(),
            of => format!("{} on {of}", one.action),
        }
    }

    /// How to take that something is not there that `service` would tell.
    fn absent(&self, service: &str) -> Edge {
        let until = self.action.time + TOLERANCE;
        let mark = self.memory.marks.get(service);
        let has_passed =
            mark.is_some_and(|mark| !mark.epochs.is_empty() && mark.epochs.iter().all(|epoch| epoch.time >= until));
        if has_passed {
            Edge::Missing
        } else if self.memory.clock.time >= self.action.since + PATIENCE {
            Edge::Unknown
        } else {
            Edge::Waiting
        }
    }

    /// Something is not there.
    fn without(&self, service: &str, kind: AlertType, why: &str) -> Judged {
        let edge = self.absent(service);
        let what = self.what();
        let (severity, summary) = match edge {
            Edge::Unknown => (
                AlertSeverity::Medium,
                format!("{what} was executed {why}; {service} has told nothing since, so it may still come"),
            ),
            _ => (AlertSeverity::High, format!("{what} was executed {why}")),
        };
        Judged { edge, found: Some(self.found(kind, severity, &self.action.emitter, summary, &[])) }
    }

    /// Something is not there, and nothing that comes will change that.
    fn surely(&self, kind: AlertType, why: &str) -> Judged {
        let summary = format!("{} was executed {why}", self.what());
        let found = self.found(kind, AlertSeverity::High, &self.action.emitter, summary, &[]);
        Judged { edge: Edge::Missing, found: Some(found) }
    }

    fn present() -> Judged {
        Judged { edge: Edge::Present, found: None }
    }

    fn agent(&self) -> Judged {
        let Some(agent) = self.agent else {
            return self.without(
                REGISTRY,
                AlertType::ActionByUnknownAgent,
                &format!("by {}, of whom the registry never told", self.action.agent),
            );
        };
        // A decision that was made before a stop is heard of may be carried out for a moment after it.
        let by = self.action.time - TOLERANCE;
        match agent.turns.iter().rfind(|turn| turn.time <= by).filter(|turn| turn.state != ACTIVE) {
            None => Self::present(),
            Some(turn) => {
                let what = self.what();
                let summary = format!("{what} was executed while the agent was {}", turn.state);
                let kind = AlertType::ActionByStoppedAgent;
                let found = self.found(kind, AlertSeverity::Critical, &self.action.emitter, summary, &[turn.leaf]);
                Judged { edge: Edge::Missing, found: Some(found) }
            }
        }
    }

    fn credential(&self) -> Judged {
        let kind = AlertType::ActionWithoutCredential;
        let (from, until) = (self.action.time + TOLERANCE, self.action.time - TOLERANCE);
        let is_during = |first: i64, last: i64| first <= from && last >= until;
        let agent = self.memory.agents.get(&self.action.agent);
        let Some(name) = self.action.credentials.first() else {
            let cut_off = agent.filter(|agent| agent.cut_off <= until).map_or(i64::MIN, |agent| agent.cut_off);
            let is_live = |held: &&super::memory::Held| {
                let is_its = self.action.instance.is_empty()
                    || held.instance.is_empty()
                    || held.instance == self.action.instance;
                is_its
                    && is_during(held.from, held.until)
                    && held.from > cut_off
                    && held.revoked.is_none_or(|at| at > until)
            };
            return match agent.and_then(|agent| agent.holds.iter().find(is_live)) {
                Some(_) => Self::present(),
                None => self.without(ISSUER, kind, "while the agent had no credential that was live"),
            };
        };
        let Some(one) = self.memory.credentials.get(name).filter(|one| one.is_issued) else {
            return self.without(
                ISSUER,
                kind,
                &format!("with credential {name}, which was never issued, or ended over a week ago"),
            );
        };
        if one.agent != self.action.agent {
            return self.surely(kind, &format!("with credential {name}, which is another agent's"));
        }
        if let Some((at, leaf)) = self.taken_back(one, agent).filter(|(at, _)| *at <= until) {
            let summary = format!(
                "{} was executed with credential {name}, {} s after it was revoked",
                self.what(),
                (self.action.time - at) / 1_000_000
            );
            let kind = AlertType::RevokedCredentialUsed;
            let found = self.found(kind, AlertSeverity::Critical, name, summary, &[leaf]);
            return Judged { edge: Edge::Missing, found: Some(found) };
        }
        if !is_during(one.from, one.until) {
            return self.surely(kind, &format!("with credential {name}, which was not valid at that time"));
        }
        Self::present()
    }

    /// When a credential was taken back, by itself or with more, and where that is told.
    fn taken_back(&self, one: &super::memory::Credential, agent: Option<&Agent>) -> Option<(i64, u64)> {
        let own = one.revoked.map(|at| (at, one.revoked_leaf));
        let cut_off = agent.filter(|agent| agent.cut_off >= one.from).map(|agent| (agent.cut_off, agent.cut_off_leaf));
        let ended = agent.and_then(|agent| {
            let its = agent.ended.iter().find(|ended| !one.instance.is_empty() && ended.instance == one.instance);
            its.map(|ended| (ended.time, ended.leaf))
        });
        [own, cut_off, ended].into_iter().flatten().min()
    }

    /// The decisions that are about this action, as far as the log had come.
    fn decisions<'e>(&self, evidence: &'e Evidence) -> impl Iterator<Item = &'e Decision> {
        let at = self.at;
        evidence.get(&self.action.leaf).into_iter().flatten().filter(move |one| one.leaf <= at)
    }

    /// The decision that allowed it.
    fn allowed<'e>(&self, evidence: &'e Evidence) -> Option<&'e Decision> {
        let (at, one) = (self.at, self.action);
        self.decisions(evidence).find(|decision| {
            let is_said = decision.withdrawn.is_none_or(|leaf| leaf > at);
            let is_it = decision.agent == one.agent
                && decision.action == one.action
                && decision.resource_type == one.resource_type
                && decision.resource_id == one.resource_id;
            let after = one.time - decision.time;
            // One that is named is that one, whatever the clocks say.
            let is_then = after <= WINDOW && (after >= -TOLERANCE || (!one.decision.is_empty() && after >= -WINDOW));
            decision.is_allowed && is_said && is_it && is_then
        })
    }

    fn decision(&self, evidence: &Evidence) -> Judged {
        if self.allowed(evidence).is_some() {
            return Self::present();
        }
        let one = self.action;
        let about = |decision: &&Decision| {
            decision.agent == one.agent && decision.action == one.action && decision.resource_id == one.resource_id
        };
        let denied = self
            .decisions(evidence)
            .filter(about)
            .find(|decision| !decision.is_allowed && (one.time - decision.time).abs() <= WINDOW);
        if let Some(denied) = denied {
            let what = self.what();
            let summary = format!("{what} was executed although it was denied");
            let kind = AlertType::ActionDespiteDenial;
            let found = self.found(kind, AlertSeverity::Critical, &what, summary, &[denied.leaf]);
            // An ALLOW may still come as long as anything may.
            return Judged { edge: self.absent(DECISION), found: Some(found) };
        }
        let why = match self.decisions(evidence).next() {
            Some(_) if one.decision.is_empty() => "without a decision that allowed it within ten minutes",
            Some(_) => "by a decision that is about something else, too old, or was not said",
            None if one.decision.is_empty() => "without a decision that allowed it",
            None => "by a decision that was never made",
        };
        self.without(DECISION, AlertType::ActionWithoutDecision, why)
    }

    /// What was done before it was decided was done by a wrong clock.
    fn skew(&self, evidence: &Evidence) -> Option<Finding> {
        let decision = self.allowed(evidence)?;
        let by = decision.time - self.action.time;
        if by <= SKEW {
            return None;
        }
        let emitter = &self.action.emitter;
        let summary =
            format!("by the clock of {emitter} something was done {} s before it was allowed", by / 1_000_000);
        let kind = AlertType::ClockSkew;
        let found = self.found(kind, AlertSeverity::Medium, &format!("{emitter} behind"), summary, &[decision.leaf]);
        Some(Finding { agent: String::new(), namespace: self.action.namespace.clone(), ..found })
    }

    /// Whether the chain is the one that was decided on, of agents that are known.
    fn chain(&self, evidence: &Evidence) -> Option<Finding> {
        let decision = self.allowed(evidence)?;
        let is_known = |agent: &String| self.memory.agents.get(agent).is_some_and(|agent| agent.is_registered);
        let (stranger, why) = match self.action.chain.iter().find(|link| !is_known(link)) {
            Some(link) => (link, "whom the registry never told of"),
            None => (
                self.action.chain.iter().find(|link| !decision.chain.contains(*link))?,
                "who is not in the chain that was decided on",
            ),
        };
        let what = self.what();
        let summary = format!("{what} was executed on behalf of a chain with {stranger}, {why}");
        Some(self.found(AlertType::UnknownChain, AlertSeverity::High, &self.action.emitter, summary, &[decision.leaf]))
    }
}
