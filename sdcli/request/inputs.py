"""Inputs: the pictures that a request names, opened once, and brought to the size that is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from sdcli.errors import UsageError
from sdcli.request.composite import composite
from sdcli.request.images import OpenedImage, open_picture
from sdcli.request.infill import infill
from sdcli.request.job import Job
from sdcli.request.masks import Box, prepare_mask, read_mask, region
from sdcli.request.outpaint import outpaint
from sdcli.request.request import Request, parse_colour, parse_margins
from sdcli.request.resize import fit

if TYPE_CHECKING:
    from PIL.Image import Image

MIN_SIDE = 64  # pixels of a picture that is drawn


@dataclass(frozen=True)
class InputImages:
    """The pictures to draw from; empty for a picture from a prompt alone."""

    picture: OpenedImage | None = None
    mask: Image | None = None  # L, of the picture's size, grown and blurred; 255 is repainted
    depth: Image | None = None  # L or F, near is high
    facts: Mapping[str, Any] = field(default_factory=dict)  # for the metadata: the sha256 of each file
    notes: tuple[str, ...] = ()  # for the user, such as "first of 12 frames"

    @property
    def icc(self) -> bytes | None:
        """The colour profile of the result: that of the picture, if parts of it are kept."""
        return self.picture.icc if self.picture and self.mask is not None else None

    def fill_in_size(self, request: Request) -> Request:
        """The request with the picture's own size where it leaves the size open and the whole picture is drawn.

        Raises UsageError if that size is too small to draw.
        """
        if self.picture is None and self.depth is None:
            return request
        if request.only_masked and self.mask is not None:
            return request  # only a part is drawn, at the model's size
        width, height = (self._whole_blocks(side) for side in self._natural_size(request))
        if min(width, height) < MIN_SIDE:
            raise UsageError(
                f"{request.image or request.depth}: would be drawn at {width}x{height} pixels, less than {MIN_SIDE} "
                "a side; give --width and --height"
            )
        return request.replace(width=width, height=height)

    def _natural_size(self, request: Request) -> tuple[float, float]:
        """The size of the picture times `--scale`; a side that is given sets the other one in proportion."""
        image = self.picture.image if self.picture else self.depth
        assert image is not None
        width, height = (side * request.scale for side in image.size)
        if request.width is None and request.height is None:
            return width, height
        ratio = request.width / width if request.width else (request.height or 0) / height
        return request.width or width * ratio, request.height or height * ratio

    def _whole_blocks(self, side: float) -> int:
        """The side in whole latents of 8 pixels: rounded down, but up under a mask: kept pixels are not cropped."""
        blocks = round(side, 3) / 8
        return max(8, 8 * (math.ceil(blocks) if self.mask is not None else math.floor(blocks)))

    def at_size(self, job: Job) -> SizedImages:
        """The pictures at the size of the job."""
        size = (job.width, job.height)
        depth = None if self.depth is None else fit(self.depth, *size, job.fit)
        if self.picture is None:
            return SizedImages(depth=depth)
        if self.mask is None:
            return SizedImages(fit(self.picture.image, *size, job.fit), depth=depth, inputs=self)
        box = self._drawn_box(job)
        image = _cut(self.picture.image, box).resize(size, resample=1)
        mask = _cut(self.mask, box).resize(size, resample=1)
        start = infill(image, mask) if job.mask.masked_content == "fill" else image
        return SizedImages(start, mask, depth, shown=image, inputs=self, box=box)

    def _drawn_box(self, job: Job) -> Box:
        """The part of the picture that is drawn under a mask: its surroundings with --only-masked, else all of it."""
        assert self.picture is not None
        assert self.mask is not None
        if job.mask.only_masked and self.mask.getbbox():
            return region(self.mask, job.mask.padding, job.width, job.height)
        return _smallest_box_around(self.picture.image.size, (job.width, job.height))


@dataclass(frozen=True)
class SizedImages:
    """The pictures at the size that is drawn, and the way back into the whole picture."""

    image: Image | None = None  # RGB, what a run starts from
    mask: Image | None = None  # L, 255 is repainted
    depth: Image | None = None  # L or F, near is high
    shown: Image | None = None  # RGB, under a mask: the picture as it was, before the masked part was filled
    inputs: InputImages = field(default_factory=InputImages)
    box: Box = (0, 0, 0, 0)  # the part of the picture that is drawn; may reach beyond its edges

    def finish(self, drawn: Image) -> tuple[Image, dict[str, Any]]:
        """(the result, facts about it): under a mask, the given picture with what was drawn put into it."""
        picture, mask = self.inputs.picture, self.inputs.mask
        if picture is None or mask is None:
            return drawn, {}
        left, top, right, bottom = self.box
        if drawn.size != (right - left, bottom - top):
            drawn = drawn.resize((right - left, bottom - top), resample=1)
        drawn = _cut(drawn, (-left, -top, picture.image.width - left, picture.image.height - top))
        result = composite(picture, drawn, mask)
        return result, {"kept": _kept_pixels(picture.original, result, mask)}


def open_inputs(request: Request, stdin: BinaryIO | None = None) -> InputImages:
    """Open the pictures that a request names; `-` is read from `stdin`.

    Raises ImageError for a picture that is bad, UsageError for one that cannot be meant.
    """
    opener = _Opener(request, stdin)
    depth = opener.open(request.depth, "depth").image.convert("L") if request.depth is not None else None
    if request.image is None:
        return InputImages(depth=depth, facts=opener.facts, notes=tuple(opener.notes))
    picture = opener.open(request.image, "image")
    if request.margins is not None:
        picture, mask = outpaint(picture, *parse_margins(request.margins))
    elif request.alpha_mask:
        mask = read_mask(picture, invert=request.invert_mask, from_alpha=True)
    elif request.mask is not None:
        mask = read_mask(opener.open(request.mask, "mask"), invert=request.invert_mask)
    else:
        return InputImages(picture, None, depth, opener.facts, tuple(opener.notes))
    mask = _prepared(mask, picture, request)
    return InputImages(picture, mask, depth, opener.facts, tuple(opener.notes))


class _Opener:
    """Opens pictures, and collects the facts and notes about them."""

    def __init__(self, request: Request, stdin: BinaryIO | None) -> None:
        self.background = parse_colour(request.background)
        self.stdin = stdin
        self.facts: dict[str, Any] = {}
        self.notes: list[str] = []

    def open(self, path: str, what: str) -> OpenedImage:
        """Open one picture; `what` it is (image, mask, depth) is its key in the facts."""
        if path != "-":
            opened = open_picture(path, path, self.background)
        elif self.stdin is None:
            raise UsageError(f"the {what} is standard input, which cannot be read here; name a file")
        else:
            opened = open_picture(self.stdin, "standard input", self.background)
        self.facts[what] = opened.sha256
        self.notes.extend(f"{opened.name}: {note}" for note in opened.notes)
        return opened


def _prepared(mask: Image, picture: OpenedImage, request: Request) -> Image:
    """The mask at the picture's size, grown and blurred as asked."""
    grow, blur = request.mask_grow, request.mask_blur
    if request.margins is not None:
        grow += round(3 * blur)  # the seam lies inside the picture, not at its edge
    return prepare_mask(mask, *picture.image.size, request.fit, blur=blur, grow=grow)


def _kept_pixels(before: Image, after: Image, mask: Image) -> dict[str, Any]:
    """How many pixels lie outside the mask, and whether all of them are bit for bit as they were."""
    import numpy as np

    outside = np.asarray(mask) == 0
    same = (np.asarray(before.convert(after.mode))[outside] == np.asarray(after)[outside]).all()
    return {"pixels": int(outside.sum()), "exact": bool(same) and before.mode == after.mode}


def _smallest_box_around(picture: tuple[int, int], size: tuple[int, int]) -> Box:
    """The smallest box with the proportions of `size` that holds the whole picture.

    A picture that is less than 8 pixels smaller on each side, which is only rounding, keeps its scale: the box reaches
    beyond it at the right and the bottom. Else it reaches beyond it on both sides alike.
    """
    width, height = picture
    if 0 <= size[0] - width < 8 and 0 <= size[1] - height < 8:
        return (0, 0, *size)
    scale = max(width / size[0], height / size[1])
    box_width, box_height = round(size[0] * scale), round(size[1] * scale)
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return (left, top, left + box_width, top + box_height)


def _cut(image: Image, box: Box) -> Image:
    """The part of an image in a box; beyond the image, its edge pixels are repeated."""
    from PIL import Image as Images

    left, top, right, bottom = box
    if left >= 0 and top >= 0 and right <= image.width and bottom <= image.height:
        return image.crop(box)
    import numpy as np

    rows = np.clip(np.arange(top, bottom), 0, image.height - 1)
    columns = np.clip(np.arange(left, right), 0, image.width - 1)
    return Images.fromarray(np.ascontiguousarray(np.asarray(image)[rows][:, columns]))
