"""InputImages: the pictures that a request names, opened once, and laid out at the size that is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from sdcli.errors import UsageError
from sdcli.request.composite import composite
from sdcli.request.images import OpenedImage, open_picture
from sdcli.request.infill import infill
from sdcli.request.masks import Box, prepare_mask, read_mask, region
from sdcli.request.outpaint import outpaint
from sdcli.request.request import Request, parse_colour, parse_margins
from sdcli.request.resize import fit

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class InputImages:
    """What was given to draw from; empty for a picture from words alone.

    `mask` is as large as the picture, ready for use: 255 repaints. `facts` go into the metadata, `notes` to the user.
    """

    picture: OpenedImage | None = None
    mask: Image | None = None
    depth: Image | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def icc(self) -> bytes | None:
        """The colour profile of the result: that of the picture, if parts of it are kept."""
        return self.picture.icc if self.picture and self.mask is not None else None

    def fill_in_size(self, request: Request) -> Request:
        """The request with the size that the picture brings, where it leaves one open and is to be drawn whole."""
        picture = self.picture.image if self.picture else self.depth
        if picture is None or (request.only_masked and self.mask is not None):
            return request
        width, height = (side * request.scale for side in picture.size)
        if request.width or request.height:
            ratio = request.width / width if request.width else (request.height or 0) / height
            width, height = request.width or width * ratio, request.height or height * ratio
        whole = math.ceil if self.mask is not None else math.floor  # a kept pixel is never cropped
        width, height = (max(8, whole(round(side, 3) / 8) * 8) for side in (width, height))
        if min(width, height) < 64:
            raise UsageError(
                f"{request.image or request.depth}: would be drawn at {width}x{height} pixels, less than 64 a side; "
                "give --width and --height"
            )
        return request.replace(width=width, height=height)

    def at_size(self, request: Request) -> SizedImages:
        """The pictures at the size of a completed request."""
        size = (request.width or 0, request.height or 0)
        depth = None if self.depth is None else fit(self.depth, *size, request.fit)
        if self.picture is None:
            return SizedImages(depth=depth)
        image = self.picture.image
        if self.mask is None:
            return SizedImages(fit(image, *size, request.fit), depth=depth, given=self)
        near = request.only_masked and self.mask.getbbox()
        box = region(self.mask, request.padding, *size) if near else _around(image.size, size)
        image, mask = (_cut(each, box).resize(size, resample=1) for each in (image, self.mask))
        start = infill(image, mask) if request.masked_content == "fill" else image
        return SizedImages(start, mask, depth, image, self, box)


@dataclass(frozen=True)
class SizedImages:
    """The pictures as they are drawn from, all of one size, and the way of what was drawn back into the whole."""

    image: Image | None = None  # RGB, what a run starts from
    mask: Image | None = None  # L, 255 is repainted
    depth: Image | None = None  # L or F, near is high
    shown: Image | None = None  # RGB, the picture as it was, where that is not what a run starts from
    given: InputImages = field(default_factory=InputImages)
    box: Box = (0, 0, 0, 0)  # what of the picture is drawn; may reach beyond it

    def finish(self, drawn: Image) -> tuple[Image, dict[str, Any]]:
        """(the result, what can be said of it): under a mask the given picture, with what was drawn in its place."""
        if self.given.picture is None or self.given.mask is None:
            return drawn, {}
        left, top, right, bottom = self.box
        if drawn.size != (right - left, bottom - top):
            drawn = drawn.resize((right - left, bottom - top), resample=1)
        picture, mask = self.given.picture, self.given.mask
        whole = _cut(drawn, (-left, -top, picture.image.width - left, picture.image.height - top))
        result = composite(picture, whole, mask)
        return result, {"kept": _kept(picture.original, result, mask)}


def open_inputs(request: Request, stdin: BinaryIO | None = None) -> InputImages:
    """Open what a request names. Raises ImageError for a picture that is bad, UsageError for what makes no sense."""
    notes: list[str] = []
    facts: dict[str, Any] = {}
    depth = mask = None
    if request.depth is not None:
        depth = _opened(request.depth, request, stdin, "depth", facts, notes).image.convert("L")
    if request.image is None:
        return InputImages(None, None, depth, facts, tuple(notes))
    picture = _opened(request.image, request, stdin, "image", facts, notes)
    if request.margins is not None:
        picture, mask = outpaint(picture, *parse_margins(request.margins))
    elif request.alpha_mask:
        mask = read_mask(picture, invert=request.invert_mask, from_alpha=True)
    elif request.mask is not None:
        opened = _opened(request.mask, request, stdin, "mask", facts, notes)
        mask = read_mask(opened, invert=request.invert_mask)
    if mask is not None:
        size, blur, grow = picture.image.size, request.mask_blur, request.mask_grow
        grow += round(3 * blur) if request.margins else 0  # the seam lies inside the picture, not at its edge
        mask = prepare_mask(mask, *size, request.fit, blur=blur, grow=grow)
    return InputImages(picture, mask, depth, facts, tuple(notes))


def _opened(
    path: str, request: Request, stdin: BinaryIO | None, what: str, facts: dict[str, Any], notes: list[str]
) -> OpenedImage:
    source: Any = path
    if path == "-":
        if stdin is None:
            raise UsageError(f"the {what} is standard input, which cannot be read here; name a file")
        source, path = stdin, "standard input"
    opened = open_picture(source, path, parse_colour(request.background))
    facts[what] = opened.sha256
    notes.extend(f"{path}: {note}" for note in opened.notes)
    return opened


def _kept(before: Image, after: Image, mask: Image) -> dict[str, Any]:
    """How many pixels lie outside the mask, and whether all of them are bit for bit as they were."""
    import numpy as np

    outside = np.asarray(mask) == 0
    same = (np.asarray(before.convert(after.mode))[outside] == np.asarray(after)[outside]).all()
    return {"pixels": int(outside.sum()), "exact": bool(same) and before.mode == after.mode}


def _around(picture: tuple[int, int], size: tuple[int, int]) -> Box:
    """The smallest box of the shape of `size` that holds the whole picture; only rounding makes it larger at the
    right and the bottom, another shape on all sides."""
    width, height = picture
    if 0 <= size[0] - width < 8 and 0 <= size[1] - height < 8:
        return (0, 0, *size)
    scale = max(width / size[0], height / size[1])
    wide, high = round(size[0] * scale), round(size[1] * scale)
    left, top = (width - wide) // 2, (height - high) // 2
    return (left, top, left + wide, top + high)


def _cut(image: Image, box: Box) -> Image:
    """The part of an image in a box; beyond the image its edge goes on."""
    from PIL import Image as Images

    left, top, right, bottom = box
    if left >= 0 and top >= 0 and right <= image.width and bottom <= image.height:
        return image.crop(box)
    import numpy as np

    pixels = np.asarray(image)
    rows = np.clip(np.arange(top, bottom), 0, image.height - 1)
    columns = np.clip(np.arange(left, right), 0, image.width - 1)
    return Images.fromarray(np.ascontiguousarray(pixels[rows][:, columns]))
