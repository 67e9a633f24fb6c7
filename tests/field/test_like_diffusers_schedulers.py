"""`--like diffusers` is a run of diffusers' own scheduler, for every scheduler, spacing and kind of sigmas that it has.

diffusers run live: 0.1.0 was 20 dB from DPM++ 2M, UniPC and DEIS with leading spacing, 39 dB from DEIS, 19 to 25 dB
from Euler with Karras' sigmas and leading or trailing spacing, and 19 dB from LCM. The judge here is diffusers itself.
"""

import importlib
import inspect
import math

import numpy as np
import pytest
import torch

from sdcli import registry
from sdcli.diffusion.conventions import CONVENTIONS, spacing
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.noise import Stream
from sdcli.diffusion.preconditioning import TO_DENOISED
from sdcli.registry import Spec
from tests.diffusion.test_conventions import CONFIG, SCHEDULERS
from tests.diffusion.truth import mixture

DIFFUSERS = CONVENTIONS["diffusers"]
LEVELS = Levels.scaled_linear()
SHAPE = (1, 4, 8, 8)
UNIT = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).double()
SPACINGS = {"leading": "leading", "trailing": "trailing", "linspace": "uniform"}
KINDS = ("karras", "exponential", "beta")
ALL_SCHEDULERS = {**SCHEDULERS, "dpmpp_3m_sde:eta=0": "DPMSolverMultistepScheduler"}
MORE_OPTIONS = {
    "dpmpp_2m_sde": {"algorithm_type": "sde-dpmsolver++"},
    "dpmpp_3m_sde:eta=0": {"solver_order": 3, "solver_type": "heun"},
}
TOLERANCE = {  # the stochastic ones carry the float32 rounding of diffusers' levels on
    "euler_a": 3e-4, "dpm2_a": 1e-3, "dpmpp_2m_sde": 1e-3, "lcm": 3e-4, "sa_solver": 2e-3, "tcd": 3e-4,
}  # fmt: skip
NOT_TAKEN_OVER = {("plms", "trailing"), ("plms", "linspace")} | {
    (sampler, kind) for sampler in ("dpm2", "dpm2_a") for kind in ("karras",)
}
"""What differs, and is said so; and PNDM averages the network's outputs, which for v-prediction are not noise."""


def knows(sampler: str, option: str) -> bool:
    import diffusers

    return option in inspect.signature(getattr(diffusers, ALL_SCHEDULERS[sampler])).parameters


def schedules(sampler: str) -> list[tuple[str, str, str]]:
    """(spacing, kind of sigmas, our schedule) of all that the scheduler has."""
    found = []
    for space, ours in SPACINGS.items():
        if (sampler, space) not in NOT_TAKEN_OVER:
            found.append((space, "", ours))
        for kind in KINDS:
            if not knows(sampler, f"use_{kind}_sigmas") or (sampler, kind) in NOT_TAKEN_OVER:
                continue
            by_spacing = sampler in ("euler", "heun", "dpm2", "dpm2_a", "lms") and space != "linspace"
            found.append((space, kind, f"{kind}:ends={ours}" if by_spacing else kind))
    return found


CASES = [(sampler, *rest) for sampler in ALL_SCHEDULERS for rest in schedules(sampler)]


def network(prediction: str):
    """The mixture's exact denoiser as a network that predicts epsilon or v at variance 1, told sigma(t)."""

    def call(x, sigma):
        scale = math.sqrt(1 + sigma**2)
        denoised = mixture()(x * scale, sigma)
        epsilon = (x * scale - denoised) / sigma
        return epsilon if prediction == "epsilon" else (epsilon - denoised * sigma) / scale

    return call


def theirs(sampler: str, space: str, kind: str, prediction: str, steps: int) -> torch.Tensor:
    """The end of a run of the scheduler, set up with Stable Diffusion 1's config."""
    import diffusers

    options = {
        **CONFIG,
        **MORE_OPTIONS.get(sampler, {}),
        "timestep_spacing": space,
        "prediction_type": prediction,
    }
    if kind:
        options[f"use_{kind}_sigmas"] = True
    scheduler = getattr(diffusers, ALL_SCHEDULERS[sampler])
    judge = scheduler(**{name: value for name, value in options.items() if knows(sampler, name)})
    judge.set_timesteps(steps)
    stream, x = Stream(9, SHAPE), UNIT * float(judge.init_noise_sigma)
    extra = {"eta": 0.3} if sampler == "tcd" else {}
    with pytest.MonkeyPatch.context() as patch:
        module = importlib.import_module(scheduler.__module__)
        if hasattr(module, "randn_tensor"):
            patch.setattr(module, "randn_tensor", lambda shape, **_: stream(0, 0).double())
        for t in judge.timesteps:
            out = network(prediction)(judge.scale_model_input(x, t).double(), LEVELS.sigma(float(t)))
            x = judge.step(out, t, x, **extra).prev_sample.double()
    return x


def ours(sampler: str, schedule: str, prediction: str, steps: int) -> torch.Tensor:
    """The end of the same run by --like diffusers."""
    spec, chosen = registry.parse("samplers", sampler), registry.parse("schedules", schedule)
    sigmas, _ = DIFFUSERS.levels(chosen, steps, LEVELS, spec.name)
    timestep, stream = DIFFUSERS.timestep(spec.name, chosen.name), Stream(9, SHAPE)

    def denoise(x, sigma):
        out = network(prediction)(x / math.sqrt(1 + sigma**2), LEVELS.sigma(timestep(LEVELS.t(sigma))))
        return TO_DENOISED[prediction](x, out, sigma)

    x = UNIT * DIFFUSERS.initial_scale(sigmas[0], LEVELS, spec.name, spacing(chosen))
    run = DIFFUSERS.sampler(spec, chosen.name, steps, LEVELS)
    *_, x = run(denoise, x, sigmas, lambda sigma, lower: stream(sigma, lower).double())
    return x / DIFFUSERS.final_scale(sigmas[-1], spec.name)


@pytest.mark.parametrize("steps", [8, pytest.param(20, marks=pytest.mark.slow), 30])
@pytest.mark.parametrize(
    ("sampler", "space", "kind", "schedule"), CASES, ids=["-".join(filter(None, case)) for case in CASES]
)
@pytest.mark.filterwarnings("ignore")
def test_like_diffusers_schedulers_end_where_diffusers_ends(sampler, space, kind, schedule, steps):
    pytest.importorskip("scipy")
    for prediction in ("epsilon",) if sampler == "plms" else ("epsilon", "v_prediction"):
        apart = (
            ours(sampler, schedule, prediction, steps) - theirs(sampler, space, kind, prediction, steps)
        ).abs()
        assert float(apart.max()) <= TOLERANCE.get(sampler, 2e-4), prediction


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc", "deis", "sa_solver", "ddim"])
@pytest.mark.parametrize("space", SPACINGS)
@pytest.mark.filterwarnings("ignore")
def test_like_diffusers_schedulers_have_the_timesteps_of_diffusers_for_every_number_of_steps(sampler, space):
    """But for trailing where 1000 / steps rounds: diffusers adds up the rounding error of numpy.arange."""
    import diffusers

    judge = getattr(diffusers, SCHEDULERS[sampler])(timestep_spacing=space, steps_offset=1)
    for steps in range(2, 300):
        judge.set_timesteps(steps)
        sigmas, _ = DIFFUSERS.levels(Spec(SPACINGS[space]), steps, LEVELS, sampler)
        visited = [round(LEVELS.t(sigma)) for sigma in sigmas[:-1]]
        if space == "trailing":
            assert np.abs(np.array(visited) - judge.timesteps.numpy()[:steps]).max() <= 1
        else:
            assert visited == judge.timesteps.tolist()


def test_like_diffusers_schedulers_of_lcm_and_tcd_are_known_to_be_distilled_on_50_steps(sd, toy):
    ran = sd(
        "txt2img", "x", "-m", toy, "--steps", "60", "--seed", "1", "--like", "diffusers", "--sampler", "lcm"
    )
    assert ran.code == 2
    assert "60 steps cannot be chosen among 50" in ran.err


def test_like_diffusers_schedulers_say_what_is_not_theirs(sd, toy):
    base = ("txt2img", "x", "-m", toy, "--steps", "4", "--seed", "1", "--like", "diffusers")
    assert "PNDM steps" in sd(*base, "--sampler", "plms", "--schedule", "trailing").err
    assert "round the timesteps" in sd(*base, "--sampler", "dpm2", "--schedule", "karras").err
    assert "--schedule karras has no effect" in sd(*base, "--sampler", "lcm", "--schedule", "karras").err
    assert sd(*base, "--sampler", "dpmpp_2m", "--schedule", "leading").err == ""
