//! Somebody follows the log: what the index takes in and he may see, until he leaves, is too slow, or may no longer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use legate_rpc::Fault;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Status;

use super::query::{Place, look, said};
use super::rights::{self, Judged};
use super::{Call, Desk, reads};
use crate::domain::question::{Order, Question};
use crate::error::{AGAIN, AUDIT_STOPPING, AUDIT_TAIL_SLOW, AUDIT_TAILS_TOO_MANY};
use crate::personal::Seen;

/// Who follow the log at once, and how many lines one caller has.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 8;

/// The same of services that follow alerts: one has a line for each of its copies, and perhaps one that is about to end.
const MOST_SERVICES: usize = 16;

/// Events of one message, and their bytes.
const AT_ONCE: u64 = 100;
const BYTES: usize = 512 << 10;

/// Messages that wait for a slow reader.
const WAITING: usize = 2;

/// A reader that takes nothing for so long is given up.
const STUCK: Duration = Duration::from_secs(10);

/// How often rights are judged again though nothing happens, and for how long nothing is said.
const ROUND: Duration = Duration::from_secs(1);
const SILENT: Duration = Duration::from_millis(3_500);

/// What is followed, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) question: Question,
    pub(crate) resume_token: String,
}

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct News {
    pub(crate) leaves: Vec<Seen>,
    /// The leaf with the signature of each that its emitter signed.
    pub(crate) attested: BTreeMap<u64, u64>,
    pub(crate) through: u64,
    pub(crate) resume_token: String,
}

/// Where messages go.
pub(crate) type Out<T> = mpsc::Sender<Result<T, Status>>;

/// How many follow, and who.
#[derive(Clone, Debug)]
pub(crate) struct Tails {
    most: usize,
    most_of_one: usize,
    all: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// A place among those who follow, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    tails: Tails,
    caller: String,
}

impl Tails {
    /// Seats of those who read.
    pub(crate) fn for_people() -> Self {
        Self { most: MOST, most_of_one: MOST_OF_ONE, all: Arc::default() }
    }

    /// Seats of services.
    pub(crate) fn for_services() -> Self {
        Self { most: MOST_SERVICES, most_of_one: MOST_SERVICES, all: Arc::default() }
    }

    pub(super) fn enter(&self, caller: &str) -> Option<Seat> {
        let mut all = self.all.lock();
        let its = all.get(caller).copied().unwrap_or(0);
        if its >= self.most_of_one || all.values().sum::<usize>() >= self.most {
            return None;
        }
        all.insert(caller.to_owned(), its + 1);
        Some(Seat { tails: self.clone(), caller: caller.to_owned() })
    }

    /// How many follow.
    pub(crate) fn count(&self) -> usize {
        self.all.lock().values().sum()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.tails.all.lock();
        let left = all.get(&self.caller).map_or(0, |its| its.saturating_sub(1));
        if left == 0 {
            all.remove(&self.caller);
        } else {
            all.insert(self.caller.clone(), left);
        }
    }
}

/// Why a line ends.
enum End {
    /// The reader is gone.
    Gone,
    /// The reader is told why.
    Told(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Told(fault)
    }
}

/// Begins to follow; messages come out of the channel, `say` makes them.
///
/// # Errors
/// When the caller may not, the token is not one of this question's, or too many follow.
pub(crate) async fn tail<T: Send + 'static>(
    desk: &Arc<Desk>,
    call: Call,
    ask: Ask,
    say: fn(News) -> T,
) -> Result<mpsc::Receiver<Result<T, Status>>, Fault> {
    let parts = ask.question.parts();
    let mut asked = vec!["tail".to_owned(), call.caller.clone()];
    asked.extend(parts.iter().map(|(_, value)| value.clone()));
    let from = {
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        desk.log.pages().read(&asked, &ask.resume_token)?
    };
    let from = from.map(|from| from.parse::<u64>().map_err(Fault::broken)).transpose()?;
    let Some(seat) = desk.tails.enter(&call.caller) else {
        let text = "as many follow the log as the bounds allow";
        return Err(Fault::unavailable(&AUDIT_TAILS_TOO_MANY, text, Duration::from_secs(1)));
    };
    let judged = rights::ready(desk, &call).await?;
    let at = from.unwrap_or_else(|| *desk.index.through().borrow());
    let line = Line { desk: Arc::clone(desk), judged, question: ask.question, asked, at, shown: 0 };
    // Whether he may at all is said before the first message.
    line.look(0).await?;
    reads::record(desk, &call, line.read("log.tailed", &parts), 0).await?;
    let (out, news) = mpsc::channel(WAITING + 1);
    tokio::spawn(async move {
        let _seat = seat;
        let mut line = line;
        // The last word has its place from the start.
        let Ok(last_word) = out.clone().reserve_owned().await else { return };
        let end = line.follow(&out, say).await;
        reads::note(&line.desk, &call, line.read("log.tail_ended", &parts), line.shown);
        if let Err(End::Told(fault)) = end {
            tracing::info!(reason = fault.reason(), caller = call.caller, "one who follows the log is told to stop");
            last_word.send(Err(fault.with("resume_token", line.token(line.at)).into()));
        }
    });
    Ok(news)
}

/// What one reader was told.
struct Line {
    desk: Arc<Desk>,
    judged: Judged,
    question: Question,
    asked: Vec<String>,
    /// Everything before this leaf was told.
    at: u64,
    shown: usize,
}

impl Line {
    async fn follow<T>(&mut self, out: &Out<T>, say: fn(News) -> T) -> Result<(), End> {
        let stopping = self.desk.stopping.get().cloned().unwrap_or_default();
        let mut index = self.desk.index.through();
        let mut round = tokio::time::interval(ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = Instant::now();
        loop {
            let is_behind = *index.borrow_and_update() > self.at;
            if !is_behind {
                tokio::select! {
                    () = stopping.cancelled() => {
                        return Err(Fault::unavailable(&AUDIT_STOPPING, "the collector is stopping", AGAIN).into());
                    }
                    () = out.closed() => return Err(End::Gone),
                    changed = index.changed() => {
                        if changed.is_err() {
                            return Err(End::Gone);
                        }
                        continue;
                    }
                    _ = round.tick() => {}
                }
            }
            if stopping.is_cancelled() {
                return Err(Fault::unavailable(&AUDIT_STOPPING, "the collector is stopping", AGAIN).into());
            }
            // Each look judges anew what the reader may see.
            if matches!(self.judged, Judged::ByRoles(..)) {
                rights::wait(&self.desk, Instant::now() + rights::OLDEST).await?;
            }
            let shown = self.look(AT_ONCE).await?;
            let through = shown.more_behind.map_or(shown.indexed_through.max(self.at), |leaf| leaf + 1);
            if shown.leaves.is_empty() && said.elapsed() < SILENT {
                self.at = through;
                continue;
            }
            said = Instant::now();
            let count = shown.leaves.len();
            let news =
                News { leaves: shown.leaves, attested: shown.attested, through, resume_token: self.token(through) };
            match tokio::time::timeout(STUCK, out.send(Ok(say(news)))).await {
                // What was not taken is told again to whoever goes on.
                Ok(Ok(())) => {
                    self.at = through;
                    self.shown += count;
                }
                Ok(Err(_)) => return Err(End::Gone),
                Err(_) => {
                    let text = "the reader took nothing for 10 s";
                    return Err(Fault::unavailable(&AUDIT_TAIL_SLOW, text, AGAIN).into());
                }
            }
        }
    }

    async fn look(&self, size: u64) -> Result<super::query::Shown, Fault> {
        let place = Place {
            after: self.at.checked_sub(1),
            order: Order::OldestFirst,
            size: size.max(1),
            bytes: BYTES,
            below: u64::MAX,
        };
        look(&self.desk, &self.judged, &self.question, place).await
    }

    /// Goes on at this leaf.
    fn token(&self, at: u64) -> String {
        let asked: Vec<&str> = self.asked.iter().map(String::as_str).collect();
        self.desk.log.pages().after(&asked, &at.to_string())
    }

    fn read(&self, kind: &'static str, parts: &[(&'static str, String)]) -> reads::Read {
        reads::Read { kind, namespace: self.question.namespace.clone(), asked: said(parts), refused: "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_leaves_room_for_others_and_places_come_back() {
        let tails = Tails::for_people();
        let its: Vec<Seat> = std::iter::from_fn(|| tails.enter("ada")).collect();
        assert_eq!(its.len(), MOST_OF_ONE);
        let others: Vec<Seat> = (0..MOST).filter_map(|n| tails.enter(&n.to_string())).collect();
        assert_eq!(tails.count(), MOST);
        assert!(tails.enter("grace").is_none());
        drop((its, others));
        assert_eq!(tails.count(), 0);
        assert!(tails.all.lock().is_empty());
    }
}
