//! A company as a seed makes it: agents in classes, roles and groups, and policies most of which permit.

use legate_clock::Timestamp;
use legate_ids::AgentId;
use legate_wire::policy;
use legate_wire::registry as wire;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use wire::declaration::Object;

/// The namespace of everything.
pub(super) const NAMESPACE: &str = "payments";
/// What everything follows from.
pub(super) const SEED: u64 = 0x1e9a_7e00_5eed;
/// For whom chains of agents act.
const PERSON: &str = "user:ada@example.com";
/// Lengths of chains.
const CHAINS: [u32; 2] = [1, 4];

const CLASSES: u64 = 20;
const ROLES: u64 = 50;
const GROUPS: u64 = 10;
const ACTIONS: u64 = 40;
const RESOURCES: u64 = 1_000;

/// Xorshift (Marsaglia 2003): the same numbers in every run.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Everything that is declared.
pub(super) struct Company {
    pub(super) objects: Vec<wire::Declaration>,
    agents: u32,
}

fn agent_id(n: u32) -> AgentId {
    let [a, b, c, d] = n.to_be_bytes();
    AgentId::from_parts(1_700_000_000_000, [0, 0, 0, 0, 0, 0, a, b, c, d])
}

fn action(n: u64) -> String {
    format!("invoice:act-{n}")
}

fn permission(action: &str) -> wire::Permission {
    let resource = wire::ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() };
    wire::Permission { action: action.into(), resource: Some(resource) }
}

/// A policy of some of the shapes that companies write: three of four permit.
fn cedar(dice: &mut Dice) -> String {
    let effect = if dice.below(4) == 0 { "forbid" } else { "permit" };
    let principal = match dice.below(8) {
        0 => "principal".to_owned(),
        1 | 2 => format!("principal in Role::\"role-{}\"", dice.below(ROLES)),
        3 => format!("principal is Agent in AgentClass::\"class-{}\"", dice.below(CLASSES)),
        4 | 5 => format!("principal in AgentClass::\"class-{}\"", dice.below(CLASSES)),
        6 => format!("principal in Group::\"team-{}\"", dice.below(GROUPS)),
        _ => format!("principal == Agent::\"{}\"", agent_id(u32::try_from(dice.below(10_000)).unwrap_or_default())),
    };
    let action = match dice.below(3) {
        0 => format!("action == Action::\"{}\"", action(dice.below(ACTIONS))),
        1 => {
            let group: Vec<_> = (0..3).map(|_| format!("Action::\"{}\"", action(dice.below(ACTIONS)))).collect();
            format!("action in [{}]", group.join(", "))
        }
        // Whatever is done, to one thing.
        _ => {
            let resource = dice.below(RESOURCES);
            let when = condition(dice, effect);
            return format!("{effect} ({principal}, action, resource == Invoice::\"inv/{resource}\"){when};");
        }
    };
    let resource = match dice.below(4) {
        0 => "resource".to_owned(),
        1 => "resource is Invoice".to_owned(),
        _ => format!("resource == Invoice::\"inv/{}\"", dice.below(RESOURCES)),
    };
    let when = condition(dice, effect);
    format!("{effect} ({principal}, {action}, {resource}){when};")
}

/// Permits often hold, forbids seldom.
fn condition(dice: &mut Dice, effect: &str) -> String {
    let limit = dice.below(1_000);
    match (effect, dice.below(4)) {
        ("permit", 0) => String::new(),
        ("permit", 1) => format!(" when {{ resource.amount < {} }}", limit + 500),
        ("permit", 2) => " when { principal.environment == \"prod\" } unless { resource.sealed }".to_owned(),
        ("permit", _) => " unless { context has late && context.late }".to_owned(),
        (_, 0) => " when { resource.sealed }".to_owned(),
        (_, 1) => format!(" when {{ resource.amount > {} }}", limit + 9_000),
        (_, 2) => " when { context has late && context.late }".to_owned(),
        _ => " unless { principal.environment == \"prod\" }".to_owned(),
    }
}

/// Builds objects that look as if the registry had written them.
struct Writer {
    now: Timestamp,
    objects: Vec<wire::Declaration>,
}

impl Writer {
    fn metadata(&self, name: &str) -> Option<wire::Metadata> {
        let written = Some(self.now.minus(std::time::Duration::from_secs(60)).into());
        Some(wire::Metadata {
            name: name.into(),
            namespace: NAMESPACE.into(),
            id: format!("obj_{name}"),
            version: 1,
            create_time: written,
            update_time: written,
            ..wire::Metadata::default()
        })
    }

    fn put(&mut self, object: Object) {
        self.objects.push(wire::Declaration { object: Some(object) });
    }

    fn agent(&mut self, n: u32, name: &str, class: &str) {
        let mut metadata = self.metadata(name);
        if let Some(metadata) = &mut metadata {
            metadata.id = agent_id(n).to_string();
            metadata.labels.insert("team".into(), format!("t-{}", u64::from(n) % GROUPS));
        }
        let spec = wire::AgentSpec {
            agent_class: class.into(),
            environment: wire::Environment::Prod.into(),
            owners: vec!["user:grace@example.com".into()],
            sponsors: vec!["user:grace@example.com".into()],
            ..wire::AgentSpec::default()
        };
        let status = wire::AgentStatus {
            state: wire::AgentState::Active.into(),
            lifecycle_version: 1,
            ..wire::AgentStatus::default()
        };
        self.put(Object::Agent(wire::Agent { metadata, spec: Some(spec), status: Some(status) }));
    }

    fn policy(&mut self, name: &str, cedar: String) {
        let spec = wire::PolicySpec { cedar, mode: wire::PolicyMode::Enforce.into(), ..wire::PolicySpec::default() };
        self.put(Object::Policy(wire::Policy { metadata: self.metadata(name), spec: Some(spec) }));
    }

    /// A chain of grants from the person through `depth` agents.
    fn chain(&mut self, depth: u32, first: u32) {
        for hop in 0..depth {
            let name = |hop: u32| format!("chain-{depth}-{hop}");
            self.agent(first + hop, &name(hop), "class-0");
            let spec = wire::DelegationGrantSpec {
                delegator: if hop == 0 { PERSON.into() } else { format!("agent:{}", name(hop - 1)) },
                delegate: name(hop),
                permissions: vec![permission("invoice:*")],
                purpose: "is measured".into(),
                not_after: Some(self.now.plus(std::time::Duration::from_secs(86_400)).into()),
                may_redelegate: true,
                max_depth: 8,
                parent: if hop == 0 { String::new() } else { format!("grant-{depth}-{}", hop - 1) },
                ..wire::DelegationGrantSpec::default()
            };
            let metadata = self.metadata(&format!("grant-{depth}-{hop}"));
            self.put(Object::DelegationGrant(wire::DelegationGrant { metadata, spec: Some(spec) }));
        }
    }
}

impl Company {
    /// So many agents and policies.
    pub(super) fn new(agents: u32, policies: u32, now: Timestamp) -> Self {
        let mut writer = Writer { now, objects: Vec::new() };
        let metadata = Some(wire::Metadata { name: NAMESPACE.into(), ..wire::Metadata::default() });
        let spec = Some(wire::NamespaceSpec::default());
        writer.put(Object::Namespace(wire::Namespace { metadata, spec, status: None }));
        let boundary = wire::BoundarySpec { regions: vec!["eu".into(), "us".into()], ..wire::BoundarySpec::default() };
        writer.put(Object::Boundary(wire::Boundary { metadata: writer.metadata("places"), spec: Some(boundary) }));
        for n in 0..CLASSES {
            let spec = wire::AgentClassSpec {
                permissions: vec![permission("invoice:*")],
                ceiling: vec![permission("invoice:*")],
                boundaries: vec!["places".into()],
                ..wire::AgentClassSpec::default()
            };
            let metadata = writer.metadata(&format!("class-{n}"));
            writer.put(Object::AgentClass(wire::AgentClass { metadata, spec: Some(spec), status: None }));
        }
        for n in 0..GROUPS {
            let spec = wire::GroupSpec { selector: format!("labels.team = \"t-{n}\""), ..wire::GroupSpec::default() };
            let metadata = writer.metadata(&format!("team-{n}"));
            writer.put(Object::Group(wire::Group { metadata, spec: Some(spec) }));
        }
        for n in 0..ROLES {
            let spec = wire::RoleSpec { permissions: vec![permission("invoice:*")], ..wire::RoleSpec::default() };
            let metadata = writer.metadata(&format!("role-{n}"));
            writer.put(Object::Role(wire::Role { metadata, spec: Some(spec) }));
            let of_role = (0..agents).filter(|agent| u64::from(*agent) % ROLES == n);
            let spec = wire::RoleBindingSpec {
                role: format!("role-{n}"),
                agents: of_role.map(|agent| format!("bot-{agent}")).collect(),
                users: if n == 0 { vec![PERSON.into()] } else { Vec::new() },
                ..wire::RoleBindingSpec::default()
            };
            let metadata = writer.metadata(&format!("binds-{n}"));
            writer.put(Object::RoleBinding(wire::RoleBinding { metadata, spec: Some(spec) }));
        }
        for n in 0..agents {
            writer.agent(n, &format!("bot-{n}"), &format!("class-{}", u64::from(n) % CLASSES));
        }
        for depth in CHAINS {
            writer.chain(depth, agents + 100 * depth);
        }
        let mut dice = Dice(SEED);
        writer.policy("policy-0", "permit (principal, action == Action::\"invoice:chained\", resource);".into());
        for n in 1..policies {
            let text = cedar(&mut dice);
            writer.policy(&format!("policy-{n}"), text);
        }
        Self { objects: writer.objects, agents }
    }

    /// So many questions; with a `depth` of the last agent of that chain, for the person.
    pub(super) fn questions(&self, count: usize, depth: u32) -> Vec<policy::EvaluateRequest> {
        let mut dice = Dice(SEED ^ 0xa5a5);
        let value = |kind| Value { kind: Some(kind) };
        let fields = |all: Vec<(&str, Kind)>| {
            Some(Struct { fields: all.into_iter().map(|(name, kind)| (name.to_owned(), value(kind))).collect() })
        };
        let mut one = || {
            let agent = match depth {
                0 => u32::try_from(dice.below(self.agents.into())).unwrap_or_default(),
                depth => self.agents + 100 * depth + depth - 1,
            };
            let action = if depth == 0 { action(dice.below(ACTIONS)) } else { "invoice:chained".to_owned() };
            let attributes = fields(vec![
                ("amount", Kind::NumberValue(f64::from(u16::try_from(dice.below(1_000)).unwrap_or_default()))),
                ("sealed", Kind::BoolValue(dice.below(50) == 0 && depth == 0)),
                ("region", Kind::StringValue("eu".into())),
            ]);
            let on_behalf_of = (depth > 0).then(|| policy::OnBehalfOf { subject: PERSON.into(), grant: String::new() });
            policy::EvaluateRequest {
                subject: Some(policy::Subject {
                    agent: Some(policy::subject::Agent::AgentId(agent_id(agent).to_string())),
                    on_behalf_of,
                    ..policy::Subject::default()
                }),
                action,
                resource: Some(policy::Resource {
                    r#type: "Invoice".into(),
                    id: format!("inv/{}", dice.below(RESOURCES)),
                    attributes,
                }),
                context: fields(vec![("late", Kind::BoolValue(dice.below(20) == 0 && depth == 0))]),
                ..policy::EvaluateRequest::default()
            }
        };
        (0..count).map(|_| one()).collect()
    }
}
