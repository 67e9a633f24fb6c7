"""Embeddings: the learned vectors of textual inversions, for the text encoders of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdcli.checkpoints import embedding_file, embeddings, hashes
from sdcli.checkpoints.embedding_file import EmbeddingFile
from sdcli.models.model import Model


@dataclass(frozen=True, eq=False)
class Learned:
    """The embeddings of a run: how many vectors each spelling stands for, and the vectors for each text encoder.

    `vectors` are those of a spelling by text encoder: part -> spelling -> (count, width).
    """

    counts: Mapping[str, int]
    vectors: Mapping[str, Mapping[str, Tensor]]


def learned(model: Model, paths: Sequence[str], bundles: Sequence[str] = ()) -> Learned:
    """The embeddings in these files, and in LoRA files, for the model.

    Raises ModelError for one that was trained for another family.
    """
    files = embeddings.spelled(paths, bundles)
    return Learned(embeddings.counts(files), vectors_for(model, files))


def vectors_for(model: Model, files: Mapping[str, EmbeddingFile]) -> dict[str, dict[str, Tensor]]:
    """The vectors of each spelling by text encoder, in float32: part -> spelling -> (count, width).

    Raises ModelError for an embedding that was trained for another family, or that has values that are not finite.
    """
    embeddings.check_widths(
        model.name,
        {part: int(model.configs[part]["hidden_size"]) for part in model.tokenizers},
        files.values(),
    )
    read = {file.name: embedding_file.vectors_of(file) for file in files.values()}
    return {
        part: {spelling: read[file.name][embeddings.part_of(part, file)] for spelling, file in files.items()}
        for part in model.tokenizers
    }


def facts(paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each embedding by its name: its file's name and sha256, for the metadata of a picture."""
    files = {file.name: file for file in embeddings.spelled(paths).values()}
    return {
        name: {"file": file.path.name, "sha256": hashes.digest([file.path])}
        for name, file in sorted(files.items())
    }
