"""Where one worker process gets its model from, again and again: what the settings choose, what it looks like from outside, and how to load it."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from harkline.errors import ModelError
from harkline_workers import store
from harkline_workers.checkpoint import CONFIG_NAME, CheckpointRefused, examine, is_checkpoint
from harkline_workers.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from harkline.settings import Settings
    from harkline_workers.model import Model

# (path, inode, bytes, changed at in ns) of each file: whoever replaces a model changes one of these, and reading them costs some 50 us.
Fingerprint = tuple[tuple[str, int, int, int], ...]


class ModelSource:
    """The model that the settings choose. Built in the worker's parent, used in its children."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._downloaded: Path | None = None

    def prepare(self) -> None:
        """Fetch and examine what could not serve later either. Called in the parent before the pool exists; may block for a download.

        Raises CheckpointRefused for a checkpoint whose labels mean nothing here, that cannot be had from its hub, or that nothing here can run.
        A folder that is missing or damaged is no reason not to start: rules judge until it is whole.
        """
        settings = self._settings
        try:
            folder = self._folder()
        except CheckpointRefused:
            raise
        except ModelError as error:
            raise CheckpointRefused(str(error)) from error
        if is_checkpoint(folder):
            missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
            if missing:
                raise CheckpointRefused(
                    f"{folder} is a Hugging Face checkpoint, and {' and '.join(missing)} to run it with is not installed: pip install 'harkline[train]'"
                )
            try:
                examine(folder, settings.label_words)
            except CheckpointRefused:
                raise
            except ModelError:
                return
        elif (settings.model_labels or settings.model_threshold) and (folder / MANIFEST_NAME).is_file():
            raise CheckpointRefused(
                f"HARKLINE_MODEL_LABELS and HARKLINE_MODEL_THRESHOLD are for Hugging Face checkpoints, and {folder} is a model of harkline's own, which"
                " carries both: unset them (`harkline calibrate` sets its threshold)"
            )

    def fingerprint(self) -> Fingerprint:
        """Return what changes when the model does. Never raises: a folder that cannot be read looks like an empty one."""
        try:
            folder = self._folder()
            with os.scandir(folder) as entries:
                files = [(entry.path, entry.stat()) for entry in entries if entry.is_file()]
        except (OSError, ModelError):
            return ()
        return tuple(sorted((path, stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in files))

    def load(self) -> Model:
        """Load the model of this moment; seconds. Raises ModelError, or whatever its runtime raises."""
        from harkline_workers.model import load_model  # noqa: PLC0415 - brings numpy and a runtime: children only

        settings = self._settings
        folder = self._folder()
        if is_checkpoint(folder):
            return load_model(
                folder, settings.backend, settings.model_threads, settings.label_words, settings.model_threshold
            )
        if (settings.model or settings.model_dir) and not (folder / MANIFEST_NAME).exists():
            raise ModelError(
                f"{folder} holds neither {MANIFEST_NAME} (a model of harkline's own) nor {CONFIG_NAME} (a Hugging Face checkpoint): point HARKLINE_MODEL"
                " or HARKLINE_MODEL_DIR at a model's folder"
            )
        return load_model(folder, settings.backend, settings.model_threads)

    def load_shipped(self) -> Model | None:
        """Load the shipped weights where an installed model was to serve; None where it was they, or the settings want another by name."""
        settings = self._settings
        if settings.model or settings.model_dir or store.resolve(settings) == store.SHIPPED_MODEL_DIR:
            return None
        from harkline_workers.model import load_model  # noqa: PLC0415 - brings numpy and a runtime: children only

        return load_model(store.SHIPPED_MODEL_DIR, settings.backend, settings.model_threads)

    def _folder(self) -> Path:
        if self._downloaded is not None:
            return self._downloaded
        folder = store.resolve(self._settings)
        if store.hub_id(self._settings) is not None:
            # Only once: looking at a hub again would be neither cheap nor free of surprises.
            self._downloaded = folder
        return folder


def load_chosen(settings: Settings) -> Model:
    """Load the model that these settings choose, as a worker would; for programs that classify without one. Raises ModelError."""
    source = ModelSource(settings)
    source.prepare()
    return source.load()
