"""Keys: every form in which shippers present them, and what is closed without one."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from tests.api.consumer import stored_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Api

KEY = "k3y-of-the-team"
OTHER = "schl\u00fcssel"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def closed(make_api: Callable[..., Api]) -> Api:
    """An API that asks for one of two keys."""
    return make_api(api_keys=SecretStr(f"{KEY}, {OTHER}"))


FORMS = {
    "bearer": {"Authorization": f"Bearer {KEY}"},
    "bearer in any case": {"Authorization": f"bEARER   {KEY}"},
    "splunk": {"Authorization": f"Splunk {KEY}"},
    "apikey": {"Authorization": f"ApiKey {KEY}"},
    "apikey, id and key": {"Authorization": f"ApiKey {b64('id:' + KEY)}"},
    "basic, password": {"Authorization": f"Basic {b64('user:' + KEY)}"},
    "basic, user": {"Authorization": f"Basic {b64(KEY + ':')}"},
    "x-api-key": {"X-Api-Key": KEY},
    "dd-api-key": {"DD-API-KEY": KEY},
    "the other key": {"X-Api-Key": OTHER.encode().decode("latin-1")},
    "one right of two": {"X-Api-Key": "wrong", "Authorization": f"Bearer {KEY}"},
}
WRONG = {
    "bearer": {"Authorization": "Bearer wrong"},
    "prefix": {"Authorization": f"Bearer {KEY[:-1]}"},
    "basic": {"Authorization": f"Basic {b64('user:wrong')}"},
    "x-api-key": {"X-Api-Key": KEY.upper()},
    "both keys at once": {"X-Api-Key": f"{KEY}, {OTHER}"},
}
NONE = {
    "nothing": {},
    "empty bearer": {"Authorization": "Bearer "},
    "unknown scheme": {"Authorization": f"Digest {KEY}"},
    "basic that is not base64": {"Authorization": "Basic ???"},
    "empty header": {"X-Api-Key": ""},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_key_opens_in_every_form(closed: Api, form: str) -> None:
    """Whatever header a shipper uses for its key, its lines are accepted."""
    assert closed.client.post("/logs", data="a", headers=FORMS[form]).status_code == 202
    assert closed.client.get("/metrics", headers=FORMS[form]).status_code == 200


@pytest.mark.parametrize("form", WRONG)
def test_a_wrong_key_is_403(closed: Api, form: str) -> None:
    """A key that is none of ours is refused, and nothing is written."""
    for answer in (
        closed.client.post("/logs", data="a", headers=WRONG[form]),
        closed.client.get("/batches/1-1-0", headers=WRONG[form]),
    ):
        assert (answer.status_code, answer.json["error"]) == (403, "bad_key")
    assert stored_lines(closed.ledger) == []


@pytest.mark.parametrize("form", NONE)
def test_no_key_is_401(closed: Api, form: str) -> None:
    """Without a key the answer says how to present one."""
    answer = closed.client.post("/logs", data="a", headers=NONE[form])
    assert (answer.status_code, answer.json["error"]) == (401, "key_required")
    assert "Bearer" in answer.headers["WWW-Authenticate"]
    assert "Basic" in answer.headers["WWW-Authenticate"]
    assert stored_lines(closed.ledger) == []


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/metrics", "/stream", "/batches/1-1-0", "/log/a", "/ingest", "/nothing"]
)
def test_everything_but_the_probes_asks_for_a_key(closed: Api, path: str) -> None:
    """A path that does not exist asks too, so that none can be told from those that do."""
    assert closed.client.get(path).status_code in (401, 405 if path == "/ingest" else 401)
    if path == "/ingest":
        assert closed.client.head(path).status_code == 401


@pytest.mark.parametrize("path", ["/health", "/startup", "/readiness"])
def test_probes_are_open(closed: Api, path: str) -> None:
    """An orchestrator has no key."""
    assert closed.client.get(path).status_code == 200


def test_without_keys_everybody_may_call(api: Api) -> None:
    """No key is asked for where none is set, and one that is sent does no harm."""
    assert api.client.post("/logs", data="a").status_code == 202
    assert api.client.post("/logs", data="a", headers={"X-Api-Key": "any"}).status_code == 202


def test_the_description_asks_for_keys_only_where_the_api_does(api: Api, closed: Api) -> None:
    """/openapi.json declares security where keys are set, and none where not."""
    assert "security" not in api.client.get("/openapi.json").json
    described = closed.client.get("/openapi.json", headers=FORMS["bearer"]).json
    assert described["security"]
    assert set(described["components"]["securitySchemes"]) == {
        name for group in described["security"] for name in group
    }
