"""Trainable: which models can be trained, told by their files' headers before anything is loaded."""

from __future__ import annotations

from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.errors import ModelError

_REASONS = {
    "sdxl_refiner": "an SDXL refiner only finishes pictures of others; train on the SDXL base model",
    "x4_upscaler": "an upscaler is told the small picture; train on the model that draws the pictures",
    "sd2_depth": "a depth model is told the depth; train on the Stable Diffusion 2 base model, whose LoRAs fit it",
    "pix2pix": "InstructPix2Pix is told the picture to edit; train on the Stable Diffusion 1 base model",
}


def check_trainable(found: Checkpoint, what: str = "trained") -> None:
    """Raise ModelError, which says what to take instead, for a model whose U-Net sees more than noisy latents and text.

    `what` is what cannot be done with it.
    """
    if found.family.name in _REASONS:
        raise ModelError(f"{found.name} cannot be {what}: {_REASONS[found.family.name]}")
    if found.family.signature.channels != 4:
        raise ModelError(
            f"{found.name} cannot be {what}: an inpainting model is told the mask; train on the base model, "
            "whose LoRAs and embeddings fit it"
        )
    if found.family.embeds_guidance:
        raise ModelError(
            f"{found.name} cannot be {what}: a latent consistency model is distilled; train on the model that it was "
            "made from"
        )
    if found.levels.sigma_data is not None:
        raise ModelError(
            f"{found.name} cannot be {what}: EDM models such as Playground 2.5 are not; take another SDXL model"
        )
