//! `legate audit`: what happened, and the proof of it.

use std::path::Path;

use legate_batch::rotated::follow;
use legate_merkle::{Checkpoint, KeyChain, VerifierKey, leaf_hash, verify_inclusion};
use legate_wire::audit::proof_service_client::ProofServiceClient;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{
    EventOrder, GetCheckpointRequest, GetCheckpointResponse, IndexedEvent, KeyRotation, QueryEventsRequest,
    QueryEventsResponse,
};

use super::Desk;
use super::agent::cut;
use super::query::question;
use crate::cli::{AuditVerb, Filter, LogKey};
use crate::error::{CONTEXT_MISSING, VERIFICATION_FAILED};
use crate::evidence::{Signatures, said};
use crate::output::{Format, Row, event_row};
use crate::place::{Line, Service};
use crate::{Exit, Failure, proto};

/// Events at a time.
pub(super) const PAGE: u32 = 500;
/// Events with their proofs at a time.
pub(super) const PROVED_PAGE: u32 = 200;

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
        AuditVerb::Export(args) => super::audit_export::run(desk, args).await,
        AuditVerb::Checkpoint { cosigned, key } => checkpoint(desk, cosigned, key).await,
        AuditVerb::Prove { leaf, cosigned, tlog_proof, cose_receipt, entry, key } => {
            let key = verifier_key(&key)?;
            let files = super::prove::Files { tlog_proof, cose_receipt, entry };
            super::prove::prove(desk, leaf, cosigned, key, files).await
        }
        AuditVerb::Receipts(args) => super::receipts::run(desk, args).await,
        AuditVerb::Evidence(args) => super::evidence::make(desk, *args).await,
    }
}

pub(super) async fn page(audit: &Line, request: &QueryEventsRequest) -> Result<QueryEventsResponse, Failure> {
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
    let keys = match &proved {
        None => None,
        Some(key) => Some(newest(&audit, key, false, 0).await?.keys),
    };
    let mut whole = QueryEventsResponse::default();
    loop {
        let found = page(&audit, &request).await?;
        if let Some(keys) = &keys {
            verify_page(keys, &found)?;
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
    let more = if keys.is_some() { format!("; each is proved to be in the log{more}") } else { more.to_owned() };
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
fn verify_page(keys: &KeyChain, page: &QueryEventsResponse) -> Result<(), Failure> {
    let signed =
        keys.open(page.checkpoint.as_bytes()).map_err(|e| unverified(format!("the checkpoint is refused: {e}")))?;
    verify_events(&signed, &page.events)
}

/// Verifies each event against the tree of one checkpoint.
pub(super) fn verify_events(signed: &Checkpoint, events: &[IndexedEvent]) -> Result<(), Failure> {
    let mut signatures = Signatures::default();
    for one in events {
        let at = one.leaf_index;
        let proof: Option<Vec<[u8; 32]>> = one.proof.iter().map(|h| h.as_slice().try_into().ok()).collect();
        let proof = proof.ok_or_else(|| unverified(format!("leaf {at}: a hash of the proof has not 32 bytes")))?;
        verify_inclusion(at, signed.size, &leaf_hash(&one.leaf), &proof, &signed.root)
            .map_err(|e| unverified(format!("leaf {at}: {e}")))?;
        let event = said(&one.leaf, &one.personal).map_err(|what| unverified(format!("leaf {at}: {what}")))?;
        if one.event.as_ref() != Some(&event) {
            return Err(unverified(format!("leaf {at} is in the log, and says something else than what was shown")));
        }
        signatures.take(signed, one, &event).map_err(|what| unverified(format!("leaf {at}: {what}")))?;
    }
    Ok(())
}

/// Asks for page after page, as long as whoever takes them wants more.
pub(super) async fn each_page(
    audit: &Line,
    mut request: QueryEventsRequest,
    mut take: impl FnMut(&QueryEventsResponse) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    loop {
        let found = page(audit, &request).await?;
        let goes_on = take(&found)?;
        request.page_token = found.next_page_token;
        if request.page_token.is_empty() || !goes_on {
            return Ok(());
        }
    }
}

/// The log's public key. It has to come from somewhere else than from the log's own service.
pub(super) fn verifier_key(key: &LogKey) -> Result<VerifierKey, Failure> {
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

/// A checkpoint that was verified.
pub(super) struct Newest {
    /// As it was signed.
    pub(super) answer: GetCheckpointResponse,
    pub(super) tree: Checkpoint,
    /// The keys of the log up to there, by its rotations.
    pub(super) keys: KeyChain,
}

impl Newest {
    /// The rotations of the log's key, each proved to be in the tree.
    pub(super) fn rotations(&self) -> &[KeyRotation] {
        &self.answer.key_rotations
    }
}

/// The newest checkpoint that covers so many leaves, signed by the key that was given, or by one that rotations of the log lead to.
pub(super) async fn newest(
    audit: &Line,
    key: &VerifierKey,
    cosigned: bool,
    at_least_size: u64,
) -> Result<Newest, Failure> {
    let request = GetCheckpointRequest { cosigned, at_least_size };
    let answer = audit.ask(request, |c, r| async move { ProofServiceClient::new(c).get_checkpoint(r).await }).await?;
    let (tree, keys) = follow(key, answer.checkpoint.as_bytes(), &answer.key_rotations)
        .map_err(|e| unverified(format!("the checkpoint is refused: {e}")))?;
    Ok(Newest { answer, tree, keys })
}

async fn checkpoint(desk: Desk, cosigned: bool, key: LogKey) -> Result<Exit, Failure> {
    let key = verifier_key(&key)?;
    let audit = desk.line(Service::Audit)?;
    let answer = newest(&audit, &key, cosigned, 0).await?.answer;
    let mut out = desk.out();
    match out.format {
        Format::Json | Format::Jsonl => out.json(&proto::dynamic(&answer), desk.format == Format::Json)?,
        // As it was signed, so that a file of it can be given to legate verify --checkpoint.
        _ => out.line(answer.checkpoint.trim_end_matches('\n'))?,
    }
    out.flush()?;
    Ok(Exit::Done)
}
