//! Questions on a stream: each is answered as a single one would be, whatever becomes of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use legate_wire::policy as policy_wire;
use legate_wire::rpc::Status as ItemStatus;
use policy_wire::evaluate_stream_response::Outcome;
use policy_wire::{EvaluateRequest, EvaluateStreamRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::super::evaluate_stream::{Answers, evaluate_stream};
use crate::flow::Asker;
use crate::testing::*;

type Item = Result<EvaluateStreamRequest, tonic::Status>;

/// A stream as the caller has it.
struct Line {
    asks: Option<mpsc::UnboundedSender<Item>>,
    answers: Answers,
}

impl Line {
    fn open(stage: &Stage, asker: Asker) -> Self {
        let (asks, items) = mpsc::unbounded_channel();
        let items = UnboundedReceiverStream::new(items);
        let answers = evaluate_stream(&stage.desk, asker, items, crate::api::answer).unwrap();
        Self { asks: Some(asks), answers }
    }

    fn ask(&self, item: EvaluateStreamRequest) {
        self.asks.as_ref().unwrap().send(Ok(item)).unwrap();
    }

    async fn next(&mut self) -> Option<Result<(u64, Outcome), tonic::Status>> {
        let said = tokio::time::timeout(PATIENCE, self.answers.next()).await.expect("the stream says nothing");
        said.map(|said| said.map(|said| (said.item_id, said.outcome.expect("an outcome"))))
    }

    async fn word(&mut self) -> (u64, String) {
        let (id, outcome) = self.next().await.unwrap().unwrap();
        (id, word(outcome))
    }

    /// The words of so many, by name.
    async fn words(&mut self, n: usize) -> BTreeMap<u64, String> {
        let mut words = BTreeMap::new();
        for _ in 0..n {
            let (id, word) = self.word().await;
            assert!(words.insert(id, word).is_none(), "{id} is answered twice");
        }
        words
    }
}

/// The reason of an answer or of an error, and that a caller can read it.
fn word(outcome: Outcome) -> String {
    match outcome {
        Outcome::Answer(answer) => answer.reason_code,
        Outcome::Error(ItemStatus { code, message, details }) => {
            let encoded = prost::Message::encode_to_vec(&ItemStatus { code, message: message.clone(), details });
            let told = legate_rpc::Told::from_item(code, &message, encoded);
            assert!(!told.cure.is_empty() && told.code != legate_rpc::Code::Ok, "{told:?}");
            told.reason
        }
    }
}

/// A good question about an invoice.
fn question(stage: &Stage, id: &str) -> EvaluateRequest {
    let token = legate_token::mint(&stage.claims(), &stage.signer).unwrap();
    EvaluateRequest {
        subject: Some(policy_wire::Subject {
            agent: Some(policy_wire::subject::Agent::AccessToken(token)),
            presenter_x5t_s256: CERTIFICATE.to_vec(),
            ..Default::default()
        }),
        action: "invoice:read".into(),
        resource: Some(policy_wire::Resource { r#type: "Invoice".into(), id: id.into(), attributes: None }),
        ..Default::default()
    }
}

fn item(item_id: u64, question: EvaluateRequest) -> EvaluateStreamRequest {
    EvaluateStreamRequest { item_id, question: Some(question), timeout: None }
}

#[tokio::test]
async fn each_is_answered_as_a_single_one_and_recorded_before() {
    let stage = Stage::set().await;
    let mut line = Line::open(&stage, enforcer("invoices"));
    let ids = ["apollo/1", "zeus/1", "apollo/2"];
    for (n, id) in (0..).zip(ids) {
        line.ask(item(n, question(&stage, id)));
    }
    for _ in ids {
        let Some(Ok((n, Outcome::Answer(answer)))) = line.next().await else { panic!("no answer") };
        let recorded = stage.paper.events();
        assert!(recorded.iter().any(|e| e.decision.as_ref().is_some_and(|d| d.decision_id == answer.decision_id)));
        let id = ids[usize::try_from(n).unwrap()];
        let single = stage.ask(&enforcer("invoices"), stage.good().resource(id)).await;
        let mut single = crate::api::answer(&single);
        single.decision_id.clone_from(&answer.decision_id);
        assert_eq!(answer, single, "{id}");
    }
    line.asks = None;
    assert!(line.next().await.is_none(), "once everything is answered a closed stream ends");
}

#[tokio::test]
async fn what_is_not_taken_is_told_so_and_the_stream_lives_on() {
    let stage = Stage::set().await;
    let mut line = Line::open(&stage, enforcer("invoices"));
    let with = |change: &dyn Fn(&mut EvaluateStreamRequest)| {
        let mut item = item(7, question(&stage, "apollo/1"));
        change(&mut item);
        item
    };
    let seconds = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    for (bad, expected) in [
        (with(&|item| item.question = None), "QUESTION_INVALID"),
        (with(&|item| item.question.as_mut().unwrap().action = "no action".into()), "QUESTION_INVALID"),
        (with(&|item| item.question.as_mut().unwrap().subject = None), "QUESTION_INVALID"),
        (with(&|item| item.question.as_mut().unwrap().correlation_id = "x".repeat(129)), "QUESTION_INVALID"),
        (with(&|item| item.timeout = seconds(-1, 0)), "QUESTION_INVALID"),
        (with(&|item| item.timeout = seconds(0, 49_000_000)), "DEADLINE_TOO_SHORT"),
        (
            with(&|item| item.question.as_mut().unwrap().resource.as_mut().unwrap().r#type = "Ledger".into()),
            "CALLER_MAY_NOT_ASK",
        ),
    ] {
        line.ask(bad);
        line.ask(item(8, question(&stage, "apollo/1")));
        let words = line.words(2).await;
        assert_eq!((words[&7].as_str(), words[&8].as_str()), (expected, "ALLOWED"));
    }
    let refused: Vec<_> = stage.paper.events().into_iter().filter(|e| e.r#type == "decision.refused").collect();
    assert_eq!(refused.len(), 1, "only a question that can be read is worth a record");
    assert_eq!(
        (refused[0].reason_code.as_str(), refused[0].details["questions"].as_str()),
        ("CALLER_MAY_NOT_ASK", "1")
    );
}

/// Answered, and not yet taken: until nothing is under way any more.
async fn until_said(stage: &Stage) {
    while stage.desk.metrics.stream_items.get() > 0 {
        tokio::task::yield_now().await;
    }
}

/// The age of the view at the decision says nothing of what comes after it.
#[tokio::test]
async fn an_allow_that_lies_until_its_view_is_too_old_is_not_said() {
    let mut stage = Stage::set().await;
    let durable = point("invoices", |p| p.durable_actions = vec!["invoice:read".into()]);
    stage.change(vec![(durable, false)]).await;
    let (ms, bound) = (std::time::Duration::from_millis, stage.desk.view.bound());
    // In all it lies as long; the first part of it while the record is written, where the decision is over and nothing is said yet.
    for (writing, untaken, word) in [
        (ms(0), bound, "ALLOWED"),
        (ms(0), bound + ms(1), "DEADLINE_EXCEEDED"),
        (ms(900), bound - ms(900), "ALLOWED"),
        (ms(900), bound - ms(899), "DEADLINE_EXCEEDED"),
        (bound, ms(0), "ALLOWED"),
        (bound, ms(1), "DEADLINE_EXCEEDED"),
    ] {
        stage.pongs.on.store(true, Ordering::SeqCst);
        stage.pass(ms(1)).await;
        let seen = stage.paper.events().len();
        stage.pongs.on.store(false, Ordering::SeqCst);
        stage.paper.stop_while_syncing(Arc::clone(&stage.clock), writing);
        let mut line = Line::open(&stage, enforcer("invoices"));
        line.ask(item(1, question(&stage, "apollo/1")));
        while stage.paper.events().len() == seen {
            tokio::task::yield_now().await;
        }
        until_said(&stage).await;
        stage.clock.advance(untaken);
        assert_eq!(line.word().await.1, word, "{writing:?} and {untaken:?}");
    }
}

/// Who demands a younger view is not told an ALLOW by one that became older on the way.
#[tokio::test]
async fn a_demand_for_a_younger_view_holds_until_the_answer_is_taken() {
    let stage = Stage::set().await;
    stage.pongs.on.store(false, Ordering::SeqCst);
    for (untaken, word) in [(1_000, "ALLOWED"), (1, "DEADLINE_EXCEEDED")] {
        let mut line = Line::open(&stage, enforcer("invoices"));
        let seen = stage.paper.events().len();
        let max_staleness = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        line.ask(item(1, EvaluateRequest { max_staleness, ..question(&stage, "apollo/1") }));
        while stage.paper.events().len() == seen {
            tokio::task::yield_now().await;
        }
        until_said(&stage).await;
        stage.clock.advance(std::time::Duration::from_millis(untaken));
        assert_eq!(line.word().await.1, word, "{untaken}");
    }
}

#[tokio::test]
async fn a_name_is_used_once_at_a_time() {
    let mut stage = Stage::set().await;
    let mut line = Line::open(&stage, enforcer("invoices"));
    let mut later = question(&stage, "apollo/1");
    later.at_least_revision = 2;
    line.ask(item(1, later));
    line.ask(item(1, question(&stage, "apollo/1")));
    assert_eq!(line.word().await, (1, "STREAM_ITEM_IN_FLIGHT".to_owned()));
    // One that waits for a revision keeps nobody else waiting.
    line.ask(item(2, question(&stage, "apollo/1")));
    assert_eq!(line.word().await, (2, "ALLOWED".to_owned()));
    stage.change(vec![(point("others", |_| ()), false)]).await;
    assert_eq!(line.word().await, (1, "ALLOWED".to_owned()));
    line.ask(item(1, question(&stage, "zeus/1")));
    assert_eq!(line.word().await.0, 1);
}

#[tokio::test]
async fn a_question_has_its_own_time() {
    let stage = Stage::set().await;
    let mut line = Line::open(&stage, enforcer("invoices"));
    let mut never = question(&stage, "apollo/1");
    never.at_least_revision = 99;
    let timeout = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    line.ask(EvaluateStreamRequest { timeout, ..item(1, never) });
    assert_eq!(line.word().await, (1, "REVISION_NOT_REACHED".to_owned()));
}

#[tokio::test]
async fn standing_and_right_are_judged_anew_for_each() {
    let mut stage = Stage::set().await;
    let mut line = Line::open(&stage, enforcer("invoices"));
    line.ask(item(1, question(&stage, "apollo/1")));
    assert_eq!(line.word().await.1, "ALLOWED");
    let suspended =
        agent(1, |a| a.status.as_mut().unwrap().state = legate_wire::registry::AgentState::Suspended.into());
    stage.change(vec![(suspended, false)]).await;
    line.ask(item(2, question(&stage, "apollo/1")));
    assert_eq!(line.word().await.1, "AGENT_SUSPENDED");
    stage.change(vec![(point("invoices", |p| p.resource_types.clear()), false)]).await;
    line.ask(item(3, question(&stage, "apollo/1")));
    assert_eq!(line.word().await.1, "CALLER_MAY_NOT_ASK");
    stage.change(vec![(revocation(CALLER), false)]).await;
    line.ask(item(4, question(&stage, "apollo/1")));
    line.ask(item(5, question(&stage, "apollo/1")));
    let words = line.words(2).await;
    assert_eq!((words[&4].as_str(), words[&5].as_str()), ("CALLER_REVOKED", "CALLER_REVOKED"));
}

#[tokio::test]
async fn without_a_record_nothing_is_allowed() {
    let stage = Stage::set().await;
    let mut line = Line::open(&stage, enforcer("invoices"));
    stage.paper.be(Mood::Full);
    line.ask(item(1, question(&stage, "apollo/1")));
    assert_eq!(line.word().await.1, "AUDIT_UNAVAILABLE");
    stage.paper.be(Mood::Good);
    line.ask(item(2, question(&stage, "apollo/1")));
    assert_eq!(line.word().await.1, "ALLOWED");
}

/// Nothing is dropped and nothing piles up: who takes no answers is not read from.
#[tokio::test]
async fn who_takes_no_answers_is_not_read_from() {
    const ALL: usize = 3_000;
    let stage = Stage::set().await;
    let read = Arc::new(AtomicUsize::new(0));
    let one = question(&stage, "apollo/1");
    let counting = Arc::clone(&read);
    let asks = futures_util::stream::iter((0..ALL).map(move |n| {
        counting.fetch_add(1, Ordering::SeqCst);
        Ok(item(u64::try_from(n).unwrap(), one.clone()))
    }));
    let answers = evaluate_stream(&stage.desk, enforcer("invoices"), asks, crate::api::answer).unwrap();
    // The channel of answers is full, and what is under way waits for it.
    let most = 512 + 256;
    while read.load(Ordering::SeqCst) < 512 {
        tokio::task::yield_now().await;
    }
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
        assert!(read.load(Ordering::SeqCst) <= most + 64, "{read:?} were read");
    }
    let mut line = Line { asks: None, answers };
    let words = line.words(ALL).await;
    assert!(words.len() == ALL && words.values().all(|word| word == "ALLOWED"));
    assert!(line.next().await.is_none());
}

#[tokio::test]
async fn a_service_that_stops_answers_what_it_read() {
    let mut stage = Stage::set().await;
    let stopping = tokio_util::sync::CancellationToken::new();
    stage.desk.stopping.set(stopping.clone()).unwrap();
    let mut line = Line::open(&stage, enforcer("invoices"));
    let mut later = question(&stage, "apollo/1");
    later.at_least_revision = 2;
    line.ask(item(1, later));
    line.ask(item(2, question(&stage, "apollo/1")));
    assert_eq!(line.word().await.0, 2);
    stopping.cancel();
    stage.change(vec![(point("others", |_| ()), false)]).await;
    assert_eq!(line.word().await, (1, "ALLOWED".to_owned()));
    let end = line.next().await.unwrap().unwrap_err();
    assert_eq!(legate_rpc::Told::from_status(&end).reason, "STREAM_STOPPING");
    assert!(line.next().await.is_none());
}

#[tokio::test]
async fn who_leaves_frees_the_place() {
    let stage = Stage::set().await;
    for _ in 0..200 {
        let line = Line::open(&stage, enforcer("invoices"));
        line.ask(item(1, question(&stage, "apollo/1")));
        drop(line);
        while stage.desk.metrics.streams.get() > 60 {
            tokio::task::yield_now().await;
        }
    }
    while stage.desk.metrics.streams.get() > 0 || stage.desk.metrics.stream_items.get() > 0 {
        tokio::task::yield_now().await;
    }
    let held: Vec<_> = (0..64).map(|_| Line::open(&stage, enforcer("invoices"))).collect();
    let items = UnboundedReceiverStream::new(mpsc::unbounded_channel::<Item>().1);
    let refused = evaluate_stream(&stage.desk, enforcer("invoices"), items, crate::api::answer).err().unwrap();
    assert_eq!(refused.reason(), "OVERLOADED");
    drop(held);
}
