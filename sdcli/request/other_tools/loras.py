"""LoRAs of another tool's picture, in one form: those that it lists, and those that its prompts name."""

from __future__ import annotations

from typing import Any

from sdcli.errors import UsageError
from sdcli.request import loras
from sdcli.request.other_tools.reading import OtherPicture
from sdcli.request.prompt.networks import Network, take_networks

TAGS_OF = ("a1111", "no_norm", "")
"""Emphases, and none given, of the tools whose prompts name LoRAs as <lora:name:0.8>."""


def loras_of(other: OtherPicture) -> list[dict[str, Any]]:
    """The name, the strengths and the hash ("" if unknown) of each LoRA."""
    listed = [
        {"name": each.name, "unet": each.unet, "te": each.te, "hash": each.hash} for each in other.loras
    ]
    if other.fields.get("emphasis", "") not in TAGS_OF or other.fields.get("like") not in (None, "a1111"):
        return listed
    _, networks = take_networks(str(other.fields.get("prompt", "")), ("lora", "lyco"))
    return [*listed, *(_named(network, other) for network in networks if network.args)]


def _named(network: Network, other: OtherPicture) -> dict[str, Any]:
    name = network.args[0].strip()
    try:
        lora = loras.parse(loras.option_of(network, name, None))
        strengths = {"unet": lora.unet, "te": lora.te}
    except UsageError:
        strengths = {"unet": 1.0, "te": 1.0}
    return {"name": name, **strengths, "hash": other.lora_hashes.get(name, "")}
