"""`--like comfyui` takes ComfyUI's own samplers: its defaults, its formulas, and those that 0.1.0 did not have.

ComfyUI run live on the same weights: 0.1.0 was 12 dB from its res_multistep_ancestral and sa_solver, 29 dB from its
dpm_fast, 39 dB from its dpmpp_2m_cfg_pp, 40 dB from its deis. The references here are the formulas in numpy.
"""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdcli import registry
from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.noise import Stream
from sdcli.diffusion.uncond import with_uncond
from sdcli.request.aliases import parse_sampler
from sdcli.request.request import Request
from tests.diffusion.truth import mixture

SHAPE = (1, 4, 8, 8)
SIGMAS = list(registry.find("schedules", "karras")(9, Levels.scaled_linear()))
X = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)).double().numpy() * SIGMAS[0]
COMFYUI = CONVENTIONS["comfyui"]
NAMES = """
euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 exp_heun_2_x0 exp_heun_2_x0_sde dpm_2
dpm_2_ancestral lms dpm_fast dpm_adaptive dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu
dpmpp_2m dpmpp_2m_cfg_pp dpmpp_2m_sde dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde
dpmpp_3m_sde_gpu ddpm lcm ipndm ipndm_v deis res_multistep res_multistep_cfg_pp res_multistep_ancestral
res_multistep_ancestral_cfg_pp gradient_estimation gradient_estimation_cfg_pp er_sde seeds_2 seeds_3 sa_solver
sa_solver_pece ddim uni_pc uni_pc_bh2
"""
"""The samplers that ComfyUI lists."""


def guided(x, sigma: float):
    """The guided estimate."""
    return mixture()(torch.from_numpy(x), sigma).numpy()


def uncond_estimate(x, sigma: float):
    """The estimate without the prompt."""
    return mixture(-2.0, 0.5, 0.7)(torch.from_numpy(x), sigma).numpy()


class Draws:
    """ComfyUI's default noise: one draw a call, whatever the levels are."""

    def __init__(self):
        self.stream = Stream(3, SHAPE)

    def __call__(self, *_):
        return self.stream(0, 0).double().numpy()


def ours(sampler: str, sigmas=SIGMAS):
    """The end of a run of the sampler from X by ComfyUI's conventions."""
    stream = Stream(3, SHAPE)

    def denoise(x, sigma):
        estimate = torch.from_numpy(uncond_estimate(x.numpy(), sigma))
        return with_uncond(torch.from_numpy(guided(x.numpy(), sigma)), lambda: estimate)

    run = COMFYUI.sampler(
        registry.parse("samplers", sampler), "karras", len(sigmas) - 1, Levels.scaled_linear()
    )
    *_, x = run(denoise, torch.from_numpy(X), sigmas, lambda sigma, lower: stream(sigma, lower).double())
    return x.numpy()


def near(one, other, tolerance: float = 1e-9) -> bool:
    return np.allclose(one, other, rtol=tolerance, atol=tolerance)


def ancestral(sigma: float, lower: float, eta: float) -> tuple[float, float]:
    up = min(lower, eta * math.sqrt(lower**2 * (sigma**2 - lower**2) / sigma**2))
    return math.sqrt(lower**2 - up**2), up


def phi_1(z):
    return math.expm1(z) / z


def phi_2(z):
    return (phi_1(z) - 1) / z


# Names


@pytest.mark.parametrize("name", NAMES.split())
def test_like_comfyui_samplers_have_all_the_names_of_its_list(name):
    sampler, schedule = parse_sampler(name)
    assert Request("x", sampler=name).sampler == sampler
    assert schedule is None


# The formulas of those that 0.1.0 drew otherwise


def vp_time(sigma):
    """DEIS' time of a variance-preserving process between sigma 0.002 at t = 0.001 and 80 at t = 1."""
    low, high = math.log(1 + 0.002**2), math.log(1 + 80**2)
    slope = 2 * (low / 1e-3 - high) / (1e-3 - 1)
    least = high - slope / 2
    return (np.sqrt(least**2 + 2 * slope * np.log(sigma**2 + 1)) - least) / slope


def test_like_comfyui_samplers_deis_is_a_polynomial_in_the_vp_time_over_ten_thousand_points():
    """The integral over t of dsigma/dt times the polynomial is one over sigma, taken here by a fine trapezoid rule."""
    x, slopes, past = X, [], []
    for sigma, lower in pairwise(SIGMAS):
        slopes, past = [(x - guided(x, sigma)) / sigma, *slopes][:3], [sigma, *past][:3]
        if lower == 0:
            x = x - slopes[0] * sigma
            break
        levels = np.geomspace(sigma, lower, 200_001)
        times, nodes = vp_time(levels), [vp_time(each) for each in past]
        for j, slope in enumerate(slopes):
            basis = np.prod(
                [(times - node) / (nodes[j] - node) for k, node in enumerate(nodes) if k != j], axis=0
            )
            x = x + slope * np.trapezoid(basis * np.ones_like(levels), levels)
    assert near(ours("deis"), x, 1e-3)  # ComfyUI's sum of 10,000 points is that much coarser
    assert not near(ours("deis:vp_time=false"), x, 1e-2)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("cfg_pp", [False, True])
def test_like_comfyui_samplers_res_multistep_counts_from_the_level_before_the_fresh_noise(eta, cfg_pp):
    draw, x, before, down_before = Draws(), X, None, None
    for i, (sigma, lower) in enumerate(pairwise(SIGMAS)):
        estimate = uncond_estimate(x, sigma) if cfg_pp else guided(x, sigma)
        gain = guided(x, sigma) - estimate
        down, up = ancestral(sigma, lower, eta)
        if down == 0 or before is None:
            x = estimate + gain + (x - estimate) / sigma * down
        else:
            h = math.log(sigma / down)
            c2 = (math.log(down_before) - math.log(SIGMAS[i - 1])) / h
            b2 = phi_2(-h) / c2
            x = math.exp(-h) * (x + gain) + h * ((phi_1(-h) - b2) * estimate + b2 * before)
        if lower > 0 and up > 0:
            x = x + up * draw()
        before, down_before = estimate, down
    assert near(ours(f"res_multistep{'_cfg_pp' * cfg_pp}:eta={eta}"), x)


def test_like_comfyui_samplers_dpmpp_2m_cfg_pp_takes_the_guided_estimate_less_the_last_unguided_one():
    x, before = X, None
    for i, (sigma, lower) in enumerate(pairwise(SIGMAS)):
        now, uncond = guided(x, sigma), uncond_estimate(x, sigma)
        kept = lower / sigma
        x_next = now - kept * uncond + kept * x
        if before is not None and lower > 0:
            r = math.log(SIGMAS[i - 1] / sigma) / math.log(sigma / lower)
            x_next = x_next + (1 - kept) / (2 * r) * (now - before)
        x, before = x_next, uncond
    assert near(ours("dpmpp_2m_cfg_pp"), x)


def solve(x, sigma: float, lower: float, order: int):
    """One solve of DPM-Solver of this order, as in k-diffusion."""
    h = math.log(sigma / lower)

    def eps(x, sigma):
        return (x - guided(x, sigma)) / sigma

    first = eps(x, sigma)
    base = x - lower * math.expm1(h) * first
    if order == 1:
        return base
    if order == 2:
        middle = sigma * math.exp(-h / 2)
        second = eps(x - middle * math.expm1(h / 2) * first, middle)
        return base - lower * math.expm1(h) * (second - first)
    one, two = sigma * math.exp(-h / 3), sigma * math.exp(-2 * h / 3)
    second = eps(x - one * math.expm1(h / 3) * first, one)
    share = math.expm1(2 * h / 3) / (2 * h / 3) - 1
    third = eps(x - two * math.expm1(2 * h / 3) * first - two * 2 * share * (second - first), two)
    return base - lower * 1.5 * (math.expm1(h) / h - 1) * (third - first)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7, 8, 9, 20])
@pytest.mark.parametrize("eta", [0.0, 1.0])  # A1111 runs it with fresh noise
def test_like_comfyui_samplers_dpm_fast_is_even_in_log_sigma_and_ends_at_the_lowest_level(steps, eta):
    sigmas = list(registry.find("schedules", "karras")(steps, Levels.scaled_linear()))
    count, end = steps // 3 + 1, sigmas[-2]
    orders = [3] * (count - 2) + [2, 1] if steps % 3 == 0 else [3] * (count - 1) + [steps % 3]
    draw, x = Draws(), X
    for order, (sigma, lower) in zip(orders, pairwise(np.geomspace(sigmas[0], end, count + 1)), strict=True):
        down = max(ancestral(sigma, lower, eta)[0], end) if sigma > lower else lower
        up = math.sqrt(max(lower**2 - down**2, 0))
        x = solve(x, sigma, down, order) if sigma > down else x
        x = x + up * draw() if up > 1e-12 else x
    assert near(ours(f"dpm_fast:eta={eta}", sigmas), x, 1e-8)


def test_like_comfyui_samplers_sa_solver_is_the_general_predictor_3_and_corrector_4():
    """Its coefficients by quadrature of Lagrange's polynomials, tau and the orders taken at the level stepped to."""
    for pece in (False, True):
        draw, predicted, start, past, tau, fresh = Draws(), X, X, [], 0.0, 0.0
        steps = len(SIGMAS) - 1
        for i, (sigma, lower) in enumerate(pairwise(SIGMAS)):
            past.append((-math.log(sigma), guided(predicted, sigma)))
            corrector = min(4, len(past), steps - i) if i and (lower or pece) else 0
            x = predicted
            if corrector:
                x = adams(start, past[-corrector:], SIGMAS[i - 1], sigma, tau) + fresh
                if pece:
                    past[-1] = (past[-1][0], guided(x, sigma))
            start = x
            if lower == 0:
                predicted = past[-1][1]
                break
            tau = 1.0 if 0.5712 <= lower <= 5.0924 else 0.0
            fresh = draw() * lower * math.sqrt(1 - (lower / sigma) ** (2 * tau**2)) if tau else 0.0
            predicted = adams(x, past[-min(3, len(past), steps - 1 - i) :], sigma, lower, tau) + fresh
        assert near(ours(f"sa_solver:pece={str(pece).lower()}"), predicted, 1e-7)


def adams(x, nodes, sigma: float, lower: float, tau: float):
    """The exponential Adams step with the estimate's polynomial through the nodes (-log(sigma), estimate)."""
    rate, begin, end = 1 + tau**2, -math.log(sigma), -math.log(lower)
    at, weight = np.polynomial.legendre.leggauss(60)
    at, weight = (begin + end) / 2 + (end - begin) / 2 * at, weight * (end - begin) / 2
    x = (lower / sigma) ** rate * x
    for node, estimate in nodes:
        basis = np.prod([np.ones_like(at), *((at - k) / (node - k) for k, _ in nodes if k != node)], axis=0)
        x = x + estimate * (weight * rate * np.exp(rate * (at - end)) * basis).sum()
    return x


# Those that 0.1.0 did not have


def test_like_comfyui_samplers_heunpp2_weighs_the_slopes_ahead_by_their_levels():
    x, last = X, len(SIGMAS) - 1
    for i, (sigma, lower) in enumerate(pairwise(SIGMAS)):
        d = (x - guided(x, sigma)) / sigma
        if i + 1 == last:
            x = x + d * (lower - sigma)
            break
        x2 = x + d * (lower - sigma)
        d2 = (x2 - guided(x2, lower)) / lower
        if i + 2 == last:
            w2 = lower / (2 * SIGMAS[0])
            mean = d * (1 - w2) + d2 * w2
        else:
            after = SIGMAS[i + 2]
            x3 = x2 + d2 * (after - lower)
            d3 = (x3 - guided(x3, after)) / after
            w2, w3 = lower / (3 * SIGMAS[0]), after / (3 * SIGMAS[0])
            mean = d * (1 - w2 - w3) + d2 * w2 + d3 * w3
        x = x + mean * (lower - sigma)
    assert near(ours("heunpp2"), x)


@pytest.mark.parametrize(
    ("sampler", "eta", "r", "second"),
    [
        ("seeds_2", 1.0, 0.5, False),
        ("seeds_2:eta=0.4,r=0.3,phi_2=true", 0.4, 0.3, True),
        ("exp_heun_2_x0", 0.0, 1.0, True),
        ("exp_heun_2_x0:phi_2=false", 0.0, 1.0, False),
        ("exp_heun_2_x0_sde", 1.0, 1.0, True),
    ],
)
def test_like_comfyui_samplers_seeds_2_is_a_two_stage_exponential_method(sampler, eta, r, second):
    draw, x = Draws(), X
    for sigma, lower in pairwise(SIGMAS):
        one = guided(x, sigma)
        if lower == 0:
            x = one
            break
        h = math.log(sigma / lower)
        big = h * (1 + eta)
        middle = sigma * math.exp(-r * h)
        noise_1, noise_2 = (
            (draw(), draw()) if eta else (0.0, 0.0)
        )  # both are drawn, though at r = 1 one counts 0
        early = math.sqrt(1 - math.exp(-2 * r * h * eta)) * noise_1
        x_middle = math.exp(-r * big) * x + r * big * phi_1(-r * big) * one + middle * early
        two = guided(x_middle, middle)
        b2 = big * phi_2(-big) / r if second else big * phi_1(-big) / (2 * r)
        b1 = big * phi_1(-big) - b2
        late = math.sqrt(1 - math.exp(-2 * (1 - r) * h * eta)) * noise_2
        x = math.exp(-big) * x + b1 * one + b2 * two + lower * (early * math.exp(-(1 - r) * h * eta) + late)
    assert near(ours(sampler), x)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_like_comfyui_samplers_seeds_3_is_a_three_stage_exponential_method(eta):
    draw, x = Draws(), X
    for sigma, lower in pairwise(SIGMAS):
        one = guided(x, sigma)
        if lower == 0:
            x = one
            break
        h = math.log(sigma / lower)
        big, entered = h * (1 + eta), 0.0
        levels = [sigma * math.exp(-h * k / 3) for k in range(4)]

        def carried(entered, h=h):
            """The noise after another third of the step."""
            fresh = draw() * math.sqrt(1 - math.exp(-2 * eta * h / 3)) if eta else 0.0
            return entered * math.exp(-eta * h / 3) + fresh

        entered = carried(entered)
        third, two_thirds = big / 3, big * 2 / 3
        two = guided(math.exp(-third) * x + third * phi_1(-third) * one + levels[1] * entered, levels[1])
        entered = carried(entered)
        a32 = 2 * two_thirds * phi_2(-two_thirds)
        a31 = two_thirds * phi_1(-two_thirds) - a32
        three = guided(math.exp(-two_thirds) * x + a31 * one + a32 * two + levels[2] * entered, levels[2])
        entered = carried(entered)
        b3 = big * phi_2(-big) * 1.5
        x = math.exp(-big) * x + (big * phi_1(-big) - b3) * one + b3 * three + lower * entered
    assert near(ours(f"seeds_3:eta={eta}"), x)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_like_comfyui_samplers_dpmpp_2s_a_cfg_pp_adds_what_guidance_adds_after_an_unguided_step(eta):
    draw, x = Draws(), X
    for sigma, lower in pairwise(SIGMAS):
        gain, uncond = guided(x, sigma) - uncond_estimate(x, sigma), uncond_estimate(x, sigma)
        down, up = ancestral(sigma, lower, eta)
        if down == 0:
            x = uncond
        else:
            middle = math.exp((math.log(sigma) + math.log(down)) / 2)
            uncond = uncond_estimate(middle / sigma * x + (1 - middle / sigma) * uncond, middle)
            x = down / sigma * x + (1 - down / sigma) * uncond
        x = x + gain + (up * draw() if up > 0 else 0)
    assert near(ours(f"dpmpp_2s_a_cfg_pp:eta={eta}"), x)


@pytest.mark.parametrize("cfg_pp", [False, True])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_like_comfyui_samplers_gradient_estimation_ends_with_the_estimate(cfg_pp, gamma):
    x, before = X, None
    for sigma, lower in pairwise(SIGMAS):
        now = guided(x, sigma)
        slope = (x - (uncond_estimate(x, sigma) if cfg_pp else now)) / sigma
        if lower == 0:
            x = now
            break
        x = now + slope * lower if cfg_pp else x + slope * (lower - sigma)
        x = x + ((gamma - 1) * (slope - before) * (lower - sigma) if before is not None else 0)
        before = slope
    assert near(ours(f"gradient_estimation{'_cfg_pp' * cfg_pp}:gamma={gamma}"), x)


def test_like_comfyui_samplers_ipndm_ends_with_the_estimate():
    x, slopes, coefficients = X, [], {1: [1], 2: [1.5, -0.5], 3: [23 / 12, -16 / 12, 5 / 12]}
    coefficients[4] = [55 / 24, -59 / 24, 37 / 24, -9 / 24]
    for sigma, lower in pairwise(SIGMAS):
        slopes = [(x - guided(x, sigma)) / sigma, *slopes][:4]
        weights = coefficients[len(slopes)] if lower else [1]
        x = x + (lower - sigma) * sum(w * slope for w, slope in zip(weights, slopes, strict=False))
    assert near(ours("ipndm"), x)


def test_like_comfyui_samplers_lms_ends_with_the_estimate():
    up_to_last = ours("lms", SIGMAS[:-1])
    assert near(ours("lms"), guided(up_to_last, SIGMAS[-2]))
    *_, plain = registry.find("samplers", "lms")(
        lambda x, sigma: torch.from_numpy(guided(x.numpy(), sigma)), torch.from_numpy(X), SIGMAS, lambda *_: X
    )
    assert not near(ours("lms"), plain.numpy(), 1e-6)


def test_like_comfyui_samplers_ipndm_v_has_the_published_coefficients():
    """Of third order they are Adams-Bashforth's on even steps, of fourth order 11/24 in place of 3/8 differences."""
    even = list(np.linspace(14, 0.5, 10))
    assert near(ours("ipndm_v:order=3", even), ours("ipndm:order=3", even))
    assert near(ours("ipndm_v:order=2", [9.0, 4.0, 1.0]), ours("lms:order=2", [9.0, 4.0, 1.0]))
    x, slopes = X, []
    weights = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12]]
    weights.append([23 / 12 + 11 / 24, -16 / 12 - 33 / 24, 5 / 12 + 33 / 24, -11 / 24])
    for sigma, lower in pairwise(even):
        slopes = [(x - guided(x, sigma)) / sigma, *slopes][:4]
        x = x + (lower - sigma) * sum(w * d for w, d in zip(weights[len(slopes) - 1], slopes, strict=True))
    assert near(ours("ipndm_v", even), x)


@pytest.mark.parametrize(
    "sampler", ["heunpp2", "seeds_3", "dpmpp_2s_ancestral_cfg_pp", "sa_solver_pece", "dpm_fast"]
)
def test_like_comfyui_samplers_draw_pictures_by_their_names_there(sd, toy, sampler):
    ran = sd(
        "txt2img", "x", "-m", toy, "--steps", "4", "--seed", "1", "--like", "comfyui", "--sampler", sampler
    )
    assert ran.code == 0, ran.err


def test_like_comfyui_samplers_pictures_of_0_1_keep_their_dpmpp_2m_cfg_pp(sd, toy, tmp_path):
    ran = sd(
        "txt2img",
        "x",
        "-m",
        toy,
        "--steps",
        "4",
        "--seed",
        "1",
        "--sampler",
        "dpmpp_2m_cfg_pp:from_uncond=true",
    )
    image = Image.open(ran.lines[0])
    facts = json.loads(image.text["sd"])
    facts["request"]["sampler"] = "dpmpp_2m_cfg_pp"
    old = {key: fact for key, fact in facts.items() if key != "format"}
    texts = PngInfo()
    texts.add_text("sd", json.dumps(old))
    image.save(tmp_path / "old.png", pnginfo=texts)
    again = sd("again", tmp_path / "old.png")
    assert again.code == 0, again.err
    assert np.array_equal(np.asarray(Image.open(again.lines[0])), np.asarray(image))
