//! `legate class|namespace suspend|resume`: everything below is stopped, or let go on, by one write.

use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{Declaration, Kind, ResumeDeclarationRequest, SuspendDeclarationRequest};
use prost::{Message, Name};

use super::{Desk, declared};
use crate::cli::{StandingVerb, Turn};
use crate::output::{declared_row, standing};
use crate::place::{Service, request_id};
use crate::{Exit, Failure, proto};

/// Turns it; the two requests and answers are alike.
macro_rules! turn {
    ($desk:expr, $kind:expr, $turn:expr, $request:ident, $method:ident) => {{
        let Turn { name, reason, etag } = $turn;
        let (namespace, name) = declared::place($kind, &name)?;
        let request = $request { kind: $kind.into(), namespace, name, etag, request_id: request_id(), reason };
        let registry = $desk.line(Service::Registry)?;
        let ask = registry.ask(request, |c, r| async move { DeclarationServiceClient::new(c).$method(r).await });
        let answer = ask.await?;
        tell(&$desk, &answer, answer.declaration.as_ref(), answer.revision)
    }};
}

pub(super) async fn run(desk: Desk, kind: Kind, verb: StandingVerb) -> Result<Exit, Failure> {
    match verb {
        StandingVerb::Declared(verb) => declared::run(desk, kind, verb).await,
        StandingVerb::Suspend(turn) => turn!(desk, kind, turn, SuspendDeclarationRequest, suspend_declaration),
        StandingVerb::Resume(turn) => turn!(desk, kind, turn, ResumeDeclarationRequest, resume_declaration),
    }
}

/// Tells how it stands then.
fn tell<A: Message + Name>(
    desk: &Desk,
    answer: &A,
    object: Option<&Declaration>,
    revision: u64,
) -> Result<Exit, Failure> {
    let object = object.cloned().unwrap_or_default();
    let row = declared_row(&object);
    let details = [("name", row.name.clone()), ("state", standing(&object)), ("revision", revision.to_string())];
    desk.out().one(&proto::dynamic(answer), &row, &details)?;
    Ok(Exit::Done)
}
