"""Labels: the names other tools have for samplers and schedules, and ours. "DPM++ 2M Karras" is dpmpp_2m, karras."""

import re

from sdcli import registry

A1111 = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "ddim": "DDIM",
    "dpmpp_2m": "DPM++ 2M",
    "karras": "Karras",
    "uniform": "Uniform",
}
"""Our name -> the label A1111 writes into pictures; a name that is not here is written as it is."""

_SAME = {"normal": "uniform", "euler_ancestral": "euler_a"}


def plain(label: str) -> str:
    """A label in our spelling, knobs untouched: "DPM++ 2M" -> "dpmpp_2m", "Euler a:eta=0.5" -> "euler_a:eta=0.5"."""
    name, colon, knobs = label.strip().partition(":")
    name = re.sub(r"[\s\-]+", "_", name.strip().lower().replace("++", "pp"))
    return _SAME.get(name, name) + colon + knobs


def parse(label: str) -> tuple[str, str | None]:
    """A sampler's label -> (sampler, schedule), the schedule being what the label ends in, if it is one."""
    name, colon, knobs = plain(label).partition(":")
    head, _, tail = name.rpartition("_")
    schedule = _SAME.get(tail, tail)
    if name not in registry.names("samplers") and head and schedule in registry.names("schedules"):
        return _SAME.get(head, head) + colon + knobs, schedule
    return name + colon + knobs, None
