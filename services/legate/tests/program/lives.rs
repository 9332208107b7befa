//! An agent's whole life, and objects that are taken back, by the program's verbs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use legate_clock::{Clock, SystemClock};
use legate_ids::SpiffeId;
use legate_mtls::pki::{Ca, Leaf, write_private, write_public};

use crate::house::{AGENT, Ended, House, MANIFEST, done, eventually};

/// Gives an operator a role in a namespace.
pub(crate) fn appoint(house: &House, name: &str, namespace: &str, role: &str) {
    let manifest = house.dir.join(format!("{name}.yaml"));
    let text = format!(
        "apiVersion: legate/v1\nkind: OperatorBinding\nmetadata: {{name: of-{name}, namespace: {namespace}}}\n\
         spec: {{operators: [{name}], role: {role}}}\n"
    );
    std::fs::write(&manifest, text).unwrap();
    house.run(&["apply", "-f", manifest.to_str().unwrap(), "--reason", "a role for him"]).with(0);
}

/// Another operator's certificate and key, by the suite's own CA.
pub(crate) fn operator(house: &House, name: &str) -> (PathBuf, PathBuf) {
    let read = |file: &str| std::fs::read_to_string(house.dir.join(file)).unwrap();
    let ca = Ca::from_pem(&read("ca.pem"), &read("pki/services-ca.key")).unwrap();
    let id = SpiffeId::parse(&format!("spiffe://dev.legate/legate/operator/{name}")).unwrap();
    let leaf = Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: Duration::from_secs(3_600) };
    let issued = ca.issue(&leaf, SystemClock::new().now()).unwrap();
    let (cert, key) = (house.dir.join(format!("{name}.pem")), house.dir.join(format!("{name}.key")));
    write_public(&cert, &issued.cert_pem).unwrap();
    write_private(&key, &issued.key_pem).unwrap();
    (cert, key)
}

fn state(ended: Ended) -> String {
    let told = ended.json();
    told["agent"]["status"]["state"].as_str().unwrap().trim_start_matches("AGENT_STATE_").to_owned()
}

fn take(house: &House, verb: &str) -> Ended {
    house.run(&["agent", verb, AGENT, "--reason", "a step of its life", "-o", "json"])
}

#[test]
fn an_agent_lives_from_approval_to_its_tombstone() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    let manifest = home.path().join("careful.yaml");
    let text = std::fs::read_to_string(MANIFEST).unwrap();
    write(&manifest, &text.replace("  maxTokenTtl: 300s", "  requiresApproval: true\n  maxTokenTtl: 300s"));
    house.run(&["apply", "-f", manifest.to_str().unwrap(), "--reason", "needs an approver"]).with(0);

    take(&house, "approve").refused(3, "SELF_APPROVAL");
    let (cert, key) = operator(&house, "second");
    let mut approve = house.command(&["agent", "approve", AGENT, "--reason", "looked at", "-o", "json"]);
    done(approve.env("LEGATE_CERT", &cert).env("LEGATE_KEY", &key)).refused(3, "OPERATOR_NOT_PERMITTED");
    appoint(&house, "second", "payments", "APPROVER");
    let mut approve = house.command(&["agent", "approve", AGENT, "--reason", "looked at", "-o", "json"]);
    assert_eq!(state(done(approve.env("LEGATE_CERT", &cert).env("LEGATE_KEY", &key))), "STAGED");
    assert_eq!(state(take(&house, "activate")), "ACTIVE");
    assert_eq!(state(take(&house, "revoke-credentials")), "ACTIVE");
    assert_eq!(state(take(&house, "quarantine")), "QUARANTINED");
    take(&house, "resume").refused(4, "AGENT_STATE_WRONG");
    assert_eq!(state(take(&house, "release")), "SUSPENDED");
    assert_eq!(state(take(&house, "resume")), "ACTIVE");
    let id = house.run(&["agent", "get", AGENT, "-o", "json"]).json()["agent"]["metadata"]["id"].clone();
    assert_eq!(state(take(&house, "retire")), "RETIRED");
    take(&house, "resume").refused(1, "AGENT_NOT_FOUND");

    assert_eq!(house.run(&["agent", "list", "-o", "name"]).with(0), "");
    assert_eq!(house.run(&["agent", "list", "--state", "retired", "-o", "name"]).with(0), format!("{AGENT}\n"));
    let id = id.as_str().unwrap();
    assert_eq!(state(house.run(&["agent", "get", id, "-o", "json"])), "RETIRED");

    // Its history tells all of it, by its id and by its name, and it is read and listed as it was.
    let told = house.run(&["agent", "history", id, "--oldest-first", "-o", "json"]).json();
    let word =
        |entry: &serde_json::Value| entry["action"].as_str().unwrap().trim_start_matches("HISTORY_ACTION_").to_owned();
    let entries = told["entries"].as_array().unwrap();
    assert_eq!(
        entries.iter().map(word).collect::<Vec<_>>().join(" "),
        "CREATED APPROVED ACTIVATED CREDENTIALS_REVOKED QUARANTINED RELEASED RESUMED RETIRED"
    );
    let approved = entries[1]["revision"].as_str().unwrap();
    assert_eq!(state(house.run(&["agent", "get", AGENT, "--as-of", approved, "-o", "json"])), "STAGED");
    let list = |flags: &[&str]| house.run(&[&["agent", "list", "-o", "name"], flags].concat()).with(0);
    assert_eq!(list(&["--as-of", approved, "--owner", "user:ada@example.com"]), format!("{AGENT}\n"));
    assert_eq!(list(&["--as-of", approved, "--filter", "state = active"]), "");
    assert_eq!(list(&["--filter", "state = retired", "--order-by", "create_time desc"]), format!("{AGENT}\n"));
    let table = house.run(&["agent", "history", AGENT, "-o", "table"]).with(0);
    assert!(table.contains("RETIRED by operator/dev") && table.contains("looked at"), "{table}");
    house.run(&["agent", "get", AGENT, "--as-of", "9999"]).refused(1, "REVISION_UNKNOWN");
    house.run(&["agent", "list", "--filter", "colour = red"]).refused(1, "FILTER_INVALID");
    house.run(&["class", "history", "payments/nothing"]).refused(1, "OBJECT_NOT_FOUND");
}

#[test]
fn agents_are_listed_by_what_they_are() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let list = |flags: &[&str]| house.run(&[&["agent", "list", "-o", "name"], flags].concat()).with(0);
    let both = format!("{AGENT}\n");
    for (flags, found) in [
        (&["--owner", "user:ada@example.com", "--class", "invoice-worker"][..], both.as_str()),
        (&["--owner", "user:nobody@example.com"], ""),
        (&["--label", "no-such-label"], ""),
        (&["--dormant", "90d"], ""),
        (&["--dormant", "0s"], &both),
        (&["--expiring", "7d"], ""),
        (&["--filter", "environment = prod OR environment = dev", "--sponsor", "user:nobody@example.com"], ""),
    ] {
        assert_eq!(list(flags), found, "{flags:?}");
    }
    house.run(&["agent", "list", "--dormant", "long"]).refused(1, "USAGE");
    assert_eq!(
        house.run(&["role", "list", "-o", "name", "--filter", "name = \"invoice-*\""]).with(0).lines().count(),
        1
    );
}

#[test]
fn a_lifecycle_policy_is_previewed_declared_and_answered_by_confirming() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let file = home.path().join("tidy.yaml");
    write(
        &file,
        "apiVersion: legate/v1\nkind: LifecyclePolicy\nmetadata: {name: tidy, namespace: payments}\n\
         spec: {mode: ENFORCE, attestEvery: 30d, grace: 5d}\n",
    );
    let file = file.to_str().unwrap();
    let preview = |flags: &[&str]| house.run(&[&["lifecycle-policy", "preview"], flags].concat());
    let told = preview(&["-f", file, "--within", "60d", "-o", "json"]).json();
    assert_eq!(told["impacts"][0]["agent"], "invoice-bot");
    assert_eq!(told["impacts"][0]["action"], "LIFECYCLE_ACTION_SUSPEND");
    let table = preview(&["-f", file, "--within", "60d", "-o", "table"]).with(0);
    assert!(table.contains("would suspend 1 agent, 0 of which acted in the last day; until "), "{table}");
    let none = preview(&["-f", file, "-o", "table"]).with(0);
    assert!(none.contains("nothing would be done; until "), "{none}");
    preview(&["payments/tidy"]).refused(1, "OBJECT_NOT_FOUND");
    preview(&["-f", file, "--as-of", "soon"]).refused(1, "USAGE");

    let list = |flags: &[&str]| house.run(&[&["agent", "list", "-o", "name"], flags].concat()).with(0);
    assert_eq!(list(&["--due", "60d"]), "");
    house.run(&["apply", "-f", file, "--reason", "tidy"]).with(0);
    house.run(&["lifecycle-policy", "list", "-o", "table"]).with(0);
    assert_eq!(preview(&["payments/tidy", "--within", "60d", "-o", "name"]).with(0), format!("{AGENT}\n"));
    house.run(&["agent", "attest", AGENT, "--reason", "needed"]).refused(3, "SELF_APPROVAL");
    house.run(&["agent", "list", "--due", "soon"]).refused(1, "USAGE");
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn what_is_taken_back_is_gone_and_what_is_needed_stays() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let revoke = |noun: &str, name: &str| house.run(&[noun, "revoke", name, "--reason", "no longer"]);
    revoke("role", "payments/invoice-reader").refused(4, "OBJECT_IN_USE");
    revoke("binding", "payments/invoice-bot-reads-apollo").with(0);
    revoke("role", "payments/invoice-reader").with(0);
    house.run(&["role", "get", "payments/invoice-reader"]).refused(1, "OBJECT_NOT_FOUND");
    revoke("namespace", "payments").refused(4, "OBJECT_IN_USE");
    let check = ["check", "--agent", AGENT, "--action", "invoice:read", "--resource", "Invoice:apollo/1", "-o", "name"];
    assert_eq!(house.run(&check).with(3), "NOT_PERMITTED\n");

    let bot = home.path().join("bot");
    house.enrol(&bot);
    let copies = house.run(&["agent", "instances", AGENT, "--state", "live", "-o", "name"]).with(0);
    let copy = copies.trim();
    assert!(copy.starts_with("inst_") && copies.lines().count() == 1, "{copies}");
    let shown = house.run(&["instance", "get", copy, "-o", "table"]).with(0);
    assert!(shown.contains("LIVE") && shown.contains("ENROLMENT_TOKEN enr_"), "{shown}");
    let list = ["credential", "list", "--agent", AGENT, "-o", "name"];
    let credential = house.run(&list).with(0);
    let revoke = ["credential", "revoke", credential.trim(), "--reason", "lost laptop", "--cause", "key-compromise"];
    house.run(&revoke).with(0);
    let bot = bot.to_str().unwrap();
    house
        .run(&["token", "issue", "--identity", bot, "--audience", "https://invoices.example.com"])
        .refused(3, "CALLER_REVOKED");
    let found = house.run(&["credential", "list", "-o", "json"]).json();
    assert_eq!(found["credentials"][0]["revocationReason"], "REVOCATION_REASON_KEY_COMPROMISE");
    // Nothing is left of its instance; to take it back as well is harmless, and stops another copy.
    assert_eq!(house.run(&["instance", "list", "--state", "live", "-o", "name"]).with(0), "");
    let other = home.path().join("other");
    house.enrol(&other);
    let copies = house.run(&["agent", "instances", AGENT, "--state", "live", "-o", "name"]).with(0);
    for copy in [copy, copies.trim()] {
        let told = house.run(&["instance", "revoke", copy, "--reason", "lost as well", "-o", "json"]).json();
        assert_eq!(told["instance"]["state"], "INSTANCE_STATE_REVOKED");
    }
    house
        .run(&["token", "issue", "--identity", other.to_str().unwrap(), "--audience", "https://invoices.example.com"])
        .refused(3, "CALLER_REVOKED");
    house.run(&["instance", "get", "inst_00000000000000000000000000"]).refused(1, "INSTANCE_NOT_FOUND");
    let doctor = house.run(&["doctor", "-o", "table"]).with(0);
    assert!(doctor.contains("the past that is kept") && doctor.contains("for ever"), "{doctor}");
}

#[test]
fn a_manifest_comes_from_standard_input_as_well() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    let mut plan = house.command(&["plan", "-f", "-", "-o", "json"]);
    plan.stdin(std::fs::File::open(MANIFEST).unwrap());
    assert_eq!(done(&mut plan).json()["changes"].as_array().unwrap().len(), 8);
}

#[test]
fn a_class_and_a_namespace_are_stopped_and_go_on() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let check = ["check", "--agent", AGENT, "--action", "invoice:read", "--resource", "Invoice:apollo/1", "-o", "name"];
    for (noun, name, word) in
        [("class", "payments/invoice-worker", "CLASS_SUSPENDED"), ("namespace", "payments", "NAMESPACE_SUSPENDED")]
    {
        let turn = |verb: &str| house.run(&[noun, verb, name, "--reason", "odd calls", "-o", "json"]);
        turn("resume").refused(4, "STANDING_WRONG");
        let told = turn("suspend").json();
        let revision = told["revision"].as_str().unwrap().to_owned();
        let asked: Vec<&str> = check.iter().copied().chain(["--at-least-revision", &revision]).collect();
        assert_eq!(house.run(&asked).with(3), format!("{word}\n"));
        turn("suspend").refused(4, "STANDING_WRONG");
        let shown = house.run(&[noun, "get", name, "-o", "table"]).with(0);
        assert!(shown.contains("SUSPENDED") && shown.contains("odd calls"), "{shown}");
        // What is declared is as it was.
        house.run(&["plan", "-f", MANIFEST, "--detailed-exitcode"]).with(0);
        let told = turn("resume").json();
        let revision = told["revision"].as_str().unwrap().to_owned();
        let asked: Vec<&str> = check.iter().copied().chain(["--at-least-revision", &revision]).collect();
        assert_eq!(house.run(&asked).with(0), "ALLOWED\n");
    }
    house.run(&["role", "suspend", "payments/invoice-reader", "--reason", "x"]).with(1);
}

#[test]
fn a_stop_says_whom_it_touches_and_waits_until_all_have_heard() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let bot = home.path().join("bot");
    house.enrol(&bot);
    let issue = ["token", "issue", "--identity", bot.to_str().unwrap(), "--audience", "https://invoices.example.com"];
    house.run(&issue).with(0);
    let check = ["check", "--agent", AGENT, "--action", "invoice:read", "--resource", "Invoice:apollo/1", "-o", "name"];
    assert_eq!(house.run(&check).with(0), "ALLOWED\n");
    let class = ["--class", "payments/invoice-worker"];

    let dry = [&["stop", "--dry-run", "-o", "table"], &class[..]].concat();
    // The decision is on record at once, and counted when the index has it.
    eventually("the decision is counted", || house.run(&dry).with(0).contains("1 within a day"));
    let seen = house.run(&dry).with(0);
    for line in ["1, of which 1 work now", "1 ACTIVE", "payments/invoice-bot", "1 X509_SVID"] {
        assert!(seen.contains(line), "{line}: {seen}");
    }
    // Nobody is at a terminal to confirm it.
    let unasked = house.run(&[&["stop", "--reason", "x"], &class[..]].concat());
    assert!(unasked.err.contains("would stop") && unasked.err.contains("nothing is stopped yet"), "{}", unasked.err);
    unasked.with(1);
    assert_eq!(house.run(&check).with(0), "ALLOWED\n");
    house.run(&["stop", "--class", "payments/none", "--reason", "x", "--yes"]).refused(1, "OBJECT_NOT_FOUND");
    house.run(&["resume", "--all", "--reason", "x"]).refused(4, "STANDING_WRONG");

    let told = house.run(&[&["stop", "--reason", "exfiltrates", "--yes", "-o", "json"], &class[..]].concat()).json();
    assert_eq!(told["containment"]["contained"], true, "{told}");
    let followers = told["containment"]["followers"].as_array().unwrap();
    assert!(followers.len() == 2 && followers.iter().all(|one| one["state"] == "FOLLOWER_STATE_CONFIRMED"), "{told}");
    assert_eq!(told["touches"]["credentials"]["longestTokenTtl"], "300s", "{told}");
    assert_eq!(house.run(&check).with(3), "AGENT_STOPPED\n");
    house.run(&issue).refused(3, "CALLER_NOT_ACTIVE");
    let listed = house.run(&["stops", "-o", "table"]).with(0);
    assert!(listed.contains("invoice-worker") && listed.contains("exfiltrates"), "{listed}");
    let reached = house.run(&["containment", "-o", "table"]).with(0);
    assert!(reached.contains("CONFIRMED") && reached.contains("CONTAINED"), "{reached}");
    // An agent that was suspended before is so still when the stop is taken back.
    house.run(&["agent", "suspend", AGENT, "--reason", "as well"]).with(0);
    house.run(&[&["resume", "--reason", "explained"], &class[..]].concat()).with(0);
    assert_eq!(house.run(&["stops", "-o", "name"]).with(0), "");
    assert_eq!(house.run(&check).with(3), "AGENT_SUSPENDED\n");
    house.run(&["agent", "resume", AGENT, "--reason", "explained"]).with(0);
    let told = house.run(&["stop", "--all", "--reason", "a drill", "--yes", "-o", "table"]).with(0);
    for line in ["CONFIRMED", "CONTAINED", "outlasts", "certificates of theirs until", "they live 5 min"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    house.run(&["resume", "--all", "--reason", "the drill is over"]).with(0);
    assert_eq!(house.run(&check).with(0), "ALLOWED\n");
}
