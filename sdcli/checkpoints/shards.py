"""Shards: a network's weights as a folder holds them, in one file or in several with an index, read as one header."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sdcli.checkpoints import header
from sdcli.checkpoints.header import Header, ReadHeader
from sdcli.errors import ModelError

STEMS = dict.fromkeys(("unet", "vae", "controlnet"), "diffusion_pytorch_model")
"""How the name of a network's weights begins; `model` for those of a text encoder."""
VARIANTS = ("", ".fp16")
"""What follows the stem: nothing, or .fp16 for half precision, which is used if there is nothing else."""


def stem_of(part: str) -> str:
    return STEMS.get(part, "model")


def _index_names(stem: str, variant: str) -> dict[str, str]:
    """The names that an index of shards may have, each with a pattern for the names of its shards.

    diffusers changed the place of the variant in these names twice.
    """
    number, escaped = r"-\d+-of-(\d+)", re.escape(variant)
    return {
        f"{stem}.safetensors{variant}.index.json": rf"{stem}{number}{escaped}\.safetensors",
        f"{stem}.safetensors.index{variant}.json": rf"{stem}{escaped}{number}\.safetensors",
        f"{stem}{variant}.safetensors.index.json": rf"{stem}{escaped}{number}\.safetensors",
    }


def needed(names: list[str], part: str) -> list[str]:
    """Of the file names in the folder of a component, those of its weights: [a file], or [an index, its shards …].

    Empty if there are none, or if some shards are missing.
    """
    stem = stem_of(part)
    for variant in VARIANTS:
        if f"{stem}{variant}.safetensors" in names:
            return [f"{stem}{variant}.safetensors"]
        for index, pattern in _index_names(stem, variant).items():
            if index in names:
                shards = _complete_shards(names, pattern)
                return [index, *shards] if shards else []
    return []


def _complete_shards(names: list[str], pattern: str) -> list[str]:
    """The names that match the pattern, of each set of shards (`…-of-00003`) of which all are there."""
    sets: dict[str, list[str]] = {}
    for name in sorted(names):
        if match := re.fullmatch(pattern, name):
            sets.setdefault(match[1], []).append(name)
    return [name for count, shards in sets.items() if len(shards) == int(count) for name in shards]


def read(folder: Path, part: str, read_header: ReadHeader) -> Header:
    """The header of a component's weights in its folder; raises ModelError if they are not all there."""
    stem = stem_of(part)
    for variant in VARIANTS:
        single = folder / f"{stem}{variant}.safetensors"
        if single.is_file():
            return read_header(single)
        for index in _index_names(stem, variant):
            if (folder / index).is_file():
                return _read_shards(folder / index, read_header)
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        raise ModelError(
            f"{folder / pickles[0]}: a pickle, which can run code, is not read here; {header.CONVERTED}"
        )
    raise ModelError(f"{folder}: no {stem}.safetensors in it; is the model folder whole?")


def _read_shards(index: Path, read_header: ReadHeader) -> Header:
    """The shards of an index as one header; every tensor must be in the file that the index says."""
    files = _read_index(index)
    headers = [read_header(index.parent / name) for name in sorted(set(files.values()))]
    tensors = {key: entry for shard in headers for key, entry in shard.tensors.items()}
    if len(tensors) < sum(len(shard.tensors) for shard in headers):
        raise ModelError(f"{index.parent}: a tensor is in two of its files; they are of different models")
    actual = {key: entry.path.name for key, entry in tensors.items()}
    wrong = [key for key in {**files, **actual} if files.get(key) != actual.get(key)]
    if wrong:
        raise ModelError(f"{index}: {wrong[0][:80]} is not where it says; fetch the files again")
    return Header(index, tensors, {})


def _read_index(index: Path) -> dict[str, str]:
    """Tensor -> name of the file it is in; raises ModelError for an index that does not say, or names other folders."""
    try:
        text = index.read_bytes() if index.stat().st_size < header.MAX_HEADER_BYTES else b""
        if header.too_large(text):
            raise ValueError
        files: dict[str, str] = json.loads(text)["weight_map"]
        if not files or not all(re.fullmatch(r"[\w.-]+\.safetensors", name) for name in files.values()):
            raise ValueError
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise ModelError(
            f"{index}: does not say which file beside it holds which tensor; fetch it again"
        ) from None
    return files
