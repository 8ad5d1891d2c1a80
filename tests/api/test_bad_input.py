"""Bad input: a short code and the index of each bad line, a 4xx where no line is good, never a 5xx, never a lost good line."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from harkline_api.refusals import CODES
from tests.api.consumer import stored_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Api

JSON = "application/json"
NDJSON = "application/x-ndjson"
PLAIN = "text/plain"

DEEP = "[" * 100_000 + "]" * 100_000
LONG = "x" * 2**20

BAD_LINES: dict[str, tuple[bytes, str]] = {
    "truncated": (b'{"message": "a', "bad_json"),
    "bare word": (b"nonsense", "bad_json"),
    "number": (b"42", "not_an_object"),
    "null": (b"null", "not_an_object"),
    "true": (b"true", "not_an_object"),
    "empty object": (b"{}", "missing_message"),
    "empty message": (b'{"message": ""}', "missing_message"),
    "white message": (b'{"message": " \\n\\t"}', "missing_message"),
    "null message": (b'{"message": null}', "missing_message"),
    "empty string": (b'""', "missing_message"),
    "message a number": (b'{"message": 5}', "bad_message"),
    "message an object": (b'{"message": {"a": 1}}', "bad_message"),
    "alias of a wrong type": (b'{"msg": []}', "bad_message"),
    "service a number": (b'{"message": "m", "service": 5}', "bad_service"),
    "service too long": (b'{"message": "m", "service": "%b"}' % (b"s" * 257), "bad_service"),
    "environment a list": (b'{"message": "m", "environment": []}', "bad_environment"),
    "timestamp a word": (b'{"message": "m", "timestamp": "soon"}', "bad_timestamp"),
    "timestamp true": (b'{"message": "m", "timestamp": true}', "bad_timestamp"),
    "timestamp negative": (b'{"message": "m", "timestamp": -1}', "bad_timestamp"),
    "timestamp NaN": (b'{"message": "m", "timestamp": NaN}', "bad_timestamp"),
    "timestamp Infinity": (b'{"message": "m", "timestamp": Infinity}', "bad_timestamp"),
    "timestamp 1e999": (b'{"message": "m", "timestamp": 1e999}', "bad_timestamp"),
    "timestamp past 9999": (b'{"message": "m", "timestamp": 1e21}', "bad_timestamp"),
    "timestamp of 5000 digits": (b'{"message": "m", "timestamp": %b}' % (b"9" * 5000), "bad_json"),
    "timestamp of 4000 digits": (b'{"message": "m", "timestamp": %b}' % (b"9" * 4000), "bad_timestamp"),
    "level an object": (b'{"message": "m", "level": {}}', "bad_level"),
    "alias level a list": (b'{"message": "m", "severity": []}', "bad_level"),
    "id too large": (b'{"message": "m", "id": %b}' % (b"9" * 50), "bad_id"),
    "labels a list": (b'{"message": "m", "labels": []}', "bad_labels"),
    "labels nested": (b'{"message": "m", "labels": {"a": {}}}', "bad_labels"),
    "65 labels": (json.dumps({"message": "m", "labels": {str(n): "" for n in range(65)}}).encode(), "bad_labels"),
    "invalid UTF-8": (b'{"message": "\xff"}', "bad_utf8"),
    "nested too deep": (DEEP.encode(), "too_deep"),
    "nested too deep inside": (b'{"message": "m", "x": %b}' % DEEP.encode(), "too_deep"),
    "too long": (json.dumps({"message": LONG + "x"}).encode(), "line_too_long"),
    "too long in bytes": (
        json.dumps({"message": "\u20ac" * (2**20 // 3 + 1)}, ensure_ascii=False).encode(),
        "line_too_long",
    ),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_alone_is_refused_with_its_code(api: Api, case: str) -> None:
    """A request whose only line is bad is a 4xx that names the line's code and index, and nothing is written."""
    line, code = BAD_LINES[case]
    answer = api.client.post("/logs", data=b"  " + line, content_type=NDJSON)
    assert answer.status_code == CODES[code].status, answer.get_data(as_text=True)[:300]
    assert 400 <= answer.status_code < 500
    assert answer.json["error"] == code
    assert answer.json["detail"]
    assert answer.json["rejected"] == [{"index": 0, "error": code}]
    assert stored_lines(api.ledger) == []
    assert api.metric("harkline_rejected_requests_total", code=code) == 1
    assert api.metric("harkline_rejected_lines_total", code=code) == 1


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_spoils_no_good_one(api: Api, case: str) -> None:
    """Between two good lines, NDJSON or array, each bad one is named by index and code, and both good ones are accepted."""
    line, code = BAD_LINES[case]
    bodies = [(b'{"message": "a"}\n%b\n\n{"message": "b"}' % line, NDJSON)]
    if code != "bad_json":  # an array that is not JSON has no items
        bodies.append((b'[{"message": "a"},%b , {"message": "b"}]' % line, JSON))
    for body, content_type in bodies:
        answer = api.client.post("/logs", data=body, content_type=content_type)
        assert answer.status_code == 202, answer.get_data(as_text=True)[:300]
        assert answer.json["accepted"] == 2
        assert answer.json["rejected"] == [{"index": 1, "error": code}]
    assert [line.message for line in stored_lines(api.ledger)] == ["a", "b"] * len(bodies)
    assert api.metric("harkline_rejected_lines_total", code=code) == len(bodies)


def test_every_bad_line_of_many_is_named(api: Api) -> None:
    """All at once: each index has its own code."""
    bodies = [line for line, code in BAD_LINES.values() if code != "line_too_long"]
    codes = [code for _, code in BAD_LINES.values() if code != "line_too_long"]
    answer = api.client.post("/logs", data=b"\n".join([*bodies, b'"good"']), content_type=NDJSON)
    assert answer.status_code == 202
    assert answer.json["accepted"] == 1
    assert answer.json["rejected"] == [{"index": index, "error": code} for index, code in enumerate(codes)]


def test_a_long_plain_line_is_rejected_alone(make_api: Callable[..., Api]) -> None:
    """A plain line beyond the limit in bytes is rejected by its index among lines that are not blank."""
    api = make_api(max_line_bytes=100)
    body = "a\n\n" + "x" * 101 + "\n" + "\u20ac" * 34 + "\nb\n" + "y" * 100
    answer = api.client.post("/logs", data=body.encode(), content_type=PLAIN)
    assert answer.status_code == 202
    assert answer.json["rejected"] == [{"index": 1, "error": "line_too_long"}, {"index": 2, "error": "line_too_long"}]
    assert [line.message for line in stored_lines(api.ledger)] == ["a", "b", "y" * 100]
    only = api.client.post("/logs", data=b"x" * 101, content_type=PLAIN)
    assert only.status_code == 413
    assert only.json["error"] == "line_too_long"


def gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


BAD_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"data": b"", "content_type": JSON}, "no_lines"),
    "empty array": ({"data": b" [ ] ", "content_type": JSON}, "no_lines"),
    "only blank lines": ({"data": b"\n \r\n\t\n", "content_type": PLAIN}, "no_lines"),
    "an array cut short": ({"data": b'[{"message": "a"}, {"mess', "content_type": JSON}, "bad_json"),
    "an array without its end": ({"data": b'[{"message": "a"}', "content_type": JSON}, "bad_json"),
    "an array without a comma": ({"data": b'[{"message": "a"} 5 ["b"]]', "content_type": JSON}, "bad_json"),
    "an array and more": ({"data": b'["a", 5] x', "content_type": JSON}, "bad_json"),
    "protobuf": ({"data": b"\x00", "content_type": "application/x-protobuf"}, "unknown_content_type"),
    "form": ({"data": b"a", "content_type": "multipart/form-data; boundary=x"}, "unknown_content_type"),
    "odd type": ({"data": b"a", "content_type": "nonsense"}, "unknown_content_type"),
    "utf-16": ({"data": "a".encode("utf-16"), "content_type": "text/plain; charset=utf-16"}, "unknown_charset"),
    "brotli": ({"data": b"a", "headers": {"Content-Encoding": "br"}}, "unknown_encoding"),
    "two encodings": ({"data": b"a", "headers": {"Content-Encoding": "gzip, gzip"}}, "unknown_encoding"),
    "not gzip": ({"data": b"plain", "headers": {"Content-Encoding": "gzip"}}, "bad_gzip"),
    "gzip cut short": ({"data": gzipped(b"a" * 99)[:-5], "headers": {"Content-Encoding": "gzip"}}, "bad_gzip"),
    "gzip of nothing": ({"data": b"", "headers": {"Content-Encoding": "gzip"}}, "bad_gzip"),
    "gzip, then junk": ({"data": gzipped(b"a") + b"junk", "headers": {"Content-Encoding": "gzip"}}, "bad_gzip"),
    "2000 gzip members": ({"data": gzipped(b"") * 2000, "headers": {"Content-Encoding": "gzip"}}, "bad_gzip"),
    "not deflate": ({"data": b"\xff\xff\xff", "headers": {"Content-Encoding": "deflate"}}, "bad_deflate"),
    "not zstd": ({"data": b"plain", "headers": {"Content-Encoding": "zstd"}}, "bad_zstd"),
    "zstd cut short": (
        {"data": zstandard.compress(b"a" * 99)[:-3], "headers": {"Content-Encoding": "zstd"}},
        "bad_zstd",
    ),
    "gzip undeclared": ({"data": gzipped(b'{"message": "a"}'), "content_type": JSON}, "bad_utf8"),
    "wait a word": ({"data": b"a", "query_string": "wait=long"}, "bad_wait"),
    "wait negative": ({"data": b"a", "query_string": "wait=-1"}, "bad_wait"),
    "wait NaN": ({"data": b"a", "query_string": "wait=nan"}, "bad_wait"),
    "wait infinite": ({"data": b"a", "query_string": "wait=inf"}, "bad_wait"),
    "join a word": ({"data": b"a", "query_string": "join=yes"}, "bad_join"),
    "service too long": ({"data": b"a", "query_string": "service=" + "s" * 257}, "bad_service"),
    "level too long in a header": ({"data": b"a", "headers": {"X-Level": "s" * 257}}, "bad_level"),
    "key empty": ({"data": b"a", "headers": {"Idempotency-Key": ""}}, "bad_idempotency_key"),
    "key too long": ({"data": b"a", "headers": {"Idempotency-Key": "k" * 256}}, "bad_idempotency_key"),
    "key with a space": ({"data": b"a", "headers": {"Idempotency-Key": "k k"}}, "bad_idempotency_key"),
    "from another site's page": ({"data": b"a", "headers": {"Sec-Fetch-Site": "cross-site"}}, "cross_site"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_is_refused_with_its_code(api: Api, case: str) -> None:
    """What is wrong with a whole request has a code too, the same in body and metric; nothing is written."""
    request, code = BAD_REQUESTS[case]
    answer = api.client.post("/logs", **{"content_type": PLAIN, **request})
    assert answer.json["error"] == code, answer.json
    assert answer.status_code == CODES[code].status
    assert answer.content_type == "application/json"
    assert stored_lines(api.ledger) == []
    assert api.metric("harkline_rejected_requests_total", code=code) == 1
    assert api.metric("harkline_requests_total", protocol="logs", status=str(answer.status_code)) == 1


@pytest.mark.parametrize("content_type", [JSON, NDJSON, PLAIN])
def test_too_many_lines_are_refused(make_api: Callable[..., Api], content_type: str) -> None:
    """One line more than allowed refuses the request, whether its lines are good or bad; exactly as many are fine."""
    api = make_api(max_request_lines=100)

    def body(lines: int, line: str) -> bytes:
        if content_type == JSON:
            return b"[" + b",".join([line.encode()] * lines) + b"]"
        return b"\n".join([line.encode()] * lines)

    for line in ('{"message": "a"}', '"a"', '{"message": "{{{{"}', "5", "{}"):
        refused = api.client.post("/logs", data=body(101, line), content_type=content_type)
        assert (refused.status_code, refused.json["error"]) == (413, "too_many_lines"), line
    assert stored_lines(api.ledger) == []
    for line in ('{"message": "a"}', '"a"', '{"message": "{{{{"}'):
        assert api.client.post("/logs", data=body(100, line), content_type=content_type).status_code == 202
    blank = api.client.post("/logs", data=b"\n" * 5000, content_type=content_type)
    assert blank.json["error"] == "too_many_lines"


def test_unknown_calls_and_methods_answer_in_json(api: Api) -> None:
    """404 and 405 carry our error body, 405 with the methods that are allowed."""
    missing = api.client.get("/nothing")
    assert (missing.status_code, missing.json["error"]) == (404, "not_found")
    wrong = api.client.get("/logs")
    assert (wrong.status_code, wrong.json["error"]) == (405, "method_not_allowed")
    assert "POST" in wrong.headers["Allow"]
    assert api.client.post("/health").status_code == 405
    assert api.client.delete("/ingest").status_code == 405


def test_a_fault_of_ours_answers_in_json_and_tells_nothing(make_api: Callable[..., Api], settings: Any) -> None:
    """An unexpected exception is a 500 with our body and no traceback in it."""

    def broken() -> str:
        raise RuntimeError("secret detail")

    api = make_api()
    api.app.add_url_rule("/broken", "broken", broken)
    answer = api.client.get("/broken")
    assert (answer.status_code, answer.json["error"]) == (500, "internal_error")
    assert "secret" not in answer.get_data(as_text=True)
