"""VAE file: the VAE that --vae names, which replaces a model's own; no weights are read."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sdcli.checkpoints import header, lookup, shards
from sdcli.checkpoints.component import Component, add_source, read_config
from sdcli.checkpoints.family import Config, Family
from sdcli.checkpoints.header import Entry, Header, ReadHeader
from sdcli.checkpoints.keys import diffusers, single_file
from sdcli.checkpoints.keys.types import Source
from sdcli.errors import ModelError
from sdcli.home import expand_home

TINY_AUTOENCODER: Config = {
    "encoder_block_out_channels": [64, 64, 64, 64],
    "decoder_block_out_channels": [64, 64, 64, 64],
    "num_encoder_blocks": [1, 3, 3, 3],
    "num_decoder_blocks": [3, 3, 3, 1],
    "scaling_factor": 1.0,
}
"""The config of a tiny autoencoder (TAESD), with diffusers' keys; its latents need no scaling."""


def read(name: str, family: Family, read_header: ReadHeader = header.read) -> Component:
    """The VAE in a file or folder, for a model of this family.

    A file may be a VAE alone, a whole checkpoint or a tiny autoencoder, with LDM or diffusers names, with or without
    their prefix; a folder is a diffusers folder, or the vae folder in one. A name in a folder of VAEs stands for its
    file. Raises ModelError if there is no VAE in it.
    """
    path = Path(expand_home(name))
    if not os.path.exists(path):
        path = lookup.file_path("vaes", f"--vae {name}", name) or path
    if not os.path.exists(path):
        raise ModelError(f"--vae {name}: no such file or folder; check the path")
    component = _in_folder(path, read_header) if path.is_dir() else _in_file(path, name, family, read_header)
    if not any(tensor.startswith(("decoder.conv_in.", "decoder.layers.")) for tensor in component.sources):
        raise ModelError(
            f"--vae {name}: no VAE in it; it needs a decoder of the kind kl-f8 or a tiny autoencoder"
        )
    return component


def kind_of_vae(head: Header) -> str:
    """What the VAE is that a file holds alone: `a VAE`, or a tiny autoencoder or half of one; empty for none."""
    keys = head.tensors.keys()
    if any(key.startswith(("model.diffusion_model.", "unet.")) for key in keys):
        return ""
    if any(key.startswith("decoder.layers.") for key in keys):
        return "a tiny autoencoder"
    if {"0.weight", "0.bias"} <= keys and any(
        re.fullmatch(r"[1-9][0-9]?\.conv\.0\.weight", key) for key in keys
    ):
        return "half of a tiny autoencoder"
    if any(re.fullmatch(r"[1-9][0-9]?\.conv\.0\.weight", key) for key in keys) and "1.weight" in keys:
        return "half of a tiny autoencoder"
    return "a VAE" if any(key.endswith("decoder.conv_in.weight") for key in keys) else ""


def _in_folder(folder: Path, read_header: ReadHeader) -> Component:
    if (folder / "vae").is_dir():
        folder = folder / "vae"
    weights = shards.read(folder, "vae", read_header)
    return Component(read_config(folder / "config.json"), weights, _sources(weights))


def _in_file(path: Path, name: str, family: Family, read_header: ReadHeader) -> Component:
    weights = _with_other_half(read_header(path), read_header)
    sources = _sources(weights)
    is_tiny = any(tensor.startswith("decoder.layers.") for tensor in sources)
    config = TINY_AUTOENCODER if is_tiny else family.configs.get("vae", {})
    if not config:
        raise ModelError(
            f"--vae {name}: a {family.name} model has a VAE of its own kind; only a folder will do"
        )
    return Component(config, weights, sources)


def _sources(weights: Header) -> dict[str, Source]:
    """Where the VAE's tensors are; a whole checkpoint's other tensors are passed over."""
    keys = list(weights.tensors)
    if any(key.startswith(("model.diffusion_model.", "unet.")) for key in keys):
        keys = [key for key in keys if key.startswith((single_file.VAE, "vae."))]
    keys = [key for key in keys if not single_file.IGNORABLE.match(key)]
    prefixed = {key: single_file.VAE + key.removeprefix(single_file.VAE).removeprefix("vae.") for key in keys}
    targets = single_file.targets(prefixed.values())
    sources: dict[str, Source] = {}
    for key in keys:
        for target in targets[prefixed[key]] or []:
            add_source(sources, diffusers.current_name("vae", target.name), Source(key, target.take), weights)
    return sources


def _with_other_half(half: Header, read_header: ReadHeader) -> Header:
    """The two files of a tiny autoencoder as one header with diffusers' names; any other header unchanged.

    Each file is a list of layers. The two file names differ in `encoder` and `decoder` alone, and either may be given.
    """
    first_layers = {
        "0.weight": "encoder",
        "1.weight": "decoder",
    }  # the decoder begins with a clamp, without weights
    side = next((first_layers[key] for key in first_layers if key in half.tensors), None)
    if side is None:
        return half
    other_side = "decoder" if side == "encoder" else "encoder"
    other_path = half.path.with_name(other_side.join(half.path.name.rsplit(side, 1)))
    if other_path == half.path:
        raise ModelError(f"{half.path}: half of a tiny autoencoder, and its name has no {side}; get both")
    if not other_path.is_file():
        raise ModelError(
            f"{half.path}: half of a tiny autoencoder, and the other is not beside it as {other_path.name}; get both"
        )
    halves = {side: half, other_side: read_header(other_path)}
    tensors = {**_layers(halves["decoder"], "decoder"), **_layers(halves["encoder"], "encoder")}
    return Header(half.path, tensors, {})


def _layers(half: Header, side: str) -> dict[str, Entry]:
    """The tensors of one half by diffusers' names, which do not count the decoder's clamp as a layer."""
    tensors = {}
    for key, entry in half.tensors.items():
        match = re.fullmatch(r"(0|[1-9][0-9]?)\.(.+)", key)
        if not match:
            raise ModelError(f"{half.path}: {key[:80]} is no tensor of a tiny autoencoder's {side}")
        number = int(match[1]) - (1 if side == "decoder" else 0)
        tensors[f"{side}.layers.{number}.{match[2]}"] = entry
    return tensors
