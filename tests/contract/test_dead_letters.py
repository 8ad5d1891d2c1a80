"""Dead letters: seen, put back on the ledger once, dropped, and never more than text on a terminal."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from typer.testing import CliRunner

from harkline import contract
from harkline.cli import app
from harkline.contract import CriticalLine, DeadLetter, LogBatch, LogLine, Verdict
from harkline.dead_letters import PORTION, DeadLetters
from harkline.errors import HarklineError, LedgerUnavailable
from harkline.ledger import CRITICAL, DEAD_LETTERS, LEDGER, REPLAYS, Appending, Commit, Ledger, connect, suspect_key
from harkline.settings import Settings
from tests.contract.terminal import environment, on_terminal
from tests.support.redis_server import RedisServer

BOUND = 1000
HOSTILE = "[bold]panic[/]: \x1b[2Jgone\x9b31m \u202eright to left"


@pytest.fixture
def letters(ledger: Ledger) -> DeadLetters:
    return DeadLetters(ledger)


def set_aside(ledger: Ledger, message: str = "poison", service: str = "", *, at_ms: int | None = None) -> str:
    """Set a line aside as a commit does, now or at a moment; returns the letter's id."""
    letter = DeadLetter("1795335139443-0-3", 7, "RuntimeError: [red]no[/]", LogLine(message, service, level="info"))
    fields = {"letter": contract.encode_dead_letter(letter)}
    return ledger.redis.xadd(DEAD_LETTERS, fields, id="*" if at_ms is None else f"{at_ms}-1").decode()


def harkline(settings: Settings, *arguments: str) -> Result:
    return CliRunner(env=environment(settings)).invoke(app, ["dead-letters", *arguments])


def objects(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def verdict(*, degraded: bool = False) -> Verdict:
    return Verdict("critical", 0.9, "error", "t", "model", "because", degraded=degraded, model="m")


def judge(ledger: Ledger, *, degraded: bool = False) -> int:
    """Commit what waits as a worker does whose verdict is critical; returns the entries that were counted."""
    entries = ledger.claim("c", 100).entries
    commits = []
    for entry in entries:
        batch = contract.batch_id(entry.id, 0)
        line = contract.decode_batch(entry.batches[0]).lines[0]
        found = verdict(degraded=degraded)
        commits.append(
            Commit(
                entry.id,
                1,
                1,
                int(degraded),
                [(batch, contract.encode_verdicts([found]))],
                [contract.encode_critical(CriticalLine(batch, 1.0, line, found))],
                [contract.encode_dead_letter(DeadLetter(batch, 0, "again", line))] if degraded else [],
            )
        )
    return sum(ledger.commit(commits))


def test_letters_come_the_newest_first_across_portions(ledger: Ledger, letters: DeadLetters) -> None:
    """However many there are, each is met once, the newest first."""
    ids = [set_aside(ledger, f"line {at}") for at in range(2 * PORTION)]
    assert [letter.id for letter in letters.newest()] == ids[::-1]


def test_letters_are_found_by_service_and_by_time(ledger: Ledger, letters: DeadLetters) -> None:
    """`unknown` are those whose sender named no service; `since` is when they were set aside."""
    set_aside(ledger, "old", "db", at_ms=1_000_000)
    set_aside(ledger, "nameless")
    set_aside(ledger, "new", "db")
    by_service = [letter.content.line.message for letter in letters.newest(service="db") if letter.content]
    assert by_service == ["new", "old"]
    assert [letter.service for letter in letters.newest(service="unknown")] == ["unknown"]
    assert len(list(letters.newest(since=time.time() - 60))) == 2


def test_a_letter_tells_when_it_was_set_aside_and_accepted(ledger: Ledger, letters: DeadLetters) -> None:
    """Both moments follow from ids, so nothing is stored for them."""
    [letter] = letters.find([set_aside(ledger, at_ms=1_795_335_200_500)])
    assert letter is not None
    assert (letter.set_aside_at, letter.accepted_at) == (1_795_335_200.5, 1_795_335_139.443)


def test_a_replayed_line_is_judged_and_shown_and_counted_no_second_time(ledger: Ledger, letters: DeadLetters) -> None:
    """The letter is gone, the line waits as a batch of its own; its commit keeps the verdict and leaves every total as it was."""
    [letter] = letters.find([set_aside(ledger, "bad disk", "db")])
    assert letter is not None
    before = ledger.stats()
    [replayed], must_ring = letters.replay([letter], BOUND)
    assert (replayed.status, must_ring) == ("ok", True)
    assert ledger.redis.xlen(DEAD_LETTERS) == 0
    assert ledger.batch_state(replayed.batch) == "waiting"
    assert ledger.stats().backlog_lines == 1
    assert judge(ledger) == 0
    assert dict(letters.await_verdicts([replayed.batch], 5)) == {replayed.batch: verdict()}
    assert [found.line.message for _, found in ledger.critical_lines("0")] == ["bad disk"]
    after = ledger.stats()
    assert (after.lines, after.critical, after.dead, after.degraded) == (before.lines, 0, 0, 0)
    assert (after.last_critical_at, after.backlog_lines) == (0, 0)
    assert ledger.batch_state(replayed.batch) == "counted"
    assert not ledger.redis.exists(REPLAYS)


def test_a_replayed_line_that_no_model_judged_is_set_aside_as_it_was(ledger: Ledger, letters: DeadLetters) -> None:
    """It killed or raised again, or there was no model: the same letter is there again, is counted as dead once, and is not shown again."""
    [letter] = letters.find([set_aside(ledger)])
    assert letter is not None
    [replayed], _ = letters.replay([letter], BOUND)
    assert judge(ledger, degraded=True) == 0
    assert [again.content for again in letters.newest()] == [letter.content]
    assert ledger.stats().dead == 0
    assert ledger.critical_lines("0") == []
    assert dict(letters.await_verdicts([replayed.batch], 5))[replayed.batch].degraded


def test_a_commit_clears_its_own_suspicion_and_no_replay_that_waits(ledger: Ledger, letters: DeadLetters) -> None:
    """What is known of suspects leaves with their entries, each its own; a replay stays marked until its own commit."""
    payload = contract.encode_batch(LogBatch([LogLine("fine")]))
    for _ in range(2):
        ledger.append([Appending(payload, 1)], BOUND)
    entries = ledger.claim("c", 100).entries
    set_aside(ledger)
    letters.replay(list(letters.newest()), BOUND)
    for entry in entries:
        ledger.redis.set(suspect_key(entry.id), "x")
    assert ledger.commit([Commit(entry.id, 1) for entry in entries]) == [True, True]
    assert not ledger.redis.exists(*(suspect_key(entry.id) for entry in entries))
    assert ledger.redis.hlen(REPLAYS) == 1


def test_a_letter_is_replayed_once_whoever_else_tries(ledger: Ledger, settings: Settings) -> None:
    """Eight operators at the same moment put a letter back once; the others find it gone."""
    [letter] = DeadLetters(ledger).find([set_aside(ledger)])
    assert letter is not None
    ready = threading.Barrier(8)
    said = []

    def operator() -> None:
        own = DeadLetters(Ledger(connect(settings, timeout_seconds=30), settings))
        ready.wait()
        said.extend(own.replay([letter], BOUND)[0])

    threads = [threading.Thread(target=operator) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.status for one in said) == ["gone"] * 7 + ["ok"]
    assert ledger.stats().backlog_lines == 1
    assert ledger.redis.xlen(LEDGER) == 1


def test_a_full_ledger_keeps_the_letters(ledger: Ledger, letters: DeadLetters, empty_redis: RedisServer) -> None:
    """At the backlog's bound, and where Redis has no memory left, nothing is put back and the letters stay."""
    kept = [letter for letter in letters.find([set_aside(ledger), set_aside(ledger)]) if letter]
    assert [one.status for one in letters.replay(kept, 1)[0]] == ["ok", "full"]
    with empty_redis.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(LedgerUnavailable):
            letters.replay(kept[1:], BOUND)
    assert [letter.id for letter in letters.newest()] == [kept[1].id]
    assert ledger.stats().backlog_lines == 1


def test_what_another_version_wrote_is_told_and_can_be_dropped(ledger: Ledger, letters: DeadLetters) -> None:
    """Bytes we cannot read are listed, not replayed, and leave when they are dropped."""
    name = ledger.redis.xadd(DEAD_LETTERS, {"letter": b"\xc1"}).decode()
    [letter] = list(letters.newest())
    assert (letter.id, letter.content) == (name, None)
    assert letters.replay([letter], BOUND)[0][0].status == "unreadable"
    assert letters.drop([name, name]) == 1


def test_the_sweep_ends_what_was_kept_for_the_retention(ledger: Ledger, settings: Settings) -> None:
    """Critical lines and dead letters leave when they are older than the setting, also where nothing new comes; younger ones stay."""
    now_ms = int(time.time() * 1000)
    oldest = now_ms - settings.retention_seconds * 1000
    for age in (oldest - 60_000, oldest - 1000, oldest + 60_000, now_ms):
        set_aside(ledger, at_ms=age)
        ledger.redis.xadd(CRITICAL, {"line": b"x"}, id=f"{age}-1")
    ledger.sweep()
    for key in (DEAD_LETTERS, CRITICAL):
        assert [int(name.split(b"-")[0]) for name, _ in ledger.redis.xrange(key)] == [oldest + 60_000, now_ms]


def test_list_gives_programs_one_object_a_letter(ledger: Ledger, settings: Settings) -> None:
    """Off a terminal each letter is a JSON object on a line, the newest first, as many as were asked for."""
    set_aside(ledger, "one", "db")
    name = set_aside(ledger, HOSTILE, "db")
    [found] = objects(harkline(settings, "list", "--limit", "1", "--service", "db", "--since", "15m"))
    assert found["id"] == name
    assert found["line"] == {"message": HOSTILE, "service": "db", "level": "info"}
    assert (found["batch"], found["position"]) == ("1795335139443-0-3", 7)
    assert found["accepted_at"] == "2026-11-22T08:12:19.443000Z"
    assert len(objects(harkline(settings, "list"))) == 2


def test_wrong_usage_is_told_with_status_2(settings: Settings) -> None:
    """Times and ids that are none, and commands that name nothing or too much."""
    for arguments in (
        ["list", "--since", "yesterday"],
        ["show", "x"],
        ["drop", "1-2-3"],
        ["replay"],
        ["drop", "--all", "1-1"],
        ["replay", "1-1", "--service", "db"],
    ):
        assert harkline(settings, *arguments).exit_code == 2, arguments


def test_show_tells_of_a_letter_that_is_not_there(settings: Settings) -> None:
    """One sentence, no traceback."""
    result = harkline(settings, "show", "1-1")
    assert isinstance(result.exception, HarklineError)
    assert "there is no dead letter 1-1" in str(result.exception)


def test_replay_prints_verdicts_and_tells_what_has_none(ledger: Ledger, settings: Settings) -> None:
    """Without a worker the line waits as its batch says, status 3; said again, the letter is gone, status 1."""
    name = set_aside(ledger, "bad disk")
    result = harkline(settings, "replay", name, "--wait", "0")
    assert result.exit_code == 3, result.output
    [told] = objects(result)
    assert (told["id"], told["outcome"]) == (name, "waiting")
    assert ledger.batch_state(str(told["batch"])) == "waiting"
    assert harkline(settings, "replay", name, "--wait", "0").exit_code == 1


@pytest.mark.parametrize(("degraded", "outcome", "status"), [(False, "judged", 0), (True, "set aside again", 3)])
def test_replay_waits_for_the_verdict_and_prints_it(
    ledger: Ledger, settings: Settings, degraded: bool, outcome: str, status: int
) -> None:
    """With a worker at work, each letter comes with its verdict; the status says whether it is a model's."""
    name = set_aside(ledger, "bad disk")
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.05):
            judge(ledger, degraded=degraded)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        result = harkline(settings, "replay", "--all")
    finally:
        done.set()
        worker.join()
    assert result.exit_code == status, result.output
    [told] = objects(result)
    assert (told["id"], told["outcome"]) == (name, outcome)
    assert told["verdict"] == msgspec.to_builtins(verdict(degraded=degraded))


def test_drop_asks_on_a_terminal_and_nowhere_else(ledger: Ledger, settings: Settings, tmp_path: Path) -> None:
    """Without a terminal it wants --yes; on one, anything but y erases nothing."""
    names = [set_aside(ledger, service="db"), set_aside(ledger)]
    assert isinstance(harkline(settings, "drop", "--all").exception, HarklineError)
    status, screen = on_terminal(settings, tmp_path, "dead-letters", "drop", "--all", typed=b"n\n")
    assert status == 1, screen
    assert "erase 2 dead letter(s) for good?" in screen
    assert ledger.redis.xlen(DEAD_LETTERS) == 2
    assert "1 dropped" in harkline(settings, "drop", "--all", "--service", "db", "--yes").stdout
    assert "1 dropped, 1 not there" in harkline(settings, "drop", *names, "--yes").stdout
    assert ledger.redis.xlen(DEAD_LETTERS) == 0


@pytest.mark.parametrize("command", ["list", "list --output ndjson", "show"])
def test_on_a_terminal_a_line_is_only_text(ledger: Ledger, settings: Settings, tmp_path: Path, command: str) -> None:
    """No control character of a line, a service or a reason reaches the terminal, and no markup is obeyed."""
    name = set_aside(ledger, HOSTILE, "\x1b[31mdb")
    arguments = command.split() + ([name] if command == "show" else [])
    status, screen = on_terminal(settings, tmp_path, "dead-letters", *arguments)
    assert status == 0, screen
    for obeyed in ("\x1b[2J", "\x1b[31m", "\x9b", "\u202e"):
        assert obeyed not in screen
    assert "[bold]panic[/]" in screen
    assert "[red]no[/]" in screen
    assert ("\\u202eright" if "ndjson" in command else ".right to left") in screen


def test_a_dead_redis_is_one_sentence(settings: Settings) -> None:
    """No traceback where Redis is away."""
    from pydantic import SecretStr

    gone = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    assert isinstance(harkline(gone, "list").exception, LedgerUnavailable)
    with pytest.raises(LedgerUnavailable):
        DeadLetters(Ledger(connect(gone), gone)).drop(["1-1"])


def test_a_batch_on_the_ledger_holds_one_letter(ledger: Ledger, letters: DeadLetters) -> None:
    """One that kills again kills alone: each letter is an entry of its own, whose verdict is kept."""
    found = [letter for letter in letters.find([set_aside(ledger), set_aside(ledger)]) if letter]
    letters.replay(found, BOUND)
    entries = ledger.claim("c", 100).entries
    assert [entry.lines for entry in entries] == [1, 1]
    line = LogLine("poison", level="info")
    assert [contract.decode_batch(entry.batches[0]) for entry in entries] == [LogBatch([line], True)] * 2
