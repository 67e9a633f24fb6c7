"""Upscaler: the network of an upscaler file, with its weights."""

from __future__ import annotations

from torch import nn

from sdcli.checkpoints.upscaler_file import KINDS, UpscalerFile
from sdcli.errors import OutOfMemory
from sdcli.models import build, memory
from sdcli.models.architectures.esrgan import RRDBNet, SRVGGNetCompact
from sdcli.models.architectures.swinir import SwinIR
from sdcli.models.device import Placement
from sdcli.models.weights import load_weights

Upscaler = RRDBNet | SRVGGNetCompact | SwinIR

_CLASSES: dict[str, type[nn.Module]] = {"rrdb": RRDBNet, "compact": SRVGGNetCompact, "swinir": SwinIR}


def load(file: UpscalerFile, placement: Placement) -> Upscaler:
    """The network of an upscaler file; raises ModelError for values that are not finite, and OutOfMemory."""
    needed = file.parameters * placement.dtype.itemsize
    free = memory.free(placement.device)
    if needed > free:
        raise OutOfMemory(
            f"{file.path}: {KINDS[file.kind]} takes {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; "
            "use a compact one"
        )
    network = build.module_on_meta(lambda: _CLASSES[file.kind](**file.network.settings))
    with memory.memory_errors(f"loading {file.path}", "use a compact upscaler"):
        load_weights("upscaler", network, file.component, placement)
    assert isinstance(network, Upscaler)
    return network
