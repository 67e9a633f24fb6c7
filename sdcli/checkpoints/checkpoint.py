"""Checkpoint: what a model's files are, from their headers and configs alone; imports no torch, reads no weights."""

from __future__ import annotations

import math
import os
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from sdcli import settings
from sdcli.checkpoints import compatibility, header, hub, shards, toy, vae_file
from sdcli.checkpoints.component import Component, add_source, config_of, decoder_levels, listing
from sdcli.checkpoints.family import Config, Family, UNetSignature, recognise
from sdcli.checkpoints.header import Header
from sdcli.checkpoints.keys import ldm
from sdcli.checkpoints.keys.ldm import OPTIONAL, PARTS, Source
from sdcli.errors import ModelError, UsageError


@dataclass(frozen=True)
class Checkpoint:
    """A recognised model. `rule` says what the prediction type was decided by; `ignored` are tensors of no use."""

    name: str
    path: Path
    family: Family
    networks: Mapping[str, Component]
    schedule: Config
    prediction: str
    rule: str
    size: int
    ignored: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """Its weights' files, each once."""
        heads = [net.header for net in self.networks.values() if net.header is not None]
        return list(dict.fromkeys(path for head in heads for path in head.paths))


def find(name: str, revision: str | None = None, fetches: bool = True) -> Path:
    """The file or folder of a model's name: tiny, a path, a name in a model folder, or a repo id of the hub.

    A repo is fetched if it was not before, where `fetches` allows it. Raises ModelError, saying what was looked for, if
    there is none, and UsageError for a revision of what is no repo.
    """
    path = _here(name)
    if path is None:
        path = _of_the_hub(name, revision, fetches)
    elif revision is not None:
        raise UsageError(f"--revision {revision}: {name} is no repo of the hub; leave it out")
    if path.is_dir() and not (path / "unet").is_dir():
        raise ModelError(f"{name}: no unet folder in it; a diffusers folder has unet, vae and text_encoder")
    return path


def read(
    name: str,
    prediction: str = "auto",
    vae: str | None = None,
    revision: str | None = None,
    fetches: bool = True,
) -> Checkpoint:
    """The checkpoint that `find` finds. A prediction type other than auto overrides what is recognised, `vae` its VAE.

    Raises ModelError if a file is missing, bad, holds a tensor that is not known, or is of no known family.
    """
    path = find(name, revision, fetches)
    if name.startswith("test:"):
        found = _toy(name, path)
    else:
        found = _folder(name, path, prediction) if path.is_dir() else _file(name, path, prediction)
    if vae is not None:
        found = replace(found, networks={**found.networks, "vae": vae_file.read(vae, found.family)})
    compatibility.check_parts_fit(name, found.family, found.networks)
    if prediction == "auto":
        return found
    return replace(found, prediction=prediction, rule="--prediction")


def _here(name: str) -> Path | None:
    """The same, of all but the hub's; None if there is no such model."""
    if name.startswith("test:"):
        toy.family(name)
        return Path(name)
    if name == "tiny":
        return Path(str(files("sdcli.tiny")))
    path = Path(os.path.expanduser(name))
    return path if os.path.exists(path) else _named(name)  # what can be no file's name does not exist either


def _named(name: str) -> Path | None:
    """The model of this name, with or without its suffix, in one of the user's model folders."""
    for folder in settings.model_folders():
        for path in (folder / name, folder / f"{name}.safetensors"):
            if os.path.exists(path) and Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder)):
                return path
    return None


def _of_the_hub(name: str, revision: str | None, fetches: bool) -> Path:
    if not hub.is_repo(name):
        folders = ", ".join(map(str, settings.model_folders()))
        raise ModelError(f"{name}: no such model here or in {folders}; `sd models` lists what there is")
    there = hub.cached(name, revision)
    if there is None and not fetches:
        raise ModelError(
            f"{name}: no such file here, and no repo fetched before; `sd models pull` fetches one"
        )
    return there or hub.fetch(name, revision)


def _toy(name: str, path: Path) -> Checkpoint:
    family, prediction = toy.family(name)
    networks = {part: Component(config, None, {}) for part, config in toy.configs(family).items()}
    return Checkpoint(name, path, family, networks, dict(family.levels), prediction, "its name", toy.SIZE)


def _file(name: str, path: Path, asked: str) -> Checkpoint:
    head = header.read(path)
    sources: dict[str, dict[str, Source]] = {}
    ignored, unknown = [], []
    levels = decoder_levels(head)
    for key in head.tensors:
        targets = ldm.targets(key)
        if targets is None:
            unknown.append(key)
        elif not targets:
            ignored.append(key)
        for target in targets or []:
            settled = ldm.settle(target, levels)
            add_source(sources.setdefault(settled.part, {}), settled.name, Source(key, settled.take), head)
    if "unet" not in sources:
        raise ModelError(f"{name}: {_something_else(head)}")
    family = recognise(_traits(head, sources["unet"]), name)
    if (
        "text_encoder_2" in sources
        and "text_encoder_2" not in family.configs
        and "text_encoder" not in sources
    ):
        sources["text_encoder"] = sources.pop("text_encoder_2")  # SD Turbo's, named as SDXL names its own
    for part in sources.keys() - family.configs.keys():
        for own, source in sources[part].items():
            spare = part in OPTIONAL and own.startswith(
                ("dpt.", "neck.", "head.")
            )  # merged with a depth model
            (ignored if spare else unknown).append(source.key)
    if unknown:
        raise ModelError(
            f"{name}: {listing(sorted(unknown))} of no network known here; is it a Stable Diffusion checkpoint?"
        )
    configs = {
        part: config for part, config in family.configs.items() if part in sources or part not in OPTIONAL
    }
    for part in configs:
        if part not in sources:
            raise ModelError(f"{name}: no {part.replace('_', ' ')} in it; get the full checkpoint")
    networks = {}
    for part, config in configs.items():
        beyond = [own for own in sources[part] if _beyond(own, config, sources[part])]
        ignored += [sources[part].pop(own).key for own in beyond]
        networks[part] = Component(config, head, sources[part])
    prediction, rule = _prediction(head, family, sources["unet"], asked)
    schedule = dict(family.levels)
    if "ztsnr" in head.tensors:
        schedule["rescale_betas_zero_snr"] = True
    return Checkpoint(
        name,
        path,
        family,
        networks,
        schedule,
        prediction,
        rule,
        _size(family, prediction),
        tuple(sorted(set(ignored))),
    )


def _folder(name: str, path: Path, asked: str) -> Checkpoint:
    parts = [part for part in PARTS if (path / part).is_dir()]
    for part in ("unet", "vae"):
        if part not in parts:
            raise ModelError(
                f"{name}: no {part} folder in it; a diffusers folder has unet, vae and text_encoder"
            )
    networks, ignored = {}, []
    for part in parts:
        head = shards.read(path / part, part)
        sources: dict[str, Source] = {}
        for key in head.tensors:
            if ldm.IGNORABLE.search(f"{part}.{key}"):
                ignored.append(key)
            else:
                add_source(sources, ldm.folder_name(part, key), Source(key, "all"), head)
        networks[part] = Component(config_of(path / part / "config.json"), head, sources)
    unet = networks["unet"]
    assert unet.header is not None
    if "conv_in.weight" not in unet.sources:
        raise ModelError(
            f"{unet.header.path}: no conv_in.weight in it, as a folder's U-Net has; "
            "a whole checkpoint is named by itself"
        )
    family = recognise(_traits(unet.header, unet.sources), name)
    told = path / "scheduler" / "scheduler_config.json"
    schedule = config_of(told) if told.exists() else {}
    prediction, rule = family.prediction, "the family's default"
    if asked != "auto":
        prediction, rule = asked, "--prediction"
    elif "prediction_type" in schedule:
        prediction, rule = _understood(schedule["prediction_type"], told), "scheduler_config.json"
    side = unet.config.get("sample_size")
    size = side * 8 if isinstance(side, int) else _size(family, prediction)
    return Checkpoint(name, path, family, networks, schedule, prediction, rule, size, tuple(ignored))


def _traits(head: Header, unet: Mapping[str, Source]) -> UNetSignature:
    """The signature of a U-Net, from the shapes of three of its tensors."""

    def width(wanted: Callable[[str], bool], axis: int) -> int:
        shapes = (head.tensors[source.key].shape for own, source in unet.items() if wanted(own))
        shape = next(shapes, ())
        return shape[axis] if len(shape) > axis else 0

    return UNetSignature(
        channels=width(lambda own: own == "conv_in.weight", 1),
        context=width(lambda own: own.endswith("attn2.to_k.weight"), 1),
        added=width(lambda own: own == "add_embedding.linear_1.weight", 1),
    )


def _prediction(head: Header, family: Family, unet: Mapping[str, Source], asked: str) -> tuple[str, str]:
    """(prediction type, what decided): the user, metadata, a marker tensor, what is known of the weights of SD 2."""
    if asked != "auto":
        return asked, "--prediction"
    told = head.metadata.get("modelspec.prediction_type")
    if told:
        return _understood(told, head.path), "the file's metadata"
    if "v_pred" in head.tensors:
        return "v_prediction", "a tensor named v_pred"
    norm = unet.get("up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias")
    if family.name == "sd2" and norm is not None and head.tensors[norm.key].dtype in header.FLOATS:
        values = head.values(norm.key)
        if not values or not all(map(math.isfinite, values)):
            what = "not finite" if values else "empty"
            raise ModelError(
                f"{head.path}: {listing([norm.key])} {what}; the file is damaged, fetch it again"
            )
        spread = statistics.pstdev(values)
        kind = (
            "v_prediction" if spread > 0.09 else "epsilon"
        )  # the published v models are well above, the others below
        return kind, f"the spread of the last attention's norm, {spread:.3f}"
    return family.prediction, "the family's default"


def _understood(told: Any, path: Path) -> str:
    """The prediction type that is meant; raises ModelError if none is."""
    word = str(told).strip().lower().replace("-", "_")
    word = {"v": "v_prediction", "v_pred": "v_prediction", "eps": "epsilon"}.get(word, word)
    if word not in ("epsilon", "v_prediction", "sample"):
        raise ModelError(f"{path}: unknown prediction_type {word[:40]!r}; say which it is with --prediction")
    return word


def _size(family: Family, prediction: str) -> int:
    return 768 if family.name == "sd2" and prediction == "v_prediction" else family.size


def _beyond(own: str, config: Config, sources: Mapping[str, Source]) -> bool:
    """Is this a tensor of a text encoder that is never read: an unused projection, or OpenCLIP's last layer?"""
    if "num_hidden_layers" not in config or "architectures" in config:
        return False
    if own == "text_projection.weight":
        return True
    layer = re.match(rf"encoder\.layers\.{config['num_hidden_layers']}\.", own)
    return (
        config.get("hidden_act") == "gelu"
        and layer is not None
        and f"encoder.layers.0.{own[layer.end() :]}" in sources
    )


def _something_else(head: Header) -> str:
    kinds = {
        "lora": "a LoRA, which changes a model but is none; no U-Net in it",
        "hada_": "a LyCORIS, which changes a model but is none; no U-Net in it",
        "control_model": "a ControlNet; no U-Net in it",
        "controlnet_": "a ControlNet; no U-Net in it",
        "string_to_param": "a textual inversion; no U-Net in it",
        "emb_params": "a textual inversion; no U-Net in it",
        "double_blocks": "a Flux model; sd draws with Stable Diffusion 1, 2 and XL",
        "joint_blocks": "a Stable Diffusion 3 model; sd draws with Stable Diffusion 1, 2 and XL",
        "decoder.layers.": "a tiny autoencoder, which --vae takes; -m needs a whole checkpoint or model folder",
        "decoder.conv_in.": "a VAE alone, which --vae takes; -m needs a whole checkpoint or model folder",
        "down_blocks.0.": "a U-Net alone; -m needs a whole checkpoint or model folder",
        "input_blocks.0.": "a U-Net alone; -m needs a whole checkpoint or model folder",
        "token_embedding.": "a text encoder alone; -m needs a whole checkpoint or model folder",
    }
    for mark, what in kinds.items():
        if any(mark in key for key in head.tensors):
            return what
    if {"0.weight", "1.weight"} & head.tensors.keys():
        return "half of a tiny autoencoder, which --vae takes; -m needs a whole checkpoint or model folder"
    common = Counter(key.split(".")[0] for key in head.tensors).most_common(3)
    return f"no U-Net in it, only {', '.join(key[:40] for key, _ in common) or 'nothing'}; is it a whole checkpoint?"
