//! From finding to plan by the program's verbs: what an agent used three weeks ago is there, what it did not use is found and taken away.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use legate::dev::{Directory, Options, Suite};
use legate_clock::{Clock, SystemClock, Timestamp};

use crate::house::{AGENT, House, MANIFEST, done, eventually, legate};

/// The machine's clock, three weeks ago.
#[derive(Debug)]
struct Earlier(SystemClock);

impl Clock for Earlier {
    fn now(&self) -> Timestamp {
        self.0.now().minus(Duration::from_secs(20 * 86_400))
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

/// The program with what the suite of this directory wrote into `env`.
fn command(dir: &Path, line: &[&str]) -> Command {
    let mut command = legate();
    let env = std::fs::read_to_string(dir.join("env")).unwrap();
    for (name, value) in env.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('=')) {
        command.env(name, value.trim_matches('\''));
    }
    command.args(line);
    command
}

const PAYER: &str = "
apiVersion: legate/v1
kind: Role
metadata: {name: invoice-payer, namespace: payments}
spec: {permissions: ['invoice:pay on Invoice:*']}
---
apiVersion: legate/v1
kind: RoleBinding
metadata: {name: invoice-bot-pays, namespace: payments}
spec: {role: invoice-payer, agents: [invoice-bot]}
";

#[test]
fn from_finding_to_plan_and_the_finding_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("dev");
    let file = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let payer = file("payer.yaml");
    std::fs::write(&payer, PAYER).unwrap();
    let check = ["check", "--agent", AGENT, "--action", "invoice:read", "--resource", "Invoice:apollo/1"];
    let uses = |told: serde_json::Value| told["agents"][0]["permissions"][0]["count"].as_str().map(str::to_owned);

    let runtime = tokio::runtime::Runtime::new().unwrap();
    // So that legate dev knows it for its own.
    drop(Directory::claim(&dir).unwrap());
    let options = Options { clock: Arc::new(Earlier(SystemClock::new())), ..Options::in_dir(&dir) };
    let suite = runtime.block_on(Box::pin(Suite::start(&options))).unwrap();
    let run = |line: &[&str]| done(&mut command(&dir, line));
    run(&["apply", "-f", MANIFEST, &payer, "--reason", "a start"]).with(0);
    run(&check).with(0);
    let heard = |told: serde_json::Value, count: &str| uses(told).as_deref() == Some(count);
    eventually("one use is heard", || heard(run(&["agent", "usage", AGENT, "-o", "json"]).json(), "1"));
    // Of whom nothing was heard that may be all there is.
    let ended = run(&["agent", "list", "--dormant", "90d", "-o", "name"]);
    assert!(ended.err.contains("does not reach back"), "{}", ended.err);
    runtime.block_on(suite.shutdown());

    let house = House::raise(&dir);
    house.run(&check).with(0);
    eventually("both are heard", || heard(house.run(&["agent", "usage", AGENT, "-o", "json"]).json(), "2"));
    let table = house.run(&["agent", "usage", AGENT, "-o", "table"]).with(0);
    assert!(table.contains("invoice:read") && table.contains("evidence from"), "{table}");
    let drift = |more: &[&str]| house.run(&[&["drift", "--unused-after", "7d"], more].concat());
    let found = drift(&["--namespace", "payments", "-o", "json"]).json();
    let all: Vec<&str> =
        found["findings"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect();
    assert_eq!(all, ["DRIFT_TYPE_UNUSED"], "{found}");
    let table = drift(&["--agent", AGENT, "--finding", "unused", "-o", "wide"]).with(0);
    assert!(table.contains("invoice:pay on Invoice:*") && table.contains("no gaps are known"), "{table}");
    assert_eq!(drift(&["-o", "name"]).with(0), format!("{AGENT}\n"));
    assert!(drift(&["--finding", "orphaned", "-o", "name"]).with(0).is_empty());
    house.run(&["drift", "--unused-after", "1d"]).refused(1, "QUESTION_INVALID");
    house.run(&["drift", "--agent", "payments/nobody"]).refused(1, "AGENT_NOT_FOUND");

    let smaller = file("smaller.yaml");
    let propose = ["--agent", AGENT, "--propose", "-f", &smaller];
    let told = drift(&[&propose[..], &["-o", "table"]].concat()).with(0);
    assert!(told.contains("0 of 2 allowed decisions of the last 31d would flip."), "{told}");
    let text = std::fs::read_to_string(&smaller).unwrap();
    assert!(text.contains("invoice:read on Invoice:apollo/*") && text.starts_with("# A ceiling"), "{text}");
    drift(&propose).refused(1, "FILE_REFUSED");
    let plan = house.run(&["plan", "-f", &smaller, "-o", "table"]).with(0);
    assert!(plan.contains("will change") && plan.contains("invoice:pay"), "{plan}");
    house.run(&["apply", "-f", &smaller, "--reason", "it never pays"]).with(0);
    eventually("it is gone", || drift(&["--finding", "unused", "-o", "name"]).with(0).is_empty());
    house.run(&check).with(0);
    let again = file("again.yaml");
    let told = drift(&["--agent", AGENT, "--propose", "-f", &again, "-o", "table"]).with(0);
    assert!(told.contains("nothing to take away") && !Path::new(&again).exists(), "{told}");
}
