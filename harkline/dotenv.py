"""The secrets of a composed system, generated once into a file that only its owner reads: docker compose refuses to start without them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from harkline.settings import make_secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# In the order in which they are written. Of the two API keys the first is for senders, the last is the one that Prometheus presents.
SECRETS: dict[str, Callable[[], str]] = {
    "HARKLINE_REDIS_PASSWORD": make_secret,
    "HARKLINE_API_KEYS": lambda: f"{make_secret()},{make_secret()}",
    "HARKLINE_FLOWER_AUTH": lambda: f"harkline:{make_secret()}",
    "GRAFANA_ADMIN_PASSWORD": make_secret,
}


def write_secrets(path: Path) -> list[str]:
    """Add the secrets that the file does not set yet and return their names; what it holds stays as it is, and the file is its owner's alone (0600)."""
    kept = path.read_text() if path.exists() else ""
    present = set(re.findall(r"^([A-Z_]+)=.", kept, re.MULTILINE))
    added = [name for name in SECRETS if name not in present]
    # An empty one goes: kubectl takes no name twice.
    kept = re.sub(rf"^({'|'.join(SECRETS)})=\n?$", "", kept, flags=re.MULTILINE)
    # Created closed and moved into place: the secrets are never readable by others, and never half written.
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(kept if kept.endswith("\n") or not kept else f"{kept}\n")
        file.writelines(f"{name}={SECRETS[name]()}\n" for name in added)
    new.replace(path)
    return added
