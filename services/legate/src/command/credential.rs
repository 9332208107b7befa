//! `legate credential`: let a runtime enrol, enrol, renew, see what was issued, take it back.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use legate_client::{RuntimeKey, chain_pem, enrol, enrol_with_identity_token};
use legate_clock::Timestamp;
use legate_mtls::Identity;
use legate_wire::credential::agent_credential_service_client::AgentCredentialServiceClient;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{
    CreateEnrolmentTokenRequest, Credential, EnforcementPointRef, EnrolRequest, EnrolWithIdentityTokenRequest,
    ListCredentialsRequest, ListCredentialsResponse, NodeRef, RenewCertificateRequest, RevokeCredentialRequest,
    create_enrolment_token_request::Holder,
};
use legate_wire::registry::RevocationReason;

use super::agent::{PAGE, cut, note};
use super::{Desk, client, find_leaked, health, named, revoke_issued};
use crate::cli::{Cause, ClientKind, CredentialKind, CredentialVerb};
use crate::error::{FILE_REFUSED, USAGE};
use crate::identity::{self, Kept};
use crate::output::{Row, moment, say};
use crate::place::{Line, Service};
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, verb: CredentialVerb) -> Result<Exit, Failure> {
    match verb {
        CredentialVerb::Create { agent, enforcement_point, node, kind, key, ttl, reason, identity } => {
            let issuer = match &identity {
                Some(dir) => desk.line_as(Service::Issuer, identity::open(dir)?)?,
                None => desk.line(Service::Issuer)?,
            };
            let kind = match kind {
                CredentialKind::Enrolment if key.jwk.is_none() && key.new_key.is_none() => None,
                CredentialKind::Enrolment => return Err(Failure::local(&USAGE, "a key is given with --type key only")),
                CredentialKind::Secret => Some(ClientKind::Secret),
                CredentialKind::Key => Some(ClientKind::Key),
            };
            if let Some(kind) = kind {
                let agent = agent.ok_or_else(|| {
                    Failure::local(&USAGE, "secrets and keys are for agents: give --agent; a backend or a node enrols")
                })?;
                let wish = client::Wish { agent, key, ttl, replace: false, reason };
                return client::give(desk, issuer, kind, wish).await;
            }
            let whom = Whom { agent, enforcement_point, node };
            create(desk, issuer, whom, ttl, reason).await
        }
        CredentialVerb::Rotate { agent, kind, key, ttl, reason } => {
            let issuer = desk.line(Service::Issuer)?;
            client::give(desk, issuer, kind, client::Wish { agent, key, ttl, replace: true, reason }).await
        }
        CredentialVerb::Enrol { token, identity_token_file, namespace, out } => {
            let proof = match (identity_token_file, namespace) {
                (Some(file), Some(namespace)) => Proof::Identity { token: secret_in(&file)?, namespace },
                _ => Proof::Token(secret(token.unwrap_or_default())?),
            };
            enrol_into(desk, proof, &out).await
        }
        CredentialVerb::Renew { identity } => renew(desk, &identity).await,
        CredentialVerb::List { agent, namespace, limit } => list(desk, agent, namespace, limit.limit).await,
        CredentialVerb::Health(ask) => health::run(desk, ask).await,
        CredentialVerb::Find { leaked, revoke, reason } => find_leaked::run(desk, &leaked, revoke, reason).await,
        CredentialVerb::Revoke { credential: Some(one), reason, cause, .. } => revoke(desk, one, reason, cause).await,
        CredentialVerb::Revoke { credential: None, issued, reason, cause } => {
            revoke_issued::run(desk, issued, reason, cause).await
        }
    }
}

/// Whose runtime may enrol; one is given.
struct Whom {
    agent: Option<String>,
    enforcement_point: Option<String>,
    node: Option<String>,
}

async fn create(
    desk: Desk,
    issuer: Line,
    whom: Whom,
    ttl: Option<prost_types::Duration>,
    reason: String,
) -> Result<Exit, Failure> {
    let holder = match whom {
        Whom { agent: Some(agent), .. } => Holder::AgentId(desk.agent_id(&agent).await?),
        Whom { node: Some(node), .. } => {
            let (namespace, name) = named(&node)?;
            Holder::Node(NodeRef { namespace, name })
        }
        Whom { enforcement_point, .. } => {
            let (namespace, name) = named(&enforcement_point.unwrap_or_default())?;
            Holder::EnforcementPoint(EnforcementPointRef { namespace, name })
        }
    };
    let request = CreateEnrolmentTokenRequest { holder: Some(holder), ttl, reason };
    let answer = issuer
        .ask(request, |c, r| async move { CredentialAdminServiceClient::new(c).create_enrolment_token(r).await })
        .await?;
    let row = Row { cells: Vec::new(), name: answer.token.clone(), message: proto::dynamic(&answer), node: None };
    let details = [
        ("token", answer.token.clone()),
        ("for", answer.spiffe_id.clone()),
        ("usable until", moment(answer.expire_time.as_ref())),
        ("record", answer.enrolment_id.clone()),
        ("", "The token is shown this once and works once: legate credential enrol --token TOKEN --out DIR".to_owned()),
    ];
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}

/// With what a runtime enrols.
#[derive(Clone)]
enum Proof {
    /// A one-time token of ours.
    Token(String),
    /// A token of an issuer that the namespace trusts.
    Identity { token: String, namespace: String },
}

/// A secret from a file, or from standard input for `-`.
pub(super) fn secret_in(file: &Path) -> Result<String, Failure> {
    if file == Path::new("-") {
        return secret("-".to_owned());
    }
    let read = std::fs::read_to_string(file).map_err(|e| Failure::file(file, e))?;
    match read.trim() {
        "" => Err(Failure::file(file, "there is no token in it")),
        token => Ok(token.to_owned()),
    }
}

/// A secret from the command line, or from standard input for `-`.
pub(super) fn secret(text: String) -> Result<String, Failure> {
    if text != "-" {
        return Ok(text);
    }
    let mut read = String::new();
    let done = std::io::stdin().lock().take(64 << 10).read_to_string(&mut read);
    done.map_err(|e| Failure::local(&FILE_REFUSED, format!("standard input: {e}")))?;
    let read = read.trim();
    if read.is_empty() {
        return Err(Failure::local(&USAGE, "standard input holds no token"));
    }
    Ok(read.to_owned())
}

async fn enrol_into(desk: Desk, proof: Proof, out: &Path) -> Result<Exit, Failure> {
    // Whoever enrols shows no certificate; that of an operator only tells the trust domain where nobody says it.
    let known = desk.place.operator().unwrap_or_else(|_| Identity::anonymous());
    let issuer = desk.place.remote(Service::Issuer, &known)?;
    identity::make_room(out)?;
    if desk.show {
        say(&match proof.clone() {
            Proof::Token(token) => proto::shown(&EnrolRequest { token, csr: Vec::new() }),
            Proof::Identity { token, namespace } => {
                proto::shown(&EnrolWithIdentityTokenRequest { token, namespace, csr: Vec::new() })
            }
        });
    }
    let enrolled = match &proof {
        Proof::Token(token) => enrol(&issuer, token).await,
        Proof::Identity { token, namespace } => enrol_with_identity_token(&issuer, namespace, token).await,
    };
    let enrolled = enrolled.map_err(|e| Failure::client(Service::Issuer.name(), &issuer.endpoint, e))?;
    let kept = Kept {
        key: &enrolled.key,
        chain_pem: &enrolled.chain_pem,
        workload_roots_pem: &enrolled.workload_roots_pem,
        credential: &enrolled.credential,
    };
    identity::keep(out, &kept)?;
    tell(&desk, &enrolled.credential, out)
}

async fn renew(desk: Desk, dir: &Path) -> Result<Exit, Failure> {
    let old = identity::open(dir)?;
    let issuer = desk.line_as(Service::Issuer, old)?;
    let broken = |e: legate_client::ClientError| Failure::local(&FILE_REFUSED, e.to_string());
    let key = RuntimeKey::generate().map_err(broken)?;
    let request = RenewCertificateRequest { csr: key.request().map_err(broken)? };
    let answer = issuer
        .ask(request, |c, r| async move { AgentCredentialServiceClient::new(c).renew_certificate(r).await })
        .await?;
    let credential = answer.credential.unwrap_or_default();
    let kept = Kept {
        key: &key,
        chain_pem: &chain_pem(&answer.certificate_chain),
        workload_roots_pem: &chain_pem(&answer.workload_roots),
        credential: &credential,
    };
    identity::keep(dir, &kept)?;
    tell(&desk, &credential, dir)
}

fn tell(desk: &Desk, credential: &Credential, dir: &Path) -> Result<Exit, Failure> {
    let row = row(credential);
    let details = [
        ("credential", credential.id.clone()),
        ("holder", credential.spiffe_id.clone()),
        ("holds until", moment(credential.not_after.as_ref())),
        ("identity", format!("{} (private key and certificate, mode 0600)", identity::file(dir).display())),
    ];
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}

fn row(credential: &Credential) -> Row {
    Row {
        cells: vec![
            ("CREDENTIAL", false, credential.id.clone()),
            ("TYPE", false, proto::word(credential.r#type().as_str_name(), "CREDENTIAL_TYPE_").into()),
            ("STATE", false, proto::word(credential.state().as_str_name(), "CREDENTIAL_STATE_").into()),
            ("HOLDER", false, credential.spiffe_id.clone()),
            ("ISSUED", false, moment(credential.issue_time.as_ref())),
            ("UNTIL", false, moment(credential.not_after.as_ref())),
            ("LIFE", true, lifetime(credential)),
            ("SERIAL", true, credential.serial.clone()),
            ("REVOKED", true, moment(credential.revoke_time.as_ref())),
        ],
        name: credential.id.clone(),
        message: proto::dynamic(credential),
        node: None,
    }
}

fn lifetime(credential: &Credential) -> String {
    let time = |t: Option<prost_types::Timestamp>| t.and_then(|t| Timestamp::try_from(t).ok());
    match (time(credential.issue_time), time(credential.not_after)) {
        (Some(from), Some(to)) => crate::output::span(Duration::from_secs(to.since(from).as_secs())),
        _ => String::new(),
    }
}

async fn list(desk: Desk, agent: Option<String>, namespace: Option<String>, limit: usize) -> Result<Exit, Failure> {
    let agent_id = match agent {
        Some(agent) => desk.agent_id(&agent).await?,
        None => String::new(),
    };
    let mut request = ListCredentialsRequest {
        agent_id,
        namespace: namespace.unwrap_or_default(),
        page_size: PAGE,
        ..ListCredentialsRequest::default()
    };
    let issuer = desk.line(Service::Issuer)?;
    let mut whole = ListCredentialsResponse::default();
    loop {
        let page = issuer
            .ask(request.clone(), |c, r| async move { CredentialAdminServiceClient::new(c).list_credentials(r).await })
            .await?;
        whole.credentials.extend(page.credentials);
        whole.next_page_token = page.next_page_token.clone();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || (limit > 0 && whole.credentials.len() >= limit) {
            break;
        }
    }
    let more = cut(&mut whole.credentials, limit) || !whole.next_page_token.is_empty();
    let rows: Vec<Row> = whole.credentials.iter().map(row).collect();
    let note = note(rows.len(), "credential", more, 0);
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

/// A cause as the services know it.
pub(super) fn in_rfc_5280(cause: Cause) -> RevocationReason {
    match cause {
        Cause::Unspecified => RevocationReason::Unspecified,
        Cause::KeyCompromise => RevocationReason::KeyCompromise,
        Cause::AffiliationChanged => RevocationReason::AffiliationChanged,
        Cause::Superseded => RevocationReason::Superseded,
        Cause::CessationOfOperation => RevocationReason::CessationOfOperation,
        Cause::PrivilegeWithdrawn => RevocationReason::PrivilegeWithdrawn,
    }
}

async fn revoke(desk: Desk, credential_id: String, comment: String, cause: Cause) -> Result<Exit, Failure> {
    let request = RevokeCredentialRequest { credential_id, reason: in_rfc_5280(cause).into(), comment };
    let issuer = desk.line(Service::Issuer)?;
    let answer = issuer
        .ask(request, |c, r| async move { CredentialAdminServiceClient::new(c).revoke_credential(r).await })
        .await?;
    let credential = answer.credential.clone().unwrap_or_default();
    let details = [
        ("revoked", credential.id.clone()),
        ("holder", credential.spiffe_id.clone()),
        ("revision", format!("{}; every check at it or later refuses the credential", answer.revision)),
    ];
    desk.out().one(&proto::dynamic(&answer), &row(&credential), &details)?;
    Ok(Exit::Done)
}
