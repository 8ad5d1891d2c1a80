"""A hub of our own: as much of the Hugging Face hub's HTTP interface as a download needs, over files of a folder; it remembers what was asked for."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """A running hub: its address, and the files that were fetched from it."""

    url: str
    fetched: list[str] = field(default_factory=list)


@contextmanager
def hub(name: str, folder: Path) -> Iterator[Hub]:
    """Serve one repository until the block ends."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = self.path.split("?")[0]
            if path.startswith(f"/api/models/{name}/revision/"):
                self._send(
                    json.dumps(
                        {
                            "id": name,
                            "modelId": name,
                            "sha": COMMIT,
                            "siblings": [{"rfilename": file} for file in files],
                        }
                    ).encode()
                )
            elif path.startswith(f"/api/models/{name}/tree/{COMMIT}"):
                listing = [
                    {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}  # noqa: S324 - an etag
                    for file, content in files.items()
                ]
                self._send(json.dumps(listing).encode())
            elif path.startswith(f"/{name}/resolve/{COMMIT}/") and (file := path.rsplit("/", 1)[1]) in files:
                if self.command == "GET":
                    running.fetched.append(file)
                self._send(files[file], hashlib.sha1(files[file]).hexdigest())  # noqa: S324 - an etag
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _send(self, body: bytes, etag: str = "") -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            if etag:
                self.send_header("ETag", f'"{etag}"')
                self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
