//! `legate instance` and `legate agent instances`: which copies of agents run, and an end to one of them.

use legate_wire::credential::instance_service_client::InstanceServiceClient;
use legate_wire::credential::{
    GetInstanceRequest, Instance, InstanceState, ListInstancesRequest, ListInstancesResponse, RevokeInstanceRequest,
    RevokeInstanceResponse,
};

use super::agent::{PAGE, cut, note};
use super::credential::in_rfc_5280;
use super::{Desk, named};
use crate::cli::{Cause, InstanceList, InstanceStanding, InstanceVerb};
use crate::output::{Row, moment};
use crate::place::{Line, Service};
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, verb: InstanceVerb) -> Result<Exit, Failure> {
    let issuer = desk.line(Service::Issuer)?;
    match verb {
        InstanceVerb::List(ask) => list(desk, ask).await,
        InstanceVerb::Get { instance } => {
            let request = GetInstanceRequest { instance_id: instance };
            let answer =
                issuer.ask(request, |c, r| async move { InstanceServiceClient::new(c).get_instance(r).await }).await?;
            let instance = answer.instance.clone().unwrap_or_default();
            desk.out().one(&proto::dynamic(&answer), &row(&instance), &details(&instance))?;
            Ok(Exit::Done)
        }
        InstanceVerb::Revoke { instance: None, node, reason, cause } => {
            revoke_of_node(desk, node.unwrap_or_default(), reason, cause).await
        }
        InstanceVerb::Revoke { instance: Some(instance), reason, cause, .. } => {
            let answer = revoke(&issuer, instance, reason, cause).await?;
            let instance = answer.instance.clone().unwrap_or_default();
            let mut details = details(&instance);
            let text = format!("{}; every check at it or later refuses what the instance holds", answer.revision);
            details.push(("revision", text));
            desk.out().one(&proto::dynamic(&answer), &row(&instance), &details)?;
            Ok(Exit::Done)
        }
    }
}

async fn revoke(
    issuer: &Line,
    instance: String,
    reason: String,
    cause: Cause,
) -> Result<RevokeInstanceResponse, Failure> {
    let request = RevokeInstanceRequest { instance_id: instance, reason: in_rfc_5280(cause).into(), comment: reason };
    issuer.ask(request, |c, r| async move { InstanceServiceClient::new(c).revoke_instance(r).await }).await
}

/// Takes back, one by one, every instance that a node attested and that holds something.
async fn revoke_of_node(desk: Desk, node: String, reason: String, cause: Cause) -> Result<Exit, Failure> {
    named(&node)?;
    let issuer = desk.line(Service::Issuer)?;
    let states = vec![InstanceState::Live.into()];
    let request = ListInstancesRequest { node, states, page_size: PAGE, ..ListInstancesRequest::default() };
    let mut whole = ListInstancesResponse::default();
    // All of them are found before the first is taken back: a page goes by what there is when it is read.
    let found = pages(&issuer, request, 0).await?;
    for instance in found.instances {
        let answer = revoke(&issuer, instance.id, reason.clone(), cause).await?;
        whole.instances.extend(answer.instance);
    }
    let rows: Vec<Row> = whole.instances.iter().map(row).collect();
    let note = format!("{} revoked", note(rows.len(), "instance", false, 0));
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

/// The pages of a list in one, up to a limit; 0: all of them.
async fn pages(
    issuer: &Line,
    mut request: ListInstancesRequest,
    limit: usize,
) -> Result<ListInstancesResponse, Failure> {
    let mut whole = ListInstancesResponse::default();
    loop {
        let page = issuer
            .ask(request.clone(), |c, r| async move { InstanceServiceClient::new(c).list_instances(r).await })
            .await?;
        whole.instances.extend(page.instances);
        whole.next_page_token = page.next_page_token.clone();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || (limit > 0 && whole.instances.len() >= limit) {
            return Ok(whole);
        }
    }
}

/// Lists instances, newest first.
pub(super) async fn list(desk: Desk, ask: InstanceList) -> Result<Exit, Failure> {
    if let Some(node) = &ask.node {
        named(node)?;
    }
    let agent_id = match &ask.agent {
        Some(agent) => desk.agent_id(agent).await?,
        None => String::new(),
    };
    let limit = ask.limit.limit;
    let request = ListInstancesRequest {
        agent_id,
        namespace: ask.namespace.unwrap_or_default(),
        node: ask.node.unwrap_or_default(),
        states: ask.state.into_iter().map(|state| self::state(state).into()).collect(),
        page_size: PAGE,
        page_token: String::new(),
    };
    let issuer = desk.line(Service::Issuer)?;
    let mut whole = pages(&issuer, request, limit).await?;
    let more = cut(&mut whole.instances, limit) || !whole.next_page_token.is_empty();
    let rows: Vec<Row> = whole.instances.iter().map(row).collect();
    let note = note(rows.len(), "instance", more, 0);
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

fn state(of: InstanceStanding) -> InstanceState {
    match of {
        InstanceStanding::Live => InstanceState::Live,
        InstanceStanding::CutOff => InstanceState::CutOff,
        InstanceStanding::Revoked => InstanceState::Revoked,
        InstanceStanding::Ended => InstanceState::Ended,
    }
}

/// How it proved itself, in a word.
fn method(instance: &Instance) -> String {
    proto::word(instance.method().as_str_name(), "CREDENTIAL_METHOD_").into()
}

fn row(instance: &Instance) -> Row {
    Row {
        cells: vec![
            ("INSTANCE", false, instance.id.clone()),
            ("STATE", false, proto::word(instance.state().as_str_name(), "INSTANCE_STATE_").into()),
            ("AGENT", false, instance.agent_id.clone()),
            ("STARTED", false, moment(instance.start_time.as_ref())),
            ("RENEWED", false, moment(instance.renew_time.as_ref())),
            ("UNTIL", false, moment(instance.end_time.as_ref())),
            ("PROVED BY", true, format!("{} {}", method(instance), instance.proof)),
            ("NAMESPACE", true, instance.namespace.clone()),
            ("NODE", true, instance.node.clone()),
            ("REVOKED", true, moment(instance.revoke_time.as_ref())),
        ],
        name: instance.id.clone(),
        message: proto::dynamic(instance),
        node: None,
    }
}

fn details(instance: &Instance) -> Vec<(&'static str, String)> {
    let mut details = vec![
        ("instance", instance.id.clone()),
        ("state", proto::word(instance.state().as_str_name(), "INSTANCE_STATE_").into()),
        ("of the agent", instance.agent_id.clone()),
        ("spiffe id", instance.spiffe_id.clone()),
        ("proved by", format!("{} {}", method(instance), instance.proof)),
        ("started", moment(instance.start_time.as_ref())),
        ("last renewed", moment(instance.renew_time.as_ref())),
        ("until", moment(instance.end_time.as_ref())),
    ];
    if instance.revoke_time.is_some() {
        details.push(("revoked", moment(instance.revoke_time.as_ref())));
    }
    details
}
