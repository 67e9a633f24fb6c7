"""Hub: models by repo id, fetched once through huggingface_hub into its own cache; safetensors only, and no more."""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path

from sdcli.errors import ModelError

REPO = re.compile(r"[\w.-]+/[\w.-]+")
_WANTED = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "unet/*",
    "vae/*",
    "text_encoder/*",
    "text_encoder_2/*",
    "depth_estimator/*",
)


def is_repo(name: str) -> bool:
    """Could this be a repo id: owner/name, and neither a path that exists nor one that is written as such?"""
    return REPO.fullmatch(name) is not None and not name.startswith(".") and not os.path.exists(name)


def cached(repo: str, revision: str | None = None) -> Path | None:
    """The folder or file of a repo that was fetched before, without asking the network; None if it was not."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        told = snapshot_download(
            repo, revision=revision, local_files_only=True, allow_patterns=["unet/config.json"]
        )
        return _model(repo, Path(told))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, ModelError, OSError):
        return None


def fetch(repo: str, revision: str | None = None) -> Path:
    """Fetch what a model needs of a repo, with the hub's own progress bars; returns its folder or its single file.

    Raises ModelError for a repo that is missing, gated or without safetensors, and where the network is not there.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f"{repo}@{revision}" if revision else repo
    try:
        listed = HfApi().list_repo_files(repo, revision=revision)
        return _model(
            repo, Path(snapshot_download(repo, revision=revision, allow_patterns=_needed(repo, listed)))
        )
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
            f"{at}: no such folder or file here, and no such repo on the hub (or it is private)"
        ) from None
    except (OfflineModeIsEnabled, LocalEntryNotFoundError):
        raise ModelError(
            f"{at}: not fetched yet, and the hub is out of reach; name a local file or folder"
        ) from None
    except HFValidationError as error:
        raise ModelError(f"{at}: no repo id ({str(error).splitlines()[0][:80]}); write owner/name") from None
    except HfHubHTTPError as error:
        raise ModelError(
            f"{at}: the hub answered with an error ({str(error).splitlines()[0][:80]}); try again"
        ) from None
    except OSError as error:
        reason = (str(error).splitlines() or ["no reason given"])[0][:80]
        raise ModelError(
            f"{at}: could not be fetched ({reason}); what is whole was kept, try again"
        ) from None


def _needed(repo: str, listed: list[str]) -> list[str]:
    """Of a repo's files, those of the diffusers folder; else its one safetensors file."""
    if "unet/config.json" in listed:
        wanted = [name for name in listed if any(fnmatch.fnmatch(name, pattern) for pattern in _WANTED)]
        kept = [name for name in wanted if name.endswith(".json") and not name.endswith(".index.json")]
        for part in sorted({name.split("/")[0] for name in wanted if name.endswith(".safetensors")}):
            kept += _weights([name for name in wanted if name.startswith(part + "/")])
        return kept
    single = [name for name in listed if name.endswith(".safetensors") and "/" not in name]
    if len(single) == 1:
        return single
    if not single:
        raise ModelError(
            f"{repo}: no diffusers folder and no safetensors file in the repo; only safetensors is read"
        )
    shown = ", ".join(single[:3])
    raise ModelError(f"{repo}: {len(single)} safetensors files ({shown}, …); fetch one and name it with -m")


def _weights(names: list[str]) -> list[str]:
    """The one file of weights a part needs: the plain one, or the half-precision one where there is no other."""
    weights = [name for name in names if name.endswith("model.safetensors")]
    return weights or [name for name in names if name.endswith("model.fp16.safetensors")]


def _model(repo: str, folder: Path) -> Path:
    parts = [path for path in folder.glob("*/config.json") if path.parent.name != "tokenizer"]
    if (folder / "unet") in [path.parent for path in parts] and all(
        any(p.parent.glob("*.safetensors")) for p in parts
    ):
        return folder
    files = list(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise ModelError(f"{repo}: only a part of it was fetched; run `sd models pull {repo}`")
    return files[0]
