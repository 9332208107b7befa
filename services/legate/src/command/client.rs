//! `legate credential create --type secret|key` and `rotate`: what an OAuth client proves itself with.

use std::path::Path;

use legate_client::RuntimeKey;
use legate_mtls::pki;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{CreateClientSecretRequest, Credential, RegisterClientKeyRequest};

use super::Desk;
use crate::cli::{ClientKey, ClientKind};
use crate::error::{FILE_REFUSED, USAGE};
use crate::output::{Row, moment};
use crate::place::Line;
use crate::{Exit, Failure, proto};

/// A public JWK is larger than no file that holds one.
const LARGEST_JWK: u64 = 64 << 10;

/// What is asked.
pub(super) struct Wish {
    pub(super) agent: String,
    pub(super) key: ClientKey,
    pub(super) ttl: Option<prost_types::Duration>,
    pub(super) replace: bool,
    pub(super) reason: String,
}

pub(super) async fn give(desk: Desk, issuer: Line, kind: ClientKind, wish: Wish) -> Result<Exit, Failure> {
    match kind {
        ClientKind::Secret => secret(desk, issuer, wish).await,
        ClientKind::Key => key(desk, issuer, wish).await,
    }
}

async fn secret(desk: Desk, issuer: Line, wish: Wish) -> Result<Exit, Failure> {
    if wish.key.jwk.is_some() || wish.key.new_key.is_some() {
        return Err(Failure::local(&USAGE, "a key is given with --type key only"));
    }
    let Wish { ttl, replace, reason, .. } = wish;
    let request = CreateClientSecretRequest { agent_id: desk.agent_id(&wish.agent).await?, ttl, replace, reason };
    let answer = issuer
        .ask(request, |c, r| async move { CredentialAdminServiceClient::new(c).create_client_secret(r).await })
        .await?;
    let credential = answer.credential.clone().unwrap_or_default();
    let row =
        Row { cells: Vec::new(), name: answer.client_secret.clone(), message: proto::dynamic(&answer), node: None };
    let details = [
        ("client id", answer.client_id.clone()),
        ("client secret", answer.client_secret.clone()),
        ("works until", moment(credential.not_after.as_ref())),
        ("record", credential.id.clone()),
        ("replaced", replaced(&answer.replaced)),
        ("", "The secret is shown this once; only its HMAC is kept".to_owned()),
    ];
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}

async fn key(desk: Desk, issuer: Line, wish: Wish) -> Result<Exit, Failure> {
    let Wish { ttl, replace, reason, .. } = wish;
    let agent_id = desk.agent_id(&wish.agent).await?;
    let (jwk, private) = match (&wish.key.jwk, &wish.key.new_key) {
        (Some(file), _) => (read(file)?, String::new()),
        (None, Some(file)) => (new_key(file)?, format!("{} (private JWK, mode 0600)", file.display())),
        (None, None) => return Err(Failure::local(&USAGE, "which key? give --jwk FILE or --new-key FILE")),
    };
    let request = RegisterClientKeyRequest { agent_id, jwk, ttl, replace, reason };
    let answer = issuer
        .ask(request, |c, r| async move { CredentialAdminServiceClient::new(c).register_client_key(r).await })
        .await?;
    let credential = answer.credential.clone().unwrap_or_default();
    let row = Row { cells: Vec::new(), name: credential.key_id.clone(), message: proto::dynamic(&answer), node: None };
    let details = [
        ("client id", answer.client_id.clone()),
        ("key id", credential.key_id.clone()),
        ("key", private),
        ("works until", moment(credential.not_after.as_ref())),
        ("record", credential.id.clone()),
        ("replaced", replaced(&answer.replaced)),
    ];
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}

fn replaced(all: &[Credential]) -> String {
    let one = |c: &Credential| format!("{} until {}", c.id, moment(c.not_after.as_ref()));
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn read(file: &Path) -> Result<String, Failure> {
    let refused = |e| Failure::file(file, e);
    if std::fs::metadata(file).map_err(refused)?.len() > LARGEST_JWK {
        return Err(Failure::file(file, "is too large for a JWK"));
    }
    std::fs::read_to_string(file).map_err(refused)
}

/// Makes a key, and keeps it before anybody is told of it. A file that is there already is never overwritten.
fn new_key(file: &Path) -> Result<String, Failure> {
    if file.exists() {
        return Err(Failure::file(file, "is there already; give the name of a new file"));
    }
    let broken = |e: legate_client::ClientError| Failure::local(&FILE_REFUSED, e.to_string());
    let key = RuntimeKey::generate().map_err(broken)?;
    let private = key.to_private_jwk().map_err(broken)?;
    pki::write_private(file, &private).map_err(|e| Failure::local(&FILE_REFUSED, e.to_string()))?;
    key.to_public_jwk().map_err(broken)
}
