//! The registry follows the alerts as they are raised, so that lifecycle policies can act on them.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_rpc::Fault;
use legate_wire::audit::{
    AlertSeverity, AlertType, AuditEvent, RaisedAlert, WatchRaisedAlertsRequest, WatchRaisedAlertsResponse,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Status;

use super::told::told;
use super::{Call, Desk, reads};
use crate::error::{AGAIN, AUDIT_STOPPING, AUDIT_TAIL_SLOW, AUDIT_TAILS_TOO_MANY};

/// Alerts of one message.
const AT_ONCE: u64 = 100;
/// Messages that wait for a slow reader.
const WAITING: usize = 2;
/// A reader that takes nothing for so long is given up.
const STUCK: Duration = Duration::from_secs(10);
/// How often it is looked though nothing happens, and for how long nothing is said.
const ROUND: Duration = Duration::from_secs(1);
const SILENT: Duration = Duration::from_millis(3_500);

type Out = mpsc::Sender<Result<WatchRaisedAlertsResponse, Status>>;

/// Begins to follow; messages come out of the channel.
///
/// # Errors
/// When as many follow the log as may.
pub(crate) fn watch(
    desk: &Arc<Desk>,
    call: &Call,
    ask: WatchRaisedAlertsRequest,
) -> Result<mpsc::Receiver<Result<WatchRaisedAlertsResponse, Status>>, Fault> {
    // Its own seats: what suspends an agent by itself waits for nobody who reads.
    let Some(seat) = desk.feeds.enter(&call.caller) else {
        let text = "as many follow the alerts as the bounds allow";
        return Err(Fault::unavailable(&AUDIT_TAILS_TOO_MANY, text, Duration::from_secs(1)));
    };
    let asked = [("from_leaf".to_owned(), ask.from_leaf.to_string())].into();
    let read = reads::Read { kind: "log.alerts_watched", namespace: String::new(), asked, refused: "" };
    reads::note(desk, call, read, 0);
    let (out, news) = mpsc::channel(WAITING + 1);
    let desk = Arc::clone(desk);
    tokio::spawn(async move {
        let _seat = seat;
        // The last word has its place from the start.
        let Ok(last_word) = out.clone().reserve_owned().await else { return };
        if let Some(fault) = follow(&desk, ask.from_leaf, &out).await {
            tracing::info!(reason = fault.reason(), "the one who follows the alerts is told to stop");
            last_word.send(Err(fault.into()));
        }
    });
    Ok(news)
}

/// Tells until the reader is gone, or is to be told why it ends.
async fn follow(desk: &Arc<Desk>, from: u64, out: &Out) -> Option<Fault> {
    let stopping = desk.stopping.get().cloned().unwrap_or_default();
    let mut index = desk.index.through();
    let mut round = tokio::time::interval(ROUND);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut at = from;
    let mut said = Instant::now();
    let size = desk.log.size();
    if from > size {
        tracing::warn!(from, size, "alerts are asked for from behind the end of the log: it was set back");
        at = size;
        let news = WatchRaisedAlertsResponse { alerts: Vec::new(), through_leaf: at, set_back: true };
        if let Err(ended) = say(out, news).await {
            return ended;
        }
    }
    loop {
        tokio::select! {
            () = stopping.cancelled() => {
                return Some(Fault::unavailable(&AUDIT_STOPPING, "the collector is stopping", AGAIN));
            }
            () = out.closed() => return None,
            changed = index.changed() => {
                if changed.is_err() {
                    return None;
                }
            }
            _ = round.tick() => {}
        }
        loop {
            let voices: Vec<(String, &'static [&'static str])> = vec![(desk.index.me().to_owned(), &["alert.raised"])];
            let found = told(desk, "alerts_to_watch", voices, at, AT_ONCE).await;
            let Some(found) = found else { break };
            let is_more = found.events.len() as u64 == AT_ONCE;
            let through = found.through.max(at);
            if found.events.is_empty() && said.elapsed() < SILENT {
                at = through;
                break;
            }
            said = Instant::now();
            let alerts = found.events.iter().map(|(leaf, event)| raised(*leaf, event)).collect();
            let news = WatchRaisedAlertsResponse { alerts, through_leaf: through, set_back: false };
            if let Err(ended) = say(out, news).await {
                return ended;
            }
            at = through;
            if !is_more {
                break;
            }
        }
        // While the index does not answer nothing new can be told, and that the stream lives can.
        if said.elapsed() >= SILENT {
            said = Instant::now();
            let news = WatchRaisedAlertsResponse { alerts: Vec::new(), through_leaf: at, set_back: false };
            if let Err(ended) = say(out, news).await {
                return ended;
            }
        }
    }
}

/// Says it; else why the stream ends, where there is somebody to be told.
async fn say(out: &Out, news: WatchRaisedAlertsResponse) -> Result<(), Option<Fault>> {
    match tokio::time::timeout(STUCK, out.send(Ok(news))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(None),
        Err(_) => Err(Some(Fault::unavailable(&AUDIT_TAIL_SLOW, "the reader took nothing for 10 s", AGAIN))),
    }
}

/// The alert of an event `alert.raised`.
fn raised(leaf: u64, event: &AuditEvent) -> RaisedAlert {
    let detail = |name: &str| event.details.get(name).map(String::as_str).unwrap_or_default();
    RaisedAlert {
        leaf_index: leaf,
        alert_id: detail("alert_id").to_owned(),
        r#type: AlertType::from_str_name(detail("alert_type")).unwrap_or_default().into(),
        severity: AlertSeverity::from_str_name(detail("severity")).unwrap_or_default().into(),
        namespace: event.namespace.clone(),
        agent_id: event.agent_id.clone(),
        raise_time: event.time.and_then(|at| Timestamp::try_from(at).ok()).map(Into::into),
    }
}
