//! Processes that obtain their identities on a node's socket: the first one, what the socket gives a second, a replacement of all, a suspension
//! of all, and what each costs the helper.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use legate::dev::{Options, Suite};
use legate::node::{Helper, Wanted};
use legate_clock::{Clock as _, SystemClock};
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{CreateEnrolmentTokenRequest, NodeRef};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{AgentRef, ApplyDeclarationsRequest, SuspendAgentRequest};
use legate_wire::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use legate_wire::spiffe::{JwtsvidRequest, X509svidRequest};
use legate_workload::{Limits, Proof};
use tokio::signal::unix::{SignalKind, signal};

use crate::load::Seen;
use crate::{Failed, Plan};

/// What a process that was started for this is to be: a helper, or a process that asks.
const BE: &str = "LEGATE_BENCH_WORKLOAD";
/// Processes at most: each is a process of this machine.
const MOST: u32 = 1_000;
/// Nothing here takes longer.
const LONG: Duration = Duration::from_secs(120);
/// Calls at a time of the process that asks again and again.
const AT_ONCE: usize = 8;
/// How long a process that was refused waits before it asks again.
const AGAIN: Duration = Duration::from_secs(1);
/// What the kernel counts processor time in, a second; the same on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

const FLEET: &str = r#"apiVersion: legate/v1
kind: Namespace
metadata: {name: fleet}
spec: {owners: ["group:platform"]}
---
apiVersion: legate/v1
kind: CredentialPolicy
metadata: {name: attested, namespace: fleet}
spec: {methods: [ATTESTATION], maxInstances: 100000}
---
apiVersion: legate/v1
kind: AgentClass
metadata: {name: attested, namespace: fleet}
spec: {ceiling: ["plan:* on Plan:*"], credentialPolicy: attested, maxCertificateTtl: 3600s}
---
apiVersion: legate/v1
kind: Agent
metadata: {name: planner, namespace: fleet}
spec:
  agentClass: attested
  purpose: is measured
  environment: DEV
  owners: ["user:ada@example.com"]
  sponsors: ["user:grace@example.com"]
---
apiVersion: legate/v1
kind: Node
metadata: {name: vm, namespace: fleet}
spec: {description: A machine.}
---
apiVersion: legate/v1
kind: AttestationPolicy
metadata: {name: planner, namespace: fleet}
spec: {agent: planner, selectors: [{type: UNIX_UID, value: "UID"}, {type: UNIX_PATH, value: "PROGRAM"}]}
"#;

/// Does what this process was started for, where it was started for that.
pub(crate) fn be() -> Option<Result<(), Failed>> {
    let task = std::env::var(BE).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Some(runtime.map_err(Into::into).and_then(|runtime| {
        open_files()?;
        match task.split(' ').collect::<Vec<_>>()[..] {
            ["help", dir, issuer] => tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?
                .block_on(Box::pin(help(dir.as_ref(), issuer))),
            ["ask", endpoint] => runtime.block_on(ask(endpoint)),
            ["again", endpoint, seconds] => runtime.block_on(ask_again(endpoint, seconds.parse()?)),
            _ => Err(format!("{task:?} is nothing to be").into()),
        }
    }))
}

/// As many files as the system lets this process have: a connection is one, and a child process two.
fn open_files() -> Result<(), Failed> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn say(line: std::fmt::Arguments<'_>) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// A node helper in a process of its own, so that its memory is its own.
async fn help(dir: &std::path::Path, issuer: &str) -> Result<(), Failed> {
    let domain = legate_ids::TrustDomain::parse("dev.legate")?;
    let trust = legate_mtls::Trust::from_files(domain.clone(), &dir.join("suite/ca.pem"), None)?;
    let token = std::fs::read_to_string(dir.join("token"))?;
    let wanted = Wanted {
        socket: dir.join("workload.sock"),
        mode: 0o666,
        state: dir.join("node"),
        issuer: legate_client::Remote { endpoint: issuer.into(), trust, service: "credential-issuer" },
        domain,
        probes: None,
        limits: Limits { connections_of_one_user: 8_192, ..Limits::default() },
        tokens: Vec::new(),
        broker: None,
        proof: Proof::Token(token.into()),
        clock: SystemClock::shared(),
    };
    let mut hangups = signal(SignalKind::hangup())?;
    let helper = Helper::raise(wanted).await.map_err(|e| e.to_string())?;
    say(format_args!("{}", helper.endpoint()))?;
    while hangups.recv().await.is_some() {
        helper.serving().rotate();
    }
    Ok(())
}

/// A process that asks when it is told to, and says when it was given something.
async fn ask(endpoint: &str) -> Result<(), Failed> {
    let path = endpoint.strip_prefix("unix://").ok_or("no socket")?.to_owned();
    std::io::stdin().lock().read_line(&mut String::new())?;
    let clock = SystemClock::new();
    let begun = Instant::now();
    let api = api(path);
    let first = async |mut api: SpiffeWorkloadApiClient<_>| -> Result<_, tonic::Status> {
        let mut stream = api.fetch_x509svid(marked(X509svidRequest {})).await?.into_inner();
        Ok(stream.message().await?.map(|_| stream))
    };
    let mut stream = loop {
        match first(api.clone()).await {
            Ok(stream) => break stream.ok_or("the stream ended")?,
            // As SPIFFE's libraries do.
            Err(refused) if refused.code() == tonic::Code::Unavailable => {
                let after = begun.elapsed().as_millis();
                writeln!(std::io::stderr().lock(), "after {after} ms: {}", refused.message())?;
                // Not all at the same moment.
                tokio::time::sleep(AGAIN + Duration::from_millis(u64::from(std::process::id()) % 1_000)).await;
            }
            Err(refused) => return Err(refused.into()),
        }
    };
    say(format_args!("first {}", begun.elapsed().as_micros()))?;
    while let Ok(Some(_)) = stream.message().await {
        say(format_args!("again {}", clock.now().micros()))?;
    }
    say(format_args!("ended {}", clock.now().micros()))
}

fn api(path: String) -> SpiffeWorkloadApiClient<tonic::transport::Channel> {
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = tonic::transport::Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
    SpiffeWorkloadApiClient::new(channel)
}

fn marked<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", tonic::metadata::MetadataValue::from_static("true"));
    request
}

/// A process that asks again and again over one connection, for so long with each kind, and says how often it was answered.
async fn ask_again(endpoint: &str, seconds: u64) -> Result<(), Failed> {
    let api = api(endpoint.strip_prefix("unix://").ok_or("no socket")?.to_owned());
    std::io::stdin().lock().read_line(&mut String::new())?;
    let time = Duration::from_secs(seconds);
    let x509 = async |mut api: SpiffeWorkloadApiClient<_>| -> Result<(), Failed> {
        let mut stream = api.fetch_x509svid(marked(X509svidRequest {})).await?.into_inner();
        stream.message().await?.ok_or("the stream ended")?;
        Ok(())
    };
    let jwt = async |mut api: SpiffeWorkloadApiClient<_>| -> Result<(), Failed> {
        let ask = JwtsvidRequest { audience: vec!["https://bench.example".into()], spiffe_id: String::new() };
        api.fetch_jwtsvid(marked(ask)).await?;
        Ok(())
    };
    // Once each, so that what is measured is what is held.
    x509(api.clone()).await?;
    jwt(api.clone()).await?;
    say(format_args!("x509 {}", closed_loop(&api, time, x509).await?))?;
    say(format_args!("jwt {}", closed_loop(&api, time, jwt).await?))
}

async fn closed_loop<C: Clone>(
    api: &C,
    time: Duration,
    call: impl AsyncFn(C) -> Result<(), Failed>,
) -> Result<u64, Failed> {
    let end = Instant::now() + time;
    let one = async || -> Result<u64, Failed> {
        let mut times = 0;
        while Instant::now() < end {
            call(api.clone()).await?;
            times += 1;
        }
        Ok(times)
    };
    let all = futures_util::future::try_join_all((0..AT_ONCE).map(|_| one())).await?;
    Ok(all.into_iter().sum())
}

/// Children that end with this.
struct Children(Vec<(Child, ChildStdin)>);

impl Drop for Children {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

fn spawn(task: &str, errors: Stdio) -> Result<Child, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(BE, task).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
    Ok(command.spawn()?)
}

/// What the kernel counts of a process's memory, in KiB.
fn resident(process: u32) -> Result<f64, Failed> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The processor time that a process has used, all its threads together (`/proc/PID/stat`, fields 14 and 15).
fn processor(process: u32) -> Result<Duration, Failed> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, behind_the_name) = stat.rsplit_once(')').ok_or("no stat")?;
    let ticks: Vec<&str> = behind_the_name.split_whitespace().skip(11).take(2).collect();
    let [user, system] = ticks[..] else { return Err("no times in stat".into()) };
    Ok(Duration::from_secs_f64((user.parse::<f64>()? + system.parse::<f64>()?) / TICKS))
}

/// Waits until so many say the word; what they say with it.
fn hear(said: &mpsc::Receiver<String>, word: &str, times: usize) -> Result<Vec<i64>, Failed> {
    let mut heard = Vec::with_capacity(times);
    while heard.len() < times {
        let line = said.recv_timeout(LONG).map_err(|_| format!("{} of {times} said {word}", heard.len()))?;
        match line.split_once(' ') {
            Some((first, number)) if first == word => heard.push(number.parse()?),
            _ => return Err(format!("a process said {line:?} where {word:?} was awaited").into()),
        }
    }
    Ok(heard)
}

fn told(what: &str, times: Vec<Duration>, took: Duration) {
    let count = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
    let seen = Seen::new(times, took);
    let millis = |at| seen.percentile(at).as_secs_f64() * 1_000.0;
    let rate = count / took.as_secs_f64();
    println!("  {what:<44} p50 {:>7.2} ms   p99 {:>7.2} ms   {rate:>7.0}/s", millis(50), millis(99));
}

async fn declare(suite: &Suite, dir: &std::path::Path) -> Result<(), Failed> {
    let uid = std::fs::metadata("/proc/self")?.uid();
    let exe = std::env::current_exe()?.canonicalize()?;
    let text = FLEET
        .replace("UID\"", &format!("{uid}\""))
        .replace("PROGRAM", exe.to_str().ok_or("the program's path is no text")?);
    let file = dir.join("fleet.yaml");
    std::fs::write(&file, text)?;
    let documents = legate::manifest::load(&[file]).map_err(|e| e.to_string())?;
    let declarations = documents.into_iter().map(|document| document.declaration).collect();
    let request = ApplyDeclarationsRequest { declarations, reason: "measured".into(), ..Default::default() };
    DeclarationServiceClient::new(suite.dial("registry")?).apply_declarations(request).await?;
    Ok(())
}

/// Measures, and prints.
pub(crate) async fn measure(plan: Plan) -> Result<(), Failed> {
    let count = usize::try_from(plan.agents.min(MOST))?;
    open_files()?;
    println!("\nworkload: {count} processes of one agent on one socket, each with a stream");
    let dir = tempfile::tempdir()?;
    let suite = Box::pin(Suite::start(&Options::in_dir(&dir.path().join("suite")))).await?;
    declare(&suite, dir.path()).await?;
    let node = NodeRef { namespace: "fleet".into(), name: "vm".into() };
    let request =
        CreateEnrolmentTokenRequest { holder: Some(Holder::Node(node)), ttl: None, reason: "measured".into() };
    let mut admin = CredentialAdminServiceClient::new(suite.dial("credential-issuer")?);
    std::fs::write(dir.path().join("token"), admin.create_enrolment_token(request).await?.into_inner().token)?;
    let task = format!("help {} {}", dir.path().display(), suite.remote("credential-issuer")?.endpoint);
    let mut helper = spawn(&task, Stdio::null())?;
    let mut lines = BufReader::new(helper.stdout.take().ok_or("no output")?).lines();
    let endpoint = lines.next().ok_or("the helper does not start")??;
    let helper_id = helper.id();
    let stdin = helper.stdin.take().ok_or("no input")?;
    let _helper = Children(vec![(helper, stdin)]);

    let (says, said) = mpsc::channel();
    // What processes are told that are not served at once.
    let (refused, refusals) = mpsc::channel();
    let mut children = Children(Vec::with_capacity(count + 1));
    let again = format!("again {endpoint} {}", plan.time.as_secs());
    let ask = format!("ask {endpoint}");
    for n in 0..=count {
        let mut child = spawn(if n == count { &again } else { &ask }, Stdio::piped())?;
        let (out, says) = (child.stdout.take().ok_or("no output")?, says.clone());
        let (err, refused) = (child.stderr.take().ok_or("no errors")?, refused.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                let _over = refused.send(line);
            }
        });
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _over = says.send(line);
            }
        });
        let stdin = child.stdin.take().ok_or("no input")?;
        children.0.push((child, stdin));
    }
    let measured = tokio::task::spawn_blocking(move || -> Result<(Children, mpsc::Receiver<String>), Failed> {
        let micros = |n: i64| Duration::from_micros(u64::try_from(n).unwrap_or(0));
        // One after the other: what a process that starts waits for.
        let alone = (count / 10).max(1);
        let begun = Instant::now();
        let mut first = Vec::with_capacity(alone);
        let before = resident(helper_id)?;
        for (_, stdin) in &mut children.0[..alone] {
            writeln!(stdin)?;
            first.push(micros(hear(&said, "first", 1)?[0]));
        }
        told(&format!("first SVID, {alone} one after the other"), first, begun.elapsed());
        let begun = Instant::now();
        for (_, stdin) in &mut children.0[alone..count] {
            writeln!(stdin)?;
        }
        let first = hear(&said, "first", count - alone)?.into_iter().map(micros).collect();
        told(&format!("first SVID, {} at once", count - alone), first, begun.elapsed());
        let refused: Vec<String> = refusals.try_iter().collect();
        let such = refused.first().map_or_else(String::new, |one| format!(", such as {one}"));
        println!("  refused meanwhile, and asked again           {:>7} times{such}", refused.len());
        let each = (resident(helper_id)? - before) / f64::from(u32::try_from(count)?);
        println!("  the helper's memory for each                 {each:>7.1} KiB");
        // What is held is shown again, while all the others listen.
        writeln!(children.0[count].1)?;
        for (kind, what) in [("x509", "X.509-SVIDs"), ("jwt", "JWT-SVIDs")] {
            let times = u32::try_from(hear(&said, kind, 1)?[0])?;
            let rate = f64::from(times) / plan.time.as_secs_f64();
            println!("  {what:<12} that are held, one connection, {AT_ONCE} calls at once {rate:>10.0}/s");
        }
        // The process that asked for them ends, so that the ones that are counted below are those that listen.
        if let Some((mut done, _)) = children.0.pop() {
            done.wait()?;
        }
        let used = || Ok::<_, Failed>((processor(helper_id)?, processor(std::process::id())?));
        let before = used()?;
        let (clock, begun) = (SystemClock::new(), Instant::now());
        let at = clock.now().micros();
        let killed = Command::new("kill").args(["-HUP", &helper_id.to_string()]).status()?;
        if !killed.success() {
            return Err("the helper takes no signal".into());
        }
        let again = hear(&said, "again", count)?.into_iter().map(|n| micros(n - at)).collect();
        told("all replaced, signal -> the process has it", again, begun.elapsed());
        let after = used()?;
        println!(
            "  processor time of that: helper {:.2} s, the four services {:.2} s",
            (after.0 - before.0).as_secs_f64(),
            (after.1 - before.1).as_secs_f64()
        );
        Ok((children, said))
    });
    let (_children, said) = measured.await??;
    let agent = AgentRef { namespace: "fleet".into(), name: "planner".into(), ..AgentRef::default() };
    let ask = SuspendAgentRequest { agent: Some(agent), reason: "measured".into(), ..Default::default() };
    AgentServiceClient::new(suite.dial("registry")?).suspend_agent(ask).await?;
    let at = SystemClock::new().now().micros();
    let begun = Instant::now();
    let ended = tokio::task::spawn_blocking(move || hear(&said, "ended", count)).await??;
    let ended = ended.into_iter().map(|n| Duration::from_micros(u64::try_from(n - at).unwrap_or(0))).collect();
    told("suspended, answer -> the stream has ended", ended, begun.elapsed());
    suite.shutdown().await;
    Ok(())
}
