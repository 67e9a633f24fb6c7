from __future__ import annotations

import json
import re
from collections.abc import Mapping

from sdcli import registry
from sdcli.request import a1111_text
from sdcli.request.other_tools.reading import OtherPicture, Reading, number, sides, stem, whole

_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_JSON_VALUE = re.compile(r"(\w[\w \-/]*):\s*(?=[\[{])")
_CONTROL = re.compile(r"ControlNet( \d+)?")
_HARMLESS = {
    "Version", "App", "User", "Batch size", "Batch pos", "Hashes", "VAE hash", "Model hash", "Face restoration model",
    "Created Date", "Civitai metadata", "Parser", "Pipeline", "Backend", "Operations", "Image CFG scale default",
    "SDCPP", "Raw prompt", "Raw negative prompt", "Cache FP16 weight for LoRA",
}  # fmt: skip
_HASH = re.compile(r"([^:,]+): ?([0-9a-f]{8,64})(?:, |$)")
"""One of `Lora hashes`, such as `style: 0c8e93f1e2e0`."""
_WEIGHT = re.compile(r"([^:,]+): ?(-?\d+\.?\d*)(?:, |$)")
_OWN_SCHEDULE = ("ddim", "euler_cfg_pp", "plms", "unipc")
"""Samplers of which A1111 takes the timesteps, whatever the schedule."""
_FOOOCUS_HARMLESS = {"Performance": ("Speed", "Quality")}
UPSCALERS = {
    "R-ESRGAN 4x+": "RealESRGAN_x4plus",
    "R-ESRGAN 4x+ Anime6B": "RealESRGAN_x4plus_anime_6B",
    "R-ESRGAN 2x+": "RealESRGAN_x2plus",
    "R-ESRGAN General 4xV3": "realesr-general-x4v3",
    "R-ESRGAN General WDN 4xV3": "realesr-general-wdn-x4v3",
    "R-ESRGAN AnimeVideo": "realesr-animevideov3",
}
"""A1111's own names of upscalers -> their files; others are called as their files are."""
EMPHASES = {"Original": "a1111", "No norm": "no_norm", "None": "none"}


def a1111(texts: Mapping[str, str], size: tuple[int, int]) -> OtherPicture | None:
    """A picture of A1111's web UI, Forge, SD.Next or stable-diffusion.cpp, or one of the many that write as they do.

    The text `parameters` is the prompt, the line `Negative prompt: …`, and a last line of `Key: value` pairs.
    """
    text = texts.get("parameters") or texts.get("UserComment")
    if not text or not (found := split(text)):
        return None
    prompt, negative, pairs = found
    version = pairs.get("Version", "")
    if "stable-diffusion.cpp" in version or "sd.cpp" in version:
        return _sdcpp(prompt, negative, pairs)
    if version.startswith("Fooocus"):
        reading = Reading("Fooocus", pairs, "comfyui", like="comfyui", rng="comfyui")
    elif version.startswith("sdcli"):  # ours, saved again by a program that kept this text only
        reading = Reading("sd", pairs, "a1111", rng="comfyui")
        _take_rng(reading, {"CPU": "torch", "NV": "philox"})
    else:
        reading = Reading("A1111", pairs, "a1111", like="a1111", rng="philox")
        _take_rng(reading, {"CPU": "torch", "NV": "philox", "GPU": "philox"})
    _take_common(reading, prompt, negative)
    reading.take_sampler("Sampler", "Schedule type" if "Schedule type" in pairs else "Scheduler")
    if reading.labels == "a1111" and reading.fields.get("sampler", "").partition(":")[0] in _OWN_SCHEDULE:
        reading.fields.pop("schedule", None)
    else:
        reading.fields.setdefault("schedule", "uniform")  # a label without one, before 1.9
    _take_options(reading)
    _take_passes(reading)
    for key in [key for key in reading.facts if _CONTROL.fullmatch(key)]:
        reading.leave(
            key, reading.pop(key), "its picture is not in the file; name it and the net with --control"
        )
    reading.take("ENSD", "ensd", whole)
    if hashes := _HASH.findall(str(reading.facts.get("Lora hashes", ""))):
        reading.lora_hashes = dict(hashes)
        reading.pop("Lora hashes")
    if (weights := reading.pop("Lora weights")) is not None:  # Fooocus', whose prompts name no LoRAs
        for name, weight in _WEIGHT.findall(str(weights)):
            reading.take_lora(
                "Lora weights", name.strip(), weight, hash=reading.lora_hashes.get(name.strip(), "")
            )
    reading.take("Emphasis", "emphasis", EMPHASES.__getitem__)
    for key, allowed in _FOOOCUS_HARMLESS.items():
        if reading.facts.get(key) in allowed:
            reading.pop(key)
    return reading.close(_HARMLESS)


def split(text: str) -> tuple[str, str, dict[str, str]] | None:
    """(prompt, negative prompt, pairs) of A1111's text; None if its last line holds no pairs."""
    *lines, last = text.strip().split("\n")
    pairs = _pairs(last)
    if not {"Steps", "Sampler"} & pairs.keys() or len(pairs) < 3:
        return None
    prompt: list[str] = []
    negative: list[str] = []
    current = prompt
    for line in lines:
        if line.startswith("Negative prompt:"):
            current, line = negative, line.removeprefix("Negative prompt:")
        current.append(line.strip())
    return "\n".join(prompt), "\n".join(negative), pairs


def _pairs(line: str) -> dict[str, str]:
    """The pairs of the last line; a value may be quoted, or JSON with commas in it."""
    pairs: dict[str, str] = {}
    position = 0
    while match := _JSON_VALUE.search(line, position):
        try:
            _, end = json.JSONDecoder().raw_decode(line, match.end())
        except (ValueError, RecursionError):
            position = match.end()
            continue
        pairs[match[1].strip()] = line[match.end() : end]
        position = match.start()
        line = line[:position] + line[end:].lstrip(" ,")
    for key, value in _PAIR.findall(line):
        pairs[key.strip()] = _unquoted(value.strip())
    return pairs


def _unquoted(value: str) -> str:
    if len(value) < 2 or not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def _take_rng(reading: Reading, words: Mapping[str, str]) -> None:
    """Take the noise generator over; A1111 leaves it out where it is the GPU's, which philox is."""
    if (name := reading.pop("RNG")) is not None:
        if name in words:
            reading.fields["rng"] = words[name]
        else:
            reading.leave("RNG", name)


def _take_common(reading: Reading, prompt: str, negative: str) -> None:
    reading.set("prompt", prompt, "prompt")
    reading.set("Negative prompt", negative, "negative")
    reading.take("Steps", "steps", whole)
    reading.take("CFG scale", "cfg", number)
    reading.take_seed("Seed")
    reading.take_size("Size")
    reading.take("Clip skip", "clip_skip", whole)
    reading.model = stem(str(reading.pop("Model", default="")))
    reading.model_hash = str(reading.pop("Model hash", default=""))
    reading.take_variation("Variation seed", "Variation seed strength")
    reading.take("Seed resize from", "seed_size")
    if str(reading.pop("Tiling", default="")).lower() == "true":
        reading.fields["tile"] = "both"


def _take_options(reading: Reading) -> None:
    """Take the sampler's and the schedule's options over, which A1111 writes as keys of their own."""
    for kind, read in (("sampler", a1111_text.sampler_options), ("schedule", a1111_text.schedule_options)):
        spec = reading.fields.get(kind, "")
        name = spec.partition(":")[0]
        if name in registry.names(f"{kind}s") and (options := read(name, reading.facts)):
            reading.set(kind, f"{spec}{',' if ':' in spec else ':'}{options}", kind)


def _take_passes(reading: Reading) -> None:
    """Take over what there is beside one run from noise: hires, a picture to start from, a mask."""
    strength = reading.pop("Denoising strength")
    scale, resize = reading.pop("Hires upscale"), sides(reading.pop("Hires resize") or "")
    first = sides(reading.pop("First pass size") or "")
    fields = reading.fields
    if first and any(first) and "width" in fields:  # A1111 before 2023: the size is the last pass's
        resize = (fields["width"], fields["height"])
        fields["width"], fields["height"] = first
    if resize and "width" in fields and scale is None:
        across, down = resize[0] / fields["width"], resize[1] / fields["height"]
        if abs(across - down) > 0.02:
            reading.leave("Hires resize", f"{resize[0]}x{resize[1]}", "it changes the proportions")
        else:
            scale = across
    if scale is None and not any(key.startswith("Hires") for key in reading.facts):
        if strength is not None:
            reading.set("Denoising strength", strength, "strength", number)
            reading.start = True
        _take_mask(reading)
        return
    reading.set("Hires upscale", scale or 1, "hires", number)
    reading.set("Denoising strength", strength or 0, "hires_strength", number)
    upscaler = str(reading.pop("Hires upscaler", default="Latent"))
    fields["hires_by"] = "latents" if upscaler.startswith("Latent") else "picture"
    if upscaler.startswith("Latent") or upscaler in ("Nearest", "None"):
        if upscaler != "Latent (bicubic)":
            reading.leave("Hires upscaler", upscaler, "enlarged with the filter of --hires-by")
    elif upscaler != "Lanczos":
        reading.take_upscaler(UPSCALERS.get(upscaler, upscaler))
    for key, name in (
        ("Hires CFG Scale", "cfg"),
        ("Hires sampler", "sampler"),
        ("Hires schedule type", "schedule"),
    ):
        value = str(reading.facts.get(key, ""))
        if value in ("Use same sampler", "Use same scheduler") or (value and value == f"{fields.get(name)}"):
            reading.pop(key)
    modules = [key for key in reading.facts if re.fullmatch(r"Hires Module \d+", key)]
    for key in modules:
        if reading.facts[key] in ("Use same choices", reading.facts.get(key.removeprefix("Hires "))):
            reading.pop(key)
    steps = reading.pop("Hires steps")
    if steps not in (None, "0") and str(steps) != str(fields.get("steps")):
        reading.leave("Hires steps", steps, "the second pass takes --steps")


def _take_mask(reading: Reading) -> None:
    if "Mask blur" in reading.facts or "Mask mode" in reading.facts or "Inpaint area" in reading.facts:
        reading.masked = True
    reading.take("Mask blur", "mask_blur", number)
    reading.take("Masked area padding", "padding", whole)
    if reading.pop("Mask mode") == "Inpaint not masked":
        reading.fields["invert_mask"] = True
    if reading.pop("Inpaint area") == "Only masked":
        reading.fields["only_masked"] = True
    content = {"latent noise": "noise", "latent nothing": "empty", "fill": "fill", "original": "original"}
    reading.take("Masked content", "masked_content", lambda word: content[word])


def _sdcpp(prompt: str, negative: str, pairs: dict[str, str]) -> OtherPicture:
    """stable-diffusion.cpp: as A1111, but for `Sampler: euler_a karras`, the words of RNG, and what is always there."""
    reading = Reading("stable-diffusion.cpp", pairs, "sdcpp", like="a1111", rng="philox")
    _take_rng(reading, {"cpu": "torch", "cuda": "philox"})
    _take_common(reading, prompt, negative)
    reading.take_sampler("Sampler", "Scheduler")
    reading.fields.setdefault("schedule", "uniform")
    for key in ("Guidance", "Eta"):  # Guidance is of other families
        value = reading.pop(key, default="0")
        if key == "Eta" and value.strip("0.") not in ("", "inf"):
            reading.leave(key, value)
    if reading.facts.get("Sampler RNG") == pairs.get("RNG"):
        reading.pop("Sampler RNG")
    return reading.close(_HARMLESS)
