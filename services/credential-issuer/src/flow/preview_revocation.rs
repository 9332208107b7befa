//! An operator sees what an order to take back everything that was issued to some would touch.

use std::collections::BTreeMap;

use legate_authority::{Place, Right};
use legate_ids::Name;
use legate_rpc::Fault;

use super::{Call, Desk};
use crate::domain::whom::{Level, Whom};
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
    /// By type.
    pub(crate) credentials: BTreeMap<i32, u64>,
    pub(crate) grants: u64,
    pub(crate) is_partial: bool,
    pub(crate) revision: u64,
}

/// Counts it.
#[tracing::instrument(skip_all)]
pub(crate) async fn preview(desk: &Desk, call: &Call, whom: Whom) -> Result<Touched, Fault> {
    let place = whom.namespace.as_ref().map_or(Place::Everywhere, |name| Place::In(name.as_str()));
    desk.mandate(call).await?.demand(Right::Stop, place)?;
    let snapshot = desk.fresh()?.snapshot;
    let mut touched = Touched { revision: snapshot.revision(), ..Touched::default() };
    let mut ids = Vec::new();
    for agent in whom.agents(&snapshot) {
        touched.agents += 1;
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
        for (kind, count) in read.await.map_err(of_tx)? {
            *touched.credentials.entry(kind).or_default() += u64::try_from(count).unwrap_or(0);
        }
    }
    desk.record_emergency(call).await?;
    Ok(touched)
}

/// Reads whom a request names.
pub(crate) fn whom(namespace: &str, level: Option<Level>) -> Result<Whom, Fault> {
    let level = level
        .ok_or_else(|| Fault::invalid("level", "says nobody; give agent_class, whole_namespace, owner or subject"))?;
    let may_be_everywhere = matches!(level, Level::Owner(_) | Level::Subject(_));
    let namespace = match namespace {
        "" if may_be_everywhere => None,
        name => Some(Name::parse(name).map_err(|e| Fault::invalid("namespace", e.to_string()))?),
    };
    Ok(Whom { namespace, level })
}
