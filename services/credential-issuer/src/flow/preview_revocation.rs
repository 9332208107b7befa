//! An operator sees what an order to take back everything that was issued to some, or to stop them, would touch.

use std::collections::BTreeMap;
use std::time::Duration;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_ids::Name;
use legate_rpc::Fault;

use super::{Call, Desk};
use crate::domain::holder;
use crate::domain::whom::{Level, Reached, Whom};
use crate::error::of_tx;
use crate::store::credential;

/// Agents whose credentials are counted.
const MOST: usize = 20_000;
/// Agents in one query.
const AT_ONCE: usize = 500;

/// What would be touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    pub(crate) agents: u64,
    /// By type: how many, and when the last of them ends.
    pub(crate) credentials: BTreeMap<i32, (u64, Timestamp)>,
    pub(crate) grants: u64,
    pub(crate) is_partial: bool,
    pub(crate) revision: u64,
    /// The longest that an access token of one of them lives.
    pub(crate) token_ttl: Option<Duration>,
}

/// Counts it.
#[tracing::instrument(skip_all)]
pub(crate) async fn preview(desk: &Desk, call: &Call, whom: Whom) -> Result<Touched, Fault> {
    let place = whom.namespace.as_ref().map_or(Place::Everywhere, |name| Place::In(name.as_str()));
    desk.mandate(call).await?.demand(Right::Stop, place)?;
    let snapshot = desk.fresh()?.snapshot;
    let mut touched = Touched { revision: snapshot.revision(), ..Touched::default() };
    let mut ids = Vec::new();
    for (agent, reached) in whom.agents(&snapshot) {
        touched.agents += u64::from(reached == Reached::Named);
        touched.token_ttl = touched.token_ttl.max(Some(holder::token_ttl(&snapshot, agent)));
        if let Level::Subject(person) = &whom.level {
            let by = snapshot.delegation_grants_to(agent).iter().filter(|grant| grant.delegator == *person);
            touched.grants += by.count() as u64;
        } else if ids.len() < MOST {
            ids.push(agent.id.to_string());
        } else {
            touched.is_partial = true;
        }
    }
    let now = desk.clock.now();
    for some in ids.chunks(AT_ONCE).map(<[String]>::to_vec) {
        let read = desk.db.read("count_credentials", |tx| {
            let some = some.clone();
            Box::pin(async move { credential::count(tx, some, now).await })
        });
        for (kind, count, latest) in read.await.map_err(of_tx)? {
            let (so_far, last) = touched.credentials.entry(kind).or_insert((0, Timestamp::from_micros(i64::MIN)));
            *so_far += u64::try_from(count).unwrap_or(0);
            *last = (*last).max(Timestamp::from_micros(latest));
        }
    }
    desk.record_emergency(call).await?;
    Ok(touched)
}

/// Reads whom a request names.
pub(crate) fn whom(namespace: &str, level: Option<Level>) -> Result<Whom, Fault> {
    let level = level.ok_or_else(|| {
        let all = "agent, agent_class, group, whole_namespace, owner, subject or everywhere";
        Fault::invalid("level", format!("says nobody; give {all}"))
    })?;
    let namespace = match (namespace, &level) {
        ("", Level::Owner(_) | Level::Subject(_) | Level::Everywhere) => None,
        (_, Level::Everywhere) => return Err(Fault::invalid("namespace", "is empty where everywhere is given")),
        (name, _) => Some(Name::parse(name).map_err(|e| Fault::invalid("namespace", e.to_string()))?),
    };
    Ok(Whom { namespace, level })
}
