//! An access review from the command line: asked, seen with how things were used, decided, closed, verified and exported.

use std::process::Command;

use crate::earlier::earlier;
use crate::house::{AGENT, House, MANIFEST, done, eventually};
use crate::lives::{appoint, operator};

const CAMPAIGN: &str = "\
apiVersion: legate/v1
kind: ReviewCampaign
metadata: {name: yearly, namespace: payments}
spec: {reviewers: NAMED, namedReviewers: [\"operator:second\"], due: 14d, grace: 0s}
---
apiVersion: legate/v1
kind: Role
metadata: {name: idle, namespace: payments}
spec: {description: '=cmd', permissions: ['invoice:list on Invoice:*', 'invoice:print on Invoice:*']}
---
apiVersion: legate/v1
kind: RoleBinding
metadata: {name: never-used, namespace: payments}
spec: {role: idle, agents: [invoice-bot]}
";

#[test]
fn a_review_is_asked_decided_closed_and_verified() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("dev");
    let manifest = home.path().join("campaign.yaml");
    std::fs::write(&manifest, CAMPAIGN).unwrap();
    // Silence says something only of what was there for long enough.
    earlier(&dir, 20, |run| {
        run(&["apply", "-f", MANIFEST, "--reason", "a start"]).with(0);
        run(&["apply", "-f", manifest.to_str().unwrap(), "--reason", "=HYPERLINK(\"x\")"]).with(0);
    });
    let house = House::raise(&dir);
    let (cert, key) = operator(&house, "second");
    appoint(&house, "second", "payments", "APPROVER");
    let as_second = |line: &[&str]| {
        let mut command: Command = house.command(line);
        done(command.env("LEGATE_CERT", &cert).env("LEGATE_KEY", &key))
    };
    let check = ["check", "--agent", AGENT, "--action", "invoice:read", "--resource", "Invoice:apollo/1001"];
    house.run(&check).with(0);

    let other = home.path().join("other.yaml");
    std::fs::write(
        &other,
        "\
apiVersion: legate/v1
kind: ReviewCampaign
metadata: {name: other, namespace: payments}
spec: {reviewers: SPONSORS, due: 14d}
",
    )
    .unwrap();
    let planned = house.run(&["plan", "-f", other.to_str().unwrap(), "-o", "table"]).with(0);
    assert!(planned.contains("Review campaign payments/other: it names no escalation"), "{planned}");
    let campaign = house.run(&["review", "campaign", "get", "payments/yearly", "-o", "yaml"]).with(0);
    assert!(campaign.contains("kind: ReviewCampaign"), "{campaign}");
    house.run(&["review", "start", "payments/nothing", "--reason", "x"]).refused(1, "OBJECT_NOT_FOUND");
    let review = house.run(&["review", "start", "payments/yearly", "--reason", "it is time", "-o", "name"]).with(0);
    let review = review.trim();
    let listed = || house.run(&["review", "list", "--open", "-o", "table"]).with(0);
    eventually("the round is open", || listed().contains("OPEN"));
    assert!(listed().contains("[----------] 0/"), "{}", listed());

    // A decision is in the log a step after it was made.
    let show = |flags: &[&str]| house.run(&[&["review", "show", review, "--since", "10d"], flags].concat());
    let wide = ["-o", "wide"];
    eventually("a use is counted", || show(&wide).with(0).contains("1 use, last "));
    let told = show(&wide).with(0);
    assert!(told.contains("never since ") && told.contains("first time"), "{told}");
    assert!(told.contains("legate what-can --agent payments/invoice-bot"), "{told}");
    assert!(told.contains("operator:second"), "{told}");
    let items: serde_json::Value = show(&["--granted", "never-used", "-o", "json"]).json();
    let item = &items["items"][0];
    assert_eq!(item["evidence"]["isUnused"], true, "{item}");
    assert!(item["drift"][0].as_str().unwrap().contains("invoice:list on Invoice:*"), "{item}");

    let unused = ["review", "decide", review, "--all-unused", "--since", "10d", "--decision", "revoke"];
    house
        .run(&["review", "decide", review, "rvi_1", "--decision", "certify", "--reason", "x"])
        .refused(1, "INVALID_ARGUMENT");
    let hostile = ["review", "start", "payments/yearly", "--reason", "a\u{1b}[2Jb"];
    house.run(&hostile).refused(1, "INVALID_ARGUMENT");
    // Who is not asked has nothing to decide about.
    let none = house.run(&[unused.as_slice(), &["--dry-run", "-o", "name"]].concat()).with(0);
    assert_eq!(none, "");
    let would = as_second(&[unused.as_slice(), &["--dry-run", "-o", "table"]].concat()).with(0);
    assert!(would.contains("never-used") && would.contains("REVOKE"), "{would}");
    let silent = [unused.as_slice(), &["--reason", "unused"]].concat();
    // Nobody is asked at a terminal, so it is shown and left.
    let shown = as_second(&silent);
    assert!(shown.code == Some(1) && shown.err.contains("error: USAGE: nothing is decided yet"), "{shown:?}");
    assert!(shown.err.contains("never-used") && shown.err.contains("never since "), "{shown:?}");
    as_second(&[silent.as_slice(), &["--yes"]].concat()).with(0);
    let rest = ["review", "decide", review, "--pending", "--decision", "certify", "--reason", "=1+1", "--yes"];
    as_second(&rest).with(0);
    assert!(listed().contains("[##########]"), "{}", listed());

    let close = ["review", "close", review];
    let preview = house.run(&[close.as_slice(), &["--dry-run", "-o", "table"]].concat()).with(0);
    assert!(preview.contains("never-used"), "{preview}");
    let finally = [close.as_slice(), &["--reason", "all decided"]].concat();
    as_second(&finally).refused(3, "SOLE_REVIEWER");
    let closed = house.run(&[finally.as_slice(), &["-o", "table"]].concat()).with(0);
    assert!(closed.contains("CLOSED") && closed.contains("as was decided, 0 otherwise"), "{closed}");
    house.run(&["binding", "get", "payments/never-used"]).refused(1, "OBJECT_NOT_FOUND");
    house.run(&check).with(0);
    // It is policy-decision that says so, whoever has it look.
    as_second(&["review", "verify", review]).with(0);
    let items: serde_json::Value = show(&["-o", "json"]).json();
    let by = items["items"][0]["verification"]["verifiedBy"].as_str().unwrap();
    assert!(by.ends_with("/legate/policy-decision"), "{items}");
    assert_eq!(house.run(&["review", "list", "--unverified", "-o", "name"]).with(0), "");

    let csv = house.run(&["review", "export", review, "--as", "csv"]).with(0);
    assert!(csv.starts_with("\"item\",") && csv.contains("\"'=HYPERLINK("), "{csv}");
    assert!(csv.contains("\"'=1+1\"") && !csv.contains("\"=") && !csv.contains(",="), "{csv}");
    let file = home.path().join("items.jsonl");
    let file = file.to_str().unwrap();
    house.run(&["review", "export", review, "--out", file]).with(0);
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].is_string()));
    house.run(&["review", "export", review, "--out", file]).refused(1, "FILE_REFUSED");
    // What differs since is found out, and has a number of its own.
    house.run(&["apply", "-f", manifest.to_str().unwrap(), "--reason", "back again"]).with(0);
    let differs = house.run(&["review", "verify", review, "-o", "table"]);
    assert!(differs.code == Some(6) && differs.err.contains("never-used"), "{differs:?}");
}
