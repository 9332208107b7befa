//! A launcher obtains the identities of the sandboxes that it starts, and what runs in them cannot.

use std::path::PathBuf;
use std::process::Stdio;

use hyper_util::rt::TokioIo;
use legate_clock::SystemClock;
use legate_ids::{Name, SpiffeId};
use legate_mtls::{Identity, LocalConnector, pki};
use legate_rpc::Code;
use legate_wire::broker::api_client::ApiClient;
use legate_wire::broker::{
    FetchJwtsvidRequest, SubscribeToX509svidRequest, SubscribeToX509svidResponse, WorkloadPidReference,
    WorkloadReference,
};
use legate_wire::credential::InstanceState;
use legate_wire::workload::SandboxReference;
use legate_workload::BrokerSocket;
use prost::Message as _;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::scene::{self, Fleet};
use super::{is_shut_out, word};
use crate::raised::{LONG, Raised, certify};

type Broker = ApiClient<Channel>;

/// What the planner starts is the runner.
const RUNNER: &str = r#"apiVersion: legate/v1
kind: Agent
metadata: {name: runner, namespace: fleet}
spec:
  agentClass: attested
  purpose: Runs what the planner planned.
  environment: DEV
  owners: ["user:ada@example.com"]
  sponsors: ["user:grace@example.com"]
---
apiVersion: legate/v1
kind: AttestationPolicy
metadata: {name: runner, namespace: fleet}
spec:
  agent: runner
  selectors:
    - {type: UNIX_PATH, value: "SLEEP"}
    - {type: BROKER_AGENT, value: planner}
    - {type: BROKER_SANDBOX, value: run-1}
"#;

/// A broker's end of the socket.
fn broker(raised: &Raised, path: PathBuf, identity: Identity) -> Broker {
    let roots = std::fs::read_to_string(raised.suite.layout().workloads_ca()).unwrap();
    let roots: Vec<Vec<u8>> = pki::certificates(&roots).unwrap().iter().map(|der| der.to_vec()).collect();
    let name = |text: &str| Name::parse(text).unwrap();
    let node = SpiffeId::node(raised.suite.domain(), &name("fleet"), &name("vm"));
    let tls = LocalConnector::new(identity, &roots, node, SystemClock::shared()).unwrap();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (tls, path) = (tls.clone(), path.clone());
        async move { tls.connect(UnixStream::connect(path).await?).await.map(TokioIo::new) }
    });
    ApiClient::new(Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector))
}

fn marked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("broker.spiffe.io", "true".parse().unwrap());
    request
}

fn reference(of: &str, value: Vec<u8>) -> Option<WorkloadReference> {
    let type_url = format!("type.googleapis.com/{of}");
    Some(WorkloadReference { reference: Some(prost_types::Any { type_url, value }) })
}

fn sandbox(process: &Child, name: &str) -> Option<WorkloadReference> {
    let pid = i32::try_from(process.id().unwrap()).unwrap();
    let of = SandboxReference { pid, sandbox: name.into() };
    reference("legate.workload.v1.SandboxReference", of.encode_to_vec())
}

fn by_number(pid: i32) -> Option<WorkloadReference> {
    reference("spiffe.broker.WorkloadPIDReference", WorkloadPidReference { pid }.encode_to_vec())
}

async fn x509(
    broker: &mut Broker,
    reference: Option<WorkloadReference>,
) -> Result<(SubscribeToX509svidResponse, Streaming<SubscribeToX509svidResponse>), Status> {
    let asking = broker.subscribe_to_x509svid(marked(SubscribeToX509svidRequest { reference }));
    let mut stream = tokio::time::timeout(LONG, asking).await.expect("no answer")?.into_inner();
    let first = tokio::time::timeout(LONG, stream.message()).await.expect("nothing comes")?;
    Ok((first.ok_or_else(|| Status::unknown("it ended"))?, stream))
}

fn sleeping(program: &str) -> Child {
    Command::new(program).arg("3600").stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_obtains_the_identities_of_its_sandboxes_and_nobody_else_does() {
    let raised = Raised::new().await;
    let fleet = Fleet::declared_with_nodes(&raised, "LOW").await;
    let path = ["/usr/bin/sleep", "/bin/sleep"].map(std::fs::canonicalize).into_iter().find_map(Result::ok).unwrap();
    let sleep = path.to_str().unwrap();
    scene::apply(&raised, &RUNNER.replace("SLEEP", sleep)).await.unwrap();
    let socket = fleet.dir.path().join("broker.sock");
    let at = BrokerSocket { path: socket.clone(), mode: 0o600 };
    let helper = fleet.helper_with(&raised, SystemClock::shared(), |wanted| wanted.broker = Some(at)).await;
    let fleet = Fleet { endpoint: helper.endpoint(), ..fleet };
    let mut watched = fleet.watched().await;
    let launcher = watched.holds().await;
    let process = sleeping(sleep);
    let broker_of = |identity| broker(&raised, socket.clone(), identity);
    let mut ours = broker_of(launcher.identity());

    let (held, mut stream) = x509(&mut ours, sandbox(&process, "run-1")).await.unwrap();
    let svid = &held.svids[0];
    assert_eq!((held.svids.len(), svid.hint.as_str()), (1, "fleet/runner"));
    assert!(!svid.spiffe_id.starts_with(&fleet.spiffe_id), "the sandbox is not the launcher");
    let jwt = FetchJwtsvidRequest {
        reference: sandbox(&process, "run-1"),
        audience: vec![scene::AUDIENCE.into()],
        spiffe_id: String::new(),
    };
    let jwts = ours.fetch_jwtsvid(marked(jwt)).await.unwrap().into_inner().svids;
    assert_eq!((jwts.len(), &jwts[0].spiffe_id), (1, &svid.spiffe_id));

    // Another name, a process that is something else, or is not there; and what is no reference.
    let pid = |process: &Child| i32::try_from(process.id().unwrap()).unwrap();
    for (what, of, expected) in [
        ("another name", sandbox(&process, "run-2"), (Code::PermissionDenied, "WORKLOAD_NOT_ENTITLED")),
        ("no name", by_number(pid(&process)), (Code::PermissionDenied, "WORKLOAD_NOT_ENTITLED")),
        ("nobody", by_number(i32::MAX), (Code::NotFound, "WORKLOAD_NOT_FOUND")),
        ("nothing", None, (Code::InvalidArgument, "WORKLOAD_REFERENCE_INVALID")),
    ] {
        let status = x509(&mut ours, of).await.unwrap_err();
        assert_eq!(word(&status), (expected.0, expected.1.to_owned()), "{what}");
    }
    let bare = Request::new(SubscribeToX509svidRequest { reference: sandbox(&process, "run-1") });
    let status = ours.subscribe_to_x509svid(bare).await.unwrap_err();
    assert_eq!(word(&status), (Code::InvalidArgument, "BROKER_HEADER_MISSING".into()));

    // Who is no broker: the sandbox with its own SVID; who shows none, or one by nobody whom we believe, does not even connect.
    let runner = Identity::anonymous();
    runner.replace_svid(&svid.x509_svid, &svid.x509_svid_key).unwrap();
    let status = x509(&mut broker_of(runner), sandbox(&process, "run-1")).await.unwrap_err();
    assert_eq!(word(&status), (Code::PermissionDenied, "BROKER_NOT_ALLOWED".into()));
    let stranger = SpiffeId::parse(&watched.spiffe_id).unwrap();
    let forged = certify(&raised.services_ca(), &stranger);
    for nobody in [Identity::anonymous(), forged] {
        let status = x509(&mut broker_of(nobody), sandbox(&process, "run-1")).await.unwrap_err();
        assert!(is_shut_out(&status), "{status}");
    }

    // The sandbox ends, and its instance with it.
    let (_, instance) = svid.spiffe_id.rsplit_once('/').unwrap();
    assert_eq!(scene::instance(&raised, instance).await.state(), InstanceState::Live);
    drop(process);
    let ended = tokio::time::timeout(LONG, stream.message()).await.expect("it goes on").unwrap_err();
    assert_eq!(word(&ended).1, "PROCESS_GONE");
    scene::until(async || scene::instance(&raised, instance).await.state() == InstanceState::Revoked).await;

    // The launcher is stopped: its connection is cut, and it asks for nobody.
    let process = sleeping(sleep);
    let (_, mut stream) = x509(&mut ours, sandbox(&process, "run-1")).await.unwrap();
    fleet.suspend(&raised).await;
    tokio::time::timeout(LONG, stream.message()).await.expect("it goes on").unwrap_err();
    x509(&mut broker_of(launcher.identity()), sandbox(&process, "run-1")).await.unwrap_err();
    helper.shutdown().await;
    raised.suite.shutdown().await;
}
