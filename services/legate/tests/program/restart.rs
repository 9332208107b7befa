//! The power fails: `legate dev` is killed, and raised again over the same directory.

use crate::house::{AGENT, House, eventually};

#[test]
fn everything_that_was_acknowledged_is_there_after_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("dev");
    let bot = home.path().join("bot");
    let bot_text = bot.to_str().unwrap().to_owned();

    let house = House::raise(&dir);
    house.declare();
    house.enrol(&bot);
    let issue = ["token", "issue", "--identity", &bot_text, "--audience", "https://invoices.example.com"];
    house.run(&issue).with(0);
    let before = house.run(&["agent", "get", AGENT, "-o", "json"]).json();
    let credentials = house.run(&["credential", "list", "-o", "json"]).json();
    let kept = home.path().join("checkpoint");
    std::fs::write(&kept, house.run(&["audit", "checkpoint", "-o", "name"]).with(0)).unwrap();
    let ca = std::fs::read(dir.join("ca.pem")).unwrap();
    // The last word before the end: acknowledged, so never lost.
    house.run(&["agent", "suspend", AGENT, "--reason", "odd reads"]).with(0);
    house.kill();

    let house = House::raise(&dir);
    assert_eq!(std::fs::read(dir.join("ca.pem")).unwrap(), ca);
    let after = house.run(&["agent", "get", AGENT, "-o", "json"]).json();
    assert_eq!(after["agent"]["metadata"]["id"], before["agent"]["metadata"]["id"]);
    assert_eq!(after["agent"]["status"]["state"], "AGENT_STATE_SUSPENDED");
    assert_eq!(house.run(&["credential", "list", "-o", "json"]).json(), credentials);
    house.run(&issue).refused(3, "CALLER_NOT_ACTIVE");
    house.run(&["agent", "resume", AGENT, "--reason", "explained"]).with(0);
    // The suspension's event comes from the outbox, where it waited.
    let suspensions = ["audit", "query", "--type", "agent.suspended", "-o", "name"];
    eventually("the suspension is in the log", || !house.run(&suspensions).with(0).is_empty());
    assert_eq!(house.run(&suspensions).with(0).lines().count(), 1);
    let verified = house.verify(&["--checkpoint", kept.to_str().unwrap()]);
    let verified: serde_json::Value = serde_json::from_str(&verified.with(0)).unwrap();
    assert!(verified["continues"].is_u64(), "{verified}");
}
