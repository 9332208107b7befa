//! Wanted objects held against what is there: what would be new, what would change, and whether it may.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Agent, AgentClassSpec, AgentSpec, AgentState, AgentStatus, ChangeAction, Declaration, DeclarationChange,
    FieldChange, Kind, Origin, SanctionedStatus,
};

use super::stage_attestation::{self, Attested};
use super::stage_grant::{self, Chains};
use super::stage_policy::{self, InForce};
use super::write::{Put, Writing};
use crate::domain::kind::{self, Key};
use crate::domain::problem::Problem;
use crate::domain::succession::{self, Departed};
use crate::domain::{check, diff, lifecycle, lifecycle_policy, operators, standing};
use crate::error::{
    AGENT_OWNER_MISSING, AGENT_SPONSOR_MISSING, AGENT_STATE_WRONG, LEAVES_SUSPENDED_CLASS, MADE_BY_AN_AGENT,
    OBJECT_REPEATED, PERSON_DEPARTED, REFERENCE_MISSING,
};
use crate::store::{departure, object, refuse};

/// Objects in one request.
const MOST: usize = 1_000;
/// Problems that are told at once.
const MOST_PROBLEMS: usize = 64;
/// Bytes of one problem: all of them have to fit into the headers of an answer.
const LONGEST_PROBLEM: usize = 512;

/// A wanted object whose grammar is good.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) key: Key,
    pub(crate) declaration: Declaration,
    /// That nobody answers for it, which is refused where it is new or changes: what was found elsewhere waits for somebody as it is.
    pub(crate) unanswered: Vec<Problem>,
}

impl Wanted {
    /// One for which everybody answers who has to.
    pub(crate) fn new(key: Key, declaration: Declaration) -> Self {
        Self { key, declaration, unanswered: Vec::new() }
    }

    /// Whether it is in force as it is wanted.
    pub(super) fn is_so(&self, current: &Declaration) -> bool {
        self.differing(current).is_empty()
    }

    /// What is in force otherwise than it is wanted.
    pub(super) fn differing(&self, current: &Declaration) -> Vec<FieldChange> {
        let mut wanted = self.declaration.clone();
        if let (Some(Object::Agent(agent)), Some(Object::Agent(current))) = (&mut wanted.object, &current.object) {
            keep_expiry(agent.spec.get_or_insert_default(), current);
        }
        diff::diff(Some(current), &wanted)
    }
}

/// A wanted object and what there is of it.
#[derive(Clone, Debug)]
pub(crate) struct Staged {
    pub(crate) key: Key,
    pub(crate) current: Option<Declaration>,
    pub(crate) wanted: Declaration,
    pub(crate) fields: Vec<FieldChange>,
}

impl Staged {
    pub(crate) fn action(&self) -> ChangeAction {
        match &self.current {
            None => ChangeAction::Created,
            Some(_) if self.fields.is_empty() => ChangeAction::Unchanged,
            Some(_) => ChangeAction::Updated,
        }
    }

    /// The verb of its audit event; `None` where nothing is to be written.
    fn verb(&self) -> Option<&'static str> {
        match self.action() {
            ChangeAction::Created => Some("created"),
            ChangeAction::Updated => Some("updated"),
            ChangeAction::Unchanged | ChangeAction::Removed | ChangeAction::Unspecified => None,
        }
    }

    /// Holds what is wanted against what there is, and does to the agent's life what a change does.
    pub(super) fn compare(&mut self, now: Timestamp, by: (&str, &str)) {
        self.fields = diff::diff(self.current.as_ref(), &self.wanted);
        if let Some(Object::Agent(agent)) = &mut self.wanted.object
            && !self.fields.is_empty()
        {
            lifecycle::changed(agent, now, by.0, by.1);
        }
    }

    /// What is told of it; `now` is the object after the change.
    pub(crate) fn told(&self, now: Option<&Declaration>) -> DeclarationChange {
        let id = now.or(self.current.as_ref()).and_then(Declaration::metadata).map(|m| m.id.clone());
        DeclarationChange {
            action: self.action().into(),
            kind: self.key.kind.into(),
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
            id: id.unwrap_or_default(),
            fields: self.fields.clone(),
        }
    }
}

/// Refuses what may not be declared, its fields named as in a request that lists those of one object.
pub(super) fn check_asked(declaration: &Declaration) -> Result<(), Fault> {
    let asked = |path: &str| {
        let path = path.strip_prefix("spec.").or_else(|| path.strip_prefix("metadata."));
        path.map(str::to_owned)
    };
    let problems = check::check(declaration).into_iter();
    refusal(problems.map(|p| Problem { path: asked(&p.path).unwrap_or(p.path), ..p }).collect())
}

/// One refusal for everything that is wrong, under the reason of the first.
pub(crate) fn refusal(mut problems: Vec<Problem>) -> Result<(), Fault> {
    for problem in &mut problems {
        problem.why = cut(std::mem::take(&mut problem.why));
    }
    let Some(first) = problems.first() else { return Ok(()) };
    let more = match problems.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let fault = Fault::refused(first.reason, format!("{}: {}{more}", first.path, first.why));
    let fields = problems.into_iter().take(MOST_PROBLEMS);
    Err(fields.fold(fault, |fault, problem| fault.field(problem.path, problem.why)))
}

/// A text of a problem, no longer than it may be.
pub(super) fn cut(mut why: String) -> String {
    if why.len() > LONGEST_PROBLEM {
        why.truncate(why.floor_char_boundary(LONGEST_PROBLEM));
        why += "...";
    }
    why
}

/// Whether there is anything in a request, and not too much.
pub(super) fn check_size(declarations: usize, removals: usize) -> Result<(), Fault> {
    match declarations.saturating_add(removals) {
        1..=MOST => Ok(()),
        _ => Err(Fault::invalid("declarations", "1 to 1,000, together with removals")),
    }
}

/// Whether the objects of a request are what they have to be, each for itself.
pub(crate) fn read(declarations: Vec<Declaration>) -> Result<Vec<Wanted>, Fault> {
    let mut problems = Vec::new();
    let mut wanted: BTreeMap<Key, usize> = BTreeMap::new();
    let mut list = Vec::with_capacity(declarations.len());
    for (i, declaration) in declarations.into_iter().enumerate() {
        let path = format!("declarations[{i}]");
        let (one, wrong) = read_one(declaration);
        if let Some(one) = one.filter(|_| wrong.is_empty()) {
            if let Some(first) = wanted.insert(one.key.clone(), i) {
                let key = &one.key;
                let why = format!("is {} {key} again, as declarations[{first}]", kind::kind_name(key.kind));
                problems.push(Problem { path, why, reason: &OBJECT_REPEATED });
            }
            list.push(one);
        } else {
            problems.extend(wrong.into_iter().map(|p| Problem { path: format!("{path}.{}", p.path), ..p }));
        }
    }
    refusal(problems)?;
    Ok(list)
}

/// Refuses a write of objects that the caller may not write, or that name others which it may not see, before anything of the
/// registry shows.
pub(super) fn demand(writing: &mut Writing<'_>, list: &[Wanted]) -> Result<(), Fault> {
    list.iter().try_for_each(|one| {
        writing.demand(operators::to_write(one.key.kind), operators::place(&one.key))?;
        demand_elsewhere(writing, &one.declaration)
    })
}

/// Whether something is there in another namespace is for those to hear who may read there; whom the agents of a namespace believe is for
/// those to say who write there.
pub(super) fn demand_elsewhere(writing: &mut Writing<'_>, declaration: &Declaration) -> Result<(), Fault> {
    let right = match &declaration.object {
        Some(Object::FederatedTrustDomain(_)) => Right::Write,
        _ => Right::Read,
    };
    kind::elsewhere(declaration).iter().try_for_each(|(_, to)| writing.demand(right, operators::place(to)))
}

/// Refuses changes that take more than to write the object: nobody makes a namespace who has no say outside of it, and
/// whose agents need no approval any more, or can have more than was approved, is not for those to say who would have
/// needed it.
pub(super) fn demand_more(writing: &mut Writing<'_>, staged: &[Staged]) -> Result<(), Fault> {
    staged.iter().try_for_each(|one| match (&one.wanted.object, one.current.as_ref().and_then(|c| c.object.as_ref())) {
        (Some(Object::Namespace(_)), None) => writing.demand(Right::Administer, Place::Everywhere),
        (Some(Object::AgentClass(wanted)), Some(Object::AgentClass(current))) => {
            if operators::loosens(current, wanted) {
                return writing.demand(Right::Administer, operators::place(&one.key));
            }
            Ok(())
        }
        _ => Ok(()),
    })
}

/// What an object is, where it is one at all, and what is wrong with it for itself. Paths are relative to it.
pub(super) fn read_one(mut declaration: Declaration) -> (Option<Wanted>, Vec<Problem>) {
    let nobody = |p: &Problem| [AGENT_OWNER_MISSING.name, AGENT_SPONSOR_MISSING.name].contains(&p.reason.name);
    let (unanswered, mut problems): (Vec<_>, Vec<_>) = check::check(&declaration).into_iter().partition(nobody);
    let key = kind::key_of(&declaration);
    if key.is_none() && problems.is_empty() {
        problems.push(Problem::invalid("object", "holds no object; give one of the kinds"));
    }
    check::strip_output_only(&mut declaration);
    (key.map(|key| Wanted { key, declaration, unanswered }), problems)
}

/// Holds the wanted objects against those in force. What is staged is complete: defaults are filled in.
pub(crate) async fn stage(
    tx: &Tx,
    list: &[Wanted],
    now: Timestamp,
    actor: &str,
    reason: &str,
) -> TxResult<Vec<Staged>, Fault> {
    let list: Vec<&Wanted> = list.iter().collect();
    let known = Known::of(tx, &list).await?;
    staged(&list, &known, now, (actor, reason))
}

/// Holds the wanted objects against what is known of those in force, and refuses all of them where one may not be.
pub(super) fn staged(
    list: &[&Wanted],
    known: &Known,
    now: Timestamp,
    by: (&str, &str),
) -> TxResult<Vec<Staged>, Fault> {
    let (staged, problems) = hold(list, known, now, by);
    let under = |(i, p): (usize, Problem)| Problem { path: format!("declarations[{i}].{}", p.path), ..p };
    refusal(problems.into_iter().map(under).collect()).map_err(refuse)?;
    Ok(staged)
}

/// What is in force of everything that a list declares or names: read at once, however long the list is.
#[derive(Debug)]
pub(super) struct Known {
    objects: BTreeMap<Key, Declaration>,
    /// Classes that agents leave for others.
    left: BTreeMap<Key, Declaration>,
    /// Agents that others are made by: their namespaces by their ids.
    parents: BTreeMap<String, String>,
    /// Grants that hang together with those of the list.
    chains: Chains,
    /// Attestation policies beside those of the list.
    attested: Attested,
    /// Policies of namespaces whose schema is among those of the list.
    policies: InForce,
    /// Whoever has left of those whom the list names.
    departed: Departed,
}

impl Known {
    /// What holds the name.
    pub(super) fn get(&self, key: &Key) -> Option<&Declaration> {
        self.objects.get(key)
    }

    /// Takes an object for one that is in force.
    pub(super) fn suppose(&mut self, key: Key, declaration: Declaration) {
        self.objects.insert(key, declaration);
    }

    pub(super) async fn of(tx: &Tx, list: &[&Wanted]) -> TxResult<Self, Fault> {
        let mut keys: BTreeSet<Key> = list.iter().map(|wanted| wanted.key.clone()).collect();
        keys.extend(list.iter().flat_map(|w| kind::references(&w.declaration)).map(|(_, to)| to));
        keys.extend(list.iter().flat_map(|w| kind::elsewhere(&w.declaration)).map(|(_, to)| to));
        let objects = in_force(tx, keys).await?;
        let leave = |w: &&Wanted| match &w.declaration.object {
            Some(Object::Agent(agent)) => left_class(objects.get(&w.key), agent, &w.key.namespace),
            _ => None,
        };
        let left = in_force(tx, list.iter().filter_map(leave).collect()).await?;
        let ids = list.iter().filter_map(|w| parent_of(&w.declaration)).map(str::to_owned).collect();
        let parents = object::by_ids(tx, ids).await?;
        let parents = parents.into_iter().filter(|row| row.kind == Kind::Agent as i32);
        let parents = parents.map(|row| (row.id, row.namespace)).collect();
        let chains = Chains::of(tx, list, &objects).await?;
        let attested = Attested::of(tx, list, &objects).await?;
        let policies = InForce::of(tx, list, &objects).await?;
        let persons = list.iter().flat_map(|w| succession::named(&w.declaration)).map(|(_, who)| who);
        let departed = departure::of(tx, persons.collect()).await?;
        Ok(Self { objects, left, parents, chains, attested, policies, departed })
    }
}

/// Holds the wanted objects against what is known of those in force: what is staged, and what is wrong with which.
pub(super) fn hold(
    list: &[&Wanted],
    known: &Known,
    now: Timestamp,
    by: (&str, &str),
) -> (Vec<Staged>, Vec<(usize, Problem)>) {
    let given: BTreeMap<&Key, &Declaration> = list.iter().map(|w| (&w.key, &w.declaration)).collect();
    let mut problems = Vec::new();
    let mut templates: BTreeMap<Key, Template> = BTreeMap::new();
    let mut staged = Vec::with_capacity(list.len());
    for (i, Wanted { key, declaration, unanswered }) in list.iter().enumerate() {
        for (path, to) in kind::references(declaration).into_iter().chain(kind::elsewhere(declaration)) {
            if given.contains_key(&to) || known.objects.contains_key(&to) {
                continue;
            }
            let why = format!("there is no {} {to}", kind::kind_name(to.kind));
            problems.push((i, Problem { path, why, reason: &REFERENCE_MISSING }));
        }
        let current = known.objects.get(key).cloned();
        if let Some(parent) = parent_of(declaration)
            && known.parents.get(parent) != Some(&key.namespace)
        {
            let why = format!("there is no agent {parent} in {}", key.namespace);
            problems.push((i, Problem { path: "spec.parent".to_owned(), why, reason: &REFERENCE_MISSING }));
        }
        if let Some(maker) = maker_of(current.as_ref())
            && parent_of(declaration) != Some(maker)
        {
            let why = format!("{key} was made by the agent {maker}, and spec.parent does not say so");
            problems.push((i, Problem { path: "metadata.name".to_owned(), why, reason: &MADE_BY_AN_AGENT }));
        }
        let mut wanted = declaration.clone();
        if let Some(Object::Agent(agent)) = &mut wanted.object {
            let class = Key {
                kind: Kind::AgentClass,
                namespace: key.namespace.clone(),
                name: agent.spec.as_ref().map(|s| s.agent_class.clone()).unwrap_or_default(),
            };
            let class = templates.entry(class).or_insert_with_key(|class| {
                let known = known.objects.get(class);
                Template::of(given.get(class).copied().or(known), known)
            });
            if class.spec.requires_approval
                && let Some(state) = moves_in(current.as_ref(), agent)
            {
                let why = format!(
                    "asks for an approver, and the agent is {}; only one that waits for approval or is STAGED goes there",
                    lifecycle::state_name(state)
                );
                problems.push((i, Problem { path: "spec.agent_class".to_owned(), why, reason: &AGENT_STATE_WRONG }));
            }
            let left = left_class(current.as_ref(), agent, &key.namespace);
            let left = left.and_then(|left| known.objects.get(&left).or(known.left.get(&left)));
            if left.is_some_and(standing::is_suspended) {
                let why = "would take the agent out of a class that is suspended".to_owned();
                problems
                    .push((i, Problem { path: "spec.agent_class".to_owned(), why, reason: &LEAVES_SUSPENDED_CLASS }));
            }
            complete(agent, current.as_ref(), class, now, by.0, by.1);
            if let (Some(left), Some(status)) = (left, &mut agent.status) {
                // What the class's suspension killed stays dead in another class.
                status.authorization_cutoff = standing::later(status.authorization_cutoff, standing::cutoff_of(left));
            }
        } else if let Some(status) = standing::status_mut(&mut wanted) {
            *status = current.as_ref().and_then(standing::status_of).cloned().flatten();
        } else if let Some(Object::LifecyclePolicy(policy)) = &mut wanted.object {
            let current = match current.as_ref().and_then(|c| c.object.as_ref()) {
                Some(Object::LifecyclePolicy(current)) => Some(current),
                _ => None,
            };
            policy.status = Some(lifecycle_policy::effective(policy, current, now));
        } else if let (Some(Object::EnforcementPoint(new)), Some(Object::EnforcementPoint(old))) =
            (&mut wanted.object, current.as_ref().and_then(|c| c.object.as_ref()))
        {
            new.spiffe_id.clone_from(&old.spiffe_id);
        } else if let (Some(Object::Node(new)), Some(Object::Node(old))) =
            (&mut wanted.object, current.as_ref().and_then(|c| c.object.as_ref()))
        {
            new.spiffe_id.clone_from(&old.spiffe_id);
        }
        let mut one = Staged { key: key.clone(), current, wanted, fields: Vec::new() };
        one.compare(now, by);
        if one.action() != ChangeAction::Unchanged {
            // What is as it was may name who left since, and be without anybody who answers for it.
            let departed = departed(declaration, &key.namespace, &known.departed);
            problems.extend(unanswered.iter().cloned().chain(departed).map(|p| (i, p)));
        }
        staged.push(one);
    }
    problems.extend(stage_grant::check(&staged, &given, &known.chains));
    problems.extend(stage_attestation::check(&staged, &given, &known.attested));
    problems.extend(stage_policy::check(&staged, &given, &known.objects, &known.policies));
    (staged, problems)
}

/// Whom an object names that has left.
pub(super) fn departed(declaration: &Declaration, namespace: &str, departed: &Departed) -> Vec<Problem> {
    let named = succession::named(declaration).into_iter();
    let gone = named.filter_map(|(path, who)| {
        let gone = departed.of(&who, namespace)?;
        Some(Problem::of(&PERSON_DEPARTED, path, format!("{who} left at {}; name somebody who is here", gone.time)))
    });
    gone.collect()
}

/// Writes what is new or differs; what is told of each, in their order.
pub(super) async fn put(writing: &mut Writing<'_>, staged: &[Staged]) -> TxResult<Vec<DeclarationChange>, Fault> {
    let puts = staged.iter().filter_map(|one| {
        let verb = one.verb()?;
        let (declaration, before) = (one.wanted.clone(), one.current.as_ref());
        Some(Put { declaration, before, revoked: false, verb, fields: &one.fields })
    });
    let mut written = writing.put_all(puts.collect()).await?.into_iter();
    let told = staged.iter().map(|one| one.told(one.verb().and_then(|_| written.next()).as_ref()));
    Ok(told.collect())
}

/// Whether an object of a list is new, or another than the one in force.
pub(super) fn differs(wanted: &Wanted, objects: &BTreeMap<Key, Declaration>) -> bool {
    let current = objects.get(&wanted.key);
    current.is_none_or(|current| !diff::diff(Some(current), &wanted.declaration).is_empty())
}

/// The state of an agent that was switched on in another class than the one that is wanted for it: nobody who approves
/// for the new one has seen it.
fn moves_in(current: Option<&Declaration>, wanted: &Agent) -> Option<AgentState> {
    let Some(Object::Agent(current)) = current.and_then(|c| c.object.as_ref()) else { return None };
    let class = |agent: &Agent| agent.spec.as_ref().map(|spec| spec.agent_class.clone());
    let state = lifecycle::state_of(current);
    let waits = matches!(state, AgentState::PendingApproval | AgentState::Staged);
    (!waits && class(current) != class(wanted)).then_some(state)
}

/// The class that an agent leaves for another.
fn left_class(current: Option<&Declaration>, wanted: &Agent, namespace: &str) -> Option<Key> {
    let Some(Object::Agent(current)) = current.and_then(|c| c.object.as_ref()) else { return None };
    let class = |agent: &Agent| agent.spec.as_ref().map(|spec| spec.agent_class.clone()).unwrap_or_default();
    let left = class(current);
    (left != class(wanted)).then(|| Key::new(Kind::AgentClass, namespace, &left))
}

/// The objects that hold these names.
pub(super) async fn in_force(tx: &Tx, keys: BTreeSet<Key>) -> TxResult<BTreeMap<Key, Declaration>, Fault> {
    let rows = object::by_keys(tx, keys).await?;
    rows.into_iter().map(|(key, row)| Ok((key, row.declaration()?))).collect()
}

/// The id of the agent that made this one.
fn parent_of(declaration: &Declaration) -> Option<&str> {
    match &declaration.object {
        Some(Object::Agent(agent)) => agent.spec.as_ref().map(|s| s.parent.as_str()).filter(|id| !id.is_empty()),
        _ => None,
    }
}

/// The id of the agent that made the one in force, whatever was declared of it.
fn maker_of(current: Option<&Declaration>) -> Option<&str> {
    match current?.object.as_ref()? {
        Object::Agent(agent) => agent.status.as_ref()?.ancestors.first().map(String::as_str),
        _ => None,
    }
}

/// What an agent takes from its class.
struct Template {
    spec: AgentClassSpec,
    version: u32,
}

impl Template {
    /// `wanted` is the class as it will be; its version is that of `current`, and one more where it changes.
    fn of(wanted: Option<&Declaration>, current: Option<&Declaration>) -> Self {
        let spec = match wanted.and_then(|d| d.object.as_ref()) {
            Some(Object::AgentClass(class)) => class.spec.clone().unwrap_or_default(),
            _ => AgentClassSpec::default(),
        };
        let version = current.and_then(Declaration::metadata).map_or(0, |m| m.version);
        let changes = wanted.is_some_and(|wanted| !diff::diff(current, wanted).is_empty());
        Self { spec, version: version + u32::from(changes) }
    }
}

/// Absent means: what was set when it was made. To end an expiry takes an update of that very field.
fn keep_expiry(spec: &mut AgentSpec, current: &Agent) {
    if spec.expire_time.is_none() {
        spec.expire_time = current.spec.as_ref().and_then(|spec| spec.expire_time);
    }
}

/// Gives a wanted agent the state it has, or begins its life.
fn complete(
    agent: &mut Agent,
    current: Option<&Declaration>,
    class: &Template,
    now: Timestamp,
    actor: &str,
    reason: &str,
) {
    let spec = agent.spec.get_or_insert_default();
    if let Some(Object::Agent(current)) = current.and_then(|c| c.object.as_ref()) {
        let mut status = current.status.clone().unwrap_or_default();
        status.agent_class_version = class.version;
        // Nobody is named who has left, or it is refused.
        if !spec.sponsors.is_empty() {
            succession::answered_for(&mut status);
        }
        // Of one that an agent made, that is its parent, whatever is declared.
        if let Some(maker) = status.ancestors.first() {
            spec.parent.clone_from(maker);
        }
        keep_expiry(spec, current);
        agent.status = Some(status);
        return;
    }
    let state = if class.spec.requires_approval { AgentState::PendingApproval } else { AgentState::Active };
    if spec.expire_time.is_none() {
        let life = class.spec.default_expiry.and_then(|life| Duration::try_from(life).ok());
        spec.expire_time = life.map(|life| now.plus(life).into());
    }
    agent.status = Some(AgentStatus {
        state: state.into(),
        lifecycle_version: 1,
        agent_class_version: class.version,
        state_time: Some(now.into()),
        state_reason: reason.to_owned(),
        state_actor: actor.to_owned(),
        origin: Origin::Registered.into(),
        sanctioned_status: SanctionedStatus::Sanctioned.into(),
        ..AgentStatus::default()
    });
}
