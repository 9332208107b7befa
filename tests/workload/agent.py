"""The agent of crates/client/examples/svid_agent.rs once more, with SPIFFE's own library for Python and what Python brings along.

    agent.py HOST:PORT SPIFFE_ID_OF_THE_SERVER

All that it has is SPIFFE_ENDPOINT_SOCKET in its environment. Each line on standard input is one call, `read PLAN` or `run PLAN`; `reconnect` drops the
connection.
"""

import http.client
import os
import socket
import ssl
import sys

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from spiffe import X509Source


def context(source):
    """TLS as who we are now, towards whom our trust domain has certified. Which of them it is, is looked at after the handshake."""
    svid = source.svid
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.check_hostname = False
    authorities = source.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain).x509_authorities
    tls.load_verify_locations(cadata="".join(ca.public_bytes(Encoding.PEM).decode() for ca in authorities))
    # The library takes files alone: this one is in memory and nowhere else.
    with os.fdopen(os.memfd_create("svid"), "wb") as file:
        for certificate in svid.cert_chain:
            file.write(certificate.public_bytes(Encoding.PEM))
        file.write(svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.flush()
        tls.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return tls


class Agent:
    def __init__(self, address, server):
        host, port = address.rsplit(":", 1)
        self.source = X509Source(timeout_in_seconds=30)
        self.address, self.server = (host, int(port)), server
        self.open, self.connections = None, 0

    def reconnect(self):
        if self.open:
            self.open.close()
        self.open = None

    def connect(self):
        # The library gives up for good when the process may have nothing any more; this one asks again.
        if self.source.is_closed():
            self.source = X509Source(timeout_in_seconds=5)
        tls = context(self.source).wrap_socket(socket.create_connection(self.address, timeout=10))
        names = [name for kind, name in tls.getpeercert().get("subjectAltName", ()) if kind == "URI"]
        if names != [self.server]:
            tls.close()
            raise ssl.SSLError(f"the server is {names}")
        self.open = http.client.HTTPConnection(*self.address, timeout=10)
        self.open.sock = tls
        self.connections += 1

    def call(self, method, path):
        if self.open is None or self.open.sock is None:
            self.connect()
        self.open.request(method, path)
        answer = self.open.getresponse()
        said = answer.read(64 << 10).decode().strip()
        reason = answer.getheader("legate-reason", "-")
        connection = self.connections
        if answer.status == 401:
            self.reconnect()
        return f"{answer.status} {reason} connection={connection} {said}"


def main(address, server):
    agent = Agent(address, server)
    for line in sys.stdin:
        word, _, plan = line.strip().partition(" ")
        try:
            if word == "reconnect":
                agent.reconnect()
                continue
            method, path = {"read": ("GET", f"/plans/{plan}"), "run": ("POST", f"/plans/{plan}/run")}[word]
            print(agent.call(method, path), flush=True)
        except Exception as error:
            agent.reconnect()
            print("none", type(error).__name__, str(error).replace("\n", " "), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
