"""LoRAs: how a file is applied, typed as `FILE@0.8:te=0.6`, or as `<lora:name:0.8>` in a prompt."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sdcli.errors import UsageError
from sdcli.home import expand_home
from sdcli.request.file_options import SETTING, FileOptions, parse_file_options
from sdcli.request.prompt.networks import Network

STRENGTHS = (-100.0, 100.0)
"""The least and the most that a LoRA may be multiplied with."""

KNOWN = ("unet", "te", "start", "end", "dyn", "blocks")
"""The settings behind a file."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_AT = re.compile(rf"^(.+)@({_NUMBER})(?::({_NUMBER})-({_NUMBER}))?$", re.DOTALL)
"""`FILE@0.8`, or `FILE@0.8:0-0.5`, which acts in the first half of the steps."""

_ENCODER = "BASE"
_SD_ATTENTION = ("IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "MID", *(f"OUT{i:02}" for i in range(3, 12)))
_XL_ATTENTION = ("IN04", "IN05", "IN07", "IN08", "MID", *(f"OUT{i:02}" for i in range(6)))
LAYOUTS = {
    17: (_ENCODER, *_SD_ATTENTION),
    26: (_ENCODER, *(f"IN{i:02}" for i in range(12)), "MID", *(f"OUT{i:02}" for i in range(12))),
    12: (_ENCODER, *_XL_ATTENTION),
    20: (_ENCODER, *(f"IN{i:02}" for i in range(9)), "MID", *(f"OUT{i:02}" for i in range(9))),
}
"""Number of block weights -> the blocks that they are for, as sd-webui-lora-block-weight numbers them.

BASE is the text encoder, IN n LDM's input block n; 17 and 26 are for SD 1 and 2, 12 and 20 for SDXL. What a list does
not name gets 0.
"""

PRESETS = {
    "NONE": "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "ALL": "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
    "INS": "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "IND": "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "INALL": "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "MIDD": "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0",
    "OUTD": "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0",
    "OUTS": "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1",
    "OUTALL": "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1",
}
"""The names that sd-webui-lora-block-weight gives to lists of 17 weights."""


@dataclass(frozen=True)
class Lora:
    """A file, and how strongly it changes the U-Net and the text encoders.

    `start` and `end` are shares of the steps between which it changes the U-Net. `blocks` are weights that multiply
    the strength, by block; `rank` is how many of its ranks count, 0 for all.
    """

    path: str
    unet: float = 1.0
    te: float = 1.0
    start: float = 0.0
    end: float = 1.0
    blocks: Mapping[str, float] | None = None
    rank: int = 0

    @property
    def is_scheduled(self) -> bool:
        """True if it changes the U-Net in some of the steps only."""
        return (self.start, self.end) != (0.0, 1.0)

    def strength(self, part: str, block: str = "") -> float:
        """How strongly it acts on a part; in the U-Net, on this block of it (IN04, MID, …; empty: in none)."""
        if part != "unet":
            return self.te * (1.0 if self.blocks is None else self.blocks[_ENCODER])
        return self.unet * (1.0 if self.blocks is None or not block else self.blocks.get(block, 0.0))


def parse(text: str) -> Lora:
    """`FILE[@STRENGTH[:START-END]][:unet=…][:te=…][:start=…][:end=…][:blocks=…][:dyn=…]`; raises UsageError."""
    found = parse_file_options("--lora", text, KNOWN)
    path, strength = found.path, "1"
    settings = dict(found.settings)
    if match := _AT.match(found.path):
        path, strength, start, end = match.groups()
        if start is not None:
            settings = {"start": start, "end": end, **settings}
    unet = settings.get("unet", strength)
    settings |= {"unet": unet, "te": settings.get("te", unet)}
    options = replace(found, settings=settings)
    lora = Lora(
        path=expand_home(path),
        unet=options.number("unet", 1, *STRENGTHS),
        te=options.number("te", 1, *STRENGTHS),
        start=options.number("start", 0, 0, 1),
        end=options.number("end", 1, 0, 1),
        blocks=_blocks(options, settings.get("blocks")),
        rank=int(options.number("dyn", 0, 0, 4096)),
    )
    if lora.start >= lora.end:
        raise UsageError(f"--lora {text}: it would act in no step; its end must be behind its start")
    return lora


def _blocks(options: FileOptions, text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    items = PRESETS.get(text.strip().upper(), text).split(",")
    names = LAYOUTS.get(len(items))
    if names is None:
        raise UsageError(
            f"{options.flag} {options.text}: {len(items)} block weights; there are 12, 17, 20 or 26, "
            f"or one of {', '.join(PRESETS)}"
        )
    numbers = [_weight(options, item) for item in items]
    return dict(zip(names, numbers, strict=True))


def _weight(options: FileOptions, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{options.flag} {options.text}: the block weight {text.strip()!r} is not a number")
    return value


def path_of(text: str) -> str:
    """The file in an option text, as it is typed."""
    path = SETTING.split(text)[0]
    match = _AT.match(path)
    return match[1] if match else path


def option_of(network: Network, path: str, steps: int | None = None) -> str:
    """The option text that says what `<lora:name:…>` in a prompt says, for the file that its name stands for.

    `<lora:name:TE:UNET:DYN>`, as A1111 reads it: one strength is for both. Named ones are `te`, `unet`, `dyn`, and of
    sd-webui-lora-block-weight `lbw`, `start`, `stop` and `step`, which count steps. Raises UsageError.
    """
    typed = network.text
    named = dict(network.named)
    te, unet, dyn = _positional(typed, network.args[1:])
    values = {"te": named.pop("te", te), "unet": named.pop("unet", unet), "dyn": named.pop("dyn", dyn)}
    values["unet"] = values["unet"] or values["te"]
    values["blocks"] = named.pop("lbw", "")
    if "step" in named:
        named["start"], _, named["stop"] = named.pop("step").partition("-")
    values["start"] = _share(typed, named.pop("start", ""), steps)
    values["end"] = _share(typed, named.pop("stop", ""), steps)
    if named:
        raise UsageError(f"{typed}: {next(iter(named))} means nothing here; take it out")
    settings = "".join(f":{name}={value}" for name, value in _short(values).items())
    unet = values["unet"] or "1"
    return f"{path}@{unet}{settings}"


def _positional(typed: str, args: Sequence[str]) -> tuple[str, str, str]:
    for text in args:
        if not re.fullmatch(_NUMBER, text.strip()):
            raise UsageError(f"{typed}: {text!r} is not a number; write <lora:name:0.8>")
    if len(args) > 3:
        raise UsageError(
            f"{typed}: has {len(args)} numbers; they are the text encoder's, the U-Net's and dyn"
        )
    te, unet, dyn = (*args, "", "", "")[:3]
    return te.strip(), unet.strip(), dyn.strip()


def _share(typed: str, step: str, steps: int | None) -> str:
    """A number of steps as a share of them."""
    if not step:
        return ""
    if steps is None:
        raise UsageError(f"{typed}: counts steps; say how many there are with --steps")
    try:
        return f"{min(max(int(step) / steps, 0), 1):.6g}"
    except ValueError:
        raise UsageError(f"{typed}: {step!r} is not a number of steps") from None


def _short(values: Mapping[str, str]) -> dict[str, str]:
    """The settings that are needed behind the strength of the U-Net."""
    kept = {name: value for name, value in values.items() if value and name != "unet"}
    if kept.get("te") == values["unet"]:
        del kept["te"]
    return kept
