"""The generated secrets of a composed system: complete, closed to others, and never changed once they are in use."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from harkline.dotenv import SECRETS, write_secrets

COMPOSE_FILE = Path(__file__).resolve().parents[2] / "docker-compose.yml"


def read(path: Path) -> dict[str, str]:
    """Return the variables of a file."""
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if line and not line.startswith("#"))


def test_a_new_file_holds_every_secret_that_compose_wants(tmp_path: Path) -> None:
    """Each is set, long, unlike the others, and safe in a URL; only the owner can read the file."""
    path = tmp_path / ".env"
    assert write_secrets(path) == list(SECRETS)
    values = read(path)
    assert set(values) == set(re.findall(r"\$\{([A-Z_]+):\?", COMPOSE_FILE.read_text()))
    parts = [part for value in values.values() for part in re.split(r"[,:]", value) if part != "harkline"]
    assert len(set(parts)) == len(parts) == 5
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", part) for part in parts)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_there_stays(tmp_path: Path) -> None:
    """Redis keeps its password: only what is missing or empty is added, and an open file is closed."""
    path = tmp_path / ".env"
    path.write_text("# ours\nHARKLINE_API_KEYS=mine\nHARKLINE_LOG_LEVEL=debug\nGRAFANA_ADMIN_PASSWORD=")
    path.chmod(0o644)
    assert write_secrets(path) == ["HARKLINE_REDIS_PASSWORD", "HARKLINE_FLOWER_AUTH", "GRAFANA_ADMIN_PASSWORD"]
    assert path.read_text().startswith("# ours\nHARKLINE_API_KEYS=mine\nHARKLINE_LOG_LEVEL=debug\n")
    first = path.read_text()
    assert first.count("GRAFANA_ADMIN_PASSWORD=") == 1
    assert read(path)["GRAFANA_ADMIN_PASSWORD"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert write_secrets(path) == []
    assert path.read_text() == first
