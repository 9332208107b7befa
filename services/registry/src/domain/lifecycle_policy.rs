//! What lifecycle policies make of an agent, and when: decided here alone, for the sweep, for alerts and for previews.
//!
//! Everything follows from what the agent is, from when it last obtained or used anything, and from the policies. To become ACTIVE begins
//! every time of an ACTIVE agent anew, so nobody who resumes one has it taken away again by the next sweep.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_filter::{Filter, Scope};
use legate_wire::registry as wire;
use wire::declaration::Object;
use wire::{AgentState, LifecycleAction, LifecycleMode, LifecyclePolicySpec, LifecycleRule};

use super::lifecycle::{self, Transition};
use super::subject::Seen;

const DAY: Duration = Duration::from_secs(86_400);
/// What is due is done so much later, and told so long before, where a policy does not say.
const USUAL: Duration = Duration::from_secs(7 * 86_400);
/// So often it is looked anew how long an agent was not used: nobody tells the registry here when it is.
const LOOK: Duration = DAY;
/// Policies of one namespace: each is asked about every agent there.
pub(crate) const MOST: usize = 64;

/// Something that becomes of an agent if nobody does anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// When it is done.
    pub(crate) act_at: Timestamp,
    pub(crate) action: LifecycleAction,
    /// The policy, by name and by id; one that is only tried has no id.
    pub(crate) policy: String,
    pub(crate) policy_id: String,
    pub(crate) rule: LifecycleRule,
    /// Since when it is due; the grace comes after it.
    pub(crate) due_at: Timestamp,
    /// When it is told beforehand, where it is.
    pub(crate) notify_at: Option<Timestamp>,
    /// It is only told, and not done.
    pub(crate) report: bool,
    /// The time of the rule.
    span: Duration,
}

/// What is known of the use of agents: silence is silence only where the audit log was heard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    /// From when on all uses are known, as far as is known; absent: none is.
    pub(crate) since: Option<Timestamp>,
    /// Up to when; absent: none is.
    pub(crate) to: Option<Timestamp>,
}

impl Heard {
    /// From when on it is known that the agent was not used; `last`: when it is known to have been.
    pub(crate) fn silent_since(&self, last: Option<Timestamp>) -> Option<Timestamp> {
        last.max(self.since)
    }

    /// Has wait what rests on a silence that nobody heard to its end.
    pub(crate) fn hold_back(&self, dues: &mut [Due], now: Timestamp) {
        let is_unheard = |due: &Due| self.to.is_none_or(|to| to < due.due_at);
        let dormant = dues.iter_mut().filter(|due| due.rule == LifecycleRule::Dormant && due.act_at <= now);
        for due in dormant.filter(|due| is_unheard(due)) {
            (due.act_at, due.notify_at) = (now.plus(LOOK), None);
        }
        dues.sort_by(|a, b| a.order().cmp(&b.order()));
    }
}

impl Due {
    /// What comes first: at the same moment, the action that takes more, then the policy whose name comes first.
    fn order(&self) -> (Timestamp, Reverse<i32>, &str, i32) {
        (self.act_at, Reverse(self.action as i32), &self.policy, self.rule as i32)
    }

    /// The step in its life that it is.
    pub(crate) fn transition(&self) -> Option<Transition> {
        transition(self.action)
    }

    /// Why, for people; `namespace` is the policy's.
    pub(crate) fn reason(&self, namespace: &str) -> String {
        let span = words(self.span);
        let why = match self.rule {
            LifecycleRule::Unattested => format!("nobody confirmed it for {span}"),
            LifecycleRule::Expired => format!("it was created or became active {span} ago"),
            LifecycleRule::Dormant => format!("it was not used for {span}"),
            LifecycleRule::Orphaned => format!("nobody who is here was accountable for it for {span}"),
            LifecycleRule::StoppedForLong => format!("it has been stopped for {span}"),
            LifecycleRule::Alert | LifecycleRule::Unspecified => "an alert is about it".to_owned(),
        };
        reason(namespace, &self.policy, &why)
    }
}

/// The reason of everything that a policy does.
pub(crate) fn reason(namespace: &str, policy: &str, why: &str) -> String {
    format!("lifecycle policy {namespace}/{policy}: {why}")
}

/// The step in an agent's life that an action is.
pub(crate) fn transition(action: LifecycleAction) -> Option<Transition> {
    match action {
        LifecycleAction::Unspecified => None,
        LifecycleAction::Suspend => Some(Transition::Suspend),
        LifecycleAction::Expire => Some(Transition::Expire),
        LifecycleAction::Quarantine => Some(Transition::Quarantine),
        LifecycleAction::Retire => Some(Transition::Retire),
    }
}

/// `90 days`, `36 hours`, `1 minute`.
fn words(span: Duration) -> String {
    let secs = span.as_secs();
    let (count, unit) = match secs {
        _ if secs >= 86_400 && secs.is_multiple_of(86_400) => (secs / 86_400, "day"),
        _ if secs >= 3_600 && secs.is_multiple_of(3_600) => (secs / 3_600, "hour"),
        _ if secs >= 60 && secs.is_multiple_of(60) => (secs / 60, "minute"),
        _ => (secs, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// The lifecycle policies of a namespace, and its groups as far as they name them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies(Vec<Ruled>);

/// One policy.
#[derive(Clone, Debug)]
struct Ruled {
    name: String,
    id: String,
    spec: LifecyclePolicySpec,
    effective: Timestamp,
    is_everybody: bool,
    /// One that cannot be read selects nobody.
    selector: Option<Filter>,
    groups: Vec<Members>,
}

/// Who is in a group.
#[derive(Clone, Debug)]
struct Members {
    agents: BTreeSet<String>,
    selector: Option<Filter>,
}

fn selector(text: &str) -> Option<Filter> {
    Some(text).filter(|text| !text.is_empty()).and_then(|text| Filter::parse(text, Scope::Selector).ok())
}

impl Members {
    fn of(group: &wire::Group) -> Self {
        let spec = group.spec.clone().unwrap_or_default();
        Self { selector: selector(&spec.selector), agents: spec.agents.into_iter().collect() }
    }

    fn has(&self, name: &str, seen: &Seen<'_>) -> bool {
        self.agents.contains(name) || self.selector.as_ref().is_some_and(|filter| filter.holds(seen))
    }
}

impl Policies {
    /// These policies of a namespace; `groups` are those that they name.
    pub(crate) fn of(policies: &[wire::LifecyclePolicy], groups: &[wire::Group]) -> Self {
        let ruled = policies.iter().map(|policy| {
            let metadata = policy.metadata.clone().unwrap_or_default();
            let spec = policy.spec.clone().unwrap_or_default();
            let named = |group: &&wire::Group| {
                group.metadata.as_ref().is_some_and(|metadata| spec.groups.contains(&metadata.name))
            };
            Ruled {
                name: metadata.name,
                id: metadata.id,
                effective: moment(policy.status.as_ref().and_then(|status| status.effective_time)).unwrap_or_default(),
                is_everybody: spec.selector.is_empty() && spec.groups.is_empty() && spec.agent_classes.is_empty(),
                selector: selector(&spec.selector),
                groups: groups.iter().filter(named).map(Members::of).collect(),
                spec,
            }
        });
        Self(ruled.collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them concerns the agent.
    pub(crate) fn concern(&self, agent: &wire::Declaration) -> bool {
        self.0.iter().any(|policy| policy.concerns(agent))
    }

    /// Everything that becomes of the agent if nobody does anything, the first thing first; `used`: when it last obtained or used anything.
    pub(crate) fn dues(&self, declaration: &wire::Declaration, used: Option<Timestamp>) -> Vec<Due> {
        let Some(Object::Agent(agent)) = &declaration.object else { return Vec::new() };
        let concerning = self.0.iter().filter(|policy| policy.concerns(declaration));
        let mut dues: Vec<Due> = concerning.flat_map(|policy| policy.dues(agent, used)).collect();
        dues.sort_by(|one, other| one.order().cmp(&other.order()));
        dues
    }

    /// The policies that an alert of this type and severity, raised then, concerns about this agent.
    pub(crate) fn on_alert(&self, agent: &wire::Declaration, alert: &Alert<'_>) -> Vec<Answer> {
        let concerned = self.0.iter().filter(|policy| policy.concerns(agent));
        concerned.filter_map(|policy| policy.answer(alert)).collect()
    }
}

/// An alert, as far as policies ask about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alert<'a> {
    /// Its type, such as `ACTION_DESPITE_DENIAL`.
    pub(crate) word: &'a str,
    /// 1 to 4.
    pub(crate) severity: i32,
    pub(crate) raised: Timestamp,
}

/// What a policy answers an alert with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) policy: String,
    pub(crate) policy_id: String,
    pub(crate) action: LifecycleAction,
    pub(crate) max_agents: u32,
    pub(crate) per: Duration,
    /// It is only told, and not done.
    pub(crate) report: bool,
}

/// The word for a severity, by its number less one.
pub(crate) const SEVERITIES: [&str; 4] = ["LOW", "MEDIUM", "HIGH", "CRITICAL"];

/// The number of a severity's word; any, where it is empty.
pub(crate) fn severity(word: &str) -> Option<i32> {
    if word.is_empty() {
        return Some(0);
    }
    SEVERITIES.iter().zip(1..).find(|(known, _)| **known == word).map(|(_, number)| number)
}

/// The answer that is given where policies demand different ones: the one that takes more, then that of the policy whose name comes
/// first. Those that are only told count only where no other does.
pub(crate) fn strictest(answers: &[Answer]) -> Option<&Answer> {
    answers.iter().min_by_key(|answer| (answer.report, Reverse(answer.action as i32), answer.policy.as_str()))
}

impl Ruled {
    fn concerns(&self, declaration: &wire::Declaration) -> bool {
        let Some(Object::Agent(agent)) = &declaration.object else { return false };
        let seen = Seen::of(declaration);
        let name = agent.metadata.as_ref().map(|m| m.name.as_str()).unwrap_or_default();
        let class = agent.spec.as_ref().map(|spec| spec.agent_class.as_str()).unwrap_or_default();
        self.is_everybody
            || self.selector.as_ref().is_some_and(|filter| filter.holds(&seen))
            || self.groups.iter().any(|group| group.has(name, &seen))
            || self.spec.agent_classes.iter().any(|named| named == class)
    }

    fn dues(&self, agent: &wire::Agent, used: Option<Timestamp>) -> Vec<Due> {
        let status = agent.status.clone().unwrap_or_default();
        let created = agent.metadata.as_ref().and_then(|m| moment(m.create_time)).unwrap_or_default();
        let so_since = moment(status.state_time).unwrap_or_default().max(created);
        let mut dues = Vec::new();
        match lifecycle::state_of(agent) {
            AgentState::Active => {
                let confirmed = moment(status.last_attestation_time).unwrap_or_default().max(so_since);
                let used = used.unwrap_or_default().max(so_since);
                let unattested = match self.spec.unattested() {
                    LifecycleAction::Quarantine => LifecycleAction::Quarantine,
                    _ => LifecycleAction::Suspend,
                };
                dues.extend(self.due(LifecycleRule::Unattested, unattested, self.spec.attest_every, confirmed));
                dues.extend(self.due(
                    LifecycleRule::Expired,
                    LifecycleAction::Expire,
                    self.spec.expire_after,
                    so_since,
                ));
                let dormant = self.spec.suspend_when_dormant_for;
                dues.extend(self.due(LifecycleRule::Dormant, LifecycleAction::Suspend, dormant, used));
                dues.extend(self.orphaned(&status));
            }
            AgentState::Suspended | AgentState::Expired => {
                let span = self.spec.retire_after_suspended_for;
                dues.extend(self.due(LifecycleRule::StoppedForLong, LifecycleAction::Retire, span, so_since));
            }
            _ => {}
        }
        dues
    }

    /// What is due a time after a moment, where the rule has one.
    fn due(
        &self,
        rule: LifecycleRule,
        action: LifecycleAction,
        span: Option<prost_types::Duration>,
        since: Timestamp,
    ) -> Option<Due> {
        let span = length(span)?;
        let due_at = since.plus(span);
        // Whoever declares a policy about agents that were there before gives the grace to all of them.
        let act_at = due_at.max(self.effective).plus(self.grace());
        Some(self.of(rule, action, span, due_at, act_at))
    }

    /// The grace of an agent that nobody is accountable for is shortened; what ends it without this rule ends it all the same.
    fn orphaned(&self, status: &wire::AgentStatus) -> Option<Due> {
        let span = length(self.spec.suspend_when_orphaned_for)?;
        let due_at = moment(status.orphaned_time)?.plus(span);
        if moment(status.suspend_after).is_some_and(|after| after <= due_at) {
            return None;
        }
        Some(self.of(LifecycleRule::Orphaned, LifecycleAction::Suspend, span, due_at, due_at))
    }

    fn of(
        &self,
        rule: LifecycleRule,
        action: LifecycleAction,
        span: Duration,
        due_at: Timestamp,
        act_at: Timestamp,
    ) -> Due {
        let before = length(self.spec.notify_before).unwrap_or(USUAL);
        Due {
            act_at,
            action,
            policy: self.name.clone(),
            policy_id: self.id.clone(),
            rule,
            due_at,
            // What is only told is told when it would have been done.
            notify_at: (!before.is_zero() && !self.is_report()).then(|| act_at.minus(before)),
            report: self.is_report(),
            span,
        }
    }

    fn answer(&self, alert: &Alert<'_>) -> Option<Answer> {
        let rule = self.spec.on_alert.as_ref()?;
        let is_meant = rule.alert_types.iter().any(|word| word == alert.word);
        let least = severity(&rule.min_severity)?;
        if !is_meant || alert.severity < least || alert.raised < self.effective {
            return None;
        }
        Some(Answer {
            policy: self.name.clone(),
            policy_id: self.id.clone(),
            action: rule.action(),
            max_agents: rule.max_agents,
            per: length(rule.per)?,
            report: self.is_report(),
        })
    }

    /// Only what says that it is carried out is.
    fn is_report(&self) -> bool {
        self.spec.mode() != LifecycleMode::Enforce
    }

    fn grace(&self) -> Duration {
        grace(&self.spec)
    }
}

/// What is due is done so much later.
pub(crate) fn grace(spec: &LifecyclePolicySpec) -> Duration {
    length(spec.grace).unwrap_or(USUAL)
}

/// When it has to be looked at next, and what is shown of it until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) look_at: Option<Timestamp>,
    /// When something is done to it.
    pub(crate) due_at: Option<Timestamp>,
    /// By when it has to be confirmed.
    pub(crate) attest_at: Option<Timestamp>,
}

/// The plan for an agent of which all this is due; `told` says what was told before, beforehand (`true`) or when it would have been done.
pub(crate) fn plan(dues: &[Due], now: Timestamp, told: impl Fn(&Due, bool) -> bool) -> Plan {
    let enforced = || dues.iter().filter(|due| !due.report);
    let mut looks: Vec<Timestamp> = Vec::new();
    for due in dues {
        looks.extend(due.notify_at.filter(|_| !told(due, true)));
        if !due.report || !told(due, false) {
            looks.push(due.act_at);
        }
        if due.rule == LifecycleRule::Dormant {
            looks.push(now.plus(LOOK));
        }
    }
    Plan {
        look_at: looks.into_iter().min(),
        due_at: enforced().map(|due| due.act_at).min(),
        attest_at: enforced().filter(|due| due.rule == LifecycleRule::Unattested).map(|due| due.due_at).min(),
    }
}

/// Since when a policy is as it is wanted: what it says may change, what is said of it may.
pub(crate) fn effective(
    wanted: &wire::LifecyclePolicy,
    current: Option<&wire::LifecyclePolicy>,
    now: Timestamp,
) -> wire::LifecyclePolicyStatus {
    let rules = |policy: &wire::LifecyclePolicy| {
        let spec = policy.spec.clone().unwrap_or_default();
        LifecyclePolicySpec { description: String::new(), ..spec }
    };
    match current {
        Some(current) if rules(current) == rules(wanted) && current.status.is_some() => {
            current.status.unwrap_or_default()
        }
        _ => wire::LifecyclePolicyStatus { effective_time: Some(now.into()) },
    }
}

fn moment(at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(|at| Timestamp::try_from(at).ok())
}

fn length(span: Option<prost_types::Duration>) -> Option<Duration> {
    span.and_then(|span| Duration::try_from(span).ok())
}

#[cfg(test)]
mod tests;
