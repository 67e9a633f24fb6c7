"""--like comfyui and --like a1111 give SDE samplers the noise of torchsde's Brownian tree.

Version 0.1.0 drew DPM++ SDE, 2M SDE and 3M SDE along a path of its own: 14 to 22 dB from ComfyUI's pictures on the same
weights. The references here are k-diffusion's formulas, written out in float32, on torchsde's own tree.
"""

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.philox import Philox
from sdcli.models.load import load
from sdcli.pipeline.start import start_of
from sdcli.request.inputs import open_inputs
from sdcli.request.request import Request
from tests.pictures import photo

torchsde = pytest.importorskip("torchsde")
pytestmark = pytest.mark.filterwarnings(
    "ignore:Should have t"
)  # of torchsde: levels are rounded past its ends
SAMPLERS = ["dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde"]
SEED = 2**40 + 5


def denoise(x, sigma):
    """The exact denoiser of data of mean 1 and variance 1."""
    return (x + sigma**2) / (1 + sigma**2)


def k_diffusion(sampler, x, sigmas, noise):
    """The three samplers as k-diffusion writes them, with eta 1."""
    past = []
    for i in range(len(sigmas) - 1):
        sigma, lower = sigmas[i], sigmas[i + 1]
        denoised = denoise(x, sigma)
        if lower == 0:
            return denoised
        h = sigma.log() - lower.log()
        if sampler == "dpmpp_sde":
            t, t_next = -sigma.log(), -lower.log()
            s = t + (t_next - t) / 2
            at = [(-level).exp() for level in (t, s, t_next)]

            def move(end, estimate, x=x, at=at):
                up = torch.minimum(end, (end**2 * (at[0] ** 2 - end**2) / at[0] ** 2) ** 0.5)
                down = (end**2 - up**2) ** 0.5
                return down / at[0] * x + (1 - down / at[0]) * estimate + noise(at[0], end) * up

            x = move(at[2], denoise(move(at[1], denoised), at[1]))
            continue
        x = (-2 * h).exp() * x + (1 - (-2 * h).exp()) * denoised
        if sampler == "dpmpp_2m_sde" and past:
            x = x + (1 - (-2 * h).exp()) / 2 * (h / past[0][0]) * (denoised - past[0][1])
        if sampler == "dpmpp_3m_sde" and past:
            phi_2 = (-2 * h).expm1() / (2 * h) + 1
            slope = (denoised - past[0][1]) / (past[0][0] / h)
            if len(past) == 1:
                x = x + phi_2 * slope
            else:
                r0, r1 = past[0][0] / h, past[1][0] / h
                older = (past[0][1] - past[1][1]) / r1
                d1 = slope + (slope - older) * r0 / (r0 + r1)
                d2 = (slope - older) / (r0 + r1)
                x = x + phi_2 * d1 - (phi_2 / (2 * h) - 0.5) * d2
        x = x + noise(sigma, lower) * lower * (1 - (-2 * h).exp()).sqrt()
        past = [(h, denoised), *past[:1]]
    return x


def tree_noise(low, high, shape):
    tree = torchsde.BrownianTree(low, torch.zeros(shape), high, entropy=SEED)
    return lambda sigma, lower: tree(lower, sigma) * -1 / (sigma - lower).sqrt()


def runs(sampler, spanned=None, **asked):
    """(our last x, k-diffusion's on torchsde's tree) of the same first x; the tree spans the levels of the run."""
    model = load("test:sd1", "cpu", "float32")
    request = Request("x", model="test:sd1", seed=SEED, steps=8, sampler=sampler, schedule="karras", **asked)
    inputs = open_inputs(request)
    job = model.with_defaults(inputs.fill_in_size(request))
    start = start_of(model, job, inputs.at_size(job))
    *_, ours = registry.find("samplers", sampler)(denoise, start.x, start.sigmas, start.noise)
    sigmas = torch.tensor(list(start.sigmas), dtype=torch.float32)
    ends = torch.tensor(spanned or [start.sigmas[-2], start.sigmas[0]], dtype=torch.float32)
    return ours, k_diffusion(sampler, start.x, sigmas, tree_noise(*ends, start.x.shape))


def philox_leaf(size, dtype, device, seed):
    return Philox(int(seed), tuple(size))(0, 0)


def assert_close(ours, theirs):
    assert float((ours - theirs).abs().max()) < 5e-4 * float(theirs.std())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_like_comfyui_draws_the_noise_of_torchsdes_tree(sampler):
    assert_close(*runs(sampler, like="comfyui", rng="comfyui"))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_like_a1111_draws_the_tree_with_leaves_of_philox(sampler, monkeypatch):
    monkeypatch.setattr(torchsde._brownian.brownian_interval, "_randn", philox_leaf)
    assert_close(*runs(sampler, like="a1111", rng="philox"))


def test_over_a_picture_comfyuis_tree_spans_the_run_and_a1111s_the_whole_schedule(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo().save("in.png")
    over = {"image": "in.png", "strength": 0.5}
    assert_close(*runs("dpmpp_2m_sde", like="comfyui", rng="comfyui", **over))
    whole = [0.0291671582, 14.6146411896]
    monkeypatch.setattr(torchsde._brownian.brownian_interval, "_randn", philox_leaf)
    assert_close(*runs("dpmpp_2m_sde", whole, like="a1111", rng="philox", ensd=3, **over))


def test_pictures_without_like_keep_their_own_path():
    ours, theirs = runs("dpmpp_2m_sde", rng="philox")
    assert float((ours - theirs).abs().max()) > 0.1
