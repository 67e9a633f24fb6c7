"""The names and shapes computed from a config are those of the network that is built from it."""

import pytest

from sdcli import registry
from sdcli.checkpoints import tensor_shapes, toy
from sdcli.models import build
from tests.models.cases import TAESD


def state_dict_shapes(part, config):
    network = build.build_on_meta(part, config, "folder")
    return [(name, list(tensor.shape)) for name, tensor in network.state_dict().items()]


FAMILIES = registry.names("families")
CONFIGS = {
    f"{name}-{size}-{part}": (part, config)
    for name in FAMILIES
    for size, configs in {
        "full": registry.find("families", name).configs,
        "toy": toy.configs(registry.find("families", name)),
    }.items()
    for part, config in configs.items()
    if part != "depth_estimator"
} | {"taesd": ("vae", TAESD)}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_tensors_of_a_config_are_those_of_its_network_in_the_same_order(name):
    part, config = CONFIGS[name]
    assert list(tensor_shapes.of_network(part, config, "folder").items()) == state_dict_shapes(part, config)
