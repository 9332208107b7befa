//! Very many objects come over one stream: read a message, write what is in it, answer it, and only then read the next.

mod batch;
mod plan;
mod trial;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use legate_authority::Right;
use legate_db::TxResult;
use legate_outbox::AUDIT_UNAVAILABLE;
use legate_rpc::{Fault, OVERLOADED};
use legate_wire::registry::bulk_apply_request::Part;
use legate_wire::registry::{
    BulkAction, BulkApplyRequest, BulkApplyResponse, BulkEnd, BulkItem, BulkItems, BulkMode, BulkStart, Origin,
};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use self::batch::Batch;
use self::trial::Trial;
use self::turns::{Full, KEPT, OF_ONE, STREAMS, Turn};
use super::mandate::mandate;
use super::{By, Call, Desk};
use crate::domain::check;
use crate::error::{BULK_BROKEN_OFF, BULK_OUT_OF_ORDER, BULK_TOO_LARGE, of_tx};
use crate::store::{head, refuse};

/// Items in one message.
const MOST_IN_MESSAGE: usize = 1_000;
/// Items in one transaction, where each is for itself: between two of them others get to write.
const IN_TRANSACTION: usize = 500;
/// Items that are written together, all or nothing; of a plan, those that differ.
const MOST_TOGETHER: usize = 25_000;
/// Their bytes.
const MOST_BYTES: usize = 16 << 20;
/// Those of them that go: they are taken away one by one.
const MOST_GONE: usize = 5_000;
/// With what the registry adds to each, the revision still fits into one message of the stream to watchers.
const MOST_ADDED: usize = 40 << 20;
/// What that is of one, beside the reason of the write, which an agent has twice.
const ADDED: usize = 768;
/// So many written together are no more than a change by hand, which waits for nobody.
const FEW: usize = 1_000;
/// Outcomes in one answer.
const IN_ANSWER: usize = 1_000;
/// The longest id of a request: the number of a transaction is put behind it.
const LONGEST_ID: usize = 48;
/// The declarer has to say something within this.
const IDLE: Duration = Duration::from_secs(30);
/// A declarer that takes no answer for so long is given up.
const STUCK: Duration = Duration::from_secs(10);
/// While the audit trail takes no more, it is tried again for so long, every so often.
const PATIENCE: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(100);
/// How long a stream may take in all, where each item is for itself: so long nobody else has its turn.
const LONGEST: Duration = Duration::from_secs(3_600);
/// And where all of it is kept until the end.
const LONGEST_TOGETHER: Duration = Duration::from_secs(600);
/// Answers that wait for one declarer.
pub(crate) const WAITING: usize = 4;

pub(crate) use turns::Turns;

/// Where answers go.
pub(crate) type Out = mpsc::Sender<Result<BulkApplyResponse, Status>>;

/// Serves one declarer until it has said everything, leaves, breaks the rules, or the service stops.
pub(crate) async fn serve(desk: Arc<Desk>, by: By, method: &'static str, asks: Streaming<BulkApplyRequest>, out: Out) {
    let mut line = Line { desk: Arc::clone(&desk), method, asks, out, plans: false, until: Duration::MAX };
    let Err(fault) = line.declare(by.clone()).await else { return };
    // That a plan is refused is no write that was.
    if let (Ok(call), false) = (Call::new(by, method, &(), ""), line.plans) {
        desk.note_refusal(&call, method, &fault).await;
    }
    drop(tokio::time::timeout(STUCK, line.out.send(Err(fault.into()))).await);
}

/// One declarer's stream.
struct Line {
    desk: Arc<Desk>,
    method: &'static str,
    asks: Streaming<BulkApplyRequest>,
    out: Out,
    /// Whether nothing is to be written.
    plans: bool,
    /// When its turn is over, on the steady clock.
    until: Duration,
}

impl Line {
    async fn declare(&mut self, by: By) -> Result<(), Fault> {
        let desk = Arc::clone(&self.desk);
        let Part::Start(start) = self.next().await? else {
            return Err(Fault::refused(&BULK_OUT_OF_ORDER, "the first message is not `start`"));
        };
        let start = Start::read(start, by, self.method)?;
        self.plans = start.plan_only;
        // There are few turns, so none is for those who could do nothing.
        let right = if start.plan_only { Right::Read } else { Right::Write };
        may_somewhere(&desk, &start.call.by, right).await?;
        let _turn = turn(&desk, &start.call.by)?;
        let begun = desk.clock.monotonic();
        match start.mode {
            BulkMode::AllOrNothing => {
                self.until = begun.saturating_add(LONGEST_TOGETHER);
                self.together(start).await
            }
            _ => {
                self.until = begun.saturating_add(LONGEST);
                self.each(start).await
            }
        }
    }

    /// Each item for itself: written as they come, in transactions that are not too long for others.
    async fn each(&mut self, start: Start) -> Result<(), Fault> {
        let (mut count, mut number, mut trial) = (0u64, 0u64, Trial::default());
        loop {
            let items = match self.next().await? {
                Part::Start(_) => return Err(Fault::refused(&BULK_OUT_OF_ORDER, "`start` came again")),
                Part::End(end) => return whole(&end, count),
                Part::Items(items) => some(items)?,
            };
            count += items.len() as u64;
            let mut rest = items.into_iter().peekable();
            while rest.peek().is_some() {
                let batch = batch::cut(&mut rest, IN_TRANSACTION, &start)?;
                number += 1;
                let answer = if start.plan_only {
                    trial.plan(&self.desk, &start, batch).await?
                } else {
                    self.write(batch, &start, number).await?
                };
                self.say(answer).await?;
            }
        }
    }

    /// All at one revision, or nothing: kept until the declarer says that it is all. Of a plan, what is already so is not kept.
    async fn together(&mut self, start: Start) -> Result<(), Fault> {
        let (mut all, mut count) = (Batch::default(), 0);
        loop {
            let more = match self.next().await? {
                Part::Start(_) => return Err(Fault::refused(&BULK_OUT_OF_ORDER, "`start` came again")),
                Part::End(end) => {
                    whole(&end, count)?;
                    break;
                }
                Part::Items(items) => some(items)?,
            };
            count += more.len() as u64;
            let mut more = Batch::read(more, &start)?;
            if start.plan_only {
                let so = plan::take_out(&self.desk, &start, &mut more).await?;
                if !so.outcomes.is_empty() {
                    self.say(so).await?;
                }
            }
            all.add(more)?;
            bounded(&all, &start)?;
        }
        if count == 0 {
            return Err(Fault::invalid("items", "there is none"));
        }
        let BulkApplyResponse { outcomes, revision } = if start.plan_only {
            plan::plan(&self.desk, &start, all).await?
        } else {
            self.write(all, &start, 1).await?
        };
        let mut rest = outcomes.into_iter().peekable();
        loop {
            // A plan says last at which revision it was made, also where nothing differs.
            let some: Vec<_> = rest.by_ref().take(IN_ANSWER).collect();
            self.say(BulkApplyResponse { outcomes: some, revision }).await?;
            if rest.peek().is_none() {
                return Ok(());
            }
        }
    }

    /// Writes a batch, when the audit trail takes it.
    async fn write(&self, batch: Batch, start: &Start, number: u64) -> Result<BulkApplyResponse, Fault> {
        let call = start.call.piece(number, || batch.bytes());
        let batch = Arc::new(batch);
        let begun = tokio::time::Instant::now();
        loop {
            match batch::write(&self.desk, call.clone(), Arc::clone(&batch), start).await {
                Err(fault) if fault.reason() == AUDIT_UNAVAILABLE.name && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(fault) => return Err(fault),
                Ok(answer) => {
                    self.tell(&call, &answer).await;
                    return Ok(answer);
                }
            }
        }
    }

    /// Counts what became of the items, and records once for all of them that some were refused.
    async fn tell(&self, call: &Call, answer: &BulkApplyResponse) {
        for action in ACTIONS {
            let count = answer.outcomes.iter().filter(|outcome| outcome.action() == action).count();
            self.desk.metrics.bulk(action, count);
        }
        let mut refused = answer.outcomes.iter().filter(|outcome| outcome.action() == BulkAction::Refused);
        if let Some(first) = refused.next()
            && let Some(reason) = crate::error::named(&first.reason_code)
        {
            let (more, of) = (refused.count(), answer.outcomes.len());
            let text = format!("{} of {of} items, the first: {}: {}", more + 1, first.key, first.refusal);
            self.desk.note_refusal(call, self.method, &Fault::refused(reason, text)).await;
        }
    }

    async fn next(&mut self) -> Result<Part, Fault> {
        let stopping = self.desk.stopping.get().cloned().unwrap_or_default();
        let broken_off = |why: &str| Fault::unavailable(&BULK_BROKEN_OFF, why, Duration::from_secs(1));
        tokio::select! {
            () = stopping.cancelled() => Err(broken_off("the registry is stopping")),
            () = self.out.closed() => Err(broken_off("the declarer left")),
            said = tokio::time::timeout(IDLE, self.asks.message()) => match said {
                Ok(Ok(Some(BulkApplyRequest { part: Some(_) }))) if self.desk.clock.monotonic() >= self.until => {
                    Err(broken_off("its time is over: 1 h, or 10 min where it is all or nothing"))
                }
                Ok(Ok(Some(BulkApplyRequest { part: Some(part) }))) => Ok(part),
                Ok(Ok(Some(BulkApplyRequest { part: None }))) => {
                    Err(Fault::refused(&BULK_OUT_OF_ORDER, "a message says nothing"))
                }
                // A call that is given up looks like one that ended: without `end` it was not all.
                Ok(Ok(None)) => Err(broken_off("the stream ended without `end`")),
                Ok(Err(status)) => Err(broken_off(&format!("the stream failed: {}", status.code()))),
                Err(_) => Err(broken_off("nothing came for 30 s")),
            },
        }
    }

    async fn say(&self, answer: BulkApplyResponse) -> Result<(), Fault> {
        match tokio::time::timeout(STUCK, self.out.send(Ok(answer))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Fault::unavailable(&BULK_BROKEN_OFF, "the declarer left", Duration::from_secs(1))),
            Err(_) => Err(Fault::unavailable(&OVERLOADED, "no answer was taken for 10 s", Duration::from_secs(1))),
        }
    }
}

/// What can become of an item.
const ACTIONS: [BulkAction; 5] =
    [BulkAction::Created, BulkAction::Updated, BulkAction::Unchanged, BulkAction::Refused, BulkAction::Removed];

/// Refuses more than is written together.
fn bounded(all: &Batch, start: &Start) -> Result<(), Fault> {
    let (count, reason) = (all.len(), start.call.by.reason.len());
    let text = if count > MOST_TOGETHER || all.size() > MOST_BYTES {
        "over 25,000 items or 16 MiB of them, where it is all or nothing".to_owned()
    } else if all.gone() > MOST_GONE {
        "over 5,000 removals".to_owned()
    } else if count.saturating_mul(ADDED + 2 * reason) > MOST_ADDED {
        format!("{count} items, each of which keeps the reason of {reason} bytes")
    } else {
        return Ok(());
    };
    Err(Fault::refused(&BULK_TOO_LARGE, text))
}

/// Refuses whoever may do so nowhere, as he may now; each item takes its own right, when it is looked at.
async fn may_somewhere(desk: &Arc<Desk>, by: &By, right: Right) -> Result<(), Fault> {
    let (own, caller, now) = (Arc::clone(desk), by.clone(), desk.clock.now());
    let read: TxResult<(), Fault> = desk
        .db
        .read("begin_bulk", move |tx| {
            Box::pin(async move {
                let head = head::read_whole(tx).await?;
                let mandate = mandate(&own.operators, tx, &head, &caller, now).await?;
                mandate.demand_somewhere(right).map_err(refuse)
            })
        })
        .await;
    read.map_err(of_tx)
}

/// One of the streams that may be open at once, in all and of this caller.
fn turn<'d>(desk: &'d Desk, by: &By) -> Result<Turn<'d>, Fault> {
    desk.bulks.take(&by.actor, desk.clock.monotonic()).map_err(|full| {
        let text = match full {
            Full::All => format!("{STREAMS} streams of many objects are open, or others came before; whoever comes again within {} s keeps its place", KEPT.as_secs()),
            Full::OfOne => format!("{} has {OF_ONE} streams of many objects open, as many as anybody may", by.actor),
        };
        Fault::unavailable(&OVERLOADED, text, Duration::from_secs(5))
    })
}

fn some(items: BulkItems) -> Result<Vec<BulkItem>, Fault> {
    if items.items.is_empty() || items.items.len() > MOST_IN_MESSAGE {
        return Err(Fault::invalid("items", "1 to 1,000 in one message"));
    }
    Ok(items.items)
}

/// Whether everything came that was sent.
fn whole(end: &BulkEnd, count: u64) -> Result<(), Fault> {
    if end.items == count {
        return Ok(());
    }
    let text = format!("`end` says {} items, and {count} came", end.items);
    Err(Fault::refused(&BULK_OUT_OF_ORDER, text))
}

/// How it is to be done.
struct Start {
    mode: BulkMode,
    /// `None`: the items are declared.
    origin: Option<Origin>,
    /// When it was planned; 0: nobody says.
    base_revision: u64,
    /// Whether nothing is to be written.
    plan_only: bool,
    call: Call,
}

impl Start {
    fn read(start: BulkStart, by: By, method: &str) -> Result<Self, Fault> {
        super::refusal(check::check_reason(&start.reason, false))?;
        if start.request_id.len() > LONGEST_ID {
            return Err(Fault::invalid("request_id", "1 to 48 of A-Z a-z 0-9 - _ . :"));
        }
        let mode = BulkMode::try_from(start.mode).unwrap_or_default();
        if mode == BulkMode::Unspecified {
            return Err(Fault::invalid("mode", "is required; give BULK_MODE_EACH or BULK_MODE_ALL_OR_NOTHING"));
        }
        let origin = match Origin::try_from(start.origin) {
            Ok(Origin::Unspecified | Origin::Registered) => None,
            Ok(found) => Some(found),
            Err(_) => return Err(Fault::invalid("origin", "is not known")),
        };
        let (base_revision, plan_only) = (start.base_revision, start.plan_only);
        let together = mode == BulkMode::AllOrNothing && origin.is_none();
        // Items each for themselves are tried one after the other, by whatever they are.
        let may_plan = together || mode == BulkMode::Each;
        for (field, is_good) in
            [("base_revision", base_revision == 0 || together), ("plan_only", !plan_only || may_plan)]
        {
            if !is_good {
                return Err(Fault::invalid(field, "goes with BULK_MODE_ALL_OR_NOTHING, and with what is declared"));
            }
        }
        let by = By { reason: start.reason.clone(), ..by };
        let call = Call::new(by, method, &start, &start.request_id)?;
        Ok(Self { mode, origin, base_revision, plan_only, call })
    }
}
