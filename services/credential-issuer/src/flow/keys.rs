//! Operators see keys, and let them follow one another: by a turn that one has at a time, and never without a key that signs.

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_token::KeyId;
use legate_wire::audit::AuditEvent;

use super::keyring::{NoKeys, follow, record};
use super::list::page_size;
use super::{Call, Desk, publish};
use crate::convert::{self, By, KeyChange};
use crate::domain::keyring::{KeyUse, MOST_PUBLISHED, State};
use crate::error::{
    AGAIN, KEY_IN_SERVICE, KEY_NOT_FOUND, KEY_NOT_READY, KEY_PURPOSE_NOT_SERVED, KEY_STORE_UNAVAILABLE, KEYS_FULL,
    REVOCATION_PENDING, flow, of_tx,
};
use crate::store::signing_key::{self, Model, number_of};

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) purpose: Option<KeyUse>,
    pub(crate) with_ended: bool,
    pub(crate) page_size: u32,
    pub(crate) page_token: String,
}

/// One page of keys, and the token for the next one; empty when it was the last.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(desk: &Desk, call: &Call, ask: Ask) -> Result<(Vec<Model>, String), Fault> {
    let size = page_size(ask.page_size)?;
    desk.mandate(call).await?.demand(Right::Read, Place::Everywhere)?;
    let purpose = ask.purpose.map_or("", KeyUse::word);
    let question = ["keys", call.peer.id_text(), purpose, if ask.with_ended { "all" } else { "" }];
    let before = desk.pepper.pages().read(&question, &ask.page_token)?;
    let before = before.as_deref().and_then(|text| {
        let (at, kid) = text.split_once(' ')?;
        Some((at.parse::<i64>().ok()?, kid.to_owned()))
    });
    let rows = desk.db.read("list_keys", |tx| {
        Box::pin(async move { signing_key::page(tx, ask.purpose, ask.with_ended, before, size as u64).await })
    });
    let mut rows = rows.await.map_err(of_tx)?;
    desk.record_emergency(call).await?;
    let is_last = rows.len() <= size;
    rows.truncate(size);
    let next = match rows.last() {
        Some(last) if !is_last => desk.pepper.pages().after(&question, &format!("{} {}", last.prepared_at, last.kid)),
        _ => String::new(),
    };
    Ok((rows, next))
}

/// Who changes keys, when and why.
#[derive(Clone)]
struct Order {
    call: Call,
    reason: String,
    now: Timestamp,
}

impl Order {
    async fn given(desk: &Desk, call: &Call, reason: String) -> Result<Self, Fault> {
        // Keys belong to no namespace: who changes them stands above all.
        desk.mandate(call).await?.demand(Right::Administer, Place::Everywhere)?;
        Ok(Self { call: call.clone(), reason, now: desk.clock.now() })
    }

    fn event(&self, what: KeyChange, row: &Model) -> Result<AuditEvent, Fault> {
        Ok(convert::key_changed(&By::Call(&self.call), what, row, row.purpose()?, &self.reason, self.now))
    }

    /// The emergency first, where the operator states one.
    fn begin(&self) -> Vec<AuditEvent> {
        convert::broke_glass(&self.call, self.now).into_iter().collect()
    }
}

/// What a change of keys left.
#[derive(Debug)]
pub(crate) struct Changed {
    /// The key that was asked for, or that signs now.
    pub(crate) key: Model,
    /// Those that sign no longer.
    pub(crate) replaced: Vec<Model>,
    /// The key that signs now.
    pub(crate) active: Option<Model>,
}

/// Makes a successor for a CA; for keys of tokens the one that there is.
#[tracing::instrument(skip_all, fields(legate.purpose = purpose.word()))]
pub(crate) async fn prepare(desk: &Desk, call: &Call, purpose: KeyUse, reason: String) -> Result<Model, Fault> {
    let order = Order::given(desk, call, reason).await?;
    let new = make(desk, purpose).await?;
    let (row, outbox) = (new.clone(), desk.outbox.clone());
    let done = desk.db.tx("prepare_key", move |tx| {
        let (row, outbox, order) = (row.clone(), outbox.clone(), order.clone());
        Box::pin(async move {
            signing_key::take_turn(tx, purpose).await?;
            let rows = signing_key::current_of(tx, purpose).await?;
            if let Some(there) = in_state(&rows, State::Prepared) {
                record(tx, &outbox, Standard::Ordinary, order.begin()).await?;
                return Ok(there.clone());
            }
            room(purpose, &rows).map_err(flow)?;
            signing_key::insert(tx, row.clone()).await?;
            let mut events = order.begin();
            events.push(order.event(KeyChange::Prepared, &row).map_err(flow)?);
            record(tx, &outbox, Standard::Ordinary, events).await?;
            Ok(row)
        })
    });
    let key = settled(desk, purpose, &new, done.await.map_err(of_tx)).await?;
    seen(desk).await;
    Ok(key)
}

/// Lets the prepared key sign.
#[tracing::instrument(skip_all, fields(legate.purpose = purpose.word()))]
pub(crate) async fn rotate(
    desk: &Desk,
    call: &Call,
    purpose: KeyUse,
    is_urgent: bool,
    reason: String,
) -> Result<Changed, Fault> {
    let order = Order::given(desk, call, reason).await?;
    serves(desk, purpose)?;
    let (outbox, pace) = (desk.outbox.clone(), desk.keys.pace);
    let done = desk.db.tx("rotate_key", move |tx| {
        let (outbox, order) = (outbox.clone(), order.clone());
        Box::pin(async move {
            signing_key::take_turn(tx, purpose).await?;
            let rows = signing_key::current_of(tx, purpose).await?;
            let not_ready = |why: String| flow(Fault::refused(&KEY_NOT_READY, why));
            let next = in_state(&rows, State::Prepared)
                .ok_or_else(|| not_ready(format!("no key of {} is prepared", purpose.word())))?;
            room(purpose, &rows).map_err(flow)?;
            match next.life().map_err(flow)?.usable(pace) {
                Some(from) if from <= order.now || is_urgent => {}
                Some(from) => {
                    let why = format!("the prepared key {} is published long enough at {from}", next.kid);
                    return Err(flow(Fault::refused(&KEY_NOT_READY, why).with("usable_time", from.to_string())));
                }
                None => return Err(not_ready(format!("the registry has not confirmed the prepared key {}", next.kid))),
            }
            let (key, before) = follow(tx, purpose, &rows, &next.kid, order.now).await?;
            let mut events = order.begin();
            events.push(order.event(KeyChange::Activated, &key).map_err(flow)?);
            record(tx, &outbox, Standard::Ordinary, events).await?;
            Ok(Changed { active: Some(key.clone()), key, replaced: before.into_iter().collect() })
        })
    });
    let changed = done.await.map_err(of_tx)?;
    seen(desk).await;
    Ok(changed)
}

/// Takes back every key of a use as compromised; a new one signs at once.
#[tracing::instrument(skip_all, fields(legate.purpose = purpose.word()))]
pub(crate) async fn replace(desk: &Desk, call: &Call, purpose: KeyUse, reason: String) -> Result<Changed, Fault> {
    let order = Order::given(desk, call, reason).await?;
    let new = make(desk, purpose).await?;
    let (row, outbox) = (new.clone(), desk.outbox.clone());
    let done = desk.db.tx("replace_keys", move |tx| {
        let (row, outbox, order) = (row.clone(), outbox.clone(), order.clone());
        Box::pin(async move {
            signing_key::take_turn(tx, purpose).await?;
            let mut events = order.begin();
            let mut replaced = Vec::new();
            for old in signing_key::current_of(tx, purpose).await? {
                if old.state().map_err(flow)?.is_published() {
                    let old = signing_key::end(tx, &old.kid, State::Revoked, order.now).await?;
                    events.push(order.event(KeyChange::Revoked, &old).map_err(flow)?);
                    replaced.push(old);
                }
            }
            signing_key::insert(tx, row.clone()).await?;
            let key = signing_key::activate(tx, &row.kid, order.now).await?;
            events.push(order.event(KeyChange::Activated, &key).map_err(flow)?);
            record(tx, &outbox, Standard::Stopping, events).await?;
            Ok(Changed { active: Some(key.clone()), key, replaced })
        })
    });
    let changed = done.await.map_err(of_tx);
    if matches!(changed, Err(Fault::Refused(_))) {
        drop_unused(desk, purpose, &new).await;
    }
    told(desk, call, changed?).await
}

/// Marks a CA that signs no longer: its holders are to renew now.
#[tracing::instrument(skip_all, fields(legate.kid = %kid))]
pub(crate) async fn taint(desk: &Desk, call: &Call, kid: KeyId, reason: String) -> Result<Model, Fault> {
    let order = Order::given(desk, call, reason).await?;
    let (outbox, kid) = (desk.outbox.clone(), kid.to_string());
    let done = desk.db.tx("taint_key", move |tx| {
        let (outbox, order, kid) = (outbox.clone(), order.clone(), kid.clone());
        Box::pin(async move {
            let row = locked(tx, &kid).await?;
            let in_service = |why: &str| flow(Fault::refused(&KEY_IN_SERVICE, format!("{kid} {why}")));
            match (row.purpose().map_err(flow)?.is_ca(), row.state().map_err(flow)?) {
                (true, State::Tainted) => {
                    record(tx, &outbox, Standard::Stopping, order.begin()).await?;
                    return Ok(row);
                }
                (true, State::Retiring) => {}
                (true, State::Active | State::Prepared) => {
                    return Err(in_service("signs, or is to sign; rotate first"));
                }
                (true, State::Retired | State::Revoked) => return Err(in_service("is over")),
                (false, _) => return Err(in_service("signs tokens, which end too soon to be renewed")),
            }
            let row = signing_key::taint(tx, &kid).await?;
            let mut events = order.begin();
            events.push(order.event(KeyChange::Tainted, &row).map_err(flow)?);
            record(tx, &outbox, Standard::Stopping, events).await?;
            Ok(row)
        })
    });
    let row = done.await.map_err(of_tx)?;
    seen(desk).await;
    Ok(row)
}

/// Ends a key before its time. Where it is the one that signs, the prepared one, or a new one, signs at once.
#[tracing::instrument(skip_all, fields(legate.kid = %kid))]
pub(crate) async fn retire(
    desk: &Desk,
    call: &Call,
    kid: KeyId,
    is_compromised: bool,
    reason: String,
) -> Result<Changed, Fault> {
    let order = Order::given(desk, call, reason).await?;
    let kid = kid.to_string();
    let found = kid.clone();
    let read = desk.db.read("find_key", move |tx| {
        let kid = found.clone();
        Box::pin(async move {
            let row = signing_key::by_kid(tx, &kid).await?.ok_or_else(|| flow(not_found(&kid)))?;
            let rows = signing_key::current_of(tx, row.purpose().map_err(flow)?).await?;
            Ok((row, in_state(&rows, State::Prepared).is_some()))
        })
    });
    let (row, is_followed) = read.await.map_err(of_tx)?;
    let purpose = row.purpose()?;
    serves(desk, purpose)?;
    // Kept before it is known whether it is needed: in the transaction nothing can be made. Where one is prepared, none is made:
    // that no key can be kept now, as on a full disk, keeps nobody from taking one back.
    let needs = is_compromised && !is_followed && row.state()? == State::Active;
    let new = if needs { Some(make(desk, purpose).await?) } else { None };
    let (outbox, spare) = (desk.outbox.clone(), new.clone());
    let done = desk.db.tx("retire_key", move |tx| {
        let (outbox, order, kid, spare) = (outbox.clone(), order.clone(), kid.clone(), spare.clone());
        Box::pin(async move {
            let row = locked(tx, &kid).await?;
            let rows = signing_key::current_of(tx, purpose).await?;
            let state = row.state().map_err(flow)?;
            let end = if is_compromised { State::Revoked } else { State::Retired };
            let mut events = order.begin();
            match state {
                // To repeat it is harmless, and to hear later that a key was compromised is news.
                State::Revoked => {
                    record(tx, &outbox, Standard::Stopping, events).await?;
                    let active = in_state(&rows, State::Active).cloned();
                    return Ok(Changed { key: row, replaced: Vec::new(), active });
                }
                State::Retired if !is_compromised => {
                    record(tx, &outbox, Standard::Stopping, events).await?;
                    let active = in_state(&rows, State::Active).cloned();
                    return Ok(Changed { key: row, replaced: Vec::new(), active });
                }
                State::Active if !is_compromised => {
                    let why = format!("{kid} is the key that signs; rotate first, or say that it is compromised");
                    return Err(flow(Fault::refused(&KEY_IN_SERVICE, why)));
                }
                State::Retired | State::Active | State::Prepared | State::Retiring | State::Tainted => {}
            }
            let key = signing_key::end(tx, &kid, end, order.now).await?;
            let what = if is_compromised { KeyChange::Revoked } else { KeyChange::Retired };
            events.push(order.event(what, &key).map_err(flow)?);
            let mut active = in_state(&rows, State::Active).cloned();
            if state == State::Active {
                let next = match (in_state(&rows, State::Prepared), &spare) {
                    (Some(prepared), _) => prepared.kid.clone(),
                    (None, Some(spare)) => {
                        signing_key::insert(tx, spare.clone()).await?;
                        spare.kid.clone()
                    }
                    // It began to sign between two looks.
                    (None, None) => return Err(flow(Fault::refused(&KEY_NOT_READY, "no key can follow; ask again"))),
                };
                let next = signing_key::activate(tx, &next, order.now).await?;
                events.push(order.event(KeyChange::Activated, &next).map_err(flow)?);
                active = Some(next);
            }
            record(tx, &outbox, Standard::Stopping, events).await?;
            Ok(Changed { key, replaced: Vec::new(), active })
        })
    });
    let changed = done.await.map_err(of_tx);
    if let (Some(new), Ok(changed)) = (&new, &changed)
        && changed.active.as_ref().is_none_or(|active| active.kid != new.kid)
    {
        drop_unused(desk, purpose, new).await;
    }
    told(desk, call, changed?).await
}

/// Whether the certificate of the call is of a CA that is tainted, so that its holder is to renew now.
pub(crate) async fn should_renew(desk: &Desk, call: &Call) -> bool {
    let Ok(authority) = desk.keys.authority(KeyUse::WorkloadsCa) else { return false };
    if authority.tainted_roots().is_empty() {
        return false;
    }
    let x5t = call.peer.x5t_s256;
    // A hint: where it cannot be told, the next answer tells it.
    let row = desk.batches.certificate(x5t).await.map_err(of_tx).ok().flatten();
    row.and_then(|row| row.certificate).is_some_and(|der| authority.is_of_tainted(&der))
}

async fn locked(tx: &Tx, kid: &str) -> TxResult<Model, Fault> {
    let row = signing_key::by_kid(tx, kid).await?.ok_or_else(|| flow(not_found(kid)))?;
    signing_key::take_turn(tx, row.purpose().map_err(flow)?).await?;
    // As it is now that nobody else changes it.
    signing_key::by_kid(tx, kid).await?.ok_or_else(|| flow(not_found(kid)))
}

fn not_found(kid: &str) -> Fault {
    Fault::refused(&KEY_NOT_FOUND, format!("no key {kid}"))
}

fn in_state(rows: &[Model], state: State) -> Option<&Model> {
    rows.iter().find(|row| row.state == number_of(state))
}

/// Whether one more key can be published.
fn room(purpose: KeyUse, rows: &[Model]) -> Result<(), Fault> {
    let published = rows.iter().filter(|row| row.state().is_ok_and(State::is_published)).count();
    // The one that is made at once to follow counts too.
    if published >= MOST_PUBLISHED {
        let why = format!("{published} keys of {} are published, which is the most", purpose.word());
        return Err(Fault::refused(&KEYS_FULL, why));
    }
    Ok(())
}

fn serves(desk: &Desk, purpose: KeyUse) -> Result<(), Fault> {
    if desk.keys.uses.contains_key(&purpose) {
        return Ok(());
    }
    let why = format!("this credential-issuer has no keys of {}", purpose.word());
    Err(Fault::refused(&KEY_PURPOSE_NOT_SERVED, why))
}

async fn make(desk: &Desk, purpose: KeyUse) -> Result<Model, Fault> {
    serves(desk, purpose)?;
    desk.keys.make(purpose).await.map_err(store_failed)
}

fn store_failed(e: NoKeys) -> Fault {
    tracing::error!(error = %e, "a key cannot be made");
    Fault::unavailable(&KEY_STORE_UNAVAILABLE, "a key cannot be made where keys are kept", AGAIN)
}

/// What a transaction that may have used a new key came to. One that it did not use goes; where nobody knows, it stays, and signs
/// nothing.
async fn settled(desk: &Desk, purpose: KeyUse, new: &Model, done: Result<Model, Fault>) -> Result<Model, Fault> {
    if done.as_ref().is_ok_and(|key| key.kid != new.kid) || matches!(done, Err(Fault::Refused(_))) {
        drop_unused(desk, purpose, new).await;
    }
    done
}

async fn drop_unused(desk: &Desk, purpose: KeyUse, new: &Model) {
    let Ok(kid) = new.id() else { return };
    if let Err(error) = desk.keys.store.destroy(purpose, &kid).await {
        tracing::warn!(%error, "a key that was not needed could not be destroyed; it signs nothing");
    }
}

/// What was changed is used here at once; others see it at their next look.
async fn seen(desk: &Desk) {
    super::keyring::look(desk).await;
    super::keyring::tell(desk);
    desk.news.notify_one();
}

/// The same for what takes something away: the registry hears of it before the answer.
async fn told(desk: &Desk, call: &Call, changed: Changed) -> Result<Changed, Fault> {
    seen(desk).await;
    let pending = || {
        let text = "the keys are taken back here; that has not reached everybody yet";
        Fault::unavailable(&REVOCATION_PENDING, text, AGAIN)
    };
    // Also where the file of CA certificates cannot be written: until it is, others trust what was taken back.
    desk.keys.load().await.map_err(|error| {
        tracing::error!(%error, "keys that were taken back cannot be read, or their file not be written; it is tried again");
        pending()
    })?;
    match tokio::time::timeout(desk.patience(call), publish::keys(desk)).await {
        Ok(true) => Ok(changed),
        _ => Err(pending()),
    }
}
