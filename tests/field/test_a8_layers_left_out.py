"""A8 (stable-diffusion.cpp#158, kohya_ss#1665): SSD-1B and Segmind Vega, which are SDXL with layers left out, were
called SDXL models by `sd info` and refused by drawing.
"""

import json

import pytest
import torch

from sdcli import registry
from sdcli.checkpoints import checkpoint, tensor_shapes, unet_layout
from sdcli.checkpoints.families.sdxl import sdxl
from sdcli.models import build
from sdcli.models.load import load
from tests import judges
from tests.full_size import write
from tests.models.cases import unet_inputs
from tests.single_file import layout, narrow

LAYOUTS = {  # as their published config.json says
    "SSD-1B": {
        "transformer_layers_per_block": [1, [2, 2], [4, 4]],
        "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
        "mid_block_type": "UNetMidBlock2D",
    },
    "Vega": {
        "transformer_layers_per_block": [1, [1, 1], [2, 2]],
        "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1],
        "mid_block_type": "UNetMidBlock2D",
    },
    "KOALA-700M": {
        "layers_per_block": 1,
        "transformer_layers_per_block": [1, 2, 5],
        "mid_block_type": None,
    },
    "KOALA-1B": {"layers_per_block": 1, "transformer_layers_per_block": [1, 2, 6]},
}


@pytest.mark.parametrize("model", LAYOUTS)
def test_a8_the_layout_of_a_published_model_is_read_off_its_tensors(model):
    usual = sdxl.configs["unet"]
    published = tensor_shapes.of_network("unet", {**usual, **LAYOUTS[model]}, "x")
    read = unet_layout.config_of(usual, published, 0)
    assert tensor_shapes.of_network("unet", read, "x") == published


@pytest.mark.parametrize("part", ["sdxl", "sdxl_refiner", "sd1", "sd2", "x4_upscaler"])
def test_a8_a_family_without_changes_keeps_its_config(part):
    usual = registry.find("families", part).configs["unet"]
    assert unet_layout.config_of(usual, tensor_shapes.of_network("unet", usual, "x"), 0) == usual


@pytest.mark.parametrize("model", LAYOUTS)
@pytest.mark.filterwarnings("ignore")
def test_a8_a_single_file_with_layers_left_out_is_drawn_as_the_librarys_network(sd, written, model):
    small, path = written("sdxl")
    config = {**small.configs["unet"], **LAYOUTS[model]}
    write(path, layout(small, {**small.configs, "unet": config}))
    assert sd("info", path).code == 0
    drawn = sd("txt2img", "a cat", "-m", path, "-s", 2, "-W", 64, "-H", 64)
    assert (drawn.code, drawn.err) == (0, "")
    ours = load(str(path), "cpu", "float32").unet
    theirs = judges.filled(judges.random("unet", config), ours.state_dict())
    inputs = unet_inputs(config, 2, 8, 8)
    with torch.no_grad():
        answer, expected = inputs.ours(ours), inputs.theirs(theirs)
    assert float((answer - expected).norm() / expected.norm()) < 1e-4  # in another memory format


def test_a8_a_folder_with_layers_left_out_is_built_as_the_librarys_network():
    config = {**narrow(sdxl)["unet"], **LAYOUTS["SSD-1B"]}
    theirs = judges.random("unet", config)
    ours = build.build_random("unet", config).eval()
    ours.load_state_dict(judges.weights(theirs))
    inputs = unet_inputs(config, 2, 8, 8)
    with torch.no_grad():
        assert torch.equal(inputs.ours(ours), inputs.theirs(theirs))


def test_a8_a_level_that_is_not_all_there_is_refused_by_all_in_one_line(sd, written):
    small, path = written("sd1")
    tensors = layout(small, small.configs)
    gone = "model.diffusion_model.input_blocks.4.0."
    write(path, {key: shape for key, shape in tensors.items() if not key.startswith(gone)})
    told, drawn = sd("info", path), sd("txt2img", "a cat", "-m", path)
    assert told.code == drawn.code == 3
    assert told.err == drawn.err
    assert "missing" in told.err
    assert json.dumps(told.err).count("\\n") == 1
    with pytest.raises(checkpoint.ModelError):
        checkpoint.read(str(path))
