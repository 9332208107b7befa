//! What is done by the collector that leads the log, and by nobody else: it opens the log, sits down at the desk, and works.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use legate_boot::{Context, StartError};
use legate_ids::{Name, SpiffeId};
use legate_mtls::Trust;
use legate_rpc::Health;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::domain::quota::{Limits, Quotas};
use crate::flow::reads::Reads;
use crate::flow::sums::Telling;
use crate::flow::tail::Tails;
use crate::flow::{self, Desk};
use crate::freshness::Freshness;
use crate::index::Index;
use crate::ledger::Held;
use crate::log::{Files, Ground, Log, LogError, LogTasks, Setup};
use crate::metrics::Metrics;
use crate::personal;
use crate::seat::Seat;
use crate::tiles::Depot;
use crate::watchman::{self, IndexWatch};
use crate::webhook::{Target, Webhook};
use crate::witness::{self, Chosen, Cosigned};

/// At the end the index may take so long to come to the end of the log; the rest is made at the next start.
const LAST_STEPS: Duration = Duration::from_secs(3);

/// What it takes to lead, every time.
#[derive(Clone, Debug)]
pub(crate) struct Means {
    pub(crate) config: Config,
    pub(crate) ctx: Context,
    pub(crate) me: SpiffeId,
    pub(crate) trust: Trust,
    pub(crate) auditors: BTreeSet<Name>,
    pub(crate) metrics: Metrics,
    pub(crate) index: Index,
    pub(crate) index_watch: IndexWatch,
    pub(crate) seat: Seat,
}

/// A log that is open, and a desk at it.
#[derive(Debug)]
pub(crate) struct Led {
    desk: Arc<Desk>,
    tasks: LogTasks,
    asking: Option<JoinHandle<()>>,
    webhook: Option<Webhook>,
    depot: Option<Depot>,
    index: Index,
    seat: Seat,
    at_work: Vec<JoinHandle<()>>,
    following: Option<JoinHandle<()>>,
    telling: Option<Telling>,
}

impl Means {
    /// Opens the log, and takes the seat. With `ground` the log's truth is in rows, and the lease ours.
    ///
    /// # Errors
    /// When the log is refused, or what witnesses cosigned of it.
    pub(crate) async fn open(&self, ground: Option<Ground>) -> Result<Led, StartError> {
        let (config, ctx) = (&self.config, &self.ctx);
        let refused = |e: crate::config::BadConfig| StartError::new("the configuration is refused", e);
        let target = Target::of(&config.webhook).map_err(refused)?;
        let held = ground.as_ref().map(|ground| ground.held().clone());
        let webhook =
            target.map(|target| Webhook::new(target, &config.dir, held, Arc::clone(&ctx.clock))).transpose()?;
        let chosen = Chosen::of(&config.witness, Arc::clone(&ctx.clock)).map_err(refused)?;
        let depot = Depot::of(&config.tiles, Arc::clone(&ctx.clock)).map_err(refused)?;
        let (log, tasks) = self.open_log(ground).await?;
        let (cosigned, asking) = match self.ask_witnesses(chosen, &log).await {
            Ok(started) => started,
            Err(error) => {
                tasks.close().await;
                return Err(error);
            }
        };
        let desk = Arc::new(Desk {
            log,
            index: self.index.clone(),
            fresh: Freshness::default(),
            auditors: self.auditors.clone(),
            clock: Arc::clone(&ctx.clock),
            reads: Reads::new(config.log.record_reads),
            trust: self.trust.clone(),
            refusals: Default::default(),
            tails: Tails::for_people(),
            feeds: Tails::for_services(),
            quotas: Mutex::new(Quotas::new(Limits::WORKLOAD)),
            service_quotas: Mutex::new(Quotas::new(Limits::service(config.log.service_events_per_second))),
            receipts: Mutex::new(Quotas::new(Limits::RECEIPTS)),
            lines: Default::default(),
            changing: Default::default(),
            metrics: self.metrics.clone(),
            cosigned,
            custody: tokio::sync::Mutex::default(),
            stopping: OnceLock::new(),
        });
        self.seat.take(Arc::clone(&desk));
        let (index, seat) = (self.index.clone(), self.seat.clone());
        let (at_work, following, telling) = (Vec::new(), None, None);
        Ok(Led { desk, tasks, asking, webhook, depot, index, seat, at_work, following, telling })
    }

    async fn open_log(&self, ground: Option<Ground>) -> Result<(Log, LogTasks), StartError> {
        let config = &self.config;
        let setup = Setup {
            dir: config.dir.clone(),
            origin: config.origin(),
            me: self.me.to_string(),
            segment_bytes: config.log.segment_bytes,
            waiting_bytes: usize::try_from(config.log.waiting_bytes).unwrap_or(usize::MAX),
            checkpoint_every: config.log.checkpoint_every(),
            personal: personal::Setup {
                dir: config.personal.dir.clone(),
                kek: config.personal.kek.clone(),
                segment_bytes: config.log.segment_bytes,
                retention: config.personal.rules(),
            },
            clock: Arc::clone(&self.ctx.clock),
            metrics: self.metrics.clone(),
        };
        let started = self.ctx.clock.monotonic();
        let (log, tasks, found) = Log::open(setup, ground).await.map_err(log_refused)?;
        let took_ms = self.ctx.clock.monotonic().saturating_sub(started).as_millis();
        tracing::info!(
            leaves = found.leaves,
            torn_bytes = found.torn_bytes,
            clean = found.is_clean,
            took_ms,
            "the log is good"
        );
        Ok((log, tasks))
    }

    /// Has witnesses asked, where the configuration chooses some.
    async fn ask_witnesses(
        &self,
        chosen: Option<Chosen>,
        log: &Log,
    ) -> Result<(Cosigned, Option<JoinHandle<()>>), StartError> {
        let Some(chosen) = chosen else { return Ok((Cosigned::by_nobody(), None)) };
        let (log, clock, metrics) = (log.clone(), Arc::clone(&self.ctx.clock), self.metrics.clone());
        let started = witness::start(witness::Setup { chosen, log, clock, metrics }).await;
        let (cosigned, asking) = started.map_err(|e| StartError::new("the log is refused", e))?;
        Ok((cosigned, Some(asking)))
    }

    /// The files of the log's directory.
    pub(crate) fn files(&self) -> Files {
        Files::new(&self.config.dir)
    }
}

/// The log is not opened.
pub(crate) fn log_refused(e: LogError) -> StartError {
    StartError::new("the log is refused", e)
}

impl Led {
    /// Begins everything that is done beside answering. `stopping` ends what callers follow.
    pub(crate) fn work(&mut self, means: &Means, stopping: CancellationToken, health: Health) {
        let desk = || Arc::clone(&self.desk);
        // Nobody set it before: the desk is new.
        let _ = self.desk.stopping.set(stopping);
        self.following = Some(tokio::spawn(self.index.clone().follow(self.desk.log.clone())));
        let refusals = Arc::clone(&means.ctx.refusals);
        self.telling = Some(Telling::begin(desk()));
        let rounds = watchman::watch(desk(), means.index_watch.clone(), means.metrics.clone(), health);
        self.at_work = vec![
            tokio::spawn(rounds),
            tokio::spawn(flow::refused::record_forever(desk(), refusals)),
            tokio::spawn(flow::retain::retain_forever(desk())),
            tokio::spawn(flow::raise::raise_forever(desk())),
        ];
        let sending = self.webhook.take().map(|webhook| tokio::spawn(webhook.send_forever(desk())));
        let storing = self.depot.take().map(|depot| {
            let (log, clock) = (self.desk.log.clone(), Arc::clone(&means.ctx.clock));
            tokio::spawn(depot.keep_up_forever(log, means.metrics.clone(), clock))
        });
        self.at_work.extend(sending.into_iter().chain(storing));
    }

    /// Why nothing more is appended, if so.
    pub(crate) fn why_stopped(&self) -> Option<String> {
        self.desk.log.why_stopped().map(str::to_owned)
    }

    /// Ends once nobody holds the log any more: its directory is free for the next start from then on.
    pub(crate) fn free(&self) -> impl Future<Output = ()> + Send + use<> {
        self.tasks.free()
    }

    /// Leaves everything to another one, who goes on with the index where it is.
    pub(crate) async fn hand_over(mut self) {
        if let Some(following) = self.following.take() {
            following.abort();
            // It was broken off, as it was told.
            let _ended = following.await;
        }
        self.close().await.await;
    }

    /// Leaves the seat and ends the log; what ends the index then.
    pub(crate) async fn close(self) -> impl Future<Output = ()> + Send {
        self.at_work.iter().chain(&self.asking).for_each(JoinHandle::abort);
        self.seat.leave();
        if let Some(telling) = self.telling {
            telling.end().await;
        }
        self.tasks.close().await;
        drop(self.desk);
        end_index(self.index, self.following)
    }
}

/// The index ends by itself once it holds what the last checkpoint covers; one that hangs is left.
async fn end_index(index: Index, following: Option<JoinHandle<()>>) {
    if let Some(mut following) = following
        && tokio::time::timeout(LAST_STEPS, &mut following).await.is_err()
    {
        following.abort();
    }
    index.close().await;
}

/// Prolongs a lease for as long as this lives.
#[derive(Debug)]
pub(crate) struct Renewing(JoinHandle<()>);

impl Renewing {
    pub(crate) fn of(held: &Held) -> Self {
        Self(tokio::spawn(held.clone().renew_forever()))
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}
