"""IP-Adapters: a picture as a prompt, typed as `FILE:image=face.png:weight=0.8`."""

from __future__ import annotations

from dataclasses import dataclass

from sdcli.errors import UsageError
from sdcli.request.file_options import parse_file_options

KNOWN = ("image", "encoder", "weight", "start", "end")
"""The settings behind a file."""


@dataclass(frozen=True)
class IpAdapter:
    """An IP-Adapter's file, the picture that it shows the model, and how strongly.

    `encoder` is the file of the image encoder; empty for that of SDCLI_IMAGE_ENCODER. `start` and `end` are shares of
    the steps between which it acts.
    """

    path: str
    image: str
    encoder: str = ""
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0


def parse(text: str) -> IpAdapter:
    """`FILE:image=PICTURE[:encoder=FILE][:weight=…][:start=…][:end=…]`; raises UsageError."""
    found = parse_file_options("--ip-adapter", text, KNOWN)
    if "image" not in found.settings:
        from sdcli.request.respelled import respelled  # only an error needs it

        right = respelled("ip_adapter", text) or f"{found.path}:image=face.png"
        raise UsageError(f"--ip-adapter {text}: shows no picture; write {right}")
    if found.settings["image"] == "-":
        raise UsageError(f"--ip-adapter {text}: its picture cannot be standard input; name a file")
    adapter = IpAdapter(
        path=found.path,
        image=found.file("image"),
        encoder=found.file("encoder"),
        weight=found.number("weight", 1, -10, 10),
        start=found.number("start", 0, 0, 1),
        end=found.number("end", 1, 0, 1),
    )
    if adapter.start >= adapter.end:
        raise UsageError(
            f"--ip-adapter {text}: it would end at {adapter.end:g}, before it starts; give start < end"
        )
    return adapter
