"""What senders may send, and what of it reaches the ledger: bodies in, lines out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harkline.contract import LogLine
from tests.api.consumer import stored_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Api

JSON = "application/json"
NDJSON = "application/x-ndjson"
PLAIN = "text/plain"
CURL = "application/x-www-form-urlencoded"


def send(api: Api, body: bytes | str | object, content_type: str | None = JSON, path: str = "/logs", **kw: Any) -> Any:
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    return api.client.post(path, data=data, content_type=content_type, **kw)


FORMS = {
    "object": ('{"message": "a"}', JSON, ["a"]),
    "pretty object": ('{\n  "message": "a"\n}\n', JSON, ["a"]),
    "array": ('[{"message": "a"}, {"message": "b"}]', JSON, ["a", "b"]),
    "array of strings": ('["a", "b"]', JSON, ["a", "b"]),
    "mixed array": ('["a", {"message": "b"}]', JSON, ["a", "b"]),
    "string": ('"a"', JSON, ["a"]),
    "ndjson": ('{"message": "a"}\n{"message": "b"}\n', NDJSON, ["a", "b"]),
    "ndjson with blank lines and CRLF": ('{"message": "a"}\r\n\r\n \n{"message": "b"}', NDJSON, ["a", "b"]),
    "ndjson of strings": ('"a"\n"b"', NDJSON, ["a", "b"]),
    "ndjson as json": ('{"message": "a"}\n{"message": "b"}', JSON, ["a", "b"]),
    "concatenated": ('{"message": "a"}{"message": "b"}', JSON, ["a", "b"]),
    "vendor json": ('{"message": "a"}', "application/vnd.acme.log+json; charset=utf-8", ["a"]),
    "plain": ("a\nb\n", PLAIN, ["a", "b"]),
    "plain without a last newline": ("a\nb", PLAIN, ["a", "b"]),
    "plain with CRLF": ("a\r\nb\r\n", PLAIN, ["a", "b"]),
    "plain with blank lines": ("\n\na\n \t\n\nb\n\n", PLAIN, ["a", "b"]),
    "plain with separators that are no newlines": ("a\x0cb\u2028c\x85d", PLAIN, ["a\x0cb\u2028c\x85d"]),
    "plain that looks like JSON": ('{"message": "a"}', PLAIN, ['{"message": "a"}']),
    "indented": ("  at x\n", PLAIN, ["  at x"]),
    "curl object": ('{"message": "a"}', CURL, ["a"]),
    "curl array": (' [{"message": "a"}]', CURL, ["a"]),
    "curl ndjson": ('{"message": "a"}\n{"message": "b"}', CURL, ["a", "b"]),
    "curl text": ("disk failing", CURL, ["disk failing"]),
    "curl bracketed line": (
        "[Sun Dec 04 2005] [error] mod_jk\n[x] y",
        CURL,
        ["[Sun Dec 04 2005] [error] mod_jk", "[x] y"],
    ),
    "curl braced line": ("{web} started", CURL, ["{web} started"]),
    "no type, json": ('{"message": "a"}', None, ["a"]),
    "no type, text": ("a\nb", None, ["a", "b"]),
    "byte order mark, json": (b'\xef\xbb\xbf{"message": "a"}', JSON, ["a"]),
    "byte order mark, text": (b"\xef\xbb\xbfa", PLAIN, ["a"]),
    "latin-1 in plain lines": (b"caf\xe9\nok", PLAIN, ["caf\ufffd", "ok"]),
    "emoji": ('{"message": "\\ud83d\\ude00 \u2603"}', JSON, ["\U0001f600 \u2603"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_its_lines(api: Api, form: str) -> None:
    """Each form of body is told apart, and exactly its lines reach the ledger, in order."""
    body, content_type, messages = FORMS[form]
    answer = send(api, body, content_type)
    assert answer.status_code == 202, answer.get_data(as_text=True)
    assert answer.json["accepted"] == len(messages)
    assert answer.json["rejected"] == []
    assert re.fullmatch(r"\d+-\d+-\d+", answer.json["batch"])
    assert [line.message for line in stored_lines(api.ledger)] == messages


FIELDS = {
    "all": (
        {
            "message": "m",
            "service": "s",
            "environment": "e",
            "timestamp": "2026-11-22T08:00:00.5Z",
            "level": "warn",
            "id": "7",
            "labels": {"pod": "p"},
        },
        LogLine("m", "s", "e", 1795334400.5, "warn", "7", {"pod": "p"}),
    ),
    "nulls are absent": (
        {"message": "m", "service": None, "level": None, "timestamp": None, "id": None, "labels": None},
        LogLine("m"),
    ),
    "unknown fields are ignored": ({"message": "m", "other": {"a": [1]}, "host": 3}, LogLine("m")),
    "msg and severity": ({"msg": "m", "severity": "ERROR"}, LogLine("m", level="ERROR")),
    "log and lvl": ({"log": "m", "lvl": 50}, LogLine("m", level="50")),
    "line": ({"line": "m"}, LogLine("m")),
    "message wins": ({"msg": "x", "message": "m", "severity": "x", "level": "l"}, LogLine("m", level="l")),
    "an empty message gives way": ({"message": "", "msg": "m"}, LogLine("m")),
    "a level of 50.0": ({"message": "m", "level": 50.0}, LogLine("m", level="50")),
    "severity 0 is a level": ({"message": "m", "severity": 0}, LogLine("m", level="0")),
    "id 0 is an id": ({"message": "m", "id": 0}, LogLine("m", id="0")),
    "labels become text": (
        {"message": "m", "labels": {"code": 500, "up": True, "none": None}},
        LogLine("m", labels={"code": "500", "up": "true", "none": "null"}),
    ),
    "duplicate keys: the last": ('{"message": "x", "message": "m"}', LogLine("m")),
    "NaN in a field nobody reads": ('{"message": "m", "latency": NaN}', LogLine("m")),
    "raw control characters": ('{"message": "a\tb"}', LogLine("a\tb")),
    "a lone surrogate": ('{"message": "a\\ud800b"}', LogLine("a\ufffdb")),
    "a lone surrogate in a label": (
        '{"message": "m", "labels": {"a": "\\udfff"}}',
        LogLine("m", labels={"a": "\ufffd"}),
    ),
    "NUL": ('{"message": "a\\u0000b"}', LogLine("a\x00b")),
    "5000 digits in a field nobody reads": ('{"message": "m", "n": ' + "9" * 5000 + "}", LogLine("m")),
}


@pytest.mark.parametrize("case", FIELDS)
def test_fields_reach_the_ledger(api: Api, case: str) -> None:
    """Every field, alias and oddity of real senders arrives as documented."""
    sent, expected = FIELDS[case]
    answer = send(api, sent)
    assert answer.status_code == 202, answer.get_data(as_text=True)
    assert stored_lines(api.ledger) == [expected]


@pytest.mark.parametrize("body", ['{"message": "m"}', "m"])
def test_what_a_line_does_not_say_the_request_says(api: Api, body: str) -> None:
    """Query and headers give service, environment and level to lines that have none; the query wins over the header."""
    answer = send(
        api,
        body,
        PLAIN if body == "m" else JSON,
        "/logs?service=shop&level=info",
        headers={"X-Service": "other", "X-Environment": "caf\u00e9".encode().decode("latin-1")},
    )
    assert answer.status_code == 202
    assert stored_lines(api.ledger) == [LogLine("m", "shop", "caf\u00e9", level="info")]


def test_a_lines_own_word_wins(api: Api) -> None:
    """What a line says of itself is not overwritten."""
    send(api, {"message": "m", "service": "own", "level": "debug"}, path="/logs?service=shop&level=info")
    assert stored_lines(api.ledger) == [LogLine("m", "own", level="debug")]


def test_ingest_answers_exactly_200_and_its_head_too(api: Api) -> None:
    """Outputs that take 202 for a failure use /ingest, and those that probe with HEAD get exactly 200."""
    assert api.client.head("/ingest").status_code == 200
    answer = send(api, [{"message": "a"}, {}], path="/ingest")
    assert answer.status_code == 200
    assert answer.json["accepted"] == 1
    assert answer.json["rejected"] == [{"index": 1, "error": "missing_message"}]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_line_in_the_address(api: Api, method: str) -> None:
    """Everything after /log/ is the message: slashes, double slashes, line breaks and all."""
    answer = api.client.open("/log/GET%20/a//b%3Fc%0Ad%C3%A9?service=web", method=method)
    assert answer.status_code == 202, answer.get_data(as_text=True)
    assert answer.json["accepted"] == 1
    assert stored_lines(api.ledger) == [LogLine("GET /a//b?c\nd\u00e9", "web")]


def test_a_long_line_keeps_head_and_tail(make_api: Callable[..., Api]) -> None:
    """Longer messages are cut in the middle to the length of the setting, in every form of body."""
    api = make_api(kept_line_chars=256)
    message = "H" * 1000 + "x" * 1000 + "T" * 1000
    for body, content_type in ((json.dumps({"message": message}), JSON), (message, PLAIN)):
        assert send(api, body, content_type).status_code == 202
    kept = [line.message for line in stored_lines(api.ledger)]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 256
    assert re.fullmatch("H+ [.]{3} T+", kept[0])


JOINED = """ERROR boom
java.lang.IllegalStateException: broken
\tat com.acme.Shop.buy(Shop.java:7)
\t... 23 more
Caused by: java.io.IOException: disk
\tat com.acme.Disk.read(Disk.java:9)
INFO fine
ERROR while handling request
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    f()
ValueError: bad

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 2, in g
KeyError: 'x'
INFO after
"""


def test_stack_traces_are_joined_where_asked_for(make_api: Callable[..., Api]) -> None:
    """?join=true, or the setting, appends continuation lines to their line; without it every line counts."""
    api = make_api()
    assert send(api, JOINED, PLAIN).json["accepted"] == len([line for line in JOINED.split("\n") if line.strip()])
    assert send(api, JOINED, PLAIN, "/logs?join=true").json["accepted"] == 4
    joined = [line.message for line in stored_lines(api.ledger)][-4:]
    assert [message.split("\n")[0] for message in joined] == [
        "ERROR boom",
        "INFO fine",
        "ERROR while handling request",
        "INFO after",
    ]
    assert joined[0].endswith("Disk.java:9)")
    assert joined[2].endswith("KeyError: 'x'")
    by_setting = make_api(join_traces=True)
    assert send(by_setting, JOINED, PLAIN).json["accepted"] == 4
    assert send(by_setting, JOINED, PLAIN, "/logs?join=false").json["accepted"] > 4
    assert send(by_setting, "  indented first\nx", PLAIN).json["accepted"] == 2


def test_real_logs_are_counted_line_by_line(api: Api) -> None:
    """14 real systems' logs, CRLF or not, with or without a last newline: 28,000 lines in, 28,000 lines on the ledger."""
    folder = Path(__file__).parents[3] / "shared" / "data" / "loghub"
    files = sorted(folder.glob("*_2k.log"))
    if not files:
        pytest.skip(f"no sample logs under {folder}")
    accepted = 0
    for file in files:
        raw = file.read_bytes().splitlines(keepends=True)
        for at in range(0, len(raw), 500):
            answer = send(api, b"".join(raw[at : at + 500]), PLAIN, f"/logs?service={file.name[:-7]}")
            assert answer.status_code == 202
            accepted += answer.json["accepted"]
    assert accepted == 28_000
    assert len(stored_lines(api.ledger)) == 28_000
    assert api.ledger.stats().backlog_lines == 28_000
