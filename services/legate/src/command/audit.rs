//! `legate audit`: what happened, and the proof of it.

use std::io::Write;
use std::path::{Path, PathBuf};

use legate_merkle::{Checkpoint, VerifierKey, leaf_hash, verify_inclusion};
use legate_wire::audit::proof_service_client::ProofServiceClient;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{
    AuditEvent, EventOrder, GetCheckpointRequest, PersonalPart, ProveInclusionRequest, QueryEventsRequest,
    QueryEventsResponse,
};
use prost::Message;

use super::Desk;
use super::agent::cut;
use super::query::question;
use crate::cli::{AuditVerb, Filter, LogKey};
use crate::error::{CONTEXT_MISSING, VERIFICATION_FAILED};
use crate::output::{Format, Out, Row, event_details, event_row};
use crate::place::{Line, Service};
use crate::{Exit, Failure, proto};

/// Events at a time.
const PAGE: u32 = 500;
/// Events with their proofs at a time.
const PROVED_PAGE: u32 = 200;

pub(super) async fn run(desk: Desk, verb: AuditVerb) -> Result<Exit, Failure> {
    match verb {
        AuditVerb::Query { filter, limit, oldest_first, prove, key } => {
            let proved = prove.then(|| verifier_key(&key)).transpose()?;
            query(desk, filter, limit, oldest_first, proved).await
        }
        AuditVerb::Tail { filter, resume } => super::tail::tail(desk, filter, resume).await,
        AuditVerb::Usage(ask) => super::usage::usage(desk, ask).await,
        AuditVerb::Replay { namespace, agent, since, until } => {
            super::replay::replay(desk, namespace, agent, &since, until.as_deref()).await
        }
        AuditVerb::Report(ask) => super::report::report(desk, ask).await,
        AuditVerb::Export { filter, out } => export(desk, filter, out).await,
        AuditVerb::Checkpoint { key } => checkpoint(desk, key).await,
        AuditVerb::Prove { leaf, key } => prove(desk, leaf, key).await,
    }
}

async fn page(audit: &Line, request: &QueryEventsRequest) -> Result<QueryEventsResponse, Failure> {
    audit.ask(request.clone(), |c, r| async move { QueryServiceClient::new(c).query_events(r).await }).await
}

async fn query(
    desk: Desk,
    filter: Filter,
    limit: usize,
    oldest_first: bool,
    proved: Option<VerifierKey>,
) -> Result<Exit, Failure> {
    let mut request = question(&desk, filter).await?;
    let most = if proved.is_some() { PROVED_PAGE } else { PAGE };
    request.page_size = if limit == 0 { most } else { u32::try_from(limit).unwrap_or(most).min(most) };
    request.with_proofs = proved.is_some();
    if oldest_first {
        request.order = EventOrder::OldestFirst.into();
    }
    let audit = desk.line(Service::Audit)?;
    let mut whole = QueryEventsResponse::default();
    loop {
        let found = page(&audit, &request).await?;
        if let Some(key) = &proved {
            verify_page(key, &found)?;
        }
        // The watermark of the first page counts: later events are not in the answer.
        if request.page_token.is_empty() {
            (whole.indexed_through, whole.log_size) = (found.indexed_through, found.log_size);
            (whole.checkpoint, whole.tree_size) = (found.checkpoint, found.tree_size);
        }
        whole.events.extend(found.events);
        whole.next_page_token = found.next_page_token.clone();
        request.page_token = found.next_page_token;
        if request.page_token.is_empty() || (limit > 0 && whole.events.len() >= limit) {
            break;
        }
    }
    let more = cut(&mut whole.events, limit) || !whole.next_page_token.is_empty();
    let rows: Vec<Row> = whole.events.iter().map(event_row).collect();
    let plural = if rows.len() == 1 { "" } else { "s" };
    let more = if more { "; there are more, see --limit" } else { "" };
    let more = if proved.is_some() { format!("; each is proved to be in the log{more}") } else { more.to_owned() };
    let note = format!(
        "{} event{plural}; the index holds {} of the log's {} leaves{more}",
        rows.len(),
        whole.indexed_through,
        whole.log_size
    );
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

/// Verifies that each event of a page is in the log, and what was shown of it is what the log holds.
fn verify_page(key: &VerifierKey, page: &QueryEventsResponse) -> Result<(), Failure> {
    let signed = Checkpoint::open(page.checkpoint.as_bytes(), key, key.name())
        .map_err(|e| unverified(format!("the checkpoint is refused: {e}")))?;
    for one in &page.events {
        let at = one.leaf_index;
        let proof: Option<Vec<[u8; 32]>> = one.proof.iter().map(|h| h.as_slice().try_into().ok()).collect();
        let proof = proof.ok_or_else(|| unverified(format!("leaf {at}: a hash of the proof has not 32 bytes")))?;
        verify_inclusion(at, signed.size, &leaf_hash(&one.leaf), &proof, &signed.root)
            .map_err(|e| unverified(format!("leaf {at}: {e}")))?;
        if Some(said(at, &one.leaf, &one.personal)?) != one.event {
            return Err(unverified(format!("leaf {at} is in the log, and says something else than what was shown")));
        }
    }
    Ok(())
}

/// What a leaf says with the names that it commits to; each name is verified against its commitment.
fn said(at: u64, leaf: &[u8], personal: &[PersonalPart]) -> Result<AuditEvent, Failure> {
    let event =
        AuditEvent::decode(leaf).map_err(|e| unverified(format!("leaf {at} is in the log and is no event: {e}")))?;
    legate_personal::check(&event, personal, true).map_err(|e| unverified(format!("leaf {at}, its names: {e}")))?;
    Ok(legate_personal::shown(event, personal))
}

async fn export(desk: Desk, filter: Filter, file: Option<PathBuf>) -> Result<Exit, Failure> {
    let mut request = question(&desk, filter).await?;
    request.page_size = PAGE;
    let audit = desk.line(Service::Audit)?;
    let Some(path) = file else {
        let mut out = Out::stdout(Format::Jsonl);
        each_page(&audit, request, |rows| out.items(rows)).await?;
        return Ok(Exit::Done);
    };
    let refused = |e: std::io::Error| Failure::file(&path, e);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(refused)?;
    let mut to = std::io::BufWriter::new(file);
    let mut count = 0;
    each_page(&audit, request, |rows| {
        count += rows.len();
        for row in rows {
            let line = proto::json(&row.message, false).map_err(|e| refused(e.into()))?;
            writeln!(to, "{line}").map_err(refused)?;
        }
        Ok(())
    })
    .await?;
    to.flush().and_then(|()| to.get_ref().sync_all()).map_err(refused)?;
    crate::output::say(&format!("{count} events written to {}", path.display()));
    Ok(Exit::Done)
}

async fn each_page(
    audit: &Line,
    mut request: QueryEventsRequest,
    mut take: impl FnMut(&[Row]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        let found = page(audit, &request).await?;
        take(&found.events.iter().map(event_row).collect::<Vec<_>>())?;
        request.page_token = found.next_page_token;
        if request.page_token.is_empty() {
            return Ok(());
        }
    }
}

/// The log's public key. It has to come from somewhere else than from the log's own service.
fn verifier_key(key: &LogKey) -> Result<VerifierKey, Failure> {
    let path = match (&key.file, std::env::var_os("LEGATE_DIR")) {
        (Some(path), _) => path.clone(),
        (None, Some(dir)) => Path::new(&dir).join("log.pub"),
        (None, None) => {
            let what = "nobody said which key signs the log: --log-key is missing";
            return Err(Failure::local(&CONTEXT_MISSING, what));
        }
    };
    read_key(&path)
}

pub(super) fn read_key(path: &Path) -> Result<VerifierKey, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::file(path, e))?;
    VerifierKey::parse(text.trim()).map_err(|e| Failure::file(path, e))
}

pub(super) fn unverified(what: impl Into<String>) -> Failure {
    Failure::local(&VERIFICATION_FAILED, what)
}

async fn checkpoint(desk: Desk, key: LogKey) -> Result<Exit, Failure> {
    let key = verifier_key(&key)?;
    let audit = desk.line(Service::Audit)?;
    let answer = audit
        .ask(GetCheckpointRequest {}, |c, r| async move { ProofServiceClient::new(c).get_checkpoint(r).await })
        .await?;
    Checkpoint::open(answer.checkpoint.as_bytes(), &key, key.name())
        .map_err(|e| unverified(format!("the checkpoint is refused: {e}")))?;
    let mut out = desk.out();
    match out.format {
        Format::Json | Format::Jsonl => out.json(&proto::dynamic(&answer), desk.format == Format::Json)?,
        // As it was signed, so that a file of it can be given to legate verify --checkpoint.
        _ => out.line(answer.checkpoint.trim_end_matches('\n'))?,
    }
    out.flush()?;
    Ok(Exit::Done)
}

async fn prove(desk: Desk, leaf_index: u64, key: LogKey) -> Result<Exit, Failure> {
    let key = verifier_key(&key)?;
    let audit = desk.line(Service::Audit)?;
    let request = ProveInclusionRequest { leaf_index, tree_size: 0 };
    let answer = audit.ask(request, |c, r| async move { ProofServiceClient::new(c).prove_inclusion(r).await }).await?;
    let signed = Checkpoint::open(answer.checkpoint.as_bytes(), &key, key.name())
        .map_err(|e| unverified(format!("the checkpoint is refused: {e}")))?;
    if signed.size != answer.tree_size || signed.root.as_slice() != answer.root_hash.as_slice() {
        return Err(unverified("the proof is for another tree than the signed checkpoint"));
    }
    let proof: Option<Vec<[u8; 32]>> = answer.proof.iter().map(|h| h.as_slice().try_into().ok()).collect();
    let proof = proof.ok_or_else(|| unverified("a hash of the proof has not 32 bytes"))?;
    let leaf = leaf_hash(&answer.leaf);
    verify_inclusion(leaf_index, signed.size, &leaf, &proof, &signed.root)
        .map_err(|e| unverified(format!("leaf {leaf_index}: {e}")))?;
    let event = said(leaf_index, &answer.leaf, &answer.personal)?;
    let row = Row { cells: Vec::new(), name: event.event_id.clone(), message: proto::dynamic(&answer), node: None };
    let mut details = event_details(&event);
    details.push((
        "proved",
        format!(
            "leaf {leaf_index} is in the log of size {} signed by {}; {} hashes lead to its root",
            signed.size,
            key.name(),
            proof.len()
        ),
    ));
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}
