//! The keys that sign now, those before and those after them: what the clock makes of them, by a turn that one issuer has at a time.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use legate_clock::{Clock, Timestamp};
use legate_db::{Db, Tx, TxResult};
use legate_ids::{SpiffeId, TrustDomain};
use legate_outbox::{Outbox, Standard};
use legate_rpc::Fault;
use legate_token::{KeyId, PublicKey};
use legate_wire::audit::AuditEvent;
use rustls_pki_types::CertificateDer;
use tokio::sync::Mutex;

use super::Desk;
use crate::convert::{self, KeyChange};
use crate::domain::keyring::{Due, KeyUse, Life, Pace, State, due};
use crate::error::{AGAIN, SIGNING_UNAVAILABLE, flow, of_tx};
use crate::keys::{Authority, Certified, KeyError, KeyPlace, KeyStore, Signer, bundle, self_signed};
use crate::store::signing_key::{self, Model};

/// How often keys are looked at: another issuer may have changed them.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is seen whether the place where keys are does its work.
const PROBE: Duration = Duration::from_secs(1);
/// Steps at one look: no life of keys has more due at once.
const MOST_STEPS: usize = 8;

/// Everything that keys are kept with.
#[derive(Debug)]
pub(crate) struct Keyring {
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) domain: TrustDomain,
    /// Who changes keys where the clock does.
    pub(crate) me: SpiffeId,
    pub(crate) pace: Pace,
    /// The uses that are served here; of a CA with the file in which others find its certificates.
    pub(crate) uses: BTreeMap<KeyUse, Option<PathBuf>>,
    held: RwLock<Arc<Held>>,
    /// Held while keys are read: what was read later is never replaced by what was read before.
    reading: Mutex<()>,
}

/// The keys as last read.
#[derive(Debug, Default)]
struct Held {
    keys: Vec<One>,
    authorities: BTreeMap<KeyUse, Arc<Authority>>,
    /// Counts what happened to the keys that verify workloads, as of the same look.
    sequence: u64,
}

/// One key.
#[derive(Clone, Debug)]
pub(crate) struct One {
    pub(crate) row: Model,
    pub(crate) purpose: KeyUse,
    pub(crate) state: State,
    pub(crate) public: PublicKey,
    /// `None`: its private half is not here.
    pub(crate) signer: Option<Arc<dyn Signer>>,
}

/// Where everything is that a keyring is made with.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) domain: TrustDomain,
    pub(crate) me: SpiffeId,
    pub(crate) pace: Pace,
    pub(crate) uses: BTreeMap<KeyUse, Option<PathBuf>>,
}

/// Why there is no keyring.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoKeys {
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("{0}")]
    Database(String),
}

impl From<Fault> for NoKeys {
    fn from(fault: Fault) -> Self {
        Self::Database(fault.to_string())
    }
}

impl Keyring {
    /// Reads the keys, and makes those that are not there yet.
    pub(crate) async fn open(site: Site) -> Result<Self, NoKeys> {
        let Site { db, outbox, clock, store, domain, me, pace, uses } = site;
        let (held, reading) = (RwLock::default(), Mutex::default());
        let ring = Self { db, outbox, clock, store, domain, me, pace, uses, held, reading };
        for purpose in ring.uses.keys().copied() {
            ring.turn(purpose).await?;
        }
        ring.load().await?;
        for one in ring.all() {
            if one.state == State::Active && one.signer.is_none() {
                let (kid, purpose) = (&one.row.kid, one.purpose.word());
                tracing::error!(
                    kid,
                    purpose,
                    "the private half of the key that signs is not here; nothing is signed by it"
                );
            }
            if let Some(certificate) = one.row.certificate.as_deref().filter(|_| one.state == State::Active)
                && crate::keys::ends_at(certificate).is_some_and(|ends| ends <= ring.clock.now())
            {
                let what = one.purpose.word().to_owned();
                let why = "the CA certificate has expired; rotate it (legate key rotate --now)".to_owned();
                tracing::error!(what, why, "nothing is certified");
            }
        }
        Ok(ring)
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every key that is not over.
    pub(crate) fn all(&self) -> Vec<One> {
        self.held().keys.clone()
    }

    /// The public keys of a use that verifiers are to know.
    pub(crate) fn published(&self, purpose: KeyUse) -> Vec<PublicKey> {
        let held = self.held();
        let of_use = held.keys.iter().filter(|one| one.purpose == purpose && one.state.is_published());
        of_use.map(|one| one.public).collect()
    }

    /// The same of workloads: the certificates of their CA, the keys of JWT-SVIDs, and a number that rises whenever one of these comes or
    /// goes; all as of one look.
    pub(crate) fn bundle(&self) -> Result<(Arc<Authority>, Vec<PublicKey>, u64), Fault> {
        let held = self.held();
        let authority = held.authorities.get(&KeyUse::WorkloadsCa).cloned();
        let authority = authority.ok_or_else(|| unavailable("there is no CA of workloads yet"))?;
        let of_use = held.keys.iter().filter(|one| one.purpose == KeyUse::JwtSvids && one.state.is_published());
        Ok((authority, of_use.map(|one| one.public).collect(), held.sequence))
    }

    /// Whether what a key of that use signed is believed.
    pub(crate) fn believes(&self, purpose: KeyUse, kid: &str) -> bool {
        let held = self.held();
        held.keys.iter().any(|one| one.purpose == purpose && one.row.kid == kid && one.state.is_published())
    }

    /// Whether it is a key of ours, of whatever use.
    pub(crate) fn has(&self, key: &PublicKey) -> bool {
        self.held().keys.iter().any(|one| one.public == *key)
    }

    /// The key of a use that signs now.
    pub(crate) fn active(&self, purpose: KeyUse) -> Result<One, Fault> {
        let held = self.held();
        let found = held.keys.iter().find(|one| one.purpose == purpose && one.state == State::Active);
        found.cloned().ok_or_else(|| unavailable(&format!("there is no key of {} yet", purpose.word())))
    }

    /// The CA of that use.
    pub(crate) fn authority(&self, purpose: KeyUse) -> Result<Arc<Authority>, Fault> {
        let found = self.held().authorities.get(&purpose).cloned();
        found.ok_or_else(|| unavailable(&format!("there is no {} yet", purpose.word())))
    }

    /// Signs by the key of that id, which may have ceased to be the one in the meantime.
    pub(crate) async fn sign(&self, purpose: KeyUse, kid: &KeyId, message: &[u8]) -> Result<[u8; 64], Fault> {
        let held = self.held();
        let one = held.keys.iter().find(|one| one.purpose == purpose && one.row.kid == kid.as_str());
        let one = one.filter(|one| matches!(one.state, State::Active | State::Retiring));
        let signer = one.and_then(|one| one.signer.as_ref());
        let signer = signer.ok_or_else(|| unavailable("the key that was to sign is not here any more"))?;
        signer.sign(message).await.map_err(|e| unavailable(&e.to_string()))
    }

    /// Reads the keys again, writes the CA files, and destroys what signs no more.
    pub(crate) async fn load(&self) -> Result<(), NoKeys> {
        let _alone = self.reading.lock().await;
        let read = self.db.read("signing_keys", |tx| {
            Box::pin(async move { Ok((signing_key::current(tx).await?, signing_key::sequence(tx).await?)) })
        });
        let (rows, sequence) = read.await.map_err(of_tx)?;
        let before = self.held();
        let known: HashMap<&str, &One> = before.keys.iter().map(|one| (one.row.kid.as_str(), one)).collect();
        let mut keys = Vec::new();
        let mut over = Vec::new();
        for row in rows {
            let (purpose, state, kid) = (row.purpose()?, row.state()?, row.id()?);
            if !self.uses.contains_key(&purpose) {
                continue;
            }
            if !state.is_published() {
                if !row.destroyed {
                    over.push((purpose, kid.clone()));
                }
                if !row.is_news()? {
                    continue;
                }
            }
            let known = known.get(row.kid.as_str()).and_then(|one| one.signer.clone());
            let signer = match known {
                _ if !state.is_published() => None,
                Some(signer) if signer.is_there().await => Some(signer),
                _ => self.signer(purpose, &kid, before.keys.is_empty()).await?,
            };
            keys.push(One { public: row.public()?, row, purpose, state, signer });
        }
        let mut authorities = BTreeMap::new();
        for purpose in self.uses.keys().copied().filter(|purpose| purpose.is_ca()) {
            authorities.extend(authority(&keys, purpose).map(|one| (purpose, Arc::new(one))));
        }
        let held = Arc::new(Held { keys, authorities, sequence });
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&held);
        self.write_bundles(&held).await?;
        for (purpose, kid) in over {
            // What cannot be destroyed now is at the next look; that a key was taken back is seen all the same.
            if let Err(error) = self.store.destroy(purpose, &kid).await {
                tracing::error!(%error, %kid, "a key that signs no more could not be destroyed; it is tried again");
                continue;
            }
            let kid = kid.to_string();
            let gone = self.db.tx("key_destroyed", move |tx| {
                let kid = kid.clone();
                Box::pin(async move { signing_key::destroyed(tx, &kid).await })
            });
            gone.await.map_err(of_tx)?;
        }
        Ok(())
    }

    /// The private half of a key. Where it cannot be had, nothing is signed by it, and whatever else became of keys is seen; at the start it is
    /// a reason not to start.
    async fn signer(&self, purpose: KeyUse, kid: &KeyId, is_start: bool) -> Result<Option<Arc<dyn Signer>>, NoKeys> {
        match self.store.open(purpose, kid).await {
            Err(error) if !is_start => {
                tracing::error!(%error, %kid, purpose = purpose.word(), "a key cannot be had; it is tried again");
                Ok(None)
            }
            found => Ok(found?),
        }
    }

    /// Where the private half of a key lies; `None`: not here.
    pub(crate) fn place(&self, kid: &str) -> Option<KeyPlace> {
        let held = self.held();
        let one = held.keys.iter().find(|one| one.row.kid == kid)?;
        one.signer.as_ref().map(|signer| signer.place())
    }

    async fn write_bundles(&self, held: &Held) -> Result<(), NoKeys> {
        for (purpose, path) in &self.uses {
            let (purpose, Some(path)) = (*purpose, path) else { continue };
            let Some(authority) = held.authorities.get(&purpose) else { continue };
            let past = self.db.read("past_cas", move |tx| Box::pin(signing_key::past_certificates(tx, purpose)));
            let past = past.await.map_err(of_tx)?;
            if bundle::write(path, &authority.roots(), &past)? {
                let path = path.display();
                tracing::info!(%path, purpose = purpose.word(), "the CA certificates that others are to trust have changed");
            }
        }
        Ok(())
    }

    /// Does what is due for the keys of one use; whether anything was.
    pub(crate) async fn turn(&self, purpose: KeyUse) -> Result<bool, NoKeys> {
        let mut any = false;
        for _ in 0..MOST_STEPS {
            let rows = self.db.read("keys_of_use", move |tx| Box::pin(signing_key::current_of(tx, purpose)));
            let lives = lives(&rows.await.map_err(of_tx)?)?;
            let Some(step) = due(purpose, &lives, self.clock.now(), self.pace).into_iter().next() else { break };
            any |= self.step(purpose, step).await?;
        }
        Ok(any)
    }

    async fn step(&self, purpose: KeyUse, step: Due) -> Result<bool, NoKeys> {
        let new = match &step {
            Due::First => Some(self.first(purpose).await?),
            Due::Prepare => Some(self.make(purpose).await?),
            Due::Activate(_) | Due::Retire(_) => None,
        };
        let (outbox, me, now, pace) = (self.outbox.clone(), self.me.clone(), self.clock.now(), self.pace);
        let row = new.clone();
        let done = self.db.tx("turn_keys", move |tx| {
            let (outbox, me, row, step) = (outbox.clone(), me.clone(), row.clone(), step.clone());
            Box::pin(async move {
                signing_key::take_turn(tx, purpose).await?;
                let rows = signing_key::current_of(tx, purpose).await?;
                // Another issuer may have been faster.
                if due(purpose, &lives(&rows).map_err(flow)?, now, pace).first() != Some(&step) {
                    return Ok(false);
                }
                let by = convert::By::Clock(&me);
                let mut events = Vec::new();
                let mut note = |what, row: &Model| events.push(convert::key_changed(&by, what, row, purpose, "", now));
                match (&step, row) {
                    (Due::Prepare, Some(row)) => {
                        signing_key::insert(tx, row.clone()).await?;
                        note(KeyChange::Prepared, &row);
                    }
                    (Due::First, Some(row)) => {
                        signing_key::insert(tx, row.clone()).await?;
                        note(KeyChange::Activated, &signing_key::activate(tx, &row.kid, now).await?);
                    }
                    (Due::Activate(kid), _) => {
                        let (row, _) = follow(tx, purpose, &rows, kid, now).await?;
                        note(KeyChange::Activated, &row);
                    }
                    (Due::Retire(kid), _) => note(KeyChange::Retired, &signing_key::run_out(tx, kid, now).await?),
                    (Due::Prepare | Due::First, None) => return Err(flow(Fault::broken("a key that was not made"))),
                }
                record(tx, &outbox, Standard::Ordinary, events).await?;
                Ok(true)
            })
        });
        let done = done.await.map_err(of_tx)?;
        if let (Some(row), false) = (&new, done) {
            self.store.destroy(purpose, &row.id()?).await?;
        }
        Ok(done)
    }

    /// A new key, kept and not entered yet. One that is never entered signs nothing.
    pub(super) async fn make(&self, purpose: KeyUse) -> Result<Model, NoKeys> {
        let signer = self.store.create(purpose).await?;
        let certificate = match purpose.is_ca() {
            true => Some(self_signed(signer.as_ref(), &self.name(purpose), self.clock.now()).await?.to_vec()),
            false => None,
        };
        Ok(Model::new(purpose, signer.public_key(), certificate, self.clock.now()))
    }

    /// The first key of a use: that of an earlier version, where there is one.
    async fn first(&self, purpose: KeyUse) -> Result<Model, NoKeys> {
        let path = self.uses.get(&purpose).and_then(Option::as_ref);
        let there = path.map(|path| bundle::read(path)).transpose()?.unwrap_or_default();
        let Some(signer) = self.store.adopt(purpose).await? else {
            if let Some(path) = path.filter(|_| !there.is_empty()) {
                return Err(bundle::not_ours(path).into());
            }
            return self.make(purpose).await;
        };
        let (public, now) = (signer.public_key(), self.clock.now());
        let certificate = match path {
            None => None,
            Some(path) => {
                let own = there.iter().find(|der| crate::keys::key_of(der).as_ref() == Some(public));
                match own {
                    Some(own) => Some(own.to_vec()),
                    None if there.is_empty() => {
                        Some(self_signed(signer.as_ref(), &self.name(purpose), now).await?.to_vec())
                    }
                    None => return Err(bundle::not_ours(path).into()),
                }
            }
        };
        Ok(Model::new(purpose, public, certificate, now))
    }

    fn name(&self, purpose: KeyUse) -> String {
        let who = if purpose == KeyUse::OperatorsCa { "operators" } else { "workloads" };
        format!("Legate {who} of {}", self.domain)
    }
}

/// Enters events of one change, in their order.
pub(super) async fn record(
    tx: &Tx,
    outbox: &Outbox,
    standard: Standard,
    events: Vec<AuditEvent>,
) -> TxResult<(), Fault> {
    outbox.record_all(tx, standard, events).await?;
    Ok(())
}

pub(super) fn lives(rows: &[Model]) -> Result<Vec<Life>, Fault> {
    rows.iter().map(Model::life).collect()
}

/// Lets the prepared key sign, and the one that signed only verify; both as they are then.
pub(super) async fn follow(
    tx: &Tx,
    purpose: KeyUse,
    rows: &[Model],
    kid: &str,
    now: Timestamp,
) -> TxResult<(Model, Option<Model>), Fault> {
    let active = rows.iter().find(|row| row.state == signing_key::number_of(State::Active));
    let before = match active {
        Some(active) => Some(signing_key::let_go(tx, &active.kid, now.plus(purpose.keep())).await?),
        None => None,
    };
    Ok((signing_key::activate(tx, kid, now).await?, before))
}

fn authority(keys: &[One], purpose: KeyUse) -> Option<Authority> {
    let certified = |one: &One| {
        let certificate = CertificateDer::from(one.row.certificate.clone()?);
        let is_tainted = one.state == State::Tainted;
        Some(Certified { public: one.public, certificate, signer: one.signer.clone(), is_tainted })
    };
    let of = |which: fn(State) -> bool| {
        keys.iter().filter(move |one| one.purpose == purpose && which(one.state)).filter_map(certified)
    };
    let active = of(|state| state == State::Active).next()?;
    Authority::new(active, of(State::is_going).collect(), of(|state| state == State::Prepared).collect())
}

pub(super) fn unavailable(why: &str) -> Fault {
    Fault::unavailable(&SIGNING_UNAVAILABLE, why, AGAIN)
}

/// Turns keys and reads them again for as long as the process lives.
pub(crate) async fn turn_forever(desk: Arc<Desk>) {
    loop {
        tell(&desk);
        tokio::time::sleep(LOOK).await;
        look(&desk).await;
    }
}

/// Sees whether the place where keys are does its work, for as long as the process lives.
pub(crate) async fn probe_forever(desk: Arc<Desk>) {
    loop {
        desk.keys.store.probe().await;
        desk.metrics.key_store(desk.keys.store.check().is_ok());
        tokio::time::sleep(PROBE).await;
    }
}

/// One look: what is due is done, and what others did is seen.
pub(crate) async fn look(desk: &Desk) {
    for purpose in desk.keys.uses.keys().copied() {
        match desk.keys.turn(purpose).await {
            Ok(any) if any => desk.news.notify_one(),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, purpose = purpose.word(), "keys cannot be turned; it is tried again"),
        }
    }
    if let Err(error) = desk.keys.load().await {
        tracing::error!(%error, "keys cannot be read; those that are known stay");
    }
}

/// How the keys stand, for the metrics.
pub(crate) fn tell(desk: &Desk) {
    let (now, pace) = (desk.clock.now(), desk.keys.pace);
    let all = desk.keys.all();
    for purpose in desk.keys.uses.keys().copied() {
        let of_use: Vec<&One> = all.iter().filter(|one| one.purpose == purpose).collect();
        for state in [State::Prepared, State::Active, State::Retiring, State::Tainted] {
            let count = of_use.iter().filter(|one| one.state == state).count();
            desk.metrics.keys(purpose.word(), state.word(), count);
        }
        let active = of_use.iter().find(|one| one.state == State::Active);
        let life = active.and_then(|one| one.row.life().ok());
        let age = life.as_ref().and_then(|life| life.activated).map_or(0, |since| now.since(since).as_secs());
        let rotates = life.and_then(|life| life.rotates(purpose, pace)).map(|at| at.secs() - now.secs());
        desk.metrics.active_key(purpose.word(), age, rotates, active.is_some_and(|one| one.signer.is_some()));
    }
}
