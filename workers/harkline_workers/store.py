"""Where models live: which folder is the model now, and how another takes its place without any worker ever seeing half of one.

`HARKLINE_MODEL` or `HARKLINE_MODEL_DIR` wins. Else it is `<data folder>/models/current`, a symbolic link to a version beside it, where there is one;
else the weights that ship with harkline. Workers watch all three (`swap`).
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harkline.errors import ModelError
from harkline.logs import get_logger
from harkline_workers.manifest import MANIFEST_NAME, Manifest, check_files, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harkline.settings import Settings

log = get_logger(__name__)

# The weights that ship with harkline lie beside the package.
SHIPPED_MODEL_DIR = Path(__file__).resolve().parent.parent / "model"

CURRENT = "current"
# Former models that are kept, so that one can go back.
KEPT = 3

_HUB_ID = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


class Installed(NamedTuple):
    """One model of the store."""

    version: str
    manifest: Manifest | None  # None where this program cannot read it
    why_not: str
    folder: Path
    is_current: bool
    chosen_at: float  # seconds since the epoch


def resolve(settings: Settings) -> Path:
    """Return the folder of the model now, with links followed, so that what is read from it belongs together.

    Where the settings name a checkpoint on a hub that is not on this machine it is downloaded first; raises CheckpointRefused where that fails.
    """
    hub = hub_id(settings)
    if hub is not None:
        try:
            from harkline_workers.backends.hub import snapshot  # noqa: PLC0415 - brings an HTTP client
        except ImportError as error:
            raise ModelError(
                f"{settings.model} is no folder here, and looking it up on a hub needs {error.name}, which is not installed:"
                " pip install 'harkline[train]'"
            ) from error
        return snapshot(*hub, models_dir(settings) / "hub")
    chosen = named_folder(settings)
    if chosen is not None:
        return chosen.resolve()
    current = models_dir(settings) / CURRENT
    return current.resolve() if current.is_symlink() else SHIPPED_MODEL_DIR


def named_folder(settings: Settings) -> Path | None:
    """Return the folder that the settings name, or None where they leave the choice to the store."""
    if settings.model:
        return Path(settings.model).expanduser()
    return settings.model_dir


def hub_id(settings: Settings) -> tuple[str, str] | None:
    """Return name and revision (maybe "") of the checkpoint on a hub that HARKLINE_MODEL names; None where it is a folder, or could only be one."""
    found = _HUB_ID.fullmatch(settings.model)
    if found is None or Path(settings.model).exists():
        return None
    return found["name"], found["revision"] or ""


def models_dir(settings: Settings) -> Path:
    """Return the store's folder."""
    return settings.data_dir.resolve() / "models"


def install(settings: Settings, folder: Path) -> Path:
    """Check a model of ours, copy it into the store and make it the current one; running workers take it up within seconds.

    Returns its folder in the store. Raises ModelError, with nothing changed, where a file is not the one its manifest names, or the model cannot
    score a line. Copied, not linked: what is written into `folder` later must not reach workers.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest, manifest.files)
    _try(folder, settings)
    with _locked(settings) as store:
        home = store / manifest.version
        if not _is_whole(home, manifest):
            _bring(folder, manifest, home)
        _point(store, manifest.version)
        _prune(store)
    if (named := named_folder(settings)) is not None:
        log.warning("installed_model_not_served", served=str(named), cure="unset HARKLINE_MODEL and HARKLINE_MODEL_DIR")
    return home


def installed(settings: Settings) -> list[Installed]:
    """Return the models of the store, the last chosen first."""
    store = models_dir(settings)
    current = _current(store)
    found = []
    for path in _versions(store):
        manifest, why_not = None, ""
        try:
            manifest = read_manifest(path)
        except ModelError as error:
            why_not = str(error)
        found.append(Installed(path.name, manifest, why_not, path, path.name == current, path.stat().st_mtime))
    return found


def use(settings: Settings, version: str) -> Path:
    """Make an installed version, or the one that begins with these characters, the current one; returns its folder. Raises ModelError."""
    with _locked(settings) as store:
        matching = [path for path in _versions(store) if version and path.name.startswith(version)]
        if len(matching) != 1:
            names = ", ".join(path.name for path in _versions(store)) or "none"
            problem = "is not installed" if not matching else "begins several versions"
            raise ModelError(f"{version!r} {problem}; installed are {names}")
        home = matching[0]
        manifest = read_manifest(home)
        check_files(home, manifest, manifest.files)
        _point(store, home.name)
    return home


def reset(settings: Settings) -> None:
    """Go back to the weights that ship with harkline; what is installed stays."""
    with _locked(settings) as store:
        (store / CURRENT).unlink(missing_ok=True)


def _try(folder: Path, settings: Settings) -> None:
    from harkline_workers.model import load_model  # noqa: PLC0415 - brings numpy and a runtime

    model = load_model(folder, settings.backend, settings.model_threads)
    try:
        chances = model.predict(["error | disk # failed"])
    except Exception as error:  # runtimes raise errors of many kinds
        raise ModelError(f"{folder} cannot score a line ({type(error).__name__}: {error})") from error
    finally:
        model.close()
    if not 0.99 < float(chances.sum()) < 1.01:
        raise ModelError(f"{folder} scores a plain line as not a number; its weights are damaged")


def _is_whole(home: Path, manifest: Manifest) -> bool:
    """Tell whether a version is in the store already, undamaged: a worker may be reading it, so it is better left alone."""
    try:
        check_files(home, read_manifest(home), manifest.files)
    except ModelError:
        return False
    return True


def _bring(folder: Path, manifest: Manifest, home: Path) -> None:
    """Copy a model's files into the store beside their place, and put them there whole."""
    incoming = home.with_name(f".incoming-{secrets.token_hex(4)}")
    incoming.mkdir()
    try:
        for name in (*manifest.files, *(file for file in (MANIFEST_NAME, "README.md") if (folder / file).is_file())):
            _copy(folder / name, incoming / name)
        if read_manifest(incoming) != manifest:
            raise ModelError(f"{folder} changed while it was read; install it again")
        check_files(incoming, manifest, manifest.files)
        if home.exists():
            home.rename(home.with_name(f".outgoing-{secrets.token_hex(4)}"))
        incoming.rename(home)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


@contextmanager
def _locked(settings: Settings) -> Iterator[Path]:
    """Give the store's folder to one program at a time."""
    store = models_dir(settings)
    store.mkdir(parents=True, exist_ok=True)
    with (store / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield store


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o444)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _point(store: Path, version: str) -> None:
    """Let `current` name a version: a new link is renamed over the old one, so that there is one at every moment."""
    link = store / f".{CURRENT}-{secrets.token_hex(4)}"
    link.symlink_to(version)
    link.replace(store / CURRENT)
    os.utime(store / version)
    handle = os.open(store, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _current(store: Path) -> str:
    link = store / CURRENT
    return link.readlink().name if link.is_symlink() else ""


def _versions(store: Path) -> list[Path]:
    """Return the store's version folders, the last chosen first."""
    if not store.is_dir():
        return []
    found = [path for path in store.iterdir() if (path / MANIFEST_NAME).is_file() and not path.is_symlink()]
    found = [path for path in found if not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _prune(store: Path) -> None:
    current = _current(store)
    former = [path for path in _versions(store) if path.name != current]
    # What an interrupted installation left behind goes too.
    for path in (*former[KEPT:], *store.glob(".incoming-*"), *store.glob(".outgoing-*")):
        shutil.rmtree(path, ignore_errors=True)
    for path in store.glob(f".{CURRENT}-*"):
        path.unlink(missing_ok=True)
