"""The API under gunicorn: what only real processes and sockets show."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import harkline_api
from harkline.settings import process_environment
from tests.api.consumer import Consumer, stored_lines
from tests.api.gunicorn_server import GunicornServer, gunicorn_server
from tests.support.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harkline.ledger import Ledger
    from harkline.settings import Settings

pytestmark = pytest.mark.system

LIMIT = 2**20


@pytest.fixture
def server(settings: Settings, ledger: Ledger, tmp_path: Path) -> Iterator[GunicornServer]:
    """Two processes of the API."""
    with gunicorn_server(settings, tmp_path, max_body_bytes=LIMIT) as running:
        yield running


def metric(server: GunicornServer, name: str) -> float:
    """Return the sum of a metric's samples in one scrape."""
    text = server.call("GET", "/metrics")[1]
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line))


def test_lines_arrive_from_many_connections_and_are_counted_over_all_processes(
    server: GunicornServer, ledger: Ledger
) -> None:
    """Kept-alive connections to both processes: every accepted line is on the ledger, and one scrape shows the sum."""

    def send(number: int) -> int:
        connection = server.connection()
        accepted = 0
        for turn in range(20):
            connection.request("POST", "/logs", f"line {number} {turn}", {"Content-Type": "text/plain"})
            answer = connection.getresponse()
            answer.read()
            accepted += answer.status == 202
        connection.close()
        return accepted

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(send, range(10))) == 200
    assert len(stored_lines(ledger)) == 200
    assert metric(server, "harkline_accepted_lines_total") == 200
    assert metric(server, "harkline_coalesced_requests_sum") == 200
    assert metric(server, "harkline_backlog_lines") == 200


def test_waiting_works_across_processes(server: GunicornServer, ledger: Ledger) -> None:
    """A waiting request gets its verdicts whichever process took it."""
    with Consumer(ledger):
        for _ in range(6):
            status, body = server.call("POST", "/logs?wait=10", "critical")
            assert status == 202
            assert body["verdicts"][0]["severity"] == "critical"


def test_a_chunked_body_arrives_and_a_broken_one_is_a_400(server: GunicornServer, ledger: Ledger) -> None:
    """Transfer-Encoding: chunked is read; wrong framing is the sender's fault, and the process lives on."""
    assert server.call("POST", "/logs", iter([b"one\n", b"two\n"]), Content_Type="text/plain")[1]["accepted"] == 2
    for tail in (b"zz\r\nnot a chunk\r\n", b"5\r\nab"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
            raw.sendall(
                b"POST /logs HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
                + tail
            )
            raw.shutdown(socket.SHUT_WR)
            assert b" 400 " in raw.recv(4096).split(b"\r\n")[0] + b" "
    assert len(stored_lines(ledger)) == 2


@pytest.mark.parametrize("chunked", [False, True])
def test_a_sender_of_too_much_hears_so(server: GunicornServer, chunked: bool) -> None:
    """A body beyond the limit gets its 413 over a real socket, before it is all sent, instead of a reset."""
    body = b"x" * (3 * LIMIT)
    sent = (body[at : at + 65536] for at in range(0, len(body), 65536)) if chunked else body
    status, answer = server.call("POST", "/logs", sent)
    assert (status, answer["error"]) == (413, "body_too_large")


def test_termination_is_quick_and_loses_nothing(server: GunicornServer, ledger: Ledger) -> None:
    """SIGTERM in the middle of sending, waiting and streaming: all end within 8 s, and each 2xx has its line on the ledger."""
    accepted = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            try:
                accepted.append(server.call("POST", "/logs", "a")[0] == 202)
            except OSError:
                return

    def wait() -> None:
        accepted.append(server.call("POST", "/logs?wait=30", "a")[0] == 202)

    stream = server.connection()
    stream.request("GET", "/stream")
    assert stream.getresponse().status == 200
    threads = [threading.Thread(target=target, daemon=True) for target in (send, send, send, wait, wait)]
    for thread in threads:
        thread.start()
    wait_for(lambda: metric(server, "harkline_waiting_requests") == 2 and len(accepted) > 50, 10, "all are busy")
    began = time.monotonic()
    server.process.terminate()
    server.process.wait(10)
    assert time.monotonic() - began < 8
    stop.set()
    for thread in threads:
        thread.join(5)
    stream.close()
    assert sum(accepted) > 50
    assert len(stored_lines(ledger)) >= sum(accepted)
    assert "Traceback" not in server.log.read_text()


def test_a_killed_worker_is_replaced_and_its_counts_stay(server: GunicornServer, ledger: Ledger) -> None:
    """kill -9 of an API process: another takes its place, and what it had counted is still in the sum."""
    for _ in range(20):
        assert server.call("POST", "/logs", "a")[0] == 202
    before = server.workers()
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: len(server.workers()) == 2 and before[0] not in server.workers(), 15, "a new process")
    wait_for(lambda: server.call("POST", "/logs", "a")[0] == 202, 5, "it answers")
    assert metric(server, "harkline_accepted_lines_total") == 21
    assert len(stored_lines(ledger)) == 21


def test_a_reader_that_left_frees_its_place_at_once(settings: Settings, ledger: Ledger, tmp_path: Path) -> None:
    """Readers of /stream that hang up are noticed within a second or two, long before the next heartbeat."""
    with gunicorn_server(settings, tmp_path, api_workers=1, stream_max_clients=2) as server:
        for _ in range(4):
            readers = [server.connection() for _ in range(2)]
            for reader in readers:
                wait_for(partial(opened, reader), 5, "a place")
            assert server.call("GET", "/stream")[0] == 503
            for reader in readers:
                reader.close()


def opened(reader: http.client.HTTPConnection) -> bool:
    """Try to open /stream on a connection."""
    reader.close()
    reader.request("GET", "/stream")
    return reader.getresponse().status == 200


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"HARKLINE_API_HOST": "0.0.0.0"}, "keys are needed"),
        ({"HARKLINE_API_HOST": "::", "HARKLINE_API_KEYS": " , "}, "keys are needed"),
        ({"HARKLINE_API_PORT": "many"}, "HARKLINE_API_PORT"),
        ({"HARKLINE_API_HOST": "0.0.0.0", "HARKLINE_API_KEYS": "k"}, ""),
        ({"HARKLINE_API_HOST": "::1"}, ""),
    ],
)
def test_the_configuration_refuses_what_is_unsafe(environment: dict[str, str], said: str, tmp_path: Path) -> None:
    """Without keys the API binds to loopback only, whoever starts it, and a wrong setting is told in one line."""
    configuration = Path(harkline_api.__file__).parents[1] / "gunicorn.conf.py"
    command = [sys.executable, "-m", "gunicorn.app.wsgiapp", "--config", str(configuration), "--check-config"]
    variables = process_environment(HARKLINE_DATA_DIR=str(tmp_path), **environment)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (not said), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_schemathesis_finds_nothing(settings: Settings, ledger: Ledger, tmp_path: Path) -> None:
    """Requests made from the description, valid and not, on every call: no 5xx, every answer as described, what is valid accepted."""
    with gunicorn_server(settings, tmp_path, wait_max_seconds=0.05) as server:
        command = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            f"{server.url}/openapi.json",
            "--request-timeout",
            "1",
        ]
        # One worker: hypothesis parses source code as it goes, and CPython 3.11's parser fails at times with two threads in it.
        command += ["--max-examples", "15", "--seed", "7", "--continue-on-failure", "--no-color"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-6000:]
        assert re.search(r"Tested: 1[3-9]", done.stdout)
        assert "Traceback" not in server.log.read_text()
