//! Attestation policies that are new or changed: none may make one process two agents.

use std::collections::{BTreeMap, BTreeSet};

use legate_db::{Tx, TxResult};
use legate_rpc::Fault;
use legate_wire::registry::{ChangeAction, Declaration, Kind};

use super::stage::{Staged, Wanted, differs};
use crate::domain::attestation::{Index, Policy};
use crate::domain::kind::Key;
use crate::domain::problem::Problem;
use crate::error::{ATTESTATION_AMBIGUOUS, NAMESPACE_FULL};
use crate::store::object;

/// The most attestation policies of one namespace: a write looks at all of them.
const MOST: usize = 10_000;

/// The attestation policies in force in the namespaces of those of a list that are new or changed.
#[derive(Debug, Default)]
pub(super) struct Attested(BTreeMap<String, Vec<Policy>>);

impl Attested {
    pub(super) async fn of(tx: &Tx, list: &[&Wanted], objects: &BTreeMap<Key, Declaration>) -> TxResult<Self, Fault> {
        let touched = list.iter().filter(|w| w.key.kind == Kind::AttestationPolicy && differs(w, objects));
        let namespaces: BTreeSet<&String> = touched.map(|wanted| &wanted.key.namespace).collect();
        let mut found = BTreeMap::new();
        for namespace in namespaces {
            let mut policies = Vec::new();
            for row in object::in_namespace(tx, Kind::AttestationPolicy, namespace, MOST as u64).await? {
                policies.extend(Policy::read(&row.declaration()?));
            }
            found.insert(namespace.clone(), policies);
        }
        Ok(Self(found))
    }
}

/// Holds them against all others of their namespaces, as they will be.
pub(super) fn check(
    staged: &[Staged],
    given: &BTreeMap<&Key, &Declaration>,
    attested: &Attested,
) -> Vec<(usize, Problem)> {
    let mut problems = Vec::new();
    for (namespace, in_force) in &attested.0 {
        let key = |policy: &Policy| Key::new(Kind::AttestationPolicy, namespace, &policy.name);
        let mut policies: Vec<Policy> = in_force.iter().filter(|p| !given.contains_key(&key(p))).cloned().collect();
        let is_here = |key: &Key| key.kind == Kind::AttestationPolicy && key.namespace == *namespace;
        let wanted = given.iter().filter(|(key, _)| is_here(key));
        policies.extend(wanted.filter_map(|(_, declaration)| Policy::read(declaration)));
        let is_full = policies.len() > MOST;
        let index = Index::new(&policies);
        for (i, one) in staged.iter().enumerate().filter(|(_, one)| is_here(&one.key)) {
            if is_full && one.action() == ChangeAction::Created {
                let why = format!("{namespace} would have over {MOST} attestation policies");
                problems.push((i, Problem::of(&NAMESPACE_FULL, "metadata.namespace", why)));
            } else if one.action() != ChangeAction::Unchanged
                && let Some(rival) = Policy::read(&one.wanted).and_then(|policy| index.rival(&policy))
            {
                let why = format!(
                    "AttestationPolicy {namespace}/{} is for another agent, and one process could match both",
                    rival.name
                );
                problems.push((i, Problem::of(&ATTESTATION_AMBIGUOUS, "spec.selectors", why)));
            }
        }
    }
    problems
}
