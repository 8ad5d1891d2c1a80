"""Say which files a model is made of, and refuse to serve any other: `model.json` names every file with its digest.

A worker that scores with half of one model and half of another would be wrong without a sign of it, so everything is checked before the first line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from harkline.errors import ModelError
from harkline_workers.normalise import LEVELS, NORMALISER_VERSION

FORMAT = 1
MANIFEST_NAME = "model.json"


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file beside `model.json`."""

    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What `model.json` says. What is there for people only (`trained_on`) is read and not used."""

    format: int
    levels: tuple[str, ...]
    normaliser_version: str
    temperature: float  # logits are divided by it
    threshold: float  # lines whose P(error) + P(critical) is at least this are critical
    second_look_log_odds: float  # int8 scores nearer to the threshold than this are scored again in fp32
    line_tokens: int  # what is read of a line at most
    files: dict[str, ModelFile]
    trained_on: dict[str, object] = msgspec.field(default_factory=dict)

    @property
    def version(self) -> str:
        """A short digest of all that decides a verdict: the weights, the normaliser, the calibration. Names the model in verdicts and cache keys."""
        parts = [
            *(f"{name}={file.sha256}" for name, file in sorted(self.files.items())),
            *(
                self.normaliser_version,
                repr(self.temperature),
                repr(self.threshold),
                repr(self.second_look_log_odds),
                str(self.line_tokens),
            ),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def read_manifest(directory: Path) -> Manifest:
    """Read `model.json`. Raises ModelError where it is missing, malformed, or made for another normaliser or other levels than this program's."""
    from harkline_workers.packing import LINE_TOKENS  # noqa: PLC0415 - brings numpy, which Flower and a worker's parent do without

    path = directory / MANIFEST_NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ModelError(
            f"cannot read {path} ({error.strerror}); point the model folder's setting at one that holds {MANIFEST_NAME}"
        ) from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path} is no model manifest ({error}); export the model again") from error
    if manifest.format != FORMAT:
        raise ModelError(
            f"{path} has format {manifest.format}, this program reads {FORMAT}; use a model of this release"
        )
    if manifest.normaliser_version != NORMALISER_VERSION:
        raise ModelError(
            f"{path} was trained on text of normaliser {manifest.normaliser_version!r}, this program has"
            f" {NORMALISER_VERSION!r}; train again or use a model of this release"
        )
    if manifest.levels != LEVELS:
        raise ModelError(
            f"{path} predicts {', '.join(manifest.levels)}, this program reads {', '.join(LEVELS)}; map the labels when exporting"
        )
    for name in manifest.files:
        if Path(name).name != name:
            raise ModelError(f"{path} lists {name!r}, which is not a file beside it; export the model again")
    if not (manifest.temperature > 0 and 0 < manifest.threshold < 1 and manifest.second_look_log_odds >= 0):
        raise ModelError(
            f"{path}: temperature {manifest.temperature}, threshold {manifest.threshold}, second look"
            f" {manifest.second_look_log_odds}: above 0, inside 0..1, 0 or more is what they must be; calibrate again"
        )
    if manifest.line_tokens != LINE_TOKENS:
        raise ModelError(
            f"{path} reads {manifest.line_tokens} tokens of a line, this program {LINE_TOKENS}; export again"
        )
    return manifest


def check_files(directory: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """Compare files with their digests. Raises ModelError naming the first that is missing, not listed, or not the file that was exported."""
    for name in names:
        listed = manifest.files.get(name)
        if listed is None:
            raise ModelError(
                f"{directory / MANIFEST_NAME} lists no {name}, which this backend needs; export the model again"
            )
        try:
            with (directory / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelError(
                f"cannot read {directory / name} ({error.strerror}); restore the file from the release"
            ) from error
        if digest != listed.sha256:
            raise ModelError(
                f"{directory / name} has sha256 {digest[:12]}..., {MANIFEST_NAME} says {listed.sha256[:12]}...; restore the file from the release"
            )
