//! Verifies a pack offline: first the seal, then the manifest by the seal, every file by the manifest, every event by the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};

use legate_batch::rotated::follow;
use legate_clock::Timestamp;
use legate_merkle::{
    Checkpoint, Cosigned, KeyChain, Policy, TlogProof, VerifierKey, leaf_hash, verify_consistency, verify_inclusion,
};
use legate_mtls::Trust;
use legate_wire::audit::{AuditEvent, IndexedEvent};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::archive::{Archive, BadArchive};
use super::*;
use crate::dossier::{self, Document};
use crate::proto;

/// A line of events: a leaf has 60 KiB, and is there in base64 and spelled out.
const LONGEST_LINE: usize = 2 << 20;

/// Files of a pack.
const MOST_FILES: usize = 64;

/// Why a pack is refused: where, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub(crate) struct BadPack {
    /// The file, and the line where there is one.
    pub(crate) place: String,
    pub(crate) what: String,
    /// The leaf of the event that is doubtful.
    pub(crate) leaf: Option<u64>,
}

fn bad(place: impl Into<String>, what: impl Into<String>) -> BadPack {
    BadPack { place: place.into(), what: what.into(), leaf: None }
}

impl From<BadArchive> for BadPack {
    fn from(e: BadArchive) -> Self {
        bad(format!("byte {} of the pack", e.at), e.what)
    }
}

/// A pack that holds.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) manifest: Manifest,
    /// The dossier or the report in it.
    pub(crate) document: Option<Document>,
    /// The checkpoint of its tree.
    pub(crate) signed: Checkpoint,
    /// The first and last leaf, and time.
    pub(crate) leaves: Option<(u64, u64)>,
    pub(crate) times: Option<(Timestamp, Timestamp)>,
    /// The log's record of the pack, and where it is.
    pub(crate) seal: AuditEvent,
    pub(crate) seal_index: u64,
    /// The size of the kept checkpoint that the tree continues.
    pub(crate) continues: Option<u64>,
    /// The witnesses that cosigned that tree, where a policy asked for them.
    pub(crate) cosigned: Option<Cosigned>,
    /// How many events each emitter signed.
    pub(crate) signed_by: BTreeMap<String, u64>,
    /// How often another key took over from the one that was given to the one that signed this.
    pub(crate) followed: usize,
    /// Whether the key is the pack's own, and so proves nothing about whose log it is.
    pub(crate) is_own_key: bool,
}

/// The small files, and where the events are.
struct Opened {
    files: BTreeMap<String, Vec<u8>>,
    order: Vec<String>,
    events: Option<(u64, u64)>,
}

fn open<R: Read>(from: R) -> Result<Opened, BadPack> {
    let mut archive = Archive::new(from);
    let mut out = Opened { files: BTreeMap::new(), order: Vec::new(), events: None };
    while let Some((name, size)) = archive.next()? {
        if out.order.contains(&name) || out.order.len() == MOST_FILES {
            return Err(bad(name, "it is there twice, or there are over 64 files"));
        }
        out.order.push(name.clone());
        if name == EVENTS {
            out.events = Some((archive.position(), size));
            archive.body(size, |_| ())?;
            continue;
        }
        let most = most_bytes(&name);
        if size > most {
            return Err(bad(name, format!("it is over {} MiB", most >> 20)));
        }
        let mut bytes = Vec::new();
        archive.body(size, |piece| bytes.extend(piece))?;
        out.files.insert(name, bytes);
    }
    Ok(out)
}

impl Opened {
    fn file(&self, name: &str) -> Result<&[u8], BadPack> {
        self.files.get(name).map(Vec::as_slice).ok_or_else(|| bad(name, "it is not in the pack"))
    }
}

/// Verifies a pack, by a key given by hand or else by its own; that its tree continues a checkpoint that was kept; and that both its
/// tree and that of its record have the quorum of a policy. Signatures of emitters are verified, by CAs where some are given.
pub(crate) fn check<R: Read + Seek>(
    from: &mut R,
    given: Option<&VerifierKey>,
    kept: Option<&[u8]>,
    policy: Option<&Policy>,
    trust: Option<Trust>,
) -> Result<Checked, BadPack> {
    let pack = open(&mut *from)?;
    let own = std::str::from_utf8(pack.file(KEY)?).map_err(|e| bad(KEY, e.to_string()))?;
    let own = VerifierKey::parse(own.trim_end_matches('\n')).map_err(|e| bad(KEY, e.to_string()))?;
    let rotations = match pack.files.get(ROTATIONS) {
        None => Vec::new(),
        Some(bytes) => read_rotations(bytes).ok_or_else(|| bad(ROTATIONS, "its lines are no rotations of a key"))?,
    };
    if rotations.is_empty() && given.is_some_and(|given| *given != own) {
        let what = format!(
            "the pack is by {own}, and the key that was given is another; it holds no rotation from one to the other"
        );
        return Err(bad(KEY, what));
    }
    let seal = read_seal(&pack, &own)?;
    let manifest = read_manifest(&pack, &seal.event)?;
    if manifest.log != own.name() {
        return Err(bad(MANIFEST, format!("it is of {}, and the key of {}", manifest.log, own.name())));
    }
    listed(&pack, &manifest)?;

    let note = pack.file(CHECKPOINT)?;
    let given_key = given.unwrap_or(&own);
    let followed = follow(given_key, note, &rotations);
    let (signed, keys) =
        followed.map_err(|e| bad(if rotations.is_empty() { CHECKPOINT } else { ROTATIONS }, e.to_string()))?;
    if *keys.newest() != own {
        return Err(bad(KEY, format!("it is {own}, and the rotations lead to {}", keys.newest())));
    }
    if signed.size != manifest.tree_size {
        return Err(bad(CHECKPOINT, format!("its size is {}, and the manifest's {}", signed.size, manifest.tree_size)));
    }
    let asked = |place: &'static str, note: &[u8]| {
        policy.map(|policy| policy.check_bytes(note).map_err(|e| bad(place, e.to_string()))).transpose()
    };
    let cosigned = asked(CHECKPOINT, note)?;
    asked(SEAL_PROOF, seal.note.as_bytes())?;
    consistent(&pack, SEAL_CONTINUES, &signed, &seal.checkpoint)?;
    let continues = kept.map(|kept| continued(&pack, &keys, kept, &signed)).transpose()?;
    let (offset, size) = pack.events.ok_or_else(|| bad(EVENTS, "it is not in the pack"))?;
    from.seek(SeekFrom::Start(offset)).map_err(|e| bad(EVENTS, e.to_string()))?;
    let document = read_document(&pack, &manifest)?;
    let mut events = Events::new(&signed, trust);
    events.wanted = document.as_ref().map(Document::cited).unwrap_or_default();
    events.read(from.take(size), &manifest)?;
    let Events { leaves, times, found, signatures, .. } = events;
    let signed_by = signatures.counts().clone();
    if let Some(document) = &document {
        dossier::cites(document, &found).map_err(|(place, what)| bad(place, what))?;
    }
    Ok(Checked {
        manifest,
        document,
        signed,
        leaves,
        times,
        seal: seal.event,
        seal_index: seal.index,
        continues,
        cosigned,
        signed_by,
        followed: keys.keys().skip_while(|key| *key != given_key).skip(1).count(),
        is_own_key: given.is_none(),
    })
}

/// The dossier or the report, where the pack is one.
fn read_document(pack: &Opened, manifest: &Manifest) -> Result<Option<Document>, BadPack> {
    let (form, about) = match (manifest.form(), &manifest.about) {
        (None, None) => return Ok(None),
        (Some(form), Some(about)) => (form, about),
        _ => return Err(bad(MANIFEST, "its form and what it is about do not fit each other")),
    };
    let (page, json) = form.files();
    let files = (pack.file(page)?, pack.file(json)?);
    let document = dossier::read(form, about, files, &manifest.made_with, MADE_WITH);
    document.map(Some).map_err(|(place, what)| bad(place, what))
}

/// The log's record of the pack, proved.
struct Seal {
    event: AuditEvent,
    index: u64,
    checkpoint: Checkpoint,
    /// The checkpoint as it was signed.
    note: String,
}

fn read_seal(pack: &Opened, key: &VerifierKey) -> Result<Seal, BadPack> {
    let proof = TlogProof::parse(pack.file(SEAL_PROOF)?).map_err(|e| bad(SEAL_PROOF, e.to_string()))?;
    let leaf = pack.file(SEAL_LEAF)?;
    let checkpoint = Checkpoint::open(proof.checkpoint.as_bytes(), key, key.name())
        .map_err(|e| bad(SEAL_PROOF, format!("its checkpoint is refused: {e}")))?;
    verify_inclusion(proof.index, checkpoint.size, &leaf_hash(leaf), &proof.hashes, &checkpoint.root)
        .map_err(|e| bad(SEAL_LEAF, format!("with {SEAL_PROOF} it is not proved to be in the log: {e}")))?;
    let event = AuditEvent::decode(leaf).map_err(|e| bad(SEAL_LEAF, format!("it is no event: {e}")))?;
    let by = event.emitter.as_ref().map(|e| e.spiffe_id.as_str()).unwrap_or_default();
    if event.r#type != SEALED || !by.ends_with("/legate/audit-collector") {
        return Err(bad(SEAL_LEAF, format!("it is {} by {by}, and no record of a pack", event.r#type)));
    }
    if proof.extra.is_some() {
        return Err(bad(SEAL_PROOF, "it says more than a proof, which nobody vouches for"));
    }
    Ok(Seal { event, index: proof.index, checkpoint, note: proof.checkpoint })
}

/// The manifest, where it is the one on record and says the same as the record.
fn read_manifest(pack: &Opened, seal: &AuditEvent) -> Result<Manifest, BadPack> {
    let bytes = pack.file(MANIFEST)?;
    let told = |name: &str| seal.details.get(name).map(String::as_str).unwrap_or_default();
    if told("manifest_sha256") != sha256(bytes) {
        return Err(bad(MANIFEST, format!("it is not the one whose making is on record ({})", seal.event_id)));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| bad(MANIFEST, e.to_string()))?;
    let form = manifest.form();
    if manifest.format != FORMAT && form.is_none() {
        let [dossier, report] = [Form::Dossier, Form::Report].map(Form::format);
        let what =
            format!("its form is {:?}, and this program reads {FORMAT}, {dossier} and {report}", manifest.format);
        return Err(bad(MANIFEST, what));
    }
    for (name, said, recorded) in [
        ("format", form.map(|form| form.word().to_owned()).unwrap_or_default(), told("kind")),
        ("askedBy", manifest.asked_by.clone(), seal.actor.as_str()),
        ("events", manifest.events.to_string(), told("events")),
        ("treeSize", manifest.tree_size.to_string(), told("tree_size")),
        ("isComplete", manifest.is_complete.to_string(), told("is_complete")),
    ] {
        if said != recorded {
            return Err(bad(MANIFEST, format!("{name} is {said:?}, and {recorded:?} on record")));
        }
    }
    Ok(manifest)
}

/// Every file is the manifest's, and nothing else is there, in the order that there is.
fn listed(pack: &Opened, manifest: &Manifest) -> Result<(), BadPack> {
    let mut wanted: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    let at = wanted.iter().position(|name| *name == README).map_or(0, |at| at + 1);
    wanted.insert(at, MANIFEST);
    wanted.extend([SEAL_LEAF, SEAL_PROOF, SEAL_CONTINUES]);
    if let Some(other) = (0..wanted.len().max(pack.order.len()))
        .find(|at| wanted.get(*at).copied() != pack.order.get(*at).map(String::as_str))
    {
        let name = pack.order.get(other).map_or(wanted[other.min(wanted.len() - 1)], String::as_str);
        return Err(bad(name, "the files of the pack are not those of the manifest, in its order"));
    }
    for file in manifest.files.iter().filter(|file| file.name != EVENTS) {
        if *file != Listed::of(&file.name, pack.file(&file.name)?) {
            return Err(bad(&file.name, "its bytes are not those that the manifest names"));
        }
    }
    Ok(())
}

/// One tree is the beginning of the other, by a file of the pack.
fn consistent(pack: &Opened, name: &str, first: &Checkpoint, second: &Checkpoint) -> Result<(), BadPack> {
    let (one, two, proof) =
        read_continues(pack.file(name)?).ok_or_else(|| bad(name, "it is no proof of consistency"))?;
    if (one, two) != (first.size, second.size) {
        return Err(bad(
            name,
            format!("it is for trees of {one} and {two} leaves, not {} and {}", first.size, second.size),
        ));
    }
    if one == 0 && proof.is_empty() {
        // Everything continues the empty log.
        return Ok(());
    }
    verify_consistency(one, two, &first.root, &second.root, &proof)
        .map_err(|e| bad(name, format!("the tree of {two} leaves does not continue that of {one}: {e}")))
}

/// The pack's tree continues the checkpoint that was kept.
fn continued(pack: &Opened, keys: &KeyChain, kept: &[u8], signed: &Checkpoint) -> Result<u64, BadPack> {
    let place = "the checkpoint that you kept";
    let kept = keys.open(kept).map_err(|e| bad(place, e.to_string()))?;
    if kept.size == signed.size {
        let is_same = kept.root == signed.root;
        return is_same.then_some(kept.size).ok_or_else(|| {
            bad(place, "another log was signed under the same name: the log shows different things to different people")
        });
    }
    let name = format!("{CONTINUES}{}", kept.size);
    if kept.size > signed.size || !pack.files.contains_key(&name) {
        let what = format!(
            "it is of {} leaves, and the pack of {}; the pack holds no proof between the two. Have it made with that checkpoint (legate audit evidence --checkpoint)",
            kept.size, signed.size
        );
        return Err(bad(place, what));
    }
    consistent(pack, &name, &kept, signed)?;
    Ok(kept.size)
}

/// The events, line by line.
struct Events<'a> {
    signed: &'a Checkpoint,
    leaves: Option<(u64, u64)>,
    times: Option<(Timestamp, Timestamp)>,
    signatures: Signatures,
    /// The first line that this program would have written otherwise.
    odd: Option<(u64, u64)>,
    /// Leaves whose events are looked at afterwards, and those that are there: id and type.
    wanted: BTreeSet<u64>,
    found: dossier::Events,
}

impl<'a> Events<'a> {
    fn new(signed: &'a Checkpoint, trust: Option<Trust>) -> Self {
        Self {
            signed,
            leaves: None,
            times: None,
            signatures: Signatures::by(trust),
            odd: None,
            wanted: BTreeSet::new(),
            found: BTreeMap::new(),
        }
    }

    fn read(&mut self, mut from: impl Read, manifest: &Manifest) -> Result<(), BadPack> {
        let (mut digest, mut size, mut count) = (Sha256::new(), 0, 0);
        let (mut rest, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let got = from.read(&mut piece).map_err(|e| bad(EVENTS, e.to_string()))?;
            if got == 0 {
                break;
            }
            digest.update(&piece[..got]);
            size += got as u64;
            for part in piece[..got].split_inclusive(|b| *b == b'\n') {
                rest.extend(part);
                if rest.len() > LONGEST_LINE {
                    return Err(bad(format!("{EVENTS} line {}", count + 1), "it is over 2 MiB"));
                }
                if rest.last() == Some(&b'\n') {
                    count += 1;
                    rest.pop();
                    self.line(count, &rest)?;
                    rest.clear();
                }
            }
        }
        if !rest.is_empty() {
            return Err(bad(format!("{EVENTS} line {}", count + 1), "it breaks off"));
        }
        let listed = manifest.files.iter().find(|file| file.name == EVENTS);
        if listed.is_none_or(|file| file.size != size || file.sha256 != hex(&digest.finalize())) {
            let (line, leaf) = self.odd.unzip();
            let place = line.map_or(EVENTS.to_owned(), |line| format!("{EVENTS} line {line}"));
            return Err(BadPack { leaf, ..bad(place, "its bytes are not those that the manifest names") });
        }
        if count != manifest.events {
            return Err(bad(EVENTS, format!("it holds {count} events, and the manifest says {}", manifest.events)));
        }
        Ok(())
    }

    fn line(&mut self, number: u64, line: &[u8]) -> Result<(), BadPack> {
        let place = || format!("{EVENTS} line {number}");
        let one = read_line(line).map_err(|what| bad(place(), what))?;
        let at = one.leaf_index;
        let wrong = |what: String| BadPack { leaf: Some(at), ..bad(place(), format!("leaf {at}: {what}")) };
        let (first, last) = self.leaves.map_or((at, None), |(first, last)| (first, Some(last)));
        if last.is_some_and(|last| at <= last) {
            return Err(wrong("it does not come behind the leaf before it".to_owned()));
        }
        let hash = leaf_hash(&one.leaf);
        if one.leaf_hash != hash {
            return Err(wrong("its bytes are not those of its hash".to_owned()));
        }
        let proof: Option<Vec<[u8; 32]>> = one.proof.iter().map(|h| h.as_slice().try_into().ok()).collect();
        let proof = proof.ok_or_else(|| wrong("a hash of its proof has not 32 bytes".to_owned()))?;
        verify_inclusion(at, self.signed.size, &hash, &proof, &self.signed.root)
            .map_err(|e| wrong(format!("it is not proved to be in the log: {e}")))?;
        let event = said(&one.leaf, &one.personal).map_err(wrong)?;
        if one.event.as_ref() != Some(&event) {
            return Err(wrong("what is spelled out is not what its bytes say".to_owned()));
        }
        self.signatures.take(self.signed, &one, &event).map_err(wrong)?;
        if self.odd.is_none()
            && proto::json(&proto::dynamic(&one), false).ok().as_deref().map(str::as_bytes) != Some(line)
        {
            self.odd = Some((number, at));
        }
        if let Some(time) = event.time.and_then(|t| Timestamp::try_from(t).ok()) {
            self.times = Some(self.times.map_or((time, time), |(from, to)| (from.min(time), to.max(time))));
        }
        if self.wanted.contains(&at) {
            self.found.insert(at, (event.event_id, event.r#type));
        }
        self.leaves = Some((first, at));
        Ok(())
    }
}

/// Reads one line. A newer program may spell out fields that this one does not know.
fn read_line(line: &[u8]) -> Result<IndexedEvent, String> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let of = proto::message("legate.audit.v1.IndexedEvent");
    let options = prost_reflect::DeserializeOptions::new().deny_unknown_fields(false);
    let read = prost_reflect::DynamicMessage::deserialize_with_options(of, &mut json, &options);
    let read = read.map_err(|e| e.to_string())?;
    json.end().map_err(|e| e.to_string())?;
    read.transcode_to().map_err(|e| e.to_string())
}
