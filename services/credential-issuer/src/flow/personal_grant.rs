//! A person says by a token of its own what an agent may do for it: the token is proved here, and the registry judges and writes.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_rpc::{Code, Fault, Told};
use legate_wire::credential as wire;
use legate_wire::registry::{
    EndPersonalGrantRequest, ListPersonalGrantsRequest, MakePersonalGrantRequest, ProvenPerson,
};
use tonic::Status;

use super::foreign::{self, Proven};
use super::{Call, Desk};
use crate::convert;
use crate::domain::foreign::{StandsFor, Use};
use crate::error::{
    AGAIN, IDENTITY_TOKEN_REFUSED, IDENTITY_TOKEN_SPENT, IDENTITY_TOKEN_UNMATCHED, REGISTRY_UNAVAILABLE, of_registry,
};

const CREATE: &str = "/legate.credential.v1.PersonalGrantService/CreateGrant";
const LIST: &str = "/legate.credential.v1.PersonalGrantService/ListGrants";
const REVOKE: &str = "/legate.credential.v1.PersonalGrantService/RevokeGrant";

/// Lets an agent act for the person.
#[tracing::instrument(skip_all, fields(legate.namespace = %ask.namespace))]
pub(crate) async fn make(
    desk: &Desk,
    call: &Call,
    ask: wire::CreateGrantRequest,
) -> Result<wire::CreateGrantResponse, Fault> {
    counted(desk, "personal_grant", async {
        let (person, made) = proven(desk, (call, CREATE), &ask.namespace, &ask.token).await?;
        check_made_after(desk, &person, made).inspect_err(|fault| desk.refusals.note(&call.peer, CREATE, fault))?;
        let person = Some(person);
        let wire::CreateGrantRequest { name, delegate, permissions, audiences, purpose, ttl, max_depth, .. } = ask;
        let ask = MakePersonalGrantRequest { person, name, delegate, permissions, audiences, purpose, ttl, max_depth };
        let answer = answered(desk, call, |patience| desk.grants.make(ask, patience)).await?;
        let (grant, revision, consent_text) = (answer.grant, answer.revision, answer.consent_text);
        Ok(wire::CreateGrantResponse { grant, revision, consent_text })
    })
    .await
}

/// Which agents may act for the person.
#[tracing::instrument(skip_all, fields(legate.namespace = %ask.namespace))]
pub(crate) async fn list(
    desk: &Desk,
    call: &Call,
    ask: wire::ListGrantsRequest,
) -> Result<wire::ListGrantsResponse, Fault> {
    counted(desk, "personal_grant_list", async {
        let (person, _) = proven(desk, (call, LIST), &ask.namespace, &ask.token).await?;
        let name = person.person.clone();
        let ask = ListPersonalGrantsRequest { person: Some(person), name: ask.name };
        let answer = answered(desk, call, |patience| desk.grants.list(ask, patience)).await?;
        Ok(convert::personal_grants(name, answer))
    })
    .await
}

/// Takes a grant of the person back.
#[tracing::instrument(skip_all, fields(legate.namespace = %ask.namespace))]
pub(crate) async fn end(
    desk: &Desk,
    call: &Call,
    ask: wire::RevokeGrantRequest,
) -> Result<wire::RevokeGrantResponse, Fault> {
    counted(desk, "personal_grant_end", async {
        let (person, _) = proven(desk, (call, REVOKE), &ask.namespace, &ask.token).await?;
        let person = Some(person);
        let wire::RevokeGrantRequest { name, request_id, reason, .. } = ask;
        let ask = EndPersonalGrantRequest { person, name, request_id, reason };
        let answer = answered(desk, call, |patience| desk.grants.end(ask, patience)).await?;
        let (grant, passed_on, revision) = (answer.grant, answer.passed_on, answer.revision);
        Ok(wire::RevokeGrantResponse { grant, passed_on, revision })
    })
    .await
}

/// Counted, and not recorded one by one: anybody can have a token of a public issuer, and what the registry refuses it records itself.
async fn counted<T>(
    desk: &Desk,
    kind: &'static str,
    journey: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let result = Box::pin(journey).await;
    match &result {
        Ok(_) => desk.metrics.personal(kind),
        Err(fault) => desk.metrics.refused(kind, fault.reason()),
    }
    result
}

/// The person for whom a token stands that was made for grants, and when the token was made. That it is believed of nobody is
/// noted with those who are turned away at the door.
async fn proven(
    desk: &Desk,
    (call, method): (&Call, &'static str),
    namespace: &str,
    token: &str,
) -> Result<(ProvenPerson, Timestamp), Fault> {
    let proven = person(desk, namespace, token).await;
    proven.inspect_err(|fault| desk.refusals.note(&call.peer, method, fault))
}

async fn person(desk: &Desk, namespace: &str, token: &str) -> Result<(ProvenPerson, Timestamp), Fault> {
    let (Proven { stands_for, evidence, sign_in }, _) = foreign::prove_for(desk, namespace, token, Use::Grants).await?;
    let StandsFor::Person(person) = stands_for else {
        let why = "the token stands for an agent, and agents delegate by their certificate";
        return Err(Fault::refused(&IDENTITY_TOKEN_UNMATCHED, why));
    };
    let made = evidence.issued;
    Ok((convert::proven_person(person, &evidence, sign_in), made))
}

/// Whoever has a token from before everything was taken back by which agents act for the person makes nothing new with it: it may
/// be the one that was stolen. To see and to end grants it stays good.
fn check_made_after(desk: &Desk, person: &ProvenPerson, made: Timestamp) -> Result<(), Fault> {
    let cutoff = desk.fresh()?.snapshot.subject_cutoff(&person.namespace, &person.person);
    if legate_view::after_cutoff(made, cutoff) {
        return Ok(());
    }
    let why = format!("the token was made before what was issued on behalf of {} was revoked", person.person);
    Err(Fault::refused(&IDENTITY_TOKEN_REFUSED, why))
}

/// What the registry answers within the call's time.
async fn answered<T, F>(desk: &Desk, call: &Call, ask: impl FnOnce(Duration) -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Status>>,
{
    let patience = desk.patience(call);
    match tokio::time::timeout(patience, ask(patience)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(refused(Told::from_status(&status))),
        Err(_) => {
            let text = format!("the registry did not answer within {} ms; it may have done it", patience.as_millis());
            Err(Fault::unavailable(&REGISTRY_UNAVAILABLE, text, AGAIN))
        }
    }
}

/// The registry's refusal as this service's: under the same reason, where it is one that people can be told.
fn refused(told: Told) -> Fault {
    if told.reason == "REQUEST_ID_REUSED" && told.code == Code::AlreadyExists {
        let why = "the token made another grant before, or the request_id stands for another request";
        return Fault::refused(&IDENTITY_TOKEN_SPENT, why);
    }
    match of_registry(&told.reason) {
        Some(reason) if reason.code == Code::Unavailable => Fault::unavailable(reason, told.message, AGAIN),
        Some(reason) => {
            let fault = Fault::refused(reason, told.message);
            told.violations.into_iter().fold(fault, |fault, (path, why)| fault.field(path, why))
        }
        None => {
            let text = format!("the registry did not do it: {}", told.message);
            Fault::unavailable(&REGISTRY_UNAVAILABLE, text, AGAIN).with("registry_reason", told.reason)
        }
    }
}
