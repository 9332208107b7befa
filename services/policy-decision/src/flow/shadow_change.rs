//! A change is tried on every decision as it is made: beside what decides, without a say, for as long as an operator follows.
//!
//! A check only puts its question into bounded queues, and nothing at all while nobody follows. Both sides of a question are judged
//! apart from it, by one state of the registry and one that would be with the change.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use legate_clock::Timestamp;
use legate_rpc::{Fault, UNAUTHENTICATED};
use legate_wire::audit::AuditEvent;
use legate_wire::policy as wire;
use legate_wire::registry::{Declaration, ObjectName};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Status;

use super::asker::Asker;
use super::asking::{AGAIN, Seat, fresh, seat, told};
use super::evaluate::Desk;
use super::preview::shown;
use super::record;
use crate::domain::preview::fitting::unfit;
use crate::domain::preview::touched::touched;
use crate::error::{QUESTION_INVALID, STREAM_STOPPING};

mod followers;
mod sides;

use followers::Follower;
pub(crate) use followers::{Asked, Followers};
use sides::{Sides, Tried};

/// How old a stream becomes.
const OLDEST: Duration = Duration::from_secs(3_600);
/// How often it is looked whether there is anything to tell, and whether the registry has changed.
const OFTEN: Duration = Duration::from_secs(1);
/// After so many looks with nothing to tell it is told that it goes on.
const QUIET: u32 = 10;
/// Decisions that are tried together.
const TOGETHER: usize = 64;
/// For every moment of work so many of rest: a quarter of one core at most.
const REST: u32 = 3;
/// Examples of one message.
const EXAMPLES: usize = 20;
/// The longest that the beginning takes.
const BEGINNING: Duration = Duration::from_secs(30);
/// Messages that wait to be taken.
const UNTAKEN: usize = 4;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShadowChange {
    pub(crate) wanted: Vec<Declaration>,
    pub(crate) gone: Vec<ObjectName>,
    pub(crate) at_least_revision: u64,
}

/// What the caller reads.
pub(crate) type Shadows = Pin<Box<dyn Stream<Item = Result<wire::ShadowChangeResponse, Status>> + Send>>;

/// Tries the change until the caller leaves or the stream has to end.
///
/// # Errors
/// When the caller may not, the change cannot be read or used, others follow already, or it cannot be recorded.
#[tracing::instrument(skip_all)]
pub(crate) async fn shadow_change(desk: &Arc<Desk>, asker: &Asker, ask: ShadowChange) -> Result<Shadows, Fault> {
    let may = |right: &super::asker::Right| shown(right, &ask.wanted, &ask.gone, &Default::default());
    let Seat { reading, right, now, turn, .. } = seat(desk, asker, ask.at_least_revision, BEGINNING, may).await?;
    let follower = desk.followers.open(&asker.spiffe_id)?;
    let (working, ask) = (Arc::clone(desk), Arc::new(ask));
    let begun = {
        let (ask, snapshot) = (Arc::clone(&ask), Arc::clone(&reading.snapshot));
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let sides = Sides::of(&working, snapshot, right, &ask, now)?;
            let spoken_of = touched(&ask.wanted, &ask.gone);
            let unfit =
                spoken_of.keys().flat_map(|namespace| unfit(sides.before(), sides.after(), namespace)).collect();
            Ok::<(Sides, Vec<String>), Fault>((sides, unfit))
        })
    };
    let (sides, unfit) = begun.await.map_err(Fault::broken)??;
    if let Some(why) = sides.unusable() {
        return Err(Fault::refused(&QUESTION_INVALID, why.clone()).field("declarations", why));
    }
    let namespaces = touched(&ask.wanted, &ask.gone).into_keys().collect::<Vec<_>>();
    let of = if let [only] = namespaces.as_slice() { only.as_str() } else { "" };
    let details = [
        ("namespaces", record::cut(namespaces.join(" "))),
        ("declarations", ask.wanted.len().to_string()),
        ("removals", ask.gone.len().to_string()),
    ];
    let event = record::searched(asker, of, reading.snapshot.revision(), now, details);
    told(desk, asker, AuditEvent { r#type: "change.shadowed".to_owned(), ..event }).await?;
    desk.metrics.asked("shadow_change");
    let (out, mut said) = mpsc::channel(UNTAKEN);
    let line = Line { desk: Arc::clone(desk), asker: asker.clone(), ask, follower, out, since: now };
    tokio::spawn(line.follow(Arc::new(sides), unfit));
    Ok(Box::pin(stream::poll_fn(move |cx| said.poll_recv(cx))))
}

/// One stream.
struct Line {
    desk: Arc<Desk>,
    asker: Asker,
    ask: Arc<ShadowChange>,
    follower: Follower,
    out: mpsc::Sender<Result<wire::ShadowChangeResponse, Status>>,
    since: Timestamp,
}

impl Line {
    async fn follow(mut self, sides: Arc<Sides>, unfit: Vec<String>) {
        let mut news = wire::ShadowChangeResponse {
            revision: sides.before().revision(),
            since: Some(self.since.into()),
            unfit,
            ..wire::ShadowChangeResponse::default()
        };
        if self.out.send(Ok(news.clone())).await.is_err() {
            return;
        }
        news.unfit.clear();
        if let Err(fault) = self.until_over(sides, news).await {
            let _gone = self.out.send(Err(fault.into())).await;
        }
    }

    async fn until_over(&mut self, mut sides: Arc<Sides>, mut news: wire::ShadowChangeResponse) -> Result<(), Fault> {
        let stopping = self.desk.stopping.get().cloned().unwrap_or_default();
        let over = tokio::time::sleep(OLDEST);
        tokio::pin!(over);
        let mut often = tokio::time::interval_at(Instant::now() + OFTEN, OFTEN);
        often.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut quiet, mut last) = (0, news.clone());
        let mut asked = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = self.out.closed() => return Ok(()),
                () = stopping.cancelled() => {
                    return Err(Fault::unavailable(&STREAM_STOPPING, "the service is stopping", AGAIN));
                }
                () = &mut over => return Ok(()),
                _ = often.tick() => {
                    sides = self.renewed(sides).await?;
                    (news.left_out, news.revision) = (self.follower.left_out(), sides.before().revision());
                    quiet += 1;
                    if news != last || quiet >= QUIET {
                        if self.out.send(Ok(news.clone())).await.is_err() {
                            return Ok(());
                        }
                        news.examples.clear();
                        (last, quiet) = (news.clone(), 0);
                    }
                }
                count = self.follower.asked(&mut asked, TOGETHER) => {
                    if count == 0 {
                        return Ok(());
                    }
                    let began = Instant::now();
                    let (desk, by, these) = (Arc::clone(&self.desk), Arc::clone(&sides), std::mem::take(&mut asked));
                    let tried = tokio::task::spawn_blocking(move || {
                        these.into_iter().map(|asked| (by.tried(&desk, &asked), asked)).collect::<Vec<_>>()
                    });
                    for (tried, asked) in tried.await.map_err(Fault::broken)? {
                        self.count(&mut news, tried, &asked);
                    }
                    tokio::time::sleep(began.elapsed().saturating_mul(REST)).await;
                }
            }
        }
    }

    /// Both sides as they are now; the caller has to be let see them still.
    async fn renewed(&self, sides: Arc<Sides>) -> Result<Arc<Sides>, Fault> {
        let (reading, now) = fresh(&self.desk)?;
        // The connection ends by a timer, which does not see the machine's clock being put right.
        if self.asker.peer.not_after <= now {
            let text = format!("the caller's certificate expired at {}", self.asker.peer.not_after);
            return Err(Fault::refused(&UNAUTHENTICATED, text));
        }
        let right = self.asker.right(&reading.snapshot, now)?;
        shown(&right, &self.ask.wanted, &self.ask.gone, &Default::default())?;
        if Arc::ptr_eq(sides.shared(), &reading.snapshot) {
            return Ok(sides);
        }
        let (desk, ask) = (Arc::clone(&self.desk), Arc::clone(&self.ask));
        let snapshot = Arc::clone(&reading.snapshot);
        let made = tokio::task::spawn_blocking(move || Sides::of(&desk, snapshot, right, &ask, now));
        Ok(Arc::new(made.await.map_err(Fault::broken)??))
    }

    fn count(&self, news: &mut wire::ShadowChangeResponse, tried: Tried, asked: &Asked) {
        let (would, agent) = match tried {
            Tried::NotOurs => return,
            Tried::NotReady => {
                self.follower.leave_out();
                return;
            }
            Tried::Same => {
                news.decisions += 1;
                return;
            }
            Tried::WouldAllow(agent) => {
                news.would_allow += 1;
                (wire::Decision::Allow, agent)
            }
            Tried::WouldDeny(agent) => {
                news.would_deny += 1;
                (wire::Decision::Deny, agent)
            }
        };
        news.decisions += 1;
        self.desk.metrics.candidate(if would == wire::Decision::Allow { "allow" } else { "deny" });
        if news.examples.len() < EXAMPLES {
            let question = &asked.ask.question;
            news.examples.push(wire::ShadowExample {
                decision_id: asked.id.to_string(),
                time: Some(asked.at.into()),
                agent_id: agent,
                action: question.action.to_string(),
                resource_type: question.resource_type.to_string(),
                resource_id: question.resource_id.to_string(),
                would: would.into(),
            });
        }
    }
}
