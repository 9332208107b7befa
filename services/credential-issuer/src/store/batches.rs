//! Where calls go into the database together: tokens to be recorded, what is shown once, and what clients prove themselves by.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use legate_db::{Db, Tx, TxError, TxResult};
use legate_outbox::Outbox;
use legate_rpc::Fault;
use parking_lot::Mutex;
use sea_orm::{DatabaseConnection, DbErr};

use super::once::Once;
use super::recorded::Register;
use super::{client, credential, once, status_list};
use crate::domain::status_list::PLACES;
use crate::error::flow;
use crate::together::{NotAnswered, Together};

/// Secrets of which it is known whose they are, and clients whose keys are known; when there are more, all are looked up again.
const KNOWN: usize = 4_096;
/// Assertions of which it is known that they were shown here; when there are more, all are looked up again.
const SEEN: usize = 65_536;

/// What waits for the database.
pub(super) type Grouped<Q, A> = Together<Q, TxResult<A, Fault>>;

impl From<NotAnswered> for TxError<Fault> {
    fn from(why: NotAnswered) -> Self {
        match why {
            NotAnswered::TooMany => Self::Unavailable(DbErr::Custom("too many wait for the database".to_owned())),
            NotAnswered::Broken => Self::Broken(DbErr::Custom(why.to_string())),
        }
    }
}

/// The same failure for each of a group: the one transaction of all of them was not committed, or nobody knows.
pub(super) fn failed<A>(e: &TxError<Fault>, count: usize) -> Vec<TxResult<A, Fault>> {
    let again = || match e {
        TxError::Unavailable(e) => TxError::Unavailable(e.clone()),
        TxError::Broken(e) => TxError::Broken(e.clone()),
        // Whoever works for a group tells refusals one by one.
        TxError::Flow(fault) => TxError::Broken(DbErr::Custom(fault.to_string())),
    };
    (0..count).map(|_| Err(again())).collect()
}

/// The batches of one database.
#[derive(Debug)]
pub(crate) struct Batches {
    /// Tokens.
    pub(crate) register: Register,
    shown: Grouped<Once, bool>,
    looked: Grouped<[u8; 32], bool>,
    certificates: Grouped<[u8; 32], Option<credential::Model>>,
    secrets: Grouped<Vec<Vec<u8>>, Option<credential::Model>>,
    /// Whose a secret is, by its HMAC: the rows as they were found.
    known: Mutex<HashMap<Vec<u8>, credential::Model>>,
    keys: Grouped<KeysOf, Keys>,
    /// The keys of clients that worked when they were looked up, by client.
    known_keys: Mutex<HashMap<String, Arc<[credential::Model]>>>,
    /// What was shown here: who shows it again is looked up.
    seen: Mutex<HashSet<[u8; 32]>>,
    places: Grouped<PlaceOf, Option<i64>>,
}

/// A client whose keys are looked for, and what it shows beside.
#[derive(Clone, Debug)]
pub(crate) struct KeysOf {
    pub(crate) agent_id: String,
    pub(crate) shown: [u8; 32],
}

/// The newest keys that a client registered, whether or not they still work.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) rows: Vec<credential::Model>,
    /// Whether what the client shows was shown before.
    pub(crate) was_shown: bool,
}

/// Whose place in a status list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PlaceOf {
    /// That of the certificate with this SHA-256 of its DER.
    Certificate([u8; 32]),
    /// That of the credential with this id.
    Credential(String),
}

impl Batches {
    /// The batches of `db`.
    pub(crate) fn new(db: &Db, outbox: Outbox) -> Self {
        let reading = db.clone();
        let certificates = Together::start(move |x5ts: Vec<[u8; 32]>| {
            peek(reading.clone(), "find_certificate", x5ts, |db, x5ts| Box::pin(certificates(db, x5ts)))
        });
        let reading = db.clone();
        let secrets = Together::start(move |macs: Vec<Vec<Vec<u8>>>| {
            peek(reading.clone(), "find_client_secret", macs, |db, macs| Box::pin(secrets(db, macs)))
        });
        let reading = db.clone();
        let keys = Together::start(move |asked: Vec<KeysOf>| {
            peek(reading.clone(), "find_client_keys", asked, |db, asked| Box::pin(keys(db, asked)))
        });
        let placing = db.clone();
        let places = Together::start(move |asked| find_places(placing.clone(), Arc::new(asked)));
        let reading = db.clone();
        let looked = Together::start(move |whats: Vec<[u8; 32]>| {
            peek(reading.clone(), "find_shown", whats, |db, whats| Box::pin(were_shown(db, whats)))
        });
        let writing = db.clone();
        let shown = Together::start(move |all| show(writing.clone(), Arc::new(all)));
        let register = Register::new(db.clone(), outbox);
        let (known, known_keys, seen) = Default::default();
        Self { register, shown, looked, certificates, secrets, known, keys, known_keys, seen, places }
    }

    /// Notes that something was shown: of all who show it, on whatever replica, one gets `true`.
    pub(crate) async fn show_once(&self, once: Once) -> TxResult<bool, Fault> {
        self.shown.ask(once).await?
    }

    /// Whether something was shown before. Of those that race it is for [`Register::record`] to see who is first.
    pub(crate) async fn was_shown(&self, what: [u8; 32]) -> TxResult<bool, Fault> {
        self.looked.ask(what).await?
    }

    /// The credential of a certificate, by SHA-256 of its DER.
    pub(crate) async fn certificate(&self, x5t_s256: [u8; 32]) -> TxResult<Option<credential::Model>, Fault> {
        self.certificates.ask(x5t_s256).await?
    }

    /// The secret of one of the HMACs, whether or not it still works.
    pub(crate) async fn secret(&self, macs: Vec<Vec<u8>>) -> TxResult<Option<credential::Model>, Fault> {
        let found = self.secrets.ask(macs.clone()).await??;
        let mut known = self.known.lock();
        match &found {
            Some(row) if row.state == credential::ISSUED => {
                if known.len() >= KNOWN {
                    known.clear();
                }
                known.insert(row.key_sha256.clone(), row.clone());
            }
            _ => macs.iter().for_each(|mac| drop(known.remove(mac))),
        }
        Ok(found)
    }

    /// The secret of one of the HMACs as it was found before, where it was. Whose it is never changes. Whether it still works, and
    /// until when, may have changed: it is for [`Register::record`] to see.
    pub(crate) fn known_secret(&self, macs: &[Vec<u8>]) -> Option<credential::Model> {
        let known = self.known.lock();
        macs.iter().find_map(|mac| known.get(mac)).cloned()
    }

    /// What was known of a secret or key was not so any more.
    pub(crate) fn forget(&self, credential_id: &str) {
        self.known.lock().retain(|_, row| row.id != credential_id);
        self.known_keys.lock().retain(|_, rows| rows.iter().all(|row| row.id != credential_id));
    }

    /// The place of a credential in the status lists, where there is such a credential.
    pub(crate) async fn place(&self, of: PlaceOf) -> TxResult<Option<i64>, Fault> {
        self.places.ask(of).await?
    }

    /// The keys by which a client may have signed what it shows.
    pub(crate) async fn keys(&self, of: KeysOf) -> TxResult<Keys, Fault> {
        let client = of.agent_id.clone();
        let found = self.keys.ask(of).await??;
        let working: Arc<[_]> = found.rows.iter().filter(|row| row.state == credential::ISSUED).cloned().collect();
        let mut known = self.known_keys.lock();
        if working.is_empty() {
            known.remove(&client);
        } else {
            if known.len() >= KNOWN {
                known.clear();
            }
            known.insert(client, working);
        }
        Ok(found)
    }

    /// The keys of a client as they were found before. That they are the client's never changes. Whether they still work, and
    /// whether what the client shows was used on another replica, is for [`Register::record`] to see.
    pub(crate) fn known_keys(&self, client: &str) -> Option<Arc<[credential::Model]>> {
        self.known_keys.lock().get(client).cloned()
    }

    /// Whether this was shown here, as far as anybody remembers: then it is looked up.
    pub(crate) fn was_seen(&self, shown: &[u8; 32]) -> bool {
        self.seen.lock().contains(shown)
    }

    /// Notes that this was shown here; only of what a key of its client signed.
    pub(crate) fn note_seen(&self, shown: [u8; 32]) {
        let mut seen = self.seen.lock();
        if seen.len() >= SEEN {
            seen.clear();
        }
        seen.insert(shown);
    }
}

/// Answers a group; whoever has no place is given one, and keeps it.
async fn find_places(db: Db, asked: Arc<Vec<PlaceOf>>) -> Vec<TxResult<Option<i64>, Fault>> {
    let count = asked.len();
    let asking = Arc::clone(&asked);
    let found = db.read("find_status_index", move |tx| {
        let asked = Arc::clone(&asking);
        Box::pin(async move { rows_of(tx, &asked).await })
    });
    let found = match found.await {
        Ok(rows) if rows.iter().flatten().all(|row| row.status_index.is_some()) => {
            return rows.into_iter().map(|row| Ok(row.and_then(|row| row.status_index))).collect();
        }
        Ok(_) => db.tx("give_status_index", move |tx| {
            let asked = Arc::clone(&asked);
            Box::pin(async move { give_places(tx, &asked).await })
        }),
        Err(e) => return failed(&e, count),
    };
    match found.await {
        Ok(places) => places.into_iter().map(Ok).collect(),
        Err(e) => failed(&e, count),
    }
}

async fn rows_of(tx: &Tx, asked: &[PlaceOf]) -> TxResult<Vec<Option<credential::Model>>, Fault> {
    let x5ts = asked.iter().filter_map(|of| match of {
        PlaceOf::Certificate(x5t) => Some(*x5t),
        PlaceOf::Credential(_) => None,
    });
    let ids = asked.iter().filter_map(|of| match of {
        PlaceOf::Credential(id) => Some(id.clone()),
        PlaceOf::Certificate(_) => None,
    });
    let mut rows = credential::by_certificates(tx, x5ts.collect::<Vec<_>>()).await?;
    rows.extend(credential::by_ids(tx, ids.collect::<Vec<_>>()).await?);
    let is_of = |row: &credential::Model, of: &PlaceOf| match of {
        PlaceOf::Certificate(x5t) => row.x5t_s256.as_deref() == Some(x5t),
        PlaceOf::Credential(id) => row.id == *id,
    };
    Ok(asked.iter().map(|of| rows.iter().find(|row| is_of(row, of)).cloned()).collect())
}

async fn give_places(tx: &Tx, asked: &[PlaceOf]) -> TxResult<Vec<Option<i64>>, Fault> {
    let mut shuffle = [0; 32];
    aws_lc_rs::rand::fill(&mut shuffle).map_err(|_| flow(Fault::broken("the system gives no randomness")))?;
    // The lock first: whoever had it before may have given what is missing here.
    let mut list = status_list::lock_with_room(tx, shuffle).await?;
    let mut given: HashMap<String, i64> = HashMap::new();
    let mut places = Vec::with_capacity(asked.len());
    for row in rows_of(tx, asked).await? {
        let Some(row) = row else {
            places.push(None);
            continue;
        };
        let place = match row.status_index.or_else(|| given.get(&row.id).copied()) {
            Some(place) => place,
            None => {
                if list.given >= i64::from(PLACES) {
                    list = status_list::lock_with_room(tx, shuffle).await?;
                }
                status_list::give(tx, &mut list, &row).await?
            }
        };
        given.insert(row.id, place);
        places.push(Some(place));
    }
    Ok(places)
}

/// Answers a group. What they ask for need not agree: each is judged again where its token is recorded.
async fn peek<Q: Send + 'static, A: Send>(
    db: Db,
    name: &'static str,
    asked: Vec<Q>,
    look: impl for<'a> FnOnce(&'a DatabaseConnection, Vec<Q>) -> BoxFuture<'a, TxResult<Vec<A>, Fault>> + Send,
) -> Vec<TxResult<A, Fault>> {
    let count = asked.len();
    match db.peek(name, move |db| look(db, asked)).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(e) => failed(&e, count),
    }
}

async fn certificates(db: &DatabaseConnection, x5ts: Vec<[u8; 32]>) -> TxResult<Vec<Option<credential::Model>>, Fault> {
    let rows = credential::by_certificates(db, x5ts.iter().copied()).await?;
    let of = |x5t: &[u8; 32]| rows.iter().find(|row| row.x5t_s256.as_deref() == Some(x5t)).cloned();
    Ok(x5ts.iter().map(of).collect())
}

async fn secrets(db: &DatabaseConnection, macs: Vec<Vec<Vec<u8>>>) -> TxResult<Vec<Option<credential::Model>>, Fault> {
    let rows = client::secrets(db, macs.iter().flatten().cloned().collect()).await?;
    let rows: HashMap<_, _> = rows.into_iter().map(|row| (row.key_sha256.clone(), row)).collect();
    Ok(macs.iter().map(|macs| macs.iter().find_map(|mac| rows.get(mac)).cloned()).collect())
}

async fn keys(db: &DatabaseConnection, asked: Vec<KeysOf>) -> TxResult<Vec<Keys>, Fault> {
    let shown = once::those(db, asked.iter().map(|of| of.shown).collect::<Vec<_>>()).await?;
    let mut all = Vec::with_capacity(asked.len());
    for KeysOf { agent_id, shown: what } in &asked {
        all.push(Keys { rows: client::keys(db, agent_id).await?, was_shown: shown.contains(what) });
    }
    Ok(all)
}

async fn were_shown(db: &DatabaseConnection, whats: Vec<[u8; 32]>) -> TxResult<Vec<bool>, Fault> {
    let shown = once::those(db, whats.clone()).await?;
    Ok(whats.iter().map(|what| shown.contains(what)).collect())
}

async fn show(db: Db, all: Arc<Vec<Once>>) -> Vec<TxResult<bool, Fault>> {
    let (count, asked) = (all.len(), Arc::clone(&all));
    let shown = db.tx("show_once", move |tx| {
        let all = Arc::clone(&all);
        Box::pin(async move { once::show(tx, all.iter().copied().collect::<Vec<_>>()).await })
    });
    match shown.await {
        // Of those in the group that show the same, one is first.
        Ok(mut firsts) => asked.iter().map(|once| Ok(firsts.remove(&once.what))).collect(),
        Err(e) => failed(&e, count),
    }
}
