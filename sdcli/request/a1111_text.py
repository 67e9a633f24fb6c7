"""A1111 text: how A1111 writes samplers and schedules into a picture, with their options as keys of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sdcli import registry
from sdcli.request import aliases, controls, loras
from sdcli.request.controls import ControlUse
from sdcli.request.loras import Lora
from sdcli.request.resize import FIT
from sdcli.request.weighted_file import WeightedFile, parse_weighted_file

SAMPLER_KEYS = {
    "eta": "Eta",
    "s_noise": "Sigma noise",
    "ddim eta": "Eta DDIM",
    "unipc order": "UniPC order",
    "unipc lower_order_final": "UniPC lower order final",
}
SCHEDULE_KEYS = {
    "rho": "Schedule rho",
    "beta alpha": "Beta schedule alpha",
    "beta beta": "Beta schedule beta",
}
"""An option, or a plugin's own option -> A1111's key. Other options become `Sampler order`, `Schedule offset`, …"""

CONTROL_MODES = {
    "balanced": "Balanced",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
}
RESIZE_MODES = {"crop": "Crop and Resize", "pad": "Resize and Fill", "stretch": "Just Resize"}

HIRES_UPSCALERS = {"latents": "Latent (bicubic)", "picture": "Lanczos"}

Pairs = dict[str, str | None]


def sampler(spec: str | None) -> tuple[str | None, Pairs]:
    """(label, options by key) of a sampler: "euler_a:eta=0.5" -> ("Euler a", {"Eta": "0.5"})."""
    return _written("sampler", spec, SAMPLER_KEYS)


def schedule(spec: str | None) -> tuple[str | None, Pairs]:
    """(label, options by key) of a schedule: "karras:rho=5" -> ("Karras", {"Schedule rho": "5"})."""
    return _written("schedule", spec, SCHEDULE_KEYS)


def hires_upscaler(hires_by: str) -> str:
    """`Hires upscaler` for a value of --hires-by: its file's name, without folders and ending."""
    return HIRES_UPSCALERS.get(hires_by) or Path(hires_by).stem


def lora_hashes(loras: Mapping[str, Mapping[str, str]]) -> str:
    """`Lora hashes`, as A1111 writes them: name: the first 12 digits of the hash of the tensors."""
    return ", ".join(f"{re.sub('[:,]', '', name)}: {each['autov3']}" for name, each in loras.items())


def network_words(lora_options: Sequence[str], hypernet_options: Sequence[str]) -> str:
    """The `<lora:name:0.8>` and `<hypernet:name:0.5>` that a prompt of A1111 would hold in place of these options."""
    hypernets = (parse_weighted_file("--hypernet", text) for text in hypernet_options)
    words = [*map(_lora_word, map(loras.parse, lora_options)), *map(_hypernet_word, hypernets)]
    return "".join(f" {word}" for word in words)


def _lora_word(lora: Lora) -> str:
    strengths = f"{lora.te:g}" if lora.unet == lora.te else f"{lora.te:g}:{lora.unet:g}"
    return f"<lora:{Path(lora.path).stem}:{strengths}>"


def _hypernet_word(hypernet: WeightedFile) -> str:
    return f"<hypernet:{Path(hypernet.path).stem}:{hypernet.strength:g}>"


def embedding_hashes(embeddings: Mapping[str, Mapping[str, str]]) -> str:
    """The value of `TI hashes`: {"cat-toy": {"sha256": …}} -> "cat-toy: c74b4e810b03"."""
    hashes = ((re.sub("[:,]", "", name), each["sha256"][:12]) for name, each in embeddings.items())
    return ", ".join(f"{name}: {sha256}" for name, sha256 in hashes)


def control_pairs(texts: Sequence[str], fit: str | None, hashes: Mapping[str, Mapping[str, str]]) -> Pairs:
    """`ControlNet 0`, `ControlNet 1`, … as sd-webui-controlnet writes them; `hashes` are by the files' names."""
    return {f"ControlNet {i}": _control(controls.parse(text), fit, hashes) for i, text in enumerate(texts)}


def _control(use: ControlUse, fit: str | None, hashes: Mapping[str, Mapping[str, str]]) -> str:
    file = os.path.basename(os.path.normpath(use.path))
    name = next((name for name, each in hashes.items() if each["file"] == file), file)
    sha256 = hashes.get(name, {}).get("sha256", "")
    pairs = {
        "Module": use.annotate.partition(":")[0] or "none",
        "Model": f"{re.sub('[:,]', '', name)} [{sha256[:8]}]",
        "Weight": f"{use.weight:g}",
        "Resize Mode": RESIZE_MODES.get(use.fit or fit or FIT, "Crop and Resize"),
        "Guidance Start": f"{use.start:g}",
        "Guidance End": f"{use.end:g}",
        "Pixel Perfect": "True",
        "Control Mode": CONTROL_MODES[use.mode],
    }
    return ", ".join(f"{key}: {value}" for key, value in pairs.items())


def sampler_options(name: str, texts: dict[str, str]) -> str:
    """What a sampler's keys in `texts` say, as our options: {"Eta": "0.5"} -> "eta=0.5"; takes them out."""
    return _read("sampler", name, SAMPLER_KEYS, texts)


def schedule_options(name: str, texts: dict[str, str]) -> str:
    """What a schedule's keys in `texts` say, as our options; takes them out of it."""
    return _read("schedule", name, SCHEDULE_KEYS, texts)


def _written(kind: str, spec: str | None, keys: dict[str, str]) -> tuple[str | None, Pairs]:
    if not spec or spec == "automatic":
        return (spec and spec.capitalize()), {}
    found = registry.parse(f"{kind}s", spec)
    options = dict(found.options)
    name = found.name
    for option, value in found.options:  # such as heun=true, which is a sampler of its own in A1111
        if aliases.A1111.get(with_option := f"{name}:{option}={_text(value)}"):
            name = with_option
            del options[option]
            break
    pairs: Pairs = {_key(kind, found.name, option, keys): _text(value) for option, value in options.items()}
    if found.name == "unipc" and "bh2" in options:
        del pairs[_key(kind, "unipc", "bh2", keys)]
        pairs["UniPC variant"] = "bh2" if options["bh2"] else "bh1"
    return aliases.A1111.get(name, name), pairs


def _read(kind: str, name: str, keys: dict[str, str], texts: dict[str, str]) -> str:
    options = []
    for option in registry.describe(f"{kind}s", name).options:
        value = texts.pop(_key(kind, name, option, keys), None)
        if option == "bh2" and (variant := texts.get("UniPC variant")) in ("bh1", "bh2"):
            del texts["UniPC variant"]
            value = str(variant == "bh2").lower()
        if value is not None:
            options.append(f"{option}={value}")
    return ",".join(options)


def _key(kind: str, name: str, option: str, keys: dict[str, str]) -> str:
    fallback = f"{kind.capitalize()} {option.replace('_', ' ')}"
    return keys.get(f"{name} {option}") or keys.get(option) or fallback


def _text(value: registry.Option) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)
