//! What was found is a key of this issuer's own, or was signed by one that nobody believes any more.

use legate_clock::Timestamp;
use legate_ids::SpiffeId;
use legate_rpc::Fault;
use legate_token::{Parsed, PublicKey};

use super::{End, Kind, Known, Looked, rests_on};
use crate::domain::keyring::{KeyUse, State};
use crate::error::of_tx;
use crate::flow::Desk;
use crate::keys::{Verifier, key_of};
use crate::store::signing_key::{self, Model};

/// The row of a key of ours, of whatever use and state.
async fn row(desk: &Desk, kid: &str) -> Result<Option<Model>, Fault> {
    let kid = kid.to_owned();
    let read = desk.db.read("own_key", move |tx| {
        let kid = kid.clone();
        Box::pin(async move { signing_key::by_kid(tx, &kid).await })
    });
    read.await.map_err(of_tx)
}

/// When a key was over.
fn since(row: &Model) -> String {
    row.retired_at.map(|at| format!(" at {}", Timestamp::from_micros(at))).unwrap_or_default()
}

/// A token that a key of ours signed which is not believed now.
pub(super) async fn token(desk: &Desk, text: &str) -> Result<Option<Looked>, Fault> {
    let Ok(parsed) = Parsed::parse(text) else { return Ok(None) };
    let Some(row) = row(desk, parsed.kid().as_str()).await? else { return Ok(None) };
    let (state, kid) = (row.state()?, &row.kid);
    if row.purpose()? != KeyUse::AccessTokens {
        return Ok(None);
    }
    let Ok(signed) = parsed.check_signature(&Verifier::new(&row.public()?)) else { return Ok(None) };
    let claims = signed.claims().clone();
    let (why_not, advice) = match state {
        State::Revoked => (
            format!("the key {kid} that signed it was revoked as compromised{}", since(&row)),
            "nobody takes it who asks; whoever took the key may have made it, so what it says of itself proves nothing: \
             legate audit query --type token.issued shows whether this issuer made a token of this id",
        ),
        State::Retired => (format!("the key {kid} that signed it was retired{}", since(&row)), ""),
        State::Prepared | State::Active | State::Retiring | State::Tainted => (
            format!("the registry does not say that the key {kid} that signed it is believed now"),
            "look at legate key list; a key is published within seconds",
        ),
    };
    // A thief of the key writes into a token what he likes: nothing of another namespace is shown for its sake.
    let made = rests_on(desk, &claims).await?.filter(|made| made.namespace == claims.namespace.as_str());
    let known = Known {
        namespace: claims.namespace.to_string(),
        spiffe_id: SpiffeId::agent(&desk.domain, &claims.namespace, &claims.agent).to_string(),
        agent_id: claims.agent.to_string(),
        credentials: made.into_iter().collect(),
        token_id: claims.token_id.clone(),
        ends: Some(Timestamp::from_secs(i64::try_from(claims.expires_at).unwrap_or(i64::MAX))),
        why_not: Some(why_not),
        advice: advice.to_owned(),
        key: Some(row),
        ..Known::default()
    };
    Ok(Some(Looked { known, end: End::Nothing }))
}

/// A private key by which this issuer signs or signed.
pub(super) async fn key(desk: &Desk, key: &PublicKey) -> Result<(Kind, Option<Looked>), Fault> {
    let Some(row) = row(desk, key.kid().as_str()).await? else { return Ok((Kind::PrivateKey, None)) };
    let (purpose, state, kid) = (row.purpose()?, row.state()?, &row.kid);
    let take_back = format!("legate key retire {kid} --compromised --reason TEXT");
    let (why_not, advice) = match state {
        State::Revoked => (
            Some(format!("it was revoked as compromised{}", since(&row))),
            "nothing that it signed is believed by whoever asks; find out how it left the place where keys are"
                .to_owned(),
        ),
        State::Retired => (
            Some(format!("it was retired{}", since(&row))),
            format!("{take_back} says that it was stolen; find out how it left the place where keys are"),
        ),
        State::Prepared | State::Active | State::Retiring | State::Tainted => (
            None,
            format!(
                "whoever has it makes {}; {take_back}, and where its neighbours may be gone too, legate key rotate {} --compromised \
                 --reason TEXT",
                if purpose.is_ca() { "certificates of anybody" } else { "tokens of anybody" },
                purpose.argument(),
            ),
        ),
    };
    let known = Known { why_not, advice, key: Some(row), ..Known::default() };
    // An operator has to say which keys go, and that everybody has to be served by others: it is no side effect of a search.
    Ok((Kind::IssuerKey, Some(Looked { known, end: End::Nothing })))
}

/// The certificate of a CA of ours.
pub(super) async fn certificate(desk: &Desk, der: &[u8]) -> Result<(Kind, Option<Looked>), Fault> {
    let nothing = (Kind::Certificate, None);
    let Some(key) = key_of(der) else { return Ok(nothing) };
    let row = row(desk, key.kid().as_str()).await?;
    let Some(row) = row.filter(|row| row.certificate.as_deref() == Some(der)) else { return Ok(nothing) };
    let known = Known {
        why_not: Some(format!(
            "it is the certificate of a CA of this issuer, {}, and opens nothing",
            row.state()?.word()
        )),
        advice: "a CA certificate is for everybody to see; look for its private key where it was found".to_owned(),
        key: Some(row),
        ..Known::default()
    };
    Ok((Kind::CaCertificate, Some(Looked { known, end: End::Nothing })))
}
