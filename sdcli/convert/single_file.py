"""Single file: a checkpoint as one file with LDM names, which brings no configs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from sdcli.checkpoints import network_config as configs
from sdcli.checkpoints import scheduler, toy
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.family import Config
from sdcli.checkpoints.keys import single_file as keys
from sdcli.convert.tensors import OutputTensor, Shapes, safetensors, shapes_of, weights_of
from sdcli.diffusion.levels import SD_BETAS, TIMESTEPS
from sdcli.errors import ModelError
from sdcli.tokenizer import Tokenizer

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
    "latents_mean",
    "latents_std",
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


def contents(
    checkpoint: Checkpoint, shapes: Mapping[str, Shapes], dtype: torch.dtype | None
) -> Iterator[bytes]:
    """The file, piece by piece; raises ModelError if it cannot say what the model is."""
    _check_single_file_can_hold(checkpoint, shapes)
    tensors = [tensor for part in shapes for tensor in _ldm_tensors(checkpoint, part, shapes[part])]
    unet = weights_of("unet", checkpoint.components["unet"])
    tensors += [OutputTensor(key, [0], unet, []) for key in _markers(checkpoint)]
    metadata = {"modelspec.prediction_type": MODELSPEC_WORDS[checkpoint.prediction]}
    if checkpoint.test_model:
        metadata[toy.MARK] = checkpoint.test_model
    return safetensors(tensors, dtype, metadata)


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
    if not usual:
        raise ModelError(
            f"{checkpoint.name}: no single file holds a model of the family {checkpoint.family.name}; name a folder to "
            "convert it to, or try a test model, which one can hold: test:sd1"
        )
    usual_shapes = {part: shapes_of(part, usual[part], checkpoint.path) for part in shapes if part in usual}
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
    levels = scheduler.sampling(usual_schedule, checkpoint.family, checkpoint.name, "epsilon").levels
    is_usual = checkpoint.levels in (levels, levels.rescaled()) and checkpoint.threshold is None
    if schedule != usual_schedule or not is_usual or checkpoint.prediction not in MODELSPEC_WORDS:
        raise ModelError(
            f"{checkpoint.name}: its noise levels or its prediction type are not what a single file can tell; "
            "name a folder to convert it to"
        )


def _different_setting(part: str, config: Config, usual: Config) -> str | None:
    """The first key whose values differ in a way that no tensor shows, or None."""
    settings, usual_settings = (
        each if part == "depth_estimator" else configs.settings(part, each) for each in (config, usual)
    )
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
    config = checkpoint.components[part].config
    weights = weights_of(part, checkpoint.components[part])
    open_clip = config.get("hidden_act") == "gelu"
    sources = keys.sources(part, list(shapes), checkpoint.family.name, open_clip)
    packed: dict[str, list[str]] = {}
    for name, source in sources.items():
        shape = shapes[name]
        if source.take.startswith("third"):
            thirds = packed.setdefault(source.key, ["", "", ""])
            thirds[int(source.take[-1])] = name
            if all(thirds):
                yield OutputTensor(source.key, [3 * shape[0], *shape[1:]], weights, thirds)
        elif source.take == "transpose":
            yield OutputTensor(source.key, shape[::-1], weights, [name], transpose=True)
        elif ".mid.attn_1." in source.key and len(shape) == 2:  # LDM has 1x1 convolutions there
            yield OutputTensor(source.key, [*shape, 1, 1], weights, [name])
        else:
            yield OutputTensor(source.key, shape, weights, [name])
