//! A `legate dev` as a child process, and the program run against it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The manifest of the readme.
pub(crate) const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples/invoice.yaml");
/// Its agent.
pub(crate) const AGENT: &str = "payments/invoice-bot";

/// The program with nothing of the surrounding environment in it.
pub(crate) fn legate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_legate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LEGATE_") || name == "XDG_CONFIG_HOME" {
            command.env_remove(name);
        }
    }
    command.env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn done(command: &mut Command) -> Ended {
    Ended::from(command.output().unwrap())
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ended {
    /// Fails the test unless the command ended so; gives what it printed.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.out
    }

    /// Fails the test unless the command was refused so, with the reason and what to do next.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, reason: &str) {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        assert!(self.err.starts_with(&format!("error: {reason}: ")), "{}", self.err);
        assert!(self.err.contains("\nnext:  "), "{}", self.err);
    }

    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.with(0)).unwrap()
    }
}

/// A running suite.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) dir: PathBuf,
    env: BTreeMap<String, String>,
    child: Child,
}

impl House {
    /// Raises a suite in `dir` on free ports, and waits until it says `ready`.
    pub(crate) fn raise(dir: &Path) -> Self {
        Self::raise_with(dir, &[])
    }

    /// The same with more flags.
    pub(crate) fn raise_with(dir: &Path, more: &[&str]) -> Self {
        let mut command = legate();
        command.args(["dev", "--port-base", "0", "--dir"]).arg(dir).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        // Ends also when the child ends without a word.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let env = std::fs::read_to_string(dir.join("env")).unwrap();
        let pair = |line: &str| {
            let (name, value) = line.strip_prefix("export ").unwrap().split_once('=').unwrap();
            (name.to_owned(), value.trim_matches('\'').to_owned())
        };
        Self { dir: dir.to_owned(), env: env.lines().map(pair).collect(), child }
    }

    /// The program with the suite's `env` sourced.
    pub(crate) fn command(&self, line: &[&str]) -> Command {
        let mut command = legate();
        command.envs(&self.env).args(line);
        command
    }

    pub(crate) fn run(&self, line: &[&str]) -> Ended {
        done(&mut self.command(line))
    }

    pub(crate) fn env(&self, name: &str) -> &str {
        &self.env[name]
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("audit-collector/log")
    }

    pub(crate) fn log_key(&self) -> PathBuf {
        self.dir.join("log.pub")
    }

    /// Declares the readme's manifest.
    pub(crate) fn declare(&self) {
        self.run(&["apply", "-f", MANIFEST, "--reason", "first agent of payments"]).with(0);
    }

    /// Enrols the readme's agent into a directory.
    pub(crate) fn enrol(&self, out: &Path) {
        let token = self.run(&["credential", "create", "--agent", AGENT, "--reason", "new runtime", "-o", "name"]);
        let token = token.with(0);
        let out = out.to_str().unwrap();
        self.run(&["credential", "enrol", "--token", token.trim(), "--out", out]).with(0);
    }

    /// Verifies the suite's log, with more flags.
    pub(crate) fn verify(&self, more: &[&str]) -> Ended {
        let mut command = legate();
        command.arg("verify").arg(self.log()).arg("--key").arg(self.log_key()).args(more);
        done(&mut command)
    }

    /// Ends it as a power switch would: SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Asks again until it is so, for half a minute at most; each question is a process of its own.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < std::time::Duration::from_secs(30), "never: {what}");
    }
}
