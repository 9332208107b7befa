//! A policy from version to version: its history, two texts compared, its tests, and the way back.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::house::{AGENT, House, MANIFEST, eventually};

const POLICY: &str = "payments/agents-in-production";
const READ: [&str; 9] =
    ["check", "--agent", AGENT, "--action", "invoice:read", "--resource", "Invoice:apollo/7", "-o", "name"];

/// Declares the readme's manifest with something in it replaced.
fn declare(house: &House, file: &std::path::Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(MANIFEST).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(file, text.replace(from, to)).unwrap();
    house.run(&["apply", "-f", file.to_str().unwrap(), "--reason", "closed", "--skip-tests", "--wait"]).with(0);
}

#[test]
fn an_earlier_version_comes_back_as_a_new_one() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let file = home.path().join("closed.yaml");
    declare(&house, &file, "principal.environment == \"prod\"", "principal.environment == \"nowhere\"");
    house.run(&READ).with(3);
    let history = house.run(&["policy", "history", POLICY, "-o", "table"]).with(0);
    assert!(history.contains(", version 2: closed") && history.contains(", version 1: first agent"), "{history}");

    // What one text says beside another, in lines and in what agents may do; versions, what is in force, and files.
    let versions = [format!("{POLICY}@1"), format!("{POLICY}@2")];
    let diff =
        |old: &str, new: &str, more: &[&str]| house.run(&[&["policy", "diff", old, new, "-o", "table"], more].concat());
    let closes = diff(&versions[0], POLICY, &["--detailed-exitcode"]).with(2);
    assert!(
        closes
            .contains("-when { principal.environment == \"prod\" };\n+when { principal.environment == \"nowhere\" };"),
        "{closes}"
    );
    assert!(closes.contains("- payments/invoice-bot loses invoice:read on Invoice:apollo/*"), "{closes}");
    let opens = diff(&versions[1], &versions[0], &[]).with(0);
    assert!(opens.contains("+ payments/invoice-bot gains invoice:read on Invoice:apollo/*"), "{opens}");
    let same = diff(POLICY, &versions[1], &["--detailed-exitcode"]).with(0);
    assert!(same.contains("The texts are the same.") && same.contains("nothing changes"), "{same}");
    // What comes to the same is told by its lines alone.
    let other = home.path().join("other.yaml");
    let head =
        "apiVersion: legate/v1\nkind: Policy\nmetadata: {name: other, namespace: payments}\nspec:\n  mode: ENFORCE\n";
    let text = "  cedar: |\n    permit (principal, action, resource) when { 1 == 2 };\n";
    std::fs::write(&other, format!("{head}{text}")).unwrap();
    let told = diff(POLICY, other.to_str().unwrap(), &["--detailed-exitcode"]).with(2);
    assert!(told.contains("+permit (principal, action, resource) when { 1 == 2 };"), "{told}");
    assert!(told.contains("nothing changes"), "{told}");
    let text_only = house.run(&["policy", "diff", POLICY, other.to_str().unwrap(), "--text-only", "-o", "json"]).json();
    assert!(
        text_only["diff"].as_str().unwrap().contains("1 == 2") && text_only.get("preview").is_none(),
        "{text_only}"
    );
    diff(POLICY, MANIFEST, &[]).refused(1, "MANIFEST_INVALID");
    diff(POLICY, &format!("{POLICY}@9"), &[]).refused(1, "USAGE");
    diff(POLICY, "payments/nothing", &[]).refused(1, "OBJECT_NOT_FOUND");

    let back = |more: &[&str]| house.run(&[&["policy", "rollback", POLICY, "-o", "table"], more].concat());
    let dry = back(&["--to", "1", "--reason", "x", "--dry-run"]).with(0);
    assert!(dry.contains("+ payments/invoice-bot gains invoice:read on Invoice:apollo/*"), "{dry}");
    assert!(dry.ends_with("would say what version 1 said. Nothing was written.\n"), "{dry}");
    house.run(&READ).with(3);
    back(&["--to", "9", "--reason", "x"]).refused(1, "USAGE");
    back(&["--to-revision", "99999", "--reason", "x"]).refused(1, "REVISION_UNKNOWN");
    let written = back(&["--to", "1", "--reason", "it closed too much", "--wait"]).with(0);
    assert!(written.contains("version 3 says what version 1 said"), "{written}");
    assert_eq!(house.run(&READ).with(0), "ALLOWED\n");
    let history = house.run(&["policy", "history", POLICY, "-o", "table"]).with(0);
    assert!(history.contains(", version 3: it closed too much"), "{history}");
    let again = back(&["--to", "1", "--reason", "x"]).with(0);
    assert!(again.ends_with("says what version 1 said already. Nothing was written.\n"), "{again}");

    // A test that stands against it stops it, unless somebody says that it shall not.
    let test = home.path().join("test.yaml");
    let case = "{agent: invoice-bot, action: \"invoice:read\", resourceType: Invoice, resourceId: \"apollo/1\", expect: ALLOW}";
    let head =
        "apiVersion: legate/v1\nkind: PolicyTest\nmetadata: {name: reads, namespace: payments}\nspec:\n  cases:\n";
    std::fs::write(&test, format!("{head}    - {case}\n")).unwrap();
    house.run(&["apply", "-f", test.to_str().unwrap(), "--reason", "guard", "--wait"]).with(0);
    house.run(&["policy", "test", "payments/reads"]).with(0);
    house.run(&["policy", "test", "payments/nothing"]).refused(1, "USAGE");
    house.run(&["policy", "test", "reads"]).refused(1, "USAGE");
    house.run(&["policy", "test", "payments/reads", "-f", file.to_str().unwrap()]).refused(1, "POLICY_TEST_FAILED");
    back(&["--to", "2", "--reason", "x"]).refused(1, "POLICY_TEST_FAILED");
    assert_eq!(house.run(&READ).with(0), "ALLOWED\n");
    back(&["--to", "2", "--reason", "known", "--skip-tests", "--wait"]).with(0);
    house.run(&READ).with(3);
    let shown = house.run(&["policy", "get", POLICY, "-o", "json"]).json();
    let reason = shown["declaration"]["policy"]["metadata"]["reason"].as_str().unwrap();
    assert_eq!(reason, "known (policy tests were skipped)");

    // What was taken back is not rolled back.
    house.run(&["policy", "revoke", POLICY, "--reason", "over"]).with(0);
    back(&["--to", "1", "--reason", "x"]).refused(1, "OBJECT_NOT_FOUND");
}

#[test]
fn a_trial_is_counted_and_promoted() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let file = home.path().join("trial.yaml");
    let head =
        "apiVersion: legate/v1\nkind: Policy\nmetadata: {name: trial, namespace: payments}\nspec:\n  mode: LOG_ONLY\n";
    std::fs::write(&file, format!("{head}  cedar: |\n    forbid (principal, action, resource);\n")).unwrap();
    house.run(&["apply", "-f", file.to_str().unwrap(), "--reason", "a trial", "--wait"]).with(0);
    let shadow = |name: &str| house.run(&["policy", "shadow", name, "-o", "table"]).with(0);
    assert!(shadow("payments").starts_with("No policy in LOG_ONLY was evaluated"), "{}", shadow("payments"));
    assert_eq!(house.run(&READ).with(0), "ALLOWED\n");
    let told = shadow("payments/trial");
    assert!(told.contains("payments/trial@1: of 1 decisions since"), "{told}");
    assert!(told.contains("it would have denied 1 that were allowed") && told.contains("  would deny agt_"), "{told}");
    let answer = house.run(&["policy", "shadow", "payments", "-o", "json"]).json();
    let decision = answer["counts"][0]["examples"][0]["decisionId"].as_str().unwrap().to_owned();
    assert!(decision.starts_with("dec_"), "{answer}");
    house.run(&["policy", "shadow", "Payments"]).refused(1, "USAGE");

    let promoted =
        house.run(&["policy", "promote", "payments/trial", "--reason", "good", "--wait", "-o", "table"]).with(0);
    assert!(promoted.contains("- payments/invoice-bot loses invoice:read on Invoice:apollo/*"), "{promoted}");
    assert!(promoted.contains("+// mode: ENFORCE") && promoted.contains("version 2 says what decides"), "{promoted}");
    assert_eq!(house.run(&READ).with(3), "FORBIDDEN_BY_POLICY\n");
    house.run(&["policy", "promote", "payments/trial", "--reason", "x"]).with(0);
}

#[test]
fn a_set_is_tried_on_decisions_as_they_are_made() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("suite"));
    house.declare();
    let file = home.path().join("close.yaml");
    let head = "apiVersion: legate/v1\nkind: Policy\nmetadata: {name: closed, namespace: payments}\nspec:\n";
    let cedar = "forbid (principal, action, resource) when { context has hour && context.hour > 20 };";
    std::fs::write(&file, format!("{head}  mode: ENFORCE\n  cedar: |\n    {cedar}\n")).unwrap();
    let follow = ["plan", "-f", file.to_str().unwrap(), "--shadow", "10m", "-o", "jsonl"];
    let mut following = house.command(&follow).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(following.stdout.take().unwrap()).lines();
    // What the plan says comes first.
    let mut messages =
        lines.map_while(Result::ok).map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap());
    let begun = messages.by_ref().find(|one| one["since"].is_string()).unwrap();
    assert_eq!(begun["decisions"].as_str().unwrap_or("0"), "0", "{begun}");
    assert_eq!(house.run(&READ).with(0), "ALLOWED\n");
    let late = [&READ[..], &["--context", "{\"hour\": 23}"]].concat();
    assert_eq!(house.run(&late).with(0), "ALLOWED\n", "it decides nothing");
    let told = messages.by_ref().find(|one| one["wouldDeny"] == "1" && one["decisions"] == "2").unwrap();
    let example = &told["examples"][0];
    assert_eq!((&example["action"], &example["would"]), (&"invoice:read".into(), &"DECISION_DENY".into()), "{told}");
    assert!(example["decisionId"].as_str().unwrap().starts_with("dec_"));
    following.kill().unwrap();
    following.wait().unwrap();
    // The other one's stream may end a moment later than its process.
    let short = ["plan", "-f", file.to_str().unwrap(), "--shadow", "1s", "-o", "table"];
    eventually("it ends by itself", || {
        let ended = house.run(&short);
        ended.code == Some(0) && ended.out.contains("Tried on 0 decisions since")
    });
    house.run(&["plan", "-f", file.to_str().unwrap(), "--shadow", "2h"]).refused(1, "USAGE");
}
