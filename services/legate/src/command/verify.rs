//! `legate verify`: a whole log, offline, by nothing but its public key.

mod emitters;
mod file;
mod https;
mod keys;
mod quorum;
mod story;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use base64ct::{Base64, Encoding};
use legate_merkle::{
    Checkpoint, Cosigned, KeyChain, MAX_NOTE, Policy, TileId, TileKind, VerifierKey, Walk, WalkError, walk,
};
use legate_mtls::Trust;
use legate_wire::audit::AuditEvent;
use prost::Message;
use serde_json::json;

use super::audit::{read_key, unverified};
use crate::cli::Verify;
use crate::error::{CONTEXT_MISSING, USAGE};
use crate::output::{Format, Out, escape::visible_json};
use crate::{Exit, Failure};

use https::Web;
use keys::claimed;
use story::Story;

/// No tile and no bundle of 256 entries is longer.
const MOST_BYTES: u64 = 256 * (65_535 + 2);

/// Where the newest checkpoint is that has the witnesses' quorum.
const COSIGNED: &str = "checkpoint.cosigned";

/// A log that holds.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    /// Its name.
    pub(crate) log: String,
    /// How many entries.
    pub(crate) size: u64,
    /// The root over them, as the checkpoint writes it.
    pub(crate) root: String,
    /// The size of the kept checkpoint that it continues.
    pub(crate) continues: Option<u64>,
    /// The size of the newest tree that the witnesses' quorum cosigned, and who they are.
    pub(crate) cosigned: Option<(u64, Cosigned)>,
    /// The keys that signed it, as far as its rotations tell.
    pub(crate) keys: KeyChain,
    /// What its events tell.
    pub(crate) story: Story,
}

/// A log that does not hold: what is wrong, and at which entry.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// What is wrong, for people.
    pub(crate) what: String,
    /// The entry, where one can be named.
    pub(crate) entry: Option<u64>,
    /// The event that stands there, where it can still be read.
    pub(crate) event_id: Option<String>,
}

impl Found {
    fn plain(what: impl Into<String>) -> Self {
        Self { what: what.into(), entry: None, event_id: None }
    }
}

/// Where a log is read from.
trait Source {
    /// The newest checkpoint.
    fn checkpoint(&mut self) -> io::Result<Vec<u8>>;
    /// The newest that has the witnesses' quorum.
    fn cosigned(&mut self) -> io::Result<Vec<u8>>;
    fn tile(&mut self, tile: TileId) -> io::Result<Vec<u8>>;
}

struct Directory<'a>(&'a Path);

pub(super) fn bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is over {most} bytes")));
    }
    Ok(bytes)
}

impl Source for Directory<'_> {
    fn checkpoint(&mut self) -> io::Result<Vec<u8>> {
        bounded(&self.0.join("checkpoint"), MAX_NOTE as u64)
    }

    fn cosigned(&mut self) -> io::Result<Vec<u8>> {
        bounded(&self.0.join(COSIGNED), MAX_NOTE as u64)
    }

    fn tile(&mut self, tile: TileId) -> io::Result<Vec<u8>> {
        bounded(&self.0.join(tile.to_string()), MOST_BYTES)
    }
}

/// Reads a tile. C2SP tlog-tiles, "Partial Tiles": one that is gone is the beginning of the full one.
fn read(source: &mut dyn Source, tile: TileId) -> io::Result<Vec<u8>> {
    match source.tile(tile) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !tile.is_full() => {
            let mut full = source.tile(TileId { width: 256, ..tile }).map_err(|_| e)?;
            full.truncate(end_of(&full, tile));
            Ok(full)
        }
        other => other,
    }
}

/// Where the first `width` hashes or entries end.
fn end_of(full: &[u8], tile: TileId) -> usize {
    let width = usize::from(tile.width);
    if let TileKind::Hashes(_) = tile.kind {
        return width * 32;
    }
    let mut at = 0;
    for _ in 0..width {
        let Some(len) = full.get(at..).and_then(|rest| rest.first_chunk::<2>()) else { break };
        at += 2 + usize::from(u16::from_be_bytes(*len));
    }
    at
}

/// Verifies the log in a directory.
pub(crate) fn verify_directory(dir: &Path, key: &VerifierKey, kept: Option<&[u8]>) -> Result<Verified, Found> {
    verify(&mut Directory(dir), key, kept, None, None)
}

/// The same, by the key in a file; how many entries it holds.
pub(crate) fn verify_log(dir: &Path, key: &Path) -> Result<u64, Failure> {
    let key = read_key(key)?;
    verify_directory(dir, &key, None).map(|held| held.size).map_err(|found| unverified(found.what))
}

fn verify(
    source: &mut dyn Source,
    key: &VerifierKey,
    kept: Option<&[u8]>,
    policy: Option<&Policy>,
    trust: Option<Trust>,
) -> Result<Verified, Found> {
    let note = source.checkpoint().map_err(|e| Found::plain(format!("there is no checkpoint to read: {e}")))?;
    let refused = |what: &str, e: legate_merkle::CheckpointError| Found::plain(format!("{what} is refused: {e}"));
    let signed = claimed(&note, key).map_err(|e| refused("the log's checkpoint", e))?;
    let saved = kept.map(|note| claimed(note, key)).transpose();
    let saved = saved.map_err(|e| refused("the checkpoint that you kept", e))?;
    let cosigned = policy.map(|policy| cosigned(source, key, policy, &note)).transpose()?;
    let mut story = Story::by(trust);
    let earlier: Vec<&Checkpoint> = saved.iter().chain(cosigned.iter().map(|(_, tree, _)| tree)).collect();
    let task = Walk { checkpoint: &signed, saved: &earlier };
    let report = walk(task, |tile| {
        let bytes = read(source, tile)?;
        if tile.kind == TileKind::Entries {
            story.bundle(tile.index * 256, &bytes);
        }
        Ok::<_, io::Error>(bytes)
    });
    let report = report.map_err(found)?;
    story.check()?;
    // Every entry is read: which key was to sign a tree of which size is known now.
    let keys = keys::of_log(source, key, &story.rotations, report.entries)?;
    keys.open(&note).map_err(|e| refused("the log's checkpoint", e))?;
    if let Some(kept) = kept {
        keys.open(kept).map_err(|e| refused("the checkpoint that you kept", e))?;
    }
    if let Some((note, ..)) = &cosigned {
        keys.open(note).map_err(|e| refused("the cosigned checkpoint", e))?;
    }
    Ok(Verified {
        log: key.name().to_owned(),
        size: report.entries,
        root: Base64::encode_string(&report.root),
        continues: saved.map(|saved| saved.size),
        cosigned: cosigned.map(|(_, tree, by)| (tree.size, by)),
        keys,
        story,
    })
}

/// The newest tree that the witnesses' quorum cosigned: that of the log's checkpoint, or an earlier one that is kept beside it.
fn cosigned(
    source: &mut dyn Source,
    key: &VerifierKey,
    policy: &Policy,
    newest: &[u8],
) -> Result<(Vec<u8>, Checkpoint, Cosigned), Found> {
    let open = |note: &[u8]| {
        let tree = claimed(note, key).map_err(|e| e.to_string())?;
        let by = policy.check_bytes(note).map_err(|e| e.to_string())?;
        Ok::<_, String>((note.to_vec(), tree, by))
    };
    let why = match open(newest) {
        Ok(found) => return Ok(found),
        Err(why) => why,
    };
    match source.cosigned() {
        Ok(note) => open(&note).map_err(|why| Found::plain(format!("{COSIGNED} is refused: {why}"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Found::plain(format!("the log's checkpoint: {why}; and there is no {COSIGNED} beside it")))
        }
        Err(e) => Err(Found::plain(format!("{COSIGNED} cannot be read: {e}"))),
    }
}

/// What a walk found, with the entry and the event that stands there.
fn found(error: WalkError<io::Error>) -> Found {
    let what = error.to_string();
    match error {
        WalkError::Entry { index, found, belongs_at } => {
            let event = AuditEvent::decode(found.as_slice()).ok().filter(|e| !e.event_id.is_empty());
            let tells = match (&event, belongs_at) {
                (_, Some(at)) => format!("; what stands there was logged as entry {at}"),
                (Some(e), None) => format!("; it now reads as {} {}", e.event_id, e.r#type),
                (None, None) => "; it cannot be read as an event any more".to_owned(),
            };
            Found { what: what + &tells, entry: Some(index), event_id: event.map(|e| e.event_id) }
        }
        WalkError::Missing { first_entry, .. } => Found { what, entry: Some(first_entry), event_id: None },
        WalkError::Bundle { index, .. } => Found { what, entry: Some(index), event_id: None },
        WalkError::Node { first_entry, .. } => Found { what, entry: Some(first_entry), event_id: None },
        _ => Found::plain(what),
    }
}

pub(super) async fn run(format: Format, args: Verify) -> Result<Exit, Failure> {
    if !args.log.contains("://") && Path::new(&args.log).is_file() {
        return file::verify_file(format, Path::new(&args.log), &args);
    }
    if args.entry.is_some() {
        return Err(Failure::local(&USAGE, "--entry is for a proof of one entry, in a file"));
    }
    let policy = quorum::policy(&args)?;
    let key = quorum::needed(args.key.as_deref(), policy.as_ref())?;
    let trust = emitters::trust(&args, Some(key.name()))?;
    let kept = match &args.checkpoint {
        Some(path) => Some(bounded(path, MAX_NOTE as u64).map_err(|e| Failure::file(path, e))?),
        None => None,
    };
    let result = if args.log.starts_with("https://") {
        let domain = args.trust_domain.unwrap_or_else(|| key.name().split('/').next().unwrap_or_default().to_owned());
        let ca = args.ca.ok_or_else(|| {
            Failure::local(&CONTEXT_MISSING, "nobody said whom to believe: --ca (LEGATE_CA) is missing")
        })?;
        let mut web = Web::new(&args.log, &domain, &ca)?;
        let work = move || {
            let result = verify(&mut web, &key, kept.as_deref(), policy.as_ref(), trust);
            (result, web.failure())
        };
        let (result, failure) =
            tokio::task::spawn_blocking(work).await.map_err(|e| unverified(format!("the verifier ended: {e}")))?;
        // That a server is not reached says nothing about the log.
        if let Some(failure) = failure {
            return Err(failure);
        }
        result
    } else if args.log.contains("://") {
        let what = format!("{:?}: a log is a directory or an https:// address", args.log);
        return Err(Failure::local(&USAGE, what));
    } else {
        let dir = Path::new(&args.log);
        if !dir.is_dir() {
            return Err(Failure::file(dir, "there is no such directory or file"));
        }
        verify(&mut Directory(dir), &key, kept.as_deref(), policy.as_ref(), trust)
    };
    tell(format, &result)?;
    match result {
        Ok(_) => Ok(Exit::Done),
        Err(found) => Err(unverified(found.what)),
    }
}

fn tell(format: Format, result: &Result<Verified, Found>) -> Result<(), Failure> {
    let mut out = Out::stdout(format);
    if out.is_table() {
        // What is wrong goes to standard error.
        if let Ok(verified) = result {
            out.details(&details(verified))?;
        }
        return out.flush();
    }
    let value = match result {
        Ok(v) => json!({
            "verified": true,
            "log": v.log,
            "size": v.size,
            "root": v.root,
            "continues": v.continues,
            "keyRotations": v.keys.rotations().iter().map(keys::value).collect::<Vec<_>>(),
            "cosignedSize": v.cosigned.as_ref().map(|(size, _)| size),
            "cosignedBy": v.cosigned.as_ref().map(|(_, by)| quorum::value(by)),
            "firstTime": v.story.first.map(|t| t.to_string()),
            "lastTime": v.story.last.map(|t| t.to_string()),
            "emitters": v.story.emitters(),
            "signedBy": v.story.signed_by,
        }),
        Err(f) => json!({ "verified": false, "what": f.what, "entry": f.entry, "eventId": f.event_id }),
    };
    let text = match (format, result) {
        (Format::Json, _) => format!("{value:#}"),
        (Format::Name, Ok(v)) => v.root.clone(),
        (Format::Name, Err(_)) => return Ok(()),
        // JSON on one line is YAML as well.
        _ => value.to_string(),
    };
    out.line(&visible_json(&text))?;
    out.flush()
}

fn details(v: &Verified) -> Vec<(&'static str, String)> {
    let time = match (v.story.first, v.story.last) {
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => String::new(),
    };
    vec![
        ("log", v.log.clone()),
        ("verified", format!("all {} entries, each against its tile, the tiles against the signed root", v.size)),
        ("root", v.root.clone()),
        ("keys", keys::lines(&v.keys)),
        ("times", time),
        ("emitters", v.story.lines().join("\n")),
        ("attested", emitters::lines(&v.story.signed_by, v.size)),
        (
            "continues",
            v.continues.map(|size| format!("the checkpoint of size {size} that you kept")).unwrap_or_default(),
        ),
        ("cosigned", v.cosigned.as_ref().map(|found| cosigned_in_words(found, v.size)).unwrap_or_default()),
    ]
}

fn cosigned_in_words((size, by): &(u64, Cosigned), all: u64) -> String {
    let what = match all.saturating_sub(*size) {
        0 => "all of it, by the policy's quorum".to_owned(),
        rest => {
            format!("the first {size} entries, by the policy's quorum; the last {rest} are signed by the log alone")
        }
    };
    format!("{what}\n{}", quorum::lines(by)).trim_end().to_owned()
}

#[cfg(test)]
mod tests;
