//! Questions are answered as they come over one stream: each by the journey of a single one, and those that wait together are recorded together.
//!
//! Everything that waits has a bound: questions under way, answers that are not taken, the age of the stream, and each question's own
//! time. Nothing is read while the bounds are reached, so that a caller who does not take its answers is held up itself.

mod each;
mod line;

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{Stream, stream};
use legate_rpc::{DEADLINE_TOO_SHORT, Fault, UNAUTHENTICATED};
use legate_wire::policy as wire;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Status;

use self::line::{End, Group, Line};
use super::asker::Asker;
use super::evaluate::{Desk, Spoken};
use crate::convert::{self, Ask};
use crate::error::{QUESTION_INVALID, STREAM_ITEM_IN_FLIGHT, STREAM_STOPPING};

/// What may be under way on one stream: a question counts as one, and one more for every 4 KiB.
const MOST: usize = 512;
/// The most that is decided as one group.
const GROUP: usize = 64;
/// Answers that wait to be taken.
const UNTAKEN: usize = 256;
/// How old a stream becomes.
const OLDEST: Duration = Duration::from_secs(600);
/// The time of a question that states none, the least and the most: as of single calls.
const TIME: Duration = Duration::from_secs(5);
const LEAST_TIME: Duration = Duration::from_millis(50);
const MOST_TIME: Duration = Duration::from_secs(60);

/// What an answer becomes on the wire.
pub(crate) type Say = fn(&Spoken) -> wire::EvaluateResponse;

/// What the caller reads.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<wire::EvaluateStreamResponse, Status>> + Send>>;

/// Answers the questions of `asks` until the caller has no more, leaves, or the stream has to end.
///
/// # Errors
/// When the caller, or all of them, have too many streams.
pub(crate) fn evaluate_stream<S>(desk: &Arc<Desk>, asker: Asker, mut asks: S, say: Say) -> Result<Answers, Fault>
where
    S: Stream<Item = Result<wire::EvaluateStreamRequest, Status>> + Send + Unpin + 'static,
{
    let place = desk.streams.open(&asker.spiffe_id)?;
    let (out, mut said) = mpsc::channel(UNTAKEN);
    let line = Arc::new(Line::new(Arc::clone(desk), asker, out, say));
    let clock = Arc::clone(&desk.clock);
    desk.metrics.streams.inc();
    tokio::spawn(async move {
        let end = follow(&line, &mut asks).await;
        line.end(end).await;
        line.desk.metrics.streams.dec();
        drop(place);
    });
    Ok(Box::pin(stream::poll_fn(move |cx| said.poll_recv(cx).map(|some| some.map(|said| said.deliver(&*clock))))))
}

/// What is under way, and how much of it.
struct UnderWay<'a> {
    groups: JoinSet<Result<(usize, usize), End>>,
    weight: usize,
    count: usize,
    line: &'a Arc<Line>,
}

impl UnderWay<'_> {
    fn begin(&mut self, group: Group) {
        let (weight, count) = (group.weight, group.asks.len());
        self.weight += weight;
        self.count += count;
        self.line.desk.metrics.stream_items.inc_by(signed(count));
        self.groups.spawn(Arc::clone(self.line).answer(group));
    }

    fn ended(&mut self, (weight, count): (usize, usize)) {
        self.weight -= weight;
        self.count -= count;
        self.line.desk.metrics.stream_items.dec_by(signed(count));
    }
}

/// Whatever is not answered when the stream ends is given up.
impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.line.desk.metrics.stream_items.dec_by(signed(self.count));
    }
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

async fn follow<S>(line: &Arc<Line>, asks: &mut S) -> End
where
    S: Stream<Item = Result<wire::EvaluateStreamRequest, Status>> + Send + Unpin,
{
    let stopping = line.desk.stopping.get().cloned().unwrap_or_default();
    let over = tokio::time::sleep(OLDEST);
    tokio::pin!(over);
    let mut under_way = UnderWay { groups: JoinSet::new(), weight: 0, count: 0, line };
    // Once it is known how the stream ends nothing more is read, and what was read is answered.
    let mut ending = None;
    loop {
        if under_way.groups.is_empty()
            && let Some(end) = ending
        {
            return end;
        }
        let reads = ending.is_none() && under_way.weight < MOST;
        let room = MOST.saturating_sub(under_way.weight);
        tokio::select! {
            biased;
            () = line.out.closed() => return End::Gone,
            Some(ended) = under_way.groups.join_next(), if !under_way.groups.is_empty() => match ended {
                Ok(Ok(what)) => under_way.ended(what),
                Ok(Err(end)) => return end,
                Err(e) => return Fault::broken(e).into(),
            },
            () = stopping.cancelled(), if ending.is_none() => {
                let text = "the service is stopping; what was read is answered";
                ending = Some(Fault::unavailable(&STREAM_STOPPING, text, Duration::from_millis(500)).into());
            }
            () = &mut over, if ending.is_none() => ending = Some(End::Whole),
            got = gather(asks, room), if reads => {
                let (items, end) = got;
                match take(line, items).await {
                    Ok(groups) => groups.into_iter().for_each(|group| under_way.begin(group)),
                    Err(end) => return end,
                }
                ending = end;
            }
        }
    }
}

/// What is there to be read, at least one question or the end, and no more than there is room for.
async fn gather<S>(asks: &mut S, room: usize) -> (Vec<wire::EvaluateStreamRequest>, Option<End>)
where
    S: Stream<Item = Result<wire::EvaluateStreamRequest, Status>> + Unpin,
{
    std::future::poll_fn(|cx| {
        let (mut items, mut taken, mut end) = (Vec::new(), 0, None);
        while end.is_none() && taken < room {
            match Pin::new(&mut *asks).poll_next(cx) {
                Poll::Ready(Some(Ok(item))) => {
                    taken += weight(&item);
                    items.push(item);
                }
                Poll::Ready(Some(Err(status))) => end = Some(End::Theirs(status)),
                Poll::Ready(None) => end = Some(End::Whole),
                Poll::Pending if items.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready((items, end))
    })
    .await
}

fn weight(item: &wire::EvaluateStreamRequest) -> usize {
    let stated = |q: &wire::EvaluateRequest| {
        q.context.is_some() || q.resource.as_ref().is_some_and(|resource| resource.attributes.is_some())
    };
    // Without them, what is kept of a question is small.
    1 + if item.question.as_ref().is_some_and(stated) { item.encoded_len() >> 12 } else { 0 }
}

/// Refuses what cannot be asked, and puts together what can be decided together.
async fn take(line: &Line, items: Vec<wire::EvaluateStreamRequest>) -> Result<Vec<Group>, End> {
    let now = line.desk.clock.now();
    let peer = &line.asker.peer;
    // The connection ends by a timer, which does not see the machine's clock being put right.
    if peer.not_after <= now {
        let text = format!("the caller's certificate expired at {}", peer.not_after);
        return Err(Fault::refused(&UNAUTHENTICATED, text).into());
    }
    let (revision, read) = (line.desk.view.current().revision(), Instant::now());
    let mut groups: Vec<Group> = Vec::new();
    for item in items {
        let (id, weight) = (item.item_id, weight(&item));
        let (time, ask) = match question(item) {
            Ok(good) => good,
            Err(fault) => {
                line.refuse(id, fault).await?;
                continue;
            }
        };
        if !line.enter(id) {
            let text = format!("a question named {id} is under way on this stream");
            line.refuse(id, Fault::refused(&STREAM_ITEM_IN_FLIGHT, text)).await?;
            continue;
        }
        // One that waits for a revision keeps nobody else waiting.
        let alone = ask.at_least_revision > revision;
        let fits = |group: &&mut Group| !alone && !group.alone && group.time == time && group.asks.len() < GROUP;
        let group = match groups.iter_mut().rev().find(fits) {
            Some(group) => group,
            None => {
                groups.push(Group::new(read, time, alone));
                let Some(new) = groups.last_mut() else { continue };
                new
            }
        };
        group.ids.push(id);
        group.asks.push(ask);
        group.weight += weight;
    }
    Ok(groups)
}

/// A question, and how long it may take.
fn question(item: wire::EvaluateStreamRequest) -> Result<(Duration, Ask), Fault> {
    let bad = |field: &str, why: &str| Fault::refused(&QUESTION_INVALID, format!("{field}: {why}")).field(field, why);
    let time = match item.timeout.map(Duration::try_from) {
        None => TIME,
        Some(Err(_)) => return Err(bad("timeout", "is negative or out of range")),
        Some(Ok(time)) if time < LEAST_TIME => {
            let text = format!("the question allows {} ms", time.as_millis());
            return Err(Fault::refused(&DEADLINE_TOO_SHORT, text));
        }
        Some(Ok(time)) => time.min(MOST_TIME),
    };
    let question = item.question.ok_or_else(|| bad("question", "is required"))?;
    Ok((time, convert::ask(question, "question.")?))
}
