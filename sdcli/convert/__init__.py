"""Convert: write a checkpoint as a single file or a diffusers folder, in a chosen dtype; the same bytes every time.

Tensors go from file to file one by one, so a model of any size needs little memory. This is no part of `checkpoints/`
because it needs torch for the values and `store` for the writing.
"""

from __future__ import annotations

from pathlib import Path

import torch

from sdcli import store
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.completeness import check_tensors
from sdcli.checkpoints.component import Component
from sdcli.convert import folder, single_file
from sdcli.convert.tensors import Shapes, shapes_of
from sdcli.errors import UsageError

_ADVICE = "choose another place"


def convert(checkpoint: Checkpoint, out: Path, dtype: torch.dtype | None = None) -> Path:
    """Write the checkpoint to `out`: one file with LDM names if it ends in .safetensors, else a diffusers folder.

    `dtype` is that of all weights; None keeps each as it is stored. Raises UsageError if `out` exists, and ModelError
    if a tensor is missing, surplus, misshapen or not finite, or if a single file cannot say what the model is.
    """
    if out.exists():
        raise UsageError(f"{out}: is there already; nothing is overwritten, choose another name")
    shapes = {
        part: _checked_shapes(part, component, checkpoint.path)
        for part, component in checkpoint.components.items()
    }
    if out.suffix == ".safetensors":
        return store.save(single_file.contents(checkpoint, shapes, dtype), out, _ADVICE)
    return store.save_folder(folder.contents(checkpoint, shapes, dtype), out, _ADVICE)


def _checked_shapes(part: str, component: Component, path: Path) -> Shapes:
    """The shapes of a component's tensors, of which all were found; raises ModelError otherwise."""
    shapes = shapes_of(part, component.config, path)
    check_tensors(component, shapes)
    return shapes
