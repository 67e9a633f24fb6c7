"""ESRGAN: the names of an RRDBNet's tensors in files <-> their names here, which are those of Real-ESRGAN."""

from __future__ import annotations

import re
from collections.abc import Iterable

_OLD_RDB = re.compile(r"model\.1\.sub\.(\d{1,3})\.RDB([123])\.conv([1-5])\.0\.(weight|bias)", re.ASCII)
_OLD_TRUNK = re.compile(r"model\.1\.sub\.\d{1,3}\.(weight|bias)", re.ASCII)
_OLD_LAYER = re.compile(r"model\.(\d{1,2})\.(weight|bias)", re.ASCII)
_TRUNK_RDB = re.compile(r"RRDB_trunk\.(\d{1,3})\.RDB([123])\.", re.ASCII)
_TRUNK = {"trunk_conv": "conv_body", "upconv": "conv_up", "HRconv": "conv_hr"}


def rrdb_names(keys: Iterable[str]) -> dict[str, str]:
    """Key -> the name of an RRDBNet's tensor; a key that is none of the three layouts' keeps its own.

    The layouts are: the released ESRGAN's (`model.1.sub.0.RDB1.conv1.0.weight`), its authors' later code
    (`RRDB_trunk.0.RDB1.conv1.weight`), and Real-ESRGAN's (`body.0.rdb1.conv1.weight`). The first numbers its layers
    through; those behind the blocks are the convolutions that enlarge, then one at full size, then the last one.
    """
    keys = list(keys)
    found = (_OLD_LAYER.fullmatch(key) for key in keys)
    numbers = sorted({int(each[1]) for each in found if each and each[1] != "0"})
    layers = {0: "conv_first"}
    layers |= {number: f"conv_up{i + 1}" for i, number in enumerate(numbers[:-2])}
    layers |= dict(zip(numbers[-2:], ("conv_hr", "conv_last"), strict=False))
    return {key: _rrdb_name(key, layers) for key in keys}


def _rrdb_name(key: str, layers: dict[int, str]) -> str:
    if match := _OLD_RDB.fullmatch(key):
        return f"body.{int(match[1])}.rdb{match[2]}.conv{match[3]}.{match[4]}"
    if match := _OLD_TRUNK.fullmatch(key):
        return f"conv_body.{match[1]}"
    if match := _OLD_LAYER.fullmatch(key):
        return f"{layers[int(match[1])]}.{match[2]}"
    if match := _TRUNK_RDB.match(key):
        return f"body.{int(match[1])}.rdb{match[2]}.{key[match.end() :]}"
    old = next((each for each in _TRUNK if key.startswith(each)), None)
    return key if old is None else _TRUNK[old] + key.removeprefix(old)
