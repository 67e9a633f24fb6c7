"""Hub: models by repo id, fetched once through huggingface_hub into its own cache; safetensors only, and no more."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from sdcli.checkpoints import header, shards
from sdcli.checkpoints.component import config_of
from sdcli.errors import ModelError

REPO = re.compile(r"[\w.-]+/[\w.-]+")
NETWORKS = ("unet", "vae", "text_encoder", "text_encoder_2", "depth_estimator")
_INDEX, _SCHEDULER = "model_index.json", "scheduler/scheduler_config.json"

PATIENCE = 10.0  # seconds that the hub has for its first answer
_bars = ContextVar("bars", default=False)


@contextlib.contextmanager
def progress(shown: bool) -> Iterator[None]:
    """Within it a fetch shows the hub's own progress bars, or does not; without it, it does not."""
    before = _bars.set(shown)
    try:
        yield
    finally:
        _bars.reset(before)


def is_repo(name: str) -> bool:
    """Could this be a repo id: owner/name, and neither a path that exists nor one that is written as such?"""
    path = name.startswith(".") or name.lower().endswith((".safetensors", ".ckpt", ".pt", ".pth"))
    return REPO.fullmatch(name) is not None and not path and not os.path.exists(name)


def cached(repo: str, revision: str | None = None) -> Path | None:
    """The folder or file of a repo that was fetched before, without asking the network; None if it is not all there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        told = snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[])
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
        return None
    folder = Path(told)
    if _is_whole_folder(folder):
        return folder
    files = list(folder.glob("*.safetensors"))
    return files[0] if len(files) == 1 and _is_whole(files[0]) else None


def all_cached() -> Iterator[tuple[str, str | None, Path]]:
    """Every model in the hub's cache: its repo, its revision if that is not the default one, and where it lies."""
    from huggingface_hub.constants import HF_HUB_CACHE

    for folder in sorted(Path(HF_HUB_CACHE).glob("models--*--*")):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        refs = sorted(path for path in (folder / "refs").rglob("*") if path.is_file())
        names = [path.relative_to(folder / "refs").as_posix() for path in refs]
        hashes = sorted(path.name for path in (folder / "snapshots").glob("*"))
        seen = set()
        for revision in (None, *(name for name in names if name != "main"), *hashes):
            there = cached(repo, revision)
            if there is not None and there not in seen:
                seen.add(there)
                yield repo, revision, there


def fetch(repo: str, revision: str | None = None) -> Path:
    """Fetch what a model needs of a repo, and again what lies here but not whole; returns its folder or single file.

    Raises ModelError for a repo that is missing, gated or without safetensors, and where the network is not there.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    _hush()
    at = f"{repo}@{revision}" if revision else repo
    try:
        told = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=PATIENCE)
        sizes = {file.rfilename: file.size for file in told.siblings or []}
        needed = _needed(at, list(sizes))
        patterns = [glob.escape(name) for name in needed]
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
        spoilt = [glob.escape(name) for name in needed if not _arrived(folder / name, sizes[name])]
        if spoilt:
            snapshot_download(repo, revision=revision, allow_patterns=spoilt, force_download=True)
        return folder if "unet/config.json" in needed else folder / needed[0]
    except GatedRepoError:
        raise ModelError(
            f"{at}: the repo is gated; accept its terms on the hub and run `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise ModelError(
            f"{at}: the repo has no such revision; leave out --revision for the newest"
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"{at}: no such folder or file here, and no such repo on the hub; if it is private, run `hf auth login`"
        ) from None
    except HFValidationError as error:
        raise ModelError(f"{at}: no repo id ({_line(error)}); write owner/name") from None
    except HfHubHTTPError as error:
        refused = error.response is not None and error.response.status_code in (401, 403)
        advice = "run `hf auth login`" if refused else "try again"
        raise ModelError(f"{at}: the hub answered with an error ({_line(error)}); {advice}") from None
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HTTPError) as error:
        reason = "HF_HUB_OFFLINE is set" if isinstance(error, OfflineModeIsEnabled) else _line(error)
        raise ModelError(
            f"{at}: not here, or not whole, and the hub is out of reach ({reason}); "
            "name a local file or folder, or try again with a network"
        ) from None
    except OSError as error:
        raise ModelError(
            f"{at}: could not be fetched ({_line(error)}); what is whole was kept, try again"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{at}: what answers in the hub's place is no hub ({_line(error)}); "
            "log in to the network, or see HF_ENDPOINT"
        ) from None


def _hush() -> None:
    """The hub's retries are not told, and its bars are only where they were asked for."""
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    (enable_progress_bars if _bars.get() else disable_progress_bars)()


def _line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[Errno -?\d+\] ", "", line)[:80]


def _needed(repo: str, listed: list[str]) -> list[str]:
    """Of a repo's files, those of the diffusers folder; else its one safetensors file."""
    single = [name for name in listed if name.endswith(".safetensors") and "/" not in name]
    if "unet/config.json" in listed:
        networks = [part for part in NETWORKS if f"{part}/config.json" in listed]
        weights = {part: shards.needed(_inside(part, listed), part) for part in networks}
        if all(weights.values()):
            configs = [_INDEX, _SCHEDULER, *(f"{part}/config.json" for part in networks)]
            tensors = [f"{part}/{name}" for part, own in weights.items() for name in own]
            return [name for name in configs if name in listed] + tensors
        if len(single) != 1:
            part = next(part for part, found in weights.items() if not found)
            raise ModelError(f"{repo}: {_why_no_weights(part, listed)}")
    if len(single) == 1:
        return single
    if not single:
        raise ModelError(
            f"{repo}: no diffusers folder and no safetensors file in the repo; only safetensors is read"
        )
    shown = ", ".join(single[:3])
    raise ModelError(f"{repo}: {len(single)} safetensors files ({shown}, …); fetch one and name it with -m")


def _inside(part: str, listed: list[str]) -> list[str]:
    return [name.rpartition("/")[2] for name in listed if name.rpartition("/")[0] == part]


def _why_no_weights(part: str, listed: list[str]) -> str:
    own = _inside(part, listed)
    if any("-of-" in name and name.endswith(".safetensors") for name in own):
        return f"some of the several files of its {part} are not in the repo; get another copy of the model"
    if any(name.endswith(".bin") for name in own):
        return f"its {part} is only a pickle (.bin), which can run code, and is never read; get safetensors"
    return f"no safetensors file of its {part} in the repo; get another copy of the model"


def _arrived(path: Path, size: int | None) -> bool:
    return path.is_file() and size in (None, path.stat().st_size)


def _is_whole_folder(folder: Path) -> bool:
    """Is every part here that its index names, or without one, that every diffusers folder has?"""
    try:
        index = config_of(folder / _INDEX) if (folder / _INDEX).exists() else {}
    except ModelError:
        return False
    named = [part for part, classes in index.items() if isinstance(classes, list) and any(classes)]
    there = [part for part in NETWORKS if (folder / part).is_dir()]
    parts = named or ["unet", "vae", "text_encoder", "scheduler", *there]
    networks = {"unet", "vae", *parts}.intersection(NETWORKS)
    configs = [folder / part / "config.json" for part in networks]
    configs += [folder / _SCHEDULER] if "scheduler" in parts else []
    try:
        for path in configs:
            config_of(path)
        for part in networks:
            shards.read(folder / part, part)
    except ModelError:
        return False
    return True


def _is_whole(path: Path) -> bool:
    """Can this file be read to its end, as far as its header tells?"""
    try:
        return header.read(path) is not None
    except ModelError:
        return False
