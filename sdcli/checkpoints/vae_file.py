"""Other VAE: the one that --vae names, which replaces a model's own; imports no torch, reads no weights."""

from __future__ import annotations

import os
from pathlib import Path

from sdcli.checkpoints import header, shards
from sdcli.checkpoints.component import Component, add_source, config_of, decoder_levels
from sdcli.checkpoints.family import Config, Family
from sdcli.checkpoints.header import Header
from sdcli.checkpoints.keys import ldm
from sdcli.checkpoints.keys.ldm import Source
from sdcli.errors import ModelError

TINY_AUTOENCODER: Config = {
    "encoder_block_out_channels": [64, 64, 64, 64],
    "decoder_block_out_channels": [64, 64, 64, 64],
    "num_encoder_blocks": [1, 3, 3, 3],
    "num_decoder_blocks": [3, 3, 3, 1],
    "scaling_factor": 1.0,
}
"""TAESD, as diffusers names it: it reads latents as the U-Net gives them."""


def read(name: str, family: Family) -> Component:
    """The VAE in a file of its own or in a whole checkpoint: LDM or diffusers names, with or without their prefix; or a
    tiny autoencoder's.
    """
    path = Path(os.path.expanduser(name))
    if not os.path.exists(path):
        raise ModelError(f"--vae {name}: no such file or folder")
    config: Config
    if path.is_dir():
        path = path / "vae" if (path / "vae").is_dir() else path
        head = shards.read(path, "vae")
        config, sources = config_of(path / "config.json"), _sources(head)
    else:
        head = shards.halves(header.read(path))
        sources = _sources(head)
        tiny = any(own.startswith("decoder.layers.") for own in sources)
        config = TINY_AUTOENCODER if tiny else family.configs.get("vae", {})
        if not config:
            raise ModelError(
                f"--vae {name}: a {family.name} model has a VAE of its own kind; only a folder will do"
            )
    if not any(own.startswith(("decoder.conv_in.", "decoder.layers.")) for own in sources):
        raise ModelError(
            f"--vae {name}: no VAE in it; it needs a decoder of the kind kl-f8 or a tiny autoencoder"
        )
    return Component(config, head, sources)


def _sources(head: Header) -> dict[str, Source]:
    found: dict[str, Source] = {}
    levels = decoder_levels(head)
    whole = any(key.startswith(("model.diffusion_model.", "unet.")) for key in head.tensors)
    for key in head.tensors:
        if whole and not key.startswith(("first_stage_model.", "vae.")):
            continue  # a checkpoint, whose other networks are not asked for
        plain = key.removeprefix("first_stage_model.").removeprefix("vae.")
        if not ldm.IGNORABLE.search(key) and not plain.startswith("loss."):
            for target in ldm.targets(f"first_stage_model.{plain}") or []:
                own = ldm.folder_name("vae", ldm.settle(target, levels).name)
                add_source(found, own, Source(key, target.take), head)
    return found
