"""Networks of every family at toy width, and random inputs for them in our words and in the libraries'."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sdcli.tiny
from sdcli import registry
from sdcli.checkpoints import network_config as config
from sdcli.checkpoints import toy
from sdcli.models.architectures.unet import Residuals
from tests.conftest import TOY

TINY = Path(sdcli.tiny.__file__).parent
TINY_PARTS = ("unet", "vae", "text_encoder")

TAESD = {
    "_class_name": "AutoencoderTiny", "act_fn": "relu", "encoder_block_out_channels": [8, 8, 8, 8],
    "decoder_block_out_channels": [8, 8, 8, 8], "num_encoder_blocks": [1, 2, 1, 3],
    "num_decoder_blocks": [3, 1, 2, 1], "latent_channels": 4,
}  # fmt: skip


def _cases() -> dict[str, tuple[str, Mapping[str, Any]]]:
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for name in registry.names("families"):
        for part, values in toy.configs(registry.find("families", name)).items():
            if part != "depth_estimator":
                found[f"{name}-{part}"] = (part, values)
    for part in TINY_PARTS:
        found[f"tiny-{part}"] = (part, json.loads((TINY / part / "config.json").read_text()))
        found[f"toy folder-{part}"] = (part, TOY[part])
    return found | {"taesd-vae": ("vae", TAESD)}


CASES = _cases()
"""Name -> (part, config)."""


def cases_of(kind: str) -> list[str]:
    """The names of the cases of a kind: unet, vae or text_encoder."""
    return [name for name, (part, _) in CASES.items() if part.startswith(kind)]


@dataclass
class UNetInputs:
    """The arguments of one pass of a U-Net."""

    x: Tensor
    t: Tensor
    context: Tensor
    more: dict[str, Tensor]

    def cast(self, dtype: torch.dtype) -> UNetInputs:
        """The same in another dtype; time ids and labels stay as they are."""
        floats = ("pooled", "time_cond")
        more = {name: tensor.to(dtype) if name in floats else tensor for name, tensor in self.more.items()}
        return UNetInputs(self.x.to(dtype), self.t, self.context.to(dtype), more)

    def ours(self, unet: Any, control: Residuals | None = None) -> Tensor:
        """What our U-Net answers."""
        out: Tensor = unet(self.x, self.t, self.context, **self.more, control=control)
        return out

    def theirs(self, unet: Any, control: Residuals | None = None) -> Tensor:
        """What diffusers' U-Net answers."""
        added = {}
        if "pooled" in self.more:
            added = {"text_embeds": self.more["pooled"], "time_ids": self.more["time_ids"]}
        residuals = {}
        if control is not None:
            residuals = {
                "down_block_additional_residuals": tuple(control.down),
                "mid_block_additional_residual": control.mid,
            }
        out: Tensor = unet(
            self.x,
            self.t,
            self.context,
            class_labels=self.more.get("class_labels"),
            timestep_cond=self.more.get("time_cond"),
            added_cond_kwargs=added,
            **residuals,
        ).sample
        return out


def random(seed: int, *shape: int) -> Tensor:
    """Normal numbers of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def channels_last(x: Tensor) -> Tensor:
    """The same in the memory format that networks run in."""
    return x.contiguous(memory_format=torch.channels_last)


def unet_inputs(values: Mapping[str, Any], rows: int, height: int, width: int) -> UNetInputs:
    """Random inputs of the shape that a U-Net of this config takes."""
    settings = config.settings("unet", values)
    more: dict[str, Tensor] = {}
    if settings["addition_embed_type"] == "text_time":
        ids = 5 if settings["projection_class_embeddings_input_dim"] == toy.WIDTH + 5 * 8 else 6
        more["pooled"] = random(3, rows, toy.WIDTH)
        more["time_ids"] = random(4, rows, ids).abs() * 500
    if settings["num_class_embeds"] is not None:
        more["class_labels"] = torch.arange(rows) + 20
    if settings["time_cond_proj_dim"] is not None:
        more["time_cond"] = random(7, rows, settings["time_cond_proj_dim"])
    return UNetInputs(
        channels_last(random(1, rows, settings["in_channels"], height, width)),
        torch.tensor(321.5),
        random(2, rows, 77, settings["cross_attention_dim"]),
        more,
    )


def token_ids(values: Mapping[str, Any]) -> Tensor:
    """Two rows of 77 ids: a short prompt with padding behind it, and a full one."""
    end = values.get("eos_token_id", 49407)
    short = [49406, 320, 736, 3055, 49407]
    padded = short + [0 if values.get("pad_token_id") == 0 else end] * (77 - len(short))
    return torch.tensor([padded, [49406, *range(1000, 1075), 49407]]) % values.get("vocab_size", 49408)
