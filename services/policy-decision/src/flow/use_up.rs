//! What is allowed by an approval that counts once is allowed to one decision: the registry says to which.

use std::time::Duration;

use legate_rpc::Told;
use legate_wire::registry::UseApprovalsRequest;
use tonic::Code;

use super::asker::Asker;
use super::evaluate::{Desk, Spoken};
use crate::domain::answer::{Answer, Cause, CauseKind, Why};

/// The longest that the registry is waited for, by all questions of a call together.
const PATIENCE: Duration = Duration::from_millis(500);

/// Uses up what the answers rest on, in their order; an answer whose approval was used before is a denial. Whether any was used.
pub(super) async fn use_up(desk: &Desk, asker: &Asker, all: &mut [Spoken]) -> bool {
    let give_up = tokio::time::Instant::now() + asker.patience(PATIENCE);
    let mut is_used = false;
    for spoken in all.iter_mut().filter(|one| one.answer.denied.is_none() && !one.answer.uses.is_empty()) {
        let ask = UseApprovalsRequest {
            decision_id: spoken.id.to_string(),
            approval_ids: spoken.answer.uses.iter().cloned().collect(),
        };
        let left = give_up.saturating_duration_since(tokio::time::Instant::now());
        let told = tokio::time::timeout(left, desk.uses.use_up(ask, left)).await;
        let (why, text) = match told {
            Ok(Ok(_)) => {
                is_used = true;
                continue;
            }
            // It may be used up now; then it was for nothing, and not for somebody else.
            Err(_) => (Why::ApprovalUnconfirmed, "the registry did not answer in time".to_owned()),
            Ok(Err(status)) => {
                let told = Told::from_status(&status);
                match status.code() {
                    Code::FailedPrecondition | Code::NotFound => (Why::ApprovalRequired, told.message),
                    _ => (Why::ApprovalUnconfirmed, told.message),
                }
            }
        };
        let text = format!("counts once, and this decision did not get it: {text}");
        let cause = Cause::plain(CauseKind::Approval, text);
        spoken.replace(Answer::deny(why, cause));
    }
    is_used
}
