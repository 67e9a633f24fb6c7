"""CLIP vision: the image encoders of CLIP: OpenAI's ViT-L, and OpenCLIP's ViT-H and ViT-bigG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sdcli.models.architectures.clip import Encoder


@dataclass(frozen=True)
class ImageStates:
    """What an image encoder computes.

    `penultimate` (n, patches + 1, width) is the state behind the last layer but one, without a norm; `embedding`
    (n, projection width) stands for the whole picture, None from an encoder without a projection.
    """

    penultimate: Tensor
    embedding: Tensor | None


class CLIPVisionModel(nn.Module):
    """The vision transformer (Radford et al. 2021, "Learning Transferable Visual Models").

    Its tensors have the names of transformers' CLIPVisionModelWithProjection without `vision_model.`; `settings` are
    those of a CLIPVisionConfig.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        width, eps = settings["hidden_size"], settings["layer_norm_eps"]
        self.embeddings = PatchEmbeddings(width, settings["patch_size"], settings["image_size"])
        self.pre_layrnorm = nn.LayerNorm(width, eps)  # as transformers spells it
        self.encoder = Encoder(settings, causal=False)
        self.post_layernorm = nn.LayerNorm(width, eps)
        if settings["projection_dim"]:
            self.visual_projection = nn.Linear(width, settings["projection_dim"], bias=False)

    def forward(self, pixels: Tensor) -> ImageStates:
        """The states of pictures (n, 3, image size, image size), normalised as CLIP was trained."""
        x = penultimate = self.pre_layrnorm(self.embeddings(pixels))
        for layer in self.encoder.layers:
            x, penultimate = layer(x), x
        if not hasattr(self, "visual_projection"):
            return ImageStates(penultimate, None)
        return ImageStates(penultimate, self.visual_projection(self.post_layernorm(x[:, 0])))


class PatchEmbeddings(nn.Module):
    """A vector for each patch of a picture, with its position, behind a learned one that stands for the whole."""

    def __init__(self, width: int, patch: int, side: int) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(3, width, patch, patch, bias=False)
        self.position_embedding = nn.Embedding((side // patch) ** 2 + 1, width)

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, side, side) -> (n, patches + 1, width)."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        whole = self.class_embedding.expand(len(pixels), 1, -1)
        return torch.cat([whole, patches], 1) + self.position_embedding.weight
