"""Captions: what the U-Net is told of each picture, as states that are kept, or anew while a word is being learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sdcli.diffusion.conditioning import Cond
from sdcli.models.model import Model
from sdcli.pipeline.encode import Vectors, differentiable_states, side_by_side
from sdcli.request.prompt.chunks import Chunk
from sdcli.request.prompt.reading import PLAIN

Chunks = Mapping[str, tuple[Chunk, ...]]
"""A caption's chunks of tokens for each text encoder."""


def chunks_of(model: Model, caption: str, words: Mapping[str, int] | None = None) -> Chunks:
    """The tokens of a caption, which is read as plain words; `words` are learned ones, with their number of vectors."""
    return {
        part: PLAIN.chunked(PLAIN.pieces(caption), tokenizer, words or {})
        for part, tokenizer in model.tokenizers.items()
    }


def states_of(model: Model, chunks: Chunks, vectors: Mapping[str, Vectors] | None = None) -> Cond:
    """What the U-Net is told of a caption; gradients reach `vectors`, the learned ones by text encoder and word."""
    encoded = []
    for part, own in chunks.items():
        states, pooled = differentiable_states(
            model, part, own, model.family.clip_skip, (vectors or {}).get(part, {})
        )
        encoded.append((states.reshape(1, -1, states.shape[-1]), pooled))
    return replace(side_by_side(encoded, (0.0, 0.0)), chunks=chunks)


def kept_states(model: Model, captions: Sequence[str]) -> list[Cond]:
    """The states of each caption, each text encoded once."""
    found: dict[str, Cond] = {}
    with torch.no_grad():
        for caption in dict.fromkeys(captions):
            found[caption] = states_of(model, chunks_of(model, caption))
    return [found[caption] for caption in captions]


def as_long(conds: Sequence[Cond], empty: Tensor) -> list[Cond]:
    """The conds with equally many chunks: shorter captions get empty ones, of these states (1, 77, width), behind."""
    longest = max(cond.context.shape[1] for cond in conds)
    return [
        replace(cond, context=torch.cat([cond.context, *[empty] * ((longest - own) // empty.shape[1])], 1))
        for cond in conds
        for own in (cond.context.shape[1],)
    ]
