//! `legate apply`: writes what manifests declare, or what a plan holds, once the policy tests pass.

use legate_wire::policy::PreviewChangeRequest;
use legate_wire::registry::{ApplyDeclarationsRequest, ApplyDeclarationsResponse};

use super::change::{self, Change};
use super::{Desk, declare, plan_file};
use crate::cli::Apply;
use crate::output::{change_lines, change_rows};
use crate::place::Service;
use crate::{Exit, Failure, proto};

/// What the record says where the tests were not run.
const NOT_TESTED: &str = "policy tests were skipped";

pub(super) async fn run(desk: Desk, args: Apply) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let (change, base) = match &args.plan {
        Some(file) => {
            let ApplyDeclarationsRequest { declarations, removals, base_revision: base, .. } = plan_file::open(file)?;
            // What was written since is said here, before the tests are run; and by the registry, should it be written in between.
            let said = declare::plan(&registry, declarations.clone(), removals.clone(), base).await?;
            (Change { declarations, removals, planned: said.planned() }, base)
        }
        None => {
            let base = args.base_revision.unwrap_or(0);
            let change = change::planned(&desk, &args.wanted, base).await?;
            // What goes was chosen by what was there: that has to be so still.
            let seen = if change.removals.is_empty() { 0 } else { change.planned.revision };
            (change, args.base_revision.unwrap_or(seen))
        }
    };
    let reason = if args.skip_tests {
        format!("{} ({NOT_TESTED})", args.reason)
    } else {
        change::passed(&change.preview(&desk, Default::default()).await?.tests)?;
        args.reason
    };
    let (declarations, removals) = change.moving();
    let answer = if declarations.is_empty() && removals.is_empty() {
        ApplyDeclarationsResponse { changes: change.planned.changes, revision: change.planned.revision }
    } else {
        let said = declare::write(&registry, declarations, removals, reason, base).await?;
        ApplyDeclarationsResponse { changes: change.done(said.changes), revision: said.revision }
    };
    if args.wait {
        let at_least_revision = answer.revision;
        change::preview(&desk, PreviewChangeRequest { at_least_revision, ..Default::default() }).await?;
    }
    let mut out = desk.out();
    if out.is_table() {
        let words = ["created", "changed", "unchanged", "removed"];
        change_lines(&answer.changes, words).iter().try_for_each(|line| out.line(line))?;
        out.line(&format!("Applied; the registry is at revision {}.", answer.revision))?;
        if args.wait {
            out.line("policy-decision decides by it.")?;
        }
        out.flush()?;
    } else {
        out.rows(&proto::dynamic(&answer), &change_rows(&answer.changes), "")?;
    }
    Ok(Exit::Done)
}
