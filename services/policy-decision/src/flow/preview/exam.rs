//! Policy tests are run on the view as it would be, by the same steps as a check, for agents taken for ACTIVE.

use legate_clock::Timestamp;
use legate_view::PolicyTest;
use legate_wire::policy as wire;
use legate_wire::registry::{ExpectedDecision, PolicyTestCase};

use super::Desk;
use super::Side;
use crate::convert;
use crate::domain::answer::{Answer, Cause, CauseKind, Why};
use crate::flow::record;

/// Questions of one namespace that are run.
const MOST: usize = 10_000;

/// Runs every test of the namespace. A question that is not run any more has not passed: nobody passes over a test by
/// making the others long.
pub(super) fn run(
    desk: &Desk,
    side: &Side<'_>,
    namespace: &str,
    now: Timestamp,
    is_over: &dyn Fn() -> bool,
) -> Vec<wire::TestResult> {
    let tests = side.snapshot.policy_tests().filter(|test| test.label.namespace.as_str() == namespace);
    let mut tests: Vec<_> = tests.collect();
    tests.sort_by(|a, b| a.label.name.cmp(&b.label.name));
    let cases = tests.iter().flat_map(|test| test.cases.iter().enumerate().map(move |(n, case)| (test, n, case)));
    let mut results = Vec::new();
    for (count, (test, n, case)) in cases.enumerate() {
        if count >= MOST || is_over() {
            results.push(not_run(test, n, case));
            break;
        }
        results.push(result(test, n, case, &answer(desk, side, namespace, case, now)));
    }
    results
}

/// The first of those that are not run; none after it is either.
fn not_run(test: &PolicyTest, n: usize, case: &PolicyTestCase) -> wire::TestResult {
    wire::TestResult {
        passed: false,
        got: "NOT RUN".to_owned(),
        message: format!("this question and all after it were not run: {MOST} at most, within the time of the preview"),
        ..told(test, n, case)
    }
}

fn result(test: &PolicyTest, n: usize, case: &PolicyTestCase, answer: &Answer) -> wire::TestResult {
    let as_expected = match case.expect() {
        ExpectedDecision::Allow => answer.denied.is_none(),
        ExpectedDecision::Deny => answer.denied.is_some(),
        ExpectedDecision::Unspecified => false,
    };
    let word = case.reason_code.is_empty() || case.reason_code == answer.word();
    wire::TestResult {
        passed: as_expected && word,
        got: verdict(answer.denied.is_none(), answer.word()),
        message: record::message(answer),
        ..told(test, n, case)
    }
}

/// What is told of a question, whatever comes of it.
fn told(test: &PolicyTest, n: usize, case: &PolicyTestCase) -> wire::TestResult {
    let expected = match case.expect() {
        ExpectedDecision::Allow => "ALLOW".to_owned(),
        ExpectedDecision::Deny if case.reason_code.is_empty() => "DENY".to_owned(),
        ExpectedDecision::Deny => format!("DENY {}", case.reason_code),
        ExpectedDecision::Unspecified => "nothing: expect is missing".to_owned(),
    };
    wire::TestResult {
        test: format!("{}/{}", test.label.namespace, test.label.name),
        case: u32::try_from(n).unwrap_or(u32::MAX),
        question: format!("{} {} {}:{}", case.agent, case.action, case.resource_type, case.resource_id),
        expected,
        ..wire::TestResult::default()
    }
}

fn verdict(allowed: bool, word: &str) -> String {
    if allowed { "ALLOW".to_owned() } else { format!("DENY {word}") }
}

fn answer(desk: &Desk, side: &Side<'_>, namespace: &str, case: &PolicyTestCase, now: Timestamp) -> Answer {
    let question = match convert::case(case) {
        Ok(question) => question,
        Err(why) => return Answer::deny(Why::PolicyError, Cause::plain(CauseKind::PolicyError, why)),
    };
    let Some(agent) = side.snapshot.agent_named(namespace, &case.agent) else {
        let text = format!("there is no agent {namespace}/{}", case.agent);
        return Answer::deny(Why::AgentUnknown, Cause::plain(CauseKind::AgentState, text));
    };
    let so_far = desk.bench.when_active(side.snapshot, agent, &question, now);
    if so_far.denied.is_some() {
        return so_far;
    }
    let compiled = match side.book.compiled() {
        None => None,
        Some(Ok(compiled)) => Some(compiled),
        Some(Err(e)) => {
            return Answer::deny(Why::PolicyError, Cause::plain(CauseKind::PolicyError, e.to_string()));
        }
    };
    // What people approve for an hour is nothing that a test may rest on.
    desk.bench.with_policies(side.snapshot, agent, &question, compiled, &[], now, so_far)
}
