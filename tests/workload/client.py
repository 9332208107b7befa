"""SPIFFE's own library as a process that asks who it is. Every check ends the run where it fails.

    client.py sources ENDPOINT
    client.py stranger ENDPOINT
    client.py rules ENDPOINT
    client.py watch ENDPOINT
"""

import hashlib
import os
import sys
import time

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from spiffe import JwtSource, TrustDomain, WorkloadApiClient, X509Source
from spiffe._proto import workload_pb2, workload_pb2_grpc
from spiffe.svid.jwt_svid import JwtSvid

AUDIENCE = "https://tools.example.com"
HEADER = [("workload.spiffe.io", "true")]
NOBODY = 65534


def say(*words):
    print(*words, flush=True)


def stub(endpoint):
    return workload_pb2_grpc.SpiffeWorkloadAPIStub(grpc.insecure_channel(endpoint))


def code(call):
    """With which code a call ends; the first message of a stream counts as an answer."""
    try:
        answer = call()
        if hasattr(answer, "__next__"):
            next(answer)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def sources(endpoint):
    with X509Source(socket_path=endpoint, timeout_in_seconds=30) as source:
        context = source.get_x509_context()
        svid = context.default_svid
        assert svid.spiffe_id.path.startswith("/ns/fleet/agent/agt_"), svid.spiffe_id
        assert "/instance/inst_" in svid.spiffe_id.path
        leaf = svid.leaf
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [name.value for name in names] == [str(svid.spiffe_id)]
        assert svid.private_key.public_key() == leaf.public_key()
        domain = svid.spiffe_id.trust_domain
        authorities = source.get_bundle_for_trust_domain(domain).x509_authorities
        issuers = [ca for ca in authorities if ca.subject == leaf.issuer]
        checked = 0
        for ca in issuers:
            try:
                leaf.verify_directly_issued_by(ca)
                checked += 1
            except Exception:
                pass
        assert checked == 1, f"{checked} authorities of {len(authorities)} verify the certificate"
        with X509Source(socket_path=endpoint, timeout_in_seconds=30) as again:
            same = again.get_x509_context().default_svid
            assert same.leaf == leaf, "another certificate for the same process"
    with JwtSource(socket_path=endpoint, timeout_in_seconds=30) as source:
        token = source.fetch_svid(audience={AUDIENCE})
        assert token.spiffe_id == svid.spiffe_id
        bundle = source.get_bundle_for_trust_domain(domain)
        parsed = JwtSvid.parse_and_validate(token.token, bundle, {AUDIENCE})
        assert parsed.spiffe_id == svid.spiffe_id
        assert source.fetch_svid(audience={AUDIENCE}).token == token.token, "another token before half of its life"
        with WorkloadApiClient(endpoint) as client:
            assert client.validate_jwt_svid(token.token, AUDIENCE).spiffe_id == svid.spiffe_id
        api = stub(endpoint)
        for audience, text in [
            ("https://other.example.com", token.token),
            (AUDIENCE, token.token[:-4] + "AAAA"),
            (AUDIENCE, "no.token.atall"),
        ]:
            request = workload_pb2.ValidateJWTSVIDRequest(audience=audience, svid=text)
            found = code(lambda: api.ValidateJWTSVID(request, metadata=HEADER, timeout=10))
            assert found == "INVALID_ARGUMENT", found
    assert isinstance(svid.private_key, ec.EllipticCurvePrivateKey)
    say(svid.spiffe_id)


def calls(api, metadata):
    wait = {"metadata": metadata, "timeout": 20}
    audience = [AUDIENCE]
    return {
        "FetchX509SVID": lambda: api.FetchX509SVID(workload_pb2.X509SVIDRequest(), **wait),
        "FetchX509Bundles": lambda: api.FetchX509Bundles(workload_pb2.X509BundlesRequest(), **wait),
        "FetchJWTSVID": lambda: api.FetchJWTSVID(workload_pb2.JWTSVIDRequest(audience=audience), **wait),
        "FetchJWTBundles": lambda: api.FetchJWTBundles(workload_pb2.JWTBundlesRequest(), **wait),
        "ValidateJWTSVID": lambda: api.ValidateJWTSVID(
            workload_pb2.ValidateJWTSVIDRequest(audience=AUDIENCE, svid="a.b.c"), **wait
        ),
    }


def stranger(endpoint):
    """The same program as somebody whom no policy is about."""
    # What gRPC loads for a channel it loads while it may still read the library, which lies where nobody else gets to.
    api = stub(endpoint)
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    for name, call in calls(api, HEADER).items():
        assert (found := code(call)) == "PERMISSION_DENIED", f"{name}: {found}"


def rules(endpoint):
    """What the standard demands of every call."""
    api = stub(endpoint)
    for metadata in [[], [("workload.spiffe.io", "True")], [("workload.spiffe.io", "1")], HEADER + HEADER]:
        for name, call in calls(api, metadata).items():
            assert (found := code(call)) == "INVALID_ARGUMENT", f"{name} with {metadata}: {found}"
    for name, call in calls(api, HEADER).items():
        found = code(call)
        assert found == ("INVALID_ARGUMENT" if name == "ValidateJWTSVID" else "OK"), f"{name}: {found}"
    for audience in [[], [""], ["a"] * 9, ["a" * 513]]:
        request = workload_pb2.JWTSVIDRequest(audience=audience)
        found = code(lambda: api.FetchJWTSVID(request, metadata=HEADER, timeout=10))
        assert found == "INVALID_ARGUMENT", f"{audience}: {found}"
    request = workload_pb2.JWTSVIDRequest(audience=[AUDIENCE], spiffe_id="spiffe://dev.legate/ns/fleet/agent/other")
    assert code(lambda: api.FetchJWTSVID(request, metadata=HEADER, timeout=10)) == "PERMISSION_DENIED"
    unknown = grpc.insecure_channel(endpoint).unary_unary("/SpiffeWorkloadAPI/FetchWITSVID")
    assert code(lambda: unknown(b"", metadata=HEADER, timeout=10)) == "UNIMPLEMENTED"


def watch(endpoint):
    """Says what it is given, and when and how that ends; begins anew for every line on standard input."""
    for _ in sys.stdin:
        api = stub(endpoint)
        try:
            for answer in api.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=HEADER):
                svid = answer.svids[0]
                digest = hashlib.sha256(svid.x509_svid + svid.x509_svid_key).hexdigest()
                say("holds", svid.spiffe_id, digest)
            say("ended", "OK", time.time())
        except grpc.RpcError as error:
            say("ended", error.code().name, time.time())


if __name__ == "__main__":
    TrustDomain("dev.legate")
    {"sources": sources, "stranger": stranger, "rules": rules, "watch": watch}[sys.argv[1]](*sys.argv[2:])
