"""Plot: the noise levels of the schedules, drawn one above the other."""

from __future__ import annotations

import colorsys
import io
import math

from PIL import Image, ImageDraw, ImageFont

from sdcli import registry
from sdcli.diffusion.levels import Levels

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1200, 720, 70, 250, 50, 50
HIGH, LOW = 20.0, 0.02


def plot(steps: int = 20) -> bytes:
    """A PNG: sigma before each of the steps, on a logarithmic axis, for each schedule on Stable Diffusion's levels."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(16)

    def at(i: float, sigma: float) -> tuple[float, float]:
        up = math.log(max(sigma, LOW) / LOW) / math.log(HIGH / LOW)
        return LEFT + i / (steps - 1) * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    for sigma in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20):
        draw.line([at(0, sigma), at(steps - 1, sigma)], "#e4e4e4")
        draw.text((LEFT - 10, at(0, sigma)[1]), f"{sigma:g}", "#555555", font, anchor="rm")
    for i in range(0, steps, max(steps // 10, 1)):
        draw.text((at(i, LOW)[0], HEIGHT - BOTTOM + 18), str(i + 1), "#555555", font, anchor="mm")
    draw.text((LEFT, TOP / 2), f"sigma before each of {steps} steps", "black", font, anchor="lm")
    names = registry.names("schedules")
    for k, name in enumerate(names):
        red, green, blue = colorsys.hls_to_rgb(k / len(names), 0.36 + 0.14 * (k % 2), 0.85)
        colour = (round(red * 255), round(green * 255), round(blue * 255))
        sigmas = registry.find("schedules", name)(steps, Levels.scaled_linear())
        draw.line([at(i, sigma) for i, sigma in enumerate(sigmas[:-1])], colour, 2, joint="curve")
        y = TOP + 30 + 34 * k
        draw.line([(WIDTH - RIGHT + 25, y), (WIDTH - RIGHT + 65, y)], colour, 4)
        draw.text((WIDTH - RIGHT + 75, y), name, "black", font, anchor="lm")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
