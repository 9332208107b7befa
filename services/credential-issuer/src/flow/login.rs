//! An operator proves by an identity provider who he is, and gets a certificate for an hour at most.

use std::time::Duration;

use legate_ids::SpiffeId;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_token::{ForeignExpect, ForeignToken, MAX_LEEWAY};

use super::enrol::may_repeat;
use super::foreign::Evidence;
use super::{Call, Desk};
use crate::convert;
use crate::domain::certificate::{Chance, plan_operator};
use crate::domain::csr;
use crate::domain::foreign::OLDEST;
use crate::domain::keyring::KeyUse;
use crate::domain::login::{self, Provider};
use crate::domain::token::hex;
use crate::error::{IDENTITY_TOKEN_SPENT, LOGIN_NOT_CONFIGURED, flow, of_foreign, of_tx};
use crate::store::credential::{self, sha256};
use crate::store::recorded::{Draft, Recorded, committed, record};
use crate::store::{key, used_token};

/// Who may log in by whose word, and for how long.
#[derive(Debug)]
pub(crate) struct Logins {
    pub(crate) providers: Vec<Provider>,
    pub(crate) ttl: Duration,
}

const LOGIN: &str = "/legate.credential.v1.OperatorLoginService/Login";

/// Trades a token of an identity provider and a certificate request for an operator's certificate.
#[tracing::instrument(skip_all)]
pub(crate) async fn login(desk: &Desk, call: &Call, token: &str, csr: &[u8]) -> Result<credential::Model, Fault> {
    let told = |fault: &Fault| tracing::info!(%fault, peer = %call.peer.addr, "a login was refused");
    let believed = async {
        let logins = desk.logins.as_ref().ok_or_else(|| {
            let text = "no identity provider of operators is configured in this credential-issuer";
            Fault::refused(&LOGIN_NOT_CONFIGURED, text)
        })?;
        Ok::<_, Fault>((logins, who(desk, logins, token).await?))
    };
    let (logins, (spiffe_id, evidence)) = match believed.await {
        Ok(found) => found,
        Err(fault) => {
            told(&fault);
            desk.turn_away(call, LOGIN, "login", &fault);
            return Err(fault);
        }
    };
    let result = use_once(desk, call, logins, (spiffe_id.clone(), &evidence), csr).await;
    match &result {
        Ok(_) => desk.metrics.issued("login"),
        Err(fault) => {
            told(fault);
            desk.metrics.refused("login", fault.reason());
            // Whose token it is is proved: that it is shown again, or with somebody's key, is about that operator.
            if matches!(fault, Fault::Refused(_)) {
                let event = convert::login_refused(call, &spiffe_id, &evidence, fault, desk.clock.now());
                desk.record_refusal(event).await;
            }
        }
    }
    result
}

async fn use_once(
    desk: &Desk,
    call: &Call,
    logins: &Logins,
    (spiffe_id, evidence): (SpiffeId, &Evidence),
    csr: &[u8],
) -> Result<credential::Model, Fault> {
    let csr_sha256 = sha256(csr);
    let once = evidence.once;
    let used = desk.db.read("find_used_token", move |tx| Box::pin(async move { used_token::find(tx, &once).await }));
    if let Some(used) = used.await.map_err(of_tx)? {
        if used.request_sha256 != csr_sha256 || used.credential_id.is_empty() || !may_repeat(desk, used.used_at) {
            return Err(spent());
        }
        return repeat(desk, call, &spiffe_id, evidence, &used).await;
    }

    let proved = csr::check(csr, &spiffe_id)?;
    desk.refuse_own_keys(&proved)?;
    let now = desk.clock.now();
    let chance = Chance::new(now, Desk::random()?, Desk::random()?);
    let authority = desk.keys.authority(KeyUse::OperatorsCa)?;
    let plan = plan_operator(spiffe_id, proved, now, (logins.ttl, authority.ends()), chance)?;
    let to_be_signed = authority.to_be_signed(&plan).map_err(Fault::broken)?;
    let origin = hex(&evidence.once);
    // Whoever logs in is known by his token alone, so no revision of the registry is part of it.
    let event = convert::credential_issued(call, &plan, &to_be_signed, &origin, 0);
    let event = convert::with_evidence(event, evidence);
    let used = evidence.used(now, &csr_sha256, plan.credential.as_str());
    let most = evidence.most_used;
    let draft = Draft { plan, to_be_signed, origin };
    let outbox = desk.outbox.clone();
    let recorded = committed(&desk.db, "login", move |tx| {
        let (used, outbox, draft, event) = (used.clone(), outbox.clone(), draft.clone(), event.clone());
        Box::pin(async move {
            if !used_token::spend(tx, used, most).await? {
                return Err(flow(spent()));
            }
            key::bind(tx, &sha256(draft.plan.key.as_sec1()), draft.plan.spiffe_id.as_str()).await?;
            record(tx, &outbox, &draft, event).await
        })
    })
    .await
    .map_err(of_tx)?;
    desk.sign_by(&*desk.keys.authority(KeyUse::OperatorsCa)?, recorded).await
}

async fn who(desk: &Desk, logins: &Logins, token: &str) -> Result<(SpiffeId, Evidence), Fault> {
    let token = ForeignToken::parse(token).map_err(of_foreign)?;
    let issuer = token.claimed_issuer().map_err(of_foreign)?;
    let audience = token.claimed_audience().map_err(of_foreign)?;
    let provider = login::choose(&logins.providers, issuer, audience)?;
    let signed = desk.federation.check("", &token, &provider.keys).await?;
    let expect = ForeignExpect {
        issuer: &provider.issuer,
        audiences: &provider.audiences,
        max_age: OLDEST.as_secs(),
        leeway: MAX_LEEWAY,
    };
    let verified = signed.verify(&expect, desk.seconds()).map_err(of_foreign)?;
    let operator = login::operator(provider, &verified)?;
    Ok((SpiffeId::operator(&desk.domain, &operator), Evidence::of_provider(&verified, &provider.name)))
}

/// Gives the certificate again whose answer was lost; nobody else can use it, since the request's key is needed.
async fn repeat(
    desk: &Desk,
    call: &Call,
    spiffe_id: &SpiffeId,
    evidence: &Evidence,
    used: &used_token::Model,
) -> Result<credential::Model, Fault> {
    let (id, outbox, spiffe_id) = (used.credential_id.clone(), desk.outbox.clone(), spiffe_id.to_string());
    let event = convert::identity_enrolment_repeated(call, None, evidence, used, desk.clock.now());
    let row = desk
        .db
        .tx("repeat_login", move |tx| {
            let (id, outbox, event, spiffe_id) = (id.clone(), outbox.clone(), event.clone(), spiffe_id.clone());
            Box::pin(async move {
                let row = credential::by_id(tx, &id).await?;
                let row = credential::good(row, &spiffe_id, 0).map_err(flow)?;
                outbox.record(tx, Standard::Ordinary, event).await?;
                Ok(row)
            })
        })
        .await
        .map_err(of_tx)?;
    match Recorded::read_back(row.clone()) {
        Some(recorded) => desk.sign_by(&*desk.keys.authority(KeyUse::OperatorsCa)?, recorded).await,
        None => Ok(row),
    }
}

fn spent() -> Fault {
    Fault::refused(&IDENTITY_TOKEN_SPENT, "the identity token was used before")
}
