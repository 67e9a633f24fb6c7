"""Lists: what there is to choose from, as A1111's clients ask for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdcli import registry, settings
from sdcli.errors import ModelError
from sdcli.request.labels import TOOLS
from sdcli.request.prompt.styles import read_styles
from sdcli.serve.a1111.settings import sha256_of, title_of
from sdcli.serve.names import Served, listed


def models(served: Served) -> list[dict[str, Any]]:
    """The models that are served."""
    return [
        {
            "title": title_of(model),
            "model_name": model.name,
            "hash": sha256_of(model)[:10],
            "sha256": sha256_of(model),
            "filename": model.name,
            "config": None,
        }
        for model in served.models.values()
    ]


def samplers() -> list[dict[str, Any]]:
    """The samplers by A1111's labels; those that it has not, by our names."""
    named = _first_labels(TOOLS["a1111"].samplers)
    own = {name: name for name in registry.names("samplers") if name not in named}
    return [{"name": label, "aliases": [ours], "options": {}} for ours, label in {**named, **own}.items()]


def schedulers() -> list[dict[str, Any]]:
    """The schedules by A1111's labels; those that it has not, by our names."""
    named = _first_labels(TOOLS["a1111"].schedules)
    own = {name: name for name in registry.names("schedules") if name not in named}
    more = {"aliases": None, "default_rho": -1.0, "need_inner_model": False}
    found = {"automatic": "Automatic", **named, **own}
    return [{"name": ours, "label": label, **more} for ours, label in found.items()]


def _first_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Ours -> the first label for it."""
    return {ours: label for label, ours in reversed(list(labels.items()))}


def upscalers() -> list[dict[str, Any]]:
    """The filters, and the upscaler files."""
    files = [(name, _scale(path)) for name, path in listed("hires_by").items()]
    more = {"model_name": None, "model_path": None, "model_url": None}
    return [{"name": name, **more, "scale": scale} for name, scale in [("None", 4), ("Lanczos", 4), *files]]


def _scale(path: Path) -> int:
    """How many times an upscaler file enlarges; 1 for a file that is none, which is refused when it is used."""
    from sdcli.checkpoints import upscaler_file

    try:
        return upscaler_file.read_header(path).scale
    except ModelError:
        return 1


def loras() -> list[dict[str, Any]]:
    """The LoRAs that prompts name."""
    return [
        {"name": name, "alias": name, "path": path.name, "metadata": {}}
        for name, path in listed("lora").items()
    ]


def hypernetworks() -> list[dict[str, Any]]:
    """The hypernetworks that prompts name."""
    return [{"name": name, "path": path.name} for name, path in listed("hypernet").items()]


def embeddings() -> dict[str, Any]:
    """The textual inversions that prompts name."""
    unknown = {
        "step": None,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
        "shape": None,
        "vectors": None,
    }
    return {"loaded": dict.fromkeys(listed("embedding"), unknown), "skipped": {}}


def prompt_styles() -> list[dict[str, Any]]:
    """The styles of the server's owner."""
    path = settings.styles_file()
    found = read_styles(path) if path is not None and path.exists() else {}
    return [
        {"name": name, "prompt": style.prompt, "negative_prompt": style.negative}
        for name, style in found.items()
    ]


def memory() -> dict[str, Any]:
    """The memory of the machine, in bytes."""
    return {"ram": _ram(), "cuda": _cuda()}


def _ram() -> dict[str, Any]:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = (page * os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    except (AttributeError, ValueError):  # not Linux
        return {"error": "unavailable"}
    return {"free": free, "used": total - free, "total": total}


def _cuda() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"error": "unavailable"}
    free, total = torch.cuda.mem_get_info()
    return {"system": {"free": free, "used": total - free, "total": total}}


NOTHING: Mapping[str, Any] = {
    "sd-vae": [],
    "face-restorers": [],
    "realesrgan-models": [],
    "extensions": [],
    "script-info": [],
    "scripts": {"txt2img": [], "img2img": []},
    "latent-upscale-modes": [{"name": "Latent (bicubic)"}],
    "cmd-flags": {"api": True, "listen": False, "share": False},
}
"""Path -> what it always answers. cmd-flags tells no path and no password."""
