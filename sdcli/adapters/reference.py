"""Reference: a U-Net that writes down its features of one picture, and reads them while it works on another.

The method is that of sd-webui-controlnet's preprocessors reference_only, reference_adain and reference_adain+attn.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sdcli.diffusion.unet_call import UNetCall
from sdcli.models.architectures.attention import Attention, Processor
from sdcli.models.offload import Adapter

MIN_VARIANCE = 1e-6

Pass = Literal["", "write", "read"]


class ReferenceFeatures:
    """The features of a reference picture in each layer of a U-Net.

    While `writing`, each call of the U-Net writes its features down; while `reading`, each call reads those of the call
    for the same window and the same length of prompt. Otherwise the U-Net does what it did. `fidelity` f decides what
    rows of the negative prompt see: f of the result is computed without the reference there. `adapted` is the Adapter,
    and `see` is told of each call.
    """

    def __init__(self, mode: str = "attention", fidelity: float = 0.5, weight: float = 1.0) -> None:
        self.mode, self.fidelity, self.weight = mode, fidelity, weight
        self._pass: Pass = ""
        self._call: Hashable = None
        self._negative: list[int] = []  # rows of the call
        self._written: dict[tuple[Hashable, int], Any] = {}  # by call and layer

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Forget what was written, and write while inside."""
        self._written = {}
        with self._in("write"):
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read while inside."""
        with self._in("read"):
            yield

    def see(self, call: UNetCall) -> None:
        """This is the next call of the U-Net."""
        rows, columns = call.window
        context = call.conds[0].context.shape[1]
        self._call = (rows.start, rows.stop, columns.start, columns.stop, context)
        self._negative = [i for i, cond in enumerate(call.conds) if cond.is_negative]

    @contextmanager
    def adapted(self, part: str, module: nn.Module) -> Iterator[None]:
        """Let the U-Net write and read while inside."""
        if part != "unet":
            yield
            return
        attentions = self_attentions(module, self.weight) if self.mode in ("attention", "both") else []
        before = [attention.processor for attention in attentions]
        blocks = normalised_blocks(module, self.weight) if self.mode in ("adain", "both") else []
        hooks = []
        try:
            for layer, attention in enumerate(attentions):
                attention.processor = self._attending(layer, attention.processor)
            for layer, block in enumerate(blocks, len(attentions)):
                hooks.append(block.register_forward_hook(self._normalising(layer)))
            yield
        finally:
            self._written = {}
            for hook in hooks:
                hook.remove()
            for attention, processor in zip(attentions, before, strict=True):
                attention.processor = processor

    @contextmanager
    def _in(self, which: Pass) -> Iterator[None]:
        self._pass = which
        try:
            yield
        finally:
            self._pass = ""

    def _attending(self, layer: int, processor: Processor) -> Processor:
        """The processor of a self-attention whose keys and values are those of the reference too."""

        def process(attention: Attention, x: Tensor, context: Tensor | None = None) -> Tensor:
            key = (self._call, layer)
            if self._pass == "write" and context is None:
                self._written[key] = x
            if self._pass != "read" or context is not None or key not in self._written:
                return processor(attention, x, context)
            out = processor(attention, x, torch.cat([x, self._written[key]], 1))
            if not self._negative or not self.fidelity:
                return out
            plain = processor(attention, x[self._negative], None)
            return self._blended(out, plain)

        return process

    def _normalising(self, layer: int) -> Any:
        """A hook that gives the output of a block the means and deviations of the reference's, channel by channel."""

        def normalise(_: nn.Module, inputs: object, output: Any) -> Any:
            is_tuple = isinstance(output, tuple)  # as transformers of diffusers answer
            x: Tensor = output[0] if is_tuple else output
            key = (self._call, layer)
            if self._pass == "write":
                self._written[key] = _moments(x)
            if self._pass != "read" or key not in self._written:
                return None
            (mean, deviation), (its_mean, its_deviation) = _moments(x), self._written[key]
            out = (x - mean) / deviation * its_deviation + its_mean
            if self._negative and self.fidelity:
                out = self._blended(out, x[self._negative])
            return (out, *output[1:]) if is_tuple else out

        return normalise

    def _blended(self, out: Tensor, plain: Tensor) -> Tensor:
        """`out` with the negative rows moved towards what they are without the reference, by the fidelity."""
        blended = out.clone()
        blended[self._negative] = self.fidelity * plain + (1 - self.fidelity) * out[self._negative]
        return blended


def self_attentions(unet: nn.Module, weight: float) -> list[Any]:
    """The self-attentions that take part at this weight: all at 1, fewer below, the widest first."""
    found: list[Any] = [module.attn1 for module in unet.modules() if hasattr(module, "attn1")]
    widest = sorted(found, key=lambda attention: -attention.to_q.in_features)
    return [attention for i, attention in enumerate(widest) if weight > i / len(widest)]


def normalised_blocks(unet: Any, weight: float) -> list[nn.Module]:
    """The blocks whose features are normalised at this weight: the middle block first, then those nearest to it.

    Of the down blocks, those on all levels but the first; of the up blocks, the first two a level.
    """
    down = [each for block in list(unet.down_blocks)[1:] for each in _outputs(block, upsamples=False)]
    up = [each for block in unet.up_blocks for each in _outputs(block, upsamples=True)]
    up = up[: 2 * len(unet.up_blocks)]
    places = [(0.0, unet.mid_block)]
    places += [(1 - i / len(down), block) for i, block in enumerate(down)]
    places += [(i / len(up), block) for i, block in enumerate(up)]
    return [block for place, block in places if weight > 2 * place]


def _outputs(block: Any, upsamples: bool) -> Sequence[nn.Module]:
    """The modules whose outputs are those of LDM's blocks in this one: residual block, transformer, upsampling."""
    attentions = list(getattr(block, "attentions", None) or ())
    outputs = attentions or list(block.resnets)
    upsampler = getattr(block, "upsamplers", None) if upsamples else None
    return [*outputs[:-1], upsampler[0]] if upsampler else outputs


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel over the picture, (n, channels, 1, 1) each."""
    variance, mean = torch.var_mean(x, (2, 3), keepdim=True, correction=0)
    return mean, variance.clamp(min=MIN_VARIANCE).sqrt()


def reference(mode: str) -> Adapter:
    """The adapter of a reference picture in this mode, which has nothing to read until it is told to write."""
    return ReferenceFeatures(mode).adapted
