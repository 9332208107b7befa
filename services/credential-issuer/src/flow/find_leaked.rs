//! Somebody found a secret, a token, a certificate or a key where it should not be: whose it is, whether it works, and its end.
//!
//! What was found is compared by what is kept of it: the HMAC of a secret, the name and signature of a token, the hash of a
//! certificate or of a key. It is neither kept nor logged, and is wiped when the answer is made.

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_ids::{AgentId, CredentialId, Principal, SpiffeId};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_token::{Claims, PublicKey};
use legate_view::Snapshot;
use legate_wire::registry::RevocationReason;
use zeroize::Zeroizing;

mod own_key;

use super::live::{is_taken_back, proved};
use super::{Call, Desk, revoke, revoke_token};
use crate::convert;
use crate::domain::holder::{self, Named};
use crate::domain::secret::{Secret, SecretKind};
use crate::error::of_tx;
use crate::store::{credential, enrolment, signing_key};

/// Credentials of one key that are told.
const MOST: u64 = 16;

/// What was found.
pub(crate) enum Found {
    Text(Zeroizing<String>),
    /// In DER.
    Certificate(Vec<u8>),
    /// The public half of a private key.
    Key(PublicKey),
}

/// What it is by its form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    None,
    ClientSecret,
    EnrolmentToken,
    AccessToken,
    Certificate,
    PrivateKey,
    IssuerKey,
    CaCertificate,
}

impl Kind {
    /// As metrics and events call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecret => "client_secret",
            Self::EnrolmentToken => "enrolment_token",
            Self::AccessToken => "access_token",
            Self::Certificate => "certificate",
            Self::PrivateKey => "private_key",
            Self::IssuerKey => "issuer_key",
            Self::CaCertificate => "ca_certificate",
        }
    }
}

/// What is told of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) kind: Kind,
    /// Of what is known here, and the caller may see.
    pub(crate) known: Option<Known>,
    pub(crate) revision: u64,
}

/// Something that this issuer made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) namespace: String,
    pub(crate) spiffe_id: String,
    pub(crate) agent_id: String,
    pub(crate) owners: Vec<String>,
    pub(crate) credentials: Vec<credential::Model>,
    pub(crate) enrolment_id: String,
    pub(crate) token_id: String,
    pub(crate) ends: Option<Timestamp>,
    /// Why it does not work; `None`: it works.
    pub(crate) why_not: Option<String>,
    /// Whether it was taken back by this call.
    pub(crate) is_revoked: bool,
    /// Our own key that it is, or that signed it, where that is not believed any more.
    pub(crate) key: Option<signing_key::Model>,
    /// What to do about it.
    pub(crate) advice: String,
}

/// What was looked up, and what it takes to take it back.
struct Looked {
    known: Known,
    end: End,
}

enum End {
    Credential(String, RevocationReason),
    Enrolment,
    Token(Box<Claims>),
    /// There is nothing to be taken back, or not by this call.
    Nothing,
}

/// Says whose it is; with `revoke`, and why, takes it back.
#[tracing::instrument(skip_all)]
pub(crate) async fn find_leaked(desk: &Desk, call: &Call, found: Found, revoke: Option<String>) -> Result<Told, Fault> {
    let mandate = desk.mandate(call).await?;
    let snapshot = desk.fresh()?.snapshot;
    let (kind, looked) = match &found {
        Found::Text(text) => by_text(desk, &snapshot, text).await?,
        Found::Certificate(der) => match by_certificate(desk, &snapshot, der).await? {
            None => own_key::certificate(desk, der).await?,
            looked => (Kind::Certificate, looked),
        },
        Found::Key(key) => match by_key(desk, &snapshot, key).await? {
            None => own_key::key(desk, key).await?,
            looked => (Kind::PrivateKey, looked),
        },
    };
    // That it is one of our own is for whoever may see our keys.
    let unseen = match kind {
        Kind::IssuerKey => Kind::PrivateKey,
        Kind::CaCertificate => Kind::Certificate,
        other => other,
    };
    let unknown = Told { kind: unseen, known: None, revision: snapshot.revision() };
    // What is of a namespace that the caller may not see is not there.
    let sees = |looked: &Looked| mandate.may(Right::Read, Place::of(&looked.known.namespace));
    let Some(looked) = looked.filter(sees) else { return Ok(unknown) };
    if revoke.is_some() && !matches!(looked.end, End::Nothing) {
        mandate.demand(Right::Stop, Place::of(&looked.known.namespace))?;
    }
    let Looked { mut known, end } = looked;
    let owners = AgentId::parse(&known.agent_id).ok().and_then(|id| snapshot.agent(&id).cloned());
    known.owners =
        owners.iter().flat_map(|agent| agent.people.owners.iter().map(|owner| str::to_owned(owner))).collect();
    if known.why_not.is_none() {
        desk.metrics.leaked(kind.word());
        tracing::warn!(
            kind = kind.word(),
            holder = known.spiffe_id,
            "something that works was found where it should not be"
        );
    }
    record(desk, call, kind, &known).await?;
    let mut revision = snapshot.revision();
    if let Some(comment) = revoke {
        revision = take_back(desk, call, end, comment, &mut known).await?;
    }
    Ok(Told { kind, known: Some(known), revision })
}

async fn by_text(desk: &Desk, snapshot: &Snapshot, text: &str) -> Result<(Kind, Option<Looked>), Fault> {
    if let Some(secret) = Secret::parse(SecretKind::Client, text) {
        let macs = desk.pepper.all(&secret);
        let row = desk.batches.secret(macs).await.map_err(of_tx)?;
        let looked = row.map(|row| of_credentials(desk, snapshot, vec![row], RevocationReason::KeyCompromise));
        return Ok((Kind::ClientSecret, looked.flatten()));
    }
    if let Some(secret) = Secret::parse(SecretKind::Enrolment, text) {
        return Ok((Kind::EnrolmentToken, by_enrolment(desk, snapshot, &secret).await?));
    }
    match legate_token::Parsed::parse(text) {
        Ok(_) => Ok((Kind::AccessToken, by_token(desk, snapshot, text).await?)),
        Err(_) => Ok((Kind::None, None)),
    }
}

async fn by_enrolment(desk: &Desk, snapshot: &Snapshot, secret: &Secret) -> Result<Option<Looked>, Fault> {
    let macs = desk.pepper.all(secret);
    let read = desk.db.read("find_leaked_enrolment", |tx| {
        let macs = macs.clone();
        Box::pin(async move {
            let Some(row) = enrolment::find(tx, macs).await? else { return Ok(None) };
            let made = match &row.credential_id {
                Some(id) => credential::by_id(tx, id).await?,
                None => None,
            };
            Ok(Some((row, made)))
        })
    });
    let Some((row, made)) = read.await.map_err(of_tx)? else { return Ok(None) };
    let (now, ends) = (desk.clock.now(), Timestamp::from_micros(row.expires_at));
    let why_not = match row.spent_at {
        Some(at) => Some(format!("it was used at {} and works once", Timestamp::from_micros(at))),
        None if ends <= now => Some(format!("it ended at {ends}")),
        None => stopped(desk, snapshot, &row.spiffe_id, Timestamp::from_micros(row.created_at), None),
    };
    let known = Known {
        namespace: row.namespace,
        spiffe_id: row.spiffe_id,
        agent_id: row.agent_id,
        credentials: made.into_iter().collect(),
        enrolment_id: row.id,
        ends: Some(ends),
        why_not,
        ..Known::default()
    };
    Ok(Some(Looked { known, end: End::Enrolment }))
}

async fn by_token(desk: &Desk, snapshot: &Snapshot, text: &str) -> Result<Option<Looked>, Fault> {
    let Ok(signed) = proved(desk, snapshot, text) else { return own_key::token(desk, text).await };
    let claims = signed.claims().clone();
    let (now, ends) = (desk.clock.now(), Timestamp::from_secs(i64::try_from(claims.expires_at).unwrap_or(i64::MAX)));
    let why_not = if ends <= now {
        Some(format!("it ended at {ends}"))
    } else if is_taken_back(desk, &claims).await? {
        Some("it, or one that it was exchanged for, was revoked".to_owned())
    } else {
        snapshot.token_standing(&claims, now).err().map(|fallen| fallen.to_string())
    };
    let known = Known {
        namespace: claims.namespace.to_string(),
        spiffe_id: SpiffeId::agent(&desk.domain, &claims.namespace, &claims.agent).to_string(),
        agent_id: claims.agent.to_string(),
        credentials: rests_on(desk, &claims).await?.into_iter().collect(),
        token_id: claims.token_id.clone(),
        ends: Some(ends),
        why_not,
        ..Known::default()
    };
    Ok(Some(Looked { known, end: End::Token(Box::new(claims)) }))
}

/// The credential by which a token was obtained, where that is known.
async fn rests_on(desk: &Desk, claims: &Claims) -> Result<Option<credential::Model>, Fault> {
    let (id, x5t) = (claims.credential.clone(), claims.confirmation.certificate().copied());
    let row = match (id, x5t) {
        (Some(id), _) => {
            let read = desk.db.read("credential_of_token", move |tx| {
                let id = id.clone();
                Box::pin(async move { credential::by_id(tx, id.as_str()).await })
            });
            read.await
        }
        (None, Some(x5t)) => desk.batches.certificate(x5t).await,
        (None, None) => Ok(None),
    };
    row.map_err(of_tx)
}

async fn by_certificate(desk: &Desk, snapshot: &Snapshot, der: &[u8]) -> Result<Option<Looked>, Fault> {
    let row = desk.batches.certificate(credential::sha256(der)).await.map_err(of_tx)?;
    // A certificate is no secret: that it was found says nothing of its key.
    Ok(row.and_then(|row| of_credentials(desk, snapshot, vec![row], RevocationReason::Unspecified)))
}

async fn by_key(desk: &Desk, snapshot: &Snapshot, key: &PublicKey) -> Result<Option<Looked>, Fault> {
    let sha256 = credential::sha256(key.as_sec1());
    let read = desk
        .db
        .read("credentials_of_key", move |tx| Box::pin(async move { credential::by_key(tx, &sha256, MOST).await }));
    Ok(of_credentials(desk, snapshot, read.await.map_err(of_tx)?, RevocationReason::KeyCompromise))
}

/// Credentials of one holder, newest first. They work where one of them does.
fn of_credentials(
    desk: &Desk,
    snapshot: &Snapshot,
    rows: Vec<credential::Model>,
    reason: RevocationReason,
) -> Option<Looked> {
    let why_not: Vec<Option<String>> = rows.iter().map(|row| why_not(desk, snapshot, row)).collect();
    // What is taken back is one that works, and with it everything of its key.
    let at = why_not.iter().position(Option::is_none).unwrap_or(0);
    let row = rows.get(at)?;
    let known = Known {
        namespace: row.namespace.clone(),
        spiffe_id: row.spiffe_id.clone(),
        agent_id: row.agent_id.clone(),
        ends: Some(Timestamp::from_micros(row.not_after)),
        why_not: why_not.get(at)?.clone(),
        ..Known::default()
    };
    let end = End::Credential(row.id.clone(), reason);
    Some(Looked { known: Known { credentials: rows, ..known }, end })
}

/// Why a credential does not work now, where it does not.
fn why_not(desk: &Desk, snapshot: &Snapshot, row: &credential::Model) -> Option<String> {
    let (now, ends) = (desk.clock.now(), Timestamp::from_micros(row.not_after));
    match row.state {
        credential::REVOKED => {
            let at = row.revoked_at.map(|at| format!(" at {}", Timestamp::from_micros(at))).unwrap_or_default();
            Some(format!("it was revoked{at}"))
        }
        credential::RECORDED => Some("it was never signed".to_owned()),
        _ if ends <= now => Some(format!("it ended at {ends}")),
        _ => {
            let version = (row.kind == credential::CERTIFICATE).then_some(row.lifecycle_version);
            stopped(desk, snapshot, &row.spiffe_id, Timestamp::from_micros(row.issued_at), version)
        }
    }
}

/// Why what was issued to a holder at that moment does not work, by what is declared; `version`: of a certificate.
fn stopped(
    desk: &Desk,
    snapshot: &Snapshot,
    spiffe_id: &str,
    issued: Timestamp,
    version: Option<i64>,
) -> Option<String> {
    let id = SpiffeId::parse(spiffe_id).ok()?;
    let principal = Principal::of(&id).ok()?;
    // An operator is no object of the registry.
    let (named, instance) = Named::of(&id, &principal).ok()?;
    match holder::find(snapshot, &desk.domain, &named, instance, desk.clock.now()) {
        Err(why) => Some(why.to_string()),
        Ok(holder) => {
            let is_of_this_life = version.is_none_or(|version| u64::try_from(version) == Ok(holder.lifecycle_version));
            let is_spared = holder.cutoffs.spare(issued);
            (!is_of_this_life || !is_spared).then(|| "its holder was stopped or cut off after it was issued".to_owned())
        }
    }
}

/// That somebody found it, on disk before he is told anything.
async fn record(desk: &Desk, call: &Call, kind: Kind, known: &Known) -> Result<(), Fault> {
    let now = desk.clock.now();
    let found = convert::leaked_found(call, kind, known, now);
    let events: Vec<_> = convert::broke_glass(call, now).into_iter().chain([found]).collect();
    let outbox = desk.outbox.clone();
    let recorded = desk.db.tx("leaked_found", move |tx| {
        let (outbox, events) = (outbox.clone(), events.clone());
        Box::pin(async move {
            for event in events {
                outbox.record(tx, Standard::Stopping, event).await?;
            }
            Ok(())
        })
    });
    recorded.await.map_err(of_tx)
}

/// Takes it back; the revision that carries it.
async fn take_back(desk: &Desk, call: &Call, end: End, comment: String, known: &mut Known) -> Result<u64, Fault> {
    let revision = match end {
        End::Credential(id, reason) => {
            let id = CredentialId::parse(&id).map_err(Fault::broken)?;
            revoke::revoke(desk, call, id, reason, comment).await?.1
        }
        End::Token(claims) => {
            revoke_token::record(desk, call, &claims).await?;
            desk.fresh()?.snapshot.revision()
        }
        End::Nothing => return Ok(desk.fresh()?.snapshot.revision()),
        End::Enrolment => {
            let is_news = void(desk, call, known, comment).await?;
            let revision = desk.fresh()?.snapshot.revision();
            // One that was used, or has ended, is nobody's harm.
            if !is_news {
                return Ok(revision);
            }
            revision
        }
    };
    known.is_revoked = true;
    known.why_not.get_or_insert_with(|| "it was revoked by this call".to_owned());
    Ok(revision)
}

/// Nobody enrols with the token any more; `false` where nobody could before.
async fn void(desk: &Desk, call: &Call, known: &Known, comment: String) -> Result<bool, Fault> {
    let now = desk.clock.now();
    let event = convert::enrolment_revoked(call, known, comment, now);
    let (outbox, id) = (desk.outbox.clone(), known.enrolment_id.clone());
    let done = desk.db.tx("revoke_enrolment", move |tx| {
        let (outbox, id, event) = (outbox.clone(), id.clone(), event.clone());
        Box::pin(async move {
            let is_news = enrolment::end(tx, &id, now).await?;
            if is_news {
                outbox.record(tx, Standard::Stopping, event).await?;
            }
            Ok(is_news)
        })
    });
    done.await.map_err(of_tx)
}
