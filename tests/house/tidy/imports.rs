//! Who imports whom, as ARCHITECTURE.md says it and as cargo sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use super::source;
use crate::blessed::{compare_part, root};

/// One crate of ours.
struct Crate {
    /// Without `legate-`.
    name: String,
    /// `crates/rpc`.
    folder: String,
    /// What it imports of ours.
    imports: BTreeSet<String>,
    /// What only its tests and benchmarks import.
    in_tests: BTreeSet<String>,
    /// Its features, and what each turns on.
    features: BTreeMap<String, Vec<String>>,
    /// Features that it turns on in what it imports.
    turns_on: Vec<String>,
}

fn short(name: &str) -> String {
    name.strip_prefix("legate-").unwrap_or(name).to_owned()
}

/// What cargo says, without asking anybody outside.
fn crates() -> Vec<Crate> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut ask = Command::new(cargo);
    let asked = ask.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(root()).output();
    let asked = asked.unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let told: Value = serde_json::from_slice(&asked.stdout).unwrap();
    told["packages"].as_array().unwrap().iter().map(crate_of).collect()
}

fn crate_of(package: &Value) -> Crate {
    let manifest = package["manifest_path"].as_str().unwrap();
    let folder = std::path::Path::new(manifest).parent().unwrap().strip_prefix(root()).unwrap();
    let mut found = Crate {
        name: short(package["name"].as_str().unwrap()),
        folder: folder.to_str().unwrap().to_owned(),
        imports: BTreeSet::new(),
        in_tests: BTreeSet::new(),
        features: serde_json::from_value(package["features"].clone()).unwrap(),
        turns_on: Vec::new(),
    };
    for needed in package["dependencies"].as_array().unwrap() {
        let on: Vec<String> = serde_json::from_value(needed["features"].clone()).unwrap();
        found.turns_on.extend(on);
        if needed["path"].is_string() {
            let name = short(needed["name"].as_str().unwrap());
            let into = if needed["kind"] == "dev" { &mut found.in_tests } else { &mut found.imports };
            into.insert(name);
        }
    }
    found.in_tests = &found.in_tests - &found.imports;
    found
}

/// How far a crate stands above those that import nothing.
fn height(name: &str, all: &BTreeMap<&str, &Crate>) -> usize {
    all[name].imports.iter().map(|i| height(i, all) + 1).max().unwrap_or(0)
}

#[test]
fn the_table_of_imports_is_what_cargo_sees() {
    let crates = crates();
    let by_name: BTreeMap<&str, &Crate> = crates.iter().map(|c| (c.name.as_str(), c)).collect();
    let mut rows: Vec<&Crate> = crates.iter().collect();
    // From the ground up; those that only tests fill come last.
    rows.sort_by_key(|c| (c.folder == "tests" || c.folder == "bench", height(&c.name, &by_name), c.name.clone()));
    let list = |names: &BTreeSet<String>| match names.len() {
        0 => "–".to_owned(),
        _ => names.iter().cloned().collect::<Vec<_>>().join(", "),
    };
    let mut table = String::from("| crate | imports | in its tests, also |\n|---|---|---|\n");
    for row in rows {
        table += &format!("| [{}]({}) | {} | {} |\n", row.name, row.folder, list(&row.imports), list(&row.in_tests));
    }
    compare_part("ARCHITECTURE.md", "imports", &table);
}

#[test]
fn what_is_imported_is_used() {
    let mut idle = Vec::new();
    for room in crates() {
        let files: Vec<_> = source::rust().filter(|s| s.path.starts_with(&format!("{}/", room.folder))).collect();
        for needed in room.imports.iter().chain(&room.in_tests) {
            let name = if needed == "legate" { needed.clone() } else { format!("legate_{}", needed.replace('-', "_")) };
            let word = format!("{name}::");
            if !files.iter().any(|s| source::Source::uses(&s.code, &word).next().is_some()) {
                idle.push(format!("{} imports {needed} and does not use it", room.folder));
            }
        }
    }
    assert!(idle.is_empty(), "{idle:#?}");
}

#[test]
fn services_do_not_depend_on_each_other() {
    let crates = crates();
    let services: BTreeSet<&str> =
        crates.iter().filter(|c| c.folder.starts_with("services/")).map(|c| c.name.as_str()).collect();
    let raises_several = ["legate", "tests", "bench"];
    let mut wrong = Vec::new();
    for room in &crates {
        for needed in room.imports.union(&room.in_tests) {
            let may = raises_several.contains(&room.name.as_str()) && (needed != "legate" || room.name != "legate");
            if services.contains(needed.as_str()) && !may {
                wrong.push(format!("{} imports the service {needed}", room.folder));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(services.contains("registry") && services.len() == 5, "{services:?}");
}

#[test]
fn every_crate_takes_the_lints_of_the_house() {
    for room in crates() {
        let manifest = crate::blessed::read(&format!("{}/Cargo.toml", room.folder));
        assert!(manifest.contains("[lints]\nworkspace = true\n"), "{} takes no lints", room.folder);
    }
}

/// A planted bug is turned on by nothing, refuses to be built for use, and is one that has to be caught.
#[test]
fn planted_bugs_stay_in_their_tests() {
    let caught = crate::blessed::read(".ci/planted");
    let mut planted = 0;
    for room in crates() {
        let is_bug = |name: &str| name.contains("bug_");
        assert!(!room.turns_on.iter().any(|on| is_bug(on)), "{} turns a planted bug on", room.folder);
        for (feature, on) in &room.features {
            assert!(!on.iter().any(|on| is_bug(on)), "{}: {feature} turns a planted bug on", room.folder);
            if is_bug(feature) {
                let root = crate::blessed::read(&format!("{}/src/lib.rs", room.folder));
                let guard = format!("#[cfg(all(feature = \"{feature}\", not(debug_assertions)))]\ncompile_error!");
                assert!(root.contains(&guard), "{}: {feature} could be built for use", room.folder);
                assert!(caught.contains(feature.as_str()), "nothing has to catch {feature}");
                planted += 1;
            }
        }
    }
    assert_eq!(planted, 7);
}
