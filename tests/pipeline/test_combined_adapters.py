"""Adapters of attention and features together, with each other and with every other way to draw: finite, repeatable."""

import pytest
import torch

from sdcli.checkpoints import tensor_shapes
from sdcli.checkpoints.checkpoint import read
from sdcli.checkpoints.ip_adapters import cross_attentions
from sdcli.engine import generate
from sdcli.models import memory
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.request.request import Request
from tests import adapter_files, control_files
from tests.pictures import half_mask, photo

ADAPTERS = {
    "hypernet": {"hypernet": ["style.safetensors@0.7"]},
    "ip-adapter": {"ip_adapter": ["plus.safetensors:image=face.png:weight=0.8"]},
    "reference": {"reference": "face.png:mode=both"},
    "freeu": {"freeu": "auto,by=block"},
    "tome": {"tome": 0.5},
}
TOGETHER = {name: value for each in ADAPTERS.values() for name, value in each.items()}
WAYS = {
    "text": {},
    "tile": {"tile": "both"},
    "hires": {"hires": 2.0},
    "hires of latents": {"hires": 2.0, "hires_by": "latents"},
    "windows": {"width": 96, "height": 64, "window": 64},
    "odd size": {"width": 72, "height": 88},
    "over a picture": {"image": "in.png"},
    "masked": {"image": "in.png", "mask": "mask.png"},
    "only masked": {"image": "in.png", "mask": "mask.png", "only_masked": True},
    "inpainting model": {"image": "in.png", "mask": "mask.png", "model": "test:inpaint"},
    "pix2pix": {"image": "in.png", "model": "test:pix2pix", "guidance": "pix2pix"},
    "cfg 1": {"cfg": 1.0},
    "pag": {"guidance": "pag"},
    "perp_neg": {"guidance": "perp_neg"},
    "sag": {"guidance": "sag"},
    "long prompt": {"prompt": "a cat, " * 40},
    "parts": {"prompt": "a [cat:dog:0.5] AND a hat"},
    "region": {"region": ["a dog@0,0,0.5,1"]},
    "control": {"control": ["canny.safetensors:image=in.png"]},
    "control in windows": {"control": ["canny.safetensors:image=in.png"], "width": 96, "window": 64},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A hypernetwork, an IP-Adapter with its encoder, and pictures, for test models of SD 1."""
    folder = tmp_path_factory.mktemp("adapters")
    unet = tensor_shapes.of_network("unet", read("test:sd1").components["unet"].config, "x")
    widths = [unet[key][0] for key in cross_attentions(unet)]
    adapter_files.hypernet(folder / "style.safetensors", (16,), layer_norm=True)
    adapter_files.ip_adapter(folder / "plus.safetensors", widths, 16, "plus", reads=32)
    adapter_files.image_encoder(folder / "vit")
    control_files.controlnet(folder, "test:sd1", "canny.safetensors")
    photo(40, 30).save(folder / "face.png")
    photo(64, 64).save(folder / "in.png")
    half_mask(64, 64).save(folder / "mask.png")
    return folder


@pytest.fixture(autouse=True)
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SDCLI_IMAGE_ENCODER", "vit")


@pytest.fixture(scope="module")
def models():
    return ModelCache()


def drawn(models, **options):
    options = {"prompt": "a cat", "model": "test:sd1", **options}
    return generate(Request(seed=3, steps=2, negative="a dog", **options), models).latents


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("way", WAYS)
def test_each_changes_the_picture_of_each_way_to_draw_and_no_other(models, way, adapter):
    plain = drawn(models, **WAYS[way])
    altered = drawn(models, **{**WAYS[way], **ADAPTERS[adapter]})
    assert torch.isfinite(altered).all()
    assert not torch.equal(altered, plain)
    assert torch.equal(drawn(models, **WAYS[way]), plain)


@pytest.mark.parametrize("way", WAYS)
def test_all_together_give_the_same_picture_twice(models, way):
    together = {**WAYS[way], **TOGETHER}
    first = drawn(models, **together)
    assert torch.isfinite(first).all()
    assert torch.equal(drawn(ModelCache(), **together), first)


def test_all_together_with_networks_one_at_a_time(models, monkeypatch):
    ample = drawn(models, **TOGETHER)
    parts = load("test:sd1", "cpu", "float32").networks.modules.values()
    largest = max(sum(4 * p.numel() for p in part.parameters()) for part in parts)
    monkeypatch.setattr(memory, "free", lambda device: 1.25 * largest)
    assert torch.equal(drawn(ModelCache(), **TOGETHER), ample)


def test_heat_maps_are_recorded_beside_them(models):
    request = Request("a cat", model="test:sd1", seed=3, steps=2, negative="a dog", **TOGETHER)
    plain = generate(request, models)
    mapped = generate(request, models, attention=("cat",))
    assert torch.equal(mapped.latents, plain.latents)
    assert mapped.attention["cat"].min() >= 0


def test_an_error_on_the_way_leaves_the_model_as_it_was(models):
    plain = drawn(models)

    def failing(steps):
        next(iter(steps))
        raise RuntimeError("a bug")

    request = Request("a cat", model="test:sd1", seed=3, steps=2, negative="a dog", **TOGETHER)
    with pytest.raises(RuntimeError, match="a bug"):
        generate(request, models, failing)
    assert torch.equal(drawn(models), plain)
