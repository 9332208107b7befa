//! Whether what a token rests on was taken back, for verifiers that ask nobody: lists that are signed and may be kept for a while.
//!
//! By revision 21 of draft-ietf-oauth-status-list, and switched off unless it is configured. A place in a list belongs to a credential,
//! so there is no row for a token; a token that rests on more than one credential, or on none, has no place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_clock::Timestamp;
use legate_ids::AgentId;
use legate_rpc::Fault;
use legate_token::{Confirmation, KeyId, MAX_LEEWAY, Status};
use legate_view::{Snapshot, after_cutoff};
use serde::Serialize;

use super::authenticate::By;
use super::issue_token::Asking;
use super::{Call, Desk};
use crate::domain::holder::LONGEST_TOKEN;
use crate::domain::keyring::KeyUse;
use crate::domain::status_list::{PLACES, StatusList};
use crate::error::{AGAIN, STATUS_LIST_BUSY, STATUS_LIST_NOT_FOUND, of_tx};
use crate::store::{PlaceOf, credential, status_list};

/// Where they are below the issuer; the number of the list follows.
pub(crate) const PATH: &str = "/oauth2/status/";

/// Rows in one query.
const AT_ONCE: u64 = 5_000;
/// The most lists that are kept signed.
const KEPT: usize = 512;
/// No token outlives its credential by more: a secret may have been replaced while a token of it lived.
const AFTER_THE_END: Duration = Duration::from_secs(LONGEST_TOKEN.as_secs() + MAX_LEEWAY);

/// The lists that are signed, and how long each may be kept.
#[derive(Debug)]
pub(crate) struct Lists {
    ttl: Duration,
    /// Raised by each revocation here, whose news has not come back from the registry yet.
    taken_back: AtomicU64,
    signed: parking_lot::Mutex<BTreeMap<u32, Served>>,
    /// One is made at a time: whoever asks for many takes one reader of the database.
    making: tokio::sync::Mutex<()>,
}

/// What was taken away up to a moment, here and at the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marks {
    here: u64,
    registry: u64,
}

/// A signed list.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) token: Arc<str>,
    kid: KeyId,
    made: Timestamp,
    marks: Marks,
}

impl Lists {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            taken_back: AtomicU64::new(0),
            signed: parking_lot::Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    /// For how long a list may be kept.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Something was taken back: what is signed is the past.
    pub(super) fn forget(&self) {
        self.taken_back.fetch_add(1, Ordering::SeqCst);
    }

    fn keep(&self, number: u32, served: Served) {
        let mut signed = self.signed.lock();
        if signed.len() >= KEPT && !signed.contains_key(&number) {
            let oldest = signed.iter().min_by_key(|(_, served)| served.made).map(|(number, _)| *number);
            oldest.and_then(|number| signed.remove(&number));
        }
        signed.insert(number, served);
    }
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

/// The claims of a status list token (section 5.1).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: String,
    iat: u64,
    exp: u64,
    ttl: u64,
    status_list: Packed,
}

#[derive(Serialize)]
struct Packed {
    bits: u8,
    lst: String,
}

impl Desk {
    /// The place of a token that is about to be made for its holder itself, where lists are published and it has one.
    pub(super) async fn status_of(&self, call: &Call, asking: &Asking) -> Result<Option<Status>, Fault> {
        if self.lists.is_none() {
            return Ok(None);
        }
        let Some(of) = rests_on(asking, &call.peer.x5t_s256) else { return Ok(None) };
        let index = self.batches.place(of).await.map_err(of_tx)?;
        let place = |index: i64| {
            let index = u64::try_from(index).map_err(Fault::broken)?;
            let (number, place) = (index / u64::from(PLACES), index % u64::from(PLACES));
            Ok(Status { index: u32::try_from(place).map_err(Fault::broken)?, uri: self.list_uri(number) })
        };
        index.map(place).transpose()
    }

    fn list_uri(&self, number: u64) -> String {
        format!("{}{PATH}{number}", self.issuer)
    }

    fn marks(&self, lists: &Lists) -> Marks {
        Marks { here: lists.taken_back.load(Ordering::SeqCst), registry: *self.view.taken_away().borrow() }
    }

    /// A list that was signed and says still how it is.
    fn signed(&self, lists: &Lists, number: u32) -> Result<Option<Served>, Fault> {
        let (now, marks) = (self.clock.now(), self.marks(lists));
        let kid = self.keys.active(KeyUse::AccessTokens)?.public.kid();
        let found = lists.signed.lock().get(&number).cloned();
        let is_current = |served: &Served| {
            served.marks == marks && served.kid == kid && served.made <= now && now.since(served.made) < lists.ttl
        };
        Ok(found.filter(is_current))
    }
}

/// The one credential that a token rests on; `None`: there is none, or more than one.
fn rests_on(asking: &Asking, x5t_s256: &[u8; 32]) -> Option<PlaceOf> {
    match (&asking.by, &asking.confirmation) {
        (By::Certificate(_) | By::Identity(_), Confirmation::Certificate(x5t)) => Some(PlaceOf::Certificate(*x5t)),
        (By::Certificate(_), Confirmation::Key(_) | Confirmation::Bearer) => Some(PlaceOf::Certificate(*x5t_s256)),
        (By::Credential(id), Confirmation::Key(_) | Confirmation::Bearer) => Some(PlaceOf::Credential(id.clone())),
        // It falls with the secret or key, and with the certificate, and one bit says only one of the two.
        (By::Credential(_), Confirmation::Certificate(_)) => None,
        (By::Identity(_), Confirmation::Key(_) | Confirmation::Bearer) => None,
    }
}

/// A list, signed: the one that is kept while nothing was taken away, else a new one.
///
/// # Errors
/// When there is no such list, when too many are made, and when it cannot be said how things are now.
#[tracing::instrument(skip_all, fields(legate.status_list = number))]
pub(crate) async fn status_list(desk: &Desk, call: &Call, number: u32) -> Result<Served, Fault> {
    let no_such = || Fault::refused(&STATUS_LIST_NOT_FOUND, format!("there is no status list {number}"));
    let lists = desk.lists.as_ref().ok_or_else(no_such)?;
    // Nothing is said by a view that is too old.
    desk.fresh()?;
    let served = match desk.signed(lists, number)? {
        Some(served) => served,
        None => {
            // A stranger's number costs one look, and no turn.
            let list = desk.db.read("find_status_list", move |tx| Box::pin(status_list::by_number(tx, number)));
            let list = list.await.map_err(of_tx)?.ok_or_else(no_such)?;
            let over = Timestamp::from_micros(list.live_until).plus(AFTER_THE_END);
            if over <= desk.clock.now() {
                return Err(no_such());
            }
            let busy = |_| Fault::unavailable(&STATUS_LIST_BUSY, "other status lists are being made", AGAIN);
            let _turn = tokio::time::timeout(desk.patience(call), lists.making.lock()).await.map_err(busy)?;
            match desk.signed(lists, number)? {
                Some(served) => served,
                None => make(desk, lists, number).await?,
            }
        }
    };
    desk.metrics.list_served(desk.clock.now().since(served.made));
    Ok(served)
}

/// Makes the list anew, by what is so now.
async fn make(desk: &Desk, lists: &Lists, number: u32) -> Result<Served, Fault> {
    // Before anything is read: what is taken away meanwhile makes this the past at once.
    let (marks, made) = (desk.marks(lists), desk.clock.now());
    let (mut list, mut after) = (StatusList::new(PLACES), None);
    let since = made.minus(AFTER_THE_END);
    loop {
        let page = desk.db.read("status_list_page", move |tx| {
            Box::pin(async move { status_list::page(tx, number, after, since, AT_ONCE).await })
        });
        let page = page.await.map_err(of_tx)?;
        let is_last = (page.len() as u64) < AT_ONCE;
        let (snapshot, now) = (desk.fresh()?.snapshot, desk.clock.now());
        for row in &page {
            if let Some(index) = row.status_index
                && is_taken_back(&snapshot, row, now)
            {
                list.set(u32::try_from(index % i64::from(PLACES)).map_err(Fault::broken)?);
            }
        }
        after = page.last().and_then(|row| row.status_index).or(after);
        if is_last {
            break;
        }
    }
    let kid = desk.keys.active(KeyUse::AccessTokens)?.public.kid();
    let iat = u64::try_from(made.secs()).unwrap_or(0);
    let ttl = lists.ttl.as_secs();
    let claims = Claims {
        iss: &desk.issuer,
        sub: desk.list_uri(number.into()),
        iat,
        // It is served for one ttl and kept for another; one more for clocks and ways.
        exp: iat + 3 * ttl,
        ttl,
        status_list: Packed { bits: 1, lst: list.lst() },
    };
    let part = |json: Result<Vec<u8>, serde_json::Error>| {
        json.map(|json| Base64UrlUnpadded::encode_string(&json)).map_err(Fault::broken)
    };
    let header = Header { alg: "ES256", typ: "statuslist+jwt", kid: kid.as_str() };
    let input = format!("{}.{}", part(serde_json::to_vec(&header))?, part(serde_json::to_vec(&claims))?);
    let signature = desk.keys.sign(KeyUse::AccessTokens, &kid, input.as_bytes()).await?;
    let token: Arc<str> = format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature)).into();
    desk.metrics.list_made(token.len());
    let served = Served { token, kid, made, marks };
    lists.keep(number, served.clone());
    Ok(served)
}

/// Whether nothing that was obtained by the credential works: it was revoked, its holder does not work, or was cut off after it was
/// made. Never less than [`Snapshot::token_standing`] finds of such a token, but for what ends a single token.
fn is_taken_back(snapshot: &Snapshot, row: &credential::Model, now: Timestamp) -> bool {
    let of_certificate = row.x5t_s256.as_deref().and_then(|x5t| <&[u8; 32]>::try_from(x5t).ok());
    if row.state != credential::ISSUED
        || snapshot.revocation(&row.id).is_some()
        || of_certificate.is_some_and(|x5t| snapshot.certificate_revocation(x5t).is_some())
    {
        return true;
    }
    let agent = AgentId::parse(&row.agent_id).ok().and_then(|id| snapshot.agent(&id));
    let Some(agent) = agent.filter(|agent| agent.label.namespace.as_str() == row.namespace) else { return true };
    let life = snapshot.life_of(agent, now);
    let is_of_this_life =
        row.kind != credential::CERTIFICATE || u64::try_from(row.lifecycle_version) == Ok(life.lifecycle_version);
    if life.stop.is_some() || !is_of_this_life {
        return true;
    }
    let (cutoff, issued) = (life.cutoff(), Timestamp::from_micros(row.issued_at));
    // A token is dated by the whole second. Where the credential was made within the second of the cut-off, a token that was
    // issued before the news came may be dated before it; when that token has ended, the credential is as good as any.
    let is_news = cutoff.is_some_and(|at| now.since(at) <= AFTER_THE_END);
    let issued = if is_news { Timestamp::from_secs(issued.secs()) } else { issued };
    !after_cutoff(issued, cutoff)
}

#[cfg(test)]
mod law;
