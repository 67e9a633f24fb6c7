"""Single file: the LDM keys and the shapes in a single file of any family, at any width."""

from __future__ import annotations

from collections.abc import Mapping

from sdcli.checkpoints import toy
from sdcli.checkpoints.family import Config, Family
from sdcli.checkpoints.keys import single_file
from sdcli.models import build


def layout(family: Family, configs: Mapping[str, Config]) -> dict[str, list[int]]:
    """Key and shape of every tensor in a single file of this family, whose networks have these configs."""
    tensors: dict[str, list[int]] = {}
    for part, config in configs.items():
        network = build.build_on_meta(part, config, "x")
        shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        sources = single_file.sources(part, list(shapes), family.name, config.get("hidden_act") == "gelu")
        for name, source in sources.items():
            shape = shapes[name]
            if source.take.startswith("third"):
                shape = [3 * shape[0], *shape[1:]]
            elif source.take == "transpose":
                shape = shape[::-1]
            elif ".mid.attn_1." in source.key and len(shape) == 2:  # LDM has 1x1 convolutions there
                shape = [*shape, 1, 1]
            tensors[source.key] = shape
    return tensors


def narrow(family: Family) -> dict[str, Config]:
    """The family's configs at toy width, but with two resnets a level, as LDM's block numbers take for granted."""
    configs = toy.configs(family)
    return configs | {"unet": {**configs["unet"], "layers_per_block": 2}}
