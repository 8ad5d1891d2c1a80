"""`harkline classify` through the real command line: what a worker would say of every line, in order, without a server."""

from __future__ import annotations

import gzip
import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from harkline.contract import Verdict
from harkline.ledger import Ledger
from harkline.settings import Settings, process_environment
from harkline_api.app import EXTENSION, create_app
from harkline_workers.cache import SharedCache
from harkline_workers.classify import Classifier
from harkline_workers.metrics import WorkerMetrics
from harkline_workers.model import load_model
from tests.api.consumer import stored_lines
from tests.workers.models import make_model

HARKLINE = str(Path(sys.executable).parent / "harkline")
SECONDS = 120

BODY = (
    '{"message": "kernel: Out of memory: Killed process 4242 (postgres)", "service": "db"}\n'
    '{"message": "user 17 logged in", "level": "info"}\n'
    "{}\n"
    "\n"
    '{"message": "user 18 logged in", "level": "info", "timestamp": "2026-11-22T08:00:00Z"}\n'
    '{"message": "connection to 10.0.0.7 lost, giving up", "level": "error", "service": "caf\u00e9"}\n'
    "nonsense\n"
    '{"msg": "checkpoint complete", "severity": 6}\n'
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights, whatever the normaliser is today."""
    folder = tmp_path_factory.mktemp("model") / "model"
    make_model(folder)
    return folder


def run(folder: Path, *arguments: str, body: bytes | str = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `harkline classify` in a folder, with a data folder of the test's own."""
    return subprocess.run(
        [HARKLINE, "classify", *arguments],
        input=body.encode() if isinstance(body, str) else body,
        env=environment(folder),
        cwd=folder,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which nothing of this machine speaks."""
    return process_environment(HARKLINE_DATA_DIR=str(folder / "data"), COLUMNS="200")


def objects(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    """Return what was printed."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_file_is_judged_as_the_api_and_a_worker_judge_the_same_body(
    ledger: Ledger, settings: Settings, model: Path, tmp_path: Path
) -> None:
    """Through POST /logs, Redis and a worker's classifier, or through the command: the same lines, codes and verdicts, in the same order."""
    app = create_app(settings, ledger, lambda: None)
    try:
        answer: Any = app.test_client().post("/logs?service=shop", data=BODY, content_type="application/x-ndjson")
    finally:
        app.extensions[EXTENSION].close()
    lines = stored_lines(ledger)
    scorer = load_model(model)
    shared = SharedCache(ledger.redis, scorer.version, 1024)
    classifier = Classifier(scorer, "", 1000, shared, WorkerMetrics(CollectorRegistry()))
    verdicts = classifier.classify(lines).verdicts
    expected: list[dict[str, Any]] = list(answer.json["rejected"])
    indices = sorted({*range(len(lines) + len(expected))} - {line["index"] for line in expected})
    for index, line, verdict in zip(indices, lines, verdicts, strict=True):
        expected.append(
            {"index": index, "message": line.message, "service": line.service} | msgspec.to_builtins(verdict)
        )
    expected.sort(key=lambda shown: shown["index"])
    assert len(expected) == 7

    (tmp_path / "app.ndjson").write_text(BODY, "utf-8")
    done = run(tmp_path, "app.ndjson", "--model", str(model), "--service", "shop")
    assert done.returncode == 0, done.stderr
    assert objects(done) == expected
    assert b"5 lines, 2 critical, 4 distinct, 2 rejected, " in done.stderr


def test_each_object_is_flat_and_whole(model: Path, tmp_path: Path) -> None:
    """An object has the index, the message and every field of a verdict as the API writes it; the service only where there is one."""
    verdict = Verdict("critical", 1.0, "error", "t", "rule", "w", degraded=False, model="")
    done = run(tmp_path, "-", "--model", str(model), "--output", "ndjson", body="user logged in\n")
    assert [list(shown) for shown in objects(done)] == [["index", "message", *msgspec.to_builtins(verdict)]]


def test_lines_are_printed_in_order_and_equal_ones_alike(model: Path, tmp_path: Path) -> None:
    """Thousands of lines over many batches come out in the order in which they went in, each once; gzip is read like text."""
    messages = [f"request {number} served in {number % 7} ms" for number in range(3000)]
    (tmp_path / "app.log.gz").write_bytes(gzip.compress("\n".join(messages).encode()))
    done = run(tmp_path, "app.log.gz", "--model", str(model))
    assert done.returncode == 0, done.stderr
    shown = objects(done)
    assert [line["message"] for line in shown] == messages
    assert [line["index"] for line in shown] == list(range(3000))
    assert len({(line["template"], line["score"], line["severity"]) for line in shown}) == len(
        {line["template"] for line in shown}
    )


def test_only_critical_lines_where_asked_for(model: Path, tmp_path: Path) -> None:
    """--critical prints the critical ones, with the indices they have among all."""
    body = "all good\nkernel: Out of memory: Killed process 1 (db)\nall good\n"
    done = run(tmp_path, "--model", str(model), "--critical", body=body)
    assert [line["index"] for line in objects(done)] == [1]
    assert b"3 lines, 1 critical, 2 distinct" in done.stderr


def test_traces_are_joined_where_asked_for(model: Path, tmp_path: Path) -> None:
    """--join makes one line of a stack trace, --no-join and the default do not."""
    body = "ERROR boom\n\tat com.acme.Shop.buy(Shop.java:7)\nINFO fine\n"
    joined = objects(run(tmp_path, "--model", str(model), "--join", body=body))
    assert [line["message"].split("\n")[0] for line in joined] == ["ERROR boom", "INFO fine"]
    assert len(objects(run(tmp_path, "--model", str(model), body=body))) == 3


def test_nothing_in_nothing_out(tmp_path: Path) -> None:
    """Empty input, or white space only, prints nothing at all and is no failure; no model is loaded for it."""
    for body in ("", " \n\n"):
        done = run(tmp_path, "--model", str(tmp_path), body=body)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_input_of_which_no_line_is_good_is_a_failure(model: Path, tmp_path: Path) -> None:
    """Bad lines are told in their places; where none is good the exit status is 1."""
    done = run(tmp_path, "--model", str(model), "--input", "ndjson", body="nonsense\n{}\n")
    assert done.returncode == 1
    assert objects(done) == [{"index": 0, "error": "bad_json"}, {"index": 1, "error": "missing_message"}]


def test_input_that_breaks_off_is_judged_as_far_as_it_goes(model: Path, tmp_path: Path) -> None:
    """A JSON array without its end gives the verdicts before it, the code in its place, one sentence, and exit status 1."""
    done = run(tmp_path, "--model", str(model), body='[{"message": "a"}, "b", {"mess')
    assert done.returncode == 1
    shown = objects(done)
    assert [line.get("message") for line in shown] == ["a", "b", None]
    assert shown[2] == {"index": 2, "error": "bad_json"}
    assert b"item 2 of the array" in done.stderr
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"a\nb\nc\n" * 1000)[:-8])
    done = run(tmp_path, "cut.gz", "--model", str(model))
    assert done.returncode == 1
    assert b"cut short" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_broken_model_folder_means_the_rules_and_says_so(tmp_path: Path) -> None:
    """As in a worker, lines are judged all the same, marked degraded; why is told first, and the exit status is 3."""
    make_model(tmp_path / "model")
    (tmp_path / "model" / "model.int8.onnx").unlink()
    done = run(tmp_path, "--model", "model", body="kernel panic - not syncing\nall good\n")
    assert done.returncode == 3
    shown = objects(done)
    assert [line["severity"] for line in shown] == ["critical", "not_critical"]
    assert all(line["degraded"] and line["source"] == "rule" and line["model"] == "" for line in shown)
    assert done.stderr.startswith(b"degraded, the rules judge alone: ")
    assert b"model.int8.onnx" in done.stderr
    assert b"2 lines, 1 critical, 2 distinct, 2 degraded" in done.stderr


def test_a_model_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    """A wrong --model is refused before a line is judged; so is a missing file, in one sentence."""
    done = run(tmp_path, "--model", "nowhere", body="a\n")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"nowhere is no folder" in done.stderr
    done = run(tmp_path, "missing.log")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"harkline classify: missing.log cannot be opened: No such file or directory\n"


def test_a_reader_that_has_enough_is_no_failure(model: Path, tmp_path: Path) -> None:
    """`harkline classify ... | head -1` ends quietly."""
    (tmp_path / "app.log").write_text("all good\n" * 50_000)
    with subprocess.Popen(
        [HARKLINE, "classify", "app.log", "--model", str(model)],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["message"] == "all good"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(SECONDS) == 0


def test_a_slow_pipe_is_answered_line_by_line(model: Path, tmp_path: Path) -> None:
    """`tail -f app.log | harkline classify` shows a verdict while the next line is not yet written."""
    with subprocess.Popen(
        [HARKLINE, "classify", "--model", str(model)],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(f"line {number}\n".encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["index"] == number
        process.stdin.close()
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("output", ["table", "ndjson"])
def test_on_a_terminal_there_is_a_bar_and_lines_are_inert(model: Path, tmp_path: Path, output: str) -> None:
    """A terminal gets the progress bar, the lines and the summary, and no control character that was in a line."""
    (tmp_path / "app.log").write_bytes(b"panic: \x1b[2Jgone\xc2\x9b31m \xe2\x80\xaeright to left\n")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [HARKLINE, "classify", "app.log", "--model", str(model), *(["--output", output] if output == "ndjson" else [])],
        cwd=tmp_path,
        env=environment(tmp_path) | {"TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        screen = _read_all(ours)
        os.close(ours)
        assert process.wait(SECONDS) == 0
    text = screen.decode()
    assert "loading the model" in text
    assert "1 lines, 1 critical, 1 distinct" in text
    assert "\x1b[2Jgone" not in text
    assert "\x9b" not in text
    assert "\u202e" not in text
    assert ("panic: .[2Jgone.31m .right to left" if output == "table" else "\\u202eright") in text


def _read_all(handle: int) -> bytes:
    """Read a terminal until the program behind it is gone."""
    screen = b""
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        if select.select([handle], [], [], 1)[0]:
            try:
                piece = os.read(handle, 65536)
            except OSError:  # Linux: nobody holds the other end any more
                return screen
            if not piece:
                return screen
            screen += piece
    raise AssertionError(f"the command does not end; it showed {screen!r}")


def test_help_is_the_commands_own(tmp_path: Path) -> None:
    """`harkline classify --help` is answered by the command itself, under the name by which it was called."""
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    assert b"Usage: harkline classify [OPTIONS]" in done.stdout
    assert b"--join" in done.stdout


def test_without_the_worker_it_says_what_is_missing(tmp_path: Path) -> None:
    """In an image that has only the API, the command says so and how to get it."""
    code = (
        "import sys; sys.modules['harkline_workers'] = None; sys.argv = ['harkline', 'classify', 'app.log'];"
        "from harkline.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"`harkline classify` needs the worker, which is not installed here: pip install" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_module_that_lies_among_the_logs_is_not_run(model: Path, tmp_path: Path) -> None:
    """Run in a folder of unknown origin, the command takes no Python file that lies there for a module of its own."""
    (tmp_path / "redis.py").write_text("raise SystemExit('this must not run')")
    done = run(tmp_path, "--model", str(model), body="all good\n")
    assert done.returncode == 0, done.stderr
