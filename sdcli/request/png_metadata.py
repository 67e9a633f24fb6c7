"""PNG metadata: what a PNG says of how it was made, from its header and text chunks alone."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from sdcli import registry
from sdcli.errors import ImageError, SdError
from sdcli.request.request import Request


@dataclass(frozen=True)
class PngMetadata:
    """The size of a PNG in pixels, and its texts by their keywords, whichever tool wrote them."""

    width: int
    height: int
    texts: Mapping[str, str]

    def request(self, path: str) -> Request:
        """The request that makes the picture again; raises ImageError if there is none in it."""
        try:
            facts = self.facts(path)
            request = Request.from_dict(facts["request"])
            return request if "format" in facts else _of_format_1(request, facts)
        except (KeyError, TypeError):
            raise ImageError(f"{path}: its `sd` text holds no request; the file was altered") from None
        except SdError as error:
            raise ImageError(f"{path}: its request cannot be used: {error}") from None

    def facts(self, path: str) -> dict[str, Any]:
        """Everything in the text that sd writes: the request and the facts of the run; raises ImageError."""
        if "sd" not in self.texts:
            raise ImageError(f"{path}: no `sd` metadata in it; was it made by sd, and never re-saved?")
        try:
            facts = json.loads(self.texts["sd"])
        except (ValueError, RecursionError):
            facts = None
        if not isinstance(facts, dict):
            raise ImageError(f"{path}: its `sd` text is not JSON; the file was altered")
        return facts


def _of_format_1(request: Request, facts: Mapping[str, Any]) -> Request:
    """The same picture's request today: version 0.1 counted clip skips from the layer that the family uses.

    SD 2 and SDXL use the penultimate layer, so that its 2 is our 3. Its dpmpp_2m_cfg_pp had another second-order term.
    """
    if request.sampler == "dpmpp_2m_cfg_pp":
        request = request.replace(sampler="dpmpp_2m_cfg_pp:from_uncond=true")
    model = facts.get("model")
    family = model.get("family") if isinstance(model, dict) else None
    if not request.clip_skip or request.clip_skip == 1 or family not in registry.names("families"):
        return request
    return request.replace(clip_skip=request.clip_skip + registry.find("families", family).clip_skip - 1)


def read_png_metadata(source: str | os.PathLike[str] | BinaryIO, name: str = "") -> PngMetadata:
    """Read what a PNG says of itself; the pixels are not decoded. `name` stands for the source in messages.

    Raises ImageError if the source is missing, unreadable, no PNG, or claims an unsafe size.
    """
    from PIL import Image

    path = name or str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(source, formats=["PNG"])
        with image:
            texts: dict[Any, Any] = dict(image.info)
            if "sd" not in texts:  # other tools also write texts after the pixels: read the whole file
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
