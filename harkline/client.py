"""A sender in the standard library: how `harkline send` and `harkline demo` speak to the API.

And how any sender should: retry what may be retried, always with the same Idempotency-Key.
"""

from __future__ import annotations

import http.client
import json
import secrets
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harkline.errors import HarklineError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a sender may repeat; everything else is final. The same list as in the API's contract.
RETRYABLE = frozenset((429, 502, 503, 504))
_LONGEST_PAUSE_SECONDS = 30.0


class Refused(HarklineError):
    """The API refused a request for good, or for longer than we were told to try."""


@dataclass(frozen=True, slots=True)
class Client:
    """One API and the key it asks for. Thread-safe: it holds no connection."""

    url: str
    key: str = ""
    timeout_seconds: float = 60.0

    def post(self, path: str, body: bytes, content_type: str, tries: int = 8) -> dict[str, Any]:
        """Send a body until it is accepted, always with one Idempotency-Key; returns the answer, raises Refused."""
        headers = {"Content-Type": content_type, "Idempotency-Key": secrets.token_hex(16)}
        pause = 0.2
        wait = threading.Event()
        for attempt in range(1, tries + 1):
            try:
                with self._open(path, headers, body) as answer:
                    result: dict[str, Any] = json.load(answer)
                    return result
            except urllib.error.HTTPError as error:
                said = error.read().decode(errors="replace")
                if error.code not in RETRYABLE or attempt == tries:
                    raise Refused(f"{self.url}{path} answered {error.code}: {said}") from None
                told = error.headers.get("Retry-After", "")
                pause = float(told) if told.isdigit() else pause
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                if attempt == tries:
                    raise Refused(f"{self.url} cannot be reached: {error}; is `harkline up` running?") from None
            wait.wait(min(pause, _LONGEST_PAUSE_SECONDS))
            pause *= 2
        raise AssertionError("unreachable")

    def get(self, path: str) -> dict[str, Any]:
        """Read one JSON answer; a 503 of a probe is an answer too."""
        try:
            with self._open(path, {}) as answer:
                result: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise Refused(
                    f"{self.url}{path} answered {error.code}: {error.read().decode(errors='replace')}"
                ) from None
            result = json.load(error)
        except (urllib.error.URLError, TimeoutError, ConnectionError, json.JSONDecodeError) as error:
            raise Refused(f"{self.url} cannot be reached: {error}") from None
        return result

    def events(self, last_id: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (id, critical line) from /stream until the connection ends; the caller reconnects with the last id it saw."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        try:
            with self._open("/stream", headers) as answer:
                event_id = data = ""
                for raw in answer:
                    name, _, value = raw.decode().rstrip("\n").partition(": ")
                    if name == "id":
                        event_id = value
                    elif name == "data":
                        data = value
                    elif not name and data:
                        yield event_id, json.loads(data)
                        data = ""
        except urllib.error.HTTPError as error:
            raise Refused(f"{self.url}/stream answered {error.code}: {error.read().decode(errors='replace')}") from None
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise Refused(f"{self.url} cannot be reached: {error}") from None

    def _open(self, path: str, headers: dict[str, str], body: bytes | None = None) -> Any:
        if not self.url.startswith(("http://", "https://")):
            raise Refused(f"{self.url!r} is no http or https URL")
        if self.key:
            headers = headers | {"Authorization": f"Bearer {self.key}"}
        return urllib.request.urlopen(
            urllib.request.Request(self.url.rstrip("/") + path, data=body, headers=headers),
            timeout=self.timeout_seconds,
        )
