//! `legate credential revoke --class|--namespace|--owner|--subject`: everything that was issued so far, by one write.

use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::preview_revocation_request::Level as Seen;
use legate_wire::credential::{PreviewRevocationRequest, PreviewRevocationResponse};
use legate_wire::registry::RevokeIssuedRequest;
use legate_wire::registry::revocation_service_client::RevocationServiceClient;
use legate_wire::registry::revoke_issued_request::Level;

use super::credential::in_rfc_5280;
use super::{Desk, named};
use crate::cli::{Cause, Issued};
use crate::output::{Row, moment};
use crate::place::{Service, request_id};
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, ask: Issued, comment: String, cause: Cause) -> Result<Exit, Failure> {
    let (namespace, level) = match (ask.class, ask.owner, ask.subject) {
        (Some(class), ..) => {
            let (namespace, name) = named(&class)?;
            (namespace, Level::AgentClass(name))
        }
        (_, Some(owner), _) => (ask.namespace.unwrap_or_default(), Level::Owner(owner)),
        (_, _, Some(person)) => (ask.namespace.unwrap_or_default(), Level::Subject(person)),
        (None, None, None) => (ask.namespace.unwrap_or_default(), Level::WholeNamespace(true)),
    };
    let request = PreviewRevocationRequest { namespace: namespace.clone(), level: Some(seen(&level)) };
    let issuer = desk.line(Service::Issuer)?;
    let preview = issuer
        .ask(request, |c, r| async move { CredentialAdminServiceClient::new(c).preview_revocation(r).await })
        .await?;
    let (whom, is_person) = (told(&namespace, &level), matches!(level, Level::Subject(_)));
    if ask.dry_run {
        let row = row(&whom, "", proto::dynamic(&preview));
        desk.out().one(&row.message, &row, &touches("would be revoked", &whom, is_person, &preview))?;
        return Ok(Exit::Done);
    }
    let (reason, request_id) = (in_rfc_5280(cause).into(), request_id());
    let request = RevokeIssuedRequest { namespace, level: Some(level), reason, comment, request_id };
    let registry = desk.line(Service::Registry)?;
    let answer =
        registry.ask(request, |c, r| async move { RevocationServiceClient::new(c).revoke_issued(r).await }).await?;
    let cutoff = moment(answer.authorization_cutoff.as_ref());
    let row = row(&whom, &cutoff, proto::dynamic(&answer));
    let mut details = touches("revoked", &whom, is_person, &preview);
    details.push((
        "cut off",
        format!("{cutoff}; nothing issued at or before it works, and nothing new is issued until then"),
    ));
    details.push(("revision", format!("{}; every check at it or later refuses what was issued", answer.revision)));
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}

fn seen(level: &Level) -> Seen {
    match level.clone() {
        Level::AgentClass(name) => Seen::AgentClass(name),
        Level::WholeNamespace(whole) => Seen::WholeNamespace(whole),
        Level::Owner(name) => Seen::Owner(name),
        Level::Subject(name) => Seen::Subject(name),
    }
}

/// Whom it concerns, for people.
fn told(namespace: &str, level: &Level) -> String {
    let place = if namespace.is_empty() { "everywhere".to_owned() } else { format!("in {namespace}") };
    match level {
        Level::AgentClass(name) => format!("everything issued to agents of the class {namespace}/{name}"),
        Level::WholeNamespace(_) => format!("everything issued to agents of the namespace {namespace}"),
        Level::Owner(name) => format!("everything issued to agents of the owner {name}, {place}"),
        Level::Subject(name) => format!("everything by which agents act for {name}, {place}"),
    }
}

fn touches(
    verb: &'static str,
    whom: &str,
    is_person: bool,
    preview: &PreviewRevocationResponse,
) -> Vec<(&'static str, String)> {
    let mut counts: Vec<String> = Vec::new();
    for one in &preview.credentials {
        let kind = proto::word(one.r#type().as_str_name(), "CREDENTIAL_TYPE_");
        counts.push(format!("{} {kind}", one.count));
    }
    let more = if preview.partial { ", of the first 20,000 agents" } else { "" };
    let held = if counts.is_empty() { "none".to_owned() } else { format!("{}{more}", counts.join(", ")) };
    let mut lines = vec![(verb, whom.to_owned()), ("agents", preview.agents.to_string())];
    if is_person {
        lines.push(("grants", format!("{}; they stay, and new tokens can be had by them", preview.grants)));
    } else {
        lines.push(("credentials", held));
    }
    lines
}

fn row(whom: &str, cutoff: &str, message: prost_reflect::DynamicMessage) -> Row {
    Row {
        cells: vec![("REVOKED", false, whom.to_owned()), ("CUT OFF", false, cutoff.to_owned())],
        name: whom.to_owned(),
        message,
        node: None,
    }
}
