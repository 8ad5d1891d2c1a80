"""A load generator that costs little: prepared requests over kept connections, as fast as answers come, or on a timetable of its own."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_ANSWER_SECONDS = 60.0


class Sent(NamedTuple):
    """One request and its answer; times in seconds since the epoch. Status 0: the connection broke."""

    due: float  # when the timetable wanted it sent; without a timetable, when it was
    answered: float
    status: int
    body: bytes

    @property
    def seconds(self) -> float:
        """From when it should have been sent to its answer, so that a client that is kept waiting cannot hide it."""
        return self.answered - self.due


def post(path: str, body: bytes, content_type: str) -> bytes:
    """Return a POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def get(path: str) -> bytes:
    """Return a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def as_fast_as_answered(
    port: int, requests: Iterable[bytes], connections: int, seconds: float = float("inf")
) -> list[Sent]:
    """Send requests over so many connections, each waiting for its answer, until they are sent or the time is over."""
    return asyncio.run(_closed_loop(port, iter(requests), connections, time.time() + seconds))


def on_a_timetable(
    port: int, requests: Sequence[bytes], per_second: float, seconds: float, connections: int, seed: int
) -> list[Sent]:
    """Send `per_second` requests at random moments (Poisson), spread over the connections, whether or not answers come in time."""
    return asyncio.run(_open_loop(port, requests, per_second / connections, seconds, connections, random.Random(seed)))


class _Connection:
    """One kept HTTP/1.1 connection, opened anew where the server closes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, request: bytes, due: float) -> Sent:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                status, body = await self._exchange(request)
        except (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError, ValueError):
            await self.close()
            return Sent(due, time.time(), 0, b"")
        return Sent(due, time.time(), status, body)

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if b"connection: close" in head:
            await self.close()
        return int(head.split(b" ", 2)[1]), body

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _closed_loop(port: int, requests: Iterator[bytes], connections: int, until: float) -> list[Sent]:
    sent: list[Sent] = []

    async def client() -> None:
        connection = _Connection(port)
        for request in requests:
            sent.append(await connection.send(request, time.time()))
            if time.time() > until:
                break
        await connection.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return sent


async def _open_loop(
    port: int, requests: Sequence[bytes], per_second: float, seconds: float, connections: int, rng: random.Random
) -> list[Sent]:
    sent: list[Sent] = []
    began = time.time()
    following = iter(range(2**62))

    async def client(own: random.Random) -> None:
        connection = _Connection(port)
        due = began + own.expovariate(per_second)
        while due < began + seconds:
            await asyncio.sleep(max(0.0, due - time.time()))
            sent.append(await connection.send(requests[next(following) % len(requests)], due))
            due += own.expovariate(per_second)
        await connection.close()

    await asyncio.gather(*(client(random.Random(rng.random())) for _ in range(connections)))
    return sent
