//! Callers who were turned away at the door, as audit events: once a second, however many there were.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::{Clock, Timestamp};
use legate_db::{Db, TxError};
use legate_ids::{Principal, SpiffeId};
use legate_rpc::{Fault, Refusals, Refused};
use legate_wire::audit::{AuditEvent, Outcome};

use crate::{Outbox, Standard};

/// How often refusals are recorded.
pub const EVERY: Duration = Duration::from_secs(1);

/// The event of a refusal.
#[must_use]
pub fn access_refused(refused: &Refused, now: Timestamp) -> AuditEvent {
    let mut details = BTreeMap::from([("count".to_owned(), refused.count.to_string())]);
    if refused.method.is_empty() {
        details.insert("together".to_owned(), "several callers and methods".to_owned());
    } else {
        details.insert("method".to_owned(), refused.method.to_owned());
    }
    if let Some(from) = refused.from {
        details.insert("from".to_owned(), from.to_string());
    }
    if !refused.serial.is_empty() {
        details.insert("serial".to_owned(), refused.serial.clone());
    }
    // An agent that is turned away is found by its own name too.
    let (namespace, agent_id, instance_id) = match SpiffeId::parse(&refused.caller).as_ref().map(Principal::of) {
        Ok(Ok(Principal::Agent { namespace, id, instance })) => {
            (namespace.to_string(), id.to_string(), instance.map(|copy| copy.to_string()).unwrap_or_default())
        }
        _ => Default::default(),
    };
    AuditEvent {
        time: Some(now.into()),
        r#type: "access.refused".to_owned(),
        actor: refused.caller.clone(),
        namespace,
        agent_id,
        instance_id,
        outcome: Outcome::Denied.into(),
        reason_code: refused.reason.to_owned(),
        details,
        ..AuditEvent::default()
    }
}

/// Records refusals in the outbox of `db` for as long as the process lives.
pub async fn record_refusals_forever(refusals: Arc<Refusals>, db: Db, outbox: Outbox, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let events: Vec<AuditEvent> = refusals.take().iter().map(|one| access_refused(one, clock.now())).collect();
        if events.is_empty() {
            continue;
        }
        let outbox = outbox.clone();
        let recorded = db.tx("record_access_refusals", move |tx| {
            let (outbox, events) = (outbox.clone(), events.clone());
            Box::pin(async move {
                for event in events {
                    outbox.record(tx, Standard::Ordinary, event).await?;
                }
                Ok::<_, TxError<Fault>>(())
            })
        });
        if let Err(error) = recorded.await {
            tracing::warn!(%error, "refusals could not be recorded");
        }
    }
}
