from __future__ import annotations

from collections.abc import Mapping

from sdcli.request.other_tools.reading import OtherPicture, Reading, json_object, number, sides, stem, whole

_HARMLESS = {
    "metadata_scheme",
    "version",
    "refiner_switch",
    "refiner_model_hash",
    "lora_hashes",
    "created_by",
}


def fooocus(texts: Mapping[str, str], size: tuple[int, int]) -> OtherPicture | None:
    """A picture of Fooocus with its own scheme: JSON in `parameters`. Its other scheme is A1111's text."""
    facts = json_object(texts.get("parameters")) or json_object(texts.get("UserComment"))
    if facts is None or not ("base_model" in facts or "Fooocus" in str(facts.get("version"))):
        return None
    reading = Reading("Fooocus", facts, "comfyui", like="comfyui", rng="comfyui")
    reading.take_text("prompt", "prompt")
    reading.take_text("negative_prompt", "negative")
    reading.take_seed("seed")
    reading.take("steps", "steps", whole)
    reading.take("guidance_scale", "cfg", number)
    reading.take_sampler("sampler", "scheduler")
    if found := sides(str(reading.pop("resolution", default="")).replace("'", "")):
        reading.set("resolution", found[0], "width")
        reading.set("resolution", found[1], "height")
    reading.take("clip_skip", "clip_skip", whole)
    reading.model, reading.model_hash = stem(str(reading.pop("base_model", default=""))), ""
    reading.model_hash = str(reading.pop("base_model_hash", default=""))
    if reading.facts.get("performance") in ("Speed", "Quality"):
        reading.pop("performance")
    if str(reading.facts.get("vae")).startswith("Default"):
        reading.pop("vae")
    if reading.facts.get("styles") == "[]":
        reading.pop("styles")
    for key, name in (("full_prompt", "prompt"), ("full_negative_prompt", "negative")):
        if reading.facts.get(key) in ([reading.fields.get(name)], reading.fields.get(name)):
            reading.pop(key)
    return reading.close(_HARMLESS)
