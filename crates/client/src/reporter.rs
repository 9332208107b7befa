//! Tells the audit log what was done: kept on disk until the log has it, in order, under a new name after every start.

mod receipt;
mod spool;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use legate_clock::Clock;
use legate_ids::{AgentId, EventId, Principal, SpiffeId};
use legate_mtls::Identity;
use legate_rpc::{Client, Code, Told};
use legate_wire::audit::ingest_service_client::IngestServiceClient;
use legate_wire::audit::{AuditEvent, EventDecision, EventResource, GetReceiptsRequest, Outcome};
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{ClientError, Permit};
pub use receipt::LogKeys;
use receipt::{BadReceipt, Keyring};
use spool::Spool;

/// What the log takes of an agent or an enforcement point at most, in bytes; the number and place of an event are put in later.
const LARGEST: usize = 7 << 10;

/// Events of one request, and their bytes.
const AT_ONCE: usize = 256;
const BYTES: usize = 512 << 10;

/// The wait after a failure doubles from the first to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What was done.
#[must_use = "it is told by Reporter::tell"]
#[derive(Clone, Debug)]
pub struct Done(AuditEvent);

impl Done {
    /// An agent did something to something, and it went well.
    pub fn new(
        agent_id: impl Into<String>,
        action: impl Into<String>,
        resource_type: impl Into<String>,
        resource_id: impl Into<String>,
    ) -> Self {
        Self(AuditEvent {
            r#type: "action.executed".to_owned(),
            agent_id: agent_id.into(),
            action: action.into(),
            resource: Some(EventResource {
                r#type: resource_type.into(),
                id: resource_id.into(),
                ..EventResource::default()
            }),
            outcome: Outcome::Success.into(),
            ..AuditEvent::default()
        })
    }

    /// It was tried, and failed.
    pub fn failed(mut self) -> Self {
        self.0.outcome = Outcome::Failure.into();
        self
    }

    /// On the grounds of this permit: its decision, chain and subject.
    pub fn by(self, permit: &Permit) -> Self {
        let chain = permit.chain().to_vec();
        let subject = permit.subject().unwrap_or_default().to_owned();
        let mut done = self.by_decision(permit.decision_id());
        (done.0.chain, done.0.subject) = (chain, subject);
        done
    }

    /// On the grounds of the decision of this id.
    pub fn by_decision(mut self, decision_id: impl Into<String>) -> Self {
        let decision_id = decision_id.into();
        self.0.decision = Some(EventDecision { decision_id, allowed: true, ..EventDecision::default() });
        self
    }

    /// With the token of this id (`jti`).
    pub fn with_token(mut self, token_id: impl Into<String>) -> Self {
        self.0.details.insert("token_id".to_owned(), token_id.into());
        self
    }

    /// By this running copy of the agent. Who tells of itself need not say it.
    pub fn by_instance(mut self, instance_id: impl Into<String>) -> Self {
        self.0.instance_id = instance_id.into();
        self
    }

    /// From this workload: whatever tells one from another, such as the thumbprint of the certificate of its connection.
    pub fn from_workload(mut self, workload: impl Into<String>) -> Self {
        self.0.details.insert("workload".to_owned(), workload.into());
        self
    }

    /// In this task, as the caller named it.
    pub fn in_task(mut self, correlation_id: impl Into<String>) -> Self {
        self.0.correlation_id = correlation_id.into();
        self
    }
}

/// Why something is not kept for the log.
#[derive(Debug, thiserror::Error)]
pub enum NotTold {
    /// It is not what the log takes.
    #[error("it cannot be told: {0}")]
    Invalid(&'static str),
    /// So much waits that no more is taken.
    #[error("as much waits for the audit log as the bound allows")]
    Full,
    /// The disk does not take it.
    #[error("it cannot be kept: {0}")]
    Disk(#[from] legate_journal::JournalError),
}

/// What [`State::refused`] says while the log's receipts do not show what was told to be in it.
pub const RECEIPT_INVALID: &str = "RECEIPT_INVALID";

/// How the log takes what is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Events that wait.
    pub waiting: u64,
    /// The reason for which the log refuses the first that waits, or [`RECEIPT_INVALID`]: somebody has to look, nothing behind it goes.
    /// Empty: it does not.
    pub refused: String,
}

/// Tells the audit log what an agent did, or what agents did at an enforcement point.
///
/// Each is on the local disk before [`Reporter::tell`] ends. With keys of the log ([`Reporter::open_with_receipts`]) it leaves the disk
/// when a receipt that is verified here shows it in the log's tree; without them, on the log's acknowledgement. One directory is
/// one reporter's.
#[derive(Debug)]
pub struct Reporter {
    spool: Arc<Spool>,
    me: SpiffeId,
    clock: Arc<dyn Clock>,
    state: watch::Receiver<State>,
    shipping: JoinHandle<()>,
}

impl Reporter {
    /// Opens the spool in `dir`, which is made when missing, and ships what waits there. `audit` dials audit-collector as
    /// `identity`, an agent or an enforcement point. `most_bytes` bounds what waits. What the log acknowledges is believed to be in
    /// it: [`Reporter::open_with_receipts`] does not.
    ///
    /// # Errors
    /// When the directory cannot be used, or the identity is nobody's who tells of actions.
    pub async fn open(
        dir: &Path,
        most_bytes: u64,
        identity: &Identity,
        audit: Client,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        Self::begin((dir, most_bytes), identity, audit, clock, None).await
    }

    /// The same, which lets nothing go before it has verified, by the log's public keys, that it is under a checkpoint of the log.
    ///
    /// # Errors
    /// As [`Reporter::open`].
    pub async fn open_with_receipts(
        dir: &Path,
        most_bytes: u64,
        identity: &Identity,
        audit: Client,
        clock: Arc<dyn Clock>,
        keys: LogKeys,
    ) -> Result<Self, ClientError> {
        Self::begin((dir, most_bytes), identity, audit, clock, Some(keys)).await
    }

    async fn begin(
        (dir, most_bytes): (&Path, u64),
        identity: &Identity,
        audit: Client,
        clock: Arc<dyn Clock>,
        keys: Option<LogKeys>,
    ) -> Result<Self, ClientError> {
        let me = identity.spiffe_id().filter(|id| Principal::of(id).is_ok_and(|one| one.is_workload()));
        let me = me.ok_or(ClientError::Setting("a reporter is an agent or an enforcement point"))?;
        let dir = dir.to_owned();
        let opening = tokio::task::spawn_blocking(move || {
            let spool = Spool::open(&dir, most_bytes)?;
            let keys = keys.map(|keys| Keyring::open(keys, &dir.join("rotations"))).transpose()?;
            Ok::<_, std::io::Error>((Arc::new(spool), keys))
        });
        let opened = opening.await.map_err(|_| ClientError::Setting("opening the spool broke off"))?;
        let (spool, keys) = opened.map_err(|e| ClientError::Spool(e.to_string()))?;
        let (tell, state) = watch::channel(State { waiting: spool.waiting(), refused: String::new() });
        let line = Line {
            spool: Arc::clone(&spool),
            me: me.to_string(),
            identity: identity.clone(),
            audit: IngestServiceClient::new(audit),
            keys,
            tell,
            has_begun_anew: false,
        };
        let shipping = tokio::spawn(line.ship_forever());
        Ok(Self { spool, me, clock, state, shipping })
    }

    /// Keeps for the log that something was done.
    ///
    /// # Errors
    /// [`NotTold`]: it is not kept.
    pub async fn tell(&self, done: Done) -> Result<(), NotTold> {
        let mut event = done.0;
        self.complete(&mut event)?;
        // As it is sent: names of persons become commitments, which are longer than short names.
        let sent = legate_personal::split(event.clone(), || [0; 32]).event;
        if sent.encoded_len().max(event.encoded_len()) > LARGEST {
            return Err(NotTold::Invalid("an event has 7 KiB at most"));
        }
        self.spool.keep(event.encode_to_vec()).await
    }

    /// Puts in what the reporter knows, and refuses what the log would: behind one that is refused nothing goes.
    fn complete(&self, event: &mut AuditEvent) -> Result<(), NotTold> {
        let now = self.clock.now();
        let millis = u64::try_from(now.micros() / 1_000).unwrap_or(0);
        event.event_id = EventId::from_parts(millis, rand::random()).to_string();
        event.time = Some(now.into());
        match Principal::of(&self.me) {
            Ok(Principal::Enforcer { namespace, .. }) => event.namespace = namespace.to_string(),
            Ok(Principal::Agent { namespace, id, instance }) => {
                event.namespace = namespace.to_string();
                if event.agent_id != id.as_str() {
                    return Err(NotTold::Invalid("an agent tells of itself"));
                }
                event.instance_id = instance.map(|copy| copy.to_string()).unwrap_or_default();
            }
            _ => return Err(NotTold::Invalid("a reporter is an agent or an enforcement point")),
        }
        if AgentId::parse(&event.agent_id).is_err() {
            return Err(NotTold::Invalid("agent_id is no agent's id"));
        }
        if event.action.is_empty() || event.action.len() > 256 {
            return Err(NotTold::Invalid("an action is 1 to 256 bytes"));
        }
        if event.chain.len() > 16 {
            return Err(NotTold::Invalid("a chain has 16 links at most"));
        }
        Ok(())
    }

    /// How the log takes it, now and later.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Waits until the log has everything that was told so far; whether it has, within that time.
    pub async fn flush(&self, within: Duration) -> bool {
        let mut state = self.state.clone();
        let spool = &self.spool;
        let emptied = state.wait_for(|_| spool.waiting() == 0);
        tokio::time::timeout(within, emptied).await.is_ok_and(|seen| seen.is_ok())
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.shipping.abort();
    }
}

/// What ships.
struct Line {
    spool: Arc<Spool>,
    me: String,
    /// Whose key signs what is told.
    identity: Identity,
    audit: IngestServiceClient<Client>,
    /// By which receipts are verified; none: acknowledgements are believed.
    keys: Option<Keyring>,
    tell: watch::Sender<State>,
    /// Whether what waits was put into a new epoch by what a receipt showed, and no receipt was good since.
    has_begun_anew: bool,
}

impl Line {
    async fn ship_forever(mut self) {
        let mut wait = WAITS.0;
        loop {
            match self.ship().await {
                Ok(true) => wait = WAITS.0,
                Ok(false) => self.spool.grown().await,
                Err(asked) => {
                    tokio::time::sleep(asked.unwrap_or_default().max(wait).min(WAITS.1)).await;
                    wait = (wait * 2).min(WAITS.1);
                }
            }
        }
    }

    /// Offers events, signed by the certificate of now; up to which number the log has them then.
    async fn offer(&mut self, epoch: &str, first_seq: u64, events: &[Bytes]) -> Result<u64, Told> {
        let mut request = legate_personal::request(epoch, first_seq, events, rand::random);
        legate_batch::sign(&mut request, &self.identity);
        let answer = self.audit.append_events(request).await;
        answer.map(|answer| answer.into_inner().acked_seq).map_err(|status| Told::from_status(&status))
    }

    /// Ships some of what waits; `false`: nothing does.
    async fn ship(&mut self) -> Result<bool, Option<Duration>> {
        let spool = Arc::clone(&self.spool);
        let reading = tokio::task::spawn_blocking(move || spool.next(AT_ONCE, BYTES));
        let batch = reading.await.ok().and_then(Result::ok).ok_or(None)?;
        let Some(batch) = batch else { return Ok(false) };
        let number = |(seq, bytes): (u64, Vec<u8>)| {
            let mut event = AuditEvent::decode(bytes.as_slice()).map_err(|_| None::<Duration>)?;
            event.emitter =
                Some(legate_wire::audit::Emitter { spiffe_id: self.me.clone(), epoch: batch.epoch.clone(), seq });
            Ok(event)
        };
        let told: Result<Vec<AuditEvent>, Option<Duration>> =
            (batch.first_seq..).zip(batch.events).map(number).collect();
        let whole = told?;
        let events: Vec<Bytes> = whole.iter().map(|event| Bytes::from(event.encode_to_vec())).collect();
        let mut told = self.offer(&batch.epoch, batch.first_seq, &events).await;
        // A signed batch is taken whole or not at all: what stands before a bad event goes by itself.
        let good = told.as_ref().err().and_then(|told| legate_batch::events_before(&told.metadata));
        if let Some(good) = good.and_then(|good| events.get(..good)) {
            told = self.offer(&batch.epoch, batch.first_seq, good).await;
        }
        let acked = match told {
            Ok(acked) => acked,
            Err(told) if told.reason == legate_batch::EVENTS_DIFFER => return self.begin_anew(batch.epoch).await,
            Err(told) => return Err(self.not_taken(told)),
        };
        let acked = if self.keys.is_some() && !self.spool.is_ahead(&batch.epoch, acked) {
            let shown = acked.min(batch.first_seq + whole.len() as u64 - 1);
            match self.receipts(&batch.epoch, batch.first_seq, shown, &whole).await? {
                Some(shown) => shown,
                None => return self.begin_anew(batch.epoch).await,
            }
        } else {
            acked
        };
        let (spool, epoch) = (Arc::clone(&self.spool), batch.epoch);
        let letting_go = tokio::task::spawn_blocking(move || spool.acked(&epoch, acked));
        letting_go.await.ok().and_then(Result::ok).ok_or(None)?;
        self.tell.send_replace(State { waiting: self.spool.waiting(), refused: String::new() });
        Ok(true)
    }

    /// Puts what waits into a new epoch: of this one the log has other events.
    async fn begin_anew(&self, epoch: String) -> Result<bool, Option<Duration>> {
        tracing::error!("this reporter's directory is an earlier copy; what waits is told in a new epoch");
        let spool = Arc::clone(&self.spool);
        let renaming = tokio::task::spawn_blocking(move || spool.differs(&epoch));
        renaming.await.ok().and_then(Result::ok).ok_or(None)?;
        Ok(true)
    }

    /// Says that what waits is not taken; when it is offered again.
    fn not_taken(&self, told: Told) -> Option<Duration> {
        let passes = matches!(
            told.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Unknown | Code::Cancelled
        );
        if !passes {
            tracing::error!(reason = told.reason, "the audit log refuses what was done: {}", told.message);
        }
        let refused = if passes { String::new() } else { told.reason };
        self.tell.send_replace(State { waiting: self.spool.waiting(), refused });
        told.retry_after
    }

    /// Verifies that what was told from `first` up to `last` is in the log's tree; up to where it is. `None`: another event of ours has
    /// the number of the first, since this machine was set back to an earlier moment. What has an epoch of its own since, and is not
    /// there either, is no such thing: somebody has to look.
    async fn receipts(
        &mut self,
        epoch: &str,
        first: u64,
        last: u64,
        told: &[AuditEvent],
    ) -> Result<Option<u64>, Option<Duration>> {
        let mut next = first;
        while next <= last {
            let count = u32::try_from(last - next + 1).unwrap_or(u32::MAX);
            let request = GetReceiptsRequest { epoch: epoch.to_owned(), first_seq: next, count };
            let answer = match self.audit.get_receipts(request).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => return Err(self.not_taken(Told::from_status(&status))),
            };
            let from = usize::try_from(next - first).unwrap_or(usize::MAX);
            let asked = told.get(from..).and_then(|rest| rest.get(..count as usize)).unwrap_or_default();
            let Some(keys) = &mut self.keys else { break };
            match receipt::verified(&answer, asked, keys) {
                Ok(shown) => {
                    next += shown as u64;
                    self.has_begun_anew = false;
                }
                Err(BadReceipt::Other(_)) if next > first => return Ok(Some(next - 1)),
                Err(BadReceipt::Other(_)) if !std::mem::replace(&mut self.has_begun_anew, true) => return Ok(None),
                Err(bad) => {
                    tracing::error!(error = %bad, "the log's receipt does not show what was told; it is kept");
                    let refused = RECEIPT_INVALID.to_owned();
                    self.tell.send_replace(State { waiting: self.spool.waiting(), refused });
                    return Err(Some(WAITS.1));
                }
            }
        }
        Ok(Some(last))
    }
}
