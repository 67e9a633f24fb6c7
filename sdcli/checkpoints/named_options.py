"""Named options: the files that --vae, --control, --embedding and others name, found in the user's folders."""

from __future__ import annotations

import os
from pathlib import Path

from sdcli.checkpoints import lookup
from sdcli.checkpoints.lookup import BY_HASH
from sdcli.home import expand_home
from sdcli.request.file_options import SETTING
from sdcli.request.request import Request, flag

KINDS = {"control": "controls", "ip_adapter": "ip_adapters", "embedding": "embeddings"}
"""Field with a list of files, each with its settings behind it -> the kind of the files."""

ENCODER = "encoder="
"""The setting of an IP-Adapter that names a file as well."""


def with_named_files(request: Request) -> Request:
    """The request with paths in the place of names: of a VAE, control networks, IP-Adapters and embeddings.

    A model that is named by its hash, or by a part of its name, is named by its path then, as a picture must record it.
    What is no name of a file stays, for whoever opens it to say so. Raises UsageError for a name that several have.
    """
    changes: dict[str, object] = {}
    if request.vae is not None:
        changes["vae"] = _path("vaes", f"--vae {request.vae}", os.fspath(request.vae)) or request.vae
    for field in KINDS:
        changes[field] = tuple(_with_path(field, text) for text in getattr(request, field))
    changes["model"] = _model(os.fspath(request.model))
    same = all(getattr(request, name) == value for name, value in changes.items())
    return request if same else request.replace(**changes)


def _model(name: str) -> str:
    """The name, or the path of a model for which it is not the whole name."""
    if name == "tiny" or name.startswith("test:") or os.path.exists(expand_home(name)):
        return name
    path = lookup.model_path(name)
    whole = path is None or (not name.startswith(BY_HASH) and Path(name).name in (path.name, path.stem))
    return name if whole else str(path)


def _with_path(field: str, text: str) -> str:
    """An option whose file, and image encoder, are named by their paths; raises UsageError for one typed wrong."""
    shown = f"{flag(field)} {text}"
    name, *settings = SETTING.split(text)
    path = _path(KINDS[field], shown, name)
    if path is None and not os.path.exists(expand_home(name)):
        from sdcli.request.respelled import check_spelling  # only an error needs it

        check_spelling(field, text)
    for i, setting in enumerate(settings):
        if setting.startswith(ENCODER):
            encoder = setting.removeprefix(ENCODER)
            settings[i] = ENCODER + (_path("image_encoders", shown, encoder) or encoder)
    return ":".join([path or name, *settings])


def _path(kind: str, shown: str, name: str) -> str | None:
    """The path that a name stands for; None for a path that exists, and for what is the name of no file."""
    if os.path.exists(expand_home(name)):
        return None
    path = lookup.file_path(kind, shown, name)
    return str(path) if path else None
