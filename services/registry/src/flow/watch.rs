//! A service above follows the registry: the state, then every change in order, and an answer to each ping.

mod pieces;

use std::sync::Arc;
use std::time::Duration;

use legate_mtls::Peer;
use legate_rpc::{Fault, OVERLOADED};
use legate_wire::registry::watch_request::Ask;
use legate_wire::registry::watch_response::News;
use legate_wire::registry::{RevisionChanges, WatchPong, WatchRequest, WatchResponse};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use pieces::{Page, Pages, Piece};

use super::Desk;
use super::followers::Caller;
use super::tail::Later;
use crate::error::{FEED_STOPPING, of_tx};
use crate::store::change::{self, Since};
use crate::store::revision;

/// Bytes of one revision's changes: a watcher takes messages up to a bound, and one that it refuses would come again
/// with every new stream. A revision that is larger (many objects that end at once) reaches it as a snapshot.
const MOST_BYTES: usize = 24 << 20;
/// Further behind than this, a snapshot is less than the changes.
const MOST_CHANGES: u64 = 20_000;
/// The first word has to come within this.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// A watcher that takes nothing for so long is given up.
const STUCK: Duration = Duration::from_secs(10);
/// Messages that wait for one watcher; one of several MiB stands for as many.
pub(crate) const WAITING: usize = 16;

/// Where news for one watcher goes.
pub(crate) type Out = mpsc::Sender<Result<WatchResponse, Status>>;

/// Why a stream ends.
enum End {
    /// The watcher is gone.
    Gone,
    /// The watcher is told why.
    Told(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Told(fault)
    }
}

/// Serves one watcher until it leaves, is stuck, breaks the rules, or the service stops.
pub(crate) async fn serve(desk: Arc<Desk>, peer: Arc<Peer>, mut asks: Streaming<WatchRequest>, out: Out) {
    desk.metrics.watchers(1);
    if let Err(End::Told(fault)) = follow(&desk, &peer, &mut asks, &out).await {
        tracing::info!(reason = fault.reason(), "a watcher's stream ends");
        drop(tokio::time::timeout(STUCK, out.send(Err(fault.into()))).await);
    }
    desk.metrics.watchers(-1);
}

async fn follow(desk: &Desk, peer: &Peer, asks: &mut Streaming<WatchRequest>, out: &Out) -> Result<(), End> {
    let stopping = desk.stopping.get().cloned().unwrap_or_default();
    let first = tokio::time::timeout(FIRST_WORD, asks.message()).await;
    let from = match first {
        Ok(Ok(Some(WatchRequest { ask: Some(Ask::Start(start)) }))) => start,
        Ok(Ok(None) | Err(_)) => return Err(End::Gone),
        Ok(Ok(Some(_))) | Err(_) => return Err(Fault::invalid("ask", "the first message is `start`").into()),
    };
    let mut news = desk.tail.watch();
    let caller = Caller::of(peer, &from.replica)?;
    desk.followers.heard(&caller, None, &*desk.clock);
    let mut line = Line { desk, out, sent: from.from_revision, shared_from: from.from_revision };
    line.begin(&from.history).await?;
    loop {
        tokio::select! {
            () = stopping.cancelled() => {
                let again = Duration::from_millis(500);
                return Err(Fault::unavailable(&FEED_STOPPING, "the registry is stopping", again).into());
            }
            () = out.closed() => return Err(End::Gone),
            changed = news.changed() => {
                if changed.is_err() {
                    return Err(End::Gone);
                }
                line.catch_up().await?;
            }
            ask = asks.message() => match ask {
                Ok(Some(WatchRequest { ask: Some(Ask::Ping(ping)) })) => {
                    desk.followers.heard(&caller, line.is_ours(ping.revision), &*desk.clock);
                    // What was committed before the ping came is sent before its answer.
                    desk.tail.refresh(&desk.db).await?;
                    line.catch_up().await?;
                    let revision = line.sent;
                    line.say(News::Pong(WatchPong { nonce: ping.nonce, revision })).await?;
                }
                Ok(Some(_)) => return Err(Fault::invalid("ask", "after `start` only pings are sent").into()),
                Ok(None) | Err(_) => return Err(End::Gone),
            },
        }
    }
}

/// What one watcher was sent.
struct Line<'a> {
    desk: &'a Desk,
    out: &'a Out,
    sent: u64,
    /// From this revision on what the watcher can hold came from here: before, it may have lived through other changes.
    shared_from: u64,
}

impl Line<'_> {
    /// The revision that the watcher says it holds, where that can only be this registry's: one that was restored from a copy gives
    /// numbers again that a watcher may hold from before.
    fn is_ours(&self, revision: u64) -> Option<u64> {
        (revision > 0 && (self.shared_from..=self.sent).contains(&revision)).then_some(revision)
    }

    async fn say(&self, news: News) -> Result<(), End> {
        let said = WatchResponse { news: Some(news) };
        // So that what waits for a slow watcher is bounded in bytes too.
        let weight = (said.encoded_len() >> 20).clamp(1, WAITING);
        match tokio::time::timeout(STUCK, self.out.reserve_many(weight)).await {
            Ok(Ok(mut places)) => {
                places.next().ok_or(End::Gone)?.send(Ok(said));
                Ok(())
            }
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => {
                let text = "the watcher took nothing for 10 s";
                Err(Fault::unavailable(&OVERLOADED, text, Duration::from_secs(1)).into())
            }
        }
    }

    /// Changes since the watcher's revision where they are few and it has lived through the same ones, else a snapshot.
    async fn begin(&mut self, history: &[u8]) -> Result<(), End> {
        self.desk.tail.refresh(&self.desk.db).await?;
        let head = self.desk.tail.revision();
        let (few, later) = (self.sent.saturating_add(MOST_CHANGES) >= head, self.sent > head);
        // To one who holds a later revision a snapshot shows that history was lost: it has to notice.
        if self.sent == 0 || later || !few || self.history(self.sent).await?.is_none_or(|own| own != history) {
            self.snapshot().await?;
        }
        self.catch_up().await
    }

    /// What stands for every change up to `revision`; none before the first one, nor where it is no longer kept.
    async fn history(&self, revision: u64) -> Result<Option<Vec<u8>>, Fault> {
        let read = self.desk.db.read("watch_history", move |tx| Box::pin(revision::history(tx, revision))).await;
        read.map_err(of_tx)
    }

    /// Sends everything that was seen and not sent.
    async fn catch_up(&mut self) -> Result<(), End> {
        loop {
            let news = match self.desk.tail.after(self.sent) {
                Later::Here(news) if news.is_empty() => return Ok(()),
                Later::Here(news) => news,
                Later::InTheDatabase => match self.read_on().await? {
                    Some(news) => news,
                    None => {
                        self.snapshot().await?;
                        continue;
                    }
                },
            };
            for revision in news {
                if revision.encoded_len() > MOST_BYTES {
                    self.snapshot().await?;
                    break;
                }
                self.sent = revision.revision;
                self.say(News::Changes(RevisionChanges::clone(&revision))).await?;
            }
        }
    }

    /// Some of the changes after what was sent; `None` where they are no longer kept.
    async fn read_on(&self) -> Result<Option<Vec<Arc<RevisionChanges>>>, Fault> {
        let after = self.sent;
        let read = self.desk.db.read("watch_changes", move |tx| Box::pin(change::since(tx, after))).await;
        match read.map_err(of_tx)? {
            Since::Compacted => Ok(None),
            Since::Whole(news) if news.is_empty() => {
                Err(Fault::broken(format!("the changes after revision {after} are not there")))
            }
            Since::Whole(news) => Ok(Some(news.into_iter().map(Arc::new).collect())),
        }
    }

    /// Everything in force at the newest revision that was seen. Where the watcher takes longer than the past is kept, it is
    /// begun again: the first piece of a snapshot says that all before it is void.
    async fn snapshot(&mut self) -> Result<(), End> {
        while !self.snapshot_of(self.desk.tail.revision()).await? {
            self.desk.tail.refresh(&self.desk.db).await?;
        }
        Ok(())
    }

    /// Everything in force at `revision`, in pieces; whether that is kept for as long as it took. The next pages are read while
    /// one is sent.
    async fn snapshot_of(&mut self, revision: u64) -> Result<bool, End> {
        let mut piece = Piece::first_of(revision);
        let mut pages = Pages::of(&self.desk.db, revision);
        loop {
            let objects = match pages.next().await? {
                Page::Objects(objects) => objects,
                Page::End => break,
                Page::Forgotten => return Ok(false),
            };
            for object in objects {
                if piece.is_full() {
                    self.say(piece.cut()).await?;
                }
                piece.push(object);
            }
        }
        let history = self.history(revision).await?;
        if history.is_none() && revision > 0 {
            return Ok(false);
        }
        self.say(piece.last(history.unwrap_or_default())).await?;
        (self.sent, self.shared_from) = (revision, revision);
        Ok(true)
    }
}
