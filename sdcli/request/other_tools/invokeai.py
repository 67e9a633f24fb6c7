from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sdcli.request.other_tools.reading import OtherPicture, Reading, json_object, number, stem, whole

_HARMLESS = {
    "app_version",
    "generation_mode",
    "rand_device",
    "type",
    "model_id",
    "app_id",
    "clip_skip",
    "metadata_version",
}


def invokeai(texts: Mapping[str, str], size: tuple[int, int]) -> OtherPicture | None:
    """A picture of InvokeAI: `invokeai_metadata` of version 3 and later, `sd-metadata` or `Dream` of those before."""
    if (facts := json_object(texts.get("invokeai_metadata"))) is not None:
        return _current(facts)
    if (facts := json_object(texts.get("sd-metadata"))) is not None and isinstance(facts.get("image"), dict):
        return _version_2(facts)
    return _dream(texts["Dream"]) if texts.get("Dream", "").startswith('"') else None


def _current(facts: Mapping[str, Any]) -> OtherPicture:
    device = facts.get("rand_device", "cpu")
    reading = Reading(
        "InvokeAI",
        facts,
        "invokeai",
        like="diffusers",
        emphasis="compel",
        rng="torch" if device == "cpu" else "philox",
    )
    reading.take_text("positive_prompt", "prompt")
    reading.take_text("negative_prompt", "negative")
    _take_settings(reading)
    reading.take_sampler("scheduler")
    if skip := reading.pop("clip_skip"):
        reading.set("clip_skip", skip, "clip_skip", lambda value: whole(value) + 1)
    if rescale := reading.pop("cfg_rescale_multiplier"):
        reading.set(
            "cfg_rescale_multiplier", rescale, "guidance", lambda value: f"cfg_rescale:phi={number(value)}"
        )
    tiled = reading.pop("seamless_x"), reading.pop("seamless_y")
    if any(tiled):
        reading.fields["tile"] = "both" if all(tiled) else "x" if tiled[0] else "y"
    style = str(reading.pop("positive_style_prompt", default="")).strip()
    if style and style != reading.fields.get("prompt"):
        reading.set("positive_style_prompt", style, "prompt_2")
    style = str(reading.pop("negative_style_prompt", default="")).strip()
    if style and style != reading.fields.get("negative"):
        reading.set("negative_style_prompt", style, "negative_2")
    _take_loras(reading)
    model = reading.pop("model")
    if isinstance(model, dict):
        reading.model = str(model.get("name") or model.get("model_name") or "")
        algorithm, _, value = str(model.get("hash") or "").rpartition(":")
        reading.model_hash = value if algorithm == "sha256" else ""
    if "init_image" in reading.facts or "img2img" in str(facts.get("generation_mode")):
        reading.start = True
        reading.pop("init_image")
        reading.take("strength", "strength", number)
    if re.search("inpaint|outpaint", str(facts.get("generation_mode"))):
        reading.start = reading.masked = True
        reading.take("strength", "strength", number)
    return reading.close(_HARMLESS)


def _take_loras(reading: Reading) -> None:
    """Take the LoRAs over: version 3 calls the model `lora`, 4 and 5 call it `model`."""
    found = reading.pop("loras", default=[])
    for each in found if isinstance(found, list) else [found]:
        facts = each if isinstance(each, dict) else {}
        model = facts.get("model") or facts.get("lora")
        if isinstance(model, dict):
            sha = str(model.get("hash") or "")
            sha = sha.removeprefix("sha256:") if sha.startswith("sha256:") else ""
            name = model.get("name") or model.get("model_name")
            reading.take_lora("loras", name, facts.get("weight"), hash=sha)
        else:
            reading.leave("loras", found)


def _take_settings(reading: Reading) -> None:
    reading.take_seed("seed")
    reading.take("steps", "steps", whole)
    reading.take("cfg_scale", "cfg", number)
    reading.take("width", "width", whole)
    reading.take("height", "height", whole)


def _version_2(facts: Mapping[str, Any]) -> OtherPicture:
    image = dict(facts["image"])
    prompts = image.pop("prompt", "")
    if isinstance(prompts, list):
        prompts = " ".join(str(each.get("prompt", "")) for each in prompts if isinstance(each, dict))
    reading = Reading("InvokeAI", image, "invokeai", like="diffusers", emphasis="compel", rng="philox")
    _set_prompts(reading, str(prompts))
    _take_settings(reading)
    reading.take_sampler("sampler")
    reading.fields.setdefault("schedule", "uniform")
    reading.model = stem(str(facts.get("model_weights") or ""))
    if image.get("type") == "img2img":
        reading.start = True
        reading.take("strength", "strength", number)
    if reading.pop("seamless"):
        reading.fields["tile"] = "both"
    return reading.close(_HARMLESS)


def _dream(text: str) -> OtherPicture | None:
    """Version 1 and 2: `"a cat [blurry]" -s 50 -S 7 -W 512 -H 512 -C 7.5 -A k_lms`."""
    match = re.fullmatch(r'"(.*?)"(.*)', text, flags=re.DOTALL)
    if match is None:
        return None
    pairs: dict[str, Any] = {f"-{key}": value for key, value in re.findall(r"-(\w+)\s+(\S+)", match[2])}
    reading = Reading("InvokeAI", pairs, "invokeai", like="diffusers", emphasis="compel", rng="philox")
    _set_prompts(reading, match[1])
    reading.take_seed("-S")
    reading.take("-s", "steps", whole)
    reading.take("-C", "cfg", number)
    reading.take("-W", "width", whole)
    reading.take("-H", "height", whole)
    reading.take_sampler("-A")
    reading.fields.setdefault("schedule", "uniform")
    if "-f" in pairs:
        reading.start = True
        reading.take("-f", "strength", number)
        reading.pop("-I")
    return reading.close()


def _set_prompts(reading: Reading, text: str) -> None:
    """Split `a cat [blurry, text]` into the prompt and, in square brackets, the negative prompt."""
    negatives = re.findall(r"\[([^\]]*)\]", text)
    reading.set("prompt", " ".join(re.sub(r"\[[^\]]*\]", "", text).split()), "prompt")
    reading.set("prompt in [ ]", " ".join(negatives).strip(), "negative")
