"""Input images: the pictures, masks and depth maps that a request names, opened, and brought to the size drawn at."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from sdcli.errors import ImageError, UsageError
from sdcli.request import controls, ip_adapters, regions
from sdcli.request import reference as references
from sdcli.request.composite import composite
from sdcli.request.images import Colour, OpenedImage, Source, extremes, open_image
from sdcli.request.infill import infill
from sdcli.request.inline_image import InlineImage
from sdcli.request.job import Job
from sdcli.request.masks import Box, OpenedMask, mask_from_alpha, masked_region, open_mask, prepare_mask
from sdcli.request.outpaint import outpaint
from sdcli.request.request import Request, parse_colour, parse_margins
from sdcli.request.resize import FIT, Size, fit_image

if TYPE_CHECKING:
    from PIL.Image import Image

MIN_SIDE = 64  # pixels of the smallest picture that is drawn


@dataclass(frozen=True)
class InputImages:
    """The images that a request names, each at its own size; all of them are None for text to image."""

    picture: OpenedImage | None = None  # extended already, if it is outpainted
    mask: Image | None = None  # L, as large as the picture, grown and blurred; white is repainted
    depth: Image | None = None  # L, white is near
    facts: Mapping[str, Any] = field(default_factory=dict)  # SHA-256 of each file, for the metadata
    notes: tuple[str, ...] = ()  # for the user, such as "in.png: first of 12 frames"
    region_masks: tuple[Image | None, ...] = ()  # L; None for a region that has no mask
    hints: tuple[Image | None, ...] = ()  # RGB, shown to each control; None for one that is shown the picture
    ip_adapter_pictures: tuple[OpenedImage, ...] = ()  # one for each IP-Adapter
    reference: OpenedImage | None = None

    @property
    def icc(self) -> bytes | None:
        """The colour profile of the result: that of the picture if parts of it are kept, else None for sRGB."""
        return self.picture.icc if self.picture and self.mask is not None else None

    def fill_in_size(self, request: Request) -> Request:
        """The request with its width and height filled in from its images; unchanged if the model has to choose them.

        Without --width and --height, the size is that of the picture (or else of the depth map) times --scale: rounded
        down to multiples of 8, but up under a mask and where the picture is enlarged, so that nothing is cut off. With
        one of them, the other follows from the proportions. Raises UsageError for a side of less than 64 pixels, unless
        the picture is enlarged.
        """
        natural = self._natural_size(request)
        if natural is None:
            return request
        enlargement = None if request.width or request.height else self._enlargement(request.scale)
        if enlargement is not None:
            return request.replace(width=enlargement.drawn[0], height=enlargement.drawn[1])
        sides = _keep_proportions(natural, request.width, request.height)
        width, height = (_multiple_of_8(side, round_up=self.mask is not None) for side in sides)
        if min(width, height) < MIN_SIDE:
            raise UsageError(
                f"{request.image or request.depth}: would be drawn at {width}x{height} pixels, "
                f"less than {MIN_SIDE} a side; give --width and --height"
            )
        return request.replace(width=width, height=height)

    def _natural_size(self, request: Request) -> tuple[float, float] | None:
        """The width and height to draw if neither is given; None if they do not depend on the images."""
        if self.mask is not None and request.only_masked:
            return None  # only a part of the picture is drawn, at the size that suits the model
        image = self.picture.image if self.picture else self.depth
        if image is None:
            return None
        return image.width * request.scale, image.height * request.scale

    def _enlargement(self, scale: float) -> _Enlargement | None:
        """How large the picture is drawn if it is enlarged; None if it is not, or only parts of it are drawn."""
        if self.picture is None or self.mask is not None or scale <= 1:
            return None
        width, height = (round(side * scale) for side in self.picture.image.size)
        drawn = (max(MIN_SIDE, _multiple_of_8(side, round_up=True)) for side in (width, height))
        return _Enlargement((width, height), (next(drawn), next(drawn)))

    def at_size(self, job: Job) -> SizedImages:
        """The images at the width and height of the job."""
        size = (job.width, job.height)
        depth = None if self.depth is None else fit_image(self.depth, *size, job.fit)
        if self.picture is None:
            return SizedImages(depth=depth, inputs=self)
        enlargement = self._enlargement(job.scale)
        if enlargement is not None and enlargement.is_extended and enlargement.drawn == size:
            image = enlargement.extended(self.picture.image, size)
            return SizedImages(image, depth=depth, inputs=self, enlargement=enlargement)
        if self.mask is None:
            return SizedImages(fit_image(self.picture.image, *size, job.fit), depth=depth, inputs=self)
        if job.mask.only_masked:
            box = masked_region(self.mask, job.mask.padding, *size)
        else:
            box = _box_around(self.picture.image.size, size)
        image, mask = _resize_box(self.picture.image, box, size), _resize_box(self.mask, box, size)
        if mask.getbbox() is None:
            raise ImageError(
                f"the mask selects nothing at {size[0]}x{size[1]} pixels: its white part is too small; "
                "give a larger --width and --height, or use --only-masked"
            )
        sized = SizedImages(image, mask, depth, inputs=self, box=box)
        if job.mask.masked_content == "fill":
            return dataclasses.replace(sized, image=infill(image, mask), shown=image)
        return sized


@dataclass(frozen=True)
class _Enlargement:
    """The size of an enlarged picture, and the size it is drawn at: in multiples of 8, extended at right and bottom."""

    result: Size
    drawn: Size

    @property
    def is_extended(self) -> bool:
        return self.result != self.drawn

    def extended(self, picture: Image, size: Size) -> Image:
        """The picture at a size with the proportions of `drawn`, its edge pixels repeated where it has ended."""
        from PIL.Image import Resampling

        own = [
            round(part * whole / drawn)
            for part, whole, drawn in zip(size, self.result, self.drawn, strict=True)
        ]
        return _crop(picture.resize((own[0], own[1]), Resampling.LANCZOS), (0, 0, *size))


@dataclass(frozen=True)
class SizedImages:
    """The images that a run uses, all at the size it draws, and how its result goes back into the original picture."""

    image: Image | None = None  # RGB, what the run starts from
    mask: Image | None = None  # L, white is repainted
    depth: Image | None = None  # L, white is near
    shown: Image | None = None  # RGB, the picture before --masked-content fill made `image` of it; else None
    inputs: InputImages = field(default_factory=InputImages)  # the images at their own sizes
    box: Box = (0, 0, 0, 0)  # the part of inputs.picture that is drawn, if masked; may extend beyond it
    enlargement: _Enlargement | None = None  # if the picture is enlarged to a size that is no multiple of 8

    def small_picture(self, size: Size, fit: str) -> Image | None:
        """The picture at the size at which an x4 upscaler sees it (RGB); None if there is none."""
        picture = self.inputs.picture
        if picture is None:
            return None
        if self.enlargement is not None:
            return self.enlargement.extended(picture.image, size)
        return fit_image(picture.image, *size, fit)

    def finish(self, drawn: Image) -> tuple[Image, dict[str, Any]]:
        """(the result, facts for the metadata) from what the run drew (RGB, sRGB).

        Under a mask, the result is the original picture with what was drawn pasted in, and the fact `kept` counts the
        pixels that the mask keeps and says whether they are exact. Otherwise it is what was drawn, without the margin
        that an enlarged picture was extended by.
        """
        if self.enlargement is not None:
            drawn = drawn.crop((0, 0, *self.enlargement.result))
        picture, mask = self.inputs.picture, self.inputs.mask
        if picture is None or mask is None:
            return drawn, {}
        from PIL.Image import Resampling

        left, top, right, bottom = self.box
        if drawn.size != (right - left, bottom - top):
            drawn = drawn.resize((right - left, bottom - top), Resampling.LANCZOS)
        whole_picture = (-left, -top, picture.image.width - left, picture.image.height - top)
        result = composite(picture, _crop(drawn, whole_picture), mask)
        return result, {"kept": _kept_pixels(picture.original, result, mask)}

    def hint(self, i: int, size: Size, fit: str) -> Image:
        """What control i is shown (RGB), at the size that is drawn; where the picture is cut or extended, so is it."""
        hint, picture = self.inputs.hints[i], self.inputs.picture
        if hint is None:
            assert picture is not None  # or the request would not have been made
            hint = picture.image
        if picture is None or (self.inputs.mask is None and self.enlargement is None):
            return fit_image(hint, *size, fit, "the picture of --control")
        hint = fit_image(hint, *picture.image.size, fit, "the picture of --control")
        if self.enlargement is not None:
            return self.enlargement.extended(hint, size)
        return _resize_box(hint, self.box, size)

    def placed(self, plane: Image) -> Image:
        """A plane of numbers (mode F), of the size that is drawn, at its place in the result, with 0 around it."""
        if self.enlargement is not None:
            plane = plane.crop((0, 0, *self.enlargement.result))
        picture = self.inputs.picture
        if picture is None or self.inputs.mask is None:
            return plane
        left, top, right, bottom = self.box
        plane = plane.resize((right - left, bottom - top))
        return plane.crop((-left, -top, picture.image.width - left, picture.image.height - top))


def open_inputs(
    request: Request, stdin: BinaryIO | None = None, attached: Mapping[str, InlineImage] | None = None
) -> InputImages:
    """Open the images that a request names; `-` reads `stdin`.

    `attached` are the pictures that its controls, IP-Adapters, reference and regions name, which are then no files.
    Raises ImageError for a bad image, UsageError for a request that cannot be meant.
    """
    if request.latents_in is not None and not os.path.isfile(request.latents_in):
        raise UsageError(f"--latents-in {request.latents_in}: there is no such file; check the path")
    paths: dict[str, Any] = {"depth": request.depth, "image": request.image, "mask": request.mask}
    sources = {role: _source(role, path, stdin) for role, path in paths.items() if path is not None}
    background = parse_colour(request.background)
    opened: dict[str, OpenedImage] = {
        role: open_image(*source, background) for role, source in sources.items() if role != "mask"
    }
    mask_file = open_mask(*sources["mask"]) if "mask" in sources else None
    picture, mask, depth = opened.get("image"), None, None
    if picture is not None:
        picture, mask = _picture_and_mask(request, picture, mask_file)
    if "depth" in opened:
        depth = opened["depth"].image.convert("L")
        if picture is not None:
            _check_size(opened["depth"].name, depth.size, picture, request.fit)
    named = partial(_named, attached)
    region_masks = _region_masks(request, named)
    hints = _hints(request, named, background)
    files: dict[str, OpenedImage | OpenedMask] = {**opened, **({"mask": mask_file} if mask_file else {})}
    files |= {f"region {i}": each for i, each in enumerate(region_masks, 1) if each is not None}
    files |= {f"picture of control {i}": each for i, each in enumerate(hints, 1) if each is not None}
    shown = [open_image(*named(ip_adapters.parse(each).image), background) for each in request.ip_adapter]
    files |= {f"IP-Adapter picture {i}": each for i, each in enumerate(shown, 1)}
    reference = None
    if request.reference is not None:
        files["reference"] = reference = open_image(
            *named(references.parse(request.reference).image), background
        )
    facts = {role: each.sha256 for role, each in files.items()}
    if request.latents_in is not None:
        facts["latents"] = _sha256(request.latents_in)
    notes = [f"{each.name}: {note}" for each in files.values() for note in each.notes]
    if picture is not None and mask is not None:
        notes += _faint_mask((mask_file or picture).name, mask)
    inputs = InputImages(
        picture,
        mask,
        depth,
        facts,
        tuple(notes),
        tuple(None if each is None else each.image for each in region_masks),
        tuple(None if each is None else each.image for each in hints),
        tuple(shown),
        reference,
    )
    return dataclasses.replace(inputs, notes=(*inputs.notes, *_rounded_size(request, inputs)))


Named = Callable[[str], tuple[Source, str]]
"""The name of a picture -> what to read it from, and its name in messages."""


def _named(attached: Mapping[str, InlineImage] | None, name: str) -> tuple[Source, str]:
    if attached is None:
        return name, name
    if name not in attached:
        raise UsageError(f"{name}: no picture of this name was sent along")
    return io.BytesIO(attached[name].png), name


def _region_masks(request: Request, named: Named) -> list[OpenedMask | None]:
    """The mask of each region that has one; raises ImageError."""
    masks = (regions.parse(each).mask for each in request.region)
    return [open_mask(named(mask)[0], f"--region …@{mask}") if mask else None for mask in masks]


def _hints(request: Request, named: Named, background: Colour) -> list[OpenedImage | None]:
    """The picture that each control is shown, if it names one; raises ImageError."""
    images = (controls.parse(each).image for each in request.control)
    return [open_image(*named(image), background) if image else None for image in images]


def _source(role: str, path: str | InlineImage, stdin: BinaryIO | None) -> tuple[Source, str]:
    """What to read an image from, and its name in messages."""
    if isinstance(path, InlineImage):
        return io.BytesIO(path.png), f"the {role}" if path.name == "-" else path.name
    if path != "-":
        return path, path
    if stdin is None:
        raise UsageError(f"the {role} is standard input, which cannot be read here; name a file")
    return stdin, "standard input"


def _check_size(name: str, size: Size, picture: OpenedImage, fit: str | None) -> None:
    """Raise ImageError for a mask or depth map of another size than the picture, unless it is to be fitted."""
    if fit is None and size != picture.image.size:
        raise ImageError(
            "{}: is {}x{}, but {} is {}x{}; give them one size, or choose --fit crop, pad or stretch".format(
                name, *size, picture.name, *picture.image.size
            )
        )


def _rounded_size(request: Request, inputs: InputImages) -> list[str]:
    """A note if a picture is drawn at another size than its own because that is no multiple of 8."""
    sized, image = inputs.fill_in_size(request), inputs.picture.image if inputs.picture else inputs.depth
    if image is None or inputs.mask is not None or request.width or request.height or request.scale > 1:
        return []
    if image.size == (sized.width, sized.height):
        return []
    what = request.image if inputs.picture else request.depth
    return [
        f"{what}: is {image.width}x{image.height}, and drawn at {sized.width}x{sized.height}, in multiples of 8; "
        "--fit says how, --width and --height choose another size"
    ]


def _faint_mask(name: str, mask: Image) -> list[str]:
    """A note if the mask repaints nothing by half or more, which is seldom meant."""
    lightest = extremes(mask)[1]
    if lightest >= 128:
        return []
    return [
        f"{name}: the mask repaints by {lightest / 2.55:.1f} % at most: it is dark grey, or smaller than "
        "--mask-blur; make it white, or blur it less"
    ]


def _sha256(path: str) -> str:
    """The SHA-256 of the latents file; raises ImageError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such latents file; check --latents-in") from None
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ImageError(f"{path}: cannot be read: {reason}; check --latents-in") from None


def _picture_and_mask(
    request: Request, picture: OpenedImage, mask_file: OpenedMask | None
) -> tuple[OpenedImage, Image | None]:
    """The picture, extended if it is outpainted, and its mask, grown and blurred, if the request has one."""
    grow, name, invert = request.mask_grow, picture.name, request.invert_mask
    if request.margins is not None:
        picture, mask = outpaint(picture, *parse_margins(request.margins))
        grow += round(3 * request.mask_blur)  # puts the blurred seam inside the picture
        invert = False
    elif request.alpha_mask:
        mask = mask_from_alpha(picture)
        if not invert and mask.getbbox() is None:
            raise ImageError(
                f"{picture.name}: the mask selects nothing: none of the picture is transparent; use --mask"
            )
    elif mask_file is not None:
        mask, name = mask_file.image, mask_file.name
        _check_size(name, mask.size, picture, request.fit)
    else:
        return picture, None
    width, height = picture.image.size
    fit, blur = request.fit or FIT, request.mask_blur
    mask = prepare_mask(mask, width, height, fit, invert=invert, blur=blur, grow=grow, name=name)
    return picture, mask


def _keep_proportions(
    natural: tuple[float, float], width: int | None, height: int | None
) -> tuple[float, float]:
    """The width and height where they are given; a missing one follows from the proportions of the natural size."""
    natural_width, natural_height = natural
    if width and height:
        return width, height
    if width:
        return width, natural_height * (width / natural_width)
    if height:
        return natural_width * (height / natural_height), height
    return natural


def _multiple_of_8(side: float, round_up: bool) -> int:
    """A side in pixels, rounded to a multiple of 8: down, or up if pixels are kept, so that none of them is cut off."""
    blocks = round(side, 3) / 8  # rounded first, because 479.99999 pixels are 60 blocks, not 59
    return max(8, 8 * (math.ceil(blocks) if round_up else math.floor(blocks)))


def _box_around(picture: Size, size: Size) -> Box:
    """The smallest box with the proportions of `size` that holds the whole picture.

    If `size` is that of the picture rounded up to multiples of 8, nothing is scaled: the box extends beyond the right
    and bottom edges by the pixels that are missing. Otherwise the picture is in the middle of the box.
    """
    width, height = picture
    if 0 <= size[0] - width < 8 and 0 <= size[1] - height < 8:
        return (0, 0, *size)
    scale = max(width / size[0], height / size[1])
    box_width, box_height = round(size[0] * scale), round(size[1] * scale)
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def _resize_box(image: Image, box: Box, size: Size) -> Image:
    """The part of the image in the box, at another size."""
    from PIL.Image import Resampling

    return _crop(image, box).resize(size, Resampling.LANCZOS)


def _crop(image: Image, box: Box) -> Image:
    """The part of the image in the box; beyond the edges of the image, the edge pixels are repeated."""
    left, top, right, bottom = box
    if left >= 0 and top >= 0 and right <= image.width and bottom <= image.height:
        return image.crop(box)

    import numpy as np
    from PIL import Image

    rows = np.arange(top, bottom).clip(0, image.height - 1)
    columns = np.arange(left, right).clip(0, image.width - 1)
    return Image.fromarray(np.asarray(image)[rows[:, None], columns])


def _kept_pixels(before: Image, after: Image, mask: Image) -> dict[str, Any]:
    """How many pixels the mask keeps (black), and whether every one of them is the same bit for bit."""
    import numpy as np

    kept = np.asarray(mask) == 0
    same = np.asarray(before.convert(after.mode))[kept] == np.asarray(after)[kept]
    return {"pixels": int(kept.sum()), "exact": bool(same.all()) and before.mode == after.mode}
