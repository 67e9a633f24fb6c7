"""Hub: models by repo id, fetched once through huggingface_hub into its own cache; only the files that are needed."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

from sdcli.checkpoints import shards, tokenizer_folder
from sdcli.checkpoints.component import PARTS, read_config
from sdcli.checkpoints.header import ReadHeader
from sdcli.errors import ModelError

REPO = re.compile(r"[\w.-]+/[\w.-]+")
MODEL_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth")
_INDEX, _SCHEDULER = "model_index.json", "scheduler/scheduler_config.json"
_UNET_CONFIG = "unet/config.json"
"""The file by which a repo is known as a diffusers folder."""

TIMEOUT = 10.0  # seconds for the hub's first answer
_progress_bars: ContextVar[bool] = ContextVar("progress_bars", default=False)


@contextlib.contextmanager
def progress(shown: bool) -> Iterator[None]:
    """Inside, `fetch` shows the hub's own progress bars if `shown` is true; outside, it shows none."""
    token = _progress_bars.set(shown)
    try:
        yield
    finally:
        _progress_bars.reset(token)


def is_repo(name: str) -> bool:
    """True if `name` can be a repo id: owner/name, and neither a path that exists nor written like one."""
    like_a_path = name.startswith(".") or name.lower().endswith(MODEL_SUFFIXES)
    return REPO.fullmatch(name) is not None and not like_a_path and not os.path.exists(name)


# --- the hub's cache on this machine


def cached(repo: str, revision: str | None, read_header: ReadHeader) -> Path | None:
    """The folder or file of a repo that was fetched before; None if it is not there or not complete.

    The network is not used.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not _has_cache():
        return None
    try:
        snapshot = snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[])
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
        return None
    return _complete_model(Path(snapshot), read_header)


def cached_names() -> list[str]:
    """The names of the repos in the hub's cache, whatever they hold; neither the hub's library nor a file is opened."""
    return [folder.name.removeprefix("models--").replace("--", "/", 1) for folder in _cached_repos()]


def all_cached(read_header: ReadHeader) -> Iterator[tuple[str, str | None, Path]]:
    """(repo, revision, path) of every complete model in the hub's cache; revision None is the default one."""
    if not _cached_repos():  # which is told before the hub's library, which takes 0.1 seconds, is imported
        return

    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    if not _has_cache():
        return

    try:
        repos = scan_cache_dir().repos
    except (CacheNotFound, OSError):
        return
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        if repo.repo_type != "model" or not REPO.fullmatch(repo.repo_id):
            continue
        revisions = [(_revision_name(found.refs, found.commit_hash), found) for found in repo.revisions]
        for name, found in sorted(revisions, key=lambda pair: pair[0] or ""):
            path = _complete_model(found.snapshot_path, read_header)
            if path is not None:
                yield repo.repo_id, name, path


def _revision_name(refs: frozenset[str], commit_hash: str) -> str | None:
    """None for the default branch, else the first branch or tag, else the commit."""
    return None if "main" in refs else min(refs, default=commit_hash)


def _complete_model(snapshot: Path, read_header: ReadHeader) -> Path | None:
    """The diffusers folder or single file in a snapshot of a repo; None if it is not complete."""
    if _is_complete_folder(snapshot, read_header):
        return snapshot
    files = list(snapshot.glob("*.safetensors"))
    try:
        return files[0] if len(files) == 1 and read_header(files[0]) else None
    except ModelError:
        return None


def _is_complete_folder(folder: Path, read_header: ReadHeader) -> bool:
    """True if every component is there, with its config and all its weights."""
    try:
        parts = _expected_parts(folder)
        configs = [f"{part}/config.json" for part in PARTS if part in parts]
        configs += [_SCHEDULER] if "scheduler" in parts else []
        for name in configs:
            read_config(folder / name)
        for part in PARTS:
            if part in parts:
                shards.read(folder / part, part, read_header)
    except ModelError:
        return False
    return True


def _expected_parts(folder: Path) -> set[str]:
    """The parts that model_index.json lists; without one, those of every diffusers folder and those that are there."""
    index = read_config(folder / _INDEX) if (folder / _INDEX).exists() else {}
    listed = {part for part, classes in index.items() if isinstance(classes, list) and any(classes)}
    present = {part for part in PARTS if (folder / part).is_dir()}
    return {"unet", "vae"} | (listed or {"text_encoder", "scheduler"} | present)


# --- fetching


def fetch(repo: str, revision: str | None = None) -> Path:
    """Fetch what a model needs of a repo, anew where a file here is not complete; returns its folder or single file.

    Raises ModelError if the repo is missing, gated or without safetensors, or if the hub cannot be reached.
    """
    name = f"{repo}@{revision}" if revision else repo
    return _fetched(name, lambda: _fetch(repo, revision, name))


def fetch_file(repo: str, file: str, revision: str | None = None) -> Path:
    """Fetch one safetensors file of a repo, from where an earlier try broke off; returns its path in the cache.

    Raises ModelError as `fetch`, and for a file that is not in the repo or that is no safetensors file.
    """
    from huggingface_hub import hf_hub_download

    if not file.lower().endswith(".safetensors"):
        raise ModelError(
            f"{repo}:{file}: only .safetensors is fetched; a pickle that you have, `sd models convert` converts"
        )
    return _fetched(
        f"{repo}:{file}", lambda: Path(hf_hub_download(repo, file, revision=revision, etag_timeout=TIMEOUT))
    )


def _fetched(name: str, fetch: Callable[[], Path]) -> Path:
    """What `fetch` returns; raises ModelError with the reason if it cannot be fetched. `name` is for that."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    _silence_hub()
    if not _has_cache():
        raise ModelError(f"{name}: this user has no home folder to fetch it into; set HF_HOME to a folder")
    try:
        return fetch()
    except (HTTPError, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{name}: {_why_not_fetched(error)}") from None


def _fetch(repo: str, revision: str | None, name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT)
    sizes = {file.rfilename: file.size for file in info.siblings or []}
    needed = _needed(name, list(sizes))
    patterns = [glob.escape(file) for file in needed]
    folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    damaged = [glob.escape(file) for file in needed if not _has_size(folder / file, sizes[file])]
    if damaged:
        snapshot_download(repo, revision=revision, allow_patterns=damaged, force_download=True)
    return folder if _UNET_CONFIG in needed else folder / needed[0]


def _cached_repos() -> list[Path]:
    """The folders of models in the hub's cache, whatever they hold."""
    folder = _cache_folder()
    return sorted(folder.glob("models--*--*")) if os.path.isdir(folder) else []


def _cache_folder() -> Path:
    """The folder of the hub's cache; its library, which looks it up alike, is not imported."""
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(user, "huggingface")
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(os.path.expandvars(os.path.expanduser(named or os.path.join(home, "hub"))))


def _has_cache() -> bool:
    """True if the hub's cache has a place: not for a user without a home folder, as some containers have."""
    from huggingface_hub import constants

    return not constants.HF_HUB_CACHE.startswith("~")


def _has_size(path: Path, size: int | None) -> bool:
    return path.is_file() and size in (None, path.stat().st_size)


def _silence_hub() -> None:
    """Log no retries, and show progress bars only inside `progress(True)`."""
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    (enable_progress_bars if _progress_bars.get() else disable_progress_bars)()


def _why_not_fetched(error: Exception) -> str:
    """The reason and the next step for an error of huggingface_hub."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    line = _first_line(error)
    match error:  # from the narrowest class to the widest, for they are each other's subclasses
        case GatedRepoError():
            return "the repo is gated; accept its terms on the hub and run `hf auth login`"
        case RevisionNotFoundError():
            return "the repo has no such revision; leave out --revision for the newest"
        case RepositoryNotFoundError():
            return "no such folder or file here, and no such repo on the hub; if it is private, run `hf auth login`"
        case EntryNotFoundError() if not isinstance(error, LocalEntryNotFoundError):
            return "the repo has no such file; look at its list of files on the hub"
        case HFValidationError():
            return f"no repo id ({line}); write owner/name"
        case HfHubHTTPError():
            refused = error.response is not None and error.response.status_code in (401, 403)
            next_step = "run `hf auth login`" if refused else "try again"
            return f"the hub answered with an error ({line}); {next_step}"
        case OfflineModeIsEnabled() | LocalEntryNotFoundError() | HTTPError():
            reason = "HF_HUB_OFFLINE is set" if isinstance(error, OfflineModeIsEnabled) else line
            return (
                f"not here, or not whole, and the hub is out of reach ({reason}); "
                "name a local file or folder, or try again with a network"
            )
        case OSError():
            return f"could not be fetched ({line}); what is whole was kept, try again"
    return f"what answers in the hub's place is no hub ({line}); log in to the network, or see HF_ENDPOINT"


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[Errno -?\d+\] ", "", line)[:80]


# --- which of a repo's files are needed


def _needed(repo: str, files: list[str]) -> list[str]:
    """Of a repo's files, those of the diffusers folder, or else its one safetensors file; raises ModelError."""
    singles = [name for name in files if name.endswith(".safetensors") and "/" not in name]
    if _UNET_CONFIG in files:
        weights = _weights(files)
        if all(weights.values()):
            return _folder_files(files, weights)
        if len(singles) != 1:
            part = next(part for part, names in weights.items() if not names)
            raise ModelError(f"{repo}: {_why_no_weights(part, files)}")
    if len(singles) == 1:
        return singles
    if not singles:
        raise ModelError(
            f"{repo}: no diffusers folder and no safetensors file in the repo; only safetensors is read"
        )
    shown = ", ".join(singles[:3])
    raise ModelError(
        f"{repo}: {len(singles)} safetensors files ({shown}, …); `sd models pull {repo}:FILE` fetches one, "
        "and -m takes its path"
    )


def _weights(files: list[str]) -> dict[str, list[str]]:
    """Component -> the names, in its folder, of the files with its weights; none if they are not all there."""
    parts = [part for part in PARTS if f"{part}/config.json" in files]
    return {part: shards.needed(_names_in(part, files), part) for part in parts}


def _folder_files(files: list[str], weights: dict[str, list[str]]) -> list[str]:
    """The configs, the tokenizers and the weights of a diffusers folder."""
    configs = [_INDEX, _SCHEDULER, *(f"{part}/config.json" for part in weights)]
    for part in weights:
        if part.startswith("text_encoder"):
            folder = part.replace("text_encoder", "tokenizer")
            configs += [f"{folder}/{name}" for name in tokenizer_folder.FILES]
    return [name for name in configs if name in files] + [
        f"{part}/{name}" for part, names in weights.items() for name in names
    ]


def _names_in(folder: str, files: list[str]) -> list[str]:
    return [name.rpartition("/")[2] for name in files if name.rpartition("/")[0] == folder]


def _why_no_weights(part: str, files: list[str]) -> str:
    names = _names_in(part, files)
    if any("-of-" in name and name.endswith(".safetensors") for name in names):
        return f"some of the several files of its {part} are not in the repo; get another copy of the model"
    if any(name.endswith(".bin") for name in names):
        return f"its {part} is only a pickle (.bin), which can run code, and is never read; get safetensors"
    return f"no safetensors file of its {part} in the repo; get another copy of the model"
