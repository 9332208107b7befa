//! One process: what it has, kept fresh, and taken away the moment it may not have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::holding::{Act, Holding, Lost};
use super::state::{Held, State, Without};
use super::{Ask, Inner, Tokens, WAITING, Whose, Workload};
use crate::attest::{Attested, Peer, ProcessKey, Unseen};
use crate::follow::News;
use crate::issuer::{NotIssued, Svid, Wish};
use crate::knowledge::{Entitlement, Knowledge, PolicyName};
use crate::moment::Moment;
use crate::shown::Shown;

/// No wait is longer, so that a clock that was set is noticed.
const LOOK: Duration = Duration::from_secs(30);

/// Nor shorter, whatever is due.
const SHORTEST: Duration = Duration::from_millis(10);

/// How long after the hash of its program was not there in time it is looked for again.
const HASH_AGAIN: Duration = Duration::from_secs(2);
/// Requests for one process under way at once.
const AT_ONCE: usize = 4;

/// What became of a request.
type Answer = (PolicyName, Result<Svid, Failed>);

/// What the actor waits for.
enum Done {
    Asked(Box<Answer>),
    /// It was attested once more, since something asks for more than was looked at.
    Seen(Result<Attested, Unseen>),
}

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
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Policies for whose sake the hash of the program was looked for.
    hashed_for: BTreeSet<PolicyName>,
    /// When it is looked for again, where it was not there in time.
    hash_again: Option<Instant>,
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
        let tokens = Arc::new(Tokens::default());
        let workload = Workload { key, uid: peer.uid(), asks: sender, state: receiver, tokens };
        inner.meter.workloads(1);
        let actor = Self {
            inner,
            peer,
            key,
            whose,
            shown,
            holdings: BTreeMap::new(),
            asks,
            waiting: Vec::new(),
            state,
            under_way: FuturesUnordered::new(),
            hashed_for: BTreeSet::new(),
            hash_again: None,
        };
        (workload, actor)
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
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => {
                    let goes_on = match done {
                        Done::Asked(asked) => {
                            let (policy, answer) = *asked;
                            self.answered(policy, answer)
                        }
                        Done::Seen(attested) => self.seen(attested),
                    };
                    if let Err(unseen) = goes_on {
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

    /// Looks for the hash of the program as well, where a policy came to be that asks for it.
    fn look_for_hash(&mut self, known: &Knowledge) {
        if self.shown.has_hash() {
            self.hash_again = None;
            return;
        }
        let asking = known.asking_for_hash(&self.shown.selectors).cloned();
        let new: Vec<PolicyName> = asking.filter(|policy| !self.hashed_for.contains(policy)).collect();
        let is_due = self.hash_again.is_some_and(|at| at <= Instant::now());
        if new.is_empty() && !is_due {
            return;
        }
        self.hashed_for.extend(new);
        self.hash_again = None;
        let (inner, peer) = (Arc::clone(&self.inner), Arc::clone(&self.peer));
        self.under_way.push(Box::pin(async move { Done::Seen(inner.attest(&peer).await) }));
    }

    fn look(&mut self, known: &Arc<Knowledge>) -> Duration {
        self.look_for_hash(known);
        let shown = Arc::clone(&self.shown);
        let wanted: Vec<&Arc<Entitlement>> = known.of(&shown).collect();
        let gone = self.holdings.extract_if(.., |name, _| !wanted.iter().any(|by| by.policy == *name));
        for (_, holding) in gone.collect::<Vec<_>>() {
            // The policy does not believe us any more, or is about something else.
            holding.svid.iter().for_each(|svid| self.inner.ender.end(svid));
        }
        let (now, unheard) = (Moment::now(self.inner.clock.as_ref()), self.inner.ear.unheard());
        let is_used = self.state.receiver_count() > 1 || !self.waiting.is_empty();
        let mut wait = self.hash_again.map_or(LOOK, |at| at.saturating_duration_since(Instant::now()));
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
                // The rest is asked for as soon as one of these is answered.
                _ if self.under_way.len() >= AT_ONCE => is_settled = false,
                act => {
                    holding.in_flight = true;
                    let instance = holding.svid.as_ref().filter(|_| act == Act::Renew).map(|s| s.instance_id.clone());
                    let wish = holding.wish.take();
                    let whom = (Arc::clone(&self.peer), self.key, Arc::clone(&self.shown));
                    let asking = obtain(Arc::clone(&self.inner), whom, Arc::clone(by), instance, wish);
                    self.under_way.push(Box::pin(async move { Done::Asked(Box::new(asking.await)) }));
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

    fn seen(&mut self, attested: Result<Attested, Unseen>) -> Result<(), Unseen> {
        match attested {
            Ok(attested) if attested.key == self.key => self.shown = Arc::new(self.shown.again(&attested)),
            Ok(_) => return Err(Unseen::Changed),
            Err(Unseen::NotRead) => self.hash_again = Some(Instant::now() + HASH_AGAIN),
            Err(unseen) => return Err(unseen),
        }
        Ok(())
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
        while let Some(done) = self.under_way.next().await {
            if let Done::Asked(asked) = done
                && let (_, Ok(svid)) = *asked
            {
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
    let attested = match inner.attest(&peer).await {
        Ok(attested) if attested.key == key => attested,
        Ok(_) => return (policy, Err(Failed::Unseen(Unseen::Changed))),
        // Perhaps later: it is the same process for all that is known.
        Err(late @ Unseen::NotRead) => {
            let why = NotIssued::Unreached(late.to_string());
            return (policy, Err(Failed::NotIssued(why, before.map(Box::new))));
        }
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
    match inner.issuer.x509(&wish, by, peer.uid()).await {
        Ok(svid) => (policy, Ok(svid)),
        Err(why @ NotIssued::Refused(_)) => (policy, Err(Failed::NotIssued(why, None))),
        Err(why) => (policy, Err(Failed::NotIssued(why, Some(Box::new(wish))))),
    }
}
