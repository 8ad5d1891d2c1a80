"""The ledger against a real Redis: what is answered is safe, and what is committed is counted once."""

from __future__ import annotations

import time

import pytest

from harkline.contract import (
    CriticalLine,
    LogBatch,
    LogLine,
    Verdict,
    decode_batch,
    encode_batch,
    encode_critical,
    encode_verdicts,
)
from harkline.errors import LedgerUnavailable
from harkline.ledger import Appending, Commit, Ledger, connect
from harkline.settings import Settings
from tests.support.polling import wait_for
from tests.support.redis_server import RedisServer, redis_server

BOUND = 1000
QUICK = 0.15  # seconds after which the tests' entries count as abandoned


@pytest.fixture
def quick(settings: Settings) -> Ledger:
    """A ledger whose entries are abandoned after a moment."""
    hurried = settings.model_copy(update={"abandoned_seconds": QUICK})
    ledger = Ledger(connect(hurried), hurried)
    ledger.open()
    return ledger


def request(lines: int = 2, key: str = "", digest: str = "") -> Appending:
    return Appending(encode_batch(LogBatch([LogLine(f"line {at}") for at in range(lines)])), lines, key, digest)


def verdict() -> Verdict:
    return Verdict("critical", 0.9, "error", "t", "model", "w", degraded=False, model="m")


def test_requests_of_one_write_share_an_entry_and_keep_their_order(ledger: Ledger) -> None:
    """Coalesced requests become one entry with one field each, and each gets its own batch id."""
    answers, must_ring = ledger.append([request(1), request(2), request(3)], BOUND)
    assert must_ring
    assert [answer.status for answer in answers] == ["ok", "ok", "ok"]
    claim = ledger.claim("c", 1)
    assert len(claim.entries) == 1
    assert [len(decode_batch(batch).lines) for batch in claim.entries[0].batches] == [1, 2, 3]
    assert [answer.batch for answer in answers] == [f"{claim.entries[0].id}-{at}" for at in range(3)]


def test_a_key_that_was_seen_is_answered_as_before_and_appends_nothing(ledger: Ledger) -> None:
    """A retry with the same Idempotency-Key and body gets the first batch id; another body is a conflict; neither adds lines."""
    first = ledger.append([request(2, "k", "d1")], BOUND)[0][0]
    again, other = ledger.append([request(2, "k", "d1"), request(2, "k", "d2")], BOUND)[0]
    assert (again.status, again.batch) == ("seen", first.batch)
    assert other.status == "conflict"
    assert ledger.stats().backlog_lines == 2


def test_one_key_twice_in_one_write_is_appended_once(ledger: Ledger) -> None:
    """Two copies of a request that meet in one coalesced write count once."""
    answers, _ = ledger.append([request(2, "k", "d"), request(2, "k", "d")], BOUND)
    assert [answer.status for answer in answers] == ["ok", "seen"]
    assert answers[0].batch == answers[1].batch
    assert ledger.stats().backlog_lines == 2


def test_the_bound_refuses_what_does_not_fit_and_takes_what_does(ledger: Ledger) -> None:
    """Of one write, requests past the bound are refused with the backlog in lines; smaller ones still fit."""
    answers, _ = ledger.append([request(6), request(6), request(4)], 10)
    assert [answer.status for answer in answers] == ["ok", "full", "ok"]
    assert ledger.stats().backlog_lines == 10


def test_at_most_one_bell_is_up(ledger: Ledger) -> None:
    """Only the first append rings; after a task answered the bell, the next one rings again."""
    assert ledger.append([request()], BOUND)[1]
    assert not ledger.append([request()], BOUND)[1]
    assert not ledger.claim("c", 100).ring
    assert ledger.append([request()], BOUND)[1]


def test_a_claim_rings_again_while_work_remains(ledger: Ledger) -> None:
    """A claim that leaves entries behind asks its caller to ring, so that other processes join."""
    for _ in range(3):
        ledger.append([request(2)], BOUND)
    claim = ledger.claim("c", 2)
    assert [len(claim.entries), claim.ring] == [1, True]
    # Not the first claim of its task: the bell stays up, so nobody rings twice.
    assert not ledger.claim("c", 2, answers_bell=False).ring


def test_a_commit_counts_an_entry_once_whoever_repeats_it(ledger: Ledger) -> None:
    """Two processes that both hold an entry's verdicts count it once; the second is told so."""
    batch = ledger.append([request(5)], BOUND)[0][0].batch
    entry = ledger.claim("a", 1).entries[0]
    line = CriticalLine(batch, 1.0, LogLine("x"), verdict())
    commit = Commit(entry.id, 5, 2, 1, [(batch, encode_verdicts([verdict()]))], [encode_critical(line)], [b"letter"])
    assert ledger.commit([commit]) == [True]
    assert ledger.commit([commit]) == [False]
    stats = ledger.stats()
    assert (stats.critical, stats.not_critical, stats.degraded, stats.dead, stats.backlog_lines) == (2, 3, 1, 1, 0)
    assert abs(stats.last_critical_at - time.time()) < 5
    assert ledger.verdicts(batch) == [verdict()]
    assert [found for _, found in ledger.critical_lines("0")] == [line]


def test_an_abandoned_entry_is_handed_over_alone(quick: Ledger) -> None:
    """What a dead process left is claimed by another after `abandoned_seconds`, one entry at a time and before new ones."""
    quick.append([request(1)], BOUND)
    quick.append([request(1)], BOUND)
    left = quick.claim("dead", 100)
    assert len(left.entries) == 2
    quick.append([request(1)], BOUND)
    taken = wait_for(
        lambda: next((claim for claim in [quick.claim("alive", 100)] if claim.deliveries > 1), None),
        5,
        "the abandoned entry",
    )
    assert len(taken.entries) == 1
    assert taken.deliveries == 2


def test_touching_keeps_a_claim_and_counts_no_delivery(quick: Ledger) -> None:
    """A process that says it is still at work keeps its entries; one that lost them is told."""
    quick.append([request(1)], BOUND)
    entry = quick.claim("busy", 1).entries
    touches = 0

    def overdue() -> bool:
        nonlocal touches
        touches += 1
        assert quick.touch("busy", entry) == 1
        assert quick.claim("other", 1).entries == []
        return touches > 15

    wait_for(overdue, 5, "several touches", QUICK / 5)
    taken = wait_for(lambda: quick.claim("other", 1).entries, 5, "the untouched entry")
    assert taken == entry
    assert quick.touch("busy", entry) == 0


def test_the_sweep_rings_for_a_lost_bell_and_for_abandoned_work(quick: Ledger) -> None:
    """The sweep is silent while the bell is up or nothing waits, and rings for what was left behind."""
    assert not quick.sweep()
    quick.append([request()], BOUND)
    assert not quick.sweep()
    quick.claim("dead", 1)
    assert wait_for(quick.sweep, 5, "the sweep to ring")


def test_a_batch_id_tells_its_state_without_being_stored(ledger: Ledger) -> None:
    """waiting, counted, unknown: for ids we gave, and for ids we never gave."""
    batch = ledger.append([request(1)], BOUND)[0][0].batch
    assert ledger.batch_state(batch) == "waiting"
    entry = ledger.claim("c", 1).entries[0]
    ledger.commit([Commit(entry.id, 1)])
    assert ledger.batch_state(batch) == "counted"
    for never in ("", "x", "1-2", "99999999999999-0-0", f"{entry.id}-x", "1-2-3-4", "-1-0-0"):
        assert ledger.batch_state(never) == "unknown"


def test_services_are_admitted_up_to_the_bound(settings: Settings) -> None:
    """The first names become labels, later ones do not, known ones stay."""
    small = settings.model_copy(update={"service_labels_max": 2})
    ledger = Ledger(connect(small), small)
    assert ledger.admit_services(["a"]) == {"a"}
    assert ledger.admit_services(["b", "c"]) == {"b"}
    assert ledger.admit_services(["a", "d"]) == {"a"}
    assert ledger.services() == {"a", "b"}


def test_a_redis_that_was_emptied_is_opened_again(ledger: Ledger) -> None:
    """Losing stream and group (FLUSHALL) costs what was in them, not the service."""
    ledger.redis.flushall()
    assert ledger.claim("c", 1).entries == []
    ledger.append([request(1)], BOUND)
    assert len(ledger.claim("c", 1).entries) == 1


def test_what_was_answered_survives_a_kill_of_redis(
    tmp_path_factory: pytest.TempPathFactory, settings: Settings
) -> None:
    """kill -9 of Redis right after the answers: every batch is still there, with the backlog to the line."""
    import signal

    from pydantic import SecretStr

    with redis_server(tmp_path_factory.mktemp("killed")) as server:
        own = settings.model_copy(update={"redis_url": SecretStr(server.url)})
        ledger = Ledger(connect(own), own)
        ledger.open()
        for _ in range(20):
            assert ledger.append([request(3)], BOUND)[0][0].status == "ok"
        server.signal(signal.SIGKILL)
        server.start_again()
        assert ledger.stats().backlog_lines == 60
        assert sum(entry.lines for entry in ledger.claim("c", 1000).entries) == 60


def test_a_full_redis_refuses_appends_and_still_commits(empty_redis: RedisServer, ledger: Ledger) -> None:
    """Out of memory: an append is refused as unavailable, a commit goes through, since it begins with XACK."""
    ledger.append([request(5)], BOUND)
    entry = ledger.claim("c", 1).entries[0]
    with empty_redis.client() as client:
        client.config_set("maxmemory", "1mb")
        with pytest.raises(LedgerUnavailable):
            ledger.append([request(5)], BOUND)
        assert ledger.commit([Commit(entry.id, 5, 1)]) == [True]
    assert ledger.stats().lines == 5


def test_a_dead_redis_is_unavailable_at_once(settings: Settings) -> None:
    """No retries behind the caller's back: a refused connection is told in well under a second."""
    from pydantic import SecretStr

    gone = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    ledger = Ledger(connect(gone), gone)
    began = time.monotonic()
    for call in (
        ledger.stats,
        ledger.sweep,
        lambda: ledger.append([request()], BOUND),
        ledger.services,
        ledger.workers,
        lambda: ledger.verdicts("1-1-0"),
        ledger.last_critical,
    ):
        with pytest.raises(LedgerUnavailable):
            call()
    assert time.monotonic() - began < 1.0


def test_an_abandoned_entry_is_found_behind_many_that_are_worked_on(quick: Ledger) -> None:
    """A dead process' entry is taken over however many older entries others hold and touch."""
    for _ in range(16):
        quick.append([request(1)], BOUND)
    held = quick.claim("busy", 15).entries
    [dead] = quick.claim("dead", 1).entries

    def taken() -> bool:
        assert quick.touch("busy", held) == len(held)
        return quick.claim("alive", 1).entries == [dead]

    wait_for(taken, 5, "the abandoned entry", QUICK / 5)
