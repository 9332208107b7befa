"""PyPI Authlib as its users use it: authlib_client.py CONFIG. One line for each thing that it did."""

import json
import time

from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey

from steps import CONFIG, Steps, good

ISSUER = CONFIG["issuer"]
TOKEN, INTROSPECT, REVOKE = (f"{ISSUER}/oauth2/{name}" for name in ("token", "introspect", "revoke"))
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
WANTED = {"resource": CONFIG["resource"], "scope": CONFIG["scope"]}
steps = Steps("Authlib")


class ShortAssertion(PrivateKeyJWT):
    """Authlib addresses an assertion to the token endpoint and dates it by an hour, where nothing else is said."""

    def sign(self, auth, token_endpoint):
        self.claims = {"exp": int(time.time()) + 60}
        return super().sign(auth, ISSUER)


def client(client_id, secret=None, way="client_secret_basic", cert=None):
    session = OAuth2Session(client_id, secret, token_endpoint_auth_method=way, revocation_endpoint_auth_method=way)
    session.cert = cert
    session.register_client_auth_method(ShortAssertion(alg="ES256"))
    return session


def token(session, **more):
    # What is asked for goes into the form as it is.
    return session.fetch_token(TOKEN, **({"grant_type": "client_credentials"} | WANTED | more))


def refused(error, work):
    try:
        work()
    except OAuthError as refusal:
        assert refusal.error == error, f"{refusal.error}: {refusal.description}"
        return refusal.error
    raise AssertionError("it works")


def exchange(session, subject):
    return token(session, grant_type=EXCHANGE, subject_token=subject, subject_token_type=ACCESS_TOKEN)


with open(CONFIG["jwk"], encoding="utf-8") as file:
    key = ECKey.import_key(json.load(file))
basic = client(CONFIG["secret_id"], CONFIG["secret"])
post = client(CONFIG["secret_id"], CONFIG["secret"], "client_secret_post")
signed = client(CONFIG["jwt_id"], key, "private_key_jwt")
mtls = client(CONFIG["mtls_id"], way="none", cert=CONFIG["pem"])

kept = {}
for what, session, name in (
    ("client_secret_basic", basic, "secret_id"),
    ("client_secret_post", post, "secret_id"),
    ("private_key_jwt", signed, "jwt_id"),
    ("private_key_jwt, a second time", signed, "jwt_id"),
    ("tls_client_auth", mtls, "mtls_id"),
):

    def one(session=session, name=name):
        kept[name] = token(session)
        return good(kept[name], CONFIG[name])

    steps.step(f"client_credentials by {what}", one)


def exchanged():
    kept["exchanged"] = exchange(signed, kept["secret_id"]["access_token"])
    assert kept["exchanged"]["issued_token_type"] == ACCESS_TOKEN
    return good(kept["exchanged"], CONFIG["jwt_id"])


def introspected():
    told = signed.introspect_token(INTROSPECT, kept["exchanged"]["access_token"], auth=signed.client_auth("private_key_jwt"))
    assert told.status_code == 200 and told.json()["active"] is True, told.text
    return f"active, {told.json()['scope']}"


def revoked():
    held = kept["secret_id"]["access_token"]
    answer = basic.revoke_token(REVOKE, held)
    assert answer.status_code == 200, answer.text
    told = basic.introspect_token(INTROSPECT, held, auth=basic.client_auth("client_secret_basic")).json()
    assert told == {"active": False}, told
    return "and it is active no longer"


steps.step("token exchange (RFC 8693)", exchanged)
steps.step("introspection (RFC 7662)", introspected)
steps.step("revocation (RFC 7009)", revoked)

wrong = "lgt_sec_" + "0" * 59
long = client(CONFIG["jwt_id"], key, "private_key_jwt")
long.register_client_auth_method(PrivateKeyJWT(ISSUER, alg="ES256"))
elsewhere = client(CONFIG["jwt_id"], key, "private_key_jwt")
elsewhere.register_client_auth_method(PrivateKeyJWT(claims={"exp": int(time.time()) + 60}, alg="ES256"))
stranger = client(CONFIG["jwt_id"], ECKey.generate_key("P-256"), "private_key_jwt")
for what, error, work in (
    ("a wrong secret, basic", "invalid_client", lambda: token(client(CONFIG["secret_id"], wrong))),
    ("a wrong secret, post", "invalid_client", lambda: token(client(CONFIG["secret_id"], wrong, "client_secret_post"))),
    ("an assertion by another key", "invalid_client", lambda: token(stranger)),
    ("an assertion of an hour", "invalid_client", lambda: token(long)),
    ("an assertion for the token endpoint", "invalid_client", lambda: token(elsewhere)),
    ("a scope that it may not have", "invalid_scope", lambda: token(basic, scope="order:refund")),
    ("a resource that is nobody's", "invalid_target", lambda: token(basic, resource="https://nobody.example")),
    ("a subject token that was taken back", "invalid_grant", lambda: exchange(signed, kept["secret_id"]["access_token"])),
):
    steps.step(what, lambda error=error, work=work: refused(error, work))
steps.end()
