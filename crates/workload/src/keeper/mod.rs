//! Who has what: one actor for each process that lives and is entitled to something.

mod actor;
mod ending;
mod holding;
mod state;
mod tokens;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use legate_rpc::{Fault, OVERLOADED};
use legate_wire::registry::AttestationSelector;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::Meter;
use crate::attest::{Attested, Attestor, Peer, ProcessKey};
use crate::follow::{Ear, News};
use crate::issuer::Issuer;
use crate::knowledge::in_words;
use actor::Actor;
use ending::Ender;
use tokens::Tokens;

pub(crate) use state::{Held, State, Without};

/// For so long a call waits until something is known, or its SVID is there.
const PATIENCE: Duration = Duration::from_secs(12);
/// Questions that wait for one actor.
const WAITING: usize = 64;

/// Keeps what processes have.
#[derive(Clone, Debug)]
pub(crate) struct Keeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    attestor: Attestor,
    issuer: Issuer,
    ear: Ear,
    ender: Ender,
    clock: Arc<dyn Clock>,
    meter: Meter,
    /// Counts how often everything was to be replaced.
    rotations: watch::Receiver<u64>,
    stop: CancellationToken,
    /// Processes at most.
    most: usize,
    open: Mutex<HashMap<Started, Workload>>,
}

/// A process: its number, and when it was started.
type Started = (i32, u64);

/// The way to a process's actor. While nobody holds one, the actor ends.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    key: ProcessKey,
    asks: mpsc::Sender<Ask>,
    state: watch::Receiver<State>,
    tokens: Arc<Tokens>,
}

/// A call that wants to know what the process has.
#[derive(Debug)]
struct Ask {
    selectors: Arc<[AttestationSelector]>,
    reply: oneshot::Sender<State>,
}

/// What a keeper works with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) issuer: Issuer,
    pub(crate) ear: Ear,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) meter: Meter,
    pub(crate) rotations: watch::Receiver<u64>,
    pub(crate) stop: CancellationToken,
    pub(crate) most: usize,
}

/// A process that called: what it has, and the way to what it has next.
#[derive(Debug)]
pub(crate) struct Entitled {
    pub(crate) workload: Workload,
    pub(crate) held: Arc<Held>,
    selectors: Arc<[AttestationSelector]>,
}

impl Keeper {
    /// Needs a tokio runtime.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { issuer, ear, clock, meter, rotations, stop, most } = parts;
        let ender = Ender::start(issuer.clone(), Arc::clone(&clock), meter.clone());
        let (attestor, open) = (Attestor::default(), Mutex::default());
        Self(Arc::new(Inner { attestor, issuer, ear, ender, clock, meter, rotations, stop, most, open }))
    }

    /// Attests the process and says what it has, once that is known.
    ///
    /// # Errors
    /// The refusal when it has nothing.
    pub(crate) async fn of(&self, peer: &Arc<Peer>) -> Result<Entitled, Fault> {
        let attested = self.0.attestor.attest(peer).await?;
        tracing::debug!(pid = attested.key.pid, attested = in_words(&attested.selectors), "attested");
        match tokio::time::timeout(PATIENCE, self.find(peer, attested)).await {
            Ok(found) => found,
            Err(_) => Err(Without::NotReady("nothing was known within 12 s".into()).into()),
        }
    }

    async fn find(&self, peer: &Arc<Peer>, attested: Attested) -> Result<Entitled, Fault> {
        self.wait_for_news().await;
        // An actor may end while it is asked; the next one is new.
        for _ in 0..3 {
            let Some(workload) = self.workload(peer, attested.key, &attested.selectors)? else {
                return Err(Without::NotEntitled.into());
            };
            let (reply, answer) = oneshot::channel();
            let ask = Ask { selectors: Arc::clone(&attested.selectors), reply };
            if workload.asks.send(ask).await.is_ok()
                && let Ok(state) = answer.await
            {
                let held = state.held()?;
                return Ok(Entitled { workload, held, selectors: attested.selectors });
            }
        }
        Err(Without::NotReady("the process's SVIDs are being taken down".into()).into())
    }

    async fn wait_for_news(&self) {
        let mut news = self.0.ear.subscribe();
        // The one who tells lives as long as we do.
        let _ended = news.wait_for(|news| !matches!(news, News::Nothing)).await;
    }

    /// The actor of a process; `None` where it would have nothing to do.
    fn workload(
        &self,
        peer: &Arc<Peer>,
        key: ProcessKey,
        selectors: &[AttestationSelector],
    ) -> Result<Option<Workload>, Fault> {
        let started = (key.pid, key.start);
        let mut open = self.0.open.lock();
        // One that ran another program has ended with that: dropping it here ends its actor.
        if let Some(known) = open.get(&started)
            && known.key == key
            && !known.asks.is_closed()
        {
            return Ok(Some(known.clone()));
        }
        match self.0.ear.news() {
            News::Refused(told) => return Err(Without::NodeRefused(told.reason.clone()).into()),
            News::Known(known) if known.of(selectors).next().is_some() => {}
            News::Known(_) | News::Nothing => return Ok(None),
        }
        if open.len() >= self.0.most && !open.contains_key(&started) {
            let what = format!("{} processes have SVIDs of this node already", self.0.most);
            return Err(Fault::unavailable(&OVERLOADED, what, Duration::from_secs(5)));
        }
        let (workload, actor) = Actor::new(Arc::clone(&self.0), Arc::clone(peer), key, selectors.into());
        open.insert(started, workload.clone());
        drop(open);
        tokio::spawn(actor.run());
        Ok(Some(workload))
    }
}

impl Inner {
    /// Forgets an actor that has ended, unless another took its place.
    fn forget(&self, key: ProcessKey) {
        let mut open = self.open.lock();
        let started = (key.pid, key.start);
        if open.get(&started).is_some_and(|known| known.key == key) {
            open.remove(&started);
        }
    }
}

impl Workload {
    /// To be told of every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}

impl Entitled {
    /// JWT-SVIDs for audiences: of one SPIFFE ID, or of each that the process has.
    ///
    /// # Errors
    /// The refusal when there is none.
    pub(crate) async fn tokens(
        &self,
        keeper: &Keeper,
        audiences: &[String],
        only: &str,
    ) -> Result<Vec<(String, tokens::Shown)>, Fault> {
        let mut found = Vec::new();
        let mut failed = None;
        for svid in self.held.svids.iter().filter(|svid| only.is_empty() || svid.spiffe_id.as_str() == only) {
            match self.workload.tokens.get(&keeper.0.issuer, &keeper.0.clock, svid, &self.selectors, audiences).await {
                Ok(token) => found.push((svid.entitlement.hint(), token)),
                Err(why) => failed = Some(why),
            }
        }
        // What was taken back while it was asked for is not handed out.
        let now = self.workload.state.borrow().clone().held()?;
        found.retain(|(_, token)| now.svids.iter().any(|svid| svid.spiffe_id.as_str() == token.spiffe_id));
        match (found.is_empty(), failed) {
            (false, _) => Ok(found),
            (true, Some(why)) => Err(Without::of(why).into()),
            (true, None) => Err(Without::NotEntitled.into()),
        }
    }
}
