"""A log of others that has our witness cosign it, by a client that knows nothing of Legate.

    witness.py vkey                 the log's key
    witness.py feed URL WITNESS     asks the witness at URL, whose verifier key is WITNESS
"""

import sys

import aics_tlog
from aics_witness.feeder import WitnessAhead, WitnessClient, WitnessRejected, merge_cosignatures
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NAME = "foreign.example/log"
key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
vkey = aics_tlog.vkey_from_ed25519(NAME, key.public_key().public_bytes_raw())


def tree(size, fork=None):
    """A history, or another that parts from it at a leaf."""
    return aics_tlog.MerkleTree(
        b"%d%s" % (n, b"" if fork is None or n < fork else b" otherwise") for n in range(size)
    )


def checkpoint(of):
    found = aics_tlog.Checkpoint(origin=NAME, size=of.size, root=of.root())
    return aics_tlog.sign_checkpoint(found, key, NAME).to_bytes()


def feed(url, witness):
    with WitnessClient(url, witness) as client:
        for size in (3, 3, 300, 70_000):
            grown = tree(size)
            note = merge_cosignatures(checkpoint(grown), client.submit(checkpoint(grown), grown.consistency_proof))
            policy = aics_tlog.WitnessPolicy(quorum=1, witnesses=(aics_tlog.parse_vkey(witness),), max_age_seconds=60)
            found = aics_tlog.verify_checkpoint(aics_tlog.parse_note(note), vkey, policy=policy, expected_origin=NAME)
            assert found.ok, found.error
        for forked in (tree(70_000, fork=299), tree(70_001, fork=69_999)):
            try:
                client.submit(checkpoint(forked), forked.consistency_proof)
            except WitnessRejected as refused:
                assert refused.status == 422, refused
                continue
            raise AssertionError("the witness cosigned two histories")
        try:
            client.submit(checkpoint(tree(300)), tree(300).consistency_proof)
        except WitnessAhead as refused:
            assert refused.known_size == 70_000
        else:
            raise AssertionError("the witness went back")
    print("aics-witness: its client is cosigned by legate witness, and refused where it forks or goes back")


if sys.argv[1] == "vkey":
    print(aics_tlog.format_vkey(vkey))
else:
    feed(*sys.argv[2:])
