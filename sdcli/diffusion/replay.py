"""Recording: what the network answered in a run that was stopped, so that another goes on as if it had not been.

A sampler may remember earlier steps, follow a path of noise or choose its own steps, and a guidance may remember, too.
None of them can be asked for its memory, but all of them come to it again from the same answers of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdcli.diffusion.types import Predict
from sdcli.errors import ImageError


@dataclass(frozen=True)
class Call:
    """One call of the network: at which noise level, and its answers, one a cond, (1, 4, h/8, w/8)."""

    sigma: float
    answers: Sequence[Tensor]


@dataclass(frozen=True)
class Recording:
    """A run up to a step: the x and the level it began with, the x it stood at then, and the calls between."""

    first: Tensor
    start: float
    x: Tensor
    step: int
    calls: Sequence[Call]
    name: str = ""  # the file's, for messages

    def check(self, x: Tensor) -> None:
        """Raises ImageError if x, at the replay step, is not what it was."""
        if not torch.allclose(x.cpu(), self.x, rtol=1e-3, atol=1e-3):
            raise ImageError(
                f"{self.name}: is of another run: step {self.step} comes out otherwise here; "
                "give the seed, sampler and other options it was made with"
            )


def replay(predict: Predict, before: Recording | None, calls: list[Call]) -> Predict:
    """The same network, which repeats what was replay before it is really asked; each call is added to `calls`."""

    def predicted(x: Tensor, sigma: float, conds: Sequence[Any]) -> list[Tensor]:
        if before is None or len(calls) >= len(before.calls):
            call = Call(sigma, predict(x, sigma, conds))
        else:
            call = before.calls[len(calls)]
            if abs(call.sigma - sigma) > 1e-6 * sigma or len(call.answers) != len(conds):
                raise ImageError(
                    f"{before.name}: is of another run: it asked the network for {len(call.answers)} estimates at "
                    f"noise level {call.sigma:g}, this one asks for {len(conds)} at {sigma:g}; "
                    "give the sampler, steps and other options it was made with"
                )
        calls.append(call)
        return [answer.to(x.device) for answer in call.answers]

    return predicted
