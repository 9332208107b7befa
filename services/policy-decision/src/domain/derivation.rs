//! A decision taken apart: every step judged for itself, also those behind the one that made it, by what the engine judges by.

use legate_authority::{Answer as Granted, Denial as Ungranted, Grant, Permission, Request, decide};
use legate_clock::Timestamp;
use legate_view::{Agent, Boundary, CeilingOf, Delegation, Delegator, Group, Hop, Label, Person, Snapshot, Source};

use super::answer::{Answer, Cause, CauseKind, Why};
use super::approval;
use super::authority::Bench;
use super::behalf;
use super::boundary::{self, Part};
use super::policies::Compiled;
use super::question::Question;
use super::standing;

/// Bindings and policies of one step that are told.
const TOLD: usize = 64;

/// What a step looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Look {
    Subject,
    View,
    State,
    Ancestor,
    Grants,
    ClassPermission,
    RoleBinding,
    Role,
    Group,
    Ceiling,
    Boundary,
    BoundaryField,
    Policies,
    PermitPolicy,
    ForbidPolicy,
    Approval,
    PolicyError,
    Chain,
    Grant,
    Delegator,
}

/// What comes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Passes,
    Cuts(Why),
    Gives,
    DoesNotGive,
    Noted,
}

/// The kind of a declared object that a step rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Agent,
    Class,
    Role,
    Binding,
    Group,
    Boundary,
    Policy,
    Grant,
}

/// A declared object at one of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) version: u32,
    pub(crate) revision: u64,
}

impl Object {
    pub(crate) fn of(kind: Kind, label: &Label) -> Self {
        Self {
            kind,
            namespace: label.namespace.to_string(),
            name: label.name.to_string(),
            id: label.id.to_string(),
            version: label.version,
            revision: label.revision,
        }
    }

    /// An agent; the view does not hold at which revision it was written last.
    pub(crate) fn of_agent(agent: &Agent) -> Self {
        let label = &agent.label;
        Self {
            kind: Kind::Agent,
            namespace: label.namespace.to_string(),
            name: label.name.to_string(),
            id: agent.id.to_string(),
            version: label.version,
            revision: 0,
        }
    }
}

/// One step, with those that it is made of.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) look: Look,
    pub(crate) outcome: Outcome,
    pub(crate) text: String,
    pub(crate) object: Option<Object>,
    pub(crate) permission: Option<Permission>,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) not_after: Option<Timestamp>,
    pub(crate) steps: Vec<Step>,
}

impl Step {
    pub(crate) fn new(look: Look, outcome: Outcome, text: impl Into<String>) -> Self {
        let (object, permission) = (None, None);
        let text = text.into();
        Self { look, outcome, text, object, permission, not_before: None, not_after: None, steps: Vec::new() }
    }

    fn object(self, kind: Kind, label: &Label) -> Self {
        Self { object: Some(Object::of(kind, label)), ..self }
    }

    fn agent(self, agent: &Agent) -> Self {
        Self { object: Some(Object::of_agent(agent)), ..self }
    }

    fn window(self, window: legate_authority::Window) -> Self {
        let at = |micros: Option<i64>| micros.map(Timestamp::from_micros);
        Self { not_before: at(window.not_before()), not_after: at(window.not_after()), ..self }
    }

    /// The word of the denial that it alone would make.
    pub(crate) fn cuts(&self) -> Option<Why> {
        match self.outcome {
            Outcome::Cuts(why) => Some(why),
            _ => None,
        }
    }

    /// The step and all that it is made of.
    pub(crate) fn walk<'a>(&'a self, see: &mut dyn FnMut(&'a Self)) {
        see(self);
        self.steps.iter().for_each(|step| step.walk(see));
    }
}

/// Everything that a decision about a known agent rests on.
pub(crate) struct Case<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) agent: &'a Agent,
    /// As the policies meet it: with that for whom the agent acts.
    pub(crate) question: &'a Question,
    pub(crate) delegation: Option<&'a Delegation>,
    pub(crate) towards: Option<&'a [&'a str]>,
    /// `None`: there are none; an answer: they cannot be used.
    pub(crate) policies: Option<Result<&'a Compiled, &'a Answer>>,
    pub(crate) now: Timestamp,
}

/// Every step of a decision, in the order in which it is made: it is allowed where none cuts, and otherwise the first that
/// does gives the denial its word.
pub(crate) fn derive(case: &Case<'_>) -> Vec<Step> {
    let mut steps = own(case, case.agent);
    if let Some(delegation) = case.delegation {
        steps.push(chain(case, delegation));
    }
    steps
}

/// What an agent may by itself.
fn own(case: &Case<'_>, agent: &Agent) -> Vec<Step> {
    let Case { snapshot, question, now, .. } = *case;
    let mut steps = vec![state(snapshot, agent, now), granted(snapshot, agent, question, now)];
    steps.extend(snapshot.ceilings_of(agent).into_iter().flatten().map(|(of, ceiling)| below(of, ceiling, question)));
    steps.extend(snapshot.boundaries_of(agent).map(|boundary| match boundary {
        Ok(boundary) => within(boundary, agent, question, now),
        Err(name) => {
            let text = format!("the agent's class names the boundary {name}, which is not known here");
            Step::new(Look::Boundary, Outcome::Cuts(Why::BoundaryUnknown), text)
        }
    }));
    steps.push(policies(case, agent));
    steps
}

fn state(snapshot: &Snapshot, agent: &Agent, now: Timestamp) -> Step {
    let judged = standing::judge(snapshot, agent, now);
    let (outcome, text) = match judged.as_ref().and_then(|answer| Some((answer.denied?, answer.causes.first()?))) {
        Some((why, cause)) => (Outcome::Cuts(why), cause.text.clone()),
        None => (Outcome::Passes, format!("the agent {} works", agent.label.name)),
    };
    let above = snapshot.ancestors_of(agent).flatten().take(TOLD).map(|one| {
        let (outcome, text) = match snapshot.life_of(one, now).stop {
            None => (Outcome::Passes, format!("{}, which is above it, works", one.label.name)),
            Some(_) => {
                (Outcome::Cuts(Why::ParentStopped), format!("{}, which is above it, does not work", one.label.name))
            }
        };
        Step::new(Look::Ancestor, outcome, text).agent(one)
    });
    let steps = above.collect();
    let ends = snapshot.life_of(agent, now).ends;
    Step { steps, not_after: ends, ..Step::new(Look::State, outcome, text).agent(agent) }
}

/// An action on resources, for people.
pub(crate) fn said(permission: &Permission) -> String {
    let resource = permission.resource();
    let kind = match resource.resource_type() {
        legate_authority::TypePattern::Any => "*".to_owned(),
        legate_authority::TypePattern::Exactly(kind) => kind.to_string(),
    };
    let with: Vec<String> = resource.attributes().iter().map(|(name, value)| format!("{name}={value}")).collect();
    let with = if with.is_empty() { String::new() } else { format!(" with {}", with.join(", ")) };
    format!("{} on {kind}:{}{with}", permission.action(), resource.id())
}

fn covering<'a>(permissions: &'a [Permission], request: &Request<'_>) -> Option<&'a Permission> {
    permissions.iter().find(|permission| permission.covers(request))
}

fn granted(snapshot: &Snapshot, agent: &Agent, question: &Question, now: Timestamp) -> Step {
    if snapshot.ceilings_of(agent).is_none() {
        let text = "the agent's class, or that of an agent above it, is not declared or cannot be read";
        return Step::new(Look::Grants, Outcome::Cuts(Why::NotPermitted), text);
    }
    let request = question.request();
    let none: [((), &legate_authority::Ceiling); 0] = [];
    let (outcome, text) = match decide(&request, now.micros(), snapshot.grants_of(agent), none) {
        Granted::Granted { .. } => (Outcome::Passes, "it was given"),
        Granted::Denied(Ungranted::OutsideWindow { .. }) => {
            (Outcome::Cuts(Why::BindingOutsideWindow), "it was given, but not for now")
        }
        Granted::Denied(Ungranted::Narrowed { .. }) => {
            (Outcome::Cuts(Why::BindingNarrowed), "it was given for other resources only")
        }
        Granted::Denied(_) => {
            (Outcome::Cuts(Why::NotPermitted), "neither the agent's class nor a role binding gives it")
        }
    };
    let mut steps: Vec<Step> = snapshot.grants_of(agent).map(|grant| source(agent, &grant, &request, now)).collect();
    // What gives it, or would, before what does not.
    steps.sort_by_key(|step| (step.outcome != Outcome::Gives, step.permission.is_none()));
    let more = steps.len().saturating_sub(TOLD);
    steps.truncate(TOLD);
    let more = if more > 0 { format!("; {more} bindings more do not") } else { String::new() };
    Step { steps, ..Step::new(Look::Grants, outcome, format!("{text}{more}")) }
}

/// A class or a binding as one step: whether it gives it, or why not.
fn source(agent: &Agent, grant: &Grant<'_, Source>, request: &Request<'_>, now: Timestamp) -> Step {
    let found = covering(grant.permissions, request);
    let is_narrowed = grant.narrowing.is_some_and(|all| !all.iter().any(|selector| selector.covers(request)));
    let (outcome, why) = match found {
        None => (Outcome::DoesNotGive, "has no such permission"),
        Some(_) if is_narrowed => (Outcome::DoesNotGive, "gives it for other resources only"),
        Some(_) if !grant.window.holds_at(now.micros()) => (Outcome::DoesNotGive, "gives it, but not now"),
        Some(_) => (Outcome::Gives, "gives it"),
    };
    let permission = found.cloned();
    match &grant.source {
        Source::Class(class) => {
            let step = Step::new(Look::ClassPermission, outcome, format!("the class {} {why}", class.label.name));
            Step { permission, ..step.object(Kind::Class, &class.label) }
        }
        Source::Binding(binding, role, group) => {
            let step = Step::new(Look::RoleBinding, outcome, format!("the binding {} {why}", binding.label.name));
            let step = step.object(Kind::Binding, &binding.label).window(grant.window);
            let holds = if found.is_some() { (Outcome::Gives, "has it") } else { (Outcome::DoesNotGive, "has it not") };
            let of_role = Step::new(Look::Role, holds.0, format!("the role {} {}", role.label.name, holds.1));
            let of_role = Step { permission: permission.clone(), ..of_role.object(Kind::Role, &role.label) };
            let steps = std::iter::once(of_role).chain(group.as_deref().map(|group| through(agent, group))).collect();
            Step { permission, steps, ..step }
        }
    }
}

fn through(agent: &Agent, group: &Group) -> Step {
    let how = if group.lists(agent) {
        "lists it"
    } else if group.has(agent) {
        "selects it by what is declared of it"
    } else {
        "takes in an agent above it"
    };
    let text = format!("the binding names the group {}, which {how}", group.label.name);
    Step::new(Look::Group, Outcome::Passes, text).object(Kind::Group, &group.label)
}

fn below(of: CeilingOf<'_>, ceiling: &legate_authority::Ceiling, question: &Question) -> Step {
    let found = covering(ceiling.entries(), &question.request());
    let (object, whose) = match of {
        CeilingOf::Class(label) => (Object::of(Kind::Class, label), "class"),
        CeilingOf::Agent(agent) => (Object::of_agent(agent), "agent"),
    };
    let (outcome, is) = match found {
        Some(_) => (Outcome::Passes, "below"),
        None => (Outcome::Cuts(Why::AboveCeiling), "above"),
    };
    let text = format!("it is {is} the ceiling of the {whose} {}", object.name);
    Step { permission: found.cloned(), object: Some(object), ..Step::new(Look::Ceiling, outcome, text) }
}

/// What a boundary limits, and how it is told.
fn limits(boundary: &Boundary) -> Vec<(Part, String)> {
    let list = |texts: &mut dyn Iterator<Item = &str>| texts.collect::<Vec<_>>().join(", ");
    let set = |all: &std::collections::BTreeSet<String>| list(&mut all.iter().map(String::as_str));
    let mut found = Vec::new();
    if !boundary.environments.is_empty() {
        let text = list(&mut boundary.environments.iter().copied());
        found.push((Part::Environment, format!("environments of agents: {text}")));
    }
    if boundary.hours.is_some() {
        found.push((Part::Hours, "hours of the week, in UTC".to_owned()));
    }
    if !boundary.regions.is_empty() {
        found.push((Part::Region, format!("regions of resources: {}", set(&boundary.regions))));
    }
    if !boundary.data_classifications.is_empty() {
        found.push((Part::Data, format!("data classifications: {}", set(&boundary.data_classifications))));
    }
    if !boundary.purposes.is_empty() {
        found.push((Part::Purpose, format!("purposes: {}", set(&boundary.purposes))));
    }
    if !boundary.regimes.is_empty() {
        found.push((Part::Regime, format!("regimes: {}", set(&boundary.regimes))));
    }
    found
}

fn within(boundary: &Boundary, agent: &Agent, question: &Question, now: Timestamp) -> Step {
    let cut: Vec<Part> = boundary::cuts(boundary, agent.nature.environment, question, now).collect();
    let (outcome, does) = match cut.first() {
        Some(part) => (Outcome::Cuts(part.why()), "cuts it"),
        None => (Outcome::Passes, "lets it pass"),
    };
    let fields = limits(boundary).into_iter().map(|(part, limit)| {
        if cut.contains(&part) {
            let why = part.text().strip_prefix("cuts it: ").unwrap_or(part.text());
            Step::new(Look::BoundaryField, Outcome::Cuts(part.why()), format!("{limit}: {why}"))
        } else {
            Step::new(Look::BoundaryField, Outcome::Passes, limit)
        }
    });
    let steps = fields.collect();
    let text = format!("the boundary {} {does}", boundary.label.name);
    let not_after = boundary::next_change(boundary, now).filter(|_| cut.is_empty());
    Step { steps, not_after, ..Step::new(Look::Boundary, outcome, text).object(Kind::Boundary, &boundary.label) }
}

fn policies(case: &Case<'_>, agent: &Agent) -> Step {
    let so_far = Answer::allow(Vec::new());
    let approvals = approval::of(case.snapshot, agent, case.question, case.towards, case.now);
    let ask = |compiled| {
        case.bench.with_policies(case.snapshot, agent, case.question, compiled, &approvals, case.now, so_far)
    };
    let answer = match case.policies {
        Some(Err(unusable)) => unusable.clone(),
        Some(Ok(compiled)) => ask(Some(compiled)),
        None => ask(None),
    };
    let counted = answer.causes.iter().map(|cause| policy(case.snapshot, agent, cause, false));
    let noted = answer.log_only.iter().map(|cause| policy(case.snapshot, agent, cause, true));
    let mut steps: Vec<Step> = counted.chain(noted).take(TOLD).collect();
    let misfit = match answer.denied {
        None => case.bench.misfit(case.snapshot, &agent.label.namespace, case.question),
        Some(_) => None,
    };
    if let Some(cause) = misfit {
        let cuts = Outcome::Cuts(Why::OutsideSchema);
        steps.push(Step::new(Look::PolicyError, cuts, cause.text));
        return Step {
            steps,
            ..Step::new(Look::Policies, cuts, "the namespace declares that it is asked in another way")
        };
    }
    let (outcome, text) = match answer.denied {
        None => (Outcome::Passes, "the policies permit it"),
        Some(why @ Why::ForbiddenByPolicy) => (Outcome::Cuts(why), "a policy forbids it"),
        Some(why @ Why::ApprovalRequired) => (Outcome::Cuts(why), "a policy holds it back until a person approves it"),
        Some(why @ Why::NoPolicyPermits) if case.policies.is_none() => {
            (Outcome::Cuts(why), "the namespace has no policies, so nothing is permitted")
        }
        Some(why @ Why::NoPolicyPermits) => (Outcome::Cuts(why), "no policy permits it"),
        Some(why) => (Outcome::Cuts(why), "the policies could not decide it"),
    };
    Step { steps, ..Step::new(Look::Policies, outcome, text) }
}

fn policy(snapshot: &Snapshot, agent: &Agent, cause: &Cause, is_noted: bool) -> Step {
    let look = match cause.kind {
        CauseKind::Permit => Look::PermitPolicy,
        CauseKind::Forbid | CauseKind::Holding => Look::ForbidPolicy,
        CauseKind::Approval => Look::Approval,
        _ => Look::PolicyError,
    };
    let outcome = match look {
        _ if is_noted => Outcome::Noted,
        Look::PermitPolicy if !cause.name.is_empty() => Outcome::Gives,
        Look::ForbidPolicy if cause.kind == CauseKind::Holding => Outcome::Cuts(Why::ApprovalRequired),
        Look::ForbidPolicy => Outcome::Cuts(Why::ForbiddenByPolicy),
        Look::Approval => Outcome::Passes,
        Look::PolicyError => Outcome::Cuts(Why::PolicyError),
        _ => Outcome::DoesNotGive,
    };
    let declared = cause.name.split_once('/').filter(|_| look != Look::Approval).and_then(|(namespace, name)| {
        let name = legate_ids::Name::parse(name).ok()?;
        snapshot.policies(namespace)?.by_name.get(&name)
    });
    let what = if look == Look::Approval { "approval" } else { "policy" };
    let text = match cause.name.split_once('/') {
        Some((_, name)) => format!("the {what} {name} {}", cause.text),
        None => cause.text.clone(),
    };
    let step = Step::new(look, outcome, text);
    match declared.filter(|policy| policy.label.namespace == agent.label.namespace) {
        Some(policy) => step.object(Kind::Policy, &policy.label),
        None => step,
    }
}

fn chain(case: &Case<'_>, delegation: &Delegation) -> Step {
    let through = behalf::through(delegation, case.question, case.towards, case.now).err();
    let mut first = through.as_ref().and_then(|answer| answer.denied);
    let mut steps = Vec::new();
    for hop in &delegation.hops {
        steps.push(link(case, hop, first.is_none()));
        let step = delegator(case, hop);
        first = first.or(step.cuts());
        steps.push(step);
    }
    let who = behalf::subject(delegation);
    match first {
        None => Step { steps, ..Step::new(Look::Chain, Outcome::Passes, format!("it acts for {who}, who may do it")) },
        Some(why) => {
            let text = match through.as_ref().and_then(|answer| answer.causes.first()) {
                Some(cause) => format!("it acts for {who}, and a grant {}", cause.text),
                None => format!("it acts for {who}, and somebody in the chain may not do it"),
            };
            Step { steps, ..Step::new(Look::Chain, Outcome::Cuts(why), text) }
        }
    }
}

/// A grant of the chain. Towards whom it is decided for the whole chain at once.
fn link(case: &Case<'_>, hop: &Hop, passes: bool) -> Step {
    let grant = &hop.grant;
    let request = case.question.request();
    let found = covering(&grant.permissions, &request);
    let to = |all: &[&str]| {
        all.is_empty() && grant.audiences.is_empty() || all.iter().any(|one| grant.link().is_towards(one))
    };
    let cut = if !grant.window.holds_at(case.now.micros()) {
        Some(Why::GrantOutsideWindow)
    } else if !passes && case.towards.is_some_and(|all| !to(all)) {
        Some(Why::GrantAudience)
    } else if found.is_none() {
        Some(Why::GrantNotPermitted)
    } else {
        None
    };
    let (outcome, does) = match cut {
        None => (Outcome::Passes, "lets it through"),
        Some(why @ Why::GrantOutsideWindow) => (Outcome::Cuts(why), "does not hold now"),
        Some(why @ Why::GrantAudience) => (Outcome::Cuts(why), "is for other audiences"),
        Some(why) => (Outcome::Cuts(why), "lets other things be done"),
    };
    let who = format!("{} act for {}", hop.delegate.label.name, hop.delegator);
    let text = format!("the grant {}, which lets {who}, {does}", grant.label.name);
    let step = Step::new(Look::Grant, outcome, text).object(Kind::Grant, &grant.label).window(grant.window);
    Step { permission: found.cloned(), ..step }
}

fn delegator(case: &Case<'_>, hop: &Hop) -> Step {
    match &hop.delegator {
        Delegator::Agent(agent) => {
            let steps = own(case, agent);
            let cut = steps.iter().find_map(Step::cuts).map(behalf::word_above);
            let (outcome, may) = match cut {
                None => (Outcome::Passes, "may do it itself"),
                Some(why) => (Outcome::Cuts(why), "may not do it itself"),
            };
            let text = format!("the agent {}, for which it acts, {may}", agent.label.name);
            Step { steps, ..Step::new(Look::Delegator, outcome, text).agent(agent) }
        }
        Delegator::Person(one) => person(case, hop, one),
    }
}

fn person(case: &Case<'_>, hop: &Hop, one: &Person) -> Step {
    let (namespace, name) = (hop.grant.label.namespace.as_str(), &one.name);
    let answer = behalf::person(case.snapshot, &hop.grant, one, case.question, case.now);
    let request = case.question.request();
    let given = case.snapshot.grants_of_person(namespace, one);
    let steps = given.map(|grant| source(&hop.delegate, &grant, &request, case.now)).take(TOLD).collect();
    let (outcome, text) = match answer.denied {
        Some(why) => (
            Outcome::Cuts(behalf::word_above(why)),
            format!(
                "{name} may not do it: no role binding gives it to him now, nor to a group that a token shows him in"
            ),
        ),
        None if behalf::is_bounded_by(case.snapshot, &hop.grant) => {
            (Outcome::Passes, format!("{name}: the namespace takes a person's grant for his authority"))
        }
        None => (Outcome::Passes, format!("{name} may do it himself")),
    };
    Step { steps, ..Step::new(Look::Delegator, outcome, text) }
}
