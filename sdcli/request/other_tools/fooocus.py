from __future__ import annotations

from collections.abc import Mapping

from sdcli.request.other_tools.reading import OtherPicture, Reading, json_object, number, sides, stem, whole

_HARMLESS = {
    "metadata_scheme",
    "version",
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
    if reading.facts.get("refiner_model") in (None, "None", ""):
        for key in ("refiner_model", "refiner_switch", "refiner_model_hash"):
            reading.pop(key)
    _take_loras(reading)
    for key, name in (("full_prompt", "prompt"), ("full_negative_prompt", "negative")):
        if reading.facts.get(key) in ([reading.fields.get(name)], reading.fields.get(name)):
            reading.pop(key)
    return reading.close(_HARMLESS)


def _take_loras(reading: Reading) -> None:
    """Take the LoRAs over: [[name, weight, hash], …], or `lora_combined_1: name : weight` of versions before."""
    found = reading.pop("loras", default=[])
    for each in found if isinstance(found, list) else [found]:
        if isinstance(each, list) and len(each) >= 2:
            reading.take_lora("loras", each[0], each[1], hash=each[2] if len(each) > 2 else "")
        else:
            reading.leave("loras", found)
    for key in [key for key in reading.facts if key.startswith("lora_combined")]:
        name, _, weight = str(reading.pop(key)).rpartition(":")
        reading.take_lora(key, name.strip(), weight)
