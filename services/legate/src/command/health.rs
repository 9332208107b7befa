//! `legate credential health`: whether credentials are rotated in time, and what is dead and still shown.

use std::collections::BTreeMap;

use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{
    CredentialHealth as Health, ListCredentialHealthRequest, ListCredentialHealthResponse, RotationState,
};

use super::agent::PAGE;
use super::{Desk, named};
use crate::cli::{CredentialHealth, Rotation};
use crate::output::{Row, moment};
use crate::place::Service;
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, ask: CredentialHealth) -> Result<Exit, Failure> {
    let (namespace, agent_class) = match ask.class {
        Some(class) => named(&class)?,
        None => (ask.namespace, String::new()),
    };
    let unwell = [
        RotationState::Due,
        RotationState::Overdue,
        RotationState::Expiring,
        RotationState::ExpiredInUse,
        RotationState::RetiredInUse,
    ];
    let states = if ask.state.is_empty() { unwell.to_vec() } else { ask.state.into_iter().map(asked).collect() };
    let states = states.into_iter().map(Into::into).collect();
    let mut request = ListCredentialHealthRequest {
        namespace,
        agent_class,
        owner: ask.owner,
        states,
        page_size: PAGE,
        ..ListCredentialHealthRequest::default()
    };
    let issuer = desk.line(Service::Issuer)?;
    let mut whole = ListCredentialHealthResponse::default();
    let mut counts: BTreeMap<(i32, i32), u64> = BTreeMap::new();
    loop {
        let page = issuer
            .ask(
                request.clone(),
                |c, r| async move { CredentialAdminServiceClient::new(c).list_credential_health(r).await },
            )
            .await?;
        page.counts.iter().for_each(|one| *counts.entry((one.state, one.r#type)).or_default() += one.count);
        whole.credentials.extend(page.credentials);
        whole.revision = page.revision;
        // The counts are of all pages, however few are listed.
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let count = |((state, r#type), count)| legate_wire::credential::HealthCount { state, r#type, count };
    whole.counts = counts.into_iter().map(count).collect();
    let listed = whole.credentials.len();
    if ask.limit.limit > 0 {
        whole.credentials.truncate(ask.limit.limit);
    }
    let rows: Vec<Row> = whole.credentials.iter().map(row).collect();
    desk.out().rows(&proto::dynamic(&whole), &rows, &note(&whole, rows.len(), listed))?;
    Ok(Exit::Done)
}

fn asked(state: Rotation) -> RotationState {
    match state {
        Rotation::Ok => RotationState::Ok,
        Rotation::Due => RotationState::Due,
        Rotation::Overdue => RotationState::Overdue,
        Rotation::Expiring => RotationState::Expiring,
        Rotation::ExpiredInUse => RotationState::ExpiredInUse,
        Rotation::RetiredInUse => RotationState::RetiredInUse,
    }
}

/// How many are how, whatever is listed.
fn note(whole: &ListCredentialHealthResponse, shown: usize, listed: usize) -> String {
    let told = whole.counts.iter().map(|one| {
        let kind = proto::word(one.r#type().as_str_name(), "CREDENTIAL_TYPE_");
        format!("{} {kind} {}", one.count, proto::word(one.state().as_str_name(), "ROTATION_STATE_"))
    });
    let told: Vec<String> = told.collect();
    let told = if told.is_empty() { "no credentials".to_owned() } else { told.join(", ") };
    if shown < listed { format!("{told}; {shown} of {listed} are listed") } else { told }
}

fn row(of: &Health) -> Row {
    let credential = of.credential.clone().unwrap_or_default();
    let succeeded = if of.succeeded { "yes" } else { "" };
    Row {
        cells: vec![
            ("STATE", false, proto::word(of.state().as_str_name(), "ROTATION_STATE_").into()),
            ("CREDENTIAL", false, credential.id.clone()),
            ("TYPE", false, proto::word(credential.r#type().as_str_name(), "CREDENTIAL_TYPE_").into()),
            ("HOLDER", false, credential.spiffe_id.clone()),
            ("UNTIL", false, moment(credential.not_after.as_ref())),
            ("LAST USED", false, moment(of.last_used_time.as_ref())),
            ("DUE", true, moment(of.due_time.as_ref())),
            ("STALE", true, proto::word(of.staleness().as_str_name(), "STALENESS_").replace("UNSPECIFIED", "")),
            ("SHOWN DEAD", true, moment(of.misused_time.as_ref())),
            ("SUCCEEDED", true, succeeded.to_owned()),
        ],
        name: credential.id.clone(),
        message: proto::dynamic(of),
        node: None,
    }
}
