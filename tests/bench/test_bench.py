"""The bench's own instruments: that they charge what they should, and vary lines as they say."""

from __future__ import annotations

import re
import signal
import sys
from typing import TYPE_CHECKING

from tests.bench.client import Sent
from tests.bench.latency import _counted_ms
from tests.bench.processes import start
from tests.bench.report import fill, number, sections
from tests.bench.results import PartResult, Results, Row, load, save
from tests.bench.stream import Stream, all_different, json_bodies, load_stream, other_numbers
from tests.bench.targets import targets
from tests.support.polling import wait_for
from tests.system.whole import clean_environment

if TYPE_CHECKING:
    from pathlib import Path

_BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


def _stream(*lines: str) -> Stream:
    return Stream("", lines, ("app",) * len(lines))


def test_the_cpu_time_of_a_dead_child_is_charged(tmp_path: Path) -> None:
    """A program that leaves its work to a child, which is gone when we look, pays for it."""
    child = f"{sys.executable} -c '{_BURN.format(seconds=0.4)}'"
    program = start("burn", ["sh", "-c", f"{child}; echo done; exec sleep 60"], clean_environment(), tmp_path / "log")
    try:
        wait_for(lambda: "done" in program.log.read_text(), 60, "the child to end")
        assert 0.35 < program.cpu_seconds() < 2
        assert len(program.pids()) == 1
    finally:
        program.stop()


def test_a_program_that_is_held_still_can_be_stopped(tmp_path: Path) -> None:
    """Whatever state a part left its program in, the bench leaves no process behind."""
    program = start("held", ["sh", "-c", "sleep 60 & wait"], clean_environment(), tmp_path / "log")
    wait_for(lambda: len(program.pids()) == 2, 10, "the child to start")
    program.signal(signal.SIGSTOP)
    program.stop()
    wait_for(lambda: program.pids() == [], 10, "both to end")


def test_other_numbers_keep_what_numbers_mean() -> None:
    """Zero stays zero, a status keeps its class, an amount its order, codes and lengths stay; words are untouched."""
    lines = (
        '10.0.0.11 "GET /a" 503 0',
        "took 1250 ms, 0 errors, 00:00:00",
        "block -1608999687919862906 é",
        "exited with code 137",
    )
    changed = other_numbers(_stream(*lines), seed=1)
    assert changed.lines != lines
    for before, after in zip(lines, changed.lines, strict=True):
        assert re.sub(r"\d", "", after) == re.sub(r"\d", "", before)
        assert re.findall(r"\b\d|\b0+\b", after) == re.findall(r"\b\d|\b0+\b", before)
    assert changed.lines[3] == lines[3]
    assert other_numbers(_stream(*lines), seed=2).lines != changed.lines


def test_all_different_shares_no_line() -> None:
    """Lines without a cache to help them must not repeat, whatever the stream repeats."""
    stream = _stream(
        *("the session of user root was closed after reading seven files",) * 3,
        *(f"worker thread started listening on channel {name}" for name in ("alpha", "bravo", "delta", "gamma")),
        "0x7f",
    )
    lines = all_different(stream, 200, seed=3).lines
    assert len(set(lines)) > 190


def test_a_stream_is_generated_where_there_are_no_logs(tmp_path: Path) -> None:
    """The bench runs on a machine that has nothing but the repository."""
    stream = load_stream(tmp_path)
    assert len(stream) == 28_000
    assert len(set(stream.services)) > 5
    assert b'"message"' in json_bodies(stream.at(range(10)), 10)[0]


def test_an_entry_is_counted_when_it_is_gone() -> None:
    """Seen and then gone: at the look that missed it. Never seen: at the first look after it was written."""
    sent = [Sent(99.990, 99.999, 202, b'{"batch": "100000-0-3"}'), Sent(99.995, 100.0, 202, b'{"batch": "100004-1-0"}')]
    counted = _counted_ms(sent, {"100000-0": 100.010}, [100.001, 100.005, 100.008, 100.010])
    assert [round(milliseconds) for milliseconds in counted] == [20, 13]


def test_results_survive_and_fill_their_documents(tmp_path: Path) -> None:
    """What was measured is read back as it was, and lands between its markers and nowhere else."""
    rows = [Row("demo", "the demo", [10.0, 12.0, 11.0], "lines/CPU-s", [20.0], "a \\1 note")]
    rows.append(Row("no_cache", "ours", [440.0], "lines/CPU-s"))
    part = PartResult("both", rows, "2026-11-22T18:00:00+00:00", 1.0, quick=False, other_cores=0.0, stolen_cores=0.0)
    save(Results("a machine", "some lines", {"a": part}), tmp_path / "results.json")
    found = load(tmp_path / "results.json")
    assert found.parts["a"] == part
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- bench:throughput -->\nold\n<!-- /bench:throughput -->\nafter\n")
    assert fill(document, sections(found))
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| the demo | 11 | 10 to 12 | 20 | 1 | a \\1 note |" in text
    assert "| ours | 440 |  |  | 40 |" in text


def test_a_target_says_whether_it_was_reached() -> None:
    """Reached, short, over, or not measured: never silent."""
    rows = [Row("demo", "", [10.0], ""), Row("no_cache", "", [200.0], ""), Row("worker_mib", "", [200.0, 240.0], "MiB")]
    found = Results(parts={"x": PartResult("", rows, "", 0.0, quick=True, other_cores=0.0, stolen_cores=0.0)})
    verdicts = {target.what: target.verdict for target in targets(found)}
    assert verdicts["no cache, end to end, against the demo"] == "**short**, 0.67 of it"
    assert verdicts["a worker process"] == "reached"
    assert verdicts["a cold stream against the demo"] == "not measured"


def test_numbers_have_three_figures() -> None:
    """A table of timings must not claim more than they hold."""
    assert [number(value) for value in (0.01234, 9.876, 123.4, 1234.5, 123_456)] == [
        "0.0123",
        "9.88",
        "123",
        "1,230",
        "123,000",
    ]
