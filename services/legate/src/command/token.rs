//! `legate token`: access tokens, obtained as the agent that holds the identity.

use legate_wire::credential::IssueTokenRequest;
use legate_wire::credential::agent_credential_service_client::AgentCredentialServiceClient;

use super::Desk;
use crate::cli::TokenVerb;
use crate::output::{Row, moment};
use crate::place::Service;
use crate::{Exit, Failure, identity, proto};

pub(super) async fn run(desk: Desk, verb: TokenVerb) -> Result<Exit, Failure> {
    let TokenVerb::Issue { identity, audience, scope, ttl } = verb;
    let us = identity::open(&identity)?;
    let request = IssueTokenRequest { audience: audience.clone(), scopes: scope, ttl };
    let issuer = desk.line_as(Service::Issuer, us)?;
    let answer =
        issuer.ask(request, |c, r| async move { AgentCredentialServiceClient::new(c).issue_token(r).await }).await?;
    let row =
        Row { cells: Vec::new(), name: answer.access_token.clone(), message: proto::dynamic(&answer), node: None };
    let scopes = if answer.scopes.is_empty() { "not narrowed".to_owned() } else { answer.scopes.join(", ") };
    let details = [
        ("token", answer.access_token.clone()),
        ("for", audience),
        ("until", moment(answer.expire_time.as_ref())),
        ("scopes", scopes),
        ("id", answer.token_id.clone()),
    ];
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}
