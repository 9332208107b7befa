"""What Legate hands out as evidence, held against libraries that know nothing of Legate. Every check ends the run where it fails.

    foreign.py SCRATCH LOG-DIRECTORY LOG-KEY GOLDEN-OCSF WITNESS WITNESS
"""

import base64
import collections
import json
import pathlib
import sys
import tarfile

import aics_tlog
from cloudevents.core.formats.json import JSONFormat
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from scitt_cose.receipt import verify_receipt

scratch, log, key_file, golden = (pathlib.Path(arg) for arg in sys.argv[1:5])
key = aics_tlog.parse_vkey(key_file.read_text().strip())
witnesses = tuple(aics_tlog.parse_vkey(arg) for arg in sys.argv[5:7])


def signed(note):
    """A checkpoint whose signature holds, by its size and root."""
    found = aics_tlog.verify_checkpoint(aics_tlog.parse_note(note), key, expected_origin=key.name)
    assert found.ok, found.error
    return found.size, found.root


def whole_log():
    size, root = signed((log / "checkpoint").read_bytes())
    report = aics_tlog.audit_tiles(aics_tlog.FileSystemTileReader(log), size, root)
    print(f"aics-tlog: {report.size} entries, {report.tiles} tiles, {report.bundles} bundles hold")
    try:
        aics_tlog.audit_tiles(aics_tlog.FileSystemTileReader(log), size, bytes(32))
    except aics_tlog.TileVerificationError:
        return
    raise AssertionError("aics-tlog believes any root")


def cosigned():
    """The log's newest cosigned checkpoint, and those of a proof and a pack: both witnesses cosigned each of them."""
    policy = aics_tlog.WitnessPolicy(quorum=2, witnesses=witnesses)
    proof = (scratch / "cosigned.tlog-proof").read_text().split("\n\n", 1)[1]
    with tarfile.open(scratch / "cosigned.tar", "r:") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    seal = files["seal.tlog-proof"].decode().split("\n\n", 1)[1]
    notes = [(log / "checkpoint.cosigned").read_bytes(), (scratch / "cosigned").read_bytes(), proof, files["checkpoint"], seal]
    for note in notes:
        found = aics_tlog.verify_checkpoint(aics_tlog.parse_note(note), key, policy=policy, expected_origin=key.name)
        assert found.ok, found.error
    print(f"aics-tlog: {len(notes)} checkpoints are cosigned by aics-witness and by legate witness")


def tlog_proof(text, entry):
    """C2SP tlog-proof, read line by line."""
    head, checkpoint = text.split("\n\n", 1)
    first, index, *hashes = head.split("\n")
    assert first == "c2sp.org/tlog-proof@v1" and index.startswith("index "), head
    size, root = signed(checkpoint)
    path = [base64.b64decode(line, validate=True) for line in hashes]
    assert aics_tlog.verify_leaf_inclusion(entry, int(index[6:]), size, path, root)
    assert not aics_tlog.verify_leaf_inclusion(entry + b"x", int(index[6:]), size, path, root)


def receipt(bytes_, entry):
    pem = key.ed25519.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    held = verify_receipt(bytes_, leaf_entry_hex=entry.hex(), log_public_key_pem=pem)
    assert held.ok, held.errors
    assert not verify_receipt(bytes_, leaf_entry_hex=(entry + b"x").hex(), log_public_key_pem=pem).ok
    print(f"scitt-cose: the receipt of leaf {held.leaf_index} of {held.tree_size} holds")


def pack(path):
    with tarfile.open(path, "r:") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    size, root = signed(files["checkpoint"])
    rows = [json.loads(line) for line in files["events.jsonl"].splitlines()]
    for row in rows:
        # The JSON of protobufs leaves a zero out.
        leaf, way = base64.b64decode(row["leaf"]), [base64.b64decode(step) for step in row["proof"]]
        assert aics_tlog.verify_leaf_inclusion(leaf, int(row.get("leafIndex", 0)), size, way, root), row
    assert len(rows) == json.loads(files["manifest.json"])["events"] > 0
    tlog_proof(files["seal.tlog-proof"].decode(), files["seal.leaf"])
    print(f"aics-tlog: {len(rows)} events of a pack, and its seal, hold")


def ocsf(paths):
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))
    validators, seen = {}, collections.Counter()
    for line in (line for path in paths for line in path.read_text().splitlines()):
        event = json.loads(line)
        name = schema.lookup_class_name_from_uid(event["class_uid"])
        profiles = tuple(event["metadata"].get("profiles", []))
        if (name, profiles) not in validators:
            validators[name, profiles] = Draft202012Validator(schema.get_class_schema(name, list(profiles)))
        for error in validators[name, profiles].iter_errors(event):
            raise AssertionError(f"{event['metadata']['event_code']}: {list(error.path)}: {error.message}")
        seen[name] += 1
        # A field that the schema does not know is not let in.
        assert not validators[name, profiles].is_valid(event | {"no_such_field": 1})
    wanted = {"api_activity", "authorize_session", "authentication", "entity_management", "detection_finding",
              "compliance_finding"}
    assert wanted == set(seen), seen
    print("OCSF 1.8.0:", dict(seen))


def cloud_events(path):
    count = 0
    for line in path.read_text().splitlines():
        event = JSONFormat().read(None, line)
        assert event.get_specversion() == "1.0" and event.get_type().startswith("legate."), line
        assert event.get_extension("leafindex") == str(count), line
        assert event.get_data()["eventId"] == event.get_id()
        count += 1
    assert count > 10
    print(f"cloudevents: {count} events are read")


whole_log()
entry = (scratch / "e.leaf").read_bytes()
tlog_proof((scratch / "e.tlog-proof").read_text(), entry)
receipt((scratch / "e.cose").read_bytes(), entry)
pack(scratch / "pack.tar")
pack(scratch / "cosigned.tar")
cosigned()
ocsf([golden, scratch / "events.ocsf"])
cloud_events(scratch / "events.cloudevents")
