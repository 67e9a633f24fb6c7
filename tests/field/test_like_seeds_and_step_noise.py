"""Seeds and the noise of the steps are those of ComfyUI and A1111.

Version 0.1.0 refused seeds of 2^32 and more, which ComfyUI draws at random for every new picture; it had no generator
for ComfyUI on a CPU, and no eta noise seed delta (31337 in the pictures of the leaked model's users).
"""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from sdcli.errors import UsageError
from sdcli.models.load import load
from sdcli.pipeline.start import start_of
from sdcli.request.inputs import SizedImages
from sdcli.request.request import Request

pytestmark = pytest.mark.usefixtures("shared_models")

BIG = 2**64 - 2


def cpu(seed, draws, shape=(1, 4, 8, 8)):
    """Draws of torch's CPU generator."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(draws)]


@pytest.fixture
def drawn(toy):
    """(unit first noise, two draws of the steps) of a request: drawn(seed=3, rng="comfyui_cpu")."""
    model = load(str(toy), "cpu", "float32")

    def call(**asked):
        job = model.with_defaults(Request("x", model=str(toy), steps=2, sigmas="1,0.5", **asked))
        start = start_of(model, job, SizedImages())
        return start.x / 2**0.5, start.noise(1, 0.5), start.noise(0.5, 0)

    return call


@pytest.mark.parametrize("seed", [3, 2**32 - 1, 2**32, BIG])
def test_comfyui_on_a_cpu_draws_the_steps_from_a_second_generator_of_seed_plus_1(drawn, seed):
    """comfy.sample.prepare_noise and k_diffusion.sampling.default_noise_sampler."""
    first, *steps = drawn(seed=seed, rng="comfyui_cpu")
    assert torch.allclose(first, cpu(seed, 1)[0], atol=1e-6)
    for ours, theirs in zip(steps, cpu(seed + 1, 2), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("options", [{"rng": "comfyui"}, {"rng": "comfyui_cpu"}, {"rng": "philox"},
                                     {"like": "comfyui"}])  # fmt: skip
def test_seeds_go_to_2_to_the_64_minus_1_where_the_tools_take_them(options, drawn):
    assert Request("x", seed=2**64 - 1, **options).seed == 2**64 - 1
    assert torch.isfinite(drawn(seed=2**64 - 1, **options)[1]).all()
    with pytest.raises(UsageError, match="--seed"):
        Request("x", seed=2**64, **options)
    with pytest.raises(UsageError, match="--seed"):
        Request("x", seed=2**64 - 1, **options).nth(1)


def test_torch_refuses_seeds_of_which_it_would_use_half_and_names_the_generators_that_do_not(sd):
    ran = sd("txt2img", "x", "--seed", 2**32)
    assert ran.code == 2
    assert "--seed: 4294967296 is outside 0...4294967295; --rng philox and --rng comfyui" in ran.err
    with pytest.raises(UsageError, match="--variation-seed: 4294967296 is outside"):
        Request("x", variation_seed=2**32, variation_strength=0.5)


def test_a_picture_of_a_long_seed_is_made_again(draw, sd):
    assert draw("a cat", "--seed", BIG, "--rng", "comfyui", "--sampler", "euler_a").code == 0
    name = f"a-cat-{BIG}"
    again = sd("again", f"{name}.png")
    assert again.lines == [f"{name}-2.png"]
    assert Path(f"{name}.png").read_bytes() == Path(f"{name}-2.png").read_bytes()


@pytest.mark.parametrize("ensd", [1, 31337, -2])
def test_ensd_draws_the_steps_from_a_new_generator_of_seed_plus_ensd(drawn, ensd):
    """rng.ImageRNG.first: after the first noise, the generators are made anew."""
    first, *steps = drawn(seed=5, ensd=ensd)
    assert torch.equal(first, drawn(seed=5)[0])
    for ours, theirs in zip(steps, cpu(5 + ensd, 2), strict=True):
        assert torch.equal(ours, theirs)


def test_ensd_leaves_variations_alone(drawn):
    varied = {"variation_seed": 8, "variation_strength": 0.3}
    assert torch.equal(drawn(seed=5, ensd=9, **varied)[0], drawn(seed=5, **varied)[0])
    assert torch.equal(drawn(seed=5, ensd=9, **varied)[1], cpu(14, 1)[0])


def test_a_picture_tells_its_ensd_as_a1111_does(draw, sd):
    draw("a cat", "--seed", 1, "--sampler", "euler_a", "--eta-noise-seed-delta", 31337)
    with Image.open("a-cat-1.png") as image:
        texts = image.text
    assert "ENSD: 31337" in texts["parameters"]
    assert json.loads(texts["sd"])["request"]["ensd"] == 31337
    assert sd("again", "a-cat-1.png").lines == ["a-cat-1-2.png"]
    assert Path("a-cat-1.png").read_bytes() == Path("a-cat-1-2.png").read_bytes()


def test_ensd_is_not_taken_with_comfyuis_generators():
    with pytest.raises(UsageError, match="A1111's"):
        Request("x", rng="comfyui", ensd=1)
