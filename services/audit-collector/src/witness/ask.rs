//! One witness is asked about one checkpoint (C2SP tlog-witness, `add-checkpoint`), and its word is not believed unseen.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use legate_clock::{Clock, Timestamp};
use legate_merkle::{AddCheckpoint, Hash, Note, NoteSignature};

use super::chosen::Witness;
use crate::log::{Log, Published};
use crate::outward::{Answer, Outward};

/// The whole of it, a second try after a conflict too.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// So much of an answer is read.
const LARGEST_ANSWER: usize = 64 << 10;

/// A cosignature says when it was made; so far its time may be from ours.
const SKEW: i64 = 300;

/// How a witness answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It cosigned.
    Cosigned(Vec<NoteSignature>),
    /// It was not reached, or cannot now.
    Failed(String),
    /// It does not cosign this log, or what it said is not the protocol.
    Refused(String),
    /// It says that what it saw of the log before is not the beginning of this.
    Disagrees(String),
}

impl Outcome {
    /// The word that is counted.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Cosigned(_) => "cosigned",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::Disagrees(_) => "disagrees",
        }
    }

    /// Why it did not cosign.
    pub(super) fn why(&self) -> Option<&str> {
        match self {
            Self::Cosigned(_) => None,
            Self::Failed(why) | Self::Refused(why) | Self::Disagrees(why) => Some(why),
        }
    }
}

/// Asks; `known` is the largest size that it cosigned before, as far as we know.
pub(super) async fn ask(
    outward: Outward,
    log: Log,
    witness: std::sync::Arc<Witness>,
    known: u64,
    newest: Published,
    clock: std::sync::Arc<dyn Clock>,
) -> Outcome {
    let late = || Outcome::Failed(format!("no answer within {} s", PATIENCE.as_secs()));
    let asking = async {
        match converse(&outward, &log, &witness, known, &newest, &*clock).await {
            Ok(lines) => Outcome::Cosigned(lines),
            Err(other) => other,
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| late())
}

async fn converse(
    outward: &Outward,
    log: &Log,
    witness: &Witness,
    known: u64,
    newest: &Published,
    clock: &dyn Clock,
) -> Result<Vec<NoteSignature>, Outcome> {
    let note = Note::parse(newest.note.as_bytes()).map_err(|e| Outcome::Failed(e.to_string()))?;
    let mut old = known.min(newest.size);
    // The size that it names in a conflict is where the second request begins; there is no third.
    for is_last in [false, true] {
        let proof = prove(log, old, newest.size).await?;
        let request = AddCheckpoint { old, proof, note: note.clone() };
        let headers = [("content-type", "text/plain; charset=utf-8")];
        let body = Bytes::from(request.to_string());
        let posting = outward.post(&witness.address, &witness.path, &headers, body, LARGEST_ANSWER);
        let answer = posting.await.map_err(Outcome::Failed)?;
        match answer.status {
            StatusCode::OK => return cosigned(witness, note, &answer, clock.now()),
            StatusCode::CONFLICT => {
                let its = size(&answer)?;
                at_its_size(its, old, known, newest.size)?;
                if is_last {
                    return Err(Outcome::Failed(format!("it is at {its} leaves, after it was asked from {old}")));
                }
                old = its;
            }
            StatusCode::UNPROCESSABLE_ENTITY => return Err(Outcome::Disagrees(said(&answer))),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => return Err(Outcome::Failed(said(&answer))),
            status if status.is_client_error() => return Err(Outcome::Refused(said(&answer))),
            // A redirect too: it would lead around the guard.
            _ => return Err(Outcome::Failed(said(&answer))),
        }
    }
    Err(Outcome::Failed("it names another size each time".into()))
}

/// Whether it makes sense to go on from the size that a witness says it is at.
fn at_its_size(its: u64, asked: u64, known: u64, newest: u64) -> Result<(), Outcome> {
    if its > newest {
        // What was published is on disk before anybody is asked about it, so this log never showed that.
        let why = format!(
            "it cosigned {its} leaves of this log, which has {newest}: the log was set back, or another is signed with its key"
        );
        return Err(Outcome::Disagrees(why));
    }
    if its < known {
        let why = format!(
            "it cosigned {known} leaves before, and says now that it is at {its}: it lost what it knew, and could cosign another log"
        );
        return Err(Outcome::Disagrees(why));
    }
    if its == asked {
        // So a witness by the first version of the standard says that the root differs.
        return Err(Outcome::Disagrees(format!("it was asked from {asked} leaves, and answered that it is there")));
    }
    Ok(())
}

async fn prove(log: &Log, old: u64, new: u64) -> Result<Vec<Hash>, Outcome> {
    if old == 0 {
        return Ok(Vec::new());
    }
    let proving = log.reading(move |log| log.prove_consistency(old, new)).await;
    let proved = proving.map_err(|e| e.to_string()).and_then(|proved| proved.map_err(|e| e.to_string()));
    Ok(proved.map_err(|why| Outcome::Failed(format!("our own log gives no proof: {why}")))?.proof)
}

/// The lines that are by its key, each checked; those of others are left out, as the standard says.
fn cosigned(witness: &Witness, note: Note, answer: &Answer, now: Timestamp) -> Result<Vec<NoteSignature>, Outcome> {
    let refused = |why: String| Outcome::Refused(format!("it answered with 200, and {why}"));
    let body = answer.body.as_ref().map_err(|e| Outcome::Failed(e.clone()))?;
    let text = std::str::from_utf8(body).map_err(|_| refused("its answer is not UTF-8".into()))?;
    let mut lines = NoteSignature::parse_lines(text).map_err(|e| refused(e.to_string()))?;
    lines.retain(|line| witness.key.is_named_by(line));
    // One is what it is asked for.
    lines.truncate(1);
    let time = witness.key.cosigned(&note.with(lines.clone())).map_err(|e| refused(e.to_string()))?;
    let time = time.ok_or_else(|| refused("no line is by the key that the policy names".into()))?;
    if i64::try_from(time).is_ok_and(|time| (now.secs() - time).abs() <= SKEW) {
        return Ok(lines);
    }
    Err(refused(format!("the time that it says is over {SKEW} s from ours: {time}")))
}

/// The size that it is at, from a conflict.
fn size(answer: &Answer) -> Result<u64, Outcome> {
    let refused = || Outcome::Refused("it answered with 409, and names no size (text/x.tlog.size)".into());
    let kind = answer.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.map(|kind| kind.split(';').next().unwrap_or_default().trim()) != Some("text/x.tlog.size") {
        return Err(refused());
    }
    let body = answer.body.as_ref().map_err(|e| Outcome::Failed(e.clone()))?;
    let text = std::str::from_utf8(body).ok().and_then(|text| text.strip_suffix('\n')).ok_or_else(refused)?;
    let size: u64 = text.parse().map_err(|_| refused())?;
    if size.to_string() == text { Ok(size) } else { Err(refused()) }
}

/// Its status, and the beginning of what it wrote: text of a stranger, for our log.
fn said(answer: &Answer) -> String {
    let text = answer.body.as_ref().map(|body| String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned());
    let text: String = text.unwrap_or_default().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.trim() {
        "" => format!("it answered with {}", answer.status),
        text => format!("it answered with {}: {text}", answer.status),
    }
}
