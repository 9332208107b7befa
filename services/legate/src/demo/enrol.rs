//! Chapter: the agent's runtime and the backend obtain credentials that only they hold.

use futures_util::future::join_all;
use legate_client::{ClientError, Enrolled, Runtime, enrol};
use legate_rpc::Client;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{
    CreateEnrolmentTokenRequest, EnforcementPointRef, IssueTokenResponse, create_enrolment_token_request::Holder,
};
use legate_wire::registry::Agent;

use super::narrate::{Broken, timed};
use super::{AUDIENCE, Stage, broken, refusal};

/// Who takes part from here on.
pub(super) struct Parties {
    pub(super) runtime: Runtime,
    pub(super) token: IssueTokenResponse,
    /// SHA-256 of the agent's certificate, as the backend sees it.
    pub(super) presenter: [u8; 32],
    /// policy-decision, as the backend.
    pub(super) backend: Client,
}

/// So many runtimes try to use one token at once.
const RUNTIMES: usize = 50;

pub(super) async fn tell(stage: &mut Stage, agent: &Agent) -> Result<Parties, Broken> {
    stage.tell.chapter("Its runtime proves itself once, and from then on with a key that never leaves it");
    let id = agent.metadata.clone().unwrap_or_default().id;
    let token = enrolment_token(stage, "agent", Holder::AgentId(id.clone())).await?;
    let enrolled = one_winner(stage, &token).await?;

    let credential = &enrolled.credential;
    let hours = |c: &legate_wire::credential::Credential| {
        let secs = c.not_after.unwrap_or_default().seconds - c.issue_time.unwrap_or_default().seconds;
        format!("{:.1} h", f64::from(i32::try_from(secs).unwrap_or(0)) / 3_600.0)
    };
    stage.tell.say(&format!("{}, serial {}, {}", credential.spiffe_id, credential.serial, hours(credential)));
    let identity = enrolled.identity().map_err(broken)?;
    let presenter = identity.x5t_s256().unwrap_or_default();
    let runtime = Runtime::new(&stage.remote("credential-issuer")?, identity).map_err(broken)?;

    let (token, took) = timed(runtime.token(AUDIENCE)).await;
    let token = token.map_err(broken)?;
    let seconds = lifetime(&token.access_token);
    stage.tell.check(
        seconds == Some(300),
        &format!("an access token for {AUDIENCE}, over mutual TLS"),
        &format!(
            "an at+jwt of {} bytes, bound to the certificate, for {} s",
            token.access_token.len(),
            seconds.unwrap_or(0)
        ),
        took,
    );
    let (foreign, took) = timed(runtime.token("https://elsewhere.example.com")).await;
    let (held, told) = outcome(&foreign, "INVALID_TARGET");
    stage.tell.check(held, "a token for an audience that nobody registered", &told, took);

    let backend = EnforcementPointRef { namespace: "payments".into(), name: "invoices".into() };
    let holder = Holder::EnforcementPoint(backend);
    let backend_token = enrolment_token(stage, "backend", holder).await?;
    let (backend, took) = timed(enrol(&stage.remote("credential-issuer")?, &backend_token)).await;
    let backend = backend.map_err(broken)?;
    stage.tell.step("the backend enrols as an enforcement point", &backend.credential.spiffe_id, took);
    let identity = backend.identity().map_err(broken)?;
    let backend = stage.remote("policy-decision")?.dial(identity).map_err(broken)?;
    Ok(Parties { runtime, token, presenter, backend })
}

async fn enrolment_token(stage: &mut Stage, whom: &str, holder: Holder) -> Result<String, Broken> {
    let mut admin = CredentialAdminServiceClient::new(stage.issuer.clone());
    let request = CreateEnrolmentTokenRequest { holder: Some(holder), ttl: None, reason: "demo".into() };
    let (made, took) = timed(admin.create_enrolment_token(request)).await;
    let made = made.map_err(|s| broken(refusal(&s)))?.into_inner();
    let what = format!("for {}; shown once, kept as an HMAC", made.spiffe_id);
    stage.tell.step(&format!("the operator makes a one-time enrolment token for the {whom}"), &what, took);
    Ok(made.token)
}

async fn one_winner(stage: &mut Stage, token: &str) -> Result<Enrolled, Broken> {
    let issuer = stage.remote("credential-issuer")?;
    let (outcomes, took) = timed(join_all((0..RUNTIMES).map(|_| enrol(&issuer, token)))).await;
    let spent = outcomes.iter().filter(|o| o.as_ref().is_err_and(|e| e.reason() == "ENROLMENT_TOKEN_SPENT")).count();
    let mut winners: Vec<Enrolled> = outcomes.into_iter().filter_map(Result::ok).collect();
    let held = winners.len() == 1 && spent == RUNTIMES - 1;
    stage.tell.check(
        held,
        &format!("{RUNTIMES} runtimes, each with a P-256 key of its own, use it at the same moment"),
        &format!("{} got a certificate, {spent} were told ENROLMENT_TOKEN_SPENT", winners.len()),
        took,
    );
    winners.pop().ok_or_else(|| broken("no runtime got a certificate"))
}

/// Whether a refusal is the wanted one, and what to say of it.
pub(super) fn outcome<T>(found: &Result<T, ClientError>, reason: &str) -> (bool, String) {
    match found {
        Ok(_) => (false, "it was granted".to_owned()),
        Err(error) => (error.reason() == reason, error.to_string()),
    }
}

/// `exp` less `iat`, read without verifying: the backend's question verifies it.
fn lifetime(token: &str) -> Option<i64> {
    use base64ct::Encoding;
    let claims = token.split('.').nth(1)?;
    let claims = base64ct::Base64UrlUnpadded::decode_vec(claims).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    Some(claims.get("exp")?.as_i64()? - claims.get("iat")?.as_i64()?)
}
