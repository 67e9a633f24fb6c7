"""Enlarge a trained UNet to the recipe's: `python grow.py FOLDER`, once, before `unet.py`.

FOLDER is a diffusers model whose UNet differs from the recipe's in one of these ways:

- It has one level less, for pictures half as large. Its levels become the inner ones. The new outermost level passes
  its input through at first: the inner levels get every second position of what the old network got at its full size,
  and the new last block adds little.
- Its levels, except the outermost, are narrower. Their channels are used twice.
- Its levels have fewer layers, or no cross-attention. What is new changes nothing at first.

Writes the `unet.pt` from which `unet.py` continues, and the other parts in single precision if the work folder
has none.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

import recipe


def inner(name: str) -> str:
    """The name in the larger network of a tensor of the smaller one."""
    part, _, rest = name.partition(".")
    if part != "down_blocks":
        return name
    level, _, rest = rest.partition(".")
    return f"down_blocks.{int(level) + 1}.{rest}"


@torch.no_grad()
def grow(small: dict[str, Tensor], widths: tuple[int, ...], layers: tuple[int, ...]) -> UNet2DConditionModel:
    """The recipe's UNet with these widths and layers (none in the outermost level) and the smaller network's weights in
    its inner levels."""
    unet = UNet2DConditionModel(**recipe.UNET | {"block_out_channels": widths, "layers_per_block": layers})
    state, last = unet.state_dict(), f"up_blocks.{len(recipe.UNET['up_block_types']) - 1}"
    for name, value in small.items():
        if not name.startswith("conv_in."):
            state[inner(name)].copy_(value)
    width = len(small["conv_in.weight"])
    torch.nn.init.dirac_(state["conv_in.weight"][:4])  # the latents themselves, and 28 features still to be learned
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


@torch.no_grad()
def deepen(
    shallow: dict[str, Tensor], widths: tuple[int, ...], layers: tuple[int, ...]
) -> UNet2DConditionModel:
    """The recipe's UNet with these widths and the weights of one with fewer layers; each new residual block returns its
    input.

    In the down blocks the new residual blocks come last. In the up blocks they come second, because only the first may
    have another input width; or first, if the level had a single one, which reads the level's input. Levels with
    attention keep their layers; where attention is new, it adds nothing.
    """
    torch.manual_seed(recipe.SEED)
    unet = UNet2DConditionModel(**recipe.UNET | {"block_out_channels": widths})
    state, levels = unet.state_dict(), len(layers)
    for name, value in state.items():
        if ".proj_out." in name and name not in shallow:
            value.zero_()
        elif new(name, layers):
            if ".conv2." in name:
                value.zero_()
            elif name.endswith("conv_shortcut.weight"):
                value.zero_()[:, : len(value), 0, 0] = torch.eye(len(value))
            elif name.endswith("conv_shortcut.bias"):
                value.zero_()
    for name, value in shallow.items():
        found = re.match(r"up_blocks\.(\d)\.resnets\.(\d)\.", name)
        if found:
            level, place = levels - 1 - int(found[1]), int(found[2])
            more = recipe.UNET["layers_per_block"][level] - layers[level]
            place += more if place or not layers[level] else 0
            name = f"up_blocks.{found[1]}.resnets.{place}.{name[found.end() :]}"
        state[name].copy_(value)
    return unet


def new(name: str, layers: tuple[int, ...]) -> bool:
    """True if the tensor belongs to a residual block that a UNet with these layers does not have."""
    found = re.match(r"(down|up)_blocks\.(\d)\.resnets\.(\d)\.", name)
    if not found:
        return False
    way, level, place = found[1], int(found[2]), int(found[3])
    if way == "down":
        return place >= layers[level]
    level = len(layers) - 1 - level
    first = 1 if layers[level] else 0
    return first <= place < first + recipe.UNET["layers_per_block"][level] - layers[level]


@torch.no_grad()
def widen(narrow: dict[str, Tensor], widths: tuple[int, ...]) -> UNet2DConditionModel:
    """The recipe's UNet with the weights of one with these widths.

    The outermost level must have the recipe's width, because the time embedding depends on it. Each channel is used
    once or twice, in order, so that the groups of group norm keep their channels. The output changes a little where
    groups span two levels; some thousand pictures of training repair that.
    """
    torch.manual_seed(recipe.SEED)
    unet = UNet2DConditionModel(**recipe.UNET)
    state, wide = unet.state_dict(), recipe.UNET["block_out_channels"]
    for name, made in state.items():
        if name in narrow:
            value = narrow[name]
        elif name.endswith("conv_shortcut.bias"):  # the old block had none, because its input and output had one width
            value = torch.zeros(len(narrow[name.replace("_shortcut", "2")]))
        else:
            value = torch.eye(len(narrow[name.replace("_shortcut.weight", "2.bias")]))[..., None, None]
        for axis in range(value.dim()):
            if value.shape[axis] != made.shape[axis]:
                of = joined(name, widths) if axis == 1 or ".norm1." in name else None
                into = joined(name, wide) if of else [made.shape[axis]]
                value = doubled(value, axis, of or [value.shape[axis]], into)
        made.copy_(value)
    return unet


def doubled(value: Tensor, axis: int, of: list[int], into: list[int]) -> Tensor:
    """Widen a tensor along `axis`, whose channels are parts of these widths side by side.

    A layer that reads (axis 1) two copies of a channel weights them unevenly; with equal weights they would stay equal
    for ever.
    """
    starts = [sum(of[:i]) for i in range(len(of))]
    places = [
        start + torch.arange(after) * before // after
        for start, before, after in zip(starts, of, into, strict=True)
    ]
    places = torch.cat(places)
    value = value.index_select(axis, places)
    if axis != 1:
        return value
    share = torch.ones(len(places))
    twins = torch.nonzero(places[1:] == places[:-1])[:, 0]
    share[twins] = torch.empty(len(twins)).uniform_(0.3, 0.7)
    share[twins + 1] = 1 - share[twins]
    return value * share.view(-1, *[1] * (value.dim() - 2))


def joined(name: str, widths: tuple[int, ...]) -> list[int] | None:
    """The widths of the two inputs that a residual block of an up block reads side by side, if the tensor is of one."""
    found = re.match(r"up_blocks\.(\d)\.resnets\.(\d)\.(norm1|conv1|conv_shortcut)", name)
    if not found or name.endswith(("conv1.bias", "shortcut.bias")):
        return None
    level = len(widths) - 1 - int(found[1])
    first, last = found[2] == "0", int(found[2]) == recipe.UNET["layers_per_block"][level]
    below = widths[min(level + 1, len(widths) - 1)] if first else widths[level]
    return [below, widths[max(level - 1, 0)] if last else widths[level]]


def main(folder: Path) -> None:
    target = recipe.WORK / "unet.pt"
    if target.exists():
        raise SystemExit(f"{target} is there already")
    if not recipe.TEACHER.exists():
        shutil.copytree(folder, recipe.TEACHER)
    for part, kind in (("vae", AutoencoderKL), ("text_encoder", CLIPTextModel)):
        if not (recipe.WORK / part).exists():
            kind.from_pretrained(folder / part).float().save_pretrained(recipe.WORK / part)
    small = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    layers = small.config.layers_per_block
    widths = tuple(small.config.block_out_channels)
    layers = (layers,) * len(widths) if isinstance(layers, int) else tuple(layers)
    weights = small.state_dict()
    if len(layers) < len(recipe.UNET["block_out_channels"]):
        layers, widths = (0, *layers), (recipe.UNET["block_out_channels"][0], *widths)
        weights = grow(weights, widths, layers).state_dict()
    small = deepen(weights, widths, layers)
    if widths != recipe.UNET["block_out_channels"]:
        small = widen(small.state_dict(), widths)
    state = small.state_dict()
    torch.save({"networks": {"unet": state}, "average": {"unet": state}, "progress": (0.0, 0, 0, [])}, target)
    print(json.dumps({"parameters": sum(value.numel() for value in state.values())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
