"""Inpainting: what the mask leaves out ends as it was, and grey is repainted in the last part of the steps."""

from itertools import pairwise

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.inpaint import keep_unmasked
from sdcli.diffusion.uncond import uncond_of, with_uncond

SIGMAS = [8.0, 4.0, 2.0, 1.0, 0.0]
ORIGINAL = torch.full((1, 4, 2, 2), 3.0)
CROSS = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
"""A mask that repaints two of four latents."""


def seeded_noise():
    random = torch.Generator().manual_seed(0)
    return lambda sigma, lower: torch.randn(1, 4, 2, 2, generator=random)


def minus_one(x, sigma):
    """A network that always paints -1."""
    return x * 0 - 1


def final_x(mask, sampler="euler", denoise=minus_one):
    start = ORIGINAL + 8 * seeded_noise()(0, 0)
    kept = keep_unmasked(denoise, ORIGINAL, mask, SIGMAS)
    return [*registry.find("samplers", sampler)(kept, start, SIGMAS, seeded_noise())][-1]


@pytest.mark.parametrize("sampler", registry.names("samplers"))
def test_every_sampler_ends_with_the_original_where_the_mask_is_0(sampler):
    x = final_x(CROSS, sampler)
    assert torch.allclose(x[..., CROSS[0, 0] == 0], torch.tensor(3.0), atol=1e-5)
    assert (x[..., CROSS[0, 0] == 1] < 1).all()


def test_a_black_and_white_mask_gives_what_mixing_in_the_noised_picture_gives():
    """The rule of the DDIM pipelines: after each step, the rest is the picture with the same noise at the new level."""

    def denoise(x, sigma):
        return x / (1 + sigma**2)

    noise = seeded_noise()(0, 0)
    x = ORIGINAL + 8 * noise
    for sigma, lower in pairwise(SIGMAS):
        denoised = denoise(x, sigma)
        stepped = denoised + (x - denoised) * lower / sigma
        x = stepped * CROSS + (ORIGINAL + lower * noise) * (1 - CROSS)
    assert torch.allclose(final_x(CROSS, denoise=denoise), x, atol=1e-5)


def test_grey_is_repainted_in_that_part_of_the_steps_the_last_ones():
    mask = torch.tensor([[[[0.0, 0.25], [0.5, 1.0]]]])
    kept = keep_unmasked(minus_one, ORIGINAL, mask, SIGMAS)
    repainted = [(kept(ORIGINAL, sigma)[0, 0] == -1).flatten().tolist() for sigma in SIGMAS[:-1]]
    assert repainted == [
        [False, False, False, True],
        [False, False, False, True],
        [False, False, True, True],
        [False, True, True, True],
    ]


def test_a_level_between_two_belongs_to_the_step_that_passes_it():
    kept = keep_unmasked(minus_one, ORIGINAL, torch.full((1, 1, 2, 2), 0.5), SIGMAS)
    assert (kept(ORIGINAL, 2.1) == 3).all()
    assert (kept(ORIGINAL, 1.5) == -1).all()


def test_the_unguided_estimate_is_masked_as_well():
    kept = keep_unmasked(lambda x, sigma: with_uncond(x * 0, lambda: x * 0 - 2), ORIGINAL, CROSS, SIGMAS)
    assert uncond_of(kept(ORIGINAL, 1.0))[0, 0].tolist() == [[3, -2], [-2, 3]]
