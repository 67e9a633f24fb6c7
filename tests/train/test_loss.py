"""The loss of a training: noise, truth, and weights, each by its closed form."""

import math

import pytest
import torch

from sdcli.diffusion.levels import Levels
from sdcli.diffusion.preconditioning import preconditioning
from sdcli.train.loss import draw, loss_of, min_snr_weights, noised

PREDICTIONS = ["epsilon", "v_prediction", "sample"]
LEVELS = Levels.scaled_linear()
T = torch.tensor([0, 333, 999])


def latents():
    generator = torch.Generator().manual_seed(1)
    return torch.randn((3, 4, 8, 6), generator=generator), torch.randn((3, 4, 8, 6), generator=generator)


def test_noised_latents_are_those_of_the_variance_preserving_process():
    z, noise = latents()
    found = noised(z, noise, T, LEVELS, "epsilon")
    for i, t in enumerate(T):
        a = math.prod(
            1 - (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * k / 999) ** 2 for k in range(int(t) + 1)
        )
        torch.testing.assert_close(found.x[i], math.sqrt(a) * z[i] + math.sqrt(1 - a) * noise[i])


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_network_that_answers_the_target_denoises_exactly(prediction):
    z, noise = latents()
    found = noised(z, noise, T, LEVELS, prediction)
    network = preconditioning(LEVELS, prediction)
    for i, t in enumerate(T):
        sigma = LEVELS.table[t]
        x = z[i] + sigma * noise[i]
        torch.testing.assert_close(found.x[i], network.scaled(x, sigma))
        torch.testing.assert_close(
            network.denoised(x, found.target[i], sigma), z[i], atol=3e-6 * (1 + sigma), rtol=0
        )


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_target_has_no_loss(prediction):
    found = noised(*latents(), T, LEVELS, prediction)
    assert loss_of(found.target, found, prediction, 5.0) == 0


def test_without_weights_the_loss_is_the_mean_squared_error():
    z, noise = latents()
    found = noised(z, noise, T, LEVELS, "epsilon")
    torch.testing.assert_close(loss_of(torch.zeros_like(z), found, "epsilon", 0), noise.square().mean())


@pytest.mark.parametrize("sigma", [0.0292, 0.4, 1.0, 14.6])
def test_the_weights_are_those_of_the_paper(sigma):
    snr, gamma = 1 / sigma**2, 5.0
    expected = {
        "epsilon": min(snr, gamma) / snr,
        "v_prediction": min(snr, gamma) / (snr + 1),
        "sample": min(snr, gamma),
    }
    for prediction, weight in expected.items():
        assert min_snr_weights(torch.tensor(sigma), prediction, gamma).item() == pytest.approx(
            weight, rel=1e-6
        )


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_with_min_snr_the_loss_of_an_estimate_is_the_same_whatever_the_network_predicts(prediction):
    z, noise = latents()
    estimate = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(2))
    found = noised(z, noise, T, LEVELS, prediction)
    x = z + found.sigma * noise
    answer = {
        "epsilon": (x - estimate) / found.sigma,
        "v_prediction": (x / (found.sigma**2 + 1) - estimate) * (found.sigma**2 + 1).sqrt() / found.sigma,
        "sample": estimate,
    }[prediction]
    errors = (estimate - z).square().mean((1, 2, 3))
    expected = (errors * (found.sigma.flatten() ** -2).clamp(max=5.0)).mean()
    torch.testing.assert_close(loss_of(answer, found, prediction, 5.0), expected, rtol=2e-3, atol=0)


def test_zero_terminal_snr_leaves_no_loss_that_is_not_finite():
    levels = LEVELS.rescaled()
    found = noised(*latents(), T, levels, "v_prediction")
    assert torch.isfinite(loss_of(torch.zeros_like(found.x), found, "v_prediction", 5.0))


def test_noise_and_timesteps_go_by_the_seed_and_the_number_of_the_batch():
    first, again = draw(3, 7, (2, 4, 8, 8), LEVELS), draw(3, 7, (2, 4, 8, 8), LEVELS)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    for other in (draw(3, 8, (2, 4, 8, 8), LEVELS), draw(4, 7, (2, 4, 8, 8), LEVELS)):
        assert not torch.equal(first[0], other[0])


def test_every_timestep_is_drawn():
    t = torch.cat([draw(0, number, (1000, 1, 1, 1), LEVELS)[1] for number in range(20)])
    assert len(t.unique()) == 1000
    assert t.double().mean() == pytest.approx(499.5, abs=10)
