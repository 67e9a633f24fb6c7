"""Hold: what is not free ends as it was, and grey is freed in its time."""

from itertools import pairwise

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.inpaint import keep_unmasked
from sdcli.diffusion.uncond import uncond_of, with_uncond

SIGMAS = [8.0, 4.0, 2.0, 1.0, 0.0]
KEPT = torch.full((1, 4, 2, 2), 3.0)


def noise():
    random = torch.Generator().manual_seed(0)
    return lambda sigma, lower: torch.randn(1, 4, 2, 2, generator=random)


def drawn(free, sampler="euler", denoise=lambda x, sigma: x * 0 - 1):
    start = KEPT + 8 * noise()(0, 0)
    held = keep_unmasked(denoise, KEPT, free, SIGMAS)
    return [*registry.find("samplers", sampler)(held, start, SIGMAS, noise())][-1]


@pytest.mark.parametrize("sampler", registry.names("samplers"))
def test_every_sampler_brings_what_is_held_back_exactly(sampler):
    free = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    x = drawn(free, sampler)
    assert torch.allclose(x[..., free[0, 0] == 0], torch.tensor(3.0), atol=1e-5)
    assert (x[..., free[0, 0] == 1] < 1).all()


def test_it_is_what_mixing_in_the_noised_picture_gives():
    """The rule of the DDIM pipelines: after each step, the rest is the picture with the same noise at the new level."""
    free = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    denoise = lambda x, sigma: x / (1 + sigma**2)  # noqa: E731
    unit = noise()(0, 0)
    mixed = KEPT + 8 * unit
    for sigma, lower in pairwise(SIGMAS):
        d = denoise(mixed, sigma)
        stepped = d + (mixed - d) * lower / sigma
        mixed = stepped * free + (KEPT + lower * unit) * (1 - free)
    assert torch.allclose(drawn(free, denoise=denoise), mixed, atol=1e-5)


def test_grey_is_drawn_in_that_part_of_the_steps_the_last_ones():
    free = torch.tensor([[[[0.0, 0.25], [0.5, 1.0]]]])
    asked = {}

    def held_at(x, sigma):
        return x * 0 - 1

    held = keep_unmasked(held_at, KEPT, free, SIGMAS)
    for i, sigma in enumerate(SIGMAS[:-1]):
        asked[i] = (held(KEPT, sigma)[0, 0] == -1).flatten().tolist()
    assert asked == {
        0: [False, False, False, True],
        1: [False, False, False, True],
        2: [False, False, True, True],
        3: [False, True, True, True],
    }


def test_a_level_between_two_belongs_to_the_step_that_passes_it():
    free = torch.full((1, 1, 2, 2), 0.5)
    held = keep_unmasked(lambda x, sigma: x * 0 - 1, KEPT, free, SIGMAS)
    assert (held(KEPT, 2.1) == 3).all()
    assert (held(KEPT, 1.5) == -1).all()


def test_what_it_carries_is_held_as_well():
    free = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    held = keep_unmasked(lambda x, sigma: with_uncond(x * 0, lambda: x * 0 - 2), KEPT, free, SIGMAS)
    assert uncond_of(held(KEPT, 1.0))[0, 0].tolist() == [[3, -2], [-2, 3]]
