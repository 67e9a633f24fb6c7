"""DeepCache: deep features are computed at every N-th noise level and used again in between."""

import pytest
import torch

from sdcli.adapters.deepcache import DeepCache, outer_layers
from sdcli.diffusion.conditioning import Cond
from sdcli.diffusion.unet_call import UNetCall
from sdcli.engine import generate
from sdcli.errors import UsageError
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request

FAMILIES = ["test:sd1", "test:sdxl", "test:sd2-v", "test:inpaint"]


def drawn(models=None, **options):
    options = {"model": "test:sd1", "steps": 4, **options}
    return generate(Request("a cat", negative="a dog", seed=3, **options), models).latents


@pytest.fixture(scope="module")
def unet():
    return load("test:sd1", "cpu", "float32").unet


def called(unet, seed=0):
    random = torch.Generator().manual_seed(seed)
    width = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k.in_features
    return (
        torch.randn(2, 4, 8, 8, generator=random),
        torch.tensor(500.0),
        torch.randn(2, 77, width, generator=random),
    )


def seen(cache, sigma, x):
    conds = getattr(cache, "conds", None) or [Cond(torch.zeros(1, 77, 4)) for _ in range(2)]
    cache.conds = conds
    cache.see(UNetCall(x, sigma, 500.0, conds, (slice(0, 8), slice(0, 8))))


@torch.inference_mode()
def test_outer_layers_over_the_features_of_the_same_input_predict_what_the_whole_network_does(unet):
    """The truth: nothing has changed since the features were kept, so nothing is lost."""
    cache, arguments = DeepCache(2), called(unet)
    cache.begin([2.0, 1.0])
    whole = unet(*arguments)
    with cache.adapted("unet", unet):
        seen(cache, 2.0, arguments[0])
        assert torch.equal(unet(*arguments), whole)
        seen(cache, 1.0, arguments[0])
        torch.testing.assert_close(unet(*arguments), whole, atol=1e-5, rtol=0)
    assert "forward" not in vars(unet)


@torch.inference_mode()
def test_deep_layers_run_at_every_nth_level_and_outer_ones_at_all(unet):
    cache, counts = DeepCache(3), {"deep": 0, "outer": 0}
    arguments = called(unet)
    hooks = [
        unet.mid_block.register_forward_hook(lambda *_: counts.update(deep=counts["deep"] + 1)),
        unet.conv_out.register_forward_hook(lambda *_: counts.update(outer=counts["outer"] + 1)),
    ]
    cache.begin([])
    with cache.adapted("unet", unet):
        for sigma in range(7, 0, -1):
            seen(cache, float(sigma), arguments[0])
            unet(*arguments)
    for hook in hooks:
        hook.remove()
    assert counts == {"deep": 3, "outer": 7}


@torch.inference_mode()
def test_new_input_goes_through_the_outer_layers(unet):
    features = torch.zeros(2, unet.up_blocks[-1].resnets[0].conv2.out_channels, 8, 8)
    one, other = (outer_layers(unet, features, *called(unet, seed)) for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("model", FAMILIES)
def test_it_changes_its_own_picture_and_none_after_it(model):
    models, options = ModelCache(), {"model": model, "image": None}
    if model == "test:inpaint":
        options["guidance"] = "cfg"
    plain, cached = drawn(models, **options), drawn(models, deepcache=2, **options)
    assert torch.isfinite(cached).all()
    assert not torch.equal(cached, plain)
    assert torch.equal(drawn(models, **options), plain)
    assert torch.equal(drawn(models, deepcache=2, **options), cached)
    assert torch.equal(drawn(models, deepcache=1, **options), plain)


@pytest.mark.parametrize(
    "options",
    [
        {"hires": 2.0},
        {"width": 96, "height": 64, "window": 64},
        {"width": 72, "height": 88},
        {"guidance": "pag"},
        {"prompt_2": None, "region": ("a dog@0,0,0.5,1",)},
        {"sampler": "heun"},
        {"freeu": "auto,by=block", "tome": 0.5},
        {"stream": True},
    ],
    ids=str,
)
def test_each_way_to_draw_is_finite_and_repeatable(options):
    first = drawn(deepcache=2, **options)
    assert torch.isfinite(first).all()
    assert torch.equal(drawn(deepcache=2, **options), first)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("--guidance sag", {"guidance": "sag"}),
        ("--stop-after", {"stop_after": 1}),
        ("--networks diffusers", {"networks": "diffusers"}),
    ],
)
def test_what_needs_all_layers_at_every_step_is_refused_by_name(name, options):
    with pytest.raises(
        UsageError, match=f"--deepcache 2 leaves layers of the U-Net out, and {name} needs all"
    ):
        drawn(deepcache=2, **options)


def test_heat_maps_are_refused_by_name():
    request = Request("a cat", model="test:sd1", seed=3, steps=2, deepcache=2)
    with pytest.raises(UsageError, match="--attention needs all"):
        generate(request, attention=("cat",))


def test_a_picture_records_it(tmp_path):
    picture = generate(Request("a cat", model="test:sd1", seed=3, steps=2, deepcache=2)).picture
    path = tmp_path / "a.png"
    path.write_bytes(picture.png())
    assert read_png_metadata(str(path)).facts(str(path))["request"]["deepcache"] == 2
