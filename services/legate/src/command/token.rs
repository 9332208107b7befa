//! `legate token`: access tokens, obtained, exchanged and looked at as the one who holds the identity.

use legate_wire::credential::agent_credential_service_client::AgentCredentialServiceClient;
use legate_wire::credential::token_service_client::TokenServiceClient;
use legate_wire::credential::{ExchangeTokenRequest, IntrospectRequest, IssueTokenRequest, TokenType};

use super::Desk;
use super::credential::secret;
use crate::cli::TokenVerb;
use crate::output::{Row, moment};
use crate::place::{Line, Service};
use crate::{Exit, Failure, identity, proto};

pub(super) async fn run(desk: Desk, verb: TokenVerb) -> Result<Exit, Failure> {
    match verb {
        TokenVerb::Issue { identity, audience, scope, authorization_details, ttl } => {
            let issuer = desk.line_as(Service::Issuer, identity::open(&identity)?)?;
            issue(&desk, &issuer, IssueTokenRequest { audience, scopes: scope, ttl, authorization_details }).await
        }
        TokenVerb::Exchange {
            identity,
            subject_token,
            identity_token,
            audience,
            scope,
            authorization_details,
            ttl,
            grant,
        } => {
            let of = if identity_token { TokenType::IdToken } else { TokenType::AccessToken };
            let issuer = desk.line_as(Service::Issuer, identity::open(&identity)?)?;
            let request = ExchangeTokenRequest {
                subject_token: secret(subject_token)?,
                subject_token_type: of.into(),
                audience,
                scopes: scope,
                ttl,
                grant,
                authorization_details,
                ..ExchangeTokenRequest::default()
            };
            exchange(&desk, &issuer, request).await
        }
        TokenVerb::Introspect { identity, token } => {
            let issuer = desk.line_as(Service::Issuer, identity::open(&identity)?)?;
            introspect(&desk, &issuer, IntrospectRequest { token: secret(token)? }).await
        }
    }
}

fn narrowed(scopes: &[String]) -> String {
    if scopes.is_empty() { "not narrowed".to_owned() } else { scopes.join(", ") }
}

async fn issue(desk: &Desk, issuer: &Line, request: IssueTokenRequest) -> Result<Exit, Failure> {
    let audience = request.audience.clone();
    let answer =
        issuer.ask(request, |c, r| async move { AgentCredentialServiceClient::new(c).issue_token(r).await }).await?;
    let row =
        Row { cells: Vec::new(), name: answer.access_token.clone(), message: proto::dynamic(&answer), node: None };
    let details = [
        ("token", answer.access_token.clone()),
        ("for", audience),
        ("until", moment(answer.expire_time.as_ref())),
        ("scopes", narrowed(&answer.scopes)),
        ("details", answer.authorization_details.clone()),
        ("id", answer.token_id.clone()),
    ];
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}

async fn exchange(desk: &Desk, issuer: &Line, request: ExchangeTokenRequest) -> Result<Exit, Failure> {
    let audience = request.audience.clone();
    let answer =
        issuer.ask(request, |c, r| async move { AgentCredentialServiceClient::new(c).exchange_token(r).await }).await?;
    let row =
        Row { cells: Vec::new(), name: answer.access_token.clone(), message: proto::dynamic(&answer), node: None };
    let details = [
        ("token", answer.access_token.clone()),
        ("for", audience),
        ("on behalf of", answer.subject.clone()),
        ("through", answer.chain.join("\n")),
        ("by grants", answer.grants.join(", ")),
        ("until", moment(answer.expire_time.as_ref())),
        ("scopes", narrowed(&answer.scopes)),
        ("details", answer.authorization_details.clone()),
        ("id", answer.token_id.clone()),
    ];
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}

async fn introspect(desk: &Desk, issuer: &Line, request: IntrospectRequest) -> Result<Exit, Failure> {
    let answer = issuer.ask(request, |c, r| async move { TokenServiceClient::new(c).introspect(r).await }).await?;
    let row = Row { cells: Vec::new(), name: answer.token_id.clone(), message: proto::dynamic(&answer), node: None };
    let active = if answer.active { "active" } else { "not active" };
    let mut details = vec![("token", active.to_owned())];
    if answer.active {
        details.extend([
            ("agent", answer.agent_id.clone()),
            ("on behalf of", if answer.chain.is_empty() { String::new() } else { answer.subject.clone() }),
            ("through", answer.chain.join("\n")),
            ("for", answer.audience.clone()),
            ("until", moment(answer.expire_time.as_ref())),
            ("scopes", narrowed(&answer.scopes)),
            ("details", answer.authorization_details.clone()),
            ("id", answer.token_id.clone()),
        ]);
    }
    desk.out().one(&row.message, &row, &details)?;
    Ok(if answer.active { Exit::Done } else { Exit::Denied })
}
