//! The log's key is rotated as an operator does it, and an auditor who has the first key goes on as if nothing were.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::house::{AGENT, House, done, eventually, legate};

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_auditor_follows_from_the_first_key_through_everything_that_is_made_later() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("dev");
    let file = |name: &str| text(&home.path().join(name));
    let house = House::raise(&dir);
    house.declare();
    std::fs::copy(house.log_key(), file("first")).unwrap();
    std::fs::write(file("kept"), house.run(&["audit", "checkpoint", "-o", "name"]).with(0)).unwrap();
    house.run(&["audit", "evidence", "--agent", AGENT, "--out", &file("before.tar")]).with(0);

    let log = text(&house.log());
    let rotate = ["key", "rotate-log", "--dir", &log, "--reason", "routine"];
    let next = house.run(&rotate).with(0);
    std::fs::write(file("next"), &next).unwrap();
    let waits = house.log().join("log.key.next");
    assert_eq!(waits.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    house.run(&rotate).refused(1, "FILE_REFUSED");
    house.run(&["key", "rotate-log", "--dir", &file("nowhere"), "--reason", "x"]).refused(1, "FILE_REFUSED");
    house.kill();

    let house = House::raise(&dir);
    assert!(!waits.exists());
    assert_eq!(std::fs::read_to_string(house.log_key()).unwrap().trim(), next.trim());
    let first = ["--log-key", &file("first")];
    let run = |line: &[&str]| house.run(&[line, &first[..]].concat());
    let shown = run(&["audit", "query", "--agent", AGENT, "--prove", "-o", "json"]).json();
    assert!(!shown["events"].as_array().unwrap().is_empty());
    let leaf = shown["events"][0]["leafIndex"].as_str().unwrap().to_owned();
    run(&["audit", "checkpoint", "-o", "name"]).with(0);
    let proof = ["--tlog-proof", &file("e.tlog-proof"), "--cose-receipt", &file("e.cose"), "--entry", &file("e.leaf")];
    run(&[&["audit", "prove", &leaf, "-o", "name"][..], &proof].concat()).with(0);
    let make = ["audit", "evidence", "--agent", AGENT, "--out", &file("pack.tar"), "--checkpoint", &file("kept")];
    run(&make).with(0);
    run(&["dossier", "--agent", AGENT, "-f", &file("dossier.tar")]).with(0);

    let verify = |what: &str, key: &str, more: &[&str]| {
        done(legate().args(["verify", &file(what), "--key", &file(key), "-o", "json"]).args(more))
    };
    for key in ["first", "next"] {
        let pack = verify("pack.tar", key, &["--checkpoint", &file("kept")]).json();
        assert_eq!(pack["keysFollowed"], i32::from(key == "first"), "{pack}");
        verify("dossier.tar", key, &[]).with(0);
        verify("e.tlog-proof", key, &["--entry", &file("e.leaf")]).with(0);
    }
    // A receipt carries no rotations, and a pack of before none that were to come.
    verify("e.cose", "next", &["--entry", &file("e.leaf")]).with(0);
    verify("e.cose", "first", &["--entry", &file("e.leaf")]).refused(6, "VERIFICATION_FAILED");
    verify("before.tar", "first", &[]).with(0);
    verify("before.tar", "next", &[]).refused(6, "VERIFICATION_FAILED");

    eventually("the whole log verifies by either key", || {
        ["first", "next"].iter().all(|key| {
            let ended = done(legate().args(["verify", &log, "--key", &file(key), "-o", "json"]));
            ended.code == Some(0) && ended.json()["keyRotations"].as_array().is_some_and(|all| all.len() == 1)
        })
    });
    // Somebody brings the old key back.
    house.kill();
    std::fs::write(dir.join("audit-collector/log/log.key"), "07".repeat(32)).unwrap();
    let config = format!(
        "listen = \"127.0.0.1:0\"\nprobes = \"127.0.0.1:0\"\ndir = {log:?}\n[personal]\ndir = {:?}\nkek = {:?}\n[tls]\ntrust_domain = \"dev.legate\"\ncert = {:?}\n\
         key = {:?}\nservices_ca = {:?}\n",
        dir.join("audit-collector/personal"),
        dir.join("pki/audit-collector.kek"),
        dir.join("audit-collector/tls.pem"),
        dir.join("audit-collector/tls.key"),
        dir.join("ca.pem"),
    );
    std::fs::write(file("collector.toml"), config).unwrap();
    let refused = done(legate().args(["serve", "audit-collector", "--config", &file("collector.toml")]));
    assert!(refused.code != Some(0) && refused.err.contains("bring back the newest log.key"), "{}", refused.err);
}
