"""D4: previews of the embedded model had wrong colours to the last step: a green tree was brown, a cyan fish violet.

Version 0.1 fitted the map from latents to colours on random latents, such as no picture has.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sdcli import Request, generate, registry
from sdcli.models.load import load
from sdcli.pipeline import preview, vae


def apart(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute error of two pictures, in levels of 255, at the size of the first."""
    small = other.resize(one.size, Image.Resampling.BOX)
    return float(np.abs(np.asarray(one, np.float64) - np.asarray(small, np.float64)).mean())


def test_d4_a_green_tree_is_green_in_every_preview():
    seen = []

    def watch(steps):
        for step in steps:
            seen.append((step.preview(step.denoised), step.picture()))
            yield step

    generate(Request("a green tree", model="tiny", seed=3, steps=4), watch=watch)
    assert len(seen) == 4
    for soft, sharp in seen:
        assert apart(soft, sharp) < 25
    coloured = np.asarray(seen[-1][0], np.float64).reshape(-1, 3)
    coloured = coloured[np.ptp(coloured, axis=1) > 60]
    assert np.mean(coloured[:, 1] > coloured[:, 0]) > 0.6


def model_with(family: str, **config) -> SimpleNamespace:
    found = registry.find("families", family)
    defaults = {"block_out_channels": [128, 256, 512, 512], "shift_factor": None}
    return SimpleNamespace(family=found, configs={"vae": {**defaults, **config}})


TAESD = {"encoder_block_out_channels": [64] * 4, "scaling_factor": 1.0}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (model_with("sd1", scaling_factor=0.18215), preview.SD),
        (model_with("sd2", scaling_factor=0.18215), preview.SD),
        (model_with("sdxl", scaling_factor=0.13025), preview.SDXL),
        (model_with("sd1", **TAESD), preview.SD),
        (model_with("sdxl", **TAESD), preview.SDXL),
        (model_with("sd1", scaling_factor=0.5), None),
        (model_with("sd1", scaling_factor=0.18215, shift_factor=0.1), None),
        (model_with("sd1", scaling_factor=0.18215, block_out_channels=[64, 64, 64, 64]), None),
        (model_with("x4_upscaler", scaling_factor=0.08333, block_out_channels=[128, 256, 512]), None),
        (model_with("tiny", scaling_factor=1.0, block_out_channels=[8, 8, 8, 8]), None),
    ],
)
def test_d4_a_map_is_used_for_the_latents_that_it_was_made_for_and_no_others(model, expected):
    assert preview.known_map(model) == expected


def test_d4_the_map_of_another_vae_is_fitted_to_what_it_encodes(toy):
    model = load(str(toy), "cpu", "float32")
    picture = Image.radial_gradient("L").resize((128, 128)).convert("RGB")
    z = vae.encode(model, vae.to_tensor(picture))
    soft = preview.preview(model, z)
    assert soft.size == (16, 16)
    assert apart(soft, vae.decode(model, z)[0]) < 20
