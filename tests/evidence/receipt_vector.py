"""Makes the COSE receipt that crates/merkle/tests/files.rs reads: by cbor2 and cryptography, with a tree of its own.

    pip install cbor2 cryptography && python3 receipt_vector.py
"""

import hashlib

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ORIGIN = "example.org/vector"
ENTRIES = [f"entry {n}".encode() for n in range(7)]
INDEX = 4


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree(hashes):
    if len(hashes) == 1:
        return hashes[0]
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    return node(tree(hashes[:half]), tree(hashes[half:]))


def path(index, hashes):
    if len(hashes) == 1:
        return []
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    if index < half:
        return path(index, hashes[:half]) + [tree(hashes[half:])]
    return path(index - half, hashes[half:]) + [tree(hashes[:half])]


leaves = [hashlib.sha256(b"\x00" + entry).digest() for entry in ENTRIES]
key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
key_id = hashlib.sha256(ORIGIN.encode() + b"\n\x01" + public).digest()[:4]
protected = cbor2.dumps({1: -8, 4: key_id, 15: {1: ORIGIN}, 395: 1}, canonical=True)
signature = key.sign(cbor2.dumps(["Signature1", protected, b"", tree(leaves)], canonical=True))
proof = cbor2.dumps([len(leaves), INDEX, path(INDEX, leaves)], canonical=True)
receipt = cbor2.CBORTag(18, [protected, {396: {-1: [proof]}}, None, signature])
print(cbor2.dumps(receipt, canonical=True).hex())
