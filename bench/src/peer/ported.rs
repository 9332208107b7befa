//! The peer's rules as they are written here: a resource type for each copy, and a Cedar policy for each rule of its policies.
//!
//! What cerbos is told of the principal in the request (its roles, department, geography) comes in the context of the question.

use legate_wire::policy as wire;
use legate_wire::registry as reg;
use prost_types::{ListValue, Struct, Value, value::Kind};
use reg::declaration::Object;

use crate::Failed;
use crate::house::{agent_name, metadata};

/// What a request says of who asks.
pub(super) const PRINCIPAL: [(&str, &str); 3] = [("department", "marketing"), ("geography", "GB"), ("team", "design")];
/// What a request asks about: id, owner, department, geography, team.
pub(super) const RESOURCES: [(&str, &str, &str, &str, &str); 5] = [
    ("XX125", "john", "marketing", "GB", "design"),
    ("YY125", "jenny", "engineering", "GB", "backend"),
    ("ZZ125", "dani", "finance", "GB", "accounting"),
    ("AA125", "robert", "finance", "GB", "accounting"),
    ("BB125", "anya", "engineering", "US", "sre"),
];
/// Who manages, and of what: their derived role `direct_manager`.
const MANAGES: &str = "context.roles.contains(\"manager\") && resource.geography == context.geography && \
                       context has managed_geographies && resource.geography == context.managed_geographies";
/// Whose it is: their derived role `employee_that_owns_the_record`.
const OWNS: &str = "context.roles.contains(\"employee\") && resource.owner == context.id";
const IS_IN: &str =
    "context has ip_address && ip(context.ip_address).isInRange(ip(\"10.20.0.0/16\")) && resource.geography == \"GB\"";

/// The name of an enforcement point.
pub(super) fn point(n: usize) -> String {
    format!("point-{n}")
}

fn type_of(n: u32) -> String {
    format!("LeaveRequest_{n:05}")
}

/// The rules of one copy: of the policy by version, of the three by scope, of the one without, and of the other resource.
fn rules(n: u32) -> Vec<String> {
    let (leave, record) = (type_of(n), format!("EmployeeRecord_{n:05}"));
    let of = |actions: &[&str], resource: &str, when: &str| {
        let named: Vec<String> = actions.iter().map(|action| format!("Action::\"{action}\"")).collect();
        let action = match named.as_slice() {
            [] => "action".to_owned(),
            [one] => format!("action == {one}"),
            many => format!("action in [{}]", many.join(", ")),
        };
        format!("permit (principal, {action}, resource is {resource}) when {{ {when} }};")
    };
    let scoped = |scope: &str, when: &str| format!("context has scope && context.scope == \"{scope}\" && {when}");
    let views = ["view:public", "view:private"];
    let admin = "context.roles.contains(\"admin\")";
    let pending = format!("resource has status && resource.status == \"PENDING_APPROVAL\" && {MANAGES}");
    let proven = "context.roles.contains(\"employee\") && context has aud && context.aud.contains(\"tests\")";
    vec![
        of(&[], &leave, admin),
        of(&["create"], &leave, OWNS),
        of(&views, &leave, &format!("({OWNS}) || ({MANAGES})")),
        of(&["view:public"], &leave, "context.roles.contains(\"employee\")"),
        of(&["approve"], &leave, &pending),
        of(&["delete"], &leave, &format!("{IS_IN} && {MANAGES}")),
        of(&["defer"], &leave, proven),
        of(&["create"], &leave, &scoped("acme", OWNS)),
        of(&["view:public"], &leave, &scoped("acme", "context.roles.contains(\"employee\")")),
        of(&views, &leave, &scoped("acme.hr", &format!("(({OWNS}) || ({MANAGES}))"))),
        of(&["delete"], &leave, &scoped("acme.hr", &format!("{IS_IN} && {MANAGES}"))),
        of(&["approve"], &leave, &scoped("acme.hr", &pending)),
        of(&["defer"], &leave, &scoped("acme.hr", proven)),
        of(&["delete"], &leave, &scoped("acme.hr.uk", &format!("{IS_IN} && (({OWNS}) || ({MANAGES}))"))),
        of(&["defer"], &leave, &scoped("acme.hr.uk", &format!("(({OWNS}) || ({MANAGES}))"))),
        of(&[], &leave, &scoped("default", admin)),
        of(&[], &record, admin),
        format!(
            "forbid (principal, action, resource is {record}) when {{ context has id && context.id == \"donald_duck\" }};"
        ),
    ]
}

/// All that is declared: rules, the right of the agent to be judged by them, and who may ask.
pub(super) fn declared(copies: u32, points: usize) -> Vec<Object> {
    let anything = |n: u32| {
        let resource = reg::ResourceSelector { r#type: type_of(n), id: "*".into(), ..Default::default() };
        reg::Permission { action: "*".into(), resource: Some(resource) }
    };
    let all: Vec<reg::Permission> = (0..copies).map(anything).collect();
    let class = reg::AgentClassSpec { ceiling: all.clone(), ..reg::AgentClassSpec::default() };
    let role = reg::RoleSpec { permissions: all, ..reg::RoleSpec::default() };
    let binding = reg::RoleBindingSpec {
        role: "employees".into(),
        agents: vec![agent_name(0)],
        ..reg::RoleBindingSpec::default()
    };
    let mut out = vec![
        Object::AgentClass(reg::AgentClass { metadata: metadata("worker"), spec: Some(class), status: None }),
        Object::Role(reg::Role { metadata: metadata("employees"), spec: Some(role) }),
        Object::RoleBinding(reg::RoleBinding { metadata: metadata("employs"), spec: Some(binding) }),
    ];
    let share = copies / u32::try_from(points).unwrap_or(1);
    for n in 0..points {
        let from = u32::try_from(n).unwrap_or(0) * share;
        let spec = reg::EnforcementPointSpec {
            resource_types: (from..from + share).map(type_of).collect(),
            may_assert_subject: true,
            ..reg::EnforcementPointSpec::default()
        };
        let of = reg::EnforcementPoint { metadata: metadata(&point(n)), spec: Some(spec), ..Default::default() };
        out.push(Object::EnforcementPoint(of));
    }
    for (n, cedar) in (0..copies).flat_map(rules).enumerate() {
        let spec = reg::PolicySpec { cedar, mode: reg::PolicyMode::Enforce.into(), ..reg::PolicySpec::default() };
        out.push(Object::Policy(reg::Policy { metadata: metadata(&format!("rule-{n}")), spec: Some(spec) }));
    }
    out
}

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

fn texts(of: &[(&str, &str)]) -> Struct {
    Struct { fields: of.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect() }
}

/// The ten questions about a copy, and whether each is allowed.
pub(super) fn questions(agent: &str, n: u32) -> Vec<(wire::EvaluateRequest, bool)> {
    let mut context = texts(&PRINCIPAL);
    let roles = ListValue { values: vec![text("employee")] };
    context.fields.insert("roles".into(), Value { kind: Some(Kind::ListValue(roles)) });
    context.fields.insert("id".into(), text("john"));
    let question = |(id, owner, department, geography, team): &(&str, &str, &str, &str, &str), action: &str| {
        let attributes =
            [("department", *department), ("geography", geography), ("id", id), ("owner", owner), ("team", team)];
        wire::EvaluateRequest {
            subject: Some(wire::Subject {
                agent: Some(wire::subject::Agent::AgentId(agent.to_owned())),
                ..wire::Subject::default()
            }),
            action: action.into(),
            resource: Some(wire::Resource {
                r#type: type_of(n),
                id: (*id).into(),
                attributes: Some(texts(&attributes)),
            }),
            context: Some(context.clone()),
            ..wire::EvaluateRequest::default()
        }
    };
    let both = |of| [(question(of, "view:public"), true), (question(of, "approve"), false)];
    RESOURCES.iter().flat_map(both).collect()
}

/// Whether an answer is what their load test wants.
pub(super) fn check(answer: &wire::EvaluateResponse, is_allowed: bool) -> Result<(), Failed> {
    if (answer.decision() == wire::Decision::Allow) == is_allowed
        && (is_allowed || answer.denial() == wire::Denial::NotPermitted)
    {
        return Ok(());
    }
    Err(format!("{}: {}", answer.reason_code, answer.message).into())
}
