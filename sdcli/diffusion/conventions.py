"""Conventions: what each tool does where the formulas leave a choice; `--like` picks one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from sdcli.diffusion.levels import Levels
from sdcli.diffusion.types import Schedule
from sdcli.errors import UsageError

MAX_STEPS = 1000
"""The most steps that every schedule can make."""
DIFFUSERS_SIGMA_SAMPLERS = frozenset({"euler", "euler_a", "heun", "dpm2", "dpm2_a", "dpmpp_sde", "lms"})
"""Samplers whose diffusers scheduler works on x = data + sigma * noise, with fractional timesteps; others work on x of
unit variance, with whole timesteps."""
A1111_TIMESTEP_SAMPLERS = frozenset({"ddim", "euler_cfg_pp", "plms", "unipc"})
"""Samplers that A1111 runs on whole timesteps and x of unit variance; it runs the others through k-diffusion."""

BROWNIAN_SAMPLERS = frozenset({"dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde"})
"""Samplers whose noise other tools take from torchsde's Brownian tree."""


@dataclass(frozen=True)
class Run:
    """The facts of a run by which a tool may do something else than we do. Names come without options."""

    sampler: str
    schedule: str = ""  # "" if the levels are the user's own
    steps: int = 20
    over_picture: bool = False
    masked: bool = False


@dataclass(frozen=True)
class Difference:
    """Something that a tool does and that `--like` does not take over."""

    text: str  # what the tool does: one clause, in the present tense, without a full stop
    applies: Callable[[Run], bool] = lambda run: True
    """True if it changes the picture of such a run."""


@dataclass(frozen=True)
class Conventions:
    """The conventions of one tool. Names of samplers and schedules come without options; a schedule is "" if the levels
    are the user's own."""

    unit_variance_start: Callable[[str, str, bool], bool]
    """(sampler, schedule, whether the first level is the model's highest) -> True if a run from noise alone starts at
    sqrt(1 + sigma^2) times unit noise, so that the network sees unit variance; False if at sigma times."""
    rounds_timesteps: Callable[[str], bool]
    """sampler -> True if the network is given the nearest whole timestep of a level."""
    img2img_start: Callable[[int, float], tuple[int, int]]
    """(steps, strength) -> (steps of the schedule to make, index of the sigma at which a run over a picture starts)."""
    end_at_sigma_min: frozenset[str] = frozenset()
    """Samplers that end at the lowest trained level in place of 0."""
    drop_second_to_last: frozenset[str] = frozenset()
    """Samplers whose schedule is made one step longer, without its second to last level."""
    unit_variance_img2img: bool = False
    """True if a picture, too, gets sqrt(1 + sigma^2) times unit noise where a run starts at the highest level."""
    noised_one_level_higher: bool = False
    """True if a picture is given the noise of one level more than the run starts at."""
    truncates_pixels: bool = False
    """True if pixel values are cut to whole bytes, not rounded (half to even)."""
    not_taken_over: tuple[Difference, ...] = ()
    """What this tool does and we do not."""

    def differences(self, run: Run) -> list[str]:
        """What this tool does in such a run and `--like` does not take over, a clause each; empty if nothing is known.

        `sd` prints them in one line, so that nobody takes the picture for the tool's own.
        """
        return [difference.text for difference in self.not_taken_over if difference.applies(run)]

    def sigmas(self, schedule: Schedule, steps: int, levels: Levels, sampler: str) -> list[float]:
        """The levels that this tool's sampler visits on a schedule: steps + 1, falling."""
        if sampler in self.drop_second_to_last and steps < MAX_STEPS:
            sigmas = list(schedule(steps + 1, levels))
            del sigmas[-2]
        else:
            sigmas = list(schedule(steps, levels))
        if sampler in self.end_at_sigma_min and sigmas[-2] > levels.sigma_min:
            sigmas[-1] = levels.sigma_min
        return sigmas

    def initial_scale(self, sigma: float, levels: Levels, sampler: str, schedule: str) -> float:
        """What unit noise is multiplied by at the start of a run without a picture."""
        unit_variance = self.unit_variance_start(sampler, schedule, _is_highest(sigma, levels))
        return math.sqrt(1 + sigma**2) if unit_variance else sigma

    def noised(
        self, latents: Tensor, noise: Tensor, sigmas: Sequence[float], start: int, levels: Levels
    ) -> Tensor:
        """The first x of a run over a picture: its latents with unit noise added, at the level sigmas[start]."""
        sigma = sigmas[start]
        if self.noised_one_level_higher:
            # CompVis keeps x at unit variance, so the level that the run starts at only rescales what is there
            above = sigmas[max(start - 1, 0)]
            return (latents + noise * above) * math.sqrt((1 + sigma**2) / (1 + above**2))
        unit_variance = self.unit_variance_img2img and _is_highest(sigma, levels)
        return latents + noise * (math.sqrt(1 + sigma**2) if unit_variance else sigma)


def _is_highest(sigma: float, levels: Levels) -> bool:
    return sigma > levels.sigma_max or math.isclose(sigma, levels.sigma_max, rel_tol=1e-5)


def _sdcli_start(steps: int, strength: float) -> tuple[int, int]:
    """The last strength * steps of the steps, rounded to the nearest, but at least one if strength is above 0."""
    return steps, steps - max(round(steps * strength), strength > 0)


def _a1111_start(steps: int, strength: float) -> tuple[int, int]:
    """The last int(strength * steps) + 1 of the steps; strength counts as 0.999 at most."""
    return steps, steps - int(min(strength, 0.999) * steps) - 1


def _comfyui_start(steps: int, strength: float) -> tuple[int, int]:
    """All the steps, as the last ones of a schedule of int(steps / strength)."""
    total = steps if strength > 0.9999 or strength <= 0 else int(steps / strength)
    if total > MAX_STEPS:
        raise UsageError(
            f"{steps} steps at strength {strength:g} are the end of {total}, more than {MAX_STEPS}; take fewer steps"
        )
    return total, total - steps if strength > 0 else steps


def _diffusers_start(steps: int, strength: float) -> tuple[int, int]:
    """The last int(strength * steps) of the steps."""
    return steps, steps - min(int(steps * strength), steps)


def _compvis_start(steps: int, strength: float) -> tuple[int, int]:
    """The last int(strength * steps) of the steps, but never the first: there is no higher level to noise to."""
    return steps, steps - min(int(strength * steps), steps - 1)


BROWNIAN_TREE = Difference(
    "the noise of this sampler comes from torchsde's Brownian tree",
    lambda run: run.sampler in BROWNIAN_SAMPLERS,
)

CONVENTIONS = {
    "sdcli": Conventions(
        unit_variance_start=lambda *_: True,
        rounds_timesteps=lambda _: False,
        img2img_start=_sdcli_start,
    ),
    "a1111": Conventions(
        unit_variance_start=lambda sampler, *_: sampler in A1111_TIMESTEP_SAMPLERS,
        rounds_timesteps=lambda sampler: sampler in A1111_TIMESTEP_SAMPLERS,
        img2img_start=_a1111_start,
        end_at_sigma_min=frozenset({"ddim", "euler_cfg_pp", "plms"}),
        drop_second_to_last=frozenset({"dpm2", "dpm2_a"}),
        truncates_pixels=True,
        not_taken_over=(BROWNIAN_TREE,),
    ),
    "comfyui": Conventions(
        unit_variance_start=lambda sampler, schedule, highest: highest,
        rounds_timesteps=lambda _: True,
        img2img_start=_comfyui_start,
        drop_second_to_last=frozenset({"dpm2", "dpm2_a", "unipc"}),
        unit_variance_img2img=True,
        truncates_pixels=True,
        not_taken_over=(BROWNIAN_TREE,),
    ),
    "diffusers": Conventions(
        unit_variance_start=lambda sampler, schedule, _: (
            sampler not in DIFFUSERS_SIGMA_SAMPLERS or schedule == "leading"
        ),
        rounds_timesteps=lambda sampler: sampler not in DIFFUSERS_SIGMA_SAMPLERS,
        img2img_start=_diffusers_start,
        end_at_sigma_min=frozenset({"ddim", "deis", "plms", "sa_solver", "tcd"}),
    ),
    "compvis": Conventions(
        unit_variance_start=lambda *_: True,
        rounds_timesteps=lambda _: True,
        img2img_start=_compvis_start,
        end_at_sigma_min=frozenset({"ddim", "plms"}),
        noised_one_level_higher=True,
        truncates_pixels=True,
    ),
}
"""The word of --like -> its conventions; diffusers with Stable Diffusion 1's config, A1111 with its default options."""
