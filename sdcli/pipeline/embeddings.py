"""Embeddings: the learned vectors of textual inversions, for the text encoders of a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdcli.checkpoints import embedding_file, embeddings, hashes, network_config
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.embedding_file import ONE, PAIR, EmbeddingFile, models_of
from sdcli.errors import ModelError
from sdcli.models.model import Model


@dataclass(frozen=True, eq=False)
class Learned:
    """The embeddings of a run: how many vectors each spelling stands for, and the vectors for each text encoder.

    `vectors` are those of a spelling by text encoder: part -> spelling -> (count, width).
    """

    counts: Mapping[str, int]
    vectors: Mapping[str, Mapping[str, Tensor]]


def learned(model: Model, paths: Sequence[str]) -> Learned:
    """The embeddings in these files for the model; raises ModelError for one that was trained for another family."""
    files = embeddings.spelled(paths)
    return Learned(embeddings.counts(files), vectors_for(model, files))


def vectors_for(model: Model, files: Mapping[str, EmbeddingFile]) -> dict[str, dict[str, Tensor]]:
    """The vectors of each spelling by text encoder, in float32: part -> spelling -> (count, width).

    Raises ModelError for an embedding that was trained for another family, or that has values that are not finite.
    """
    check_widths(
        model.name,
        {part: int(model.configs[part]["hidden_size"]) for part in model.tokenizers},
        files.values(),
    )
    read = {file.path: embedding_file.read_vectors(file.path) for file in files.values()}
    return {
        part: {spelling: read[file.path][_part_of(part, file)] for spelling, file in files.items()}
        for part in model.tokenizers
    }


def check_fit(found: Checkpoint, paths: Sequence[str]) -> None:
    """Raise ModelError for an embedding that a model's text encoders cannot read; no networks need to be loaded."""
    widths = {
        part: int(network_config.settings(part, found.components[part].config)["hidden_size"])
        for part in found.family.text_encoders
    }
    check_widths(found.name, widths, embeddings.spelled(paths).values())


def check_widths(name: str, widths: Mapping[str, int], files: Collection[EmbeddingFile]) -> None:
    """Raise ModelError for an embedding that has other widths than the text encoders of the model of this name."""
    for file in files:
        fits = all(file.widths.get(_part_of(part, file)) == width for part, width in widths.items())
        is_whole = len(file.widths) == len(widths) or set(widths) == {"text_encoder_2"}  # SDXL's refiner
        if not fits or not is_whole:
            own, other = _described(file.widths.values()), _described(widths.values())
            advice = models_of(*widths.values()) or "it"
            raise ModelError(
                f"{file.path} is an embedding of {own}, and {name} reads {other}; use one trained for {advice}"
            )


def facts(paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each embedding by its name: its file's name and sha256, for the metadata of a picture."""
    files = {file.name: file for file in embeddings.spelled(paths).values()}
    return {
        name: {"file": file.path.name, "sha256": hashes.digest([file.path])}
        for name, file in sorted(files.items())
    }


def _part_of(part: str, file: EmbeddingFile) -> str:
    """The part of the file that a text encoder reads."""
    return ONE if ONE in file.widths else PAIR[part == "text_encoder_2"]


def _described(widths: Collection[int]) -> str:
    """`768 values a word (SD 1)`."""
    models = models_of(*widths)
    return f"{' and '.join(map(str, widths))} values a word" + (f" ({models})" if models else "")
