"""Text: a prompt and its negative -> what the U-Net is told. Long prompts are encoded in chunks of 75 tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from sdcli.networks import tokenizer
from sdcli.networks.model import Cond, Model
from sdcli.request.request import Request


def conditions(model: Model, request: Request) -> tuple[Cond, Cond]:
    """(prompt, negative), both with as many chunks as the longer one, so that the U-Net can take them together."""
    texts = [tokenizer.chunks(request.prompt), tokenizer.chunks(request.negative)]
    most = max(map(len, texts))
    skip = request.clip_skip or model.family.clip_skip
    prompt, negative = (Cond(encode(model, [*text, *[[]] * (most - len(text))], skip)) for text in texts)
    return prompt, negative


@torch.inference_mode()
def encode(model: Model, chunks: list[list[int]], clip_skip: int = 1) -> Tensor:
    """Chunks of at most 75 token ids -> context (1, 77 * chunks, width), float32.

    `clip_skip` counts layers from the end as A1111 does: 1 is the last, 2 the one before; each through the final
    norm.
    """
    ids = torch.tensor([tokenizer.framed(chunk) for chunk in chunks], device=model.place.device)
    states = model.text(ids, output_hidden_states=clip_skip > 1)
    if clip_skip == 1:
        hidden = states.last_hidden_state
    else:
        hidden = model.text.final_layer_norm(states.hidden_states[-clip_skip])
    return hidden.float().reshape(1, -1, hidden.shape[-1])
