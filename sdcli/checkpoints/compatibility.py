"""Compatibility: do the components of a model belong together, by their shapes and configs?

Whether each component is complete by itself is what `completeness` checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdcli.checkpoints.component import Component
from sdcli.checkpoints.family import Family
from sdcli.errors import ModelError
from sdcli.tokenizer import CHUNK, END, Tokenizer

LATENT_CHANNELS = 4  # in every family
MAX_SCALING = 1e6  # of the factor and the shift between the VAE's latents and the U-Net's
MAX_NOISE_LEVEL = (
    350  # of the small picture that an x4 upscaler enlarges; the highest that --noise-level takes
)
POOLED_CLASS = "CLIPTextModelWithProjection"
_MIXED = "they are of different models"


def check_parts_fit(name: str, family: Family, components: Mapping[str, Component]) -> None:
    """Raise ModelError if a component that this family needs is missing, or if two of them do not fit together.

    `name` is what the model is called in the message.
    """
    _check_which_text_encoders(name, family, components)
    if "vae" not in components:
        raise ModelError(f"{name}: no VAE in it; name one with --vae, or get the full checkpoint")
    for part, use in family.text_encoders.items():
        _check_text_encoder(components[part], use.pooled)
    _check_text_width(name, family, components)
    _check_pooled_width(name, family, components)
    _check_class_labels(family, components["unet"])
    _check_vae(components["vae"])
    channels = _side(components["unet"], "conv_out.weight", 0, LATENT_CHANNELS)
    if channels != LATENT_CHANNELS:
        raise _bad(components["unet"], f"a U-Net that predicts {channels} channels, not {LATENT_CHANNELS}")


def check_added_words(components: Mapping[str, Component], tokenizers: Mapping[str, Tokenizer]) -> None:
    """Raise ModelError if a tokenizer adds a word whose token its text encoder lacks."""
    for part, tokenizer in tokenizers.items():
        tokens = _side(components[part], "embeddings.token_embedding.weight", 0, END + 1)
        for word in tokenizer.added:
            if word.id >= tokens:
                raise _bad(
                    components[part],
                    f"a text encoder with {tokens:,} tokens, and its tokenizer adds {word.text[:60]!r} as token "
                    f"{word.id:,}; get both from one place",
                )


def _check_which_text_encoders(name: str, family: Family, components: Mapping[str, Component]) -> None:
    needed = list(family.text_encoders)
    has = f"a model of the family {family.name} has {' and '.join(needed)}"
    for part in needed:
        if part not in components:
            raise ModelError(f"{name}: no {part} folder in it; {has}")
    for part in components:
        if part.startswith("text_encoder") and part not in needed:
            raise ModelError(f"{name}: the folder {part} is one too many; {has}")


def _check_text_encoder(encoder: Component, pooled: bool) -> None:
    tokens = _side(encoder, "embeddings.token_embedding.weight", 0, END + 1)
    if tokens <= END:
        raise _bad(encoder, f"a text encoder with {tokens:,} tokens, not the {END + 1:,} of CLIP")
    positions = _side(encoder, "embeddings.position_embedding.weight", 0, CHUNK + 2)
    if positions < CHUNK + 2:
        raise _bad(encoder, f"a text encoder that reads {positions} tokens at once, not {CHUNK + 2}")
    if pooled and encoder.config.get("architectures") != [POOLED_CLASS]:
        raise _bad(
            encoder, f"its config.json does not name {POOLED_CLASS} in architectures, as this family needs"
        )


def _check_text_width(name: str, family: Family, components: Mapping[str, Component]) -> None:
    """The U-Net's cross-attention must read text as wide as the text encoders' states side by side."""
    unet = components["unet"]
    cross_attention = next((tensor for tensor in unet.sources if tensor.endswith("attn2.to_k.weight")), "")
    read = _side(unet, cross_attention, 1, 0)
    widths = [
        _side(components[part], "embeddings.token_embedding.weight", 1, 0) for part in family.text_encoders
    ]
    if all(widths) and sum(widths) != read:
        shown = " and ".join(map(str, widths))
        raise ModelError(f"{name}: text of width {shown}, of which its U-Net reads {read}; {_MIXED}")


def _check_pooled_width(name: str, family: Family, components: Mapping[str, Component]) -> None:
    """The U-Net's added embedding must take the pooled text and the family's time ids, each embedded as sinusoids."""
    unet = components["unet"]
    added = _side(unet, "add_embedding.linear_1.weight", 1, 0)
    width = unet.config.get("addition_time_embed_dim")
    read = added - family.time_ids * (width if type(width) is int else 0)
    for part, use in family.text_encoders.items():
        pooled = _side(components[part], "text_projection.weight", 0, 0)
        if use.pooled and pooled and pooled != read:
            raise ModelError(
                f"{name}: pooled text of width {pooled}, of which its U-Net reads {read}; {_MIXED}"
            )


def _check_class_labels(family: Family, unet: Component) -> None:
    """Only the x4 upscaler is told a class, which is the noise level of the small picture."""
    count = unet.config.get("num_class_embeds")
    if count is None:
        return
    if family.name != "x4_upscaler":
        raise _bad(
            unet,
            f"num_class_embeds {count!r}: a U-Net that is told a class, which nothing here gives it",
        )
    if type(count) is int and count <= MAX_NOISE_LEVEL:
        raise _bad(
            unet, f"num_class_embeds {count}, which are fewer than the {MAX_NOISE_LEVEL + 1} noise levels"
        )


def _check_vae(vae: Component) -> None:
    for key, needed in {"in_channels": 3, "out_channels": 3, "latent_channels": LATENT_CHANNELS}.items():
        value = vae.config.get(key, needed)
        if value != needed:
            raise _bad(vae, f"a VAE whose {key} are {value!r}, not {needed}")
    scale, shift = vae.config.get("scaling_factor", 1.0), vae.config.get("shift_factor")
    if not _is_number(scale) or scale == 0:
        raise _bad(vae, f"a VAE whose scaling_factor is {scale!r}, which is no number to divide by")
    if shift is not None and not _is_number(shift):
        raise _bad(vae, f"a VAE whose shift_factor is {shift!r}, which is no number")
    mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if (mean is None) != (std is None):
        raise _bad(vae, "a VAE with latents_mean and without latents_std, or the other way round")
    for key, values in (("latents_mean", mean), ("latents_std", std)):
        if values is not None and not _are_numbers(values, key == "latents_std"):
            raise _bad(
                vae, f"a VAE whose {key} are {str(values)[:60]}, not {LATENT_CHANNELS} numbers to scale by"
            )


def _is_number(value: Any) -> bool:
    """True for a finite number of sane size; a JSON true is none."""
    return type(value) in (int, float) and -MAX_SCALING < value < MAX_SCALING


def _are_numbers(values: Any, positive: bool) -> bool:
    """True for a list of one finite number for each latent channel."""
    if not isinstance(values, list) or len(values) != LATENT_CHANNELS:
        return False
    return all(_is_number(value) and (value > 0 or not positive) for value in values)


def _side(component: Component, name: str, axis: int, default: int) -> int:
    """One side of a tensor's shape; the default if there is no such tensor, which is reported elsewhere."""
    shape = component.shape(name) if name in component.sources else []
    return shape[axis] if len(shape) > axis else default


def _bad(component: Component, fault: str) -> ModelError:
    return ModelError(f"{component.header.path if component.header else 'a test model'}: {fault}")
