"""Settings: A1111's options, as they are shown, changed and overridden, and what they are in a Request."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdcli.checkpoints import hashes
from sdcli.errors import UsageError
from sdcli.request.other_tools.a1111 import EMPHASES
from sdcli.serve.a1111.sent import Sent
from sdcli.serve.names import Served, ServedModel, UnknownModel

MODEL = "sd_model_checkpoint"
RNGS = {"CPU": "torch", "GPU": "philox", "NV": "philox"}
"""randn_source -> --rng: A1111's GPU is CUDA's generator."""
FIELDS: Mapping[str, tuple[str, Callable[[Sent, str], object]]] = {
    "CLIP_stop_at_last_layers": ("clip_skip", Sent.whole),
    "eta_noise_seed_delta": ("ensd", Sent.whole),
    "token_merging_ratio": ("tome", Sent.number),
    "randn_source": ("rng", lambda sent, name: _word(sent, name, RNGS)),
    "emphasis": ("emphasis", lambda sent, name: _word(sent, name, EMPHASES)),
}
"""An option -> the field of a Request that it is, and how it is read."""
SHOWN: Mapping[str, Any] = {
    "CLIP_stop_at_last_layers": 1,
    "eta_noise_seed_delta": 0,
    "token_merging_ratio": 0.0,
    "randn_source": "CPU",
    "emphasis": "Original",
    "sd_vae": "Automatic",
    "samples_format": "png",
    "eta_ancestral": 1.0,
    "eta_ddim": 0.0,
    "initial_noise_multiplier": 1.0,
    "token_merging_ratio_img2img": 0.0,
    "token_merging_ratio_hr": 0.0,
    "return_grid": False,
}
"""The options that are shown and their values at first. Those that are not in FIELDS cannot be changed."""
_AS_SHOWN: Mapping[type, Callable[[Sent, str], object]] = {
    str: Sent.text,
    int: Sent.whole,
    float: Sent.number,
}
UNCHANGED: Mapping[str, tuple[object, ...]] = {
    "sd_vae": ("Automatic", "automatic", "None", "none", ""),
    "forge_additional_modules": ([],),
}
"""More values of options that change nothing."""
HARMLESS = re.compile(
    r"sd_checkpoint_hash|return_(grid|mask|mask_composite)|enable_pnginfo|(live_preview|show_progress|notification)\w*|"
    r"(samples|grid)_save|\w*filename_pattern|outdir_\w+|save_\w+|do_not_add_watermark|sd_checkpoint_cache"
)
"""Options that change no picture here."""
_HASH = re.compile(r"\s*\[([0-9a-f]{8,64})\]")


def _word(sent: Sent, name: str, words: Mapping[str, str]) -> str | None:
    value = sent.text(name)
    if value is not None and value not in words:
        raise UsageError(f"{name}: {value!r:.80} is not done here; it is {', '.join(words)}")
    return None if value is None else words[value]


@dataclass
class Settings:
    """The options of this process. `values` are those that clients have changed."""

    served: Served
    values: dict[str, Any] = field(default_factory=dict)

    def fields(self, override: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a Request for these options with others over them; raises UsageError and UnknownModel."""
        sent = Sent({**self.values, **override})
        found: dict[str, Any] = {}
        for name, (ours, read) in FIELDS.items():
            if (value := read(sent, name)) is not None:
                found[ours] = value
        if title := sent.text(MODEL):
            found["model"] = model_of(self.served, title).name
        for name in list(sent.left):
            if HARMLESS.fullmatch(name):
                sent.take(name)
            elif name in SHOWN or name in UNCHANGED:
                allowed = ([SHOWN[name]] if name in SHOWN else []) + list(UNCHANGED.get(name, ()))
                sent.only(name, allowed)
            else:
                raise UsageError(f"{name:.80}: is no option that can be changed here; leave it out")
        return found

    def change(self, values: Mapping[str, Any]) -> None:
        """Change options for all requests that follow; raises as `fields`, and then changes none."""
        self.fields(values)
        sent = Sent({name: value for name, value in values.items() if value != ""})
        if title := sent.text(MODEL):
            self.values[MODEL] = title
        for name in FIELDS.keys() & sent.left.keys():
            self.values[name] = _AS_SHOWN[type(SHOWN[name])](sent, name)

    @property
    def model(self) -> ServedModel:
        """The model that is drawn with if a request names none."""
        name = self.values.get(MODEL)
        return self.served.default if name is None else model_of(self.served, name)

    def shown(self) -> dict[str, Any]:
        """All options."""
        model = self.model
        return {**SHOWN, **self.values, MODEL: title_of(model), "sd_checkpoint_hash": sha256_of(model)}


# --- models


def sha256_of(model: ServedModel) -> str:
    """The sha256 of a model's weights, in hex."""
    return hashes.digest(model.found.paths)


def title_of(model: ServedModel) -> str:
    """A1111's name of a model: with the first ten digits of its hash."""
    return f"{model.name} [{sha256_of(model)[:10]}]"


def model_of(served: Served, text: str) -> ServedModel:
    """The model of this title, name or hash; raises UnknownModel."""
    if text in served.models:
        return served.models[text]
    for model in served.models.values():
        if text == title_of(model) or (len(text) >= 8 and sha256_of(model).startswith(text)):
            return model
    found = served.find(_HASH.sub("", text))
    if (hash := _HASH.search(text)) and not sha256_of(found).startswith(hash[1]):
        raise UnknownModel(f"model {text!r:.80} is not served here; that of this name has another hash")
    return found
