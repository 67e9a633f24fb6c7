"""Convert: a checkpoint written anew, as a single file or a diffusers folder, in a dtype; the same bytes every time.

Tensors go from file to file one by one, so that a model of any size needs little memory.
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
from sdcli.checkpoints import tokenizer
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.component import Component
from sdcli.checkpoints.family import Config
from sdcli.checkpoints.keys import to_ldm
from sdcli.diffusion.levels import SD_BETAS, TIMESTEPS
from sdcli.errors import ModelError, UsageError
from sdcli.models import config as configs
from sdcli.models.build import build_on_meta
from sdcli.models.load import check_tensors
from sdcli.models.tensors import DTYPES, all_finite, read_tensor

CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "depth_estimator": ("transformers", "DPTForDepthEstimation"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
    "scheduler": ("diffusers", "DDIMScheduler"),
}
SCHEDULE = {
    "beta_start": SD_BETAS[0],
    "beta_end": SD_BETAS[1],
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": TIMESTEPS,
}
"""The noise levels of a model that says nothing of them."""

SETTINGS = (
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
"""What a config may say that changes what a network computes, but no tensor's shape."""

ADVICE = "choose another place"
_TOLD = {"epsilon": "epsilon", "v_prediction": "v"}


@dataclass(frozen=True)
class Piece:
    """One tensor of a file to be written: its key, its shape there, and the network's tensors that it is made of.

    A marker, which tells by its name alone, is made of none.
    """

    key: str
    shape: list[int]
    network: Component
    names: list[str]
    turned: bool = False

    def tensor(self, dtype: torch.dtype) -> Tensor:
        """Its values; raises ModelError if one is not a finite number of this dtype."""
        stored = [read_tensor(self.network, name) for name in self.names]
        parts = [(part.T if self.turned else part).to(dtype) for part in stored]
        whole = torch.cat(parts or [torch.empty(0, dtype=dtype)]).reshape(self.shape).contiguous()
        if not all_finite(whole):
            reason = "the file is damaged, fetch it again"
            if all(map(all_finite, stored)):
                reason = f"{str(dtype).removeprefix('torch.')} is too narrow for it, leave out --dtype"
            raise ModelError(f"{self.network.path(self.names[0])}: {self.key}: not finite; {reason}")
        return whole

    def dtype(self) -> str:
        """The format's name of the dtype that it is stored in."""
        if not self.names:
            return "F32"
        assert self.network.header is not None
        return self.network.header.tensors[self.network.sources[self.names[0]].key].dtype


def convert(found: Checkpoint, out: Path, dtype: torch.dtype | None = None) -> Path:
    """Write the checkpoint to `out`: one file with LDM names if it ends in .safetensors, else a diffusers folder.

    `dtype` is that of all weights; None keeps each as it is stored. Raises UsageError if `out` is there already, and
    ModelError if a tensor is missing, surplus, misshapen or not finite, or a single file cannot tell all.
    """
    if out.exists():
        raise UsageError(f"{out}: is there already; nothing is overwritten, choose another name")
    if any(network.header is None for network in found.networks.values()):
        raise ModelError(f"{found.name}: a test model is in no file; there is nothing to convert")
    shapes = {part: _shapes(part, network, found.path) for part, network in found.networks.items()}
    if out.suffix == ".safetensors":
        _check_alone(found, shapes)
        pieces = [piece for part in shapes for piece in _original(found, part, shapes[part])]
        pieces += [Piece(key, [0], found.networks["unet"], []) for key in _markers(found)]
        told = {"modelspec.prediction_type": _TOLD[found.prediction]}
        return store.save(_file(pieces, dtype, told), out, ADVICE)
    return store.save_folder(_files(found, shapes, dtype), out, ADVICE)


def _files(
    found: Checkpoint, shapes: Mapping[str, Mapping[str, list[int]]], dtype: torch.dtype | None
) -> Iterator[tuple[str, bytes | Iterator[bytes]]]:
    """The files of a diffusers folder, by their names in it."""
    for part, network in found.networks.items():
        stem = "diffusion_pytorch_model" if part in ("unet", "vae") else "model"
        prefix = "text_model." if part.startswith("text_encoder") else ""
        pieces = [
            Piece(name if name == "text_projection.weight" else prefix + name, shape, network, [name])
            for name, shape in shapes[part].items()
        ]
        yield f"{part}/{stem}.safetensors", _file(pieces, dtype)
        library, kind = _class(part, found)
        config: dict[str, object] = {"_class_name": kind}
        if (
            library == "transformers"
        ):  # opened in float32 where no other is asked for, as diffusers opens the others
            config = {"architectures": [kind], "dtype": "float32"}
        yield f"{part}/config.json", _json({**network.config, **config})
        if part in found.family.text_encoders:
            for name, data in tokenizer.saved(found.family.text_encoders[part].pad).items():
                yield f"{part.replace('text_encoder', 'tokenizer')}/{name}", data
    yield "scheduler/scheduler_config.json", _json(_scheduler(found))
    yield "model_index.json", _json(_index(found))


def _shapes(part: str, network: Component, path: Path) -> dict[str, list[int]]:
    """The network's tensors by their names in a folder, and their shapes there."""
    check_tensors(network, build_on_meta(part, network.config, str(path)))
    return _blank_shapes(part, network.config, path)


def _blank_shapes(part: str, config: Config, path: Path) -> dict[str, list[int]]:
    network = build_on_meta(part, config, str(path))
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def _check_alone(found: Checkpoint, shapes: Mapping[str, Mapping[str, list[int]]]) -> None:
    """A single file brings no configs, so its networks must be those that its family is known to have."""
    configs_known = found.family.configs
    known = {
        part: _blank_shapes(part, configs_known[part], found.path) for part in shapes if part in configs_known
    }
    if known != shapes:
        raise ModelError(
            f"{found.name}: its networks are not shaped as a single file's must be, which brings no configs; "
            "name a folder to convert it to"
        )
    for part in known:
        own, usual = (
            configs.settings(part, each) for each in (found.networks[part].config, configs_known[part])
        )
        for key in SETTINGS:
            if _plain(own.get(key)) != _plain(usual.get(key)):
                raise ModelError(
                    f"{found.name}: the {key} of its {part.replace('_', ' ')} is not what a single file, which "
                    "brings no configs, is taken to have; name a folder to convert it to"
                )
    told = {key: found.schedule.get(key, SCHEDULE[key]) for key in SCHEDULE}
    if told != SCHEDULE | {**found.family.levels} or found.prediction not in _TOLD:
        raise ModelError(
            f"{found.name}: its noise levels or its prediction type are not what a single file can tell; "
            "name a folder to convert it to"
        )


def _plain(setting: object) -> object:
    """A setting of each level as the one of all, where they are the same."""
    if isinstance(setting, list | tuple):
        return setting[0] if len(set(setting)) == 1 else tuple(setting)
    return setting


def _markers(found: Checkpoint) -> list[str]:
    """Empty tensors by whose names other programs, too, know what a single file was trained for."""
    rescaled = bool(found.schedule.get("rescale_betas_zero_snr"))
    large = found.family.pipeline.startswith("StableDiffusionXL")
    marks = ["v_pred"] if found.prediction == "v_prediction" and (large or rescaled) else []
    return marks + ["ztsnr"] * rescaled


def _original(found: Checkpoint, part: str, shapes: Mapping[str, list[int]]) -> Iterator[Piece]:
    """One network's tensors under their LDM names; what was split is packed again."""
    network = found.networks[part]
    open_clip = network.config.get("hidden_act") == "gelu"
    packed: dict[str, list[str]] = {}
    for name, source in to_ldm.keys(part, list(shapes), found.family.name, open_clip).items():
        shape = shapes[name]
        if source.take.startswith("third"):
            thirds = packed.setdefault(source.key, ["", "", ""])
            thirds[int(source.take[-1])] = name
            if all(thirds):
                yield Piece(source.key, [3 * shape[0], *shape[1:]], network, thirds)
        elif source.take == "transpose":
            yield Piece(source.key, shape[::-1], network, [name], turned=True)
        elif ".mid.attn_1." in source.key and len(shape) == 2:  # LDM has convolutions there
            yield Piece(source.key, [*shape, 1, 1], network, [name])
        else:
            yield Piece(source.key, shape, network, [name])


def _file(
    pieces: list[Piece], dtype: torch.dtype | None, told: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """A safetensors file of these pieces: wider dtypes first, then by name, as the format's own library writes it."""
    names = {value: name for name, value in DTYPES.items()}
    kinds = {piece.key: names[dtype] if dtype else piece.dtype() for piece in pieces}
    widths = {piece.key: DTYPES[kinds[piece.key]].itemsize for piece in pieces}
    pieces = sorted(pieces, key=lambda piece: (-widths[piece.key], piece.key))
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(told or {})}}
    place = 0
    for piece in pieces:
        end = place + widths[piece.key] * math.prod(piece.shape)
        header[piece.key] = {"dtype": kinds[piece.key], "shape": piece.shape, "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for piece in pieces:
        yield piece.tensor(DTYPES[kinds[piece.key]]).flatten().view(torch.uint8).numpy().tobytes()


def _json(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _class(part: str, found: Checkpoint) -> tuple[str, str]:
    """The library and the class that a part is opened with."""
    tiny = part == "vae" and "encoder_block_out_channels" in found.networks["vae"].config
    return ("diffusers", "AutoencoderTiny") if tiny else CLASSES[part]


def _index(found: Checkpoint) -> dict[str, object]:
    """model_index.json, by which diffusers opens the folder."""
    read = [
        part.replace("text_encoder", "tokenizer")
        for part in found.networks
        if part in found.family.text_encoders
    ]
    index: dict[str, object] = {
        part: list(_class(part, found)) for part in [*found.networks, *read, "scheduler"]
    }
    if found.family.pipeline.startswith("StableDiffusionXL"):
        absent = [part for part in ("text_encoder", "tokenizer") if part not in index]
        index |= {"force_zeros_for_empty_prompt": found.family.zero_empty}
    else:
        absent = ["safety_checker", "feature_extractor"]
        index |= {"requires_safety_checker": False}
    index |= {part: [None, None] for part in absent}
    versions = {
        "_diffusers_version": "0.36.0",
        "_sdcli_version": sdcli.__version__,
    }  # the oldest that reads it
    return {"_class_name": found.family.pipeline, **versions, **index}


def _scheduler(found: Checkpoint) -> dict[str, object]:
    told = {
        "_class_name": "DDIMScheduler",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    return {**SCHEDULE, **told, **found.schedule, "prediction_type": found.prediction}
