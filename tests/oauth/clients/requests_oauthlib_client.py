"""PyPI requests-oauthlib as its users use it: requests_oauthlib_client.py CONFIG. One line for each thing that it did."""

from oauthlib.oauth2 import BackendApplicationClient
from oauthlib.oauth2.rfc6749.errors import CustomOAuth2Error, InvalidClientError, InvalidScopeError, OAuth2Error
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from steps import CONFIG, Steps, good

ISSUER = CONFIG["issuer"]
TOKEN, INTROSPECT, REVOKE = (f"{ISSUER}/oauth2/{name}" for name in ("token", "introspect", "revoke"))
steps = Steps("requests-oauthlib")


def token(client_id, secret=None, way="basic", cert=None, scope=CONFIG["scope"], resource=CONFIG["resource"]):
    """A new session, and the token that it got."""
    session = OAuth2Session(client=BackendApplicationClient(client_id=client_id, scope=scope))
    session.cert = cert
    ways = {
        "basic": {"auth": HTTPBasicAuth(client_id, secret)},
        "basic by itself": {"client_id": client_id, "client_secret": secret},
        "post": {"client_id": client_id, "client_secret": secret, "include_client_id": True},
        "certificate": {"include_client_id": True, "auth": lambda request: request},
    }
    return session, session.fetch_token(TOKEN, resource=resource, **ways[way])


def refused(kind, error, work):
    try:
        work()
    except OAuth2Error as refusal:
        assert isinstance(refusal, kind) and refusal.error == error, f"{type(refusal)} {refusal}"
        return f"{type(refusal).__name__} {refusal.error}"
    raise AssertionError("it works")


kept = {}
MINE = (CONFIG["secret_id"], CONFIG["secret"])
CERTIFIED = (CONFIG["mtls_id"], None, "certificate", CONFIG["pem"])
for what, args in (
    ("client_secret_basic", MINE),
    ("client_secret_basic, made by the library", (*MINE, "basic by itself")),
    ("client_secret_post", (*MINE, "post")),
    ("tls_client_auth", CERTIFIED),
):

    def one(args=args):
        session, answer = token(*args)
        kept[args[0]] = (session, answer["access_token"])
        return good(answer, args[0])

    steps.step(f"client_credentials by {what}", one)


def introspected():
    session, held = kept[MINE[0]]
    told = session.post(INTROSPECT, data={"token": held}, auth=HTTPBasicAuth(*MINE), withhold_token=True)
    assert told.status_code == 200 and told.json()["active"] is True, told.text
    return f"active, {told.json()['scope']}"


def revoked():
    session, held = kept[MINE[0]]
    url, headers, body = session._client.prepare_token_revocation_request(REVOKE, held)
    answer = session.post(url, data=body, headers=headers, auth=HTTPBasicAuth(*MINE), withhold_token=True)
    assert answer.status_code == 200, answer.text
    told = session.post(INTROSPECT, data={"token": held}, auth=HTTPBasicAuth(*MINE), withhold_token=True)
    assert told.json() == {"active": False}, told.text
    return "and it is active no longer"


steps.step("introspection (RFC 7662)", introspected)
steps.step("revocation (RFC 7009)", revoked)

wrong = (MINE[0], "lgt_sec_" + "0" * 59)
for what, kind, error, work in (
    ("a wrong secret, basic", InvalidClientError, "invalid_client", lambda: token(*wrong)),
    ("a wrong secret, post", InvalidClientError, "invalid_client", lambda: token(*wrong, "post")),
    ("another client's certificate", InvalidClientError, "invalid_client", lambda: token(MINE[0], *CERTIFIED[1:])),
    ("a scope that it may not have", InvalidScopeError, "invalid_scope", lambda: token(*MINE, scope="order:refund")),
    (
        "a resource that is nobody's",
        CustomOAuth2Error,
        "invalid_target",
        lambda: token(*MINE, resource="https://nobody.example"),
    ),
):
    steps.step(what, lambda kind=kind, error=error, work=work: refused(kind, error, work))
steps.end()
