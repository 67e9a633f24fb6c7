"""Samples: pictures of some prompts, drawn on the way as `sd txt2img` draws them with the file so far, on one sheet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from sdcli import store
from sdcli.batch.reports.labels import fitted, font, wrapped
from sdcli.engine import generate
from sdcli.models.cache import ModelCache
from sdcli.request.fields import as_dict
from sdcli.request.png import encode_png
from sdcli.request.request import Request
from sdcli.train.plan import Plan

SIDE, GAP, TEXT = 256, 8, 16  # pixels: of a cell's longer side at most, between cells, of the letters
LABEL, HEADER = 110, 48  # pixels: of the labels at the left, and of the prompts above
SHEET = "samples.png"


def draw_samples(plan: Plan, models: ModelCache, step: int, fields: Mapping[str, Any]) -> Path:
    """Draw each prompt of --sample with these fields of a Request, and the sheet of all so far; returns its path.

    The pictures are in the folder of the training, `samples/STEP-NUMBER.png`.
    """
    settings = plan.settings
    for number, prompt in enumerate(settings.sample, 1):
        request = Request(prompt, seed=settings.seed, **as_dict(plan.loading), **fields)
        picture = generate(request, models).picture
        store.replace(picture.png(), folder_of(plan) / f"{step:06}-{number}.png")
    return store.replace(encode_png(sheet(plan)), settings.folder / SHEET)


def folder_of(plan: Plan) -> Path:
    """The folder of the pictures."""
    return plan.settings.folder / "samples"


def has_samples(plan: Plan, step: int) -> bool:
    """True if all prompts were drawn after this step."""
    numbers = range(1, len(plan.settings.sample) + 1)
    return all((folder_of(plan) / f"{step:06}-{number}.png").exists() for number in numbers)


def sheet(plan: Plan) -> Image.Image:
    """All pictures so far: a column for each prompt, a row for each time that they were drawn."""
    prompts = plan.settings.sample
    names = [re.fullmatch(r"(\d+)-(\d+)\.png", path.name) for path in sorted(folder_of(plan).iterdir())]
    cells = {(int(name[1]), int(name[2])): folder_of(plan) / name[0] for name in names if name}
    steps = sorted({step for step, _ in cells})
    images = {place: _small(path) for place, path in cells.items() if place[1] <= len(prompts)}
    width = max(each.width for each in images.values()) + GAP
    height = max(each.height for each in images.values()) + GAP
    page = Image.new("RGB", (LABEL + width * len(prompts), HEADER + height * len(steps)), "white")
    pen = ImageDraw.Draw(page)
    for column, prompt in enumerate(prompts):
        for line, text in enumerate(wrapped(prompt, width - GAP, TEXT, 2)):
            pen.text((LABEL + column * width, 4 + line * 20), text, "black", font(TEXT))
    for row, step in enumerate(steps):
        label = fitted(f"step {step}" if step else "before", LABEL - GAP, TEXT)
        pen.text((GAP, HEADER + row * height), label, "black", font(TEXT))
        for column in range(len(prompts)):
            if image := images.get((step, column + 1)):
                page.paste(image, (LABEL + column * width, HEADER + row * height))
    return page


def _small(path: Path) -> Image.Image:
    with Image.open(path) as image:
        picture = image.convert("RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture
