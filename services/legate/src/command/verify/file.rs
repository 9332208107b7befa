//! Evidence in one file: a pack, a C2SP tlog-proof, a COSE receipt, told apart by their first bytes.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
use std::path::Path;

use legate_batch::rotated::follow;
use legate_merkle::{MAX_ENTRY, MAX_NOTE, MAX_RECEIPT, MAX_TLOG_PROOF, Policy, Receipt, TlogProof, VerifierKey};
use legate_wire::audit::AuditEvent;
use prost::Message as _;
use serde_json::{Value, json};

use super::super::audit::unverified;
use super::{bounded, emitters, quorum};
use crate::cli::Verify;
use crate::error::{CONTEXT_MISSING, USAGE};
use crate::evidence::{BadPack, Checked, MADE_WITH, archive, check, read_rotations};
use crate::output::{Format, Out, escape::visible_json};
use crate::{Exit, Failure};

/// Verifies the file that is named where a log could be.
pub(super) fn verify_file(format: Format, path: &Path, args: &Verify) -> Result<Exit, Failure> {
    let refused = |e: std::io::Error| Failure::file(path, e);
    let mut file = File::open(path).map_err(refused)?;
    let mut first = Vec::new();
    (&mut file).take(512).read_to_end(&mut first).and_then(|_| file.rewind()).map_err(refused)?;
    let policy = quorum::policy(args)?;
    if archive::is_one(&first) {
        let key = quorum::key(args.key.as_deref(), policy.as_ref())?;
        let kept =
            args.checkpoint.as_deref().map(|kept| bounded(kept, MAX_NOTE as u64).map_err(|e| Failure::file(kept, e)));
        let kept = kept.transpose()?;
        let log = key.as_ref().map(|key| key.name().to_owned());
        let trust = emitters::trust(args, log.as_deref())?;
        let checked = check(&mut BufReader::new(file), key.as_ref(), kept.as_deref(), policy.as_ref(), trust);
        tell(format, &pack(&checked), checked.as_ref().ok().map(details))?;
        return match checked {
            Ok(_) => Ok(Exit::Done),
            Err(bad) => Err(unverified(bad.to_string())),
        };
    }
    let is_proof = first.starts_with(b"c2sp.org/tlog-proof@");
    // A CBOR array of four, with the tag of COSE_Sign1 or without.
    if !is_proof && !matches!(first.as_slice(), [0xd2, 0x84, ..] | [0x84, ..]) {
        let what = "it is neither a log's directory nor a pack, a .tlog-proof or a COSE receipt";
        return Err(Failure::file(path, what));
    }
    let key = quorum::needed(args.key.as_deref(), policy.as_ref())?;
    let missing =
        || Failure::local(&CONTEXT_MISSING, "nobody said which entry this is the proof of: --entry is missing");
    let entry = args.entry.as_deref().ok_or_else(missing)?;
    let entry = bounded(entry, MAX_ENTRY as u64).map_err(|e| Failure::file(entry, e))?;
    if args.checkpoint.is_some() {
        let what = "a proof of one entry tells nothing of other trees: --checkpoint is for a log or a pack";
        return Err(Failure::local(&USAGE, what));
    }
    if policy.is_some() && !is_proof {
        let what = "a COSE receipt carries no cosignatures: --witness-policy is for a log, a pack or a .tlog-proof";
        return Err(Failure::local(&USAGE, what));
    }
    let most = if is_proof { MAX_TLOG_PROOF } else { MAX_RECEIPT };
    let bytes = bounded(path, most as u64).map_err(refused)?;
    let proved =
        if is_proof { by_file(&bytes, &entry, &key, policy.as_ref()) } else { by_receipt(&bytes, &entry, &key) };
    let (value, details) = proved.map_err(|what| unverified(format!("{}: {what}", path.display())))?;
    tell(format, &value, Some(details))?;
    Ok(Exit::Done)
}

type Told = (Value, Vec<(&'static str, String)>);

fn by_file(bytes: &[u8], entry: &[u8], key: &VerifierKey, policy: Option<&Policy>) -> Result<Told, String> {
    let proof = TlogProof::parse(bytes).map_err(|e| e.to_string())?;
    // What legate audit prove puts there is proved by itself, and leads from an earlier key to the one that signed.
    let rotations = proof.extra.as_deref().and_then(read_rotations).unwrap_or_default();
    let (_, keys) = follow(key, proof.checkpoint.as_bytes(), &rotations).map_err(|e| e.to_string())?;
    let signed = proof.verify_by(entry, &keys).map_err(|e| e.to_string())?;
    let cosigned = policy.map(|policy| policy.check_bytes(proof.checkpoint.as_bytes())).transpose();
    let cosigned = cosigned.map_err(|e| e.to_string())?;
    let extra = match (&proof.extra, keys.newest() == key) {
        (None, _) => None,
        (Some(_), _) if rotations.is_empty() => Some("it carries extra data, which nobody vouches for".to_owned()),
        (Some(_), true) => None,
        (Some(_), false) => Some(format!("signed by {}, which followed on the key that you gave", keys.newest())),
    };
    let (mut value, mut details) = entry_of("C2SP tlog-proof", entry, key, proof.index, signed.size, extra);
    if let Some(found) = cosigned {
        value["cosignedBy"] = quorum::value(&found);
        // They saw one tree, so that is no longer among what is not proved.
        details.retain(|(what, _)| *what != "not proved");
        details.push(("cosigned", quorum::lines(&found)));
        details.push(("not proved", "that what the entry says is true".to_owned()));
    }
    Ok((value, details))
}

fn by_receipt(bytes: &[u8], entry: &[u8], key: &VerifierKey) -> Result<Told, String> {
    let receipt = Receipt::decode(bytes).map_err(|e| e.to_string())?;
    receipt.verify(entry, key).map_err(|e| e.to_string())?;
    let by = receipt.issuer.filter(|by| by != key.name()).map(|by| format!("it names {by:?} as its issuer"));
    Ok(entry_of("COSE receipt", entry, key, receipt.index, receipt.size, by))
}

fn entry_of(form: &str, entry: &[u8], key: &VerifierKey, index: u64, size: u64, note: Option<String>) -> Told {
    let event = AuditEvent::decode(entry).ok().filter(|e| !e.event_id.is_empty());
    let event_id = event.as_ref().map(|e| e.event_id.clone());
    let value = json!({ "verified": true, "form": form, "log": key.name(), "leafIndex": index, "size": size,
        "eventId": event_id, "note": note });
    let about = event.map(|e| format!("{} {}", e.event_id, e.r#type)).unwrap_or_default();
    let details = vec![
        ("log", key.name().to_owned()),
        ("verified", format!("the entry is leaf {index} of the tree of {size} leaves that the key signed ({form})")),
        ("event", about),
        ("note", note.unwrap_or_default()),
        ("not proved", "that the log shows everybody the same tree; that what the entry says is true".to_owned()),
    ];
    (value, details)
}

fn tell(format: Format, value: &Value, details: Option<Vec<(&'static str, String)>>) -> Result<(), Failure> {
    let mut out = Out::stdout(format);
    match (out.is_table(), details) {
        (true, Some(details)) => out.details(&details)?,
        // What is wrong goes to standard error.
        (true, None) => {}
        (false, _) if format == Format::Json => out.value(value)?,
        // JSON on one line is YAML as well.
        (false, _) => out.line(&visible_json(&value.to_string()))?,
    }
    out.flush()
}

fn pack(checked: &Result<Checked, BadPack>) -> Value {
    match checked {
        Ok(c) => json!({
            "verified": true,
            "form": c.manifest.format,
            "about": c.document.as_ref().map(|document| &document.about),
            "asOf": c.document.as_ref().map(|document| &document.as_of),
            "log": c.manifest.log,
            "size": c.signed.size,
            "events": c.manifest.events,
            "isComplete": c.manifest.is_complete,
            "askedBy": c.seal.actor,
            "recordedAsLeaf": c.seal_index,
            "keyIsThePacksOwn": c.is_own_key,
            "keysFollowed": c.followed,
            "continues": c.continues,
            "cosignedBy": c.cosigned.as_ref().map(quorum::value),
            "signedBy": c.signed_by,
            "firstTime": c.times.map(|t| t.0.to_string()),
            "lastTime": c.times.map(|t| t.1.to_string()),
        }),
        Err(bad) => json!({ "verified": false, "what": bad.what, "place": bad.place, "leafIndex": bad.leaf }),
    }
}

fn details(c: &Checked) -> Vec<(&'static str, String)> {
    let size = c.signed.size;
    let asked =
        c.seal.details.iter().filter_map(|(name, value)| Some(format!("{} = {value}", name.strip_prefix("asked.")?)));
    let asked = asked.collect::<Vec<_>>().join("\n");
    let when = crate::output::moment(c.seal.time.as_ref());
    let leaves = c.leaves.map(|(first, last)| format!(", leaves {first} to {last}")).unwrap_or_default();
    let whose = if c.is_own_key {
        "the key is the pack's own: this says that the pack is whole, and not whose log it is from. Give the log's key with --key"
    } else {
        "the key that you gave signed the tree, and the tree in which the making of this pack is on record"
    };
    let whose = match c.followed {
        0 => whose.to_owned(),
        _ => format!(
            "the key that you gave was followed by another ({} times), as the log says with the signatures of both; the last one signed the \
             tree, and the tree in which the making of this pack is on record",
            c.followed
        ),
    };
    let complete = match (c.document.is_some(), c.manifest.is_complete) {
        (false, true) => "by the word of whoever made it, everything that answered and that he was let see",
        (false, false) => "a part of what answered",
        (true, true) => "by the word of whoever made it, nothing was cut or withheld",
        (true, false) => "not whole: it says what was cut, and what whoever made it was not given",
    };
    let not_proved = if c.document.is_some() {
        "what the document says beyond the events that it cites: that is the word of the services as whoever made it was told; and that what \
         events say is true"
    } else if c.cosigned.is_some() {
        "that what the events say is true; that nothing else in the log answers the question"
    } else {
        "that what the events say is true; that nothing else in the log answers the question; and without a checkpoint that you kept, that the log shows everybody the same tree"
    };
    let document = c.document.as_ref().map(|document| {
        let is_ours = c.manifest.made_with == MADE_WITH;
        let same = if is_ours { "the page tells what the JSON tells, and " } else { "" };
        let (moment, now) = (&document.as_of, if document.as_of.is_now { ", the present of whoever asked" } else { "" });
        format!(
            "the {} of {}, as of {} (revision {}{now}): {same}every event that it cites is among those that are verified",
            document.form.word(),
            document.about.name(),
            moment.time,
            moment.revision
        )
    });
    vec![
        ("log", c.manifest.log.clone()),
        ("document", document.unwrap_or_default()),
        ("verified", format!("{} events{leaves}, each in the tree of {size} leaves, byte for byte", c.manifest.events)),
        ("key", whose),
        ("times", c.times.map(|(first, last)| format!("{first} to {last}")).unwrap_or_default()),
        ("asked", if asked.is_empty() { "everything".to_owned() } else { asked }),
        ("asked by", format!("{}, {when}, on record as leaf {} ({})", c.seal.actor, c.seal_index, c.seal.event_id)),
        ("answer", complete.to_owned()),
        (
            "continues",
            c.continues.map(|size| format!("the checkpoint of size {size} that you kept")).unwrap_or_default(),
        ),
        ("cosigned", c.cosigned.as_ref().map(quorum::lines).unwrap_or_default()),
        ("attested", emitters::lines(&c.signed_by, c.manifest.events)),
        ("not proved", not_proved.to_owned()),
    ]
}
