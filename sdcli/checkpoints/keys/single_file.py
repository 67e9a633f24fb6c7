"""Single file: the keys of a whole checkpoint in one file <-> components, and the names in their networks.

Such a file has LDM names behind LDM's prefixes, or diffusers' names behind the component's name.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from sdcli.checkpoints.component import PARTS
from sdcli.checkpoints.keys import diffusers, ldm, midas
from sdcli.checkpoints.keys.types import Source, Target

UNET, VAE = "model.diffusion_model.", "first_stage_model."
SD_CLIP, SD_OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
XL_CLIP = "conditioner.embedders.0.transformer."
XL_OPEN_CLIP = "conditioner.embedders.1.model."
REFINER_OPEN_CLIP = "conditioner.embedders.0.model."  # the refiner has no other text encoder
DEPTH = "depth_model.model."

_PREFIXES = {
    UNET: "unet",
    VAE: "vae",
    SD_CLIP: "text_encoder",
    SD_OPEN_CLIP: "text_encoder",
    XL_CLIP: "text_encoder",
    REFINER_OPEN_CLIP: "text_encoder_2",
    XL_OPEN_CLIP: "text_encoder_2",
    DEPTH: "depth_estimator",
    **{f"{part}.": part for part in PARTS},
}
"""Prefix of the keys -> component."""

IGNORABLE = re.compile(
    # the noise schedule, which is computed from its formula here
    r"^(denoiser\.)?(betas|alphas_cumprod(_prev)?|sqrt_\w+|log_one_minus_\w+|posterior_\w+|logvar|sigmas)$"
    # copies and left-overs of training
    r"|^model_ema\.|^low_scale_model\.|^first_stage_model\.loss\."
    # the ImageNet classes that the depth network's backbone was first trained on
    r"|^depth_model\.model\.pretrained\.model\.head\."
    r"|^(cond_stage_model|conditioner|text_encoder)\w*\..*(embeddings\.position_ids|\.logit_scale|\.attn_mask)$"
    # what ComfyUI, merging and training tools leave of CLIP beside its text encoder
    r"|^(cond_stage_model|conditioner\.embedders\.\d)(\.clip_\w)?(\.transformer)?"
    r"\.(logit_scale|text_projection(\.weight)?)$"
    r"|^(cond_stage_model|conditioner|text_encoder)\w*\.(.*\.)?(vision_model|visual_projection|model\.visual)\."
    r"|^text_encoder\w*\.logit_scale$"
    # of weights stored as scaled 8-bit floats: a marker, and scales for multiplying in that format
    r"|^(.*\.)?scaled_fp8$|^.*\.(scale_input|input_scale)$"
    # markers and counters
    r"|^(v_pred|ztsnr|global_step|edm_mean|edm_std|edm_vpred\.sigma_(max|min))$"
)
"""Tensors that no network needs: they are listed as ignored, and it is no error if they are missing."""


def targets(keys: Collection[str]) -> dict[str, list[Target] | None]:
    """For each key of a file, where its tensor goes: several targets if it is packed, none if it is ignorable.

    None stands for a key that is not known.
    """
    levels = ldm.vae_levels(key.removeprefix(VAE) for key in keys if key.startswith(VAE))
    layers = ldm.unet_layers(key.removeprefix(UNET) for key in keys if key.startswith(UNET))
    return {key: _targets(key, levels, layers) for key in keys}


def _targets(key: str, vae_levels: int, unet_layers: int) -> list[Target] | None:
    if IGNORABLE.match(key):
        return []
    for prefix, part in _PREFIXES.items():
        if key.startswith(prefix):
            return [
                Target(part, *name)
                for name in _names(prefix, key.removeprefix(prefix), vae_levels, unet_layers)
            ]
    return None


def _names(prefix: str, key: str, vae_levels: int, unet_layers: int) -> list[tuple[str, str]]:
    """The names of the tensor in its network, each with what it takes of the tensor."""
    if prefix == UNET:
        return [(ldm.unet_name(key, unet_layers), "all")]
    if prefix == VAE:
        return [(ldm.vae_name(key, vae_levels), "all")]
    if prefix in (SD_CLIP, XL_CLIP):
        return [(ldm.clip_name(key), "all")]
    if prefix in (SD_OPEN_CLIP, XL_OPEN_CLIP, REFINER_OPEN_CLIP):
        return ldm.open_clip_names(key)
    if prefix == DEPTH:
        return midas.names(key)
    return [(diffusers.current_name(_PREFIXES[prefix], key), "all")]


def sources(part: str, names: Collection[str], family: str, open_clip: bool) -> dict[str, Source]:
    """The way back, to write a single file: name in the network -> its key there, and what part of that tensor it is.

    `names` are all tensors of the component `part`; `open_clip` says that its text encoder is one of OpenCLIP's.
    """
    if part == "unet":
        return {name: Source(UNET + ldm.unet_key(name, names)) for name in names}
    if part == "vae":
        return {name: Source(VAE + ldm.vae_key(name, names)) for name in names}
    if part == "depth_estimator":
        packed = {name: midas.key(name) for name in names}
        return {name: Source(DEPTH + key, take) for name, (key, take) in packed.items()}
    if not open_clip:
        prefix = XL_CLIP if family.startswith("sdxl") else SD_CLIP
        return {name: Source(prefix + ldm.clip_key(name)) for name in names}
    prefix = {"sdxl_refiner": REFINER_OPEN_CLIP}.get(
        family, XL_OPEN_CLIP if family.startswith("sdxl") else SD_OPEN_CLIP
    )
    packed = {name: ldm.open_clip_key(name) for name in names}
    return {name: Source(prefix + key, take) for name, (key, take) in packed.items()}
