"""Control files are recognised by their tensors, and refused in one line where they do not fit."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from sdcli.checkpoints import checkpoint, control_file
from sdcli.checkpoints.control_fit import check_controls
from sdcli.errors import ModelError
from sdcli.request import controls
from tests import control_files
from tests.control_files import as_ldm, weights, write


def authors_names(named):
    """A T2I-Adapter's weights as its authors write them: residual blocks are numbered through, two in a stage."""
    renamed = {}
    for name, tensor in named.items():
        parts = name.split(".")
        if "resnets" in parts:
            name = f"body.{2 * int(parts[1]) + int(parts[3])}.{'.'.join(parts[4:])}"
        elif "in_conv" in parts:
            name = f"body.{2 * int(parts[1])}.{'.'.join(parts[2:])}"
        renamed[name] = tensor
    return renamed


def authors_light_names(named):
    return {name.replace("resnets", "body"): tensor for name, tensor in named.items()}


SPELLINGS = {
    "LDM": ("controlnet", lambda: as_ldm(weights("test:sd1"))),
    "LDM without its prefix": ("controlnet", lambda: as_ldm(weights("test:sd1"), "")),
    "LDM with the model beside it": (
        "controlnet",
        lambda: as_ldm(weights("test:sd1")) | {"model.diffusion_model.out.2.bias": torch.zeros(4)},
    ),
    "difference": ("difference", lambda: as_ldm(weights("test:sd1")) | {"difference": torch.zeros(1)}),
    "diffusers": ("controlnet", lambda: weights("test:sd1")),
    "T2I-Adapter by its authors": ("t2i", lambda: authors_names(weights("test:sd1", "t2i"))),
    "T2I-Adapter by diffusers": (
        "t2i",
        lambda: {f"adapter.{name}": each for name, each in weights("test:sd1", "t2i").items()},
    ),
    "light one by its authors": ("t2i-light", lambda: authors_light_names(weights("test:sd1", "t2i-light"))),
}


def check(path, model="test:sd1", settings=""):
    check_controls(checkpoint.read(model), [controls.parse(f"{path}:image=hint.png{settings}")])


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_is_recognised_and_complete(tmp_path, spelling):
    kind, tensors = SPELLINGS[spelling]
    path = write(tmp_path / "net.safetensors", tensors())
    assert control_file.read(tmp_path / "net.safetensors").kind == kind
    check(path)


@pytest.mark.parametrize(
    "spelling", ["LDM", "diffusers", "T2I-Adapter by its authors", "light one by its authors"]
)
def test_each_spelling_names_the_same_weights(tmp_path, spelling):
    kind, tensors = SPELLINGS[spelling]
    path = tmp_path / "net.safetensors"
    write(path, tensors())
    found, stored = control_file.read(path), load_file(path)
    expected = weights("test:sd1", kind)
    assert found.component.sources.keys() == expected.keys()
    for name, source in found.component.sources.items():
        assert torch.equal(stored[source.key], expected[name])


def test_a_widened_stage_of_the_authors_adapter_is_that_of_diffusers():
    from sdcli.checkpoints.keys.control import t2i_names

    names = t2i_names(["body.0.block1.weight", "body.2.in_conv.weight", "body.3.block2.bias"])
    assert list(names.values()) == [
        "body.0.resnets.0.block1.weight",
        "body.1.in_conv.weight",
        "body.1.resnets.1.block2.bias",
    ]


def test_a_diffusers_folder_is_read_with_its_config(tmp_path):
    write(tmp_path / "diffusion_pytorch_model.safetensors", weights("test:sd1"))
    unet = control_files.unet_settings("test:sd1")
    config = {"_class_name": "ControlNetModel", "conditioning_embedding_out_channels": [4, 4, 8, 8]}
    keys = (
        "block_out_channels",
        "layers_per_block",
        "cross_attention_dim",
        "attention_head_dim",
        "norm_num_groups",
    )
    config |= {key: unet[key] for key in keys}
    (tmp_path / "config.json").write_text(json.dumps(config))
    check(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"encoder_hid_dim": 8}))
    with pytest.raises(ModelError, match="encoder_hid_dim"):
        check(tmp_path)


def spoiled(**changes):
    """A ControlNet's tensors with some replaced; None takes one out."""
    tensors = weights("test:sd1") | changes
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (spoiled(**{"conv_in.bias": None}), r"1 tensor \(conv_in.bias\) missing"),
        (spoiled(**{"extra.bias": torch.zeros(1)}), r"1 tensor \(extra.bias\) too many"),
        (spoiled(**{"conv_in.bias": torch.zeros(3)}), r"conv_in.bias is \[3\], not \[16\]"),
        (
            {"lllite_unet_input_blocks_4_1.down.0.weight": torch.zeros(1)},
            "ControlNet-LLLite, which is not supported",
        ),
        ({"foo.weight": torch.zeros(1)}, r"has 1 tensor \(foo.weight\), and is no ControlNet"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, tensors, message):
    path = write(tmp_path / "net.safetensors", tensors)
    with pytest.raises(ModelError, match=message) as error:
        check(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused():
    with pytest.raises(ModelError, match="no such file or folder"):
        check("nowhere.safetensors")


def test_a_value_that_is_not_finite_is_refused_when_it_is_read(tmp_path):
    from sdcli.checkpoints.control_fit import check_fit
    from sdcli.models.control import ControlNetworks
    from sdcli.models.device import Placement

    write(tmp_path / "net.safetensors", spoiled(**{"conv_in.bias": torch.full((16,), math.nan)}))
    file = control_file.read(tmp_path / "net.safetensors")
    settings = check_fit(file, "test:sd1", control_files.unet_settings("test:sd1"))
    with pytest.raises(ModelError, match=r"conv_in.bias\) not finite"):
        ControlNetworks(Placement(torch.device("cpu"), torch.float32)).load(file, settings, dict)


@pytest.mark.parametrize(
    ("kind", "own", "other", "message"),
    [
        (
            "controlnet",
            "test:sd1",
            "test:sdxl",
            "a ControlNet for text of width 16, and test:sdxl is a model of",
        ),
        (
            "controlnet",
            "test:sdxl",
            "test:sd1",
            "a ControlNet for text of width 32, and test:sd1 is a model of",
        ),
        ("t2i", "test:sd1", "test:sdxl", "a T2I-Adapter for SD 1 and SD 2, and test:sdxl is a model of SDXL"),
        ("t2i", "test:sdxl", "test:sd1", "a T2I-Adapter for SDXL, and test:sd1 is a model of SD 1 and SD 2"),
    ],
)
def test_a_net_of_another_family_is_refused_by_both_names(tmp_path, kind, own, other, message):
    path = write(tmp_path / "net.safetensors", weights(own, kind))
    with pytest.raises(ModelError, match=message):
        check(path, other)


@pytest.mark.parametrize(("width", "models"), [(768, "SD 1"), (1024, "SD 2"), (2048, "SDXL")])
def test_the_width_of_the_text_names_the_family(width, models):
    assert control_file.models_of(width) == models


def test_a_union_net_is_told_a_type_and_no_other_net_is(tmp_path):
    union = write(tmp_path / "union.safetensors", weights("test:sdxl", "union"))
    check(union, "test:sdxl", ":type=canny")
    check(union, "test:sdxl", ":type=lineart")  # looks like edges
    for settings in ("", ":type=anime", ":type=tile"):  # the net has six types, and tile is the seventh
        with pytest.raises(ModelError, match="give type= one of openpose, depth"):
            check(union, "test:sdxl", settings)
    plain = write(tmp_path / "plain.safetensors", weights("test:sd1"))
    with pytest.raises(ModelError, match="takes no type="):
        check(plain, "test:sd1", ":type=canny")


def test_the_features_of_an_adapter_are_not_averaged(tmp_path):
    adapter = write(tmp_path / "net.safetensors", weights("test:sd1", "t2i"))
    with pytest.raises(ModelError, match="leave pool=yes out"):
        check(adapter, "test:sd1", ":pool=yes")


def test_an_x4_upscaler_takes_no_control(tmp_path):
    path = write(tmp_path / "net.safetensors", weights("test:sd1"))
    with pytest.raises(ModelError, match="x4 upscaler"):
        check(path, "test:x4")


def test_half_a_product_of_a_control_lora_is_refused(tmp_path):
    tensors = {"lora_controlnet": torch.zeros(()), "input_blocks.1.0.in_layers.2.up": torch.zeros(16, 2)}
    path = write(tmp_path / "lora.safetensors", tensors)
    with pytest.raises(ModelError, match="an up and no down"):
        check(path)
