"""Secrets are out of a line before it is written: no byte of them reaches Redis, an answer, a metric or a log, by whichever way they come."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from harkline.lines.patterns import NAMES
from tests.api.consumer import Consumer, count_all, stored_lines
from tests.api.gunicorn_server import gunicorn_server
from tests.support.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harkline.ledger import Ledger
    from harkline.settings import Settings
    from tests.api.conftest import Api

SECRET = "Hunter2xyz"
LINE = f"critical: login password={SECRET} failed"
KEPT = "critical: login password=[redacted:secret_value] failed"


def sent_raw(port: int, request: bytes) -> bytes:
    """Return the whole answer to bytes that are no good request."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def everything_in(ledger: Ledger) -> bytes:
    """Return all that Redis holds, keys and values of any type, as it would write them to disk or send them to a replica."""
    found: list[bytes] = []
    for key in ledger.redis.scan_iter():
        kind = ledger.redis.type(key)
        read: Any = {
            b"string": ledger.redis.get,
            b"hash": ledger.redis.hgetall,
            b"list": lambda name: ledger.redis.lrange(name, 0, -1),
            b"set": ledger.redis.smembers,
            b"zset": lambda name: ledger.redis.zrange(name, 0, -1),
            b"stream": ledger.redis.xrange,
        }[kind]
        found.append(key + repr(read(key)).encode())
    return b"\n".join(found)


WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "an object": ("/logs", {"json": {"message": LINE, "service": "s"}}),
    "an array": ("/logs", {"json": [{"message": LINE}, "fine"]}),
    "NDJSON": ("/ingest", {"data": json.dumps(LINE) + '\n{"log": "fine"}', "content_type": "application/x-ndjson"}),
    "JSON with escapes": ("/logs", {"data": '{"message": "' + "".join(f"\\u{ord(char):04x}" for char in LINE) + '"}'}),
    "plain lines": ("/logs", {"data": f"fine\n{LINE}\nfine", "content_type": "text/plain"}),
    "gzip": ("/logs", {"data": gzip.compress(LINE.encode()), "headers": {"Content-Encoding": "gzip"}}),
    "the address": (f"/log/{LINE}", {}),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_byte_of_a_secret_reaches_redis(api: Api, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the form of the request, the mark is stored and the secret is not: not on the ledger, nor with what comes of the line."""
    path, request = WAYS[way]
    answer = api.client.post(path, query_string={"wait": "0"}, **request)
    assert answer.status_code in (200, 202)
    assert KEPT in [line.message for line in stored_lines(api.ledger)]
    assert SECRET.encode() not in everything_in(api.ledger)
    count_all(api.ledger)
    assert KEPT.encode() in everything_in(api.ledger)  # the critical line
    assert SECRET.encode() not in everything_in(api.ledger)
    assert SECRET not in caplog.text


def test_what_is_read_back_is_redacted(api: Api) -> None:
    """Verdicts and /stream show the mark."""
    with Consumer(api.ledger):
        answer = api.client.post("/logs?wait=5", json={"message": LINE})
    assert answer.json["verdicts"][0]["template"] == KEPT
    assert SECRET not in answer.get_data(as_text=True)
    with api.client.get("/stream?after=0") as stream:
        event = next(part for part in stream.response if b"event: critical" in part)
    assert KEPT.encode() in event
    assert SECRET.encode() not in event


def test_every_field_that_a_sender_writes_freely_is_redacted(api: Api) -> None:
    """Labels by their text and by their names, ids and levels; the service and the environment are what they were."""
    note = f"token={SECRET}"
    line = {"message": "m", "id": note, "level": note, "service": note, "environment": "e"}
    api.client.post("/logs", json={**line, "labels": {"note": note, "api_key": SECRET, "code": 5}})
    (stored,) = stored_lines(api.ledger)
    mark = "token=[redacted:secret_value]"
    assert (stored.id, stored.level, stored.service, stored.environment) == (mark, mark, note, "e")
    assert stored.labels == {"note": mark, "api_key": "[redacted:secret_value]", "code": "5"}


def test_a_key_goes_also_line_by_line(api: Api) -> None:
    """A private key in plain lines is many lines, of which no content is stored."""
    content = ["Ab1+" * 16, "Cd2/" * 16, "Ef=="]
    body = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *content, "-----END RSA PRIVATE KEY-----"])
    api.client.post("/logs", data=body, content_type="text/plain")
    assert len(stored_lines(api.ledger)) == 5
    held = everything_in(api.ledger)
    assert all(line.encode() not in held for line in content)


def test_a_secret_across_the_cut_of_a_long_line_goes(make_api: Callable[..., Api]) -> None:
    """A line is cut after it is redacted, so that no half of a secret is kept."""
    api = make_api(kept_line_chars=256)
    for beside in range(60, 140, 5):
        for text in (
            "x" * beside + f" password={'Zq9' * 20} " + "y" * 400,
            "x" * 400 + f" password={'Zq9' * 20} " + "y" * beside,
        ):
            api.client.post("/logs", data=text, content_type="text/plain")
    assert all(len(line.message) == 256 for line in stored_lines(api.ledger))
    assert b"Zq9" not in everything_in(api.ledger)


def test_replacements_are_counted_by_pattern(api: Api) -> None:
    """Every pattern is there at 0 from the start; what was replaced in accepted lines is counted, and nothing of refused ones."""
    assert {name: api.metric("harkline_redactions_total", pattern=name) for name in NAMES} == dict.fromkeys(NAMES, 0.0)
    text = api.client.get("/metrics").get_data(as_text=True)
    assert all(f'harkline_redactions_total{{pattern="{name}"}} 0.0' in text for name in NAMES)
    api.client.post("/logs", json=[LINE, f"{LINE}; token: {SECRET}", "card 4111 1111 1111 1111"])
    assert api.client.post("/logs", json=[{"message": 5, "labels": {"password": SECRET}}]).status_code == 422
    counted = {name: api.metric("harkline_redactions_total", pattern=name) for name in NAMES}
    assert {name: times for name, times in counted.items() if times} == {"secret_value": 3, "card": 1}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("default", "[redacted:card] a@example.com password=[redacted:secret_value]"),
        ("all", "[redacted:card] [redacted:email] password=[redacted:secret_value]"),
        ("default,-card", "4111111111111111 a@example.com password=[redacted:secret_value]"),
        ("email", "4111111111111111 [redacted:email] password=Hunter2xyz"),
        ("off", "4111111111111111 a@example.com password=Hunter2xyz"),
    ],
)
def test_the_setting_decides(make_api: Callable[..., Api], said: str, kept: str) -> None:
    """HARKLINE_REDACT says what is taken out; without it, everything but e-mail addresses."""
    api = make_api(redact=said)
    api.client.post("/logs", json=["4111111111111111 a@example.com password=Hunter2xyz"])
    assert [line.message for line in stored_lines(api.ledger)] == [kept]


BAD: dict[str, tuple[bytes, str]] = {
    "a message that is none": (b'{"message": {"password": "%s"}}', "application/json"),
    "labels that are none": (b'{"message": "m", "labels": {"password": ["%s"]}}', "application/json"),
    "a timestamp that is none": (b'{"message": "m", "timestamp": "%s"}', "application/json"),
    "broken JSON": (b'{"message": "password=%s', "application/json"),
    "a broken array": (b'[{"message": "password=%s"}, {"message"', "application/json"),
    "a deep value": (b'{"message": "password=%s", "x": ' + b"[" * 5000, "application/json"),
    "not gzip": (b"password=%s", "gzip"),
    "an unknown type": (b"password=%s", "image/png"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_refusal_does_not_repeat_what_was_sent(api: Api, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """Errors name the fault and its place, never the text: answers end up in the logs of senders and proxies."""
    body, how = BAD[fault]
    headers = {"Content-Encoding": how} if how == "gzip" else {"Content-Type": how}
    answer = api.client.post("/logs", data=body.replace(b"%s", SECRET.encode()), headers=headers)
    assert 400 <= answer.status_code < 500
    assert SECRET not in answer.get_data(as_text=True)
    assert SECRET not in caplog.text
    assert SECRET.encode() not in everything_in(api.ledger)


def test_a_malformed_request_is_not_quoted(settings: Settings, ledger: Ledger, tmp_path: Path) -> None:
    """What gunicorn cannot parse is neither in harkline's answer nor in its log, which tells from where it came."""
    head = b"POST /logs HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
    with gunicorn_server(settings, tmp_path) as server:
        answer = sent_raw(server.port, head + b"Transfer-Encoding: chunked\r\n\r\npassword=Hunter2xyz\r\n\r\n")
        assert b'"incomplete_body"' in answer
        assert SECRET.encode() not in answer
        sent_raw(server.port, head + b"Authorization Hunter2xyz\r\n\r\n")
        sent_raw(server.port, b"GET /log/password=Hunter2xyz is wrong HTTP/1.1\r\n\r\n")
        wait_for(lambda: server.log.read_text().count("Invalid request from ip=127.0.0.1") == 2, 5, "both are logged")
    assert SECRET not in server.log.read_text()


FAULT = """
from harkline.logs import configure_logs, get_logger
from harkline.settings import Settings
configure_logs(Settings(log_format="console"), "api")
def fail(line):
    raise ValueError("a fault")
try:
    fail("-".join(["Hunter2xyz", "in", "a", "variable"]))
except ValueError as error:
    get_logger("test").error("request_failed", exc_info=error)
"""


def test_a_traceback_on_a_terminal_shows_no_values() -> None:
    """An unexpected fault is logged with its place, not with the variables there, which may hold a line."""
    done = subprocess.run([sys.executable, "-c", FAULT], capture_output=True, text=True, check=True)
    assert "ValueError: a fault" in done.stderr
    assert "Hunter2xyz-in" not in done.stderr


def test_a_repeated_request_is_known_by_what_was_sent(api: Api) -> None:
    """The Idempotency-Key stands for the body as sent: another secret is another body, though the same line is stored."""
    headers = {"Idempotency-Key": "k"}
    first = api.client.post("/logs", json=[LINE], headers=headers)
    assert api.client.post("/logs", json=[LINE], headers=headers).json == first.json
    other = api.client.post("/logs", json=[LINE.replace(SECRET, "Hunter3xyz")], headers=headers)
    assert (other.status_code, other.json["error"]) == (422, "idempotency_key_reused")
    assert SECRET.encode() not in everything_in(api.ledger)
