"""Stand-ins for base images where no registry can be reached: Debian by debootstrap, and in it this machine's interpreter or Debian's packages.

They carry the names the project's files use and are made for a private engine only (engine.py), so that no one takes them for the vendors' images.
Needs root, Debian, and an interpreter outside /usr (pyenv's, or one built from source).
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.containers.engine import Engine

_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# Users, entrypoints and folders as the vendors' images have them, as far as the compose file leans on them.
_PACKAGED = {
    "redis": (
        "redis-server",
        "groupadd --gid 999 redis && useradd --uid 999 --gid 999 redis",
        "mkdir -p /data && chown redis:redis /data",
        "",
    ),
    "prom/prometheus": ("prometheus", "true", "true", 'ENTRYPOINT ["/bin/prometheus"]'),
    "prom/alertmanager": (
        "prometheus-alertmanager",
        "true",
        "ln -s prometheus-alertmanager /usr/bin/alertmanager",
        'ENTRYPOINT ["/bin/alertmanager"]',
    ),
}


def make_image(engine: Engine, tag: str, python_tag: str) -> None:
    """Make a stand-in for `tag` in the engine; skips the test where this machine cannot, or where there is none for it."""
    name = tag.partition(":")[0]
    if name == "python":
        _make_python(engine, tag)
    elif name in _PACKAGED:
        if not engine.has_image(python_tag):
            _make_python(engine, python_tag)
        package, before, after, entrypoint = _PACKAGED[name]
        install = f"apt-get update -qq && apt-get install -qq --no-install-recommends {package}"
        engine.build(
            f"FROM {python_tag}\nRUN {before} && {install} && {after} && rm -rf /var/lib/apt/lists/*\n{entrypoint}\n",
            tag,
        )
    else:
        pytest.skip(f"{tag} can neither be pulled nor made here")


def _make_python(engine: Engine, tag: str) -> None:
    wanted = re.match(r"python:(\d+\.\d+)", tag)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if wanted is None or wanted[1] != here or Path(sys.base_prefix) == Path("/usr"):
        pytest.skip(f"{tag} cannot be made from {sys.base_prefix} with Python {here}")
    with TemporaryDirectory() as folder:
        root = Path(folder)
        _debootstrap(root)
        _install_interpreter(root, here)
        _trust_what_this_machine_trusts(root)
        _run("chroot", root, "/usr/local/bin/python3", "-m", "ensurepip", "--default-pip")
        changes = [
            "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ENV LANG=C.UTF-8",
            'CMD ["python3"]',
        ]
        options = [part for change in changes for part in ("--change", change)]
        pack = ["tar", "-C", root, "--numeric-owner", "--one-file-system", "-c", "."]
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
            engine.docker("import", *options, "-", tag, stdin=packed.stdout)
        if packed.returncode:
            pytest.skip(f"{root} could not be packed")


def _debootstrap(root: Path) -> None:
    release = platform.freedesktop_os_release()
    mirrors = _output("apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)", "Created-By: Packages").split()
    suite = release.get("VERSION_CODENAME", "")
    found = [uri for uri, _, offered in (mirror.partition("|") for mirror in mirrors) if offered == suite]
    if release.get("ID") != "debian" or not found:
        pytest.skip("stand-ins for images are made on Debian, with its mirror in apt's sources")
    _run("debootstrap", "--variant=minbase", "--include=ca-certificates", suite, root, found[0])


def _install_interpreter(root: Path, version: str) -> None:
    """Copy the running interpreter without what pip put beside it, and the libraries that it and its modules are linked to."""
    base, local = Path(sys.base_prefix), root / "usr/local"
    library = base / "lib" / f"python{version}"
    for name in ("bin", "lib"):
        (local / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(base / "bin" / f"python{version}", local / "bin")
    for shared in base.glob("lib/libpython3*.so*"):
        shutil.copy2(shared, local / "lib", follow_symlinks=False)
    shutil.copytree(library, local / "lib" / library.name, symlinks=True, ignore=_leave_out(library))
    (local / "lib" / library.name / "site-packages").mkdir()
    for link in ("python3", "python"):
        (local / "bin" / link).symlink_to(f"python{version}")
    for binary in (base / "bin" / f"python{version}", *library.glob("lib-dynload/*.so")):
        for line in _output("ldd", binary).splitlines():
            linked = line.partition("=> ")[2].partition(" (")[0].strip()
            if linked and not linked.startswith(str(base)) and not (root / linked.lstrip("/")).exists():
                target = root / linked.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(linked, target)
    _run("chroot", root, "ldconfig")


def _leave_out(library: Path) -> Callable[[str, list[str]], set[str]]:
    def ignored(folder: str, names: list[str]) -> set[str]:
        top = {"site-packages", "test", "idlelib", "tkinter"} if Path(folder) == library else set()
        return {name for name in names if name in top or name == "__pycache__"}

    return ignored


def _trust_what_this_machine_trusts(root: Path) -> None:
    """pip brings certificates of its own and knows no mirror: point it at this machine's."""
    shutil.copy2(Path("/") / _CERTIFICATES, root / _CERTIFICATES)
    lines = ["[global]", f"cert = /{_CERTIFICATES}"]
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    if configured.stdout.startswith("http"):
        lines.append(f"index-url = {configured.stdout.strip()}")
    (root / "etc/pip.conf").write_text("\n".join(lines) + "\n")


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(
            f"no stand-in image: {command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}"
        )


def _output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
