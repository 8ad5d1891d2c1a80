"""Forgetting: what is stored of a service or a pattern is gone from every place, what is not meant stays, and what cannot go is said."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from harkline import contract
from harkline.cli import app
from harkline.contract import CriticalLine, DeadLetter, LogBatch, LogLine, Verdict
from harkline.dead_letters import DeadLetters
from harkline.errors import HarklineError
from harkline.forget import Forgetter, Matching, OfService, Outcome
from harkline.ledger import (
    BACKLOG,
    CRITICAL,
    DEAD_LETTERS,
    LEDGER,
    REPLAYS,
    TAG,
    TOTALS,
    Appending,
    Commit,
    Ledger,
    connect,
    suspect_key,
    verdicts_key,
)
from harkline.remains import compact, rewrite_file
from harkline.settings import Settings
from tests.contract.terminal import environment, on_terminal
from tests.support.polling import wait_for
from tests.support.redis_server import RedisServer

BOUND = 10_000
SECRET = "alice@example.com"


def line(message: str = "all well", service: str = "db", **fields: object) -> LogLine:
    return LogLine(message, service, **fields)  # type: ignore[arg-type]


def verdict(template: str = "t") -> Verdict:
    return Verdict("critical", 0.9, "error", template, "model", "model: error", degraded=False, model="m")


def append(ledger: Ledger, *requests: list[LogLine]) -> list[str]:
    """Append requests as one entry; returns their batch ids."""
    payloads = [Appending(contract.encode_batch(LogBatch(lines)), len(lines)) for lines in requests]
    return [answer.batch for answer in ledger.append(payloads, BOUND)[0]]


def show(ledger: Ledger, *lines: LogLine, batch: str = "1-0-0") -> None:
    """Put lines where critical ones are kept."""
    for one in lines:
        ledger.redis.xadd(CRITICAL, {"line": contract.encode_critical(CriticalLine(batch, 1.0, one, verdict()))})


def set_aside(ledger: Ledger, one: LogLine, batch: str = "2-0-0") -> str:
    letter = contract.encode_dead_letter(DeadLetter(batch, 0, "RuntimeError: no", one))
    return ledger.redis.xadd(DEAD_LETTERS, {"letter": letter}).decode()


def forget(ledger: Ledger, target: OfService | Matching, **how: bool) -> dict[str, Outcome]:
    return {outcome.place: outcome for outcome in Forgetter(ledger, target, erase=True, **how).run()}


def waiting(ledger: Ledger) -> list[list[str]]:
    """Return the messages of each entry of the ledger."""
    return [
        [one.message for batch in list(fields.values())[1:] for one in contract.decode_batch(batch).lines]
        for _, fields in ledger.redis.xrange(LEDGER)
    ]


def harkline(settings: Settings, *arguments: str) -> Result:
    return CliRunner(env=environment(settings)).invoke(app, ["forget", *arguments])


def stored(ledger: Ledger) -> bytes:
    """Return everything that Redis holds, as bytes to look for words in."""
    found = []
    for key in ledger.redis.scan_iter():
        found += [key, ledger.redis.dump(key) or b""]
    return b"\n".join(found)


def test_a_service_is_gone_from_every_place_and_others_stay(ledger: Ledger) -> None:
    """Critical lines, dead letters, verdicts of its batches, its name: gone. What is of another service is untouched."""
    show(ledger, line("db broke"), line("web broke", "web"), batch="1-0-0")
    set_aside(ledger, line("db poison"), batch="2-0-0")
    set_aside(ledger, line("web poison", "web"), batch="3-0-0")
    for batch in ("1-0-0", "2-0-0", "3-0-0", "4-0-0"):
        ledger.redis.set(verdicts_key(batch), contract.encode_verdicts([verdict()]), ex=300)
    ledger.admit_services(["db", "web"])
    found = forget(ledger, OfService("db"))
    assert {place: outcome.erased for place, outcome in found.items() if outcome.erased} == {
        "critical lines": 1,
        "dead letters": 1,
        "kept verdicts": 2,
        "names of services": 1,
    }
    assert "2 more name no service" in found["kept verdicts"].note
    assert [shown.line.service for _, shown in ledger.critical_lines("0")] == ["web"]
    assert [letter.service for letter in DeadLetters(ledger).newest()] == ["web"]
    assert ledger.services() == {"web"}


def test_a_service_is_known_by_its_whole_name(ledger: Ledger) -> None:
    """`db` is not `db2`, and `unknown` are the lines whose sender named none."""
    show(ledger, line(), line(service="db2"), line(service=""))
    assert forget(ledger, OfService("db"))["critical lines"].erased == 1
    assert forget(ledger, OfService("unknown"))["critical lines"].erased == 1
    assert [found.line.service for _, found in ledger.critical_lines("0")] == ["db2"]


@pytest.mark.parametrize(
    "one",
    [
        line(f"login of {SECRET}"),
        line(service=SECRET),
        line(environment=SECRET),
        line(level=SECRET),
        line(id=SECRET),
        line(labels={"who": SECRET}),
        line(labels={SECRET: "x"}),
    ],
)
def test_a_pattern_is_met_in_every_text_of_a_line(ledger: Ledger, one: LogLine) -> None:
    """Wherever a sender wrote it."""
    show(ledger, one, line("alice is not meant"))
    set_aside(ledger, one)
    found = forget(ledger, Matching(re.compile(r"alice@")))
    assert (found["critical lines"].erased, found["dead letters"].erased) == (1, 1)
    assert len(ledger.critical_lines("0")) == 1


def test_our_own_words_beside_a_line_are_not_matched(ledger: Ledger) -> None:
    """`error` stands in every verdict's why, and is no reason to erase lines that do not say it."""
    show(ledger, line("disk gone"))
    set_aside(ledger, line("poison"))
    found = forget(ledger, Matching(re.compile("error|Error")))
    assert (found["critical lines"].found, found["dead letters"].found) == (0, 0)


def test_verdicts_go_by_their_own_text_too(ledger: Ledger) -> None:
    """A template that holds what the pattern matches is erased with its batch; --all-verdicts leaves none."""
    for batch, template in (("1-0-0", "login of alice"), ("2-0-0", "login of #")):
        ledger.redis.set(verdicts_key(batch), contract.encode_verdicts([verdict(template)]), ex=300)
    found = forget(ledger, Matching(re.compile("alice")))["kept verdicts"]
    assert (found.found, found.erased) == (1, 1)
    assert "1 more" in found.note
    assert ledger.verdicts("2-0-0") is not None
    assert forget(ledger, OfService("x"), all_verdicts=True)["kept verdicts"].erased == 1


def test_lines_that_wait_stay_unless_that_is_said(ledger: Ledger) -> None:
    """A sender was promised that they are classified: they are counted and told, and nothing of the ledger changes."""
    append(ledger, [line("a"), line("b", "web")])
    forgetter = Forgetter(ledger, OfService("db"), erase=True)
    [found, *_] = forgetter.run()
    assert (found.place, found.found, found.erased, forgetter.left_waiting) == ("waiting lines", 1, 0, 1)
    assert "--uncounted" in found.note
    assert waiting(ledger) == [["a", "b"]]


def test_uncounted_lines_leave_and_their_neighbours_are_counted(ledger: Ledger) -> None:
    """Of an entry that several share, only what is meant goes; the rest is claimed and counted, and the numbers add up."""
    append(ledger, [line("a"), line("b", "web")], [line("c")], [line("d", "web")])
    append(ledger, [line("e")])
    append(ledger, [line("f", "web")])
    found = forget(ledger, OfService("db"), uncounted=True)["waiting lines"]
    assert (found.found, found.erased) == (3, 3)
    assert sorted(waiting(ledger)) == [["b", "d"], ["f"]]
    entries = ledger.claim("c", 100).entries
    assert [len(entry.batches) for entry in entries] == [1, 2]
    assert ledger.commit([Commit(entry.id, entry.lines) for entry in entries]) == [True, True]
    assert ledger.redis.hgetall(TOTALS) == {b"critical": b"0", b"not_critical": b"3", b"forgotten": b"3"}
    assert ledger.redis.get(BACKLOG) == b"0"


def test_who_holds_a_forgotten_entry_counts_nothing(ledger: Ledger) -> None:
    """A worker that claimed it before finds at its commit that it is gone."""
    append(ledger, [line("a"), line("b", "web")])
    [entry] = ledger.claim("c", 100).entries
    ledger.redis.set(suspect_key(entry.id), "x")
    assert forget(ledger, OfService("db"), uncounted=True)["waiting lines"].erased == 1
    assert ledger.commit([Commit(entry.id, 2, 1)]) == [False]
    assert ledger.touch("c", [entry]) == 0
    assert not ledger.redis.exists(suspect_key(entry.id))
    assert ledger.stats().lines == 0
    assert ledger.stats().backlog_lines == 1
    assert len(ledger.claim("c", 100).entries) == 1


def test_an_entry_that_was_counted_meanwhile_is_left_alone(ledger: Ledger) -> None:
    """The count stands, the backlog is not taken down twice, nothing comes back."""
    append(ledger, [line("a")])
    [entry] = ledger.claim("c", 1).entries
    ledger.commit([Commit(entry.id, 1)])
    assert not ledger.forget_lines(entry.id, 1, [])
    assert ledger.redis.get(BACKLOG) == b"0"
    assert ledger.redis.xlen(LEDGER) == 0


def test_a_replayed_line_that_waits_is_forgotten_with_its_letter(ledger: Ledger) -> None:
    """It was counted before, so it is not counted as forgotten; no copy of it is left."""
    letters = DeadLetters(ledger)
    set_aside(ledger, line("db poison"))
    letters.replay(list(letters.newest()), BOUND)
    assert forget(ledger, OfService("db"), uncounted=True)["waiting lines"].erased == 1
    assert not ledger.redis.exists(REPLAYS)
    assert ledger.redis.hget(TOTALS, "forgotten") is None
    assert b"poison" not in stored(ledger)


def test_what_another_version_wrote_is_said_to_be_unread(ledger: Ledger) -> None:
    """Nobody is told that it is gone while it may be there."""
    ledger.append([Appending(b"\x92\x09\x90", 4)], BOUND)
    ledger.redis.xadd(CRITICAL, {"line": b"\xc1"})
    forgetter = Forgetter(ledger, OfService("db"), erase=True, uncounted=True)
    found = {outcome.place: outcome for outcome in forgetter.run()}
    assert "4 lines of another version" in found["waiting lines"].note
    assert "1 of another version" in found["critical lines"].note
    assert (forgetter.left_waiting, forgetter.unread) == (0, 5)


def test_more_than_a_portion_is_erased_and_told_as_it_goes(ledger: Ledger) -> None:
    """Portions do not end early, and the progress reaches the number of entries."""
    show(ledger, *(line(f"broke {at}", ("db", "web")[at % 2]) for at in range(900)))
    steps = []
    forgetter = Forgetter(ledger, OfService("db"), erase=True, advance=lambda *step: steps.append(step))
    assert [outcome.erased for outcome in forgetter.run() if outcome.place == "critical lines"] == [450]
    assert [step[1:] for step in steps if step[0] == "critical lines"][-1] == (900, 900)
    assert ledger.redis.xlen(CRITICAL) == 450


def test_no_command_that_blocks_redis_is_used(ledger: Ledger, empty_redis: RedisServer) -> None:
    """KEYS would stop everyone while it looks at every key."""
    ledger.redis.mset({f"{TAG}:seen:{at}": "x" for at in range(3000)})
    ledger.redis.set(verdicts_key("1-0-0"), contract.encode_verdicts([verdict()]))
    ledger.redis.config_resetstat()
    assert forget(ledger, OfService("db"), all_verdicts=True)["kept verdicts"].erased == 1
    with empty_redis.client() as client:
        used = client.info("commandstats")
    assert "cmdstat_keys" not in used
    assert used["cmdstat_scan"]["calls"] >= 3


def test_the_slow_log_is_emptied(ledger: Ledger) -> None:
    """Redis quotes what slow commands carried."""
    before = ledger.redis.config_get("slowlog-log-slower-than")
    ledger.redis.config_set("slowlog-log-slower-than", 0)
    try:
        append(ledger, [line(SECRET)])
        assert SECRET in str(ledger.redis.slowlog_get(10))
        assert forget(ledger, OfService("other"))["slow commands"].erased > 0
        ledger.redis.config_set("slowlog-log-slower-than", -1)
        assert SECRET not in str(ledger.redis.slowlog_get(128))
    finally:
        ledger.redis.config_set(*before.popitem())


@pytest.fixture
def uncompressed(ledger: Ledger) -> Iterator[None]:
    """Redis writes text as it is, so that one can look for it."""
    ledger.redis.config_set("rdbcompression", "no")
    yield
    ledger.redis.config_set("rdbcompression", "yes")


@pytest.mark.usefixtures("uncompressed")
def test_no_byte_of_it_is_left_in_memory_or_in_a_rewritten_file(ledger: Ledger, empty_redis: RedisServer) -> None:
    """A deleted entry stays in its stream's node, and in the append-only file; neither holds it when all is done, and its neighbours are there."""

    def on_disk() -> bool:
        folder = empty_redis.folder
        return any(SECRET.encode() in path.read_bytes() for path in folder.rglob("*.aof*") if path.is_file())

    for put in (lambda one: show(ledger, one), lambda one: set_aside(ledger, one)):
        for one in (line("before", "web"), line(SECRET), line("after", "web")):
            put(one)
    forget(ledger, OfService("db"))
    assert SECRET.encode() not in stored(ledger)
    assert on_disk()
    assert "no more in it" in rewrite_file(ledger.redis, 60)
    assert not on_disk()
    assert [found.line.message for _, found in ledger.critical_lines("0")] == ["before", "after"]
    assert len(list(DeadLetters(ledger).newest())) == 2


def test_a_compacted_stream_is_the_same_to_its_readers(ledger: Ledger, settings: Settings) -> None:
    """Entries, their ids and the next id stay; who waits for new lines gets the next one; no copy is left, and none is begun of an empty stream."""
    show(ledger, *(line(str(at)) for at in range(500)))
    before = ledger.redis.xrange(CRITICAL)
    ledger.redis.xadd(CRITICAL, {"line": b"x"}, id="9000000000000-0")
    ledger.redis.xdel(CRITICAL, "9000000000000-0")
    reader = Ledger(connect(settings, timeout_seconds=30), settings)
    heard: list[str] = []

    def read() -> None:
        ends = time.monotonic() + 20
        while not heard and time.monotonic() < ends:
            heard.extend(found.line.message for _, found in reader.critical_lines(before[-1][0].decode(), 20))

    thread = threading.Thread(target=read)
    thread.start()
    wait_for(lambda: ledger.redis.info("clients")["blocked_clients"], 10, "the reader to wait")
    assert compact(ledger.redis, CRITICAL)
    assert ledger.redis.xrange(CRITICAL) == before
    assert ledger.redis.ttl(CRITICAL) == -1
    show(ledger, line("next"))
    thread.join(20)
    assert heard == ["next"]
    assert ledger.redis.xrevrange(CRITICAL, count=1)[0][0] == b"9000000000000-1"
    assert compact(ledger.redis, DEAD_LETTERS)
    assert not ledger.redis.exists(DEAD_LETTERS, f"{DEAD_LETTERS}:copy", f"{CRITICAL}:copy")


def test_what_leaves_while_a_stream_is_copied_does_not_come_back(ledger: Ledger) -> None:
    """A letter that is replayed or dropped meanwhile stays gone: the copy begins anew."""
    for at in range(450):
        set_aside(ledger, line(str(at)))
    names = [letter.id for letter in DeadLetters(ledger).newest()]
    script = ledger.redis.register_script((files("harkline") / "lua" / "compact.lua").read_text())
    once = {"keys": [DEAD_LETTERS, f"{DEAD_LETTERS}:copy"], "args": [200, 60]}
    assert script(**once) == 0
    assert DeadLetters(ledger).drop([names[-1]]) == 1
    assert [script(**once) for _ in range(5)] == [0, -1, 0, 0, 1]
    assert [letter.id for letter in DeadLetters(ledger).newest()] == names[:-1]


def test_forgetting_goes_on_where_redis_is_full(ledger: Ledger) -> None:
    """A full Redis refuses what needs room, and erasing makes some."""
    append(ledger, [line("a"), line("b", "web")])
    show(ledger, line(), line("web broke", "web"))
    ledger.redis.config_set("maxmemory", 1)
    found = forget(ledger, OfService("db"), uncounted=True)
    assert (found["waiting lines"].erased, found["critical lines"].erased) == (1, 1)
    assert waiting(ledger) == [["b"]]


def test_without_an_append_only_file_there_is_nothing_to_rewrite(ledger: Ledger) -> None:
    """One sentence, and no file is begun."""
    ledger.redis.config_set("appendonly", "no")
    try:
        assert "keeps no append-only file" in rewrite_file(ledger.redis, 5)
    finally:
        ledger.redis.config_set("appendonly", "yes")


def test_the_command_counts_erases_and_says_what_stays(ledger: Ledger, settings: Settings) -> None:
    """--dry-run changes nothing; --yes erases; what it cannot reach is named, with the call that takes the series out of Prometheus."""
    show(ledger, line("broke", "it's"))
    before = stored(ledger)
    dry = harkline(settings, "--service", "it's", "--dry-run")
    assert dry.exit_code == 0
    assert stored(ledger) == before
    rows = {row["place"]: row for row in map(json.loads, dry.stdout.splitlines())}
    assert (rows["critical lines"]["found"], rows["critical lines"]["erased"]) == (1, 0)
    done = harkline(settings, "--service", "it's", "--yes")
    assert done.exit_code == 0, done.output
    rows = {row["place"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows["critical lines"]["erased"] == 1
    assert ledger.critical_lines("0") == []
    assert "append-only file" in done.stderr
    assert "hashes alone" in done.stderr
    assert (
        f"""curl -X POST http://127.0.0.1:{settings.prometheus_port}/api/v1/admin/tsdb/delete_series""" in done.stderr
    )
    assert """'match[]={service="it'"'"'s"}'""" in done.stderr


def test_lines_left_waiting_are_status_3(ledger: Ledger, settings: Settings) -> None:
    """A script sees that it must come again; with --uncounted it need not."""
    append(ledger, [line("a")])
    assert harkline(settings, "--service", "db", "--yes").exit_code == 3
    assert harkline(settings, "--pattern", "^a$", "--yes", "--uncounted").exit_code == 0
    assert ledger.redis.xlen(LEDGER) == 0
    ledger.redis.xadd(CRITICAL, {"line": b"\xc1"})
    assert harkline(settings, "--service", "db", "--yes").exit_code == 3


def test_usage_that_means_nothing_or_everything_is_refused(settings: Settings) -> None:
    """One of the two is wanted, a pattern must be one, and must not match all there is."""
    for arguments in ([], ["--service", "a", "--pattern", "b"], ["--pattern", "("], ["--pattern", "x*"]):
        assert harkline(settings, *arguments, "--yes").exit_code == 2, arguments
    unasked = harkline(settings, "--service", "db")
    assert isinstance(unasked.exception, HarklineError)
    assert "--yes" in str(unasked.exception)


def test_on_a_terminal_it_shows_what_it_found_and_asks(ledger: Ledger, settings: Settings, tmp_path: Path) -> None:
    """What was found first, then the question; only y erases."""
    show(ledger, line("broke"))
    status, screen = on_terminal(settings, tmp_path, "forget", "--service", "db", typed=b"n\n")
    assert (status, len(ledger.critical_lines("0"))) == (1, 1), screen
    assert re.search(r"critical lines +1", screen)
    status, screen = on_terminal(settings, tmp_path, "forget", "--service", "db", "--rewrite", typed=b"y\n")
    assert (status, ledger.critical_lines("0")) == (0, []), screen
    assert "append-only file anew" in screen
    assert "What this does not reach" in screen
