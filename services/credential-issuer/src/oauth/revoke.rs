//! `/oauth2/revoke` (RFC 7009).

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use legate_web::Visitor;

use super::answer::OauthError;
use super::form::Form;
use super::{Facade, REVOKE, call};
use crate::flow::revoke_token::revoke_token;

pub(super) async fn revoke(
    State(facade): State<Facade>,
    visitor: Visitor,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Result<Response, OauthError> {
    let form = Form::read(&headers, uri.query(), &body)?;
    let call = call(&visitor);
    let asker = facade.asker(&call, &headers, &form, REVOKE).await?;
    // A wrong token_type_hint does no harm (RFC 7009 section 2.1), so it is not read.
    let token = form.get("token").ok_or_else(|| OauthError::request("token is missing"))?;
    Box::pin(revoke_token(&facade.desk, &call, &asker, token)).await?;
    Ok((StatusCode::OK, [(header::CACHE_CONTROL, "no-store")]).into_response())
}
