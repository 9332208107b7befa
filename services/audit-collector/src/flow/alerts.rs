//! An operator asks which alerts there are.

use legate_authority::Reach;
use legate_rpc::Fault;
use legate_wire::audit::{AlertSeverity, AlertStatus, AlertType};

use super::query::said;
use super::{Call, Desk, database, reads, rights, wait_for_index};
use crate::domain::detect::alert::Alert;
use crate::error::of_index;
use crate::store::alert::{self, Which};
use crate::store::event::key;
use crate::store::head;

const USUAL: u32 = 100;
const LARGEST: u32 = 1_000;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) namespace: String,
    pub(crate) agent_id: String,
    pub(crate) alert_id: String,
    pub(crate) kind: AlertType,
    pub(crate) status: AlertStatus,
    pub(crate) min_severity: AlertSeverity,
    pub(crate) page_size: u32,
    pub(crate) page_token: String,
    pub(crate) indexed_at_least: u64,
}

/// The answer.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) alerts: Vec<Alert>,
    pub(crate) next: String,
    pub(crate) indexed_through: u64,
    pub(crate) log_size: u64,
}

/// The namespaces that are looked into: what is asked for, of what is seen; `None`: all, and what is in none.
pub(super) fn within(asked: &str, sees: &Reach) -> Option<Vec<String>> {
    let own = match sees {
        Reach::Everywhere => None,
        Reach::In(names) => Some(names.iter().map(ToString::to_string).collect::<Vec<_>>()),
    };
    match (asked, own) {
        ("", own) => own,
        (asked, None) => Some(vec![key(asked)]),
        (asked, Some(own)) => Some(own.into_iter().filter(|name| name == asked).collect()),
    }
}

/// One page of the alerts that the caller may see, the newest first.
#[tracing::instrument(skip_all)]
pub(crate) async fn list(desk: &Desk, call: &Call, ask: Ask) -> Result<Page, Fault> {
    let size = match ask.page_size {
        0 => USUAL,
        size @ 1..=LARGEST => size,
        _ => return Err(Fault::invalid("page_size", "1 to 1,000; 0 means 100")),
    };
    let parts = parts(&ask);
    let asked: Vec<&str> =
        ["alerts", &call.caller].into_iter().chain(parts.iter().map(|(_, text)| text.as_str())).collect();
    let after = match desk.log.pages().read(&asked, &ask.page_token)? {
        None => None,
        Some(last) => {
            let (found, id) = last.split_once(' ').ok_or_else(|| Fault::broken("a page token of ours has no place"))?;
            Some((found.parse::<u64>().map_err(Fault::broken)?, id.to_owned()))
        }
    };
    let judged = rights::ready(desk, call).await?;
    wait_for_index(desk, call, ask.indexed_at_least).await?;
    let (db, now, wanted) = (database(desk)?, desk.clock.now(), ask.clone());
    let reading = db.read("list_alerts", move |tx| {
        Box::pin(async move {
            let sees = judged.sees(tx, now).await?;
            let through = head::get(tx).await?.map_or(0, |head| head.size());
            let kind = i32::from(wanted.kind);
            let which = Which {
                namespaces: within(&wanted.namespace, &sees),
                agent: wanted.agent_id,
                id: wanted.alert_id,
                types: if kind == 0 { Vec::new() } else { vec![kind] },
                status: wanted.status.into(),
                min_severity: wanted.min_severity.into(),
                after,
                ..Which::default()
            };
            Ok((alert::list(tx, &which, u64::from(size) + 1).await?, through))
        })
    });
    let (mut alerts, indexed_through) = reading.await.map_err(of_index)?;
    let most = usize::try_from(size).unwrap_or(usize::MAX);
    let is_more = alerts.len() > most;
    alerts.truncate(most);
    let place = |last: &Alert| desk.log.pages().after(&asked, &format!("{} {}", last.found, last.id));
    let next = alerts.last().filter(|_| is_more).map(place).unwrap_or_default();
    let read =
        reads::Read { kind: "log.alerts_listed", namespace: ask.namespace.clone(), asked: said(&parts), refused: "" };
    reads::record(desk, call, read, alerts.len()).await?;
    Ok(Page { alerts, next, indexed_through, log_size: desk.log.size() })
}

fn parts(ask: &Ask) -> Vec<(&'static str, String)> {
    let word = |number: i32, word: &str| if number == 0 { String::new() } else { word.to_owned() };
    vec![
        ("namespace", ask.namespace.clone()),
        ("agent_id", ask.agent_id.clone()),
        ("alert_id", ask.alert_id.clone()),
        ("alert_type", word(ask.kind.into(), ask.kind.as_str_name())),
        ("status", word(ask.status.into(), ask.status.as_str_name())),
        ("min_severity", word(ask.min_severity.into(), ask.min_severity.as_str_name())),
    ]
}
