"""Picture: an image and the request that makes it again, written as PNG, JPEG or WebP."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sdcli
from sdcli.errors import UsageError
from sdcli.request import a1111_text
from sdcli.request.encode import JPEG_QUALITY, SUFFIXES, Encoding, encode
from sdcli.request.request import Request, parse_colour

if TYPE_CHECKING:
    from PIL.Image import Image

FORMAT = 2
"""Version of the `sd` text. In 1, which has no number, clip skips counted from the layer that the family uses."""


@dataclass(frozen=True)
class Picture:
    """An image, the request that makes it again, the facts of the run that made it, and its colour profile.

    The image is 8-bit RGB, unless parts of a picture of another mode are kept in it. No profile means sRGB.
    """

    image: Image
    request: Request
    facts: Mapping[str, Any] = field(default_factory=dict)
    icc: bytes | None = None

    def png(self, metadata: bool = True) -> bytes:
        """The picture as a PNG file, with its metadata or without; the same picture gives the same bytes."""
        return self.encoded(Encoding(), metadata)

    def encoded(self, encoding: Encoding, metadata: bool = True) -> bytes:
        """The picture as a file of another format; raises UsageError for one that cannot hold it."""
        encoding.check_size(*self.image.size)
        return encode(self.image, self.texts(encoding) if metadata else {}, self.icc, encoding)

    def texts(self, encoding: Encoding) -> dict[str, str]:
        """The metadata by its keywords in a PNG."""
        record = {"format": FORMAT, "request": self.request.as_record(), **self.facts_in(encoding)}
        return {
            "parameters": parameters(self.request, self.facts),
            "sd": json.dumps(record, sort_keys=True, ensure_ascii=True, separators=(",", ":")),
        }

    def facts_in(self, encoding: Encoding) -> Mapping[str, Any]:
        """The facts as they hold for a file: in a lossy one, its quality, and no pixel under a mask is kept exactly."""
        if encoding.is_lossless:
            return self.facts
        kept = {"kept": {**self.facts["kept"], "exact": False}} if "kept" in self.facts else {}
        return {**self.facts, **kept, "quality": encoding.quality or JPEG_QUALITY}


def encoding_of(suffix: str, quality: int | None, request: Request) -> Encoding:
    """How a picture of this request is encoded in a file of this suffix; raises UsageError."""
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"--quality: {quality} is outside 1...100")
    return Encoding(SUFFIXES[suffix.lower()], quality, parse_colour(request.background))


def parameters(request: Request, facts: Mapping[str, Any]) -> str:
    """The text that A1111 writes into its pictures, so that the tools people use can read ours."""
    pairs = {key: value for key, value in _parameter_pairs(request, facts).items() if value is not None}
    lines = [_prompt(request.prompt) + a1111_text.network_words(request.lora, request.hypernet)]
    if request.negative:
        lines.append(f"Negative prompt: {_prompt(request.negative)}")
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items()))
    return "\n".join(lines)


def _parameter_pairs(request: Request, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A1111's keys and their values; None for what the request does not use."""
    if "upscaler" in facts:
        return {
            "Postprocess upscale by": f"{request.scale:g}",
            "Postprocess upscaler": facts["upscaler"]["name"],
            "Version": f"sdcli {sdcli.__version__}",
        }
    masked = request.mask is not None or request.alpha_mask
    hires = request.hires > 1
    sampler, sampler_options = a1111_text.sampler(request.sampler)
    schedule, schedule_options = a1111_text.schedule(None if request.sigmas else request.schedule)
    return {
        "Steps": request.steps,
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": f"{request.cfg:g}" if request.cfg is not None else None,
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": facts.get("model", {}).get("sha256", "")[:10] or None,
        "Model": os.path.splitext(os.path.basename(os.path.normpath(request.model)))[0],
        "VAE": os.path.basename(os.path.normpath(request.vae)) if request.vae else None,
        "Denoising strength": request.hires_strength if hires else request.strength,
        "Mask blur": f"{request.mask_blur:g}" if masked else None,
        "Hires upscale": f"{request.hires:g}" if hires else None,
        "Hires upscaler": a1111_text.hires_upscaler(request.hires_by) if hires else None,
        "Tiling": True if request.tile == "both" else None,
        "Variation seed": request.variation_seed,
        "Variation seed strength": request.variation_strength or None,
        "Seed resize from": request.seed_size,
        **sampler_options,
        **schedule_options,
        "Sigmas": request.sigmas,
        "Lora hashes": a1111_text.lora_hashes(facts.get("loras", {})) or None,
        "TI hashes": a1111_text.embedding_hashes(facts.get("embeddings", {})) or None,
        **a1111_text.control_pairs(request.control, request.fit, facts.get("controls", {})),
        "Clip skip": request.clip_skip if (request.clip_skip or 1) > 1 else None,
        "Emphasis": {"no_norm": "No norm", "none": "None"}.get(request.emphasis or ""),
        "ENSD": request.ensd or None,
        "RNG": {"torch": "CPU", "philox": "NV"}.get(request.rng),
        "Version": f"sdcli {sdcli.__version__}",
    }


def _prompt(text: str) -> str:
    """The text without the words by which readers of A1111's text find the negative prompt."""
    return text.replace("Negative prompt:", "Negative prompt :")


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ',:\n"') else text
