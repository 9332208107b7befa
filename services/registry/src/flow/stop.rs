//! An operator stops agents, one of them or all, by one write, and lets them go on by another.

use std::sync::Arc;

use legate_authority::{Place, Right};
use legate_clock::Timestamp;
use legate_db::{Tx, TxResult};
use legate_outbox::Standard;
use legate_rpc::{Fault, Mandate};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::stop_order_spec::Level;
use legate_wire::registry::stop_scope::Level as Asked;
use legate_wire::registry::{
    AgentRef, Declaration, Kind, Metadata, ResumeAgentsRequest, ResumeAgentsResponse, StopAgentsRequest,
    StopAgentsResponse, StopOrder, StopOrderSpec, StopScope, StoppedGroup,
};

use super::stop_orders::{self, MOST_GROUPS};
use super::transition::{self, Which};
use super::update::not_found;
use super::write::Writing;
use super::{Call, Desk};
use crate::domain::check;
use crate::domain::kind::Key;
use crate::domain::standing::{self, Turn};
use crate::domain::stop;
use crate::error::{NAMESPACE_FULL, STANDING_WRONG};
use crate::store::{broken, object, refuse};

/// Stops them. Who is stopped so already stays so.
#[tracing::instrument(skip_all)]
pub(crate) async fn stop(desk: &Arc<Desk>, call: Call, ask: StopAgentsRequest) -> Result<StopAgentsResponse, Fault> {
    super::stage::refusal(check::check_stop_scope(ask.scope.as_ref()))?;
    super::stage::refusal(check::check_reason(&call.by.reason, true))?;
    let scope = Arc::new(ask.scope.unwrap_or_default());
    desk.write("stop_agents", Standard::Stopping, call, move |writing| {
        let scope = Arc::clone(&scope);
        Box::pin(async move {
            writing.demand(Right::Stop, Place::of(&scope.namespace)).map_err(refuse)?;
            let level = level(writing.tx, &writing.mandate, &scope).await?;
            let order = Box::pin(order_stop(writing, &scope.namespace, level)).await?;
            let revision = order.metadata.as_ref().map_or(0, |m| m.revision);
            let stop_time = order.status.as_ref().and_then(|status| status.state_time);
            Ok(StopAgentsResponse { order: Some(order), revision, stop_time, radius: None })
        })
    })
    .await
}

/// The order as it stands then.
async fn order_stop(writing: &mut Writing<'_>, namespace: &str, level: Level) -> TxResult<StopOrder, Fault> {
    let key = stop_orders::key(namespace, &level);
    let current = object::by_key(writing.tx, &key).await?.map(|row| row.declaration()).transpose()?;
    if let Some(Object::StopOrder(order)) = current.as_ref().and_then(|current| current.object.as_ref())
        && order.status.as_ref().is_some_and(|status| status.suspended)
    {
        return Ok(order.clone());
    }
    let is_new_group = current.is_none() && matches!(level, Level::Group(_));
    if is_new_group && stop_orders::on_groups(writing.tx, namespace).await?.len() as u64 >= MOST_GROUPS {
        let text = format!("{MOST_GROUPS} groups of {namespace} were stopped, each as it was at a time");
        return Err(refuse(Fault::refused(&NAMESPACE_FULL, text)));
    }
    let wanted = current.clone().unwrap_or_else(|| {
        let metadata = Metadata { name: key.name, namespace: key.namespace, ..Metadata::default() };
        let spec = Some(StopOrderSpec { level: Some(level) });
        Declaration { object: Some(Object::StopOrder(StopOrder { metadata: Some(metadata), spec, status: None })) }
    });
    turn(writing, wanted, current.as_ref(), Turn::Suspend).await
}

async fn turn(
    writing: &mut Writing<'_>,
    mut wanted: Declaration,
    current: Option<&Declaration>,
    turn: Turn,
) -> TxResult<StopOrder, Fault> {
    let status = standing::status_mut(&mut wanted).ok_or_else(|| broken("an order has no standing"))?;
    let turned = standing::turn(status, turn, writing.now, &writing.by.actor, &writing.by.reason);
    turned.map_err(|already| broken(already.to_string()))?;
    let verb = if turn == Turn::Suspend { "stopped" } else { "resumed" };
    match writing.put(wanted, current, verb, &[]).await?.object {
        Some(Object::StopOrder(order)) => Ok(order),
        _ => Err(broken("a stop order was written and is none")),
    }
}

/// Lets them go on: each is as it was before.
#[tracing::instrument(skip_all)]
pub(crate) async fn resume(
    desk: &Arc<Desk>,
    call: Call,
    ask: ResumeAgentsRequest,
) -> Result<ResumeAgentsResponse, Fault> {
    super::stage::refusal(check::check_stop_scope(ask.scope.as_ref()))?;
    super::stage::refusal(check::check_reason(&call.by.reason, true))?;
    let scope = Arc::new(ask.scope.unwrap_or_default());
    desk.write("resume_agents", Standard::Ordinary, call, move |writing| {
        let scope = Arc::clone(&scope);
        Box::pin(async move {
            writing.demand(Right::Start, Place::of(&scope.namespace)).map_err(refuse)?;
            let (mut orders, mut cutoff) = (Vec::new(), None::<Timestamp>);
            for current in standing_orders(writing, &scope).await? {
                let order = Box::pin(turn(writing, current.clone(), Some(&current), Turn::Resume)).await?;
                let at = order.status.as_ref().and_then(|status| status.authorization_cutoff);
                cutoff = cutoff.max(at.and_then(|at| Timestamp::try_from(at).ok()));
                orders.push(order);
            }
            if orders.is_empty() {
                let text = "no stop order that stands names them so; see legate stops";
                return Err(refuse(Fault::refused(&STANDING_WRONG, text)));
            }
            let authorization_cutoff = cutoff.map(Into::into);
            Ok(ResumeAgentsResponse { orders, revision: writing.revision(), authorization_cutoff })
        })
    })
    .await
}

/// The orders that stand and name what a scope names. That is not looked for: it may be gone, and the order stand all the same.
async fn standing_orders(writing: &Writing<'_>, scope: &StopScope) -> TxResult<Vec<Declaration>, Fault> {
    let namespace = scope.namespace.as_str();
    let level = match scope.level.clone() {
        Some(Asked::Group(name)) => {
            let is_meant = |order: &Declaration| {
                let is_its = matches!(stop::level_of(order), Some(Level::Group(group)) if group.name == name);
                is_its && standing::is_suspended(order)
            };
            let all = stop_orders::on_groups(writing.tx, namespace).await?;
            return Ok(all.into_iter().filter(is_meant).collect());
        }
        Some(Asked::AgentClass(name)) => Level::AgentClass(name),
        Some(Asked::WholeNamespace(_)) => Level::WholeNamespace(true),
        _ => level(writing.tx, &writing.mandate, scope).await?,
    };
    let found = object::by_key(writing.tx, &stop_orders::key(namespace, &level)).await?;
    let found = found.map(|row| row.declaration()).transpose()?;
    Ok(found.into_iter().filter(standing::is_suspended).collect())
}

/// Whom a scope names, as an order says it. A name that was mistyped must not look like an order that was carried out.
pub(super) async fn level(tx: &Tx, mandate: &Mandate, scope: &StopScope) -> TxResult<Level, Fault> {
    let namespace = scope.namespace.as_str();
    if !namespace.is_empty() {
        there(tx, Kind::Namespace, "", namespace).await?;
    }
    Ok(match scope.level.clone() {
        Some(Asked::Agent(name)) => {
            let is_id = legate_ids::AgentId::parse(&name).is_ok();
            let (id, name) = if is_id { (name, String::new()) } else { (String::new(), name) };
            let agent = AgentRef { id, namespace: namespace.to_owned(), name };
            let which = Which::read(Some(agent)).map_err(refuse)?;
            let found = transition::find(tx, &which, mandate).await?;
            let metadata = found.metadata().cloned().unwrap_or_default();
            // By its id it could be of another namespace, in which nobody asked for the right.
            if metadata.namespace != namespace {
                return Err(refuse(transition::not_found(&metadata.id)));
            }
            Level::AgentId(metadata.id)
        }
        Some(Asked::AgentClass(name)) => {
            there(tx, Kind::AgentClass, namespace, &name).await?;
            Level::AgentClass(name)
        }
        Some(Asked::Group(name)) => {
            let found = there(tx, Kind::Group, namespace, &name).await?;
            let update_time = found.metadata().and_then(|m| m.update_time);
            let Some(Object::Group(group)) = found.object else {
                return Err(broken("a group's row holds no group"));
            };
            Level::Group(StoppedGroup { name, spec: group.spec, update_time })
        }
        Some(Asked::Owner(owner)) => Level::Owner(owner),
        Some(Asked::Everywhere(_)) => Level::Everywhere(true),
        Some(Asked::WholeNamespace(_)) | None => Level::WholeNamespace(true),
    })
}

async fn there(tx: &Tx, kind: Kind, namespace: &str, name: &str) -> TxResult<Declaration, Fault> {
    let key = Key::new(kind, namespace, name);
    object::by_key(tx, &key).await?.ok_or_else(|| refuse(not_found(&key)))?.declaration()
}
