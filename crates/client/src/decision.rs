//! Decisions for backends: asked over streams to one or several replicas of policy-decision, within a deadline, and never cached.

mod decided;
mod line;
mod question;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use legate_mtls::{Identity, Trust};
use legate_rpc::{Client, Told};
use legate_wire::policy as wire;
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use decided::{Decided, Denied, NotAllowed, Permit, Undecided, Why};
pub use question::Question;

use crate::{ClientError, Remote};
use line::{Failed, Line};

/// The deadline where none is chosen.
const DEADLINE: Duration = Duration::from_millis(500);
/// The least and the most that can be chosen: no answer is believed that is older than 5 s.
const DEADLINES: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);
/// How often identity files are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How often one question is asked at most.
const TRIES: usize = 4;
/// Within which it is said what somebody may do.
const SAYING: Duration = Duration::from_secs(5);
/// A try with less time is not begun: policy-decision would refuse it.
const LEAST: Duration = Duration::from_millis(60);

/// Asks policy-decision. Cheap to clone; the streams end with the last clone.
///
/// Whatever goes wrong, the answer is [`Decided::Undecided`] within the deadline: a permit comes from an ALLOW and from nothing else.
#[derive(Clone)]
pub struct Decision(Arc<Inner>);

struct Inner {
    lines: Vec<Arc<Line>>,
    /// One to each replica.
    clients: Vec<Client>,
    deadline: Duration,
    turn: AtomicUsize,
    opened: watch::Receiver<u64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = self.0.lines.iter().map(|line| &line.endpoint).collect();
        f.debug_struct("Decision").field("replicas", &endpoints).field("deadline", &self.0.deadline).finish()
    }
}

/// How [`Decision`] is set up.
#[derive(Clone, Debug)]
pub struct Builder {
    endpoints: Vec<String>,
    trust: Trust,
    identity: Identity,
    deadline: Duration,
    streams: usize,
}

impl Decision {
    /// Of one replica or several, each `https://HOST:PORT`, as the enforcement point of `identity`.
    pub fn builder<T: Into<String>>(
        endpoints: impl IntoIterator<Item = T>,
        identity: Identity,
        trust: Trust,
    ) -> Builder {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        Builder { endpoints, trust, identity, deadline: DEADLINE, streams: 1 }
    }

    /// The same with the certificate and key of files, which are read again when they change.
    ///
    /// # Errors
    /// When they cannot be read, or do not fit together.
    pub fn builder_from_files<T: Into<String>>(
        endpoints: impl IntoIterator<Item = T>,
        cert: &Path,
        key: &Path,
        trust: Trust,
    ) -> Result<Builder, ClientError> {
        Ok(Self::builder(endpoints, Identity::from_files(cert, key)?, trust))
    }

    /// Asks, and has an answer within the deadline.
    ///
    /// A replica that is lost, late or cannot decide is passed over for another while there is time. Nothing is kept: the next question is
    /// asked anew.
    pub async fn ask(&self, question: Question) -> Decided {
        let asked = Instant::now();
        let give_up = asked + self.0.deadline;
        let mut opened = self.0.opened.clone();
        let mut tried = Vec::new();
        let mut last = Undecided::unreachable("no policy-decision is reached");
        for _ in 0..TRIES {
            opened.mark_unchanged();
            let Some((n, others)) = self.pick(&tried) else {
                if let Some(told) =
                    self.0.lines.iter().find_map(|line| line.why()).filter(|told| !told.reason.is_empty())
                {
                    last = Undecided::told(&told);
                }
                // A replica that answered that it cannot decide is not waited for.
                if !tried.is_empty() && last.why == Why::NotAble {
                    break;
                }
                match tokio::time::timeout_at(give_up, opened.changed()).await {
                    Ok(Ok(())) => {
                        tried.clear();
                        continue;
                    }
                    _ => break,
                }
            };
            let left = give_up.saturating_duration_since(Instant::now());
            if left < LEAST {
                break;
            }
            let until = if others && left / 2 >= LEAST { Instant::now() + left / 2 } else { give_up };
            let said = self.0.lines[n].ask(question.0.clone(), until).await;
            last = match said {
                Ok(answer) => match Decided::of(answer, question.0.at_least_revision, asked.elapsed()) {
                    Decided::Undecided(why) => why,
                    decided => return decided,
                },
                // Once it is open again it may be asked again.
                Err(Failed::Lost) => {
                    last = Undecided::unreachable("policy-decision was lost before it answered");
                    continue;
                }
                Err(Failed::Late) => Undecided::late(),
                Err(Failed::Told(told)) => Undecided::told(&told),
            };
            if !last.may_pass() {
                break;
            }
            tried.push(n);
        }
        Decided::Undecided(last)
    }

    /// What the holder of a token may do; nothing is decided by it. Each replica is asked once, within 5 s in all.
    pub(crate) async fn what_can(&self, subject: wire::Subject) -> Result<wire::WhatCanResponse, Undecided> {
        let asked = Instant::now();
        let mut last = Undecided::unreachable("no policy-decision is reached");
        let first = self.0.turn.fetch_add(1, Ordering::Relaxed);
        for n in 0..self.0.clients.len() {
            let left = SAYING.saturating_sub(asked.elapsed());
            if left < LEAST {
                return Err(Undecided::late());
            }
            let client = self.0.clients[first.wrapping_add(n) % self.0.clients.len()].clone();
            let mut request =
                tonic::Request::new(wire::WhatCanRequest { subject: Some(subject.clone()), ..Default::default() });
            request.set_timeout(left);
            let said = tokio::time::timeout(left, DecisionServiceClient::new(client).what_can(request)).await;
            last = match said {
                Ok(Ok(answer)) => match decided::is_fresh(answer.get_ref().view_age.as_ref(), asked.elapsed()) {
                    true => return Ok(answer.into_inner()),
                    false => Undecided::stale(),
                },
                Ok(Err(status)) => Undecided::told(&Told::from_status(&status)),
                Err(_) => Undecided::late(),
            };
            if !last.may_pass() {
                break;
            }
        }
        Err(last)
    }

    /// The next line that is open and was not tried, rather one that answers; and whether there are others.
    fn pick(&self, tried: &[usize]) -> Option<(usize, bool)> {
        let lines = &self.0.lines;
        let first = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let open = (0..lines.len()).map(|n| (first.wrapping_add(n)) % lines.len());
        let open: Vec<usize> = open.filter(|n| !tried.contains(n) && lines[*n].is_open()).collect();
        let good = open.iter().find(|n| !lines[**n].is_suspect());
        let n = *good.or(open.first())?;
        let others = open.iter().any(|other| lines[*other].endpoint != lines[n].endpoint);
        Some((n, others))
    }

    /// Until a stream to some replica is open, or `patience` is over; whether one is.
    pub async fn ready(&self, patience: Duration) -> bool {
        let mut opened = self.0.opened.clone();
        let lines = &self.0.lines;
        let open = async {
            while !lines.iter().any(|line| line.is_open()) {
                if opened.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(patience, open).await.is_ok()
    }
}

impl Builder {
    /// Within which every question is answered: 100 ms to 5 s; 500 ms where this is not called.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Streams to each replica, 1 to 16; 1 where this is not called. One carries some 512 questions at once.
    #[must_use]
    pub fn streams(mut self, streams: usize) -> Self {
        self.streams = streams;
        self
    }

    /// Begins to dial, in the background; the first question may wait for it.
    ///
    /// # Errors
    /// When an address is not `https://HOST:PORT`, there is none, or a value is out of its range.
    pub fn build(self) -> Result<Decision, ClientError> {
        if !DEADLINES.contains(&self.deadline) {
            return Err(ClientError::Setting("the deadline is 100 ms to 5 s"));
        }
        if !(1..=16).contains(&self.streams) {
            return Err(ClientError::Setting("there are 1 to 16 streams to a replica"));
        }
        if !(1..=64).contains(&self.endpoints.len()) {
            return Err(ClientError::Setting("there are 1 to 64 replicas"));
        }
        let (tell, opened) = watch::channel(0);
        let mut clients = Vec::new();
        let (mut lines, mut tasks) = (Vec::new(), vec![self.identity.watch(LOOK), self.trust.watch(LOOK)]);
        // One stream to each replica first, so that two neighbours are not the same one.
        for round in 0..self.streams {
            for endpoint in &self.endpoints {
                let remote =
                    Remote { endpoint: endpoint.clone(), trust: self.trust.clone(), service: "policy-decision" };
                let line = Line::new(endpoint.clone(), tell.clone());
                let client = remote.dial(self.identity.clone())?;
                if round == 0 {
                    clients.push(client.clone());
                }
                tasks.push(tokio::spawn(Arc::clone(&line).keep(client)));
                lines.push(line);
            }
        }
        let inner = Inner { lines, clients, deadline: self.deadline, turn: AtomicUsize::new(0), opened, tasks };
        Ok(Decision(Arc::new(inner)))
    }
}
