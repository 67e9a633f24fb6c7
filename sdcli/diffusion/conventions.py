"""Likes: what each tool does where the formulas leave a choice; `--like` picks one of these values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from sdcli.diffusion.levels import Levels
from sdcli.diffusion.types import Schedule
from sdcli.errors import UsageError

MOST = 1000  # steps of a schedule
NONE: frozenset[str] = frozenset()
KARRAS = frozenset({"euler", "euler_a", "heun", "dpm2", "dpm2_a", "dpmpp_sde", "lms"})
TIMESTEPS = frozenset({"ddim", "euler_cfg_pp", "plms", "unipc"})


@dataclass(frozen=True)
class Conventions:
    """The conventions of one tool. Samplers and schedules are told by their names, without options.

    `unit` answers, for (sampler, schedule, whether the first level is the model's highest), whether noise alone
    begins at the unit variance that the network was trained on, or else at sigma. `whole` tells for which samplers
    the network hears whole timesteps. `lowest` names the samplers that end at the lowest trained level in place of 0,
    `discards` those that leave out the level before the last. `start` is where a run over a picture begins:
    (steps, strength) -> (steps of the schedule to be made, index of the sigma to start from).
    """

    unit_variance_start: Callable[[str, str, bool], bool]
    rounds_timesteps: Callable[[str], bool]
    start: Callable[[int, float], tuple[int, int]]
    lowest: frozenset[str] = NONE
    discards: frozenset[str] = NONE
    full: bool = (
        False  # a picture, too, lies under the noise of an empty start if that begins at the highest level
    )
    above: bool = False  # a picture is given the noise of one level more than the run begins at
    truncates: bool = False  # pixels are cut to whole bytes, not rounded (half to even)

    def sigmas(self, schedule: Schedule, steps: int, levels: Levels, sampler: str) -> list[float]:
        """The levels of a schedule as this tool's sampler walks them."""
        if sampler in self.discards and steps < MOST:
            made = list(schedule(steps + 1, levels))
            del made[-2]
        else:
            made = list(schedule(steps, levels))
        if sampler in self.lowest and made[-2] > levels.sigma_min:
            made[-1] = levels.sigma_min
        return made

    def initial_scale(self, sigma: float, levels: Levels, sampler: str, schedule: str) -> float:
        """How much unit noise a run without a picture begins with."""
        unit = self.unit_variance_start(sampler, schedule, _highest(sigma, levels))
        return math.sqrt(1 + sigma**2) if unit else sigma

    def noised(
        self, picture: Tensor, noise: Tensor, sigmas: Sequence[float], start: int, levels: Levels
    ) -> Tensor:
        """What a run over a picture's latents begins with at the level sigmas[start], from unit noise."""
        sigma = sigmas[start]
        if self.above:
            above = sigmas[max(start - 1, 0)]
            return (picture + noise * above) * math.sqrt((1 + sigma**2) / (1 + above**2))
        full = self.full and _highest(sigma, levels)
        return picture + noise * (math.sqrt(1 + sigma**2) if full else sigma)


def _highest(sigma: float, levels: Levels) -> bool:
    return sigma > levels.sigma_max or math.isclose(sigma, levels.sigma_max, rel_tol=1e-5)


def _ours(steps: int, strength: float) -> tuple[int, int]:
    """The last part of the steps, to the nearest, but at least one of them if anything is to change."""
    return steps, steps - max(round(steps * strength), strength > 0)


def _a1111(steps: int, strength: float) -> tuple[int, int]:
    """The part of the steps, rounded down, and one more."""
    return steps, steps - int(min(strength, 0.999) * steps) - 1


def _comfyui(steps: int, strength: float) -> tuple[int, int]:
    """All the steps, as the end of a schedule of more of them."""
    total = steps if strength > 0.9999 or strength <= 0 else int(steps / strength)
    if total > MOST:
        raise UsageError(
            f"{steps} steps at strength {strength:g} are the end of {total}, more than {MOST}; take fewer steps"
        )
    return total, total - steps if strength > 0 else steps


def _diffusers(steps: int, strength: float) -> tuple[int, int]:
    """The last part of the steps, rounded down."""
    return steps, steps - min(int(steps * strength), steps)


def _compvis(steps: int, strength: float) -> tuple[int, int]:
    """The last part of the steps, rounded down; all of them is one too many, as the level above would be none."""
    return steps, steps - min(int(strength * steps), steps - 1)


CONVENTIONS = {
    "sdcli": Conventions(unit_variance_start=lambda *_: True, rounds_timesteps=lambda _: False, start=_ours),
    "a1111": Conventions(
        unit_variance_start=lambda sampler, *_: sampler in TIMESTEPS,
        rounds_timesteps=lambda sampler: sampler in TIMESTEPS,
        start=_a1111,
        lowest=frozenset({"ddim", "euler_cfg_pp", "plms"}),
        discards=frozenset({"dpm2", "dpm2_a"}),
        truncates=True,
    ),
    "comfyui": Conventions(
        unit_variance_start=lambda sampler, schedule, highest: highest,
        rounds_timesteps=lambda _: True,
        start=_comfyui,
        discards=frozenset({"dpm2", "dpm2_a", "unipc"}),
        full=True,
        truncates=True,
    ),
    "diffusers": Conventions(
        unit_variance_start=lambda sampler, schedule, _: sampler not in KARRAS or schedule == "leading",
        rounds_timesteps=lambda sampler: sampler not in KARRAS,
        start=_diffusers,
        lowest=frozenset({"ddim", "deis", "plms", "sa_solver", "tcd"}),
    ),
    "compvis": Conventions(
        unit_variance_start=lambda *_: True,
        rounds_timesteps=lambda _: True,
        start=_compvis,
        lowest=frozenset({"ddim", "plms"}),
        above=True,
        truncates=True,
    ),
}
"""The word of --like -> its conventions: Stable Diffusion 1's config with diffusers, the default options of A1111."""
