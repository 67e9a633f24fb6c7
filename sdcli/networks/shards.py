"""Shards: a network whose weights lie in several files, read as one header; imports no torch, reads no weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sdcli.errors import ModelError
from sdcli.networks import header
from sdcli.networks.header import Header

STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
"""How the name of a network's weights begins; those of a text encoder begin with `model`."""
VARIANTS = (r"", r"\.fp16")
"""Before the suffix: a network's own weights, and those in half precision, which do where there are no others."""


def needed(names: list[str], stem: str = "model") -> list[str]:
    """Of a folder's files, those with a network's weights: one, or an index and all it is of; [] if they are not there.

    `stem` is how the name of one begins, or ends where it is not known.
    """
    for variant in VARIANTS:
        whole = [name for name in names if re.search(rf"{stem}{variant}\.safetensors$", name)]
        if whole:
            return whole
    for variant in VARIANTS:
        index = rf"{stem}({variant}\.safetensors\.index|\.safetensors\.index{variant})\.json$"
        found = [name for name in names if re.search(index, name)]
        parts = [name for name in names if re.search(rf"{stem}{variant}-\d+-of-\d+\.safetensors$", name)]
        if found and parts and len(parts) == int(parts[0].rpartition("-of-")[2].split(".")[0]):
            return [found[0], *sorted(parts)]
    return []


def read(folder: Path, part: str) -> Header:
    """The header of the weights of the network `part` in its folder; raises ModelError if they are not all there."""
    stem = STEMS.get(part, "model")
    there = sorted(path.name for path in folder.glob("*"))
    found = needed(there, f"^{stem}")
    if len(found) == 1:
        return header.read(folder / found[0])
    if found:
        return _joined(folder / found[0], found[1:])
    pickles = [name for name in there if name.endswith(".bin")]
    if pickles:
        raise ModelError(
            f"{folder / pickles[0]}: a pickle, which can run code, is never read; get the safetensors"
        )
    if any(re.match(rf"{stem}.*-of-\d+\.safetensors|{stem}\.safetensors\.index", name) for name in there):
        raise ModelError(f"{folder}: not all of the files that its weights are in; fetch it again, whole")
    raise ModelError(f"{folder}: no {stem}.safetensors in it; is the model folder whole?")


def _joined(index: Path, names: list[str]) -> Header:
    """The files of an index as one, which is where it says that each tensor is."""
    heads = {name: header.read(index.parent / name) for name in names}
    tensors = {key: entry for head in heads.values() for key, entry in head.tensors.items()}
    if len(tensors) < sum(len(head.tensors) for head in heads.values()):
        raise ModelError(f"{index.parent}: a tensor is in two of its files; they are of different models")
    try:
        told = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        wrong = [key for key, name in told.items() if key not in tensors or tensors[key].path.name != name]
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise ModelError(f"{index}: does not say which file holds which tensor; fetch it again") from None
    if wrong:
        raise ModelError(f"{index}: {wrong[0][:80]} is not where it says; fetch the files again")
    return Header(index, tensors, {})


def halves(one: Header) -> Header:
    """The two files of a tiny autoencoder, given either, as one under diffusers' names; any other header as it is.

    They are called alike but for `encoder` and `decoder`; the decoder's layers count from one, its clamp before them.
    """
    half = {"0.weight": "encoder", "1.weight": "decoder"}
    own = next((half[key] for key in half if key in one.tensors), None)
    if own is None:
        return one
    other = "decoder" if own == "encoder" else "encoder"
    path = one.path.with_name(one.path.name.replace(own, other))
    if path == one.path or not path.is_file():
        asked = f"the other is not beside it as {path.name}" if path != one.path else f"its name has no {own}"
        raise ModelError(f"{one.path}: half of a tiny autoencoder, and {asked}; get both")
    heads, tensors = {own: one, other: header.read(path)}, {}
    for side, head in sorted(heads.items()):  # whichever was named, they are the same model
        for key, entry in head.tensors.items():
            number, _, rest = key.partition(".")
            if not number.isdecimal():
                raise ModelError(f"{head.path}: {key[:80]} is no tensor of a tiny autoencoder's {side}")
            tensors[f"{side}.layers.{int(number) - (side == 'decoder')}.{rest}"] = entry
    return Header(one.path, tensors, {})
