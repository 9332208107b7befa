//! The program `cerbos`: its policies made of its own templates, started with TLS, and asked over its gRPC.
//!
//! Of its API only what is asked here is declared: names and numbers of fields are those of `cerbos.request.v1`, `cerbos.engine.v1` and
//! `cerbos.response.v1` (github.com/cerbos/cerbos, api/public, Apache-2.0).

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use legate::dev::Suite;
use legate_clock::SystemClock;
use legate_rpc::{Client, Dial};
use prost_types::{Value, value::Kind};

use super::{Peer, numbers};
use crate::apart::cpu_of;
use crate::load::{self, Seen};
use crate::{Failed, Plan};

#[derive(Clone, PartialEq, prost::Message)]
struct CheckResourcesRequest {
    #[prost(string, tag = "1")]
    request_id: String,
    #[prost(message, optional, tag = "3")]
    principal: Option<Principal>,
    #[prost(message, repeated, tag = "4")]
    resources: Vec<ResourceEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Principal {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    policy_version: String,
    #[prost(string, repeated, tag = "3")]
    roles: Vec<String>,
    #[prost(map = "string, message", tag = "4")]
    attr: HashMap<String, Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceEntry {
    #[prost(string, repeated, tag = "1")]
    actions: Vec<String>,
    #[prost(message, optional, tag = "2")]
    resource: Option<Resource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    policy_version: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(map = "string, message", tag = "4")]
    attr: HashMap<String, Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CheckResourcesResponse {
    #[prost(message, repeated, tag = "2")]
    results: Vec<ResultEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResultEntry {
    /// 1: allow, 2: deny.
    #[prost(map = "string, int32", tag = "2")]
    actions: HashMap<String, i32>,
}

/// A running `cerbos`, which ends with this.
pub(super) struct Cerbos {
    child: Child,
    clients: Vec<Client>,
    _dir: tempfile::TempDir,
}

impl Drop for Cerbos {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Copies each template with the names of one copy: `{{ .NameMod "x" }}` is `x_00042`.
fn render(from: &Path, to: &Path, copies: u32) -> Result<(), Failed> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let Some(file) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".tpl"))
        else {
            continue;
        };
        let (stem, suffix) = file.rsplit_once('.').ok_or("a template without a suffix")?;
        let template = std::fs::read_to_string(&path)?;
        for n in 0..copies {
            let mut text = String::with_capacity(template.len());
            let mut rest = template.as_str();
            while let Some((before, after)) = rest.split_once("{{ .NameMod ") {
                let (name, after) = after.split_once(" }}").ok_or("a template that is not as it was")?;
                text.push_str(before);
                text.push_str(&format!("{}_{n:05}", name.trim_matches(['"', '`'])));
                rest = after;
            }
            text.push_str(rest);
            std::fs::write(to.join(format!("{stem}_{n:05}.{suffix}")), text)?;
        }
    }
    Ok(())
}

fn free_port() -> Result<u16, Failed> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Cerbos {
    /// Makes the policies and starts it, with policy-decision's certificate, so that it is dialled as that is.
    pub(super) async fn raise(suite: &Suite, peer: &Peer, copies: u32, connections: usize) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let policies = dir.path().join("policies");
        render(&peer.templates.join("policies"), &policies, copies)?;
        render(&peer.templates.join("schemas"), &policies.join("_schemas"), copies)?;
        let (grpc, web) = (free_port()?, free_port()?);
        let files = suite.layout().tls("policy-decision");
        let config = format!(
            "server:\n  grpcListenAddr: \"127.0.0.1:{grpc}\"\n  httpListenAddr: \"127.0.0.1:{web}\"\n  tls:\n    cert: {}\n    key: {}\n\
             telemetry:\n  disabled: true\nschema:\n  enforcement: none\n\
             storage:\n  driver: disk\n  disk:\n    directory: {}\n    watchForChanges: false\naudit:\n  enabled: false\n",
            files.cert.display(),
            files.key.display(),
            policies.display(),
        );
        let file = dir.path().join("cerbos.yaml");
        std::fs::write(&file, config)?;
        let mut command = Command::new(&peer.program);
        command.args(["server", "--log-level=error", "--config"]).arg(&file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(legate_rpc::dial(Dial {
                endpoint: format!("https://127.0.0.1:{grpc}"),
                identity: suite.operator()?,
                trust: suite.trust()?,
                expect: legate_mtls::Expect::Service("policy-decision"),
                timeout: Duration::from_secs(5),
                clock: SystemClock::shared(),
            })?);
        }
        let cerbos = Self { child, clients, _dir: dir };
        let begin = Instant::now();
        while let Err(why) = ask(cerbos.clients[0].clone(), request(0, 1)).await {
            if begin.elapsed() > Duration::from_secs(60) {
                return Err(format!("cerbos does not answer: {why}").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(cerbos)
    }

    /// Its CPU time up to now.
    pub(super) fn cpu(&self) -> Result<Duration, Failed> {
        cpu_of(self.child.id())
    }

    /// Asks so many questions a request, again and again.
    pub(super) async fn ask(&self, plan: Plan, checks: usize, in_flight: usize) -> Result<Seen, Failed> {
        let callers: Vec<Client> =
            self.clients.iter().flat_map(|c| std::iter::repeat_n(c.clone(), in_flight)).collect();
        let numbers = numbers();
        load::run(callers, plan.time, move |client| {
            let request = request(numbers(), checks);
            async move {
                ask(client.clone(), request).await?;
                Ok(client)
            }
        })
        .await
    }
}

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

fn texts(of: &[(&str, &str)]) -> HashMap<String, Value> {
    of.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect()
}

/// One question (may john see what he asked for), or the ten of their first request: five resources, two actions each.
fn request(n: u32, checks: usize) -> CheckResourcesRequest {
    let version = "20210210";
    let principal = Principal {
        id: "john".into(),
        policy_version: version.into(),
        roles: vec!["employee".into()],
        attr: texts(&super::ported::PRINCIPAL),
    };
    let entry = |(id, owner, department, geography, team): &(&str, &str, &str, &str, &str)| ResourceEntry {
        actions: if checks == 1 { vec!["view:public".into()] } else { vec!["view:public".into(), "approve".into()] },
        resource: Some(Resource {
            kind: format!("leave_request_{n:05}"),
            policy_version: version.into(),
            id: (*id).into(),
            attr: texts(&[
                ("department", department),
                ("geography", geography),
                ("id", id),
                ("owner", owner),
                ("team", team),
            ]),
        }),
    };
    let some = if checks == 1 { 1 } else { super::ported::RESOURCES.len() };
    let resources = super::ported::RESOURCES.iter().take(some).map(entry).collect();
    CheckResourcesRequest { request_id: format!("REQ_{n:05}"), principal: Some(principal), resources }
}

async fn ask(client: Client, request: CheckResourcesRequest) -> Result<(), Failed> {
    let wanted: usize = request.resources.len();
    let mut grpc = tonic::client::Grpc::new(client);
    grpc.ready().await?;
    let codec = tonic_prost::ProstCodec::<CheckResourcesRequest, CheckResourcesResponse>::default();
    let path = PathAndQuery::from_static("/cerbos.svc.v1.CerbosService/CheckResources");
    let answer = grpc.unary(tonic::Request::new(request), path, codec).await?.into_inner();
    let is_right = |entry: &ResultEntry| {
        entry.actions.iter().all(|(action, effect)| *effect == if action == "view:public" { 1 } else { 2 })
            && !entry.actions.is_empty()
    };
    if answer.results.len() == wanted && answer.results.iter().all(is_right) {
        return Ok(());
    }
    Err(format!("cerbos answers otherwise than its load test wants: {answer:?}").into())
}
