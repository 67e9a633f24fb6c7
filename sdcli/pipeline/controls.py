"""Controls: the control networks of a job, as functions from a call of the U-Net to what is added in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL.Image import Image, fromarray
from torch import Tensor

from sdcli import registry
from sdcli.checkpoints import control_file, control_fit, hashes
from sdcli.checkpoints.control_file import ControlFile, type_number
from sdcli.checkpoints.named_files import numbered
from sdcli.diffusion.conventions import CONVENTIONS
from sdcli.diffusion.spans import Span, steps_apart
from sdcli.diffusion.step_range import holds
from sdcli.diffusion.unet_call import UNetCall
from sdcli.models.architectures.controlnet import ControlNet, ControlNetUnion
from sdcli.models.architectures.t2i_adapter import T2IAdapter
from sdcli.models.architectures.unet import Residuals
from sdcli.models.layers import weights_of
from sdcli.models.model import Model
from sdcli.pipeline.unet import told
from sdcli.pipeline.unet_inputs import Control
from sdcli.request.controls import ControlUse
from sdcli.request.inputs import SizedImages
from sdcli.request.job import Job

FADE = 0.825
"""Each residual that is farther from the middle block counts so much less, in the modes prompt and control."""
FADED_RESIDUALS = 13
"""The residuals of a Stable Diffusion 1 net, by which nets of other depths are counted as well."""
FADED_FEATURES = (0.25, 0.62, 0.825, 1.0)
"""How much each feature of a T2I-Adapter counts in these modes."""


def controls_of(model: Model, job: Job, images: SizedImages, levels: Sequence[float]) -> tuple[Control, ...]:
    """The controls of a run that visits these noise levels; their networks are loaded when they are first asked.

    Raises ModelError for a file that is bad or for another family.
    """
    files = [control_file.read(Path(use.path)) for use in job.controls]
    model.control_networks.keep_only(files)
    if job.sampler.name in CONVENTIONS[job.like].ends_only:
        levels = steps_apart(levels, job.steps)
    found = []
    for i, (use, file) in enumerate(zip(job.controls, files, strict=True)):
        settings = control_fit.check_fit(file, model.name, model.configs["unet"])
        control_fit.check_settings(file, use)
        if use.weight:
            hint = partial(_hint, model, job, use, images, i, _is_masked(use, file))
            span = CONVENTIONS[job.like].step_range(use.start, use.end, levels, model.levels)
            found.append(_Asked(model, job, use, file, settings, span, cache(hint)).control())
    return tuple(found)


def facts(uses: Sequence[ControlUse]) -> dict[str, dict[str, Any]]:
    """Of each control by its name: its file's name and sha256, for the metadata of a picture."""
    return {
        name: {"file": path.name, "sha256": hashes.digest(control_file.read(path).paths)}
        for name, path in numbered(use.path for use in uses).items()
    }


def _is_masked(use: ControlUse, file: ControlFile) -> bool:
    """True for a net that fills what is masked, and is shown -1 there: those for inpainting."""
    return "inpaint" in file.name.lower() if use.masked is None else use.masked


def _hint(
    model: Model, job: Job, use: ControlUse, images: SizedImages, i: int, masked: bool = False
) -> Tensor:
    """What a control network is shown: (1, 3, height, width) in 0 … 1, annotated at the size that is drawn.

    With `masked`, it is -1 where the run repaints by half or more.
    """
    image = images.hint(i, (job.width, job.height), use.fit or job.fit)
    if use.annotate:
        annotate: Callable[[Image, str, str], Image] = registry.find("annotators", use.annotate)
        image = _to_8_bits(annotate(image, model.name, str(model.placement.device)))
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    if masked and images.mask is not None:
        pixels = np.where(np.asarray(images.mask)[..., None] >= 128, np.float32(-1), pixels)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def _to_8_bits(image: Image) -> Image:
    """A map of 16 bits as one of 8, which others are already."""
    if not image.mode.startswith("I"):
        return image
    return fromarray((np.asarray(image) / 257).round().astype(np.uint8))


@dataclass(frozen=True)
class _Asked:
    """One control of a run, and all that it needs."""

    model: Model
    job: Job
    use: ControlUse
    file: ControlFile
    settings: Mapping[str, Any]
    span: Span  # the noise levels at which it counts
    hint: Callable[[], Tensor]

    def control(self) -> Control:
        """The control; whatever does not change from call to call is computed once."""
        network, seen = cache(self._network), cache(self._seen)

        @torch.inference_mode()
        def control(call: UNetCall) -> Residuals | None:
            rows = self._rows(call)
            if not rows or not holds(self.span, call.sigma):
                return None
            net = network()
            with self._wrapped(net):
                features = seen(net, *_edges(call))
                if isinstance(net, T2IAdapter):
                    added = Residuals(features=[each.expand(len(rows), -1, -1, -1) for each in features])
                else:
                    added = self._residuals(net, call, rows, features[0])
            return _in_rows(self._weighted(added), rows, len(call.conds))

        return control

    def _network(self) -> ControlNet | T2IAdapter:
        net = self.model.control_networks.load(self.file, self.settings, lambda: weights_of(self.model.unet))
        return net

    def _seen(
        self, net: ControlNet | T2IAdapter, top: int, bottom: int, left: int, right: int
    ) -> list[Tensor]:
        """The part of the hint that belongs to these rows and columns of the latents, encoded."""
        factor, placement = self.model.factor, self.model.placement
        hint = self.hint()[..., top * factor : bottom * factor, left * factor : right * factor]
        if isinstance(net, T2IAdapter):
            hint = _for_adapter(hint, net)
        elif isinstance(net, ControlNetUnion):
            net.control_type = type_number(self.use.type) or 0
        hint = hint.to(placement.device, placement.dtype).contiguous(memory_format=torch.channels_last)
        return net(hint)[: len(FADED_FEATURES)] if isinstance(net, T2IAdapter) else [net.encode_hint(hint)]

    def _residuals(self, net: ControlNet, call: UNetCall, rows: Sequence[int], features: Tensor) -> Residuals:
        if isinstance(net, ControlNetUnion):
            net.control_type = type_number(self.use.type) or 0
        device, dtype = self.model.placement.device, self.model.placement.dtype
        x = call.x[list(rows), : net.conv_in.in_channels]
        residuals: Residuals = net(
            x.to(dtype).contiguous(memory_format=torch.channels_last),
            torch.tensor(call.t, dtype=torch.float32, device=device),
            hint=features,
            **told(self.model, [call.conds[i] for i in rows]),
        )
        return residuals

    def _wrapped(self, net: ControlNet | T2IAdapter) -> AbstractContextManager[object]:
        """Convolutions that wrap around the edges where those of the U-Net do."""
        if self.job.tile == "none":
            return nullcontext()
        adapter = registry.find("adapters", "seamless")(self.job.tile)
        return adapter("unet", net)

    @property
    def _pools(self) -> bool:
        """True for a net whose residuals are averaged over the picture: those for shuffled pictures."""
        if self.use.pool is not None:
            return self.use.pool
        return bool(self.settings.get("pools")) or "shuffle" in self.file.name.lower()

    def _rows(self, call: UNetCall) -> list[int]:
        """The rows of a call that it counts in: all, or those of the prompt alone."""
        prompt_alone = self.use.mode == "control" or (self._pools and not self.file.is_adapter)
        return [i for i, cond in enumerate(call.conds) if not (prompt_alone and cond.is_negative)]

    def _weighted(self, added: Residuals) -> Residuals:
        if added.features:
            return Residuals(features=list(_times(added.features, self._factors(len(added.features)))))
        assert added.mid is not None
        all_of_them = [*added.down, added.mid]
        if self._pools:
            all_of_them = [each.mean((2, 3), keepdim=True) for each in all_of_them]
        weighted = list(_times(all_of_them, self._factors(len(all_of_them))))
        return Residuals(weighted[:-1], weighted[-1])

    @property
    def _mode(self) -> str:
        """The mode; for edges in a second pass, A1111 takes the factors of `prompt` by itself."""
        is_second_of_a1111 = self.job.like == "a1111" and self.job.first_pass_steps > 0
        if self.use.mode == "balanced" and is_second_of_a1111 and self.use.annotate.startswith("canny"):
            return "prompt"
        return self.use.mode

    def _factors(self, count: int) -> list[float]:
        """What each residual, or feature, is multiplied by, from the shallowest on."""
        weight, mode = self.use.weight, self._mode
        if mode == "balanced":
            return [weight] * count
        if self.file.is_adapter:
            return [weight * factor for factor in FADED_FEATURES[:count]]
        if mode == "control" and self.job.like == "diffusers":  # its guess mode
            return [weight * 10 ** (i / (count - 1) - 1) for i in range(count)]
        return [weight * FADE ** (FADED_RESIDUALS - 1 - i) for i in range(count)]


def _times(tensors: Sequence[Tensor], factors: Sequence[float]) -> Iterator[Tensor]:
    return (
        tensor if factor == 1 else tensor * factor for tensor, factor in zip(tensors, factors, strict=True)
    )


def _edges(call: UNetCall) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the window, in latents."""
    rows, columns = call.window
    return rows.start, rows.stop, columns.start, columns.stop


def _for_adapter(hint: Tensor, net: T2IAdapter) -> Tensor:
    """The hint in as many channels as the adapter reads, and extended to whole squares of its inputs."""
    if net.hint_channels == 1:
        hint = hint.mean(1, keepdim=True)
    height, width = hint.shape[-2:]
    return F.pad(hint, (0, -width % net.shrink, 0, -height % net.shrink), mode="replicate")


def _in_rows(added: Residuals, rows: Sequence[int], count: int) -> Residuals:
    """The same for `count` rows, with zeros in the rows that are not listed."""
    if len(rows) == count:
        return added

    def spread(tensor: Tensor) -> Tensor:
        whole = tensor.new_zeros((count, *tensor.shape[1:]))
        whole[list(rows)] = tensor
        return whole

    return Residuals(
        [spread(each) for each in added.down],
        None if added.mid is None else spread(added.mid),
        [spread(each) for each in added.features],
    )
