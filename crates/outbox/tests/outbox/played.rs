//! A collector that is played: it keeps what the real one keeps, and behaves as it is told.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use legate_clock::Clock;
use legate_db::Db;
use legate_outbox::{Batch, DbSource, Metrics, Pace, Shipper, Sink, SinkError, ship};
use legate_wire::audit::AuditEvent;
use prost::Message as _;
use tokio::sync::{Semaphore, watch};

use crate::scene::{EMITTER, soon};

/// What becomes of one offer.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// So many are taken and acknowledged; the rest is not.
    Partly(usize),
    /// Nothing is taken, and never will be.
    Refuse,
    /// Nothing is taken, since there are other events under these numbers.
    Differ,
    /// Nothing is taken, and the sink is to be left alone for so long.
    Down(Option<Duration>),
    /// All is taken, and the answer is lost.
    LoseAnswer,
    /// All is taken, and there is no answer.
    Silence,
    /// All is taken, and the answer comes when somebody lets it.
    Wait(Arc<Semaphore>),
    /// Nothing is taken, and an old number acknowledged.
    Nothing,
}

#[derive(Debug, Default)]
struct State {
    log: Vec<AuditEvent>,
    last: HashMap<String, u64>,
    script: VecDeque<Act>,
    /// What is done once the script is over; all is taken when there is nothing.
    for_ever: Option<Act>,
    offers: Vec<(Instant, u64, usize)>,
    again: usize,
}

/// The played collector; clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    state: Arc<Mutex<State>>,
    steps: watch::Sender<usize>,
}

impl Played {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), steps: watch::Sender::new(0) }
    }

    /// What becomes of the next offers, one after the other.
    pub(crate) fn play(&self, acts: impl IntoIterator<Item = Act>) {
        self.state.lock().unwrap().script.extend(acts);
    }

    /// What becomes of every offer after those.
    pub(crate) fn play_for_ever(&self, act: Option<Act>) {
        self.state.lock().unwrap().for_ever = act;
    }

    /// Everything that was taken, in the order of the log.
    pub(crate) fn log(&self) -> Vec<AuditEvent> {
        self.state.lock().unwrap().log.clone()
    }

    /// How many events were offered that the log had already.
    pub(crate) fn again(&self) -> usize {
        self.state.lock().unwrap().again
    }

    /// When each offer came, its first number, and how many events it had.
    pub(crate) fn offers(&self) -> Vec<(Instant, u64, usize)> {
        self.state.lock().unwrap().offers.clone()
    }

    /// Waits until so many events are in the log.
    pub(crate) async fn holds(&self, count: usize) {
        soon(self.steps.subscribe().wait_for(|_| self.log().len() >= count)).await.unwrap();
    }

    /// Waits until so many offers came.
    pub(crate) async fn was_offered(&self, count: usize) {
        soon(self.steps.subscribe().wait_for(|_| self.offers().len() >= count)).await.unwrap();
    }

    /// The log as the auditor reads it: per epoch each number once, from 1, without gaps, in order.
    pub(crate) fn verify(&self) {
        let mut last: HashMap<String, u64> = HashMap::new();
        for event in self.log() {
            let emitter = event.emitter.unwrap();
            let last = last.entry(emitter.epoch).or_default();
            assert_eq!(emitter.seq, *last + 1);
            *last = emitter.seq;
        }
    }

    /// Takes `most` events of a batch, as the real one does: what it has is known by its number alone.
    fn take(state: &mut State, batch: &Batch, most: usize) -> u64 {
        let last = state.last.entry(batch.epoch.clone()).or_default();
        assert!(batch.first_seq <= *last + 1, "a gap: {} after {last}", batch.first_seq);
        for (bytes, seq) in batch.events.iter().zip(batch.first_seq..).take(most) {
            let event = AuditEvent::decode(bytes.as_ref()).unwrap();
            let emitter = event.emitter.as_ref().unwrap();
            let said = (emitter.spiffe_id.as_str(), emitter.epoch.as_str(), emitter.seq);
            assert_eq!(said, (EMITTER, batch.epoch.as_str(), seq), "an event says what its batch says");
            if seq <= *last {
                state.again += 1;
                continue;
            }
            *last = seq;
            state.log.push(event);
        }
        *last
    }

    fn step(&self) {
        self.steps.send_modify(|n| *n += 1);
    }
}

fn error(reason: &str, retry_after: Option<Duration>, is_refusal: bool) -> SinkError {
    SinkError { reason: reason.into(), message: "as played".into(), retry_after, is_refusal }
}

impl Sink for Played {
    async fn append(&self, batch: &Batch) -> Result<u64, SinkError> {
        assert!(!batch.events.is_empty());
        let (act, taken) = {
            let mut state = self.state.lock().unwrap();
            state.offers.push((Instant::now(), batch.first_seq, batch.events.len()));
            let act = state.script.pop_front().or_else(|| state.for_ever.clone());
            let most = match &act {
                None | Some(Act::LoseAnswer | Act::Silence | Act::Wait(_)) => usize::MAX,
                Some(Act::Partly(most)) => *most,
                Some(Act::Refuse | Act::Differ | Act::Down(_) | Act::Nothing) => 0,
            };
            (act, Self::take(&mut state, batch, most))
        };
        self.step();
        match act {
            None | Some(Act::Partly(_)) => Ok(taken),
            Some(Act::Differ) => Err(error("AUDIT_EVENTS_DIFFER", None, true)),
            Some(Act::Refuse) => Err(error("EVENT_INVALID", None, true)),
            Some(Act::Down(retry_after)) => Err(error("UNREACHABLE", retry_after, false)),
            Some(Act::LoseAnswer) => Err(error("UNREACHABLE", None, false)),
            Some(Act::Silence) => pending().await,
            Some(Act::Nothing) => Ok(batch.first_seq - 1),
            Some(Act::Wait(gate)) => {
                gate.acquire().await.unwrap().forget();
                Ok(taken)
            }
        }
    }
}

/// A pace for tests: nobody waits for long.
pub(crate) fn pace() -> Pace {
    Pace {
        max_events: 8,
        timeout: Duration::from_millis(200),
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(20),
        ..Pace::default()
    }
}

pub(crate) fn start(db: &Db, collector: &Played, pace: Pace) -> (Shipper, Metrics) {
    let metrics = Metrics::default();
    let clock: Arc<dyn Clock> = crate::scene::clock();
    (ship(DbSource::new(db.clone()), collector.clone(), pace, clock, metrics.clone()), metrics)
}
