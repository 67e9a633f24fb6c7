"""Guidance is its formula at every scale, calls the network no more than it must, and carries the unguided estimate."""

import dataclasses
import math

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.losses import SCORERS, gradient
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
    calls = []
    denoise = registry.find("guidance", "cfg")(network(calls), 3.0, 1.0, scale)
    assert denoise(torch.zeros(1), 1.0).item() == pytest.approx(1 + scale * 2, rel=1e-6)
    assert calls == ([[3.0]] if scale == 1 else [[1.0]] if scale == 0 else [[1.0, 3.0]])


@dataclasses.dataclass(frozen=True)
class Side:
    """A cond whose network answers with the mean of Gaussian data, or with a fixed picture."""

    answer: object
    perturbed: "Side | None" = None
    empty: "Side | None" = None
    unseen: "Side | None" = None


def fixed(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


EMPTY = Side(fixed(1, 4, 6, 6, seed=0))
POSITIVE = Side(fixed(1, 4, 6, 6, seed=1), perturbed=Side(fixed(1, 4, 6, 6, seed=3)))
UNSEEN = Side(fixed(1, 4, 6, 6, seed=7))
NEGATIVE = Side(fixed(1, 4, 6, 6, seed=2), empty=EMPTY, unseen=UNSEEN)
X = fixed(1, 4, 6, 6, seed=4) * 3


def answers(x, sigma, conds):
    return [cond.answer.clone() for cond in conds]


def guided(spec: str, scale: float, sigma: float = 2.0) -> torch.Tensor:
    return registry.find("guidance", spec)(answers, POSITIVE, NEGATIVE, scale)(X, sigma)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5])
def test_an_estimate_carries_the_one_it_was_guided_from(name, scale):
    origin = {"perp_neg": EMPTY, "pix2pix": UNSEEN}.get(name, NEGATIVE)
    assert torch.equal(uncond_of(guided(name, scale)), origin.answer)


def test_a_plain_estimate_is_its_own_unguided_one():
    assert uncond_of(X) is X


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("pag", "classifier")])
def test_scale_one_is_the_prompt_alone(name):
    option = {"perp_neg": ":weight=0", "pix2pix": ":image_cfg=1"}.get(name, "")
    assert torch.allclose(guided(name + option, 1.0), POSITIVE.answer, atol=1e-5)


def test_pix2pix_has_a_scale_for_the_picture_and_one_for_the_words():
    picture, prompt = NEGATIVE.answer - UNSEEN.answer, POSITIVE.answer - NEGATIVE.answer
    expected = UNSEEN.answer + picture * 1.7 + prompt * 7.5
    assert torch.allclose(guided("pix2pix:image_cfg=1.7", 7.5), expected, atol=1e-5)


@pytest.mark.parametrize(
    "spec",
    [
        "cfg_rescale:phi=0",
        "cfg_interval",
        "apg:eta=1,norm=0,momentum=0",
        "pag:strength=0",
        "classifier:strength=0",
    ],
)
def test_with_its_knobs_at_rest_it_is_plain_guidance(spec):
    assert torch.allclose(guided(spec, 7.5), guided("cfg", 7.5), atol=2e-5)


def test_rescaled_guidance_has_the_spread_of_the_prompt_alone():
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    sigma = 2.0

    def velocity(denoised):
        return (X / (sigma**2 + 1) - denoised) * math.sqrt(sigma**2 + 1) / sigma

    for phi in (0.3, 1.0):
        got = velocity(guided(f"cfg_rescale:phi={phi}", 7.5, sigma))
        theirs = rescale_noise_cfg(velocity(guided("cfg", 7.5)), velocity(POSITIVE.answer), phi)
        assert torch.allclose(got, theirs, atol=1e-5)


def test_the_interval_calls_the_network_for_one_side_outside():
    calls = []
    denoise = registry.find("guidance", "cfg_interval:high=5,low=1")(network(calls), 3.0, 1.0, 7.5)
    got = [denoise(torch.zeros(1), sigma).item() for sigma in (5.1, 5.0, 1.1, 1.0)]
    assert got == [3.0, 16.0, 16.0, 3.0]
    assert calls == [[3.0], [1.0, 3.0], [1.0, 3.0], [3.0]]


def test_perp_neg_takes_away_nothing_that_the_prompt_asks_for():
    alike = dataclasses.replace(POSITIVE, empty=EMPTY)
    denoise = registry.find("guidance", "perp_neg")(answers, POSITIVE, alike, 7.5)
    expected = EMPTY.answer + (POSITIVE.answer - EMPTY.answer) * 7.5
    assert torch.allclose(denoise(X, 2.0), expected, atol=1e-4)
    aim = POSITIVE.answer - EMPTY.answer
    taken = guided("perp_neg:weight=0", 7.5) - guided("perp_neg", 7.5)
    assert float((taken * aim).sum()) == pytest.approx(0, abs=2e-3)
    assert float(taken.norm()) > 1


def test_projected_guidance_turns_the_estimate_and_does_not_stretch_it():
    turn = guided("apg:momentum=0", 7.5) - POSITIVE.answer
    assert float((turn * POSITIVE.answer).sum()) == pytest.approx(0, abs=2e-3)
    assert float(turn.norm()) <= 7.5 * 6.5
    wide = guided("apg:momentum=0,norm=0", 7.5) - POSITIVE.answer
    assert float(wide.norm()) > float(turn.norm())


def test_momentum_remembers_the_steps_of_its_own_picture_only():
    make = registry.find("guidance", "apg:norm=0,eta=1")
    one, other = make(answers, POSITIVE, NEGATIVE, 2.0), make(answers, POSITIVE, NEGATIVE, 2.0)
    first, second = one(X, 2.0), one(X, 1.0)
    assert torch.equal(other(X, 2.0), first)
    difference = POSITIVE.answer - NEGATIVE.answer
    assert torch.allclose(second, POSITIVE.answer + difference * 0.25, atol=1e-5)


def test_perturbed_attention_guides_away_from_the_shapeless_estimate():
    aside = guided("pag:strength=2", 7.5) - guided("cfg", 7.5)
    assert torch.allclose(aside, (POSITIVE.answer - POSITIVE.perturbed.answer) * 2, atol=1e-5)


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_score_rises_along_its_gradient_and_rests_one_step_on(scorer):
    score = SCORERS[scorer]
    x = X.double()
    rise = gradient(score, x)
    step = torch.randn(X.shape, generator=torch.Generator().manual_seed(8)).double()
    slope = (score(x + step * 1e-4) - score(x - step * 1e-4)) / 2e-4
    assert float(slope) == pytest.approx(float((rise * step).sum()), rel=1e-6)
    assert score(x) < score(x + rise * 0.5) < score(x + rise)


def test_the_mirror_makes_left_like_right():
    got = guided("classifier:strength=1", 7.5)
    assert torch.allclose(got, got.flip(-1), atol=1e-5)


def test_an_estimate_made_in_inference_mode_has_a_gradient_too():
    with torch.inference_mode():
        assert torch.isfinite(guided("classifier:scorer=smooth", 7.5)).all()


def test_an_unknown_scorer_is_a_usage_error():
    with pytest.raises(UsageError, match="there are: mirror, smooth, plain"):
        guided("classifier:scorer=beauty", 7.5)


@pytest.mark.parametrize("name", ALL)
def test_guidance_leaves_what_the_network_says_alone(name):
    before = [side.answer.clone() for side in (POSITIVE, NEGATIVE, EMPTY)]
    guided(name, 7.5)
    assert all(map(torch.equal, before, [side.answer for side in (POSITIVE, NEGATIVE, EMPTY)]))


def end(sampler: str, scale: float, guidance: str = "cfg") -> torch.Tensor:
    """A run where the prompt's data has mean 1 and the negative's mean -1."""

    def predict(x, sigma, means):
        return [gaussian(mean, 0.3)(x, sigma) for mean in means]

    denoise = registry.find("guidance", guidance)(predict, 1.0, -1.0, scale)
    sigmas = registry.find("schedules", "karras")(12, Levels.scaled_linear())
    x = fixed(1, 4, 6, 6, seed=5) * sigmas[0]
    *_, last = registry.find("samplers", sampler)(denoise, x, sigmas, Stream(0, (1, 4, 6, 6)))
    return last


PAIRS = {"euler_cfg_pp": "euler", "euler_a_cfg_pp": "euler_a", "dpmpp_2m_cfg_pp": "dpmpp_2m"}


@pytest.mark.parametrize("sampler", PAIRS)
def test_cfg_pp_at_scale_zero_is_its_plain_sampler(sampler):
    assert torch.allclose(end(sampler, 0.0), end(PAIRS[sampler], 0.0), atol=1e-6)


@pytest.mark.parametrize("sampler", PAIRS)
def test_cfg_pp_differs_from_its_plain_sampler_elsewhere_and_at_scale_one_too(sampler):
    for scale in (0.6, 1.0):
        assert not torch.allclose(end(sampler, scale), end(PAIRS[sampler], scale), atol=1e-3)


def test_euler_cfg_pp_is_the_guided_estimate_and_the_unguided_noise():
    x = fixed(1, 4, 6, 6, seed=6)
    denoise = registry.find("guidance", "cfg")(answers, POSITIVE, NEGATIVE, 0.6)
    first, _ = registry.find("samplers", "euler_cfg_pp")(denoise, x, [2.0, 1.5, 0.0], None)
    noise = (x - NEGATIVE.answer) / 2.0
    expected = NEGATIVE.answer + (POSITIVE.answer - NEGATIVE.answer) * 0.6 + noise * 1.5
    assert torch.allclose(first, expected, atol=1e-5)
