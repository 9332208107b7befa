//! Credentials that work and have no business to, as findings of drift: credential-issuer knows them.

use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{
    CredentialHealth, CredentialType, ListCredentialHealthRequest, RotationState, Staleness,
};
use legate_wire::policy::{DriftFinding, DriftSeverity, DriftType};

use crate::command::Desk;
use crate::output::moment;
use crate::place::Service;
use crate::{Failure, proto};

/// Credentials of one page.
const PAGE: u32 = 1_000;

/// Whose credentials are asked about.
pub(in crate::command) struct Ask {
    pub(in crate::command) namespace: String,
    pub(in crate::command) agent_id: String,
    pub(in crate::command) unused_after: Option<prost_types::Duration>,
}

/// What is stale of agents.
pub(in crate::command) async fn findings(desk: &Desk, ask: Ask) -> Result<Vec<DriftFinding>, Failure> {
    let issuer = desk.line(Service::Issuer)?;
    let mut request = ListCredentialHealthRequest {
        namespace: ask.namespace,
        agent_id: ask.agent_id,
        unused_after: ask.unused_after,
        stale_only: true,
        page_size: PAGE,
        ..ListCredentialHealthRequest::default()
    };
    let mut found = Vec::new();
    loop {
        let page = issuer
            .ask(
                request.clone(),
                |c, r| async move { CredentialAdminServiceClient::new(c).list_credential_health(r).await },
            )
            .await?;
        let of_agents = page.credentials.into_iter().filter(|one| !one.agent.is_empty());
        found.extend(of_agents.map(|one| finding(&one, request.unused_after)));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            // In the order of the other findings.
            found.sort_by(|a: &DriftFinding, b| {
                (&a.namespace, &a.name, &a.credential_id).cmp(&(&b.namespace, &b.name, &b.credential_id))
            });
            return Ok(found);
        }
    }
}

/// How bad: as near as its end is, and at least to be looked at where nobody needs it.
fn severity(state: RotationState, why: Staleness) -> DriftSeverity {
    match (state, why) {
        (RotationState::Expiring, _) => DriftSeverity::High,
        (RotationState::Overdue, _) | (_, Staleness::Unused | Staleness::Both) => DriftSeverity::Medium,
        _ => DriftSeverity::Low,
    }
}

fn finding(of: &CredentialHealth, unused_after: Option<prost_types::Duration>) -> DriftFinding {
    let credential = of.credential.clone().unwrap_or_default();
    let kind = match credential.r#type() {
        CredentialType::ClientSecret => "client secret",
        CredentialType::ClientKey => "client key",
        _ => "certificate",
    };
    let until = moment(credential.not_after.as_ref());
    let due = format!("ends {until} and is {}", proto::word(of.state().as_str_name(), "ROTATION_STATE_"));
    let used = match &of.last_used_time {
        Some(last) => format!("was last used {}", moment(Some(last))),
        None => format!("was never used since it was issued {}", moment(credential.issue_time.as_ref())),
    };
    let why = match of.staleness() {
        Staleness::Unused => format!("{used}, and works until {until}"),
        Staleness::Both => format!("{used}, {due}"),
        Staleness::PastRotation | Staleness::Unspecified => due,
    };
    let is_silent = matches!(of.staleness(), Staleness::Unused | Staleness::Both);
    DriftFinding {
        r#type: DriftType::StaleCredential.into(),
        severity: severity(of.state(), of.staleness()).into(),
        agent_id: credential.agent_id.clone(),
        namespace: credential.namespace.clone(),
        name: of.agent.clone(),
        last_used_time: of.last_used_time,
        since_time: of.stale_time,
        threshold: unused_after.filter(|_| is_silent),
        text: format!("the {kind} {} of {} {why}", credential.id, of.agent),
        credential_id: credential.id,
        ..DriftFinding::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_is_by_rule() {
        use RotationState::{Due, Expiring, Ok, Overdue};
        for (state, why, expected) in [
            (Ok, Staleness::Unused, DriftSeverity::Medium),
            (Due, Staleness::PastRotation, DriftSeverity::Low),
            (Due, Staleness::Both, DriftSeverity::Medium),
            (Overdue, Staleness::PastRotation, DriftSeverity::Medium),
            (Expiring, Staleness::PastRotation, DriftSeverity::High),
            (Expiring, Staleness::Both, DriftSeverity::High),
        ] {
            assert_eq!(severity(state, why), expected, "{state:?} {why:?}");
        }
    }
}
