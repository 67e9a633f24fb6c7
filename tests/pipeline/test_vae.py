"""The VAE in windows: what is left of the whole, where memory is short."""

import numpy as np
import pytest
import torch

from sdcli.engine import generate
from sdcli.models import memory
from sdcli.models.cache import ModelCache
from sdcli.models.load import load
from sdcli.pipeline import vae
from sdcli.request.request import Request
from tests.pictures import photo


@pytest.fixture
def crowded(monkeypatch):
    """The memory to be found short from now on."""
    return lambda: monkeypatch.setattr(memory, "free", lambda device: 0.0)


def likeness(one, other) -> float:
    """PSNR in dB of two pictures."""
    error = np.square(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean()
    return float(10 * np.log10(255**2 / error))


def test_a_picture_decoded_in_windows_is_that_of_the_whole_without_a_seam(crowded):
    model = load("tiny", "cpu", "float32")
    x = vae.encode(model, vae.to_tensor(photo(768, 640)))
    whole, nothing = vae.decode(model, x)
    crowded()
    parts, told = vae.decode(model, x)
    assert (nothing, told) == (None, "VAE in windows")
    assert likeness(whole, parts) > 35  # group norms see less of the picture at a time
    step = np.abs(np.diff(np.asarray(parts, np.float64) - np.asarray(whole, np.float64), axis=1)).max((0, 2))
    assert step.max() < 24  # nowhere a jump from one column to the next that the whole has not


def test_a_picture_is_encoded_in_windows_alike(crowded):
    model = load("tiny", "cpu", "float32")
    picture = vae.to_tensor(photo(768, 640))
    whole = vae.encode(model, picture)
    crowded()
    parts = vae.encode(model, picture)
    assert parts.shape == whole.shape
    assert float((parts - whole).norm() / whole.norm()) < 0.07


def test_a_small_picture_stays_whole_and_a_large_one_says_what_was_done(crowded):
    small, large = (
        Request("a cat", model="test:sd1", seed=1, steps=1, width=w, height=64) for w in (64, 640)
    )
    models = ModelCache()
    with models.use(small.loading):  # while there is memory for it
        crowded()
    assert "fallback" not in generate(small, models).picture.facts
    assert generate(large, models).picture.facts["fallback"] == "VAE in windows"


def test_what_was_decoded_whole_is_the_same_to_the_bit(crowded):
    model = load("test:sd1", "cpu", "float32")
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    before = vae.decode(model, x)[0].tobytes()
    crowded()
    assert vae.decode(model, x)[0].tobytes() == before
