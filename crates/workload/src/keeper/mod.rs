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
use legate_ids::SpiffeId;
use legate_rpc::{Fault, OVERLOADED};
use legate_wire::registry::AttestationSelector;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::Meter;
use crate::attest::{Attested, Attestor, Looks, Peer, ProcessKey, TokenSource, Unseen};
use crate::follow::{Ear, News};
use crate::issuer::{Holder, Issuer, LINE};
use crate::knowledge::in_words;
use crate::shown::{Broker, Shown};
use actor::Actor;
use ending::Ender;
use tokens::Tokens;

pub(crate) use state::{Held, State, Without};

/// For so long a call waits until something is known.
const PATIENCE: Duration = Duration::from_secs(12);
/// And so long until its SVID is there: as long as it may stand in line, and be asked for.
const SERVED: Duration = LINE.saturating_add(Duration::from_secs(15));
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
    /// Of these, of one user.
    most_of_one_user: usize,
    open: Mutex<HashMap<Whose, Workload>>,
}

/// Whose an actor is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Whose {
    /// A process: its number, and when it was started.
    started: (i32, u64),
    /// The agent that asks for it, and what that one calls it; `None`: it does so itself.
    broker: Option<(SpiffeId, String)>,
}

impl Whose {
    fn of(key: ProcessKey, shown: &Shown) -> Self {
        let broker = shown.broker.as_ref().map(|broker| (broker.agent.clone(), shown.sandbox().to_owned()));
        Self { started: (key.pid, key.start), broker }
    }
}

/// The way to a process's actor. While nobody holds one, the actor ends.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    key: ProcessKey,
    uid: u32,
    asks: mpsc::Sender<Ask>,
    state: watch::Receiver<State>,
    tokens: Arc<Tokens>,
}

/// A call that wants to know what the process has.
#[derive(Debug)]
struct Ask {
    shown: Arc<Shown>,
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
    pub(crate) most_of_one_user: usize,
    pub(crate) tokens: Vec<TokenSource>,
    pub(crate) looks: Looks,
}

/// A process that called: what it has, and the way to what it has next.
#[derive(Debug)]
pub(crate) struct Entitled {
    pub(crate) workload: Workload,
    pub(crate) held: Arc<Held>,
    shown: Arc<Shown>,
}

impl Keeper {
    /// Needs a tokio runtime.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { issuer, ear, clock, meter, rotations, stop, most, most_of_one_user, tokens, looks } = parts;
        let ender = Ender::start(issuer.clone(), Arc::clone(&clock), meter.clone());
        let (attestor, open) = (Attestor::new(tokens, looks), Mutex::default());
        Self(Arc::new(Inner {
            attestor,
            issuer,
            ear,
            ender,
            clock,
            meter,
            rotations,
            stop,
            most,
            most_of_one_user,
            open,
        }))
    }

    /// Attests the process and says what it has, once that is known.
    ///
    /// # Errors
    /// The refusal when it has nothing.
    pub(crate) async fn of(&self, peer: &Arc<Peer>) -> Result<Entitled, Fault> {
        self.asked_for(peer, None).await
    }

    /// The same, where a broker asks for it, by the name that the broker gave it.
    ///
    /// # Errors
    /// The refusal when it has nothing.
    pub(crate) async fn asked_for(
        &self,
        peer: &Arc<Peer>,
        broker: Option<(Broker, Option<AttestationSelector>)>,
    ) -> Result<Entitled, Fault> {
        let not_ready = |why: &str| Fault::from(Without::NotReady(why.into()));
        let known = async {
            // What is looked at hangs on what is asked for.
            self.wait_for_news().await;
            let attested = self.0.attest(peer).await?;
            tracing::debug!(
                pid = attested.key.pid,
                attested = in_words(&attested.selectors),
                tokens = attested.tokens.len(),
                broker = broker.as_ref().map(|(broker, _)| broker.agent.as_str()),
                "attested"
            );
            Ok::<_, Fault>((attested.key, Arc::new(Shown::of(&attested, broker))))
        };
        let known = tokio::time::timeout(PATIENCE, known).await;
        let (key, shown) = known.map_err(|_| not_ready("nothing was known within 12 s"))??;
        let found = tokio::time::timeout(SERVED, self.find(peer, key, shown)).await;
        found.map_err(|_| not_ready("no SVID was obtained within 75 s"))?
    }

    /// Turns at looking at processes.
    pub(crate) fn looks(&self) -> &Looks {
        self.0.attestor.looks()
    }

    /// What is known, to be told of what is known next.
    pub(crate) fn ear(&self) -> &Ear {
        &self.0.ear
    }

    async fn find(&self, peer: &Arc<Peer>, key: ProcessKey, shown: Arc<Shown>) -> Result<Entitled, Fault> {
        // An actor may end while it is asked; the next one is new.
        for _ in 0..3 {
            let Some(workload) = self.workload(peer, key, &shown)? else {
                return Err(Without::NotEntitled.into());
            };
            let (reply, answer) = oneshot::channel();
            let ask = Ask { shown: Arc::clone(&shown), reply };
            if workload.asks.send(ask).await.is_ok()
                && let Ok(state) = answer.await
            {
                let held = state.held()?;
                return Ok(Entitled { workload, held, shown });
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
    fn workload(&self, peer: &Arc<Peer>, key: ProcessKey, shown: &Arc<Shown>) -> Result<Option<Workload>, Fault> {
        let whose = Whose::of(key, shown);
        let mut open = self.0.open.lock();
        // One that ran another program has ended with that: dropping it here ends its actor.
        if let Some(known) = open.get(&whose)
            && known.key == key
            && !known.asks.is_closed()
        {
            return Ok(Some(known.clone()));
        }
        match self.0.ear.news() {
            News::Refused(told) => return Err(Without::NodeRefused(told.reason.clone()).into()),
            News::Known(known) if known.of(shown).next().is_some() => {}
            News::Known(_) | News::Nothing => return Ok(None),
        }
        if open.len() >= self.0.most && !open.contains_key(&whose) {
            let what = format!("{} processes have SVIDs of this node already", self.0.most);
            return Err(Fault::unavailable(&OVERLOADED, what, Duration::from_secs(5)));
        }
        let of_its_user = open.values().filter(|known| known.uid == peer.uid()).count();
        if of_its_user >= self.0.most_of_one_user && !open.contains_key(&whose) {
            let what = format!("{of_its_user} processes of this user have SVIDs of this node already");
            return Err(Fault::unavailable(&OVERLOADED, what, Duration::from_secs(5)));
        }
        let (workload, actor) =
            Actor::new(Arc::clone(&self.0), Arc::clone(peer), key, whose.clone(), Arc::clone(shown));
        open.insert(whose, workload.clone());
        drop(open);
        tokio::spawn(actor.run());
        Ok(Some(workload))
    }
}

impl Inner {
    /// Attests a process, as far as policies that are known now ask for.
    async fn attest(&self, peer: &Peer) -> Result<Attested, Unseen> {
        let known = match self.ear.news() {
            News::Known(known) => Some(known),
            News::Nothing | News::Refused(_) => None,
        };
        let asks = |seen: &[AttestationSelector]| {
            known.as_ref().is_some_and(|known| known.asking_for_hash(seen).next().is_some())
        };
        self.attestor.attest(peer, asks).await
    }

    /// Forgets an actor that has ended, unless another took its place.
    fn forget(&self, whose: &Whose, key: ProcessKey) {
        let mut open = self.open.lock();
        if open.get(whose).is_some_and(|known| known.key == key) {
            open.remove(whose);
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
    ) -> Result<Vec<(String, tokens::Given)>, Fault> {
        let mut found = Vec::new();
        let mut failed = None;
        for svid in self.held.svids.iter().filter(|svid| only.is_empty() || svid.spiffe_id.as_str() == only) {
            // The policy as it is now: it may ask for another token than when the SVID was obtained.
            let by = match keeper.0.ear.news() {
                News::Known(known) => known.entitlement(&svid.entitlement.policy),
                News::Nothing | News::Refused(_) => None,
            };
            let by = by.unwrap_or_else(|| Arc::clone(&svid.entitlement));
            let Inner { issuer, clock, .. } = &*keeper.0;
            let holder = Holder { svid, by: &by, shown: &self.shown, uid: self.workload.uid };
            match self.workload.tokens.get(issuer, clock, holder, audiences).await {
                Ok(token) => found.push((svid.entitlement.hint(), token)),
                Err(why) => failed = Some(why),
            }
        }
        // What was taken back while it was asked for is not handed out.
        let now = self.workload.state.borrow().clone().held()?;
        found.retain(|(_, token)| now.svids.iter().any(|svid| svid.spiffe_id.as_str() == token.spiffe_id));
        match (found.is_empty(), failed) {
            (false, _) => Ok(found),
            (true, Some(why)) => Err(why),
            (true, None) => Err(Without::NotEntitled.into()),
        }
    }
}
