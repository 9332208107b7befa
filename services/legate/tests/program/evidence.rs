//! Evidence as its users use it: a pack that is made, carried away and verified; exports that go on; proofs in files.

use std::path::Path;

use crate::house::eventually;
use crate::house::{AGENT, House, done, legate};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_pack_is_verified_by_somebody_who_has_the_key_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let file = |name: &str| home.path().join(name);
    std::fs::write(file("kept"), house.run(&["audit", "checkpoint", "-o", "name"]).with(0)).unwrap();
    house.run(&["agent", "suspend", AGENT, "--reason", "under watch"]).with(0);
    let pack = file("pack.tar");
    let out = text(&pack);
    let make =
        ["audit", "evidence", "--agent", AGENT, "--out", out, "--checkpoint", text(&file("kept")).to_owned().leak()];
    eventually("the suspension is in the pack", || {
        let _old = std::fs::remove_file(&pack);
        house.run(&make).with(0);
        std::fs::read(&pack).unwrap().windows(15).any(|w| w == b"agent.suspended")
    });
    house.run(&make).refused(1, "FILE_REFUSED");
    let key = file("log.pub");
    std::fs::copy(house.log_key(), &key).unwrap();
    let dev = home.path().join("dev");
    let (services, workloads) = (file("services.pem"), file("workloads.pem"));
    std::fs::copy(dev.join("ca.pem"), &services).unwrap();
    std::fs::copy(dev.join("workloads-ca.pem"), &workloads).unwrap();
    // Nothing of the house is there any more, and no service is asked.
    drop(house);
    let verify = |more: &[&str]| done(legate().args(["verify", out]).args(more));
    let told = verify(&["--key", text(&key), "--checkpoint", text(&file("kept")), "-o", "json"]).json();
    assert_eq!((told["verified"].as_bool(), told["keyIsThePacksOwn"].as_bool()), (Some(true), Some(false)), "{told}");
    assert_eq!(told["askedBy"], "spiffe://dev.legate/legate/operator/dev");
    assert!(told["events"].as_u64().unwrap() >= 2 && told["continues"].is_u64(), "{told}");
    assert_eq!(verify(&["-o", "json"]).json()["keyIsThePacksOwn"], true);
    let cas = ["--services-ca", text(&services), "--workloads-ca", text(&workloads)];
    let by = verify(&[&["--key", text(&key), "-o", "json"][..], &cas].concat()).json();
    let signed = by["signedBy"]["spiffe://dev.legate/legate/registry"].as_u64();
    assert!(signed.is_some_and(|signed| signed >= 2) && signed == by["events"].as_u64(), "{by}");
    // The right class of CA is asked, and no other.
    let swapped = ["--services-ca", text(&workloads), "--workloads-ca", text(&services)];
    verify(&[&["--key", text(&key)][..], &swapped].concat()).refused(6, "VERIFICATION_FAILED");
    verify(&["--services-ca", text(&services), "--trust-domain", "example.org"]).refused(6, "VERIFICATION_FAILED");
    let whole = legate()
        .arg("verify")
        .arg(dev.join("audit-collector/log"))
        .args(["--key", text(&key), "-o", "json"])
        .args(cas)
        .output();
    let whole: serde_json::Value = serde_json::from_slice(&whole.unwrap().stdout).unwrap();
    assert!(whole["signedBy"]["spiffe://dev.legate/legate/registry"].as_u64() >= signed, "{whole}");
    let words = verify(&["--key", text(&key), "-o", "table"]).with(0);
    assert!(words.contains("events by the key of spiffe://dev.legate/legate/registry"), "{words}");
    assert!(words.contains("not proved") && words.contains("asked by"), "{words}");

    let mut bytes = std::fs::read(&pack).unwrap();
    let at = bytes.windows(11).position(|w| w == b"under watch").unwrap();
    bytes[at] = b'U';
    std::fs::write(&pack, bytes).unwrap();
    let refused = verify(&["--key", text(&key), "-o", "json"]);
    let told: serde_json::Value = serde_json::from_str(&refused.out).unwrap();
    assert!(told["place"].as_str().unwrap().starts_with("events.jsonl line ") && told["leafIndex"].is_u64(), "{told}");
    refused.refused(6, "VERIFICATION_FAILED");
    done(legate().args(["verify", text(&key), "--key", text(&key)])).refused(1, "FILE_REFUSED");
}

#[test]
fn exports_and_proofs_are_written_in_the_forms_of_others() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.declare();
    let file = |name: &str| text(&home.path().join(name)).to_owned();
    let created = || house.run(&["audit", "query", "--type", "agent.created", "-o", "json"]).json()["events"].clone();
    eventually("the event is in the index", || created().is_array());
    for (form, index) in [("ocsf", "/unmapped/leaf_index"), ("cloudevents", "/leafindex"), ("jsonl", "/leafIndex")] {
        let out = file(form);
        let line = ["audit", "export", "--format", form, "--oldest-first", "--out", &out];
        house.run(&line).with(0);
        house.run(&["audit", "export", "--resume", "--out", &out]).refused(1, "USAGE");
        let rows = std::fs::read_to_string(&out).unwrap();
        let leaf = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            // The JSON of protobufs leaves a zero out.
            let at = row.pointer(index).map_or_else(|| "0".to_owned(), ToString::to_string);
            at.trim_matches('"').parse::<u64>().unwrap()
        };
        // Signatures of emitters stand between, which are no rows.
        assert!(rows.lines().map(leaf).is_sorted_by(|one, next| one < next), "{form}: {rows}");
        assert!(rows.lines().count() > 10, "{form}");
    }

    let columns = file("columns");
    let export = ["audit", "export", "--format", "parquet", "--namespace", "payments", "--out", &columns];
    house.run(&export).with(0);
    house.run(&export).refused(1, "FILE_REFUSED");
    house.run(&["audit", "export", "--format", "parquet"]).refused(1, "USAGE");
    house.run(&["audit", "export", "--resume", "--out", &columns]).refused(1, "USAGE");
    let day = std::fs::read_dir(&columns).unwrap().next().unwrap().unwrap();
    assert!(day.file_name().to_str().unwrap().starts_with("day="));
    let part = std::fs::read_dir(day.path().join("namespace=payments")).unwrap().next().unwrap().unwrap();
    let bytes = std::fs::read(part.path()).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{part:?}");

    let (leaf, key) = (created()[0]["leafIndex"].as_str().unwrap().to_owned(), text(&house.log_key()).to_owned());
    let (proof, receipt, entry) = (file("e.tlog-proof"), file("e.cose"), file("e.leaf"));
    let prove =
        ["audit", "prove", &leaf, "--tlog-proof", &proof, "--cose-receipt", &receipt, "--entry", &entry, "-o", "name"];
    // The checkpoint follows the index by a moment at most.
    eventually("the checkpoint covers it", || house.run(&prove).code == Some(0));
    for form in [&proof, &receipt] {
        let told = done(legate().args(["verify", form, "--key", &key, "--entry", &entry, "-o", "json"])).json();
        assert_eq!((told["verified"].as_bool(), told["leafIndex"].to_string()), (Some(true), leaf.clone()), "{told}");
        done(legate().args(["verify", form, "--key", &key, "--entry", &key])).refused(6, "VERIFICATION_FAILED");
        done(legate().args(["verify", form, "--key", &key])).refused(1, "CONTEXT_MISSING");
    }
}
