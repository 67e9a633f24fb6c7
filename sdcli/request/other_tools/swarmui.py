from __future__ import annotations

from collections.abc import Mapping

from sdcli.request.other_tools.reading import OtherPicture, Reading, json_object, number, stem, whole

_HARMLESS = {
    "swarm_version", "aspectratio", "images", "batchsize", "date", "generation_time", "automaticvae", "personalnote",
    "sidelength", "modelspecificenhancements", "usereferenceonly", "internalbackendtype", "outpath", "donotsave",
    "savefileformat", "imageformat", "wildcardseed", "original_prompt", "original_negativeprompt", "refinermethod",
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
    return reading.close(_HARMLESS)
