"""Replay: a stopped run goes on by repeating the network's recorded answers up to the step where it stopped.

A sampler may remember earlier steps, follow a noise path or choose its own steps, and a guidance may remember too. None
of them can save that state, but each reaches it again when the network gives the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdcli.diffusion.conditioning import Cond
from sdcli.diffusion.types import Predict
from sdcli.errors import ImageError


@dataclass(frozen=True)
class Call:
    """One call of the network: its noise level and its answers, one per cond, each (1, 4, h/8, w/8)."""

    sigma: float
    answers: Sequence[Tensor]


@dataclass(frozen=True)
class Recording:
    """The first `step` steps of a run: where it began, where it stopped, and the calls of the network between."""

    first: Tensor  # x at the start of the run
    start: float  # the noise level of `first`
    x: Tensor  # x after `step` steps
    step: int
    calls: Sequence[Call]
    name: str = ""  # of the file it was read from, for messages

    def check(self, x: Tensor) -> None:
        """Raise ImageError if x after `step` steps of the new run differs from the recorded x."""
        if not torch.allclose(x.cpu(), self.x, rtol=1e-3, atol=1e-3):
            raise ImageError(
                f"{self.name}: is of another run: step {self.step} comes out otherwise here; "
                "give the seed, sampler and other options it was made with"
            )


def replay(predict: Predict, recording: Recording | None, calls: list[Call]) -> Predict:
    """The same network, which answers from the recording first and is asked itself once that is used up.

    Each call, repeated or new, is appended to `calls`. Raises ImageError if a call differs in noise level or number of
    conds from the recorded one.
    """

    def replayed(x: Tensor, sigma: float, conds: Sequence[Cond]) -> list[Tensor]:
        if recording is None or len(calls) >= len(recording.calls):
            call = Call(sigma, predict(x, sigma, conds))
        else:
            call = recording.calls[len(calls)]
            if abs(call.sigma - sigma) > 1e-6 * sigma or len(call.answers) != len(conds):
                raise ImageError(
                    f"{recording.name}: is of another run: it asked the network for {len(call.answers)} estimates at "
                    f"noise level {call.sigma:g}, this one asks for {len(conds)} at {sigma:g}; "
                    "give the sampler, steps and other options it was made with"
                )
        calls.append(call)
        return [answer.to(x.device) for answer in call.answers]

    return replayed
