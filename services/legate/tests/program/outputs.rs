//! Forms of answers, and readers who leave.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::house::{AGENT, House, MANIFEST, done, eventually, legate};

#[test]
fn a_closed_pipe_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let yaml: String = (0..600)
        .map(|i| {
            let head = "---\napiVersion: legate/v1\nkind: Role\nmetadata:\n  namespace: payments\n  name: ";
            format!("{head}r{i}\nspec:\n  permissions: [\"a:b on T:*\"]\n")
        })
        .collect();
    let many = home.path().join("many.yaml");
    std::fs::write(&many, yaml).unwrap();
    house.run(&["apply", "-f", many.to_str().unwrap(), "--reason", "many"]).with(0);
    for format in ["table", "json", "jsonl", "yaml", "name"] {
        let mut child = house
            .command(&["role", "list", "-o", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]), "{format}");
    }
    // Closed from the start.
    for line in [vec!["role", "list"], vec!["--help"], vec!["schema"], vec!["completions", "bash"], vec!["man"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = house.command(&line).stdout(writer).output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]), "{line:?}");
    }
}

#[test]
fn what_others_wrote_cannot_reach_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let evil = "\u{1b}[2Jgone\u{202e}txt";
    let suspended = house.run(&["agent", "suspend", AGENT, "--reason", evil]);
    if suspended.code == Some(0) {
        for format in ["table", "wide", "json", "jsonl", "yaml"] {
            let shown = house.run(&["agent", "get", AGENT, "-o", format]).with(0);
            assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{format}: {shown}");
        }
    } else {
        assert!(!suspended.err.contains('\u{1b}') && !suspended.err.contains('\u{202e}'), "{suspended:?}");
        suspended.refused(1, "INVALID_ARGUMENT");
    }
}

#[test]
fn a_declared_object_comes_back_as_its_manifest() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let mut all = String::new();
    for noun in ["namespace", "class", "agent", "role", "binding", "policy", "enforcement-point"] {
        all += "---\n";
        all += &house.run(&[noun, "list", "-o", "yaml"]).with(0);
    }
    let file = home.path().join("all.yaml");
    std::fs::write(&file, all).unwrap();
    let plan = house.run(&["plan", "-f", file.to_str().unwrap(), "-o", "json"]).json();
    let changes = plan["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 9, "with the namespace of this machine");
    assert!(changes.iter().all(|c| c["action"] == "CHANGE_ACTION_UNCHANGED"), "{plan}");
    let edited = std::fs::read_to_string(MANIFEST).unwrap().replace("riskTier: MEDIUM", "riskTier: HIGH");
    std::fs::write(&file, edited).unwrap();
    let diff = house.run(&["plan", "-f", file.to_str().unwrap(), "-o", "table"]).with(0);
    assert!(diff.contains("~ Agent payments/invoice-bot will change\n"), "{diff}");
    assert!(diff.contains("MEDIUM") && diff.contains("HIGH"), "{diff}");
    assert!(diff.contains("0 will be created, 1 will change, 7 stays."), "{diff}");
}

#[test]
fn requests_are_shown_without_their_secrets() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let token = house.run(&["credential", "create", "--agent", AGENT, "--reason", "x", "-o", "name"]).with(0);
    let out = home.path().join("bot");
    let enrol =
        house.run(&["credential", "enrol", "--token", token.trim(), "--out", out.to_str().unwrap(), "--show-request"]);
    assert!(enrol.err.contains("legate.credential.v1.EnrolmentService/Enrol"), "{enrol:?}");
    assert!(!enrol.err.contains(token.trim()) && !enrol.out.contains(token.trim()), "{enrol:?}");
    enrol.with(0);
    let get = house.run(&["agent", "get", AGENT, "--show-request"]);
    assert!(get.err.contains("legate.registry.v1.AgentService/GetAgent"), "{get:?}");
}

#[test]
fn what_is_generated_is_there() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(done(legate().args(["completions", shell])).with(0).contains("legate"));
    }
    assert!(done(legate().arg("man")).with(0).contains(".TH legate"));
    let dir = tempfile::tempdir().unwrap();
    done(legate().args(["man", "--out"]).arg(dir.path())).with(0);
    assert!(dir.path().join("legate-agent-suspend.1").exists());
    let schema: serde_json::Value = serde_json::from_str(&done(legate().arg("schema")).with(0)).unwrap();
    assert_eq!(schema["$defs"].as_object().unwrap().len(), 19);
}

#[test]
fn events_are_found_by_what_they_say_and_exported() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let check = ["check", "--agent", AGENT, "--action", "invoice:read", "--resource", "Invoice:zeus/7"];
    house.run(&check).with(3);
    let filter =
        ["--type", "decision.*", "--action", "invoice:read", "--resource", "Invoice:zeus/7", "--outcome", "denied"];
    let query = |more: &[&str]| {
        let line = [&["audit", "query", "-o", "name"], &filter[..], more].concat();
        house.run(&line).with(0).lines().count()
    };
    eventually("the denial is in the index", || query(&[]) == 1);
    assert_eq!((query(&["--since", "5m"]), query(&["--until", "5m"])), (1, 0));
    assert_eq!((query(&["--agent", AGENT, "--namespace", "payments"]), query(&["--namespace", "other"])), (1, 0));
    let file = home.path().join("events.jsonl");
    let export = [&["audit", "export", "--out", file.to_str().unwrap()], &filter[..]].concat();
    house.run(&export).with(0);
    house.run(&export).refused(1, "FILE_REFUSED");
    let lines = std::fs::read_to_string(&file).unwrap();
    let event: serde_json::Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(event["event"]["reasonCode"], "BINDING_NARROWED");
    assert_eq!(event["event"]["actor"], "spiffe://dev.legate/legate/operator/dev");
}
