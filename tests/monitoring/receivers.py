"""People to alert, played by servers on this machine that remember what they were told: a webhook and a mail relay."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage


@dataclass(frozen=True, slots=True)
class Call:
    """One POST: its path, its JSON, and when it came, in epoch seconds."""

    path: str
    body: Any
    at: float


@dataclass
class Webhook:
    """Remembers every POST, in order; answers 200."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)

    def told(self, alertname: str, status: str, since: float = 0.0) -> list[Call]:
        """Return the notifications with an alert of that name and status that came after `since`."""
        return [
            call
            for call in tuple(self.calls)
            if call.at > since
            and any(
                alert["labels"].get("alertname") == alertname and alert["status"] == status
                for alert in call.body.get("alerts", [])
            )
        ]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Listen on a free port of 127.0.0.1."""
    memory = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            memory.calls.append(Call(self.path, json.loads(body), time.time()))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    memory.url = f"http://127.0.0.1:{server.server_address[1]}"
    with _serving(server):
        yield memory


@dataclass
class Mailbox:
    """Remembers every mail, in order."""

    address: str = ""
    mails: list[EmailMessage] = field(default_factory=list)


@contextmanager
def mail_relay() -> Iterator[Mailbox]:
    """Speak as much SMTP (RFC 5321) as a client needs to hand over a mail, without TLS."""
    memory = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(line.encode() + b"\r\n")

        def handle(self) -> None:
            self.say("220 relay")
            for line in self.rfile:
                verb = line[:4].upper()
                if verb == b"DATA":
                    self.say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    data = b"".join(part[1:] if part.startswith(b"..") else part for part in lines)
                    memory.mails.append(message_from_bytes(data, policy=policy.default))
                    self.say("250 taken")
                elif verb == b"QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 relay")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    memory.address = f"127.0.0.1:{server.server_address[1]}"
    with _serving(server):
        yield memory


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
