//! `legate policy test`: the policy tests against what is in force, or would be with manifests.

use std::collections::BTreeSet;

use legate_wire::policy::{PreviewChangeRequest, PreviewChangeResponse};
use legate_wire::registry::{Declaration, Kind};

use super::super::change::{self, list, namespaces};
use super::super::{Desk, named};
use crate::cli::{PolicyTests, Wanted};
use crate::error::USAGE;
use crate::output::{Row, test_lines};
use crate::place::Service;
use crate::{Exit, Failure, proto};

/// Namespaces in one question (PreviewChangeRequest).
const AT_ONCE: usize = 64;

pub(super) async fn run(desk: Desk, args: PolicyTests) -> Result<Exit, Failure> {
    let PolicyTests { names, files, namespace } = args;
    let wanted: Result<BTreeSet<(String, String)>, Failure> = names.iter().map(|name| named(name)).collect();
    let wanted = wanted?;
    let mut answer = if files.is_empty() {
        in_force(&desk, namespace.as_deref(), &wanted).await?
    } else {
        let mut spoken_of = namespaces(&change::read(&files)?);
        spoken_of.extend(wanted.iter().map(|(namespace, _)| namespace.clone()));
        let change = change::planned(&desk, &Wanted { files, ..Wanted::default() }, 0).await?;
        change.preview(&desk, spoken_of).await?
    };
    if let Some(namespace) = &namespace {
        answer.tests.retain(|test| test.test.split('/').next() == Some(namespace));
    }
    if !wanted.is_empty() {
        answer.tests.retain(|test| named(&test.test).is_ok_and(|name| wanted.contains(&name)));
        let is_there = |(namespace, name): &(String, String)| {
            let whole = format!("{namespace}/{name}");
            answer.tests.iter().any(|test| test.test == whole)
        };
        // Nobody takes a test that was never run for one that passed.
        if let Some((namespace, name)) = wanted.iter().find(|name| !is_there(name)) {
            let what = format!("no policy test {namespace}/{name} was run: there is none, or none that may be read");
            return Err(Failure::local(&USAGE, what));
        }
    }
    let mut out = desk.out();
    if out.is_table() {
        test_lines(&answer.tests).iter().try_for_each(|line| out.line(line))?;
        out.flush()?;
    } else {
        let told =
            PreviewChangeResponse { tests: answer.tests.clone(), revision: answer.revision, ..Default::default() };
        out.rows(&proto::dynamic(&told), &rows(&answer), "")?;
    }
    change::passed(&answer.tests)?;
    Ok(Exit::Done)
}

fn rows(answer: &PreviewChangeResponse) -> Vec<Row> {
    let row = |test: &legate_wire::policy::TestResult| Row {
        cells: Vec::new(),
        name: format!("{}[{}] {}", test.test, test.case, if test.passed { "passed" } else { "FAILED" }),
        message: proto::dynamic(test),
        node: None,
    };
    answer.tests.iter().map(row).collect()
}

/// Every test that is in force, of the namespaces of those that are wanted.
async fn in_force(
    desk: &Desk,
    namespace: Option<&str>,
    wanted: &BTreeSet<(String, String)>,
) -> Result<PreviewChangeResponse, Failure> {
    let registry = desk.line(Service::Registry)?;
    let (tests, revision) = list(&registry, Kind::PolicyTest, namespace.unwrap_or_default()).await?;
    let of = |test: &Declaration| test.metadata().map(|metadata| metadata.namespace.clone());
    let is_wanted = |namespace: &String| wanted.is_empty() || wanted.iter().any(|(of, _)| of == namespace);
    let spoken_of: BTreeSet<String> = tests.iter().filter_map(of).filter(is_wanted).collect();
    let mut whole = PreviewChangeResponse { revision, ..PreviewChangeResponse::default() };
    let spoken_of: Vec<String> = spoken_of.into_iter().collect();
    for some in spoken_of.chunks(AT_ONCE) {
        let request = PreviewChangeRequest {
            at_least_revision: revision,
            namespaces: some.to_vec(),
            ..PreviewChangeRequest::default()
        };
        let answer = change::preview(desk, request).await?;
        whole.tests.extend(answer.tests);
        whole.revision = answer.revision;
    }
    Ok(whole)
}
