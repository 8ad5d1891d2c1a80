"""Normalisation: what the model may tell apart survives, what it must not is masked, and nothing raises."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkline_workers import normalise as normalising
from harkline_workers.levels import LEVELS, canonical_level
from harkline_workers.normalise import normalise


@pytest.mark.parametrize(
    ("raw", "level", "template"),
    [
        ("2015-07-29 19:22:46,746 - WARN  [RecvWorker:1] - Interrupting", "warning", "[RecvWorker:#] - Interrupting"),
        ("[Sun Dec 04 05:04:03 2005] [notice] child 12 done", "info", "child # done"),
        ("E0314 12:00:00.123456 12 pod.go:191] sync failed", "error", "pod.go:#] sync failed"),
        ("<34>1 2003-10-11T22:14:15.003Z host su - failed", "critical", "host su - failed"),
        ('{"ts":"2026-01-01T00:00:00Z","level":"fatal","msg":"gone"}', "critical", '{"ts":"#","msg":"gone"}'),
        ('{"level":50,"time":1531171074631,"msg":"gone"}', "error", '{"time":#,"msg":"gone"}'),
        ('level=warn msg="low"', "warning", 'msg="low"'),
        ("FATAL:  too many clients", "critical", "too many clients"),
        ("Warning  Failed  kubelet  Back-off", "warning", "Failed kubelet Back-off"),
        ("03-17 16:13:46.144  1702  2105 E Tag: died", "error", "Tag: died"),
        ("17/06/09 20:10:54 INFO storage.BlockManager: found", "info", "storage.BlockManager: found"),
        ("081109 203615 148 INFO dfs.DataNode: done", "info", "dfs.DataNode: done"),
        ("1234:M 22 Nov 2026 13:05:44.123 # Connection lost.", "warning", "Connection lost."),
        ("22 Nov 2026 13:05:44 +0100 started", "", "started"),
        ("Nov 22 13:05:44 web-01 sshd[77]: closed", "", "sshd[#]: closed"),
        ("Nov 22 13:05:44 web-01 kernel: [1234.5678] BUG: oops", "", "kernel: BUG: oops"),
        ("2026/11/22 10:00:00 [error] 12#12: *5 upstream timed out", "error", "upstream timed out"),
        ("the report is called ERROR-handling", "", "the report is called ERROR-handling"),
    ],
)
def test_headers_give_their_level_and_leave_the_message(raw: str, level: str, template: str) -> None:
    """Times and hosts go, the level becomes a feature of its own, the rest stays."""
    line = normalise(raw)
    assert (line.level, line.template) == (level, template)


@pytest.mark.parametrize(
    ("raw", "template"),
    [
        ("crashed with exit code 137", "crashed with exit code 137"),
        ("exited with status 0", "exited with status 0"),
        ("killed by signal 11", "killed by signal 11"),
        ("write: errno=28", "write: errno=28"),
        ("done rc=-5", "done rc=-5"),
        ("error 1062 in row", "error # in row"),
        ("GET /a/12 500 34 ms", "GET /a/# 5xx 20 ms"),
        ('10.0.0.1 - - [22/Nov/2026:13:05:44 +0000] "GET / HTTP/1.1" 200 12', '# - - [#] "GET / HTTP/#" 2xx #'),
        ('{"status":503}', '{"status":5xx}'),
        ("temperature 98C above 96.5C", "temperature 95C above 95C"),
        ("disk 99.97% full", "disk 99% full"),
        ("lag 7200s, 0.2 s before", "lag 5000s, 0.5 s before"),
        ("0 failed, 12 passed", "0 failed, # passed"),
        ("retry 3 of 3", "retry all of #"),
        ("0/3 ready", "0/# ready"),
        ("eth0 up", "eth# up"),
        ("peer 0.0.0.0 and 10.0.0.7:80", "peer # and #"),
        ("mac 00:1b:44:11:3a:b7 seen", "mac # seen"),
        ("id 9f4ef63a and jA9J2UvC1", "id # and #"),
        ("at 0xdeadbeef", "at #"),
        ('"GET /a HTTP/1.1" code=503 took=4512', '"GET /a HTTP/#" code=5xx took=2000'),
        ("code=exited, status=203/EXEC", "code=exited, status=203/EXEC"),
        ("stopped, status=137", "stopped, status=137"),
        ("status 204", "status 2xx"),
        ('{"lagMessages":48120}', '{"lagMessages":20000}'),
        ("cpu temperature: 97", "cpu temperature: 95"),
        ("util=7.5", "util=5"),
    ],
)
def test_numbers_are_read_by_what_stands_beside_them(raw: str, template: str) -> None:
    """Codes stay, amounts are rounded, zero is zero, and the rest is masked."""
    assert normalise(raw).template == template


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("finished with 0 failed", "finished with 8120 failed"),
        ('"GET / HTTP/1.1" 200 12', '"GET / HTTP/1.1" 503 12'),
        ("retry 1 of 3 failed", "retry 3 of 3 failed"),
        ("replica lag is 2s", "replica lag is 7200s"),
        ("temperature 45C", "temperature 98C"),
        ("disk 99% full", "disk 100% full"),
        ("exit code 0", "exit code 1"),
    ],
)
def test_numbers_that_carry_meaning_are_told_apart(left: str, right: str) -> None:
    """Zero or not, the class of a status, the last attempt, the order of a measured amount."""
    assert normalise(left).model_input != normalise(right).model_input


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("connection from 10.0.0.1 port 4411", "connection from 192.168.7.20 port 51"),
        ("block blk_-5718504625 deleted", "block blk_-4433556441 deleted"),
        ("request 550e8400-e29b-41d4-a716-446655440000 done", "request 9f1c2d3e-0a1b-4c2d-8e3f-1234567890ab done"),
        ("at 0x7ffe12ab", "at 0x00401000"),
        ("2026-01-01 10:00:00 started", "2026-03-04 11:12:13 started"),
        ("Nov 22 13:05:44 web-01 sshd[77]: closed", "Oct 1 03:05:44 db-7 sshd[7]: closed"),
        ('"GET /a HTTP/1.1" 502 9', '"GET /a HTTP/1.1" 503 7'),
        ("took 7200s", "took 7301s"),
    ],
)
def test_what_only_varies_is_masked(left: str, right: str) -> None:
    """Two lines of one template are one input, so the second is answered by the cache."""
    assert normalise(left).model_input == normalise(right).model_input


def test_a_given_level_wins_over_the_one_in_the_text() -> None:
    """The shipper's level field is the feature; the token in the text is taken out either way."""
    assert normalise("ERROR: all fine", "info") == normalise("ERROR: all fine", "INFO")
    assert normalise("ERROR: all fine", "info").model_input == "info | all fine"


def test_a_long_line_keeps_head_and_tail() -> None:
    """A megabyte is cut to what the model can read, both ends kept."""
    line = normalise("start of it " + "x" * 1_000_000 + " Caused by: the end")
    assert line.template.startswith("start of it")
    assert line.template.endswith("Caused by: the end")
    assert len(line.template) < 1200


def test_control_characters_do_not_reach_the_model() -> None:
    """Escapes, NUL and bidirectional controls are gone: text cannot hide from the model or move a terminal."""
    assert normalise("\x1b[31mdisk\x1b[0m \x00fai\u202eled\u200b").template == "disk fai led"


@given(st.text(), st.text(max_size=10))
def test_anything_is_normalised(message: str, level: str) -> None:
    """Never an exception, always a level of ours or none, and the same again the second time."""
    line = normalise(message, level)
    assert line.level in ("", *LEVELS)
    assert line == normalise(message, level)


_PIECES = st.sampled_from(
    [
        "2026-11-22T10:00:00Z ",
        "exit code ",
        "status=",
        "7",
        "0",
        "503",
        " of ",
        "/",
        "%",
        "C",
        " ms",
        ":",
        ".",
        "-",
        " ",
        "eth",
        "0x",
        "ab",
        "ERROR ",
        "<34>",
        'HTTP/1.1" ',
        "failed ",
        "[",
        "]",
        "T",
        "ID",
    ]
)


@given(st.lists(_PIECES, max_size=14).map("".join))
def test_long_numbers_never_reach_the_model(message: str) -> None:
    """Wherever an id of nine digits stands, another one in its place gives the same input."""
    assert normalise(message.replace("ID", "612345678")) == normalise(message.replace("ID", "798765432"))


_LONGER_PIECES = st.sampled_from(
    ["9f4ef63a12", "jA9J2UvC1", "0x1f", "1x4", "12345678", '"level":50,', "\t", "\x1b[0m", "é", "x", " rc="]
)


@given(st.lists(_PIECES | _LONGER_PIECES, max_size=14).map("".join), st.randoms(use_true_random=False))
def test_what_is_remembered_of_a_line_changes_nothing(message: str, random: Random) -> None:
    """A line that differs from one met before in the values of its digits alone is read as if none had been met."""
    normalise(message)
    other = re.sub("[0-9]", lambda _: random.choice("0123456789"), message)
    remembered = normalise(other)
    normalising._forms.clear()
    assert normalise(other) == remembered


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("WARN", "warning"),
        ("err", "error"),
        ("Emergency", "critical"),
        ("notice", "info"),
        ("3", "error"),
        ("verbose", "debug"),
        ("blue", ""),
    ],
)
def test_levels_of_other_systems_are_ours(name: str, level: str) -> None:
    """Syslog, log4j, klog, Android and the rest map to five."""
    assert canonical_level(name) == level
