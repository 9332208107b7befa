//! What whoever shows a token may do with it: the token is proved as for a decision, and what it is narrowed to narrows what is told.

use std::sync::Arc;

use legate_ids::{ActionPattern, Actions};
use legate_rpc::Fault;
use legate_token::Scope;

use super::asker::{Asker, Right};
use super::asking::{seat, told};
use super::evaluate::Desk;
use super::record;
use super::subject::{Holder, Shown};
use super::what_can::{Can, LONGEST, WhatCan, look};
use crate::domain::answer::{Cause, CauseKind};
use crate::domain::entitled::Entitled;
use crate::domain::preview::outlook::{Holds, On};
use crate::domain::standing;

/// What is asked.
pub(crate) struct HolderCan {
    pub(crate) token: String,
    pub(crate) shown: Shown,
    pub(crate) at_least_revision: u64,
    pub(crate) with_never: bool,
}

/// Never shows the token.
impl std::fmt::Debug for HolderCan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HolderCan").field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// Says what the holder of a token may do. It came itself, so nobody needs the right to search; it is told of the types of resources
/// about which the caller may ask, and a token for other audiences tells nothing.
///
/// # Errors
/// When the caller is not known, the view is old, others ask already, or it cannot be recorded.
#[tracing::instrument(skip_all)]
pub(crate) async fn holder_can(desk: &Arc<Desk>, asker: &Asker, ask: HolderCan) -> Result<Can, Fault> {
    let seat = seat(desk, asker, ask.at_least_revision, LONGEST, |_: &Right| Ok(())).await?;
    let (revision, view_age, now) = (seat.reading.snapshot.revision(), seat.reading.age(), seat.now);
    let found = desk.tokens.holder(&seat.reading.snapshot, &seat.right, &ask.token, ask.shown, now);
    let (namespace, agent_id, token_id) = match (&found, &seat.right) {
        (Ok(holder), _) => {
            (holder.agent.label.namespace.to_string(), holder.agent.id.to_string(), holder.token_id.clone())
        }
        (Err(_), Right::Point(point)) => (point.label.namespace.to_string(), String::new(), String::new()),
        (Err(_), Right::Operator(_)) => Default::default(),
    };
    let reason = found.as_ref().map_or_else(|nobody| nobody.0.word(), |_| "");
    let details = [
        ("question", "holder_can".to_owned()),
        ("agent_id", agent_id),
        ("token_id", token_id),
        ("reason", reason.to_owned()),
    ];
    let event = record::searched(asker, &namespace, revision, desk.clock.now(), details);
    let can = match found {
        Err(nobody) => {
            Can { agent: None, all: Vec::new(), stopped: Some(nobody.0), revision, view_age, now, left_out: 0 }
        }
        Ok(holder) => {
            let working = Arc::clone(desk);
            let made = tokio::task::spawn_blocking(move || {
                // The turn ends with the work, also where the caller has left.
                let _turn = seat.turn;
                let (snapshot, agent) = (&seat.reading.snapshot, &holder.agent);
                let stopped = standing::judge(snapshot, agent, now);
                let (mut all, mut left_out) = (Vec::new(), 0);
                if stopped.is_none() {
                    let with_never = ask.with_never;
                    let how = WhatCan { with_never, ..WhatCan::about(holder.agent.id.clone()) };
                    (all, left_out) = look(&working, snapshot, &seat.right, &holder.agent, now, &how, seat.until);
                }
                let all = all.into_iter().flat_map(|one| narrowed(one, &holder)).collect();
                Can { agent: Some(holder.agent), all, stopped, revision, view_age, now, left_out }
            });
            made.await.map_err(Fault::broken)?
        }
    };
    told(desk, asker, event).await?;
    desk.metrics.asked("holder_can");
    Ok(can)
}

/// What the token leaves of something that its agent may do.
fn narrowed(mut one: Entitled, holder: &Holder) -> Vec<Entitled> {
    if holder.is_narrowed && matches!(one.holds, Holds::Always) {
        let cause = Cause::plain(CauseKind::Token, "for whom the token acts, or what it is narrowed to");
        one.holds = Holds::Depends(vec![On { cause, content: String::new() }]);
    }
    let Scope::Actions(actions) = &holder.scope else { return vec![one] };
    let own = ActionPattern::parse(&one.cell.action).into_iter().collect::<Actions>();
    let only = |action: &ActionPattern| {
        let mut only = one.clone();
        only.cell.action = action.to_string();
        only
    };
    actions.meet(&own).iter().map(only).collect()
}
