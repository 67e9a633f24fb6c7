"""Convert: a checkpoint written anew, as a single file or a diffusers folder, in a dtype; the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

import sdcli
from sdcli import store
from sdcli.errors import ModelError, UsageError
from sdcli.networks import ldm
from sdcli.networks.checkpoint import Checkpoint
from sdcli.networks.load import tensors

CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "depth_estimator": ("transformers", "DPTForDepthEstimation"),
}


def convert(found: Checkpoint, out: Path, dtype: torch.dtype | None = None) -> Path:
    """Write the checkpoint to `out`: one file with LDM names if it ends in .safetensors, else a diffusers folder.

    `dtype` is that of all weights; None keeps each as it is stored. Raises UsageError if `out` is there already.
    """
    if out.exists():
        raise UsageError(f"{out}: is there already; nothing is overwritten, choose another name")
    if any(network.header is None for network in found.networks.values()):
        raise ModelError(f"{found.name}: a test model is in no file; there is nothing to convert")
    if out.suffix == ".safetensors":
        whole = {key: value for part in found.networks for key, value in _single(found, part, dtype)}
        return store.save(_file(whole), out)
    for part, network in found.networks.items():
        stem = "diffusion_pytorch_model" if part in ("unet", "vae") else "model"
        prefix = "text_model." if part.startswith("text_encoder") else ""
        weights = {
            name if name.startswith("text_projection") else prefix + name: _as(value, dtype)
            for name, value in tensors(network)
        }
        store.save(_file(weights), out / part / f"{stem}.safetensors")
        library, kind = CLASSES[part]
        config = {"_class_name": kind} if library == "diffusers" else {"architectures": [kind]}
        store.save(_json({**network.config, **config}), out / part / "config.json")
    store.save(_json(_scheduler(found)), out / "scheduler" / "scheduler_config.json")
    index: dict[str, object] = {"_class_name": "StableDiffusionPipeline", "_sdcli_version": sdcli.__version__}
    index |= {part: list(CLASSES[part]) for part in found.networks} | {
        "scheduler": ["diffusers", "DDIMScheduler"]
    }
    store.save(_json(index), out / "model_index.json")
    return out


def _single(found: Checkpoint, part: str, dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    """One network's tensors under their LDM names; what was split is packed again."""
    network = found.networks[part]
    open_clip = network.config.get("hidden_act") == "gelu"
    places = ldm.keys(part, list(network.sources), found.family.name, open_clip)
    packed: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors(network):
        key, take = places[name].key, places[name].take
        value = _as(value, dtype)
        if take.startswith("third"):
            thirds = packed.setdefault(key, {})
            thirds[take] = value
            if len(thirds) == 3:
                yield key, torch.cat([thirds[f"third {i}"] for i in range(3)])
        elif take == "transpose":
            yield key, value.T.contiguous()
        elif ".mid.attn_1." in key and value.dim() == 2:  # LDM has convolutions there
            yield key, value[:, :, None, None]
        else:
            yield key, value


def _as(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    return value.to(dtype or value.dtype, copy=True)


def _file(weights: dict[str, Tensor]) -> bytes:
    return save(dict(sorted(weights.items())), {"format": "pt"})


def _json(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _scheduler(found: Checkpoint) -> dict[str, object]:
    base = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
    }
    told = {
        "_class_name": "DDIMScheduler",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    return {**base, **told, **found.schedule, "prediction_type": found.prediction}
