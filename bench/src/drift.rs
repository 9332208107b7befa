//! How long it takes to compute drift, in process, by the number of agents: it is to grow with them and no faster.

use std::time::{Duration, Instant};

use legate_clock::{Clock as _, SystemClock, Timestamp};
use legate_ids::AgentId;
use legate_policy_decision::engine::drift::Organisation;
use legate_wire::registry as wire;
use wire::declaration::Object;

use crate::Failed;

/// How often each is computed.
const ROUNDS: usize = 3;
/// Roles, each with so many permissions; an agent has two, and four permissions of its class.
const ROLES: u32 = 40;
const PERMISSIONS: u32 = 5;
const DAY: Duration = Duration::from_secs(86_400);

fn permission(action: String) -> wire::Permission {
    let resource = wire::ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() };
    wire::Permission { action, resource: Some(resource) }
}

fn meta(name: String, id: String, written: Timestamp) -> Option<wire::Metadata> {
    let (create_time, update_time) = (Some(written.into()), Some(written.into()));
    let namespace = "payments".to_owned();
    Some(wire::Metadata { name, namespace, id, version: 1, create_time, update_time, ..Default::default() })
}

fn declared(object: Object) -> wire::Declaration {
    wire::Declaration { object: Some(object) }
}

/// So many agents of one class, each with two of the roles.
fn organisation(agents: u32, written: Timestamp) -> Vec<wire::Declaration> {
    let class = wire::AgentClassSpec {
        permissions: (0..4).map(|n| permission(format!("class:{n}"))).collect(),
        ceiling: ["class:*", "role:*"].map(|all| permission(all.to_owned())).to_vec(),
        ..wire::AgentClassSpec::default()
    };
    let class =
        wire::AgentClass { metadata: meta("worker".into(), "obj_0".into(), written), spec: Some(class), status: None };
    let mut all = vec![declared(Object::AgentClass(class))];
    for n in 0..ROLES {
        let permissions = (0..PERMISSIONS).map(|p| permission(format!("role:{n}:{p}"))).collect();
        let spec = wire::RoleSpec { permissions, ..wire::RoleSpec::default() };
        let metadata = meta(format!("role-{n}"), format!("obj_r{n}"), written);
        all.push(declared(Object::Role(wire::Role { metadata, spec: Some(spec) })));
    }
    for n in 0..agents {
        let mut tail = [0; 10];
        tail[6..].copy_from_slice(&n.to_be_bytes());
        let id = AgentId::from_parts(1, tail).to_string();
        let spec = wire::AgentSpec {
            agent_class: "worker".into(),
            environment: wire::Environment::Prod.into(),
            ..wire::AgentSpec::default()
        };
        let status = wire::AgentStatus {
            state: wire::AgentState::Active.into(),
            lifecycle_version: 1,
            ..wire::AgentStatus::default()
        };
        let metadata = meta(format!("agent-{n}"), id, written);
        all.push(declared(Object::Agent(wire::Agent { metadata, spec: Some(spec), status: Some(status) })));
        for role in [n % ROLES, (n / ROLES + 1) % ROLES] {
            let spec = wire::RoleBindingSpec {
                role: format!("role-{role}"),
                agents: vec![format!("agent-{n}")],
                ..wire::RoleBindingSpec::default()
            };
            let metadata = meta(format!("b-{n}-{role}"), format!("obj_b{n}-{role}"), written);
            all.push(declared(Object::RoleBinding(wire::RoleBinding { metadata, spec: Some(spec) })));
        }
    }
    all
}

/// The sizes to measure: where one is given, that and ten times as many.
pub(crate) fn sizes(given: &[u32]) -> Vec<u32> {
    match given {
        [one] => vec![*one, one.saturating_mul(10)],
        several => several.to_vec(),
    }
}

/// Measures each of these sizes, and prints how much longer each takes than the one before, held against
/// how many more agents it has.
pub(crate) fn measure(sizes: &[u32]) -> Result<(), Failed> {
    let now = SystemClock::new().now();
    println!("\ndrift: in process, one thread; 14 permissions and 8 rows of use an agent, 120 days of evidence");
    let used = |n: u32| wire::PermissionUsage {
        action: if n < 4 { format!("class:{n}") } else { format!("role:{}:{}", n, n % PERMISSIONS) },
        resource_type: "Invoice".into(),
        count: 100,
        last_time: Some(now.minus(DAY).into()),
        days: 40,
        longest_interval_days: 3,
        ..wire::PermissionUsage::default()
    };
    let usage = wire::AgentUsage {
        last_used_time: Some(now.minus(DAY).into()),
        permissions: (0..8).map(used).collect(),
        ..wire::AgentUsage::default()
    };
    let mut before: Option<(u32, f64)> = None;
    for size in sizes.iter().copied() {
        let objects = organisation(size, now.minus(DAY * 400));
        let organisation = Organisation::new(&objects, DAY * 120, now)?;
        let mut times = Vec::new();
        let mut found = (0, 0);
        for _ in 0..ROUNDS {
            let began = Instant::now();
            found = organisation.examine(&usage, DAY * 90, now);
            times.push(began.elapsed());
        }
        times.sort();
        let median = times[ROUNDS / 2];
        let each = median.as_secs_f64() * 1e6 / f64::from(size);
        println!(
            "  {:>7} agents {:>9.1} ms   {each:>6.2} us an agent   ({} findings)",
            found.0,
            median.as_secs_f64() * 1e3,
            found.1
        );
        if found.0 != size as usize {
            return Err(format!("{} of {size} agents were looked at", found.0).into());
        }
        if let Some((fewer, took)) = before {
            let (times, agents) = (median.as_secs_f64() / took, f64::from(size) / f64::from(fewer));
            println!(
                "          {times:.2} times as long for {agents:.0} times the agents: {:.2} an agent",
                times / agents
            );
        }
        before = Some((size, median.as_secs_f64()));
    }
    Ok(())
}
