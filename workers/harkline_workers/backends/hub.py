"""Fetch a checkpoint from the Hugging Face hub, once: what is on the disk is used without asking anyone, so that a restart needs no network.

`HF_TOKEN`, `HF_HOME`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` are the hub client's own settings, read by it.
"""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
from huggingface_hub import errors

from harkline_workers.checkpoint import CONFIG_NAME, CheckpointRefused

# Never a pickle, never code; of repositories that hold a model in several formats only the one that is read.
_WANTED = [
    "config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
]
_IN_FOLDERS = ["*/*"]


def snapshot(name: str, revision: str, cache_dir: Path) -> Path:
    """Return the local folder of a hub's checkpoint: from `cache_dir`, else from the user's own hub cache, else downloaded into `cache_dir`.

    A branch or tag is looked up at the first time only. Raises CheckpointRefused where it cannot be had.
    """
    for cache in (cache_dir, None):
        try:
            found = Path(_fetch(name, revision, cache, local_files_only=True))
        except (errors.LocalEntryNotFoundError, ValueError):
            continue
        if _is_whole(found):
            return found
    try:
        found = Path(_fetch(name, revision, cache_dir, local_files_only=False))
        if _is_whole(found):
            return found
        reason = "has no model.safetensors (pickled weights are never loaded, since reading them can run any code)"
    except errors.LocalEntryNotFoundError as error:
        why = str(error.__cause__ or error).splitlines()[0]
        reason = f"is not on this machine, and the hub cannot be reached ({why})"
    except errors.GatedRepoError:
        reason = "is gated: ask for access on its page, and give the token in HF_TOKEN"
    except errors.RepositoryNotFoundError:
        reason = "is not on the hub, or private: check the spelling, or give a token in HF_TOKEN"
    except errors.RevisionNotFoundError:
        reason = f"has no revision {revision!r}"
    except Exception as error:  # noqa: BLE001 - the client has many errors of its own and no common base
        reason = f"cannot be downloaded ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    raise CheckpointRefused(f"the checkpoint {name} {reason}; HARKLINE_MODEL may name a local folder instead")


def _is_whole(folder: Path) -> bool:
    """Tell whether a folder holds what can be served; an interrupted download leaves one too."""
    return (folder / CONFIG_NAME).is_file() and any(folder.glob("model*.safetensors"))


def _fetch(name: str, revision: str, cache_dir: Path | None, *, local_files_only: bool) -> str:
    return huggingface_hub.snapshot_download(
        name,
        revision=revision or None,
        cache_dir=cache_dir,
        allow_patterns=_WANTED,
        ignore_patterns=_IN_FOLDERS,
        local_files_only=local_files_only,
    )
