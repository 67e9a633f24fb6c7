"""Convert: write a checkpoint as a single file or a diffusers folder, in a chosen dtype; the same bytes every time.

Tensors go from file to file one by one, so a model of any size needs little memory. This is no part of `checkpoints/`
because it needs torch for the values and `store` for the writing.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import sdcli
from sdcli import store
from sdcli.checkpoints import network_config as configs
from sdcli.checkpoints import shards, tokenizer_folder
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.completeness import check_tensors
from sdcli.checkpoints.component import Component
from sdcli.checkpoints.family import Config
from sdcli.checkpoints.keys import single_file
from sdcli.checkpoints.tokenizer import Tokenizer
from sdcli.diffusion.levels import SD_BETAS, TIMESTEPS
from sdcli.errors import ModelError, UsageError
from sdcli.models.build import build_on_meta
from sdcli.models.tensors import DTYPES, all_finite, read_tensor

LIBRARY_CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "depth_estimator": ("transformers", "DPTForDepthEstimation"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
    "scheduler": ("diffusers", "DDIMScheduler"),
}
"""Folder of a diffusers folder -> the library and the class that open it."""
TINY_AUTOENCODER_CLASS = ("diffusers", "AutoencoderTiny")
OLDEST_DIFFUSERS = "0.36.0"  # that opens such a folder

DEFAULT_SCHEDULE = {
    "beta_start": SD_BETAS[0],
    "beta_end": SD_BETAS[1],
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": TIMESTEPS,
}
"""The noise levels of a model whose files do not describe them."""

SETTINGS_WITHOUT_TENSOR = (
    "scaling_factor",
    "shift_factor",
    "attention_head_dim",
    "num_attention_heads",
    "norm_num_groups",
    "norm_eps",
    "layer_norm_eps",
    "act_fn",
    "hidden_act",
    "flip_sin_to_cos",
    "freq_shift",
    "center_input_sample",
)
"""Keys of a config that change what a network computes, and no tensor's shape."""

MODELSPEC_WORDS = {"epsilon": "epsilon", "v_prediction": "v"}
"""Prediction type -> its word in the metadata of a single file."""

Shapes = Mapping[str, list[int]]
"""Name in the network -> shape."""

_ADVICE = "choose another place"


@dataclass(frozen=True)
class OutputTensor:
    """One tensor of a file to be written, and the tensors of a component that it is made of.

    Several are stacked along their first axis. A marker, which says something by its key alone, is made of none.
    """

    key: str
    shape: list[int]
    component: Component
    names: list[str]
    transpose: bool = False

    def values(self, dtype: torch.dtype) -> Tensor:
        """Its values; raises ModelError if one is not finite in this dtype."""
        stored = [read_tensor(self.component, name) for name in self.names]
        converted = [(tensor.T if self.transpose else tensor).to(dtype) for tensor in stored]
        values = torch.cat(converted or [torch.empty(0, dtype=dtype)]).reshape(self.shape).contiguous()
        if not all_finite(values):
            reason = "the file is damaged, fetch it again"
            if all(map(all_finite, stored)):
                reason = f"{str(dtype).removeprefix('torch.')} is too narrow for it, leave out --dtype"
            raise ModelError(f"{self.component.path(self.names[0])}: {self.key}: not finite; {reason}")
        return values

    def stored_dtype(self) -> str:
        """The dtype that it has in the checkpoint, by the format's name."""
        return self.component.entry(self.names[0]).dtype if self.names else "F32"


def convert(checkpoint: Checkpoint, out: Path, dtype: torch.dtype | None = None) -> Path:
    """Write the checkpoint to `out`: one file with LDM names if it ends in .safetensors, else a diffusers folder.

    `dtype` is that of all weights; None keeps each as it is stored. Raises UsageError if `out` exists, and ModelError
    if a tensor is missing, surplus, misshapen or not finite, or if a single file cannot say what the model is.
    """
    if out.exists():
        raise UsageError(f"{out}: is there already; nothing is overwritten, choose another name")
    if any(component.header is None for component in checkpoint.components.values()):
        raise ModelError(f"{checkpoint.name}: a test model is in no file; there is nothing to convert")
    shapes = {
        part: _checked_shapes(part, component, checkpoint.path)
        for part, component in checkpoint.components.items()
    }
    if out.suffix != ".safetensors":
        return store.save_folder(_folder_files(checkpoint, shapes, dtype), out, _ADVICE)
    _check_single_file_can_hold(checkpoint, shapes)
    tensors = [tensor for part in shapes for tensor in _ldm_tensors(checkpoint, part, shapes[part])]
    tensors += [OutputTensor(key, [0], checkpoint.components["unet"], []) for key in _markers(checkpoint)]
    metadata = {"modelspec.prediction_type": MODELSPEC_WORDS[checkpoint.prediction]}
    return store.save(_safetensors(tensors, dtype, metadata), out, _ADVICE)


def _checked_shapes(part: str, component: Component, path: Path) -> Shapes:
    """The shapes of a component's tensors, of which all were found; raises ModelError otherwise."""
    shapes = _shapes(part, component.config, path)
    check_tensors(component, shapes)
    return shapes


def _shapes(part: str, config: Config, path: Path) -> Shapes:
    """The shapes of the tensors of a network with this config."""
    network = build_on_meta(part, config, str(path))
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


# --- a single file


def _check_single_file_can_hold(checkpoint: Checkpoint, shapes: Mapping[str, Shapes]) -> None:
    """Raise ModelError unless the model is its family's in all that a single file, which has no configs, cannot say."""
    for part, use in checkpoint.family.text_encoders.items():
        if checkpoint.tokenizers[part] != Tokenizer(pad=use.pad):
            words = ", ".join(word.text[:60] for word in checkpoint.tokenizers[part].added[:3])
            fault = f"adds words ({words})" if words else "pads otherwise than its family's"
            raise ModelError(
                f"{checkpoint.name}: its tokenizer {fault}, which a single file cannot hold; "
                "name a folder to convert it to"
            )
    usual = checkpoint.family.configs
    usual_shapes = {part: _shapes(part, usual[part], checkpoint.path) for part in shapes if part in usual}
    if usual_shapes != shapes:
        raise ModelError(
            f"{checkpoint.name}: its networks are not shaped as a single file's must be, which brings no configs; "
            "name a folder to convert it to"
        )
    for part in shapes:
        key = _different_setting(part, checkpoint.components[part].config, usual[part])
        if key is not None:
            raise ModelError(
                f"{checkpoint.name}: the {key} of its {part.replace('_', ' ')} is not what a single file, which "
                "brings no configs, is taken to have; name a folder to convert it to"
            )
    schedule = {key: checkpoint.schedule.get(key, value) for key, value in DEFAULT_SCHEDULE.items()}
    usual_schedule = {**DEFAULT_SCHEDULE, **checkpoint.family.levels}
    if schedule != usual_schedule or checkpoint.prediction not in MODELSPEC_WORDS:
        raise ModelError(
            f"{checkpoint.name}: its noise levels or its prediction type are not what a single file can tell; "
            "name a folder to convert it to"
        )


def _different_setting(part: str, config: Config, usual: Config) -> str | None:
    """The first key whose values differ in a way that no tensor shows, or None."""
    settings, usual_settings = configs.settings(part, config), configs.settings(part, usual)
    for key in SETTINGS_WITHOUT_TENSOR:
        if _collapsed(settings.get(key)) != _collapsed(usual_settings.get(key)):
            return key
    return None


def _collapsed(value: object) -> object:
    """A list of one value for each level as that one value, if they are all equal."""
    if isinstance(value, list | tuple):
        return value[0] if len(set(value)) == 1 else tuple(value)
    return value


def _markers(checkpoint: Checkpoint) -> list[str]:
    """The keys of empty tensors by which other programs, too, know how a model was trained."""
    zero_snr = bool(checkpoint.schedule.get("rescale_betas_zero_snr"))
    is_xl = checkpoint.family.pipeline.startswith("StableDiffusionXL")
    predicts_v = checkpoint.prediction == "v_prediction" and (is_xl or zero_snr)
    return ["v_pred"] * predicts_v + ["ztsnr"] * zero_snr


def _ldm_tensors(checkpoint: Checkpoint, part: str, shapes: Shapes) -> Iterator[OutputTensor]:
    """One component's tensors under their LDM names; q, k and v are packed where the original has them in one."""
    component = checkpoint.components[part]
    open_clip = component.config.get("hidden_act") == "gelu"
    sources = single_file.sources(part, list(shapes), checkpoint.family.name, open_clip)
    packed: dict[str, list[str]] = {}
    for name, source in sources.items():
        shape = shapes[name]
        if source.take.startswith("third"):
            thirds = packed.setdefault(source.key, ["", "", ""])
            thirds[int(source.take[-1])] = name
            if all(thirds):
                yield OutputTensor(source.key, [3 * shape[0], *shape[1:]], component, thirds)
        elif source.take == "transpose":
            yield OutputTensor(source.key, shape[::-1], component, [name], transpose=True)
        elif ".mid.attn_1." in source.key and len(shape) == 2:  # LDM has 1x1 convolutions there
            yield OutputTensor(source.key, [*shape, 1, 1], component, [name])
        else:
            yield OutputTensor(source.key, shape, component, [name])


# --- a diffusers folder


def _folder_files(
    checkpoint: Checkpoint, shapes: Mapping[str, Shapes], dtype: torch.dtype | None
) -> Iterator[tuple[str, bytes | Iterator[bytes]]]:
    """(name in the folder, contents) of each file."""
    for part, component in checkpoint.components.items():
        tensors = [
            OutputTensor(_library_name(part, name), shape, component, [name])
            for name, shape in shapes[part].items()
        ]
        yield f"{part}/{shards.stem_of(part)}.safetensors", _safetensors(tensors, dtype)
        yield f"{part}/config.json", _json(_config(checkpoint, part))
        if part in checkpoint.tokenizers:
            for name, data in tokenizer_folder.contents(checkpoint.tokenizers[part]).items():
                yield f"{_tokenizer_of(part)}/{name}", data
    yield "scheduler/scheduler_config.json", _json(_scheduler(checkpoint))
    yield "model_index.json", _json(_index(checkpoint))


def _library_name(part: str, name: str) -> str:
    """A tensor's name in a diffusers folder."""
    if part.startswith("text_encoder") and name != "text_projection.weight":
        return f"text_model.{name}"
    return name


def _tokenizer_of(text_encoder: str) -> str:
    return text_encoder.replace("text_encoder", "tokenizer")


def _config(checkpoint: Checkpoint, part: str) -> dict[str, object]:
    """config.json of a component, with the class that opens it."""
    library, class_name = _library_class(checkpoint, part)
    config = checkpoint.components[part].config
    if library == "diffusers":
        return {**config, "_class_name": class_name}
    # opened in float32 unless another dtype is asked for, as diffusers opens its own classes
    return {**config, "architectures": [class_name], "dtype": "float32"}


def _library_class(checkpoint: Checkpoint, part: str) -> tuple[str, str]:
    """The library and the class that open a folder of the checkpoint."""
    if part == "vae" and "encoder_block_out_channels" in checkpoint.components["vae"].config:
        return TINY_AUTOENCODER_CLASS
    return LIBRARY_CLASSES[part]


def _index(checkpoint: Checkpoint) -> dict[str, object]:
    """model_index.json, by which diffusers opens the folder."""
    family = checkpoint.family
    tokenizers = [_tokenizer_of(part) for part in checkpoint.components if part in family.text_encoders]
    index: dict[str, object] = {
        part: list(_library_class(checkpoint, part))
        for part in [*checkpoint.components, *tokenizers, "scheduler"]
    }
    if family.pipeline.startswith("StableDiffusionXL"):
        absent = [part for part in ("text_encoder", "tokenizer") if part not in index]
        index["force_zeros_for_empty_prompt"] = family.zero_empty
    else:
        absent = ["safety_checker", "feature_extractor"]
        index["requires_safety_checker"] = False
    index |= {part: [None, None] for part in absent}
    versions = {"_diffusers_version": OLDEST_DIFFUSERS, "_sdcli_version": sdcli.__version__}
    return {"_class_name": family.pipeline, **versions, **index}


def _scheduler(checkpoint: Checkpoint) -> dict[str, object]:
    """scheduler_config.json."""
    ddim = {
        "_class_name": "DDIMScheduler",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    return {**DEFAULT_SCHEDULE, **ddim, **checkpoint.schedule, "prediction_type": checkpoint.prediction}


def _json(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


# --- both


def _safetensors(
    tensors: list[OutputTensor], dtype: torch.dtype | None, metadata: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """A safetensors file, piece by piece: wider dtypes first, then by key, as the format's own library writes it."""
    format_names = {dtype: name for name, dtype in DTYPES.items()}
    dtypes = {tensor.key: format_names[dtype] if dtype else tensor.stored_dtype() for tensor in tensors}
    widths = {key: DTYPES[name].itemsize for key, name in dtypes.items()}
    tensors = sorted(tensors, key=lambda tensor: (-widths[tensor.key], tensor.key))
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    start = 0
    for tensor in tensors:
        end = start + widths[tensor.key] * math.prod(tensor.shape)
        header[tensor.key] = {
            "dtype": dtypes[tensor.key],
            "shape": tensor.shape,
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for tensor in tensors:
        values = tensor.values(DTYPES[dtypes[tensor.key]])
        yield values.flatten().view(torch.uint8).numpy().tobytes()
