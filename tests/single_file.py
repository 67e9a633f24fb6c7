"""Single files with the original names for any family and any width, from the shapes of its networks."""

from __future__ import annotations

from collections.abc import Mapping

from sdcli.checkpoints import toy
from sdcli.checkpoints.family import Config, Family
from sdcli.checkpoints.keys import to_ldm
from sdcli.models import build


def layout(family: Family, configs: Mapping[str, Config]) -> dict[str, list[int]]:
    """Name and shape of every tensor of a single file of this family, with networks of these configs."""
    found: dict[str, list[int]] = {}
    for part, config in configs.items():
        network = build.build_on_meta(part, config, "x")
        shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        sources = to_ldm.keys(part, list(shapes), family.name, config.get("hidden_act") == "gelu")
        for name, source in sources.items():
            shape = shapes[name]
            if source.take.startswith("third"):
                shape = [3 * shape[0], *shape[1:]]
            elif source.take == "transpose":
                shape = shape[::-1]
            elif ".mid.attn_1." in source.key and len(shape) == 2:
                shape = [*shape, 1, 1]
            found[source.key] = shape
    return found


def narrow(family: Family) -> dict[str, Config]:
    """The family's configs at toy width, with the two resnets a level that original names count in."""
    configs = toy.configs(family)
    return configs | {"unet": {**configs["unet"], "layers_per_block": 2}}
