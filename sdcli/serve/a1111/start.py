"""Start: the picture that img2img starts from, and its mask, by A1111's fields."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from sdcli.errors import UsageError
from sdcli.serve.a1111.sent import Sent
from sdcli.serve.budget import Budget
from sdcli.serve.pictures import picture_of

FILLS = {0: "fill", 1: "original", 2: "noise", 3: "empty"}
"""inpainting_fill -> --masked-content."""
FITS = {0: "stretch", 1: "crop", 2: "pad"}
"""resize_mode -> --fit."""


def start_values(sent: Sent, budget: Budget, values: Mapping[str, Any]) -> dict[str, Any]:
    """The picture to start from, and its mask."""
    pictures = sent.take("init_images")
    if not isinstance(pictures, list) or len(pictures) != 1:
        raise UsageError("init_images: is no list of one picture; send one as base64")
    image = picture_of("init_images", pictures[0], budget)
    strength, mode = sent.number("denoising_strength"), sent.whole("resize_mode") or 0
    if mode not in FITS:
        raise UsageError(f"resize_mode: {mode} is not done here; send 0 (stretch), 1 (crop) or 2 (pad)")
    found: dict[str, Any] = {
        "image": image,
        "strength": 0.75 if strength is None else strength,
        "fit": FITS[mode],
    }
    return {**found, **_mask(sent, budget, values, image.png)}


def _mask(sent: Sent, budget: Budget, values: Mapping[str, Any], image: bytes) -> dict[str, Any]:
    """The mask, and how it acts; without one, the fields of it change nothing."""
    mask = sent.take("mask")
    blurs = {sent.number(name) for name in ("mask_blur", "mask_blur_x", "mask_blur_y")} - {None}
    fill, padding = sent.whole("inpainting_fill") or 0, sent.whole("inpaint_full_res_padding") or 0
    invert, is_rounded = sent.truth("inpainting_mask_invert"), sent.truth("mask_round", True)
    only_masked = sent.truth("inpaint_full_res", True)
    if mask is None:
        return {}
    if len(blurs) > 1:
        raise UsageError("mask_blur_x, mask_blur_y: one blur is for both ways here; send mask_blur")
    if fill not in FILLS:
        raise UsageError(
            f"inpainting_fill: {fill} is none; send 0 (fill), 1 (original), 2 (noise) or 3 (nothing)"
        )
    if not is_rounded:
        raise UsageError("mask_round: false would change the picture and is not done here; leave it out")
    if not only_masked:
        _check_same_size(image, values)
    found: dict[str, Any] = {"mask": picture_of("mask", mask, budget), "masked_content": FILLS[fill]}
    found |= {"only_masked": only_masked, "padding": padding, "invert_mask": invert}
    return {**found, "mask_blur": blurs.pop() if blurs else 4.0}


def _check_same_size(image: bytes, values: Mapping[str, Any]) -> None:
    """Raise UsageError for a masked picture of another size than is drawn: A1111 resizes it, and here it keeps its."""
    from PIL import Image

    with Image.open(io.BytesIO(image)) as opened:
        sides = dict(zip(("width", "height"), opened.size, strict=True))
    for name, side in sides.items():
        if values.get(name, side) != side:
            raise UsageError(
                f"{name}: {values[name]} is not that of the picture, {side}, which a mask leaves as it is; "
                "send a picture of the size to draw, or inpaint_full_res true"
            )
