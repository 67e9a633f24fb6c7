"""Reading: one picture's facts as another tool wrote them, taken over one by one into fields of a Request."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdcli.errors import UsageError
from sdcli.request import aliases
from sdcli.request.prepare import PROMPTS, literal
from sdcli.request.request import Request

Facts = Mapping[str, Any]
FindModel = Callable[[str, str], str | None]
"""(name, hash) of a model as another tool records them -> what -m takes for it; None if it is in no model folder."""
UPSCALER = "Hires upscaler"
"""Where the network that enlarges the picture between two passes is named, whatever the tool."""
FIELDS = frozenset(each.name for each in dataclasses.fields(Request))


@dataclass(frozen=True)
class OtherLora:
    """A LoRA as a tool names it: its strengths for the U-Net and the text encoders, and its hash, "" if unknown.

    `key` is the tool's own for it, under which it is left if its file is not here.
    """

    key: str
    name: str
    unet: float
    te: float
    hash: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.unet:g}" + ("" if self.te == self.unet else f" (text {self.te:g})")


@dataclass(frozen=True)
class OtherPicture:
    """What another tool's picture says of how it was made.

    `fields` are those of a Request, `model` and `model_hash` the checkpoint as the tool names it, "" if it does not.
    `start` is True if it was made over another picture, `masked` if only a part of that was repainted. `left` is what
    could not be taken over, by the tool's own key.
    `lora_hashes` are the first digits of the hashes of its LoRAs' tensors.
    `loras` are those that no prompt names; they are in `left` too, as their files may be here or not. `upscaler`
    enlarged the picture between two passes, by the tool's name for it; "" if no network did.
    """

    tool: str
    fields: Facts
    model: str = ""
    model_hash: str = ""
    start: bool = False
    masked: bool = False
    left: Mapping[str, str] = field(default_factory=dict)
    lora_hashes: Mapping[str, str] = field(default_factory=dict)
    upscaler: str = ""
    loras: tuple[OtherLora, ...] = ()

    def request(self, **changes: Any) -> Request:
        """The request that makes the picture again, with changes; raises UsageError where fields exclude each other.

        Its prompts are the words that were drawn; in one of the changes, variants are read.
        """
        kept = {name: self.fields.get(name) for name in PROMPTS if name not in changes}
        return Request(**{"variants": literal(kept), **self.fields, **changes})

    def again(self, path: str, changes: Facts, find_model: FindModel) -> Request:
        """The request that makes the picture in the file `path` again, with changes and with its model found.

        Raises UsageError if the model is nowhere, or a picture or mask that it was made over is not among the changes.
        """
        if self.start and "image" not in changes:
            raise UsageError(f"{path} was made by {self.tool} over another picture; name that with -i")
        if self.masked and not {"mask", "alpha_mask"} & changes.keys():
            raise UsageError(f"{path} was made by {self.tool} with a mask; name it with --mask")
        model = changes.get("model") or find_model(self.model, self.model_hash)
        if model is None:
            named = " ".join(filter(None, (self.model, self.model_hash))) or "a model that it does not name"
            raise UsageError(
                f"{path} was made by {self.tool} with {named}, which is in no model folder; name it with -m"
            )
        return self.request(**{**changes, "model": model})


class Reading:
    """Takes facts over. What is neither taken nor harmless is left at the end, and named."""

    def __init__(self, tool: str, facts: Facts, labels: str, **fields: Any) -> None:
        """`facts` are the tool's, `labels` is its key in TOOLS, `fields` hold for all its pictures."""
        self.tool, self.labels = tool, labels
        self.facts = {key: value for key, value in facts.items() if value is not None}
        self.fields: dict[str, Any] = dict(fields)
        self.left: dict[str, str] = {}
        self.model = self.model_hash = self.upscaler = ""
        self.start = self.masked = False
        self.lora_hashes: dict[str, str] = {}
        self.loras: list[OtherLora] = []

    def pop(self, *keys: str, default: Any = None) -> Any:
        """The value of the first of these keys that there is; all are read with that."""
        values = [self.facts.pop(key, None) for key in keys]
        return next((value for value in values if value is not None), default)

    def take(self, key: str, name: str, convert: Callable[[Any], Any] = lambda value: value) -> None:
        """Take the fact `key` over as the request's field `name`; it is left if it does not fit."""
        if (value := self.pop(key)) is not None:
            self.set(key, value, name, convert)

    def set(
        self, key: str, value: Any, name: str, convert: Callable[[Any], Any] = lambda value: value
    ) -> None:
        """Set the request's field `name` to a value of the tool's; it is left under `key` if it does not fit."""
        if name not in FIELDS:
            self.leave(key, value)
            return
        try:
            converted = convert(value)
            Request(**{"rng": self.fields.get("rng", "torch"), name: converted})
        except UsageError as error:
            self.leave(key, value, str(error))
        except (TypeError, ValueError, OverflowError, KeyError):
            self.leave(key, value)
        else:
            self.fields[name] = converted

    def take_text(self, key: str, name: str) -> None:
        """Take a prompt over."""
        self.take(key, name, _text)

    def take_size(self, key: str) -> None:
        """Take `512x768`, or [512, 768], over as width and height."""
        if (value := self.pop(key)) is not None:
            if size := sides(value):
                self.set(f"{key} (width)", size[0], "width")
                self.set(f"{key} (height)", size[1], "height")
            else:
                self.leave(key, value)

    def take_seed(self, key: str) -> None:
        """Take a seed over; of one that is too large for the noise, the low 32 bits, which torch's CPU noise uses."""
        if (value := self.pop(key)) is None:
            return
        try:
            seed = whole(value)
            Request(seed=seed, rng=self.fields.get("rng", "torch"))
        except UsageError:
            self.leave(key, value, "only its low 32 bits, which decide the first noise, are used")
            self.fields["seed"] = seed % 2**32
        except (TypeError, ValueError):
            self.leave(key, value)
        else:
            self.fields["seed"] = seed

    def take_variation(self, seed: str, strength: str) -> None:
        """Take a variation's seed and strength over, which go together."""
        pair = self.pop(seed), self.pop(strength)
        if None in pair:
            return
        try:
            fields: dict[str, Any] = {"variation_seed": whole(pair[0]), "variation_strength": number(pair[1])}
            if fields["variation_strength"]:
                Request(rng=self.fields.get("rng", "torch"), **fields)
                self.fields |= fields
        except (UsageError, TypeError, ValueError, OverflowError):
            self.leave(seed, list(pair))

    def take_lora(self, key: str, name: Any, unet: Any, te: Any = None, hash: Any = "") -> None:
        """Take a LoRA over, which is left unless its file is found; one without a strength acts on nothing."""
        try:
            strengths = number(unet), number(unet if te is None else te)
            lora = OtherLora(key, stem(_text(name)), *strengths, str(hash or ""))
        except (TypeError, ValueError, OverflowError):
            self.leave(f"{key}: LoRA", [name, unet])
            return
        if any(strengths) and lora not in self.loras:
            self.loras.append(lora)
            self.left[key] = lora_text([each for each in self.loras if each.key == key])

    def take_upscaler(self, name: str) -> None:
        """Take the network over that enlarges the picture between two passes; it is left unless its file is found."""
        self.upscaler = name
        self.fields["hires_by"] = "picture"
        self.leave(UPSCALER, name, "needs the upscaler file of that name; name it with --hires-by")

    def take_sampler(self, sampler: str, schedule: str | None = None) -> None:
        """Take a sampler's label over, and the schedule's, which may be in the same label."""
        label, brought = self.pop(sampler), None
        if label is not None:
            try:
                found, brought = aliases.parse_sampler(_text(label), self.labels)
                Request(sampler=found)
            except (UsageError, TypeError) as error:
                self.leave(sampler, label, str(error))
            else:
                self.fields["sampler"] = found
        own = self.pop(schedule) if schedule else None
        if own is not None:
            try:
                found = aliases.parse_schedule(_text(own), self.labels)
                if not (brought and found == "automatic"):
                    Request(schedule=found)
                    brought = found
            except (UsageError, TypeError) as error:
                self.leave(str(schedule), own, str(error))
        if brought == "automatic" and "sampler" in self.fields:
            brought = aliases.automatic(self.fields["sampler"])
        if brought:
            self.fields["schedule"] = brought

    def leave(self, key: str, value: Any, why: str = "") -> None:
        """Name a fact as one that could not be taken over."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text = " ".join(text.split())
        text = text if len(text) <= 120 else text[:117] + "..."
        self.left[key] = f"{text} ({why})" if why else text

    def close(self, harmless: Collection[str] = ()) -> OtherPicture:
        """The picture; every fact that was not read and is not harmless is left."""
        for key, value in self.facts.items():
            if key not in harmless and value not in ("", [], {}, False, "None", "none"):
                self.leave(key, value)
        return OtherPicture(
            self.tool,
            self.fields,
            self.model,
            self.model_hash,
            self.start,
            self.masked,
            self.left,
            self.lora_hashes,
            self.upscaler,
            tuple(self.loras),
        )


def lora_text(loras: Sequence[OtherLora]) -> str:
    """What is said of LoRAs whose files are not here."""
    return f"{', '.join(map(str, loras))} (needs the LoRA file of that name; name it with --lora)"


# --- values


def whole(value: Any) -> int:
    """A whole number from a number or its text; raises TypeError or ValueError."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise TypeError
    return int(value)


def number(value: Any) -> float:
    """A number from a number or its text; raises TypeError or ValueError."""
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def sides(value: Any) -> tuple[int, int] | None:
    """(width, height) from `512x768`, `(512, 768)` or a list; None if it is none of them."""
    found = re.fullmatch(r"[\[(]?\s*(\d{1,6})\s*[x×,]\s*(\d{1,6})\s*[\])]?", _joined(value))
    return (int(found[1]), int(found[2])) if found else None


def json_object(text: object) -> dict[str, Any] | None:
    """The JSON object in a text, or None."""
    if not isinstance(text, str) or not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def stem(path: str) -> str:
    """The name of a model's file without folders of any system and without the usual endings."""
    name = re.split(r"[\\/]", path)[-1]
    return re.sub(r"\.(safetensors|ckpt|pt|pth|bin|gguf)$", "", name, flags=re.IGNORECASE)


def _joined(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
