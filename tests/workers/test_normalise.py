"""Normalisation: what the model may tell apart survives, what it must not is masked, and nothing raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkline_workers.normalise import LEVELS, canonical_level, normalise


@pytest.mark.parametrize(
    ("raw", "level", "template"),
    [
        ("2015-07-29 19:22:46,746 - WARN  [RecvWorker:1] - Interrupting", "warning", "[RecvWorker:#] - Interrupting"),
        ("[Sun Dec 04 05:04:03 2005] [notice] child 12 done", "info", "child # done"),
        ("E0314 12:00:00.123456 12 pod.go:191] sync failed", "error", "pod.go:#] sync failed"),
        ("<34>1 2003-10-11T22:14:15.003Z host su - failed", "", "host su - failed"),
        ('{"ts":"2026-01-01T00:00:00Z","level":"fatal","msg":"gone"}', "critical", '{"ts":"#","msg":"gone"}'),
        ('level=warn msg="low"', "warning", 'msg="low"'),
        ("FATAL:  too many clients", "critical", "too many clients"),
        ("Warning  Failed  kubelet  Back-off", "warning", "Failed kubelet Back-off"),
        ("03-17 16:13:46.144  1702  2105 E Tag: died", "error", "Tag: died"),
        ("the report is called ERROR-handling", "", "the report is called ERROR-handling"),
    ],
)
def test_headers_give_their_level_and_leave_the_message(raw: str, level: str, template: str) -> None:
    """Times go, the level becomes a feature of its own, the rest stays."""
    line = normalise(raw)
    assert (line.level, line.template) == (level, template)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("finished with 0 failed", "finished with 8120 failed"),
        ('"GET / HTTP/1.1" 200 12', '"GET / HTTP/1.1" 503 12'),
        ("retry 1 of 3 failed", "retry 3 of 3 failed"),
        ("replica lag is 2s", "replica lag is 7200s"),
        ("temperature 45C", "temperature 98C"),
        ("disk 40% full", "disk 100% full"),
    ],
)
def test_numbers_that_carry_meaning_are_told_apart(left: str, right: str) -> None:
    """Zero or not, the class of a status, the last attempt, the order of a measured amount."""
    assert normalise(left).model_input != normalise(right).model_input


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("connection from 10.0.0.1 port 4411", "connection from 192.168.7.20 port 51"),
        ("block blk_-5718504625 deleted", "block blk_4433556441 deleted"),
        ("request 550e8400-e29b-41d4-a716-446655440000 done", "request 9f1c2d3e-0a1b-4c2d-8e3f-1234567890ab done"),
        ("at 0x7ffe12ab", "at 0x00401000"),
        ("2026-01-01 10:00:00 started", "2026-03-04 11:12:13 started"),
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
