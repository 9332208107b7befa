//! Somebody reads one object, as it is or as it was.

use std::sync::Arc;

use legate_authority::Right;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, AgentRef, AgentState, AsOf, Declaration};

use super::class_in_force;
use super::past;
use super::stop_orders;
use super::transition::{self, Which};
use super::update::not_found;
use super::{By, Desk};
use crate::domain::kind::Key;
use crate::domain::operators;
use crate::store::{broken, object, refuse};

/// One agent, retired ones too by id; with the revision it was read at.
#[tracing::instrument(skip_all)]
pub(crate) async fn agent(
    desk: &Arc<Desk>,
    by: &By,
    which: Option<AgentRef>,
    as_of: Option<AsOf>,
) -> Result<(Agent, u64), Fault> {
    let which = Which::read(which)?;
    let read = desk.look("get_agent", by, move |look| {
        Box::pin(async move {
            let (found, revision) = match as_of {
                None => (transition::row(look.tx, &which, &look.mandate).await?.shown()?, look.revision),
                Some(as_of) => {
                    let revision = past::revision(&look, as_of).await?;
                    (past::agent(&look, &which, revision).await?, revision)
                }
            };
            match found.object {
                Some(Object::Agent(mut agent)) => {
                    if as_of.is_none() {
                        stop_orders::tell(look.tx, &look.mandate, &mut [&mut agent]).await?;
                    }
                    class_in_force::tell(look.tx, &mut [&mut agent], as_of.map(|_| revision)).await?;
                    Ok((agent, revision))
                }
                _ => Err(broken("an agent's row holds no agent")),
            }
        })
    });
    read.await
}

/// One object in force, now or then, with the revision it was read at.
#[tracing::instrument(skip_all)]
pub(crate) async fn object(
    desk: &Arc<Desk>,
    by: &By,
    key: Key,
    as_of: Option<AsOf>,
) -> Result<(Declaration, u64), Fault> {
    let read = desk.look("get_declaration", by, move |look| {
        Box::pin(async move {
            if let Some(as_of) = as_of {
                let revision = past::revision(&look, as_of).await?;
                return Ok((past::object(&look, &key, revision).await?, revision));
            }
            // What the caller may not see is looked for all the same, and is not there.
            let row = object::by_key(look.tx, &key).await?;
            let row = row.filter(|_| look.mandate.may(Right::Read, operators::place(&key)));
            let row = row.ok_or_else(|| refuse(not_found(&key)))?;
            Ok((row.shown()?, look.revision))
        })
    });
    read.await
}

/// The states that a request names.
pub(crate) fn states(numbers: &[i32]) -> Result<Vec<AgentState>, Fault> {
    let read = |(i, number): (usize, &i32)| match AgentState::try_from(*number) {
        Ok(AgentState::Unspecified) | Err(_) => Err(Fault::invalid(format!("states[{i}]"), "is no state")),
        Ok(state) => Ok(state),
    };
    numbers.iter().enumerate().map(read).collect()
}
