//! `legate policy test`: the policy tests against what is in force, or would be with manifests.

use std::collections::BTreeSet;
use std::path::PathBuf;

use legate_wire::policy::{PreviewChangeRequest, PreviewChangeResponse};
use legate_wire::registry::{Declaration, Kind};

use super::Desk;
use super::change::{self, list, namespaces};
use crate::cli::Wanted;
use crate::output::{Row, test_lines};
use crate::place::Service;
use crate::{Exit, Failure, proto};

/// Namespaces in one question (PreviewChangeRequest).
const AT_ONCE: usize = 64;

pub(super) async fn run(desk: Desk, files: Vec<PathBuf>, namespace: Option<String>) -> Result<Exit, Failure> {
    let mut answer = if files.is_empty() {
        in_force(&desk, namespace.as_deref()).await?
    } else {
        let spoken_of = namespaces(&change::read(&files)?);
        let change = change::planned(&desk, &Wanted { files, ..Wanted::default() }).await?;
        change.preview(&desk, spoken_of).await?
    };
    if let Some(namespace) = &namespace {
        answer.tests.retain(|test| test.test.split('/').next() == Some(namespace));
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

/// Every test that is in force.
async fn in_force(desk: &Desk, namespace: Option<&str>) -> Result<PreviewChangeResponse, Failure> {
    let registry = desk.line(Service::Registry)?;
    let (tests, revision) = list(&registry, Kind::PolicyTest, namespace.unwrap_or_default()).await?;
    let of = |test: &Declaration| test.metadata().map(|metadata| metadata.namespace.clone());
    let spoken_of: BTreeSet<String> = tests.iter().filter_map(of).collect();
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
