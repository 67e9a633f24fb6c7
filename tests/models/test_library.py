"""`--networks diffusers` draws with the libraries' own classes: the same pictures, and the picture says so."""

from importlib.metadata import version

import pytest
import torch

from sdcli import registry
from sdcli.checkpoints import network_config as config
from sdcli.engine import generate
from sdcli.models import library
from sdcli.models.architectures.unet import UNet
from sdcli.models.load import load
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Request
from tests.models.cases import CASES, random, token_ids, unet_inputs
from tests.models.test_architectures import pair

LIBRARIES = ("diffusers", "transformers")
COMMON = {"prompt": "a red apple", "seed": 7, "width": 64, "height": 64, "device": "cpu", "dtype": "float32"}


@pytest.mark.parametrize(("model", "steps"), [("test:sd1", 2), ("test:sdxl", 2), ("tiny", 1)])
def test_the_library_draws_the_same_bytes_and_only_its_picture_names_it(model, steps, tmp_path):
    options = {**COMMON, "model": model, "steps": steps}
    ours, theirs = (generate(Request(**options, networks=each)) for each in ("sdcli", "diffusers"))
    assert torch.equal(ours.latents, theirs.latents)
    assert ours.picture.image.tobytes() == theirs.picture.image.tobytes()
    facts = {}
    for name, result in (("ours", ours), ("theirs", theirs)):
        path = tmp_path / f"{name}.png"
        path.write_bytes(result.picture.png())
        facts[name] = read_png_metadata(str(path)).facts(str(path))
    assert facts["theirs"]["request"]["networks"] == "diffusers"
    assert {name: facts["theirs"][name] for name in LIBRARIES} == {name: version(name) for name in LIBRARIES}
    assert facts["ours"]["request"].get("networks", "sdcli") == "sdcli"
    assert not set(facts["ours"]) & set(LIBRARIES)


@pytest.mark.parametrize(
    "options",
    [
        *[{"guidance": name} for name in registry.names("guidance") if name != "cfg"],
        {"tile": "both"},
        {"hires": 1.5},
        {"window": 64, "width": 96},
        {"clip_skip": 2},
        {"dtype": "bfloat16"},
    ],
    ids=str,
)
def test_the_library_draws_the_same_latents_with_whatever_alters_a_network(options):
    """`--guidance pag` once ended in a traceback here: the library called our processor with its own keywords."""
    request = Request(
        **{**COMMON, "negative": "a dog", "model": "test:sd1", "steps": 2, "cfg": 4.0, **options}
    )
    ours, theirs = (generate(request.replace(networks=each)) for each in ("sdcli", "diffusers"))
    assert torch.equal(ours.latents, theirs.latents)


def test_a_model_loaded_by_the_library_has_its_classes_with_our_tensor_names():
    from diffusers import AutoencoderKL, UNet2DConditionModel

    ours, theirs = (load("test:sdxl", "cpu", "float32", networks=each) for each in ("sdcli", "diffusers"))
    assert isinstance(ours.unet, UNet) and isinstance(theirs.unet, UNet2DConditionModel)
    assert isinstance(theirs.vae, AutoencoderKL)
    assert isinstance(theirs.text_encoder("text_encoder"), library.LibraryTextModel)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        own, others = ours.networks[part].state_dict(), theirs.networks[part].state_dict()
        assert sorted(own) == sorted(others)
        assert all(torch.equal(own[name], others[name]) for name in own)


@pytest.mark.parametrize("name", ["sd1-unet", "sd2-unet", "tiny-unet", "x4_upscaler-unet", "sdxl-unet"])
@torch.no_grad()
def test_the_library_unet_takes_our_arguments(name):
    ours, _ = pair(name)
    wrapped = library.build("unet", config.settings("unet", CASES[name][1])).eval()
    wrapped.load_state_dict(ours.state_dict())
    inputs = unet_inputs(CASES[name][1], 2, 8, 8)
    assert torch.equal(inputs.ours(wrapped), inputs.ours(ours))


@pytest.mark.parametrize("name", ["sd1-vae", "taesd-vae", "sd1-text_encoder", "sdxl-text_encoder_2"])
@torch.no_grad()
def test_the_library_autoencoders_and_text_encoders_answer_in_our_shapes(name):
    ours, _ = pair(name)
    part, values = CASES[name]
    wrapped = library.build(part, config.settings(part, values)).eval()
    wrapped.load_state_dict(ours.state_dict(), strict=False)
    if part == "vae":
        z, x = random(1, 2, 4, 8, 8), random(2, 2, 3, 64, 64)
        assert torch.equal(wrapped.decode(z), ours.decode(z))
        assert torch.equal(wrapped.encode(x), ours.encode(x))
        return
    states, judged = ours(token_ids(values)), wrapped(token_ids(values))
    assert all(
        torch.equal(state, other)
        for state, other in zip(states.hidden_states, judged.hidden_states, strict=True)
    )
    assert (states.pooled is None) == (judged.pooled is None)
    assert states.pooled is None or torch.equal(states.pooled, judged.pooled)


def test_a_picture_made_by_the_library_is_made_again_by_it(sd, tmp_path):
    arguments = ("-m", "test:sd1", "-s", 1, "-W", 64, "-H", 64, "--seed", 7, "--networks", "diffusers")
    assert sd("txt2img", "a cat", *arguments).code == 0
    assert sd("again", "a-cat-7.png").lines == ["a-cat-7-2.png"]
    first, second = (read_png_metadata(path).facts(path) for path in ("a-cat-7.png", "a-cat-7-2.png"))
    assert first["diffusers"] == second["diffusers"] == version("diffusers")
    assert (tmp_path / "a-cat-7.png").read_bytes() == (tmp_path / "a-cat-7-2.png").read_bytes()
