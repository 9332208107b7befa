//! `/oauth2/status/NUMBER` (draft-ietf-oauth-status-list-21 section 8): for anybody who has a token that names it.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use legate_rpc::Fault;
use legate_web::Visitor;

use super::answer::OauthError;
use super::{Facade, call};
use crate::error::STATUS_LIST_NOT_FOUND;
use crate::flow::status_list::status_list;

const TYPE: &str = "application/statuslist+jwt";

pub(super) async fn list(
    State(facade): State<Facade>,
    visitor: Visitor,
    Path(number): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, OauthError> {
    // Section 8.4: how it was at another time is not told, and never passed off as how it was.
    let pairs = uri.query().unwrap_or_default().split('&');
    if pairs.into_iter().any(|pair| pair.split('=').next() == Some("time")) {
        return Ok((StatusCode::NOT_IMPLEMENTED, "lists of another time are not kept").into_response());
    }
    if !takes(&headers) {
        return Ok((StatusCode::NOT_ACCEPTABLE, TYPE).into_response());
    }
    // Written in one way only, so that a list has one URI.
    let read = number.parse::<u32>().ok().filter(|read| read.to_string() == number);
    let no_such = || Fault::refused(&STATUS_LIST_NOT_FOUND, "the number of a status list is a whole number from 0");
    let number = read.ok_or_else(no_such)?;
    let served = Box::pin(status_list(&facade.desk, &call(&visitor), number)).await?;
    let kept = format!("public, max-age={}", facade.desk.lists.as_ref().map_or(0, |lists| lists.ttl().as_secs()));
    let kept = HeaderValue::try_from(kept).unwrap_or(HeaderValue::from_static("no-store"));
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(TYPE)), (header::CACHE_CONTROL, kept)];
    Ok((headers, served.token.to_string()).into_response())
}

/// Whether the client takes the one form that there is (RFC 9110 section 12.5.1; weights are not looked at).
fn takes(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(header::ACCEPT).iter().peekable();
    let named = |value: &HeaderValue| {
        let ranges = value.to_str().unwrap_or_default().to_ascii_lowercase();
        let is_ours =
            |range: &str| matches!(range.split(';').next().map(str::trim), Some(TYPE | "application/*" | "*/*"));
        ranges.split(',').any(is_ours)
    };
    all.peek().is_none() || all.any(named)
}
