"""Filmstrip: the estimates of a run's steps side by side in one picture, for `--filmstrip`."""

from __future__ import annotations

import math

from PIL import Image

from sdcli.request.png import encode_png

MAX_FRAMES = 60
FRAMES_PER_ROW = 10
FRAME_SIDE = 256  # pixels of a frame's longer side, at most


class Filmstrip:
    """Collects the frames of one run. A run of more than 60 steps gives 60 frames, evenly spread, the last step's
    among them."""

    def __init__(self) -> None:
        self.frames: list[Image.Image] = []

    def wants(self, number: int, total: int) -> bool:
        """True if step `number` of `total` is to be a frame; steps count from 1."""
        frames = min(total, MAX_FRAMES)
        return number * frames // total > (number - 1) * frames // total

    def add(self, image: Image.Image) -> None:
        """Append a frame, made smaller if its longer side is more than 256 pixels."""
        scale = min(1.0, FRAME_SIDE / max(image.size))
        size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        self.frames.append(image.resize(size, Image.Resampling.LANCZOS))

    def encode(self) -> bytes:
        """The frames in rows of ten, as a PNG file. There must be at least one."""
        width, height = self.frames[0].size
        columns = min(len(self.frames), FRAMES_PER_ROW)
        rows = math.ceil(len(self.frames) / columns)
        strip = Image.new("RGB", (columns * width, rows * height), "white")
        for i, frame in enumerate(self.frames):
            strip.paste(frame, (i % columns * width, i // columns * height))
        return encode_png(strip)
