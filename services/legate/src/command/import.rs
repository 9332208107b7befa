//! `legate import`: very many objects, one a line, over one stream.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use legate_rpc::Code;
use legate_wire::registry::bulk_apply_request::Part;
use legate_wire::registry::bulk_service_client::BulkServiceClient;
use legate_wire::registry::{
    BulkAction, BulkApplyRequest, BulkApplyResponse, BulkEnd, BulkItem, BulkItems, BulkMode, BulkOutcome, BulkStart,
    ChangeAction, Declaration, DeclarationChange, Kind, ObjectName, Origin,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Desk;
use crate::cli::Import;
use crate::error::{FILE_REFUSED, MANIFEST_INVALID};
use crate::output::{Row, change_label, say, tried_lines};
use crate::place::{Line, Service};
use crate::{Exit, Failure, manifest, proto};

/// Items in one message.
const IN_MESSAGE: usize = 500;
/// Bytes in one message; it may be larger by one item.
const MESSAGE_BYTES: usize = 4 << 20;
/// The longest line.
const LONGEST_LINE: usize = 1 << 20;
/// Lines that are named in one failure.
const NAMED: usize = 64;
/// Outcomes that are kept for the answer.
const KEPT: usize = 10_000;
/// How often progress is told.
const EVERY: Duration = Duration::from_secs(1);

/// Some lines, read.
#[derive(Default)]
struct Piece {
    items: Vec<BulkItem>,
    bytes: usize,
    /// Lines that are no objects, and why.
    wrong: Vec<(usize, String)>,
}

/// What came of everything.
#[derive(Default)]
struct Tally {
    done: usize,
    of: BTreeMap<BulkAction, usize>,
    refused: Vec<BulkOutcome>,
    revision: u64,
    /// What a trial tells beside what is refused: what is new, what differs, and what is known and said to be otherwise.
    tried: Vec<Tried>,
    /// Known, and said to be otherwise.
    otherwise: usize,
}

/// What would become of a line.
struct Tried {
    line: String,
    change: DeclarationChange,
    outcome: BulkOutcome,
}

/// What the lines are called that were sent and not answered; `None`: nobody asks.
type Names = Option<Arc<Mutex<HashMap<String, ObjectName>>>>;

pub(super) async fn import(desk: Desk, args: Import) -> Result<Exit, Failure> {
    let start = BulkStart {
        mode: if args.all_or_nothing { BulkMode::AllOrNothing } else { BulkMode::Each }.into(),
        request_id: args.request_id,
        reason: args.reason,
        origin: if args.discovered { Origin::Discovered } else { Origin::Registered }.into(),
        plan_only: args.dry_run,
        ..BulkStart::default()
    };
    let names: Names = args.dry_run.then(Arc::default);
    let mut pieces = read(args.file, args.agents || args.discovered);
    if args.all_or_nothing {
        pieces = whole(pieces).await?;
    }
    let registry = desk.line(Service::Registry)?;
    registry.show(&BulkApplyRequest { part: Some(Part::Start(start.clone())) });
    let open = registry.open(|client| async move {
        let (asks, outgoing) = mpsc::channel(2);
        let answers = BulkServiceClient::new(client).bulk_apply(ReceiverStream::new(outgoing)).await?;
        Ok((asks, answers.into_inner()))
    });
    let (asks, answers) = open.await?;
    let feeding = tokio::spawn(feed(start, pieces, asks, names.clone()));
    let heard = hear(&registry, answers, &names).await;
    if heard.is_err() && !feeding.is_finished() {
        feeding.abort();
    }
    let fed = feeding.await;
    // What went wrong here ended the stream there, and not the other way round.
    let wrong = match (fed, &heard) {
        (Ok(Err(failure)), _) => return Err(failure),
        (Ok(Ok(wrong)), _) => wrong,
        (Err(_), Err(failure)) => return Err(failure.clone()),
        (Err(e), Ok(_)) => return Err(Failure::local(&FILE_REFUSED, e.to_string())),
    };
    let tally = heard?;
    if args.dry_run {
        return tell_tried(&desk, tally, wrong, args.detailed_exitcode);
    }
    tell(&desk, tally, wrong)
}

/// Reads the file on a thread of its own; what is read waits until it is sent.
fn read(path: PathBuf, agents: bool) -> mpsc::Receiver<Result<Piece, Failure>> {
    let (out, pieces) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        if let Err(failure) = read_lines(&path, agents, &out) {
            // Nobody waits any more: the import has failed before.
            drop(out.blocking_send(Err(failure)));
        }
    });
    pieces
}

fn read_lines(path: &Path, agents: bool, out: &mpsc::Sender<Result<Piece, Failure>>) -> Result<(), Failure> {
    let refused = |e: std::io::Error| Failure::file(path, e);
    let mut from: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        Box::new(BufReader::with_capacity(1 << 20, std::fs::File::open(path).map_err(refused)?))
    };
    let (mut piece, mut text) = (Piece::default(), Vec::new());
    for number in 1.. {
        text.clear();
        let read = from.by_ref().take(LONGEST_LINE as u64 + 1).read_until(b'\n', &mut text).map_err(refused)?;
        if read == 0 {
            break;
        }
        if read > LONGEST_LINE {
            return Err(Failure::file(path, format!("line {number} is over 1 MiB")));
        }
        let line = std::str::from_utf8(&text).map(str::trim);
        match line.map(|line| (line.is_empty(), manifest::line(path, number, line, agents))) {
            Ok((true, _)) => continue,
            Ok((false, Ok(declaration))) => {
                let item = BulkItem { key: number.to_string(), declaration: Some(declaration), removal: None };
                piece.bytes += item.encoded_len();
                piece.items.push(item);
            }
            Ok((false, Err(e))) => piece.wrong.push((number, e.to_string())),
            Err(_) => piece.wrong.push((number, format!("{}:{number}: is no UTF-8", path.display()))),
        }
        let is_full = piece.items.len() >= IN_MESSAGE || piece.bytes >= MESSAGE_BYTES || piece.wrong.len() >= NAMED;
        if is_full && out.blocking_send(Ok(std::mem::take(&mut piece))).is_err() {
            return Ok(());
        }
    }
    drop(out.blocking_send(Ok(piece)));
    Ok(())
}

/// All of it, before any of it is sent: where one line is wrong, nothing is.
async fn whole(
    mut pieces: mpsc::Receiver<Result<Piece, Failure>>,
) -> Result<mpsc::Receiver<Result<Piece, Failure>>, Failure> {
    let (mut all, mut wrong) = (Vec::new(), Vec::new());
    while let Some(piece) = pieces.recv().await {
        let mut piece = piece?;
        wrong.append(&mut piece.wrong);
        all.push(piece);
        // More than that the registry does not take at once.
        if wrong.len() > NAMED || all.len() > 1_000 {
            break;
        }
    }
    if let Some((_, first)) = wrong.first() {
        let mut failure = Failure::local(&MANIFEST_INVALID, format!("{first}; nothing is written"));
        failure.fields = wrong.iter().skip(1).take(NAMED).map(|(n, why)| (format!("line {n}"), why.clone())).collect();
        return Err(failure);
    }
    let (out, again) = mpsc::channel(all.len().max(1));
    for piece in all {
        // There is room for all of them.
        drop(out.try_send(Ok(piece)));
    }
    Ok(again)
}

/// Sends everything; how many lines were no objects.
async fn feed(
    start: BulkStart,
    mut pieces: mpsc::Receiver<Result<Piece, Failure>>,
    asks: mpsc::Sender<BulkApplyRequest>,
    names: Names,
) -> Result<usize, Failure> {
    let (mut count, mut wrong) = (0, 0);
    let mut part = Some(Part::Start(start));
    loop {
        if let Some(part) = part.take()
            && asks.send(BulkApplyRequest { part: Some(part) }).await.is_err()
        {
            // The registry ended the stream, and says why on the other side of it.
            return Ok(wrong);
        }
        let Some(piece) = pieces.recv().await else { break };
        let piece = piece?;
        wrong += piece.wrong.len();
        for (_, why) in &piece.wrong {
            say(why);
        }
        count += piece.items.len();
        if let Some(names) = &names {
            let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
            names.extend(piece.items.iter().map(|item| (item.key.clone(), name_of(item))));
        }
        part = (!piece.items.is_empty()).then_some(Part::Items(BulkItems { items: piece.items }));
    }
    drop(asks.send(BulkApplyRequest { part: Some(Part::End(BulkEnd { items: count as u64 })) }).await);
    Ok(wrong)
}

/// Takes the answers in, and tells how far it is.
async fn hear(registry: &Line, mut answers: Streaming<BulkApplyResponse>, names: &Names) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let mut last = Instant::now();
    while let Some(answer) = answers.message().await.map_err(|status| registry.failure(&status))? {
        if let Some(names) = names {
            tally.try_on(&answer, names);
        }
        tally.take(answer);
        if last.elapsed() >= EVERY {
            last = Instant::now();
            say(&format!("{} done, {} refused", tally.done, tally.count(BulkAction::Refused)));
        }
    }
    Ok(tally)
}

impl Tally {
    fn take(&mut self, answer: BulkApplyResponse) {
        self.done += answer.outcomes.len();
        self.revision = self.revision.max(answer.revision);
        for outcome in answer.outcomes {
            *self.of.entry(outcome.action()).or_default() += 1;
            if outcome.action() == BulkAction::Refused {
                say(&format!("line {}: {}: {}", outcome.key, outcome.reason_code, outcome.refusal));
                // Kept for the answer and for the exit code; a file of refusals only is bounded too.
                if self.refused.len() < KEPT {
                    self.refused.push(outcome);
                }
            }
        }
    }

    /// Keeps what a trial tells.
    fn try_on(&mut self, answer: &BulkApplyResponse, names: &Mutex<HashMap<String, ObjectName>>) {
        let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
        for outcome in &answer.outcomes {
            let ObjectName { kind, namespace, name } = names.remove(&outcome.key).unwrap_or_default();
            let is_known = outcome.action() == BulkAction::Unchanged;
            self.otherwise += usize::from(is_known && !outcome.fields.is_empty());
            let says_nothing = is_known && outcome.fields.is_empty() || outcome.action() == BulkAction::Refused;
            if says_nothing || self.tried.len() >= KEPT {
                continue;
            }
            let action = match outcome.action() {
                BulkAction::Created => ChangeAction::Created,
                BulkAction::Updated => ChangeAction::Updated,
                _ => ChangeAction::Unchanged,
            };
            let (id, fields) = (outcome.id.clone(), outcome.fields.clone());
            let change = DeclarationChange { action: action.into(), kind, namespace, name, id, fields };
            self.tried.push(Tried { line: outcome.key.clone(), change, outcome: outcome.clone() });
        }
    }

    fn count(&self, action: BulkAction) -> usize {
        self.of.get(&action).copied().unwrap_or_default()
    }

    /// Denied where nothing else was refused than what the caller may not do.
    fn exit(&self, wrong: usize) -> Exit {
        let reasons = || legate_registry::REASONS.iter().chain(legate_rpc::REASONS);
        let is_denied = |outcome: &BulkOutcome| {
            reasons().any(|reason| reason.name == outcome.reason_code && reason.code == Code::PermissionDenied)
        };
        match wrong + self.count(BulkAction::Refused) {
            0 => Exit::Done,
            _ if wrong == 0 && self.refused.iter().all(is_denied) => Exit::Denied,
            _ => Exit::Usage,
        }
    }
}

fn tell(desk: &Desk, tally: Tally, wrong: usize) -> Result<Exit, Failure> {
    let exit = tally.exit(wrong);
    let refused = wrong + tally.count(BulkAction::Refused);
    let text = format!(
        "{} created, {} changed, {} unchanged, {refused} refused; the registry is at revision {}.",
        tally.count(BulkAction::Created),
        tally.count(BulkAction::Updated),
        tally.count(BulkAction::Unchanged),
        tally.revision
    );
    let mut out = desk.out();
    if out.is_table() {
        out.line(&text)?;
        out.flush()?;
        return Ok(exit);
    }
    say(&text);
    let row = |outcome: &BulkOutcome| Row {
        cells: Vec::new(),
        name: outcome.key.clone(),
        message: proto::dynamic(outcome),
        node: None,
    };
    let rows: Vec<Row> = tally.refused.iter().map(row).collect();
    out.rows(&proto::dynamic(&BulkApplyResponse { outcomes: tally.refused, revision: tally.revision }), &rows, "")?;
    Ok(exit)
}

/// What the object of a line is called.
fn name_of(item: &BulkItem) -> ObjectName {
    let declaration = item.declaration.as_ref();
    let metadata = declaration.and_then(Declaration::metadata).cloned().unwrap_or_default();
    let kind = declaration.and_then(Declaration::kind).unwrap_or(Kind::Unspecified).into();
    ObjectName { kind, namespace: metadata.namespace, name: metadata.name }
}

/// Tells what would be done; what would be refused was told line by line as it came.
fn tell_tried(desk: &Desk, tally: Tally, wrong: usize, detailed: bool) -> Result<Exit, Failure> {
    let (new, changed) = (tally.count(BulkAction::Created), tally.count(BulkAction::Updated));
    let exit = match tally.exit(wrong) {
        Exit::Done if detailed && new + changed > 0 => Exit::Changes,
        exit => exit,
    };
    let text = format!(
        "{new} new, {changed} would change, {} known, {} of these said to be otherwise and left as they are, {} refused; nothing is \
         written, and the registry is at revision {}.",
        tally.count(BulkAction::Unchanged),
        tally.otherwise,
        wrong + tally.count(BulkAction::Refused),
        tally.revision
    );
    let mut out = desk.out();
    if out.is_table() {
        for Tried { line, change, .. } in &tally.tried {
            let mut told = tried_lines(change).into_iter();
            let first = told.next().unwrap_or_default();
            out.line(&format!("line {line}: {first}"))?;
            told.try_for_each(|line| out.line(&line))?;
        }
        let more = (new + changed + tally.otherwise).saturating_sub(tally.tried.len());
        if more > 0 {
            out.line(&format!("... and {more} more"))?;
        }
        out.line(&text)?;
        out.flush()?;
        return Ok(exit);
    }
    say(&text);
    let name = |tried: &Tried| format!("{}: {}", tried.line, change_label(&tried.change));
    let row = |name: String, outcome: &BulkOutcome| Row {
        cells: Vec::new(),
        name,
        message: proto::dynamic(outcome),
        node: None,
    };
    let mut rows: Vec<Row> = tally.tried.iter().map(|tried| row(name(tried), &tried.outcome)).collect();
    rows.extend(tally.refused.iter().map(|outcome| row(outcome.key.clone(), outcome)));
    let outcomes = tally.tried.into_iter().map(|tried| tried.outcome).chain(tally.refused).collect();
    out.rows(&proto::dynamic(&BulkApplyResponse { outcomes, revision: tally.revision }), &rows, "")?;
    Ok(exit)
}
