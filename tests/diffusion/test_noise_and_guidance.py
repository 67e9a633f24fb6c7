"""Noise comes from one stream a picture; guidance is linear in its scale and calls the network no more than it must."""

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.noise import Stream
from sdcli.diffusion.sentry import sentry
from sdcli.errors import NotFinite


def test_the_noise_of_seed_zero_is_the_known_one():
    noise = Stream(0, (1, 4, 64, 64))(1, 0).flatten()
    assert noise[:3].tolist() == pytest.approx([-1.12583983, -1.15236020, -0.25057858])


def test_the_global_seed_is_never_touched():
    before = torch.random.get_rng_state()
    Stream(7, (1, 4, 8, 8))(1, 0)
    assert torch.equal(torch.random.get_rng_state(), before)


def network(calls):
    def predict(x, sigma, conds):
        calls.append(conds)
        return [x * 0 + cond for cond in conds]

    return predict


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 1.0001, 7.5, 30.0])
def test_cfg_is_the_formula_at_every_scale(scale):
    calls = []
    denoise = registry.find("guidance", "cfg")(network(calls), 3.0, 1.0, scale)
    assert denoise(torch.zeros(1), 1.0).item() == pytest.approx(1 + scale * 2, rel=1e-6)
    assert calls == ([[3.0]] if scale == 1 else [[1.0]] if scale == 0 else [[1.0, 3.0]])


def test_the_sentry_names_the_level_of_a_bad_estimate():
    with pytest.raises(NotFinite, match=r"noise level 2\.5"):
        sentry(lambda x, sigma: x / 0)(torch.zeros(1), 2.5)
