"""LoRA layers: the two small matrices that are learned beside each layer of the U-Net.

Their answer is calculated by the same operations as that of a LoRA which acts in some of the steps
(`adapters/deltas/branch.py`), so what is trained is what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.adapters.deltas.branch import answer
from sdcli.models.architectures.attention import Transformer
from sdcli.models.architectures.layers import Downsample, ResnetBlock, Upsample

Layer = nn.Linear | nn.Conv2d


def layers_to_train(unet: nn.Module, convolutions: bool) -> dict[str, Layer]:
    """Path -> layer: all linear and 1x1 layers of the transformers, as kohya's scripts choose them.

    With `convolutions` also the residual blocks' and the resampling layers.
    """
    kinds = (Transformer, ResnetBlock, Downsample, Upsample) if convolutions else (Transformer,)
    return {
        f"{path}.{own}": layer
        for path, block in unet.named_modules()
        if isinstance(block, kinds)
        for own, layer in block.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }


def in_transformer(unet: nn.Module, path: str) -> bool:
    """True if a layer is in a transformer."""
    parents = [path.rsplit(".", count)[0] for count in range(1, path.count(".") + 1)]
    return any(isinstance(unet.get_submodule(each), Transformer) for each in parents)


class LoraLayers:
    """A LoRA in training: `down` and `up` of each layer by its path, in float32.

    up begins at zero, so that nothing is changed at first; down is drawn as kohya's scripts do, uniformly within
    1 / sqrt(inputs). The scale is alpha / rank for all; `alphas` are those of each layer, as the file tells them.
    """

    def __init__(
        self, unet: nn.Module, rank: int, alpha: float, conv_rank: int, seed: int, device: torch.device
    ) -> None:
        generator = torch.Generator("cpu").manual_seed(seed)
        self.scale = alpha / rank
        self.down: dict[str, Tensor] = {}
        self.up: dict[str, Tensor] = {}
        for path, layer in layers_to_train(unet, conv_rank > 0).items():
            own = rank if in_transformer(unet, path) else conv_rank
            outputs, *inputs = layer.weight.shape
            bound = 1 / math.sqrt(math.prod(inputs))
            down = (torch.rand((own, *inputs), generator=generator) * 2 - 1) * bound
            up = torch.zeros((outputs, own, *(1 for _ in inputs[1:])))
            self.down[path] = down.to(device).requires_grad_()
            self.up[path] = up.to(device).requires_grad_()

    @property
    def parameters(self) -> dict[str, Tensor]:
        """All tensors that are learned, in the order of the layers."""
        return {f"{path}.{name}": getattr(self, name)[path] for path in self.down for name in ("down", "up")}

    @property
    def alphas(self) -> Mapping[str, float]:
        """alpha of each layer: scale * rank."""
        return {path: self.scale * down.shape[0] for path, down in self.down.items()}

    @contextmanager
    def adapted(self, part: str, module: nn.Module) -> Iterator[None]:
        """An adapter of the U-Net: inside, each layer's answer has that of the LoRA added."""
        paths = self.down if part == "unet" else {}
        layers = [(path, module.get_submodule(path)) for path in paths]
        try:
            for path, layer in layers:
                vars(layer)["forward"] = self._with_lora(layer.forward, path, layer)
            yield
        finally:
            for _, layer in layers:
                vars(layer).pop("forward", None)

    def _with_lora(
        self, forward: Callable[[Tensor], Tensor], path: str, layer: Any
    ) -> Callable[[Tensor], Tensor]:
        widen = F.conv2d if isinstance(layer, nn.Conv2d) else F.linear
        down, up = self.down[path], self.up[path]

        def call(x: Tensor) -> Tensor:
            narrow = answer(layer, down.to(x.dtype), None, x)
            return forward(x) + widen(narrow, (up * self.scale).to(x.dtype))

        return call
