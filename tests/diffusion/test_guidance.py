"""Guidance is its formula at every scale, asks the network no more than it must, and carries the unguided estimate."""

import dataclasses
import math

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.losses import LOSSES, gradient
from sdcli.diffusion.noise import Stream
from sdcli.diffusion.uncond import uncond_of
from sdcli.errors import UsageError
from tests.diffusion.truth import gaussian

ALL = registry.names("guidance")


def network(calls):
    def predict(x, sigma, conds):
        calls.append(conds)
        return [x * 0 + cond for cond in conds]

    return predict


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 1.0001, 7.5, 30.0])
def test_cfg_is_the_formula_at_every_scale(scale):
    calls = []  # of a network that answers with the number it is given as prompt
    denoise = registry.find("guidance", "cfg")(network(calls), 3.0, 1.0, scale)
    assert denoise(torch.zeros(1), 1.0).item() == pytest.approx(1 + scale * 2, rel=1e-6)
    assert calls == ([[3.0]] if scale == 1 else [[1.0]] if scale == 0 else [[1.0, 3.0]])


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt for which the network always answers with one fixed estimate."""

    answer: torch.Tensor
    perturbed: "Prompt | None" = None
    empty: "Prompt | None" = None
    without_concat: "Prompt | None" = None
    attention: "Prompt | None" = None


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


EMPTY = Prompt(random(1, 4, 6, 6, seed=0))
ATTENTION = Prompt(random(1, 1, 6, 6, seed=8).expand(1, 4, 6, 6) + 1)
POSITIVE = Prompt(
    random(1, 4, 6, 6, seed=1), perturbed=Prompt(random(1, 4, 6, 6, seed=3)), attention=ATTENTION
)
NO_PICTURE = Prompt(random(1, 4, 6, 6, seed=7))
NEGATIVE = Prompt(random(1, 4, 6, 6, seed=2), empty=EMPTY, without_concat=NO_PICTURE, attention=ATTENTION)
X = random(1, 4, 6, 6, seed=4) * 3


def answers(x, sigma, prompts):
    return [prompt.answer.clone() for prompt in prompts]


def guided(spec: str, scale: float, sigma: float = 2.0) -> torch.Tensor:
    return registry.find("guidance", spec)(answers, POSITIVE, NEGATIVE, scale)(X, sigma)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5])
def test_a_guided_estimate_carries_its_unguided_one(name, scale):
    origin = {"perp_neg": EMPTY, "pix2pix": NO_PICTURE}.get(name, NEGATIVE)
    assert torch.equal(uncond_of(guided(name, scale)), origin.answer)


def test_an_estimate_without_guidance_is_its_own_unguided_one():
    assert uncond_of(X) is X


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("pag", "sag", "classifier")])
def test_at_scale_1_guidance_is_the_prompt_alone(name):
    option = {"perp_neg": ":weight=0", "pix2pix": ":image_cfg=1"}.get(name, "")
    assert torch.allclose(guided(name + option, 1.0), POSITIVE.answer, atol=1e-5)


def test_pix2pix_has_one_scale_for_the_picture_and_one_for_the_words():
    picture, prompt = NEGATIVE.answer - NO_PICTURE.answer, POSITIVE.answer - NEGATIVE.answer
    expected = NO_PICTURE.answer + picture * 1.7 + prompt * 7.5
    assert torch.allclose(guided("pix2pix:image_cfg=1.7", 7.5), expected, atol=1e-5)


@pytest.mark.parametrize(
    "spec",
    [
        "cfg_rescale:phi=0",
        "cfg_interval",
        "apg:eta=1,norm=0,momentum=0",
        "pag:strength=0",
        "sag:strength=0",
        "classifier:strength=0",
    ],
)
def test_with_options_that_switch_it_off_it_is_plain_guidance(spec):
    assert torch.allclose(guided(spec, 7.5), guided("cfg", 7.5), atol=2e-5)


def test_cfg_rescale_has_the_spread_that_diffusers_rescales_to():
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    sigma = 2.0

    def velocity(denoised):
        return (X / (sigma**2 + 1) - denoised) * math.sqrt(sigma**2 + 1) / sigma

    for phi in (0.3, 1.0):
        got = velocity(guided(f"cfg_rescale:phi={phi}", 7.5, sigma))
        theirs = rescale_noise_cfg(velocity(guided("cfg", 7.5)), velocity(POSITIVE.answer), phi)
        assert torch.allclose(got, theirs, atol=1e-5)


def test_outside_the_interval_cfg_interval_asks_for_the_prompt_only():
    calls = []
    denoise = registry.find("guidance", "cfg_interval:high=5,low=1")(network(calls), 3.0, 1.0, 7.5)
    got = [denoise(torch.zeros(1), sigma).item() for sigma in (5.1, 5.0, 1.1, 1.0)]
    assert got == [3.0, 16.0, 16.0, 3.0]
    assert calls == [[3.0], [1.0, 3.0], [1.0, 3.0], [3.0]]


def test_perp_neg_removes_nothing_that_the_prompt_asks_for():
    same = dataclasses.replace(POSITIVE, empty=EMPTY)
    denoise = registry.find("guidance", "perp_neg")(answers, POSITIVE, same, 7.5)
    expected = EMPTY.answer + (POSITIVE.answer - EMPTY.answer) * 7.5
    assert torch.allclose(denoise(X, 2.0), expected, atol=1e-4)
    wanted = POSITIVE.answer - EMPTY.answer
    removed = guided("perp_neg:weight=0", 7.5) - guided("perp_neg", 7.5)
    assert float((removed * wanted).sum()) == pytest.approx(0, abs=2e-3)
    assert float(removed.norm()) > 1


def test_apg_changes_the_estimate_at_right_angles_and_no_further_than_its_norm():
    change = guided("apg:momentum=0", 7.5) - POSITIVE.answer
    assert float((change * POSITIVE.answer).sum()) == pytest.approx(0, abs=2e-3)
    assert float(change.norm()) <= 7.5 * 6.5
    unlimited = guided("apg:momentum=0,norm=0", 7.5) - POSITIVE.answer
    assert float(unlimited.norm()) > float(change.norm())


def test_the_momentum_of_apg_remembers_the_steps_of_its_own_picture_only():
    make = registry.find("guidance", "apg:norm=0,eta=1")
    one, other = make(answers, POSITIVE, NEGATIVE, 2.0), make(answers, POSITIVE, NEGATIVE, 2.0)
    first, second = one(X, 2.0), one(X, 1.0)
    assert torch.equal(other(X, 2.0), first)
    difference = POSITIVE.answer - NEGATIVE.answer
    assert torch.allclose(second, POSITIVE.answer + difference * 0.25, atol=1e-5)


@pytest.mark.parametrize(("scale", "own"), [(7.5, NEGATIVE), (1.0, POSITIVE)])
def test_sag_goes_from_the_estimate_of_the_blurred_one_towards_that(scale, own):
    """By diffusers' blur and mask; the network answers the same again, so what is left is the blur alone."""
    from diffusers.pipelines.deprecated.stable_diffusion_sag.pipeline_stable_diffusion_sag import (
        gaussian_blur_2d,
    )

    mask = (ATTENTION.answer > 1).float()
    degraded = gaussian_blur_2d(own.answer, 9, 1.0) * mask + own.answer * (1 - mask)
    aside = guided("sag:strength=2,blur=1", scale) - guided("cfg", scale)
    assert torch.allclose(aside, 2 * (degraded - own.answer), atol=1e-5)


def test_sag_shows_the_network_the_blurred_estimate_with_the_noise_there_was():
    shown = []

    def predict(x, sigma, prompts):
        shown.append(x)
        return answers(x, sigma, prompts)

    registry.find("guidance", "sag")(predict, POSITIVE, NEGATIVE, 7.5)(X, 2.0)
    aside = guided("sag:strength=1", 7.5) - guided("cfg", 7.5)
    assert torch.allclose(shown[1], X + aside, atol=1e-5)


def test_pag_guides_away_from_the_perturbed_estimate():
    aside = guided("pag:strength=2", 7.5) - guided("cfg", 7.5)
    assert torch.allclose(aside, (POSITIVE.answer - POSITIVE.perturbed.answer) * 2, atol=1e-5)


@pytest.mark.parametrize("scorer", LOSSES)
def test_the_gradient_of_a_loss_is_its_slope_in_every_direction(scorer):
    loss, x = LOSSES[scorer], X.double()
    direction = random(1, 4, 6, 6, seed=8).double()
    slope = (loss(x + direction * 1e-4) - loss(x - direction * 1e-4)) / 2e-4
    assert float(slope) == pytest.approx(float((gradient(loss, x) * direction).sum()), rel=1e-6)


@pytest.mark.parametrize("scorer", LOSSES)
def test_a_loss_falls_all_along_one_step_against_its_gradient(scorer):
    loss, x = LOSSES[scorer], X.double()
    step = gradient(loss, x)
    losses = [float(loss(x - step * share)) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[1]


@pytest.mark.parametrize("scorer", ["mirror", "plain"])
def test_one_step_against_its_gradient_reaches_the_minimum_of_the_loss(scorer):
    loss, x = LOSSES[scorer], X.double()
    assert float(loss(x - gradient(loss, x))) == pytest.approx(0, abs=1e-20)


def test_the_mirror_loss_is_0_where_left_mirrors_right_and_its_step_makes_it_so():
    result = guided("classifier:strength=1", 7.5)
    assert torch.allclose(result, result.flip(-1), atol=1e-5)


@pytest.mark.parametrize("strength", [0.5, -0.3])
@pytest.mark.parametrize("scorer", LOSSES)
def test_classifier_guidance_goes_its_strength_down_the_loss_from_plain_guidance(scorer, strength):
    plain = guided("cfg", 7.5)
    expected = plain - gradient(LOSSES[scorer], plain) * strength
    result = guided(f"classifier:scorer={scorer},strength={strength}", 7.5)
    assert torch.allclose(result, expected, atol=1e-6)
    assert (LOSSES[scorer](result) < LOSSES[scorer](plain)) == (strength > 0)


def test_classifier_guidance_works_inside_inference_mode():
    with torch.inference_mode():
        assert torch.isfinite(guided("classifier:scorer=smooth", 7.5)).all()


def test_an_unknown_scorer_is_a_usage_error():
    with pytest.raises(UsageError, match="there are: mirror, smooth, plain"):
        guided("classifier:scorer=beauty", 7.5)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5])
def test_guidance_does_not_change_the_networks_answers_in_place(name, scale):
    """A replayed run gives the guidance the recorded tensors themselves."""
    kept = []

    def predict(x, sigma, prompts):
        kept.extend((answer, answer.clone()) for answer in answers(x, sigma, prompts))
        return [answer for answer, _ in kept[-len(prompts) :]]

    denoise = registry.find("guidance", name)(predict, POSITIVE, NEGATIVE, scale)
    uncond_of(denoise(X, 2.0))
    denoise(X, 1.0)
    assert kept
    assert all(torch.equal(answer, before) for answer, before in kept)


def final_x(sampler: str, scale: float) -> torch.Tensor:
    """The end of a run where the prompt's data has mean 1 and the negative prompt's mean -1."""

    def predict(x, sigma, means):
        return [gaussian(mean, 0.3)(x, sigma) for mean in means]

    denoise = registry.find("guidance", "cfg")(predict, 1.0, -1.0, scale)
    sigmas = registry.find("schedules", "karras")(12, Levels.scaled_linear())
    x = random(1, 4, 6, 6, seed=5) * sigmas[0]
    *_, last = registry.find("samplers", sampler)(denoise, x, sigmas, Stream(0, (1, 4, 6, 6)))
    return last


PLAIN_SAMPLER = {"euler_cfg_pp": "euler", "euler_a_cfg_pp": "euler_a", "dpmpp_2m_cfg_pp": "dpmpp_2m"}


@pytest.mark.parametrize("sampler", PLAIN_SAMPLER)
def test_cfg_pp_at_scale_0_is_its_plain_sampler(sampler):
    assert torch.allclose(final_x(sampler, 0.0), final_x(PLAIN_SAMPLER[sampler], 0.0), atol=1e-6)


@pytest.mark.parametrize("sampler", PLAIN_SAMPLER)
def test_cfg_pp_differs_from_its_plain_sampler_at_other_scales_and_at_scale_1_too(sampler):
    for scale in (0.6, 1.0):
        assert not torch.allclose(final_x(sampler, scale), final_x(PLAIN_SAMPLER[sampler], scale), atol=1e-3)


def test_euler_cfg_pp_adds_the_unguided_noise_to_the_guided_estimate():
    x = random(1, 4, 6, 6, seed=6)
    denoise = registry.find("guidance", "cfg")(answers, POSITIVE, NEGATIVE, 0.6)
    first, _ = registry.find("samplers", "euler_cfg_pp")(denoise, x, [2.0, 1.5, 0.0], None)
    noise = (x - NEGATIVE.answer) / 2.0
    expected = NEGATIVE.answer + (POSITIVE.answer - NEGATIVE.answer) * 0.6 + noise * 1.5
    assert torch.allclose(first, expected, atol=1e-5)
