"""Hypernets: the hypernetworks that a job names, and whether they are for its model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdcli.checkpoints import hypernet_file, network_config
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.hashes import digest
from sdcli.checkpoints.hypernet_file import TRAINED_FOR, HypernetFile
from sdcli.checkpoints.named_files import numbered
from sdcli.errors import ModelError
from sdcli.request.weighted_file import WeightedFile


def check_fit(found: Checkpoint, files: Sequence[WeightedFile]) -> None:
    """Raise ModelError for a hypernetwork that is damaged, or was trained for another family than the model's."""
    if files:
        unet = network_config.settings("unet", found.components["unet"].config)
        read_fitting(found.name, unet, files)


def facts(files: Iterable[WeightedFile]) -> dict[str, dict[str, str]]:
    """Of each hypernetwork by its name: its file's name and sha256, for the metadata of a picture."""
    paths = numbered(file.path for file in files)
    return {name: {"file": path.name, "sha256": digest([path])} for name, path in paths.items()}


def read_fitting(
    name: str, unet: Mapping[str, Any], files: Iterable[WeightedFile]
) -> list[tuple[HypernetFile, float]]:
    """The hypernetworks in these files with their strengths, for the model of this name and U-Net config.

    Raises ModelError as `check_fit` does.
    """
    read = [(hypernet_file.read_header(Path(file.path)), file.strength) for file in files]
    for file, _ in read:
        _check_widths(name, unet, file)
    return read


def _check_widths(name: str, unet: Mapping[str, Any], file: HypernetFile) -> None:
    """A hypernetwork for texts needs the width of the model's; one for self-attention alone, a width of its levels."""
    text_widths, own_widths = (
        _widths(unet["cross_attention_dim"]),
        _widths(unet["block_out_channels"]),
    )
    if text_widths & set(file.widths):
        return
    if own_widths & set(file.widths) and not file.trained_for:
        return
    read = " and ".join(f"{width}{_models(width)}" for width in sorted(text_widths))
    own = file.trained_for or f"contexts of {', '.join(map(str, file.widths))}"
    raise ModelError(
        f"{file.path} is a hypernetwork for {own}, and {name} reads a text of width {read}; use one trained for it"
    )


def _widths(value: Any) -> set[int]:
    return {value} if isinstance(value, int) else set(value)


def _models(width: int) -> str:
    return f" ({TRAINED_FOR[width]})" if width in TRAINED_FOR else ""
