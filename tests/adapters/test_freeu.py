"""FreeU: features and skip connections weighed by the paper's formula, against diffusers' own U-Net."""

import pytest
import torch

from sdcli.adapters.freeu import freeu, weighed_features, weighed_skip
from sdcli.engine import generate
from sdcli.errors import UsageError
from sdcli.models.build import build_random
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.request.freeu import FreeU, parse
from sdcli.request.request import Request
from tests import judges

STAGES = [(1.5, 0.9), (1.6, 0.2)]


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


# --- closed form


def test_half_of_the_features_is_multiplied():
    h = torch.ones(1, 4, 2, 2)
    assert weighed_features(h, 1.5)[0, :, 0, 0].tolist() == [1.5, 1.5, 1, 1]


def test_version_2_multiplies_by_the_scaled_mean():
    h = torch.zeros(1, 2, 1, 3)
    h[0, :, 0] = torch.tensor([1.0, 2.0, 3.0])
    assert weighed_features(h, 1.5, version=2)[0, 0, 0].tolist() == [1.0, 2 * 1.25, 3 * 1.5]
    assert torch.equal(weighed_features(h * 0 + 1, 1.5, version=2), h * 0 + 1)


def test_the_mean_of_a_skip_connection_is_scaled_and_high_frequencies_are_kept():
    flat = torch.full((1, 1, 8, 8), 3.0)
    assert torch.allclose(weighed_skip(flat, 0.2), flat * 0.2, atol=1e-6)
    stripes = torch.ones(1, 1, 8, 8)
    stripes[..., ::2] = -1
    assert torch.allclose(weighed_skip(stripes, 0.2), stripes, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (2, 3), (6, 16)])
def test_the_filter_is_that_of_diffusers(size):
    from diffusers.utils.torch_utils import fourier_filter

    skip = randn(2, 3, *size)
    assert torch.allclose(weighed_skip(skip, 0.3), fourier_filter(skip, 1, 0.3), atol=1e-6)


# --- diffusers' own U-Net


@pytest.mark.parametrize("name", ["test:sd1", "test:sd2"])
def test_by_block_a_whole_unet_answers_as_that_of_diffusers_does(name):
    model = load(name, "cpu", "float32")
    theirs, x = judges.unet(model), randn(2, 4, 8, 8)
    text = randn(2, 77, model.configs["unet"]["cross_attention_dim"])
    theirs.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    with torch.no_grad():
        expected = theirs(x, 500, text).sample
        with model.networks.adapted([freeu(STAGES, "block")]):
            ours = model.unet(x, torch.tensor(500.0), text)
    assert torch.allclose(ours, expected, atol=1e-5)


def test_by_width_the_stages_are_where_features_are_four_and_two_times_as_wide():
    from sdcli import registry
    from sdcli.checkpoints import toy

    config = toy.configs(registry.find("families", "sd1"))["unet"]
    config = {**config, "block_out_channels": [8, 16, 32, 32], "layers_per_block": 2}
    unet = build_random("unet", config)
    seen = []
    with freeu(STAGES)("unet", unet):
        for name, module in unet.named_modules():
            seen += [name] * len(module._forward_pre_hooks)
    assert seen == [f"up_blocks.{i}.resnets.{j}" for i in range(3) for j in range(3)] + [
        "up_blocks.3.resnets.0"
    ]
    assert not any(module._forward_pre_hooks for module in unet.modules())


# --- pictures


def drawn(models=None, **options):
    return generate(Request("a cat", model="test:sd1", seed=3, steps=2, **options), models).latents


def test_it_changes_its_own_picture_and_none_after_it():
    models = ModelCache()
    plain, weighed = drawn(models), drawn(models, freeu="auto,by=block")
    assert not torch.equal(weighed, plain)
    assert torch.equal(drawn(models), plain)
    assert torch.equal(drawn(models, freeu="1.5,1.6,0.9,0.2,by=block"), weighed)
    assert not torch.equal(drawn(models, freeu="auto,by=block,version=2"), weighed)
    assert torch.allclose(drawn(freeu="auto,by=block", networks="diffusers"), weighed, atol=1e-3)


def test_a_unet_on_which_it_would_not_act_is_refused(sd):
    ran = sd("txt2img", "a cat", "-m", "test:sd1", "--freeu", "auto")
    assert (ran.code, "give --freeu auto,by=block" in ran.err) == (3, True), ran.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", FreeU()),
        ("1.5,1.6,0.9,0.2", FreeU(1.5, 1.6, 0.9, 0.2)),
        ("b1=1.1,version=2,by=block", FreeU(b1=1.1, version=2, by="block")),
    ],
)
def test_the_factors_are_typed_in_two_ways(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2", "2 numbers are not four"),
        ("1,2,3,x", "'x' is not a number from 0 to 10"),
        ("b3=1", "no setting is called 'b3'"),
        ("by=level", "by='level' is unknown"),
        ("b1=1,b1=2", "b1 is given twice"),
    ],
)
def test_factors_that_cannot_be_meant_are_refused(text, message):
    with pytest.raises(UsageError) as error:
        parse(text)
    assert message in str(error.value)
