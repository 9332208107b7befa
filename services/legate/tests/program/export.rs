//! What is exported is what is declared: every kind, and what nobody answers for any more, with no file lost to another.

use std::path::Path;

use crate::house::{House, MANIFEST, eventually};

const GOVERNED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples/governed.yaml");

/// An operator binding for all namespaces, and one of the same name in a namespace of that name.
const ALIKE: &str = "apiVersion: legate/v1
kind: Namespace
metadata: {name: x}
spec: {}
---
apiVersion: legate/v1
kind: OperatorBinding
metadata: {name: x}
spec: {operators: [joan], role: VIEWER}
---
apiVersion: legate/v1
kind: OperatorBinding
metadata: {name: x, namespace: x}
spec: {operators: [ada], role: EDITOR}
";

fn agent(name: &str, answers: &str) -> String {
    format!(
        "{{\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"payments\"}},\"spec\":{{\"agentClass\":\"invoice-worker\",\
         \"purpose\":\"came with many\",\"environment\":\"DEV\"{answers}}}}}\n"
    )
}

/// The files below a directory.
fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[test]
fn every_kind_and_what_nobody_answers_for_is_exported_and_is_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let alike = write("alike.yaml", ALIKE);
    house.run(&["apply", "-f", MANIFEST, GOVERNED, &alike, "--reason", "all kinds"]).with(0);
    // Found elsewhere, with nobody; and one whose only sponsor has left.
    let stray = write("stray.jsonl", &agent("stray", ""));
    house.run(&["import", "--discovered", &stray, "--reason", "seen"]).with(0);
    let leaver = "\"user:leaver@example.com\"";
    let held = agent("held", &format!(",\"owners\":[{leaver}],\"sponsors\":[{leaver}]"));
    house.run(&["import", "--agents", &write("held.jsonl", &held), "--reason", "hers"]).with(0);
    house.run(&["person", "offboard", "user:leaver@example.com", "--everywhere", "--reason", "left"]).with(0);
    let orphans = ["agent", "list", "--orphaned", "-o", "name"];
    eventually("nobody is accountable for it", || house.run(&orphans).with(0) == "payments/held\n");

    let out = home.path().join("export");
    let dir = out.to_str().unwrap();
    let told = house.run(&["export", "--dir", dir, "-o", "yaml"]).with(0);
    let count: usize = told.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(files(&out), count, "{told}");
    for file in
        ["operatorbinding-x.yaml", "x/operatorbinding-x.yaml", "x/namespace-x.yaml", "payments/agent-stray.yaml"]
    {
        assert!(out.join(file).is_file(), "{file} of {:?}", std::fs::read_dir(&out).unwrap().collect::<Vec<_>>());
    }
    let plan = house.run(&["plan", "-f", dir, "-o", "json"]).json();
    let changes = plan["changes"].as_array().unwrap();
    assert_eq!(changes.len(), count);
    assert!(changes.iter().all(|c| c["action"] == "CHANGE_ACTION_UNCHANGED"), "{plan}");
    let kinds: std::collections::BTreeSet<&str> = changes.iter().map(|c| c["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.len(), 19, "{kinds:?}");
    let applied = house.run(&["apply", "-f", dir, "--reason", "the way back", "-o", "table"]).with(0);
    assert!(applied.contains("0 created, 0 changed, "), "{applied}");
    assert_eq!(house.run(&orphans).with(0), "payments/held\n");

    // Whoever changes such an agent has to say who answers for it.
    let file = out.join("payments/agent-stray.yaml");
    let text = std::fs::read_to_string(&file).unwrap().replace("came with many", "reads mail");
    std::fs::write(&file, text).unwrap();
    let ended = house.run(&["plan", "-f", dir]);
    assert!(ended.err.contains("Agent payments/stray: spec.owners"), "{ended:?}");
    ended.refused(1, "AGENT_OWNER_MISSING");
    // Nothing is overwritten, whatever it is.
    house.run(&["export", "--dir", dir, "-o", "yaml"]).refused(1, "FILE_REFUSED");
}
