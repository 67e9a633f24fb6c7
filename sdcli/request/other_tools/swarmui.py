from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sdcli.request.other_tools.reading import OtherPicture, Reading, json_object, number, stem, whole

_HARMLESS = {
    "swarm_version", "aspectratio", "images", "batchsize", "date", "generation_time", "automaticvae", "personalnote",
    "sidelength", "modelspecificenhancements", "usereferenceonly", "internalbackendtype", "outpath", "donotsave",
    "savefileformat", "imageformat", "wildcardseed", "original_prompt", "original_negativeprompt",
    "webhooks",
}  # fmt: skip


def swarmui(texts: Mapping[str, str], size: tuple[int, int]) -> OtherPicture | None:
    """A picture of SwarmUI: JSON with `sui_image_params` in `parameters`; it draws through ComfyUI."""
    whole_text = json_object(texts.get("parameters")) or json_object(texts.get("UserComment"))
    facts = (whole_text or {}).get("sui_image_params")
    if not isinstance(facts, dict):
        return None
    reading = Reading("SwarmUI", facts, "comfyui", like="comfyui", rng="comfyui")
    reading.take_text("prompt", "prompt")
    reading.take_text("negativeprompt", "negative")
    reading.take_seed("seed")
    reading.take("steps", "steps", whole)
    reading.take("cfgscale", "cfg", number)
    reading.take("width", "width", whole)
    reading.take("height", "height", whole)
    old = "comfyuisampler" in reading.facts
    reading.take_sampler(
        "comfyuisampler" if old else "sampler",
        "comfyuischeduler" if "comfyuischeduler" in facts else "scheduler",
    )
    reading.take("clipstopatlayer", "clip_skip", lambda layer: -whole(layer))
    reading.model = stem(str(reading.pop("model", default="")))
    if "initimage" in reading.facts or "initimagecreativity" in reading.facts:
        reading.start = True
        reading.pop("initimage")
        reading.set(
            "initimagecreativity", reading.pop("initimagecreativity", default=0.6), "strength", number
        )
    if reading.pop("maskimage") is not None:
        reading.masked = True
    reading.take_variation("variationseed", "variationseedstrength")
    tiled = str(reading.pop("seamlesstileable", default="false")).lower()
    words = {"true": "both", "x-only": "x", "y-only": "y"}
    if tiled in words:
        reading.fields["tile"] = words[tiled]
    _take_loras(reading)
    _take_second_pass(reading)
    for tag in dict.fromkeys(re.findall(r"<([a-z]\w*)[:\[>]", str(facts.get("prompt", "")))):
        reading.leave(f"prompt: <{tag}>", "a tag of SwarmUI", "it is read as plain text")
    return reading.close(_HARMLESS)


def _take_loras(reading: Reading) -> None:
    """Take the LoRAs over: names, and in other lists their strengths for the U-Net and for the text encoders."""
    names, weights, texts = (_list(reading.pop(key)) for key in ("loras", "loraweights", "loratencweights"))
    for i, name in enumerate(names):
        unet = weights[i] if i < len(weights) else 1
        reading.take_lora("loras", name, unet, texts[i] if i < len(texts) else None)
    sections = [each for each in _list(reading.pop("lorasectionconfinement")) if str(each) not in ("0", "-1")]
    if sections:
        reading.leave("lorasectionconfinement", sections, "each LoRA acts on the whole picture")


def _take_second_pass(reading: Reading) -> None:
    """Take a refiner that only enlarges over as --hires; one of another model is left, key by key."""
    factor = reading.facts.get("refinerupscale")
    method = reading.facts.get("refinermethod", "PostApply")
    plain = reading.facts.get("refinermodel") is None and str(method).lower() == "postapply"
    if not plain or factor in (None, 1, 1.0, "1"):
        return
    for key in ("refinerupscale", "refinermethod"):
        reading.pop(key)
    reading.set("refinerupscale", factor, "hires", number)
    reading.set(
        "refinercontrolpercentage",
        reading.pop("refinercontrolpercentage", default=0.2),
        "hires_strength",
        number,
    )
    kind, _, name = str(reading.pop("refinerupscalemethod", default="pixel-lanczos")).partition("-")
    reading.fields["hires_by"] = "picture" if kind in ("pixel", "model") else "latents"
    if kind == "model":
        reading.take_upscaler(stem(name))
    elif (kind, name) not in (("pixel", "lanczos"), ("latent", "bicubic")):
        reading.leave("refinerupscalemethod", f"{kind}-{name}", "enlarged with the filter of --hires-by")


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [each.strip() for each in value.split(",") if each.strip()]
    return value if isinstance(value, list) else []
