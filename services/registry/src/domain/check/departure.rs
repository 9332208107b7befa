//! What may be said of a person who leaves.

use std::time::Duration;

use legate_wire::registry::OffboardPersonRequest;

use super::findings::Findings;
use crate::domain::problem::Problem;
use crate::domain::succession::LONGEST_GRACE;

/// The most operators that one person is.
const OPERATORS: usize = 16;

/// What is wrong with a departure, paths as in the request.
pub(crate) fn check_departure(ask: &OffboardPersonRequest) -> Vec<Problem> {
    let mut findings = Findings::default();
    person(&ask.person, &mut findings);
    namespace(&ask.namespace, &mut findings);
    if !ask.successor.is_empty() {
        findings.principal("successor", &ask.successor);
        if ask.successor == ask.person {
            findings.add("successor", "is the person that leaves; name somebody else, or nobody");
        }
    }
    findings.span("grace", ask.grace, Duration::ZERO..=LONGEST_GRACE, "0 to 90 days");
    findings.texts("operators", &ask.operators, OPERATORS, Findings::name);
    findings.into()
}

/// What is wrong with how a departure is named.
pub(crate) fn check_departed(who: &str, from: &str) -> Vec<Problem> {
    let mut findings = Findings::default();
    person(who, &mut findings);
    namespace(from, &mut findings);
    findings.into()
}

fn person(person: &str, findings: &mut Findings) {
    if person.is_empty() || person.starts_with("user:") {
        findings.principal("person", person);
    } else {
        let why =
            "is no person; give user:NAME, such as user:grace@example.com. A group is made smaller where it is kept";
        findings.add("person", why);
    }
}

fn namespace(namespace: &str, findings: &mut Findings) {
    if !namespace.is_empty() {
        findings.name("namespace", namespace);
    }
}
