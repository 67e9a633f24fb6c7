"""UNet: Model -> Predict. The only place that calls a U-Net."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sdcli.diffusion.conditioning import Cond, by_length, rows_of_call
from sdcli.diffusion.preconditioning import preconditioning
from sdcli.diffusion.types import Predict
from sdcli.diffusion.unet_call import See, UNetCall
from sdcli.diffusion.windows import blend, windows
from sdcli.errors import UsageError
from sdcli.models.architectures.unet import Residuals, Sinusoids, UNet
from sdcli.models.model import Model
from sdcli.pipeline.middle_attention import MiddleAttention
from sdcli.pipeline.perturb import perturbed
from sdcli.pipeline.unet_inputs import UNetInputs


def predictor(
    model: Model,
    inputs: UNetInputs | None = None,
    side: int = 0,
    timestep: Callable[[float], float] = float,
    see: See = lambda call: None,
) -> Predict:
    """The model's U-Net as (x, sigma, conds) -> one denoised estimate per cond.

    x is data + sigma * noise in float32; the conds of one picture go through the network together, in their order.
    Latents larger than `side` go through in overlapping windows of that side; 0 means no windows. `timestep`
    maps the timestep of a noise level, in general a fraction, to the one that the network is given.
    `see` is told of each call of the U-Net before it.
    """
    inputs = inputs or UNetInputs()
    network = preconditioning(model.levels, model.prediction)

    def predict(x: Tensor, sigma: float, asked: Sequence[Cond]) -> list[Tensor]:
        conds = rows_of_call(asked)
        attention = MiddleAttention(x, [cond.attention_of for cond in asked if cond.attention_of is not None])
        scaled = network.scaled(x, sigma).expand(len(conds), -1, -1, -1)
        if inputs.concat is not None:
            concat = torch.cat([inputs.concat * (not cond.zero_concat) for cond in conds])
            scaled = torch.cat([scaled, concat], 1)
        t = network.timestep(sigma, timestep)
        unet = altered_unet(model, asked)
        size = (x.shape[-2], x.shape[-1])

        def predict_window(window: tuple[slice, slice]) -> Tensor:
            part = scaled[..., *window]
            call = UNetCall(part, sigma, t, conds, window)
            see(call)
            residuals = summed([control(call) for control in inputs.controls])
            with attention.recorded(unet, conds, window):
                return call_unet(model, part, t, conds, inputs.class_label, residuals, inputs.guidance_scale)

        with perturbed(unet, any(cond.perturb_attention for cond in conds)):
            out = blend(size, windows(*size, side or max(size), side // 4), predict_window)
        estimates = dict(zip(conds, torch.split(network.denoised(x, out, sigma), 1), strict=True))
        return [attention.of(cond.attention_of) if cond.attention_of else estimates[cond] for cond in asked]

    return by_length(predict)


@torch.inference_mode()
def call_unet(
    model: Model,
    x: Tensor,
    t: float,
    conds: Sequence[Cond],
    class_label: int | None = None,
    control: Residuals | None = None,
    guidance_scale: float | None = None,
) -> Tensor:
    """One pass of the U-Net: x (n, channels, h/8, w/8) of unit variance, timestep t (EDM: ln(sigma) / 4), n conds.

    `class_label` is the noise level of the small picture that an x4 upscaler is shown, `guidance_scale` what a latent
    consistency model is told. Returns the network's
    prediction (n, 4, h/8, w/8) in float32, whatever dtype it runs in.
    """
    device, dtype = model.placement.device, model.placement.dtype
    out = model.predict_noise(
        x.to(dtype).contiguous(memory_format=torch.channels_last),
        torch.tensor(t, dtype=torch.float32, device=device),
        **told(model, conds),
        class_labels=None if class_label is None else torch.full((len(conds),), class_label, device=device),
        time_cond=None if guidance_scale is None else _time_cond(model, guidance_scale, len(conds)).to(dtype),
        control=None if control is None else _cast(control, dtype),
    )
    return out.float().contiguous()


def altered_unet(model: Model, conds: Sequence[Cond]) -> UNet:
    """The U-Net for these conds to alter, or to look into; raises UsageError if an engine runs it that they cannot."""
    if model.by_engine is None:
        return model.unet
    if any(cond.perturb_attention or cond.attention_of is not None for cond in conds):
        raise UsageError(f"--engine {model.by_engine.name} cannot run this --guidance; use --engine torch")
    return model.networks.modules["unet"]  # type: ignore[return-value]  # it may be empty


def told(model: Model, conds: Sequence[Cond]) -> dict[str, Tensor | None]:
    """The arguments by which a U-Net, or a control network, is told what the rows of a call are conditioned on."""
    device, dtype = model.placement.device, model.placement.dtype
    pooled = [cond.pooled for cond in conds if cond.pooled is not None]
    return {
        "context": torch.cat([cond.context for cond in conds]).to(dtype),
        "pooled": torch.cat(pooled).to(dtype) if pooled else None,
        "time_ids": torch.tensor([cond.time_ids for cond in conds], device=device) if pooled else None,
    }


def _time_cond(model: Model, guidance_scale: float, rows: int) -> Tensor:
    """The embedding (rows, width) of a guidance scale: sinusoids of 1000 (scale - 1), since 1 is no guidance here."""
    sinusoids = Sinusoids(
        model.configs["unet"]["time_cond_proj_dim"], cosine_first=False, frequency_shift=1.0
    )
    scales = torch.full((rows,), 1000 * (guidance_scale - 1), device=model.placement.device)
    embedding: Tensor = sinusoids(scales)
    return embedding


def _cast(control: Residuals, dtype: torch.dtype) -> Residuals:
    return Residuals(
        [each.to(dtype) for each in control.down],
        None if control.mid is None else control.mid.to(dtype),
        [each.to(dtype) for each in control.features],
    )


def summed(residuals: Sequence[Residuals | None]) -> Residuals | None:
    """The sum of what several controls add to the U-Net; None if none of them adds anything."""
    found = [each for each in residuals if each is not None]
    if len(found) < 2:
        return found[0] if found else None
    mids = [each.mid for each in found if each.mid is not None]
    return Residuals(
        _sums([each.down for each in found if each.down]),
        _sums([[mid] for mid in mids])[0] if mids else None,
        _sums([each.features for each in found if each.features]),
    )


def _sums(lists: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The sum of the first tensors of all lists, of the second ones, and so on."""
    total = list(lists[0]) if lists else []
    for more in lists[1:]:
        total = [one + other for one, other in zip(total, more, strict=True)]
    return total
