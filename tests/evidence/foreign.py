"""What Legate hands out as evidence, held against libraries that know nothing of Legate. Every check ends the run where it fails.

    foreign.py SCRATCH LOG-DIRECTORY LOG-KEY GOLDEN-OCSF WITNESS WITNESS
"""

import base64
import collections
import functools
import json
import pathlib
import re
import sys
import tarfile
from hashlib import sha256

import aics_tlog
import duckdb
from cloudevents.core.formats.json import JSONFormat
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
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


def decoded(leaf):
    """An AuditEvent as far as it is asked here: texts and maps by their numbers (proto/legate/audit/v1/event.proto)."""
    out, at = collections.defaultdict(list), 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = leaf[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(leaf):
        field, kind = divmod(number(), 8)
        if kind == 0:
            out[field].append(number())
        else:
            assert kind == 2, kind
            size = number()
            out[field].append(leaf[at:at + size])
            at += size
    return out


def path_root(leaf, position, count, way):
    """Where the way from a leaf leads to (RFC 9162 section 2.1.3.2)."""
    node, last, at = sha256(b"\0" + leaf).digest(), count - 1, position
    for step in way:
        if at & 1 or at == last:
            node = sha256(b"\1" + step + node).digest()
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = sha256(b"\1" + node + step).digest()
        at, last = at >> 1, last >> 1
    assert last == 0
    return node


def emitters(path):
    """Each event that is attested is in a batch that its emitter's key signed: by docs/audit.md, and nothing of ours."""
    with tarfile.open(path, "r:") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    size, root = signed(files["checkpoint"])
    cas = {name: x509.load_pem_x509_certificate((scratch / "dev" / name).read_bytes())
           for name in ("ca.pem", "workloads-ca.pem")}
    counts, held, kept = collections.Counter(), None, None
    for line in files["events.jsonl"].splitlines():
        row = json.loads(line)
        shown = row.get("attestation")
        assert (shown is not None) == (row["trust"] == "TRUST_CLASS_ATTESTED"), row
        if shown is None:
            continue
        if "leaf" in shown:
            leaf, way = base64.b64decode(shown["leaf"]), [base64.b64decode(step) for step in shown["proof"]]
            assert aics_tlog.verify_leaf_inclusion(leaf, int(shown["leafIndex"]), size, way, root), row
            event = decoded(leaf)
            told = {bytes(entry[1][0]).decode(): bytes(entry[2][0]).decode() for entry in map(decoded, event[26])}
            who, epoch = bytes(event[6][0]), told["epoch"].encode()
            certificate = x509.load_der_x509_certificate(base64.b64decode(told["certificate"]))
            named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert named.get_values_for_type(x509.UniformResourceIdentifier) == [who.decode()]
            ca = cas["ca.pem" if b"/legate/" in who else "workloads-ca.pem"]
            certificate.verify_directly_issued_by(ca)
            first, count, top = int(told["first_seq"]), int(told["count"]), base64.b64decode(told["root"])
            text = b"legate-audit-batch/1\0" + len(who).to_bytes(2) + who + len(epoch).to_bytes(2) + epoch
            text += first.to_bytes(8) + count.to_bytes(4) + top
            verify = functools.partial(certificate.public_key().verify, base64.b64decode(told["signature"]))
            verify(text, ec.ECDSA(hashes.SHA256()))
            try:
                verify(text + b"x", ec.ECDSA(hashes.SHA256()))
                raise AssertionError("cryptography believes any signature")
            except InvalidSignature:
                pass
            held, kept = shown["leafIndex"], (who, epoch, first, count, top)
        assert held == shown["leafIndex"], row
        who, epoch, first, count, top = kept
        position = int(shown.get("position", 0))
        emitter = row["event"]["emitter"]
        assert (emitter["spiffeId"], emitter["epoch"]) == (who.decode(), epoch.decode()), row
        assert int(emitter["seq"]) == first + position, row
        way = [base64.b64decode(step) for step in shown.get("path", [])]
        assert path_root(base64.b64decode(row["leaf"]), position, count, way) == top, row
        counts[who.decode()] += 1
    assert {"registry", "credential-issuer", "policy-decision"} <= {who.rsplit("/", 1)[1] for who in counts}, counts
    print("cryptography: signed by their emitters:", dict(counts))


def parquet(directory, pack):
    """DuckDB reads every row once, each with the hash that the log has of it, and opens what it is asked for and nothing else."""
    rows = f"read_parquet('{directory}/*/*/*.parquet', hive_partitioning = true)"
    ask = lambda query: duckdb.sql(query.replace("ROWS", rows)).fetchall()
    with tarfile.open(pack, "r:") as tar:
        lines = tar.extractfile("events.jsonl").read().splitlines()
    proved = {int(row.get("leafIndex", 0)): row for row in map(json.loads, lines)}
    read = ask("SELECT leaf_index, leaf_hash, type, trust, event, namespace, CAST(day AS VARCHAR), strftime(time, '%Y-%m-%d') FROM ROWS")
    assert len({row[0] for row in read}) == len(read) > 10
    found = {row[0]: row for row in read}
    assert proved.keys() <= found.keys(), proved.keys() - found.keys()
    tile = lambda n: next(iter(sorted(log.glob(f"tile/0/{n:03}")) or sorted(log.glob(f"tile/0/{n:03}.p/*"), key=lambda p: -int(p.name))))
    hashes_of = {n: tile(n).read_bytes() for n in {leaf // 256 for leaf in found}}
    for leaf, hash_, kind, trust, event, namespace, day, of in read:
        at = leaf % 256 * 32
        assert hash_ == hashes_of[leaf // 256][at:at + 32], leaf
        said = json.loads(event)
        assert (said["type"], said.get("namespace")) == (kind, namespace), leaf
        assert day == of, leaf
        if leaf in proved:
            assert base64.b64decode(proved[leaf]["leafHash"]) == hash_, leaf
            assert proved[leaf]["trust"] == f"TRUST_CLASS_{trust}", leaf
            assert proved[leaf]["event"] == said, leaf
    files = list(directory.rglob("*"))
    whole = [file for file in files if file.is_file()]
    assert whole and all(file.suffix == ".parquet" for file in whole), whole
    opened = ask("EXPLAIN ANALYZE SELECT count(*), max(action) FROM ROWS WHERE namespace = 'payments'")[0][1]
    its = len(list(directory.glob("*/namespace=payments/*.parquet")))
    assert 0 < its < len(whole), (its, len(whole))
    assert re.search(rf"(Total Files Read|Scanning Files):\s+{its}\b", opened), opened
    print(f"duckdb: {len(read)} rows of {len(whole)} files are read, of which {its} are of a namespace")


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
    count, last = 0, -1
    for line in path.read_text().splitlines():
        event = JSONFormat().read(None, line)
        assert event.get_specversion() == "1.0" and event.get_type().startswith("legate."), line
        # Signatures of emitters are leaves as well, and no rows.
        assert int(event.get_extension("leafindex")) > last, line
        last = int(event.get_extension("leafindex"))
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
emitters(scratch / "pack.tar")
parquet(scratch / "parquet", scratch / "pack.tar")
ocsf([golden, scratch / "events.ocsf"])
cloud_events(scratch / "events.cloudevents")
