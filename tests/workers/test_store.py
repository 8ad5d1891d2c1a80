"""The store: what is installed is whole, what is chosen is one link, and nobody ever reads half of either."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harkline.errors import ModelError
from harkline.settings import Settings, process_environment
from harkline_workers import store
from harkline_workers.manifest import check_files, read_manifest
from tests.workers.models import make_model, write_manifest


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings on a data folder of the test's own; the store needs no Redis."""
    return Settings(data_dir=tmp_path / "data")


def replace(path: Path, content: bytes) -> None:
    """Give a name another file, leaving the one that it was linked to as it is."""
    path.unlink()
    path.write_bytes(content)


def models(settings: Settings) -> list[str]:
    """Return the names of the versions on the disk."""
    return sorted(path.name for path in (settings.data_dir / "models").iterdir() if not path.name.startswith("."))


def test_the_shipped_model_serves_until_another_is_installed(settings: Settings, tmp_path: Path) -> None:
    """An empty data folder means the shipped weights; an installed model takes their place under its version; reset goes back."""
    assert store.resolve(settings) == store.SHIPPED_MODEL_DIR
    version = make_model(tmp_path / "new", threshold=0.61)
    home = store.install(settings, tmp_path / "new")
    assert store.resolve(settings) == home == (settings.data_dir / "models" / version).resolve()
    assert read_manifest(home).threshold == 0.61
    store.reset(settings)
    assert store.resolve(settings) == store.SHIPPED_MODEL_DIR
    assert [model.version for model in store.installed(settings)] == [version]


def test_a_folder_that_the_settings_name_wins(settings: Settings, tmp_path: Path) -> None:
    """HARKLINE_MODEL and HARKLINE_MODEL_DIR come before what is installed, also where the folder is not there yet."""
    make_model(tmp_path / "new", threshold=0.61)
    store.install(settings, tmp_path / "new")
    mine = tmp_path / "mine"
    assert store.resolve(settings.model_copy(update={"model_dir": mine})) == mine
    assert store.resolve(settings.model_copy(update={"model": str(mine)})) == mine


def test_what_happens_to_the_folder_later_reaches_nobody(settings: Settings, tmp_path: Path) -> None:
    """The store has copies of its own: a training run that writes into its folder again does not touch a serving model."""
    make_model(tmp_path / "new", threshold=0.61)
    (tmp_path / "new" / "config.json").unlink()
    (tmp_path / "new" / "config.json").write_bytes((store.SHIPPED_MODEL_DIR / "config.json").read_bytes())
    home = store.install(settings, tmp_path / "new")
    (tmp_path / "new" / "config.json").write_text("{}")
    check_files(home, read_manifest(home), read_manifest(home).files)


def test_a_model_that_is_not_whole_is_refused_and_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    """A file that is not the one its manifest names: an error with its name, and the model before stays current."""
    make_model(tmp_path / "good", threshold=0.61)
    home = store.install(settings, tmp_path / "good")
    make_model(tmp_path / "bad", threshold=0.62)
    replace(tmp_path / "bad" / "config.json", b"{}")
    with pytest.raises(ModelError, match=r"config\.json has sha256"):
        store.install(settings, tmp_path / "bad")
    assert store.resolve(settings) == home
    assert models(settings) == sorted(["current", home.name])


def test_a_model_that_cannot_score_is_refused(settings: Settings, tmp_path: Path) -> None:
    """Digests prove that files are the exported ones, not that they are a model: it is loaded once before it is installed."""
    junk = b"no graph at all"
    make_model(tmp_path / "bad")
    replace(tmp_path / "bad" / "model.int8.onnx", junk)
    manifest = json.loads((tmp_path / "bad" / "model.json").read_text())
    files = manifest["files"] | {
        "model.int8.onnx": {"sha256": hashlib.sha256(junk).hexdigest(), "bytes": len(junk)},
    }
    write_manifest(tmp_path / "bad", files=files)
    with pytest.raises(ModelError, match=r"cannot load .*model\.int8\.onnx"):
        store.install(settings, tmp_path / "bad")
    assert store.resolve(settings) == store.SHIPPED_MODEL_DIR


def test_a_manifest_cannot_name_files_elsewhere(settings: Settings, tmp_path: Path) -> None:
    """A downloaded model must not make us read or write outside its folder."""
    make_model(tmp_path / "bad")
    files = json.loads((tmp_path / "bad" / "model.json").read_text())["files"]
    write_manifest(tmp_path / "bad", files=files | {"../../evil": {"sha256": "0", "bytes": 1}})
    with pytest.raises(ModelError, match=r"'\.\./\.\./evil', which is not a file beside it"):
        store.install(settings, tmp_path / "bad")


def test_former_models_are_kept_up_to_a_bound(settings: Settings, tmp_path: Path) -> None:
    """The current one and the last three before it stay, so that one can go back; older ones go."""
    versions = []
    for at in range(5):
        versions.append(make_model(tmp_path / str(at), threshold=0.5 + at / 100))
        store.install(settings, tmp_path / str(at))
    assert [model.version for model in store.installed(settings)] == versions[:0:-1]
    assert store.use(settings, versions[2][:6]).name == versions[2]
    assert store.resolve(settings).name == versions[2]
    assert [model.version for model in store.installed(settings) if model.is_current] == [versions[2]]


def test_a_version_that_is_not_there_or_damaged_cannot_be_chosen(settings: Settings, tmp_path: Path) -> None:
    """The message names what is installed; a damaged one is refused before workers see it, and mended by installing it again."""
    version = make_model(tmp_path / "new", threshold=0.61)
    home = store.install(settings, tmp_path / "new")
    for wrong in ("ffffffff", ""):
        with pytest.raises(ModelError, match=f"is not installed; installed are {version}"):
            store.use(settings, wrong)
    replace(home / "tokenizer.json", b"{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json has sha256"):
        store.use(settings, version)
    store.install(settings, tmp_path / "new")
    assert store.use(settings, version) == home
    assert models(settings) == [version, "current"] if version < "current" else ["current", version]


def test_a_reader_never_meets_half_a_model(settings: Settings, tmp_path: Path) -> None:
    """While two models are installed in turn, whoever resolves and reads finds one or the other, whole."""
    for at in range(2):
        make_model(tmp_path / str(at), threshold=0.6 + at / 10)
        store.install(settings, tmp_path / str(at))
    done = threading.Event()
    wrong: list[str] = []
    read = 0

    def keep_reading() -> None:
        nonlocal read
        while not done.is_set():
            folder = store.resolve(settings)
            try:
                manifest = read_manifest(folder)
                check_files(folder, manifest, ("config.json", "tokenizer.json"))
            except ModelError as error:
                wrong.append(str(error))
            if folder == store.SHIPPED_MODEL_DIR:
                wrong.append("no link")
            read += 1

    reader = threading.Thread(target=keep_reading)
    reader.start()
    for at in range(24):
        folder = tmp_path / str(at % 2)
        if at % 12:
            store.use(settings, read_manifest(folder).version)
        else:
            store.install(settings, folder)
    done.set()
    reader.join()
    assert wrong == []
    assert read > 10


def harkline_model(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as `harkline model` does."""
    environment = process_environment(HARKLINE_DATA_DIR=str(settings.data_dir), COLUMNS="200")
    return subprocess.run(
        [sys.executable, "-m", "harkline_workers.commands.model", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_lists_chooses_and_goes_back(settings: Settings, tmp_path: Path) -> None:
    """`harkline model list` marks what serves; `use` and `reset` change it; a wrong version is one sentence and status 1."""
    version = make_model(tmp_path / "new", threshold=0.61)
    store.install(settings, tmp_path / "new")
    store.reset(settings)

    def marked() -> str:
        [line] = [line for line in harkline_model(settings, "list").stdout.splitlines() if line.startswith("*")]
        return line

    assert "ships with harkline" in marked()
    assert harkline_model(settings, "use", version[:5]).returncode == 0
    assert version in marked()
    assert "0.61" in marked()
    assert harkline_model(settings, "reset").returncode == 0
    assert "ships with harkline" in marked()
    refused = harkline_model(settings, "use", "nonesuch")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "'nonesuch' is not installed" in refused.stderr


def test_the_list_says_what_was_done_to_a_model(settings: Settings, tmp_path: Path) -> None:
    """Who taught it, or calibrated it, finds that in its line; text from a manifest is no markup."""
    facts = {"templates": 9, "taught": [{"labels": 215}, {"labels": 40}], "calibrated": {"at": "2026-11-22T[red]"}}
    make_model(tmp_path / "new", trained_on=facts)
    store.install(settings, tmp_path / "new")
    listed = harkline_model(settings, "list").stdout
    assert "9 templates, taught 215 + 40 labels, calibrated 2026-11-22" in listed
    assert "Usage: harkline model " in harkline_model(settings, "use", "--help").stdout
