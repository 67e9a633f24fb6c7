"""Folder: where a model's configs and weights lie; reads names and JSON only, and imports no torch."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from sdcli.errors import ModelError

PARTS = {
    "text_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
"""The networks of a diffusers folder, and the stem of their weights' file."""


def find(name: str) -> Path:
    """The folder of a model's name; raises ModelError, saying what was looked for, if there is none."""
    if name == "tiny":
        return Path(str(files("sdcli.tiny")))
    path = Path(name).expanduser()
    if path.is_file():
        raise ModelError(f"{name}: is a file; this version of sd loads diffusers folders and tiny")
    if not path.is_dir():
        raise ModelError(f"{name}: no such model folder; -m takes tiny or a diffusers folder")
    missing = [part for part in PARTS if not (path / part).is_dir()]
    if missing:
        raise ModelError(f"{name}: no {missing[0]} folder in it; a model folder has {', '.join(PARTS)}")
    return path


def configs(folder: Path) -> dict[str, dict[str, Any]]:
    """Part -> its config; the scheduler's is among them, empty where the folder has none."""
    scheduler = folder / "scheduler" / "scheduler_config.json"
    found = {part: _json(folder / part / "config.json") for part in PARTS}
    return {**found, "scheduler": _json(scheduler) if scheduler.exists() else {}}


def weights(folder: Path) -> dict[str, Path]:
    """Part -> its safetensors file; raises ModelError where there is none."""
    return {part: _weights(folder / part, stem) for part, stem in PARTS.items()}


def _weights(folder: Path, stem: str) -> Path:
    for name in (f"{stem}.safetensors", f"{stem}.fp16.safetensors"):
        if (folder / name).is_file():
            return folder / name
    pickles = [path.name for path in folder.glob("*.bin")]
    if pickles:
        raise ModelError(
            f"{folder / pickles[0]}: a pickle, which can run code, is never read; get the safetensors"
        )
    raise ModelError(f"{folder}: no {stem}.safetensors in it; is the model folder whole?")


def _json(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; is the model folder whole?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); fetch it again") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: is not a JSON object; fetch it again")
    return config
