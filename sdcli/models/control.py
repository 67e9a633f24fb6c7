"""Control: the control networks of a run, loaded from their files and kept while the same ones are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sdcli.checkpoints.component import listing
from sdcli.checkpoints.control_file import KINDS, ControlFile
from sdcli.errors import ModelError, OutOfMemory
from sdcli.models import build, memory
from sdcli.models.architectures.controlnet import ControlNet, ControlNetUnion
from sdcli.models.architectures.t2i_adapter import T2IAdapter
from sdcli.models.device import Placement
from sdcli.models.layers import memory_format
from sdcli.models.memory import memory_errors
from sdcli.models.tensors import all_finite, read_tensors
from sdcli.models.weights import load_weights

Weights = Mapping[str, Tensor]


class ControlNetworks:
    """The control networks of one model. Those that a run uses are in memory together with its U-Net."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self._loaded: dict[tuple[str, int, int], nn.Module] = {}

    def keep_only(self, files: Collection[ControlFile]) -> None:
        """Drop the networks of all other files, before those of a run are loaded."""
        keys = set(map(_key, files))
        self._loaded = {key: module for key, module in self._loaded.items() if key in keys}

    def load(
        self, file: ControlFile, settings: Mapping[str, Any], unet: Callable[[], Weights]
    ) -> ControlNet | T2IAdapter:
        """The network of a file with these settings; `unet` gives the U-Net's weights to a file that adds to them.

        Such a network is made anew for each run, because adapters change the U-Net between them. Raises ModelError if
        the file cannot be read or holds a value that is not finite, and OutOfMemory.
        """
        key = _key(file)
        if key in self._loaded:
            return self._loaded[key]  # type: ignore[return-value]
        module = build.build_control(network_of(file.kind), settings, str(file.path))
        with memory_errors(f"loading {file.path}", "use fewer control networks, or --dtype bfloat16"):
            _check_memory(file, module, self.placement)
            if file.needs_unet:
                return _on_top_of(unet(), file, module, self.placement)  # type: ignore[return-value]
            load_weights("controlnet", module, file.component, self.placement)
        self._loaded[key] = module
        return module  # type: ignore[return-value]


def network_of(kind: str) -> type[nn.Module]:
    """The class of a kind of control file."""
    if kind.startswith("t2i"):
        return T2IAdapter
    return ControlNetUnion if kind == "union" else ControlNet


def _key(file: ControlFile) -> tuple[str, int, int]:
    status = os.stat(file.paths[0])
    return str(Path(file.path).resolve()), status.st_size, status.st_mtime_ns


def _check_memory(file: ControlFile, module: nn.Module, placement: Placement) -> None:
    needed = sum(p.numel() for p in module.parameters()) * placement.dtype.itemsize
    free = memory.free(placement.device) + (memory.swap() if placement.device.type == "cpu" else 0)
    if needed > free:
        raise OutOfMemory(
            f"{file.path}: {KINDS[file.kind]} takes {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; "
            "use a Control-LoRA, or --dtype bfloat16"
        )


def _on_top_of(unet: Weights, file: ControlFile, module: nn.Module, placement: Placement) -> nn.Module:
    """Fill a network whose weights are the U-Net's and what the file adds to them, computed in float32."""
    stored = {name: tensor.clone() for name, tensor in read_tensors(file.everything)}
    weights, not_finite = {}, []
    for name, empty in module.state_dict().items():
        tensor = _combined(name, empty, file, stored, unet)
        tensor = tensor.reshape(empty.shape).to(placement.device, placement.dtype)
        tensor = tensor.contiguous(memory_format=memory_format(tensor))
        if not all_finite(tensor):
            not_finite.append(name)
        weights[name] = tensor
    if not_finite:
        raise ModelError(
            f"{file.path}: {listing(not_finite)} not finite; the file is damaged, fetch it again"
        )
    module.load_state_dict(weights, assign=True)
    return module.eval().requires_grad_(False)


def _combined(name: str, empty: Tensor, file: ControlFile, stored: Weights, unet: Weights) -> Tensor:
    """One weight: the file's own, the file's and the U-Net's, or the U-Net's and a product of two factors."""
    base = unet[name].float() if name in unet else None
    if base is not None and name == "conv_in.weight":
        base = base[:, : empty.shape[1]]  # the U-Net of an inpainting model has more channels
    if name in stored:
        own = stored[name].float()
        adds = file.kind == "difference" and base is not None
        return base + own.to(base.device).reshape(base.shape) if adds and base is not None else own
    assert base is not None
    if name not in file.factors:
        return base.clone()
    up, down = (stored[f"{name}.{half}"].float().flatten(1).to(base.device) for half in ("up", "down"))
    return base + (up @ down).reshape(base.shape)
