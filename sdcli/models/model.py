"""Model: a loaded checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sdcli.checkpoints.family import Family
from sdcli.diffusion.levels import Levels
from sdcli.models.device import Placement
from sdcli.models.offload import Networks
from sdcli.request.request import Request


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded checkpoint: its networks, in memory when they are taken, and what it brings along.

    `prediction` is what the U-Net predicts: epsilon, v_prediction or sample. `size` is its picture's side in
    pixels. `facts` go into the metadata of each picture it makes.
    """

    name: str
    family: Family
    nets: Networks
    levels: Levels
    prediction: str
    size: int
    placement: Placement
    facts: Mapping[str, Any]
    depth: Callable[[], Any] | None = None  # loads its DPTForDepthEstimation once, if it has one

    @property
    def factor(self) -> int:
        """How many pixels a latent stands for, each way: 8, but 4 for the x4 upscaler."""
        config = self.config("vae")
        levels = config.get("block_out_channels") or config["encoder_block_out_channels"]
        return int(2 ** (len(levels) - 1))

    @property
    def text_encoders(self) -> Mapping[str, Any]:
        """The text encoders, CLIPTextModel, by the name of their part."""
        return self.nets.only(self.family.text_encoders)

    @property
    def unet(self) -> Any:
        """UNet2DConditionModel."""
        return self.nets["unet"]

    @property
    def vae(self) -> Any:
        """AutoencoderKL, or a tiny autoencoder."""
        return self.nets["vae"]

    def config(self, part: str) -> Any:
        """The config of a network, which is at hand whether the network is in memory or not."""
        return self.nets.nets[part].config

    def with_defaults(self, request: Request) -> Request:
        """The request with the model's own defaults for everything that was left open, but the seed."""
        own = {
            "steps": self.family.steps,
            "cfg": self.family.cfg,
            "sampler": self.family.sampler,
            "schedule": self.family.schedule,
            "guidance": self.family.guidance,
            "clip_skip": self.family.clip_skip,
            "width": self.size,
            "height": self.size,
        }
        if request.image is not None:
            own["strength"] = self.family.strength
        return request.replace(**{key: value for key, value in own.items() if getattr(request, key) is None})
