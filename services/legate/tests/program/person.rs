//! A person leaves, by the program's verbs: looked at first, done, killed in the middle, found, mended, taken back.

use std::fmt::Write as _;

use crate::house::{AGENT, House, eventually};

const GRACE: &str = "user:grace@example.com";
const JOAN: &str = "user:joan@example.com";
/// Agents that she sponsors, of which every third has no manager.
const AGENTS: usize = 900;

fn agents() -> String {
    let mut lines = String::new();
    for n in 0..AGENTS {
        let manager = if n % 3 == 0 { String::new() } else { format!(r#","manager":"{JOAN}""#) };
        let spec = format!(
            r#"{{"agentClass":"invoice-worker","purpose":"counts","environment":"TEST","owners":["user:ada@example.com"],"sponsors":["{GRACE}"]{manager}}}"#
        );
        writeln!(lines, r#"{{"metadata":{{"name":"m-{n}","namespace":"payments"}},"spec":{spec}}}"#).unwrap();
    }
    lines
}

#[test]
fn a_person_leaves_and_a_kill_in_the_middle_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("dev");
    let house = House::raise(&dir);
    house.declare();
    let file = home.path().join("agents.jsonl");
    std::fs::write(&file, agents()).unwrap();
    house.run(&["import", "--agents", file.to_str().unwrap(), "--reason", "many"]).with(0);

    let offboard = ["person", "offboard", GRACE, "--everywhere"];
    let told = house.run(&[offboard.as_slice(), &["--dry-run", "-o", "json"]].concat()).json();
    assert_eq!(told["preview"]["agentsNamed"], "901");
    assert_eq!(
        (told["preview"]["agentsPassing"].as_str(), told["preview"]["agentsOrphaned"].as_str()),
        (Some("600"), Some("301"))
    );
    assert!(house.run(&["person", "list", "-o", "name"]).with(0).is_empty(), "nothing was changed");
    let told = house.run(&[offboard.as_slice(), &["--reason", "left", "-o", "table"]].concat()).with(0);
    assert!(told.contains("left") && told.contains("the manager of each"), "{told}");
    house.kill();

    let house = House::raise(&dir);
    let departure = || house.run(&["person", "list", "-o", "json"]).json()["departures"][0].clone();
    eventually("the agents have passed on", || departure()["settleTime"].is_string());
    let told = departure();
    assert_eq!((told["agentsPassed"].as_str(), told["agentsOrphaned"].as_str()), (Some("600"), Some("301")), "{told}");
    let count = |line: &[&str]| house.run(&[line, &["--limit", "0", "-o", "name"]].concat()).with(0).lines().count();
    assert_eq!(count(&["agent", "list", "--orphaned"]), 301);
    assert_eq!(count(&["agent", "list", "--sponsor", JOAN]), 600);
    eventually("all of it is in the log, once", || {
        let events = |kind| {
            house.run(&["audit", "query", "--type", kind, "--limit", "0", "-o", "jsonl"]).with(0).lines().count()
        };
        events("agent.passed_on") == 600 && events("agent.orphaned") == 301
    });

    let shown = house.run(&["agent", "get", AGENT, "-o", "table"]).with(0);
    assert!(shown.contains("every sponsor has left"), "{shown}");
    // What is as it was is no news of hers.
    house.run(&["apply", "-f", crate::house::MANIFEST, "--reason", "again"]).with(0);
    house.run(&["agent", "suspend", AGENT, "--reason", "odd"]).with(0);
    house.run(&["agent", "resume", AGENT, "--reason", "fine"]).refused(4, "AGENT_ORPHANED");
    let owner = ["agent", "owner", AGENT];
    house.run(&[owner.as_slice(), &["--add-sponsor", JOAN]].concat()).refused(1, "USAGE");
    house.run(&[owner.as_slice(), &["--remove", "user:nobody", "--reason", "x"]].concat()).refused(1, "USAGE");
    let told =
        house.run(&[owner.as_slice(), &["--add-sponsor", JOAN, "--reason", "joan takes it", "-o", "table"]].concat());
    let told = told.with(0);
    assert!(told.contains(JOAN) && !told.contains(GRACE) && !told.contains("orphaned"), "{told}");
    house.run(&["agent", "resume", AGENT, "--reason", "fine"]).with(0);

    // The last administrator stays; somebody else's departure is nobody's to take back.
    let own = ["person", "offboard", "user:dev", "--everywhere", "--operator", "dev", "--reason", "out"];
    house.run(&own).refused(4, "LAST_ADMINISTRATOR");
    let withdraw = ["person", "withdraw", GRACE, "--everywhere", "--reason", "another Grace"];
    house.run(&withdraw).with(0);
    house.run(&withdraw).refused(1, "DEPARTURE_NOT_FOUND");
    eventually("nobody is flagged any more", || count(&["agent", "list", "--orphaned"]) == 0);
}
