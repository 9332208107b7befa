//! The line to one replica: a stream that is opened again whenever it ends, and the questions under way on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use legate_rpc::{Client, Told};
use legate_wire::policy as wire;
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::evaluate_stream_response::Outcome;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tonic::Streaming;

/// Questions that wait for the transport.
const WAITING: usize = 256;
/// The first wait before a stream is opened again is at most this; each later one may be twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A replica that let a question wait in vain is asked last for so long.
const SUSPECT: Duration = Duration::from_secs(1);
/// A stream that lived for so long was a good one: the waits begin anew.
const GOOD: Duration = Duration::from_secs(5);

/// Questions under way by name; none once the stream has ended.
type Pending = Mutex<Option<HashMap<u64, oneshot::Sender<Outcome>>>>;

/// An open stream.
#[derive(Debug)]
struct Wire {
    requests: mpsc::Sender<wire::EvaluateStreamRequest>,
    pending: Pending,
}

/// What a line could not do.
#[derive(Debug)]
pub(super) enum Failed {
    /// There is no stream, or it ended before the answer.
    Lost,
    /// The time was over.
    Late,
    /// policy-decision refused the question.
    Told(Told),
}

/// The line to one replica.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) endpoint: String,
    wire: Mutex<Option<Arc<Wire>>>,
    next: AtomicU64,
    suspect_until: Mutex<Option<Instant>>,
    /// Why there is no stream.
    why: Mutex<Option<Told>>,
    /// Raised whenever a stream of any line opens.
    opened: watch::Sender<u64>,
}

/// A question under way; forgotten when nobody waits any more.
struct UnderWay<'a> {
    wire: &'a Wire,
    id: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(pending) = self.wire.pending.lock().as_mut() {
            pending.remove(&self.id);
        }
    }
}

impl Line {
    pub(super) fn new(endpoint: String, opened: watch::Sender<u64>) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            wire: Mutex::default(),
            next: AtomicU64::new(1),
            suspect_until: Mutex::default(),
            why: Mutex::default(),
            opened,
        })
    }

    /// Whether it has a stream now.
    pub(super) fn is_open(&self) -> bool {
        self.wire.lock().is_some()
    }

    /// Whether it let somebody wait in vain a moment ago.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect_until.lock().is_some_and(|until| Instant::now() < until)
    }

    /// Why there is no stream, as the replica told it.
    pub(super) fn why(&self) -> Option<Told> {
        self.why.lock().clone()
    }

    /// Asks, and waits until `give_up`.
    pub(super) async fn ask(
        &self,
        question: wire::EvaluateRequest,
        give_up: Instant,
    ) -> Result<wire::EvaluateResponse, Failed> {
        let wire = self.wire.lock().clone().ok_or(Failed::Lost)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        wire.pending.lock().as_mut().ok_or(Failed::Lost)?.insert(id, tell);
        let _under_way = UnderWay { wire: &wire, id };
        let left = give_up.saturating_duration_since(Instant::now());
        let timeout = left.try_into().ok();
        let item = wire::EvaluateStreamRequest { item_id: id, question: Some(question), timeout };
        let asking = async {
            if let Err(mpsc::error::TrySendError::Full(item)) = wire.requests.try_send(item) {
                let _gone = wire.requests.send(item).await;
            }
            told.await.map_err(|_| Failed::Lost)
        };
        let outcome = tokio::time::timeout_at(give_up, asking).await;
        let Ok(outcome) = outcome else {
            *self.suspect_until.lock() = Some(Instant::now() + SUSPECT);
            return Err(Failed::Late);
        };
        match outcome? {
            // The process may have been stopped while the answer lay here.
            _ if Instant::now() > give_up => Err(Failed::Late),
            Outcome::Answer(answer) => Ok(answer),
            Outcome::Error(error) => {
                let encoded = error.encode_to_vec();
                Err(Failed::Told(Told::from_item(error.code, &error.message, encoded)))
            }
        }
    }

    /// Keeps a stream open for as long as the task is let run.
    pub(super) async fn keep(self: Arc<Self>, client: Client) {
        let mut longest = FIRST_WAIT;
        loop {
            let (requests, items) = mpsc::channel(WAITING);
            let items = futures_util::stream::unfold(items, |mut items| async {
                let item = items.recv().await?;
                Some((item, items))
            });
            let began = Instant::now();
            match DecisionServiceClient::new(client.clone()).evaluate_stream(items).await {
                Ok(answers) => {
                    let pending = Mutex::new(Some(HashMap::new()));
                    let wire = Arc::new(Wire { requests, pending });
                    *self.why.lock() = None;
                    *self.wire.lock() = Some(Arc::clone(&wire));
                    self.opened.send_modify(|n| *n += 1);
                    let end = listen(&wire, answers.into_inner()).await;
                    *self.wire.lock() = None;
                    // Everybody who waits learns that the stream is lost.
                    drop(wire.pending.lock().take());
                    *self.why.lock() = end;
                }
                Err(status) => *self.why.lock() = Some(Told::from_status(&status)),
            }
            if began.elapsed() >= GOOD {
                longest = FIRST_WAIT;
            }
            let why = self.why();
            let reason = why.as_ref().map_or("", |told| told.reason.as_str());
            tracing::debug!(endpoint = self.endpoint, reason, "a stream of questions has ended and is opened again");
            tokio::time::sleep(longest.mul_f64(rand::random::<f64>())).await;
            longest = (longest * 2).min(LONGEST_WAIT);
        }
    }
}

/// Hands answers to those who wait for them, until the stream ends; why it did.
async fn listen(wire: &Wire, mut answers: Streaming<wire::EvaluateStreamResponse>) -> Option<Told> {
    loop {
        match answers.message().await {
            Ok(Some(said)) => {
                let waiting = wire.pending.lock().as_mut().and_then(|pending| pending.remove(&said.item_id));
                // Whoever does not wait any more has denied already; without an outcome it is as if lost.
                if let (Some(waiting), Some(outcome)) = (waiting, said.outcome) {
                    let _gone = waiting.send(outcome);
                }
            }
            Ok(None) => return None,
            Err(status) => return Some(Told::from_status(&status)),
        }
    }
}
