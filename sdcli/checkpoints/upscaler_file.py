"""Upscaler file: a network that enlarges pictures without diffusion, by the names and shapes of its tensors alone.

Known are ESRGAN's RRDBNet (https://arxiv.org/abs/1809.00219), which Real-ESRGAN uses too, and Real-ESRGAN's
SRVGGNetCompact (https://arxiv.org/abs/2107.10833).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sdcli.checkpoints import header
from sdcli.checkpoints.component import Component, add_source, listing
from sdcli.checkpoints.header import FLOATS, Header
from sdcli.checkpoints.hub import is_repo
from sdcli.checkpoints.keys.esrgan import rrdb_names
from sdcli.checkpoints.keys.types import Source
from sdcli.checkpoints.lookup import BY_HASH, file_path, find_model, model_path
from sdcli.errors import ModelError

KINDS = {"rrdb": "an ESRGAN upscaler", "compact": "a compact Real-ESRGAN upscaler"}
"""Kind of upscaler -> what it is called."""

COLOURS = 3
MAX_FACTOR = 16
MAX_BLOCKS = 200
MAX_WIDTH = 1024
_RRDB_BLOCK = re.compile(r"body\.(\d{1,3})\.rdb1\.conv1\.weight", re.ASCII)
_COMPACT_LAYER = re.compile(r"body\.(\d{1,3})\.weight", re.ASCII)
_UPCONV = re.compile(r"conv_up([1-9])\.weight", re.ASCII)

Shapes = dict[str, tuple[int, ...]]
"""Name of a tensor in the network -> its shape."""


@dataclass(frozen=True)
class UpscalerFile:
    """What an upscaler file is: its kind, how its network is built, and where each of its tensors is."""

    path: Path
    kind: str  # one of KINDS
    blocks: int  # RRDBs, or hidden convolutions of a compact network
    width: int  # channels between the blocks
    growth: int  # channels that each convolution of an RRDB adds; 0 for a compact network
    upconvs: int  # convolutions of an RRDBNet that each double the sides; 0 for a compact network
    unshuffle: int  # side of the squares of pixels that an RRDBNet takes for one input
    scale: int  # how many times each side is enlarged
    component: Component

    @property
    def parameters(self) -> int:
        """The number of its weights."""
        return sum(math.prod(self.component.shape(name)) for name in self.component.sources)

    @property
    def settings(self) -> dict[str, int]:
        """The arguments that its network is built with."""
        if self.kind == "compact":
            return {"blocks": self.blocks, "width": self.width, "scale": self.scale}
        names = ("blocks", "width", "growth", "upconvs", "unshuffle")
        return {name: getattr(self, name) for name in names}

    @property
    def shapes(self) -> Shapes:
        """The shapes of all the tensors that its network has."""
        return _compact_shapes(self) if self.kind == "compact" else _rrdb_shapes(self)


def read_header(path: Path) -> UpscalerFile:
    """What an upscaler is, by its header.

    Raises ModelError if the file is none, or if it lacks a tensor, has one more, or one of another shape.
    """
    head = header.read(path)
    named = _named(head)
    kind = _kind(named)
    if not kind:
        keys = listing(list(head.tensors)) if head.tensors else "no tensors"
        raise ModelError(f"{path}: has {keys}, and is no ESRGAN or Real-ESRGAN upscaler")
    sources: dict[str, Source] = {}
    for key, name in rrdb_names(head.tensors).items():
        add_source(sources, name, Source(key), head)
    component = Component({}, head, sources)
    found = _compact(path, component) if kind == "compact" else _rrdb(path, component)
    _check_tensors(found)
    return found


def is_upscaler(path: Path) -> bool:
    """True for a file that can be nothing but an upscaler, whole or damaged."""
    try:
        return bool(_kind(_named(header.read(path))))
    except ModelError:
        return False


def find(model: str) -> Path | None:
    """The upscaler that -m names, by its path or by its name in a folder of upscalers; None if it names another thing.

    A model of that name in a model folder comes first. Raises UsageError if several upscalers have the name.
    """
    if os.path.exists(model):
        return Path(model) if os.path.isfile(model) and is_upscaler(Path(model)) else None
    if find_model(model) is not None:
        return None
    return file_path("upscalers", f"-m {model}", model, fuzzy=False) or _by_part_of_name(model)


def _by_part_of_name(model: str) -> Path | None:
    """The upscaler with this part in its name, unless it is a part of a model's name."""
    if (
        model == "tiny"
        or model.startswith((BY_HASH, "test:"))
        or is_repo(model)
        or model_path(model) is not None
    ):
        return None
    return file_path("upscalers", f"-m {model}", model)


def _named(head: Header) -> Shapes:
    return {name: head.tensors[key].shape for key, name in rrdb_names(head.tensors).items()}


def _kind(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The kind of upscaler; empty if it is none."""
    if "conv_first.weight" in shapes and any(map(_RRDB_BLOCK.fullmatch, shapes)):
        return "rrdb"
    if len(shapes.get("body.0.weight", ())) == 4 and len(shapes.get("body.1.weight", ())) == 1:
        return "compact"
    return ""


# --- how the network is built


def _rrdb(path: Path, component: Component) -> UpscalerFile:
    names = component.sources
    blocks = 1 + max(_numbers(_RRDB_BLOCK, names))
    upconvs = max(_numbers(_UPCONV, names), default=0)
    width, inputs = _convolution(path, component, "conv_first.weight")
    growth, _ = _convolution(path, component, f"body.{blocks - 1}.rdb1.conv1.weight")
    unshuffle = math.isqrt(inputs // COLOURS)
    if inputs != COLOURS * unshuffle**2 or unshuffle not in (1, 2, 4):
        raise ModelError(f"{path}: its network takes {inputs} channels; known are 3, 12 and 48")
    factor = 2**upconvs
    if factor > MAX_FACTOR or factor % unshuffle:
        raise ModelError(f"{path}: its network enlarges by {factor}/{unshuffle}; known are 1, 2, 4, 8 and 16")
    return _checked(
        UpscalerFile(path, "rrdb", blocks, width, growth, upconvs, unshuffle, factor // unshuffle, component)
    )


def _compact(path: Path, component: Component) -> UpscalerFile:
    last = max(_numbers(_COMPACT_LAYER, component.sources))
    width, _ = _convolution(path, component, "body.0.weight")
    outputs, _ = _convolution(path, component, f"body.{last}.weight")
    scale = math.isqrt(outputs // COLOURS)
    if outputs != COLOURS * scale**2 or not 1 <= scale <= MAX_FACTOR:
        raise ModelError(f"{path}: its network gives {outputs} channels, which are no square of pixels")
    return _checked(UpscalerFile(path, "compact", max(0, last // 2 - 1), width, 0, 0, 1, scale, component))


def _numbers(pattern: re.Pattern[str], names: Iterable[str]) -> list[int]:
    return [int(match[1]) for match in map(pattern.fullmatch, names) if match]


def _convolution(path: Path, component: Component, name: str) -> tuple[int, int]:
    """(outputs, inputs) of the 3x3 convolution of this name."""
    shape = component.shape(name)
    if len(shape) != 4 or 0 in shape:
        raise ModelError(f"{path}: {name} is {shape}, and no weight of a convolution; fetch it again")
    return shape[0], shape[1]


def _checked(found: UpscalerFile) -> UpscalerFile:
    if found.blocks > MAX_BLOCKS or max(found.width, found.growth) > MAX_WIDTH:
        raise ModelError(
            f"{found.path}: {found.blocks} blocks of width {found.width} are more than an upscaler has; fetch it again"
        )
    return found


# --- the tensors it must have


def _rrdb_shapes(file: UpscalerFile) -> Shapes:
    width, growth = file.width, file.growth
    shapes = _convolution_shapes("conv_first", COLOURS * file.unshuffle**2, width)
    for block in range(file.blocks):
        for dense in (1, 2, 3):
            for i in range(5):
                name = f"body.{block}.rdb{dense}.conv{i + 1}"
                shapes |= _convolution_shapes(name, width + i * growth, width if i == 4 else growth)
    upconvs = (f"conv_up{i + 1}" for i in range(file.upconvs))
    for name in ("conv_body", *upconvs, "conv_hr"):
        shapes |= _convolution_shapes(name, width, width)
    return shapes | _convolution_shapes("conv_last", width, COLOURS)


def _compact_shapes(file: UpscalerFile) -> Shapes:
    shapes: Shapes = {}
    for i in range(file.blocks + 1):
        shapes |= _convolution_shapes(f"body.{2 * i}", file.width if i else COLOURS, file.width)
        shapes[f"body.{2 * i + 1}.weight"] = (file.width,)
    return shapes | _convolution_shapes(f"body.{2 * file.blocks + 2}", file.width, COLOURS * file.scale**2)


def _convolution_shapes(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, 3, 3), f"{name}.bias": (outputs,)}


def _check_tensors(found: UpscalerFile) -> None:
    """Raise ModelError for a tensor that is missing, surplus, misshapen, or stored as what is no float."""
    component, needed = found.component, found.shapes
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
