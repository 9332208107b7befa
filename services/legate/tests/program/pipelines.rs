//! The pipelines under deploy/ci are well formed, and every command in them is one of the program.

use serde_norway::Value;

use crate::house::{done, legate};

const PIPELINES: [(&str, &str); 2] = [
    ("github.yaml", include_str!("../../../../deploy/ci/github.yaml")),
    ("gitlab-ci.yml", include_str!("../../../../deploy/ci/gitlab-ci.yml")),
];

/// Every text in a value.
fn texts<'a>(of: &'a Value, out: &mut Vec<&'a str>) {
    match of {
        Value::String(text) => out.push(text),
        Value::Sequence(items) => items.iter().for_each(|item| texts(item, out)),
        Value::Mapping(map) => map.iter().for_each(|(_, value)| texts(value, out)),
        _ => {}
    }
}

#[test]
fn every_command_of_a_pipeline_exists_with_its_flags() {
    for (name, text) in PIPELINES {
        let whole: Value = serde_norway::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut all = Vec::new();
        texts(&whole, &mut all);
        let commands: Vec<&str> =
            all.iter().flat_map(|text| text.lines()).filter_map(|line| line.trim().strip_prefix("legate ")).collect();
        // A plan as a comment, a plan that is applied, and the nightly look.
        assert_eq!(commands.iter().filter(|c| c.starts_with("plan ")).count(), 3, "{name}: {commands:?}");
        assert!(commands.iter().any(|c| c.starts_with("apply --plan plan.json")), "{name}: {commands:?}");
        assert!(commands.iter().any(|c| c.contains("--markdown")), "{name}");
        assert!(commands.iter().any(|c| c.contains("--detailed-exitcode")), "{name}");
        for command in commands {
            let verb = command.split(' ').next().unwrap();
            let help = done(legate().args([verb, "--help"])).with(0);
            for flag in command.split(' ').filter(|word| word.starts_with("--")) {
                assert!(help.contains(flag), "{name}: legate {verb} has no {flag}");
            }
        }
    }
}
