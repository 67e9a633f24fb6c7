"""Text: prompt and negative prompt -> conditions for the U-Net. Long prompts are encoded in chunks of 75 tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from sdcli.diffusion.conditioning import Composed, Cond
from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.models.model import Model
from sdcli.pipeline.encode import encode_prompt
from sdcli.request.job import Job
from sdcli.request.prompt.chunks import Chunk, Token

Chunks = list[Chunk]
"""Tokens in chunks of at most 75, each read by one pass of the text encoder."""


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
    return {
        part: [tuple(Token(id) for id in chunk) for chunk in tokenizer.chunks(text)]
        for part, tokenizer in model.tokenizers.items()
    }


def _encode_padded(model: Model, job: Job, count: int, chunks: Mapping[str, Chunks]) -> Cond:
    """The condition of a prompt, with empty chunks behind it up to `count`, or to those of its other text encoder."""
    count = max(count, *(len(own) for own in chunks.values()))
    padded = {part: [*own, *[()] * (count - len(own))] for part, own in chunks.items()}
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
