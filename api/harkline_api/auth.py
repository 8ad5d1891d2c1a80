"""Who may call: API keys, in every form in which log shippers present them.

Only hashes are kept and compared, each comparison takes the same time, and every configured key is compared, so that time tells nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING

from harkline_api.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harkline_api.protocol import HeaderFields

# A caller's name where no key is asked for.
ANYONE = "anyone"
_CALLER_CHARS = 12


class Keys:
    """The API keys in force. Without any, everybody may call; the CLI then binds to loopback only."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._hashes = [hashlib.sha256(key.encode()).digest() for key in keys]

    @property
    def required(self) -> bool:
        """Whether a key is asked for."""
        return bool(self._hashes)

    def caller(self, headers: HeaderFields) -> str:
        """Return a name for who calls, the same for the same key; raises Refusal where there is no key, or a wrong one."""
        if not self._hashes:
            return ANYONE
        candidates = presented_keys(headers)
        if not candidates:
            raise Refusal("key_required", "present a key: Authorization: Bearer KEY, or X-Api-Key: KEY")
        found = None
        for candidate in candidates:
            hashed = hashlib.sha256(candidate).digest()
            for known in self._hashes:
                if hmac.compare_digest(hashed, known):
                    found = known
        if found is None:
            raise Refusal("bad_key")
        return found.hex()[:_CALLER_CHARS]


def presented_keys(headers: HeaderFields) -> list[bytes]:
    """Return what a request presents as its key: `Authorization` (Bearer, Splunk, ApiKey, Basic), `X-Api-Key`, `DD-API-KEY`."""
    found = [_bytes(sent) for name in ("X-Api-Key", "DD-API-KEY") if (sent := headers.get(name, ""))]
    scheme, _, rest = headers.get("Authorization", "").partition(" ")
    credentials = _bytes(rest.strip())
    if not credentials:
        return found
    match scheme.lower():
        case "bearer" | "splunk":
            found.append(credentials)
        case "apikey":  # Elasticsearch's is base64 of id:key; others send the bare key
            found += [credentials, *_pair(credentials)]
        case "basic":
            found += _pair(credentials)
    return found


def _pair(credentials: bytes) -> list[bytes]:
    try:
        user, _, password = base64.b64decode(credentials, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return []
    return [part for part in (password, user) if part]


def _bytes(header: str) -> bytes:
    # WSGI decodes headers as latin-1, whatever they are: this gives the bytes back.
    return header.encode("latin-1", "replace")
