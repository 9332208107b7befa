//! `legate apply`: writes what manifests declare, or what a plan holds, once the policy tests pass.

use legate_wire::policy::PreviewChangeRequest;
use legate_wire::registry::ApplyDeclarationsRequest;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;

use super::change::{self, Change};
use super::{Desk, plan_file};
use crate::cli::Apply;
use crate::output::{change_lines, change_rows};
use crate::place::{Service, request_id};
use crate::{Exit, Failure, proto};

/// What the record says where the tests were not run.
const NOT_TESTED: &str = "policy tests were skipped";

pub(super) async fn run(desk: Desk, args: Apply) -> Result<Exit, Failure> {
    let (change, base_revision) = match &args.plan {
        Some(file) => {
            let kept = plan_file::open(file)?;
            let registry = desk.line(Service::Registry)?;
            let planned = change::plan(&registry, kept.declarations.clone(), kept.removals.clone()).await?;
            let base = kept.base_revision;
            // Said here, before the tests are run; and by the registry, should it be written in between.
            if planned.revision != base {
                return Err(moved(base, planned.revision));
            }
            (Change { declarations: kept.declarations, removals: kept.removals, planned }, base)
        }
        None => {
            let change = change::planned(&desk, &args.wanted).await?;
            // What goes was chosen by what was there: that has to be so still.
            let seen = if change.removals.is_empty() { 0 } else { change.planned.revision };
            (change, args.base_revision.unwrap_or(seen))
        }
    };
    let reason = if args.skip_tests {
        format!("{} ({NOT_TESTED})", args.reason)
    } else {
        if base_revision == 0 || base_revision == change.planned.revision {
            change::passed(&change.preview(&desk, Default::default()).await?.tests)?;
        }
        args.reason
    };
    let request = ApplyDeclarationsRequest {
        declarations: change.declarations,
        request_id: request_id(),
        reason,
        base_revision,
        removals: change.removals,
    };
    let registry = desk.line(Service::Registry)?;
    let answer = registry
        .ask(request, |c, r| async move { DeclarationServiceClient::new(c).apply_declarations(r).await })
        .await?;
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

/// The registry is not where the plan was made.
fn moved(base: u64, now: u64) -> Failure {
    let what = format!("the plan was made at revision {base}, and the registry is at {now}");
    let known = legate_registry::REASONS.iter().find(|reason| reason.name == "BASE_MOVED");
    let next = known.map(|reason| reason.cure.to_owned()).unwrap_or_default();
    Failure { exit: Exit::Conflict, reason: "BASE_MOVED".into(), what, fields: Vec::new(), next }
}
