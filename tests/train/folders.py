"""Folders of small pictures to train on, and a training in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdcli.models.cache import ModelCache
from sdcli.train.plan import Plan, make_plan
from sdcli.train.settings import EmbeddingTraining, LoraTraining, Training


def write_pictures(folder: Path, sizes: tuple[tuple[int, int], ...] = ((64, 64), (64, 64), (96, 64))) -> Path:
    """Write pictures of random colours, each with a caption of its own, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (width, height) in enumerate(sizes):
        pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a cat, picture number {['one', 'two', 'three', 'four'][i]}")
    return folder


def lora_settings(folder: Path, **more: Any) -> LoraTraining:
    """The settings of a short training on a test model, from pictures in `folder` to a file beside it."""
    values = {
        "model": "test:sd1",
        "steps": 2,
        "rank": 2,
        "out": str(folder.parent / "style.safetensors"),
        **more,
    }
    return LoraTraining(data=str(folder), **values)


def embedding_settings(folder: Path, **more: Any) -> EmbeddingTraining:
    """The same for the word <mine>."""
    values = {
        "model": "test:sd1",
        "steps": 2,
        "word": "<mine>",
        "out": str(folder.parent / "mine.safetensors"),
        **more,
    }
    return EmbeddingTraining(data=str(folder), **values)


def train(settings: Training) -> tuple[Plan, list[float]]:
    """Train; returns the plan, and the loss of each step that was gone."""
    from sdcli.train.run import run

    models = ModelCache()
    plan = make_plan(settings, models)
    losses = [each.loss for each in run(plan, models) if each.loss is not None]
    return plan, losses
