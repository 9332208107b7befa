//! An OAuth client proves which agent it is: by its certificate, by a secret, or by an assertion that a registered key signed.

use legate_clock::Timestamp;
use legate_ids::{AgentId, InstanceId, Name, Principal};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_token::{Assertion, KeyId, PublicKey};
use legate_view::{CERTIFICATE_BACKDATE, CredentialMethod};
use zeroize::Zeroizing;

use super::foreign::Evidence;
use super::{Call, Desk};
use crate::convert;
use crate::domain::holder::{Holder, Named};
use crate::domain::secret::{Secret, SecretKind};
use crate::error::{CLIENT_REFUSED, CREDENTIAL_NOT_GOOD, assertion_used, of_tx};
use crate::keys::Verifier;
use crate::store::{Keys, KeysOf, Once, credential};

/// What a client shows.
pub(crate) enum Shown {
    /// The certificate of its connection, and the client that it says it is.
    Certificate { client: String },
    /// A secret (RFC 6749 section 2.3.1).
    Secret { client: String, secret: Zeroizing<String> },
    /// An assertion (RFC 7523 section 2.2), and perhaps the client that it says it is.
    Assertion { client: Option<String>, assertion: Zeroizing<String> },
}

/// Hides what is shown.
impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certificate { .. } => "Certificate",
            Self::Secret { .. } => "Secret(hidden)",
            Self::Assertion { .. } => "Assertion(hidden)",
        })
    }
}

impl Shown {
    /// The client that it says it is, before anything is checked.
    pub(crate) fn client(&self) -> String {
        match self {
            Self::Certificate { client } | Self::Secret { client, .. } => client.clone(),
            Self::Assertion { client: Some(client), .. } => client.clone(),
            Self::Assertion { client: None, assertion } => {
                Assertion::parse(assertion).map(|parsed| parsed.client().to_owned()).unwrap_or_default()
            }
        }
    }
}

/// Who asks about a token, or wants to have it taken back.
#[derive(Clone, Debug)]
pub(crate) enum Asker {
    /// An agent that proved who it is.
    Agent { namespace: Name, agent: AgentId },
    /// Somebody else, by the certificate of the call: an enforcement point or an operator.
    Peer,
}

impl Asker {
    /// Whoever the certificate of the call names.
    pub(crate) fn of(call: &Call) -> Self {
        match &call.peer.principal {
            Some(Principal::Agent { namespace, id, .. }) => {
                Self::Agent { namespace: namespace.clone(), agent: id.clone() }
            }
            _ => Self::Peer,
        }
    }
}

/// A client that proved who it is. Only [`authenticate`] makes one, and the belief in an assertion.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) agent: AgentId,
    pub(crate) by: By,
    /// When what it proved itself by ends.
    pub(crate) proof_ends: Timestamp,
    /// An assertion that is not used yet: see [`Use::ByToken`].
    pub(crate) unused: Option<Once>,
}

/// When what a client shows is looked at for the last time, and an assertion is used up (RFC 7523 section 3, `jti`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Before anything else is done by it.
    AtOnce,
    /// Where the token that is asked for by it is recorded, in the same transaction; and where there is none, before the
    /// client is told so: whoever asks for it sees to that ([`Desk::use_up`]). A secret of which it is known whose it is, and
    /// the keys of a client that are known, are not looked up before, but where `look` says so.
    ByToken { look: bool },
}

/// By what it was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// By the certificate of the call; its id, where it was looked up.
    Certificate(Option<String>),
    /// By the secret or key with that id.
    Credential(String),
    /// By a token of an issuer outside.
    Identity(Box<Evidence>),
}

/// Believes a client, or refuses it: an agent that is ACTIVE, by what it holds now, in a way that its policy lists.
#[tracing::instrument(skip_all, fields(shown = ?shown))]
pub(crate) async fn authenticate(desk: &Desk, call: &Call, shown: Shown, when: Use) -> Result<(Client, Holder), Fault> {
    let authenticated = match shown {
        Shown::Certificate { client } => by_certificate(desk, call, &client, when).await,
        Shown::Secret { client, secret } => by_secret(desk, call, &client, &secret, when).await,
        Shown::Assertion { client, assertion } => by_assertion(desk, call, client.as_deref(), &assertion, when).await,
    };
    if let Err(fault) = &authenticated {
        // Who it was is not known, so this is counted and noted by the door, and not recorded one by one.
        desk.metrics.refused("client", fault.reason());
    }
    authenticated
}

/// The same for a client that is not known and for one that fails: whoever asks learns nothing of our clients.
fn refused() -> Fault {
    Fault::refused(&CLIENT_REFUSED, "the client is not known here, or did not prove that it is the one")
}

async fn by_certificate(desk: &Desk, call: &Call, client: &str, when: Use) -> Result<(Client, Holder), Fault> {
    let Some(Principal::Agent { id, instance, .. }) = &call.peer.principal else { return Err(refused()) };
    if id.as_str() != client {
        return Err(refused());
    }
    let holder = holder(desk, id, instance.as_ref(), CredentialMethod::TlsClientAuth).await?;
    if Some(&holder.spiffe_id) != call.peer.spiffe_id.as_ref()
        || !holder.cutoffs.spare(call.peer.not_before.plus(CERTIFICATE_BACKDATE))
    {
        return Err(Fault::refused(&CREDENTIAL_NOT_GOOD, "the certificate is of an earlier life of its agent"));
    }
    let by = By::Certificate(match when {
        Use::AtOnce => Some(recorded_certificate(desk, call, &holder).await?),
        // Looked at where the token is recorded.
        Use::ByToken { .. } => None,
    });
    Ok((Client { agent: id.clone(), by, proof_ends: call.peer.not_after, unused: None }, holder))
}

/// The id of the call's certificate, where it is good for its holder: a revocation that is recorded counts before the registry has
/// told it.
pub(crate) async fn recorded_certificate(desk: &Desk, call: &Call, holder: &Holder) -> Result<String, Fault> {
    let row = desk.batches.certificate(call.peer.x5t_s256).await.map_err(of_tx)?;
    Ok(credential::good(row, holder.spiffe_id.as_str(), holder.lifecycle_version)?.id)
}

async fn by_secret(desk: &Desk, call: &Call, client: &str, secret: &str, when: Use) -> Result<(Client, Holder), Fault> {
    let agent = AgentId::parse(client).map_err(|_| refused())?;
    let secret = Secret::parse(SecretKind::Client, secret).ok_or_else(refused)?;
    let macs = desk.pepper.all(&secret);
    let known = if when == (Use::ByToken { look: false }) { desk.batches.known_secret(&macs) } else { None };
    let row = match known {
        Some(row) => Some(row),
        None => desk.batches.secret(macs).await.map_err(of_tx)?,
    };
    let row = row.filter(|row| row.agent_id == client).ok_or_else(refused)?;
    live(desk, call, agent, row, CredentialMethod::ClientSecret).await
}

async fn by_assertion(
    desk: &Desk,
    call: &Call,
    client: Option<&str>,
    assertion: &str,
    when: Use,
) -> Result<(Client, Holder), Fault> {
    let bad =
        |e: legate_token::BadProof| Fault::refused(&CLIENT_REFUSED, format!("the client assertion is refused: {e}"));
    let parsed = Assertion::parse(assertion).map_err(bad)?;
    if client.is_some_and(|client| client != parsed.client()) {
        return Err(bad(legate_token::BadProof::Client));
    }
    // Of one that is not known no more is said than that its key is not registered.
    let unknown = || bad(legate_token::BadProof::Signature);
    let agent = AgentId::parse(parsed.client()).map_err(|_| unknown())?;
    let shown = hash(["client assertion", parsed.client(), parsed.token_id()]);
    let meant = parsed.kid().cloned();
    let may_know = when == (Use::ByToken { look: false }) && !desk.batches.was_seen(&shown);
    let known = if may_know { desk.batches.known_keys(agent.as_str()) } else { None };
    let by_known = match &known {
        Some(rows) => parsed.signed_by_one(verifiers(rows, meant.as_ref())),
        None => Err(Box::new(parsed)),
    };
    let (row, signed, was_shown) = match by_known {
        Ok((row, signed)) => (row.clone(), signed, false),
        Err(parsed) => {
            let of = KeysOf { agent_id: agent.to_string(), shown };
            let Keys { rows, was_shown } = desk.batches.keys(of).await.map_err(of_tx)?;
            let signed = parsed.signed_by_one(verifiers(&rows, meant.as_ref()));
            let (row, signed) = signed.map_err(|_| bad(legate_token::BadProof::Signature))?;
            (row.clone(), signed, was_shown)
        }
    };
    desk.batches.note_seen(shown);
    let seconds = u64::try_from(desk.clock.now().secs()).unwrap_or(0);
    let proven = signed.verify(&desk.issuer, seconds).map_err(bad)?;
    // What is used in the same moment somewhere else is seen where this is used.
    if was_shown {
        // That its key or its agent was stopped meanwhile is told first.
        live(desk, call, agent, row, CredentialMethod::PrivateKeyJwt).await?;
        return Err(assertion_used());
    }
    let until = Timestamp::from_secs(i64::try_from(proven.expires_at).unwrap_or(i64::MAX));
    let once = Once { what: shown, until: until.plus(LONGER) };
    if when == Use::AtOnce && !desk.batches.show_once(once).await.map_err(of_tx)? {
        return Err(assertion_used());
    }
    let client = live(desk, call, agent, row, CredentialMethod::PrivateKeyJwt).await;
    match (client, when) {
        (Ok((client, holder)), Use::ByToken { .. }) => Ok((Client { unused: Some(once), ..client }, holder)),
        (Err(fault), Use::ByToken { .. }) => {
            desk.use_up(Some(once)).await;
            Err(fault)
        }
        (client, Use::AtOnce) => client,
    }
}

/// What checks signatures of those keys, or of the one that is meant.
fn verifiers<'a>(
    rows: &'a [credential::Model],
    meant: Option<&'a KeyId>,
) -> impl Iterator<Item = (&'a credential::Model, Verifier)> {
    rows.iter().filter_map(move |row| {
        let key = PublicKey::from_sec1(row.public_key.as_deref()?).ok()?;
        meant.is_none_or(|kid| *kid == key.kid()).then(|| (row, Verifier::new(&key)))
    })
}

/// The client of a secret or key that was shown, where it still works.
async fn live(
    desk: &Desk,
    call: &Call,
    agent: AgentId,
    row: credential::Model,
    method: CredentialMethod,
) -> Result<(Client, Holder), Fault> {
    let now = desk.clock.now();
    if row.state != credential::ISSUED || row.not_after <= now.micros() {
        let state = if row.state == credential::REVOKED { "REVOKED" } else { "ENDED" };
        alarm(desk, call, &row, state, now).await?;
        return Err(refused());
    }
    let issued = Timestamp::from_micros(row.issued_at);
    let holder = match holder(desk, &agent, copy(call, &agent), method).await {
        Ok(holder) => holder,
        // What is dead is dead whatever else its agent is refused for.
        Err(fault) if was_cut_off(desk, &agent, issued)? => {
            alarm(desk, call, &row, CUT_OFF, now).await?;
            return Err(fault);
        }
        Err(fault) => return Err(fault),
    };
    if !holder.cutoffs.spare(issued) {
        alarm(desk, call, &row, CUT_OFF, now).await?;
        let why = "the secret or key was made before its agent, or the agent's class or namespace, was last stopped";
        return Err(Fault::refused(&CREDENTIAL_NOT_GOOD, why));
    }
    let proof_ends = Timestamp::from_micros(row.not_after);
    Ok((Client { agent, by: By::Credential(row.id), proof_ends, unused: None }, holder))
}

/// In an event: what was made before its agent, or the agent's class or namespace, was last stopped.
const CUT_OFF: &str = "CUT_OFF";

/// Whether what was made for the agent then never works again, also where the agent does not work now.
fn was_cut_off(desk: &Desk, agent: &AgentId, issued: Timestamp) -> Result<bool, Fault> {
    let snapshot = desk.fresh()?.snapshot;
    let life = snapshot.agent(agent).map(|agent| snapshot.life_of(agent, desk.clock.now()));
    Ok(life.is_some_and(|life| !legate_view::after_cutoff(issued, life.cutoff())))
}

/// Who shows a secret or key that was taken back, replaced or cut off has it from somewhere where it should not be any more.
/// Recorded once a minute of each: whoever goes on with it fills no log.
async fn alarm(
    desk: &Desk,
    call: &Call,
    row: &credential::Model,
    state: &'static str,
    now: Timestamp,
) -> Result<(), Fault> {
    desk.metrics.retired_used(if row.kind == credential::KEY { "client_key" } else { "client_secret" });
    tracing::warn!(credential = row.id, agent = row.agent_id, state, "a credential that works no longer was used");
    let event = convert::retired_used(call, row, state, now);
    let (outbox, id) = (desk.outbox.clone(), row.id.clone());
    let recorded = desk.db.tx("retired_credential_used", move |tx| {
        let (outbox, event, id) = (outbox.clone(), event.clone(), id.clone());
        Box::pin(async move {
            if credential::note_misuse(tx, &id, now).await? {
                outbox.record(tx, Standard::Ordinary, event).await?;
            }
            Ok(())
        })
    });
    recorded.await.map_err(of_tx)
}

/// Which running copy of the agent it is, where its certificate is that of the call.
pub(super) fn copy<'a>(call: &'a Call, agent: &AgentId) -> Option<&'a InstanceId> {
    match &call.peer.principal {
        Some(Principal::Agent { id, instance, .. }) if id == agent => instance.as_ref(),
        _ => None,
    }
}

async fn holder(
    desk: &Desk,
    agent: &AgentId,
    instance: Option<&InstanceId>,
    method: CredentialMethod,
) -> Result<Holder, Fault> {
    let (holder, _) = desk.holder_past_cutoff(&Named::Agent(agent.clone()), instance).await?;
    holder.means.demand(method)?;
    Ok(holder)
}

/// Clocks are not quite together: what is shown once is remembered so much longer than it could be shown.
const LONGER: std::time::Duration = std::time::Duration::from_secs(60);

/// The hash of what is shown once: its kind, whose it is and its name.
fn hash(what: [&str; 3]) -> [u8; 32] {
    // Lengths first, so that no two of them read the same.
    let text: String = what.iter().map(|part| format!("{}:{part}", part.len())).collect();
    credential::sha256(text.as_bytes())
}

/// What is shown once, until nobody could show it any more; `what` is its kind, whose it is and its name.
pub(crate) fn once(what: [&str; 3], until: Timestamp) -> Once {
    Once { what: hash(what), until: until.plus(LONGER) }
}

impl Desk {
    /// Nothing came of what an assertion or a DPoP proof was shown for: it is used up all the same, where it is not.
    pub(crate) async fn use_up(&self, unused: impl IntoIterator<Item = Once>) {
        for once in unused {
            if let Err(fault) = self.batches.show_once(once).await.map_err(of_tx) {
                tracing::warn!(%fault, "an assertion or a proof of which nothing came could not be used up");
            }
        }
    }
}
