"""The depth network: its published names, against MiDaS written out anew; what its pictures are; when it is loaded."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sdcli import registry
from sdcli.checkpoints import checkpoint, header, toy
from sdcli.checkpoints.component import Component
from sdcli.checkpoints.keys import single_file
from sdcli.checkpoints.keys.types import Source, Target
from sdcli.convert import convert
from sdcli.errors import ModelError
from sdcli.models import build, load
from sdcli.models.device import Placement
from sdcli.models.tensors import read_tensors
from sdcli.pipeline.depth import PART, estimate, estimate_by, prepare
from tests.checkpoints import midas
from tests.checkpoints.test_checkpoint import published, write
from tests.conftest import TOY, make_toy

BEFORE = "depth_model.model."
FAMILY = registry.find("families", "sd2_depth")
NARROW = toy.configs(FAMILY)[PART]


def picture(width: int = 90, height: int = 70) -> Image.Image:
    values = np.random.default_rng(3).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height))


def mapped(key: str) -> list[Target]:
    return single_file.targets([key])[key] or []


def drawn(config: dict) -> dict[str, torch.Tensor]:
    """Random weights of a network of this config, under their published names."""
    need = build.build_on_meta(PART, config, "x").state_dict()
    random = torch.Generator().manual_seed(1)
    weights = {}
    for key in published("sd2-depth"):
        found = mapped(key) if key.startswith(BEFORE) else []
        if found and found[0].name in need:
            shape = list(need[found[0].name].shape)
            shape[0] *= len(found)
            values = torch.randn(shape, generator=random)
            scale = 0.1 if len(shape) == 1 else (2 / max(1, values[0].numel())) ** 0.5
            weights[key.removeprefix(BEFORE)] = values * scale + (key.endswith("weight") and len(shape) == 1)
    return weights


def loaded(weights: dict[str, torch.Tensor], path, config: dict = NARROW) -> torch.nn.Module:
    """Our network, from a single file."""
    save_file({BEFORE + key: value.contiguous() for key, value in weights.items()}, path)
    head = header.read(path)
    sources = {target.name: Source(key, target.take) for key in head.tensors for target in mapped(key)}
    where = Placement(torch.device("cpu"), torch.float32)
    return load.load_weights(
        PART, build.build_on_meta(PART, config, "x"), Component(config, head, sources), where
    )


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def test_every_published_name_is_one_tensor_of_the_network_and_none_is_left():
    shapes = published("sd2-depth")
    found = {}
    for key in (key for key in shapes if key.startswith("depth_model.")):
        for target in mapped(key):
            assert target.part == PART
            assert target.name not in found
            shape = shapes[key]
            found[target.name] = [shape[0] // 3, *shape[1:]] if target.take.startswith("third") else shape
    need = build.build_on_meta(PART, FAMILY.configs[PART], "x").state_dict()
    assert found == {name: list(tensor.shape) for name, tensor in need.items()}


def test_names_that_no_result_could_tell_apart_are_mapped_by_their_meaning():
    """The transformer's last norm and the coarsest level's first unit are never read."""
    assert [t.name for t in mapped(BEFORE + "pretrained.model.norm.bias")] == ["dpt.layernorm.bias"]
    (found,) = mapped(BEFORE + "scratch.refinenet4.resConfUnit1.conv2.weight")
    assert found.name == "neck.fusion_stage.layers.0.residual_layer1.convolution2.weight"
    assert mapped(BEFORE + "pretrained.model.head.weight") == []


def test_depth_is_that_of_midas_written_out(tmp_path):
    weights = drawn(NARROW)
    ours = estimate_by(loaded(weights, tmp_path / "x.safetensors"), picture())
    theirs = midas.depth(weights, prepare(picture(), 64), heads=2, groups=4)
    assert ours.shape == theirs.shape == (1, 1, 64, 64)
    assert theirs.std() > 0.01
    assert apart(ours, theirs) < 1e-5


SWAPS = [
    ("pretrained.model.blocks.3.norm1.weight", "pretrained.model.blocks.3.norm2.weight"),
    ("pretrained.model.blocks.8.mlp.fc2.bias", "pretrained.model.blocks.8.attn.proj.bias"),
    ("pretrained.act_postprocess3.3.weight", "pretrained.act_postprocess4.3.weight"),
    ("scratch.layer3_rn.weight", "scratch.layer4_rn.weight"),
    ("scratch.refinenet1.out_conv.weight", "scratch.refinenet4.out_conv.weight"),
    ("scratch.refinenet2.resConfUnit1.conv1.weight", "scratch.refinenet2.resConfUnit2.conv1.weight"),
    ("scratch.refinenet2.resConfUnit1.conv1.weight", "scratch.refinenet2.resConfUnit1.conv2.weight"),
]


@pytest.mark.parametrize(("one", "other"), SWAPS)
def test_two_swapped_keys_would_show(tmp_path, one, other):
    weights = drawn(NARROW)
    theirs = midas.depth(weights, prepare(picture(), 64), heads=2, groups=4)
    weights[one], weights[other] = weights[other], weights[one]
    assert apart(estimate_by(loaded(weights, tmp_path / "x.safetensors"), picture()), theirs) > 1e-4


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A diffusers folder of a Stable Diffusion 2 depth model, narrow, as transformers saves its depth network."""
    from diffusers import UNet2DConditionModel

    made = make_toy(tmp_path_factory.mktemp("models") / "deep")
    shutil.rmtree(made / "unet")
    unet = {**TOY["unet"], "in_channels": 5}
    UNet2DConditionModel(**unet).save_pretrained(made / "unet")
    build.build_random(PART, NARROW).save_pretrained(made / PART)
    return made


@pytest.fixture
def folder(deep, monkeypatch):
    """The same, taken for one of its family, which reads wider text."""
    monkeypatch.setattr(checkpoint, "recognise", lambda signature, path: FAMILY)
    return deep


def test_depth_of_a_folder_is_that_of_transformers(folder):
    from transformers import DPTForDepthEstimation

    model = load.load(str(folder), "cpu", "float32")
    ours = estimate(model, picture())
    with torch.no_grad():
        theirs = DPTForDepthEstimation.from_pretrained(folder / PART)(prepare(picture(), 64)).predicted_depth
    assert model.family.name == "sd2_depth"
    assert apart(ours[:, 0], theirs) < 1e-5


def test_the_network_is_loaded_once_and_not_before_it_is_asked(folder, monkeypatch):
    filled, real = [], load.load_weights
    monkeypatch.setattr(load, "load_weights", lambda part, *rest: (filled.append(part), real(part, *rest))[1])
    model = load.load(str(folder), "cpu", "bfloat16")
    assert PART not in filled
    first, second = estimate(model, picture()), estimate(model, picture())
    assert filled.count(PART) == 1
    assert first.dtype == torch.float32
    assert torch.equal(first, second)


def test_a_damaged_network_is_found_when_the_model_is_loaded(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = load_file(copy / PART / "model.safetensors")
    weights.pop("neck.convs.2.weight")
    save_file(weights, copy / PART / "model.safetensors")
    with pytest.raises(ModelError, match=r"1 tensor \(neck\.convs\.2\.weight\) missing"):
        load.load(str(copy), "cpu", "float32")


@pytest.mark.parametrize("single", [True, False])
def test_a_converted_model_keeps_its_depth_network(folder, tmp_path, single, monkeypatch):
    monkeypatch.setattr("sdcli.convert.single_file._check_single_file_can_hold", lambda found, shapes: None)
    before = load_file(folder / PART / "model.safetensors")
    out = convert(checkpoint.read(str(folder)), tmp_path / ("x.safetensors" if single else "x"))
    if (
        single
    ):  # the file is of another size than the published model, which only the check of its tensors minds
        monkeypatch.setattr(
            "sdcli.checkpoints.completeness.check_components", lambda folder, components: None
        )
        after = dict(read_tensors(checkpoint.read(str(out)).components[PART]))
    else:
        after = load_file(out / PART / "model.safetensors")
        assert json.loads((out / PART / "config.json").read_text())["architectures"] == [
            "DPTForDepthEstimation"
        ]
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_checkpoint_without_its_depth_network_will_do_until_that_is_asked(tmp_path):
    without = {k: v for k, v in published("sd2-depth").items() if not k.startswith("depth_model")}
    found = checkpoint.read(str(write(tmp_path / "x.safetensors", without)))
    assert found.family.name == "sd2_depth"
    assert PART not in found.components
    with pytest.raises(ModelError, match="test:inpaint: no depth network in it"):
        estimate(load.load("test:inpaint", "cpu", "float32"), picture())


def test_depth_tensors_in_another_model_are_ignored(tmp_path):
    deep = {key: shape for key, shape in published("sd2-depth").items() if key.startswith("depth_model")}
    found = checkpoint.read(str(write(tmp_path / "x.safetensors", published("sd15") | deep)))
    assert PART not in found.components
    assert set(deep) <= set(found.ignored)


@pytest.mark.parametrize("size", [(90, 70), (400, 900), (384, 384)])
def test_pictures_are_prepared_as_transformers_prepares_them(size):
    theirs = pytest.importorskip("transformers.models.dpt.image_processing_pil_dpt")
    processor = theirs.DPTImageProcessorPil()
    expected = torch.as_tensor(processor(picture(*size), return_tensors="pt")["pixel_values"])
    assert torch.allclose(prepare(picture(*size), 384), expected, atol=1e-6)


def test_the_test_model_sees_depth_in_a_picture():
    depth = estimate(load.load("test:depth", "cpu", "float32"), picture())
    assert depth.shape == (1, 1, 64, 64)
    assert depth.max() > depth.min() >= 0
