//! Alerts of audit-collector stop agents where a lifecycle policy says so, and no more of them than its cap lets it.
//!
//! The registry follows the alerts from the leaf up to which it dealt with them, which rests in its own database. What an alert does and
//! that it was dealt with are one transaction: none is lost by a restart, and none counts twice.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_ids::AgentId;
use legate_outbox::Standard;
use legate_rpc::{Client, Fault};
use legate_wire::audit::alert_feed_service_client::AlertFeedServiceClient;
use legate_wire::audit::{RaisedAlert, WatchRaisedAlertsRequest};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, Declaration, LifecycleAction};
use tonic::Request;

use super::lifecycle::policies;
use super::stop_orders;
use super::transition::{self, Step};
use super::write::Writing;
use super::{Call, Desk, lineage};
use crate::convert;
use crate::domain::lifecycle;
use crate::domain::lifecycle_policy::{self, Alert, Answer};
use crate::error::{DATABASE_UNAVAILABLE, of_tx};
use crate::store::{alert_feed, broken, object, refuse};

/// The collector says something every few seconds; when it does not, the stream is opened anew.
const SILENT: Duration = Duration::from_secs(15);
/// The stream is opened anew after a wait that doubles from the first to the second.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// No cap is about a longer time than this.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);
/// A message holds 100 alerts at most.
const LARGEST: usize = 1 << 20;

/// Follows the alerts for as long as the process lives.
pub(crate) async fn follow_forever(desk: Arc<Desk>, collector: Client) {
    let mut wait = WAITS.0;
    loop {
        let mut heard = false;
        let ended = follow(&desk, &collector, &mut heard).await;
        wait = if heard { WAITS.0 } else { (wait * 2).min(WAITS.1) };
        tracing::warn!(why = ended, "the alerts of audit-collector are not followed; it is tried again");
        tokio::time::sleep(wait).await;
    }
}

/// Ends when the stream does; why.
async fn follow(desk: &Arc<Desk>, collector: &Client, heard: &mut bool) -> String {
    let from = match desk.db.read("alert_feed", |tx| Box::pin(alert_feed::next_leaf(tx))).await.map_err(of_tx) {
        Ok(from) => from,
        Err(fault) => return fault.to_string(),
    };
    let mut client = AlertFeedServiceClient::new(collector.clone()).max_decoding_message_size(LARGEST);
    let opened = client.watch_raised_alerts(Request::new(WatchRaisedAlertsRequest { from_leaf: from }));
    let mut news = match tokio::time::timeout(SILENT, opened).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return status.to_string(),
        Err(_) => return "the collector does not answer".to_owned(),
    };
    loop {
        let told = match tokio::time::timeout(SILENT, news.message()).await {
            Ok(Ok(Some(told))) => told,
            Ok(Ok(None)) => return "the collector ended the stream".to_owned(),
            Ok(Err(status)) => return status.to_string(),
            Err(_) => return "the collector is silent".to_owned(),
        };
        *heard = true;
        if told.set_back
            && let Err(fault) = set_back(desk, told.through_leaf).await
        {
            return fault.to_string();
        }
        for alert in &told.alerts {
            match heed(desk, alert).await {
                Ok(_) => {}
                Err(fault @ Fault::Unavailable(_)) => return fault.to_string(),
                // A defect must not keep every later alert from being heeded.
                Err(fault) => {
                    tracing::error!(%fault, alert = alert.alert_id, "what a lifecycle policy says about an alert cannot be done");
                    desk.metrics.lifecycle_alert("FAILED");
                }
            }
        }
        if let Err(fault) = went_on(desk, told.through_leaf).await {
            return fault.to_string();
        }
        desk.metrics.alerts_heard(told.through_leaf);
    }
}

/// Everything before this leaf was dealt with.
async fn went_on(desk: &Arc<Desk>, leaf: u64) -> Result<(), Fault> {
    let is_new =
        desk.db.read("alert_feed", move |tx| Box::pin(async move { Ok(alert_feed::next_leaf(tx).await? < leaf) }));
    if !is_new.await.map_err(of_tx)? {
        return Ok(());
    }
    desk.db.tx("alert_feed_went_on", move |tx| Box::pin(alert_feed::went_on(tx, leaf))).await.map_err(of_tx)
}

/// The log was set back, so that what is raised behind its end has leaves that were others' before.
async fn set_back(desk: &Arc<Desk>, leaf: u64) -> Result<(), Fault> {
    tracing::warn!(leaf, "the audit log was set back; alerts from here on are new");
    desk.db.tx("alert_feed_set_back", move |tx| Box::pin(alert_feed::set_back(tx, leaf))).await.map_err(of_tx)
}

/// What no cap asks about any more is forgotten.
pub(super) async fn forget(desk: &Arc<Desk>, now: Timestamp) -> Result<(), Fault> {
    let before = now.minus(LONGEST);
    desk.db.tx("alert_feed_forget", move |tx| Box::pin(alert_feed::forget(tx, before))).await.map_err(of_tx)
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No policy says anything about it, or it was dealt with before.
    Nothing,
    /// The agent was stopped.
    Done(LifecycleAction),
    /// It was stopped already, by whatever.
    StoppedAlready,
    /// A policy says so and is only told.
    Reported,
    /// The cap was reached.
    Capped,
}

impl Outcome {
    /// Its word, as a label of metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nothing => "NOTHING",
            Self::Done(_) => "DONE",
            Self::StoppedAlready => "STOPPED_ALREADY",
            Self::Reported => "REPORTED",
            Self::Capped => "CAPPED",
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::StoppedAlready => 1,
            Self::Reported => 2,
            Self::Capped => 3,
            Self::Done(action) => 10 + u64::try_from(action as i32).unwrap_or_default(),
        }
    }

    /// A transaction answers with a message, which a number is.
    fn of_number(number: u64) -> Self {
        match number {
            1 => Self::StoppedAlready,
            2 => Self::Reported,
            3 => Self::Capped,
            number @ 10.. => {
                let action = i32::try_from(number - 10).ok().and_then(|n| LifecycleAction::try_from(n).ok());
                Self::Done(action.unwrap_or_default())
            }
            _ => Self::Nothing,
        }
    }
}

/// Does what lifecycle policies say about an alert, once.
pub(crate) async fn heed(desk: &Arc<Desk>, alert: &RaisedAlert) -> Result<Outcome, Fault> {
    let alert = Arc::new(alert.clone());
    let asked = Arc::clone(&alert);
    let answers = desk.db.read("alert_policies", move |tx| {
        Box::pin(async move { Ok(found(tx, &asked).await?.map(|(_, answers)| answers).unwrap_or_default()) })
    });
    let answers = answers.await.map_err(of_tx)?;
    let Some(strictest) = lifecycle_policy::strictest(&answers) else { return Ok(Outcome::Nothing) };
    let why = format!("alert {} {}", alert.r#type().as_str_name().trim_start_matches("ALERT_TYPE_"), alert.alert_id);
    let reason = lifecycle_policy::reason(&alert.namespace, &strictest.policy, &why);
    let named = (strictest.policy_id.clone(), strictest.action);
    let outcome: u64 = desk
        .write("lifecycle_alert", Standard::Stopping, Call::own(desk, &reason), move |writing| {
            let (alert, named) = (Arc::clone(&alert), named.clone());
            Box::pin(async move {
                if alert_feed::next_leaf(writing.tx).await? > alert.leaf_index {
                    return Ok(Outcome::Nothing.number());
                }
                let Some((current, answers)) = found(writing.tx, &alert).await? else {
                    return Ok(Outcome::Nothing.number());
                };
                // A policy changed between the look and the write: the alert is looked at again.
                let strictest = lifecycle_policy::strictest(&answers);
                if strictest.is_none_or(|strictest| (strictest.policy_id.clone(), strictest.action) != named) {
                    let text = "the policies changed while an alert was looked at";
                    return Err(refuse(Fault::unavailable(&DATABASE_UNAVAILABLE, text, WAITS.0)));
                }
                let outcome = Box::pin(answer(writing, current, &answers, &alert)).await?;
                alert_feed::went_on(writing.tx, alert.leaf_index + 1).await?;
                Ok(outcome.number())
            })
        })
        .await?;
    let outcome = Outcome::of_number(outcome);
    desk.metrics.lifecycle_alert(outcome.word());
    if let Outcome::Done(action) = outcome {
        desk.metrics.lifecycle_done(action, 1);
    }
    if outcome == Outcome::Capped {
        tracing::warn!(reason, "an alert stops no agent: the cap of the lifecycle policy is reached");
    }
    Ok(outcome)
}

/// The agent that the alert is about, and what the policies of its namespace answer.
async fn found(tx: &Tx, alert: &RaisedAlert) -> TxResult<Option<(Declaration, Vec<Answer>)>, Fault> {
    let Some(row) = object::by_id(tx, &alert.agent_id).await? else { return Ok(None) };
    let agent = row.declaration()?;
    if !matches!(agent.object, Some(Object::Agent(_))) || row.namespace != alert.namespace || !row.holds_name {
        return Ok(None);
    }
    let kind = alert.r#type().as_str_name().trim_start_matches("ALERT_TYPE_");
    let raised = alert.raise_time.and_then(|at| Timestamp::try_from(at).ok()).unwrap_or_default();
    let asked = Alert { word: kind, severity: alert.severity, raised };
    let answers = policies(tx, &row.namespace).await?.on_alert(&agent, &asked);
    Ok((!answers.is_empty()).then_some((agent, answers)))
}

/// Stops the agent, where it is not stopped already, every policy that says so has room, and one is carried out.
async fn answer(
    writing: &mut Writing<'_>,
    current: Declaration,
    answers: &[Answer],
    alert: &RaisedAlert,
) -> TxResult<Outcome, Fault> {
    let Some(Object::Agent(agent)) = current.object.clone() else { return Ok(Outcome::Nothing) };
    let Some(strictest) = lifecycle_policy::strictest(answers) else { return Ok(Outcome::Nothing) };
    let Some(step) = lifecycle_policy::transition(strictest.action) else { return Ok(Outcome::Nothing) };
    let mut told = vec![
        ("policy", strictest.policy.clone()),
        ("action", convert::action_word(strictest.action).to_owned()),
        ("alert_id", alert.alert_id.clone()),
        ("alert_type", alert.r#type().as_str_name().to_owned()),
        ("alert_leaf", alert.leaf_index.to_string()),
    ];
    let is_stopped = is_stopped(writing, &agent).await?;
    if is_stopped || lifecycle::next(lifecycle::state_of(&agent), step).is_err() {
        let mut seen = agent.clone();
        Box::pin(stop_orders::tell(writing.tx, &writing.mandate, &mut [&mut seen])).await?;
        let orders = seen.status.unwrap_or_default().stops.into_iter();
        let orders = orders.map(|stop| format!("{}/{}", stop.namespace, stop.name)).collect::<Vec<_>>();
        told.push(("state", lifecycle::state_name(lifecycle::state_of(&agent)).to_owned()));
        told.push(("stop_orders", orders.join(" ")));
        writing.record(convert::alert_event(writing.by, "lifecycle_stopped_already", &agent, &told, writing.now));
        return Ok(Outcome::StoppedAlready);
    }
    if strictest.report {
        let event = convert::alert_event(writing.by, "lifecycle_reported", &agent, &told, writing.now);
        writing.record(event);
        return Ok(Outcome::Reported);
    }
    let enforced: Vec<&Answer> = answers.iter().filter(|answer| !answer.report).collect();
    for answer in &enforced {
        let done = alert_feed::stopped_after(writing.tx, &answer.policy_id, writing.now.minus(answer.per)).await?;
        if done >= u64::from(answer.max_agents) {
            told.push(("capped_by", answer.policy.clone()));
            told.push(("max_agents", answer.max_agents.to_string()));
            told.push(("per", format!("{} s", answer.per.as_secs())));
            let event = convert::alert_event(writing.by, "lifecycle_capped", &agent, &told, writing.now);
            writing.record(event);
            return Ok(Outcome::Capped);
        }
    }
    for answer in &enforced {
        alert_feed::stopped(writing.tx, &answer.policy_id, alert.leaf_index, writing.now).await?;
    }
    Box::pin(transition::take(writing, current, Step::Transition(step))).await?;
    Ok(Outcome::Done(strictest.action))
}

/// Whether the agent is stopped already: by itself, by one above it, its class, its namespace or a stop order.
async fn is_stopped(writing: &Writing<'_>, agent: &Agent) -> TxResult<bool, Fault> {
    let metadata = agent.metadata.clone().unwrap_or_default();
    let id = AgentId::parse(&metadata.id).map_err(broken)?;
    Box::pin(lineage::is_stopped(writing.tx, &id, &metadata.namespace, writing.now)).await
}
