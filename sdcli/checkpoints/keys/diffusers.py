"""Diffusers: the names that older diffusers and transformers wrote into model folders -> today's names."""

from __future__ import annotations

import re

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""How a VAE's attention was named before diffusers 0.14."""


def current_name(part: str, key: str) -> str:
    """Today's name, in its network, of the tensor `key` of the component `part` in a diffusers folder."""
    if part.startswith("text_encoder"):
        return key.removeprefix("text_model.")
    if part == "vae" and ".attentions." in key:
        return re.sub(r"\.(query|key|value|proj_attn)\.", lambda match: f".{_OLD_ATTENTION[match[1]]}.", key)
    return key
