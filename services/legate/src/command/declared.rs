//! `legate class`, `legate group` and the other nouns of declared objects that are not agents.

use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    Declaration, GetDeclarationRequest, Kind, ListDeclarationsRequest, ListDeclarationsResponse,
    RevokeDeclarationRequest,
};

use super::agent::{PAGE, cut, note};
use super::{Desk, history, named, search};
use crate::cli::{DeclaredVerb, OfAgents, Search, When};
use crate::error::USAGE;
use crate::output::{Row, declared_row, object_details};
use crate::place::{Service, request_id};
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, kind: Kind, verb: DeclaredVerb) -> Result<Exit, Failure> {
    match verb {
        DeclaredVerb::Get { name, when } => get(desk, kind, &name, &when).await,
        DeclaredVerb::History(ask) => history::history(desk, kind, ask).await,
        DeclaredVerb::List { search, namespace, limit } => list(desk, kind, search, namespace, limit.limit).await,
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

async fn get(desk: Desk, kind: Kind, name: &str, when: &When) -> Result<Exit, Failure> {
    let (namespace, name) = place(kind, name)?;
    let request = GetDeclarationRequest { kind: kind.into(), namespace, name, as_of: search::as_of(when)? };
    let registry = desk.line(Service::Registry)?;
    let answer =
        registry.ask(request, |c, r| async move { DeclarationServiceClient::new(c).get_declaration(r).await }).await?;
    let object = answer.declaration.clone().unwrap_or_default();
    desk.out().one(&proto::dynamic(&answer), &declared_row(&object), &object_details(&object))?;
    Ok(Exit::Done)
}

async fn list(
    desk: Desk,
    kind: Kind,
    search: Search,
    namespace: Option<String>,
    limit: usize,
) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let mut whole = ListDeclarationsResponse::default();
    let mut request = ListDeclarationsRequest {
        kind: kind.into(),
        namespace: namespace.unwrap_or_default(),
        page_size: PAGE,
        page_token: String::new(),
        filter: search::filter(&search, &OfAgents::default())?,
        as_of: search::as_of(&search.when)?,
        order_by: search.order_by,
    };
    loop {
        let page = registry
            .ask(request.clone(), |c, r| async move { DeclarationServiceClient::new(c).list_declarations(r).await })
            .await?;
        whole.declarations.extend(page.declarations);
        (whole.next_page_token, whole.revision) = (page.next_page_token.clone(), page.revision);
        (whole.total_estimate, whole.total_is_exact) = (page.total_estimate, page.total_is_exact);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || (limit > 0 && whole.declarations.len() >= limit) {
            break;
        }
    }
    let more = cut(&mut whole.declarations, limit) || !whole.next_page_token.is_empty();
    let rows: Vec<Row> = whole.declarations.iter().map(declared_row).collect();
    let note = note(rows.len(), "object", more, whole.revision)
        + &search::in_all(more, whole.total_estimate, whole.total_is_exact);
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
