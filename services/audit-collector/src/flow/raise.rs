//! What the rules found becomes an event of the log, once.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use legate_db::TxError;
use legate_wire::audit::{AuditEvent, Outcome};

use super::Desk;
use crate::domain::detect::alert::Alert;
use crate::log::Own;
use crate::store::{alert, head};

/// Alerts that are told in one go.
const AT_ONCE: u64 = 100;

/// When nothing moves it is looked again all the same, and what failed is tried again.
const ROUND: Duration = Duration::from_secs(1);

/// Tells alerts for as long as the process lives.
///
/// The index says which are not in the log yet. It is believed only when it holds everything that was told before, by this start or
/// an earlier one: so that none is told twice, whatever broke off where, and also while the index is made again.
pub(crate) async fn raise_forever(desk: Arc<Desk>) {
    let mut looked = desk.index.looked();
    let mut told_before = desk.log.size();
    loop {
        raise(&desk, &mut told_before).await;
        drop(tokio::time::timeout(ROUND, looked.changed()).await);
    }
}

async fn raise(desk: &Desk, told_before: &mut u64) {
    let Some(db) = desk.index.db() else { return };
    let reading = db.read("untold_alerts", |tx| {
        Box::pin(async move {
            let size = head::get(tx).await?.map_or(0, |head| head.size());
            Ok::<_, TxError<Infallible>>((size, alert::untold(tx, AT_ONCE).await?))
        })
    });
    let (size, untold) = match reading.await {
        Ok(read) => read,
        Err(error) => return tracing::warn!(%error, "what the rules found cannot be read"),
    };
    if size < *told_before {
        return;
    }
    for alert in untold {
        let own = Own::from_event("alert.raised", event(&alert));
        match desk.log.record(own).await {
            Ok(leaf) => *told_before = leaf + 1,
            Err(error) => return tracing::warn!(alert = alert.id, %error, "an alert cannot be told yet"),
        }
        desk.metrics.raised(alert.kind);
        tracing::warn!(
            alert = alert.id,
            kind = alert.kind.as_str_name(),
            agent = alert.agent,
            namespace = alert.namespace,
            "{}",
            alert.summary
        );
    }
}

fn event(alert: &Alert) -> AuditEvent {
    let leaves: Vec<String> = alert.leaves.iter().map(u64::to_string).collect();
    let details = [
        ("alert_id", alert.id.clone()),
        ("alert_type", alert.kind.as_str_name().to_owned()),
        ("severity", alert.severity.as_str_name().to_owned()),
        ("leaves", leaves.join(" ")),
        ("found_leaf", alert.found.to_string()),
    ];
    AuditEvent {
        namespace: alert.namespace.clone(),
        agent_id: alert.agent.clone(),
        outcome: Outcome::Success.into(),
        reason: alert.summary.clone(),
        details: details.into_iter().map(|(name, text)| (name.to_owned(), text)).collect::<BTreeMap<_, _>>(),
        ..AuditEvent::default()
    }
}
