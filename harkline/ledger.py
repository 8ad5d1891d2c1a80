"""The ledger: a Redis Stream that holds every accepted batch until it is counted, and the Lua calls that keep it exact.

What can be lost: nothing that was answered, on a single primary with `appendfsync always`. Redis replication is asynchronous, so a failover to
a replica may lose the last answered writes. Why a stream and not Celery messages: docs/adr/0001. Each call below is one atomic script.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harkline import contract
from harkline.errors import ContractError, LedgerUnavailable

if TYPE_CHECKING:
    from harkline.settings import Settings

# One hash tag, so that on a Redis Cluster all keys of a ledger share a slot and the scripts stay atomic.
TAG = "{harkline}"
LEDGER = f"{TAG}:ledger"
BACKLOG = f"{TAG}:backlog"
TOTALS = f"{TAG}:totals"
BELL = f"{TAG}:bell"
CRITICAL = f"{TAG}:critical"
DEAD_LETTERS = f"{TAG}:dead-letters"
REPLAYS = f"{TAG}:replays"
SERVICES = f"{TAG}:services"
WORKERS = f"{TAG}:workers"
GROUP = "workers"

# A bell that was lost (its message popped by a worker that died) may be rung again after this long.
BELL_MS = 2000
# A consumer of a dead process is forgotten after this long without pending entries.
CONSUMER_MS = 600_000


class Appending(NamedTuple):
    """One request on its way into the ledger."""

    payload: bytes  # contract.encode_batch
    lines: int
    idempotency_key: str = ""
    digest: str = ""  # of the body the key came with


class Appended(NamedTuple):
    """What became of it: `ok`, `seen` (batch is that of the first time), `conflict`, or `full` (batch is the backlog in lines)."""

    status: str
    batch: str


class Entry(NamedTuple):
    """One claimed ledger entry: its id, its encoded batches in order, and how many lines they hold."""

    id: str
    batches: list[bytes]
    lines: int


class Claim(NamedTuple):
    """What one claim brought: entries, how often the (then single) entry was delivered, and whether the caller must ring for the rest."""

    entries: list[Entry]
    deliveries: int
    ring: bool


@dataclass(slots=True)
class Commit:
    """The outcome of one entry, to be counted once."""

    entry: str
    lines: int
    critical: int = 0
    degraded: int = 0
    verdicts: list[tuple[str, bytes]] = field(default_factory=list)  # (batch id, encoded verdicts)
    critical_lines: list[bytes] = field(default_factory=list)
    dead_letters: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LedgerStats:
    """Exact totals and the state of the backlog, read in one round trip."""

    critical: int = 0
    not_critical: int = 0
    degraded: int = 0
    dead: int = 0
    last_critical_at: int = 0  # seconds since the epoch, when a critical line was last counted
    backlog_lines: int = 0
    oldest_seconds: float = 0.0
    used_memory_bytes: int = 0
    max_memory_bytes: int = 0

    @property
    def lines(self) -> int:
        """All lines ever counted."""
        return self.critical + self.not_critical


class WorkerState(msgspec.Struct, frozen=True):
    """What a worker process says of itself every few seconds."""

    model: str  # version, "" without one
    degraded: bool
    why: str  # it is degraded, or could not take up another model
    at: float  # seconds since the epoch


def connect(settings: Settings, *, timeout_seconds: float | None = None, url: str | None = None) -> redis.Redis:
    """Return a client that never retries by itself (an answer must be quick, and a retry must be the sender's) and times out."""
    timeout = timeout_seconds or settings.redis_timeout_seconds
    return redis.Redis.from_url(
        url or settings.redis,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )


def verdicts_key(batch: str) -> str:
    """Return the key, and the channel, of a waiting batch's verdicts."""
    return f"{TAG}:verdicts:{batch}"


def suspect_key(entry: str) -> str:
    """Return the key that holds what is known of an entry that may kill workers."""
    return f"{TAG}:suspect:{entry}"


class Ledger:
    """The ledger as one client sees it. Thread-safe, as its Redis client is.

    Its methods raise LedgerUnavailable, and ContractError for stored bytes they cannot read.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.redis = client
        self._settings = settings
        self._abandoned_ms = int(settings.abandoned_seconds * 1000)
        scripts = files("harkline") / "lua"
        self._scripts = {
            name: client.register_script((scripts / f"{name}.lua").read_text())
            for name in ("append", "claim", "commit", "touch", "sweep", "admit", "replay", "forget")
        }

    def append(self, requests: Sequence[Appending], bound_lines: int) -> tuple[list[Appended], bool]:
        """Write requests durably as one entry. Returns one answer per request, in order, and whether the caller must ring the doorbell."""
        keys = [LEDGER, BACKLOG, BELL]
        args: list[Any] = [bound_lines, self._settings.idempotency_seconds, BELL_MS]
        for request in requests:
            if request.idempotency_key:
                keys.append(
                    f"{TAG}:seen:{hashlib.blake2b(request.idempotency_key.encode(), digest_size=16).hexdigest()}"
                )
            args += ["1" if request.idempotency_key else "0", request.digest or "-", request.lines, request.payload]
        won, _, answers = self._run("append", keys, args)
        return [Appended(status.decode(), batch.decode()) for status, batch in answers], bool(won)

    def open(self) -> None:
        """Create the stream and its consumer group where they do not exist: a new Redis, or one that was emptied."""
        try:
            self.redis.xgroup_create(LEDGER, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise LedgerUnavailable(str(error)) from error
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error

    def claim(self, consumer: str, lines: int, *, answers_bell: bool = True) -> Claim:
        """Take at least `lines` lines of new entries (the last entry may exceed it), or one abandoned entry, alone.

        `answers_bell` says that this is the first claim of a task: it takes the bell down, so that the next append rings again.
        """
        args = [GROUP, consumer, lines, self._abandoned_ms, BELL_MS, "1" if answers_bell else "0"]
        won, deliveries, claimed = self._run("claim", [LEDGER, BELL], args)
        entries = []
        for entry_id, fields in claimed:
            entries.append(Entry(entry_id.decode(), list(fields[3::2]), int(fields[1])))
        return Claim(entries, int(deliveries), bool(won))

    def touch(self, consumer: str, entries: Sequence[Entry]) -> int:
        """Say that these entries are still being worked on; returns how many are still this consumer's."""
        return int(self._run("touch", [LEDGER], [GROUP, consumer, *(entry.id for entry in entries)]))

    def commit(self, commits: Sequence[Commit]) -> list[bool]:
        """Count entries, each once. Returns True per entry that this call counted, False where it was counted before, as a replayed line was."""
        settings = self._settings
        args: list[Any] = [GROUP, settings.critical_kept, settings.dead_letters_kept, settings.verdicts_seconds]
        for commit in commits:
            args += [commit.entry, commit.lines, commit.critical, commit.degraded, len(commit.verdicts)]
            for batch, verdicts in commit.verdicts:
                args += [verdicts_key(batch), verdicts]
            args += [len(commit.critical_lines), *commit.critical_lines, len(commit.dead_letters), *commit.dead_letters]
        suspects = [suspect_key(commit.entry) for commit in commits]
        keys = [LEDGER, TOTALS, BACKLOG, CRITICAL, DEAD_LETTERS, REPLAYS, *suspects]
        return [bool(counted) for counted in self._run("commit", keys, args)]

    def sweep(self) -> bool:
        """Return whether work waits with no bell up (the caller must ring); forget consumers of dead processes, and what was kept long enough."""
        args = [GROUP, self._abandoned_ms, BELL_MS, CONSUMER_MS, self._settings.retention_seconds * 1000]
        return bool(self._run("sweep", [LEDGER, BELL, CRITICAL, DEAD_LETTERS], args))

    def replay(self, letters: Sequence[tuple[str, bytes]], bound_lines: int) -> tuple[list[Appended], bool]:
        """Put dead letters, as (id, encoded batch of their one line), back on the ledger, to be judged and not counted again.

        Returns one answer per letter (`ok` with the batch id, `gone`, or `full` with the backlog in lines), and whether the caller must ring.
        """
        args: list[Any] = [bound_lines, BELL_MS]
        for letter in letters:
            args += letter
        won, answers = self._run("replay", [DEAD_LETTERS, LEDGER, BACKLOG, REPLAYS, BELL], args)
        replayed = []
        for status, said in answers:
            batch = contract.batch_id(said.decode(), 0) if status == b"ok" else said.decode()
            replayed.append(Appended(status.decode(), batch))
        return replayed, bool(won)

    def forget_lines(self, entry: str, lines: int, left: Sequence[tuple[bytes, int]]) -> bool:
        """Erase `lines` lines of an entry before they are counted. `left` are its other lines, as (encoded batch, lines): they become a new entry.

        Returns False where the entry was counted meanwhile, and nothing was done.
        """
        keys = [LEDGER, BACKLOG, TOTALS, REPLAYS, suspect_key(entry)]
        args = [GROUP, entry, lines, sum(number for _, number in left), *(payload for payload, _ in left)]
        return bool(self._run("forget", keys, args))

    def admit_services(self, names: Sequence[str]) -> set[str]:
        """Return those of `names` that may be label values; the set never exceeds the setting."""
        return {name.decode() for name in self._run("admit", [SERVICES], [self._settings.service_labels_max, *names])}

    def services(self) -> set[str]:
        """Return every service admitted so far."""
        try:
            return {name.decode() for name in cast("set[bytes]", self.redis.smembers(SERVICES))}
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error

    def workers(self, fresh_seconds: float = 30.0) -> dict[str, WorkerState]:
        """Return the state of every worker process that reported within `fresh_seconds`, by consumer name."""
        try:
            reports = cast("dict[bytes, bytes]", self.redis.hgetall(WORKERS))
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error
        states = {name.decode(): _worker_state(report) for name, report in reports.items()}
        return {name: state for name, state in states.items() if time.time() - state.at < fresh_seconds}

    def forget_workers(self, silent_seconds: float = 600.0) -> None:
        """Drop the reports of processes that have been silent for so long."""
        try:
            reports = cast("dict[bytes, bytes]", self.redis.hgetall(WORKERS))
            gone = [name for name, report in reports.items() if time.time() - _worker_state(report).at > silent_seconds]
            if gone:
                self.redis.hdel(WORKERS, *gone)
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error

    def stats(self) -> LedgerStats:
        """Read totals, backlog, the age of the oldest entry and Redis' memory."""
        try:
            pipe = self.redis.pipeline(transaction=False)
            pipe.hgetall(TOTALS)
            pipe.get(BACKLOG)
            pipe.xrange(LEDGER, count=1)
            pipe.time()
            pipe.info("memory")
            totals, backlog, oldest, now, memory = cast(
                "tuple[dict[bytes, bytes], bytes | None, Any, tuple[int, int], dict[str, int]]", pipe.execute()
            )
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error
        age = now[0] + now[1] / 1e6 - int(oldest[0][0].split(b"-")[0]) / 1000 if oldest else 0.0
        counts = {name.decode(): int(value) for name, value in totals.items()}
        return LedgerStats(
            critical=counts.get("critical", 0),
            not_critical=counts.get("not_critical", 0),
            degraded=counts.get("degraded", 0),
            dead=counts.get("dead", 0),
            last_critical_at=counts.get("last_critical", 0),
            backlog_lines=int(backlog or 0),
            oldest_seconds=max(0.0, age),
            used_memory_bytes=memory["used_memory"],
            max_memory_bytes=memory["maxmemory"],
        )

    def batch_state(self, batch: str) -> str:
        """Return `waiting` or `counted`, or `unknown` where the id is none that this ledger can have given."""
        place = contract.parse_batch_id(batch)
        if place is None:
            return "unknown"
        entry_id, position = place
        try:
            found = cast("list[Any]", self.redis.xrange(LEDGER, entry_id, entry_id))
            if found:
                return "waiting" if str(position).encode() in found[0][1] else "unknown"
            last = self.redis.xinfo_stream(LEDGER)["last-generated-id"].decode()
        except redis.ResponseError:  # no stream yet
            return "unknown"
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error
        given = tuple(int(part) for part in entry_id.split("-"))
        return "counted" if given <= tuple(int(part) for part in last.split("-")) else "unknown"

    def verdicts(self, batch: str) -> list[contract.Verdict] | None:
        """Return the kept verdicts of a batch, in the order of its lines, or None where there are none (yet, or no more)."""
        try:
            data = cast("bytes | None", self.redis.get(verdicts_key(batch)))
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error
        return None if data is None else contract.decode_verdicts(data)

    def critical_lines(
        self, after: str = "$", block_seconds: float = 1.0, count: int = 100
    ) -> list[tuple[str, contract.CriticalLine]]:
        """Wait for critical lines after a position (`0` for all kept, `$` for new ones); returns (position, line) pairs, maybe none."""
        try:
            reply = cast(
                "Any", self.redis.xread({CRITICAL: after}, count=count, block=max(1, int(block_seconds * 1000)))
            )
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error
        if not reply:
            return []
        items = reply[0][1] if isinstance(reply, list) else next(iter(reply.values()))[0]
        lines = []
        for position, fields in items:
            # What a worker of another version wrote is skipped: it is for showing only, and a reader must not be stuck at it.
            with contextlib.suppress(ContractError):
                lines.append((position.decode(), contract.decode_critical(fields[b"line"])))
        return lines

    def last_critical(self) -> str:
        """Return the position after which critical lines are new."""
        try:
            last = cast("list[Any]", self.redis.xrevrange(CRITICAL, count=1))
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error
        return last[0][0].decode() if last else "0"

    def _run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            return self._scripts[script](keys=keys, args=args)
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise LedgerUnavailable(str(error)) from error
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error
        self.open()  # a Redis that was emptied under us
        try:
            return self._scripts[script](keys=keys, args=args)
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error


_worker_state = msgspec.json.Decoder(WorkerState).decode


@contextlib.contextmanager
def asking_redis() -> Iterator[None]:
    """Say LedgerUnavailable where Redis does not answer, or refuses."""
    try:
        yield
    except redis.RedisError as error:
        raise LedgerUnavailable(str(error)) from error


def wait_for_redis(client: redis.Redis, seconds: float, poll_seconds: float = 0.1) -> None:
    """Return once Redis answers a PING (it may still be loading its file); raises LedgerUnavailable after `seconds`."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        try:
            client.ping()
        except redis.RedisError as error:
            if time.monotonic() > deadline:
                raise LedgerUnavailable(f"Redis did not answer within {seconds:g} s: {error}") from error
            pause.wait(poll_seconds)
        else:
            return
