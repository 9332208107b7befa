//! Near misses that lie with policies: one that is not there, one that forbids, and what they look for and do not find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use legate_authority::Permission;
use legate_ids::Name;
use legate_view::{NamespacePolicies, Policy, PolicyMode, RoleBinding};

use super::{Change, OF_A_SORT, Proposal, Reach, TEXTS, Want, bind, binding_of, holder, supposed_of};
use crate::domain::answer::{Answer, CauseKind};
use crate::domain::approval;
use crate::domain::derivation::{Case, Kind, said};
use crate::domain::literals;
use crate::domain::policies::Compiled;
use crate::domain::question::Value;

pub(super) fn of_policies(
    case: &Case<'_>,
    declared: Option<&Arc<NamespacePolicies>>,
    wanted: &Permission,
    is_over: &dyn Fn() -> bool,
    all: &mut Vec<Proposal>,
) {
    let label = &case.agent.label;
    if let Some(declared) = declared {
        without(case, declared, all);
    }
    if let Some(Ok(compiled)) = case.policies {
        stated(case, compiled, is_over, all);
        named_roles(case, compiled, is_over, all);
    }
    let question = case.question;
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let cedar = format!(
        "permit(principal == Agent::{}, action == Action::{}, resource == {}::{});",
        quoted(case.agent.id.as_str()),
        quoted(question.action.as_str()),
        question.resource_type,
        quoted(question.resource_id.as_str()),
    );
    let mut policies = declared.map(|all| NamespacePolicies::clone(all)).unwrap_or_default();
    let policy = Policy { label: supposed_of(case.agent, case.now), cedar: cedar.clone(), mode: PolicyMode::Enforce };
    policies.by_name.insert(policy.label.name.clone(), Arc::new(policy));
    let text = format!("declare a policy that permits {} to {}", said(wanted), label.name);
    let proposal = Proposal::new(Want::AddPolicy, Reach::Agent, text, Change::Policies(Arc::new(policies)));
    all.push(proposal.permission(wanted).stated("cedar", &cedar));
}

/// Without one of the policies that forbid it, or that cannot be used.
fn without(case: &Case<'_>, declared: &Arc<NamespacePolicies>, all: &mut Vec<Proposal>) {
    let so_far = Answer::allow(Vec::new());
    let said = match case.policies {
        Some(Ok(compiled)) => {
            let approvals = approval::of(case.snapshot, case.agent, case.question, case.towards, case.now);
            let Case { bench, snapshot, agent, question, now, .. } = *case;
            bench.with_policies(snapshot, agent, question, Some(compiled), &approvals, now, so_far)
        }
        Some(Err(unusable)) => unusable.clone(),
        None => return,
    };
    let blamed = |name: &Name| {
        let whole = format!("{}/{name}", case.agent.label.namespace);
        said.causes.iter().any(|cause| match cause.kind {
            CauseKind::Forbid | CauseKind::Holding => cause.name == whole,
            CauseKind::PolicyError => cause.name == whole || cause.text.contains(&format!("policy {whole}@")),
            _ => false,
        })
    };
    for (name, policy) in declared.by_name.iter().filter(|(name, _)| blamed(name)).take(OF_A_SORT) {
        let mut policies = NamespacePolicies::clone(declared);
        policies.by_name.remove(name);
        let text = format!("take back or mend the policy {name}");
        let change = Change::Policies(Arc::new(policies));
        let proposal = Proposal::new(Want::WithoutPolicy, Reach::Namespace, text, change);
        all.push(proposal.object(Kind::Policy, &policy.label));
    }
}

/// The context that policies look for and the question does not state.
fn stated(case: &Case<'_>, compiled: &Compiled, is_over: &dyn Fn() -> bool, all: &mut Vec<Proposal>) {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (_, rule) in compiled.written().take(1_000).take_while(|_| !is_over()) {
        literals::of_context(rule, &mut found);
    }
    let unstated = found.into_iter().filter(|(name, _)| !case.question.context.contains_key(name));
    for (name, value) in unstated.flat_map(|(name, all)| all.into_iter().map(move |v| (name.clone(), v))).take(TEXTS) {
        let told = match &value {
            Value::Bool(value) => value.to_string(),
            Value::Long(value) => value.to_string(),
            Value::Text(value) => format!("{value:?}"),
            Value::Set(_) | Value::Record(_) => continue,
        };
        let place = format!("context.{name}");
        let text = format!("state {place} = {told}, where it is so");
        let proposal = Proposal::new(Want::State, Reach::Question, text, Change::Context(name, value));
        all.push(proposal.stated(&place, &told));
    }
}

/// Roles that policies name, that are there, and that the agent does not have.
fn named_roles(case: &Case<'_>, compiled: &Compiled, is_over: &dyn Fn() -> bool, all: &mut Vec<Proposal>) {
    let Some(holder) = holder(case.snapshot, case.agent) else { return };
    let namespace = case.agent.label.namespace.as_str();
    let mut names: BTreeSet<Name> = BTreeSet::new();
    for (_, rule) in compiled.written().take(1_000).take_while(|_| !is_over()) {
        let named = rule.entity_literals().into_iter().filter(|uid| uid.type_name().to_string() == "Role");
        names.extend(named.filter_map(|uid| Name::parse(uid.id().unescaped()).ok()));
    }
    let held: Vec<&Name> = case.snapshot.bindings_of(case.agent).map(|(binding, _)| &binding.role).collect();
    let roles = names.iter().filter(|name| !held.contains(name));
    for role in roles.filter_map(|name| case.snapshot.role(namespace, name.as_str())).take(OF_A_SORT) {
        let text = format!("bind the role {} to the agent {}", role.label.name, holder.label.name);
        let binding = RoleBinding { agents: vec![holder.label.name.clone()], ..binding_of(&role.label, case.now) };
        all.push(bind(Reach::Agent, text, &role.label, binding));
    }
}
