//! Following the registry: open the stream, take in what it tells, ping, and come back after every failure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use legate_clock::Clock;
use legate_wire::registry::watch_request::Ask;
use legate_wire::registry::watch_response::News;
use legate_wire::registry::{
    RevisionChanges, SnapshotPart, WatchPing, WatchPong, WatchRequest, WatchResponse, WatchStart,
};
use tokio::sync::mpsc;
use tonic::Status;

use crate::feed::Feed;
use crate::handle::{Follower, Shared, ViewHandle};
use crate::intake::Intake;
use crate::{HARD_BOUND, Snapshot, Unreadable};

/// How the view follows.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Older than this the view is stale; cut to five seconds.
    pub bound: Duration,
    /// How often the registry is asked how far it is.
    pub ping_every: Duration,
    /// A stream on which nothing was heard for this long is given up.
    pub silent_after: Duration,
    /// The longest first wait before a new try; doubles with each failure.
    pub retry_from: Duration,
    /// The longest wait before a new try.
    pub retry_max: Duration,
    /// What the watcher calls itself towards the registry, for people.
    pub replica: String,
}

impl Options {
    /// Pings every 500 ms, stale after five seconds, tries again after up to 100 ms and later up to 2 s.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            bound: HARD_BOUND,
            ping_every: Duration::from_millis(500),
            silent_after: Duration::from_secs(5),
            retry_from: Duration::from_millis(100),
            retry_max: Duration::from_secs(2),
            // Another one with every start: whoever looks for it knows whether it is still the same process.
            replica: format!("{:016x}", rand::random::<u64>()),
        }
    }
}

/// The view of the registry; [`View::follow`] starts it.
#[derive(Debug)]
pub struct View;

impl View {
    /// Starts to follow `feed` and returns the way to what was seen. Needs a tokio runtime.
    #[must_use]
    pub fn follow(feed: impl Feed, options: Options) -> ViewHandle {
        let shared = Shared::new(Arc::clone(&options.clock), options.bound);
        let session = Session { shared: Arc::clone(&shared), feed: Box::new(feed), options, resync: false };
        let task = tokio::spawn(session.run());
        ViewHandle { shared, _follower: Arc::new(Follower(task.abort_handle())) }
    }
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the registry closed the stream")]
    Closed,
    #[error("the registry said nothing for {0:?}")]
    Silent(Duration),
    #[error("the stream failed: {0}")]
    Failed(Box<Status>),
    #[error("the registry presents revision {told}, {held} was already seen: it lost history or is another registry")]
    Downgrade { told: u64, held: u64 },
    #[error("the registry broke the order of the stream: {0}")]
    Disorder(String),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// A ping that is not answered yet.
#[derive(Clone, Copy)]
struct Ping {
    nonce: u64,
    /// Monotonic time at which it was sent.
    sent: Duration,
    /// The revision held then: the registry had sent it, so its answer cannot be lower.
    floor: u64,
}

struct Pings {
    next: u64,
    open: VecDeque<Ping>,
}

/// More open pings than this and the oldest are forgotten; the stream is silent then anyhow.
const OPEN_PINGS: usize = 64;

impl Pings {
    fn new() -> Self {
        Self {
            // A nonce of an earlier stream answers nothing on this one.
            next: rand::random::<u32>().into(),
            open: VecDeque::new(),
        }
    }

    /// `says`: by which revision whoever asks is answered from now on; 0 where that is not to be said.
    fn send(&mut self, sent: Duration, floor: u64, says: u64) -> WatchRequest {
        self.next += 1;
        if self.open.len() == OPEN_PINGS {
            self.open.pop_front();
        }
        let nonce = self.next;
        self.open.push_back(Ping { nonce, sent, floor });
        WatchRequest { ask: Some(Ask::Ping(WatchPing { nonce: self.next, revision: says })) }
    }

    /// The ping of `nonce`; it and all before it are closed.
    fn answer(&mut self, nonce: u64) -> Option<Ping> {
        let at = self.open.iter().position(|ping| ping.nonce == nonce)?;
        self.open.drain(..=at).next_back()
    }
}

/// A whole view in the making, beside the one that is in place.
enum Building {
    /// From the pieces of a snapshot.
    Pieces(Intake),
    /// From every change since the first.
    Changes(Snapshot),
}

impl Building {
    fn revision(&self) -> u64 {
        match self {
            Self::Pieces(intake) => intake.revision(),
            Self::Changes(so_far) => so_far.revision(),
        }
    }
}

struct Session {
    shared: Arc<Shared>,
    feed: Box<dyn Feed>,
    options: Options,
    /// What is held may differ from what the registry holds at the same revision: only a whole snapshot will do.
    resync: bool,
}

impl Session {
    async fn run(mut self) {
        let mut ceiling = self.options.retry_from;
        loop {
            let mut heard = false;
            let Err(ended) = self.stream(&mut heard).await;
            let counters = &self.shared.counters;
            match &ended {
                Ended::Downgrade { .. } => {
                    counters.downgrades.fetch_add(1, Ordering::Relaxed);
                    self.resync = true;
                    tracing::error!(reason = "REGISTRY_DOWNGRADE", %ended, "the registry is refused");
                }
                Ended::Disorder(_) | Ended::Unreadable(_) => {
                    counters.refused.fetch_add(1, Ordering::Relaxed);
                    self.resync = true;
                    tracing::error!(reason = "REGISTRY_UNREADABLE", %ended, "the registry is refused");
                }
                _ => tracing::warn!(%ended, "the registry's stream ended"),
            }
            ceiling = if heard { self.options.retry_from } else { (ceiling * 2).min(self.options.retry_max) };
            // Full jitter, so that a hundred watchers do not come back as one.
            let wait = ceiling.mul_f64(rand::random::<f64>());
            tokio::time::sleep(wait).await;
        }
    }

    /// One stream from its opening to its end. `heard` tells whether the registry was up to answering.
    async fn stream(&mut self, heard: &mut bool) -> Result<std::convert::Infallible, Ended> {
        let seen = self.shared.seen.load_full();
        let held = seen.snapshot.revision();
        let (from_revision, history) =
            if self.resync { (0, Vec::new()) } else { (held, seen.snapshot.history().to_vec()) };
        let (asks, outgoing) = mpsc::channel(8);
        let replica = self.options.replica.clone();
        let start = WatchRequest { ask: Some(Ask::Start(WatchStart { from_revision, history, replica })) };
        // The channel is empty and open.
        let _ = asks.try_send(start);
        let silent = self.options.silent_after;
        let opened = tokio::time::timeout(silent, self.feed.watch(outgoing)).await;
        let mut news = opened.map_err(|_| Ended::Silent(silent))?.map_err(|status| Ended::Failed(Box::new(status)))?;
        self.shared.counters.connects.fetch_add(1, Ordering::Relaxed);

        let mut pings = Pings::new();
        let mut building = self.resync.then(|| Building::Changes(Snapshot::default()));
        let mut ping_time = tokio::time::interval(self.options.ping_every);
        ping_time.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_word = self.options.clock.monotonic();
        let mut taken = self.shared.taken_away.subscribe();
        loop {
            tokio::select! {
                // Whoever stopped somebody waits to hear that it is known here.
                Ok(()) = taken.changed() => {
                    let (now, held) = (self.options.clock.monotonic(), self.held());
                    let _ = asks.try_send(pings.send(now, held, self.says(building.as_ref())));
                }
                _ = ping_time.tick() => {
                    let now = self.options.clock.monotonic();
                    if now.saturating_sub(last_word) > silent {
                        return Err(Ended::Silent(silent));
                    }
                    // The time is taken before the ping goes out; one that cannot go out is never answered.
                    let _ = asks.try_send(pings.send(now, self.held(), self.says(building.as_ref())));
                }
                word = news.next() => {
                    let word: WatchResponse = word
                        .ok_or(Ended::Closed)?
                        .map_err(|status| Ended::Failed(Box::new(status)))?;
                    last_word = self.options.clock.monotonic();
                    match word.news {
                        Some(News::Snapshot(part)) => self.take_part(part, &mut building).await?,
                        Some(News::Changes(changes)) => self.take_changes(&changes, &mut building)?,
                        Some(News::Pong(pong)) => {
                            self.take_pong(pong, &mut pings, building.as_ref())?;
                            *heard = true;
                        }
                        None => return Err(Ended::Disorder("a message of a kind unknown here".into())),
                    }
                }
            }
        }
    }

    fn held(&self) -> u64 {
        self.shared.seen.load().snapshot.revision()
    }

    /// By which revision every answer is from now on. While a whole view is in the making, what is held may be another registry's.
    fn says(&self, building: Option<&Building>) -> u64 {
        if building.is_some() || self.resync { 0 } else { self.held() }
    }

    fn put_whole(&mut self, whole: Snapshot) {
        self.shared.counters.snapshots.fetch_add(1, Ordering::Relaxed);
        self.resync = false;
        tracing::info!(revision = whole.revision(), agents = whole.agents_len(), "the registry's state is in place");
        // Whoever is missing from it was taken away while nobody listened.
        self.shared.put(whole, true);
    }

    async fn take_part(&mut self, part: SnapshotPart, building: &mut Option<Building>) -> Result<(), Ended> {
        if part.first {
            let held = self.held();
            if part.revision < held {
                return Err(Ended::Downgrade { told: part.revision, held });
            }
            *building = Some(Building::Pieces(Intake::at(part.revision)));
        }
        let Some(Building::Pieces(intake)) = building.as_mut().filter(|b| b.revision() == part.revision) else {
            return Err(Ended::Disorder("a piece of no snapshot, or of another".into()));
        };
        intake.take(part.objects).await?;
        if part.last
            && let Some(Building::Pieces(intake)) = building.take()
        {
            self.put_whole(intake.whole(&part.history).await?);
        }
        Ok(())
    }

    fn take_changes(&mut self, changes: &RevisionChanges, building: &mut Option<Building>) -> Result<(), Ended> {
        let mut next = match building {
            Some(Building::Pieces(_)) => {
                return Err(Ended::Disorder("changes before the snapshot was whole".into()));
            }
            Some(Building::Changes(so_far)) => so_far.clone(),
            None => Snapshot::clone(&self.shared.seen.load().snapshot),
        };
        let (revision, before) = (changes.revision, next.revision());
        if revision != before + 1 {
            return Err(Ended::Disorder(format!("changes of revision {revision} after {before}")));
        }
        next.set_revision(revision, &changes.history);
        let mut takes_away = false;
        for change in &changes.changes {
            let object = change
                .object
                .as_ref()
                .ok_or_else(|| Ended::Disorder(format!("a change of revision {revision} without its object")))?;
            takes_away |= next.apply(object, change.revoked)?.takes_away;
        }
        match building {
            Some(so_far) if revision < self.held() => *so_far = Building::Changes(next),
            Some(_) => {
                *building = None;
                self.put_whole(next);
            }
            None => self.shared.put(next, takes_away),
        }
        Ok(())
    }

    fn take_pong(&self, pong: WatchPong, pings: &mut Pings, building: Option<&Building>) -> Result<(), Ended> {
        let (told, held) = (pong.revision, self.held());
        if let Some(building) = building {
            // Says nothing of the view in place. A registry that is behind it will not become whole here.
            return match building {
                Building::Changes(_) if told < held => Err(Ended::Downgrade { told, held }),
                _ => Ok(()),
            };
        }
        if told > held {
            return Err(Ended::Disorder(format!("a pong at revision {told} when only {held} was sent")));
        }
        match pings.answer(pong.nonce) {
            Some(ping) if told < ping.floor => Err(Ended::Downgrade { told, held: ping.floor }),
            Some(ping) => {
                self.shared.certain(ping.sent);
                Ok(())
            }
            // Of a ping that was given up, or of none.
            None => Ok(()),
        }
    }
}
