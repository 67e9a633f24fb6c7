"""Hires: the second pass of txt2img by the fields of A1111: `enable_hr`, those that begin with hr_, and a few more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdcli.errors import UsageError
from sdcli.request.names_elsewhere import FIELDS
from sdcli.request.other_tools.a1111 import UPSCALERS
from sdcli.serve.a1111.sent import Sent

HIRES_BY = {"Lanczos": "picture", "None": "picture", "Latent (bicubic)": "latents", **UPSCALERS}
"""hr_upscaler -> --hires-by; A1111 enlarges with Lanczos' filter where there is no upscaler. Files have their names."""
SAME_AGAIN = ("", "Use same sampler", "Use same scheduler", "Use same checkpoint")


def hires_values(sent: Sent, values: Mapping[str, Any]) -> dict[str, Any]:
    """The second pass of txt2img. Without it, its fields and denoising_strength change nothing."""
    if not sent.truth("enable_hr"):
        sent.drop([name for name in sent.left if name.startswith(("hr_", "firstphase_"))])
        sent.drop(["denoising_strength"])
        return {}
    steps, cfg = values.get("steps"), values.get("cfg")
    scale, strength = sent.number("hr_scale"), sent.number("denoising_strength")
    found = {
        "hires": 2.0 if scale is None else scale,
        "hires_strength": 0.75 if strength is None else strength,
    }
    resize = [sent.whole(f"hr_resize_{side}") or 0 for side in "xy"]
    if any(resize):
        found["hires"] = _factor(resize, values)
    upscaler = sent.text("hr_upscaler") or "Latent (bicubic)"
    if (upscaler.startswith("Latent") and upscaler not in HIRES_BY) or upscaler == "Nearest":
        raise UsageError(
            f"hr_upscaler: {upscaler:.80} enlarges with a filter that is not done here; "
            "send Latent (bicubic), Lanczos or the name of an upscaler file"
        )
    sent.only("hr_second_pass_steps", (0, steps), "both passes take steps")
    for name in ("hr_sampler_name", "hr_scheduler", "hr_checkpoint_name"):
        sent.only(name, SAME_AGAIN, "both passes draw with the same")
    for name in ("prompt", "negative_prompt"):
        sent.only(f"hr_{name}", ("", values.get(FIELDS.get(name, name), "")), "both passes draw the same")
    sent.only("hr_cfg", (cfg,), "both passes take cfg_scale")
    sent.only("hr_additional_modules", ([], ["Use same choices"]))
    sent.only("firstphase_width", (0,), "send the size of the first pass as width")
    sent.only("firstphase_height", (0,), "send the size of the first pass as height")
    sent.drop(["hr_distilled_cfg"])
    return {**found, "hires_by": HIRES_BY.get(upscaler, upscaler)}


def _factor(resize: list[int], values: Mapping[str, Any]) -> float:
    """The factor by which hr_resize_x and hr_resize_y enlarge; one that is 0 follows. Raises UsageError."""
    size = [values.get("width"), values.get("height")]
    factors: set[float] = {to / side for to, side in zip(resize, size, strict=True) if to and side}
    if None in size:
        raise UsageError("hr_resize_x, hr_resize_y: are enlarged sizes; send width and height too")
    if len(factors) != 1:
        raise UsageError(
            f"hr_resize_x, hr_resize_y: {resize[0]}x{resize[1]} would change the proportions of {size[0]}x{size[1]}, "
            "which is not done here; send hr_scale"
        )
    return factors.pop()
