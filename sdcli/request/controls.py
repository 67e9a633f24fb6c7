"""Controls: the control networks of a request, `FILE:image=pose.png:weight=0.8:end=0.6:annotate=canny`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sdcli import registry
from sdcli.errors import UsageError
from sdcli.request.file_options import FileOptions, parse_file_options
from sdcli.request.resize import FITS

MODES = ("balanced", "prompt", "control")
"""A1111's control modes: balanced, My prompt is more important, ControlNet is more important."""
MAX_WEIGHT = 10.0

OWN_SETTINGS = ("image", "weight", "start", "end", "mode", "type", "pool", "masked", "fit", "annotate")
_ANNOTATOR = re.compile(r":annotate=([^:]*)")


@dataclass(frozen=True)
class ControlUse:
    """A control network, the picture that it is shown, and how and when it counts.

    `start` and `end` are shares of the steps. `annotate` is an annotator with its options, which makes the hint of the
    picture; empty if the picture is the hint. `type` is told to a union net. `fit` is how a hint of another size is
    fitted; empty: as the request says. `pool` says that the mean over the picture of each residual is added, `masked`
    that what is repainted is cut out of the hint; None leaves these to the file.
    """

    path: str
    image: str = ""  # empty: the picture that the run starts from
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    mode: str = "balanced"
    type: str = ""
    annotate: str = ""
    pool: bool | None = None
    masked: bool | None = None
    fit: str = ""


def parse(text: str) -> ControlUse:
    """The control network that `--control TEXT` asks for; raises UsageError. Its files are not opened."""
    annotator = match[1] if (match := _ANNOTATOR.search(text)) else ""
    name, _, rest = annotator.partition(",")
    if name:
        registry.check_name("annotators", name)
    options = tuple(registry.describe("annotators", name).options) if name else ()
    found = parse_file_options("--control", text, (*OWN_SETTINGS, *options))
    start, end = found.number("start", 0.0, 0, 1), found.number("end", 1.0, 0, 1)
    if start > end:
        raise UsageError(f"--control {text}: starts at {start:g} and ends at {end:g}, before that; swap them")
    own = [f"{option}={found.settings[option]}" for option in options if option in found.settings]
    given = ",".join([rest, *own] if rest else own)
    spec = f"{name}:{given}" if given else name
    if spec:
        registry.parse("annotators", spec)
    if found.settings.get("image") == "-":
        raise UsageError(f"--control {text}: its picture cannot be standard input; name a file")
    return ControlUse(
        path=found.path,
        image=found.file("image"),
        weight=found.number("weight", 1.0, 0, MAX_WEIGHT),
        start=start,
        end=end,
        mode=found.choice("mode", "balanced", MODES),
        type=found.settings.get("type", ""),
        annotate=spec,
        pool=_yes_or_no(found, "pool"),
        masked=_yes_or_no(found, "masked"),
        fit=found.choice("fit", "", FITS) if "fit" in found.settings else "",
    )


def _yes_or_no(found: FileOptions, name: str) -> bool | None:
    """A setting that is yes, no or auto; None if it is left to the file."""
    return {"yes": True, "no": False}.get(found.choice(name, "auto", ("auto", "yes", "no")))


def check(texts: Sequence[str], has_picture: bool, has_mask: bool) -> None:
    """Raise UsageError for a control that is typed wrong, or that is shown no picture, or no mask."""
    for text in texts:
        use = parse(text)
        if use.masked and not has_mask:
            raise UsageError(
                f"--control {text}: there is no mask; give one with --mask, or leave masked=yes out"
            )
        if not use.image and not has_picture:
            from sdcli.request.respelled import respelled  # only an error needs it

            right = respelled("control", text)
            more = "" if ":image=" in right else ":image=pose.png"
            hint = f"write {right}{more}" if right else "write image=pose.png behind it"
            raise UsageError(f"--control {text}: names no picture; {hint}")
