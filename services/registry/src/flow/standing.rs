//! An operator stops every agent of a class or a namespace by one write, or lets them work again.

use std::sync::Arc;

use legate_authority::Right;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::{Declaration, Kind};
use prost::Message;

use super::update::not_found;
use super::write::check_etag;
use super::{Call, Desk};
use crate::domain::check;
use crate::domain::kind::{self, Key};
use crate::domain::operators;
use crate::domain::standing::{self, Turn};
use crate::error::{KIND_NOT_APPLICABLE, STANDING_WRONG};
use crate::store::{broken, object, refuse};

/// Turns it; `answer` makes the answer of the object as it is then and the revision.
#[tracing::instrument(skip_all, fields(legate.object = %key))]
pub(crate) async fn turn<M: Message + Default + 'static>(
    desk: &Arc<Desk>,
    call: Call,
    key: Key,
    etag: String,
    turn: Turn,
    answer: fn(Declaration, u64) -> M,
) -> Result<M, Fault> {
    if !matches!(key.kind, Kind::AgentClass | Kind::Namespace) {
        let text = format!(
            "a {} is not suspended or resumed in this way; an AgentClass or a Namespace is",
            kind::kind_name(key.kind)
        );
        return Err(Fault::refused(&KIND_NOT_APPLICABLE, text));
    }
    super::stage::refusal(check::check_reason(&call.by.reason, true))?;
    let (name, standard, verb) = match turn {
        Turn::Suspend => ("suspend_declaration", Standard::Stopping, "suspended"),
        Turn::Resume => ("resume_declaration", Standard::Ordinary, "resumed"),
    };
    let ask = Arc::new((key, etag));
    desk.write(name, standard, call, move |writing| {
        let ask = Arc::clone(&ask);
        Box::pin(async move {
            let (key, etag) = &*ask;
            let right = if turn == Turn::Suspend { Right::Stop } else { Right::Start };
            writing.demand(right, operators::place(key)).map_err(refuse)?;
            let row = object::by_key(writing.tx, key).await?.ok_or_else(|| refuse(not_found(key)))?;
            let current = row.declaration()?;
            check_etag(&current, etag).map_err(refuse)?;
            let mut wanted = current.clone();
            let status = standing::status_mut(&mut wanted).ok_or_else(|| broken("it has no standing"))?;
            standing::turn(status, turn, writing.now, &writing.by.actor, &writing.by.reason).map_err(|already| {
                let text = format!("{} {key} {already}", kind::kind_name(key.kind));
                refuse(Fault::refused(&STANDING_WRONG, text))
            })?;
            let now = writing.put(wanted, Some(&current), verb, &[]).await?;
            Ok(answer(now, writing.revision()))
        })
    })
    .await
}
