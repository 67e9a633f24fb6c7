"""Control: the names of control networks' tensors in files <-> their names here, which are diffusers' names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sdcli.checkpoints.keys import ldm
from sdcli.checkpoints.keys.rename import rename

PREFIX = "control_model."
"""Before the LDM names of a ControlNet; it may lack."""

_HINT = {
    "input_hint_block.0": "controlnet_cond_embedding.conv_in",
    **{f"input_hint_block.{2 * i + 2}": f"controlnet_cond_embedding.blocks.{i}" for i in range(6)},
    "input_hint_block.14": "controlnet_cond_embedding.conv_out",
    "middle_block_out.0": "controlnet_mid_block",
}
_ZERO = re.compile(r"zero_convs\.(\d{1,3})\.0\.")
_ORIGINAL_BLOCK = re.compile(r"body\.(\d{1,3})\.(block1|block2|in_conv)\.")
_LIGHT_BLOCK = re.compile(r"body\.(\d{1,3})\.body\.(\d{1,3})\.")


def controlnet_name(key: str, layers: int) -> str:
    """The name of a ControlNet's tensor by its LDM key, without PREFIX; `layers` as for a U-Net."""
    key = _ZERO.sub(r"controlnet_down_blocks.\1.", key)
    return rename(key, _HINT) or ldm.unet_name(key, layers)


def t2i_names(keys: Iterable[str]) -> dict[str, str]:
    """Key -> the name of a T2I-Adapter's tensor: diffusers' without `adapter.`, which the authors' files do not have.

    Those number the residual blocks through; there are two in each stage, and the convolution that widens a stage
    counts as the first one's.
    """
    plain = {key: key.removeprefix("adapter.") for key in keys}
    numbers_blocks = "body.0.block1.weight" in plain.values()
    return {key: _t2i_name(name, numbers_blocks) for key, name in plain.items()}


def _t2i_name(key: str, numbers_blocks: bool) -> str:
    key = _LIGHT_BLOCK.sub(r"body.\1.resnets.\2.", key)
    match = _ORIGINAL_BLOCK.match(key) if numbers_blocks else None
    if match is None:
        return key
    stage, block = divmod(int(match[1]), 2)
    inner = "in_conv" if match[2] == "in_conv" else f"resnets.{block}.{match[2]}"
    return f"body.{stage}.{inner}.{key[match.end() :]}"
