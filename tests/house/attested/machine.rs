//! A machine obtains an identity by the token that its platform gave it, and again where it was away for longer than that lives; and a process
//! that becomes another program over the connection that it has.

use std::io::Write as _;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use legate_clock::{Clock as _, SystemClock, TestClock};
use legate_rpc::Code;
use legate_wire::spiffe::X509svidRequest;
use legate_wire::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use legate_workload::Proof;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tonic::transport::Endpoint;

use super::scene::{self, Api, Fleet, marked};
use super::word;
use crate::outside::Outside;
use crate::raised::{LONG, Raised};

/// The platform's tokens for machines, and what wakes the helper: a policy that nobody meets.
fn trusted(outside: &Outside) -> String {
    format!(
        r#"apiVersion: legate/v1
kind: TrustedIssuer
metadata: {{name: cloud, namespace: fleet}}
spec:
  issuer: {issuer}
  audiences: [legate]
  jwksUri: {keys}
  rules:
    - {{node: vm, claims: {{sub: machine-7}}}}
"#,
        issuer = outside.issuer(),
        keys = outside.jwks_uri(),
    )
}

const NOBODY: &str = r#"apiVersion: legate/v1
kind: AttestationPolicy
metadata: {name: nobody, namespace: fleet}
spec: {agent: planner, selectors: [{type: UNIX_UID, value: "4294967294"}]}
"#;

/// A token that was made as late as clocks that differ allow, since it has to be later than the machine by as much.
fn given(outside: &Outside, file: &Path, id: &str) {
    let made = u64::try_from(SystemClock::new().now().secs()).unwrap() + legate_token::MAX_LEEWAY;
    let claims = json!({"sub": "machine-7", "jti": id, "iat": made});
    std::fs::write(file, outside.token("legate", &claims)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_enrols_by_its_platforms_token_and_again_after_it_was_away_for_too_long() {
    let outside = Outside::new().await;
    let config = format!("[federation]\nallow_private = [\"127.0.0.0/8\", \"::1/128\"]\nca = {:?}\n", outside.ca());
    let raised = Raised::with_federation(&config).await;
    let fleet = Fleet::declared_with_nodes(&raised, "LOW").await;
    scene::apply(&raised, &trusted(&outside)).await.unwrap();
    let file = fleet.dir.path().join("machine-token");
    // A token says in whole seconds when it was made: one of the node's own first second could be of an earlier node.
    let declared = SystemClock::new().now().secs();
    while SystemClock::new().now().secs() == declared {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    given(&outside, &file, "1");
    let clock = TestClock::at(SystemClock::new().now());
    let proof = Proof::IdentityToken { namespace: "fleet".into(), file: file.clone() };
    let helper = fleet.helper_with(&raised, clock.clone(), |wanted| wanted.proof = proof).await;
    let fleet = Fleet { endpoint: helper.endpoint(), ..fleet };
    let first = fleet.held_at_last().await;
    let kept = fleet.dir.path().join("node/node.pem");
    let before = std::fs::read(&kept).unwrap();

    // Asleep for longer than its certificate lives. The token of before was used; the platform makes another.
    given(&outside, &file, "2");
    clock.advance(Duration::from_secs(61 * 60));
    assert!(helper.serving().standing().identity().is_err());
    scene::apply(&raised, NOBODY).await.unwrap();
    scene::until(async || std::fs::read(&kept).unwrap() != before).await;
    // The services did not sleep.
    clock.jump_to(SystemClock::new().now());
    assert_eq!(helper.serving().standing().identity(), Ok(()));
    assert_ne!(fleet.held_at_last().await, first);
    drop(fleet.child().await);
    helper.shutdown().await;

    // A restart needs what is kept and nothing else: a certificate that is there already.
    std::fs::remove_file(&file).unwrap();
    let before = std::fs::read(&kept).unwrap();
    let helper = fleet.helper_with(&raised, SystemClock::shared(), |wanted| wanted.proof = Proof::Nothing).await;
    let fleet = Fleet { endpoint: helper.endpoint(), ..fleet };
    fleet.held_at_last().await;
    assert_eq!(std::fs::read(&kept).unwrap(), before);
    helper.shutdown().await;
    raised.suite.shutdown().await;
}

/// Where the child connects the socket that it was given, and what tells it to become another program.
const CONNECTS: &str = "LEGATE_TESTS_CONNECTS";
const BECOMES: &str = "LEGATE_TESTS_BECOMES";

/// Not a test of its own: connects, says so, and becomes another program once it is told.
#[test]
fn a_process_becomes_another() {
    let (Ok(path), Ok(told)) = (std::env::var(CONNECTS), std::env::var(BECOMES)) else { return };
    connect(std::io::stdin(), &SocketAddrUnix::new(&path).unwrap()).unwrap();
    writeln!(std::io::stdout().lock(), "connected").unwrap();
    while !Path::new(&told).exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    // The connection goes on: somebody else has it as well.
    panic!("{}", Command::new("sleep").arg("3600").stdin(Stdio::null()).exec());
}

/// Calls over a connection that is there already.
fn over(stream: StdStream) -> Api {
    stream.set_nonblocking(true).unwrap();
    let stream = std::sync::Arc::new(std::sync::Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = stream.lock().unwrap().take();
        async move {
            let stream = stream.ok_or_else(|| std::io::Error::other("the connection ended"))?;
            UnixStream::from_std(stream).map(TokioIo::new)
        }
    });
    SpiffeWorkloadApiClient::new(Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_keeps_the_connection_of_a_process_that_became_another_gets_nothing_by_it() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    // The socket is ours as well, and the kernel says that it is the child's, who connected it.
    let ours = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    let told = fleet.dir.path().join("told");
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "attested::machine::a_process_becomes_another", "--nocapture"])
        .env(CONNECTS, fleet.endpoint.strip_prefix("unix://").unwrap())
        .env(BECOMES, &told)
        .stdin(Stdio::from(ours.try_clone().unwrap()))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let hear = async { while !lines.next_line().await.unwrap().expect("it ended").ends_with("connected") {} };
    tokio::time::timeout(LONG, hear).await.expect("it says nothing");
    let mut api = over(StdStream::from(ours));
    let ask = async |api: &mut Api| -> Result<String, (Code, String)> {
        let asking = async { api.fetch_x509svid(marked(X509svidRequest {})).await?.into_inner().message().await };
        let answer = tokio::time::timeout(LONG, asking).await.expect("no answer");
        answer.map(|message| message.unwrap().svids[0].spiffe_id.clone()).map_err(|status| word(&status))
    };
    let given = ask(&mut api).await.unwrap();
    let mut watched = fleet.watched().await;
    watched.holds().await;
    assert!(given.starts_with(&fleet.spiffe_id) && given != watched.spiffe_id, "it is the child's: {given}");

    let exe = format!("/proc/{}/exe", child.id().unwrap());
    let before = std::fs::read_link(&exe).unwrap();
    std::fs::write(&told, "").unwrap();
    scene::until(async || std::fs::read_link(&exe).unwrap() != before).await;
    assert_eq!(ask(&mut api).await, Err((Code::PermissionDenied, "PROCESS_CHANGED".into())));
    drop(child);
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_which_nothing_is_given_is_closed_whatever_it_asks() {
    let raised = Raised::new().await;
    let fleet = Fleet::declared_with_nodes(&raised, "LOW").await;
    let helper = fleet
        .helper_with(&raised, SystemClock::shared(), |wanted| wanted.limits.trial = Duration::from_millis(500))
        .await;
    let fleet = Fleet { endpoint: helper.endpoint(), ..fleet };
    fleet.held_at_last().await;
    let mut kept = fleet.watched().await;
    kept.holds().await;
    let path = fleet.endpoint.strip_prefix("unix://").unwrap();
    // One that only pings: a preface, and then a frame from time to time (RFC 9113 section 6.7).
    let mut idle = UnixStream::connect(path).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut idle, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let pinging = async {
        let ping = b"\0\0\x08\x06\0\0\0\0\0legate-1";
        while tokio::io::AsyncWriteExt::write_all(&mut idle, ping).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, pinging).await.expect("it is held open");
    // Whoever was given something is kept, and told of what comes.
    helper.serving().rotate();
    kept.holds().await;
    helper.shutdown().await;
    raised.suite.shutdown().await;
}
