//! `legate class`, `legate group` and the other nouns of declared objects that are not agents.

use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    Declaration, GetDeclarationRequest, Kind, ListDeclarationsRequest, ListDeclarationsResponse,
    RevokeDeclarationRequest,
};

use super::agent::{PAGE, cut, note};
use super::{Desk, named};
use crate::cli::DeclaredVerb;
use crate::error::USAGE;
use crate::output::{Row, declared_row, object_details};
use crate::place::{Service, request_id};
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, kind: Kind, verb: DeclaredVerb) -> Result<Exit, Failure> {
    match verb {
        DeclaredVerb::Get { name } => get(desk, kind, &name).await,
        DeclaredVerb::List { namespace, limit } => list(desk, kind, namespace, limit.limit).await,
        DeclaredVerb::Revoke { name, reason, etag } => revoke(desk, kind, &name, reason, etag).await,
    }
}

/// NAMESPACE/NAME; a namespace is in none, and an operator binding for all of them is in none.
pub(super) fn place(kind: Kind, text: &str) -> Result<(String, String), Failure> {
    let stands_alone = kind == Kind::Namespace || (kind == Kind::OperatorBinding && !text.contains('/'));
    if !stands_alone {
        return named(text);
    }
    match legate_ids::Name::parse(text) {
        Ok(name) => Ok((String::new(), name.to_string())),
        Err(e) => Err(Failure::local(&USAGE, format!("{text:?} is no name: {e}"))),
    }
}

async fn get(desk: Desk, kind: Kind, name: &str) -> Result<Exit, Failure> {
    let (namespace, name) = place(kind, name)?;
    let request = GetDeclarationRequest { kind: kind.into(), namespace, name };
    let registry = desk.line(Service::Registry)?;
    let answer =
        registry.ask(request, |c, r| async move { DeclarationServiceClient::new(c).get_declaration(r).await }).await?;
    let object = answer.declaration.clone().unwrap_or_default();
    desk.out().one(&proto::dynamic(&answer), &declared_row(&object), &object_details(&object))?;
    Ok(Exit::Done)
}

async fn list(desk: Desk, kind: Kind, namespace: Option<String>, limit: usize) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let mut whole = ListDeclarationsResponse::default();
    let mut request = ListDeclarationsRequest {
        kind: kind.into(),
        namespace: namespace.unwrap_or_default(),
        page_size: PAGE,
        page_token: String::new(),
    };
    loop {
        let page = registry
            .ask(request.clone(), |c, r| async move { DeclarationServiceClient::new(c).list_declarations(r).await })
            .await?;
        whole.declarations.extend(page.declarations);
        (whole.next_page_token, whole.revision) = (page.next_page_token.clone(), page.revision);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || (limit > 0 && whole.declarations.len() >= limit) {
            break;
        }
    }
    let more = cut(&mut whole.declarations, limit) || !whole.next_page_token.is_empty();
    let rows: Vec<Row> = whole.declarations.iter().map(declared_row).collect();
    let note = note(rows.len(), "object", more, whole.revision);
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

async fn revoke(desk: Desk, kind: Kind, name: &str, reason: String, etag: String) -> Result<Exit, Failure> {
    let (namespace, name) = place(kind, name)?;
    let request =
        RevokeDeclarationRequest { kind: kind.into(), namespace, name, etag, request_id: request_id(), reason };
    let registry = desk.line(Service::Registry)?;
    let answer = registry
        .ask(request, |c, r| async move { DeclarationServiceClient::new(c).revoke_declaration(r).await })
        .await?;
    let object: Declaration = answer.declaration.clone().unwrap_or_default();
    let row = declared_row(&object);
    let details = [("revoked", row.name.clone()), ("revision", answer.revision.to_string())];
    desk.out().one(&proto::dynamic(&answer), &row, &details)?;
    Ok(Exit::Done)
}
