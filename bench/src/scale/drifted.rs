//! Drift of very many agents as an operator asks for it: every page, over mutual TLS, with what the registry heard of their use.

use std::path::Path;
use std::time::{Duration, Instant};

use legate::dev::{Options, Suite};
use legate_clock::{Clock as _, SystemClock, Timestamp};
use legate_db::Db;
use legate_wire::policy;
use legate_wire::registry as wire;
use policy::drift_service_client::DriftServiceClient;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement, Value};
use wire::declaration::Object;

use super::{LOADED, declared, fill, first_allow, free_ports, load_with};
use crate::Failed;
use crate::load::tell;

/// Roles of a namespace, each held by the agents of one label, and permissions of each: an agent has two of them.
const TIERS: u32 = 3;
const REGIONS: u32 = 7;
const PERMISSIONS: u32 = 5;
/// How often everything is listed.
const ROUNDS: usize = 3;
/// Rows in one statement.
const AT_ONCE: usize = 125;
const DAY: Duration = Duration::from_secs(86_400);
/// For how long the log is said to have been heard.
const HEARD: Duration = Duration::from_secs(120 * 86_400);

/// What is declared beside the agents and their classes: groups by label, and roles that they hold.
fn given() -> Vec<Object> {
    let mut all = Vec::new();
    for n in 0..declared::NAMESPACES {
        let meta = |name: &str| {
            Some(wire::Metadata { name: name.into(), namespace: declared::namespace(n), ..Default::default() })
        };
        let labels = [("tier", TIERS), ("region", REGIONS)];
        for (label, value) in labels.iter().flat_map(|(label, of)| (0..*of).map(move |value| (label, value))) {
            let name = format!("{label}-{value}");
            let selector = format!("labels.{label} = v{value}");
            all.push(Object::Group(wire::Group {
                metadata: meta(&name),
                spec: Some(wire::GroupSpec { selector, ..Default::default() }),
            }));
            let permission = |p| wire::Permission {
                action: format!("invoice:{label}-{value}-{p}"),
                resource: Some(wire::ResourceSelector {
                    r#type: "Invoice".into(),
                    id: "*".into(),
                    ..Default::default()
                }),
            };
            all.push(Object::Role(wire::Role {
                metadata: meta(&name),
                spec: Some(wire::RoleSpec {
                    permissions: (0..PERMISSIONS).map(permission).collect(),
                    ..Default::default()
                }),
            }));
            let spec = wire::RoleBindingSpec { role: name.clone(), groups: vec![name.clone()], ..Default::default() };
            all.push(Object::RoleBinding(wire::RoleBinding { metadata: meta(&name), spec: Some(spec) }));
        }
    }
    all
}

/// Everything that agents need; classes below whose ceilings the roles are.
fn base() -> Vec<Object> {
    let mut all = declared::base();
    for object in &mut all {
        if let Object::AgentClass(class) = object {
            let every = class.spec.get_or_insert_default();
            every.ceiling.iter_mut().for_each(|permission| permission.action = "invoice:*".into());
        }
    }
    all.extend(given());
    all
}

/// What agents used, written beneath the registry: of the class's permission and of both roles a part each, on days of the last weeks.
async fn used(database: &Path, now: Timestamp) -> Result<u64, Failed> {
    let db = Db::open(&format!("sqlite:{}", database.display()), legate_db::Options::default()).await?;
    let wrote = db.tx("used", move |tx| {
        Box::pin(async move {
            let window = "UPDATE usage_head SET from_time = ?, to_time = ?";
            let times = [now.minus(HEARD).micros().into(), Value::from(now.micros())];
            tx.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, window, times)).await?;
            let ask = "SELECT id FROM object WHERE kind = ? AND holds_name";
            let kind = [Value::from(wire::Kind::Agent as i32)];
            let found = tx.query_all_raw(Statement::from_sql_and_values(DbBackend::Sqlite, ask, kind)).await?;
            let mut rows: Vec<[Value; 9]> = Vec::new();
            for (n, row) in found.iter().enumerate() {
                let (id, n) = (row.try_get_by_index::<String>(0)?, u32::try_from(n).unwrap_or(0));
                let tier = |p: u32| format!("invoice:tier-{}-{p}", n % TIERS);
                let region = |p: u32| format!("invoice:region-{}-{p}", n % REGIONS);
                let actions =
                    ["invoice:read".to_owned(), tier(0), tier(1), tier(n % PERMISSIONS), region(2), region(3)];
                let mut actions = actions.to_vec();
                actions.sort();
                actions.dedup();
                for (place, action) in (0u32..).zip(actions) {
                    let last = now.minus(DAY * (1 + (n + place * 7) % 60));
                    let (last, day) = (last.micros(), last.micros() / 86_400_000_000);
                    let mut days = [0u8; 56];
                    days[..2].copy_from_slice(&(1u16 | (n % 50) as u16).to_le_bytes());
                    rows.push([
                        id.clone().into(),
                        action.into(),
                        "Invoice".into(),
                        Value::from(1),
                        Value::from(i64::from(1 + n % 900)),
                        Value::from(last - 1_000_000),
                        last.into(),
                        day.into(),
                        days.to_vec().into(),
                    ]);
                }
            }
            for some in rows.chunks(AT_ONCE) {
                let columns = "agent_id, action, resource_type, way, count, first_time, last_time, newest_day, days";
                let sql = fill::insert("used_permission", columns, "(?, ?, ?, ?, ?, ?, ?, ?, ?)", some.len());
                let values = some.iter().flatten().cloned();
                tx.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)).await?;
            }
            Ok::<_, legate_db::TxError<std::io::Error>>(rows.len() as u64)
        })
    });
    let rows = wrote.await.map_err(|e| e.to_string())?;
    db.close().await;
    Ok(rows)
}

/// Every page of all findings: how many agents, how many findings, and how long it took.
async fn list(suite: &Suite) -> Result<(u64, u64, Duration), Failed> {
    let mut client = DriftServiceClient::new(suite.dial("policy-decision")?).max_decoding_message_size(64 << 20);
    let mut ask = policy::ListDriftRequest::default();
    let (mut agents, mut findings, began) = (0, 0, Instant::now());
    loop {
        let mut request = tonic::Request::new(ask.clone());
        request.set_timeout(Duration::from_secs(60));
        let page = client.list_drift(request).await?.into_inner();
        agents += u64::from(page.agents);
        findings += page.findings.len() as u64;
        if page.next_page_token.is_empty() {
            return Ok((agents, findings, began.elapsed()));
        }
        ask.page_token = page.next_page_token;
    }
}

/// Lists the drift of each of these sizes, and says how much longer each takes than the one before.
pub(crate) async fn measure(sizes: &[u32]) -> Result<(), Failed> {
    println!(
        "\ndrift, every page over mutual TLS: 11 permissions and 6 rows of use an agent, 120 days of evidence, SQLite"
    );
    let mut before: Option<(u32, f64)> = None;
    for size in sizes {
        let dir = tempfile::tempdir()?;
        let mut options = Options::in_dir(&dir.path().join("suite"));
        options.port_base = free_ports()?;
        let suite = Box::pin(Suite::start(&options)).await?;
        load_with(&suite, base(), LOADED.min(*size)).await?;
        let get = wire::GetAgentRequest { agent: Some(declared::name_of(0)), as_of: None };
        let mut agents = wire::agent_service_client::AgentServiceClient::new(suite.dial("registry")?);
        let like = agents.get_agent(get).await?.into_inner().agent.unwrap_or_default();
        let database = suite.layout().service("registry").join("registry.db");
        suite.shutdown().await;
        fill::agents(&database, &like, LOADED.min(*size), *size).await?;
        let rows = used(&database, SystemClock::new().now()).await?;
        let suite = Box::pin(Suite::start(&options)).await?;
        first_allow(&suite).await?;
        let (mut times, mut found) = (Vec::new(), (0, 0));
        for _ in 0..ROUNDS {
            let (agents, findings, took) = list(&suite).await?;
            times.push(took.as_secs_f64());
            found = (agents, findings);
        }
        suite.shutdown().await;
        if found.0 != u64::from(*size) {
            return Err(format!("{} of {size} agents were looked at", found.0).into());
        }
        times.sort_by(f64::total_cmp);
        let median = times[ROUNDS / 2];
        println!(
            "  {size:>8} agents {median:>9.2} s   {:>7.1} us an agent   ({} findings, {rows} rows of use)",
            median * 1e6 / f64::from(*size),
            found.1
        );
        if let Some((fewer, took)) = before {
            let more = f64::from(*size) / f64::from(fewer);
            tell(&format!("as long an agent as with {:.0} times fewer", more), median / took / more, None);
        }
        before = Some((*size, median));
    }
    Ok(())
}
