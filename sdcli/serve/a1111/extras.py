"""Extras: a picture enlarged without diffusion, as A1111's /extra-single-image, by a filter or an upscaler file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request

from sdcli.errors import UsageError
from sdcli.request.images import OpenedImage, open_image
from sdcli.request.other_tools.a1111 import UPSCALERS
from sdcli.request.png import encode_png
from sdcli.request.request import HIRES_BY
from sdcli.serve.a1111.sent import Sent
from sdcli.serve.budget import Budget
from sdcli.serve.names import path_of
from sdcli.serve.pictures import picture_of
from sdcli.serve.queue import QueueFull
from sdcli.serve.service import Service

if TYPE_CHECKING:
    from PIL.Image import Image

FILTERS = ("Lanczos", "Nearest")
SECONDS = 10  # after which who was told to wait may ask again


@dataclass
class Enlarger:
    """Enlarges one picture at a time, beside the worker that draws, on the first device of the server."""

    service: Service
    _waiting: int = 0
    _limiter: CapacityLimiter | None = None

    async def answer(self, http: Request, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a body; raises QueueFull, ClientDisconnect if who asked has left, and as `enlarged`."""
        if self._waiting > self.service.queue.places:
            raise QueueFull(SECONDS)
        self._limiter = self._limiter or CapacityLimiter(1)
        self._waiting += 1
        try:
            async with self._limiter:
                if await http.is_disconnected():
                    raise ClientDisconnect
                rules = self.service.rules
                return await to_thread.run_sync(lambda: enlarged(body, rules.budget, rules.devices[0]))
        finally:
            self._waiting -= 1


def enlarged(body: dict[str, Any], budget: Budget, device: str) -> dict[str, Any]:
    """The answer: the picture as base64 PNG. Raises UsageError, by name, for what is not done here, and ImageError."""
    sent = Sent(body)
    image = picture_of("image", sent.take("image") or "", budget)
    name, scale = sent.text("upscaler_1") or "None", sent.number("upscaling_resize")
    scale = 2.0 if scale is None else scale
    sent.only("resize_mode", (0,), "send 0, and upscaling_resize")
    for face in ("gfpgan_visibility", "codeformer_visibility"):
        sent.only(face, (0,))
    if sent.number("extras_upscaler_2_visibility"):
        sent.only("upscaler_2", ("None", ""), "send extras_upscaler_2_visibility 0")
    if not 0 < scale <= 16:
        raise UsageError(f"upscaling_resize: {scale:g} is outside 0...16")
    opened = open_image(io.BytesIO(image.png), "image")
    size = (max(1, int(opened.original.width * scale)), max(1, int(opened.original.height * scale)))
    budget.check_input("upscaling_resize", *size)
    result = opened.original if name == "None" else _enlarged(opened, name, size, budget, device)
    data = base64.b64encode(encode_png(result, icc_profile=opened.icc)).decode("ascii")
    return {"html_info": "", "image": data}


def _enlarged(opened: OpenedImage, name: str, size: tuple[int, int], budget: Budget, device: str) -> Image:
    from PIL.Image import Resampling

    if name in FILTERS:
        return opened.original.resize(size, Resampling.LANCZOS if name == "Lanczos" else Resampling.NEAREST)
    if name in HIRES_BY:
        raise UsageError(f"upscaler_1: {name} is no upscaler; GET /sdapi/v1/upscalers lists them")
    path = Path(path_of("hires_by", UPSCALERS.get(name, name)))
    image = _by_network(opened, path, budget, device)
    return image if image.size == size else image.resize(size, Resampling.LANCZOS)


def _by_network(opened: OpenedImage, path: Path, budget: Budget, device: str) -> Image:
    from sdcli.checkpoints import upscaler_file
    from sdcli.models import upscaler
    from sdcli.models.device import choose_device
    from sdcli.models.memory import memory_errors
    from sdcli.pipeline.enlarge import enlarge_image

    file = upscaler_file.read_header(path)
    budget.check_input("image", *(side * file.scale for side in opened.original.size))
    placement = choose_device(device, "auto", file.parameters, None)
    network = upscaler.load(file, placement)
    colours = opened.original
    if colours.mode in ("LA", "RGBA"):
        colours = colours.convert(colours.mode[:-1])
    with memory_errors("enlarging the picture", "send a smaller one"):
        return enlarge_image(colours, opened.alpha, network, placement)
