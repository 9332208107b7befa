//! Agents as code, by the program itself: directories of manifests are planned, applied, planned again, exported, and planned with a class changed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use legate::dev::{Options, Suite};
use legate::manifest;
use legate_wire::registry as wire;
use wire::declaration::Object;

use crate::Failed;
use crate::scale::{declared, raw};

/// Says that this process is the program for people.
const BE: &str = "LEGATE_BENCH_PROGRAM";
/// The namespace of everything: one, which is the worst for whatever looks at all agents of a namespace.
const NAMESPACE: &str = "code";
/// The class of all agents.
const CLASS: &str = "worker";
/// Agents in one file.
const IN_FILE: usize = 500;
/// Agents that share a group.
const IN_GROUP: usize = 500;
/// Agents that a binding names.
const IN_BINDING: usize = 100;
/// So many objects are written at once, of those that are not written themselves to be measured.
const AT_ONCE: u32 = 20_000;
/// What a transaction has.
const BOUND: Duration = Duration::from_secs(10);

/// Does what the program for people does, where this process was started for that.
pub(crate) fn program() -> Option<ExitCode> {
    std::env::var_os(BE)?;
    Some(legate::main(std::env::args_os()))
}

/// Measures each size, and prints. What does not fit into one apply is written in parts, and planned as a whole.
pub(crate) async fn measure(sizes: &[u32], postgres: Option<&str>) -> Result<(), Failed> {
    for agents in sizes {
        Box::pin(one(*agents, postgres)).await?;
    }
    Ok(())
}

async fn one(agents: u32, postgres: Option<&str>) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let database = match postgres {
        Some(url) => Some(raw::new_database(url).await?),
        None => None,
    };
    let mut options = Options::in_dir(&dir.path().join("suite"));
    options.registry_database.clone_from(&database);
    let suite = Box::pin(Suite::start(&options)).await?;
    let desk = Desk { env: env_of(&suite)?, probes: suite.running("registry").and_then(|r| r.probes_addr()) };
    let (manifests, parts) = write(dir.path(), agents)?;
    let kind = if postgres.is_some() { "PostgreSQL" } else { "SQLite" };
    let objects = parts.iter().map(|part| part.objects).sum::<usize>();
    let build = if cfg!(debug_assertions) { ", a debug build: about ten times slower" } else { "" };
    println!("\nagents as code: {agents} agents, {objects} manifests, {kind}{build}");
    let all = ["-f", text(&manifests)?];
    if let [_] = &*parts {
        desk.timed("plan, all of them new", objects, &[&["plan"], &all[..]].concat())?;
        let before = desk.written()?;
        desk.timed("apply", objects, &[&["apply", "--reason", "measured"], &all[..]].concat())?;
        let took = desk.written()?.saturating_sub(before);
        let (took, bound) = (took.as_secs_f64(), BOUND.as_secs_f64());
        println!("    {:<48} {took:>9.2} s   of {bound:.0} s that it has", "of that, its one transaction");
    } else {
        for part in &parts {
            let some = part.files.iter().map(|file| text(file)).collect::<Result<Vec<_>, _>>()?;
            let line = [&["apply", "--skip-tests", "--reason", "measured", "-f"], &some[..]].concat();
            desk.timed("apply of a part of them", part.objects, &line)?;
        }
    }
    desk.timed("plan, nothing differs", objects, &[&["plan"], &all[..]].concat())?;
    let back = dir.path().join("exported");
    desk.timed("export --dir", objects, &["export", "--dir", text(&back)?])?;
    let again = ["plan", "--objects-only", "--detailed-exitcode", "-f", text(&back)?];
    desk.timed("plan of what was exported, a file for each", objects, &again)?;
    std::fs::write(manifests.join("class.yaml"), manifest::write(&declaration(class("invoice:write"))))?;
    desk.timed("plan, the class of all agents differs", objects, &[&["plan"], &all[..]].concat())?;
    suite.shutdown().await;
    if let (Some(url), Some(database)) = (postgres, database) {
        raw::drop_database(url, &database).await?;
    }
    Ok(())
}

/// Where the program finds the suite, and where the registry tells its figures.
struct Desk {
    env: BTreeMap<String, String>,
    probes: Option<std::net::SocketAddr>,
}

impl Desk {
    /// Runs the program to its end, and prints how long that took.
    fn timed(&self, what: &str, objects: usize, line: &[&str]) -> Result<(), Failed> {
        let began = Instant::now();
        let mut command = Command::new(std::env::current_exe()?);
        command.env(BE, "yes").envs(&self.env).args(line).args(["-o", "table"]).stdin(Stdio::null());
        let ended = command.output()?;
        let took = began.elapsed();
        let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        if !ended.status.success() {
            return Err(format!("legate {}: {}\n{out}{err}", line.join(" "), ended.status).into());
        }
        let each = took.as_secs_f64() * 1e6 / objects.max(1) as f64;
        let said = out.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let said: String = said.chars().take(100).collect();
        println!("  {what:<50} {:>9.2} s   {each:>7.0} us each   {said}", took.as_secs_f64());
        Ok(())
    }

    /// How long all transactions of the registry took that write many objects.
    fn written(&self) -> Result<Duration, Failed> {
        let addr = self.probes.ok_or("the registry has no probes")?;
        let mut stream = std::net::TcpStream::connect(addr)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut told = String::new();
        stream.read_to_string(&mut told)?;
        let sums = told.lines().filter(|line| line.contains("db_transaction_seconds_sum"));
        let of = sums.filter(|line| line.contains("transaction=\"bulk_apply\""));
        let seconds = of.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        Ok(Duration::from_secs_f64(seconds))
    }
}

/// What the suite wrote for the program.
fn env_of(suite: &Suite) -> Result<BTreeMap<String, String>, Failed> {
    let file = std::fs::read_to_string(suite.layout().root().join("env"))?;
    let pair = |line: &str| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('\'').to_owned()))
    };
    Ok(file.lines().filter_map(pair).collect())
}

fn text(path: &Path) -> Result<&str, Failed> {
    Ok(path.to_str().ok_or("a path that is no text")?)
}

/// What is written at once.
#[derive(Default)]
struct Part {
    files: Vec<PathBuf>,
    objects: usize,
}

/// Writes the directory of manifests.
fn write(dir: &Path, agents: u32) -> Result<(PathBuf, Vec<Part>), Failed> {
    let dir = dir.join("manifests");
    std::fs::create_dir_all(&dir)?;
    let mut parts = vec![Part::default()];
    let mut put = |name: String, objects: Vec<Object>, anew: bool| -> Result<(), Failed> {
        if anew {
            parts.push(Part::default());
        }
        let (file, count) = (dir.join(name), objects.len());
        let documents: Vec<String> = objects.into_iter().map(|o| manifest::write(&declaration(o))).collect();
        std::fs::write(&file, documents.join("---\n"))?;
        if let Some(part) = parts.last_mut() {
            part.files.push(file);
            part.objects += count;
        }
        Ok(())
    };
    put("base.yaml".into(), base(), false)?;
    put("class.yaml".into(), vec![class("invoice:read")], false)?;
    let names: Vec<Object> = (0..agents).map(agent).collect();
    for (n, some) in names.chunks(IN_FILE).enumerate() {
        let anew = n > 0 && (n * IN_FILE).is_multiple_of(AT_ONCE as usize);
        put(format!("group-{n}.yaml"), shared(n, some), anew)?;
        put(format!("agents-{n}.yaml"), some.to_vec(), false)?;
    }
    Ok((dir, parts))
}

fn declaration(object: Object) -> wire::Declaration {
    wire::Declaration { object: Some(object) }
}

fn metadata(name: String) -> Option<wire::Metadata> {
    Some(wire::Metadata { name, namespace: NAMESPACE.into(), ..wire::Metadata::default() })
}

fn permission(action: &str) -> wire::Permission {
    let resource = wire::ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() };
    wire::Permission { action: action.into(), resource: Some(resource) }
}

/// The namespace, its policy and its roles.
fn base() -> Vec<Object> {
    let own = wire::Metadata { name: NAMESPACE.into(), ..wire::Metadata::default() };
    let namespace = wire::Namespace { metadata: Some(own), spec: Some(wire::NamespaceSpec::default()), status: None };
    let spec = wire::PolicySpec {
        cedar: "permit (principal, action, resource);".into(),
        mode: wire::PolicyMode::Enforce.into(),
        ..wire::PolicySpec::default()
    };
    let policy = wire::Policy { metadata: metadata("all".into()), spec: Some(spec) };
    let role = |name: &str, action: &str| {
        let spec = wire::RoleSpec { permissions: vec![permission(action)], ..wire::RoleSpec::default() };
        Object::Role(wire::Role { metadata: metadata(name.into()), spec: Some(spec) })
    };
    vec![
        Object::Namespace(namespace),
        Object::Policy(policy),
        role("payer", "invoice:pay"),
        role("archivist", "invoice:archive"),
    ]
}

/// The class of all agents, by what it lets them do.
fn class(action: &str) -> Object {
    let spec = wire::AgentClassSpec {
        permissions: vec![permission(action)],
        ceiling: vec![permission("invoice:*")],
        ..wire::AgentClassSpec::default()
    };
    Object::AgentClass(wire::AgentClass { metadata: metadata(CLASS.into()), spec: Some(spec), status: None })
}

fn agent(n: u32) -> Object {
    let mut object = declared::agent(n);
    if let Object::Agent(agent) = &mut object {
        agent.metadata.get_or_insert_default().namespace = NAMESPACE.into();
        let own = agent.metadata.get_or_insert_default();
        own.labels.insert("batch".into(), format!("v{}", n as usize / IN_GROUP));
        agent.spec.get_or_insert_default().agent_class = CLASS.into();
    }
    object
}

fn name_of(object: &Object) -> String {
    match object {
        Object::Agent(agent) => agent.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default(),
        _ => String::new(),
    }
}

/// A group of some agents by a label, what binds it to a role, and bindings that name the agents.
fn shared(n: usize, agents: &[Object]) -> Vec<Object> {
    let spec = wire::GroupSpec { selector: format!("labels.batch = v{n}"), ..wire::GroupSpec::default() };
    let group = format!("batch-{n}");
    let mut all = vec![Object::Group(wire::Group { metadata: metadata(group.clone()), spec: Some(spec) })];
    let mut bind = |name: String, spec: wire::RoleBindingSpec| {
        all.push(Object::RoleBinding(wire::RoleBinding { metadata: metadata(name), spec: Some(spec) }));
    };
    let spec = wire::RoleBindingSpec { role: "payer".into(), groups: vec![group], ..Default::default() };
    bind(format!("payers-{n}"), spec);
    for (m, some) in agents.chunks(IN_BINDING).enumerate() {
        let named = some.iter().map(name_of).collect();
        let spec = wire::RoleBindingSpec { role: "archivist".into(), agents: named, ..Default::default() };
        bind(format!("archivists-{n}-{m}"), spec);
    }
    all
}
