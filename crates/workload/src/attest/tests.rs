//! Processes that end, or become others, between connecting and being looked at.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};

use legate_wire::registry::{AttestationSelector, AttestationSelectorType as Type};

use super::{Attested, Attestor, Looks, Newcomer, Peer, Unseen};

/// Where the child connects to.
const WHERE: &str = "LEGATE_TEST_CONNECT_TO";

/// Another process that connected: this test binary, started again.
struct Other {
    child: Child,
    said: BufReader<ChildStdout>,
    peer: Peer,
}

impl Other {
    async fn connected() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "attest::tests::other_process", "--nocapture"])
            .env(WHERE, &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stream, _) = listener.accept().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let peer = Newcomer::of(&stream).unwrap().seen(&Looks::default()).await.unwrap();
        assert_eq!(peer.pid(), i32::try_from(child.id()).unwrap());
        Self { child, said, peer }
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{word}").unwrap();
    }

    /// Waits until it says the word.
    fn hear(&mut self, word: &str) {
        let mut line = String::new();
        while line.trim() != word {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "it ended without a word");
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What the other process does; in the ordinary run of the tests nothing.
#[test]
fn other_process() {
    let Some(path) = std::env::var_os(WHERE) else { return };
    let _held = UnixStream::connect(path).unwrap();
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).unwrap();
    match word.trim() {
        // The connection goes on in the program that follows only where it is handed on; that it was made is enough here.
        "exec" => panic!("{}", Command::new("sh").args(["-c", "echo changed; read -r _"]).exec()),
        _ => std::process::exit(0),
    }
}

/// Somebody asks for the hash of every program.
fn always(_: &[AttestationSelector]) -> bool {
    true
}

fn value(attested: &Attested, of: Type) -> Option<&str> {
    let mut found = attested.selectors.iter().filter(|s| s.r#type() == of);
    let one = found.next();
    assert!(found.next().is_none(), "{of:?} twice");
    one.map(|s| s.value.as_str())
}

#[tokio::test]
async fn a_process_is_who_the_kernel_says() {
    let other = Other::connected().await;
    let attestor = Attestor::default();
    let attested = attestor.attest(&other.peer, always).await.unwrap();
    let uid = rustix::process::geteuid().as_raw().to_string();
    let gid = rustix::process::getegid().as_raw().to_string();
    assert_eq!(value(&attested, Type::UnixUid), Some(&*uid));
    assert_eq!(value(&attested, Type::UnixGid), Some(&*gid));
    let exe = std::env::current_exe().unwrap();
    assert_eq!(value(&attested, Type::UnixPath), exe.to_str());
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(&std::fs::read(exe).unwrap());
    let digest: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(value(&attested, Type::UnixSha256), Some(&*digest));
    // And again the same.
    assert_eq!(attestor.attest(&other.peer, always).await.unwrap(), attested);
    assert!(attested.selectors.iter().all(|s| (1..=512).contains(&s.value.len())));
    // A program is read only where somebody asks for the hash of such a process.
    let nobody = attestor.attest(&other.peer, |_| false).await.unwrap();
    assert_eq!(value(&nobody, Type::UnixSha256), None);
    assert_eq!(
        attested.selectors.iter().filter(|s| s.r#type() != Type::UnixSha256).cloned().collect::<Vec<_>>(),
        *nobody.selectors
    );
}

#[tokio::test]
async fn one_that_ended_is_refused_whoever_has_its_number_now() {
    let mut other = Other::connected().await;
    let attestor = Attestor::default();
    attestor.attest(&other.peer, always).await.unwrap();
    other.tell("exit");
    // Not reaped yet: its entry in /proc is still there.
    other.peer.ended().await;
    assert!(std::path::Path::new(&format!("/proc/{}", other.peer.pid())).exists());
    assert_eq!(attestor.attest(&other.peer, always).await, Err(Unseen::Gone));
    other.child.wait().unwrap();
    assert_eq!(attestor.attest(&other.peer, always).await, Err(Unseen::Gone));
}

#[tokio::test]
async fn one_that_runs_another_program_now_is_refused() {
    let mut other = Other::connected().await;
    let attestor = Attestor::default();
    let before = attestor.attest(&other.peer, always).await.unwrap();
    other.tell("exec");
    // That program says it, so it is that program.
    other.hear("changed");
    assert_eq!(attestor.attest(&other.peer, always).await, Err(Unseen::Changed));
    assert_ne!(before.key.exe, None);
}

#[tokio::test]
async fn one_that_connected_and_ended_before_it_was_looked_at_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "attest::tests::other_process", "--nocapture"])
        .env(WHERE, &path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.wait().unwrap();
    let (stream, _) = listener.accept().unwrap();
    let seen = match Newcomer::of(&stream) {
        Ok(newcomer) => newcomer.seen(&Looks::default()).await.map(drop),
        Err(unseen) => Err(unseen),
    };
    assert_eq!(seen, Err(Unseen::Gone));
}
