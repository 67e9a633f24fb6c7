"""A trained UNet becomes one for pictures twice as large: `python grow.py FOLDER`, once, before `unet.py`.

FOLDER is a diffusers UNet with one level less than the recipe's. Its levels become the inner ones; the new outermost
level starts as a passage: what the old network saw at its full size, the inner levels now see of every second place,
and the new last block adds little at first. Writes the `unet.pt` that `unet.py` goes on from.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

import recipe


def inner(name: str) -> str:
    """Where a tensor of the smaller network belongs in the larger."""
    part, _, rest = name.partition(".")
    if part != "down_blocks":
        return name
    level, _, rest = rest.partition(".")
    return f"down_blocks.{int(level) + 1}.{rest}"


@torch.no_grad()
def grow(small: dict[str, Tensor]) -> UNet2DConditionModel:
    """The recipe's UNet with the smaller one's weights inside."""
    unet = UNet2DConditionModel(**recipe.UNET)
    state, last = unet.state_dict(), f"up_blocks.{len(recipe.UNET['up_block_types']) - 1}"
    for name, value in small.items():
        if not name.startswith("conv_in."):
            state[inner(name)].copy_(value)
    width = len(small["conv_in.weight"])
    torch.nn.init.dirac_(state["conv_in.weight"][:4])  # the latents themselves, and 28 features to be learned
    state["conv_in.bias"][:4] = 0
    way_in = state["down_blocks.0.downsamplers.0.conv.weight"]
    way_in.mul_(0.1)
    way_in[:, :4] = small["conv_in.weight"]
    state["down_blocks.0.downsamplers.0.conv.bias"].copy_(small["conv_in.bias"])
    before = f"up_blocks.{len(recipe.UNET['up_block_types']) - 2}"
    torch.nn.init.dirac_(state[f"{before}.upsamplers.0.conv.weight"])
    state[f"{before}.upsamplers.0.conv.bias"].zero_()
    state[f"{last}.resnets.0.conv2.weight"].mul_(0.2)
    shortcut = state[f"{last}.resnets.0.conv_shortcut.weight"]
    shortcut.zero_()
    shortcut[:, :width, 0, 0] = torch.eye(width)
    unet.load_state_dict(state)
    return unet


def main(folder: Path) -> None:
    target = recipe.WORK / "unet.pt"
    if target.exists():
        raise SystemExit(f"{target} is there already")
    small = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
    state = grow(small.state_dict()).state_dict()
    torch.save({"unet": state, "average": state, "progress": (0.0, 0, 0, [])}, target)
    print(json.dumps({"parameters": sum(value.numel() for value in state.values())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
