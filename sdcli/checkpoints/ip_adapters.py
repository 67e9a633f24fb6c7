"""IP-Adapters: those that a job names, with their image encoders, and whether they are for its model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sdcli import settings
from sdcli.checkpoints import image_encoder_file, ip_adapter_file, network_config, tensor_shapes
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.hashes import digest
from sdcli.checkpoints.image_encoder_file import ImageEncoderFile
from sdcli.checkpoints.ip_adapter_file import IpAdapterFile
from sdcli.checkpoints.named_files import numbered
from sdcli.checkpoints.tensor_shapes import Shapes
from sdcli.errors import ModelError, UsageError
from sdcli.request.ip_adapters import IpAdapter

_KEYS = re.compile(r"(down|mid|up)_block.*\.attn2\.to_k\.weight")


def check_fit(found: Checkpoint, adapters: Sequence[IpAdapter]) -> None:
    """Raise ModelError for an IP-Adapter that is damaged, for another family, or without its image encoder."""
    if adapters:
        unet = found.components["unet"]
        shapes = tensor_shapes.of_network("unet", unet.config, unet.folder(found.path))
        context = network_config.settings("unet", unet.config)["cross_attention_dim"]
        read_fitting(found.name, shapes, context, adapters)


def read_fitting(
    name: str, unet: Shapes, context: Any, adapters: Iterable[IpAdapter]
) -> list[tuple[IpAdapterFile, ImageEncoderFile]]:
    """The file and the image encoder of each, for the model of this name, U-Net and width of the text.

    Raises ModelError as `check_fit` does, and UsageError if no image encoder is named.
    """
    pairs = []
    for adapter in adapters:
        file = ip_adapter_file.read_header(Path(adapter.path))
        _check_layers(name, [unet[key][0] for key in cross_attentions(unet)], context, file)
        encoder = image_encoder_file.read_header(_encoder_path(adapter, file))
        file.check_encoder(encoder)
        pairs.append((file, encoder))
    return pairs


def cross_attentions(names: Iterable[str]) -> list[str]:
    """The key projections of a U-Net's cross-attention in the order of IP-Adapter files: down, up, middle."""
    keys = [name for name in names if _KEYS.fullmatch(name)]
    return sorted(keys, key=lambda name: ("down_", "up_bl", "mid_b").index(name[:5]))


def facts(adapters: Iterable[IpAdapter]) -> dict[str, dict[str, Any]]:
    """Of each IP-Adapter by its name: its file's name and sha256, and those of its encoder, for the metadata."""
    by_path = {str(Path(adapter.path)): adapter for adapter in adapters}
    found = {}
    for name, path in numbered(by_path).items():
        adapter = by_path[str(path)]
        file = ip_adapter_file.read_header(path)
        encoder = image_encoder_file.read_header(_encoder_path(adapter, file)).path
        found[name] = {
            "file": path.name,
            "sha256": digest([path]),
            "encoder": {"file": encoder.name, "sha256": digest([encoder])},
        }
    return found


def _check_layers(name: str, widths: Sequence[int], context: Any, file: IpAdapterFile) -> None:
    own = (
        f"{file.trained_for} (texts of width {file.context})" if file.trained_for else f"width {file.context}"
    )
    if context != file.context:
        raise ModelError(
            f"{file.path} is an IP-Adapter for {own}, and {name} reads texts of width {context}; use one trained for it"
        )
    if tuple(widths) != file.layers:
        raise ModelError(
            f"{file.path} is an IP-Adapter for {own} with {len(file.layers)} cross-attention layers, and {name} has "
            f"{len(widths)}, of other widths or in another order; use one trained for it"
        )


def _encoder_path(adapter: IpAdapter, file: IpAdapterFile) -> Path:
    path = Path(adapter.encoder) if adapter.encoder else settings.image_encoder()
    if path is None:
        raise UsageError(
            f"--ip-adapter {file.path}: needs the image encoder {file.encoder}; name its file with :encoder=FILE, or "
            "once for all with SDCLI_IMAGE_ENCODER"
        )
    return path
