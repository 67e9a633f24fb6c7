"""Upscaler file: a network that enlarges pictures without diffusion, by the names and shapes of its tensors alone.

Known are ESRGAN's RRDBNet (https://arxiv.org/abs/1809.00219), which Real-ESRGAN uses too, Real-ESRGAN's
SRVGGNetCompact (https://arxiv.org/abs/2107.10833), and SwinIR (https://arxiv.org/abs/2108.10257).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli.checkpoints import hashes, header
from sdcli.checkpoints.component import Component, add_source, listing
from sdcli.checkpoints.header import FLOATS, Header
from sdcli.checkpoints.hub import is_repo
from sdcli.checkpoints.keys.esrgan import rrdb_names
from sdcli.checkpoints.keys.types import Source
from sdcli.checkpoints.lookup import BY_HASH, file_path, find_model, model_path, with_any_hash
from sdcli.checkpoints.upscalers.esrgan import RRDB_BLOCK, compact, rrdb
from sdcli.checkpoints.upscalers.network import Shapes, UpscalerNetwork
from sdcli.checkpoints.upscalers.swinir import BIASES, BUFFERS, swinir
from sdcli.errors import ModelError, UsageError
from sdcli.request.request import Request

KINDS = {
    "rrdb": "an ESRGAN upscaler",
    "compact": "a compact Real-ESRGAN upscaler",
    "swinir": "a SwinIR upscaler",
}
"""Kind of upscaler -> what it is called."""

_READERS: Mapping[str, Callable[[Path, Component], UpscalerNetwork]] = {
    "rrdb": rrdb,
    "compact": compact,
    "swinir": swinir,
}


@dataclass(frozen=True)
class UpscalerFile:
    """What an upscaler file is: its kind, its network, and where each of its tensors is."""

    path: Path
    kind: str  # one of KINDS
    network: UpscalerNetwork
    component: Component

    @property
    def scale(self) -> int:
        """How many times each side is enlarged."""
        return self.network.scale

    @property
    def parameters(self) -> int:
        """The number of its weights."""
        return sum(math.prod(self.component.shape(name)) for name in self.component.sources)


def read_header(path: Path) -> UpscalerFile:
    """What an upscaler is, by its header.

    Raises ModelError if the file is none, or if it lacks a tensor, has one more, or one of another shape.
    """
    head = header.read(path)
    kind = _kind(_named(head))
    if not kind:
        keys = listing(list(head.tensors)) if head.tensors else "no tensors"
        raise ModelError(f"{path}: has {keys}, and is no ESRGAN, Real-ESRGAN or SwinIR upscaler")
    sources: dict[str, Source] = {}
    for key, name in _names(head).items():
        add_source(sources, name, Source(key), head)
    component = Component({}, head, sources)
    found = UpscalerFile(path, kind, _READERS[kind](path, component), component)
    _check_tensors(found)
    return found


def is_upscaler(path: Path) -> bool:
    """True for a file that can be nothing but an upscaler, whole or damaged."""
    try:
        return bool(_kind(_named(header.read(path))))
    except ModelError:
        return False


def with_hires_upscaler(request: Request) -> Request:
    """The request in which --hires-by names a file by its path, checked by its header.

    Raises UsageError if there is no such file, or several, and ModelError if it is no upscaler.
    """
    found = find(request.hires_by, "--hires-by")
    if found is None and not os.path.exists(request.hires_by):
        raise UsageError(
            f"--hires-by {request.hires_by}: is neither picture nor latents, and no upscaler file of that path or name "
            "is here; `sd models` lists them"
        )
    path = str(found or request.hires_by)
    read_header(Path(path))
    return request if path == request.hires_by else request.replace(hires_by=path)


def facts(path: Path) -> dict[str, Any]:
    """What a picture records of an upscaler by which it was enlarged on the way: its name -> its file, hash, scale."""
    scale = read_header(path).scale
    return {path.stem: {"file": path.name, "sha256": hashes.digest([path]), "scale": scale}}


def find(model: str, flag: str = "-m") -> Path | None:
    """The upscaler that an option names, by its path, hash or name in a folder of upscalers; None if it names none.

    A model of that name in a model folder comes first. Raises UsageError if several upscalers have the name.
    """
    if os.path.exists(model):
        return Path(model) if os.path.isfile(model) and is_upscaler(Path(model)) else None
    if model.startswith(BY_HASH):
        return with_any_hash("upscalers", model.removeprefix(BY_HASH))
    if find_model(model) is not None:
        return None
    return file_path("upscalers", f"{flag} {model}", model, fuzzy=False) or _by_part_of_name(model, flag)


def _by_part_of_name(model: str, flag: str) -> Path | None:
    """The upscaler with this part in its name, unless it is a part of a model's name."""
    if model == "tiny" or model.startswith("test:") or is_repo(model) or model_path(model) is not None:
        return None
    return file_path("upscalers", f"{flag} {model}", model)


def _names(head: Header) -> dict[str, str]:
    """Key -> the tensor's name in its network; those that are not read are left out."""
    if BIASES in head.tensors:
        return {key: key for key in head.tensors if not BUFFERS.fullmatch(key)}
    return rrdb_names(head.tensors)


def _named(head: Header) -> Shapes:
    return {name: head.tensors[key].shape for key, name in _names(head).items()}


def _kind(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The kind of upscaler; empty if it is none."""
    if "conv_first.weight" in shapes and any(map(RRDB_BLOCK.fullmatch, shapes)):
        return "rrdb"
    if "conv_first.weight" in shapes and BIASES in shapes:
        return "swinir"
    if len(shapes.get("body.0.weight", ())) == 4 and len(shapes.get("body.1.weight", ())) == 1:
        return "compact"
    return ""


def _check_tensors(found: UpscalerFile) -> None:
    """Raise ModelError for a tensor that is missing, surplus, misshapen, or stored as what is no float."""
    component, needed = found.component, found.network.shapes
    missing = [name for name in needed if name not in component.sources]
    surplus = [name for name in component.sources if name not in needed]
    for names, fault in ((missing, "missing"), (surplus, "unknown in such a network")):
        if names:
            raise ModelError(
                f"{found.path}: {KINDS[found.kind]} with {listing(names)} {fault}; fetch it again"
            )
    for name, shape in needed.items():
        entry = component.entry(name)
        if entry.shape != shape:
            raise ModelError(
                f"{found.path}: {name} is {list(entry.shape)}, not {list(shape)}; fetch it again"
            )
        if entry.dtype not in FLOATS:
            raise ModelError(
                f"{found.path}: {name} is stored as {entry.dtype}, which no upscaler is; fetch it again"
            )
