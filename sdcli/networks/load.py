"""Load: a model's name or folder -> Model. Configs are read first and weights last, each tensor accounted for."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from sdcli.diffusion.levels import Levels
from sdcli.errors import ModelError
from sdcli.networks import borrowed, folder, place
from sdcli.networks.family import recognise
from sdcli.networks.model import Model

IGNORABLE = ("position_ids",)  # buffers that older files carry and the networks make themselves


@functools.lru_cache(maxsize=1)
def load(name: str = "tiny", device: str = "auto", dtype: str = "auto") -> Model:
    """The model of this name: `tiny`, or a diffusers folder. The last one stays loaded.

    Raises ModelError if a file is missing, bad, or of a family that is not known.
    """
    home = folder.find(name)
    configs, weights = folder.configs(home), folder.weights(home)
    family = recognise(configs, name)
    with ThreadPoolExecutor(1) as pool:  # hashing leaves the interpreter free, so it hides behind the imports
        digest = pool.submit(_digest, list(weights.values()))
        blank = {part: borrowed.blank(part, configs[part], str(home / part)) for part in weights}
        where = place.choose(
            device, dtype, sum(p.numel() for net in blank.values() for p in net.parameters())
        )
        nets = {part: fill(blank[part], weights[part], where) for part in weights}
        facts = {
            "model": {"family": family.name, "sha256": digest.result()},
            **where.facts,
            **borrowed.versions(),
        }
    return Model(
        name=name,
        family=family,
        text=nets["text_encoder"],
        unet=nets["unet"],
        vae=nets["vae"],
        levels=_levels(configs["scheduler"], name),
        prediction=_prediction(configs["scheduler"], name),
        size=_size(configs),
        place=where,
        facts=facts,
    )


def fill(net: nn.Module, path: Path, where: place.Place) -> nn.Module:
    """Give a network on the meta device its weights from a file, and move it to its place.

    Every tensor the network needs must be there, of its shape, and finite, and no other may be; else ModelError.
    """
    need = net.state_dict()
    with _opened(path) as file:
        have = {borrowed.own_name(key): key for key in file.keys()}  # noqa: SIM118 (not a dict)
        _account(path, need, {own: file.get_slice(key).get_shape() for own, key in have.items()})
        weights = {own: file.get_tensor(have[own]).to(where.dtype) for own in need}
    bad = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ModelError(f"{path}: {_first(bad)} not finite; the file is damaged, fetch it again")
    net.load_state_dict(weights, assign=True)
    borrowed.restore_buffers(net)
    net.eval().requires_grad_(False).to(device=where.device)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _account(path: Path, need: Mapping[str, torch.Tensor], have: Mapping[str, list[int]]) -> None:
    missing = [name for name in need if name not in have]
    surplus = [name for name in have if name not in need and not name.endswith(IGNORABLE)]
    if missing:
        raise ModelError(
            f"{path}: {_first(missing)} missing; it is not the network its config.json describes"
        )
    if surplus:
        raise ModelError(
            f"{path}: {_first(surplus)} too many; it is not the network its config.json describes"
        )
    misshapen = [name for name, tensor in need.items() if list(tensor.shape) != list(have[name])]
    if misshapen:
        name = misshapen[0]
        shapes = f"{name} is {list(have[name])}, not {list(need[name].shape)}"
        raise ModelError(
            f"{path}: {_first(misshapen)} of another shape ({shapes}); config.json and weights differ"
        )


def _first(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({', '.join(names[:3])}{more})"


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; is the model folder whole?") from None
    except (SafetensorError, OSError) as error:
        reason = str(error).removeprefix("Error while deserializing header: ").splitlines()[0]
        raise ModelError(f"{path}: not a whole safetensors file ({reason}); fetch it again") from None


def _digest(paths: list[Path]) -> str:
    """One sha256 for the weights of a folder: that of its files' sha256s, in the order of PARTS."""
    whole = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _levels(config: Mapping[str, Any], name: str) -> Levels:
    kinds = {"scaled_linear": Levels.scaled_linear, "linear": Levels.linear}
    kind = config.get("beta_schedule", "scaled_linear")
    try:
        start, end = float(config.get("beta_start", 0.00085)), float(config.get("beta_end", 0.012))
        return kinds[kind](start, end, int(config.get("num_train_timesteps", 1000)))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise ModelError(
            f"{name}: scheduler_config.json describes no noise levels known here ({kind})"
        ) from None


def _prediction(config: Mapping[str, Any], name: str) -> str:
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise ModelError(f"{name}: scheduler_config.json asks for an unknown prediction_type {prediction!r}")
    return str(prediction)


def _size(configs: Mapping[str, Mapping[str, Any]]) -> int:
    size = configs["unet"].get("sample_size", 64)
    return int(size if isinstance(size, int) else 64) * 8
