from __future__ import annotations

import json
from collections.abc import Mapping

from sdcli.request.other_tools.reading import OtherPicture, Reading, json_object, number, whole

_HARMLESS = {
    "n_samples", "version", "request_type", "signed_hash", "uncond_per_vibe", "wonky_vibe_correlation",
    "explike_fine_detail", "extra_noise_seed", "stream", "params_version",
}  # fmt: skip


def novelai(texts: Mapping[str, str], size: tuple[int, int]) -> OtherPicture | None:
    """A picture of NovelAI: JSON in `Comment`, the prompt in `Description`; its models are not published."""
    facts = json_object(texts.get("Comment"))
    if facts is None or not (
        texts.get("Software", "").startswith("NovelAI") or ("uc" in facts and "sampler" in facts)
    ):
        return None
    if "c" in facts:  # Draw Things writes `c` and `uc`
        return None
    reading = Reading("NovelAI", facts, "novelai", like="a1111", emphasis="none", rng="torch")
    prompt = reading.pop("prompt") or texts.get("Description", "")
    reading.set("prompt", prompt, "prompt", str)
    reading.take_text("uc", "negative")
    reading.take_seed("seed")
    reading.take("steps", "steps", whole)
    reading.take("scale", "cfg", number)
    reading.take_sampler("sampler", "noise_schedule")
    reading.fields.setdefault("schedule", "uniform")
    for side, pixels in zip(("width", "height"), size, strict=True):
        reading.set(side, reading.pop(side, default=pixels), side, whole)
    if "Img2Img" in str(facts.get("request_type")) or "Infill" in str(facts.get("request_type")):
        reading.start = True
        reading.masked = "Infill" in str(facts["request_type"])
        reading.take("strength", "strength", number)
    elif (strength := reading.pop("strength")) is not None and "request_type" not in facts:
        reading.leave("strength", strength, "it counts only in a picture made over another")
    if phi := reading.pop("cfg_rescale"):
        reading.set("cfg_rescale", phi, "guidance", lambda value: f"cfg_rescale:phi={number(value)}")
    reading.model = texts.get("Source", "")
    if any(bracket in reading.fields.get("prompt", "") for bracket in "{["):
        reading.leave("prompt: weights", "{ } and [ ]", "they are read as plain text")
    if reading.facts.get("noise") == 0:
        reading.pop("noise")
    if reading.facts.get("prefer_brownian") is True:  # as k-diffusion's samplers do
        reading.pop("prefer_brownian")
    elif "prefer_brownian" in reading.facts:
        reading.leave("prefer_brownian", reading.pop("prefer_brownian"), "noise is a Brownian path here")
    for key in ("v4_prompt", "v4_negative_prompt"):
        caption = reading.pop(key)
        if isinstance(caption, dict) and "char_captions" in json.dumps(caption).replace(
            '"char_captions": []', ""
        ):
            reading.leave(key, caption, "only the base caption is drawn")
    if reading.facts.get("controlnet_strength") == 1.0:
        reading.pop("controlnet_strength")
    if reading.facts.get("uncond_scale") in (0, 1):
        reading.pop("uncond_scale")
    return reading.close(_HARMLESS)
