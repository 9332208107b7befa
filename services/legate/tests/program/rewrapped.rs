//! The key-encryption key is replaced beside a suite that runs: nothing that it keeps meanwhile is lost.

use crate::house::{House, eventually};

#[test]
fn keys_are_wrapped_anew_beside_a_suite_that_runs() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("dev");
    let (kek, keys) = (dir.join("pki/credential-issuer.kek"), dir.join("credential-issuer"));
    let house = House::raise(&dir);
    let paths = ["key", "rewrap", "--kek", kek.to_str().unwrap(), "--dir", keys.to_str().unwrap()];
    house.run(&paths).with(0);
    let drop_old = [&paths[..], &["--drop-old"]].concat();
    eventually("the suite knows the new version", || {
        let ended = house.run(&drop_old);
        assert!(ended.code == Some(0) || ended.err.starts_with("error: KEYS_IN_USE: "), "{}", ended.err);
        ended.code == Some(0)
    });
    assert_eq!(std::fs::read_to_string(&kek).unwrap().lines().count(), 1);

    // A successor is made now, by a process that began with the old version, and signs in another that knows the new one alone.
    let rotate = ["key", "rotate", "access-token", "--now", "--reason", "a test"];
    eventually("the prepared key signs", || house.run(&rotate).code == Some(0));
    house.kill();
    let house = House::raise(&dir);
    eventually("the key that was made meanwhile signs", || house.run(&rotate).code == Some(0));
    let listed = house.run(&["key", "list", "-o", "json"]).json();
    let listed = listed["keys"].as_array().unwrap();
    assert!(listed.len() >= 6 && listed.iter().all(|key| key["place"] == "KEY_PLACE_FILE"), "{listed:?}");
}
