"""Component: where one network's config and tensors are, by headers alone; imports no torch, reads no weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdcli.checkpoints.family import Config
from sdcli.checkpoints.header import Header
from sdcli.checkpoints.keys.ldm import Source
from sdcli.errors import ModelError

LARGEST = 1_000_000  # bytes of a config


@dataclass(frozen=True)
class Component:
    """One network of a checkpoint: its config, the file it is in, and name in the network -> source.

    A test model's is in no file: its weights are random, from a seed.
    """

    config: Config
    header: Header | None
    sources: Mapping[str, Source]

    def shape(self, name: str) -> list[int]:
        """The shape of one of its tensors, as the network takes it."""
        assert self.header is not None
        source = self.sources[name]
        shape = list(self.header.tensors[source.key].shape)
        if source.take == "transpose":
            return shape[::-1]
        if source.take.startswith("third") and shape and shape[0] % 3 == 0:
            return [shape[0] // 3, *shape[1:]]
        return shape

    def path(self, name: str) -> Path:
        """The file that one of its tensors is in."""
        assert self.header is not None
        return self.header.tensors[self.sources[name].key].path


def add_source(sources: dict[str, Source], own: str, source: Source, head: Header) -> None:
    """Note where a network's tensor is; raises ModelError if another one is the same tensor."""
    other = sources.setdefault(own, source)
    if other is not source:
        raise ModelError(
            f"{head.path}: {other.key[:80]} and {source.key[:80]} are two names of one tensor; get a file with one"
        )


def decoder_levels(head: Header) -> int:
    """How many levels the decoder of an LDM-named VAE has."""
    decoder = (re.match(r"(?:first_stage_model\.)?decoder\.up\.(\d)\.", key) for key in head.tensors)
    return 1 + max((int(found[1]) for found in decoder if found), default=0)


def listing(found: list[str]) -> str:
    """How many tensors, and the first three by name."""
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    listed = ", ".join(key[:60] for key in found[:3])
    return f"{len(found)} tensor{'s' * (len(found) > 1)} ({listed}{more})"


def config_of(path: Path) -> dict[str, Any]:
    """A config.json, or another file of settings; raises ModelError if it is none."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; is the model folder whole?")
    if path.stat().st_size > LARGEST:
        raise ModelError(f"{path}: {path.stat().st_size:,} bytes, far more than a config has; it is not read")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); fetch it again") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: is not a JSON object; fetch it again")
    return config
