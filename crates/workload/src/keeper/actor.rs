//! One process: what it has, kept fresh, and taken away the moment it may not have it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::holding::{Act, Holding, Lost};
use super::state::{Held, State, Without};
use super::{Ask, Inner, Tokens, WAITING, Whose, Workload};
use crate::attest::{Peer, ProcessKey, Unseen};
use crate::follow::News;
use crate::issuer::{NotIssued, Svid, Wish};
use crate::knowledge::{Entitlement, Knowledge, PolicyName};
use crate::moment::Moment;
use crate::shown::Shown;

/// No wait is longer, so that a clock that was set is noticed.
const LOOK: Duration = Duration::from_secs(30);

/// Nor shorter, whatever is due.
const SHORTEST: Duration = Duration::from_millis(10);

/// What became of a request.
type Answer = (PolicyName, Result<Svid, Failed>);

/// Why it gave nothing; and the request, where it may be repeated.
enum Failed {
    Unseen(Unseen),
    NotIssued(NotIssued, Option<Box<Wish>>),
}

/// The actor.
pub(super) struct Actor {
    inner: Arc<Inner>,
    peer: Arc<Peer>,
    key: ProcessKey,
    whose: Whose,
    shown: Arc<Shown>,
    holdings: BTreeMap<PolicyName, Holding>,
    asks: mpsc::Receiver<Ask>,
    waiting: Vec<oneshot::Sender<State>>,
    state: watch::Sender<State>,
    issuing: FuturesUnordered<BoxFuture<'static, Answer>>,
}

impl Actor {
    pub(super) fn new(
        inner: Arc<Inner>,
        peer: Arc<Peer>,
        key: ProcessKey,
        whose: Whose,
        shown: Arc<Shown>,
    ) -> (Workload, Self) {
        let (sender, asks) = mpsc::channel(WAITING);
        let (state, receiver) = watch::channel(State::Pending);
        let workload = Workload { key, asks: sender, state: receiver, tokens: Arc::new(Tokens::default()) };
        inner.meter.workloads(1);
        let (holdings, waiting, issuing) = (BTreeMap::new(), Vec::new(), FuturesUnordered::new());
        (workload, Self { inner, peer, key, whose, shown, holdings, asks, waiting, state, issuing })
    }

    /// Until the process ends, or runs another program, or the helper stops.
    pub(super) async fn run(mut self) {
        let mut news = self.inner.ear.subscribe();
        let mut rotations = self.inner.rotations.clone();
        rotations.mark_unchanged();
        let (peer, stop) = (Arc::clone(&self.peer), self.inner.stop.clone());
        let ended = peer.ended();
        tokio::pin!(ended);
        let over = loop {
            news.mark_unchanged();
            let wait = self.step();
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.stopped(),
                () = &mut ended => break Unseen::Gone,
                told = news.changed() => if told.is_err() { return self.stopped() },
                Some((policy, answer)) = self.issuing.next(), if !self.issuing.is_empty() => {
                    if let Err(unseen) = self.answered(policy, answer) {
                        break unseen;
                    }
                }
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.asked(ask),
                    // The process runs another program, which has an actor of its own.
                    None => break Unseen::Changed,
                },
                Ok(()) = rotations.changed() => self.holdings.values_mut().for_each(|holding| holding.is_due = true),
                () = tokio::time::sleep(wait) => {}
            }
        };
        self.end(over).await;
    }

    /// Looks at everything: lets go, asks, publishes, answers. Returns when to look again.
    fn step(&mut self) -> Duration {
        match self.inner.ear.news() {
            News::Nothing => LOOK,
            News::Refused(told) => {
                // What was obtained through a node that is not believed is not the processes' any more.
                self.holdings.values_mut().for_each(|holding| holding.svid = None);
                self.publish(State::Without(Arc::new(Without::NodeRefused(told.reason.clone()))));
                LOOK
            }
            News::Known(known) => self.look(&known),
        }
    }

    fn look(&mut self, known: &Arc<Knowledge>) -> Duration {
        let shown = Arc::clone(&self.shown);
        let wanted: Vec<&Arc<Entitlement>> = known.of(&shown).collect();
        let gone = self.holdings.extract_if(.., |name, _| !wanted.iter().any(|by| by.policy == *name));
        for (_, holding) in gone.collect::<Vec<_>>() {
            // The policy does not believe us any more, or is about something else.
            holding.svid.iter().for_each(|svid| self.inner.ender.end(svid));
        }
        let (now, unheard) = (Moment::now(self.inner.clock.as_ref()), self.inner.ear.unheard());
        let is_used = self.state.receiver_count() > 1 || !self.waiting.is_empty();
        let mut wait = LOOK;
        let (mut served, mut without, mut is_settled) = (Vec::new(), Without::NotEntitled, true);
        // As they are now: what an SVID was obtained by may be of before.
        let mut served_by = Vec::new();
        for by in wanted {
            let holding = self.holdings.entry(by.policy.clone()).or_default();
            match holding.let_go(by, known, now) {
                Lost::Nothing | Lost::Dead => {}
                Lost::ToBeEnded(svid) => self.inner.ender.end(&svid),
            }
            match holding.act(by, known, now, is_used) {
                Act::Nothing => {}
                act => {
                    holding.in_flight = true;
                    let instance = holding.svid.as_ref().filter(|_| act == Act::Renew).map(|s| s.instance_id.clone());
                    let wish = holding.wish.take();
                    let whom = (Arc::clone(&self.peer), self.key, Arc::clone(&self.shown));
                    let asking = obtain(Arc::clone(&self.inner), whom, Arc::clone(by), instance, wish);
                    self.issuing.push(Box::pin(asking));
                }
            }
            // What is not wanted now is tried when somebody asks.
            let is_tried =
                by.is_usable && !holding.in_flight && !holding.is_taken_back && (holding.svid.is_none() || is_used);
            if let Some(failure) = holding.failure.as_ref().filter(|_| is_tried) {
                wait = wait.min(failure.retry_at.saturating_duration_since(Instant::now()));
            }
            let Some(svid) = &holding.svid else {
                if by.is_usable && holding.in_flight {
                    is_settled = false;
                    without = Without::NotReady("the process's SVID is being obtained".into());
                } else if let Some(failure) =
                    holding.failure.as_ref().filter(|_| by.is_usable && !holding.is_taken_back)
                {
                    without = Without::of(failure.why.clone());
                }
                continue;
            };
            wait = wait.min(svid.ends.left(now)).min(if is_used {
                svid.rotate_at.left(now).max(Duration::from_millis(200))
            } else {
                LOOK
            });
            match by.serve_unheard {
                Some(most) if unheard.is_none_or(|unheard| unheard > most) => without = Without::Unheard,
                Some(most) => {
                    wait = wait.min(most.saturating_sub(unheard.unwrap_or_default()) + Duration::from_millis(1));
                    served.push(Arc::clone(svid));
                    served_by.push(by);
                }
                None => {
                    served.push(Arc::clone(svid));
                    served_by.push(by);
                }
            }
        }
        let was_held = matches!(*self.state.borrow(), State::Holds(_));
        if !served.is_empty() {
            let federated = known.federated_for(served_by.into_iter());
            let bundle = Arc::clone(&known.bundle);
            self.publish(State::Holds(Arc::new(Held { svids: served, bundle, federated })));
        } else if is_settled {
            self.publish(State::Without(Arc::new(without)));
        } else if was_held {
            // What was held is dead, and what follows is not there yet: whoever listens hears of it now. Calls go on waiting.
            self.state.send_replace(State::Without(Arc::new(without)));
        }
        wait.max(SHORTEST)
    }

    /// Says it to whoever listens, where it is new, and to whoever asked.
    fn publish(&mut self, state: State) {
        let is_known = match (&*self.state.borrow(), &state) {
            (State::Holds(before), State::Holds(now)) => before.is_same(now),
            _ => false,
        };
        if !is_known {
            self.state.send_replace(state);
        }
        for reply in self.waiting.drain(..) {
            // It may have gone away.
            let _gone = reply.send(self.state.borrow().clone());
        }
    }

    fn asked(&mut self, ask: Ask) {
        self.shown = ask.shown;
        self.holdings.values_mut().for_each(Holding::asked);
        self.waiting.push(ask.reply);
    }

    fn answered(&mut self, policy: PolicyName, answer: Result<Svid, Failed>) -> Result<(), Unseen> {
        let revision = match self.inner.ear.news() {
            News::Known(known) => known.revision,
            News::Nothing | News::Refused(_) => 0,
        };
        let Some(holding) = self.holdings.get_mut(&policy) else {
            // The policy went while its SVID was on the way.
            if let Ok(svid) = answer {
                self.inner.ender.end(&svid);
            }
            return Ok(());
        };
        holding.in_flight = false;
        match answer {
            Ok(svid) => {
                tracing::info!(
                    pid = self.key.pid,
                    spiffe_id = %svid.spiffe_id,
                    not_after = %svid.not_after,
                    "an X.509-SVID was obtained"
                );
                (holding.svid, holding.failure, holding.is_due) = (Some(Arc::new(svid)), None, false);
            }
            Err(Failed::Unseen(unseen)) => return Err(unseen),
            Err(Failed::NotIssued(why, wish)) => {
                tracing::warn!(
                    pid = self.key.pid,
                    policy = format!("{}/{}", policy.0, policy.1),
                    ?why,
                    "no X.509-SVID"
                );
                holding.wish = wish.map(|wish| *wish);
                holding.failed(why, revision);
            }
        }
        Ok(())
    }

    /// The helper stops. The processes live on, and with them what they hold.
    fn stopped(self) {
        self.inner.meter.workloads(-1);
        self.inner.forget(&self.whose, self.key);
    }

    async fn end(mut self, over: Unseen) {
        tracing::debug!(pid = self.key.pid, %over, "a process is over");
        self.inner.forget(&self.whose, self.key);
        self.publish(State::Without(Arc::new(Without::Unseen(over))));
        self.asks.close();
        for holding in self.holdings.values() {
            holding.svid.iter().for_each(|svid| self.inner.ender.end(svid));
        }
        // What is still on the way becomes nobody's.
        while let Some((_, answer)) = self.issuing.next().await {
            if let Ok(svid) = answer {
                self.inner.ender.end(&svid);
            }
        }
        self.inner.meter.workloads(-1);
    }
}

/// Attests the process once more, and asks for its SVID. Who asks for it, and what that one calls it, is as it was.
async fn obtain(
    inner: Arc<Inner>,
    (peer, key, shown): (Arc<Peer>, ProcessKey, Arc<Shown>),
    by: Arc<Entitlement>,
    instance: Option<String>,
    before: Option<Wish>,
) -> Answer {
    let policy = by.policy.clone();
    let attested = match inner.attestor.attest(&peer).await {
        Ok(attested) if attested.key == key => attested,
        Ok(_) => return (policy, Err(Failed::Unseen(Unseen::Changed))),
        Err(unseen) => return (policy, Err(Failed::Unseen(unseen))),
    };
    let shown = shown.again(&attested);
    let wish = match before.filter(|wish| wish.is_still(&by, &shown, instance.as_deref())) {
        Some(wish) => wish,
        None => match Wish::new(&by, &shown, instance.as_deref()) {
            Ok(wish) => wish,
            Err(why) => return (policy, Err(Failed::NotIssued(why, None))),
        },
    };
    match inner.issuer.x509(&wish, by).await {
        Ok(svid) => (policy, Ok(svid)),
        Err(why @ NotIssued::Refused(_)) => (policy, Err(Failed::NotIssued(why, None))),
        Err(why) => (policy, Err(Failed::NotIssued(why, Some(Box::new(wish))))),
    }
}
