"""Recognise: which tool wrote a picture's texts, and what they say."""

from __future__ import annotations

from collections.abc import Mapping

from sdcli.request.other_tools.a1111 import a1111
from sdcli.request.other_tools.comfyui import comfyui
from sdcli.request.other_tools.drawthings import drawthings
from sdcli.request.other_tools.easydiffusion import easydiffusion
from sdcli.request.other_tools.fooocus import fooocus
from sdcli.request.other_tools.invokeai import invokeai
from sdcli.request.other_tools.novelai import novelai
from sdcli.request.other_tools.reading import OtherPicture
from sdcli.request.other_tools.swarmui import swarmui

READERS = (swarmui, fooocus, easydiffusion, invokeai, drawthings, novelai, a1111, comfyui)
"""Each takes a picture's texts and its size in pixels, and gives what they say, or None if they are another tool's. A
picture with A1111's text and a graph is read by its text, which is the shorter way to the same."""


def recognise(texts: Mapping[str, str], size: tuple[int, int]) -> OtherPicture | None:
    """What a picture's texts say of how another tool made it; None if none is known. `size` is the picture's."""
    return next((found for read in READERS if (found := read(texts, size)) is not None), None)
