//! docs/errors.md: every reason with which a caller is refused, rendered from the code and compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use legate_rpc::{Code, Reason};

use crate::blessed::compare;

const HEAD: &str = "\
# Errors

Every reason with which Legate refuses a call or denies a question, what it means, and what to do about it. This page is made from
the code and compared with it by a test (`tests/house/reasons.rs`).

A refused call ends with a gRPC status. Its details carry `google.rpc.ErrorInfo` with the reason, the domain `legate` and the cure;
`google.rpc.BadRequest` where fields of the request are wrong; `google.rpc.RetryInfo` where the same call may go through later. A
reason never changes its name. `legate` prints the reason with every refusal; look it up here.

A denied question is no refused call: `Evaluate` answers it with status `OK`, the decision `DENY` and the reason as `reason_code`.
An answer that allows has the `reason_code` `ALLOWED`.
";

/// The name of a code in the gRPC specification.
fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// A part of the page: who gives these reasons.
struct Part {
    title: &'static str,
    about: &'static str,
    reasons: Vec<&'static Reason>,
}

fn parts() -> Vec<Part> {
    let shared = [legate_rpc::REASONS, legate_outbox::REASONS, legate_view::REASONS].concat();
    let named_once = |own: &[&'static Reason]| {
        let is_ours = |r: &&&'static Reason| !shared.iter().any(|s| s.name == r.name);
        own.iter().filter(is_ours).copied().collect()
    };
    vec![
        Part { title: "Every service", about: "What all four services may answer.", reasons: shared.clone() },
        Part {
            title: "registry",
            about: "What is declared, and the life of agents.",
            reasons: named_once(legate_registry::REASONS),
        },
        Part {
            title: "credential-issuer",
            about: "Enrolment, certificates, access tokens, revocation.",
            reasons: named_once(legate_credential_issuer::REASONS),
        },
        Part {
            title: "policy-decision",
            about: "Where an answer is given, the reason is its `reason_code`, and the code is what it would be as a refusal.",
            reasons: named_once(legate_policy_decision::REASONS),
        },
        Part {
            title: "audit-collector",
            about: "The log, its proofs and its index.",
            reasons: named_once(legate_audit_collector::REASONS),
        },
        Part {
            title: "legate-client",
            about: "What the guards of the Rust client refuse without asking policy-decision: over HTTP in `legate-reason`, in MCP as `data.reason` of an error.",
            reasons: named_once(legate_client::REASONS),
        },
        Part {
            title: "legate workload",
            about: "What the node helper refuses a process on its socket.",
            reasons: named_once(legate_workload::REASONS),
        },
        Part {
            title: "legate",
            about: "What the program for people refuses by itself; nothing was sent, or it is not the service's answer.",
            reasons: named_once(legate::REASONS),
        },
    ]
}

#[test]
fn the_page_of_errors_is_what_the_code_says() {
    let denials: BTreeMap<&str, &str> = legate_policy_decision::denials().collect();
    let mut page = String::from(HEAD);
    for part in parts() {
        writeln!(page, "\n## {}\n\n{}", part.title, part.about).unwrap();
        for reason in &part.reasons {
            writeln!(page, "\n### {}\n", reason.name).unwrap();
            let how = match denials.get(reason.name) {
                Some(kind) => format!("An answer: `DENY`, of the kind `{kind}`."),
                None => format!("A refusal, with `{}`.", code(reason.code)),
            };
            writeln!(page, "{how} {}\n\n**Cure:** {}", reason.meaning, reason.cure).unwrap();
        }
    }
    compare("docs/errors.md", &page);
    for word in denials.keys() {
        assert!(page.contains(&format!("\n### {word}\n")), "{word} is an answer and not on the page");
    }
}

#[test]
fn a_reason_means_the_same_wherever_it_is_given() {
    let mut seen: BTreeMap<&str, &Reason> = BTreeMap::new();
    let all = [
        legate_rpc::REASONS,
        legate_outbox::REASONS,
        legate_view::REASONS,
        legate_registry::REASONS,
        legate_credential_issuer::REASONS,
        legate_policy_decision::REASONS,
        legate_audit_collector::REASONS,
        legate_client::REASONS,
        legate_workload::REASONS,
        legate::REASONS,
    ];
    for reason in all.concat() {
        if let Some(other) = seen.insert(reason.name, reason) {
            assert!(other == reason, "{} has two meanings: {other:?} and {reason:?}", reason.name);
        }
    }
    assert!(seen.len() > 60, "{} reasons", seen.len());
}

#[test]
fn a_reason_is_a_word_a_sentence_and_a_cure() {
    for part in parts() {
        for reason in part.reasons {
            let word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            assert!(reason.name.chars().all(word) && reason.name.len() >= 4, "{}", reason.name);
            for text in [reason.meaning, reason.cure] {
                // A sentence may begin with the name of a service.
                let begins = text.starts_with(|c: char| c.is_uppercase() || "crp".contains(c));
                assert!(text.ends_with('.') && begins, "{}: {text:?}", reason.name);
            }
        }
    }
}
