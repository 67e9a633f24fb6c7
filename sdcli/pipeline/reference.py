"""Reference: a network that looks at a picture first, at the same noise level, whenever it is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sdcli.adapters.reference import ReferenceFeatures
from sdcli.diffusion.conditioning import Cond, rows_of_call
from sdcli.diffusion.types import Predict
from sdcli.models.model import Model
from sdcli.pipeline import vae
from sdcli.pipeline.unet_inputs import UNetInputs
from sdcli.request.inputs import InputImages
from sdcli.request.job import Job
from sdcli.request.resize import fit_image


def features_of(job: Job) -> ReferenceFeatures | None:
    """The features of the job's reference; None if it has none."""
    return next((ReferenceFeatures(each.mode, weight=each.weight) for each in job.reference), None)


def fidelity_of(model: Model, job: Job) -> float:
    """How much less the negative prompt sees of the reference: cubed for SDXL, 0 in the second pass of --hires."""
    if not job.reference or job.first_pass_steps:
        return 0.0
    (reference,) = job.reference
    return reference.fidelity**3 if model.family.name.startswith("sdxl") else reference.fidelity


def reference_latents(model: Model, job: Job, inputs: InputImages) -> Tensor:
    """The latents of the reference at the size that is drawn, (1, 4, h/8, w/8)."""
    assert inputs.reference is not None
    picture = fit_image(inputs.reference.image, job.width, job.height, job.fit)
    return vae.encode(model, vae.to_tensor(picture))


def inputs_while_writing(inputs: UNetInputs, latents: Tensor) -> UNetInputs:
    """What the U-Net is given besides the noised reference: no control; of an inpainting model, nothing is masked."""
    inputs = replace(inputs, controls=())
    if not inputs.has_mask:
        return inputs
    return replace(inputs, concat=torch.cat([torch.zeros_like(latents[:, :1]), latents], 1))


def referenced(
    predict: Predict, write: Predict, features: ReferenceFeatures, latents: Tensor, seed: int
) -> Predict:
    """The network `predict`, which reads what `write` has written down of the reference's latents just before.

    These are noised to the level of each call. The noise follows from the seed and the level alone, so that a call
    gives the same answer whatever was asked before.
    """

    def predict_reading(x: Tensor, sigma: float, conds: Sequence[Cond]) -> list[Tensor]:
        noisy = latents + sigma * _noise(seed, sigma, latents)
        with features.writing():
            write(
                noisy, sigma, [replace(cond) for cond in rows_of_call(conds)]
            )  # copies, which nobody watches
        with features.reading():
            return predict(x, sigma, conds)

    return predict_reading


def _noise(seed: int, sigma: float, like: Tensor) -> Tensor:
    """Unit noise of a level, drawn on the CPU."""
    digest = hashlib.sha256(f"reference {seed} {sigma!r}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randn(like.shape, generator=generator).to(like.device)
