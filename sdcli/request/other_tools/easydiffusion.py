from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdcli.request.other_tools.reading import OtherPicture, Reading, json_object, number, stem, whole

_HARMLESS = {
    "upscale_amount",
    "distilled_guidance_scale",
    "Upscale By",
    "Distilled Guidance",
    "Embedding models",
}
_NAMES = {
    "Prompt": "prompt", "Negative Prompt": "negative_prompt", "Seed": "seed", "Clip Skip": "clip_skip",
    "Stable Diffusion model": "use_stable_diffusion_model", "Sampler": "sampler_name", "Scheduler": "scheduler_name",
    "Width": "width", "Height": "height", "Steps": "num_inference_steps", "Guidance Scale": "guidance_scale",
    "Prompt Strength": "prompt_strength", "Seamless Tiling": "tiling",
}  # fmt: skip
"""The names of its text format -> those of its JSON."""


def easydiffusion(texts: Mapping[str, str], size: tuple[int, int]) -> OtherPicture | None:
    """A picture of Easy Diffusion: each setting is a text of its own in a PNG, and JSON in other pictures."""
    found: Mapping[str, Any] = json_object(texts.get("UserComment")) or texts
    facts = {_NAMES.get(key, key): value for key, value in found.items()}
    if "use_stable_diffusion_model" not in facts or "num_inference_steps" not in facts:
        return None
    facts = {key: value for key, value in facts.items() if str(value) not in ("None", "null", "[]", "False")}
    reading = Reading(
        "Easy Diffusion", facts, "easydiffusion", like="diffusers", emphasis="compel", rng="philox"
    )
    reading.take_text("prompt", "prompt")
    reading.take_text("negative_prompt", "negative")
    reading.take_seed("seed")
    reading.take("num_inference_steps", "steps", whole)
    reading.take("guidance_scale", "cfg", number)
    reading.take("width", "width", whole)
    reading.take("height", "height", whole)
    reading.take_sampler("sampler_name", "scheduler_name")
    reading.take("clip_skip", "clip_skip", lambda value: 2 if str(value) == "True" else whole(value))
    reading.model = stem(str(reading.pop("use_stable_diffusion_model")))
    if reading.facts.get("prompt_strength") is not None:
        reading.start = True
        reading.take("prompt_strength", "strength", number)
    reading.take("tiling", "tile", lambda word: {"xy": "both", "x": "x", "y": "y", "none": "none"}[word])
    return reading.close(_HARMLESS)
