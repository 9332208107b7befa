//! A workload shows the token of an issuer outside and asks for an access token as the agent for which that stands (RFC 7523
//! section 2.1).

use legate_rpc::Fault;
use legate_view::CredentialMethod;

use super::authenticate::{By, Client, copy};
use super::foreign::{self, Proven};
use super::{Call, Desk};
use crate::domain::foreign::StandsFor;
use crate::domain::holder::{Holder, Named};
use crate::error::{IDENTITY_TOKEN_REFUSED, IDENTITY_TOKEN_UNMATCHED};

/// Believes an assertion in a namespace. It is used once: where the token that is asked for by it is recorded.
#[tracing::instrument(skip_all, fields(legate.namespace = %namespace))]
pub(crate) async fn believe(
    desk: &Desk,
    call: &Call,
    namespace: &str,
    assertion: &str,
) -> Result<(Client, Holder), Fault> {
    let believed = attempt(desk, call, namespace, assertion).await;
    if let Err(fault) = &believed {
        // Noted by the door, and not recorded one by one: anybody can have a token of a public issuer.
        desk.metrics.refused("assertion", fault.reason());
    }
    believed
}

async fn attempt(desk: &Desk, call: &Call, namespace: &str, assertion: &str) -> Result<(Client, Holder), Fault> {
    let (Proven { stands_for, evidence, .. }, _) = foreign::prove(desk, namespace, assertion).await?;
    let StandsFor::Agent(agent) = stands_for else {
        let why = "the token stands for a person, and only agents get tokens";
        return Err(Fault::refused(&IDENTITY_TOKEN_UNMATCHED, why));
    };
    let (holder, _) = desk.holder_past_cutoff(&Named::Agent(agent.clone()), copy(call, &agent)).await?;
    holder.means.demand(CredentialMethod::TrustedIssuer)?;
    if !holder.cutoffs.spare(evidence.issued) {
        let why = "the token was made before the agent, its class or its namespace was last stopped";
        return Err(Fault::refused(&IDENTITY_TOKEN_REFUSED, why));
    }
    // Nothing that rests on the assertion alone outlives it.
    let proof_ends = evidence.expires;
    Ok((Client { agent, by: By::Identity(Box::new(evidence)), proof_ends, unused: None }, holder))
}
