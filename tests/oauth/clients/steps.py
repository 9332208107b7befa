"""Steps that are told in a line each, and a token that is looked at."""

import base64
import json
import sys
import traceback

with open(sys.argv[1], encoding="utf-8") as file:
    CONFIG = json.load(file)


class Steps:
    """What a library did, and whether all of it came out as it should."""

    def __init__(self, library):
        self.library, self.failed = library, 0

    def step(self, what, work):
        """Does one thing, which says in a word what came of it."""
        try:
            print(f"ok      {self.library}: {what}: {work()}", flush=True)
        except Exception:  # noqa: BLE001: whatever a library raises is a step that failed, and the next one is tried
            self.failed += 1
            print(f"FAILED  {self.library}: {what}: {traceback.format_exc()}", flush=True)

    def end(self):
        """Ends the program, with 1 where a step failed."""
        sys.exit(1 if self.failed else 0)


def good(answer, client):
    """Looks at the answer of the token endpoint, and says what is in the token."""
    assert answer["token_type"] == "Bearer", answer["token_type"]
    assert 0 < answer["expires_in"] <= 600, answer["expires_in"]
    scope = answer["scope"]
    assert (scope if isinstance(scope, str) else " ".join(scope)) == CONFIG["scope"], scope
    part = answer["access_token"].split(".")[1]
    said = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert said["iss"] == CONFIG["issuer"] and said["aud"] == CONFIG["resource"], said
    assert said["client_id"] == client, said
    acts = f", {said['act']['sub']} acts for {said['sub']}" if "act" in said else ""
    return f"a token of {said['exp'] - said['iat']} s for {said['aud']}{acts}"
