//! A person's own grants by the program's verbs: what is agreed to is said before anything is sent, and a token is shown nowhere.

use crate::house::{House, done, legate};

const WISH: [&str; 8] =
    ["--to", "invoice-bot", "--allow", "invoice:read on Invoice:apollo/*", "--purpose", "Answers Ada.", "--for", "1h"];

#[test]
fn what_is_agreed_to_is_said_in_words_and_by_its_hash() {
    let consent = ["grant", "as-person", "consent", "payments/for-ada", "--person", "user:ada@example.com"];
    let told = done(legate().args(consent).args(WISH).args(["-o", "json"])).json();
    assert!(told["consentText"].as_str().unwrap().ends_with("What for: \"Answers Ada.\"\n"), "{told}");
    assert_eq!(told["nonce"], "4oqdmMQbCZOIkRKenIqHT6NBoak_qSWNCRSxwrWcOrg");
    let table = done(legate().args(consent).args(WISH).args(["-o", "table"])).with(0);
    assert!(table.contains("- for 3600 seconds") && table.contains(told["nonce"].as_str().unwrap()), "{table}");
}

#[test]
fn a_token_that_proves_nobody_is_refused_and_shown_nowhere() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    let file = home.path().join("token");
    std::fs::write(&file, "canary.canary.canary\n").unwrap();
    let file = file.to_str().unwrap();
    let list = ["grant", "as-person", "list", "--namespace", "payments", "--token-file", file];
    house.run(&list).refused(3, "IDENTITY_TOKEN_REFUSED");
    let create = ["grant", "as-person", "create", "payments/for-ada", "--token-file", file, "--show-request"];
    let told = house.run(&[create.as_slice(), &WISH].concat());
    assert_eq!(told.code, Some(3));
    assert!(told.err.contains("CreateGrant") && !(told.err + &told.out).contains("canary"));
    house.run(&["grant", "as-person", "list", "--namespace", "payments"]).with(1);
    house.run(&["grant", "as-person", "list", "--namespace", "payments", "--token-env", "NOTHING"]).refused(1, "USAGE");
}
