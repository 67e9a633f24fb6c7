"""IP-Adapters of a job: its pictures, encoded and projected to what the layers of the U-Net read."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from PIL import Image as images
from PIL.Image import Image, Resampling
from torch import Tensor, nn

from sdcli.adapters.ip_adapter import ImagePrompt, IpAdapters
from sdcli.checkpoints.component import Component
from sdcli.checkpoints.image_encoder_file import ImageEncoderFile
from sdcli.checkpoints.ip_adapter_file import HEAD_WIDTH, IpAdapterFile
from sdcli.checkpoints.ip_adapters import read_fitting
from sdcli.checkpoints.keys.types import Source
from sdcli.models.architectures.clip_vision import CLIPVisionModel, ImageStates
from sdcli.models.architectures.ip_projection import FullFaceProjection, ImageProjection, Perceiver
from sdcli.models.build import module_on_meta
from sdcli.models.device import Placement
from sdcli.models.model import Model
from sdcli.models.tensors import read_tensors
from sdcli.models.weights import load_weights
from sdcli.pipeline import vae
from sdcli.request.images import OpenedImage
from sdcli.request.job import Job

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP was trained on, by channel, for values in 0 … 1."""

_REMEMBERED = 8
"""How many encoded pictures are remembered, so that several pictures of one request load the encoder once."""


def ip_adapters_of(model: Model, job: Job, pictures: Sequence[OpenedImage]) -> IpAdapters:
    """The adapter of a job's IP-Adapters, whose pictures are these; raises ModelError for a file that does not fit."""
    unet = model.networks.modules["unet"]
    shapes = {name: list(tensor.shape) for name, tensor in unet.state_dict().items()}
    context = model.configs["unet"]["cross_attention_dim"]
    prompts = []
    files = read_fitting(model.name, shapes, context, job.ip_adapter)
    for adapter, (file, encoder), picture in zip(job.ip_adapter, files, pictures, strict=True):
        states = _encoded(_Task.of(encoder, picture, model.placement))
        keys, values = _keys_and_values(file, _tokens(file, states, model.placement), model.placement)
        prompts.append(ImagePrompt(keys, values, adapter.weight, adapter.start, adapter.end))
    return IpAdapters(prompts)


def preprocessed(image: Image, side: int) -> Tensor:
    """A picture (RGB) as CLIP's image encoders take it, (1, 3, side, side): its middle square, normalised.

    Its shorter side is brought to `side` pixels by Pillow's bicubic filter, as in CLIP's own preprocessing.
    """
    width, height = image.size
    short = min(width, height)
    size = (int(side * width / short), int(side * height / short))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    square = image.resize(size, Resampling.BICUBIC).crop((left, top, left + side, top + side))
    pixels = (vae.to_tensor(square) + 1) / 2
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    return (pixels - mean) / std


# --- the image encoder


@dataclass(frozen=True)
class _Task:
    """A picture to encode; two of the same bytes by the same file are the same."""

    sha256: str
    path: str
    modified: int
    placement: Placement
    picture: Image = field(compare=False, default_factory=lambda: images.new("RGB", (1, 1)))
    encoder: ImageEncoderFile | None = field(compare=False, default=None)

    @classmethod
    def of(cls, encoder: ImageEncoderFile, picture: OpenedImage, placement: Placement) -> _Task:
        path = encoder.path.resolve()
        return cls(picture.sha256, str(path), path.stat().st_mtime_ns, placement, picture.image, encoder)


@functools.lru_cache(_REMEMBERED)
def _encoded(task: _Task) -> ImageStates:
    """The states of no picture, which is all zeros, in row 0, and of the picture in row 1."""
    assert task.encoder is not None
    pixels = preprocessed(task.picture, task.encoder.settings["image_size"])
    pixels = torch.cat([torch.zeros_like(pixels), pixels])
    return encode_image(load_image_encoder(task.encoder, task.placement), pixels, task.placement)


def load_image_encoder(file: ImageEncoderFile, placement: Placement) -> CLIPVisionModel:
    """The image encoder in a file; raises ModelError if it cannot be read or is damaged."""
    network = module_on_meta(lambda: CLIPVisionModel(file.settings))
    loaded = load_weights("image_encoder", network, file.component, placement)
    assert isinstance(loaded, CLIPVisionModel)
    return loaded


@torch.inference_mode()
def encode_image(network: CLIPVisionModel, pixels: Tensor, placement: Placement) -> ImageStates:
    """The states of pictures (n, 3, side, side)."""
    states: ImageStates = network(pixels.to(placement.device, placement.dtype))
    return states


# --- the adapter's file


@torch.inference_mode()
def _tokens(file: IpAdapterFile, states: ImageStates, placement: Placement) -> Tensor:
    """The tokens of no picture in row 0 and of the picture in row 1, (2, tokens, context).

    No picture is a vector of zeros to a plain adapter, and to the others a picture of zeros.
    """
    network = load_projection(file, placement)
    if file.kind != "plain":
        tokens: Tensor = network(states.penultimate)
        return tokens
    assert states.embedding is not None
    embedding = torch.cat([torch.zeros_like(states.embedding[:1]), states.embedding[1:]])
    tokens = network(embedding)
    return tokens


def load_projection(file: IpAdapterFile, placement: Placement) -> nn.Module:
    """The projection in a file; raises ModelError if it cannot be read or is damaged."""
    component = _part(file.component, "image_proj.")
    return load_weights("ip_adapter", module_on_meta(lambda: _projection(file)), component, placement)


def _projection(file: IpAdapterFile) -> nn.Module:
    if file.kind == "plain":
        return ImageProjection(file.reads, file.tokens, file.context)
    if file.kind == "full_face":
        return FullFaceProjection(file.reads, file.context)
    shape = file.component.shape
    numbers = {name.split(".")[2] for name in file.component.sources if name.startswith("image_proj.layers.")}
    layers = [f"image_proj.layers.{number}" for number in range(len(numbers))]
    inner = [(shape(f"{each}.0.to_q.weight")[0], shape(f"{each}.1.1.weight")[0]) for each in layers]
    width = shape("image_proj.latents")[2]
    return Perceiver(file.reads, width, file.tokens, file.context, inner, HEAD_WIDTH)


@torch.inference_mode()
def _keys_and_values(
    file: IpAdapterFile, tokens: Tensor, placement: Placement
) -> tuple[list[Tensor], list[Tensor]]:
    """The keys and the values of the tokens for each layer, (2, tokens, width)."""
    weights = {
        name: weight.to(placement.device, placement.dtype)
        for name, weight in read_tensors(_part(file.component, "ip_adapter."))
    }
    keys, values = (
        [F.linear(tokens, weights[f"{2 * i + 1}.to_{each}_ip.weight"]) for i in range(len(file.layers))]
        for each in "kv"
    )
    return keys, values


def _part(component: Component, prefix: str) -> Component:
    """The tensors whose names begin so, by the rest of their names."""
    sources = {
        name.removeprefix(prefix): Source(name) for name in component.sources if name.startswith(prefix)
    }
    return Component({}, component.header, sources)
