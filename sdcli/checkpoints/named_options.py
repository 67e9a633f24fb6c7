"""Named options: the files that --vae, --control, --embedding and others name, found in the user's folders."""

from __future__ import annotations

import os
from pathlib import Path

from sdcli.checkpoints import lookup
from sdcli.checkpoints.lookup import BY_HASH
from sdcli.request.file_options import SETTING
from sdcli.request.request import Request, flag

KINDS = {"control": "controls", "ip_adapter": "ip_adapters", "embedding": "embeddings"}
"""Field with a list of files, each with its settings behind it -> the kind of the files."""


def with_named_files(request: Request) -> Request:
    """The request with paths in the place of names: of a VAE, control networks, IP-Adapters and embeddings.

    A model that is named by its hash, or by a part of its name, is named by its path then, as a picture must record it.
    What is no name of a file stays, for whoever opens it to say so. Raises UsageError for a name that several have.
    """
    changes: dict[str, object] = {}
    if request.vae is not None:
        changes["vae"] = _path("vaes", "--vae", os.fspath(request.vae)) or request.vae
    for field, kind in KINDS.items():
        changes[field] = tuple(_with_path(kind, flag(field), text) for text in getattr(request, field))
    changes["model"] = _model(os.fspath(request.model))
    same = all(getattr(request, name) == value for name, value in changes.items())
    return request if same else request.replace(**changes)


def _model(name: str) -> str:
    """The name, or the path of a model for which it is not the whole name."""
    if name == "tiny" or name.startswith("test:") or os.path.exists(os.path.expanduser(name)):
        return name
    path = lookup.model_path(name)
    whole = path is None or (not name.startswith(BY_HASH) and Path(name).name in (path.name, path.stem))
    return name if whole else str(path)


def _with_path(kind: str, shown: str, text: str) -> str:
    name = SETTING.split(text)[0]
    path = _path(kind, f"{shown} {text}", name)
    return text if path is None else path + text[len(name) :]


def _path(kind: str, shown: str, name: str) -> str | None:
    """The path that a name stands for; None for a path that exists, and for what is the name of no file."""
    if os.path.exists(os.path.expanduser(name)):
        return None
    path = lookup.file_path(kind, shown, name)
    return str(path) if path else None
