//! Links and paths in the documents lead somewhere.

use super::source::{self, Source};
use crate::blessed::root;

fn documents() -> impl Iterator<Item = &'static Source> {
    source::all().iter().filter(|s| s.path.ends_with(".md"))
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

/// A heading as the target of a link: lower case, spaces as `-`, without other signs.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_heading(path: &str, wanted: &str) -> bool {
    let text = crate::blessed::read(path);
    text.lines().filter_map(|line| line.strip_prefix('#')).any(|h| anchor(h.trim_start_matches('#')) == wanted)
}

#[test]
fn every_link_leads_to_a_file() {
    let mut broken = Vec::new();
    for file in documents() {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in links(&file.text).filter(|l| !l.contains("://")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.path.clone() } else { join(folder, path) };
            let exists = root().join(&target).exists();
            if !exists || !heading.is_empty() && !has_heading(&target, heading) {
                broken.push(format!("{}: {link}", file.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// `docs` and `../a` make `a`.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn every_path_that_is_named_exists() {
    let mut broken = Vec::new();
    for file in documents() {
        for quoted in file.text.split('`').skip(1).step_by(2) {
            let ours = ["services/", "crates/", "docs/", "deploy/", "tests/", "bench/", "proto/"];
            let is_path = ours.iter().any(|o| quoted.starts_with(o)) && !quoted.contains([' ', '*', '{', '<', '\n']);
            if is_path && !root().join(quoted).exists() {
                broken.push(format!("{}: {quoted}", file.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
