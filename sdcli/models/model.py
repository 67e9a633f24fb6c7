"""Model: a loaded checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sdcli.checkpoints.defaults import job_by
from sdcli.checkpoints.family import Family
from sdcli.checkpoints.network_config import pixels_per_latent
from sdcli.diffusion.conditioning import Cond
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.limits import Threshold
from sdcli.models.architectures.clip import CLIPTextModel
from sdcli.models.architectures.taesd import AutoencoderTiny
from sdcli.models.architectures.unet import UNet
from sdcli.models.architectures.vae import AutoencoderKL
from sdcli.models.control import ControlNetworks
from sdcli.models.device import Placement
from sdcli.models.engine_networks import EngineNetworks
from sdcli.models.offload import Networks
from sdcli.request.job import Job
from sdcli.request.request import Request
from sdcli.tokenizer import Tokenizer

if TYPE_CHECKING:
    from sdcli.models.joint_calls import JointCalls


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded checkpoint: its networks, in memory when they are used, and what it brings along.

    `configs` are the settings of each network, with every default filled in; `tokenizers` go by text encoder.
    `prediction` is what the U-Net predicts: epsilon, v_prediction or sample. `size` is the side of its pictures in
    pixels. `facts` go into the metadata of each picture it makes.
    """

    name: str
    family: Family
    networks: Networks
    configs: Mapping[str, Mapping[str, Any]]
    tokenizers: Mapping[str, Tokenizer]
    levels: Levels
    threshold: Threshold | None  # of each estimate of the network, after guidance
    prediction: str
    size: int
    placement: Placement
    facts: Mapping[str, Any]
    control_networks: ControlNetworks
    by_engine: EngineNetworks | JointCalls | None = (
        None  # runs the U-Net and the decoder in place of torch's call
    )
    load_depth_network: Callable[[], nn.Module] | None = None  # loads it once; None if there is none
    encoded: dict[Hashable, Cond] = field(default_factory=dict)  # texts that were encoded, the oldest first

    @property
    def factor(self) -> int:
        """Pixels per latent on each side: 8, but 4 for the x4 upscaler."""
        return pixels_per_latent(self.configs["vae"])

    @property
    def unet(self) -> UNet:
        """The noise predictor."""
        return self.networks["unet"]  # type: ignore[return-value]

    def predict_noise(self, x: Tensor, t: Tensor, **arguments: Any) -> Tensor:
        """The U-Net called with these arguments, by whichever engine runs it."""
        out: Tensor = (self.by_engine.unet if self.by_engine else self.unet)(x, t, **arguments)
        return out

    def decode(self, z: Tensor) -> Tensor:
        """The VAE's decoder called with these latents, by whichever engine runs it."""
        return self.by_engine.decode(z) if self.by_engine else self.vae.decode(z)

    @property
    def vae(self) -> AutoencoderKL | AutoencoderTiny:
        """The autoencoder: AutoencoderKL or a tiny one."""
        return self.networks["vae"]  # type: ignore[return-value]

    def text_encoder(self, part: str) -> CLIPTextModel:
        """One of the text encoders: text_encoder or text_encoder_2."""
        return self.networks[part]  # type: ignore[return-value]

    def with_defaults(self, request: Request) -> Job:
        """The job of a request: the model's own defaults for what it leaves open, and a seed drawn if it has none."""
        return job_by(self.family, self.size, request)
