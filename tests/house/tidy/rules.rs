//! Rules about Rust files: captions, names, and what may be called in one place only.

use super::source::{self, Source};

/// Fails with every place that breaks a rule.
fn none(broken: &[String]) {
    assert!(broken.is_empty(), "{} places break the rule:\n{}", broken.len(), broken.join("\n"));
}

/// Every place outside of `except` that uses one of `words`, in code that is no test.
fn places(words: &[&str], except: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for file in source::rust().filter(|s| !except(&s.path)) {
        for word in words {
            let at = Source::uses(file.production(), word);
            found.extend(at.map(|at| format!("{}:{}: {word}", file.path, file.line(at))));
        }
    }
    found
}

#[test]
fn every_file_begins_with_a_caption_of_one_sentence() {
    let mut broken = Vec::new();
    for file in source::rust() {
        let lines = file.text.lines().map_while(|line| line.strip_prefix("//! "));
        let caption = lines.collect::<Vec<_>>().join(" ");
        let sentence = caption.trim_end();
        let ends = sentence.match_indices(". ").filter(|(at, _)| {
            let next = sentence[at + 2..].chars().next();
            next.is_some_and(char::is_uppercase)
        });
        if !sentence.ends_with(['.', '?']) || ends.count() > 0 {
            broken.push(format!("{}: {sentence:?}", file.path));
        }
    }
    none(&broken);
}

#[test]
fn no_drawer_is_called_common() {
    const DRAWERS: [&str; 9] = ["common", "core", "util", "utils", "types", "shared", "helper", "helpers", "manager"];
    let mut broken = Vec::new();
    for file in source::all() {
        let mut parts = file.path.split('/').map(|part| part.split('.').next().unwrap_or(part));
        if parts.any(|part| DRAWERS.contains(&part.trim_start_matches("legate-"))) {
            broken.push(file.path.clone());
        }
    }
    for file in source::rust() {
        for drawer in DRAWERS {
            let module = format!("mod {drawer}");
            broken.extend(Source::uses(&file.code, &module).map(|at| format!("{}:{}", file.path, file.line(at))));
        }
    }
    none(&broken);
}

#[test]
fn time_comes_from_one_place() {
    let clocks = ["SystemTime::now", "Utc::now", "Local::now", "OffsetDateTime::now_utc", "OffsetDateTime::now_local"];
    none(&places(&clocks, |path| path.starts_with("crates/clock/")));
}

#[test]
fn a_status_is_made_in_one_place() {
    let makers = [
        "new",
        "ok",
        "cancelled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "already_exists",
        "permission_denied",
        "resource_exhausted",
        "failed_precondition",
        "aborted",
        "out_of_range",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
        "unauthenticated",
        "with_details",
        "with_metadata",
        "with_details_and_metadata",
        "with_error_details",
        "from_error",
    ]
    .map(|maker| format!("Status::{maker}("));
    let makers: Vec<&str> = makers.iter().map(String::as_str).collect();
    none(&places(&makers, |path| path.starts_with("crates/rpc/")));
}

#[test]
fn tonics_own_tls_is_not_used() {
    none(&places(&["ServerTlsConfig", "ClientTlsConfig", "tls_config"], |_| false));
}

#[test]
fn pure_crates_have_no_std() {
    for pure in ["ids", "authority", "filter", "token", "merkle"] {
        let path = format!("crates/{pure}/src/lib.rs");
        let file = source::rust().find(|s| s.path == path).unwrap();
        assert!(file.code.lines().any(|line| line == "#![no_std]"), "{path} is not #![no_std]");
    }
}

#[test]
fn nothing_is_left_to_do() {
    let mut broken = places(&["todo!", "unimplemented!", "dbg!"], |_| false);
    for file in source::all().iter().filter(|s| s.path != "tests/house/tidy/rules.rs") {
        for mark in ["TODO", "FIXME", "XXX", "HACK"] {
            let at = Source::uses(&file.text, mark);
            broken.extend(at.map(|at| format!("{}: {mark} at byte {at}", file.path)));
        }
    }
    none(&broken);
}

#[test]
fn only_the_program_for_people_prints() {
    let print = ["println!", "print!", "eprintln!", "eprint!"];
    // A build script speaks to cargo by printing, and a benchmark to whoever runs it.
    none(&places(&print, |path| path.ends_with("build.rs") || path.starts_with("bench/")));
}

#[test]
fn every_exception_from_a_lint_says_why() {
    let mut broken = Vec::new();
    for file in source::rust() {
        for word in ["allow(", "expect("] {
            for at in attributes(&file.code, word) {
                let end = file.code[at..].find(")]").map_or(file.code.len(), |end| at + end);
                if !file.code[at..end].contains("reason =") {
                    broken.push(format!("{}:{}", file.path, file.line(at)));
                }
            }
        }
    }
    none(&broken);
}

/// Where an attribute of this name begins.
fn attributes<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(name).map(|(at, _)| at).filter(|at| code[..*at].ends_with("#[") || code[..*at].ends_with("#!["))
}

#[test]
fn a_domain_knows_no_clock_network_or_disk() {
    let outside = [
        "async",
        "await",
        "tokio",
        "tonic",
        "sea_orm",
        "std::fs",
        "TcpStream",
        "UdpSocket",
        "ToSocketAddrs",
        "std::env",
        "File::",
        "Instant",
        "SystemTime",
        "Serialize",
        "rand",
    ];
    none(&places(&outside, |path| !path.contains("/src/domain/")));
}

#[test]
fn no_file_looks_up() {
    // The doors: gRPC, OAuth, OpenTelemetry, SCIM, AuthZEN, Envoy.
    const DOORS: [&str; 6] =
        ["crate::api", "crate::oauth", "crate::otlp", "crate::scim", "crate::authzen", "crate::ext_authz"];
    let order: [(&str, &[&str]); 4] = [
        ("domain", &["crate::flow", "crate::store", "crate::convert", "crate::log"]),
        ("store", &["crate::flow"]),
        ("convert", &[]),
        ("flow", &[]),
    ];
    let mut broken = Vec::new();
    for (place, above) in order {
        let of_place = |path: &str| {
            let in_service = path.strip_prefix("services/").filter(|rest| !rest.starts_with("legate/"));
            let inside = in_service.and_then(|rest| rest.split_once("/src/")).map_or("", |(_, inside)| inside);
            inside.starts_with(&format!("{place}/")) || inside == format!("{place}.rs")
        };
        let above = [above, &DOORS].concat();
        broken.extend(places(&above, |path| !of_place(path)));
    }
    none(&broken);
}

#[test]
fn a_long_file_is_a_question() {
    let long = source::rust().map(|s| (s.text.lines().count(), &s.path)).filter(|(lines, _)| *lines > 600);
    none(
        &long
            .map(|(lines, path)| format!("{path}: {lines} lines; what could live in a file of its own?"))
            .collect::<Vec<_>>(),
    );
}
