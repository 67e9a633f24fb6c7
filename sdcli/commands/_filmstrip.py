"""Film: the estimates of a run's steps, side by side in one picture."""

from __future__ import annotations

import io
import math

from PIL import Image

MOST, ACROSS, SIDE = 60, 10, 256  # frames, frames in a row, pixels of a frame's longer side


class Film:
    """Takes the frames as they come; of more than 60 steps as many as that, spread evenly, the last among them."""

    def __init__(self) -> None:
        self.frames: list[Image.Image] = []

    def wants(self, number: int, total: int) -> bool:
        """Whether the step `number` of `total`, listing from 1, is one of the frames."""
        most = min(total, MOST)
        return number * most // total > (number - 1) * most // total

    def add(self, image: Image.Image) -> None:
        part = min(1.0, SIDE / max(image.size))
        size = (max(round(image.width * part), 1), max(round(image.height * part), 1))
        self.frames.append(image.resize(size, Image.Resampling.LANCZOS))

    def png(self) -> bytes:
        width, height = self.frames[0].size
        across = min(len(self.frames), ACROSS)
        strip = Image.new("RGB", (across * width, math.ceil(len(self.frames) / across) * height), "white")
        for i, frame in enumerate(self.frames):
            strip.paste(frame, (i % across * width, i // across * height))
        file = io.BytesIO()
        strip.save(file, "PNG")
        return file.getvalue()
