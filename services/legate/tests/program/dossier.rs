//! The dossier of an agent and the report on its namespace, as an auditor uses them: made, carried away, verified, read.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use legate_clock::{Clock as _, SystemClock};
use serde_json::Value;

use crate::house::{AGENT, House, done, eventually, legate};
use crate::lives::{appoint, operator};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The files of a pack, by any program's way of reading tar.
fn files(pack: &Path) -> BTreeMap<String, String> {
    let bytes = std::fs::read(pack).unwrap();
    let (mut at, mut found) = (0, BTreeMap::new());
    while bytes[at] != 0 {
        let name: Vec<u8> = bytes[at..at + 100].iter().copied().take_while(|b| *b != 0).collect();
        let size = std::str::from_utf8(&bytes[at + 124..at + 135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        let body = bytes[at + 512..at + 512 + size].to_vec();
        found.insert(String::from_utf8(name).unwrap(), String::from_utf8_lossy(&body).into_owned());
        at += 512 + size.div_ceil(512) * 512;
    }
    found
}

fn document(pack: &Path, name: &str) -> Value {
    serde_json::from_str(&files(pack)[name]).unwrap()
}

fn section<'a>(of: &'a Value, id: &str) -> &'a Value {
    of["sections"].as_array().unwrap().iter().find(|section| section["id"] == id).unwrap()
}

/// The text under a label of the first item in which some text stands.
fn cell(section: &Value, with: &str, label: &str) -> String {
    let items = section["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["cells"].to_string().contains(with));
    let item = item.unwrap_or_else(|| panic!("no {with}: {section}"));
    let cells = item["cells"].as_array().unwrap();
    let cell = cells.iter().find(|cell| cell["label"] == label).unwrap_or_else(|| panic!("no {label}: {item}"));
    cell["text"].as_str().unwrap().to_owned()
}

/// Whether a decision that ended so is in the counts.
fn decided(house: &House, outcome: &str) -> bool {
    let line = ["audit", "usage", "--agent", AGENT, "--outcome", outcome, "-o", "name"];
    !house.run(&line).with(0).is_empty()
}

const GOVERNED: &str = r#"
apiVersion: legate/v1
kind: Boundary
metadata: {name: europe, namespace: payments}
spec: {description: '<script>alert("x")</script>', regions: [eu-central-1], regimes: [GDPR], groups: [bots]}
---
apiVersion: legate/v1
kind: Group
metadata: {name: bots, namespace: payments}
spec: {selector: 'environment = dev OR environment = test OR environment = prod'}
---
apiVersion: legate/v1
kind: ReviewCampaign
metadata: {name: yearly, namespace: payments}
spec: {reviewers: NAMED, namedReviewers: ["operator:second"], due: 14d, grace: 0s}
---
apiVersion: legate/v1
kind: DelegationGrant
metadata: {name: for-ada, namespace: payments}
spec:
  delegator: user:ada@example.com
  delegate: invoice-bot
  permissions: ['invoice:read on Invoice:apollo/*']
  purpose: 'reads & files </td>'
  notAfter: "2099-01-01T00:00:00Z"
"#;

#[test]
fn a_dossier_tells_what_was_and_says_what_can_be_told_of_now_only() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let file = |name: &str| home.path().join(name);
    std::fs::write(file("governed.yaml"), GOVERNED).unwrap();
    house.run(&["apply", "-f", text(&file("governed.yaml")), "--reason", "<b>a reason</b>"]).with(0);
    house.enrol(&file("bot"));
    let check = ["check", "--agent", AGENT, "--action", "invoice:read", "--resource"];
    let region = ["--attributes", r#"{"region": "eu-central-1", "regime": "GDPR"}"#];
    house.run(&[&check[..], &["Invoice:apollo/1"], &region].concat()).with(0);
    house.run(&[&check[..], &["Invoice:zeus/7"], &region].concat()).with(3);

    // Somebody decides about it.
    let (cert, key) = operator(&house, "second");
    appoint(&house, "second", "payments", "APPROVER");
    let as_second = |line: &[&str]| {
        let mut command: Command = house.command(line);
        done(command.env("LEGATE_CERT", &cert).env("LEGATE_KEY", &key))
    };
    let review = house.run(&["review", "start", "payments/yearly", "--reason", "it is time", "-o", "name"]).with(0);
    let review = review.trim();
    let open = || house.run(&["review", "list", "--open", "-o", "table"]).with(0).contains("OPEN");
    eventually("the round is open", open);
    let decide =
        ["review", "decide", review, "--pending", "--decision", "certify", "--reason", "still needed", "--yes"];
    as_second(&decide).with(0);
    let agent = house.run(&["agent", "get", AGENT, "-o", "json"]).json();
    let before = agent["revision"].as_str().unwrap().to_owned();
    let moment = SystemClock::new().now().to_string();

    house.run(&["agent", "suspend", AGENT, "--reason", "odd reads"]).with(0);
    let suspended = || {
        let found = house.run(&["audit", "query", "--agent", AGENT, "--type", "agent.suspended", "-o", "json"]).json();
        found["events"].is_array()
    };
    eventually("the suspension is in the log", suspended);
    let make = |out: &Path, more: &[&str]| house.run(&[&["dossier", "--agent", AGENT, "-f", text(out)], more].concat());
    let (then, now) = (file("then.tar"), file("now.tar"));
    let heard = || house.run(&["agent", "usage", AGENT, "-o", "table"]).with(0).contains("evidence from");
    eventually("the log is heard", heard);
    eventually("both decisions are counted", || decided(&house, "success") && decided(&house, "denied"));
    make(&then, &["--as-of", &moment]).with(0);
    make(&now, &[]).with(0);
    make(&now, &[]).refused(1, "FILE_REFUSED");
    for bad in [&["--as-of", "yesterday"][..], &["--as-of", "2099-01-01T00:00:00Z"]] {
        let ended = make(&file("never.tar"), bad);
        assert!(matches!(ended.code, Some(1 | 4)) && !file("never.tar").exists(), "{ended:?}");
    }
    assert!(!file("never.tar.events").exists(), "nothing is left lying about");

    let (was, is) = (document(&then, "dossier.json"), document(&now, "dossier.json"));
    assert_eq!((was["asOf"]["revision"].to_string(), was["asOf"]["isNow"].as_bool()), (before.clone(), Some(false)));
    let state = |of: &Value| cell(section(of, "configuration"), "\"state\"", "is");
    assert!(state(&was).starts_with("ACTIVE"), "{}", state(&was));
    assert!(state(&is).starts_with("SUSPENDED") && state(&is).contains("odd reads"), "{}", state(&is));
    assert_eq!(section(&was, "authority")["told"], "as-of");
    let reads = cell(section(&was, "authority"), "invoice:read", "CAN");
    assert_eq!(reads, "depends", "on the region");
    assert!(section(&is, "authority")["note"].as_str().unwrap().contains("It did not work then"));
    assert_eq!(
        cell(section(&was, "boundaries"), "europe", "applies because"),
        "it names the group bots, which selects the agent"
    );
    assert_eq!(cell(section(&was, "delegations"), "for-ada", "other"), "user:ada@example.com");
    assert_eq!(cell(section(&was, "people"), "sponsor", "standing"), "no departure is on record");
    let credential = cell(section(&was, "credentials"), "X509_SVID", "fingerprint (SHA-256)");
    let listed = house.run(&["credential", "list", "--agent", AGENT, "-o", "json"]).json();
    assert_eq!(listed["credentials"][0]["x5tS256"], credential.as_str());
    assert_eq!(cell(section(&was, "reviews"), "still needed", "decision"), "CERTIFY");
    assert_eq!(section(&was, "drift")["told"], "now");
    let counted = |of: &Value, ended: &str| cell(section(of, "decisions"), ended, "count");
    assert_eq!((counted(&is, "allowed"), counted(&is, "denied")), ("1".into(), "1".into()));
    // What came after the moment is in the one and not in the other.
    let changed = |of: &Value| section(of, "changes")["items"].to_string().contains("odd reads");
    assert!(changed(&is) && !changed(&was), "{}", section(&was, "changes"));
    assert!(is["log"]["heard"].as_str().unwrap().starts_with("evidence from"), "{}", is["log"]);

    // Everything that was written cites the event that tells of it, and the event is there.
    let leaves: Vec<String> = files(&then)["events.jsonl"]
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["leafIndex"].as_str().unwrap_or("0").to_owned()
        })
        .collect();
    for id in ["class", "rests-on", "boundaries", "delegations", "credentials", "reviews"] {
        for item in section(&was, id)["items"].as_array().unwrap() {
            let cited = item["events"].as_array().unwrap_or_else(|| panic!("{id} cites nothing: {item}"));
            assert!(cited.iter().all(|event| leaves.contains(&event["leaf"].to_string())), "{id}: {cited:?}");
        }
    }
    // What others wrote is text.
    let page = &files(&then)["dossier.html"];
    assert!(
        page.contains("&lt;script&gt;") && page.contains("&lt;b&gt;a reason&lt;/b&gt;") && !page.contains("<script")
    );

    // Making it is on record, as what it is.
    let made = || house.run(&["audit", "query", "--type", "log.evidence_made", "-o", "json"]).json();
    eventually("it is on record", || made()["events"][0]["event"]["details"]["kind"] == "dossier");
    let key_file = file("log.pub");
    std::fs::copy(house.log_key(), &key_file).unwrap();
    // Who may not read the agent has no dossier.
    let (cert, key) = operator(&house, "stranger");
    let mut strange = house.command(&["dossier", "--agent", AGENT, "-f", text(&file("strange.tar"))]);
    let ended = done(strange.env("LEGATE_CERT", &cert).env("LEGATE_KEY", &key));
    assert!(ended.code != Some(0) && !file("strange.tar").exists(), "{ended:?}");
    drop(house);

    let verify =
        |pack: &Path, more: &[&str]| done(legate().args(["verify", text(pack), "--key", text(&key_file)]).args(more));
    let told = verify(&then, &["-o", "json"]).json();
    assert_eq!((told["verified"].as_bool(), told["about"]["agent"].as_str()), (Some(true), Some("invoice-bot")));
    assert_eq!(told["asOf"]["revision"].to_string(), before);
    assert!(verify(&now, &["-o", "table"]).with(0).contains("the dossier of payments/invoice-bot"));
    let good = std::fs::read(&then).unwrap();
    for n in 0..48_usize {
        let mut bad = good.clone();
        // Spread over the file; 7,919 is prime.
        let at = (n * good.len() / 48 + n * 7_919) % good.len();
        bad[at] ^= 1 << (n % 8);
        std::fs::write(file("bad.tar"), bad).unwrap();
        let ended = verify(&file("bad.tar"), &["-o", "json"]);
        assert!(matches!(ended.code, Some(6 | 1)), "byte {at}: {ended:?}");
        if ended.code == Some(6) {
            let told: Value = serde_json::from_str(&ended.out).unwrap();
            assert!(!told["place"].as_str().unwrap().is_empty(), "byte {at}: {told}");
        }
    }
}

#[test]
fn a_report_says_what_there_is_what_is_missing_and_what_nobody_can_know() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let file = |name: &str| home.path().join(name);
    std::fs::write(file("governed.yaml"), GOVERNED).unwrap();
    house.run(&["apply", "-f", text(&file("governed.yaml")), "--reason", "governed"]).with(0);
    house.enrol(&file("bot"));
    house.run(&["check", "--agent", AGENT, "--action", "invoice:read", "--resource", "Invoice:zeus/7"]).with(3);
    let issued = || {
        let found =
            house.run(&["audit", "query", "--agent", AGENT, "--type", "credential.issued", "-o", "json"]).json();
        found["events"].is_array()
    };
    eventually("the certificate is in the log", issued);
    eventually("the denial is counted", || decided(&house, "denied"));
    let pack = file("payments.tar");
    let make = |namespace: &str, out: &Path| house.run(&["report", "--namespace", namespace, "-f", text(out)]);
    make("payments", &pack).with(0);
    make("nowhere", &file("none.tar")).refused(1, "USAGE");
    make("No", &file("none.tar")).refused(1, "USAGE");
    assert!(!file("none.tar").exists());

    let told = document(&pack, "report.json");
    let count = |id: &str| cell(section(&told, "evidence"), &format!("\"{id}\""), "count");
    assert_eq!(
        (count("agents"), count("boundaries-of-regions"), count("grants")),
        ("1".into(), "1".into(), "1".into())
    );
    assert_eq!(
        (count("decisions-denied"), count("credentials-issued"), count("review-rounds")),
        ("1".into(), "1".into(), "0".into())
    );
    assert_eq!(cell(section(&told, "evidence"), "boundaries-with-regimes", "note"), "GDPR");
    let hipaa = section(&told, "hipaa");
    assert!(cell(hipaa, "(a)(4)(ii)(C)", "missing").contains("review-rounds"), "{hipaa}");
    assert!(cell(hipaa, "(a)(4)(ii)(C)", "evidence that exists").contains("access-changed"), "{hipaa}");
    assert!(cell(section(&told, "soc2"), "CC6.4", "evidence that exists").contains("holds nothing"));
    for id in ["gdpr", "hipaa", "soc2", "iso-42001", "eu-ai-act"] {
        for item in section(&told, id)["items"].as_array().unwrap() {
            assert!(!item["object"]["cannotKnow"].as_str().unwrap().is_empty(), "{item}");
        }
    }
    let page = &files(&pack)["report.html"];
    assert!(!page.split_once("</style>").unwrap().1.contains('%'), "nothing is scored");
    let told = done(legate().args(["verify", text(&pack), "--key", text(&house.log_key()), "-o", "json"])).json();
    assert_eq!((told["verified"].as_bool(), told["about"]["namespace"].as_str()), (Some(true), Some("payments")));
    // The commands that it names show the same.
    let command =
        |id: &str| cell(section(&document(&pack, "report.json"), "evidence"), &format!("\"{id}\""), "to see it");
    for id in ["agents", "agents-with-data", "roles", "access-changed", "decisions-denied", "drift", "log"] {
        let line = command(id);
        let mut words: Vec<String> = Vec::new();
        for (n, part) in line.split('\'').enumerate() {
            match n % 2 {
                0 => words.extend(part.split_whitespace().map(str::to_owned)),
                _ => words.push(part.to_owned()),
            }
        }
        let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        house.run(&words).with(0);
    }
}
