"""File schedule: what a single file says of its noise levels: by marker tensors, and by the yaml beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdcli.checkpoints.component import MAX_CONFIG_BYTES
from sdcli.checkpoints.family import Config, Family
from sdcli.checkpoints.header import FLOATS, Header
from sdcli.errors import ModelError

PLAYGROUND_SCALING = 0.5  # of Playground 2.5's latents, after the mean and the deviation that its file brings


@dataclass(frozen=True)
class FileSchedule:
    """What a single file says of its levels; what it leaves open is empty."""

    where: str  # for errors
    schedule: Config = field(default_factory=dict)  # with scheduler_config.json's keys
    marked: str = ""  # prediction type by a marker tensor
    marker: str = ""  # its name
    parameterization: str = ""  # prediction type by the yaml
    vae: Config = field(default_factory=dict)  # keys of the VAE's config


def read(head: Header, family: Family) -> FileSchedule:
    """What the file and its yaml say; raises ModelError for a value that is damaged, or that is not honoured here.

    The markers are ComfyUI's: `v_pred`, `ztsnr`; `edm_mean` and `edm_std` of Playground 2.5, `edm_vpred.sigma_max` and
    `edm_vpred.sigma_min` of CosXL. The yaml is the one that A1111 reads: the file's name with that suffix.
    """
    path = Path(head.path)
    beside = path.with_suffix(".yaml")
    schedule, parameterization = ({}, "") if not beside.is_file() else _read_yaml(beside, family)
    where = str(path)
    if {"edm_mean", "edm_std"} <= head.tensors.keys():
        vae = {
            "latents_mean": _numbers(head, "edm_mean"),
            "latents_std": _numbers(head, "edm_std"),
            "scaling_factor": PLAYGROUND_SCALING,
        }
        edm = {"_class_name": "EDMDPMSolverMultistepScheduler", "sigma_min": 0.002, "sigma_max": 80.0}
        return FileSchedule(where, {**edm, "sigma_data": 0.5}, "epsilon", "edm_mean", parameterization, vae)
    if "edm_vpred.sigma_max" in head.tensors:
        edm = {"_class_name": "EDMEulerScheduler", "sigma_data": 1.0, "sigma_schedule": "exponential"}
        edm["sigma_max"] = _numbers(head, "edm_vpred.sigma_max")[0]
        if "edm_vpred.sigma_min" in head.tensors:
            edm["sigma_min"] = _numbers(head, "edm_vpred.sigma_min")[0]
        return FileSchedule(where, edm, "v_prediction", "edm_vpred.sigma_max", parameterization)
    if "ztsnr" in head.tensors:
        schedule = {**schedule, "rescale_betas_zero_snr": True}
    if "v_pred" in head.tensors:
        return FileSchedule(where, schedule, "v_prediction", "v_pred", parameterization)
    return FileSchedule(where, schedule, parameterization=parameterization)


def _numbers(head: Header, key: str) -> list[float]:
    """The values of a small marker tensor; raises ModelError if there are none, or if one is not finite."""
    values = head.values(key) if head.tensors[key].dtype in FLOATS else []
    if not values or not all(map(math.isfinite, values)):
        raise ModelError(
            f"{head.path}: the tensor {key} holds no numbers; the file is damaged, fetch it again"
        )
    return values


# --- the yaml

_PARAMETERIZATIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
_SCALINGS = {"EpsScaling": "epsilon", "VScaling": "v_prediction"}
_LEVELS = {"linear_start": "beta_start", "linear_end": "beta_end", "timesteps": "num_train_timesteps"}
"""Key of the yaml -> key of scheduler_config.json."""


def _read_yaml(path: Path, family: Family) -> tuple[dict[str, Any], str]:
    """(levels, prediction type or "") of an LDM or SGM config; raises ModelError if it does not fit the file."""
    params = _section(_load(path), "model", "params")
    stated = params.get("parameterization")
    if stated is not None and stated not in _PARAMETERIZATIONS:
        raise ModelError(f"{path}: parameterization {str(stated)[:40]!r} is not known; use eps, v or x0")
    prediction = _PARAMETERIZATIONS.get(str(stated), "")
    target = _section(params, "denoiser_config", "params", "scaling_config").get("target")
    if target is not None:
        word = str(target).rsplit(".", 1)[-1]
        if word not in _SCALINGS:
            raise ModelError(f"{path}: scaling_config {word[:60]} is not known; use EpsScaling or VScaling")
        prediction = _SCALINGS[word]
    _check_fits(path, params, family)
    levels = {name: params[key] for key, name in _LEVELS.items() if params.get(key) is not None}
    return levels, prediction


def _check_fits(path: Path, params: Mapping[str, Any], family: Family) -> None:
    """Raise ModelError if the yaml is of another model than the file, or has what is not honoured here."""
    unet = _section(params, "unet_config", "params")
    signature = family.signature
    known = {
        "beta_schedule": (params.get("beta_schedule"), "linear"),
        "given_betas": (params.get("given_betas"), None),
        "scale_factor": (params.get("scale_factor"), family.configs.get("vae", {}).get("scaling_factor")),
        "in_channels": (unet.get("in_channels"), signature.channels),
        "context_dim": (unet.get("context_dim"), signature.context),
    }
    for key, (value, needed) in known.items():
        value = value[0] if isinstance(value, list) and value and len(set(map(str, value))) == 1 else value
        if value is not None and value != needed:
            reason = f"where the file's model, {family.name}, has {needed}"
            raise ModelError(
                f"{path}: {key} {str(value)[:40]} {reason}; take the yaml away if it is of another"
            )


def _section(tree: Any, *keys: str) -> Mapping[str, Any]:
    """The mapping under these keys; an empty one if there is none."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, Mapping) else {}


def _load(path: Path) -> Any:
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ModelError(f"{path}: is far larger than a config; it is not read")
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise ModelError(f"{path}: cannot be read as YAML ({reason}); mend it or take it away") from None
