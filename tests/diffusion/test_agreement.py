"""Whole runs agree with diffusers' own schedulers, on a denoiser that is not linear."""

import importlib
import importlib.machinery
import math
import sys
import types
from itertools import pairwise

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.brownian import Brownian
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.noise import Stream
from sdcli.diffusion.preconditioning import TO_DENOISED
from tests.diffusion.truth import mixture

LEVELS = Levels.scaled_linear()
BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}
SHAPE = (1, 4, 8, 8)
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # diffusers with numpy 2
LOWEST = {"final_sigmas_type": "sigma_min", "lower_order_final": False}
SDE = {"timestep_spacing": "trailing", "algorithm_type": "sde-dpmsolver++"}

CASES = {
    ("euler", "trailing"): ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("euler", "leading"): ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    ("euler", "karras"): (
        "EulerDiscreteScheduler",
        {"timestep_spacing": "linspace", "use_karras_sigmas": True},
    ),
    ("euler", "exponential"): (
        "EulerDiscreteScheduler",
        {"timestep_spacing": "linspace", "use_exponential_sigmas": True},
    ),
    ("euler", "uniform"): ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),
    ("euler_a", "leading"): (
        "EulerAncestralDiscreteScheduler",
        {"timestep_spacing": "leading", "steps_offset": 1},
    ),
    ("euler_a", "trailing"): ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("heun", "trailing"): ("HeunDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("heun", "karras"): (
        "HeunDiscreteScheduler",
        {"timestep_spacing": "linspace", "use_karras_sigmas": True},
    ),
    ("dpmpp_2m", "trailing"): ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}),
    ("ddim", "leading"): (
        "DDIMScheduler",
        {"timestep_spacing": "leading", "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": True},
    ),
    ("ddim", "trailing"): (
        "DDIMScheduler",
        {"timestep_spacing": "trailing", "clip_sample": False, "set_alpha_to_one": True},
    ),
    ("dpm2", "trailing"): ("KDPM2DiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("dpm2_a", "trailing"): ("KDPM2AncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("dpmpp_2m_sde", "trailing"): ("DPMSolverMultistepScheduler", SDE),
    ("dpmpp_2m_sde:heun=true", "trailing"): ("DPMSolverMultistepScheduler", {**SDE, "solver_type": "heun"}),
    ("dpmpp_3m_sde:eta=0", "trailing"): (
        "DPMSolverMultistepScheduler",
        {"timestep_spacing": "trailing", "solver_order": 3, "solver_type": "heun"},
    ),
    ("lms", "trailing"): ("LMSDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("plms", "leading"): (
        "PNDMScheduler",
        {"timestep_spacing": "leading", "steps_offset": 1, "skip_prk_steps": True, "set_alpha_to_one": True},
    ),
    ("deis", "trailing"): ("DEISMultistepScheduler", {"timestep_spacing": "trailing", "solver_order": 3}),
    ("deis:order=2", "trailing"): ("DEISMultistepScheduler", {"timestep_spacing": "trailing"}),
    ("unipc:bh2=true", "trailing"): (
        "UniPCMultistepScheduler",
        {"timestep_spacing": "trailing", "solver_order": 3},
    ),
    ("unipc:order=2,bh2=true", "trailing"): ("UniPCMultistepScheduler", {"timestep_spacing": "trailing"}),
    ("unipc", "trailing"): (
        "UniPCMultistepScheduler",
        {**LOWEST, "timestep_spacing": "trailing", "solver_order": 3, "solver_type": "bh1"},
    ),
    ("sa_solver", "trailing"): (
        "SASolverScheduler",
        {"timestep_spacing": "trailing", "lower_order_final": False},
    ),
    ("sa_solver:order=3,corrector=3", "trailing"): (
        "SASolverScheduler",
        {
            "timestep_spacing": "trailing",
            "predictor_order": 3,
            "corrector_order": 3,
            "lower_order_final": False,
        },
    ),
    ("ddpm", "trailing"): ("DDPMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}),
    ("lcm", "trailing"): ("LCMScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
    ("tcd", "trailing"): ("TCDScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
    ("tcd:gamma=0", "trailing"): ("TCDScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
}
# between timesteps diffusers interpolates sigma linearly and we log(sigma), which is up to 7e-5 apart
TOLERANCE = {("euler", "uniform"): 5e-3}
UNIT_VARIANCE = (
    "DDIM",
    "DPMSolver",
    "PNDM",
    "DEIS",
    "UniPC",
    "SASolver",
    "DDPM",
    "LCM",
    "TCD",
)  # these keep x at unit variance
AT_LOWEST = ("DEIS", "SASolver", "TCD")  # these end at the lowest trained level, not at 0
ON_BROWNIAN_PATHS = ("dpmpp_2m_sde", "dpmpp_3m_sde", "sa_solver")
UNSUPPORTED = {  # predictions that the scheduler does not have, or for PNDM, averages in another way
    "EulerAncestralDiscreteScheduler": ["sample"],
    "HeunDiscreteScheduler": ["sample"],
    "KDPM2DiscreteScheduler": ["sample"],
    "KDPM2AncestralDiscreteScheduler": ["sample"],
    "PNDMScheduler": ["v_prediction", "sample"],
}
STEPS = {"lcm": 10, "tcd": 10, "tcd:gamma=0": 10}


def network(prediction: str):
    """The mixture's exact denoiser as a network that predicts epsilon, v or the sample at variance 1."""

    def call(x, sigma):
        scale = math.sqrt(1 + sigma**2)
        denoised = mixture()(x * scale, sigma)
        if prediction == "sample":
            return denoised
        epsilon = (x * scale - denoised) / sigma
        return epsilon if prediction == "epsilon" else (epsilon - denoised * sigma) / scale

    return call


def diffusers_run(
    scheduler: str, options: dict, prediction: str, steps: int, unit: torch.Tensor, draw, eta=None
):
    """The final x of diffusers' scheduler, with its noise from `draw`."""
    import diffusers

    judge = getattr(diffusers, scheduler)(**BETAS, prediction_type=prediction, **options)
    if scheduler in ("LCMScheduler", "TCDScheduler"):
        judge.set_timesteps(timesteps=[round(1000 - i * 1000 / steps) - 1 for i in range(steps)])
    else:
        judge.set_timesteps(steps)
    module = importlib.import_module(type(judge).__module__)
    x = unit.double() * judge.init_noise_sigma
    extra = {} if eta is None else {"eta": eta}
    with pytest.MonkeyPatch.context() as patch:
        if hasattr(module, "randn_tensor"):
            patch.setattr(module, "randn_tensor", draw)
        for t in judge.timesteps:
            out = network(prediction)(judge.scale_model_input(x, t).double(), LEVELS.sigma(float(t)))
            x = judge.step(out, t, x, **extra).prev_sample.double()
    return x


@pytest.mark.parametrize(
    ("case", "prediction"),
    [
        pytest.param(case, prediction, id="-".join((*case, prediction)))
        for case in CASES
        for prediction in ("epsilon", "v_prediction", "sample")
        if prediction not in UNSUPPORTED.get(CASES[case][0], ())
    ],
)
def test_a_whole_run_agrees_with_diffusers(case, prediction):
    (sampler, schedule), (scheduler, options) = case, CASES[case]
    steps = STEPS.get(sampler, 20)
    unit = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    sigmas = list(registry.find("schedules", schedule)(steps, LEVELS))
    start = (
        math.sqrt(1 + sigmas[0] ** 2)
        if scheduler.startswith(UNIT_VARIANCE) or schedule == "leading"
        else sigmas[0]
    )
    end = 1.0
    if scheduler.startswith(AT_LOWEST) or "final_sigmas_type" in options:
        sigmas[-1] = LEVELS.sigma_min
        end = math.sqrt(1 + sigmas[-1] ** 2)
    if scheduler == "LMSDiscreteScheduler":
        pytest.importorskip("scipy")
    net = network(prediction)

    def denoise(x, sigma):
        return TO_DENOISED[prediction](x, net(x / math.sqrt(1 + sigma**2), sigma), sigma)

    noise = Stream(9, SHAPE)
    *_, ours = registry.find("samplers", sampler)(denoise, unit.double() * start, sigmas, noise)
    path, levels = Stream(9, SHAPE), pairwise(sigmas)
    if sampler.startswith(ON_BROWNIAN_PATHS):
        path = Brownian(path, sigmas[0])
    eta = 0.3 if sampler == "tcd" else 0.0 if scheduler == "TCDScheduler" else None

    def draw(shape, **_):
        sigma, lower = next(levels, (1.0, 0.0))
        return path(sigma, lower).double() if lower > 0 else torch.zeros(SHAPE).double()

    expected = diffusers_run(scheduler, options, prediction, steps, unit, draw, eta)
    assert float((ours / end - expected).abs().max()) <= TOLERANCE.get(case, 1e-4)


def test_the_three_prediction_types_of_one_denoiser_give_the_same_run():
    sigmas = registry.find("schedules", "karras")(10, LEVELS)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).double() * sigmas[0]
    ends = []
    for prediction in TO_DENOISED:
        net = network(prediction)

        def denoise(x, sigma, net=net, prediction=prediction):
            return TO_DENOISED[prediction](x, net(x / math.sqrt(1 + sigma**2), sigma), sigma)

        *_, last = registry.find("samplers", "heun")(denoise, x, sigmas, None)
        ends.append(last)
    assert torch.allclose(ends[0], ends[1], atol=1e-9)
    assert torch.allclose(ends[0], ends[2], atol=1e-9)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_dpmpp_sde_agrees_with_diffusers_on_the_same_path(prediction, monkeypatch):
    """diffusers takes its noise from torchsde, which is not needed here because the path is ours."""
    stand_in = types.ModuleType("torchsde")
    stand_in.__spec__ = importlib.machinery.ModuleSpec("torchsde", None)
    monkeypatch.setitem(sys.modules, "torchsde", stand_in)
    module = importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_sde")
    judge = module.DPMSolverSDEScheduler(**BETAS, prediction_type=prediction, timestep_spacing="trailing")
    judge.set_timesteps(20)
    unit = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    sigmas = list(registry.find("schedules", "trailing")(20, LEVELS))
    path = Brownian(Stream(9, SHAPE), sigmas[0])
    levels = [*sigmas, *(math.sqrt(sigma * lower) for sigma, lower in pairwise(sigmas))]

    def nearest(sigma) -> float:
        """Ours of diffusers' float32 levels; a path tells levels apart that differ in the last bits."""
        return min(levels, key=lambda level: abs(level - float(sigma)))

    def noise(sigma, lower):
        return path(nearest(sigma), nearest(lower)).double()

    judge.noise_sampler = noise
    net = network(prediction)
    expected = unit.double() * judge.init_noise_sigma
    for t in judge.timesteps:
        out = net(judge.scale_model_input(expected, t).double(), LEVELS.sigma(float(t)))
        expected = judge.step(out, t, expected).prev_sample.double()

    def denoise(x, sigma):
        return TO_DENOISED[prediction](x, net(x / math.sqrt(1 + sigma**2), sigma), sigma)

    start = unit.double() * sigmas[0]
    *_, ours = registry.find("samplers", "dpmpp_sde")(denoise, start, sigmas, Stream(9, SHAPE))
    assert float((ours - expected).abs().max()) <= 1e-4
