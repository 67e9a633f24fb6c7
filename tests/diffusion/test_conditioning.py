"""Composed prompts: base + sum of weight * area * (cond - base), on denoisers whose answer is known."""

import math
from dataclasses import replace

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.conditioning import Composed, Cond, Part, composed
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.replay import replay
from tests.diffusion.truth import gaussian

X = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(4)).double() * 3
GUIDANCE = registry.names("guidance")


def cond(mean: float, **fields) -> Cond:
    """A prompt for data of this mean."""
    return Cond(torch.full((1, 77, 1), mean), **fields)


BASE, CAT, DOG = cond(-1.0), cond(2.0), cond(0.5)


class Network:
    """The exact denoiser of Gaussian data whose mean each cond gives; keeps its calls and their answers."""

    def __init__(self):
        self.calls, self.answers = [], []

    def __call__(self, x, sigma, conds):
        self.calls.append(list(conds))
        shift = {(True, False): 0.3, (False, True): -0.7}
        self.answers = [
            gaussian(float(each.context[0, 0, 0]), 0.5)(x, sigma)
            + shift.get((each.perturb_attention, each.zero_concat), 0.0) * x.sign()
            for each in conds
        ]
        return self.answers


def estimate(sigma: float, mean: float) -> torch.Tensor:
    return gaussian(mean, 0.5)(X, sigma)


def answer(parts, sigma: float = 1.5, base: Cond = BASE) -> torch.Tensor:
    """The estimate of one composed prompt."""
    (result,) = composed(Network())(X, sigma, [Composed(tuple(parts), Composed.plain(base))])
    return result


# Plain prompts


def test_a_plain_prompt_costs_one_row_and_is_the_networks_own_tensor():
    network = Network()
    (result,) = composed(network)(X, 1.5, [Composed.plain(CAT)])
    assert network.calls == [[CAT]]
    assert result is network.answers[0]


def test_plain_prompts_are_one_call_in_their_order():
    network = Network()
    results = composed(network)(X, 1.5, [Composed.plain(BASE), Composed.plain(CAT)])
    assert network.calls == [[BASE, CAT]]
    assert all(map(torch.equal, results, network.answers))


@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5])
@pytest.mark.parametrize("name", GUIDANCE)
def test_guidance_over_plain_prompts_is_guidance_over_their_conds_bit_for_bit(name, scale):
    """A Cond has the same properties as a Composed, so the guidance runs over either."""
    negative = replace(DOG, make_empty=lambda: BASE)
    direct, through = Network(), Network()
    guidance = registry.find("guidance", name)
    expected = guidance(direct, CAT, negative, scale)(X, 1.5)
    predict = composed(through)
    result = guidance(predict, Composed.plain(CAT), Composed.plain(negative), scale)(X, 1.5)
    assert torch.equal(result, expected)
    assert through.calls == direct.calls


def test_the_empty_prompt_of_an_empty_prompt_stays_a_row_of_its_own():
    """Otherwise perp_neg without a negative prompt makes calls of two rows in place of three, with other last bits."""
    network = Network()
    negative = Composed.plain(BASE)
    composed(network)(X, 1.5, [negative.empty, negative, Composed.plain(CAT)])
    assert len(network.calls[0]) == 3
    assert network.calls[0][0].context is BASE.context


# The sum


@pytest.mark.parametrize("sigma", [0.05, 1.5, 14.0])
def test_weighted_parts_of_gaussian_data_move_the_mean_by_their_weights(sigma):
    """The denoiser is linear in the mean, so the sum is that of data of mean -1 + 0.7 (2 + 1) - 0.4 (0.5 + 1)."""
    result = answer([Part(CAT, weight=0.7), Part(DOG, weight=-0.4)], sigma)
    assert torch.allclose(result, estimate(sigma, -1 + 0.7 * 3 - 0.4 * 1.5), atol=1e-12)


def test_a_single_part_with_a_weight_goes_that_far_from_the_base():
    assert torch.allclose(answer([Part(CAT, weight=1.5)]), estimate(1.5, -1 + 1.5 * 3), atol=1e-12)


def test_a_part_counts_where_its_area_is():
    area = torch.zeros(1, 1, 6, 8).double()
    area[..., :4], area[..., 4:6] = 1.0, 0.25
    result = answer([Part(CAT, area=area)])
    assert torch.allclose(result[..., :4], estimate(1.5, 2.0)[..., :4], atol=1e-12)
    assert torch.allclose(result[..., 4:6], estimate(1.5, -1 + 0.25 * 3)[..., 4:6], atol=1e-12)
    assert torch.equal(result[..., 6:], estimate(1.5, -1.0)[..., 6:])


def test_areas_that_share_out_the_picture_give_each_region_its_prompt():
    left = torch.zeros(1, 1, 6, 8).double()
    left[..., :3] = 1.0
    result = answer([Part(CAT, area=left), Part(DOG, area=1 - left)])
    expected = torch.cat([estimate(1.5, 2.0)[..., :3], estimate(1.5, 0.5)[..., 3:]], -1)
    assert torch.allclose(result, expected, atol=1e-12)


def test_without_an_active_part_the_estimate_is_the_bases():
    network = Network()
    (result,) = composed(network)(X, 1.5, [Composed((Part(CAT, start=1.0),), Composed.plain(BASE))])
    assert network.calls == [[BASE]]
    assert torch.equal(result, estimate(1.5, -1.0))


def test_a_cond_that_several_prompts_and_parts_use_is_asked_once():
    network = Network()
    base = Composed.plain(BASE)
    both = Composed((Part(CAT, weight=0.5), Part(DOG, weight=0.5), Part(CAT, weight=0.25)), base)
    composed(network)(X, 1.5, [base, both])
    assert network.calls == [[BASE, CAT, DOG]]


# Parts that start and end


def test_two_parts_hand_over_exactly_at_their_level():
    parts = [Part(CAT, end=2.0), Part(DOG, start=2.0)]
    assert torch.equal(answer(parts, math.nextafter(2.0, 3.0)), estimate(math.nextafter(2.0, 3.0), 2.0))
    assert torch.equal(answer(parts, 2.0), estimate(2.0, 0.5))


def test_parts_that_hand_over_cost_one_row_at_every_level():
    network = Network()
    predict = composed(network)
    prompt = Composed((Part(CAT, end=2.0), Part(DOG, start=2.0)))
    for sigma in (14.6, 2.1, 2.0, 0.03):
        predict(X, sigma, [prompt])
    assert network.calls == [[CAT], [CAT], [DOG], [DOG]]


def test_a_part_that_starts_late_is_added_from_its_level_on():
    parts = [Part(CAT), Part(DOG, weight=0.5, start=2.0)]
    assert torch.equal(answer(parts, 2.1), estimate(2.1, 2.0))
    assert torch.allclose(answer(parts, 2.0), estimate(2.0, 2.0 + 0.5 * 1.5), atol=1e-12)


def test_a_run_with_a_prompt_that_changes_is_two_runs_one_after_the_other():
    sigmas = registry.find("schedules", "karras")(8, Levels.scaled_linear())
    euler, x = registry.find("samplers", "euler"), X * 4
    predict = composed(Network())
    prompt = Composed((Part(CAT, end=sigmas[5]), Part(DOG, start=sigmas[5])))
    denoise = registry.find("guidance", "cfg")(predict, prompt, Composed.plain(BASE), 1.0)
    *_, result = euler(denoise, x, sigmas, None)
    *_, middle = euler(gaussian(2.0, 0.5), x, sigmas[:6], None)
    *_, expected = euler(gaussian(0.5, 0.5), middle, sigmas[5:], None)
    assert torch.equal(result, expected)


# Properties that map over the parts


@pytest.mark.parametrize("change", ["perturbed", "without_concat"])
def test_a_changed_prompt_keeps_its_parts_weights_levels_and_areas(change):
    area = torch.ones(1, 1, 6, 8)
    cat = replace(CAT, make_empty=lambda: BASE)
    prompt = Composed((Part(cat, 0.7, 5.0, 1.0, area), Part(DOG, -0.4)))
    changed = getattr(prompt, change)
    assert [part.cond for part in changed.parts[:1]] == [getattr(cat, change)]
    places = [(part.weight, part.start, part.end, part.area) for part in changed.parts]
    assert places == [(0.7, 5.0, 1.0, area), (-0.4, math.inf, -math.inf, None)]
    assert getattr(prompt, change) is changed  # made once, so that its conds stay the same rows


def test_a_changed_cond_differs_in_what_its_name_says():
    assert CAT.perturbed.perturb_attention and not CAT.perturbed.zero_concat
    assert CAT.without_concat.zero_concat and not CAT.without_concat.perturb_attention
    assert replace(CAT, make_empty=lambda: BASE).empty is BASE
    assert CAT.empty.context is CAT.context


# Guidance over several parts, with the negative prompt as the base

BOTH = Composed((Part(CAT, weight=0.7), Part(DOG, weight=0.6)), Composed.plain(BASE))


def guided(name: str, scale: float, negative: Cond = BASE) -> torch.Tensor:
    predict = composed(Network())
    both = Composed(BOTH.parts, Composed.plain(negative))
    return registry.find("guidance", name)(predict, both, both.base, scale)(X, 1.5)


@pytest.mark.parametrize("scale", [0.5, 7.5])
def test_cfg_adds_each_part_times_its_weight_and_the_scale(scale):
    mean = -1 + scale * (0.7 * 3 + 0.6 * 1.5)
    assert torch.allclose(guided("cfg", scale), estimate(1.5, mean), atol=1e-10)


def test_pag_guides_away_from_what_the_perturbed_network_makes_of_the_sum():
    """The perturbed network answers 0.3 sign(x) more, whatever the prompt."""
    aside = guided("pag:strength=2", 7.5) - guided("cfg", 7.5)
    assert torch.allclose(aside, -2 * 0.3 * X.sign(), atol=1e-10)


def test_perp_neg_takes_nothing_of_a_negative_prompt_that_the_parts_ask_for():
    """With the negative prompt's mean between the empty prompt's and the parts', it lies along what they ask for."""
    negative = replace(cond(0.0), make_empty=lambda: BASE)
    predict = composed(Network())
    guidance = registry.find("guidance", "perp_neg")
    result = guidance(predict, BOTH, Composed.plain(negative), 7.5)(X, 1.5)
    assert torch.allclose(result, estimate(1.5, -1 + 7.5 * (0.7 * 3 + 0.6 * 1.5)), atol=1e-9)


def test_pix2pix_has_its_picture_scale_for_the_negative_prompt_and_the_sum_for_the_words():
    """Without the picture the network answers 0.7 sign(x) less."""
    result = guided("pix2pix:image_cfg=1.7", 7.5)
    words = guided("cfg", 1.0) - estimate(1.5, -1.0)
    nothing = estimate(1.5, -1.0) - 0.7 * X.sign()
    assert torch.allclose(result, nothing + 1.7 * 0.7 * X.sign() + 7.5 * words, atol=1e-10)


def test_a_recording_keeps_one_answer_for_each_row_of_the_network():
    calls = []
    predict = composed(replay(Network(), None, calls))
    registry.find("guidance", "cfg")(predict, BOTH, Composed.plain(BASE), 7.5)(X, 1.5)
    assert [(call.sigma, len(call.answers)) for call in calls] == [(1.5, 3)]
