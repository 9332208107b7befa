//! Which single changes might have turned a denial: proposals, each of which the engine has to confirm before it is told.

mod policies;

use std::collections::BTreeSet;
use std::sync::Arc;

use legate_authority::{Ceiling, Permission, ResourceSelector, Window};
use legate_clock::Timestamp;
use legate_ids::Name;
use legate_view::{
    Agent, AgentState, Boundary, CeilingOf, DelegationGrant, Label, NamespacePolicies, Otherwise, RoleBinding,
    Snapshot, Source, Stop, StopOrder,
};

use super::boundary::{self, Part};
use super::derivation::{Case, Kind, Object, said};
use super::question::{Question, Value};

/// Roles, grants or policies of one sort that are tried.
const OF_A_SORT: usize = 8;
/// Texts that a question is tried with.
const TEXTS: usize = 24;
/// The name of what is only supposed.
const SUPPOSED: &str = "supposed-by-an-explanation";

/// What would have to be otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Want {
    State,
    Wait,
    Start,
    Approve,
    ExtendWindow,
    WidenBinding,
    JoinGroup,
    BindRole,
    ExtendRole,
    ExtendClass,
    RaiseCeiling,
    WidenBoundary,
    WithoutPolicy,
    AddPolicy,
    ExtendGrant,
    AddGrant,
}

/// Whom it would reach beside the question; what is smaller comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reach {
    Question,
    Agent,
    Holders,
    Class,
    Namespace,
}

/// How it is supposed.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// The registry holds one thing otherwise.
    Registry(Box<Otherwise>),
    /// The context of the question has this as well.
    Context(String, Value),
    /// The resource is stated with this as well.
    Attribute(String, Value),
    /// It is asked then.
    At(Timestamp),
    /// The namespace has these policies.
    Policies(Arc<NamespacePolicies>),
}

/// One change, not yet confirmed.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) want: Want,
    pub(crate) reach: Reach,
    pub(crate) text: String,
    pub(crate) object: Option<Object>,
    pub(crate) permission: Option<Permission>,
    pub(crate) time: Option<Timestamp>,
    pub(crate) field: String,
    pub(crate) value: String,
    pub(crate) change: Change,
}

impl Proposal {
    fn new(want: Want, reach: Reach, text: impl Into<String>, change: Change) -> Self {
        let (field, value) = (String::new(), String::new());
        Self { want, reach, text: text.into(), object: None, permission: None, time: None, field, value, change }
    }

    fn registry(want: Want, reach: Reach, text: impl Into<String>, otherwise: Otherwise) -> Self {
        Self::new(want, reach, text, Change::Registry(Box::new(otherwise)))
    }

    fn object(self, kind: Kind, label: &Label) -> Self {
        Self { object: Some(Object::of(kind, label)), ..self }
    }

    fn agent(self, agent: &Agent) -> Self {
        Self { object: Some(Object::of_agent(agent)), ..self }
    }

    fn permission(self, permission: &Permission) -> Self {
        Self { permission: Some(permission.clone()), ..self }
    }

    fn stated(self, field: &str, value: &str) -> Self {
        Self { field: field.to_owned(), value: value.to_owned(), ..self }
    }

    fn time(self, time: Timestamp) -> Self {
        Self { time: Some(time), ..self }
    }

    /// What is smaller comes first.
    pub(crate) fn rank(&self) -> (Reach, Want) {
        (self.reach, self.want)
    }
}

/// Proposals as they are found.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    pub(crate) all: Vec<Proposal>,
    /// Whether there are more than were looked for.
    pub(crate) is_cut: bool,
}

impl Proposals {
    fn push(&mut self, proposal: Proposal) {
        self.all.push(proposal);
    }

    /// The first of them, `most` at most; that there are others is noted.
    fn few<T>(&mut self, most: usize, found: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut few: Vec<T> = found.into_iter().take(most + 1).collect();
        self.is_cut |= few.len() > most;
        few.truncate(most);
        few
    }

    /// What is smaller comes first.
    fn in_order(mut self) -> Self {
        self.all.sort_by(|a, b| (a.rank(), &a.text).cmp(&(b.rank(), &b.text)));
        self.all.dedup_by(|a, b| a.text == b.text);
        self
    }
}

/// What is asked, as a permission for exactly that: no resource's id is a pattern.
fn exactly(question: &Question) -> Option<Permission> {
    let none: [(String, String); 0] = [];
    let selector =
        ResourceSelector::parse(question.resource_type.as_str(), question.resource_id.as_str(), none).ok()?;
    Permission::parse(question.action.as_str(), selector).ok()
}

/// Proposals for a question about a known agent, the smallest first. Where there are many policies, reading them ends when
/// `is_over`.
pub(crate) fn proposals(
    case: &Case<'_>,
    declared: Option<&Arc<NamespacePolicies>>,
    is_over: &dyn Fn() -> bool,
) -> Proposals {
    let mut all = Proposals::default();
    let Some(wanted) = exactly(case.question) else { return all };
    of_agent(case, case.agent, &wanted, &mut all);
    if let Some(delegation) = case.delegation {
        for hop in &delegation.hops {
            of_grant(case, &hop.grant, &wanted, &mut all);
            match &hop.delegator {
                legate_view::Delegator::Agent(agent) => of_agent(case, agent, &wanted, &mut all),
                legate_view::Delegator::Person(one) => of_person(case, &hop.grant.label, &one.name, &mut all),
            }
        }
    }
    policies::of_policies(case, declared, &wanted, is_over, &mut all);
    all.in_order()
}

/// Proposals where no chain leads from `subject` to the agent.
pub(crate) fn for_a_chain(case: &Case<'_>, subject: &str, named: Option<&Name>) -> Proposals {
    let mut all = Proposals::default();
    let Some(wanted) = exactly(case.question) else { return all };
    let grants = case.snapshot.delegation_grants_to(case.agent);
    for grant in all.few(OF_A_SORT, grants.iter().filter(|grant| named.is_none_or(|name| grant.label.name == *name))) {
        of_grant(case, grant, &wanted, &mut all);
    }
    if named.is_none() && (subject.starts_with("user:") || subject.starts_with("agent:")) {
        let text = format!("a delegation grant by which {subject} lets {} do {}", case.agent.label.name, said(&wanted));
        let grant = DelegationGrant {
            label: supposed_of(case.agent, case.now),
            delegator: subject.to_owned(),
            delegate: case.agent.label.name.clone(),
            permissions: vec![wanted.clone()],
            audiences: Vec::new(),
            window: Window::ALWAYS,
            max_depth: 0,
            parent: None,
            is_by_person: false,
        };
        let proposal = Proposal::registry(Want::AddGrant, Reach::Agent, text, Otherwise::Grant(grant));
        all.push(proposal.permission(&wanted).stated("delegator", subject));
    }
    all.in_order()
}

/// What nobody declared, beside something that is; written now, so that it speaks of everybody who is there.
fn supposed(beside: &Label, now: Timestamp) -> Label {
    let name = Name::parse(SUPPOSED).unwrap_or_else(|_| beside.name.clone());
    Label {
        name,
        id: Arc::from(SUPPOSED),
        version: 0,
        created: now,
        updated: now.max(beside.updated),
        ..beside.clone()
    }
}

/// The same beside an agent.
fn supposed_of(agent: &Agent, now: Timestamp) -> Label {
    Label {
        name: Name::parse(SUPPOSED).unwrap_or_else(|_| agent.label.name.clone()),
        namespace: agent.label.namespace.clone(),
        id: Arc::from(SUPPOSED),
        version: 0,
        revision: 0,
        created: now,
        updated: now,
    }
}

fn of_agent(case: &Case<'_>, agent: &Agent, wanted: &Permission, all: &mut Proposals) {
    of_state(case, agent, all);
    of_grants(case, agent, wanted, all);
    of_ceilings(case, agent, wanted, all);
    for boundary in case.snapshot.boundaries_of(agent).flatten() {
        of_boundary(case, agent, boundary, all);
    }
}

fn of_state(case: &Case<'_>, agent: &Agent, all: &mut Proposals) {
    let works = |one: &Agent, text: String| {
        let otherwise = Otherwise::AgentWorks(one.id.clone());
        Proposal::registry(Want::Start, Reach::Agent, text, otherwise).agent(one)
    };
    let own = |one: &Agent, stop: Stop, all: &mut Proposals| {
        let name = &one.label.name;
        match stop {
            Stop::State(AgentState::Suspended) => all.push(works(one, format!("resume the agent {name}"))),
            Stop::State(AgentState::Quarantined) => {
                all.push(works(one, format!("release the agent {name} from quarantine and resume it")));
            }
            Stop::State(AgentState::PendingApproval) => {
                all.push(works(one, format!("approve the agent {name} and activate it")));
            }
            Stop::State(AgentState::Staged) => all.push(works(one, format!("activate the agent {name}"))),
            Stop::Expired | Stop::State(AgentState::Expired) => {
                all.push(works(one, format!("give the agent {name} a later end")));
            }
            Stop::Class => {
                let (namespace, class) = (one.label.namespace.clone(), one.class.clone());
                let text = format!("resume the class {class}");
                let label = case.snapshot.class(namespace.as_str(), class.as_str()).map(|class| class.label.clone());
                let otherwise = Otherwise::ClassWorks(namespace, class);
                let proposal = Proposal::registry(Want::Start, Reach::Class, text, otherwise);
                all.push(match label {
                    Some(label) => proposal.object(Kind::Class, &label),
                    None => proposal,
                });
            }
            Stop::Namespace => {
                let namespace = one.label.namespace.clone();
                let text = format!("resume the namespace {namespace}");
                let otherwise = Otherwise::NamespaceWorks(namespace);
                all.push(Proposal::registry(Want::Start, Reach::Namespace, text, otherwise));
            }
            Stop::Order => {
                for order in case.snapshot.orders_that_stop(one) {
                    all.push(resumed(order, name));
                }
            }
            // A retired agent does not come back.
            Stop::State(AgentState::Retired | AgentState::Active | AgentState::Unknown) | Stop::Ancestor => {}
        }
    };
    let stop = |one: &Agent| case.snapshot.life_of(one, case.now).stop;
    match stop(agent) {
        Some(Stop::Ancestor) => {
            for above in case.snapshot.ancestors_of(agent).flatten() {
                if let Some(why) = stop(above) {
                    own(above, why, all);
                }
            }
        }
        Some(why) => own(agent, why, all),
        None => {}
    }
}

/// What a stop order stops is resumed; each order by itself.
fn resumed(order: StopOrder, agent: &Name) -> Proposal {
    let (reach, whom) = match &order {
        StopOrder::Agent(_) => (Reach::Agent, format!("the agent {agent}")),
        StopOrder::Class(_, class) => (Reach::Class, format!("the class {class}")),
        StopOrder::Group(_, _, group) => (Reach::Holders, format!("the group {group} as it was")),
        StopOrder::Owner(_, owner) => (Reach::Holders, format!("the owner {owner}")),
        StopOrder::Namespace(name) => (Reach::Namespace, format!("the namespace {name}")),
        StopOrder::Everywhere => (Reach::Namespace, "everybody".to_owned()),
    };
    let text = format!("resume what the stop order of {whom} stops");
    Proposal::registry(Want::Start, reach, text, Otherwise::Resumed(order))
}

/// Who holds what the agent has: itself, or whoever is at the top of those who made it.
fn holder<'a>(snapshot: &'a Snapshot, agent: &'a Agent) -> Option<&'a Agent> {
    if snapshot.inherits(agent) { snapshot.ancestors_of(agent).last().flatten().map(|top| &**top) } else { Some(agent) }
}

fn of_grants(case: &Case<'_>, agent: &Agent, wanted: &Permission, all: &mut Proposals) {
    let (snapshot, now, request) = (case.snapshot, case.now, case.question.request());
    let Some(holder) = holder(snapshot, agent) else { return };
    let reach = if holder.id == agent.id { Reach::Agent } else { Reach::Holders };
    let mut held: BTreeSet<Name> = BTreeSet::new();
    for grant in snapshot.grants_of(agent) {
        let covers = grant.permissions.iter().any(|p| p.covers(&request));
        let within = grant.narrowing.is_none_or(|all| all.iter().any(|selector| selector.covers(&request)));
        let holds = grant.window.holds_at(now.micros());
        match &grant.source {
            Source::Class(class) if !covers => {
                let text = format!("give the class {} the permission {}", class.label.name, said(wanted));
                let mut otherwise = (**class).clone();
                otherwise.permissions.push(wanted.clone());
                let proposal = Proposal::registry(Want::ExtendClass, Reach::Class, text, Otherwise::Class(otherwise));
                all.push(proposal.object(Kind::Class, &class.label).permission(wanted));
            }
            Source::Class(_) => {}
            Source::Binding(binding, role, _) => {
                held.insert(binding.role.clone());
                if covers && !within {
                    widen(binding, case.question, all);
                } else if covers && !holds {
                    last(binding, now, all);
                } else if !covers && within && holds {
                    let text = format!("give the role {} the permission {}", role.label.name, said(wanted));
                    let mut otherwise = (**role).clone();
                    otherwise.permissions.push(wanted.clone());
                    let proposal =
                        Proposal::registry(Want::ExtendRole, Reach::Holders, text, Otherwise::Role(otherwise));
                    all.push(proposal.object(Kind::Role, &role.label).permission(wanted));
                }
            }
        }
    }
    let namespace = agent.label.namespace.as_str();
    let mut roles: Vec<_> = snapshot
        .roles_of_namespace(namespace)
        .filter(|role| !held.contains(&role.label.name) && role.permissions.iter().any(|p| p.covers(&request)))
        .collect();
    roles.sort_by(|a, b| (a.permissions.len(), &a.label.name).cmp(&(b.permissions.len(), &b.label.name)));
    for role in all.few(OF_A_SORT, roles) {
        let text = format!("bind the role {} to the agent {}", role.label.name, holder.label.name);
        let binding = RoleBinding { agents: vec![holder.label.name.clone()], ..binding_of(&role.label, now) };
        all.push(bind(reach, text, &role.label, binding));
    }
}

/// A binding that nobody made, of a role, for whoever is put into it.
fn binding_of(role: &Label, now: Timestamp) -> RoleBinding {
    RoleBinding {
        label: supposed(role, now),
        role: role.name.clone(),
        agents: Vec::new(),
        groups: Vec::new(),
        except: Vec::new(),
        users: Vec::new(),
        narrowing: None,
        window: Window::ALWAYS,
    }
}

fn bind(reach: Reach, text: String, role: &Label, binding: RoleBinding) -> Proposal {
    Proposal::registry(Want::BindRole, reach, text, Otherwise::Binding(binding)).object(Kind::Role, role)
}

fn widen(binding: &Arc<RoleBinding>, question: &Question, all: &mut Proposals) {
    let (kind, id) = (question.resource_type.as_str(), question.resource_id.as_str());
    let none: [(String, String); 0] = [];
    let Ok(selector) = ResourceSelector::parse(kind, id, none) else { return };
    let mut otherwise = (**binding).clone();
    otherwise.narrowing.get_or_insert_default().push(selector);
    let text = format!("let the binding {} hold for {kind}:{id} as well", binding.label.name);
    let proposal = Proposal::registry(Want::WidenBinding, Reach::Holders, text, Otherwise::Binding(otherwise));
    all.push(proposal.object(Kind::Binding, &binding.label).stated("resources", &format!("{kind}:{id}")));
}

/// Whether a window is yet to begin, or is over: what can be done about it.
fn last(binding: &Arc<RoleBinding>, now: Timestamp, all: &mut Proposals) {
    if let Some(begins) = later(binding.window, now) {
        all.push(wait(begins, &format!("when the binding {} begins", binding.label.name)));
    } else if let Some(window) = lasting(binding.window) {
        let otherwise = RoleBinding { window, ..(**binding).clone() };
        let text = format!("let the binding {} last longer", binding.label.name);
        let proposal = Proposal::registry(Want::ExtendWindow, Reach::Holders, text, Otherwise::Binding(otherwise));
        all.push(proposal.object(Kind::Binding, &binding.label));
    }
}

fn later(window: Window, now: Timestamp) -> Option<Timestamp> {
    window.not_before().map(Timestamp::from_micros).filter(|at| *at > now)
}

fn lasting(window: Window) -> Option<Window> {
    Window::new(window.not_before(), None).ok()
}

fn wait(at: Timestamp, why: &str) -> Proposal {
    Proposal::new(Want::Wait, Reach::Question, format!("ask again at {at}, {why}"), Change::At(at)).time(at)
}

fn of_ceilings(case: &Case<'_>, agent: &Agent, wanted: &Permission, all: &mut Proposals) {
    let request = case.question.request();
    for (of, ceiling) in case.snapshot.ceilings_of(agent).into_iter().flatten() {
        if ceiling.covers(&request) {
            continue;
        }
        let proposal = match of {
            CeilingOf::Class(label) => {
                let class = case.snapshot.class(label.namespace.as_str(), label.name.as_str());
                let Some(class) = class else { continue };
                let mut otherwise = (**class).clone();
                let entries = ceiling.entries().iter().cloned().chain([wanted.clone()]).collect();
                otherwise.ceiling = Ceiling::new(entries);
                let text = format!("raise the ceiling of the class {} by {}", label.name, said(wanted));
                let proposal = Proposal::registry(Want::RaiseCeiling, Reach::Class, text, Otherwise::Class(otherwise));
                proposal.object(Kind::Class, label)
            }
            CeilingOf::Agent(one) => {
                let text = format!("raise the ceiling of the agent {} by {}", one.label.name, said(wanted));
                let otherwise = Otherwise::AgentCeiling(one.id.clone(), wanted.clone());
                Proposal::registry(Want::RaiseCeiling, Reach::Agent, text, otherwise).agent(one)
            }
        };
        all.push(proposal.permission(wanted));
    }
}

fn text_of(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Text(text)) => vec![text.clone()],
        Some(Value::Set(values)) => values.iter().flat_map(|value| text_of(Some(value))).collect(),
        _ => Vec::new(),
    }
}

fn of_boundary(case: &Case<'_>, agent: &Agent, boundary: &Arc<Boundary>, all: &mut Proposals) {
    let question = case.question;
    for part in boundary::cuts(boundary, agent.nature.environment, question, case.now) {
        let (stated, allowed, place, field) = match part {
            Part::Region => {
                (question.attributes.0.get("region"), &boundary.regions, "resource.attributes.region", "regions")
            }
            Part::Data => (
                question.attributes.0.get("data_classification"),
                &boundary.data_classifications,
                "resource.attributes.data_classification",
                "dataClassifications",
            ),
            Part::Purpose => (question.context.get("purpose"), &boundary.purposes, "context.purpose", "purposes"),
            Part::Regime => {
                (question.attributes.0.get("regime"), &boundary.regimes, "resource.attributes.regime", "regimes")
            }
            Part::Environment => {
                let mut otherwise = (**boundary).clone();
                otherwise.environments.insert(agent.nature.environment);
                all.push(widened(otherwise, &boundary.label, "environments", agent.nature.environment));
                continue;
            }
            Part::Hours => {
                if let Some(at) = boundary::next_change(boundary, case.now) {
                    all.push(wait(at, &format!("within the hours of the boundary {}", boundary.label.name)));
                }
                let otherwise = Boundary { hours: None, ..(**boundary).clone() };
                all.push(widened(otherwise, &boundary.label, "hours", "every hour"));
                continue;
            }
        };
        if stated.is_none() {
            // What every boundary allows that limits it; what is stated already is not to be stated otherwise.
            let limits = case.snapshot.boundaries_of(agent).flatten().map(|other| match part {
                Part::Region => &other.regions,
                Part::Data => &other.data_classifications,
                Part::Regime => &other.regimes,
                _ => &other.purposes,
            });
            let common = limits.filter(|limit| !limit.is_empty()).cloned().reduce(|a, b| &a & &b);
            for text in all.few(OF_A_SORT, common.into_iter().flatten()) {
                let name = place.rsplit('.').next().unwrap_or(place).to_owned();
                let value = Value::Text(text.clone());
                let change = match part {
                    Part::Purpose => Change::Context(name, value),
                    _ => Change::Attribute(name, value),
                };
                let told = format!("state {place} = {text:?}, where it is so");
                all.push(Proposal::new(Want::State, Reach::Question, told, change).stated(place, &text));
            }
        }
        let missing: Vec<String> = text_of(stated).into_iter().filter(|text| !allowed.contains(text)).collect();
        if missing.is_empty() {
            continue;
        }
        let mut otherwise = (**boundary).clone();
        let set = match part {
            Part::Region => &mut otherwise.regions,
            Part::Data => &mut otherwise.data_classifications,
            Part::Regime => &mut otherwise.regimes,
            _ => &mut otherwise.purposes,
        };
        set.extend(missing.iter().cloned());
        all.push(widened(otherwise, &boundary.label, field, &missing.join(", ")));
    }
}

fn widened(otherwise: Boundary, label: &Label, field: &str, value: &str) -> Proposal {
    let text = format!("let the boundary {} allow {value} in {field}", label.name);
    let proposal = Proposal::registry(Want::WidenBoundary, Reach::Holders, text, Otherwise::Boundary(otherwise));
    proposal.object(Kind::Boundary, label).stated(field, value)
}

fn of_grant(case: &Case<'_>, grant: &Arc<DelegationGrant>, wanted: &Permission, all: &mut Proposals) {
    let (now, name) = (case.now, &grant.label.name);
    if !grant.window.holds_at(now.micros()) {
        if let Some(begins) = later(grant.window, now) {
            all.push(wait(begins, &format!("when the delegation grant {name} begins")));
        } else if let Some(window) = lasting(grant.window) {
            let otherwise = Otherwise::Grant(DelegationGrant { window, ..(**grant).clone() });
            let text = format!("let the delegation grant {name} last longer");
            let proposal = Proposal::registry(Want::ExtendWindow, Reach::Agent, text, otherwise);
            all.push(proposal.object(Kind::Grant, &grant.label));
        }
    }
    if !grant.permissions.iter().any(|p| p.covers(&case.question.request())) {
        let mut otherwise = (**grant).clone();
        otherwise.permissions.push(wanted.clone());
        let text = format!("let the delegation grant {name} cover {}", said(wanted));
        let proposal = Proposal::registry(Want::ExtendGrant, Reach::Agent, text, Otherwise::Grant(otherwise));
        all.push(proposal.object(Kind::Grant, &grant.label).permission(wanted));
    }
}

fn of_person(case: &Case<'_>, beside: &Label, name: &str, all: &mut Proposals) {
    let request = case.question.request();
    let namespace = beside.namespace.as_str();
    let mut roles: Vec<_> = case
        .snapshot
        .roles_of_namespace(namespace)
        .filter(|role| role.permissions.iter().any(|p| p.covers(&request)))
        .collect();
    roles.sort_by(|a, b| (a.permissions.len(), &a.label.name).cmp(&(b.permissions.len(), &b.label.name)));
    for role in all.few(OF_A_SORT, roles) {
        let text = format!("bind the role {} to {name}", role.label.name);
        let binding = RoleBinding { users: vec![name.to_owned()], ..binding_of(&role.label, case.now) };
        all.push(bind(Reach::Holders, text, &role.label, binding));
    }
}
