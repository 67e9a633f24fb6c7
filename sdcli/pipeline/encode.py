"""Encode: chunks of tokens -> what the U-Net is told of them, by the text encoders of a family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sdcli.checkpoints.family import Family
from sdcli.diffusion.conditioning import Cond
from sdcli.errors import UsageError
from sdcli.models.architectures.clip import CLIPTextModel
from sdcli.models.model import Model
from sdcli.pipeline import emphasis as formulas
from sdcli.request.prompt.chunks import Chunk, ids, weights

Vectors = Mapping[str, Tensor]
"""The name of a learned embedding -> its vectors for one text encoder, (count, width)."""
NO_VECTORS: Vectors = {}


def encode_prompt(
    model: Model,
    chunks: Mapping[str, Sequence[Chunk]],
    clip_skip: int,
    size: tuple[float, float],
    emphasis: str = "none",
    vectors: Mapping[str, Vectors] = {},
) -> Cond:
    """The condition of one prompt: the states of the family's text encoders side by side, and the pooled state.

    `chunks` and `vectors` are those for each text encoder; the chunks are equally many.
    `size` is (height, width) in pixels. Families with size conditioning are told that nothing was cropped or scaled.
    """
    encoded = [
        encode_chunks(model, part, own, clip_skip, emphasis, vectors.get(part, {}))
        for part, own in chunks.items()
    ]
    return replace(side_by_side(encoded, size), chunks=chunks)


def side_by_side(encoded: Sequence[tuple[Tensor, Tensor | None]], size: tuple[float, float]) -> Cond:
    """The condition by the (context, pooled) of each text encoder, for a picture of `size` (height, width) pixels."""
    pooled = [each for _, each in encoded if each is not None]
    return Cond(
        context=torch.cat([context for context, _ in encoded], -1),
        pooled=pooled[-1] if pooled else None,
        time_ids=(*size, 0.0, 0.0, *size) if pooled else (),
    )


@torch.inference_mode()
def encode_chunks(
    model: Model,
    part: str,
    chunks: Sequence[Chunk],
    clip_skip: int = 1,
    emphasis: str = "none",
    vectors: Vectors = NO_VECTORS,
) -> tuple[Tensor, Tensor | None]:
    """One text encoder's output for chunks of tokens: (context (1, 77 * chunks, width), pooled (1, width) or None).

    `clip_skip` counts layers from the last, which is 1; 2 is the penultimate. A layer later than the family's own
    (SD 2 and SDXL use the penultimate) stands for the family's own. `emphasis` names the formula by which the tokens'
    weights act on the context. The pooled state is that of the first chunk, without weights.
    Raises UsageError if the encoder has fewer layers, or if the weights make a state infinite.
    """
    context, pooled = encoder_states(model, part, chunks, clip_skip, vectors)

    def empty() -> Tensor:
        return encoder_states(model, part, [()], clip_skip)[0]

    typed = torch.tensor([weights(chunk) for chunk in chunks], device=context.device)
    context = formulas.apply(emphasis, context, typed, empty)
    return context.reshape(1, -1, context.shape[-1]), pooled


@torch.inference_mode()
def encoder_states(
    model: Model,
    part: str,
    chunks: Sequence[Chunk],
    clip_skip: int = 1,
    vectors: Vectors = NO_VECTORS,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The states that a text encoder gives for each chunk: ((chunks, 77, width), pooled (1, width) or None).

    Both are float32. `mask` (chunks, 77) is False for tokens that are hidden from all others.
    Raises UsageError if the encoder has fewer layers than `clip_skip` asks for.
    """
    return differentiable_states(model, part, chunks, clip_skip, vectors, mask)


def differentiable_states(
    model: Model,
    part: str,
    chunks: Sequence[Chunk],
    clip_skip: int = 1,
    vectors: Vectors = NO_VECTORS,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """`encoder_states` with gradients, where torch records them, for vectors that are being learned."""
    use = model.family.text_encoders[part]
    check_clip_skip(clip_skip, model.name, model.family, part, model.configs[part])
    encoder = model.text_encoder(part)
    pad = model.tokenizers[part].pad
    rows = torch.tensor([ids(chunk, pad) for chunk in chunks], device=model.placement.device)
    seen = None if mask is None else mask.to(rows.device)
    states = encoder(rows, _embeddings(encoder, rows, chunks, vectors), seen)
    skipped = max(clip_skip - model.family.clip_skip, 0)
    context = states.hidden_states[-(use.layer + skipped)]
    if use.norm:
        context = encoder.final_layer_norm(context)
    return context.float(), states.pooled[:1].float() if use.pooled else None


def check_clip_skip(clip_skip: int, name: str, family: Family, part: str, config: Mapping[str, Any]) -> None:
    """Raise UsageError if the text encoder `part` of a model, which has this config, has fewer layers."""
    most = config["num_hidden_layers"] - family.text_encoders[part].layer + family.clip_skip
    if clip_skip > most:
        raise UsageError(f"--clip-skip {clip_skip}: the text encoder of {name} allows {most} at most")


def _embeddings(
    encoder: CLIPTextModel, rows: Tensor, chunks: Sequence[Chunk], vectors: Vectors
) -> Tensor | None:
    """The token embeddings (chunks, 77, width) of ids with learned vectors in their places; None if there are none."""
    places = [
        (i, 1 + j, token)  # BEGIN comes first
        for i, chunk in enumerate(chunks)
        for j, token in enumerate(chunk)
        if token.embedding
    ]
    if not places:
        return None
    embeddings = encoder.embed(rows)
    for i, j, token in places:
        embeddings[i, j] = vectors[token.embedding][token.vector].to(embeddings)
    return embeddings
