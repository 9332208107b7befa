//! Collectors that share a log: one leads it, the others stand by with a copy of it, and the next one takes over when the lease is over.

use std::time::Duration;

use legate_boot::StartError;
use legate_mtls::Connections;
use legate_rpc::Health;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lead::{Led, Means, Renewing, log_refused};
use crate::ledger::{Claim, Claimed, Head, Held, Ledger, NotDone};
use crate::log::{Copy, LogError};

/// How often it is looked who leads, and whether the log goes on.
const ROUND: Duration = Duration::from_millis(250);

/// The wait after a log that was refused, since somebody has to look first.
const LATER: Duration = Duration::from_secs(5);

/// How often those who are connected to a collector that stands by are sent away, so that they look for the one that leads.
const SEND_AWAY: Duration = Duration::from_secs(1);

/// The end of a lease is told for so long; after that it ends by itself.
const RELEASE: Duration = Duration::from_secs(2);

/// A directory is waited for so long that whoever still reads in it has ended.
const FREE: Duration = Duration::from_secs(10);

/// One of several that share a log.
#[derive(Debug)]
pub(crate) struct Member {
    means: Means,
    ledger: Ledger,
    /// The copy, while another one leads.
    copy: Option<Copy>,
}

/// Why this collector does not lead, though nobody else does.
#[derive(Debug)]
pub(crate) enum NotLed {
    /// The database does not answer.
    Away(String),
    /// The log is not one that it can lead.
    Refused(StartError),
}

impl From<StartError> for NotLed {
    fn from(refused: StartError) -> Self {
        Self::Refused(refused)
    }
}

impl From<NotLed> for StartError {
    fn from(why: NotLed) -> Self {
        match why {
            NotLed::Away(why) => Self::new("log.commit_log", why),
            NotLed::Refused(refused) => refused,
        }
    }
}

fn away(e: NotDone) -> NotLed {
    match e {
        NotDone::Damaged(why) => NotLed::Refused(log_refused(LogError::Rows(why))),
        e => NotLed::Away(e.to_string()),
    }
}

fn other_key(theirs: String, ours: &[String]) -> NotLed {
    log_refused(LogError::OtherKey { theirs, ours: ours.first().cloned().unwrap_or_default() }).into()
}

/// What leads.
#[derive(Debug)]
pub(crate) struct Reign {
    led: Led,
    held: Held,
    renewing: Renewing,
}

impl Member {
    /// Of the log in the database of the configuration.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn new(means: Means) -> Result<Self, StartError> {
        let opened = Ledger::open(&means.config.database(), &means.config.origin()).await;
        let ledger = opened.map_err(|e| StartError::new("log.commit_log", e))?;
        Ok(Self { means, ledger, copy: None })
    }

    /// Looks who leads, brings the copy up to date, and takes the lead where it is to be had.
    ///
    /// # Errors
    /// When the log is not one that this collector can lead.
    pub(crate) async fn try_to_lead(&mut self) -> Result<Option<Reign>, NotLed> {
        let found = self.ledger.look().await.map_err(away)?;
        let mut copy = match self.copy.take() {
            Some(copy) => copy,
            None => self.open_copy(found.is_none()).await?,
        };
        let mut named = None;
        if let Some(found) = found {
            let ours = copy.verifier_keys();
            if !ours.contains(&found.verifier_key) {
                return Err(other_key(found.verifier_key, &ours));
            }
            named = Some(found.verifier_key);
            let follows = found.leader.left > Duration::ZERO && found.leader.holder != copy.holder();
            if self.means.seat.note_leader(found.leader.clone()) && follows {
                tracing::info!(leader = found.leader.address, epoch = found.leader.epoch, "stands by");
            }
            match copy.pull().await {
                Ok(()) => {}
                Err(LogError::Rows(why)) => {
                    // What was held against the tree need not be so again.
                    self.copy = Some(copy);
                    return Err(NotLed::Away(why));
                }
                Err(refused) => return Err(log_refused(refused).into()),
            }
            if follows {
                self.copy = Some(copy);
                return Ok(None);
            }
        }
        let ours = copy.verifier_keys();
        // The lease names the key that signed last. Where another one is to follow on it, that is done by whoever leads.
        let named = named.or_else(|| ours.first().cloned()).unwrap_or_default();
        let claim = Claim {
            holder: copy.holder().to_owned(),
            address: self.means.config.address(),
            verifier_key: named,
            ttl: Duration::from_secs(self.means.config.log.lease_s),
        };
        match self.ledger.claim(&claim).await.map_err(away)? {
            Claimed::Follow(leader) => {
                self.means.seat.note_leader(leader);
                self.copy = Some(copy);
                Ok(None)
            }
            Claimed::OtherKey(theirs) => Err(other_key(theirs, &ours)),
            Claimed::Lead(held, head) => Ok(Some(Box::pin(self.lead(copy, held, head)).await?)),
        }
    }

    async fn open_copy(&self, may_make: bool) -> Result<Copy, StartError> {
        let (files, ledger, origin) = (self.means.files(), self.ledger.clone(), self.means.config.origin());
        let segment_bytes = self.means.config.log.segment_bytes;
        let opening = tokio::task::spawn_blocking(move || Copy::open(files, ledger, &origin, segment_bytes, may_make));
        opening.await.map_err(|e| log_refused(LogError::Broken(e.to_string())))?.map_err(log_refused)
    }

    async fn lead(&self, copy: Copy, held: Held, head: Head) -> Result<Reign, StartError> {
        tracing::info!(epoch = held.epoch(), leaves = head.size, "the lease of the log is taken");
        let renewing = Renewing::of(&held);
        let opening = async {
            let ground = copy.complete(held.clone(), head).await.map_err(log_refused)?;
            self.means.open(Some(ground)).await
        };
        match opening.await {
            Ok(led) => {
                self.means.metrics.epoch.set(i64::try_from(held.epoch()).unwrap_or(i64::MAX));
                Ok(Reign { led, held, renewing })
            }
            Err(refused) => {
                drop(renewing);
                // Another one may be able to; where this is lost as well, the lease ends by itself.
                let _released = held.release().await;
                Err(refused)
            }
        }
    }

    /// Gives back what was taken, where nothing comes of it.
    pub(crate) async fn give_up(self, reign: Option<Reign>) {
        if let Some(reign) = reign {
            resign(reign).await;
        }
        self.ledger.close().await;
    }

    /// Leads or stands by until it is told to stop. `stopping` is told before that, to those who follow the log.
    pub(crate) async fn serve(
        mut self,
        mut first: Option<Reign>,
        health: Health,
        connections: Connections,
        stopping: CancellationToken,
        stop: CancellationToken,
    ) {
        loop {
            let reign = match first.take() {
                Some(reign) => reign,
                None => match self.stand_by(&health, &connections, &stop).await {
                    Some(reign) => reign,
                    None => break,
                },
            };
            self.reign(reign, &health, stopping.child_token(), &stop).await;
            if stop.is_cancelled() {
                break;
            }
        }
        self.ledger.close().await;
    }

    /// Notes why this collector cannot lead; what is new is told.
    fn note(&self, why: String) {
        if self.means.seat.note_trouble(Some(why.clone())) {
            tracing::error!(why, "this collector cannot lead the log; it is tried again");
        }
    }

    async fn stand_by(
        &mut self,
        health: &Health,
        connections: &Connections,
        stop: &CancellationToken,
    ) -> Option<Reign> {
        health.set_serving("", false).await;
        self.means.metrics.stands_by();
        let mut sent_away = Instant::now();
        while !stop.is_cancelled() {
            let mut pause = ROUND;
            match self.try_to_lead().await {
                Ok(Some(reign)) => return Some(reign),
                Ok(None) => {
                    self.means.seat.note_trouble(None);
                }
                Err(NotLed::Away(why)) => self.note(why),
                Err(NotLed::Refused(refused)) => {
                    self.note(refused.to_string());
                    pause = LATER;
                }
            }
            if sent_away.elapsed() > SEND_AWAY {
                connections.cut(|_| true);
                sent_away = Instant::now();
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        None
    }

    /// Leads until the lease is lost, the log stops, or it is told to stop.
    async fn reign(&self, reign: Reign, health: &Health, following: CancellationToken, stop: &CancellationToken) {
        let Reign { mut led, held, renewing } = reign;
        self.means.metrics.leads.set(1);
        led.work(&self.means, following.clone(), health.clone());
        while !stop.is_cancelled() && !held.lost().is_cancelled() && led.why_stopped().is_none() {
            tokio::select! {
                () = tokio::time::sleep(ROUND) => {}
                () = held.lost().cancelled() => {}
                () = stop.cancelled() => {}
            }
        }
        if !stop.is_cancelled() {
            let why = led.why_stopped().unwrap_or_else(|| "the lease is lost".to_owned());
            tracing::warn!(why, epoch = held.epoch(), "this collector leads the log no more");
        }
        health.set_serving("", false).await;
        following.cancel();
        let free = led.free();
        resign(Reign { led, held, renewing }).await;
        if tokio::time::timeout(FREE, free).await.is_err() {
            tracing::warn!("somebody still reads in the log's directory");
        }
    }
}

/// Ends the log, then the lease, so that another one need not wait for it.
async fn resign(reign: Reign) {
    let Reign { led, held, renewing } = reign;
    led.hand_over().await;
    drop(renewing);
    if !held.lost().is_cancelled() {
        let _released = tokio::time::timeout(RELEASE, held.release()).await;
    }
}
