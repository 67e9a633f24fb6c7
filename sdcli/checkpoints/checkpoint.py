"""Checkpoint: what a model's files are, by their headers and configs alone; no weights are read."""

from __future__ import annotations

import functools
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sdcli import settings, tiny
from sdcli.checkpoints import (
    compatibility,
    completeness,
    file_schedule,
    header,
    hub,
    lookup,
    pipeline_index,
    scheduler,
    shards,
    structure,
    tokenizer_folder,
    toy,
    unet_layout,
    vae_file,
)
from sdcli.checkpoints.component import OPTIONAL, PARTS, Component, add_source, listing, read_config
from sdcli.checkpoints.family import Config, Family, UNetSignature, consistency_model, recognise
from sdcli.checkpoints.file_schedule import FileSchedule
from sdcli.checkpoints.header import Header, ReadHeader
from sdcli.checkpoints.keys import diffusers, single_file
from sdcli.checkpoints.keys.types import Source
from sdcli.diffusion.levels import Levels
from sdcli.diffusion.limits import Threshold
from sdcli.errors import ModelError, UsageError
from sdcli.home import expand_home
from sdcli.request.request import Loading
from sdcli.tokenizer import Tokenizer

Sources = dict[str, Source]
"""Name in the network -> where the tensor is in the file."""

_FOLDER_HAS = "a diffusers folder has unet, vae and text_encoder"


@dataclass(frozen=True)
class Checkpoint:
    """A model that was recognised: all that is needed to load it, so that no header is read again."""

    name: str  # as the user wrote it
    path: Path
    family: Family
    components: Mapping[str, Component]  # by the names in component.PARTS
    schedule: Config  # scheduler_config.json, or what stands for it
    levels: Levels  # noise levels that it was trained on
    sampling_from: str  # what its default sampler and schedule come from, for the user
    prediction: str  # epsilon, v_prediction or sample
    prediction_from: str  # what decided the prediction type, for the user
    size: int  # pixels
    ignored: tuple[str, ...] = ()  # keys of tensors that no network needs
    test_model: str = ""  # which test model it is, if it is one
    threshold: Threshold | None = None  # of each estimate of the network
    tokenizers: Mapping[str, Tokenizer] = field(default_factory=dict)  # by text encoder; `read` fills them in

    @property
    def paths(self) -> list[Path]:
        """The files with its weights, each once."""
        headers = [component.header for component in self.components.values()]
        return list(dict.fromkeys(path for header in headers if header for path in header.paths))


def read(
    name: str,
    prediction: str = "auto",
    vae: str | None = None,
    revision: str | None = None,
    fetches: bool = True,
    read_header: ReadHeader | None = None,
    ztsnr: bool = False,
) -> Checkpoint:
    """The checkpoint that `find` finds. Each file's header is read once, also if the hub's cache is looked through.

    A prediction type other than "auto" overrides what is recognised; `vae` names a file or folder with another VAE.
    Raises ModelError if a file is missing or damaged, holds an unknown tensor, or is of no known family.
    """
    read_header = read_header or functools.cache(header.read)
    path = find(name, revision, fetches, read_header)
    if name.startswith("test:"):
        checkpoint = _read_toy(name, path)
    elif path.is_dir():
        checkpoint = _read_folder(name, path, prediction, read_header)
    else:
        checkpoint = _read_file(name, path, prediction, read_header)
    if vae is not None:
        other_vae = vae_file.read(vae, checkpoint.family, read_header)
        checkpoint = replace(checkpoint, components={**checkpoint.components, "vae": other_vae})
    compatibility.check_parts_fit(name, checkpoint.family, checkpoint.components)
    completeness.check_components(path, checkpoint.components)
    checkpoint = replace(checkpoint, tokenizers=_tokenizers(checkpoint))
    compatibility.check_added_words(checkpoint.components, checkpoint.tokenizers)
    if prediction != "auto":
        checkpoint = replace(checkpoint, prediction=prediction, prediction_from="--prediction")
    return _with_zero_terminal_snr(checkpoint) if ztsnr else checkpoint


def read_for(loading: Loading) -> Checkpoint:
    """The checkpoint that is to be loaded, as `read` reads it."""
    return read(loading.model, loading.prediction, loading.vae, loading.revision, ztsnr=loading.ztsnr)


def _with_zero_terminal_snr(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with its noise levels rescaled; raises UsageError for an EDM model."""
    if checkpoint.levels.sigma_data is not None:
        raise UsageError(
            f"--ztsnr: {checkpoint.name} is an EDM model, which has no last timestep; leave it out"
        )
    if checkpoint.schedule.get("rescale_betas_zero_snr"):
        return checkpoint
    schedule = {**checkpoint.schedule, "rescale_betas_zero_snr": True}
    return replace(checkpoint, schedule=schedule, levels=checkpoint.levels.rescaled())


# --- from a name to a path


def find(
    name: str, revision: str | None = None, fetches: bool = True, read_header: ReadHeader = header.read
) -> Path:
    """The file or folder of a model: `tiny`, a test model, a path, a name or hash in a model folder, or a repo id.

    A repo that was not fetched before is fetched if `fetches` is true. Raises ModelError if there is no such model, and
    UsageError for a revision of something else than a repo.
    """
    path = _find_local(name)
    if path is None:
        path = _find_on_hub(name, revision, fetches, read_header)
    elif revision is not None:
        raise UsageError(f"--revision {revision}: {name} is no repo of the hub; leave it out")
    if path.is_dir() and not (path / "unet").is_dir():
        raise ModelError(f"{name}: no unet folder in it; {_FOLDER_HAS}")
    return path


def _find_local(name: str) -> Path | None:
    """Path of a local model (test:, tiny, a path, a name in a model folder, sha256:HEX), or None."""
    if name.startswith("test:"):
        toy.family(name)  # raises if there is no such test model
        return Path(name)
    if name == "tiny":
        return tiny.FOLDER
    path = Path(expand_home(name))
    if os.path.exists(path):  # False, and no error, for a name that no file can have
        return path
    return lookup.model_path(name)


def _find_on_hub(name: str, revision: str | None, fetches: bool, read_header: ReadHeader) -> Path:
    if not hub.is_repo(name):
        folders = ", ".join(map(str, settings.model_folders())) or "a model folder (set SDCLI_MODELS to one)"
        raise ModelError(f"{name}: no such model here or in {folders}; `sd models` lists what there is")
    path = hub.cached(name, revision, read_header)
    if path is None and not fetches:
        raise ModelError(
            f"{name}: no such file here, and no repo fetched before; `sd models pull` fetches one"
        )
    return path or hub.fetch(name, revision)


# --- test models


def _read_toy(name: str, path: Path) -> Checkpoint:
    family, prediction = toy.family(name)
    drawn = scheduler.sampling(family.levels, family, name, prediction)
    return Checkpoint(
        name=name,
        path=path,
        family=drawn.family,
        components={part: Component(config, None, {}) for part, config in family.configs.items()},
        schedule=dict(family.levels),
        levels=drawn.levels,
        threshold=drawn.threshold,
        sampling_from=drawn.decided_by,
        prediction=prediction,
        prediction_from="its name",
        size=toy.SIZE,
        test_model=name,
    )


# --- a single file


def _read_file(name: str, path: Path, prediction: str, read_header: ReadHeader) -> Checkpoint:
    """A checkpoint in one file; its configs are the family's."""
    head = read_header(path)
    sources, ignored, unknown = _sort_keys(head)
    if "unet" not in sources:
        raise ModelError(f"{name}: {_describe_other_file(head)}")
    test_model = head.metadata.get(toy.MARK, "")
    if test_model:
        family, _ = toy.family(test_model)
    else:
        family = recognise(_signature(head, sources["unet"]), name)
    if _guidance_width(head, sources["unet"]):
        family = consistency_model(family)
    sources = _with_turbo_text_encoder(sources, family)
    for part in sources.keys() - family.configs.keys():
        spare = [source.key for tensor, source in sources[part].items() if _is_merged_depth(part, tensor)]
        ignored += spare
        unknown += [source.key for source in sources[part].values() if source.key not in spare]
    if unknown:
        raise ModelError(
            f"{name}: {listing(sorted(unknown))} of no network known here; is it a Stable Diffusion checkpoint?"
        )
    components = {}
    for part, config in family.configs.items():
        if part in sources:
            if part == "unet":
                config = unet_layout.config_of(config, sources[part], _guidance_width(head, sources[part]))
            used, unused = _split_unused(sources[part], config)
            ignored += unused
            components[part] = Component(config, head, used)
        elif part not in (*OPTIONAL, "vae"):  # another VAE may be given
            raise ModelError(f"{name}: no {part.replace('_', ' ')} in it; get the full checkpoint")
    stated = file_schedule.read(head, family)
    schedule = {**family.levels, **stated.schedule}
    kind, decided_by = _prediction_of_file(head, family, sources["unet"], prediction, stated)
    if "ztsnr" in head.tensors and kind == "epsilon" and prediction == "auto":
        raise ModelError(
            f"{name}: has a tensor named ztsnr, which does not go with epsilon, by {decided_by}; "
            "say which it is with --prediction"
        )
    drawn = scheduler.sampling(schedule, family, stated.where, kind)
    if stated.vae and "vae" in components:
        own = components["vae"]
        components["vae"] = replace(own, config={**own.config, **stated.vae})
    return Checkpoint(
        name=name,
        path=path,
        family=drawn.family,
        components=components,
        schedule=schedule,
        levels=drawn.levels,
        threshold=drawn.threshold,
        sampling_from=drawn.decided_by,
        prediction=kind,
        prediction_from=decided_by,
        size=family.size if test_model else _size(family, kind),
        test_model=test_model,
        ignored=tuple(sorted(set(ignored))),
    )


def _sort_keys(head: Header) -> tuple[dict[str, Sources], list[str], list[str]]:
    """(component -> its sources, keys that can be ignored, keys that are not known)."""
    sources: dict[str, Sources] = {}
    ignored, unknown = [], []
    scales = _scales(head)
    scaling = frozenset(scales.values())
    keys = [key for key in head.tensors if key not in scaling]
    for key, targets in single_file.targets(keys).items():
        if targets is None:
            unknown.append(key)
        elif not targets:
            ignored.append(key)
        for target in targets or []:
            source = Source(key, target.take, scales.get(key, ""))
            add_source(sources.setdefault(target.part, {}), target.name, source, head)
    return sources, ignored, unknown


def _scales(head: Header) -> dict[str, str]:
    """Key of a weight that is stored as a small float -> key of the number that it must be multiplied by.

    Raises ModelError for a scale that is not one number.
    """
    found = {}
    for key in head.tensors:
        module, _, leaf = key.rpartition(".")
        if leaf in ("scale_weight", "weight_scale") and f"{module}.weight" in head.tensors:
            if math.prod(head.tensors[key].shape) != 1 or head.tensors[key].dtype not in header.FLOATS:
                raise ModelError(
                    f"{head.path}: {listing([key])} is not one number to scale by; get another copy"
                )
            found[f"{module}.weight"] = key
    return found


def _with_turbo_text_encoder(sources: dict[str, Sources], family: Family) -> dict[str, Sources]:
    """The sources, with SD Turbo's one text encoder, which has the prefix of SDXL's second, as the first one."""
    misplaced = "text_encoder_2" in sources and "text_encoder_2" not in family.configs
    if not misplaced or "text_encoder" in sources:
        return sources
    return {"text_encoder" if part == "text_encoder_2" else part: own for part, own in sources.items()}


def _is_merged_depth(part: str, name: str) -> bool:
    """True for a tensor of the depth network, which merging with a depth model leaves in models of other families."""
    return part == "depth_estimator" and name.startswith(("dpt.", "neck.", "head."))


def _split_unused(sources: Sources, config: Config) -> tuple[Sources, list[str]]:
    """(the sources that the network has a use for, the keys of those that it never reads)."""
    used = {name: source for name, source in sources.items() if not _is_unused(name, config, sources)}
    return used, [source.key for name, source in sources.items() if name not in used]


def _is_unused(name: str, config: Config, sources: Sources) -> bool:
    """True for a tensor of a text encoder that is never read: an unused projection, or OpenCLIP's last layer."""
    if "num_hidden_layers" not in config or config.get("architectures") == [compatibility.POOLED_CLASS]:
        return False
    if name == "text_projection.weight":
        return True
    layer_after_last = f"encoder.layers.{config['num_hidden_layers']}."
    return (
        config.get("hidden_act") == "gelu"  # OpenCLIP's
        and name.startswith(layer_after_last)
        and f"encoder.layers.0.{name.removeprefix(layer_after_last)}" in sources
    )


def _prediction_of_file(
    head: Header, family: Family, unet: Mapping[str, Source], prediction: str, stated: FileSchedule
) -> tuple[str, str]:
    """(prediction type, what decided it): the user, a marker tensor, the yaml, the metadata, or the weights of SD 2.

    A marker tensor is made with the weights, metadata outlives merging; so the tensor wins. Raises ModelError if the
    yaml and one of the others contradict each other.
    """
    if prediction != "auto":
        return prediction, "--prediction"
    written = head.metadata.get("modelspec.prediction_type")
    by_metadata = (_parse_prediction(written, head.path), "the file's metadata") if written else None
    by_yaml = (stated.parameterization, "the yaml beside it") if stated.parameterization else None
    by_tensor = (stated.marked, f"a tensor named {stated.marker}") if stated.marked else None
    if by_tensor and by_metadata and by_tensor[0] != by_metadata[0]:
        by_tensor = (by_tensor[0], f"{by_tensor[1]}; the file's metadata says {by_metadata[0]}")
    other = by_tensor or by_metadata
    if by_yaml and other and by_yaml[0] != other[0]:
        raise ModelError(
            f"{head.path}: {by_yaml[1]} says {by_yaml[0]}, {other[1]} says {other[0]}; say which with --prediction"
        )
    found = other or by_yaml
    if found:
        return found
    norm = unet.get("up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias")
    if family.name == "sd2" and norm is not None and head.tensors[norm.key].dtype in header.FLOATS:
        return _prediction_by_spread(head, norm.key)
    return family.prediction, "the family's default"


def _prediction_by_spread(head: Header, key: str) -> tuple[str, str]:
    """The prediction type of SD 2 by the standard deviation of one bias: it is large in models that predict v.

    The published v models are well above 0.09, the others well below. ComfyUI has the same rule.
    """
    values = head.values(key)
    if not values or not all(map(math.isfinite, values)):
        fault = "not finite" if values else "empty"
        raise ModelError(f"{head.path}: {listing([key])} {fault}; the file is damaged, fetch it again")

    import statistics

    spread = statistics.pstdev(values)
    return (
        "v_prediction" if spread > 0.09 else "epsilon",
        f"the spread of the last attention's norm, {spread:.3f}",
    )


_UPSCALER = "an ESRGAN upscaler, which `sd upscale` takes; no U-Net in it"
_OTHER_FILES = {
    "lllite_": "a ControlNet-LLLite, which is not supported; no U-Net in it",
    "lora_controlnet": "a Control-LoRA, which --control takes; no U-Net in it",
    "lora": "a LoRA, which changes a model but is none; no U-Net in it",
    "hada_": "a LyCORIS, which changes a model but is none; no U-Net in it",
    "control_model": "a ControlNet, which --control takes; no U-Net in it",
    "controlnet_": "a ControlNet, which --control takes; no U-Net in it",
    "string_to_param": "a textual inversion, which --embedding takes; no U-Net in it",
    "emb_params": "a textual inversion, which --embedding takes; no U-Net in it",
    "rdb1.": _UPSCALER,
    "RDB1.": _UPSCALER,
    "double_blocks": "a Flux model; sd draws with Stable Diffusion 1, 2 and XL",
    "joint_blocks": "a Stable Diffusion 3 model; sd draws with Stable Diffusion 1, 2 and XL",
    "decoder.layers.": "a tiny autoencoder, which --vae takes; -m needs a whole checkpoint or model folder",
    "decoder.conv_in.": "a VAE alone, which --vae takes; -m needs a whole checkpoint or model folder",
    "down_blocks.0.": "a U-Net alone; -m needs a whole checkpoint or model folder",
    "input_blocks.0.": "a U-Net alone; -m needs a whole checkpoint or model folder",
    "token_embedding.": "a text encoder alone; -m needs a whole checkpoint or model folder",
}
"""What is in a key -> what its file is. The first that is found counts."""


def _describe_other_file(head: Header) -> str:
    """What a safetensors file without a U-Net is, by its keys, and what to do with it."""
    for mark, description in _OTHER_FILES.items():
        if any(mark in key for key in head.tensors):
            return description
    if {"0.weight", "1.weight"} & head.tensors.keys():
        return "half of a tiny autoencoder, which --vae takes; -m needs a whole checkpoint or model folder"
    if {"body.0.weight", "body.1.weight"} <= head.tensors.keys():
        return _UPSCALER
    beginnings = Counter(key.split(".")[0] for key in head.tensors).most_common(3)
    shown = ", ".join(beginning[:40] for beginning, _ in beginnings) or "nothing"
    return f"no U-Net in it, only {shown}; is it a whole checkpoint?"


# --- a diffusers folder


def _read_folder(name: str, folder: Path, prediction: str, read_header: ReadHeader) -> Checkpoint:
    components, ignored = _read_components(name, folder, read_header)
    unet = components["unet"]
    assert unet.header is not None
    if "conv_in.weight" not in unet.sources:
        raise ModelError(
            f"{unet.header.path}: no conv_in.weight in it, as a folder's U-Net has; "
            "a whole checkpoint is named by itself"
        )
    signature = _signature(unet.header, unet.sources)
    family = _family_of_folder(name, folder, signature, components)
    if _guidance_width(unet.header, unet.sources):
        family = consistency_model(family)
    family = pipeline_index.applied(folder, family)
    config_path = folder / "scheduler" / "scheduler_config.json"
    schedule = read_config(config_path) if config_path.exists() else {}
    kind, decided_by = family.prediction, "the family's default"
    if prediction != "auto":
        kind, decided_by = prediction, "--prediction"
    elif "prediction_type" in schedule:
        kind = _parse_prediction(schedule["prediction_type"], config_path)
        decided_by = "scheduler_config.json"
    drawn = scheduler.sampling(
        schedule, family, f"{name}: scheduler_config.json", kind, _scheduler_class(folder)
    )
    sample_size = unet.config.get("sample_size")
    vae = components["vae"].config if "vae" in components else {}
    factor = 2 ** (len(vae.get("block_out_channels", [0] * 4)) - 1)
    return Checkpoint(
        name=name,
        path=folder,
        family=drawn.family,
        components=components,
        schedule=schedule,
        levels=drawn.levels,
        threshold=drawn.threshold,
        sampling_from=drawn.decided_by,
        prediction=kind,
        prediction_from=decided_by,
        size=sample_size * factor if isinstance(sample_size, int) else _size(family, kind),
        ignored=tuple(ignored),
    )


def _scheduler_class(folder: Path) -> str | None:
    """The class of the scheduler that model_index.json names; None if there is none."""
    index = folder / "model_index.json"
    named = read_config(index).get("scheduler") if index.is_file() else None
    return named[1] if isinstance(named, list) and len(named) == 2 and isinstance(named[1], str) else None


def _family_of_folder(
    name: str, folder: Path, signature: UNetSignature, components: Mapping[str, Component]
) -> Family:
    """The family by the published widths, or else by the class of the folder's pipeline and its networks."""
    try:
        return recognise(signature, name)
    except ModelError as error:
        family = structure.family_of(folder, signature, components)
        if family is None:
            pipeline = structure.pipeline_of(folder)[:60]
            raise ModelError(f"{error}; its pipeline is {pipeline}" if pipeline else str(error)) from None
        return family


def _read_components(
    name: str, folder: Path, read_header: ReadHeader
) -> tuple[dict[str, Component], list[str]]:
    """(components, keys that can be ignored)."""
    parts = [part for part in PARTS if (folder / part).is_dir()]
    if "unet" not in parts:
        raise ModelError(f"{name}: no unet folder in it; {_FOLDER_HAS}")
    components, ignored = {}, []
    for part in parts:
        head = shards.read(folder / part, part, read_header)
        sources: Sources = {}
        for key in head.tensors:
            if single_file.IGNORABLE.match(f"{part}.{key}"):
                ignored.append(key)
            else:
                add_source(sources, diffusers.current_name(part, key), Source(key), head)
        config = read_config(folder / part / "config.json")
        if config.get("architectures") != [compatibility.POOLED_CLASS] and part.startswith("text_encoder"):
            unused = sources.pop("text_projection.weight", None)
            ignored += [unused.key] if unused else []
        components[part] = Component(config, head, sources)
    return components, ignored


# --- both


def _tokenizers(checkpoint: Checkpoint) -> dict[str, Tokenizer]:
    """The tokenizer of each text encoder; that of its family unless the model is a folder with one of its own."""
    return {
        part: tokenizer_folder.read(checkpoint.path / part.replace("text_encoder", "tokenizer"), use.pad)
        for part, use in checkpoint.family.text_encoders.items()
    }


def _guidance_width(head: Header, unet: Mapping[str, Source]) -> int:
    """The width of the guidance embedding of a latent consistency model's U-Net; 0 if it is told no guidance scale."""
    source = unet.get("time_embedding.cond_proj.weight")
    shape = head.tensors[source.key].shape if source else ()
    return shape[1] if len(shape) == 2 else 0


def _signature(head: Header, unet: Mapping[str, Source]) -> UNetSignature:
    """The signature of a U-Net, by the shapes of three of its tensors; 0 for one that it lacks."""

    def width(is_wanted: Callable[[str], bool], axis: int) -> int:
        shapes = (head.tensors[source.key].shape for name, source in unet.items() if is_wanted(name))
        shape = next(shapes, ())
        return shape[axis] if len(shape) > axis else 0

    return UNetSignature(
        channels=width(lambda name: name == "conv_in.weight", 1),
        context=width(lambda name: name.endswith("attn2.to_k.weight"), 1),
        added=width(lambda name: name == "add_embedding.linear_1.weight", 1),
    )


def _parse_prediction(stated: Any, path: Path) -> str:
    """The prediction type by the words that files use for it; raises ModelError for any other word."""
    word = str(stated).strip().lower().replace("-", "_")
    word = {"v": "v_prediction", "v_pred": "v_prediction", "eps": "epsilon"}.get(word, word)
    if word not in ("epsilon", "v_prediction", "sample"):
        raise ModelError(f"{path}: unknown prediction_type {word[:40]!r}; say which it is with --prediction")
    return word


def _size(family: Family, prediction: str) -> int:
    """The side of the pictures that the model was trained on, in pixels; SD 2's models that predict v are larger."""
    return 768 if family.name == "sd2" and prediction == "v_prediction" else family.size
