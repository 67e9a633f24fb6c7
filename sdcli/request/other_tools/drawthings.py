from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from sdcli.request.other_tools.reading import OtherPicture, Reading, json_object, number, sides, stem, whole

_COMMENT = re.compile(r"<exif:UserComment>.*?<rdf:li[^>]*>(.*?)</rdf:li>", re.DOTALL)
_HARMLESS = {
    "v2", "profile", "aesthetic_score", "negative_aesthetic_score", "zero_negative_prompt", "crop_top", "crop_left",
    "tiled_decoding", "decoding_tile_width", "decoding_tile_height", "decoding_tile_overlap", "seed_mode",
    "mask_blur_outset", "shift",
}  # fmt: skip


def drawthings(texts: Mapping[str, str], size: tuple[int, int]) -> OtherPicture | None:
    """A picture of Draw Things: JSON with the prompts in `c` and `uc`, in a comment or in the XMP packet."""
    facts = next((found for text in _comments(texts) if (found := json_object(text)) and "c" in found), None)
    if facts is None or "sampler" not in facts:
        return None
    mode = str(facts.get("seed_mode", ""))
    rng = "torch" if "CPU" in mode else "philox"
    reading = Reading("Draw Things", facts, "drawthings", like="a1111", rng=rng)
    if "Compatible" not in mode:
        reading.leave("seed_mode", mode or "Legacy", "its own noise, which is not here")
    reading.take_text("c", "prompt")
    reading.take_text("uc", "negative")
    reading.take_seed("seed")
    reading.take("steps", "steps", whole)
    reading.take("scale", "cfg", number)
    reading.take_sampler("sampler")
    reading.fields.setdefault("schedule", "uniform")
    reading.take("clip_skip", "clip_skip", whole)
    reading.model = stem(str(reading.pop("model", default="")))
    _take_size(reading)
    reading.take("strength", "strength", number)
    reading.start = reading.fields.get("strength", 1) < 1
    if not reading.start:
        reading.fields.pop("strength", None)  # 1 is what Draw Things writes for a picture from words alone
    reading.pop("mask_blur")
    for key in ("target_size", "original_size", "negative_original_size"):
        if reading.facts.get(key) == facts.get("size"):
            reading.pop(key)
    return reading.close(_HARMLESS)


def _comments(texts: Mapping[str, str]) -> list[str]:
    """The texts that may hold the JSON."""
    packet = next((text for key, text in texts.items() if "xmp" in key.lower()), "")
    found = _COMMENT.search(packet)
    in_packet = html.unescape(found[1]) if found else ""
    return [*(texts.get(key, "") for key in ("Comment", "UserComment", "parameters")), in_packet]


def _take_size(reading: Reading) -> None:
    """Take the size over; with hires, it is the second pass's, and `first_stage_size` the first's."""
    final: Any = reading.pop("size")
    first = sides(reading.pop("first_stage_size") or "")
    strength = reading.pop("second_stage_strength")
    whole_size = sides(final or "")
    if reading.pop("hires_fix") and first and whole_size and all(first):
        across, down = (big / small for big, small in zip(whole_size, first, strict=True))
        if across == down:
            reading.set("hires_fix", across, "hires")
            reading.set("second_stage_strength", strength, "hires_strength", number)
            whole_size = first
        else:
            reading.leave("hires_fix", final, "it changes the proportions")
    if whole_size:
        reading.set("size", whole_size[0], "width")
        reading.set("size", whole_size[1], "height")
