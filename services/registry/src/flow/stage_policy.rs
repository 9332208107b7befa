//! Policies and schemas that are new or changed: what decides speaks of what there is.
//!
//! A policy that is in force and would be refused today stays in force, as it was when it was written: it might be what forbids. It is
//! refused when its text or its mode is written anew.

use std::collections::{BTreeMap, BTreeSet};

use legate_cedar::{Declared, Spoken, validate};
use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, Kind, PolicySpec};

use super::stage::{Staged, Wanted, differs};
use crate::domain::kind::Key;
use crate::domain::problem::Problem;
use crate::error::{NAMESPACE_FULL, POLICY_INVALID, POLICY_SCHEMA_INVALID, POLICY_SCHEMA_UNMET};
use crate::store::object;

/// The most policies of one namespace that are held against a new schema.
const MOST: usize = 10_000;
/// The most pairs of a policy and an action on a type that one write looks at.
const MOST_PAIRS: usize = 50_000;

/// The most bytes of all policies of one namespace, as they rest: policy-decision compiles every one of them before it decides by a
/// state that it hears for the first time.
const MOST_BYTES: u64 = 8 << 20;

/// The policies in force that a list has to do with.
#[derive(Debug, Default)]
pub(super) struct InForce {
    /// Those of the namespaces whose schema is new or changed.
    held: BTreeMap<String, Vec<(Key, PolicySpec)>>,
    /// How many bytes there are of them, in the namespaces of which one is new or changed.
    bytes: BTreeMap<String, u64>,
}

fn schema_of(declaration: Option<&Declaration>) -> &str {
    match declaration.and_then(|declaration| declaration.object.as_ref()) {
        Some(Object::Namespace(namespace)) => namespace.spec.as_ref().map_or("", |spec| spec.policy_schema.as_str()),
        _ => "",
    }
}

fn policy_of(declaration: Option<&Declaration>) -> Option<&PolicySpec> {
    match declaration?.object.as_ref()? {
        Object::Policy(policy) => policy.spec.as_ref(),
        _ => None,
    }
}

/// Whether a namespace gets a schema that it did not have.
fn is_new(wanted: &Declaration, current: Option<&Declaration>) -> bool {
    let schema = schema_of(Some(wanted));
    !schema.is_empty() && schema != schema_of(current)
}

impl InForce {
    pub(super) async fn of(tx: &Tx, list: &[&Wanted], objects: &BTreeMap<Key, Declaration>) -> TxResult<Self, Fault> {
        let mut held = BTreeMap::new();
        for wanted in
            list.iter().filter(|w| w.key.kind == Kind::Namespace && is_new(&w.declaration, objects.get(&w.key)))
        {
            let namespace = &wanted.key.name;
            let mut policies = Vec::new();
            for row in object::in_namespace(tx, Kind::Policy, namespace, MOST as u64 + 1).await? {
                let declaration = row.declaration()?;
                if let Some(spec) = policy_of(Some(&declaration)) {
                    policies.push((Key::new(Kind::Policy, namespace, &row.name), spec.clone()));
                }
            }
            held.insert(namespace.clone(), policies);
        }
        let touched = list.iter().filter(|w| w.key.kind == Kind::Policy && differs(w, objects));
        let mut bytes = BTreeMap::new();
        for namespace in touched.map(|wanted| &wanted.key.namespace).collect::<BTreeSet<_>>() {
            bytes.insert(namespace.clone(), object::bytes_in_namespace(tx, Kind::Policy, namespace).await?);
        }
        Ok(Self { held, bytes })
    }
}

/// What would be more than a namespace may hold. Where there is more already, less of it is taken.
fn too_much(staged: &[Staged], in_force: &InForce) -> Vec<(usize, Problem)> {
    let long = |declaration: Option<&Declaration>| policy_of(declaration).map_or(0, |spec| spec.cedar.len() as u64);
    let mut problems = Vec::new();
    for (namespace, rests) in &in_force.bytes {
        let (mut more, mut less, mut first) = (0, 0, None);
        let is_here = |key: &Key| key.kind == Kind::Policy && key.namespace == *namespace;
        for (at, one) in staged.iter().enumerate().filter(|(_, one)| is_here(&one.key)) {
            let (now, wanted) = (long(one.current.as_ref()), long(Some(&one.wanted)));
            more += wanted.saturating_sub(now);
            less += now.saturating_sub(wanted);
            if wanted > now {
                first.get_or_insert(at);
            }
        }
        let whole = (rests + more).saturating_sub(less);
        if let Some(at) = first.filter(|_| more > less && whole > MOST_BYTES) {
            let why = format!("the policies of {namespace} would take {whole} bytes; {MOST_BYTES} at most");
            problems.push((at, Problem::of(&NAMESPACE_FULL, "metadata.namespace", why)));
        }
    }
    problems
}

/// A text that is looked at, and what is said where it does not fit.
struct Look<'a> {
    /// Where the refusal stands in the list.
    at: usize,
    namespace: &'a str,
    /// The policy, where it is one in force and the schema is what is written.
    in_force: Option<&'a Key>,
    cedar: &'a str,
}

/// Holds new and changed policies against the schemas of their namespaces as they will be, and policies in force against schemas that
/// are new.
pub(super) fn check(
    staged: &[Staged],
    given: &BTreeMap<&Key, &Declaration>,
    objects: &BTreeMap<Key, Declaration>,
    in_force: &InForce,
) -> Vec<(usize, Problem)> {
    let mut looks = Vec::new();
    let mut problems = too_much(staged, in_force);
    if !problems.is_empty() {
        return problems;
    }
    for (at, one) in staged.iter().enumerate() {
        let (key, current) = (&one.key, one.current.as_ref());
        if let Some(wanted) = policy_of(Some(&one.wanted)) {
            let is_same = policy_of(current).is_some_and(|now| now.cedar == wanted.cedar && now.mode == wanted.mode);
            if !is_same || in_force.held.contains_key(&key.namespace) {
                looks.push(Look { at, namespace: &key.namespace, in_force: None, cedar: &wanted.cedar });
            }
        } else if let Some(policies) = in_force.held.get(&key.name).filter(|_| key.kind == Kind::Namespace) {
            let stays = policies.iter().filter(|(policy, _)| !given.contains_key(policy));
            looks.extend(stays.map(|(policy, spec)| Look {
                at,
                namespace: &key.name,
                in_force: Some(policy),
                cedar: &spec.cedar,
            }));
        }
    }
    let mut schemas: BTreeMap<&str, Option<Declared>> = BTreeMap::new();
    for namespace in looks.iter().map(|look| look.namespace).collect::<BTreeSet<_>>() {
        let key = Key::new(Kind::Namespace, "", namespace);
        let text = schema_of(given.get(&key).copied().or_else(|| objects.get(&key)));
        let declared =
            match text {
                "" => None,
                text => match Declared::parse(text) {
                    Ok(declared) => Some(declared),
                    Err(e) => {
                        // It was good when it was written; nothing is in force that was not held against it.
                        let why = format!("the policy_schema of {namespace} cannot be used: {e}");
                        let here = looks.iter().filter(|look| look.namespace == namespace);
                        problems.extend(here.map(|look| {
                            (look.at, Problem::of(&POLICY_SCHEMA_INVALID, "metadata.namespace", why.clone()))
                        }));
                        looks.retain(|look| look.namespace != namespace);
                        continue;
                    }
                },
            };
        let here = looks.iter().filter(|look| look.namespace == namespace);
        let (count, first) = (here.clone().count(), here.map(|look| look.at).next().unwrap_or_default());
        let pairs = count.saturating_mul(declared.as_ref().map_or(1, Declared::environments));
        if count > MOST || pairs > MOST_PAIRS {
            let why = format!(
                "{count} policies of {namespace} would be looked at for {pairs} pairs of a policy and an action on a type; {MOST_PAIRS} at most"
            );
            problems.push((first, Problem::of(&NAMESPACE_FULL, "metadata.namespace", why)));
            looks.retain(|look| look.namespace != namespace);
        }
        schemas.insert(namespace, declared);
    }
    let spoken: Vec<Spoken<'_>> = looks
        .iter()
        .map(|look| Spoken { text: look.cedar, declared: schemas.get(look.namespace).and_then(Option::as_ref) })
        .collect();
    if spoken.is_empty() {
        return problems;
    }
    for (look, found) in looks.iter().zip(validate(&spoken)) {
        let Some(first) = found.first() else { continue };
        let more = if found.len() > 1 { format!(" (and {} more)", found.len() - 1) } else { String::new() };
        let why = format!("{}{more}", first.told(look.cedar));
        problems.push((
            look.at,
            match look.in_force {
                None => Problem::of(&POLICY_INVALID, "spec.cedar", format!("does not fit what there is {why}")),
                Some(policy) => {
                    let why = format!("the policy {policy}, which is in force, does not fit it: {why}");
                    Problem::of(&POLICY_SCHEMA_UNMET, "spec.policy_schema", why)
                }
            },
        ));
    }
    problems
}
