//! Near misses that lie with policies: one that is not there, one that forbids, and what they look for and do not find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use legate_authority::{Permission, Window};
use legate_ids::Name;
use legate_view::{Approval, Held, NamespacePolicies, Otherwise, Policy, PolicyMode, RoleBinding};

use super::{Change, OF_A_SORT, Proposal, Proposals, Reach, TEXTS, Want, bind, binding_of, holder, supposed_of};
use crate::domain::answer::{Answer, Cause, CauseKind};
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
    all: &mut Proposals,
) {
    let label = &case.agent.label;
    if let Some(declared) = declared {
        let causes = of_cedar(case);
        without(case, declared, &causes, all);
        approved(case, declared, wanted, &causes, all);
    }
    if let Some(Ok(compiled)) = case.policies {
        stated(case, compiled, is_over, all);
        named_roles(case, compiled, is_over, all);
        named_groups(case, compiled, all);
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

/// What the policies say of the agent, whatever was granted; nothing where there are none.
fn of_cedar(case: &Case<'_>) -> Vec<Cause> {
    let so_far = Answer::allow(Vec::new());
    match case.policies {
        Some(Ok(compiled)) => {
            let approvals = approval::of(case.snapshot, case.agent, case.question, case.towards, case.now);
            let Case { bench, snapshot, agent, question, now, .. } = *case;
            bench.with_policies(snapshot, agent, question, Some(compiled), &approvals, now, so_far).causes
        }
        Some(Err(unusable)) => unusable.causes.clone(),
        None => Vec::new(),
    }
}

/// Once people approved what the policies hold back, by as many of them as any policy asks for, and for once.
fn approved(case: &Case<'_>, declared: &NamespacePolicies, wanted: &Permission, causes: &[Cause], all: &mut Proposals) {
    let holds = |policy: &&Arc<Policy>| {
        let whole = format!("{}/{}", case.agent.label.namespace, policy.label.name);
        causes.iter().any(|cause| cause.kind == CauseKind::Holding && cause.name == whole)
    };
    let policies: Vec<Held> = declared
        .by_name
        .values()
        .filter(holds)
        .map(|policy| Held { id: Arc::clone(&policy.label.id), version: policy.label.version })
        .collect();
    if policies.is_empty() {
        return;
    }
    let approval = Approval {
        label: supposed_of(case.agent, case.now),
        agent: case.agent.id.clone(),
        permissions: vec![wanted.clone()],
        audience: None,
        window: Window::ALWAYS,
        policies,
        lifecycle_version: case.snapshot.life_of(case.agent, case.now).lifecycle_version,
        decided: case.now,
        approvers: ["a", "b", "c"].map(str::to_owned).into(),
        single_use: true,
    };
    let text = format!("have {} approved for {}, which asks for it", said(wanted), case.agent.label.name);
    let proposal = Proposal::registry(Want::Approve, Reach::Question, text, Otherwise::Approved(approval));
    all.push(proposal.agent(case.agent).permission(wanted));
}

/// Without one of the policies that forbid it, or that cannot be used.
fn without(case: &Case<'_>, declared: &Arc<NamespacePolicies>, causes: &[Cause], all: &mut Proposals) {
    let blamed = |name: &Name| {
        let whole = format!("{}/{name}", case.agent.label.namespace);
        causes.iter().any(|cause| match cause.kind {
            CauseKind::Forbid | CauseKind::Holding => cause.name == whole,
            CauseKind::PolicyError => cause.name == whole || cause.text.contains(&format!("policy {whole}@")),
            _ => false,
        })
    };
    for (name, policy) in all.few(OF_A_SORT, declared.by_name.iter().filter(|(name, _)| blamed(name))) {
        let mut policies = NamespacePolicies::clone(declared);
        policies.by_name.remove(name);
        let text = format!("take back or mend the policy {name}");
        let change = Change::Policies(Arc::new(policies));
        let proposal = Proposal::new(Want::WithoutPolicy, Reach::Namespace, text, change);
        all.push(proposal.object(Kind::Policy, &policy.label));
    }
}

/// Every Cedar policy, as far as there is time; that there was too little is noted.
fn read<'a>(compiled: &'a Compiled, is_over: &dyn Fn() -> bool, all: &mut Proposals) -> Vec<&'a cedar_policy::Policy> {
    let mut read = Vec::new();
    for (_, rule) in compiled.written() {
        if is_over() {
            all.is_cut = true;
            break;
        }
        read.push(rule);
    }
    read
}

/// The context that policies look for and the question does not state.
fn stated(case: &Case<'_>, compiled: &Compiled, is_over: &dyn Fn() -> bool, all: &mut Proposals) {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for rule in read(compiled, is_over, all) {
        literals::of_context(rule, &mut found);
    }
    let unstated = found.into_iter().filter(|(name, _)| !case.question.context.contains_key(name));
    let unstated = unstated.flat_map(|(name, all)| all.into_iter().map(move |v| (name.clone(), v)));
    for (name, value) in all.few(TEXTS, unstated) {
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
fn named_roles(case: &Case<'_>, compiled: &Compiled, is_over: &dyn Fn() -> bool, all: &mut Proposals) {
    let Some(holder) = holder(case.snapshot, case.agent) else { return };
    let namespace = case.agent.label.namespace.as_str();
    let mut names: BTreeSet<Name> = BTreeSet::new();
    for rule in read(compiled, is_over, all) {
        let named = rule.entity_literals().into_iter().filter(|uid| uid.type_name().to_string() == "Role");
        names.extend(named.filter_map(|uid| Name::parse(uid.id().unescaped()).ok()));
    }
    let held: Vec<&Name> = case.snapshot.bindings_of(case.agent).map(|(binding, _)| &binding.role).collect();
    let roles = names.iter().filter(|name| !held.contains(name));
    for role in all.few(OF_A_SORT, roles.filter_map(|name| case.snapshot.role(namespace, name.as_str()))) {
        let text = format!("bind the role {} to the agent {}", role.label.name, holder.label.name);
        let binding = RoleBinding { agents: vec![holder.label.name.clone()], ..binding_of(&role.label, case.now) };
        all.push(bind(Reach::Agent, text, &role.label, binding));
    }
}

/// Groups that policies name, that are there, and to which the agent does not belong.
fn named_groups(case: &Case<'_>, compiled: &Compiled, all: &mut Proposals) {
    let (agent, namespace) = (case.agent, case.agent.label.namespace.as_str());
    let groups = compiled.groups().of_agents.iter().filter_map(|name| case.snapshot.group(namespace, name));
    for group in all.few(OF_A_SORT, groups.filter(|group| !group.has(agent))) {
        let text = format!("let the agent {} belong to the group {}", agent.label.name, group.label.name);
        let otherwise = Otherwise::Group(group.with(&agent.label.name, case.now));
        let proposal = Proposal::registry(Want::JoinGroup, Reach::Agent, text, otherwise);
        all.push(proposal.object(Kind::Group, &group.label));
    }
}
