//! One stream: who asks on it, what is under way, and what was said and not taken.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use legate_rpc::{DEADLINE_EXCEEDED, Fault, OVERLOADED};
use legate_wire::policy as wire;
use legate_wire::policy::evaluate_stream_response::Outcome;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tonic::Status;

use super::Say;
use super::each::each;
use crate::convert::{Ask, item_error};
use crate::flow::asker::Asker;
use crate::flow::evaluate::{Desk, Spoken};

/// A caller who takes nothing for so long is given up.
const STUCK: Duration = Duration::from_secs(10);
/// Kept back from a question's time, so that the answer arrives within it.
const SHAVE: Duration = Duration::from_millis(20);

/// Why a stream ends.
#[derive(Debug)]
pub(super) enum End {
    /// The caller is gone.
    Gone,
    /// Everything is answered.
    Whole,
    /// What the caller sent could not be read.
    Theirs(Status),
    /// The caller is told why.
    Told(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Told(fault)
    }
}

/// Questions that are decided together: read at one moment, with the same time.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) ids: Vec<u64>,
    pub(super) asks: Vec<Ask>,
    pub(super) weight: usize,
    pub(super) time: Duration,
    pub(super) alone: bool,
    read: Instant,
}

impl Group {
    pub(super) fn new(read: Instant, time: Duration, alone: bool) -> Self {
        Self { ids: Vec::new(), asks: Vec::new(), weight: 0, time, alone, read }
    }
}

/// Until when an ALLOW may be heard.
#[derive(Clone, Copy, Debug)]
struct Until {
    /// For as long as its question waits.
    deadline: Instant,
    /// For as long as the view that it was made by would still decide, on the desk's monotonic clock; `None`: it never was heard of.
    good: Option<Duration>,
}

impl Until {
    fn is_over(&self, clock: &dyn Clock) -> bool {
        Instant::now() >= self.deadline || self.good.is_none_or(|good| clock.monotonic() > good)
    }
}

/// What was said, and until when it may be heard.
#[derive(Debug)]
pub(super) struct Said {
    what: Result<wire::EvaluateStreamResponse, Status>,
    until: Option<Until>,
}

impl Said {
    fn item(item_id: u64, outcome: Outcome, until: Option<Until>) -> Self {
        Self { what: Ok(wire::EvaluateStreamResponse { item_id, outcome: Some(outcome) }), until }
    }

    /// Hands it to the transport. An ALLOW that lay too long, since the caller took nothing or the process was stopped, is not said any more.
    pub(super) fn deliver(self, clock: &dyn Clock) -> Result<wire::EvaluateStreamResponse, Status> {
        match (self.what, self.until) {
            (Ok(said), Some(until)) if until.is_over(clock) => {
                let fault = Fault::refused(&DEADLINE_EXCEEDED, "the answer was not taken while it was good");
                let outcome = Some(Outcome::Error(item_error(fault)));
                Ok(wire::EvaluateStreamResponse { item_id: said.item_id, outcome })
            }
            (what, _) => what,
        }
    }
}

/// Until when it may be heard; a denial is never too old.
fn until(spoken: &Spoken, deadline: Instant) -> Option<Until> {
    spoken.answer.denied.is_none().then_some(Until { deadline, good: spoken.good_until })
}

/// One stream.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) desk: Arc<Desk>,
    pub(super) asker: Asker,
    pub(super) out: mpsc::Sender<Said>,
    say: Say,
    /// The names of what is under way.
    in_flight: Mutex<HashSet<u64>>,
}

impl Line {
    pub(super) fn new(desk: Arc<Desk>, asker: Asker, out: mpsc::Sender<Said>, say: Say) -> Self {
        Self { desk, asker, out, say, in_flight: Mutex::default() }
    }

    /// Whether the name is not under way already; now it is.
    pub(super) fn enter(&self, id: u64) -> bool {
        self.in_flight.lock().insert(id)
    }

    /// Decides a group and says what came of it; its weight, and how many they were.
    pub(super) async fn answer(self: Arc<Self>, group: Group) -> Result<(usize, usize), End> {
        let deadline = group.read + group.time - SHAVE;
        let asker = Asker { deadline, ..self.asker.clone() };
        let deciding = each(&self.desk, &asker, &group.asks);
        let outcomes = tokio::time::timeout_at(deadline, deciding).await.unwrap_or_else(|_| {
            let late = Fault::refused(&DEADLINE_EXCEEDED, "the deadline passed before the answer was there");
            vec![Err(item_error(late)); group.asks.len()]
        });
        for (id, outcome) in group.ids.iter().zip(outcomes) {
            let said = match outcome {
                Ok(spoken) => Said::item(*id, Outcome::Answer((self.say)(&spoken)), until(&spoken, deadline)),
                Err(error) => Said::item(*id, Outcome::Error(error), None),
            };
            // Before it is said: whoever hears it may use the name again.
            self.in_flight.lock().remove(id);
            self.put(said).await?;
        }
        Ok((group.weight, group.asks.len()))
    }

    /// Answers a question with an error.
    pub(super) async fn refuse(&self, id: u64, fault: Fault) -> Result<(), End> {
        self.put(Said::item(id, Outcome::Error(item_error(fault)), None)).await
    }

    async fn put(&self, said: Said) -> Result<(), End> {
        let said = match self.out.try_send(said) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(End::Gone),
            Err(TrySendError::Full(said)) => said,
        };
        match tokio::time::timeout(STUCK, self.out.send(said)).await {
            Ok(sent) => sent.map_err(|_| End::Gone),
            Err(_) => {
                let text = "the caller took no answer for 10 s";
                Err(Fault::unavailable(&OVERLOADED, text, Duration::from_secs(1)).into())
            }
        }
    }

    /// Says the last word.
    pub(super) async fn end(&self, end: End) {
        let status = match end {
            End::Gone | End::Whole => return,
            End::Theirs(status) => status,
            End::Told(fault) => {
                tracing::info!(reason = fault.reason(), "a stream of questions ends");
                fault.into()
            }
        };
        let last = Said { what: Err(status), until: None };
        drop(tokio::time::timeout(STUCK, self.out.send(last)).await);
    }
}
