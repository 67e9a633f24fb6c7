"""Schedule plot: a chart of the noise levels that each schedule visits, for `sd samplers --plot`."""

from __future__ import annotations

import colorsys
import math

from PIL import Image, ImageDraw, ImageFont

from sdcli import registry
from sdcli.diffusion.levels import Levels
from sdcli.request.png import encode_png

WIDTH, HEIGHT = 1200, 720  # of the whole picture, in pixels
LEFT, RIGHT, TOP, BOTTOM = (
    70,
    250,
    50,
    50,
)  # margins round the chart, in pixels; the legend is in the right one
LEGEND_ROW = 34  # pixels from one name of the legend to the next
SIGMA_MAX, SIGMA_MIN = 20.0, 0.02  # the ends of the vertical axis
GRID_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)


def plot_schedules(steps: int = 20) -> bytes:
    """A PNG that shows sigma before each step, one curve a schedule, on Stable Diffusion's noise levels.

    The vertical axis is logarithmic. `steps` is at least 2.
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    _draw_axes(draw, steps)
    names = registry.names("schedules")
    for row, name in enumerate(names):
        colour = _curve_colour(row, len(names))
        sigmas = registry.find("schedules", name)(steps, Levels.scaled_linear())
        points = [_point(i, sigma, steps) for i, sigma in enumerate(sigmas[:-1])]  # the last one is 0
        draw.line(points, colour, 2, joint="curve")
        _draw_legend_row(draw, row, name, colour)
    return encode_png(image)


def _point(step: float, sigma: float, steps: int) -> tuple[float, float]:
    """The pixel, as (x, y), of a noise level before a step; steps count from 0."""
    height = math.log(max(sigma, SIGMA_MIN) / SIGMA_MIN) / math.log(SIGMA_MAX / SIGMA_MIN)
    x = LEFT + step / (steps - 1) * (WIDTH - LEFT - RIGHT)
    return x, HEIGHT - BOTTOM - height * (HEIGHT - TOP - BOTTOM)


def _draw_axes(draw: ImageDraw.ImageDraw, steps: int) -> None:
    font = ImageFont.load_default(16)
    for sigma in GRID_SIGMAS:
        draw.line([_point(0, sigma, steps), _point(steps - 1, sigma, steps)], "#e4e4e4")
        draw.text((LEFT - 10, _point(0, sigma, steps)[1]), f"{sigma:g}", "#555555", font, anchor="rm")
    for step in range(0, steps, max(steps // 10, 1)):
        x, y = _point(step, SIGMA_MIN, steps)
        draw.text((x, y + 18), str(step + 1), "#555555", font, anchor="mm")
    draw.text((LEFT, TOP / 2), f"sigma before each of {steps} steps", "black", font, anchor="lm")


def _draw_legend_row(draw: ImageDraw.ImageDraw, row: int, name: str, colour: tuple[int, int, int]) -> None:
    x, y = WIDTH - RIGHT + 25, TOP + 30 + LEGEND_ROW * row
    draw.line([(x, y), (x + 40, y)], colour, 4)
    draw.text((x + 50, y), name, "black", ImageFont.load_default(16), anchor="lm")


def _curve_colour(row: int, rows: int) -> tuple[int, int, int]:
    """Hues spread evenly round the colour wheel, alternately darker and lighter so that neighbours differ."""
    red, green, blue = colorsys.hls_to_rgb(row / rows, 0.36 + 0.14 * (row % 2), 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)
