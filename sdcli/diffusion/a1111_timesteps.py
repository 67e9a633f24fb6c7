"""The timesteps that A1111's DDIM, PLMS, DDIM CFG++ and UniPC walk; they know no schedule."""

from __future__ import annotations

import math
from collections.abc import Callable

from sdcli.diffusion.levels import Levels

OwnLevels = Callable[[int, Levels, float | None], tuple[list[float], int]]
"""(steps, levels, strength or None) -> (falling levels, the index of the one at which the run starts).

A run over a picture starts one level below the one whose noise the picture is given."""


def ddim_levels(steps: int, levels: Levels, strength: float | None) -> tuple[list[float], int]:
    """The levels of DDIM and PLMS: one more than multiples of 1000 // steps, down to t = 1, where the run ends.

    So 8 steps evaluate the network 7 times; 30 steps, which do not divide 1000, 30 times.
    """
    sigmas = [levels.table[t] for t in _timesteps(steps, levels)]
    if strength is None:
        return sigmas, 0
    return _over_picture(sigmas, _steps_over_picture(steps, strength))


def unipc_levels(steps: int, levels: Levels, strength: float | None) -> tuple[list[float], int]:
    """The levels of UniPC: evenly spaced fractional timesteps, as many steps as DDIM has timesteps, down to t = 0."""
    timesteps = _timesteps(steps, levels)
    if strength is None:
        return _even(levels.last, len(timesteps), levels), 0
    taken = _steps_over_picture(steps, strength)
    if taken == 0:
        return _over_picture([levels.table[t] for t in timesteps], 0)
    noised, start = timesteps[-1 - taken], timesteps[-taken]
    return [levels.table[noised], *_even(start, taken, levels)], 1


def _timesteps(steps: int, levels: Levels) -> list[int]:
    """One more than multiples of 1000 // steps, falling."""
    count = levels.last + 1
    rising = [min(t + 1, levels.last) for t in range(0, count, max(count // steps, 1))]
    return sorted(set(rising), reverse=True)


def _steps_over_picture(steps: int, strength: float) -> int:
    return int(min(strength, 0.999) * steps)


def _over_picture(sigmas: list[float], timesteps: int) -> tuple[list[float], int]:
    """A run over the last timesteps; with none of them it stays at the lowest level, whose noise the picture gets."""
    return (sigmas, len(sigmas) - timesteps) if timesteps else ([*sigmas, sigmas[-1]], len(sigmas))


def _even(start: float, steps: int, levels: Levels) -> list[float]:
    """The levels at evenly spaced timesteps from start to 0, steps + 1 of them."""
    return [_sigma(start * (1 - i / steps), levels) for i in range(steps + 1)]


def _sigma(t: float, levels: Levels) -> float:
    """Sigma at a fractional timestep; UniPC's code interpolates the logarithm of the signal, not of sigma."""
    below = min(int(t), levels.last - 1)
    log_signal, next_log_signal = (-math.log1p(levels.table[k] ** 2) / 2 for k in (below, below + 1))
    return math.sqrt(math.expm1(-2 * (log_signal + (t - below) * (next_log_signal - log_signal))))
