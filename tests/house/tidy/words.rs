//! Words that are not used, anywhere.

use super::source::{self, Source};

/// This file has to spell them.
const HERE: &str = "tests/house/tidy/words.rs";

fn ours() -> impl Iterator<Item = &'static Source> {
    source::all().iter().filter(|s| s.path != HERE)
}

fn lines_with<'a>(file: &'a Source, word: &'a str) -> impl Iterator<Item = String> + 'a {
    Source::uses(&file.text, word).map(move |at| {
        let line = file.text[..at].matches('\n').count() + 1;
        format!("{}:{line}: {word}", file.path)
    })
}

#[test]
fn names_of_other_products_and_of_no_use_are_not_ours() {
    let mut broken = Vec::new();
    for file in ours() {
        for word in ["AIM", "AIMS", "NHI", "NHIs", "trust score", "Trust score", "trust scores"] {
            broken.extend(lines_with(file, word));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn an_agent_is_called_a_bot_in_examples_only() {
    let mut broken = Vec::new();
    for file in ours() {
        // Tests and benchmarks make examples.
        if file.path.starts_with("bench/") {
            continue;
        }
        let text = if file.path.ends_with(".rs") { &file.text[..file.production().len()] } else { &file.text };
        for word in ["bot", "bots", "Bot", "Bots"] {
            for at in Source::uses(text, word) {
                // `invoice-bot` is a name that somebody gave.
                if !text[..at].ends_with('-') {
                    broken.push(format!("{}: {word} at byte {at}", file.path));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_surface_says_suspend_quarantine_retire_revoke() {
    let mut broken = Vec::new();
    for file in ours().filter(|s| s.path.ends_with(".proto")) {
        let words = file.text.split(|c: char| !c.is_ascii_alphabetic());
        for word in words {
            let lower = word.to_lowercase();
            if ["delete", "disable", "blocked", "blacklist"].iter().any(|not| lower.contains(not)) {
                broken.push(format!("{}: {word}", file.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn no_path_of_a_build_machine_is_written_down() {
    let mut broken = Vec::new();
    for file in ours() {
        for (number, line) in file.text.lines().enumerate() {
            for path in ["/work/", "/root/", "/home/", "/tmp/", "/Users/"] {
                // A path begins where no name goes on: `docs/work/` is none of them.
                let begins = line.match_indices(path).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '~' | '}'))
                });
                if begins {
                    broken.push(format!("{}:{}: {path}", file.path, number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
