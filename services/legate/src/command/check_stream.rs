//! `legate check --stream`: questions from standard input, one a line, asked over one stream.

use std::io::{BufRead as _, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream;
use legate_rpc::Told;
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::evaluate_stream_response::Outcome;
use legate_wire::policy::{Decision, EvaluateRequest, EvaluateStreamRequest, EvaluateStreamResponse};
use prost::{Message as _, Name as _};
use prost_reflect::DynamicMessage;
use tokio::sync::mpsc;

use super::Desk;
use crate::error::USAGE;
use crate::output::{Format, Out};
use crate::place::Service;
use crate::{Exit, Failure, identity, proto};

/// The longest line, in bytes: a question with a full context and attributes fits.
const LONGEST: u64 = 1 << 20;
/// How long the input may take to end once the stream has.
const GRACE: Duration = Duration::from_secs(1);
/// Lines that are read ahead.
const AHEAD: usize = 64;

/// What was read: the number of the line, and the question or why there is none.
type Read = (u64, Result<EvaluateRequest, String>);

pub(super) async fn run(desk: Desk, as_whom: Option<PathBuf>) -> Result<Exit, Failure> {
    let policy = match as_whom {
        Some(dir) => desk.line_as(Service::Policy, identity::open(&dir)?)?,
        None => desk.line(Service::Policy)?,
    };
    let (tell, mut lines) = mpsc::channel(AHEAD);
    std::thread::spawn(move || read(&tell));
    let (asks, items) = mpsc::channel(AHEAD);
    let (refuse, mut refused) = mpsc::channel(AHEAD);
    let items = std::sync::Mutex::new(Some(items));
    let mut answers = policy
        .open(|client| {
            let items = items.lock().ok().and_then(|mut items| items.take());
            let items = stream::unfold(items, |items| async {
                let mut items: mpsc::Receiver<EvaluateStreamRequest> = items?;
                Some((items.recv().await?, Some(items)))
            });
            async move { DecisionServiceClient::new(client).evaluate_stream(items).await }
        })
        .await?
        .into_inner();
    // Beside the answers: a service that waits for them to be taken reads no questions.
    let asking = tokio::spawn(async move {
        let mut asked = 0_u64;
        while let Some((item_id, question)) = lines.recv().await {
            let sent = match question {
                Ok(question) => {
                    asked += 1;
                    asks.send(EvaluateStreamRequest { item_id, question: Some(question), timeout: None }).await.is_ok()
                }
                Err(why) => refuse.send((item_id, why)).await.is_ok(),
            };
            if !sent {
                break;
            }
        }
        asked
    });
    let (mut answered, mut denied, mut ended, mut whole) = (0_u64, false, false, false);
    while !(ended && whole) {
        tokio::select! {
            bad = refused.recv(), if !whole => match bad {
                Some((item_id, why)) => {
                    denied = true;
                    say_error(item_id, USAGE.code.into(), USAGE.name, &why)?;
                }
                None => whole = true,
            },
            said = answers.message(), if !ended => match said.map_err(|status| policy.failure(&status))? {
                Some(said) => {
                    answered += 1;
                    denied |= !say(&said)?;
                }
                None => ended = true,
            },
            // It ended by itself, and nobody says when the input will.
            () = tokio::time::sleep(GRACE), if ended => break,
        }
    }
    let asked = if whole { asking.await.ok() } else { None };
    if asked != Some(answered) {
        let why = "the stream ended before every question was answered; ask the others again";
        return Err(Failure::unreachable("policy-decision", "its stream", why));
    }
    Ok(if denied { Exit::Denied } else { Exit::Done })
}

/// Reads lines until there are no more, or nobody wants them.
fn read(tell: &mpsc::Sender<Read>) {
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let question = match (&mut input).take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.trim_ascii().is_empty() => continue,
            Ok(_) => question(&line),
            Err(e) => Err(format!("standard input: {e}")),
        };
        // What follows in a line that is too long would be taken for lines.
        let is_last = line.len() as u64 >= LONGEST;
        let question = if is_last { Err(format!("the line is longer than {LONGEST} bytes")) } else { question };
        if tell.blocking_send((number, question)).is_err() || is_last {
            return;
        }
    }
}

fn question(line: &[u8]) -> Result<EvaluateRequest, String> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let said = DynamicMessage::deserialize(proto::message(&EvaluateRequest::full_name()), &mut json)
        .and_then(|said| json.end().map(|()| said));
    let said = said.map_err(|e| format!("the line is no EvaluateRequest: {e}"))?;
    said.transcode_to().map_err(|e| e.to_string())
}

/// Writes what was said; whether it is an ALLOW.
fn say(said: &EvaluateStreamResponse) -> Result<bool, Failure> {
    match &said.outcome {
        Some(Outcome::Answer(answer)) => {
            let mut out = Out::stdout(Format::Jsonl);
            out.json(&proto::dynamic(said), false)?;
            out.flush()?;
            Ok(answer.decision() == Decision::Allow)
        }
        Some(Outcome::Error(error)) => {
            let told = Told::from_item(error.code, &error.message, error.encode_to_vec());
            say_error(said.item_id, error.code, &told.reason, &told.message)?;
            Ok(false)
        }
        None => Ok(false),
    }
}

fn say_error(item_id: u64, code: i32, reason: &str, message: &str) -> Result<(), Failure> {
    let error = serde_json::json!({ "code": code, "reason": reason, "message": message });
    // As the protobuf JSON has it: 64 bits are a text.
    let line = serde_json::json!({ "itemId": item_id.to_string(), "error": error });
    let mut out = Out::stdout(Format::Jsonl);
    out.line(&crate::output::escape::visible_json(&line.to_string()))?;
    out.flush()
}
