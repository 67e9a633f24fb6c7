"""Loss: a picture is noised to a random level, the network predicts, and the prediction is compared with the truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdcli.diffusion.levels import Levels


@dataclass(frozen=True)
class Noised:
    """Latents at a noise level each: what the network sees, and what a perfect one would answer.

    `x` (n, 4, h/8, w/8) has unit variance, sqrt(a) z + sqrt(1 - a) noise; `t` (n,) are the timesteps, `sigma`
    (n, 1, 1, 1) the levels.
    """

    x: Tensor
    t: Tensor
    sigma: Tensor
    target: Tensor


TARGETS = {
    "epsilon": lambda z, noise, signal, spread: noise,
    "v_prediction": lambda z, noise, signal, spread: signal * noise - spread * z,
    "sample": lambda z, noise, signal, spread: z,
}
"""Prediction type -> (latents, noise, sqrt(a), sqrt(1 - a)) -> what is predicted (Salimans & Ho 2022, appendix D)."""


def noised(z: Tensor, noise: Tensor, t: Tensor, levels: Levels, prediction: str) -> Noised:
    """Latents z (n, 4, h/8, w/8) with unit noise at the levels of whole timesteps t (n,); all float32."""
    table = torch.tensor(levels.table, dtype=torch.float64)
    sigma = table[t.cpu()].to(z.device)[:, None, None, None]
    signal, spread = (1 / (1 + sigma**2).sqrt()).to(z), (sigma / (1 + sigma**2).sqrt()).to(z)
    x = signal * z + spread * noise
    return Noised(x, t.to(z.device), sigma.to(z), TARGETS[prediction](z, noise, signal, spread))


def min_snr_weights(sigma: Tensor, prediction: str, gamma: float) -> Tensor:
    """The weights of noise levels (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting", equation 9).

    min(SNR, gamma) weighs the error of the denoised latents, SNR = 1 / sigma^2. The error of epsilon is SNR times that,
    of v SNR + 1 times, so it is divided by as much. gamma 0 weighs all levels alike: 1.
    """
    if gamma == 0:
        return torch.ones_like(sigma)
    snr = sigma.double() ** -2
    per_error = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}[prediction]
    return (snr.clamp(max=gamma) / per_error).to(sigma)


def loss_of(out: Tensor, noised: Noised, prediction: str, gamma: float) -> Tensor:
    """The mean over the batch of weight * mean squared error of the network's answer, in float32."""
    errors = (out.float() - noised.target).square().mean((1, 2, 3))
    return (errors * min_snr_weights(noised.sigma, prediction, gamma).flatten()).mean()


def draw(seed: int, number: int, shape: tuple[int, ...], levels: Levels) -> tuple[Tensor, Tensor]:
    """(unit noise of this shape, a whole timestep for each row) of a batch, by the seed and its number alone."""
    generator = torch.Generator("cpu").manual_seed((seed * 2**31 + number) % 2**63)
    t = torch.randint(len(levels.table), (shape[0],), generator=generator)
    return torch.randn(shape, generator=generator), t
