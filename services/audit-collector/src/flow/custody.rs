//! What an administrator of everything does with the names of persons: erases one, and holds what may not be erased.

use std::collections::BTreeMap;

use legate_authority::{Place, Right, Rights};
use legate_clock::Timestamp;
use legate_ids::{AgentId, Name};
use legate_rpc::{Fault, Mandate};
use legate_wire::audit::{AuditEvent, Outcome};

use super::{Call, Desk, MARGIN, Reader, database, reads, rights, wait_for_index};
use crate::domain::entry::{HOLD_RELEASED, HOLD_SET, SUBJECT_ERASED};
use crate::error::{AGAIN, AUDIT_HOLD_UNKNOWN, AUDIT_HOLDS_TOO_MANY, AUDIT_ON_HOLD, AUDIT_ROLES_UNKNOWN, of_index};
use crate::index::NotRead;
use crate::log::Own;
use crate::personal::Ending;
use crate::store::custody::{self, Named};
use crate::store::event::unsigned;
use crate::store::{head, hold, roles};

/// Holds that are in force at once.
const MOST: u64 = 256;

/// The longest reason, in bytes.
const REASON: usize = 512;

/// Who is erased, and why.
#[derive(Clone, Debug)]
pub(crate) struct Erase {
    pub(crate) subject: String,
    pub(crate) validate_only: bool,
    pub(crate) reason: String,
}

/// What was, or would be, erased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Erased {
    pub(crate) named: Named,
    pub(crate) keys: u64,
    pub(crate) leaf: Option<u64>,
    pub(crate) holds: Vec<String>,
}

/// What is held, and why. Empty texts do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) agent_id: String,
    pub(crate) namespace: String,
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    pub(crate) reason: String,
    pub(crate) actor: String,
    pub(crate) at: Option<Timestamp>,
}

/// Erases a person's name from everything that was recorded so far, or says what would be erased.
#[tracing::instrument(skip_all)]
pub(crate) async fn erase(desk: &Desk, call: &Call, ask: Erase) -> Result<Erased, Fault> {
    person(&ask.subject)?;
    if !ask.validate_only {
        reason(&ask.reason)?;
    }
    administers(desk, call).await?;
    // Nobody sets a hold between the look and the deed.
    let _alone = desk.custody.lock().await;
    wait_for_index(desk, call, desk.log.size()).await?;
    let (vault, alias) = (desk.log.vault().clone(), desk.log.vault().alias(&ask.subject));
    let asked = alias.clone();
    let db = database(desk)?;
    let reading = db.read("subject_named", move |tx| {
        let alias = asked.clone();
        Box::pin(async move { Ok::<_, NotRead>((custody::named(tx, &alias).await?, hold::on(tx, &alias).await?)) })
    });
    let (named, holds) = reading.await.map_err(of_index)?;
    let keys = vault.keys_of(vault.pseudonym(&ask.subject)).len() as u64;
    let about = |details: &mut BTreeMap<String, String>| {
        details.insert("pseudonym".to_owned(), reads::bare(&alias));
        details.insert("events".to_owned(), named.events.to_string());
    };
    if ask.validate_only {
        let mut asked = BTreeMap::new();
        about(&mut asked);
        let read = reads::Read { kind: "subject.previewed", namespace: String::new(), asked, refused: "" };
        reads::record(desk, call, read, 0).await?;
        return Ok(Erased { named, keys, leaf: None, holds });
    }
    let mut event = event(call, &ask.reason);
    about(&mut event.details);
    if !holds.is_empty() {
        let held = holds.join(" ");
        event.outcome = Outcome::Denied.into();
        AUDIT_ON_HOLD.name.clone_into(&mut event.reason_code);
        event.details.insert("holds".to_owned(), held.clone());
        desk.log.record(Own::from_event("subject.erasure_refused", event)).await?;
        let text = format!("events that name the person are held by {held}");
        return Err(Fault::refused(&AUDIT_ON_HOLD, text).with("holds", held));
    }
    if keys == 0 {
        return Ok(Erased { named, keys, leaf: None, holds });
    }
    SUBJECT_ERASED.clone_into(&mut event.r#type);
    let person = Some(vault.pseudonym(&ask.subject));
    let leaf = desk.log.end(Ending { person, slots: Vec::new(), event }).await?;
    // Whoever asks next finds nobody.
    wait_for_index(desk, call, leaf + 1).await?;
    Ok(Erased { named, keys, leaf: Some(leaf), holds })
}

/// Sets a hold; it is in force when this returns.
#[tracing::instrument(skip_all)]
pub(crate) async fn set(desk: &Desk, call: &Call, mut hold: Hold) -> Result<(Hold, u64), Fault> {
    reason(&hold.reason)?;
    if !hold.subject.is_empty() {
        person(&hold.subject)?;
    }
    if !hold.agent_id.is_empty() {
        AgentId::parse(&hold.agent_id).map_err(|e| Fault::invalid("hold.agent_id", e.to_string()))?;
    }
    if !hold.namespace.is_empty() {
        Name::parse(&hold.namespace).map_err(|e| Fault::invalid("hold.namespace", e.to_string()))?;
    }
    let is_of_something = [&hold.subject, &hold.agent_id, &hold.namespace].iter().any(|text| !text.is_empty());
    if !is_of_something && hold.from.is_none() && hold.to.is_none() {
        return Err(Fault::invalid("hold", "says what is held: a subject, an agent, a namespace or a time"));
    }
    administers(desk, call).await?;
    let _alone = desk.custody.lock().await;
    wait_for_index(desk, call, desk.log.size()).await?;
    let db = database(desk)?;
    let reading = db.read("holds_count", |tx| Box::pin(async move { hold::count(tx).await }));
    if reading.await.map_err(of_index)? >= MOST {
        return Err(Fault::refused(&AUDIT_HOLDS_TOO_MANY, format!("{MOST} holds are in force")));
    }
    hold.id = format!("hold_{:032x}", rand::random::<u128>());
    (hold.actor, hold.at) = (call.caller.clone(), Some(desk.clock.now()));
    let mut event = event(call, &hold.reason);
    event.subject.clone_from(&hold.subject);
    event.agent_id.clone_from(&hold.agent_id);
    event.namespace.clone_from(&hold.namespace);
    event.details.insert("hold".to_owned(), hold.id.clone());
    event.details.extend(hold.from.map(|at| ("from".to_owned(), at.to_string())));
    event.details.extend(hold.to.map(|at| ("to".to_owned(), at.to_string())));
    let leaf = desk.log.record(Own::from_event(HOLD_SET, event)).await?;
    wait_for_index(desk, call, leaf + 1).await?;
    Ok((hold, leaf))
}

/// The holds that are in force.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(desk: &Desk, call: &Call) -> Result<Vec<Hold>, Fault> {
    administers(desk, call).await?;
    let db = database(desk)?;
    let reading = db.read("holds_list", |tx| Box::pin(async move { hold::all(tx).await }));
    let rows = reading.await.map_err(of_index)?;
    let reading = desk.log.reading(move |log| {
        let mut leaves = Vec::with_capacity(rows.len());
        for row in &rows {
            let leaf = unsigned(row.leaf);
            leaves.extend(log.read(leaf, leaf + 1, 1)?);
        }
        Ok::<_, legate_journal::JournalError>(log.seen(leaves))
    });
    let seen = reading.await.map_err(Fault::broken)?.map_err(Fault::broken)?;
    reads::record(desk, call, reads::Read { kind: "holds.listed", ..reads::Read::default() }, seen.len()).await?;
    let told = |event: AuditEvent| {
        let detail = |name: &str| event.details.get(name).cloned().unwrap_or_default();
        Hold {
            id: detail("hold"),
            from: Timestamp::parse_rfc3339(&detail("from")),
            to: Timestamp::parse_rfc3339(&detail("to")),
            subject: event.subject.clone(),
            agent_id: event.agent_id.clone(),
            namespace: event.namespace.clone(),
            reason: event.reason.clone(),
            actor: event.actor.clone(),
            at: event.time.and_then(|t| Timestamp::try_from(t).ok()),
        }
    };
    Ok(seen.into_iter().map(|seen| told(seen.event)).collect())
}

/// Ends a hold.
#[tracing::instrument(skip_all)]
pub(crate) async fn release(desk: &Desk, call: &Call, id: String, why: String) -> Result<u64, Fault> {
    reason(&why)?;
    administers(desk, call).await?;
    let _alone = desk.custody.lock().await;
    wait_for_index(desk, call, desk.log.size()).await?;
    let asked = id.clone();
    let db = database(desk)?;
    let reading = db.read("hold_get", move |tx| {
        let id = asked.clone();
        Box::pin(async move { hold::get(tx, &id).await })
    });
    let Some(row) = reading.await.map_err(of_index)? else {
        return Err(Fault::refused(&AUDIT_HOLD_UNKNOWN, format!("no hold {id:?} is in force")));
    };
    let mut event = event(call, &why);
    event.namespace = row.namespace.unwrap_or_default();
    event.agent_id = row.agent_id.unwrap_or_default();
    event.details.insert("hold".to_owned(), row.id);
    let leaf = desk.log.record(Own::from_event(HOLD_RELEASED, event)).await?;
    wait_for_index(desk, call, leaf + 1).await?;
    Ok(leaf)
}

fn event(call: &Call, reason: &str) -> AuditEvent {
    AuditEvent {
        actor: call.caller.clone(),
        outcome: Outcome::Success.into(),
        reason: reason.to_owned(),
        trace_id: call.trace.trace_id.clone(),
        span_id: call.trace.span_id.clone(),
        details: call.emergency.iter().map(|why| ("emergency".to_owned(), why.clone())).collect(),
        ..AuditEvent::default()
    }
}

fn person(text: &str) -> Result<(), Fault> {
    if legate_personal::is_person(text) && text.len() <= legate_personal::LONGEST {
        return Ok(());
    }
    Err(Fault::invalid("subject", "is a person, user:NAME, as events name it; agents and groups are not erased"))
}

/// A reason stays in the log for ever.
fn reason(text: &str) -> Result<(), Fault> {
    if !(1..=REASON).contains(&text.len()) {
        return Err(Fault::invalid("reason", "is 1 to 512 bytes"));
    }
    if legate_personal::renamed(text, false, str::to_owned).is_some() {
        return Err(Fault::invalid(
            "reason",
            "names a person, and it stays in the log for ever: give a reference instead",
        ));
    }
    Ok(())
}

/// Refuses who does not administer everything. Auditors of the configuration read; nobody erases by being one.
async fn administers(desk: &Desk, call: &Call) -> Result<(), Fault> {
    let Reader::Operator(operator) = call.reader.clone() else {
        return Err(Fault::broken("a service was let in"));
    };
    rights::wait(desk, call.deadline.checked_sub(MARGIN).unwrap_or(call.deadline)).await?;
    let (asking, now) = (call.clone(), desk.clock.now());
    let db = database(desk)?;
    let judging = db.read("judge_custodian", move |tx| {
        let (call, operator) = (asking.clone(), operator.clone());
        Box::pin(async move {
            if !head::get(tx).await?.is_some_and(|head| head.roles_stated) {
                let fault = Fault::unavailable(&AUDIT_ROLES_UNKNOWN, "the index is being made again", AGAIN);
                return Err(NotRead::Flow(fault));
            }
            let rights = Rights::at(&roles::appointments(tx, &operator).await?, now.micros());
            let mandate =
                Mandate::of_operator(&call.caller, rights, call.emergency.as_deref()).map_err(NotRead::Flow)?;
            mandate.demand(Right::Administer, Place::Everywhere).map_err(NotRead::Flow)
        })
    });
    judging.await.map_err(of_index)?;
    reads::broke_glass(desk, call);
    Ok(())
}
