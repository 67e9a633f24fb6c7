"""Picture: an image and the Request that makes it again; to and from PNG."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import sdcli
from sdcli.errors import ImageError, SdError
from sdcli.request import aliases
from sdcli.request.request import Request

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_METADATA = 64 * 1024  # bytes; what every reader of PNG text accepts


@dataclass(frozen=True)
class Picture:
    """An image (8-bit RGB, unless it keeps parts of one of another kind), the request that makes it again, the facts
    of the run that made it, and the colour profile it is in, if it is not sRGB."""

    image: Image
    request: Request
    facts: Mapping[str, Any] = field(default_factory=dict)
    icc: bytes | None = None

    def png(self, metadata: bool = True) -> bytes:
        """The picture as a PNG file: the same picture gives the same bytes."""
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        if metadata:
            info.add_text("parameters", parameters(self.request, self.facts))
            made = {"request": self.request.as_dict(), **self.facts}
            info.add_text("sd", json.dumps(made, sort_keys=True, ensure_ascii=True, separators=(",", ":")))
        file = io.BytesIO()
        self.image.save(file, "PNG", pnginfo=info, compress_level=6, icc_profile=self.icc)
        return file.getvalue()


@dataclass(frozen=True)
class PngMetadata:
    """What a PNG says of itself: its size, and the texts of whoever made it."""

    width: int
    height: int
    texts: Mapping[str, str]

    def request(self, path: str) -> Request:
        """The request that makes the picture again; raises ImageError if the picture does not hold one."""
        try:
            return Request.from_dict(self.facts(path)["request"])
        except (KeyError, TypeError):
            raise ImageError(f"{path}: its `sd` text holds no request; the file was altered") from None
        except SdError as error:
            raise ImageError(f"{path}: its request cannot be used: {error}") from None

    def facts(self, path: str) -> dict[str, Any]:
        """Everything our own text chunk holds: the request and the facts of the run."""
        if "sd" not in self.texts:
            raise ImageError(f"{path}: no `sd` metadata in it; was it made by sd, and never re-saved?")
        try:
            facts = json.loads(self.texts["sd"])
        except (ValueError, RecursionError):
            facts = None
        if not isinstance(facts, dict):
            raise ImageError(f"{path}: its `sd` text is not JSON; the file was altered")
        return facts


def read(source: str | os.PathLike[str] | BinaryIO, name: str = "") -> PngMetadata:
    """What a PNG tells of itself, from its header and text chunks; the pixels are not decoded."""
    from PIL import Image

    path = name or str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(source, formats=["PNG"])
        with image:
            texts: dict[Any, Any] = dict(image.info)
            if (
                "sd" not in texts
            ):  # other tools write text after the pixels too: a walk through the whole file
                texts |= getattr(image, "text", {})
            return PngMetadata(*image.size, {k: v for k, v in texts.items() if isinstance(v, str)})
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder, not a picture") from None
    except PermissionError:
        raise ImageError(f"{path}: may not be read; check its permissions") from None
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError, NotImplementedError, MemoryError):
        raise ImageError(f"{path}: not a PNG that can be read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{path}: its header claims more pixels than are safe to open") from None


def parameters(request: Request, facts: Mapping[str, Any]) -> str:
    """The text that A1111 writes, so that the tools people use can read it."""
    sampler, schedule = (_label(each) for each in (request.sampler, request.schedule))
    model = facts.get("model", {})
    pairs = {
        "Steps": request.steps,
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": f"{request.cfg:g}" if request.cfg is not None else None,
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": model.get("sha256", "")[:10] or None,
        "Model": os.path.splitext(os.path.basename(os.path.normpath(request.model)))[0],
        "Denoising strength": request.hires_strength if request.hires > 1 else request.strength,
        "Mask blur": f"{request.mask_blur:g}" if request.mask or request.alpha_mask else None,
        "Hires upscale": f"{request.hires:g}" if request.hires > 1 else None,
        "Tiling": True if request.tile == "both" else None,
        "Variation seed": request.variation_seed,
        "Variation seed strength": request.variation_strength or None,
        "Seed resize from": request.seed_size,
        "Clip skip": request.clip_skip,
        "RNG": {"torch": "CPU", "philox": "NV"}.get(request.rng),
        "Version": f"sdcli {sdcli.__version__}",
    }
    lines = [request.prompt]
    if request.negative:
        lines.append(f"Negative prompt: {request.negative}")
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items() if value is not None))
    return "\n".join(lines)


def _label(spec: str | None) -> str | None:
    return aliases.A1111.get(spec, spec) if spec else None


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ',:\n"') else text
