//! The readme's own commands, in their order, typed into a shell.

use std::path::Path;
use std::process::Command;

use crate::house::{Ended, House, done, eventually};

const README: &str = include_str!("../../../../README.md");

/// The commands of the section's blocks, without those that build and raise the suite.
fn commands() -> Vec<String> {
    let section = README.split("## Try it by hand").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|b| b.split("```").next().unwrap());
    let lines = blocks.skip(1).flat_map(str::lines).filter(|l| !l.trim().is_empty());
    lines.map(|l| l.split(" #").next().unwrap().trim().to_owned()).collect()
}

/// What a line has to end with.
fn expected(line: &str) -> i32 {
    if line.contains("zeus") { 3 } else { 0 }
}

#[test]
fn the_readme_is_true_line_by_line() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join(".legate-dev"));
    let commands = commands();
    assert!(commands.len() >= 12, "{commands:?}");
    let mut script = String::from("source ~/.legate-dev/env\n");
    for line in &commands {
        script += &format!("{line}\necho \"exit $?: {}\"\n", line.replace(['"', '$', '`', '\\'], ""));
    }
    let work = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").canonicalize().unwrap();
    std::os::unix::fs::symlink(root, work.path().join("deploy")).unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_legate")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-u", "-c", &script]).current_dir(work.path()).env("HOME", home.path()).env("PATH", path);
    let ended: Ended = done(&mut shell);
    let exits: Vec<&str> = ended.out.lines().filter(|l| l.starts_with("exit ")).collect();
    assert_eq!(exits.len(), commands.len(), "{ended:?}");
    for (line, exit) in commands.iter().zip(exits) {
        assert!(exit.starts_with(&format!("exit {}: ", expected(line))), "{exit}\n{ended:?}");
    }
    // The record tells what the commands did. What happened last may have come after it was asked.
    for event in ["agent.created", "credential.issued", "token.issued", "decision.made", "agent.suspended"] {
        let ask = ["audit", "query", "--agent", "payments/invoice-bot"];
        eventually(event, || house.run(&ask).with(0).contains(event));
    }
    assert!(ended.out.contains("\"verified\": true"), "{}", ended.out);
    drop(house);
}
