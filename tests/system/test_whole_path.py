"""One command to a counted line: the whole system, with real programs, and worker processes killed in the middle."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.polling import wait_for
from tests.system.whole import HARKLINE, Whole, clean_environment, free_ports, started, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

REQUEST_LINES = 500
# Raw lines of 14 real systems, where the checkout has them beside it; never part of the repository.
REAL_LINES = Path(__file__).resolve().parents[3] / "shared" / "data" / "loghub"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """One running system for the tests that leave it as they found it."""
    with whole(tmp_path_factory.mktemp("whole")) as running:
        yield running


def stream() -> list[bytes]:
    """The lines to send: 28,000 real ones, or 6,000 made up."""
    files = sorted(REAL_LINES.glob("*_2k.log"))
    if files:
        return [line for file in files for line in file.read_bytes().split(b"\n") if line.strip()]
    chance = random.Random(1)
    words = ["accepted", "refused", "disk", "node", "retry", "closed", "timeout", "user", "volume", "lease"]
    return [
        f"2026-01-01 00:00:{chance.randrange(60):02} INFO {' '.join(chance.sample(words, 4))} {chance.randrange(10**6)}".encode()
        for _ in range(6000)
    ]


def requests(lines: list[bytes]) -> Iterator[bytes]:
    for batch in itertools.batched(lines, REQUEST_LINES) if hasattr(itertools, "batched") else _batched(lines):
        yield b"\n".join(batch) + b"\n"


def _batched(lines: list[bytes]) -> Iterator[list[bytes]]:
    for at in range(0, len(lines), REQUEST_LINES):
        yield lines[at : at + REQUEST_LINES]


def test_a_line_sent_is_a_verdict_received(system: Whole) -> None:
    """The first curl of the README: a verdict by the model, whole, within the wait."""
    body = json.dumps(
        {"message": "could not write block 1204: no space left on device", "service": "orders-db"}
    ).encode()
    status, answer = system.post("/logs?wait=20", body, {"Content-Type": "application/json"})
    assert status == 202
    assert (answer["accepted"], answer["rejected"]) == (1, [])
    [verdict] = answer["verdicts"]
    assert verdict["severity"] == "critical"
    assert verdict["source"] in ("model", "cache")
    assert set(verdict) == {"severity", "score", "level", "template", "source", "why", "degraded", "model"}
    assert verdict["degraded"] is False
    assert system.get(f"/batches/{answer['batch']}")[1]["state"] == "counted"


def test_every_line_is_counted_once(system: Whole) -> None:
    """Requests of 500 plain lines: all accepted, ledger total and worker counters exact, backlog back to 0."""
    system.wait_until_drained()
    before, counted_before = system.ledger_lines(), system.metric("log_severity_total")
    lines = stream()
    accepted = 0
    for body in requests(lines):
        status, answer = system.post("/logs", body, {"Content-Type": "text/plain"})
        assert status == 202, answer
        assert answer["rejected"] == []
        accepted += answer["accepted"]
    assert accepted == len(lines)
    system.wait_until_drained()
    assert system.ledger_lines() - before == len(lines)
    wait_for(lambda: system.metric("log_severity_total") - counted_before == len(lines), 5, "the counters to agree")


def test_killed_workers_lose_and_double_nothing(tmp_path: Path) -> None:
    """kill -9 of a worker child and of the whole worker in the middle: the ledger total is still exact."""
    with whole(tmp_path) as own:
        lines = stream()
        bodies = list(requests(lines))
        accepted = 0
        # The system is up with its first worker process; the others may still be loading the model.
        processes = len(os.sched_getaffinity(0))

        def all_ready() -> bool:
            return own.metric("harkline_worker_processes_ready") == processes

        wait_for(all_ready, 30, "every worker process")
        for at, body in enumerate(bodies):
            if at == len(bodies) // 3:
                os.kill(own.processes("harkline_workers.app")[-1], signal.SIGKILL)
            if at == 2 * len(bodies) // 3 - 1:
                # The killed child's gauge is gone from the sum, its successor's is in it.
                wait_for(all_ready, 30, "a new child instead of the old")
            if at == 2 * len(bodies) // 3:
                for process in own.processes("harkline_workers.app:app", "worker"):
                    os.kill(process, signal.SIGKILL)
            status, answer = own.post("/logs", body, {"Content-Type": "text/plain", "Idempotency-Key": f"request-{at}"})
            assert status == 202, answer
            accepted += answer["accepted"]
        assert accepted == len(lines)
        wait_for(lambda: own.metric("harkline_backlog_lines") == 0, 180, "another worker to drain the backlog", 0.5)
        assert own.ledger_lines() == len(lines)


def test_ctrl_c_stops_everything_in_time_and_loses_nothing(tmp_path: Path) -> None:
    """Stopped in the middle of a backlog: all processes are gone within 10 s, and the next start counts the rest."""
    import time

    with whole(tmp_path) as first:
        lines = stream()[:6000]
        accepted = 0
        for body in requests(lines):
            status, answer = first.post("/logs", body, {"Content-Type": "text/plain"})
            assert status == 202
            accepted += answer["accepted"]
        began = time.monotonic()
        assert first.stop(signal.SIGINT) == 0
        assert time.monotonic() - began < 10
        assert first.processes() == []
    with started(first.environment, tmp_path / "screen") as second:
        second.wait_until_drained()
        assert second.ledger_lines() == accepted


def test_flower_asks_for_its_login_and_shows_no_log_text(system: Whole) -> None:
    """401 without the password; with it, tasks without arguments."""
    system.post("/logs", b"a secret-looking line 4711-hunter2", {"Content-Type": "text/plain"})
    base = f"http://127.0.0.1:{system.environment['HARKLINE_FLOWER_PORT']}"
    for path in ("/tasks", "/api/tasks", "/workers"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(base + path, timeout=10)
        with refused.value as answer:
            assert answer.code == 401
    password = (Path(system.environment["HARKLINE_DATA_DIR"]) / "flower-password").read_text().strip()
    login = {"Authorization": "Basic " + b64encode(f"harkline:{password}".encode()).decode()}

    def tasks() -> str:
        with urllib.request.urlopen(urllib.request.Request(base + "/api/tasks", headers=login), timeout=10) as answer:
            return answer.read().decode()

    wait_for(lambda: "harkline.classify" in tasks(), 20, "a task in Flower", 0.5)
    assert "hunter2" not in tasks()
    assert {(task["args"], task["kwargs"]) for task in json.loads(tasks()).values() if task["args"] is not None} == {
        ("()", "{}")
    }


def test_doctor_finds_a_running_system_healthy(system: Whole) -> None:
    """Plain words and exit status 0."""
    told = system.run("doctor")
    assert told.returncode == 0, told.stdout
    assert "Redis answers" in told.stdout
    assert "the API answers" in told.stdout


def test_doctor_names_what_is_wrong(system: Whole) -> None:
    """A door without a lock, and a misspelt setting: each told with its cure, exit status 1."""
    broken = Whole(
        system.environment
        | {"HARKLINE_DATA_DIR": "/nonexistent/x", "HARKLINE_API_HOST": "0.0.0.0", "HARKLINE_API_PROT": "1"},
        system.process,
        system.screen,
    )
    told = broken.run("doctor")
    assert told.returncode == 1
    assert "HARKLINE_API_KEYS" in told.stdout
    assert "did you mean HARKLINE_API_PORT" in told.stdout


def test_the_demo_shows_the_incident(system: Whole) -> None:
    """The shipped sample runs through the real system, and its result table is honest about found, missed and vain."""
    told = system.run("demo", "--pace", "0")
    assert told.returncode == 0, told.stderr
    assert "found" in told.stdout
    assert "missed" in told.stdout


def test_send_counts_what_was_accepted(system: Whole, tmp_path: Path) -> None:
    """A file goes in whole, and the command says so."""
    file = tmp_path / "app.log"
    file.write_bytes(b"one\ntwo\n\nthree")
    told = system.run("send", str(file), "--service", "from-file")
    assert told.stdout.strip() == "3 lines accepted, 0 rejected"


def test_a_second_system_on_the_same_folder_is_refused(system: Whole) -> None:
    """One sentence, not two systems writing one ledger."""
    told = system.run("up", seconds=30)
    assert told.returncode == 1
    assert "already" in told.stderr


def test_an_open_door_is_refused(system: Whole, tmp_path: Path) -> None:
    """Binding beyond loopback without a key does not start, and says how to make one."""
    open_door = Whole(
        system.environment | {"HARKLINE_API_HOST": "0.0.0.0", "HARKLINE_DATA_DIR": str(tmp_path)},
        system.process,
        system.screen,
    )
    told = open_door.run("api", seconds=30)
    assert told.returncode == 1
    assert "--new-key" in told.stderr


def test_without_its_model_the_system_goes_on_and_says_so(tmp_path: Path) -> None:
    """Weights that cannot be loaded: lines are still judged, counted and marked, and verdict, metric and readiness say why."""
    with whole(tmp_path, HARKLINE_MODEL_DIR=str(tmp_path / "no-such-model")) as blind:
        status, answer = blind.post(
            "/logs?wait=20", b"FATAL: write-ahead log is corrupt", {"Content-Type": "text/plain"}
        )
        assert status == 202
        [verdict] = answer["verdicts"]
        assert (verdict["severity"], verdict["degraded"], verdict["source"]) == ("critical", True, "rule")
        assert "no-such-model" in verdict["why"]
        assert blind.metric("harkline_model_degraded") == 1
        assert blind.metric("harkline_degraded_lines_total") == 1
        status, ready = blind.get("/readiness")
        assert (status, ready["ready"], ready["model"]["degraded"]) == (200, True, True)


def test_each_program_runs_on_its_own(tmp_path: Path) -> None:
    """redis, worker, api and flower, started one by one on one HARKLINE_REDIS_URL, make the same system; each ends on SIGTERM."""
    redis_port, api, metrics, flower = free_ports(4)
    environment = clean_environment()
    environment |= {
        "HARKLINE_REDIS_URL": f"redis://:a-password@127.0.0.1:{redis_port}/0",
        "HARKLINE_DATA_DIR": str(tmp_path / "data"),
        "HARKLINE_API_PORT": str(api),
        "HARKLINE_METRICS_PORT": str(metrics),
        "HARKLINE_FLOWER_PORT": str(flower),
        "HARKLINE_FLOWER_AUTH": "someone:a-password",
    }
    with (tmp_path / "screen").open("wb") as output:
        programs = {
            name: subprocess.Popen(
                [HARKLINE, name], env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
            for name in ("redis", "worker", "api", "flower")
        }
    try:
        apart = Whole(environment, programs["api"], tmp_path / "screen")
        wait_for(lambda: apart.get("/readiness")[1]["workers"], 60, "the programs to find each other", 0.2)
        assert apart.post("/logs?wait=20", b"disk is gone", {"Content-Type": "text/plain"})[1]["accepted"] == 1
        wait_for(lambda: apart.ledger_lines() == 1, 20, "the line to be counted")
        arguments = {name: Path(f"/proc/{program.pid}/cmdline").read_bytes() for name, program in programs.items()}
        assert not [name for name, command in arguments.items() if b"a-password" in command], "a secret shows in ps"
    finally:
        for program in programs.values():
            program.terminate()
        statuses = {name: program.wait(30) for name, program in programs.items()}
    assert set(statuses.values()) <= {0, -15}, statuses
