//! Very many objects from a file of lines: all of them, some of them, or none; and agents that were found elsewhere.

use std::fmt::Write as _;
use std::path::Path;

use crate::house::{House, done};

fn agent(name: &str, class: &str) -> String {
    format!(
        "{{\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"payments\"}},\"spec\":{{\"agentClass\":\"{class}\",\
         \"purpose\":\"came with many\",\"environment\":\"DEV\",\"owners\":[\"user:ada@example.com\"],\
         \"sponsors\":[\"user:grace@example.com\"]}}}}"
    )
}

fn write(path: &Path, lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    std::fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn count(house: &House) -> usize {
    house.run(&["agent", "list", "--limit", "0", "-o", "name"]).with(0).lines().count()
}

#[test]
fn lines_are_written_each_for_itself_or_all_or_none() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let file = home.path().join("agents.jsonl");
    let mut lines: Vec<String> = (0..1_200).map(|n| agent(&format!("bot-{n}"), "invoice-worker")).collect();
    let good = write(&file, &lines);
    let ended = house.run(&["import", &good, "--agents", "--reason", "moved", "-o", "table"]);
    assert!(ended.with(0).starts_with("1200 created, 0 changed, 0 unchanged, 0 refused; "));
    assert_eq!(count(&house), 1_201);
    let again = house.run(&["import", &good, "--agents", "--all-or-nothing", "--reason", "moved", "-o", "table"]);
    assert!(again.with(0).starts_with("0 created, 0 changed, 1200 unchanged, 0 refused; "));

    // Wrong lines are named by their numbers; the others are written.
    lines.truncate(3);
    lines.extend(["{\"metadata\":1}".into(), String::new(), "no object".into(), agent("lost", "nowhere")]);
    lines.push(agent("new-bot", "invoice-worker"));
    let mixed = write(&file, &lines);
    let ended = house.run(&["import", &mixed, "--agents", "-o", "json"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let told: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(told["outcomes"][0]["reasonCode"], "REFERENCE_MISSING", "{told}");
    for wanted in [":4:", ":6:", "line 7: REFERENCE_MISSING: ", "1 created, 0 changed, 3 unchanged, 3 refused; "] {
        assert!(ended.err.contains(wanted), "{wanted}: {}", ended.err);
    }
    assert_eq!(count(&house), 1_202);

    // All or nothing: a line that is none is refused here, and one that the registry refuses there.
    lines.push(agent("newer-bot", "invoice-worker"));
    let mixed = write(&file, &lines);
    house.run(&["import", &mixed, "--agents", "--all-or-nothing"]).refused(1, "MANIFEST_INVALID");
    let unknown = write(&file, &[agent("newer-bot", "invoice-worker"), agent("lost", "nowhere")]);
    house.run(&["import", &unknown, "--agents", "--all-or-nothing"]).refused(4, "REFERENCE_MISSING");
    assert_eq!(count(&house), 1_202);
    house.run(&["import", "/nonexistent.jsonl"]).refused(1, "FILE_REFUSED");

    // Whole documents, from standard input.
    let document =
        "{\"apiVersion\":\"legate/v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"from-a-pipe\"},\"spec\":{}}";
    let piped = write(&file, &[document.to_owned()]);
    let mut import = house.command(&["import", "-", "-o", "table"]);
    import.stdin(std::fs::File::open(piped).unwrap());
    assert!(done(&mut import).with(0).starts_with("1 created"));
}

#[test]
fn agents_that_were_found_are_adopted_or_rejected() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let found = |name: &str| agent(name, "invoice-worker").replace("\"owners\":[\"user:ada@example.com\"],", "");
    let file = write(&home.path().join("found.jsonl"), &[found("stray-1"), found("stray-2")]);
    house.run(&["import", "--discovered", &file, "--reason", "seen in the logs"]).with(0);
    let waiting = ["agent", "list", "--state", "pending-approval", "-o", "name"];
    assert_eq!(house.run(&waiting).with(0), "payments/stray-1\npayments/stray-2\n");
    // It obtains nothing.
    let create = ["credential", "create", "--agent", "payments/stray-1", "--reason", "x", "-o", "name"];
    let token = house.run(&create).with(0);
    let out = home.path().join("stray");
    let enrol = ["credential", "enrol", "--token", token.trim(), "--out", out.to_str().unwrap()];
    house.run(&enrol).refused(4, "HOLDER_NOT_ACTIVE");
    house.run(&["agent", "approve", "payments/stray-1", "--reason", "x"]).refused(4, "AGENT_STATE_WRONG");
    let adopt = [
        "agent",
        "adopt",
        "payments/stray-1",
        "--owner",
        "user:ada@example.com",
        "--sponsor",
        "user:grace@example.com",
    ];
    let adopted = house.run(&[&adopt[..], &["--reason", "ours", "-o", "json"]].concat()).json();
    assert_eq!(adopted["agent"]["status"]["state"], "AGENT_STATE_ACTIVE");
    assert_eq!(adopted["agent"]["status"]["sanctionedStatus"], "SANCTIONED_STATUS_SANCTIONED");
    house.run(&["agent", "reject", "payments/stray-2", "--reason", "nobody's"]).with(0);
    house.run(&["agent", "reject", "payments/stray-1", "--reason", "nobody's"]).refused(4, "AGENT_STATE_WRONG");
    assert_eq!(house.run(&waiting).with(0), "");
}

#[test]
fn a_trial_tells_line_by_line_and_writes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let found = |name: &str, purpose: &str| agent(name, "invoice-worker").replace("came with many", purpose);
    let mut lines = vec![found("known", "as it is"), found("other", "as it is")];
    let file = home.path().join("found.jsonl");
    house.run(&["import", "--agents", &write(&file, &lines)]).with(0);
    lines[1] = found("other", "as it was seen");
    lines.push(found("stray", "as it was seen"));
    let good = write(&file, &lines);
    let trial = ["import", "--discovered", "--dry-run", &good, "-o", "table"];
    let told = house.run(&trial).with(0);
    for wanted in [
        "line 2: = Agent payments/other is known and left as it is, though it is said to be otherwise\n",
        "    spec.purpose: \"as it is\" -> \"as it was seen\"\n",
        "line 3: + Agent payments/stray would be new\n",
        "1 new, 0 would change, 2 known, 1 of these said to be otherwise and left as they are, 0 refused; nothing is written, ",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert!(!told.contains("payments/known"), "{told}");
    house.run(&[&trial[..], &["--detailed-exitcode"]].concat()).with(2);
    // Declared instead of found, the same line would change what there is.
    let told = house.run(&["import", "--agents", "--dry-run", &good, "-o", "table"]).with(0);
    assert!(told.contains("line 2: ~ Agent payments/other would change\n    spec.purpose: "), "{told}");
    lines.extend(["no object".into(), agent("lost", "nowhere")]);
    let mixed = write(&file, &lines);
    let ended = house.run(&["import", "--discovered", "--dry-run", "--detailed-exitcode", &mixed, "-o", "json"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    for wanted in [":4:", "line 5: REFERENCE_MISSING: ", "1 new, 0 would change, 2 known, 1 of these", ", 2 refused; "]
    {
        assert!(ended.err.contains(wanted), "{wanted}: {}", ended.err);
    }
    let told: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let keys: Vec<&str> = told["outcomes"].as_array().unwrap().iter().map(|o| o["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["2", "3", "5"], "{told}");
    // Nothing was written by any of it; once it is, there is nothing left to do.
    assert_eq!(count(&house), 3);
    let good = write(&file, &lines[..3]);
    house.run(&["import", "--discovered", &good, "--reason", "seen in the logs"]).with(0);
    house.run(&["import", "--discovered", "--dry-run", "--detailed-exitcode", &good]).with(0);
    assert_eq!(count(&house), 4);
    assert_eq!(house.run(&["import", "--dry-run", "--all-or-nothing", &good]).code, Some(1));
}
