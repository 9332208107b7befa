//! What is declared for it: by a number each, so that every run declares the same.

use legate_wire::registry as wire;
use wire::declaration::Object;

/// Namespaces; agents are spread over them.
pub(crate) const NAMESPACES: u32 = 20;
/// Classes in each.
const CLASSES: u32 = 5;

/// The name of the namespace of this number.
pub(crate) fn namespace(n: u32) -> String {
    format!("team-{:02}", n % NAMESPACES)
}

fn metadata(namespace: String, name: String) -> Option<wire::Metadata> {
    Some(wire::Metadata { name, namespace, ..wire::Metadata::default() })
}

fn class_name(n: u32) -> String {
    format!("class-{}", n / NAMESPACES % CLASSES)
}

fn permission() -> wire::Permission {
    let resource = wire::ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() };
    wire::Permission { action: "invoice:read".into(), resource: Some(resource) }
}

/// Everything that agents need.
pub(crate) fn base() -> Vec<Object> {
    let mut all = Vec::new();
    for n in 0..NAMESPACES {
        let own = wire::Metadata { name: namespace(n), ..wire::Metadata::default() };
        let spec = Some(wire::NamespaceSpec::default());
        all.push(Object::Namespace(wire::Namespace { metadata: Some(own), spec, status: None }));
        let spec = wire::PolicySpec {
            cedar: "permit (principal, action, resource);".into(),
            mode: wire::PolicyMode::Enforce.into(),
            ..wire::PolicySpec::default()
        };
        all.push(Object::Policy(wire::Policy { metadata: metadata(namespace(n), "all".into()), spec: Some(spec) }));
        for class in 0..CLASSES {
            let spec = wire::AgentClassSpec {
                permissions: vec![permission()],
                ceiling: vec![permission()],
                ..wire::AgentClassSpec::default()
            };
            let metadata = metadata(namespace(n), format!("class-{class}"));
            all.push(Object::AgentClass(wire::AgentClass { metadata, spec: Some(spec), status: None }));
        }
    }
    all
}

/// All classes, as they would be with a ceiling that lets their agents write and no longer read.
pub(crate) fn narrowed_classes() -> Vec<Object> {
    let mut all = base();
    all.retain_mut(|object| {
        let Object::AgentClass(class) = object else { return false };
        let spec = class.spec.get_or_insert_default();
        for permission in spec.permissions.iter_mut().chain(&mut spec.ceiling) {
            permission.action = "invoice:write".into();
        }
        true
    });
    all
}

/// Numbers in an order that only looks like chance (SplitMix64).
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Any of so many agents.
pub(crate) fn some(n: usize, agents: u32) -> u32 {
    u32::try_from(mixed(n as u64) % u64::from(agents)).unwrap_or(0)
}

fn agent_name(n: u32) -> String {
    // Names in no order, as people give them.
    format!("bot-{:08x}-{n}", mixed(n.into()) >> 32)
}

/// The agent of this number.
pub(crate) fn agent(n: u32) -> Object {
    let chance = mixed(u64::from(n) << 20);
    let mut metadata = metadata(namespace(n), agent_name(n)).unwrap_or_default();
    for (key, of) in [("tier", 3), ("region", 7), ("cost-centre", 500)] {
        metadata.labels.insert(key.into(), format!("v{}", chance % of));
    }
    let spec = wire::AgentSpec {
        agent_class: class_name(n),
        purpose: "Reads invoices and matches them with orders.".into(),
        environment: wire::Environment::Prod.into(),
        owners: vec![format!("user:owner-{}@example.com", chance % 2_000)],
        sponsors: vec![format!("user:sponsor-{}@example.com", chance % 300)],
        framework: "langgraph".into(),
        model: "m-1".into(),
        version: "1.2.3".into(),
        ..wire::AgentSpec::default()
    };
    Object::Agent(wire::Agent { metadata: Some(metadata), spec: Some(spec), status: None })
}

/// The name of the agent of this number.
pub(crate) fn name_of(n: u32) -> wire::AgentRef {
    wire::AgentRef { namespace: namespace(n), name: agent_name(n), ..wire::AgentRef::default() }
}

/// Objects as items of a stream.
pub(crate) fn items(objects: Vec<Object>) -> wire::BulkItems {
    let item = |object| wire::BulkItem {
        declaration: Some(wire::Declaration { object: Some(object) }),
        ..wire::BulkItem::default()
    };
    wire::BulkItems { items: objects.into_iter().map(item).collect() }
}

/// Lists that are asked for, page after page: what is told of each, its namespace and its filter.
pub(crate) fn lists() -> Vec<(String, String, String)> {
    let (one, all) = (namespace(3), String::new());
    let of = |namespace: &str, filter: &str| {
        let whose = if namespace.is_empty() { "all" } else { "one namespace" };
        let what = if filter.is_empty() { String::new() } else { format!(": {filter}") };
        (format!("ListAgents, 100 of {whose}{what}"), namespace.to_owned(), filter.to_owned())
    };
    vec![
        of(&one, ""),
        of(&all, ""),
        // One of 2,000, of 500, of 7, and what all are.
        of(&all, "owners:\"user:owner-7@example.com\""),
        of(&all, "labels.cost-centre = v7"),
        of(&one, "labels.cost-centre = v7"),
        of(&all, "labels.region = v2"),
        of(&one, "labels.region = v2"),
        of(&all, "environment = prod"),
        of(&all, "labels.region = v2 AND labels.tier = v1 AND framework = langgraph"),
        of(&all, "labels.region = v2 AND NOT labels.tier = v1"),
        of(&all, "labels.cost-centre = \"v7*\""),
        of(&all, "NOT environment = prod"),
    ]
}
