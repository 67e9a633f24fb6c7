"""Whole runs against diffusers' own schedulers, on a denoiser that is not linear."""

import math

import pytest
import torch

from sdcli import registry
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.noise import Stream
from sdcli.networks.predict import to_denoised
from tests.diffusion.truth import mixture

LEVELS = Levels.scaled_linear()
BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}
SHAPE = (1, 4, 8, 8)

CASES = {
    ("euler", "trailing"): ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("euler", "leading"): ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    ("euler", "karras"): (
        "EulerDiscreteScheduler",
        {"timestep_spacing": "linspace", "use_karras_sigmas": True},
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
}
# diffusers interpolates sigma linearly between timesteps, we its logarithm: 7e-5 apart, where t is a fraction
LOOSE = {("euler", "uniform"): 5e-3}
START = {("ddim", "leading"): "unit", ("ddim", "trailing"): "unit", ("dpmpp_2m", "trailing"): "unit"}


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


def theirs(scheduler: str, options: dict, prediction: str, steps: int, unit: torch.Tensor) -> torch.Tensor:
    import diffusers

    made = getattr(diffusers, scheduler)(**BETAS, prediction_type=prediction, **options)
    made.set_timesteps(steps)
    x = unit.double() * made.init_noise_sigma
    generator = torch.Generator().manual_seed(9)
    extra = {"generator": generator} if "Ancestral" in scheduler else {}
    for t in made.timesteps:
        out = network(prediction)(made.scale_model_input(x, t).double(), LEVELS.sigma(float(t)))
        out = out.float() if extra else out  # its dtype decides how the noise is drawn
        x = made.step(out, t, x, **extra).prev_sample.double()
    return x


@pytest.mark.parametrize(
    ("case", "prediction"),
    [
        pytest.param(case, prediction, id="-".join((*case, prediction)))
        for case in CASES
        for prediction in ("epsilon", "v_prediction", "sample")
        if not (prediction == "sample" and case[0] in ("euler_a", "heun"))  # diffusers has none
    ],
)
def test_a_whole_run_agrees_with_diffusers(case, prediction):
    (sampler, schedule), (scheduler, options) = case, CASES[case]
    unit = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    sigmas = registry.find("schedules", schedule)(20, LEVELS)
    start = sigmas[0] if schedule != "leading" and case not in START else math.sqrt(1 + sigmas[0] ** 2)
    net = network(prediction)

    def denoise(x, sigma):
        return to_denoised[prediction](x, net(x / math.sqrt(1 + sigma**2), sigma), sigma)

    noise = Stream(9, SHAPE)
    *_, ours = registry.find("samplers", sampler)(denoise, unit.double() * start, sigmas, noise)
    expected = theirs(scheduler, options, prediction, 20, unit)
    assert float((ours - expected).abs().max()) <= LOOSE.get(case, 1e-4)


def test_the_three_predictions_of_one_denoiser_walk_the_same_way():
    sigmas = registry.find("schedules", "karras")(10, LEVELS)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).double() * sigmas[0]
    ends = []
    for prediction in to_denoised:
        net = network(prediction)

        def denoise(x, sigma, net=net, prediction=prediction):
            return to_denoised[prediction](x, net(x / math.sqrt(1 + sigma**2), sigma), sigma)

        *_, last = registry.find("samplers", "heun")(denoise, x, sigmas, None)
        ends.append(last)
    assert torch.allclose(ends[0], ends[1], atol=1e-9)
    assert torch.allclose(ends[0], ends[2], atol=1e-9)
