//! Operators and their roles, by the program's verbs.

use std::process::Command;

use crate::house::{AGENT, House, done};
use crate::lives::{appoint, operator};

#[test]
fn an_operator_sees_who_he_is_and_breaks_the_glass_where_he_may() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    assert_eq!(house.run(&["whoami", "-o", "name"]).with(0), "ADMIN everywhere\n");
    let own = house.run(&["whoami", "-o", "json"]).json();
    assert_eq!((own["operator"].as_str(), own["roles"][0]["binding"].as_str()), (Some("dev"), Some("bootstrap")));

    let (cert, key) = operator(&house, "night");
    let as_night = |line: &[&str]| {
        let mut command: Command = house.command(line);
        done(command.env("LEGATE_CERT", &cert).env("LEGATE_KEY", &key))
    };
    let suspend = ["agent", "suspend", AGENT, "--reason", "exfiltrates"];
    let broken = [suspend.as_slice(), &["--break-glass", "INC-4711: on call alone"]].concat();
    let told = as_night(&["whoami", "-o", "table"]).with(0);
    assert!(told.contains("operator/night has no role"), "{told}");
    let told = as_night(&["doctor", "-o", "table"]);
    assert!(told.code == Some(1) && told.out.contains("not ok  what you may do"), "{told:?}");
    as_night(&["agent", "get", AGENT]).refused(1, "AGENT_NOT_FOUND");
    as_night(&suspend).refused(3, "OPERATOR_NOT_PERMITTED");
    as_night(&broken).refused(3, "BREAK_GLASS_REFUSED");

    appoint(&house, "night", "payments", "BREAK_GLASS");
    as_night(&suspend).refused(3, "OPERATOR_NOT_PERMITTED");
    as_night(&broken).with(0);
    // The log is a step behind the registry.
    let glass = ["audit", "query", "--type", "operator.broke_glass", "-o", "json"];
    let told = || house.run(&glass).with(0).contains("INC-4711");
    assert!((0..200).any(|_| told()), "the emergency is not in the log");
    as_night(&["whoami", "--break-glass", "caf\u{e9}"]).refused(1, "INVALID_ARGUMENT");
}
