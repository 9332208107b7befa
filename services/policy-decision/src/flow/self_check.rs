//! One decision in so many is made again by Cedar's own authorizer, beside the path of checks; a difference is told.
//!
//! A check only puts its question into a bounded queue; where that is full, the question is left out and counted. The
//! comparison takes a hundredth of one core at most, however many policies there are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use legate_clock::Timestamp;
use legate_ids::DecisionId;
use legate_view::Snapshot;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::asker::{Asker, Right};
use super::evaluate::{Desk, Policies, Spoken, judge_by};
use super::record;
use crate::convert::Ask;
use crate::domain::answer::{Answer, Cause};
use crate::domain::authority::{Bench, Way};

/// Questions that wait to be compared at most; each holds on to the state of the registry that it was decided by.
const QUEUE: usize = 64;
/// For every moment of work so many of rest.
const REST: u32 = 99;

/// A question as it was decided.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(super) asker: Asker,
    pub(super) ask: Ask,
    pub(super) right: Right,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) policies: Policies,
    pub(super) id: DecisionId,
    pub(super) answer: Answer,
    pub(super) now: Timestamp,
}

/// What is to be compared, on its way.
pub(crate) type Samples = mpsc::Receiver<Sample>;

/// Chooses decisions to be made again.
#[derive(Debug)]
pub(crate) struct SelfCheck {
    one_in: u64,
    asked: AtomicU64,
    samples: mpsc::Sender<Sample>,
}

/// What came of comparing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    Same,
    /// What the authorizer says, and the policies that one names and the other does not.
    Different {
        plain: String,
        policies: Vec<String>,
    },
}

impl SelfCheck {
    /// Chooses one decision in `one_in`; 0: none.
    pub(crate) fn new(one_in: u32) -> (Self, Samples) {
        let (samples, queue) = mpsc::channel(QUEUE);
        (Self { one_in: one_in.into(), asked: AtomicU64::new(0), samples }, queue)
    }

    /// Whether the decision that is being made is to be made again.
    pub(super) fn is_due(&self) -> bool {
        self.one_in > 0 && self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.one_in)
    }

    /// Puts a decision where it will be made again; false where too many wait.
    pub(super) fn offer(&self, sample: Sample) -> bool {
        self.samples.try_send(sample).is_ok()
    }
}

/// Makes what was chosen again, for as long as the process lives.
pub(crate) async fn forever(desk: Arc<Desk>, samples: Samples) {
    compare_all(desk, samples, REST).await;
}

/// Makes what was chosen again until nobody chooses any more; after each it rests `rest` times as long as that took.
pub(super) async fn compare_all(desk: Arc<Desk>, mut samples: Samples, rest: u32) {
    let plain = Arc::new(Bench::going(Way::Plain));
    while let Some(sample) = samples.recv().await {
        let began = Instant::now();
        let (working, bench) = (Arc::clone(&desk), Arc::clone(&plain));
        let work = tokio::task::spawn_blocking(move || (compare(&working, &bench, &sample), sample));
        match work.await {
            Ok((Compared::Same, _)) => desk.metrics.self_checked("same"),
            Ok((Compared::Different { plain, policies }, sample)) => tell(&desk, &sample, &plain, &policies).await,
            Err(error) => tracing::error!(%error, "a decision could not be made again to be compared"),
        }
        tokio::time::sleep(began.elapsed().saturating_mul(rest)).await;
    }
}

/// What is compared of an answer: its word, what made or cut it in any order, and when it may change.
#[derive(PartialEq, Eq)]
struct Gist<'a> {
    word: &'static str,
    causes: BTreeSet<(String, &'a str, &'a str)>,
    until: Option<Timestamp>,
}

fn said(answer: &Answer) -> Gist<'_> {
    let causes = answer.causes.iter().map(|cause| (cause.line(), cause.id.as_str(), cause.text.as_str())).collect();
    Gist { word: answer.word(), causes, until: answer.until }
}

/// Decides the sample anew by every policy there is, and compares.
pub(super) fn compare(desk: &Desk, plain: &Bench, sample: &Sample) -> Compared {
    let policies = |_: &legate_ids::Name| Ok(sample.policies.clone());
    let judged = judge_by(plain, desk, &sample.right, &sample.ask, &sample.snapshot, sample.now, policies);
    // The policies are at hand.
    let Ok(judged) = judged else { return Compared::Same };
    if said(&judged.answer) == said(&sample.answer) {
        return Compared::Same;
    }
    let named = |answer: &Answer| -> BTreeSet<String> { answer.causes.iter().map(Cause::line).collect() };
    let policies = named(&judged.answer).symmetric_difference(&named(&sample.answer)).cloned().collect();
    Compared::Different { plain: judged.answer.word().to_owned(), policies }
}

/// A difference is counted, logged and put on record: it means that what is said cannot be relied on.
async fn tell(desk: &Desk, sample: &Sample, plain: &str, policies: &[String]) {
    desk.metrics.self_checked("different");
    let (said, shown) = (sample.answer.word(), policies.join(" "));
    tracing::error!(
        decision = %sample.id,
        revision = sample.snapshot.revision(),
        said,
        authorizer = plain,
        policies = shown,
        "a decision is not what Cedar's own authorizer says; set decision.self_check = 1 and report it"
    );
    let event = record::diverged(sample, plain, &shown, desk.clock.now());
    if let Err(error) = desk.spool.write(vec![event], false).await {
        tracing::error!(%error, "a decision that is not what Cedar's own authorizer says could not be recorded");
    }
}

/// Chooses the decision, where it is its turn.
pub(super) fn choose(
    desk: &Desk,
    asker: &Asker,
    right: &Right,
    ask: &Ask,
    snapshot: &Arc<Snapshot>,
    policies: Policies,
    spoken: &Spoken,
) {
    if !desk.self_check.is_due() {
        return;
    }
    let sample = Sample {
        asker: asker.clone(),
        ask: ask.clone(),
        right: right.clone(),
        snapshot: Arc::clone(snapshot),
        policies,
        id: spoken.id.clone(),
        answer: spoken.answer.clone(),
        now: spoken.at,
    };
    if !desk.self_check.offer(sample) {
        desk.metrics.self_checked("left_out");
    }
}
