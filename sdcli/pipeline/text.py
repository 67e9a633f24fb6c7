"""Text: prompt and negative prompt -> conditions for the U-Net. Long prompts are encoded in chunks of 75 tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sdcli.checkpoints.family import Family
from sdcli.checkpoints.tokenizer import framed
from sdcli.diffusion.conditioning import Composed, Cond
from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.errors import UsageError
from sdcli.models.model import Model
from sdcli.request.job import Job

Chunks = list[list[int]]
"""Token ids in chunks of at most 75, each read by one pass of the text encoder."""


def encode_prompts(model: Model, job: Job) -> tuple[Composed, Composed]:
    """(prompt, negative prompt), with as many chunks as the longer one, so that one U-Net call takes both.

    Under the conventions of a tool that pads neither, each keeps its own number of chunks.
    """
    positive, negative = _chunks(model, job.prompt), _chunks(model, job.negative)
    longest = max(len(chunks) for each in (positive, negative) for chunks in each.values())
    count = longest if CONVENTIONS[job.like].pads_prompts else 1
    encode = partial(_encode_padded, model, job, count)
    conds = _with_aesthetic_scores(model, encode(positive), _negative(model, job, encode, negative))
    return Composed.plain(conds[0]), Composed.plain(conds[1])


def _chunks(model: Model, text: str) -> dict[str, Chunks]:
    """The chunks of a text for each text encoder; they differ if one tokenizer has words that the other lacks."""
    return {part: tokenizer.chunks(text) for part, tokenizer in model.tokenizers.items()}


def encode_prompt(
    model: Model, chunks: Mapping[str, Chunks], clip_skip: int, size: tuple[float, float]
) -> Cond:
    """The condition of one prompt: the states of the family's text encoders side by side, and the pooled state.

    `chunks` are those for each text encoder, equally many.
    `size` is (height, width) in pixels. Families with size conditioning are told that nothing was cropped or scaled.
    """
    encoded = [encode_chunks(model, part, own, clip_skip) for part, own in chunks.items()]
    pooled = [each for _, each in encoded if each is not None]
    return Cond(
        context=torch.cat([context for context, _ in encoded], -1),
        pooled=pooled[-1] if pooled else None,
        time_ids=(*size, 0.0, 0.0, *size) if pooled else (),
    )


@torch.inference_mode()
def encode_chunks(
    model: Model, part: str, chunks: Chunks, clip_skip: int = 1
) -> tuple[Tensor, Tensor | None]:
    """One text encoder's output for chunks of token ids: (context (1, 77 * chunks, width), pooled (1, width) or None).

    `clip_skip` counts layers from the last, which is 1; 2 is the penultimate. A layer later than the family's own
    (SD 2 and SDXL use the penultimate) stands for the family's own. The pooled state is that of the first chunk.
    Raises UsageError if the encoder has fewer layers.
    """
    use = model.family.text_encoders[part]
    check_clip_skip(clip_skip, model.name, model.family, part, model.configs[part])
    encoder = model.text_encoder(part)
    pad = model.tokenizers[part].pad
    ids = torch.tensor([framed(chunk, pad) for chunk in chunks], device=model.placement.device)
    states = encoder(ids)
    skipped = max(clip_skip - model.family.clip_skip, 0)
    context = states.hidden_states[-(use.layer + skipped)]
    if use.norm:
        context = encoder.final_layer_norm(context)
    pooled = states.pooled[:1].float() if use.pooled else None
    return context.float().reshape(1, -1, context.shape[-1]), pooled


def check_clip_skip(clip_skip: int, name: str, family: Family, part: str, config: Mapping[str, Any]) -> None:
    """Raise UsageError if the text encoder `part` of a model, which has this config, has fewer layers."""
    most = config["num_hidden_layers"] - family.text_encoders[part].layer + family.clip_skip
    if clip_skip > most:
        raise UsageError(f"--clip-skip {clip_skip}: the text encoder of {name} allows {most} at most")


def _encode_padded(model: Model, job: Job, count: int, chunks: Mapping[str, Chunks]) -> Cond:
    """The condition of a prompt, with empty chunks behind it up to `count`, or to those of its other text encoder."""
    count = max(count, *(len(own) for own in chunks.values()))
    padded = {part: [*own, *[[]] * (count - len(own))] for part, own in chunks.items()}
    return encode_prompt(model, padded, job.clip_skip, (float(job.height), float(job.width)))


def _negative(model: Model, job: Job, encode: partial[Cond], chunks: Mapping[str, Chunks]) -> Cond:
    """The negative prompt's condition. An empty one is all zeros for families trained that way.

    A prompt that is not empty knows how to make the empty one, for guidances that compare with it.
    """
    if job.negative:
        return replace(encode(chunks), make_empty=partial(encode, _chunks(model, "")))
    negative = encode(chunks)
    if not model.family.zero_empty:
        return negative
    pooled = None if negative.pooled is None else negative.pooled * 0
    return replace(negative, context=negative.context * 0, pooled=pooled)


def _with_aesthetic_scores(model: Model, positive: Cond, negative: Cond) -> tuple[Cond, Cond]:
    """The conditions for a family that is told an aesthetic score in place of the target size (SDXL refiner)."""
    if not model.family.aesthetic:
        return positive, negative
    good, bad = model.family.aesthetic

    def scored(cond: Cond, score: float) -> Cond:
        make_empty = cond.make_empty
        empty = None if make_empty is None else lambda: scored(make_empty(), score)
        return replace(cond, time_ids=(*cond.time_ids[:4], score), make_empty=empty)

    return scored(positive, good), scored(negative, bad)
