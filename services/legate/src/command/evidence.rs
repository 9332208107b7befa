//! `legate audit evidence`: events and their proofs in one file, for somebody who trusts neither us nor the log's services.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use legate_merkle::{Checkpoint, Hash, KeyChain, MAX_NOTE, TlogProof, verify_consistency};
use legate_wire::audit::proof_service_client::ProofServiceClient;
use legate_wire::audit::{
    EventOrder, IndexedEvent, KeyRotation, PackKind, ProveConsistencyRequest, QueryEventsRequest, RecordEvidenceRequest,
};
use sha2::{Digest as _, Sha256};

use super::Desk;
use super::audit::{PROVED_PAGE, each_page, newest, unverified, verifier_key, verify_events};
use super::query::question;
use super::verify::bounded;
use crate::cli::Evidence;
use crate::dossier::{About, Form};
use crate::evidence::{
    CHECKPOINT, CONTINUES, EVENTS, FORMAT, KEY, Listed, MADE_WITH, MANIFEST, Manifest, README, ROTATIONS,
    SEAL_CONTINUES, SEAL_LEAF, SEAL_PROOF, archive, continues, hex, readme, rotations,
};
use crate::place::{Line, Service};
use crate::{Exit, Failure, proto};

/// A tree by its size and root.
pub(super) type Tree = (u64, Hash);

pub(super) async fn make(desk: Desk, args: Evidence) -> Result<Exit, Failure> {
    let key = verifier_key(&args.key)?;
    let asked = question(&desk, args.filter).await?;
    let asked_by = desk.place.operator()?.spiffe_id().map(|id| id.to_string()).unwrap_or_default();
    let audit = desk.line(Service::Audit)?;
    let newest = newest(&audit, &key, args.cosigned, 0).await?;
    let kept = args.checkpoint.iter().map(|path| read_kept(path, &newest.keys)).collect::<Result<Vec<_>, _>>()?;
    let (signed, keys) = (&newest.tree, &newest.keys);
    let tree = (signed.size, signed.root);

    let mut files = vec![
        (README.to_owned(), readme(keys.name(), None).into_bytes()),
        (KEY.to_owned(), format!("{}\n", keys.newest()).into_bytes()),
        (CHECKPOINT.to_owned(), newest.answer.checkpoint.clone().into_bytes()),
    ];
    files.extend(rotated(newest.rotations())?);
    let mut known = std::collections::BTreeSet::from([tree.0]);
    for (size, root) in kept {
        if known.insert(size) {
            let proof = consistency(&audit, (size, root), tree).await?;
            files.push((format!("{CONTINUES}{size}"), proof));
        } else if size == tree.0 && root != tree.1 {
            return Err(unverified(format!("the log shows another tree of {size} leaves than the one that was kept")));
        }
    }
    let mut body = Body::create(&args.out)?;
    let (limit, out) = (args.limit, &args.out);
    let is_complete = take_events(&audit, &asked, signed, limit, &mut body).await?;
    let draft = Draft { body, files, asked, asked_by, is_complete, cosigned: args.cosigned, about: None };
    let (events, seal_index) = put_together(&audit, keys, tree, out, draft).await?;
    let all = if is_complete {
        "everything that answers and that you may see"
    } else {
        "a part of what answers, see --limit"
    };
    let text = format!(
        "{events} events ({all}) of the log's first {} leaves are in {}; that it was made is leaf {seal_index} of the log",
        tree.0,
        out.display()
    );
    desk.out().line(&crate::output::escape::visible(&text))?;
    Ok(Exit::Done)
}

/// The file of rotations, where there are some.
pub(super) fn rotated(all: &[KeyRotation]) -> Result<Option<(String, Vec<u8>)>, Failure> {
    if all.is_empty() {
        return Ok(None);
    }
    Ok(Some((ROTATIONS.to_owned(), rotations(all)?)))
}

/// A pack before the log has recorded it.
pub(super) struct Draft {
    /// The events.
    pub(super) body: Body,
    /// README, key, checkpoint, and what comes behind the events.
    pub(super) files: Vec<(String, Vec<u8>)>,
    pub(super) asked: QueryEventsRequest,
    pub(super) asked_by: String,
    pub(super) is_complete: bool,
    pub(super) cosigned: bool,
    /// The dossier or the report in it.
    pub(super) about: Option<(Form, About)>,
}

/// Has the log record a pack of its tree and writes it; how many events it holds, and which leaf the record is.
pub(super) async fn put_together(
    audit: &Line,
    keys: &KeyChain,
    tree: Tree,
    out: &Path,
    draft: Draft,
) -> Result<(u64, u64), Failure> {
    let Draft { mut body, mut files, asked, asked_by, is_complete, cosigned, about } = draft;
    let events = body.count;
    let listed_events = body.finish()?;
    let mut listed: Vec<Listed> = files.iter().map(|(name, bytes)| Listed::of(name, bytes)).collect();
    listed.insert(3, listed_events);
    let json = proto::json(&proto::dynamic(&asked), false).and_then(|text| serde_json::from_str(&text));
    let kind = match about.as_ref().map(|(form, _)| form) {
        None => PackKind::Unspecified,
        Some(Form::Dossier) => PackKind::Dossier,
        Some(Form::Report) => PackKind::Report,
    };
    let manifest = Manifest {
        format: about.as_ref().map_or(FORMAT, |(form, _)| form.format()).into(),
        made_with: MADE_WITH.into(),
        about: about.map(|(_, about)| about),
        asked_by,
        asked: json.map_err(std::io::Error::other)?,
        log: keys.name().into(),
        tree_size: tree.0,
        indexed_through: tree.0,
        events,
        is_complete,
        files: listed,
    };
    let manifest = serde_json::to_string_pretty(&manifest).map_err(std::io::Error::other)? + "\n";
    let record = RecordEvidenceRequest {
        manifest_sha256: Sha256::digest(&manifest).to_vec(),
        query: Some(asked),
        events,
        tree_size: tree.0,
        is_complete,
        cosigned,
        kind: kind.into(),
    };
    let (seal, seal_index) = seal(audit, keys, record, tree).await?;
    files.insert(1, (MANIFEST.into(), manifest.into_bytes()));
    body.pack(out, files, seal)?;
    Ok((events, seal_index))
}

/// A checkpoint that an auditor kept.
fn read_kept(path: &Path, keys: &KeyChain) -> Result<Tree, Failure> {
    let note = bounded(path, MAX_NOTE as u64).map_err(|e| Failure::file(path, e))?;
    let kept = keys.open(&note).map_err(|e| Failure::file(path, e))?;
    if kept.size == 0 {
        return Err(Failure::file(path, "it is of the empty log, which every log continues"));
    }
    Ok((kept.size, kept.root))
}

/// The proof that one tree is the beginning of another, verified here, as a file.
async fn consistency(audit: &Line, first: Tree, second: Tree) -> Result<Vec<u8>, Failure> {
    let request = ProveConsistencyRequest { first_size: first.0, second_size: second.0 };
    let answer =
        audit.ask(request, |c, r| async move { ProofServiceClient::new(c).prove_consistency(r).await }).await?;
    let proof: Option<Vec<Hash>> = answer.proof.iter().map(|h| h.as_slice().try_into().ok()).collect();
    let proof = proof.ok_or_else(|| unverified("a hash of the proof has not 32 bytes"))?;
    verify_consistency(first.0, second.0, &first.1, &second.1, &proof).map_err(|e| {
        unverified(format!("the tree of {} leaves does not continue that of {}: {e}", second.0, first.0))
    })?;
    Ok(continues(first.0, second.0, &proof).into_bytes())
}

/// Takes the events of this tree, each verified; whether that is all of them.
async fn take_events(
    audit: &Line,
    asked: &QueryEventsRequest,
    signed: &Checkpoint,
    limit: u64,
    body: &mut Body,
) -> Result<bool, Failure> {
    if signed.size == 0 {
        return Ok(true);
    }
    let request = QueryEventsRequest {
        order: EventOrder::OldestFirst.into(),
        with_proofs: true,
        proof_tree_size: signed.size,
        indexed_at_least: signed.size,
        page_size: PROVED_PAGE,
        ..asked.clone()
    };
    let mut is_cut = false;
    each_page(audit, request, |page| {
        verify_events(signed, &page.events)?;
        for event in &page.events {
            is_cut = body.count == limit;
            if is_cut {
                return Ok(false);
            }
            body.write(event)?;
        }
        Ok(true)
    })
    .await?;
    Ok(!is_cut)
}

/// Has the log record the pack; the files that prove it, and where the record is.
async fn seal(
    audit: &Line,
    keys: &KeyChain,
    request: RecordEvidenceRequest,
    tree: Tree,
) -> Result<(Vec<(String, Vec<u8>)>, u64), Failure> {
    let answer = audit.ask(request, |c, r| async move { ProofServiceClient::new(c).record_evidence(r).await }).await?;
    let hashes: Option<Vec<Hash>> = answer.proof.iter().map(|h| h.as_slice().try_into().ok()).collect();
    let hashes = hashes.ok_or_else(|| unverified("a hash of the proof has not 32 bytes"))?;
    let proof = TlogProof { extra: None, index: answer.leaf_index, hashes, checkpoint: answer.checkpoint };
    let covering =
        proof.verify_by(&answer.leaf, keys).map_err(|e| unverified(format!("the record of the pack: {e}")))?;
    let continued = match tree.0 {
        0 => continues(0, covering.size, &[]).into_bytes(),
        _ => consistency(audit, tree, (covering.size, covering.root)).await?,
    };
    let files = vec![
        (SEAL_LEAF.into(), answer.leaf),
        (SEAL_PROOF.into(), proof.to_string().into_bytes()),
        (SEAL_CONTINUES.into(), continued),
    ];
    Ok((files, answer.leaf_index))
}

/// The events on their way into the pack: a file beside it, so that memory holds a page and no more.
pub(super) struct Body {
    path: PathBuf,
    file: BufWriter<File>,
    count: u64,
}

impl Body {
    pub(super) fn create(out: &Path) -> Result<Self, Failure> {
        if out.exists() {
            return Err(Failure::file(out, "it is there already; nothing is overwritten"));
        }
        let mut name = out.as_os_str().to_owned();
        name.push(".events");
        let path = PathBuf::from(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = BufWriter::new(file.map_err(|e| Failure::file(&path, e))?);
        Ok(Self { path, file, count: 0 })
    }

    pub(super) fn write(&mut self, event: &IndexedEvent) -> Result<(), Failure> {
        let line = proto::json(&proto::dynamic(event), false).map_err(std::io::Error::other);
        let written = line.and_then(|line| writeln!(self.file, "{line}"));
        self.count += 1;
        written.map_err(|e| Failure::file(&self.path, e))
    }

    /// Its size and hash, once all of it is written.
    fn finish(&mut self) -> Result<Listed, Failure> {
        let refused = |e| Failure::file(&self.path, e);
        self.file.flush().map_err(refused)?;
        let file = self.file.get_mut();
        file.rewind().map_err(refused)?;
        let (mut digest, mut size, mut piece) = (Sha256::new(), 0, vec![0; 64 << 10]);
        loop {
            match file.read(&mut piece).map_err(refused)? {
                0 => break,
                got => {
                    digest.update(&piece[..got]);
                    size += got as u64;
                }
            }
        }
        file.rewind().map_err(refused)?;
        Ok(Listed { name: EVENTS.into(), size, sha256: hex(&digest.finalize()) })
    }

    /// Puts everything together: files before the events, the events, files behind them, the seal.
    fn pack(mut self, out: &Path, files: Vec<(String, Vec<u8>)>, seal: Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
        let refused = |e| Failure::file(out, e);
        let file = OpenOptions::new().write(true).create_new(true).open(out).map_err(refused)?;
        let mut to = BufWriter::new(file);
        let events = self.file.get_mut();
        let size = events.metadata().map_err(refused)?.len();
        let mut write = || -> std::io::Result<()> {
            for (at, (name, bytes)) in files.iter().enumerate() {
                if at == 4 {
                    archive::put(&mut to, EVENTS, size, events)?;
                }
                archive::put(&mut to, name, bytes.len() as u64, &mut bytes.as_slice())?;
            }
            if files.len() == 4 {
                archive::put(&mut to, EVENTS, size, events)?;
            }
            for (name, bytes) in &seal {
                archive::put(&mut to, name, bytes.len() as u64, &mut bytes.as_slice())?;
            }
            archive::end(&mut to)?;
            to.flush()?;
            to.get_ref().sync_all()
        };
        write().map_err(|e| {
            // Half a pack is none.
            let _gone = std::fs::remove_file(out);
            refused(e)
        })
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}
