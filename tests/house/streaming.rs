//! Checks over a stream, on a raised suite: equal to single ones, cut or denied when somebody loses what it had, whatever the caller does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use legate_rpc::{Client, Code, Told};
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::evaluate_stream_response::Outcome;
use legate_wire::policy::{Denial, EvaluateRequest, EvaluateResponse, EvaluateStreamRequest, EvaluateStreamResponse};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{AgentRef, Kind, RevokeDeclarationRequest, SuspendAgentRequest};
use prost_types::value::Kind as ValueKind;
use prost_types::{Struct, Value};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::asking::{Shown, ask, at_least, question, sealed, word};
use crate::raised::{AUDIENCE, LONG, Raised, id_of};

/// A stream as its caller has it.
struct Line {
    asks: mpsc::Sender<EvaluateStreamRequest>,
    answers: Streaming<EvaluateStreamResponse>,
}

impl Line {
    async fn open(backend: &Client) -> Self {
        let (asks, items) = mpsc::channel(16);
        let mut service = DecisionServiceClient::new(backend.clone());
        let answers = service.evaluate_stream(ReceiverStream::new(items)).await.unwrap().into_inner();
        Self { asks, answers }
    }

    /// The same, once there is a place for it.
    async fn open_when_free(backend: &Client) -> Self {
        let begin = Instant::now();
        loop {
            let (asks, items) = mpsc::channel(16);
            match DecisionServiceClient::new(backend.clone()).evaluate_stream(ReceiverStream::new(items)).await {
                Ok(answers) => return Self { asks, answers: answers.into_inner() },
                Err(status) => assert!(status.code() == Code::ResourceExhausted && begin.elapsed() < LONG, "{status}"),
            }
        }
    }

    async fn next(&mut self) -> Result<Option<(u64, Outcome)>, Status> {
        let said = tokio::time::timeout(LONG, self.answers.message()).await.expect("the stream says nothing")?;
        Ok(said.map(|said| (said.item_id, said.outcome.expect("an outcome"))))
    }

    /// Asks one, and has its answer.
    async fn ask(&mut self, item_id: u64, question: EvaluateRequest) -> EvaluateResponse {
        self.asks.send(item(item_id, question)).await.unwrap();
        match self.next().await.unwrap().unwrap() {
            (id, Outcome::Answer(answer)) if id == item_id => answer,
            other => panic!("{other:?}"),
        }
    }
}

fn item(item_id: u64, question: EvaluateRequest) -> EvaluateStreamRequest {
    EvaluateStreamRequest { item_id, question: Some(question), timeout: None }
}

/// A suite, its agent's id, the example's backend, and a good token.
async fn scene() -> (Raised, String, Client, Shown) {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let token = payments.runtime.token(AUDIENCE).await.unwrap();
    let shown = Shown { token: token.access_token, presenter: payments.runtime.identity().x5t_s256().unwrap() };
    let backend = raised.dial("policy-decision", payments.backend.clone());
    let first = ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1"), token.revision)).await;
    assert_eq!(word(&first), "ALLOWED");
    (raised, id_of(&payments.agent), backend, shown)
}

/// What is said of one question whoever carries it: all but the answer's own name and age.
fn essence(mut answer: EvaluateResponse) -> EvaluateResponse {
    assert!(answer.decision_id.starts_with("dec_") && answer.view_age.is_some());
    answer.decision_id.clear();
    answer.view_age = None;
    answer.valid_until = answer.valid_until.map(|_| prost_types::Timestamp::default());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_as_a_single_call_does_and_hears_of_a_suspension() {
    let (raised, agent, backend, shown) = scene().await;
    let mut line = Line::open(&backend).await;
    let read = |id: &str| question(&shown, "invoice:read", id);
    let mut spoilt = read("apollo/1");
    spoilt.subject.as_mut().unwrap().presenter_x5t_s256 = vec![9; 32];
    let several = [
        read("apollo/1"),
        read("zeus/1"),
        sealed(read("apollo/1")),
        question(&shown, "invoice:burn", "apollo/1"),
        spoilt,
    ];
    for (n, one) in (0..).zip(several) {
        let single = ask(&backend, one.clone()).await;
        assert_eq!(essence(line.ask(n, one).await), essence(single));
    }

    let which = Some(AgentRef { id: agent, ..AgentRef::default() });
    let request = SuspendAgentRequest { agent: which, reason: "odd reads".into(), ..Default::default() };
    let suspended = AgentServiceClient::new(raised.operator("registry")).suspend_agent(request).await.unwrap();
    let (revision, acked) = (suspended.into_inner().revision, Instant::now());
    let answer = line.ask(100, at_least(read("apollo/1"), revision)).await;
    assert_eq!(word(&answer), "AGENT_SUSPENDED");
    assert!(acked.elapsed() < Duration::from_secs(5), "{:?}", acked.elapsed());
    for n in 101..200 {
        let answer = line.ask(n, read("apollo/1")).await;
        assert!(word(&answer) == "AGENT_SUSPENDED" && answer.revision >= revision, "{answer:?}");
    }
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_an_enforcement_point_that_is_taken_back_is_cut() {
    let (raised, _, backend, shown) = scene().await;
    let mut line = Line::open(&backend).await;
    assert_eq!(word(&line.ask(1, question(&shown, "invoice:read", "apollo/1")).await), "ALLOWED");
    let request = RevokeDeclarationRequest {
        kind: Kind::EnforcementPoint.into(),
        namespace: "payments".into(),
        name: "invoices".into(),
        reason: "a test".into(),
        ..Default::default()
    };
    let revoked = DeclarationServiceClient::new(raised.operator("registry")).revoke_declaration(request).await;
    revoked.unwrap();
    let begin = Instant::now();
    let mut n = 2;
    // Whether it asks or not: it is told no more, and then nothing.
    let ended = loop {
        n += 1;
        if line.asks.send(item(n, question(&shown, "invoice:read", "apollo/1"))).await.is_err() {
            break line.next().await;
        }
        match line.next().await {
            Ok(Some(_)) => assert!(begin.elapsed() < Duration::from_secs(5), "the stream lives on"),
            ended => break ended,
        }
    };
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let again = DecisionServiceClient::new(backend).evaluate(question(&shown, "invoice:read", "apollo/1")).await;
    assert_ne!(Told::from_status(&again.unwrap_err()).code, Code::Ok);
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_at_once_are_each_answered_once() {
    const ALL: u64 = 10_000;
    let (raised, _, backend, shown) = scene().await;
    let Line { asks, mut answers } = Line::open(&backend).await;
    let asked = shown.clone();
    let asking = tokio::spawn(async move {
        for n in 0..ALL {
            let mut one = question(&asked, "invoice:read", &format!("apollo/{n}"));
            match n % 100 {
                // Larger than a context may be.
                1 => one.context = Some(text_of(70_000)),
                2 => one.action = "not an action".into(),
                _ => {}
            }
            asks.send(item(n, one)).await.unwrap();
        }
    });
    // Others are answered meanwhile, though nothing of all this is taken.
    for n in 0..20 {
        assert_eq!(word(&ask(&backend, question(&shown, "invoice:read", &format!("apollo/{n}"))).await), "ALLOWED");
    }
    let mut taken: BTreeMap<u64, bool> = BTreeMap::new();
    while let Some(said) = tokio::time::timeout(LONG * 3, answers.message()).await.unwrap().unwrap() {
        let allowed = match said.outcome.unwrap() {
            // On a machine that is busy enough it cannot be decided, or recorded, in time.
            Outcome::Answer(answer) => {
                assert!(word(&answer) == "ALLOWED" || answer.denial() == Denial::Undecided, "{answer:?}");
                true
            }
            // An ALLOW that was not taken while it was good, or a question that cannot be read.
            Outcome::Error(error) => {
                let of_time = error.code == i32::from(Code::DeadlineExceeded);
                assert!(of_time || error.code == i32::from(Code::InvalidArgument), "{error:?}");
                of_time
            }
        };
        assert_eq!(taken.insert(said.item_id, allowed), None, "{} is answered twice", said.item_id);
        assert_eq!(allowed, !matches!(said.item_id % 100, 1 | 2), "{}", said.item_id);
    }
    asking.await.unwrap();
    assert_eq!(taken.len(), usize::try_from(ALL).unwrap());
    raised.suite.shutdown().await;
}

fn text_of(bytes: usize) -> Struct {
    let value = Value { kind: Some(ValueKind::StringValue("x".repeat(bytes))) };
    Struct { fields: BTreeMap::from([("text".to_owned(), value)]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_breaks_is_its_own_stream() {
    let (raised, _, backend, shown) = scene().await;
    let good = || question(&shown, "invoice:read", "apollo/1");
    // A message larger than any may be ends the stream, with a status.
    let mut line = Line::open(&backend).await;
    let mut huge = good();
    huge.context = Some(text_of(5 << 20));
    line.asks.send(item(1, huge)).await.unwrap();
    assert_eq!(line.next().await.unwrap_err().code(), Code::OutOfRange);
    // Left in the midst of it, again and again.
    for _ in 0..100 {
        let line = Line::open_when_free(&backend).await;
        for n in 0..8 {
            line.asks.send(item(n, good())).await.unwrap();
        }
        drop(line);
    }
    // Closed by the caller: everything is answered, then it ends.
    let Line { asks, mut answers } = Line::open_when_free(&backend).await;
    for n in 0..50 {
        asks.send(item(n, good())).await.unwrap();
    }
    drop(asks);
    let mut all = 0;
    while let Some(said) = tokio::time::timeout(LONG, answers.message()).await.unwrap().unwrap() {
        assert!(matches!(said.outcome, Some(Outcome::Answer(answer)) if word(&answer) == "ALLOWED"));
        all += 1;
    }
    assert_eq!(all, 50);
    // Too many of one caller are refused; places that are free again are given again.
    let mut held = Vec::new();
    let begin = Instant::now();
    let refused = loop {
        let (asks, items) = mpsc::channel(1);
        match DecisionServiceClient::new(backend.clone()).evaluate_stream(ReceiverStream::new(items)).await {
            Ok(opened) => held.push((asks, opened)),
            Err(status) => break Told::from_status(&status),
        }
        assert!(held.len() <= 64 && begin.elapsed() < LONG);
    };
    assert_eq!((refused.reason.as_str(), refused.code), ("OVERLOADED", Code::ResourceExhausted));
    assert!(refused.retry_after.is_some());
    drop(held);
    assert_eq!(word(&ask(&backend, good()).await), "ALLOWED");
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_lets_its_streams_go() {
    let (mut raised, _, backend, shown) = scene().await;
    let mut line = Line::open(&backend).await;
    assert_eq!(word(&line.ask(1, question(&shown, "invoice:read", "apollo/1")).await), "ALLOWED");
    let begin = Instant::now();
    let (ended, ()) = tokio::join!(line.next(), raised.suite.lower("policy-decision"));
    assert_eq!(Told::from_status(&ended.unwrap_err()).reason, "STREAM_STOPPING");
    assert!(begin.elapsed() < Duration::from_secs(5), "an idle stream held the service up for {:?}", begin.elapsed());
    raised.suite.shutdown().await;
}
