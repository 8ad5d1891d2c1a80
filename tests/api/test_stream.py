"""GET /stream: critical lines as server-sent events."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.consumer import count_all
from tests.support.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.api.conftest import Api

HOSTILE = "critical </script>\ndata: forged\n\nevent: forged\r\nid: 1\n\n\u2028 \x00 \x1b[31m"


class Reader:
    """A client that collects what it hears, event by event."""

    def __init__(self, api: Api, path: str, headers: dict[str, str]) -> None:
        self.response = api.sender().get(path, headers=headers, buffered=False)
        self.text = ""
        self._left = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        if self.response.status_code == 200:
            self._thread.start()

    def _read(self) -> None:
        for chunk in self.response.response:
            self.text += chunk.decode()
            if self._left:
                break
        self.response.close()

    def leave(self) -> None:
        """Hang up; like any server, ours learns it when it writes next."""
        self._left = True
        if self._thread.is_alive():
            self._thread.join(5)
        else:
            self.response.close()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The complete events heard so far, their data decoded."""
        found = []
        for block in self.text.split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if "data" in fields:
                found.append({**fields, "data": json.loads(fields["data"])})
        return found


@contextmanager
def reading(api: Api, path: str = "/stream", **headers: str) -> Iterator[Reader]:
    reader = Reader(api, path, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        yield reader
    finally:
        reader.leave()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats come often, so that tests need not wait for one."""
    monkeypatch.setattr("harkline_api.stream.HEARTBEAT_SECONDS", 0.2)


def found(api: Api, *messages: str) -> None:
    """Send lines and count them."""
    assert api.client.post("/logs?service=shop", json=list(messages)).status_code == 202
    count_all(api.ledger)


def test_a_new_critical_line_is_heard(api: Api) -> None:
    """A reader hears critical lines found after it came, with everything that is known of them, and nothing else."""
    found(api, "critical before")
    with reading(api) as reader:
        assert reader.response.content_type.startswith("text/event-stream")
        wait_for(lambda: "retry:" in reader.text, 3, "the stream begins")
        found(api, "fine", "critical fault")
        wait_for(lambda: reader.events, 5, "an event")
    (event,) = reader.events
    assert event["event"] == "critical"
    assert event["data"]["line"]["message"] == "critical fault"
    assert event["data"]["line"]["service"] == "shop"
    assert event["data"]["verdict"]["severity"] == "critical"
    assert event["data"]["batch"]
    assert event["data"]["accepted_at"] > 0


def test_a_reader_resumes_where_it_was(api: Api) -> None:
    """Last-Event-ID brings every line since, once each; after=0 brings all that are kept."""
    found(api, "critical 1", "critical 2", "critical 3")
    with reading(api, "/stream?after=0") as reader:
        wait_for(lambda: len(reader.events) == 3, 5, "all three")
    first = reader.events[0]["id"]
    with reading(api, Last_Event_ID=first) as again:
        wait_for(lambda: len(again.events) == 2, 5, "the other two")
        found(api, "critical 4")
        wait_for(lambda: len(again.events) == 3, 5, "and a new one")
    assert [event["data"]["line"]["message"] for event in again.events] == ["critical 2", "critical 3", "critical 4"]


def test_text_cannot_forge_an_event(api: Api) -> None:
    """Line breaks, event fields and markup inside a message stay inside its JSON."""
    with reading(api) as reader:
        wait_for(lambda: "retry:" in reader.text, 3, "the stream begins")
        found(api, HOSTILE)
        wait_for(lambda: reader.events, 5, "an event")
    (event,) = reader.events
    assert event["data"]["line"]["message"] == HOSTILE
    fields = [line.split(":")[0] for line in re.split(r"\r\n|\r|\n", reader.text) if line and not line.startswith(":")]
    assert fields == ["retry", "id", "event", "data"]


def test_a_quiet_stream_beats(api: Api) -> None:
    """A comment now and then keeps proxies from closing the connection, and finds out who left."""
    with reading(api) as reader:
        wait_for(lambda: reader.text.count(": still here\n\n") >= 2, 5, "two heartbeats")
    assert reader.events == []


def test_readers_are_bounded_and_leave_room_when_they_go(make_api: Callable[..., Api]) -> None:
    """One reader too many hears 503 with Retry-After; when one leaves, even before its first event, another may come."""
    api = make_api(stream_max_clients=2)
    with reading(api), reading(api):
        refused = Reader(api, "/stream", {}).response
        assert (refused.status_code, refused.json["error"]) == (503, "too_many_readers")
        assert int(refused.headers["Retry-After"]) > 0
    for _ in range(5):
        with reading(api) as reader:
            assert reader.response.status_code == 200


@pytest.mark.parametrize("position", ["$", "x", "1-", "-1", "1-1-1", "9" * 21, "18446744073709551616-0"])
def test_a_position_that_is_none_is_refused(api: Api, position: str) -> None:
    """A Last-Event-ID that the stream never gave is a 400 and no 500."""
    answer = Reader(api, "/stream", {"Last-Event-ID": position}).response
    assert (answer.status_code, answer.json["error"]) == (400, "bad_position")
    answer = api.client.get("/stream", query_string={"after": position}, headers={"Last-Event-ID": "0"})
    assert (answer.status_code, answer.json["error"]) == (400, "bad_position")


def test_a_stream_ends_when_the_process_stops(api: Api) -> None:
    """Closing ends the stream in time for a graceful exit."""
    reader = Reader(api, "/stream", {})
    wait_for(lambda: "retry:" in reader.text, 3, "the stream begins")
    api.parts.stop_waiting()
    reader._thread.join(3)
    assert not reader._thread.is_alive()
