//! `legate whoami`: who the certificate says you are, and what you may do.

use legate_wire::registry::operator_service_client::OperatorServiceClient;
use legate_wire::registry::{GetOwnRolesRequest, GetOwnRolesResponse, OperatorRole, OwnRole};

use super::Desk;
use crate::output::{Row, moment};
use crate::place::Service;
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk) -> Result<Exit, Failure> {
    let answer = own_roles(&desk).await?;
    let rows: Vec<Row> = answer.roles.iter().map(row).collect();
    let note = match answer.roles.len() {
        0 => format!("{} has no role; an administrator gives one with an OperatorBinding", answer.spiffe_id),
        _ => format!("{}, as of revision {}", answer.spiffe_id, answer.revision),
    };
    desk.out().rows(&proto::dynamic(&answer), &rows, &note)?;
    Ok(Exit::Done)
}

/// What the registry says of the caller.
pub(super) async fn own_roles(desk: &Desk) -> Result<GetOwnRolesResponse, Failure> {
    let registry = desk.line(Service::Registry)?;
    registry
        .ask(GetOwnRolesRequest {}, |c, r| async move { OperatorServiceClient::new(c).get_own_roles(r).await })
        .await
}

/// A role in a word, and where it counts.
pub(super) fn role(own: &OwnRole) -> (String, String) {
    let place = if own.namespace.is_empty() { "everywhere".to_owned() } else { own.namespace.clone() };
    (proto::word(own.role().as_str_name(), "OPERATOR_ROLE_").to_owned(), place)
}

fn row(own: &OwnRole) -> Row {
    let (word, place) = role(own);
    let rights = own.rights.join(", ").to_lowercase();
    let rights = match own.role() {
        OperatorRole::BreakGlass => format!("with --break-glass: {rights}"),
        _ => rights,
    };
    Row {
        cells: vec![
            ("NAMESPACE", false, place.clone()),
            ("ROLE", false, word.clone()),
            ("HOLDS", false, if own.holds { "now" } else { "not now" }.to_owned()),
            ("RIGHTS", false, rights),
            ("BINDING", true, own.binding.clone()),
            ("FROM", true, moment(own.not_before.as_ref())),
            ("UNTIL", true, moment(own.not_after.as_ref())),
        ],
        name: format!("{word} {place}"),
        message: proto::dynamic(own),
        node: None,
    }
}
