"""Writes a key that signs a cluster's tokens, or such a token, as Kubernetes writes those that it projects into pods.

    token.py jwks KEY                                     the public key as a JWK Set
    token.py token KEY ISSUER SERVICE_ACCOUNT NODE FILE    SERVICE_ACCOUNT is NAMESPACE/NAME, NODE the uid of the machine
"""

import base64
import json
import os
import re
import subprocess
import sys
import time
import uuid


def text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*words, given=None):
    return subprocess.run(("openssl", *words), input=given, check=True, capture_output=True).stdout


def jwks(key):
    modulus = openssl("rsa", "-in", key, "-noout", "-modulus").decode()
    number = bytes.fromhex(re.fullmatch(r"Modulus=([0-9A-F]+)\s*", modulus)[1])
    print(json.dumps({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "cluster", "n": text(number), "e": "AQAB"}]}))


def token(key, issuer, account, node, file):
    namespace, name = account.split("/")
    now = int(time.time())
    of = {"namespace": namespace, "serviceaccount": {"name": name, "uid": str(uuid.uuid4())}}
    of |= {"node": {"name": f"{node}.example.org", "uid": node}, "pod": {"name": f"{name}-0", "uid": str(uuid.uuid4())}}
    claims = {"iss": issuer, "aud": ["legate"], "sub": f"system:serviceaccount:{namespace}:{name}", "kubernetes.io": of}
    claims |= {"iat": now, "nbf": now, "exp": now + 600, "jti": str(uuid.uuid4())}
    signed = ".".join(text(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "cluster"}, claims))
    signature = openssl("dgst", "-sha256", "-sign", key, given=signed.encode())
    with open(file + ".new", "w") as new:
        new.write(f"{signed}.{text(signature)}")
    os.chmod(file + ".new", 0o644)
    os.rename(file + ".new", file)


{"jwks": jwks, "token": token}[sys.argv[1]](*sys.argv[2:])
