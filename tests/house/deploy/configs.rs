//! The sample configurations hold every key, and state defaults that are true.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

use super::SERVICES;
use crate::blessed::read;

/// The services, and the node helper.
fn samples() -> impl Iterator<Item = &'static str> {
    SERVICES.into_iter().chain(["workload"])
}

fn sample(service: &str) -> String {
    read(&format!("deploy/config/{service}.toml"))
}

/// A configuration as its service reads it, printed.
fn load(service: &str, text: &str) -> Result<String, String> {
    fn one<C: DeserializeOwned + Debug>(text: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sample.toml");
        std::fs::write(&file, text).unwrap();
        let config: C = legate_boot::config::load(&file).map_err(|e| e.to_string())?;
        Ok(format!("{config:#?}"))
    }
    match service {
        "registry" => one::<legate_registry::Config>(text),
        "credential-issuer" => one::<legate_credential_issuer::Config>(text),
        "policy-decision" => one::<legate_policy_decision::Config>(text),
        "audit-collector" => one::<legate_audit_collector::Config>(text),
        "workload" => one::<legate::node::Config>(text),
        other => panic!("no service is called {other}"),
    }
}

/// Takes the comment mark off lines such as `#key = value`.
fn uncomment(text: &str, mark: &str) -> String {
    let is_setting = |line: &str| {
        let key = line.split(" = ").next().unwrap_or("");
        line.contains(" = ")
            && !key.is_empty()
            && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let lines = text.lines().map(|line| match line.strip_prefix(mark) {
        Some(setting) if is_setting(setting) => setting,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn samples_are_read_and_their_defaults_are_true() {
    for service in samples() {
        let text = sample(service);
        let plain = load(service, &text).unwrap_or_else(|e| panic!("{service}: {e}"));
        let spelt_out = uncomment(&text, "#");
        assert_ne!(spelt_out, text, "{service} states no default");
        let spelt = load(service, &spelt_out).unwrap_or_else(|e| panic!("{service}, with its defaults: {e}"));
        assert_eq!(plain, spelt, "{service}: a default is another than the sample says");
        let full = uncomment(&spelt_out, "# ");
        load(service, &full).unwrap_or_else(|e| panic!("{service}, with its examples: {e}"));
    }
}

/// The keys that a section may have, as the service lists them when it is given one that it does not know.
fn keys(service: &str, section: &str) -> Vec<String> {
    let text = sample(service);
    let text = if section.is_empty() {
        format!("nobody_knows = 1\n{text}")
    } else {
        text.replace(&format!("[{section}]\n"), &format!("[{section}]\nnobody_knows = 1\n"))
    };
    let refused = load(service, &text).expect_err("an unknown key is taken");
    let (_, expected) = refused.split_once("expected").unwrap_or_else(|| panic!("{refused}"));
    let keys = expected
        .split('`')
        .filter(|k| !k.is_empty() && k.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
    keys.filter(|key| !matches!(*key, "or" | "of")).map(str::to_owned).collect()
}

#[test]
fn samples_hold_every_key_and_unknown_ones_are_refused() {
    for service in samples() {
        let text = sample(service);
        let top = keys(service, "");
        assert!(top.len() >= 5, "{service}: {top:?}");
        let mut sections = vec![String::new()];
        sections.extend(top.iter().filter(|key| text.contains(&format!("\n[{key}]\n"))).cloned());
        for section in &sections {
            let begin = if section.is_empty() { 0 } else { text.find(&format!("\n[{section}]\n")).unwrap() + 1 };
            let part = &text[begin..];
            let part = part[1..].find("\n[").map_or(part, |end| &part[..end + 2]);
            for key in keys(service, section) {
                let is_here = part.lines().any(|line| {
                    let line = line.strip_prefix("# ").or_else(|| line.strip_prefix('#')).unwrap_or(line);
                    line.starts_with(&format!("{key} = "))
                });
                let is_section = section.is_empty() && sections.contains(&key);
                assert!(is_here || is_section, "{service}: the sample does not show {section}.{key}");
            }
        }
    }
}

#[test]
fn every_key_of_a_sample_is_explained() {
    for service in samples() {
        let text = sample(service);
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(" = ")) {
            let before = lines[..at].iter().rev().take_while(|l| l.contains(" = ")).count();
            let explained = lines[at - before - 1].starts_with("# ");
            assert!(explained, "{service}: nothing is said of {line}");
        }
    }
}
