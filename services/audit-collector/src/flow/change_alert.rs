//! An operator acknowledges or resolves an alert: an event of the log, which the index follows.

use std::collections::BTreeMap;

use legate_authority::{Place, Reach, Right};
use legate_ids::Name;
use legate_rpc::{Fault, Mandate};
use legate_wire::audit::{AlertStatus, AuditEvent, Outcome};
use tokio::time::timeout_at;

use super::{Call, Desk, MARGIN, Reader, database, reads, rights, wait_for_index};
use crate::domain::detect::alert::{Alert, is_id};
use crate::error::{AGAIN, AUDIT_ALERT_NOT_FOUND, AUDIT_ALERT_SETTLED, AUDIT_BUSY, of_index};
use crate::log::Own;
use crate::store::alert;

/// What is said of an alert.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) alert_id: String,
    pub(crate) to: AlertStatus,
    pub(crate) reason: String,
}

/// Puts on record what became of an alert, and answers when the index holds it. It takes the right to stop agents where the alert
/// is: who could act on it says what came of it. The auditors of the configuration read, and no more.
#[tracing::instrument(skip_all)]
pub(crate) async fn change(desk: &Desk, call: &Call, ask: Ask) -> Result<Alert, Fault> {
    let Reader::Operator(operator) = &call.reader else {
        return Err(Fault::broken("a caller was let in who is no operator"));
    };
    if !is_id(&ask.alert_id) {
        return Err(Fault::invalid("alert_id", "is alert_ and 32 hexadecimal digits"));
    }
    let until = call.deadline.checked_sub(MARGIN).unwrap_or(call.deadline);
    rights::wait(desk, until).await?;
    // One change at a time, so that each is judged by what those before it came to.
    let Ok(_turn) = timeout_at(until, desk.changing.lock()).await else {
        return Err(Fault::unavailable(&AUDIT_BUSY, "other alerts are being changed", AGAIN));
    };
    let (found, mandate) = look(desk, call, operator, &ask.alert_id).await?;
    mandate.demand(Right::Stop, Place::of(&found.namespace))?;
    let may = match ask.to {
        AlertStatus::Acknowledged => found.status == AlertStatus::Open,
        _ => found.status != AlertStatus::Resolved,
    };
    if !may {
        let text = format!("the alert is {} already, by {}", word(found.status), found.by);
        return Err(Fault::refused(&AUDIT_ALERT_SETTLED, text).with("status", found.status.as_str_name()));
    }
    let kind = if ask.to == AlertStatus::Acknowledged { "alert.acknowledged" } else { "alert.resolved" };
    let leaf = desk.log.record(Own::from_event(kind, event(call, &found, ask.reason))).await?;
    reads::broke_glass(desk, call);
    wait_for_index(desk, call, leaf + 1).await?;
    Ok(look(desk, call, operator, &ask.alert_id).await?.0)
}

fn word(status: AlertStatus) -> &'static str {
    status.as_str_name().trim_start_matches("ALERT_STATUS_")
}

fn event(call: &Call, found: &Alert, reason: String) -> AuditEvent {
    let mut details = BTreeMap::from([
        ("alert_id".to_owned(), found.id.clone()),
        ("alert_type".to_owned(), found.kind.as_str_name().to_owned()),
    ]);
    details.extend(call.emergency.iter().map(|why| ("emergency".to_owned(), why.clone())));
    AuditEvent {
        actor: call.caller.clone(),
        namespace: found.namespace.clone(),
        agent_id: found.agent.clone(),
        outcome: Outcome::Success.into(),
        reason,
        trace_id: call.trace.trace_id.clone(),
        span_id: call.trace.span_id.clone(),
        details,
        ..AuditEvent::default()
    }
}

/// The alert, where the caller may see it, and what the caller may do.
async fn look(desk: &Desk, call: &Call, operator: &Name, id: &str) -> Result<(Alert, Mandate), Fault> {
    let (db, now) = (database(desk)?, desk.clock.now());
    let (call, operator, wanted) = (call.clone(), operator.clone(), id.to_owned());
    let reading = db.read("get_alert", move |tx| {
        Box::pin(async move {
            let mandate = rights::mandate(tx, &call, &operator, now).await?;
            Ok((alert::get(tx, &wanted).await?, mandate))
        })
    });
    let (found, mandate) = reading.await.map_err(of_index)?;
    mandate.demand_somewhere(Right::Read)?;
    let sees: Reach = mandate.sees();
    // What is another's is not there.
    let found = found.filter(|alert| sees.has(Place::of(&alert.namespace)));
    let found = found.ok_or_else(|| Fault::refused(&AUDIT_ALERT_NOT_FOUND, format!("there is no alert {id}")))?;
    Ok((found, mandate))
}
