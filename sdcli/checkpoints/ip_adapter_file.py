"""IP-Adapter file: a projection from an image encoder to a few tokens, and their keys and values in cross-attention.

The names are those of the published files: `image_proj.…`, and `ip_adapter.N.to_k_ip.weight` with the layer's number N
in diffusers' order. Names and shapes are read from the header; no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdcli.checkpoints import header
from sdcli.checkpoints.component import Component, listing
from sdcli.checkpoints.header import Header
from sdcli.checkpoints.image_encoder_file import KNOWN, ImageEncoderFile, Shapes, check_tensors
from sdcli.checkpoints.keys.types import Source
from sdcli.errors import ModelError

TRAINED_FOR = {768: "SD 1", 1024: "SD 2", 2048: "SDXL"}
"""Width of the tokens -> the models whose cross-attention reads such."""

HEAD_WIDTH = 64
"""Values of each attention head in the perceiver of a plus adapter."""

_LAYER = re.compile(r"ip_adapter\.([0-9]{1,4})\.to_([kv])_ip\.weight", re.ASCII)
_FACE_WIDTH = 512  # of the vectors by which InsightFace tells faces apart


@dataclass(frozen=True)
class IpAdapterFile:
    """What the header of an IP-Adapter says.

    `kind` is plain (the whole picture as one vector), plus (a perceiver over the encoder's states) or full_face (a
    network over each of them). `reads` is the width of what it takes from the encoder, `tokens` how many it makes, of
    the width `context`; `layers` are the widths of the cross-attention layers that read these.
    """

    name: str
    path: Path
    kind: str
    reads: int
    tokens: int
    context: int
    layers: tuple[int, ...]
    component: Component

    @property
    def trained_for(self) -> str:
        """The models it is for, such as `SD 1`; empty if there are none of its width."""
        return TRAINED_FOR.get(self.context, "")

    @property
    def encoder(self) -> str:
        """The image encoder that it needs, such as `ViT-H/14`."""
        axis = int(self.kind == "plain")
        names = [name for widths, name in KNOWN.items() if widths[axis] == self.reads]
        return names[0] if names else "one"

    def check_encoder(self, encoder: ImageEncoderFile) -> None:
        """Raise ModelError for an image encoder that is not the one it was trained with."""
        given = encoder.projection if self.kind == "plain" else encoder.hidden
        what = "the vector of a picture" if self.kind == "plain" else "each state"
        if given != self.reads:
            raise ModelError(
                f"{encoder.path}: the wrong image encoder for {self.path}: {self.name} needs {self.encoder}, with "
                f"{self.reads} values in {what}, and this is {encoder.kind}, with {given}"
            )


def read_header(path: Path) -> IpAdapterFile:
    """What an IP-Adapter is, by its header.

    Raises ModelError if the file is none, if it is for faces as InsightFace sees them, or if it lacks a tensor.
    """
    if not path.exists():
        raise ModelError(f"{path}: there is no such IP-Adapter; check the path")
    head = header.read(path)
    if not _is_ip_adapter(head):
        count = listing(list(head.tensors)) if head.tensors else "no tensors"
        raise ModelError(
            f"{path}: has {count}, and is no IP-Adapter; it would have ip_adapter.1.to_k_ip.weight"
        )
    _check_no_face(head)
    kind, needed = _projection(head)
    layers = _layers(head)
    context = _shape(head, f"ip_adapter.{min(layers)}.to_k_ip.weight")[1]
    needed = {**needed, **_attention(layers, context)}
    component = Component({}, head, {name: Source(name) for name in head.tensors})
    check_tensors(component, needed, f"this {kind} IP-Adapter")
    reads, tokens = _reads(head, kind), _tokens(head, kind, context)
    return IpAdapterFile(path.stem, path, kind, reads, tokens, context, tuple(layers.values()), component)


def is_ip_adapter(path: Path) -> bool:
    """True for a file that can be nothing but an IP-Adapter, of whatever kind."""
    try:
        return _is_ip_adapter(header.read(path))
    except ModelError:
        return False


def _is_ip_adapter(head: Header) -> bool:
    return bool(head.tensors) and all(
        name.startswith(("image_proj.", "ip_adapter.")) for name in head.tensors
    )


def _check_no_face(head: Header) -> None:
    """Raise ModelError for a FaceID or InstantID file."""
    names = list(head.tensors)
    has_lora = any("_lora." in name for name in names)
    has_shortcut = any(name.startswith("image_proj.perceiver_resampler.") for name in names)
    face = "image_proj.proj.0.weight" in names and "image_proj.norm.weight" in names
    reads_face = _shape(head, "image_proj.proj_in.weight")[1:] == (_FACE_WIDTH,)
    if has_lora or has_shortcut or face or reads_face:
        raise ModelError(
            f"{head.path}: a FaceID adapter, which needs the face recognition of InsightFace and is not drawn with "
            "here; use a plain, plus or full-face one"
        )


# --- the projection


def _projection(head: Header) -> tuple[str, Shapes]:
    """(kind, the tensors of such a projection, as far as their sizes are those of the file)."""
    if "image_proj.latents" in head.tensors:
        return "plus", _perceiver(head)
    if "image_proj.proj.0.weight" in head.tensors:
        return "full_face", _full_face(head)
    rows, reads = _padded(head, "image_proj.proj.weight", 2)
    context = _padded(head, "image_proj.norm.weight", 1)[0]
    return "plain", {
        "image_proj.proj.weight": (rows, reads),
        "image_proj.proj.bias": (rows,),
        "image_proj.norm.weight": (context,),
        "image_proj.norm.bias": (context,),
    }


def _perceiver(head: Header) -> Shapes:
    _, tokens, width = _padded(head, "image_proj.latents", 3)
    reads = _padded(head, "image_proj.proj_in.weight", 2)[1]
    context = _padded(head, "image_proj.proj_out.weight", 2)[0]
    shapes: dict[str, tuple[int, ...]] = {
        "image_proj.latents": (1, tokens, width),
        "image_proj.proj_in.weight": (width, reads),
        "image_proj.proj_in.bias": (width,),
        "image_proj.proj_out.weight": (context, width),
        "image_proj.proj_out.bias": (context,),
        "image_proj.norm_out.weight": (context,),
        "image_proj.norm_out.bias": (context,),
    }
    numbers = {name.split(".")[2] for name in head.tensors if name.startswith("image_proj.layers.")}
    for number in range(len(numbers)):
        attention, mlp = f"image_proj.layers.{number}.0", f"image_proj.layers.{number}.1"
        inner = _padded(head, f"{attention}.to_q.weight", 2)[0]
        hidden = _padded(head, f"{mlp}.1.weight", 2)[0]
        for norm in (f"{attention}.norm1", f"{attention}.norm2", f"{mlp}.0"):
            shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
        shapes |= {
            f"{attention}.to_q.weight": (inner - inner % HEAD_WIDTH, width),
            f"{attention}.to_kv.weight": (2 * inner, width),
            f"{attention}.to_out.weight": (width, inner),
            f"{mlp}.1.weight": (hidden, width),
            f"{mlp}.3.weight": (width, hidden),
        }
    return shapes


def _full_face(head: Header) -> Shapes:
    reads = _padded(head, "image_proj.proj.0.weight", 2)[1]
    context = _padded(head, "image_proj.proj.2.weight", 2)[0]
    return {
        "image_proj.proj.0.weight": (reads, reads),
        "image_proj.proj.0.bias": (reads,),
        "image_proj.proj.2.weight": (context, reads),
        "image_proj.proj.2.bias": (context,),
        "image_proj.proj.3.weight": (context,),
        "image_proj.proj.3.bias": (context,),
    }


def _reads(head: Header, kind: str) -> int:
    names = {"plain": "proj", "plus": "proj_in", "full_face": "proj.0"}
    return head.tensors[f"image_proj.{names[kind]}.weight"].shape[1]


def _tokens(head: Header, kind: str, context: int) -> int:
    """How many tokens it makes; 0 for one that makes as many as the encoder has states."""
    if kind == "plus":
        return head.tensors["image_proj.latents"].shape[1]
    return head.tensors["image_proj.proj.weight"].shape[0] // context if kind == "plain" else 0


# --- the attention layers


def _layers(head: Header) -> dict[int, int]:
    """The cross-attention layers by their numbers in the file, and their widths."""
    layers = {}
    for name, entry in head.tensors.items():
        match = _LAYER.fullmatch(name)
        if match and match[2] == "k" and len(entry.shape) == 2:
            layers[int(match[1])] = entry.shape[0]
    if not layers:
        raise ModelError(
            f"{head.path}: has no ip_adapter.1.to_k_ip.weight, as an IP-Adapter has; fetch it again"
        )
    return dict(sorted(layers.items()))


def _attention(layers: Mapping[int, int], context: int) -> Shapes:
    """The tensors of the layers, which are numbered 1, 3, 5, …: self-attention layers count between them."""
    widths: Sequence[int] = list(layers.values())
    return {
        f"ip_adapter.{2 * i + 1}.to_{each}_ip.weight": (width, context)
        for i, width in enumerate(widths)
        for each in "kv"
    }


def _shape(head: Header, name: str) -> tuple[int, ...]:
    return head.tensors[name].shape if name in head.tensors else ()


def _padded(head: Header, name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor with zeros for dimensions that it lacks."""
    return (*_shape(head, name), *(0,) * dimensions)[:dimensions]
