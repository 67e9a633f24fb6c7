"""Kinship: whether the networks of a model belong together, from shapes and configs; each alone is `load.account`'s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdcli.checkpoints.component import Component
from sdcli.checkpoints.family import Family
from sdcli.checkpoints.tokenizer import CHUNK, END
from sdcli.errors import ModelError

CHANNELS = 4  # of latents, in every family
LARGEST = 1e6  # of what latents are scaled with
POOLED = ["CLIPTextModelWithProjection"]
MIXED = "they are of different models"


def check_parts_fit(name: str, family: Family, networks: Mapping[str, Component]) -> None:
    """Raise ModelError if one of the networks that a model of this family needs is absent, or two do not fit."""
    wanted = list(family.text_encoders)
    has = f"a model of the family {family.name} has {' and '.join(wanted)}"
    for part in wanted:
        if part not in networks:
            raise ModelError(f"{name}: no {part} folder in it; {has}")
    for part in networks:
        if part.startswith("text_encoder") and part not in wanted:
            raise ModelError(f"{name}: the folder {part} is one too many; {has}")
    for part in wanted:
        _check_text(networks[part], family.text_encoders[part].pooled)
    _check_widths(name, family, networks)
    _check_pixels(networks["vae"])
    unet = networks["unet"]
    told = _side(unet, "conv_out.weight", 0, CHANNELS)
    if told != CHANNELS:
        raise _bad(unet, f"a U-Net that predicts {told} channels, not {CHANNELS}")


def _check_text(text: Component, pooled: bool) -> None:
    ids = _side(text, "embeddings.token_embedding.weight", 0, END + 1)
    if ids <= END:
        raise _bad(text, f"a text encoder with {ids:,} tokens, not the {END + 1:,} of CLIP")
    places = _side(text, "embeddings.position_embedding.weight", 0, CHUNK + 2)
    if places < CHUNK + 2:
        raise _bad(text, f"a text encoder that reads {places} tokens at once, not {CHUNK + 2}")
    if pooled and text.config.get("architectures") != POOLED:
        raise _bad(text, f"its config.json does not name {POOLED[0]} in architectures, as this family needs")


def _check_widths(name: str, family: Family, networks: Mapping[str, Component]) -> None:
    """The U-Net reads text as wide as its encoders give it, and adds as much to its time as they pool."""
    unet = networks["unet"]
    context = _side(unet, next((own for own in unet.sources if own.endswith("attn2.to_k.weight")), ""), 1, 0)
    added = _side(unet, "add_embedding.linear_1.weight", 1, 0)
    each = unet.config.get("addition_time_embed_dim")
    sizes = (5 if family.aesthetic else 6) * (each if type(each) is int else 0)
    widths = [
        _side(networks[part], "embeddings.token_embedding.weight", 1, 0) for part in family.text_encoders
    ]
    if all(widths) and sum(widths) != context:
        given = " and ".join(map(str, widths))
        raise ModelError(f"{name}: text of width {given}, of which its U-Net reads {context}; {MIXED}")
    for part, reader in family.text_encoders.items():
        pooled = _side(networks[part], "text_projection.weight", 0, 0)
        if reader.pooled and pooled and pooled + sizes != added:
            raise ModelError(
                f"{name}: pooled text of width {pooled}, of which its U-Net reads {added - sizes}; {MIXED}"
            )


def _check_pixels(vae: Component) -> None:
    for key, need in {"in_channels": 3, "out_channels": 3, "latent_channels": CHANNELS}.items():
        have = vae.config.get(key, need)
        if have != need:
            raise _bad(vae, f"a VAE whose {key} are {have!r}, not {need}")
    scale, shift = vae.config.get("scaling_factor", 1.0), vae.config.get("shift_factor")
    if not _is_number(scale) or scale == 0:
        raise _bad(vae, f"a VAE whose scaling_factor is {scale!r}, which is no number to divide by")
    if shift is not None and not _is_number(shift):
        raise _bad(vae, f"a VAE whose shift_factor is {shift!r}, which is no number")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -LARGEST < value < LARGEST


def _side(network: Component, name: str, axis: int, default: int) -> int:
    """One side of a tensor's shape, or the default where there is none: what is absent is not told here."""
    shape = network.shape(name) if name in network.sources else []
    return shape[axis] if len(shape) > axis else default


def _bad(network: Component, what: str) -> ModelError:
    return ModelError(f"{network.header.path if network.header else 'a test model'}: {what}")
