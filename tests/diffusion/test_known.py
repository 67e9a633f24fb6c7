"""Published numbers: what diffusers' own tests expect of whole runs with their dummy network, s * t / (t + 1)."""

import math

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.noise import Stream

SAMPLE = (torch.arange(768).reshape(3, 8, 8, 4) / 768).permute(3, 0, 1, 2).double()
LINEAR, SCALED = Levels.linear(), Levels.scaled_linear()
HUNDREDS = [900 - 100 * i for i in range(10)]
TENTHS = [round(999 * (10 - i) / 10) for i in range(10)]
RUNS = {  # sampler, timesteps, levels, prediction, last sigma -> sum and mean of the absolute values
    "DDIM": ("ddim", HUNDREDS, LINEAR, "epsilon", 0.0, 172.0067, 0.223967),
    "DDIM, v": ("ddim", HUNDREDS, LINEAR, "v", 0.0, 52.5302, 0.0684),
    "DPM++ 2M": ("dpmpp_2m", TENTHS, LINEAR, "epsilon", LINEAR.sigma_min, None, 0.3301),
    "LCM": ("lcm", [999 - 100 * i for i in range(10)], SCALED, "epsilon", 0.0, 197.7616, 0.2575),
}


def check_published(x: torch.Tensor, total: float | None, mean: float) -> None:
    if total is not None:
        assert float(x.abs().sum()) == pytest.approx(total, abs=1e-2)
    assert float(x.abs().mean()) == pytest.approx(mean, abs=1e-3)


@pytest.mark.parametrize("run", RUNS)
def test_a_run_ends_with_the_published_numbers(run):
    sampler, timesteps, levels, prediction, last, total, mean = RUNS[run]
    sigmas = [*(levels.sigma(t) for t in timesteps), last]

    def denoise(x, sigma):
        t, scale = levels.t(sigma), math.sqrt(1 + sigma**2)
        out = x / scale * t / (t + 1)
        return x - sigma * out if prediction == "epsilon" else x / scale**2 - out * sigma / scale

    noise = Stream(0, SAMPLE.shape)
    start = SAMPLE * math.sqrt(1 + sigmas[0] ** 2)
    *_, x = registry.find("samplers", sampler)(denoise, start, sigmas, noise)
    check_published(x / math.sqrt(1 + last**2), total, mean)


@pytest.mark.parametrize(
    ("sampler", "total", "mean"), [("euler", 10.0807, 0.0131), ("euler_a", 152.3192, 0.1983)]
)
def test_a_run_of_the_sigma_schedulers_ends_with_the_published_numbers(sampler, total, mean):
    """Their test loop takes the scaled sample for x at each step; between timesteps their sigma is linear in t."""
    table, timesteps = Levels.linear(count=1100).table, [1099 * (9 - i) / 9 for i in range(10)]
    sigmas = [table[int(t)] + (t % 1) * (table[min(int(t) + 1, 1099)] - table[int(t)]) for t in timesteps] + [
        0.0
    ]
    noise, x = Stream(0, SAMPLE.shape), SAMPLE * sigmas[0]
    for i, t in enumerate(timesteps):
        x = x / math.sqrt(1 + sigmas[i] ** 2)
        out = x * t / (t + 1)
        (x,) = registry.find("samplers", sampler)(
            lambda y, sigma, out=out: y - sigma * out, x, sigmas[i : i + 2], noise
        )
    check_published(x, total, mean)
