"""The description: valid and complete. That it is true is schemathesis' word, in test_gunicorn.py."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from openapi_spec_validator import OpenAPIV31SpecValidator

from harkline_api.refusals import CODES

if TYPE_CHECKING:
    from tests.api.conftest import Api


def test_the_description_is_valid(api: Api) -> None:
    """/openapi.json is OpenAPI 3.1, also by the validator's word."""
    document = api.client.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_every_call_is_described_with_every_method(api: Api) -> None:
    """What Flask routes and what the description says are the same calls."""
    document = api.client.get("/openapi.json").json
    described = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    routed = set()
    for rule in api.app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        methods = (rule.methods or set()) - {"OPTIONS"}
        if "GET" in methods:
            methods -= {"HEAD"}
        routed |= {(path, method) for method in methods}
    assert described == routed


def test_every_code_is_described(api: Api) -> None:
    """Each code of the table stands in the response of its status."""
    responses = api.client.get("/openapi.json").json["components"]["responses"]
    for name, code in CODES.items():
        assert f"`{name}`" in responses[str(code.status)]["description"]
