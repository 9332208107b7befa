//! An agent is given what it proves itself with at the token endpoint: a secret that we choose, or a key that it registers.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{AgentId, CredentialId, SpiffeId};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_token::PublicKey;
use legate_view::CredentialMethod;
use zeroize::Zeroizing;

use super::{Call, Desk, equip};
use crate::convert;
use crate::domain::holder::{self, Means};
use crate::domain::secret::{Secret, SecretKind};
use crate::error::{CREDENTIAL_LIMIT, flow, of_tx};
use crate::store::credential::{self, sha256};
use crate::store::{client, key};

const SHORTEST: Duration = Duration::from_secs(3600);
/// So many of a type are live at most: one, and the one that replaces it.
const MOST_LIVE: usize = 2;

/// What is asked beside the kind of credential.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) agent: AgentId,
    pub(crate) ttl: Option<Duration>,
    /// Whether the others of the type end.
    pub(crate) replace: bool,
    pub(crate) reason: String,
}

/// What was made, and what it replaced.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) row: credential::Model,
    pub(crate) replaced: Vec<credential::Model>,
}

/// Makes a client secret; it is shown this once.
#[tracing::instrument(skip_all)]
pub(crate) async fn secret(desk: &Desk, call: &Call, ask: Ask) -> Result<(Secret, Made), Fault> {
    let secret = Secret::new(SecretKind::Client, Zeroizing::new(Desk::random()?));
    let (pepper, mac) = desk.pepper.newest(&secret);
    let kind = Kind::Secret { pepper, mac };
    make(desk, call, ask, kind).await.map(|made| (secret, made))
}

/// Registers a public key.
#[tracing::instrument(skip_all)]
pub(crate) async fn register(desk: &Desk, call: &Call, ask: Ask, key: PublicKey) -> Result<Made, Fault> {
    desk.refuse_own_keys(&key)?;
    make(desk, call, ask, Kind::Key(key)).await
}

#[derive(Clone)]
enum Kind {
    Secret { pepper: i32, mac: Vec<u8> },
    Key(PublicKey),
}

impl Kind {
    fn method(&self) -> CredentialMethod {
        match self {
            Self::Secret { .. } => CredentialMethod::ClientSecret,
            Self::Key(_) => CredentialMethod::PrivateKeyJwt,
        }
    }
}

/// For whom, and within which bounds.
struct For {
    spiffe_id: SpiffeId,
    namespace: String,
    lifecycle_version: u64,
    means: Means,
}

async fn make(desk: &Desk, call: &Call, ask: Ask, kind: Kind) -> Result<Made, Fault> {
    let whom = whom(desk, call, &ask.agent, kind.method()).await?;
    let longest = whom.means.secret_ttl;
    let ttl = ask.ttl.unwrap_or(longest);
    if !(SHORTEST..=longest).contains(&ttl) {
        let why = format!("1 h to {} s, the longest that the credential policy allows", longest.as_secs());
        return Err(Fault::invalid("ttl", why));
    }
    let now = desk.clock.now();
    let row = row(&whom, &ask, kind, now, ttl)?;
    let made_event = convert::client_created(call, &row, &ask.reason, now);
    let events: Vec<_> = convert::broke_glass(call, now).into_iter().chain([made_event]).collect();
    let (outbox, call, overlap) = (desk.outbox.clone(), call.clone(), whom.means.overlap);
    let made = desk.db.tx("create_client_credential", move |tx| {
        let (outbox, call, row, ask) = (outbox.clone(), call.clone(), row.clone(), ask.clone());
        let mut events = events.clone();
        Box::pin(async move {
            client::lock(tx, &row.agent_id).await?;
            let live = client::live(tx, &row.agent_id, row.kind, now).await?;
            if !ask.replace && live.len() >= MOST_LIVE {
                let text = format!("{} has {} live ones of this type", ask.agent, live.len());
                return Err(flow(Fault::refused(&CREDENTIAL_LIMIT, text)));
            }
            if row.kind == credential::KEY {
                let sha256: &[u8; 32] = row.key_sha256.as_slice().try_into().map_err(|e| flow(Fault::broken(e)))?;
                key::bind(tx, sha256, &row.spiffe_id).await?;
            }
            let mut replaced = Vec::new();
            if ask.replace {
                for (i, old) in live.into_iter().enumerate() {
                    // Beside the new one only one of the old ones goes on.
                    let end = if i + 1 < MOST_LIVE { now.plus(overlap) } else { now };
                    client::end_at(tx, &old.id, end).await?;
                    let old = credential::Model { not_after: old.not_after.min(end.micros()), ..old };
                    events.push(convert::client_replaced(&call, &old, &row.id, &ask.reason, now));
                    replaced.push(old);
                }
            }
            credential::put(tx, &row).await?;
            for event in events {
                outbox.record(tx, Standard::Ordinary, event).await?;
            }
            Ok(Made { row, replaced })
        })
    });
    let made = made.await.map_err(of_tx)?;
    desk.metrics.issued(if made.row.kind == credential::KEY { "client_key" } else { "client_secret" });
    Ok(made)
}

async fn whom(desk: &Desk, call: &Call, id: &AgentId, method: CredentialMethod) -> Result<For, Fault> {
    let (found, _) = desk
        .look(|snapshot| {
            let agent = equip::agent(desk, call, snapshot, id)?;
            let means = holder::means(snapshot, agent)?;
            means.demand(method)?;
            let namespace = &agent.label.namespace;
            Ok(For {
                spiffe_id: SpiffeId::agent(&desk.domain, namespace, id),
                namespace: namespace.to_string(),
                lifecycle_version: snapshot.life_of(agent, desk.clock.now()).lifecycle_version,
                means,
            })
        })
        .await?;
    Ok(found)
}

fn row(whom: &For, ask: &Ask, kind: Kind, now: Timestamp, ttl: Duration) -> Result<credential::Model, Fault> {
    let id = CredentialId::from_parts(Desk::millis(now), Desk::random()?).to_string();
    let (kind, key_sha256, public_key, pepper) = match kind {
        Kind::Secret { pepper, mac } => (credential::SECRET, mac, None, Some(pepper)),
        Kind::Key(key) => (credential::KEY, sha256(key.as_sec1()).to_vec(), Some(key.as_sec1().to_vec()), None),
    };
    Ok(credential::Model {
        serial: id.clone(),
        id,
        spiffe_id: whom.spiffe_id.to_string(),
        namespace: whom.namespace.clone(),
        agent_id: ask.agent.to_string(),
        key_sha256,
        to_be_signed: Vec::new(),
        to_be_signed_sha256: Vec::new(),
        certificate: None,
        x5t_s256: None,
        not_before: now.micros(),
        not_after: now.plus(ttl).micros(),
        lifecycle_version: i64::try_from(whom.lifecycle_version).map_err(Fault::broken)?,
        origin: String::new(),
        state: credential::ISSUED,
        issued_at: now.micros(),
        revoked_at: None,
        revocation_reason: None,
        instance_id: String::new(),
        kind,
        public_key,
        pepper,
        last_used_at: None,
        misused_at: None,
        status_index: None,
    })
}
