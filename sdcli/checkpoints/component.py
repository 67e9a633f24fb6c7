"""Component: one network of a checkpoint, as its config and its file's header describe it; no weights are read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli.checkpoints.family import Config
from sdcli.checkpoints.header import Entry, Header
from sdcli.checkpoints.keys.types import Source
from sdcli.errors import ModelError

PARTS = ("text_encoder", "text_encoder_2", "unet", "vae", "depth_estimator")
"""The components that a checkpoint may have, by the names of their folders in a diffusers folder."""
OPTIONAL = ("depth_estimator",)
"""Those that a model can do without even if its family has them; they are loaded when they are needed."""

MAX_CONFIG_BYTES = 1_000_000


@dataclass(frozen=True)
class Component:
    """One network of a checkpoint: its config, its file's header, and where each of its tensors is in that file.

    A test model has no file, so its header is None and it has no sources; its weights are random, from a seed.
    """

    config: Config
    header: Header | None
    sources: Mapping[str, Source]  # by the tensors' names in the network

    def entry(self, name: str) -> Entry:
        """The stored tensor that the network's tensor `name` is, or is taken from."""
        assert self.header is not None
        return self.header.tensors[self.sources[name].key]

    def scale(self, name: str) -> float:
        """The number that the stored values of the tensor `name` must be multiplied by."""
        assert self.header is not None
        key = self.sources[name].scale
        return self.header.values(key)[0] if key else 1.0

    def dtype(self, name: str) -> str:
        """The dtype, by the format's name, that holds the tensor `name` as the network takes it."""
        return "F32" if self.sources[name].scale else self.entry(name).dtype

    def shape(self, name: str) -> list[int]:
        """The shape of the tensor `name` as the network takes it."""
        shape = list(self.entry(name).shape)
        take = self.sources[name].take
        if take == "transpose":
            return shape[::-1]
        if take.startswith("third") and shape and shape[0] % 3 == 0:
            return [shape[0] // 3, *shape[1:]]
        return shape

    def folder(self, other: Path) -> str:
        """The folder that its file is in; `other` if it is in none."""
        return str(other if self.header is None else self.header.path.parent)

    def path(self, name: str) -> Path:
        """The file that the tensor `name` is in."""
        return self.entry(name).path


def amount_of_weights(component: Component) -> str:
    """How many parameters a component has, and in which dtypes, the most frequent one first."""
    if component.header is None:
        return "random weights"
    keys = {source.key for source in component.sources.values()}  # several sources may share a packed tensor
    entries = [component.header.tensors[key] for key in keys]
    dtypes = "/".join(dtype for dtype, _ in Counter(entry.dtype for entry in entries).most_common())
    return f"{sum(math.prod(entry.shape) for entry in entries) / 1e6:,.1f} M parameters in {dtypes}"


def add_source(sources: dict[str, Source], name: str, source: Source, header: Header) -> None:
    """Add where the tensor `name` is; raises ModelError if another tensor of the file has that name too."""
    other = sources.setdefault(name, source)
    if other is not source:
        raise ModelError(
            f"{header.path}: {other.key[:80]} and {source.key[:80]} are two names of one tensor; get a file with one"
        )


def listing(names: list[str]) -> str:
    """The number of tensors and the first three names: `4 tensors (a, b, c and 1 more)`."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    first = ", ".join(_short(name) for name in names[:3])
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({first}{more})"


def _short(name: str) -> str:
    """The name, without its middle if it is long: names that begin alike differ at their end."""
    return name if len(name) <= 72 else f"{name[:32]}…{name[-39:]}"


def read_config(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """The object in a config.json or another JSON file; raises ModelError if there is none, or a larger one."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; is the model folder whole?")
    size = path.stat().st_size
    if size > max_bytes:
        raise ModelError(f"{path}: {size:,} bytes, far more than a config has; it is not read")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); fetch it again") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: is not a JSON object; fetch it again")
    return config
