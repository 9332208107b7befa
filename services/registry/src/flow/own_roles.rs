//! An operator asks who he is here, and what he may do.

use std::sync::Arc;

use legate_authority::{OperatorRole, Right};
use legate_clock::Timestamp;
use legate_rpc::Fault;
use legate_wire::registry as wire;
use legate_wire::registry::GetOwnRolesResponse;

use super::{By, Desk};
use crate::domain::operators::Given;
use crate::store::head;

/// His roles, those outside of their window too.
#[tracing::instrument(skip_all)]
pub(crate) async fn own_roles(desk: &Arc<Desk>, by: &By) -> Result<GetOwnRolesResponse, Fault> {
    let now = desk.clock.now();
    desk.look("own_roles", by, move |look| {
        Box::pin(async move {
            let Some(operator) = &look.by.operator else { return Ok(GetOwnRolesResponse::default()) };
            let head = head::read_whole(look.tx).await?;
            let operators = look.desk.operators.at(look.tx, &head).await?;
            let given = operators.of_operator(&operator.name).iter();
            Ok(GetOwnRolesResponse {
                operator: operator.name.to_string(),
                spiffe_id: look.by.actor.clone(),
                roles: given.map(|given| told(given, now)).collect(),
                revision: look.revision,
            })
        })
    })
    .await
}

fn told(given: &Given, now: Timestamp) -> wire::OwnRole {
    let at = |micros: Option<i64>| micros.map(|micros| Timestamp::from_micros(micros).into());
    let appointment = &given.appointment;
    // In a stated emergency it is ADMIN.
    let gives = match appointment.role {
        OperatorRole::BreakGlass => OperatorRole::Admin,
        role => role,
    };
    wire::OwnRole {
        namespace: appointment.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
        role: match appointment.role {
            OperatorRole::Viewer => wire::OperatorRole::Viewer,
            OperatorRole::Editor => wire::OperatorRole::Editor,
            OperatorRole::Approver => wire::OperatorRole::Approver,
            OperatorRole::Admin => wire::OperatorRole::Admin,
            OperatorRole::BreakGlass => wire::OperatorRole::BreakGlass,
        }
        .into(),
        binding: given.binding.clone(),
        not_before: at(appointment.window.not_before()),
        not_after: at(appointment.window.not_after()),
        holds: appointment.window.holds_at(now.micros()),
        rights: Right::ALL.iter().filter(|right| gives.gives(**right)).map(|right| right.word().to_owned()).collect(),
    }
}
