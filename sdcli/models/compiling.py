"""Compiling: the packages that --engine compile runs, made ahead of drawing for one size of picture."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdcli.checkpoints import network_config
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.models.device import choose_device
from sdcli.models.engine_cache import engine_folder
from sdcli.models.engine_networks import engine_networks
from sdcli.models.engines.compile import Compiled, require_compiler
from sdcli.models.load import load_own_network, parameters
from sdcli.request.request import Loading

ROWS = 2  # of the example: with one, torch would take the number for fixed


def compile_networks(found: Checkpoint, loading: Loading, width: int, height: int) -> Iterator[Path]:
    """Compile the U-Net and the decoder of a checkpoint for pictures of this size; yields the folder of each package.

    Raises UsageError if there is no C++ compiler.
    """
    require_compiler()
    placement = choose_device("cpu", loading.dtype, parameters(found), loading.threads)
    networks = engine_networks(found, "compile", placement, partial(load_own_network, found))
    assert networks is not None
    settings = {
        part: network_config.settings(part, found.components[part].config) for part in ("unet", "vae")
    }
    factor = network_config.pixels_per_latent(settings["vae"])
    size = (height // factor, width // factor)
    examples = {
        "unet": _unet_example(settings["unet"], size, placement.dtype),
        "vae_decoder": {"x": _image(ROWS, settings["vae"]["latent_channels"], size, placement.dtype)},
    }
    for name, network in networks.networks.items():
        yield Compiled().make(network, examples[name], engine_folder("compile"))


def _unet_example(settings: dict[str, Any], size: tuple[int, int], dtype: torch.dtype) -> dict[str, Tensor]:
    """Arguments as the U-Net with these settings is called with, in their order."""
    found = {
        "x": _image(ROWS, settings["in_channels"], size, dtype),
        "t": torch.tensor(500.0),
        "context": torch.zeros(ROWS, 154, settings["cross_attention_dim"], dtype=dtype),
    }
    if settings["addition_embed_type"] == "text_time":
        sizes = 5 if settings["cross_attention_dim"] == 1280 else 6  # the refiner is told 5 numbers
        width = (
            settings["projection_class_embeddings_input_dim"] - sizes * settings["addition_time_embed_dim"]
        )
        found["pooled"] = torch.zeros(ROWS, width, dtype=dtype)
        found["time_ids"] = torch.zeros(ROWS, sizes)
    if settings["num_class_embeds"] is not None:
        found["class_labels"] = torch.zeros(ROWS, dtype=torch.int64)
    if settings["time_cond_proj_dim"] is not None:
        found["time_cond"] = torch.zeros(ROWS, settings["time_cond_proj_dim"], dtype=dtype)
    return found


def _image(rows: int, channels: int, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    image = torch.zeros(rows, channels, *size, dtype=dtype)
    return image.contiguous(memory_format=torch.channels_last)
