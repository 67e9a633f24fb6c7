"""Engine networks: a model's U-Net and VAE decoder as another engine than torch runs them."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sdcli import registry
from sdcli.checkpoints import network_config
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.hashes import digest
from sdcli.errors import UsageError
from sdcli.models.architectures.unet import Residuals
from sdcli.models.device import Placement
from sdcli.models.engine_cache import engine_folder
from sdcli.models.engine_types import Engine, EngineNetwork, TensorFunction

PARTS = ("unet", "vae")
"""The parts of a checkpoint that an engine takes over; of the VAE the decoder."""

MOST_FUNCTIONS = 4
"""Shapes for which networks are kept ready: an engine may hold the weights once more for each of them."""

Load = Callable[[str, Placement], nn.Module]
"""(part, placement) -> a network of its own with its weights."""


class EngineNetworks:
    """The U-Net and the decoder of a checkpoint, each prepared by an engine when it is first called with some shapes.

    `unet` is called as a UNet is, `decode` as that of a VAE.
    """

    def __init__(self, engine: Engine, name: str, unet: EngineNetwork, decoder: EngineNetwork) -> None:
        self.engine, self.name = engine, name
        self.networks = {"unet": unet, "vae_decoder": decoder}
        self._functions: OrderedDict[object, TensorFunction] = OrderedDict()  # the latest last

    def unet(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        *,
        pooled: Tensor | None = None,
        time_ids: Tensor | None = None,
        class_labels: Tensor | None = None,
        time_cond: Tensor | None = None,
        control: Residuals | None = None,
    ) -> Tensor:
        """What a UNet predicts; raises UsageError for residuals of control networks, which engines do not take."""
        if control is not None:
            raise UsageError(f"--engine {self.name} cannot run --control; leave one of them out")
        more = {"pooled": pooled, "time_ids": time_ids, "class_labels": class_labels, "time_cond": time_cond}
        arguments = {"x": x, "t": t, "context": context}
        return self._run("unet", arguments | {name: each for name, each in more.items() if each is not None})

    def decode(self, z: Tensor) -> Tensor:
        """Latents (n, 4, h, w) -> pixels (n, 3, 8h, 8w)."""
        return self._run("vae_decoder", {"x": z})

    def check(self, unet: tuple[int, int], decoder: tuple[int, int]) -> None:
        """Raise UsageError if the engine cannot run the U-Net and the decoder on latents of these sizes (h, w)."""
        self.engine.check(self.networks["unet"], unet, engine_folder(self.name))
        self.engine.check(self.networks["vae_decoder"], decoder, engine_folder(self.name))

    def _run(self, name: str, arguments: dict[str, Tensor]) -> Tensor:
        return self._function(name, arguments)(list(arguments.values()))

    def _function(self, name: str, arguments: dict[str, Tensor]) -> TensorFunction:
        key = (name, *((each, value.shape) for each, value in arguments.items()))
        if key not in self._functions:
            network, (height, width) = self.networks[name], arguments["x"].shape[-2:]
            self.engine.check(network, (height, width), engine_folder(self.name))
            while len(self._functions) >= MOST_FUNCTIONS:
                self._functions.popitem(last=False)
            self._functions[key] = self.engine.function(network, arguments, engine_folder(self.name))
        self._functions.move_to_end(key)
        return self._functions[key]


def engine_networks(found: Checkpoint, spec: str, placement: Placement, load: Load) -> EngineNetworks | None:
    """The networks of a checkpoint as the engine of this spec runs them; None for torch.

    Raises UsageError if the engine is not installed, or cannot run on the device.
    """
    parsed = registry.parse("engines", spec)
    engine = registry.find("engines", parsed)()
    if engine is None:
        return None
    engine.versions()
    levels = len(found.components["unet"].config["block_out_channels"])
    unet = _network(found, "unet", 2 ** (levels - 1), placement, load)
    decoder = replace(_network(found, "vae", 1, placement, load), name="vae_decoder")
    return EngineNetworks(engine, parsed.name, unet, decoder)


def _network(found: Checkpoint, part: str, multiple: int, placement: Placement, load: Load) -> EngineNetwork:
    config = json.dumps(dict(found.components[part].config), sort_keys=True, default=str)
    config_key = hashlib.sha256(f"{part} {config} {_source_text()}".encode()).hexdigest()

    def weights_key() -> str:
        return hashlib.sha256(f"{config_key} {digest(found.paths)}".encode()).hexdigest()

    def loaded(dtype: torch.dtype) -> nn.Module:
        return load(part, Placement(placement.device, dtype))

    factor = network_config.pixels_per_latent(network_config.settings("vae", found.components["vae"].config))
    return EngineNetwork(part, found.name, config_key, weights_key, multiple, factor, placement, loaded)


@functools.cache
def _source_text() -> str:
    """The sha256 of the source text of all networks: a network that is mended is converted anew."""
    folder = Path(__file__).parent / "architectures"
    texts = [path.read_bytes() for path in sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"\0".join([torch.__version__.encode(), *texts])).hexdigest()
