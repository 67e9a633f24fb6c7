"""Shards: a network whose weights lie in several files, read as one header; imports no torch, reads no weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sdcli.checkpoints import header
from sdcli.checkpoints.header import Header
from sdcli.errors import ModelError

STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
"""How the name of a network's weights begins; those of a text encoder begin with `model`."""
VARIANTS = ("", ".fp16")
"""What follows in the name: of a network's own weights, and in half precision, which does where there are no others."""


def _indexes(stem: str, variant: str) -> dict[str, str]:
    """The index of weights in several files, by its names old and new -> how those files are called, as a pattern."""
    number, said = r"-\d+-of-(\d+)", re.escape(variant)
    return {
        f"{stem}.safetensors{variant}.index.json": rf"{stem}{number}{said}\.safetensors",
        f"{stem}.safetensors.index{variant}.json": rf"{stem}{said}{number}\.safetensors",
        f"{stem}{variant}.safetensors.index.json": rf"{stem}{said}{number}\.safetensors",
    }


def needed(names: list[str], part: str) -> list[str]:
    """Of the names in a network's folder, those of its weights: a file's, or an index's and its files'; else []."""
    stem = STEMS.get(part, "model")
    for variant in VARIANTS:
        if f"{stem}{variant}.safetensors" in names:
            return [f"{stem}{variant}.safetensors"]
        for index, pattern in _indexes(stem, variant).items():
            if index in names:
                sets: dict[str, list[str]] = {}
                for name in sorted(names):
                    if found := re.fullmatch(pattern, name):
                        sets.setdefault(found[1], []).append(name)
                whole = [name for count, own in sets.items() if len(own) == int(count) for name in own]
                return [index, *whole] if whole else []
    return []


def read(folder: Path, part: str) -> Header:
    """The header of the weights of the network `part` in its folder; raises ModelError if they are not all there."""
    stem = STEMS.get(part, "model")
    for variant in VARIANTS:
        whole = folder / f"{stem}{variant}.safetensors"
        if whole.is_file():
            return header.read(whole)
        for index in _indexes(stem, variant):
            if (folder / index).is_file():
                return _joined(folder / index)
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        raise ModelError(
            f"{folder / pickles[0]}: a pickle, which can run code, is never read; get the safetensors"
        )
    raise ModelError(f"{folder}: no {stem}.safetensors in it; is the model folder whole?")


def _joined(index: Path) -> Header:
    """The files of an index as one: every tensor where the index says, and no other."""
    told = _told(index)
    heads = [header.read(index.parent / name) for name in sorted(set(told.values()))]
    tensors = {key: entry for head in heads for key, entry in head.tensors.items()}
    if len(tensors) < sum(len(head.tensors) for head in heads):
        raise ModelError(f"{index.parent}: a tensor is in two of its files; they are of different models")
    there = {key: entry.path.name for key, entry in tensors.items()}
    wrong = [key for key in {**told, **there} if told.get(key) != there.get(key)]
    if wrong:
        raise ModelError(f"{index}: {wrong[0][:80]} is not where it says; fetch the files again")
    return Header(index, tensors, {})


def _told(index: Path) -> dict[str, str]:
    """Which file each tensor is in; raises ModelError for an index that does not say, or names files elsewhere."""
    try:
        text = index.read_bytes() if index.stat().st_size < header.LARGEST else b""
        if sum(map(text.count, (b",", b"[", b"{"))) > header.MOST:
            raise ValueError
        told: dict[str, str] = json.loads(text)["weight_map"]
        if not told or not all(re.fullmatch(r"[\w.-]+\.safetensors", name) for name in told.values()):
            raise ValueError
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise ModelError(
            f"{index}: does not say which file beside it holds which tensor; fetch it again"
        ) from None
    return told


def halves(one: Header) -> Header:
    """The two files of a tiny autoencoder, given either, as one under diffusers' names; any other header as it is.

    They are called alike but for `encoder` and `decoder`; the decoder's layers count from one, its clamp before them.
    """
    half = {"0.weight": "encoder", "1.weight": "decoder"}
    own = next((half[key] for key in half if key in one.tensors), None)
    if own is None:
        return one
    other = "decoder" if own == "encoder" else "encoder"
    path = one.path.with_name(other.join(one.path.name.rsplit(own, 1)))
    if path == one.path or not path.is_file():
        asked = f"the other is not beside it as {path.name}" if path != one.path else f"its name has no {own}"
        raise ModelError(f"{one.path}: half of a tiny autoencoder, and {asked}; get both")
    heads, tensors = {own: one, other: header.read(path)}, {}
    for side, head in sorted(heads.items()):  # whichever was named, they are the same model
        for key, entry in head.tensors.items():
            found = re.fullmatch(r"(0|[1-9][0-9]?)\.(.+)", key)
            if not found:
                raise ModelError(f"{head.path}: {key[:80]} is no tensor of a tiny autoencoder's {side}")
            tensors[f"{side}.layers.{int(found[1]) - (side == 'decoder')}.{found[2]}"] = entry
    return Header(one.path, tensors, {})
