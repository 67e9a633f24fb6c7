"""Embedding file: a textual inversion: vectors that a text encoder reads in the place of a name in the prompt.

The formats are those of A1111 (`emb_params`), diffusers (one tensor, named as it is typed) and SDXL's pairs, one tensor
for each text encoder (`clip_l`, `clip_g`). Names and shapes are read from the header; no torch until vectors are asked
for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sdcli.checkpoints import header
from sdcli.checkpoints.component import listing
from sdcli.checkpoints.header import FLOATS, Entry, Header
from sdcli.errors import ModelError
from sdcli.file_signatures import HEAD_BYTES, kind_of
from sdcli.tokenizer import CHUNK

if TYPE_CHECKING:
    from torch import Tensor

ONE = "clip"
"""The part of a file with one tensor: it is for the only text encoder of a model."""
PAIR = ("clip_l", "clip_g")
"""The parts of a file for SDXL's two text encoders."""
PICKLE_SUFFIXES = (".pt", ".bin", ".pth", ".ckpt")

BUNDLED = "bundle_emb."
"""What the keys of the embeddings in a LoRA file begin with."""

_PAIRS = (PAIR, ("text_encoders_0", "text_encoders_1"))
NO_TRIGGERS = ("emb_params", *PAIR, "*", "weight", "embedding", "embeddings", "vector", "vectors", "tensor")
"""Keys of a file's one tensor that are no word to type; nor are those with a dot."""
_KINDS = {(768,): "SD 1", (1024,): "SD 2", (768, 1280): "SDXL", (1280,): "SDXL's second text encoder alone"}


@dataclass(frozen=True)
class EmbeddingFile:
    """What an embedding's header says: its name, how many vectors it has, and how many values each of them.

    `name` is the file's, without its ending. `widths` are values a vector, by part: `clip`, or `clip_l` and `clip_g`.
    `trigger` is the word that the file itself is to be typed as, such as `<cat-toy>`; empty if it names none.
    """

    name: str
    path: Path
    vectors: int
    widths: Mapping[str, int]
    trigger: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)  # of the tensors, by part

    @property
    def trained_for(self) -> str:
        """The models that it is for, such as `SD 1`; empty if there are none of its widths."""
        return models_of(*self.widths.values())


def models_of(*widths: int) -> str:
    """The models whose text encoders have these widths; empty if there are none."""
    return _KINDS.get(widths, "")


def read_header(path: Path) -> EmbeddingFile:
    """What an embedding is, by its header; raises ModelError if the file is none, or none that can be used."""
    return _described(path)


def read_vectors(path: Path) -> dict[str, Tensor]:
    """The vectors of the embedding in a file; raises ModelError as `read_header` and `vectors_of` do."""
    return vectors_of(read_header(path))


def vectors_of(found: EmbeddingFile) -> dict[str, Tensor]:
    """The vectors of an embedding by part, each (vectors, width) in float32.

    Raises ModelError if the file cannot be read any more, or if a value is not finite.
    """
    import torch

    vectors = {}
    head = header.read(found.path)
    for part, key in found.keys.items():
        values = torch.tensor(head.values(key), dtype=torch.float32)
        if not torch.isfinite(values).all():
            raise ModelError(f"{found.path}: {_shown(key)} has values that are not finite; fetch it again")
        vectors[part] = values.reshape(found.vectors, found.widths[part])
    return vectors


def bundled(path: Path) -> list[EmbeddingFile]:
    """The embeddings in a LoRA file, as OneTrainer and A1111 put them there: `bundle_emb.NAME.clip_l` and the like.

    Raises ModelError if one of them cannot be used.
    """
    head = header.read(path)
    parts: dict[str, dict[str, str]] = {}
    for key in head.tensors:
        if key.startswith(BUNDLED):
            name, _, part = key.removeprefix(BUNDLED).partition(".")
            parts.setdefault(name, {})[part] = key
    return [_in_bundle(head, name, keys) for name, keys in parts.items()]


def _in_bundle(head: Header, name: str, found: Mapping[str, str]) -> EmbeddingFile:
    known = (
        {"clip_l": ONE, "string_to_param.*": ONE}
        if "clip_g" not in found
        else dict(zip(PAIR, PAIR, strict=True))
    )
    keys = {known[part]: key for part, key in found.items() if part in known}
    if len(keys) != len(found):
        other = next(key for part, key in found.items() if part not in known)
        raise ModelError(f"{head.path}: {_shown(other)} is a kind of embedding that is not read here")
    return _described_as(head, name, keys)


def is_embedding(path: Path) -> bool:
    """True for an embedding that text encoders of a published model can read; any other file may be anything."""
    try:
        return bool(read_header(path).trained_for)
    except ModelError:
        return False


def pickled(path: Path) -> ModelError:
    """The error for an embedding in a form that can run code."""
    return ModelError(
        f"{path}: a pickle (.pt, .bin), which can run code, and is not read here; {header.CONVERTED}"
    )


def _described(path: Path) -> EmbeddingFile:
    _check_kind(path)
    head = header.read(path)
    keys = _keys(head)
    if not keys:
        count = listing(list(head.tensors)) if head.tensors else "no tensors"
        raise ModelError(f"{path}: has {count}, and is no embedding; it would have one, or clip_l and clip_g")
    return _described_as(head, path.stem, keys)


def _described_as(head: Header, name: str, keys: Mapping[str, str]) -> EmbeddingFile:
    shapes = {part: _shape(head.tensors[key]) for part, key in keys.items()}
    counts = {count for count, _ in shapes.values()}
    if len(counts) > 1:
        told = " and ".join(map(str, sorted(counts)))
        raise ModelError(f"{head.path}: has {told} vectors, and a pair has equally many; fetch it again")
    widths = {part: width for part, (_, width) in shapes.items()}
    return EmbeddingFile(name, head.path, counts.pop(), widths, _trigger(keys), keys)


def _check_kind(path: Path) -> None:
    """Raise ModelError if there is no such file, or if it is a pickle."""
    if not path.exists():
        raise ModelError(f"{path}: there is no such embedding; check the path")
    if not path.is_file():
        return
    try:
        with open(path, "rb") as file:
            kind = kind_of(file.read(HEAD_BYTES))
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ModelError(f"{path}: cannot be read: {reason}") from None
    if kind in ("zip", "pickle"):
        raise pickled(path)


def _keys(head: Header) -> dict[str, str]:
    """The tensors by part: a pair, or the only one; none if the file is no embedding."""
    for pair in _PAIRS:
        if set(pair) == head.tensors.keys():
            return dict(zip(PAIR, pair, strict=True))
    return {ONE: next(iter(head.tensors))} if len(head.tensors) == 1 else {}


def _shape(entry: Entry) -> tuple[int, int]:
    """(vectors, width) of a tensor; raises ModelError if it cannot be an embedding's."""
    path, name = entry.path, _shown(entry.name)
    if entry.dtype not in FLOATS:
        raise ModelError(f"{path}: {name} is stored as {entry.dtype}, which no embedding is; fetch it again")
    if len(entry.shape) not in (1, 2):
        raise ModelError(f"{path}: {name} has {len(entry.shape)} dimensions, and an embedding has 1 or 2")
    count, width = (1, *entry.shape)[-2:]
    if not count or not width:
        raise ModelError(f"{path}: {name} is empty; fetch it again")
    if count > CHUNK:
        raise ModelError(
            f"{path}: has {count:,} vectors, and a chunk of a prompt takes {CHUNK}; it cannot be used"
        )
    return count, width


def _trigger(keys: Mapping[str, str]) -> str:
    key = keys.get(ONE, "").strip()
    return "" if key in NO_TRIGGERS or "." in key or not key.isprintable() else key


def _shown(key: str) -> str:
    return repr(key[:80])
