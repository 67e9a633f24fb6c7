"""Text: a prompt and its negative -> what the U-Net is told. Long prompts are encoded in chunks of 75 tokens."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sdcli.checkpoints import tokenizer
from sdcli.diffusion.conditioning import Composed, Cond
from sdcli.errors import UsageError
from sdcli.models.classes import prefix
from sdcli.models.model import Model
from sdcli.request.request import Request


def encode_prompts(model: Model, request: Request) -> tuple[Composed, Composed]:
    """(prompt, negative), both with as many chunks as the longer one, so that the U-Net can take them together."""
    texts = [tokenizer.chunks(request.prompt), tokenizer.chunks(request.negative)]
    most = max(map(len, texts))
    skip = request.clip_skip or model.family.clip_skip
    size = (float(request.height or 0), float(request.width or 0))
    prompt, negative = (
        encode_prompt(model, [*text, *[[]] * (most - len(text))], skip, size) for text in texts
    )
    if model.family.zero_empty and not request.negative:
        assert negative.pooled is not None
        negative = Cond(negative.context * 0, negative.pooled * 0, negative.time_ids)
    if model.family.aesthetic:
        prompt, negative = (
            Cond(cond.context, cond.pooled, (*cond.time_ids[:4], score))
            for cond, score in zip((prompt, negative), model.family.aesthetic, strict=True)
        )
    if request.negative:
        sizes = negative.time_ids
        negative = replace(
            negative,
            make_empty=lambda: replace(encode_prompt(model, [[]] * most, skip, size), time_ids=sizes),
        )
    return Composed.plain(prompt), Composed.plain(negative)


def encode_prompt(model: Model, chunks: list[list[int]], clip_skip: int, size: tuple[float, float]) -> Cond:
    """One side of the guidance: the states of the family's text encoders beside each other, and what is pooled.

    `size` is (height, width) in pixels; the families that are told it hear that nothing was cropped or scaled.
    """
    read = [encode(model, part, chunks, clip_skip) for part in model.text_encoders]
    pooled = [each for _, each in read if each is not None]
    sizes = (*size, 0.0, 0.0, *size) if pooled else ()
    return Cond(torch.cat([context for context, _ in read], -1), pooled[-1] if pooled else None, sizes)


@torch.inference_mode()
def encode(
    model: Model, part: str, chunks: list[list[int]], clip_skip: int = 1
) -> tuple[Tensor, Tensor | None]:
    """One text encoder's reading of chunks of at most 75 token ids: (context (1, 77 * chunks, width), pooled or None).

    `clip_skip` counts layers as A1111 does: 1 is the layer the family reads, 2 the one before. What is pooled is the
    first chunk's. Raises UsageError if there are not as many layers.
    """
    net, reader = model.text_encoders[part], model.family.text_encoders[part]
    most = model.config(part).num_hidden_layers - reader.layer + 1
    if clip_skip > most:
        raise UsageError(f"--clip-skip {clip_skip}: the text encoder of {model.name} allows {most} at most")
    ids = torch.tensor(
        [tokenizer.framed(chunk, reader.pad) for chunk in chunks], device=model.placement.device
    )
    states = net(ids, output_hidden_states=True)
    hidden = states.hidden_states[-(reader.layer + clip_skip - 1)]
    if reader.norm:
        hidden = net.get_submodule(f"{prefix(net)}final_layer_norm")(hidden)
    pooled = states.text_embeds[:1].float() if reader.pooled else None
    return hidden.float().reshape(1, -1, hidden.shape[-1]), pooled
