//! The nouns of a governed namespace, from the command line and back.

use crate::house::House;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples/governed.yaml");
/// Each noun with how many of its objects there are then; one operator binding, and a namespace with this machine as its node, are
/// there from the start.
const NOUNS: [(&str, usize); 17] = [
    ("namespace", 2),
    ("class", 1),
    ("agent", 2),
    ("group", 1),
    ("role", 1),
    ("binding", 1),
    ("policy", 1),
    ("boundary", 2),
    ("credential-policy", 1),
    ("issuer", 1),
    ("node", 2),
    ("attestation", 1),
    ("grant", 2),
    ("policy-test", 1),
    ("lifecycle-policy", 1),
    ("operator", 3),
    ("enforcement-point", 1),
];

#[test]
fn every_noun_lists_shows_and_takes_back() {
    let home = tempfile::tempdir().unwrap();
    let house = House::raise(&home.path().join("dev"));
    house.run(&["apply", "-f", MANIFEST, "--reason", "the treasury is governed"]).with(0);
    let mut all = String::new();
    for (noun, count) in NOUNS {
        let names = house.run(&[noun, "list", "-o", "name"]).with(0);
        assert_eq!(names.lines().count(), count, "{noun}: {names}");
        for name in names.lines() {
            let bare = name.rsplit('/').next().unwrap_or_default();
            assert!(house.run(&[noun, "get", name, "-o", "table"]).with(0).contains(bare), "{noun} {name}");
        }
        all += "---\n";
        all += &house.run(&[noun, "list", "-o", "yaml"]).with(0);
    }
    // What is shown is what would declare it again.
    let file = home.path().join("all.yaml");
    std::fs::write(&file, all).unwrap();
    let plan = house.run(&["plan", "-f", file.to_str().unwrap(), "-o", "json"]).json();
    let changes = plan["changes"].as_array().unwrap();
    assert_eq!(changes.len(), NOUNS.iter().map(|(_, count)| count).sum::<usize>());
    assert!(changes.iter().all(|c| c["action"] == "CHANGE_ACTION_UNCHANGED"), "{plan}");

    let take_back = |noun: &str, name: &str| house.run(&[noun, "revoke", name, "--reason", "over"]);
    take_back("grant", "treasury/ada-to-reader").refused(4, "OBJECT_IN_USE");
    take_back("group", "treasury/clerks").refused(4, "OBJECT_IN_USE");
    take_back("node", "treasury/ledger-vm").refused(4, "OBJECT_IN_USE");
    take_back("group", "clerks").refused(1, "USAGE");
    for (noun, name) in [
        ("grant", "treasury/reader-to-writer"),
        ("grant", "treasury/ada-to-reader"),
        ("policy-test", "treasury/closed-stays-closed"),
        ("lifecycle-policy", "treasury/housekeeping"),
        ("attestation", "treasury/ledger-reader-on-its-node"),
        ("node", "treasury/ledger-vm"),
        ("issuer", "treasury/cluster"),
        ("binding", "treasury/clerks-read"),
        ("boundary", "treasury/european-data"),
        ("group", "treasury/clerks"),
        ("operator", "treasury/treasury-editors"),
        ("operator", "auditors"),
    ] {
        take_back(noun, name).with(0);
    }
    take_back("operator", "auditors").refused(1, "OBJECT_NOT_FOUND");
}
